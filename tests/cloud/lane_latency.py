"""The verdict lane beside a cloud that fails all the time, and without any: latency to the committed verdict."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from inspector.cameras.camera import Camera
from inspector.config import CameraConfig, PlantConfig
from inspector.records import Inspection
from inspector.scenes.renderer import write_good_images
from inspector.store.database import Database
from pipelines.bench import MemoryCamera, make_frames
from pipelines.child_process import CLOUD_NICENESS
from pipelines.fit import fit_recipe
from pipelines.run_station import run_station
from tests.cloud.audit_trial import TrialAudit
from tests.cloud.receiver import TrialReceiver
from tests.cloud.trial_clock import TrialClock
from tests.cloud_fakes.webhook import SECRET

STATION = "plant/line1/lane"
WIDTH_PX, HEIGHT_PX = 1280, 720
FRAMES_PER_S = 4.0
SPOTS = 4
WARM_UP = 5
MODES = ("off", "failing", "off", "failing")


def compare_lanes(work: Path, seconds: float, audit: TrialAudit, say: Callable[[str], None]) -> None:
    """p99 of each run; the difference between the modes against that between runs of one mode."""
    work.mkdir(parents=True)
    good = work / "good"
    write_good_images(good, "board", 20, 12, WIDTH_PX, HEIGHT_PX)
    fit_recipe("board", good, work / "data")
    frames = make_frames(WIDTH_PX, HEIGHT_PX, SPOTS)
    found: dict[str, list[dict[str, float]]] = {"off": [], "failing": []}
    asked = 0
    with TrialReceiver(Random(1)) as receiver:
        receiver.storm = True  # nothing but 429
        for number, mode in enumerate(MODES):
            config = _config(receiver.port, send="frames" if mode == "failing" else "none")
            with _cloud_beside(work / f"run{number}", config, work / "data", mode == "failing"):
                latencies = _run_lane(config, work / "data", frames, seconds)
            percentiles = np.percentile(latencies, [50, 99])
            found[mode].append({"p50": float(percentiles[0]), "p99": float(percentiles[1])})
            shown = ", ".join(f"{name} {value:.0f} ms" for name, value in found[mode][-1].items())
            say(f"verdict lane, cloud {mode}: {shown} over {len(latencies)} parts")
        asked = receiver.injected["429"]
    p99 = {mode: [run["p99"] for run in runs] for mode, runs in found.items()}
    noise = max(abs(runs[0] - runs[1]) for runs in p99.values())
    difference = float(np.mean(p99["failing"]) - np.mean(p99["off"]))
    for mode, runs in p99.items():
        audit.counts[f"lane p99, cloud {mode}"] = "/".join(f"{value:.0f}" for value in runs) + " ms"
    audit.counts["lane p99 within noise"] = f"{difference:+.0f} ms of ±{noise:.0f} ms: {difference <= noise}"
    audit.counts["requests refused meanwhile"] = asked
    audit.require("the cloud was asked while the lane was measured", asked > 0, True)


def _run_lane(config: PlantConfig, data_dir: Path, frames: list[bytes], seconds: float) -> list[float]:
    latencies: list[float] = []

    def on_commit(inspection: Inspection, commit_ms: float) -> None:
        latencies.append(inspection.timings_ms["capture_to_decision"] + commit_ms)

    def memory_camera(settings: CameraConfig, identity_state: object, has_closed: object) -> Camera:
        return MemoryCamera(settings, frames, seconds, FRAMES_PER_S)

    run_station(config, data_dir, STATION, threading.Event(), camera_factory=memory_camera, on_commit=on_commit)
    return latencies[WARM_UP:]


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
