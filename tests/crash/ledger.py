"""The crash trial's ledger: issues triggers, hears every message, and writes both down. Nothing here is the product's.

A process of its own that is never killed and shares no code with what it watches (paho-mqtt, json and
sqlite3 only). It issues triggers in two ways:

- files, written aside and renamed into a watched folder: accepted as soon as they are there;
- commands `cmd/trigger` with a request id, repeated with the same id until they are answered: accepted
  when the answer is positive.

It is told what to do by lines on stdin and answers each with one JSON line on stdout:
`status`; `quiet` (no new triggers, but unanswered requests are repeated); `exit`.

Why a message that the broker acknowledged to the product is in this ledger, although the broker is
killed too: mosquitto writes a message to a connected subscriber's socket before it acknowledges it to
the publisher, and what is in a socket outlives the broker. For a subscriber that is away it keeps the
message in memory, so the trial kills the broker only while this ledger is connected (`status` says so),
and lets the broker save the ledger's subscription to disk before the load begins.
"""

from __future__ import annotations

import argparse
import itertools
import json
import queue
import random
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

TABLES = """
CREATE TABLE dropped (part_id TEXT PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE request (request_id TEXT PRIMARY KEY, part_id TEXT NOT NULL, sends INTEGER NOT NULL, ok INTEGER,
                      detail TEXT);
CREATE TABLE received (number INTEGER PRIMARY KEY, topic TEXT NOT NULL, retained INTEGER NOT NULL,
                       payload TEXT NOT NULL);
"""
REPEAT_S = 2.0
MAX_UNANSWERED = 12
TURN_S = 0.01


class Listener:
    """The MQTT side: a persistent session that hears everything; messages wait in `arrived`."""

    def __init__(self, port: int, topic_filter: str) -> None:
        self.arrived: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        self.is_subscribed = threading.Event()
        self._topic_filter = topic_filter
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="crash-trial-ledger", clean_session=False, protocol=paho.MQTTv311
        )
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topic_filter, qos=1)
        self._client.on_subscribe = lambda *_: self.is_subscribed.set()
        self._client.on_disconnect = lambda *_: self.is_subscribed.clear()
        self._client.on_message = lambda _client, _data, message: self.arrived.put(message)
        self._client.connect_async("127.0.0.1", port, keepalive=5)
        self._client.loop_start()

    def publish(self, topic: str, payload: str) -> None:
        self._client.publish(topic, payload, qos=1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Ledger:
    """What was asked for and what came back, in one SQLite file that only this process writes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._book = sqlite3.connect(options.book, isolation_level=None)
        self._book.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + TABLES)
        self._listener = Listener(options.port, f"{options.topic_root}/#")
        self._pictures: Iterator[bytes] = itertools.cycle(
            path.read_bytes() for path in sorted(options.pictures.glob("*.jpg"))
        )
        self._random = random.Random(options.seed)
        self._part_numbers = itertools.count(1)
        self._unanswered: dict[str, tuple[str, float]] = {}
        self._results_topic = f"{options.topic_root}/{options.command_station}/cmd/trigger/result"
        self._next_file = self._next_command = time.monotonic()
        self._inspections = 0
        self.is_issuing = False

    def turn(self) -> None:
        """Write down what arrived, then issue what is due."""
        while not self._listener.arrived.empty():
            self._write_down(self._listener.arrived.get())
        now = time.monotonic()
        if self.is_issuing and now >= self._next_file:
            self._next_file = now + self._random.expovariate(self._options.files_per_s)
            self._drop_file()
        if self.is_issuing and now >= self._next_command and len(self._unanswered) < MAX_UNANSWERED:
            self._next_command = now + self._random.expovariate(self._options.commands_per_s)
            self._send_request()
        self._repeat_requests(now)

    def status(self) -> dict[str, Any]:
        counts = {
            name: self._book.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
            for name in ("dropped", "request", "received")
        }
        return counts | {
            "inspections": self._inspections,
            "unanswered": len(self._unanswered),
            "connected": self._listener.is_subscribed.is_set(),
        }

    def close(self) -> None:
        self._listener.close()
        while not self._listener.arrived.empty():
            self._write_down(self._listener.arrived.get())
        self._book.close()

    def _drop_file(self) -> None:
        part_id = f"F{next(self._part_numbers):06d}"
        hidden = self._options.folder / f".{part_id}.part"
        hidden.write_bytes(next(self._pictures))
        # Noted first: should this line be the last one that ever runs, the trial reports a loss, never hides one.
        self._book.execute("INSERT INTO dropped VALUES (?, ?)", (part_id, f"{part_id}.jpg"))
        hidden.rename(self._options.folder / f"{part_id}.jpg")

    def _send_request(self) -> None:
        part_id = f"C{next(self._part_numbers):06d}"
        request_id = f"request-{part_id}"
        self._book.execute("INSERT INTO request VALUES (?, ?, 0, NULL, NULL)", (request_id, part_id))
        self._unanswered[request_id] = (part_id, 0.0)

    def _repeat_requests(self, now: float) -> None:
        for request_id, (part_id, sent) in list(self._unanswered.items()):
            if now - sent > REPEAT_S and self._listener.is_subscribed.is_set():
                payload = json.dumps({"request_id": request_id, "part_id": part_id})
                self._listener.publish(
                    f"{self._options.topic_root}/{self._options.command_station}/cmd/trigger", payload
                )
                self._book.execute("UPDATE request SET sends = sends + 1 WHERE request_id = ?", (request_id,))
                self._unanswered[request_id] = (part_id, now)

    def _write_down(self, message: paho.MQTTMessage) -> None:
        text = message.payload.decode("utf-8")
        self._inspections += message.topic.endswith("/inspection")
        self._book.execute(
            "INSERT INTO received (topic, retained, payload) VALUES (?, ?, ?)",
            (message.topic, int(message.retain), text),
        )
        if message.topic == self._results_topic:
            answer = json.loads(text)
            self._unanswered.pop(answer["request_id"], None)
            self._book.execute(
                "UPDATE request SET ok = ?, detail = ? WHERE request_id = ?",
                (int(answer["ok"]), json.dumps(answer["detail"]), answer["request_id"]),
            )


def read_orders(orders: queue.SimpleQueue[str]) -> None:
    for line in sys.stdin:
        orders.put(line.strip())
    orders.put("exit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic-root", required=True)
    parser.add_argument("--command-station", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--book", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--files-per-s", type=float, required=True)
    parser.add_argument("--commands-per-s", type=float, required=True)
    ledger = Ledger(parser.parse_args())
    orders: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=read_orders, args=(orders,), daemon=True).start()
    while True:
        ledger.turn()
        try:
            order = orders.get(timeout=TURN_S)
        except queue.Empty:
            continue
        if order in ("issue", "quiet"):
            ledger.is_issuing = order == "issue"
        sys.stdout.write(json.dumps(ledger.status()) + "\n")
        sys.stdout.flush()
        if order == "exit":
            ledger.close()
            return


if __name__ == "__main__":
    main()
