"""Pictures for the page: small, of a known format, and never a reason for the report to fail."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np

from inspector.errors import ImageError, StoreError
from inspector.images import ImageLimits, decode_image, read_header, read_image_bytes
from inspector.records import BgrImage, BoxPx
from inspector.store.frames import FrameFiles
from reports.report_data import Picture

MAX_PICTURE_BYTES = 32 * 1024
PICTURE_WIDTH_PX, PICTURE_HEIGHT_PX = 480, 270
INLINE_TYPES = frozenset({"image/jpeg", "image/png", "image/webp"})
OUTLINE_BGR = (40, 40, 230)
QUALITIES = (85, 70, 50, 30)

EVIDENCE_NOTES = {
    None: "No picture was ordered for this inspection",
    "pending": "The picture is not made yet",
    "failed": "The picture could not be made",
    "done": "The picture is no longer on this disk",
}


class PictureShelf:
    """Reads the pictures of one data directory for a page that will lie in `page_dir`."""

    def __init__(self, data_dir: Path, page_dir: Path, limits: ImageLimits = ImageLimits()) -> None:
        self._evidence = FrameFiles(data_dir / "evidence")
        self._frames = FrameFiles(data_dir / "frames")
        self._page_dir = page_dir.resolve()
        self._limits = limits

    def thumbnail(self, key: str | None, state: str | None) -> Picture:
        """The thumbnail of an inspection's evidence, or why there is none."""
        content = _read(self._evidence, key, self._limits)
        if content is None:
            return Picture(None, None, EVIDENCE_NOTES.get(state, EVIDENCE_NOTES["done"]))
        try:
            header = read_header(content, self._limits)
            if len(content) <= MAX_PICTURE_BYTES and header.media_type in INLINE_TYPES:
                return Picture(content, header.media_type)
            return shrink(decode_image(content, self._limits))
        except ImageError:
            return Picture(None, None, "The picture is damaged")

    def outlined_frame(self, key: str | None, boxes: Sequence[BoxPx]) -> Picture:
        """A stored frame around the given boxes, with the boxes outlined; or why there is none."""
        content = _read(self._frames, key, self._limits)
        if content is None:
            return Picture(None, None, "Only the hash of this frame was kept")
        try:
            return shrink(outline(decode_image(content, self._limits), boxes))
        except ImageError:
            return Picture(None, None, "The frame is damaged")

    def visual_href(self, key: str | None) -> str | None:
        """A link to a full visual, relative so that page and data can be moved together; None without one."""
        if key is None:
            return None
        try:
            path = self._evidence.path(key).resolve()
        except StoreError:
            return None
        return quote(Path(os.path.relpath(path, self._page_dir)).as_posix()) if path.is_file() else None


def shrink(pixels: BgrImage) -> Picture:
    """A JPEG of at most `MAX_PICTURE_BYTES`, no larger than 480 by 270 px."""
    height, width = pixels.shape[:2]
    scale = min(1.0, PICTURE_WIDTH_PX / width, PICTURE_HEIGHT_PX / height)
    while True:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        for quality in QUALITIES:
            _, buffer = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if len(buffer) <= MAX_PICTURE_BYTES:
                return Picture(bytes(buffer), "image/jpeg")
        scale /= 2


def outline(pixels: BgrImage, boxes: Sequence[BoxPx]) -> BgrImage:
    """The surroundings of the boxes at 16:9 where the frame allows, each box outlined beside its edge."""
    height, width = pixels.shape[:2]
    if not boxes:
        return pixels
    x0, y0 = min(box[0] for box in boxes), min(box[1] for box in boxes)
    x1, y1 = max(box[2] for box in boxes), max(box[3] for box in boxes)
    crop_width = min(width, max(PICTURE_WIDTH_PX, (x1 - x0) * 3, round((y1 - y0) * 3 * 16 / 9)))
    crop_height = min(height, max(PICTURE_HEIGHT_PX, round(crop_width * 9 / 16), y1 - y0))
    left = max(0, min(width - crop_width, (x0 + x1 - crop_width) // 2))
    top = max(0, min(height - crop_height, (y0 + y1 - crop_height) // 2))
    crop = np.ascontiguousarray(pixels[top : top + crop_height, left : left + crop_width])
    thickness = max(1, round(crop_width / PICTURE_WIDTH_PX * 2))
    gap = 2 * thickness
    for box in boxes:
        first = (box[0] - left - gap, box[1] - top - gap)
        cv2.rectangle(crop, first, (box[2] - left + gap, box[3] - top + gap), OUTLINE_BGR, thickness)
    return crop


def _read(files: FrameFiles, key: str | None, limits: ImageLimits) -> bytes | None:
    """The bytes of a key; None for no key, one that leads elsewhere, and a file that is gone or no image."""
    if key is None:
        return None
    try:
        return read_image_bytes(files.path(key), limits)
    except (ImageError, StoreError):
        return None
