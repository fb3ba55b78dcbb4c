"""Part `lanes`: the verdict lane at 5 frames/s while the evidence lane has more to do than it can, and without it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from inspector.config import PlantConfig
from inspector.store.database import Database
from inspector.store.evidence import count_pending
from pipelines.bench import OFFERED_FRAMES_PER_S, WARM_UP_FRAMES, make_frames, run_lane
from tools.twin.board_recipe import BOARD, fit_board
from tools.twin.judging import DASH, Criterion, PartResult, TrialSettings, table

STATION = "trial/line/lane"
SPOTS = 8
BLOCKS = ("idle", "saturated") * 3
MOST_RATIO = 1.2
READY_S = 120
LOG = "evidence.log"


def measure_lanes(settings: TrialSettings) -> PartResult:
    """Interleaved blocks of one run: every frame is NG, and in each second block its evidence is made meanwhile."""
    data_dir = fit_board(settings)
    frames = make_frames(*settings.size, SPOTS)
    config = _config(settings.size)
    latencies: dict[str, list[list[float]]] = {"idle": [], "saturated": []}
    made, owed = 0, []
    for number, mode in enumerate(BLOCKS):
        settings.say(f"block {number + 1} of {len(BLOCKS)}: evidence {mode}")
        before = _count_owed(data_dir)
        with _evidence_beside(settings.work, config, data_dir, wanted=mode == "saturated"):
            parts = run_lane(config, data_dir, STATION, frames, settings.seconds, OFFERED_FRAMES_PER_S)
            after = _count_owed(data_dir)
        latencies[mode].append([part.latency_ms for part in parts[WARM_UP_FRAMES:]])
        if mode == "saturated":
            made += before + len(parts) - after
            owed.append(after)
    figures = sum_up_lanes(latencies) | {"evidence_made": made, "evidence_owed_after": owed}
    return PartResult(figures, describe_lanes(figures), judge_lanes(figures))


def sum_up_lanes(latencies: dict[str, list[list[float]]]) -> dict[str, Any]:
    """Percentiles of all blocks of a mode together, the p99 of each block, and the ratio of the two p99."""
    figures: dict[str, Any] = {}
    for mode, blocks in latencies.items():
        together = [value for block in blocks for value in block]
        figures[mode] = {
            "parts": len(together),
            **{f"p{q}": float(np.percentile(together, q)) for q in (50, 95, 99)},
            "p99_of_blocks": [float(np.percentile(block, 99)) for block in blocks],
        }
    return figures | {"ratio_p99": figures["saturated"]["p99"] / figures["idle"]["p99"]}


def describe_lanes(figures: dict[str, Any]) -> tuple[str, ...]:
    """One row a mode."""
    rows = []
    for mode in ("idle", "saturated"):
        found = figures[mode]
        blocks = ", ".join(f"{value:.0f}" for value in found["p99_of_blocks"])
        rows.append([mode, str(found["parts"]), *(f"{found[name]:.0f}" for name in ("p50", "p95", "p99")), blocks])
    head = ("evidence lane", "parts", "p50 ms", "p95 ms", "p99 ms", "p99 of each block")
    owed = ", ".join(map(str, figures["evidence_owed_after"]))
    note = f"- {figures['evidence_made']} evidence made meanwhile; still owed after each saturated block: {owed}"
    return (*table(head, rows), "", note)


def judge_lanes(figures: dict[str, Any]) -> tuple[Criterion, ...]:
    """The ratio, if the evidence lane really was saturated."""
    saturated = min(figures["evidence_owed_after"]) > 0 and figures["evidence_made"] > 0
    found = f"{figures['ratio_p99']:.2f} ×" if saturated else f"{DASH} (the evidence lane was not saturated)"
    met = figures["ratio_p99"] <= MOST_RATIO if saturated else None
    return (Criterion("verdict p99, evidence saturated against idle", f"≤ {MOST_RATIO} ×", found, met),)


@contextmanager
def _evidence_beside(work: Path, config: PlantConfig, data_dir: Path, *, wanted: bool) -> Iterator[None]:
    """The evidence process as the supervisor starts it."""
    if not wanted:
        yield
        return
    path = work / "lanes.yaml"
    path.write_text(config.model_dump_json(), encoding="utf-8")
    with (work / LOG).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.child_process", "evidence", path, data_dir, str(os.getpid())],
            stdout=output,
            stderr=output,
        )
        try:
            _wait_for_work(work, data_dir, process)
            yield
        finally:
            process.terminate()
            process.wait(60)


def _wait_for_work(work: Path, data_dir: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the process has made its first piece, so that loading is not what is measured."""
    first = _count_owed(data_dir)
    deadline = time.monotonic() + READY_S
    while _count_owed(data_dir) >= first and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    if _count_owed(data_dir) >= first:
        said = (work / LOG).read_text(encoding="utf-8", errors="replace")[-1500:]
        raise RuntimeError(f"the evidence process made nothing of the {first} it owed: {said}")


def _count_owed(data_dir: Path) -> int:
    db = Database.open(data_dir)
    try:
        return count_pending(db)
    finally:
        db.close()


def _config(size: tuple[int, int]) -> PlantConfig:
    camera = {"id": "memory", "kind": "simulated", "width_px": size[0], "height_px": size[1]}
    station = {"id": "lane", "recipe": BOARD, "purpose": "simulated", "cameras": [camera]}
    return PlantConfig.model_validate(
        {
            "site": {"id": "trial"},
            "lines": [{"id": "line", "stations": [station]}],
            "http": {"port": None},
            "store": {"min_free_mb": 10},
        }
    )
