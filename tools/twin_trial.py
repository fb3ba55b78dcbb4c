"""The trial of the twin: what `make twin-trial` measures, and whether it is enough.

    python -m tools.twin_trial FOLDER OUT [--sets NAME,…] [--only psnr,…] [--masks 100]

FOLDER holds data sets (MVTec convention); each is fitted by the defaults on its `train/good`. Printed are a table for
each part and, last, one line for each criterion; `OUT/twin-trial.json` has every figure. Parts:

psnr         in-mask PSNR and SSIM of every method on good images that no recipe saw, random masks of 16 to 256 px
defects      the detector's score in repaired regions of real defects, and of good parts
speed        milliseconds and memory at 4K, references cached and not, the first use
determinism  the same bytes in fresh processes, and with another number of threads
lanes        the verdict lane beside a saturated evidence lane
weights      the net from float32, int8 and MXFP4 weights: quality and bytes
peels        putting a line's peel on, and the base without it
exposure     low light against the classical methods
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2

from pipelines.bench import describe_host
from pipelines.logs import configure_logging
from tools.twin.determinism import measure_determinism
from tools.twin.judging import Criterion, PartResult, TrialSettings
from tools.twin.lanes import measure_lanes
from tools.twin.low_light import measure_low_light
from tools.twin.peels import measure_peels
from tools.twin.real_defects import measure_defects
from tools.twin.restoring import measure_restoring
from tools.twin.sets import open_sets
from tools.twin.speed import measure_speed
from tools.twin.weights import measure_weights

PARTS: dict[str, Callable[[TrialSettings], PartResult]] = {
    "psnr": measure_restoring,
    "defects": measure_defects,
    "speed": measure_speed,
    "determinism": measure_determinism,
    "lanes": measure_lanes,
    "weights": measure_weights,
    "peels": measure_peels,
    "exposure": measure_low_light,
}
RESULT = "twin-trial.json"


def run_parts(settings: TrialSettings, names: Sequence[str], out: Path) -> list[Criterion]:
    """Print each part as it is done; write all figures; the criteria of all parts."""
    criteria: list[Criterion] = []
    results: dict[str, object] = {"host": describe_host(), "threads": settings.threads}
    for name in names:
        started = time.monotonic()
        result = PARTS[name](settings)
        seconds = round(time.monotonic() - started, 1)
        write(f"\n## {name} ({seconds:.0f} s)\n")
        for line in result.lines:
            write(line)
        criteria.extend(result.criteria)
        results[name] = {**result.figures, "seconds": seconds}
        results["criteria"] = [
            {"name": item.name, "wanted": item.wanted, "found": item.found, "met": item.met} for item in criteria
        ]
        out.mkdir(parents=True, exist_ok=True)
        (out / RESULT).write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return criteria


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def describe_criteria(criteria: Sequence[Criterion]) -> list[str]:
    """One line for each criterion, and the sum."""
    lines = [f"{item.word}: {item.name} ({item.wanted}): {item.found}" for item in criteria]
    words = [item.word for item in criteria]
    return [
        *lines,
        f"{words.count('pass')} pass, {words.count('MISS')} miss, {words.count('not measured')} not measured",
    ]


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sets", default="", help="names of data sets, by commas")
    parser.add_argument("--only", default="", help=f"parts, by commas: {', '.join(PARTS)}")
    parser.add_argument("--masks", type=int, default=100, help="masks a set")
    parser.add_argument("--defects", type=int, default=60, help="at most so many defective images a set")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each block of a timed load")
    parser.add_argument("--size", default="3840x2160", help="WIDTHxHEIGHT of the frames of timed parts")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recipes", type=Path, help="keep the fitted recipes here; what is here is not fitted again")
    parser.add_argument("--variants", type=Path, help="folder with the net's weights as f32, int8 and mxfp4")
    parser.add_argument("--peel-minutes", type=float, default=0.0, help="of training a peel for each set; needs torch")
    found = parser.parse_args(arguments)
    unknown = [name for name in split_names(found.only) if name not in PARTS]
    if unknown:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if re.fullmatch(r"\d+x\d+", found.size) is None:
        parser.error(f"a size is WIDTHxHEIGHT, not {found.size!r}")
    if not found.folder.is_dir():
        parser.error(f"{found.folder} is not a folder")
    return found


def split_names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def main(arguments: Sequence[str]) -> None:
    found = parse(arguments)
    configure_logging(json_lines=False, level=logging.WARNING)
    cv2.setNumThreads(found.threads)
    with tempfile.TemporaryDirectory(prefix="twin-trial-") as work:
        recipes = found.recipes or Path(work) / "data"
        settings = TrialSettings(
            sets=open_sets(found.folder, split_names(found.sets), recipes, found.threads),
            work=Path(work),
            masks=found.masks,
            defects=found.defects,
            seconds=found.seconds,
            seed=found.seed,
            size=(int(found.size.partition("x")[0]), int(found.size.partition("x")[2])),
            threads=found.threads,
            variants=found.variants,
            peel_minutes=found.peel_minutes,
            say=lambda line: write(f"… {line}"),
        )
        if not settings.sets:
            raise SystemExit(f"{found.folder} holds no data set with train/good and test/good")
        host = describe_host()
        write(f"{host['cpu']}, {host['cores']} cores, {found.threads} threads, seed {found.seed}")
        criteria = run_parts(settings, split_names(found.only) or list(PARTS), found.out)
    write("")
    for line in describe_criteria(criteria):
        write(line)


if __name__ == "__main__":
    main(sys.argv[1:])
