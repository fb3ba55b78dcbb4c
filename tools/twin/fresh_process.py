"""One process that loads a recipe and paints: what the first use costs, and the very bytes it gives.

    python -m tools.twin.fresh_process DATA_DIR RECIPE FRAMES.npz THREADS REPEATS METHOD,… OUT.npz

FRAMES.npz holds `pixels` and `mask`. `OUT.npz` gets the painted picture of each method, stdout one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.recipe_store import RecipeStore
from inspector.errors import InputError
from inspector.records import BgrImage
from pipelines.logs import configure_logging
from tools.twin.methods import ProductPainter

WAIT_S = 600


@dataclass(frozen=True, slots=True)
class FreshRun:
    """What one fresh process said. `pictures` holds the methods that painted, `missing` why the others did not."""

    load_ms: float
    paint_ms: dict[str, list[float]]
    missing: dict[str, str]
    sha256: dict[str, str]
    before_mb: float
    peak_mb: float
    pictures: dict[str, BgrImage]


def run_fresh(
    recipe: tuple[Path, str],
    pixels: BgrImage,
    mask: NDArray[np.bool_],
    methods: Sequence[str],
    work: Path,
    *,
    threads: int,
    repeats: int = 1,
) -> FreshRun:
    """Paint a frame in a process of its own; `recipe` is its data directory and name."""
    frames, out = work / "frames.npz", work / "painted.npz"
    np.savez(frames, pixels=pixels, mask=mask)
    arguments = [*map(str, recipe), str(frames), str(threads), str(repeats), ",".join(methods), str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "tools.twin.fresh_process", *arguments],
        check=True,
        stdout=subprocess.PIPE,
        timeout=WAIT_S,
    )
    said: dict[str, Any] = json.loads(done.stdout)
    with np.load(out) as painted:
        pictures = {name: np.asarray(painted[name], np.uint8) for name in painted.files}
    return FreshRun(**said, pictures=pictures)


def main(arguments: list[str]) -> None:
    data_dir, recipe, frames, threads, repeats, methods, out = arguments
    configure_logging(json_lines=True)
    cv2.setNumThreads(int(threads))
    with np.load(frames) as given:
        pixels, mask = given["pixels"], given["mask"]
    before_mb = read_status_mb("VmRSS")
    started = time.perf_counter()
    painter = ProductPainter(RecipeStore(Path(data_dir)).load(recipe, require_released=False), int(threads))
    load_ms = 1000 * (time.perf_counter() - started)
    paint_ms: dict[str, list[float]] = {}
    missing: dict[str, str] = {}
    pictures: dict[str, BgrImage] = {}
    for method in methods.split(","):
        for _ in range(int(repeats)):
            started = time.perf_counter()
            try:
                twin = painter.paint(pixels, mask, method)
            except InputError as error:
                missing[method] = str(error)
                break
            paint_ms.setdefault(method, []).append(1000 * (time.perf_counter() - started))
            pictures[method] = twin.pixels
    np.savez(out, **pictures)  # type: ignore[arg-type]  # numpy's stub takes the names for its own options
    said = {
        "load_ms": load_ms,
        "paint_ms": paint_ms,
        "missing": missing,
        "sha256": {name: hashlib.sha256(painted.tobytes()).hexdigest() for name, painted in pictures.items()},
        "before_mb": before_mb,
        "peak_mb": read_status_mb("VmHWM"),
    }
    sys.stdout.write(json.dumps(said) + "\n")


def read_status_mb(name: str) -> float:
    """`VmRSS` or `VmHWM` of this process."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


if __name__ == "__main__":
    main(sys.argv[1:])
