"""The verdict lane beside a cloud that fails all the time, and without any: latency to the committed verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from inspector.config import PlantConfig
from inspector.scenes.renderer import write_good_images
from inspector.store.database import Database
from pipelines.bench import OFFERED_FRAMES_PER_S, WARM_UP_FRAMES, make_frames, run_lane
from pipelines.child_process import CLOUD_NICENESS
from pipelines.fit import fit_recipe
from tests.cloud.audit_trial import TrialAudit
from tests.cloud.faulty_servers import FaultyReceiver
from tests.cloud.trial_clock import TrialClock
from tests.cloud_fakes.webhook import SECRET

STATION = "plant/line1/lane"
WIDTH_PX, HEIGHT_PX = 1280, 720
SPOTS = 4
BLOCK_S = 12.0
DRAWS = 2000
"""Of the bootstrap: pairs of blocks are drawn with replacement."""


@dataclass(frozen=True)
class Spread:
    """A ratio and the interval that holds 95 % of what other pairs of blocks would have given."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f} ({self.low:.2f} to {self.high:.2f})"


def compare_lanes(work: Path, pairs: int, audit: TrialAudit, say: Callable[[str], None]) -> None:
    """p99 of the committed verdict with the cloud off and failing, in `pairs` pairs of short blocks, order by turns.

    What a busy host does to one block it does to its neighbour, so that pairs are compared and drawn. The blocks
    without a cloud against each other, in the same way, say how much of the ratio is noise.
    """
    work.mkdir(parents=True)
    good = work / "good"
    write_good_images(good, "board", 20, 12, WIDTH_PX, HEIGHT_PX)
    fit_recipe("board", good, work / "data")
    frames = make_frames(WIDTH_PX, HEIGHT_PX, SPOTS)
    blocks: dict[str, list[list[float]]] = {"off": [], "failing": []}
    with FaultyReceiver() as receiver:
        receiver.expect(Random(1))
        receiver.storm = True  # nothing but 429
        for pair in range(pairs):
            for mode in ("off", "failing") if pair % 2 == 0 else ("failing", "off"):
                config = _config(receiver.port, send="frames" if mode == "failing" else "none")
                with _cloud_beside(work / f"pair{pair}", config, work / "data", mode == "failing"):
                    parts = run_lane(config, work / "data", STATION, frames, BLOCK_S, OFFERED_FRAMES_PER_S)
                blocks[mode].append([part.latency_ms for part in parts[WARM_UP_FRAMES:]])
            off, failing = (np.percentile(blocks[mode][-1], [50, 99]) for mode in ("off", "failing"))
            say(
                f"verdict lane, pair {pair + 1}: p50 {off[0]:.0f} ms without and {failing[0]:.0f} ms beside a failing "
                f"cloud, p99 {off[1]:.0f} and {failing[1]:.0f} ms"
            )
        asked = receiver.injected["429"]
    effect = compare_p99(blocks["off"], blocks["failing"])
    noise = compare_p99(blocks["off"][0::2], blocks["off"][1::2])
    for mode, found in blocks.items():
        audit.counts[f"lane p99, cloud {mode}"] = f"{p99_of(found):.0f} ms of {sum(map(len, found))} parts"
    audit.counts["p99 failing / off"] = f"{effect} in {pairs} pairs"
    audit.counts["p99 off / off"] = str(noise)
    audit.counts["requests refused meanwhile"] = asked
    audit.require("the cloud was asked while the lane was measured", asked > 0, True)
    audit.require("p99 beside a failing cloud within noise", effect.low <= max(1.0, noise.high), True)


def p99_of(blocks: Sequence[Sequence[float]]) -> float:
    """Of all parts of these blocks together, in ms."""
    return float(np.percentile(np.concatenate(blocks), 99))


def compare_p99(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> Spread:
    """p99 of `other` over that of `one`; the n-th block of each belong together."""
    count = min(len(one), len(other))
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(DRAWS):
        drawn = rng.integers(count, size=count)
        ratios.append(p99_of([other[index] for index in drawn]) / p99_of([one[index] for index in drawn]))
    low, high = np.percentile(ratios, [2.5, 97.5])
    return Spread(p99_of(other[:count]) / p99_of(one[:count]), float(low), float(high))


@contextmanager
def _cloud_beside(work: Path, config: PlantConfig, data_dir: Path, wanted: bool) -> Iterator[None]:
    if not wanted:
        yield
        return
    work.mkdir()
    path = work / "plant.yaml"
    path.write_text(config.model_dump_json())
    clock = TrialClock.create(work / "clock.json")
    clock.jump_wall(time.time() - clock().wall_us / 1e6)
    with (work / "cloud.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cloud.process", path, data_dir, clock.path, str(CLOUD_NICENESS)],
            env={**os.environ, "TRIAL_SECRET": SECRET},
            stdout=output,
            stderr=output,
        )
        try:
            _wait_for_beat(data_dir)
            yield
        finally:
            process.terminate()
            process.wait(60)


def _wait_for_beat(data_dir: Path) -> None:
    db = Database.open(data_dir)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with db.read() as session:
                rows = session.connection().exec_driver_sql("SELECT state FROM process WHERE process = 'cloud'")
                if rows.scalar() in ("online", "degraded"):
                    return
            time.sleep(0.1)
    finally:
        db.close()
    raise RuntimeError("the cloud process beside the lane did not start")


def _config(port: int, *, send: str) -> PlantConfig:
    camera: dict[str, Any] = {"id": "memory", "kind": "simulated", "width_px": WIDTH_PX, "height_px": HEIGHT_PX}
    budget = {"requests_per_hour": 100_000, "requests_per_day": 1_000_000, "bytes_per_day": 10**12}
    cloud = {"send": send, "provider": "hook", "reuse_days": 0.0, "audit_share": 1.0, "budget": budget}
    station = {"id": "lane", "recipe": "board", "purpose": "simulated", "cameras": [camera], "cloud": cloud}
    hook = {
        "kind": "webhook",
        "name": "hook",
        "base_url": f"http://127.0.0.1:{port}/opinion",
        "secret_env": "TRIAL_SECRET",
    }
    return PlantConfig.model_validate_json(
        json.dumps(
            {
                "site": {"id": "plant"},
                "lines": [{"id": "line1", "stations": [station]}],
                "http": {"port": None},
                "cloud": {"allowed_hosts": ["127.0.0.1"], "providers": [hook]},
            }
        )
    )
