"""A plant with one or two stations, its database, and the delivery process against a real broker, for tests."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inspector.clock import utc_now_us
from inspector.config import PlantConfig
from inspector.mqtt.messages import make_message_id
from inspector.records import Message
from inspector.store.database import Database
from inspector.store.outbox import count_unsent, queue_messages
from inspector.store.processes import beat
from pipelines.deliver import run_delivery

ROOT = "inspector/v1"
STATION = "plant/line/one"
OTHER = "plant/line/two"
DEADLINE_S = 15.0


def make_config(port: int, **mqtt: Any) -> PlantConfig:
    stations = [
        {"id": name, "recipe": "board", "cameras": [{"id": "top", "kind": "simulated"}]} for name in ("one", "two")
    ]
    return PlantConfig.model_validate(
        {
            "site": {"id": "plant", "timezone": "Europe/Berlin"},
            "lines": [{"id": "line", "stations": stations}],
            "mqtt": {"port": port, "backoff_max_s": 0.3, "keepalive_s": 5, **mqtt},
            "store": {"min_free_mb": 10},
        }
    )


def queue_numbered(db: Database, numbers: range, station: str = STATION, *, age_s: float = 0.0, pad: int = 0) -> None:
    """Put numbered stand-ins for inspections into the outbox, all in one transaction."""
    messages = [
        Message(
            f"{ROOT}/{station}/inspection",
            json.dumps({"message_id": make_message_id("test", f"{station}/{n}"), "n": n, "pad": "x" * pad}),
        )
        for n in numbers
    ]
    queue_messages(db, station, messages, utc_now_us() - round(age_s * 1e6))


def beat_stations(db: Database, state: str = "online", reasons: tuple[str, ...] = ()) -> None:
    for station in (STATION, OTHER):
        beat(db, f"station:{station}", 1, state, reasons, utc_now_us())


def poll(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """The first true value of the condition; `TimeoutError` after the deadline."""
    deadline = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.01)


def wait_until_sent(db: Database, deadline_s: float = DEADLINE_S) -> None:
    poll(lambda: count_unsent(db) == 0, "messages are still unsent", deadline_s)


@contextmanager
def delivery(config: PlantConfig, data_dir: Path) -> Iterator[threading.Event]:
    """`run_delivery` in a thread; stopped at the end, and an error in it fails the test."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="delivery") as pool:
        running = pool.submit(run_delivery, config, data_dir, stop)
        try:
            yield stop
        finally:
            stop.set()
            running.result(20)


class DeliveryProcess:
    """The delivery in a process of its own, so that it can be killed."""

    def __init__(self, config: PlantConfig, data_dir: Path, folder: Path) -> None:
        file = folder / "plant.json"
        file.write_text(config.model_dump_json(), encoding="utf-8")
        self._arguments = [sys.executable, "-c", RUN_DELIVERY, str(file), str(data_dir)]

    def __enter__(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(self._arguments, stdout=subprocess.DEVNULL)
        return self._process

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


RUN_DELIVERY = """
import sys, threading
from pathlib import Path
from inspector.config import load_config
from pipelines.deliver import run_delivery
run_delivery(load_config(Path(sys.argv[1])), Path(sys.argv[2]), threading.Event())
"""


def first_deliveries(numbers: list[int]) -> list[int]:
    """Without the repetitions: what a subscriber that drops duplicates sees."""
    return list(dict.fromkeys(numbers))
