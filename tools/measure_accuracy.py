"""Fit and evaluate every data set of a folder with the installed command line; print a Markdown table.

    python tools/measure_accuracy.py FOLDER [NAME ...]

A data set is a folder with `train/good` and `test/…` (MVTec convention). Others are listed as left out.
Recipes go into a temporary data directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

INSPECTOR = Path(sys.executable).with_name("inspector")
HEAD = (
    "| data set | good images | fit s | test images | image AUROC | image AP | F1 max | pixel AUROC | pixel AP | "
    "AUPRO | false alarms | misses | p50 ms | p95 ms |"
)


def call_inspector(*arguments: str | Path) -> dict[str, Any]:
    """One command with --json; its answer. A failure ends the program with the command's own words."""
    result = subprocess.run([INSPECTOR, *arguments, "--json"], check=False, stdout=subprocess.PIPE)
    if result.returncode != 0:
        raise SystemExit(result.returncode)
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def describe(name: str, fitted: dict[str, Any], measured: dict[str, Any]) -> str:
    """One row of the table."""
    shares = [measured[key] for key in ("image_auroc", "image_ap", "image_f1_max", "pixel_auroc", "pixel_ap", "aupro")]
    rates = [measured[key] for key in ("false_alarm_rate", "miss_rate")]
    latency = measured["latency_ms"]
    cells = [
        name,
        str(fitted["images"]),
        f"{fitted['fit_s']:.1f}",
        str(measured["images"]),
        *("–" if value is None else f"{value:.3f}" for value in shares),
        *("–" if value is None else f"{100 * value:.1f} %" for value in rates),
        f"{latency['p50']:.0f}",
        f"{latency['p95']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def measure(folder: Path, names: list[str]) -> None:
    """Print one row for each data set in `folder`, all of them or those that are named."""
    sys.stdout.write(HEAD + "\n" + "|---" * (HEAD.count("|") - 1) + "|\n")
    left_out = []
    with tempfile.TemporaryDirectory(prefix="accuracy-") as data_dir:
        for dataset in sorted(path for path in folder.iterdir() if path.is_dir()):
            good = dataset / "train" / "good"
            if names and dataset.name not in names:
                continue
            if not good.is_dir():
                left_out.append(dataset.name)
                continue
            recipe = dataset.name.lower()
            fitted = call_inspector("fit", recipe, "--good", good, "--data-dir", data_dir)
            measured = call_inspector("evaluate", recipe, "--data", dataset, "--data-dir", data_dir)
            sys.stdout.write(describe(dataset.name, fitted, measured) + "\n")
            sys.stdout.flush()
    if left_out:
        sys.stdout.write(f"\nLeft out, because they have no train/good: {', '.join(left_out)}\n")


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(__doc__)
    measure(Path(sys.argv[1]), sys.argv[2:])
