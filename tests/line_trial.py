"""The line trial: the whole service at 4K with a real mosquitto, and what it costs.

    python -m tests.line_trial [--seconds 60] [--rate 1.0] [--work FOLDER]

1. A folder camera gets `--rate` 4K NG parts a second. Measured: commit of the verdict → arrival of its evidence
   message at a subscriber (p50, p95, max), and the memory (PSS) of all processes of the service, together and each.
2. Delivery alone: messages of 1.5 KB from the outbox on disk to mosquitto, a second.

Prints one JSON object. It is a measurement, not a test: the machine may be shared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import psutil
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from inspector.clock import utc_now_us
from inspector.config import load_config
from inspector.records import Message
from inspector.scenes.renderer import write_good_images
from inspector.store.database import Database
from inspector.store.outbox import count_unsent, queue_messages
from inspector.store.stations import ensure_station
from pipelines.bench import describe_host, make_frames
from pipelines.deliver import run_delivery
from pipelines.fit import fit_recipe
from tests.mosquitto import Mosquitto
from tests.small_line import drop

WIDTH_PX, HEIGHT_PX = 3840, 2160
STATION = "trial/line1/st1"
WARM_UP_PARTS = 5
DELIVERED = 5000
PAYLOAD_BYTES = 1500


class Arrivals:
    """When each evidence message arrived, and when its inspection was decided (wall clock of this host)."""

    def __init__(self, port: int) -> None:
        self.decided: dict[str, float] = {}
        self.arrived: dict[str, float] = {}
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="line-trial")
        self._client.on_connect = lambda client, *rest: client.subscribe(f"inspector/v1/{STATION}/+", qos=1)
        self._client.on_message = self._receive
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _receive(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        payload = json.loads(message.payload)
        if message.topic.endswith("/inspection") and "decided_utc" in payload:
            decided = datetime.fromisoformat(payload["decided_utc"]).timestamp()
            self.decided[payload["inspection_id"]] = decided
        elif message.topic.endswith("/evidence"):
            self.arrived[payload["inspection_id"]] = time.time()

    def latencies_s(self) -> list[float]:
        ids = [key for key in self.decided if key in self.arrived][WARM_UP_PARTS:]
        return [self.arrived[key] - self.decided[key] for key in ids]


def prepare(work: Path, port: int) -> Path:
    """Teach the recipe, make the frames, write the configuration."""
    write_good_images(work / "good", "board", 20, 20, WIDTH_PX, HEIGHT_PX)
    fit_recipe("board", work / "good", work / "data")
    for number, content in enumerate(make_frames(WIDTH_PX, HEIGHT_PX, 8)):
        (work / "frames").mkdir(exist_ok=True)
        (work / "frames" / f"{number:03d}.jpg").write_bytes(content)
    camera = {"id": "top", "kind": "folder", "path": str(work / "inbox"), "settle_s": 0.05, "poll_s": 0.05}
    station = {"id": "st1", "recipe": "board", "cameras": [camera | {"after": "delete"}]}
    config = {
        "site": {"id": "trial"},
        "lines": [{"id": "line1", "stations": [station]}],
        "mqtt": {"port": port},
        "http": {"port": None},
    }
    (work / "inbox").mkdir()
    path = work / "trial.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def service(config: Path, work: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "pipelines.command_line", "run", str(config), "--data-dir", str(work / "data")]
    with (work / "service.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def memory_mb(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """Proportional set size by process of the service: what its processes share is counted once."""
    supervisor = psutil.Process(process.pid)
    found = {"supervisor": supervisor.memory_full_info().pss / 2**20}
    for child in supervisor.children(recursive=True):
        command = child.cmdline()
        kind = next((word for word in command if word in ("station", "delivery", "evidence", "retention")), command[-1])
        found[kind] = found.get(kind, 0.0) + child.memory_full_info().pss / 2**20
    return found


def describe_memory(samples: list[dict[str, float]]) -> dict[str, Any]:
    """Median of all processes together in each third, the peak, and the growth of each process over the last half."""
    totals = [sum(sample.values()) for sample in samples]
    third, half = max(1, len(totals) // 3), len(samples) // 2
    quarter = max(1, half // 2)
    growth = {}
    for kind in samples[-1]:
        series = [sample.get(kind, 0.0) for sample in samples]
        growth[kind] = round(float(np.median(series[-quarter:]) - np.median(series[half : half + quarter])), 1)
    return {
        "middle_third": round(float(np.median(totals[third : 2 * third])), 1),
        "last_third": round(float(np.median(totals[2 * third :])), 1),
        "peak": round(max(totals), 1),
        "growth_third_to_last_quarter": growth,
        "evidence_process": [
            round(sample.get("evidence", 0.0), 1) for sample in samples[:: max(1, len(samples) // 12)]
        ],
    }


def run_line(config: Path, work: Path, port: int, seconds: float, rate: float) -> dict[str, Any]:
    """`rate` NG parts a second through the whole service."""
    arrivals = Arrivals(port)
    frames = sorted((work / "frames").iterdir())
    memory: list[dict[str, float]] = []
    with service(config, work) as process:
        for number in range(int(seconds * rate) + WARM_UP_PARTS):
            started = time.monotonic()
            drop(work / "inbox" / f"P{number:05d}.jpg", frames[number % len(frames)].read_bytes())
            memory.append(memory_mb(process))
            time.sleep(max(0.0, 1.0 / rate - (time.monotonic() - started)))
        deadline = time.monotonic() + 30
        while len(arrivals.arrived) < len(arrivals.decided) and time.monotonic() < deadline:
            time.sleep(0.1)
    latencies = arrivals.latencies_s()
    return {
        "parts": len(arrivals.decided),
        "evidence": len(arrivals.arrived),
        "evidence_s": {f"p{q}": round(float(np.percentile(latencies, q)), 3) for q in (50, 95, 100)},
        "memory_mb": describe_memory(memory),
    }


def run_delivery_alone(config: Path, work: Path, port: int) -> float:
    """Messages a second from the outbox on disk to the broker, marks included."""
    data_dir = work / "delivery"
    db = Database.open(data_dir)
    ensure_station(db, STATION, recipe_name="board", recipe_version=None, now_us=utc_now_us())
    text = json.dumps({"text": "x" * PAYLOAD_BYTES})
    topic = f"inspector/v1/{STATION}/inspection"
    for _ in range(DELIVERED // 500):
        queue_messages(db, STATION, [Message(topic, text) for _ in range(500)], utc_now_us())
    stop = threading.Event()
    plant = load_config(config)
    thread = threading.Thread(target=run_delivery, args=(plant, data_dir, stop))
    thread.start()
    while count_unsent(db) == DELIVERED:
        time.sleep(0.01)
    first, started = count_unsent(db), time.monotonic()
    while (left := count_unsent(db)) > 0:
        time.sleep(0.02)
    elapsed = time.monotonic() - started
    stop.set()
    thread.join()
    db.close()
    return (first - left) / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rate", type=float, default=1.0, help="NG parts a second")
    parser.add_argument("--work", type=Path, help="where the trial lives; a temporary folder beside the checkout")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="line-trial-", dir=arguments.work or Path.cwd()) as folder:
        work = Path(folder)
        broker = Mosquitto(work / "broker")
        broker.start()
        try:
            config = prepare(work, broker.port)
            figures = run_line(config, work, broker.port, arguments.seconds, arguments.rate)
            figures["delivered_per_s"] = round(run_delivery_alone(config, work, broker.port))
        finally:
            broker.stop()
    figures["host"] = describe_host()
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
