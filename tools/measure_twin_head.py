"""Whether the difference between a part and its twin finds defects that the recipe's detector does not.

    python tools/measure_twin_head.py FOLDER [NAME ...]

Each data set (MVTec convention) is fitted with the defaults. Printed are the image AUROC of the detector, of the twin
difference alone and of the larger of both; a frame whose references cannot be placed has the highest difference.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

from inspector.detector.recipe_store import RecipeStore
from pipelines.dataset import open_test_set, read_image
from pipelines.fit import fit_recipe
from pipelines.metrics import image_measures
from pipelines.twin import read_bank
from tools.twin.difference import TwinDifference

NOT_PLACED = math.inf


def measure(dataset: Path, data_dir: Path) -> str:
    """One row."""
    fitted = fit_recipe(dataset.name.lower().replace("_", "-"), dataset / "train" / "good", data_dir)
    recipe = RecipeStore(data_dir).load(fitted.recipe)
    bank = read_bank(recipe)
    if bank is None:
        return f"| {dataset.name} | no references | | |"
    scorer, difference = recipe.scorer(threads=2), TwinDifference(bank)
    labels: list[bool] = []
    scores: list[float] = []
    differences: list[float] = []
    for image in open_test_set(dataset).images:
        pixels = read_image(image.path)
        found = difference.score_frame(pixels)
        labels.append(image.defect is not None)
        scores.append(scorer.score_frame(pixels).score)
        differences.append(found[0] if found else NOT_PLACED)
    both = [max(pair) for pair in zip(scores, differences, strict=True)]
    columns = [image_measures(values, labels)["image_auroc"] for values in (scores, differences, both)]
    return f"| {dataset.name} | " + " | ".join("–" if item is None else f"{item:.3f}" for item in columns) + " |"


def main() -> None:
    """Print the table."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, names = Path(sys.argv[1]), set(sys.argv[2:])
    sys.stdout.write("| data set | detector | twin difference | larger of both |\n|---|---|---|---|\n")
    for dataset in sorted(item for item in folder.iterdir() if (item / "train" / "good").is_dir()):
        if not names or dataset.name in names:
            with tempfile.TemporaryDirectory() as data_dir:
                sys.stdout.write(f"{measure(dataset, Path(data_dir))}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
