"""`inspector run` as a user starts it: real processes, real kills, a real broker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from inspector.store.database import Database
from inspector.store.inspections import VerdictCounts, count_verdicts
from tests.small_line import STATION, drop, folder_camera, jpeg_part, small_plant

DEADLINE_S = 40.0


@pytest.fixture(scope="module")
def taught(taught_plate: Path) -> Path:
    return taught_plate / "data"


@pytest.fixture
def place(taught: Path, tmp_path: Path) -> Path:
    """A folder with a data directory, an inbox and a configuration that names an unreachable broker."""
    shutil.copytree(taught, tmp_path / "data")
    (tmp_path / "inbox").mkdir()
    config = small_plant(
        folder_camera(tmp_path / "inbox"),
        mqtt={"port": free_port(), "backoff_max_s": 0.5},
        http={"port": free_port()},
    )
    (tmp_path / "plant.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return tmp_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(place: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pipelines.command_line", "run", str(place / "plant.yaml")]
    with (place / "service.log").open("ab") as output:
        return subprocess.Popen(
            [*command, "--data-dir", str(place / "data")], stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )


@contextmanager
def service(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = start(place)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(DEADLINE_S)


def children(process: subprocess.Popen[bytes]) -> dict[str, psutil.Process]:
    """The service's processes by kind."""
    found = {}
    for child in psutil.Process(process.pid).children():
        try:
            arguments = child.cmdline()
        except psutil.Error:
            continue
        if "pipelines.child_process" in arguments:
            found[arguments[arguments.index("pipelines.child_process") + 1]] = child
    return found


def is_replaced(process: subprocess.Popen[bytes], kind: str, pid: int) -> bool:
    """A process of this kind runs that is not the killed one."""
    child = children(process).get(kind)
    return child is not None and child.pid != pid


def wait_until(condition: Callable[[], bool], what: str, place: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"never happened: {what}\n{(place / 'service.log').read_text()[-3000:]}")
        time.sleep(0.05)


def counts(place: Path) -> VerdictCounts:
    db = Database.open(place / "data")
    try:
        return count_verdicts(db, STATION)
    finally:
        db.close()


def fetch(place: Path, path: str) -> tuple[int, str]:
    port = yaml.safe_load((place / "plant.yaml").read_text())["http"]["port"]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except (urllib.error.URLError, ConnectionError):
        return 0, ""


def logged(place: Path) -> list[dict[str, Any]]:
    lines = (place / "service.log").read_text().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def test_health_metrics_and_a_graceful_stop(place: Path) -> None:
    """The service says it is healthy, counts verdicts in /metrics, logs the inspection id, and stops on SIGTERM."""
    drop(place / "inbox" / "a.jpg", jpeg_part(1))
    with service(place) as process:
        wait_until(lambda: counts(place).ok == 1, "one OK", place)
        wait_until(lambda: "station:" in fetch(place, "/healthz")[1], "healthz", place)
        status, page = fetch(place, "/metrics")
        assert status == 200
        assert f'inspector_verdicts_total{{station="{STATION}",verdict="OK"}} 1.0' in page
        assert "inspector_unsent_messages 1.0" in page
        assert fetch(place, "/other")[0] == 404
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    events = logged(place)
    assert any(event["event"] == "inspected" and event["inspection_id"] for event in events)
    assert not [event for event in events if event["event"] in ("process_died", "process_killed_at_stop")]


def test_killed_processes_come_back_and_lose_nothing(place: Path) -> None:
    """kill -9 of each process: it is restarted, and every dropped file ends as one inspection."""
    with service(place) as process:
        wait_until(lambda: len(children(process)) == 3, "three processes", place)
        for number, kind in enumerate(("station", "delivery", "evidence"), start=1):
            drop(place / "inbox" / f"{number}.jpg", jpeg_part(number))
            victim = children(process)[kind]
            victim.send_signal(signal.SIGKILL)
            wait_until(partial(is_replaced, process, kind, victim.pid), f"{kind} restarted", place)
        wait_until(lambda: counts(place).ok == 3, "three OK", place)
        assert counts(place).triggers == 3


def test_children_die_with_the_supervisor(place: Path) -> None:
    """kill -9 of the supervisor leaves no process behind, and a new service takes over."""
    with service(place) as process:
        wait_until(lambda: len(children(process)) == 3, "three processes", place)
        orphans = list(children(process).values())
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until(lambda: not any(orphan.is_running() for orphan in orphans), "children ended", place)
    drop(place / "inbox" / "a.jpg", jpeg_part(1))
    with service(place):
        wait_until(lambda: counts(place).ok == 1, "one OK", place)


def test_second_service_on_the_same_data_directory(place: Path) -> None:
    """A second service is refused with one sentence that names the data directory; the first goes on."""
    with service(place) as first:
        wait_until(lambda: len(children(first)) == 3, "three processes", place)
        second = start(place)
        assert second.wait(DEADLINE_S) == 1
        assert "DataDirLockedError" in (place / "service.log").read_text()
        assert first.poll() is None


def test_a_simulated_run_ends_by_itself(taught: Path, tmp_path: Path) -> None:
    """A line that makes a fixed number of parts ends the service when everything it owes is done."""
    shutil.copytree(taught, tmp_path / "data")
    camera = {"id": "top", "kind": "simulated", "parts": 3, "frames_per_s": 20, "width_px": 640, "height_px": 360}
    config = small_plant(camera, mqtt={"port": free_port()})
    (tmp_path / "plant.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    with service(tmp_path) as process:
        wait_until(lambda: counts(tmp_path).not_inspected == 3, "three parts of another size", tmp_path)
        assert process.poll() is None  # the broker is away: three messages are still owed
