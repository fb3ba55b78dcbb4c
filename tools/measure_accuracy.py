"""Fit and evaluate every data set of a folder with the installed command line; print a Markdown table.

    python tools/measure_accuracy.py FOLDER [NAME ...]

A data set is a folder with `train/good` and `test/…` (MVTec convention). A folder with `template`, `test` and `boxes`
is a template set: taught on one half of its boards, evaluated on the other, where a board is all frames whose names
share their first `GROUP_CHARACTERS` characters. Others are listed as left out. Recipes go into a temporary data
directory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

INSPECTOR = Path(sys.executable).with_name("inspector")
HEAD = (
    "| data set | good images | fit s | test images | image AUROC | image AP | F1 max | pixel AUROC | pixel AP | "
    "AUPRO | false alarms | misses | p50 ms | p95 ms |"
)

TEMPLATE_HEAD = (
    "| template set | labelled pairs | fit s | held-out mAP | other boards | mAP | F | precision | recall | "
    "class-agnostic AP | p50 ms | p95 ms |"
)
TEMPLATE_FOLDERS = ("template", "test", "boxes")
GROUP_CHARACTERS = 5


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


def describe_template(name: str, fitted: dict[str, Any], measured: dict[str, Any]) -> str:
    """One row of the table of template sets."""
    shares = [measured[key] for key in ("map", "f_score", "precision", "recall", "class_agnostic_ap")]
    latency = measured["latency_ms"]
    cells = [
        name,
        str(fitted["images"]),
        f"{fitted['fit_s']:.0f}",
        f"{fitted['choices']['held_out']['map']:.3f}",
        str(measured["images"]),
        *("–" if value is None else f"{value:.3f}" for value in shares),
        f"{latency['p50']:.0f}",
        f"{latency['p95']:.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def print_head(head: str) -> None:
    """The first two lines of a table."""
    sys.stdout.write(head + "\n" + "|---" * (head.count("|") - 1) + "|\n")


def split_boards(stems: list[str]) -> tuple[list[str], list[str]]:
    """Two halves that share no board: the largest boards first, each to the smaller half."""
    boards: dict[str, list[str]] = defaultdict(list)
    for stem in sorted(stems):
        boards[stem[:GROUP_CHARACTERS]].append(stem)
    halves: tuple[list[str], list[str]] = ([], [])
    for _, members in sorted(boards.items(), key=lambda item: (-len(item[1]), item[0])):
        min(halves, key=len).extend(members)
    return halves


def link_half(dataset: Path, stems: list[str], target: Path) -> Path:
    """A template set of links to the files of some frames."""
    chosen = set(stems)
    for name in TEMPLATE_FOLDERS:
        (target / name).mkdir(parents=True)
        for path in (dataset / name).iterdir():
            if path.stem in chosen:
                (target / name / path.name).symlink_to(path.resolve())
    return target


def measure_template_set(dataset: Path, work: Path) -> str:
    """Teach on one half of the boards, evaluate on the other; the row."""
    taught, other = split_boards([path.stem for path in (dataset / "boxes").glob("*.txt")])
    recipe = dataset.name.lower()
    labels = link_half(dataset, taught, work / recipe / "taught")
    unseen = link_half(dataset, other, work / recipe / "other")
    data_dir = ("--data-dir", work)
    fitted = call_inspector("fit", recipe, "--mode", "template", "--labels", labels, *data_dir)
    measured = call_inspector("evaluate", recipe, "--data", unseen, *data_dir)
    return describe_template(dataset.name, fitted, measured)


def measure(folder: Path, names: list[str]) -> None:
    """Print one row for each data set in `folder`, all of them or those that are named."""
    wanted = sorted(path for path in folder.iterdir() if path.is_dir() and (not names or path.name in names))
    template_sets = [path for path in wanted if all((path / name).is_dir() for name in TEMPLATE_FOLDERS)]
    image_sets = [path for path in wanted if (path / "train" / "good").is_dir()]
    with tempfile.TemporaryDirectory(prefix="accuracy-") as data_dir:
        if image_sets:
            print_head(HEAD)
        for dataset in image_sets:
            recipe, good = dataset.name.lower(), dataset / "train" / "good"
            fitted = call_inspector("fit", recipe, "--good", good, "--data-dir", data_dir)
            measured = call_inspector("evaluate", recipe, "--data", dataset, "--data-dir", data_dir)
            sys.stdout.write(describe(dataset.name, fitted, measured) + "\n")
            sys.stdout.flush()
        if template_sets:
            sys.stdout.write("\n")
            print_head(TEMPLATE_HEAD)
        for dataset in template_sets:
            sys.stdout.write(measure_template_set(dataset, Path(data_dir)) + "\n")
            sys.stdout.flush()
    left_out = [path.name for path in wanted if path not in image_sets and path not in template_sets]
    if left_out:
        sys.stdout.write(f"\nLeft out, because they are no data sets: {', '.join(left_out)}\n")


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        raise SystemExit(__doc__)
    measure(Path(sys.argv[1]), sys.argv[2:])
