"""The worst misses and the worst false alarms of each data set as one sheet of pictures, for looking at.

    python tools/worst_cases.py FOLDER OUT [NAME ...]

Each data set (MVTec convention) is fitted with the defaults. `OUT/NAME.jpg` shows the ten defective test images with
the lowest scores and the ten good ones with the highest: the frame with the marked defect (green) and what the
detector found most suspicious (red), beside its map.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from inspector.detector.recipe_store import RecipeStore
from inspector.images import decode_image, encode_jpeg, read_image_bytes
from inspector.records import BgrImage, Scoring
from pipelines.dataset import TestImage, open_test_set, read_mask
from pipelines.fit import fit_recipe

SHOWN = 10
PICTURE_PX = (560, 300)
GREEN, RED = (60, 200, 60), (40, 40, 240)


@dataclass(frozen=True, slots=True)
class Case:
    """One test image and what the detector said."""

    image: TestImage
    pixels: BgrImage
    scoring: Scoring


def paint_case(case: Case, review_threshold: float) -> BgrImage:
    """The frame with outlines, and its map, side by side."""
    frame = case.pixels.copy()
    height, width = frame.shape[:2]
    line_px = max(2, width // 400)
    mask = read_mask(case.image, (width, height)).astype(np.uint8)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    cv2.drawContours(frame, outlines, -1, GREEN, line_px)
    scores = case.scoring.anomaly_map.scores
    row, column = np.unravel_index(int(scores.argmax()), scores.shape)
    centre = [round((float(place) + 0.5) * case.scoring.anomaly_map.cell_px) for place in (column, row)]
    cv2.circle(frame, (centre[0], centre[1]), max(12, width // 40), RED, line_px)
    levels = np.clip(scores / (2.0 * review_threshold), 0, 1) * 255
    heat = cv2.applyColorMap(levels.astype(np.uint8), cv2.COLORMAP_INFERNO)
    halves = [cv2.resize(half, PICTURE_PX, interpolation=cv2.INTER_AREA) for half in (frame, heat)]
    sheet = np.hstack(halves)
    text = f"{case.image.defect or 'good'}/{case.image.path.name}  {case.scoring.score:.2f} / {review_threshold:.2f}"
    cv2.putText(sheet, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (0, 0, 0), 4, cv2.LINE_AA)
    cv2.putText(sheet, text, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, (255, 255, 255), 1, cv2.LINE_AA)
    return np.asarray(sheet, np.uint8)


def show_worst(dataset: Path, data_dir: Path, out: Path) -> str:
    """Write the sheet of one data set; a line about it."""
    fitted = fit_recipe(dataset.name.lower(), dataset / "train" / "good", data_dir)
    scorer = RecipeStore(data_dir).load(fitted.recipe).scorer(threads=2)
    cases = []
    for image in open_test_set(dataset).images:
        pixels = decode_image(read_image_bytes(image.path))
        cases.append(Case(image, pixels, scorer.score_frame(pixels)))
    limit = fitted.review_threshold
    bad = sorted((case for case in cases if case.image.defect is not None), key=lambda case: case.scoring.score)[:SHOWN]
    good = sorted((case for case in cases if case.image.defect is None), key=lambda case: -case.scoring.score)[:SHOWN]
    columns = [np.vstack([paint_case(case, limit) for case in side]) for side in (bad, good) if side]
    tallest = max(len(column) for column in columns)
    sheet = np.hstack([np.pad(column, ((0, tallest - len(column)), (0, 12), (0, 0))) for column in columns])
    (out / f"{dataset.name}.jpg").write_bytes(encode_jpeg(sheet, 90))
    missed = sum(case.scoring.score < limit for case in bad)
    alarmed = sum(case.scoring.score >= limit for case in good)
    return (
        f"{dataset.name}: {missed} of the {len(bad)} lowest defective ones are missed, "
        f"{alarmed} of the {len(good)} highest good ones alarm"
    )


def main(folder: Path, out: Path, names: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        for dataset in sorted(folder.iterdir()):
            if (dataset / "train" / "good").is_dir() and (not names or dataset.name in names):
                sys.stdout.write(show_worst(dataset, Path(scratch), out) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
