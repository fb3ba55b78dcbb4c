"""Template sets: every frame in `test/` has its own defect-free template and the boxes of its defects.

    template/STEM.jpg   test/STEM.jpg   boxes/STEM.txt with lines `x1 y1 x2 y2 class`

An empty box file is a good frame. A set of good pairs has no `boxes`; a folder of templates alone is a set too,
whose frames are its templates, moved by up to two pixels.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inspector.detector.box_matching import LabelledBox
from inspector.errors import DatasetError, ImageError
from inspector.geometry.registration import warp_to_reference
from inspector.images import IMAGE_SUFFIXES, read_image_bytes, sha256_hex
from inspector.records import BgrImage
from pipelines.dataset import find_images, read_image

TEMPLATES, FRAMES, BOXES = "template", "test", "boxes"
LINE = "x1 y1 x2 y2 class"
LONGEST_NAME = 64
LARGEST_BOX_FILE_BYTES = 1_000_000
JITTER_PX = 2.0
JITTER_NOISE = 3.0


@dataclass(frozen=True, slots=True)
class TemplatePair:
    """The files of one frame. `frame` is None for a template alone, `boxes` empty for a good or unlabelled frame."""

    template: Path
    frame: Path | None
    boxes: tuple[LabelledBox, ...] = ()

    @property
    def shown(self) -> Path:
        """The file that stands for the pair in reports."""
        return self.frame or self.template


class PairFolder:
    """Pairs in a fixed order, decoded when asked for."""

    def __init__(self, pairs: tuple[TemplatePair, ...]) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def real_frames(self) -> int:
        """How many pairs have a photographed frame."""
        return sum(pair.frame is not None for pair in self.pairs)

    def read(self, index: int) -> tuple[BgrImage, BgrImage]:
        """Frame and template, (H, W, 3) uint8 BGR; a template alone is its own frame, photographed again.

        Raises `DatasetError` naming the file: unreadable, another size than its template, a box outside.
        """
        pair = self.pairs[index]
        template = read_image(pair.template)
        if pair.frame is None:
            return photograph_again(template, seed=index), template
        frame = read_image(pair.frame)
        if frame.shape != template.shape:
            raise DatasetError(
                f"{pair.frame} is {frame.shape[1]}x{frame.shape[0]} px, "
                f"its template {pair.template} {template.shape[1]}x{template.shape[0]}; they must be equal"
            )
        check_boxes(pair, (frame.shape[1], frame.shape[0]))
        return frame, template

    def boxes(self, index: int) -> tuple[LabelledBox, ...]:
        """The labelled boxes of a frame."""
        return self.pairs[index].boxes

    def sha256(self, index: int) -> str:
        """Hash of the bytes of the file that stands for the pair."""
        path = self.pairs[index].shown
        try:
            return sha256_hex(read_image_bytes(path))
        except ImageError as error:
            raise DatasetError(f"{path}: {error}") from error


def is_template_set(root: Path) -> bool:
    """Whether a folder has the folders `template` and `test`."""
    return (root / TEMPLATES).is_dir() and (root / FRAMES).is_dir()


def open_labelled_pairs(root: Path) -> PairFolder:
    """A set with boxes for every frame. Raises `DatasetError` that names the folder, file or line."""
    if not (root / BOXES).is_dir():
        raise DatasetError(f"{root} has no folder `{BOXES}`; expected {BOXES}/STEM.txt with lines `{LINE}`")
    return PairFolder(
        tuple(TemplatePair(one.template, one.frame, read_boxes(root, one.shown.stem)) for one in _open_pairs(root))
    )


def open_good_pairs(root: Path) -> PairFolder:
    """A set of good pairs, or a folder of templates. Raises `DatasetError`, also for a set with labelled defects."""
    if (root / BOXES).is_dir():
        pairs = open_labelled_pairs(root)
        bad = next((pair.shown for pair in pairs.pairs if pair.boxes), None)
        if bad is not None:
            raise DatasetError(f"{root} is not a set of good pairs: {bad} has labelled defects; use it with --labels")
        return pairs
    if (root / FRAMES).is_dir():
        return PairFolder(_open_pairs(root))
    folder = root / TEMPLATES if (root / TEMPLATES).is_dir() else root
    templates = find_images(folder)
    if not templates:
        raise DatasetError(f"{folder} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return PairFolder(tuple(TemplatePair(template, None) for template in templates))


def match_template(frame: Path, templates: dict[str, Path], folder: Path) -> Path:
    """The template of a frame: the one with its stem. Raises `DatasetError` when there is none."""
    template = templates.get(frame.stem)
    if template is None:
        raise DatasetError(f"{frame} has no template: {folder / frame.stem}.* is missing")
    return template


def templates_by_stem(folder: Path) -> dict[str, Path]:
    """The images of a folder by stem. Raises `DatasetError` when it is no folder."""
    return {path.stem: path for path in find_images(folder)}


def _open_pairs(root: Path) -> tuple[TemplatePair, ...]:
    for name in (TEMPLATES, FRAMES):
        if not (root / name).is_dir():
            raise DatasetError(f"{root} has no folder `{name}`; a template set has {TEMPLATES}/STEM and {FRAMES}/STEM")
    frames = find_images(root / FRAMES)
    if not frames:
        raise DatasetError(f"{root / FRAMES} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    templates = templates_by_stem(root / TEMPLATES)
    return tuple(TemplatePair(match_template(frame, templates, root / TEMPLATES), frame) for frame in frames)


def read_boxes(root: Path, stem: str) -> tuple[LabelledBox, ...]:
    """The boxes of one frame. Raises `DatasetError` naming file and line."""
    path = root / BOXES / f"{stem}.txt"
    if not path.is_file():
        raise DatasetError(f"{path} is missing; a frame without defects has an empty file")
    try:
        if path.stat().st_size > LARGEST_BOX_FILE_BYTES:
            raise DatasetError(f"{path} is larger than any list of boxes")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
    return tuple(_parse_box(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip())


def _parse_box(line: str, where: str) -> LabelledBox:
    fields = line.split()
    if len(fields) != 5 or not all(re.fullmatch(r"-?[0-9]{1,6}", field) for field in fields[:4]):
        raise DatasetError(f"{where}: {line[:80]!r} is not `{LINE}` with whole pixels")
    x0, y0, x1, y1 = (int(field) for field in fields[:4])
    if x1 <= x0 or y1 <= y0:
        raise DatasetError(f"{where}: {line[:80]!r} is an empty box; x2 must be above x1, y2 above y1")
    if x0 < 0 or y0 < 0:
        raise DatasetError(f"{where}: the box {x0} {y0} {x1} {y1} lies outside the frame")
    if len(fields[4]) > LONGEST_NAME or not fields[4].isprintable():
        raise DatasetError(f"{where}: a class has at most {LONGEST_NAME} printable characters")
    return LabelledBox((x0, y0, x1, y1), fields[4])


def check_boxes(pair: TemplatePair, size: tuple[int, int]) -> None:
    """Raise `DatasetError` when a box reaches out of its frame of (width, height)."""
    for box in pair.boxes:
        x0, y0, x1, y1 = box.box_xyxy_px
        if x1 > size[0] or y1 > size[1]:
            raise DatasetError(
                f"{pair.shown}: the box {x0} {y0} {x1} {y1} lies outside the frame of {size[0]}x{size[1]} px"
            )


def photograph_again(template: BgrImage, seed: int) -> BgrImage:
    """A good frame of a template: up to 2 px and 3 % of light away, with a little noise. Deterministic."""
    random = np.random.default_rng(seed)
    dx, dy = random.uniform(-JITTER_PX, JITTER_PX, 2)
    gain = np.float32(1.0 + random.uniform(-0.03, 0.03))
    size = (template.shape[1], template.shape[0])
    moved = warp_to_reference(template, np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]]), size)
    noise = random.standard_normal(template.shape, np.float32) * np.float32(JITTER_NOISE)
    return np.asarray(np.clip(moved * gain + noise + np.float32(0.5), 0, 255).astype(np.uint8), np.uint8)
