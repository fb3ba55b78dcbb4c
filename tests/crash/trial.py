"""The crash trial: kill -9 of random processes at random moments under load, then count what was lost.

    python -m tests.crash.trial [--kills 50] [--seed N] [--work FOLDER]

A real mosquitto, the real service (`inspector run`) with two stations, and a ledger (ledger.py) that shares
no code with either. Victims are the supervisor, the station, evidence and delivery processes, and mosquitto.
The trial restarts the supervisor as systemd would and mosquitto as its own unit would; the supervisor restarts
the rest. At the end everything drains, the service is stopped, and audit.py compares the ledger's book with the
database. Exit status 0 means that every count is what it must be.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil

from inspector.scenes.renderer import write_good_images
from pipelines.fit import fit_recipe
from tests.crash.audit import Audit, audit_books
from tests.mosquitto import Mosquitto
from tests.small_line import FEW_MASKS, measure_repairs_on

HERE = Path(__file__).resolve().parent
TOPIC_ROOT = "inspector/v1"
FILE_STATION, COMMAND_STATION = "crash/line1/files", "crash/line1/commands"
WIDTH_PX, HEIGHT_PX = 640, 480
FILES_PER_S, COMMANDS_PER_S = 6.0, 3.0
START_S, DRAIN_S, STOP_S = 60.0, 300.0, 60.0
PROGRESS_INSPECTIONS, PROGRESS_S = 3, 20.0
"""Between two kills this many inspections are heard, or this time passes: a service that never works proves nothing."""
VICTIMS = {"station": 8, "delivery": 4, "evidence": 3, "supervisor": 3, "broker": 4}
"""How often each is chosen, relative to the others."""

CONFIG = """\
site: {id: crash}
lines:
  - id: line1
    stations:
      - id: files
        recipe: plate
        cameras:
          - {id: top, kind: folder, path: incoming, name_pattern: "(?P<part_id>[A-Z0-9]+)", after: move,
             settle_s: 0.05, poll_s: 0.05}
      - id: commands
        recipe: board
        cameras:
          - {id: top, kind: simulated, scene: board, seed: 3, width_px: 640, height_px: 480, frames_per_s: 10,
             trigger: {kind: command}}
mqtt: {port: PORT, keepalive_s: 5, backoff_max_s: 1, historical_after_s: 1}
store: {min_free_mb: 10}
http: {port: null}
"""


class TrialError(Exception):
    """The trial itself could not be carried out."""


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TrialError(f"not within {seconds:g} s: {what}")
        time.sleep(0.05)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


# --- what takes part --------------------------------------------------------------------------------


class Service:
    """`inspector run`, restarted like a systemd unit with Restart=always."""

    def __init__(self, work: Path) -> None:
        self._work = work
        self._log = (work / "service.log").open("ab")
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self) -> None:
        command = [inspector_program(), "run", str(self._work / "station.yaml"), "--data-dir", str(self._work / "data")]
        # In the work folder, not in the repository: the installed package runs, as it would in a plant.
        self.process = subprocess.Popen(
            command, cwd=self._work, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log
        )
        self.starts += 1

    def keep_running(self) -> None:
        """What systemd does: start the supervisor again when it is gone."""
        if self.process is None or self.process.poll() is not None:
            self.start()

    def find(self, kind: str) -> list[psutil.Process]:
        """The living processes of a kind."""
        if self.process is None or self.process.poll() is not None:
            return []
        if kind == "supervisor":
            return [psutil.Process(self.process.pid)]
        found = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if kind in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    found.append(child)
            except psutil.NoSuchProcess:
                continue
        return found

    def find_survivors(self) -> list[psutil.Process]:
        """Processes of this service, whoever their parent is now."""
        config = str(self._work / "station.yaml")
        return [process for process in psutil.process_iter(["cmdline"]) if config in (process.info["cmdline"] or [])]

    def count_survivors(self) -> int:
        """Those left when even the children of a killed supervisor had the time to stop in order."""
        deadline = time.monotonic() + STOP_S
        while (left := len(self.find_survivors())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def stop(self) -> int:
        """SIGTERM to the supervisor; its exit status."""
        self.keep_running()
        if self.process is None:
            raise TrialError("the service does not run")
        time.sleep(1.0)
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise TrialError(f"the service did not stop within {STOP_S:g} s") from error

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        for survivor in self.find_survivors():
            survivor.kill()
        self._log.close()


class LedgerProcess:
    """ledger.py at the other end of a pipe."""

    def __init__(self, work: Path, port: int, seed: int) -> None:
        options = {
            "port": port,
            "topic-root": TOPIC_ROOT,
            "command-station": COMMAND_STATION,
            "folder": work / "incoming",
            "pictures": work / "pictures",
            "book": work / "book.db",
            "seed": seed,
            "files-per-s": FILES_PER_S,
            "commands-per-s": COMMANDS_PER_S,
        }
        arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [sys.executable, HERE / "ledger.py", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, order: str) -> dict[str, Any]:
        if self._process.stdin is None or self._process.stdout is None:
            raise TrialError("the ledger has no pipes")
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise TrialError("the ledger died")
        status: dict[str, Any] = json.loads(line)
        return status

    def is_connected(self) -> bool:
        return bool(self.ask("status")["connected"])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def inspector_program() -> str:
    return str(Path(sys.executable).with_name("inspector"))


# --- preparation ------------------------------------------------------------------------------------


def draw_plate(number: int, *, is_defective: bool) -> bytes:
    """A plate with holes on a dark table, as JPEG; a defect is a dark blot."""
    rng = np.random.default_rng([11, number])
    picture = np.full((HEIGHT_PX, WIDTH_PX, 3), 45, np.uint8)
    cv2.rectangle(picture, (120, 90), (520, 390), (172, 166, 160), -1)
    for x, y in ((180, 150), (460, 150), (180, 330), (460, 330)):
        cv2.circle(picture, (x, y), 24, (60, 60, 60), -1, cv2.LINE_AA)
    cv2.putText(picture, "B12", (250, 260), cv2.FONT_HERSHEY_SIMPLEX, 2.0, (90, 90, 90), 4, cv2.LINE_AA)
    if is_defective:
        cv2.circle(picture, (int(rng.integers(220, 420)), 190), 18, (30, 30, 35), -1, cv2.LINE_AA)
    noisy = picture.astype(np.float32) * rng.uniform(0.98, 1.02) + rng.normal(0, 2, picture.shape)
    return bytes(cv2.imencode(".jpg", np.clip(noisy, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])[1])


def prepare(work: Path, port: int) -> None:
    """Pictures, two fitted recipes and the configuration."""
    for name in ("incoming", "pictures", "good-plates", "good-boards"):
        (work / name).mkdir()
    for number in range(12):
        (work / "good-plates" / f"{number:03d}.jpg").write_bytes(draw_plate(1000 + number, is_defective=False))
    for number in range(40):
        (work / "pictures" / f"{number:03d}.jpg").write_bytes(draw_plate(number, is_defective=number % 10 == 0))
    write_good_images(work / "good-boards", "board", 3, 12, WIDTH_PX, HEIGHT_PX)
    with measure_repairs_on(FEW_MASKS):
        for recipe, folder in (("plate", "good-plates"), ("board", "good-boards")):
            fit_recipe(recipe, work / folder, work / "data")
    (work / "station.yaml").write_text(CONFIG.replace("PORT", str(port)))


# --- the trial --------------------------------------------------------------------------------------


@dataclass
class Trial:
    """One run: who was killed, and the parts on stage."""

    work: Path
    random: random.Random
    broker: Mosquitto
    service: Service
    ledger: LedgerProcess
    killed: Counter[str] = field(default_factory=Counter)

    def kill_many(self, kills: int) -> None:
        """Kill `kills` processes, each while the ledger issues triggers."""
        names, weights = list(VICTIMS), list(VICTIMS.values())
        # Each kind once, so that the short trial has them all; then at random.
        order = self.random.sample(names, len(names)) + self.random.choices(names, weights, k=kills)
        for number, kind in enumerate(order[:kills], start=1):
            self._see_progress()
            self._live_for(self.random.expovariate(1 / 0.8))
            pid = self._kill_broker() if kind == "broker" else self._kill_process(kind)
            self.killed[kind] += 1
            say(f"kill {number:3d}/{kills}: {kind} (pid {pid})")

    def drain(self) -> None:
        """No new triggers; wait until the service owes nothing to anybody."""
        self.ledger.ask("quiet")
        wait_until(self._is_drained, DRAIN_S, "every trigger is inspected and every message delivered")

    def _is_drained(self) -> bool:
        self.service.keep_running()
        files_left = any(path.is_file() for path in (self.work / "incoming").iterdir())
        owed = Audit.count_owed(self.work / "data" / "inspector.db")
        return not files_left and owed == 0 and self.ledger.ask("status")["unanswered"] == 0

    def _live_for(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.service.keep_running()
            time.sleep(min(0.05, max(0.0, deadline - time.monotonic())))

    def _see_progress(self) -> None:
        deadline = time.monotonic() + PROGRESS_S
        wanted = self.ledger.ask("status")["inspections"] + PROGRESS_INSPECTIONS
        while time.monotonic() < deadline and self.ledger.ask("status")["inspections"] < wanted:
            self._live_for(0.1)

    def _kill_process(self, kind: str) -> int:
        """Kill one process of a kind; one that died before is given the time to come back."""
        deadline = time.monotonic() + START_S
        while not (candidates := self.service.find(kind)):
            if time.monotonic() > deadline:
                raise TrialError(f"no {kind} process came back within {START_S:g} s")
            self._live_for(0.05)
        victim = self.random.choice(candidates)
        if kind != "supervisor":
            # A process that has only just started holds nothing; let it live for a moment.
            self._live_for(max(0.0, self.random.uniform(0.0, 1.0) - (time.time() - victim.create_time())))
        victim.kill()
        return victim.pid

    def _kill_broker(self) -> int:
        wait_until(self.ledger.is_connected, START_S, "the ledger is connected")
        pid = self.broker.pid
        self.broker.kill()
        self._live_for(self.random.uniform(0.1, 1.5))
        self.broker.start()
        return pid


def run_trial(work: Path, kills: int, seed: int) -> Audit:
    broker = Mosquitto(work / "broker", extra_lines=("autosave_interval 1", "autosave_on_changes true"))
    service = Service(work)
    ledger: LedgerProcess | None = None
    try:
        broker.start()
        say("teaching two recipes ...")
        prepare(work, broker.port)
        ledger = LedgerProcess(work, broker.port, seed)
        wait_until(ledger.is_connected, START_S, "the ledger subscribes")
        broker.save()
        service.start()
        trial = Trial(work, random.Random(seed), broker, service, ledger)
        ledger.ask("issue")
        wait_until(lambda: trial.ledger.ask("status")["inspections"] >= 5, START_S, "the first inspections are heard")
        began = time.monotonic()
        trial.kill_many(kills)
        trial.drain()
        seconds = time.monotonic() - began
        status = service.stop()
        time.sleep(0.5)
        ledger.ask("exit")
        killed = ", ".join(f"{count} {kind}" for kind, count in sorted(trial.killed.items()))
        say(f"\n{kills} kills in {seconds:.0f} s ({killed}); the supervisor was started {service.starts} times\n")
        audit = audit_books(work / "book.db", work / "data", (FILE_STATION, COMMAND_STATION))
        audit.require("exit status of the stopped service", status, 0)
        audit.require("processes that outlived the service", service.count_survivors(), 0)
        return audit
    finally:
        if ledger is not None:
            ledger.kill()
        service.kill()
        broker.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--work", type=Path, default=None, help="folder to keep; default: a temporary one")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    work = (options.work or Path(tempfile.mkdtemp(prefix="crash-trial-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    say(f"crash trial: {options.kills} kills, seed {seed}, folder {work}")
    try:
        audit = run_trial(work, options.kills, seed)
    except (TrialError, RuntimeError) as error:
        say(f"the trial could not be carried out: {error}; see {work}")
        return 2
    say(audit.render())
    if audit.has_failed():
        say(f"FAILED; see {work}")
        return 1
    if options.work is None:
        shutil.rmtree(work)
    say("nothing was lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
