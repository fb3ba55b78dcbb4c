"""Photographs to train on: a folder of good images of one part, brought into one pose."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.errors import DatasetError
from inspector.geometry.registration import make_reference, register, warp
from inspector.images import decode_image, read_image_bytes

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
LEAST_CONFIDENCE = 0.6


def register_photographs(folder: Path, least_confidence: float = LEAST_CONFIDENCE) -> NDArray[np.uint8]:
    """(N, H, W, 3) uint8 BGR: the images of a folder that register to the middle one, in its pose.

    Raises `DatasetError` for a folder without two images that register to each other.
    """
    paths = list_images(folder)
    if len(paths) < 2:
        raise DatasetError(f"{folder}: two images of one part are needed, there are {len(paths)}")
    images = [decode_image(read_image_bytes(path)) for path in paths]
    golden = images[len(images) // 2]
    reference, size = make_reference(golden, "affine"), (golden.shape[1], golden.shape[0])
    kept = []
    for image in images:
        if image.shape != golden.shape:
            continue
        found = register(reference, image)
        if found.confidence >= least_confidence:
            kept.append(np.asarray(warp(image, found.matrix, size, interpolation=cv2.INTER_CUBIC), np.uint8))
    if len(kept) < 2:
        raise DatasetError(f"{folder}: the images do not register to each other; they show no part in a fixed pose")
    return np.stack(kept)


def list_images(folder: Path) -> list[Path]:
    """The images of a folder by name. Raises `DatasetError` for a folder that is none."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder of images")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
