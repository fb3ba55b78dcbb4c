"""Twins for looking at: one page of real images, original, mask, every method and the difference, at 100 % zoom.

    python -m tools.gallery FOLDER OUT [--sets NAME,…]

FOLDER holds data sets (MVTec convention); each is fitted by the defaults on its `train/good`. `OUT/gallery.html` needs
nothing else. No row is picked by hand: of each set it shows masks drawn at random on good images that the recipe never
saw, the worst of forty such masks by the PSNR of ours, and defective images drawn at random. The last line printed says
where the page is.
"""

from __future__ import annotations

import argparse
import base64
import logging
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from inspector.images import encode_jpeg
from inspector.records import BgrImage, BoxPx
from pipelines.dataset import TestImage, read_image
from pipelines.logs import configure_logging
from pipelines.twin import mask_boxes, widen_mask
from reports.formats import plural
from reports.html import make_environment
from tools.twin.methods import CLASSICAL, OURS, Painted, SetPainter
from tools.twin.quality import score_mask
from tools.twin.real_defects import score_inside
from tools.twin.sets import TrialSet, open_sets, read_defect

MOST_ROWS = 59
ROWS_A_SET = 14
WORST_ROWS = 2
CANDIDATES = 40
SEED = 8
CROP_PX = 400
LEAST_MARGIN_PX, MARGIN_SHARE = 24, 0.4
DIFFERENCE_GAIN = 4
JPEG_QUALITY = 92
OUTLINE_BGR = (60, 60, 240)
HIDDEN_BGR = (200, 60, 200)

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture of a row, cropped and encoded; it is shown as large as it is."""

    name: str
    note: str
    width_px: int
    height_px: int
    jpeg: bytes
    kind: str = ""

    @property
    def uri(self) -> str:
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}"


@dataclass(frozen=True, slots=True)
class Row:
    """One part: why it is here, and its pictures from left to right."""

    title: str
    why: str
    shots: tuple[Shot, ...]
    is_worst: bool = False


@dataclass(frozen=True, slots=True)
class Shelf:
    """The rows of one data set. `ours` is the name of the method that is shown as ours."""

    name: str
    ours: str
    missing: tuple[str, ...]
    good: tuple[Row, ...]
    defects: tuple[Row, ...]


class SetGallery:
    """Makes the rows of one data set."""

    def __init__(self, trial_set: TrialSet, threads: int, rows: int, seed: int) -> None:
        self._set = trial_set
        self._painter = SetPainter(trial_set, threads)
        self._seed = seed
        self._defect_rows = max(1, rows // 3)
        self._random_rows = max(1, rows - self._defect_rows - WORST_ROWS)
        self._missing: dict[str, str] = {}
        self._ours = OURS[-1]

    def make(self) -> Shelf:
        """All rows of the set."""
        self._choose_ours()
        good, defects = self._good_rows(), self._defect_rows_of()
        missing = tuple(f"{name}: {why}" for name, why in sorted(self._missing.items()))
        return Shelf(self._set.name, self._ours, missing, good, defects)

    def _choose_ours(self) -> None:
        """The net where there is one, else what the product takes by itself."""
        pixels = read_image(self._set.held_out[0])
        mask = np.zeros(pixels.shape[:2], np.bool_)
        middle = (pixels.shape[0] // 2, pixels.shape[1] // 2)
        mask[middle[0] - 8 : middle[0] + 8, middle[1] - 8 : middle[1] + 8] = True
        for method in (*CLASSICAL, *OURS):
            painted = self._painter.paint(pixels, mask, method)
            if painted.refused is not None:
                self._missing[method] = painted.refused
        self._ours = next((name for name in OURS if name not in self._missing), OURS[-1])

    def _good_rows(self) -> tuple[Row, ...]:
        tasks = self._set.tasks(CANDIDATES, self._seed)
        scores = []
        for task in tasks:
            ours = self._painter.paint(task.truth, task.sampled.mask, self._ours)
            scores.append(score_mask(ours.pixels, task.truth, task.sampled.mask).psnr_db)
        order = [int(index) for index in np.random.default_rng(self._seed).permutation(len(tasks))]
        drawn = order[: self._random_rows]
        left = sorted(order[self._random_rows :], key=lambda index: scores[index])
        rows = []
        for index in (*drawn, *left[:WORST_ROWS]):
            task, mask = tasks[index], tasks[index].sampled.mask
            x0, y0, x1, y1 = task.sampled.box_xyxy_px
            worst = index not in drawn
            why = "one of the worst by the PSNR of ours" if worst else "drawn at random"
            title = f"{task.path.name}, {task.sampled.shape} of {x1 - x0}×{y1 - y0} px"
            shots = self._shots(task.truth, mask, task.sampled.box_xyxy_px, is_truth=True)
            rows.append(Row(title, why, shots, worst))
        return tuple(rows)

    def _defect_rows_of(self) -> tuple[Row, ...]:
        images = self._set.defective()
        rows: list[Row] = []
        for index in np.random.default_rng(self._seed).permutation(len(images)):
            if len(rows) == self._defect_rows:
                break
            row = self._defect_row(images[index])
            if row is not None:
                rows.append(row)
        return tuple(rows)

    def _defect_row(self, image: TestImage) -> Row | None:
        """None when nobody marked the defect and the detector finds nothing."""
        pixels = read_image(image.path)
        marked = read_defect(image, pixels)
        detections = self._set.scorer.score_frame(pixels).detections
        if marked is not None:
            box = _bound(marked)
        elif detections:
            box = max(detections, key=lambda item: item.score).box_xyxy_px
        else:
            return None
        boxes = mask_boxes(pixels, detections)
        mask = widen_mask(boxes if marked is None else boxes | marked)
        source = (
            "marked by people" if marked is not None else f"found by the detector, {plural(len(detections), 'region')}"
        )
        title = f"{image.path.name}, {image.defect}, {box[2] - box[0]}×{box[3] - box[1]} px"
        return Row(title, f"drawn at random, {source}", self._shots(pixels, mask, box, is_truth=False))

    def _shots(self, original: BgrImage, mask: Mask, box: BoxPx, *, is_truth: bool) -> tuple[Shot, ...]:
        """Original, mask, each method, ours and the difference; a good original is the truth."""
        crop = choose_crop(box, mask.shape[1], mask.shape[0])
        shots = [_cut("original", "a good part: the truth" if is_truth else "", original, crop)]
        note = "what was painted" if is_truth else "what was repaired"
        shots.append(_cut("mask", note, show_mask(original, mask, hide=is_truth), crop))
        for method in CLASSICAL:
            if method not in self._missing:
                painted = self._painter.paint(original, mask, method)
                shots.append(_cut(method, self._describe(painted, mask, original, is_truth), painted.pixels, crop))
        ours = self._painter.paint(original, mask, self._ours)
        name = f"ours ({ours.method})" if ours.method != self._ours else f"ours: {self._ours}"
        shots.append(_cut(name, self._describe(ours, mask, original, is_truth), ours.pixels, crop, "ours"))
        difference = np.asarray(cv2.absdiff(ours.pixels, original), np.int32) * DIFFERENCE_GAIN
        shown = np.clip(difference, 0, 255).astype(np.uint8)
        shots.append(_cut("difference", f"ours − original, ×{DIFFERENCE_GAIN}", shown, crop))
        return tuple(shots)

    def _describe(self, painted: Painted, mask: Mask, original: BgrImage, is_truth: bool) -> str:
        """PSNR and SSIM where there is a truth, else the detector's score in the region before and after."""
        refused = " (refused: Telea)" if painted.refused is not None else ""
        if is_truth:
            score = score_mask(painted.pixels, original, mask)
            return f"{score.psnr_db:.1f} dB, SSIM {score.ssim:.2f}{refused}"
        before, after = (
            score_inside(self._set.scorer.score_frame(pixels).anomaly_map, mask)
            for pixels in (original, painted.pixels)
        )
        limit = self._set.recipe.thresholds.review
        return f"score {before:.2f} → {after:.2f} (review {limit:.2f}){refused}"


def choose_crop(box: BoxPx, width_px: int, height_px: int) -> BoxPx:
    """What is shown around a box: some of its surroundings, at most `CROP_PX` a side, inside the frame."""
    sides = []
    for low, high, limit in ((box[0], box[2], width_px), (box[1], box[3], height_px)):
        margin = max(LEAST_MARGIN_PX, round(MARGIN_SHARE * max(box[2] - box[0], box[3] - box[1])))
        length = min(CROP_PX, limit, high - low + 2 * margin)
        start = min(max(0, (low + high - length) // 2), limit - length)
        sides.append((start, start + length))
    (x0, x1), (y0, y1) = sides
    return x0, y0, x1, y1


def show_mask(pixels: BgrImage, mask: Mask, *, hide: bool) -> BgrImage:
    """The picture with the mask filled, or with a line around it."""
    shown = pixels.copy()
    if hide:
        shown[mask] = HIDDEN_BGR
        return shown
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, outlines, -1, OUTLINE_BGR, 1)
    return shown


def _bound(mask: Mask) -> BoxPx:
    """The box of the largest connected part."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    left, top, width, height, _ = (int(value) for value in stats[1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))])
    return left, top, left + width, top + height


def _cut(name: str, note: str, pixels: BgrImage, crop: BoxPx, kind: str = "") -> Shot:
    x0, y0, x1, y1 = crop
    part = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    return Shot(name, note, x1 - x0, y1 - y0, encode_jpeg(part, JPEG_QUALITY), kind)


def render_gallery(shelves: list[Shelf], seed: int) -> str:
    """The page; the same rows give the same page."""
    environment = make_environment()
    here = jinja2.FileSystemLoader(Path(__file__).parent)
    loaders = [here, environment.loader] if environment.loader is not None else [here]
    page = environment.overlay(loader=jinja2.ChoiceLoader(loaders)).get_template("gallery.html.j2")
    rows = sum(len(shelf.good) + len(shelf.defects) for shelf in shelves)
    return page.render(shelves=shelves, rows=rows, seed=seed, worst=WORST_ROWS, candidates=CANDIDATES)


def write_gallery(sets: list[TrialSet], out: Path, seed: int, threads: int) -> Path:
    """Make all rows and write the page; where it is."""
    share = min(ROWS_A_SET, MOST_ROWS // len(sets))
    shelves = []
    for trial_set in sets:
        sys.stdout.write(f"… {trial_set.name}\n")
        sys.stdout.flush()
        shelves.append(SetGallery(trial_set, threads, share, seed).make())
    out.mkdir(parents=True, exist_ok=True)
    page = out / "gallery.html"
    page.write_text(render_gallery(shelves, seed), encoding="utf-8")
    return page


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", default="", help="names of data sets, by commas")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipes", type=Path, help="keep the fitted recipes here; what is here is not fitted again")
    found = parser.parse_args()
    configure_logging(json_lines=False, level=logging.WARNING)
    if not found.folder.is_dir():
        parser.error(f"{found.folder} is not a folder")
    with tempfile.TemporaryDirectory(prefix="gallery-") as work:
        names = [name for name in found.sets.split(",") if name]
        sets = open_sets(found.folder, names, found.recipes or Path(work), found.threads)
        if not sets:
            raise SystemExit(f"{found.folder} holds no data set with train/good and test/good")
        page = write_gallery(sets, found.out, found.seed, found.threads)
    sys.stdout.write(f"{page}\n")


if __name__ == "__main__":
    main()
