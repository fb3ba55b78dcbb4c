"""Folders of images: good ones to learn from, and test sets in the MVTec convention.

train/good/*  test/good/*  test/<defect>/*  ground_truth/<defect>/<stem>_mask.png
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.errors import DatasetError, ImageError
from inspector.images import IMAGE_SUFFIXES, decode_image, read_header, read_image_bytes, sha256_hex
from inspector.records import BgrImage

GOOD = "good"


@dataclass(frozen=True, slots=True)
class TestImage:
    """One image of a test set. `defect` is its folder's name, None for a good one; `mask` marks the defect."""

    __test__ = False

    path: Path
    defect: str | None
    mask: Path | None


@dataclass(frozen=True, slots=True)
class TestSet:
    """The test half of a data set, in a fixed order."""

    __test__ = False

    root: Path
    images: tuple[TestImage, ...]

    @property
    def has_masks(self) -> bool:
        """Every defective image has a mask, and there is at least one."""
        defective = [image for image in self.images if image.defect is not None]
        return bool(defective) and all(image.mask is not None for image in defective)


class ImageFolder:
    """Good images of a folder, sorted by name, decoded when asked for."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, index: int) -> BgrImage:
        """(H, W, 3) uint8 BGR. Raises `DatasetError` naming the file."""
        return read_image(self.paths[index])

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) from the file's header. Raises `DatasetError` naming the file."""
        try:
            header = read_header(read_image_bytes(self.paths[index]))
        except ImageError as error:
            raise DatasetError(f"{self.paths[index]}: {error}") from error
        return header.width_px, header.height_px

    def sha256(self, index: int) -> str:
        """Hash of the file's bytes."""
        try:
            return sha256_hex(read_image_bytes(self.paths[index]))
        except ImageError as error:
            raise DatasetError(f"{self.paths[index]}: {error}") from error


def read_image(path: Path) -> BgrImage:
    """Decode one image; `DatasetError` naming the file when it cannot be."""
    try:
        return decode_image(read_image_bytes(path))
    except ImageError as error:
        raise DatasetError(f"{path}: {error}") from error


def find_images(folder: Path) -> tuple[Path, ...]:
    """Images directly in a folder, sorted by name; hidden files and other suffixes are ignored."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder")
    return tuple(
        sorted(
            item
            for item in folder.iterdir()
            if item.suffix.lower() in IMAGE_SUFFIXES and not item.name.startswith(".") and item.is_file()
        )
    )


def open_good_images(folder: Path) -> ImageFolder:
    """The good images to learn from: those in `folder`, else those in its `train/good`."""
    paths = find_images(folder)
    if not paths and (folder / "train" / GOOD).is_dir():
        paths = find_images(folder / "train" / GOOD)
    if not paths:
        raise DatasetError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return ImageFolder(paths)


def open_test_set(root: Path) -> TestSet:
    """The test half of a data set. Raises `DatasetError` when there is no `test` folder with images."""
    test = root / "test"
    if not test.is_dir():
        raise DatasetError(f"{root} has no folder `test`; expected test/good and test/<defect>")
    images: list[TestImage] = []
    for folder in sorted(item for item in test.iterdir() if item.is_dir() and not item.name.startswith(".")):
        defect = None if folder.name == GOOD else folder.name
        images.extend(TestImage(path, defect, _find_mask(root, defect, path)) for path in find_images(folder))
    if not images:
        raise DatasetError(f"{test} holds no images; expected test/good and test/<defect>")
    return TestSet(root, tuple(images))


def open_examples(root: Path) -> tuple[TestImage, ...]:
    """Defects to learn names from: `root/<name>/*`, or `root/test/<name>/*`; `good` is passed over.

    Masks are looked for in `ground_truth` in `root`, and else beside it. Raises `DatasetError` when there are none.
    """
    if not root.is_dir():
        raise DatasetError(f"{root} is not a folder")
    shown = root / "test" if (root / "test").is_dir() else root
    images: list[TestImage] = []
    for folder in sorted(item for item in shown.iterdir() if item.is_dir() and not item.name.startswith(".")):
        if folder.name in (GOOD, "ground_truth", "train"):
            continue
        for path in find_images(folder):
            mask = _find_mask(root, folder.name, path) or _find_mask(root.parent, folder.name, path)
            images.append(TestImage(path, folder.name, mask))
    if not images:
        raise DatasetError(f"{shown} holds no examples; expected one folder for each defect name, with images")
    return tuple(images)


def _find_mask(root: Path, defect: str | None, path: Path) -> Path | None:
    if defect is None:
        return None
    folder = root / "ground_truth" / defect
    for name in (f"{path.stem}_mask.png", f"{path.stem}.png", f"{path.stem}_mask{path.suffix}"):
        if (folder / name).is_file():
            return folder / name
    return None


def read_mask(image: TestImage, size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool mask of the defect for a frame of (width, height), all False for a good image."""
    if image.mask is None:
        return np.zeros((size[1], size[0]), np.bool_)
    pixels = read_image(image.mask)
    if (pixels.shape[1], pixels.shape[0]) != size:
        raise DatasetError(f"{image.mask} is {pixels.shape[1]}x{pixels.shape[0]} px, its image {size[0]}x{size[1]}")
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY) > 127, np.bool_)
