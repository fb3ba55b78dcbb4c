"""The cloud trial: providers that fail in every way, kill -9 while sending, clocks that jump, a day offline.

    python -m tests.cloud_trial [--parts 1000] [--kills 25] [--seed N] [--data FOLDER] [--work FOLDER]

1. Faults: REVIEW parts of five stations are committed while the cloud process (run_escalation, in a process of its
   own) asks fakes of every provider on loopback about each: a webhook, Gemini and Vertex AI by their SDK with context
   caches that expire in mid-run, and the OpenAI protocol by its SDK. Time runs 300 times faster, so that pauses,
   budgets of hours and the day offline pass. At the end everything drains, and tests/cloud/audit_trial.py counts.
2. The verdict lane with the cloud off, and with a cloud that fails all the time, in short blocks in turns: the ratio of
   the two p99 with its spread.
3. With --data FOLDER: the policies compared on runs over real images (tests/cloud/policies.py).

Ends with one line of counts. Exit status 0 means that every count is what it must be.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from inspector.detector.recipe_store import RecipeStore
from inspector.images import encode_jpeg
from inspector.records import Detection, Inspection, Purpose, Thresholds, Verdict, VerdictKind
from inspector.store.cloud_spend import sum_spend
from inspector.store.database import Database
from inspector.store.escalations import count_open, count_states
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.inspections import commit_inspection
from inspector.store.stations import ensure_station
from inspector.store.triggers import accept_trigger
from pipelines.inspect_frame import BETWEEN_THRESHOLDS
from tests.cloud.audit_trial import TrialAudit, audit_trial
from tests.cloud.faulty_servers import FaultyServer
from tests.cloud.lane_latency import compare_lanes
from tests.cloud.policies import compare_on_data
from tests.cloud.trial_clock import TrialClock
from tests.cloud.trial_plant import ALIKE, LIMITS, SECRETS, SHARES, open_servers, write_config
from tests.cloud_rig import blot
from tests.small_line import FEW_MASKS, RECIPE, measure_repairs_on, teach
from tests.store_samples import PROVENANCE

DRAIN_S = 3600.0
DAY_S = 86_400.0
KILL_WAIT_S = 60.0
START_S = 120.0


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@dataclass
class CloudProcess:
    """The cloud process, killed and started again."""

    work: Path
    config: Path
    data_dir: Path
    clock: TrialClock
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0
    interrupting: int = 0
    attempts_before: int = 0

    def start(self) -> None:
        with (self.work / "cloud.log").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.cloud.process", self.config, self.data_dir, self.clock.path, "0"],
                env={**os.environ, **SECRETS},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def keep_running(self) -> None:
        if self.process is None or self.process.poll() is not None:
            self.start()

    def kill(self, db: Database) -> None:
        """kill -9 while a question of this very process is on its way, if one comes soon."""
        self.keep_running()
        if self.process is None:
            return
        deadline = time.monotonic() + KILL_WAIT_S
        while not self._is_sending(db) and time.monotonic() < deadline:
            time.sleep(0.001)
        self.process.kill()
        self.process.wait()
        self.kills += 1
        self.interrupting += self._is_sending(db)
        self.attempts_before = self._count_attempts(db)
        self.start()

    def _is_sending(self, db: Database) -> bool:
        """A question that the process before left behind does not count."""
        return self._count_attempts(db) > self.attempts_before and bool(count_states(db).get("sending"))

    def _count_attempts(self, db: Database) -> int:
        return sum(item.attempts for item in sum_spend(db))

    def stop(self) -> int:
        if self.process is None:
            return 0
        self.process.terminate()
        return self.process.wait(60)


@dataclass
class PartFeeder:
    """Commits inspected parts as the verdict lane would, with the trial's clock."""

    db: Database
    data_dir: Path
    clock: TrialClock
    random: random.Random
    committed: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SHARES, 0))

    def __post_init__(self) -> None:
        self._recipe = RecipeStore(self.data_dir).resolve(RECIPE)
        for station in SHARES:
            ensure_station(self.db, station, recipe_name=RECIPE, recipe_version=None, now_us=self.clock().wall_us)

    def commit_part(self) -> None:
        """A REVIEW part: somewhere on the plate, or at one of three places that repeat. No two pictures are equal."""
        (station,) = self.random.choices(list(SHARES), list(SHARES.values()))
        number = sum(self.committed.values())
        place = self.random.choice([(100, 120), (160, 70), (220, 120)])
        x, y = place if station == ALIKE else (self.random.randint(80, 240), self.random.randint(65, 175))
        self._commit(station, encode_jpeg(blot(number, x, y, 10), 95), (x - 12, y - 12, x + 12, y + 12))
        self.committed[station] += 1

    def _commit(self, station: str, content: bytes, box: tuple[int, int, int, int]) -> None:
        now_us = self.clock().wall_us
        accepted = accept_trigger(
            self.db, station, accepted_utc_us=now_us, cameras=("top",), purpose=Purpose.PRODUCTION
        )
        trigger = accepted.trigger
        verdict = Verdict(VerdictKind.REVIEW, 3.5, Thresholds(3.0, 4.0), (Detection(box, 3.5),), (BETWEEN_THRESHOLDS,))
        unkept = Inspection(trigger, "top", verdict, now_us, PROVENANCE, recipe=self._recipe, frame_sha256="f" * 64)
        key = frame_key(station, now_us, unkept.inspection_id, ".jpg")
        FrameFiles(self.data_dir / "frames").write(key, content)
        kept = Inspection(
            trigger, "top", verdict, now_us, PROVENANCE, recipe=self._recipe, frame_sha256="f" * 64, frame_key=key
        )
        commit_inspection(self.db, kept, (), wants_evidence=False)


def run_faults(work: Path, parts: int, kills: int, seed: int) -> TrialAudit:
    """The first part of the trial."""
    data_dir, chance = work / "data", random.Random(seed)
    with measure_repairs_on(FEW_MASKS):
        teach(data_dir, work / "good")
    clock = TrialClock.create(work / "clock.json")
    db = Database.open(data_dir)
    with open_servers(work, random.Random(seed + 1)) as servers:
        cloud = CloudProcess(work, write_config(work, servers), data_dir, clock)
        feeder = PartFeeder(db, data_dir, clock, chance)
        try:
            cloud.start()
            _wait_for_cursors(db)
            began = time.monotonic()
            _disturb(feeder, cloud, list(servers.values()), clock, parts, kills, chance)
            _drain(db, cloud, began)
            status = cloud.stop()
        finally:
            if cloud.process is not None and cloud.process.poll() is None:
                cloud.process.kill()
            db.close()
        audit = audit_trial(data_dir, work / "cloud.log", list(servers.values()), LIMITS, cloud.kills)
        audit.require("exit status of the stopped process", status, 0)
        audit.require("kills", cloud.kills, kills)
        audit.counts = {"parts": sum(feeder.committed.values()), **audit.counts, "kills": cloud.kills}
        audit.counts["kills while sending"] = cloud.interrupting
        audit.require("kills that found a question on its way", cloud.interrupting > 0, True)
        audit.counts["seconds"] = round(time.monotonic() - began)
        injected = sum((server.injected for server in servers.values()), Counter[str]())
        audit.counts["faults"] = dict(sorted(injected.items()))
        audit.require("context caches that expired in mid-run", injected["cache_gone"] > 0, True)
    return audit


def _disturb(
    feeder: PartFeeder,
    cloud: CloudProcess,
    servers: list[FaultyServer],
    clock: TrialClock,
    parts: int,
    kills: int,
    chance: random.Random,
) -> None:
    """Parts one after the other; between them kills, storms, jumps of the wall clock, and a day offline."""
    kill_at = set(chance.sample(range(10, parts), kills))
    storms, jumps = ({chance.randrange(parts) for _ in range(count)} for count in (4, 8))
    offline_from, offline_until = parts // 2, parts // 2 + parts // 10
    for number in range(parts):
        feeder.commit_part()
        if number in kill_at:
            cloud.kill(feeder.db)
        if number in jumps:
            clock.jump_wall(chance.choice([DAY_S, -DAY_S, 3 * DAY_S, -3600.0]))
        if number == offline_from:
            for server in servers:
                server.unplug()
            clock.pass_time(DAY_S / 2)
        if number == offline_until:
            clock.pass_time(DAY_S / 2)
            for server in servers:
                server.plug()
        if number in storms:
            for server in servers:
                server.storm = True
                threading.Timer(2.0, setattr, (server, "storm", False)).start()
        cloud.keep_running()
        if number % 200 == 0:
            say(f"{number:5d} parts, questions: {count_states(feeder.db)}")


def _wait_for_cursors(db: Database) -> None:
    """A first start looks at recent parts alone, so that the trial's first parts must not be older than it."""
    deadline = time.monotonic() + START_S
    while True:
        with db.read() as session:
            found = session.connection().exec_driver_sql("SELECT COUNT(*) FROM cloud_cursor").scalar()
        if found == len(LIMITS):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the cloud process did not start within {START_S:g} s")
        time.sleep(0.05)


def _drain(db: Database, cloud: CloudProcess, began: float) -> None:
    deadline, next_word = time.monotonic() + DRAIN_S, 0.0
    while count_open(db) > 0 or _unlooked(db):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not drained within {DRAIN_S:g} s: {count_states(db)}; see {cloud.work}")
        cloud.keep_running()
        if time.monotonic() > next_word:
            next_word = time.monotonic() + 15.0
            say(f"draining after {time.monotonic() - began:.0f} s: {count_states(db)}")
        time.sleep(0.2)


def _unlooked(db: Database) -> bool:
    with db.read() as session:
        return bool(
            session.connection()
            .exec_driver_sql(
                "SELECT 1 FROM inspection i LEFT JOIN cloud_cursor c USING (station) "
                "WHERE i.chain_index > COALESCE(c.chain_index, 0) LIMIT 1"
            )
            .first()
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=1200)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, printed")
    parser.add_argument("--data", type=Path, default=None, help="folder of data sets to compare the policies on")
    parser.add_argument("--policy-runs", type=int, default=10, help="runs with seeds of their own for each comparison")
    parser.add_argument("--lane-pairs", type=int, default=10, help="blocks of the verdict lane, off and failing")
    parser.add_argument("--work", type=Path, default=None, help="folder to keep; default: a temporary one")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    work = (options.work or Path(tempfile.mkdtemp(prefix="cloud-trial-"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    say(f"cloud trial: {options.parts} parts, {options.kills} kills, seed {seed}, folder {work}")
    try:
        audit = run_faults(work, options.parts, options.kills, seed)
        if options.lane_pairs > 0:
            compare_lanes(work / "lane", options.lane_pairs, audit, say)
        if options.data is not None:
            compare_on_data(options.data, work / "policies", options.policy_runs, audit, say)
    except RuntimeError as error:
        say(f"the trial could not be carried out: {error}")
        return 2
    for failure in audit.failures:
        say(f"FAILED  {failure}")
    say(", ".join(f"{name}: {count}" for name, count in audit.counts.items()))
    if audit.failures:
        say(f"see {work}")
        return 1
    if options.work is None:
        shutil.rmtree(work)
    return 0


if __name__ == "__main__":
    sys.exit(main())
