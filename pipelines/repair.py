"""`inspector repair`: the defect-free twin of one image, written to a file."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector import __version__
from inspector.clock import utc_now_us
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import ImageSizeError, InputError
from inspector.generator.mark import mark_generated
from inspector.generator.regions import split_mask
from inspector.generator.repairer import Twin
from inspector.images import decode_image, encode_jpeg, read_image_bytes, sha256_hex
from inspector.records import BgrImage
from pipelines.twin import TwinPainter, mask_detections
from reports.xmp import PictureOrigin, embed_packet, write_packet

WHITE_FROM = 128
OUT_SUFFIXES = (".png", ".jpg", ".jpeg")
JPEG_QUALITY = 95


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was done. `generated` is False when there was nothing to repair and the picture is the image itself.

    `method` is then the one that was asked for. `fallback` is why the recipe's references or its peel were not used,
    `peel` the one that was; else None.
    """

    method: str
    seconds: float
    regions: int
    generated: bool
    fallback: str | None = None
    peel: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def repair_image(name: str, image: Path, mask: Path | None, method: str, out: Path, data_dir: Path) -> RepairReport:
    """Repair the white pixels of `mask`, or what the recipe's detector marks, and write the twin to `out`.

    `out` ends in .png (exact outside the mask's surroundings) or .jpg. Raises `RecipeError`, `ImageError`, or
    `InputError` for a method that cannot work here, a mask without white pixels or an unknown suffix.
    """
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise InputError(f"{out.name}: the twin is written as {', '.join(OUT_SUFFIXES)}")
    recipe = RecipeStore(data_dir).load(name, require_released=False)
    encoded = read_image_bytes(image)
    pixels = decode_image(encoded, expected_size=recipe.frame_size)
    started = time.monotonic()
    wanted = read_mask(mask, pixels) if mask is not None else find_suspicious(recipe, pixels)
    twin = _repair(recipe, pixels, wanted, method)
    seconds = time.monotonic() - started
    _write(out, pixels, wanted, twin, sha256_hex(encoded))
    return RepairReport(twin.method, round(seconds, 4), twin.regions, twin.regions > 0, twin.fallback, twin.peel)


def read_mask(path: Path, pixels: BgrImage) -> NDArray[np.bool_]:
    """(H, W) bool of the white pixels of a mask image; `ImageSizeError` or `InputError` when it does not fit."""
    decoded = decode_image(read_image_bytes(path))
    if decoded.shape != pixels.shape:
        raise ImageSizeError(
            f"{path.name}: the mask is {decoded.shape[1]}x{decoded.shape[0]} px, "
            f"the image {pixels.shape[1]}x{pixels.shape[0]}; they must be equal"
        )
    mask = np.asarray(decoded.min(axis=2) >= WHITE_FROM, np.bool_)
    if not mask.any():
        raise InputError(f"{path.name}: the mask has no white pixel, so there is nothing to repair")
    return mask


def find_suspicious(recipe: Recipe, pixels: BgrImage) -> NDArray[np.bool_]:
    """(H, W) bool of what the recipe's detector marks."""
    return mask_detections(pixels, recipe.scorer(threads=2).score_frame(pixels).detections)


def _repair(recipe: Recipe, pixels: BgrImage, mask: NDArray[np.bool_], method: str) -> Twin:
    painter = TwinPainter(recipe)
    return painter.paint(pixels, mask, method) or Twin(pixels, mask, painter.name_method(method), 0)


def _write(out: Path, pixels: BgrImage, mask: NDArray[np.bool_], twin: Twin, frame_sha256: str) -> None:
    marked = mark_generated(twin.pixels, mask) if twin.regions else pixels
    origin = PictureOrigin(
        title=f"Twin of {frame_sha256[:12]}",
        kind="twin",
        created_utc_us=utc_now_us(),
        software=f"line-inspector {__version__}",
        frame_sha256=frame_sha256,
        twin_method=twin.method if twin.regions else None,
        twin_fallback=twin.fallback,
        twin_peel=twin.peel,
        generated_regions=tuple(region.box_xyxy_px for region in split_mask(mask)) if twin.regions else (),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(embed_packet(encode_picture(marked, out.suffix), write_packet(origin)))


def encode_picture(pixels: BgrImage, suffix: str) -> bytes:
    """The bytes of a picture by one of `OUT_SUFFIXES`."""
    if suffix.lower() == ".png":
        return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1])
    return encode_jpeg(pixels, JPEG_QUALITY)
