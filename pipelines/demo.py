"""`inspector demo`: the whole line on this machine, by the very service that runs in a factory.

A simulated 4K line makes good and bad parts; `inspector run` inspects them; a subscriber listens over MQTT;
in the middle the network cable to the broker is pulled for a few seconds. At the end the three ledgers are
compared (what the line made, what the database holds, what the subscriber received) and a report is written. With
`--cloud` the station asks for second opinions, and the audit log of what left is verified.
"""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from inspector.config import load_config
from inspector.errors import InspectorError
from inspector.records import VerdictKind
from inspector.scenes.renderer import write_good_images
from inspector.store.database import Database
from inspector.store.inspections import VerdictCounts, count_verdicts, recent_inspections
from inspector.store.stored import StoredInspection
from pipelines.demo_cloud import SECRET_ENV, CloudOutcome, DemoOracle, cloud_section, settle_cloud, station_rules
from pipelines.demo_network import Cable, Subscriber, demo_broker
from pipelines.fit import fit_recipe
from pipelines.report import write_report

RECIPE = "demo-board"
STATION = "demo/line1/final"
SCENE = "board"
SEED = 7
GOOD_IMAGES = 20
WIDTH_PX, HEIGHT_PX = 3840, 2160
PART_SCALE_MM = 120.0
"""Width of what the simulated camera sees."""
DEFECT_RATE = 0.3
FRAMES_PER_S = 4.0
PULLED_S = 4.0
SILENCE_S = 90.0
ALARMS = frozenset({VerdictKind.NG, VerdictKind.REVIEW})
WORK_FOLDERS = ("data", "good")


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What happened, in numbers. `lost` counts accepted parts whose verdict the subscriber never received."""

    parts: int
    good_parts: int
    defective_parts: int
    caught: int
    missed: int
    overkill: int
    good_to_review: int
    caught_by_kind: dict[str, str]
    verdicts: dict[str, int]
    latency_ms: dict[str, float]
    messages: dict[str, int]
    sent_while_reconnecting: int
    repeated: int
    lost: int
    evidence: int
    fit_s: float
    seconds: float
    size: str
    broker: str
    report: str
    cloud: CloudOutcome | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; `cloud` only where it was asked."""
        values = asdict(self)
        if self.cloud is None:
            del values["cloud"]
        return values

    def show(self, console: Console) -> None:
        """The table at the end of the demo."""
        table = Table(title="What happened", title_justify="left", show_header=False)
        verdicts = ", ".join(f"{count} {verdict}" for verdict, count in self.verdicts.items() if count)
        for name, value in (
            ("parts inspected", f"{self.parts} at {self.size}: {verdicts}"),
            ("defective parts", f"{self.defective_parts}: {self.caught} caught (NG or REVIEW), {self.missed} missed"),
            ("by defect", ", ".join(f"{kind} {count}" for kind, count in self.caught_by_kind.items())),
            (
                "good parts",
                f"{self.good_parts}: {self.overkill} called NG (overkill), {self.good_to_review} sent to review",
            ),
            ("verdict latency", f"p50 {self.latency_ms['p50']:.0f} ms, p95 {self.latency_ms['p95']:.0f} ms"),
            ("recipe", f"learned from {GOOD_IMAGES} good photographs in {self.fit_s:.0f} s"),
            ("messages", ", ".join(f"{count} {kind}" for kind, count in sorted(self.messages.items()))),
            (
                f"broker away for {PULLED_S:.0f} s",
                f"{self.sent_while_reconnecting} verdicts waited in the database; {self.lost} lost, "
                f"{self.repeated} repeated",
            ),
            *(self.cloud.rows() if self.cloud is not None else ()),
            ("report", self.report),
        ):
            table.add_row(name, value)
        console.print(table)


def run_demo(
    out: Path, parts: int, *, quiet: bool, cloud: bool = False, size: tuple[int, int] = (WIDTH_PX, HEIGHT_PX)
) -> DemoOutcome:
    """Run the demo into the folder `out`; raises `InspectorError` when the line falls silent or a count is off."""
    started = time.monotonic()
    out = out.resolve()
    _clear(out)
    with (
        demo_broker(out) as (broker, broker_port),
        Subscriber(broker_port, f"inspector/v1/{STATION}") as subscriber,
        DemoOracle(out / "data") if cloud else nullcontext() as oracle,
        _progress(quiet) as progress,
    ):
        fit_s = _teach(out, size, progress)
        cable = Cable(broker_port)
        config_path = write_demo_config(out, cable.port, parts, size, oracle)
        waited = _run_line(out, config_path, cable, subscriber, parts, progress, oracle)
    config = load_config(config_path)
    asked = settle_cloud(config, out / "data", out / "cloud.html") if cloud else None
    summary = write_report(config, out / "data", out / "report.html", None, None)
    db = Database.open(out / "data")
    try:
        outcome = _settle_accounts(
            recent_inspections(db, STATION, limit=parts),
            count_verdicts(db, STATION),
            subscriber,
            fit_s=fit_s,
            seconds=time.monotonic() - started,
            size=f"{size[0]}x{size[1]}",
            broker=broker,
            report=str(summary.path),
            waited=waited,
            cloud=asked,
        )
    finally:
        db.close()
    if outcome.lost or outcome.parts != parts:
        raise InspectorError(
            f"{parts} parts were made, {outcome.parts} verdicts stored, {outcome.lost} of them never received; "
            f"see {out / 'service.log'}"
        )
    return outcome


def _clear(out: Path) -> None:
    """Remove what an earlier demo left; nothing else in the folder is touched."""
    out.mkdir(parents=True, exist_ok=True)
    for name in WORK_FOLDERS:
        shutil.rmtree(out / name, ignore_errors=True)


def _progress(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )


def _teach(out: Path, size: tuple[int, int], progress: Progress) -> float:
    """Photograph good parts and learn the recipe from them; seconds of the fit."""
    photographing = progress.add_task("photographing good parts", total=GOOD_IMAGES)
    write_good_images(
        out / "good", SCENE, SEED, GOOD_IMAGES, *size, on_image=lambda path: progress.advance(photographing)
    )
    learning = progress.add_task("learning what good looks like", total=1)
    started = time.monotonic()
    fit_recipe(RECIPE, out / "good", out / "data")
    progress.advance(learning)
    return time.monotonic() - started


def write_demo_config(out: Path, port: int, parts: int, size: tuple[int, int], oracle: DemoOracle | None) -> Path:
    """The demo's YAML; with an oracle its station asks for second opinions."""
    camera = {
        "id": "top",
        "kind": "simulated",
        "scene": SCENE,
        "seed": SEED,
        "parts": parts,
        "frames_per_s": FRAMES_PER_S,
        "defect_rate": DEFECT_RATE,
        "lot_size": 20,
        "width_px": size[0],
        "height_px": size[1],
        "mm_per_px": round(PART_SCALE_MM / size[0], 6),
        "calibration_id": "simulated",
    }
    station: dict[str, Any] = {
        "id": "final",
        "name": "Final inspection",
        "recipe": RECIPE,
        "purpose": "simulated",
        "deadline_ms": 2000,
        "cameras": [camera],
    }
    config: dict[str, Any] = {
        "site": {"id": "demo", "name": "Demo plant"},
        "lines": [{"id": "line1", "name": "Line 1", "stations": [station]}],
        "mqtt": {"port": port, "backoff_max_s": 1, "historical_after_s": 2},
        "http": {"port": None},
    }
    if oracle is not None:
        station["cloud"] = station_rules(size)
        config["cloud"] = cloud_section(oracle.url)
    path = out / "demo.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def _run_line(
    out: Path,
    config_path: Path,
    cable: Cable,
    subscriber: Subscriber,
    parts: int,
    progress: Progress,
    oracle: DemoOracle | None,
) -> int:
    """Run the service until the line has made its parts; pull the cable in the middle. How many verdicts waited."""
    cable.plug()
    command = [sys.executable, "-m", "pipelines.command_line", "run", str(config_path), "--data-dir", str(out / "data")]
    inspecting = progress.add_task("inspecting parts", total=parts)
    if oracle is not None:
        os.environ[SECRET_ENV] = oracle.secret  # the service inherits it
    with (out / "service.log").open("wb") as output:
        service = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        try:
            _follow(service, subscriber, parts // 2, progress, inspecting)
            before = len(subscriber.inspections)
            cable.pull()
            progress.update(inspecting, description="inspecting parts, broker away")
            time.sleep(PULLED_S)
            waited = _count_stored(out) - before
            cable.plug()
            progress.update(inspecting, description="inspecting parts")
            _follow(service, subscriber, parts, progress, inspecting)
            progress.update(inspecting, description="finishing the pictures")
            service.wait(SILENCE_S)
        except subprocess.TimeoutExpired as error:
            raise InspectorError(f"the service did not end; see {out / 'service.log'}") from error
        finally:
            if service.poll() is None:
                service.terminate()
                service.wait(30)
            cable.pull()
    progress.update(inspecting, description="inspecting parts")
    return max(0, waited)


def _follow(
    service: subprocess.Popen[bytes], subscriber: Subscriber, target: int, progress: Progress, task: TaskID
) -> None:
    """Wait until the subscriber has seen `target` inspections."""
    last = time.monotonic()
    while len(subscriber.inspections) < target:
        try:
            subscriber.events.get(timeout=0.2)
            last = time.monotonic()
        except queue.Empty:
            if service.poll() is not None and subscriber.events.empty() and time.monotonic() - last > 2:
                raise InspectorError(f"the service ended early with status {service.returncode}") from None
            if time.monotonic() - last > SILENCE_S:
                raise InspectorError(f"no message for {SILENCE_S:.0f} s") from None
        progress.update(task, completed=len(subscriber.inspections))


def _count_stored(out: Path) -> int:
    db = Database.open(out / "data")
    try:
        counts = count_verdicts(db, STATION)
        return counts.triggers - counts.pending
    finally:
        db.close()


def _settle_accounts(
    made: list[StoredInspection],
    counts: VerdictCounts,
    subscriber: Subscriber,
    *,
    fit_s: float,
    seconds: float,
    size: str,
    broker: str,
    report: str,
    waited: int,
    cloud: CloudOutcome | None,
) -> DemoOutcome:
    defective = [part for part in made if _kinds(part)]
    good = [part for part in made if not _kinds(part)]
    caught = [part for part in defective if part.kind in ALARMS]
    by_kind = Counter(kind for part in defective for kind in _kinds(part))
    caught_by_kind = Counter(kind for part in caught for kind in _kinds(part))
    latencies = [part.timings_ms["capture_to_decision"] for part in made if "capture_to_decision" in part.timings_ms]
    return DemoOutcome(
        parts=counts.triggers,
        good_parts=len(good),
        defective_parts=len(defective),
        caught=len(caught),
        missed=len(defective) - len(caught),
        overkill=sum(part.kind is VerdictKind.NG for part in good),
        good_to_review=sum(part.kind is VerdictKind.REVIEW for part in good),
        caught_by_kind={kind: f"{caught_by_kind[kind]}/{count}" for kind, count in sorted(by_kind.items())},
        verdicts={"OK": counts.ok, "NG": counts.ng, "REVIEW": counts.review, "NOT_INSPECTED": counts.not_inspected},
        latency_ms={f"p{q}": float(np.percentile(latencies, q)) for q in (50, 95, 99)},
        messages=dict(subscriber.messages),
        sent_while_reconnecting=waited,
        repeated=subscriber.repeated,
        lost=len({part.inspection_id for part in made} - subscriber.inspections.keys()),
        evidence=len(subscriber.evidence),
        fit_s=fit_s,
        seconds=seconds,
        size=size,
        broker=broker,
        report=report,
        cloud=cloud,
    )


def _kinds(part: StoredInspection) -> list[str]:
    """The kinds of defect that the simulated line put on a part."""
    return sorted({defect["kind"] for defect in (part.truth or {}).get("defects", [])})
