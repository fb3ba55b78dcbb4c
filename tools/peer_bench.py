"""What a 4K frame costs here and with the nets of the field, in one run on one host, as ratios.

    python -m tools.peer_bench [--size 3840x2160] [--regions 8]

Ours is the whole scoring of a decoded frame (registration, screen, full-resolution tiles, thresholds) with a recipe
fitted by default. A peer is its net alone, at native resolution: its comparison with what was learned, its upsampling
and its thresholds would come on top. `sliced` runs ResNet-18 on 640-px slices with a fifth of overlap, the way that
slicing libraries run a detector over a large frame. Every row uses the same two threads; of three runs the best.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inspector.detector.recipe_store import RecipeStore
from inspector.images import decode_image
from inspector.scenes.renderer import write_good_images
from pipelines.bench import describe_host, make_frames
from pipelines.fit import fit_recipe
from tools.peer_nets import PEERS, resnet18_padim

THREADS = 2
RUNS = 3
SLICE_PX, OVERLAP = 640, 0.2


def best_of(runs: int, work: Callable[[], object]) -> float:
    """Seconds of the fastest run."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def open_net(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def slices(width: int, height: int) -> list[tuple[int, int]]:
    """Left top corners of the slices that cover a frame."""
    step = round(SLICE_PX * (1 - OVERLAP))

    def starts(length: int) -> list[int]:
        return sorted({min(at, max(0, length - SLICE_PX)) for at in range(0, max(1, length - SLICE_PX + step), step)})

    return [(x, y) for y in starts(height) for x in starts(width)]


def score_seconds(width: int, height: int, regions: int) -> float:
    """Seconds of one scored frame of ours: the median of all distinct frames, each the best of its runs."""
    with tempfile.TemporaryDirectory(prefix="peer-bench-") as folder:
        work = Path(folder)
        write_good_images(work / "good", "board", 20, 20, width, height)
        fit_recipe("bench", work / "good", work / "data")
        scorer = RecipeStore(work / "data").load("bench").scorer(threads=THREADS)
    frames = [decode_image(content) for content in make_frames(width, height, regions)]
    return float(np.median([best_of(RUNS, partial(scorer.score_frame, frame)) for frame in frames]))


def run_sliced(session: onnxruntime.InferenceSession, image: NDArray[np.float32]) -> None:
    for x, y in slices(image.shape[3], image.shape[2]):
        cut = np.ascontiguousarray(image[:, :, y : y + SLICE_PX, x : x + SLICE_PX])
        session.run(None, {"image": cut})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--regions", type=int, default=8, help="suspicious tiles a frame")
    arguments = parser.parse_args()
    width, height = (int(side) for side in arguments.size.split("x"))
    ours = score_seconds(width, height, arguments.regions)
    image = np.random.default_rng(1).normal(0, 1, (1, 3, height, width)).astype(np.float32)
    write = sys.stdout.write
    host = describe_host()
    write(f"{width}x{height}, {THREADS} threads, {host['cpu']}, {host['cores']} cores\n\n")
    write("| what runs on a decoded frame | ms | times ours |\n|---|---|---|\n")
    write(f"| ours, {arguments.regions} suspicious tiles, everything | {1000 * ours:.0f} | 1 |\n")
    sliced = open_net(resnet18_padim())
    rows: list[tuple[str, Callable[[], object]]] = [
        (f"ResNet-18 sliced ({len(slices(width, height))} slices)", partial(run_sliced, sliced, image))
    ]
    for name, build in PEERS.items():
        session = open_net(build())
        rows.append((name, partial(session.run, None, {"image": image})))
    for name, work in rows:
        seconds = best_of(RUNS if name.startswith("ResNet") else 1, work)
        write(f"| {name}, net alone | {1000 * seconds:.0f} | {seconds / ours:.1f} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
