"""What leaves the plant of a frame, as exact bytes: cropped, blacked out, reduced, encoded anew.

Everything is made from pixels, so no metadata of the camera's file survives. Masks win over everything; of the
other regions, what overlaps the shown one stays, since it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from inspector.cloud.budget import IMAGE_TOKENS
from inspector.cloud.provider import MediaResolution
from inspector.geometry.boxes import clip_box, grow_box
from inspector.images import encode_jpeg
from inspector.records import BgrImage, BoxPx

PIXELS_PER_TOKEN = 28 * 28
"""Vision models see patches of about this size; more pixels than tokens can hold would only be thrown away."""
JPEG_QUALITY = 85
LEAST_MARGIN_PX = 16


@dataclass(frozen=True, slots=True)
class RedactedImage:
    """One picture that may leave: JPEG bytes, its size, and the box of the frame it shows."""

    content: bytes
    width_px: int
    height_px: int
    box_xyxy_px: BoxPx


def redact_regions(
    pixels: BgrImage,
    shown: Sequence[BoxPx],
    others: Sequence[BoxPx],
    masks: Sequence[BoxPx],
    *,
    margin: float,
    resolution: MediaResolution,
) -> tuple[RedactedImage, ...]:
    """One crop for each shown region: it and a margin, every other region and the masks black.

    `pixels` is (H, W, 3) uint8 BGR and never altered; `others` are all regions of the frame (the shown ones may be
    among them); `margin` is a share of the region's longer side. A region outside the frame gives no crop.
    """
    size = (pixels.shape[1], pixels.shape[0])
    crops = []
    for region in shown:
        own = clip_box(region, size)
        grown = grow_box(region, margin_px(region, margin), size)
        if own is None or grown is None:
            continue
        crop = _cut(pixels, grown)
        kept = _cut(pixels, own)
        for other in others:
            if other != region:
                _black_out(crop, grown, other)
        _paste(crop, grown, own, kept)
        for mask in masks:
            _black_out(crop, grown, mask)
        crops.append(_encode(crop, grown, resolution))
    return tuple(crops)


def redact_frame(pixels: BgrImage, masks: Sequence[BoxPx], *, resolution: MediaResolution) -> RedactedImage:
    """The whole frame with the masks black."""
    whole = (0, 0, pixels.shape[1], pixels.shape[0])
    copy = pixels.copy()
    for mask in masks:
        _black_out(copy, whole, mask)
    return _encode(copy, whole, resolution)


def margin_px(region: BoxPx, margin: float) -> int:
    """How far beyond a region its crop reaches."""
    longer = max(region[2] - region[0], region[3] - region[1])
    return max(LEAST_MARGIN_PX, math.ceil(margin * longer)) if margin > 0 else 0


def _cut(pixels: BgrImage, box: BoxPx) -> BgrImage:
    return pixels[box[1] : box[3], box[0] : box[2]].copy()


def _paste(crop: BgrImage, place: BoxPx, box: BoxPx, content: BgrImage) -> None:
    x, y = box[0] - place[0], box[1] - place[1]
    crop[y : y + content.shape[0], x : x + content.shape[1]] = content


def _black_out(crop: BgrImage, place: BoxPx, box: BoxPx) -> None:
    """Black in a crop that shows `place`, where `box` of the frame lies in it."""
    x0, y0, x1, y1 = (box[0] - place[0], box[1] - place[1], box[2] - place[0], box[3] - place[1])
    crop[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = 0


def _encode(crop: BgrImage, place: BoxPx, resolution: MediaResolution) -> RedactedImage:
    most = IMAGE_TOKENS[resolution] * PIXELS_PER_TOKEN
    height, width = crop.shape[:2]
    scale = min(1.0, math.sqrt(most / (width * height)))
    if scale < 1.0:
        size = (max(1, int(width * scale)), max(1, int(height * scale)))
        crop = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA), np.uint8)
    return RedactedImage(encode_jpeg(crop, JPEG_QUALITY), crop.shape[1], crop.shape[0], place)
