"""How many painted defects a recipe finds: a measure for sets that have few real ones, family by family.

    python tools/measure_painted.py FOLDER [NAME ...]

Each data set (MVTec convention) is fitted with the defaults. Onto good test images, which the fit has not seen, one
defect of each family is painted where the recipe judges. Printed are the share of them that is not called OK, and of
the same images without a defect. Painted defects rank detectors only roughly: real ones decide where there are some.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.recipe_store import RecipeStore
from inspector.detector.scorer import Scorer
from inspector.images import decode_image, read_image_bytes
from inspector.records import BgrImage, VerdictKind
from inspector.scenes.overlays import FAMILIES, paint_defect
from pipelines.dataset import open_good_images
from pipelines.fit import fit_recipe
from pipelines.inspect_frame import decide_verdict

MOST_IMAGES = 30


def judged_pixels(scorer: Scorer, pixels: BgrImage) -> NDArray[np.bool_]:
    """(H, W) bool: where the map of a frame holds scores at all."""
    scores = scorer.score_frame(pixels).anomaly_map.scores
    size = (pixels.shape[1], pixels.shape[0])
    return np.asarray(cv2.resize(np.asarray(scores > 0, np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0, np.bool_)


def is_alarm(scorer: Scorer, pixels: BgrImage) -> bool:
    return decide_verdict(scorer.score_frame(pixels), scorer.thresholds).kind is not VerdictKind.OK


def measure(dataset: Path, data_dir: Path) -> str:
    """One row: alarms on good images, then found defects by family."""
    fitted = fit_recipe(dataset.name.lower(), dataset / "train" / "good", data_dir)
    scorer = RecipeStore(data_dir).load(fitted.recipe).scorer(threads=2)
    paths = open_good_images(dataset / "test" / "good").paths
    paths = paths[:: max(1, len(paths) // MOST_IMAGES)][:MOST_IMAGES]
    found: dict[str, list[bool]] = {kind: [] for kind in FAMILIES}
    alarms = []
    for seed, path in enumerate(paths):
        pixels = decode_image(read_image_bytes(path))
        alarms.append(is_alarm(scorer, pixels))
        inside = judged_pixels(scorer, pixels)
        for kind, results in found.items():
            painted = paint_defect(pixels, kind, seed, inside)
            if painted is not None:
                results.append(is_alarm(scorer, painted[0]))
    every = [result for results in found.values() for result in results]
    shares = [f"{np.mean(results):.2f}" if results else "–" for results in found.values()]
    return f"| {dataset.name} | {len(paths)} | {np.mean(alarms):.2f} | {np.mean(every):.2f} | {' | '.join(shares)} |"


def main(folder: Path, names: list[str]) -> None:
    """Print one row for each data set in `folder`, all of them or those that are named."""
    head = ["data set", "good images", "false alarms", "painted defects found", *FAMILIES]
    sys.stdout.write(f"| {' | '.join(head)} |\n{'|---' * len(head)}|\n")
    with tempfile.TemporaryDirectory(prefix="painted-") as data_dir:
        for dataset in sorted(path for path in folder.iterdir() if (path / "train" / "good").is_dir()):
            if not names or dataset.name in names:
                sys.stdout.write(measure(dataset, Path(data_dir)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
