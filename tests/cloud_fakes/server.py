"""One HTTP server on loopback: records what arrives, checks it, answers, or fails as the script says."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Self

from jsonschema import Draft202012Validator

from tests.mosquitto import TlsFiles

HOST = "127.0.0.1"
GOOD_ANSWER = {"verdict": "good", "defect_name": None, "confidence": 0.9, "reason": "Nothing speaks against it."}

Fault = Literal["none", "hang", "reset_at_once", "reset", "cut", "slow_body", "slow_headers"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """What happens to one request instead of the ordinary answer.

    `on` limits it to requests whose path holds these letters. `answer_text` is the model's text in an
    otherwise ordinary reply; `body` replaces the whole reply. `fault` is about how the bytes come.
    """

    on: str = ""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    answer_text: str | None = None
    fault: Fault = "none"
    pause_s: float = 0.02


@dataclass(frozen=True)
class Received:
    """A request as it arrived. Header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise RequestRefusedError(400, f"the body is not JSON: {error}") from error


@dataclass(frozen=True)
class Asked:
    """What a model is shown: cached context included, golden pictures first."""

    instruction: str
    text: str
    images: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class HttpReply:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class RequestRefusedError(Exception):
    """The request is not what the provider publishes, or not allowed."""

    def __init__(
        self, status: int, message: str, reason: str = "INVALID_ARGUMENT", *, is_violation: bool = True
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.is_violation = status, reason, is_violation


Model = Callable[[Asked], Mapping[str, Any] | str]


class FakeServer:
    """Start it with `with`. `model` gives the answers; `script` holds what happens to the next requests, and
    `plan` says what happens to all others.

    `violations` holds every request that the published schema does not allow; it has to stay empty.
    """

    def __init__(self, *, tls: TlsFiles | None = None, model: Model | None = None) -> None:
        self.model: Model = model or (lambda asked: GOOD_ANSWER)
        self.plan: Callable[[Received], Step] = lambda received: Step()
        self.script: deque[Step] = deque()
        self.received: list[Received] = []
        self.violations: list[str] = []
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer((HOST, 0), _handler_for(self))
        self._server.daemon_threads = True
        self.scheme = "http" if tls is None else "https"
        if tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.certificate, tls.key)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self.scheme}://{HOST}:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5.0)

    def reply(self, received: Received, answer_text: str | None) -> HttpReply:
        """The provider's ordinary reply to a request it accepts. Raises `RequestRefusedError`."""
        raise NotImplementedError

    def refusal(self, status: int, message: str, reason: str) -> bytes:
        """The provider's JSON for an error."""
        raise NotImplementedError

    def answer_text(self, asked: Asked) -> str:
        """What the model says."""
        answer = self.model(asked)
        return answer if isinstance(answer, str) else json.dumps(answer)

    def handle(self, received: Received) -> tuple[HttpReply, Step]:
        """Record, check, and find out what to answer and how. One request at a time."""
        with self._lock:
            self.received.append(received)
            step = self.script.popleft() if self.script and self.script[0].on in received.path else self.plan(received)
            try:
                ordinary = self.reply(received, step.answer_text)
            except RequestRefusedError as error:
                if error.is_violation:
                    self.violations.append(f"{received.method} {received.path}: {error}")
                ordinary = HttpReply(error.status, self.refusal(error.status, str(error), error.reason))
            if step.status is not None and step.body is None:
                ordinary = HttpReply(step.status, self.refusal(step.status, "scripted", "SCRIPTED"), step.headers)
            elif step.body is not None:
                ordinary = HttpReply(step.status or 200, step.body, step.headers)
            return ordinary, step

    def wait_or_stop(self, seconds: float) -> bool:
        """False when the server is being stopped."""
        return not self._stopping.wait(seconds)


def check_schema(schema: Mapping[str, Any], document: Any) -> None:
    """Raises `RequestRefusedError` for anything that the schema does not allow, unknown fields included."""
    for error in Draft202012Validator(schema).iter_errors(document):
        where = ".".join(map(str, error.absolute_path)) or "request"
        raise RequestRefusedError(400, f"{where}: {error.message[:300]}")


def _handler_for(server: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            reply, step = server.handle(Received(self.command, self.path, headers, body))
            self.close_connection = True
            with contextlib.suppress(OSError):  # the client has given up, as it should
                self._send(reply, step)

        do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_any  # noqa: N815

        def _send(self, reply: HttpReply, step: Step) -> None:
            if step.fault == "hang":
                server.wait_or_stop(60.0)
                return
            if step.fault == "reset_at_once":
                self._reset()
                return
            head = self._head(reply)
            if step.fault == "slow_headers":
                self._dribble(head, step.pause_s)
                return
            self.wfile.write(head)
            if step.fault == "slow_body":
                self._dribble(reply.body, step.pause_s)
            elif step.fault in ("reset", "cut"):
                self.wfile.write(reply.body[: len(reply.body) // 2])
                self.wfile.flush()
                if step.fault == "reset":
                    time.sleep(0.05)  # so that the half arrives before the reset
                    self._reset()
            else:
                self.wfile.write(reply.body)

        def _head(self, reply: HttpReply) -> bytes:
            headers = {"Content-Type": "application/json", "Content-Length": str(len(reply.body)), **reply.headers}
            lines = [f"HTTP/1.1 {reply.status} scripted", *(f"{name}: {value}" for name, value in headers.items())]
            return ("\r\n".join(lines) + "\r\n\r\n").encode()

        def _dribble(self, data: bytes, pause_s: float) -> None:
            for index in range(len(data)):
                self.wfile.write(data[index : index + 1])
                self.wfile.flush()
                if not server.wait_or_stop(pause_s):
                    return

        def _reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        def log_message(self, *_: Any) -> None:
            """Nothing: the test looks at `received`."""

    return Handler
