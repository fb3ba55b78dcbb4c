"""`inspector bench`: JPEG in memory → committed verdict on this machine, by the very code that runs in production.

Two loads after one fit: as many frames as the lane takes (`frames_per_s`), then 5 frames/s offered
(`verdict_latency_ms`, from the moment the frame is handed over to the return of the commit).
"""

from __future__ import annotations

import itertools
import multiprocessing
import platform
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import psutil

from inspector.cameras.camera import Camera, CapturedFrame
from inspector.clock import utc_now_us
from inspector.config import CameraConfig, LineConfig, PlantConfig, SimulatedCamera, SiteConfig, StationConfig
from inspector.images import encode_jpeg
from inspector.records import BgrImage, CameraHealth, Inspection, PartIdSource, Purpose
from inspector.scenes.renderer import SceneRenderer, write_good_images
from pipelines.fit import fit_recipe
from pipelines.run_station import run_station

RECIPE = "bench"
STATION = "bench/line/station"
SCENE: Literal["board"] = "board"
SEED = 20
GOOD_IMAGES = 20
DISTINCT_FRAMES = 12
MIN_JPEG_BYTES = 2_000_000
OFFERED_FRAMES_PER_S = 5.0
WARM_UP_FRAMES = 5


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What `bench --json` says; the names are part of the command line's contract."""

    size: str
    frames: int
    frames_per_s: float
    verdict_latency_ms: dict[str, float]
    commit_ms: dict[str, float]
    stages_ms: dict[str, float]
    cpu_s_per_frame: float
    peak_memory_mb: float
    written_mb_per_h: float
    jpeg_mb: float
    suspicious_tiles: int
    detections_per_frame: float
    fit_s: float
    host: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CommittedPart:
    """A part of a load: its inspection, what the commit took, and when it was over."""

    inspection: Inspection
    commit_ms: float
    monotonic_s: float

    @property
    def latency_ms(self) -> float:
        """From the moment the frame is handed over to the return of the commit."""
        return self.inspection.timings_ms["capture_to_decision"] + self.commit_ms


@dataclass(frozen=True, slots=True)
class _Load:
    """What one load measured; `latencies_ms` and `commits_ms` leave the first frames out."""

    frames: int
    elapsed_s: float
    cpu_s: float
    written_mb: float
    latencies_ms: list[float]
    commits_ms: list[float]
    stages_ms: dict[str, float]
    detections_per_frame: float


def run_bench(width_px: int, height_px: int, seconds: float, regions: int, data_dir: Path | None) -> BenchReport:
    """Fit a recipe by default settings, make the frames, run both loads; everything is removed afterwards."""
    with _work_dir(data_dir) as work:
        # In a process of its own, so that the memory measured is that of the verdict lane.
        with multiprocessing.get_context("spawn").Pool(1) as preparing:
            fit_s = preparing.apply(_prepare, (work, width_px, height_px, regions))
        jpegs = [path.read_bytes() for path in sorted((work / "frames").iterdir())]
        sustained = _run_load(work / "data", jpegs, width_px, height_px, seconds, None)
        offered = _run_load(work / "data", jpegs, width_px, height_px, seconds, OFFERED_FRAMES_PER_S)
    return BenchReport(
        size=f"{width_px}x{height_px}",
        frames=sustained.frames,
        frames_per_s=sustained.frames / sustained.elapsed_s,
        verdict_latency_ms=_percentiles(offered.latencies_ms),
        commit_ms=_percentiles(offered.commits_ms),
        stages_ms=offered.stages_ms,
        cpu_s_per_frame=sustained.cpu_s / sustained.frames,
        peak_memory_mb=_peak_memory_mb(),
        written_mb_per_h=offered.written_mb / offered.elapsed_s * 3600,
        jpeg_mb=sum(map(len, jpegs)) / len(jpegs) / 1e6,
        suspicious_tiles=regions,
        detections_per_frame=sustained.detections_per_frame,
        fit_s=fit_s,
        host=describe_host(),
    )


def _prepare(work: Path, width_px: int, height_px: int, regions: int) -> float:
    """Teach the recipe and write the frames; seconds of the fit."""
    write_good_images(work / "good", SCENE, SEED, GOOD_IMAGES, width_px, height_px)
    started = time.monotonic()
    fit_recipe(RECIPE, work / "good", work / "data")
    fit_s = time.monotonic() - started
    (work / "frames").mkdir()
    for number, content in enumerate(make_frames(width_px, height_px, regions)):
        (work / "frames" / f"{number:03d}.jpg").write_bytes(content)
    return fit_s


def make_frames(width_px: int, height_px: int, regions: int) -> list[bytes]:
    """JPEGs of good simulated parts with `regions` painted spots each, every one of at least 2 MB at 4K."""
    renderer = SceneRenderer(SCENE, SEED, width_px, height_px)
    smallest = MIN_JPEG_BYTES * width_px * height_px // (3840 * 2160)
    frames = []
    for number in range(DISTINCT_FRAMES):
        part = renderer.render(number + 1, defect_rate=0.0)
        frames.append(_encode_at_least(_paint_spots(part.pixels, regions, number), smallest))
    return frames


def describe_host() -> dict[str, Any]:
    """CPU model and the cores this process may use."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {"cpu": model, "cores": len(psutil.Process().cpu_affinity() or [0])}


class MemoryCamera:
    """JPEGs from memory, as fast as they are taken or at a fixed rate."""

    def __init__(self, settings: CameraConfig, jpegs: Sequence[bytes], seconds: float, rate: float | None) -> None:
        self._settings = settings
        self._jpegs = itertools.cycle(jpegs)
        self._seconds = seconds
        self._period_s = 1.0 / rate if rate else 0.0
        self._opened = self._next = 0.0

    @property
    def camera_id(self) -> str:
        return self._settings.id

    def open(self, resume_after: int) -> None:
        self._opened = self._next = time.monotonic()

    def read(self, timeout_s: float) -> CapturedFrame | None:
        pause = self._next - time.monotonic()
        if pause > 0:
            time.sleep(min(pause, timeout_s))
            if pause > timeout_s:
                return None
        self._next = max(self._next + self._period_s, time.monotonic() - 1.0)
        return CapturedFrame(
            captured_utc_us=utc_now_us(),
            captured_monotonic_ns=time.monotonic_ns(),
            encoded=next(self._jpegs),
            part_id_source=PartIdSource.NONE,
        )

    def exhausted(self) -> bool:
        return self._opened > 0 and time.monotonic() - self._opened > self._seconds

    def arm(self) -> None:
        """There is no command trigger here."""

    def settle(self, frame: CapturedFrame, *, failed: str | None) -> None:
        """Nothing to move."""

    def still_has(self, source_identity: str) -> bool:
        return False

    def take_dropped(self) -> int:
        return 0

    def health(self) -> CameraHealth:
        return CameraHealth(self.camera_id, True, None, None, 0, None, None)

    def close(self) -> None:
        """Nothing to release."""


def run_lane(
    config: PlantConfig, data_dir: Path, station: str, jpegs: Sequence[bytes], seconds: float, rate: float | None
) -> list[CommittedPart]:
    """What the verdict lane of a station commits in `seconds`, in that order, from JPEGs in memory at `rate` frames/s.

    Without a rate as many as it takes. The first few parts wait for what is loaded: see `WARM_UP_FRAMES`. Raises as
    `run_station` does.
    """
    committed: list[CommittedPart] = []

    def on_commit(inspection: Inspection, commit_ms: float) -> None:
        committed.append(CommittedPart(inspection, commit_ms, time.monotonic()))

    def memory_camera(settings: CameraConfig, identity_state: object, has_closed: object) -> Camera:
        return MemoryCamera(settings, jpegs, seconds, rate)

    run_station(config, data_dir, station, threading.Event(), camera_factory=memory_camera, on_commit=on_commit)
    return committed


def _run_load(
    data_dir: Path, jpegs: Sequence[bytes], width_px: int, height_px: int, seconds: float, rate: float | None
) -> _Load:
    process = psutil.Process()
    cpu_before, written_before = time.process_time(), _written_mb(process)
    started = time.monotonic()
    committed = run_lane(_bench_config(width_px, height_px), data_dir, STATION, jpegs, seconds, rate)
    counted = committed[WARM_UP_FRAMES:]
    first = committed[WARM_UP_FRAMES - 1].monotonic_s if rate is None else started
    stages = {
        name: float(np.median([part.inspection.timings_ms.get(name, 0.0) for part in counted]))
        for name in ("decode", "score", "keep_frame", "wait")
    }
    stages["commit"] = float(np.median([part.commit_ms for part in counted]))
    return _Load(
        frames=len(counted),
        elapsed_s=committed[-1].monotonic_s - first,
        cpu_s=time.process_time() - cpu_before,
        written_mb=_written_mb(process) - written_before,
        latencies_ms=[part.latency_ms for part in counted],
        commits_ms=[part.commit_ms for part in counted],
        stages_ms=stages,
        detections_per_frame=float(np.mean([len(part.inspection.verdict.detections) for part in counted])),
    )


def _bench_config(width_px: int, height_px: int) -> PlantConfig:
    # The settings of the camera only declare the frame; the frames come from memory.
    camera = SimulatedCamera(id="memory", width_px=width_px, height_px=height_px)
    station = StationConfig(id="station", recipe=RECIPE, purpose=Purpose.SIMULATED, cameras=(camera,))
    return PlantConfig(site=SiteConfig(id="bench"), lines=(LineConfig(id="line", stations=(station,)),))


def _paint_spots(pixels: BgrImage, regions: int, seed: int) -> BgrImage:
    """Dark and bright spots of 20 to 40 px on different cells of a grid over the middle of the frame."""
    painted = pixels.copy()
    height, width = painted.shape[:2]
    rng = np.random.default_rng([SEED, seed])
    cells = [(column, row) for row in range(1, 7) for column in range(1, 11)]
    for index in rng.permutation(len(cells))[:regions]:
        column, row = cells[index]
        centre = (int((column + 0.5) * width / 12), int((row + 0.5) * height / 8))
        shade = (20, 20, 20) if rng.random() < 0.5 else (235, 235, 235)
        cv2.circle(painted, centre, int(rng.integers(10, 21) * width / 3840) + 2, shade, -1, cv2.LINE_AA)
    return painted


def _encode_at_least(pixels: BgrImage, smallest: int) -> bytes:
    for quality in (90, 93, 95, 97, 98, 99, 100):
        encoded = encode_jpeg(pixels, quality)
        if len(encoded) >= smallest:
            break
    return encoded


def _percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)}


def _written_mb(process: psutil.Process) -> float:
    return float(process.io_counters().write_bytes) / 1e6


def _peak_memory_mb() -> float:
    """Highest resident size of this process so far (VmHWM); the fit ran in another."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return psutil.Process().memory_info().rss / 2**20


@contextmanager
def _work_dir(data_dir: Path | None) -> Iterator[Path]:
    """A folder beside the data directory (or here), so that the database lies on the disk it would lie on."""
    parent = data_dir.resolve() if data_dir is not None else Path.cwd()
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as work:
        yield Path(work)
