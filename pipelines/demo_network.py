"""The demo's network: a broker, a cable to it that can be pulled, and a subscriber on the shop floor."""

from __future__ import annotations

import json
import queue
import shutil
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from inspector.errors import BrokerUnreachableError
from inspector.mqtt.embedded_broker import EmbeddedBroker

LOOPBACK = "127.0.0.1"
START_S = 15.0
CHUNK_BYTES = 65_536


@contextmanager
def demo_broker(work: Path) -> Iterator[tuple[str, int]]:
    """(name, port) of a broker on loopback: mosquitto where it is installed, else the embedded one (MQTT 3.1.1)."""
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin")
    if program is None:
        with EmbeddedBroker() as broker:
            yield "embedded broker (amqtt, MQTT 3.1.1)", broker.port
        return
    port = free_port()
    settings = work / "mosquitto.conf"
    settings.write_text(
        f"listener {port} {LOOPBACK}\nallow_anonymous true\npersistence false\nmax_queued_messages 0\nuser root\n"
    )
    with (work / "mosquitto.log").open("wb") as output:
        process = subprocess.Popen([program, "-c", str(settings)], stdout=output, stderr=output)
        try:
            _wait_for_port(port)
            yield "mosquitto", port
        finally:
            process.terminate()
            process.wait(10)


class Cable:
    """A TCP relay from a port of its own to the broker. Pulling it cuts every connection and refuses new ones."""

    def __init__(self, broker_port: int) -> None:
        self._broker_port = broker_port
        self.port = free_port()
        self._plugged = threading.Event()
        self._ended = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None

    def plug(self) -> None:
        """Connect the service with the broker."""
        listener = socket.create_server((LOOPBACK, self.port), backlog=16)
        self._listener = listener
        self._plugged.set()
        threading.Thread(target=self._accept, args=(listener,), name="cable", daemon=True).start()

    def pull(self) -> None:
        """Cut the connection, as a hand that pulls the plug does."""
        self._plugged.clear()
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            ends, self._open = self._open, set()
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self, listener: socket.socket) -> None:
        while self._plugged.is_set():
            try:
                near, _ = listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection((LOOPBACK, self._broker_port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._relay, args=(source, target), name="cable", daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                target.sendall(chunk)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Subscriber:
    """A subscriber as any on the shop floor: MQTT, QoS 1, counts by the id of the inspection."""

    def __init__(self, port: int, root: str) -> None:
        self._root = root
        self._lock = threading.Lock()
        self.inspections: dict[str, dict[str, Any]] = {}
        self.evidence: set[str] = set()
        self.messages: Counter[str] = Counter()
        self.historical = 0
        self.repeated = 0
        self.events: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
        self._ready = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="demo-subscriber", protocol=mqtt.MQTTv311)
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *arguments: self._ready.set()
        self._client.on_message = self._receive
        self._client.connect(LOOPBACK, port)

    def __enter__(self) -> Subscriber:
        self._client.loop_start()
        if not self._ready.wait(START_S):
            raise BrokerUnreachableError("the demo's subscriber got no answer from the broker")
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _subscribe(self, client: mqtt.Client, *arguments: Any) -> None:
        client.subscribe(f"{self._root}/#", qos=1)

    def _receive(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        kind = message.topic.rsplit("/", 1)[1]
        payload = json.loads(message.payload) if message.payload else {}
        with self._lock:
            self.messages[kind] += 1
            self.historical += bool(payload.get("is_historical"))
            if kind == "inspection":
                self.repeated += payload["inspection_id"] in self.inspections
                self.inspections[payload["inspection_id"]] = payload
            elif kind == "evidence":
                self.evidence.add(payload["inspection_id"])
        self.events.put((kind, payload))


def free_port() -> int:
    """A port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
            return
        time.sleep(0.05)
    raise BrokerUnreachableError(f"the demo's broker did not open port {port}")
