"""An MQTT broker in a child process, for the demo on a machine without mosquitto.

amqtt speaks MQTT 3.1.1 only, keeps nothing across a restart, and here it listens on loopback without
any password: never for production. The child ends with its parent (its standard input closes).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from types import TracebackType
from typing import Self

from inspector.errors import BrokerUnreachableError

HOST = "127.0.0.1"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
DRAIN_S = 0.1
"""Time for messages that are on their way to subscribers."""


class EmbeddedBroker:
    """Start it, stop or kill it, and start it again on the same port."""

    def __init__(self, port: int | None = None) -> None:
        self.host = HOST
        self.port = find_free_port() if port is None else port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the broker listens; `BrokerUnreachableError` when it does not come up."""
        if self._process is not None:
            raise ValueError("the broker is already running")
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "inspector.mqtt.embedded_broker", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _is_listening(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise BrokerUnreachableError(f"the embedded broker did not start on {HOST}:{self.port}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Let what is on its way to subscribers leave, then end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it without any notice, as a crash would."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def find_free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


async def _serve(port: int) -> None:
    # Imported here because only the child needs it, and it is slow to import.
    from amqtt.broker import Broker

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"{HOST}:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), stop.set)
    await stop.wait()
    await asyncio.sleep(DRAIN_S)
    os._exit(0)  # it keeps nothing, so there is nothing to save; its own shutdown takes more than five seconds


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides the order
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve(int(sys.argv[1])))
