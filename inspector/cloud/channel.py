"""Requests to one host and no other: one deadline for everything, bounded answers, verified certificates.

Every provider sends through here, those of the vendors' SDKs too (`sdk_transport`), so that what a plant
relies on holds for all of them: no redirect is followed, no proxy or credential is taken from the
environment, no connection outlives its request, and neither slow bytes nor a large answer hold anybody up.
Nothing is retried here.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import ipaddress
import queue
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from inspector.cloud.provider import AnswerInvalidError, ProviderUnreachableError
from inspector.errors import ConfigError

MAX_ANSWER_BYTES = 1_000_000
MAX_REFUSAL_BYTES = 65_536
"""As much of an error page is read, not more."""

READ_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete answer; of an answer that is not a success at most `MAX_REFUSAL_BYTES`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first header of this name, whatever its case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Channel:
    """Requests to the scheme, host and port of `base_url`. A path in it comes before every target.

    `https` is required except to loopback. `ca_file` replaces the system's certificate authorities, for a
    plant's own. Raises `ConfigError` for an address or a file that cannot be used.
    """

    def __init__(self, base_url: str, *, ca_file: Path | None = None) -> None:
        self.scheme, self.host, self.port, self.base_path = _split_address(base_url)
        self._tls = _make_tls_context(ca_file) if self.scheme == "https" else None

    @property
    def destination(self) -> str:
        """`https://host:port`, the port always named."""
        return f"{self.scheme}://{self._bracketed_host()}:{self.port}"

    def exchange(
        self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes, deadline: float
    ) -> HttpAnswer:
        """One request and its answer, whatever its status, before `deadline` (monotonic seconds).

        Raises `ProviderUnreachableError` when there is no complete answer by then, `AnswerInvalidError`
        for a successful one that is too large or compressed.
        """
        try:
            stream = _DeadlineStream(self._connect(deadline), deadline)
            try:
                return self._converse(stream, method, target, headers, body)
            finally:
                stream.end()
        except (OSError, http.client.HTTPException) as error:
            raise ProviderUnreachableError(f"{self.destination}: {_describe_failure(error)}") from None

    def _connect(self, deadline: float) -> socket.socket:
        addresses = _resolve(self.host, self.port, deadline)
        for index, (family, kind, protocol, _, address) in enumerate(addresses):
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(_remaining(deadline) / (len(addresses) - index))
                plain.connect(address)
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                plain.settimeout(_remaining(deadline))
                return self._tls.wrap_socket(plain, server_hostname=self.host) if self._tls else plain
            except OSError:
                plain.close()
                if index == len(addresses) - 1:
                    raise
        raise OSError("no address")

    def _converse(
        self, stream: _DeadlineStream, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes
    ) -> HttpAnswer:
        connection = http.client.HTTPConnection(self.host, self.port)
        connection.sock = stream
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        fixed = [("Host", self._host_header()), ("Accept-Encoding", "identity"), ("Connection", "close")]
        if body or method in ("POST", "PUT", "PATCH"):
            fixed.append(("Content-Length", str(len(body))))
        for name, value in (*fixed, *headers):
            connection.putheader(name, value)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before all was sent
            connection.endheaders(body)
        with connection.getresponse() as response:
            received = tuple(response.getheaders())
            if not 200 <= response.status < 300:
                return HttpAnswer(response.status, received, _read_at_most(response, MAX_REFUSAL_BYTES))
            if (encoding := response.getheader("Content-Encoding", "identity")) != "identity":
                raise AnswerInvalidError(f"{self.destination}: a compressed answer ({encoding[:32]}), not asked for")
            return HttpAnswer(response.status, received, self._read_whole(response))

    def _read_whole(self, response: http.client.HTTPResponse) -> bytes:
        declared = response.length
        body = _read_at_most(response, MAX_ANSWER_BYTES + 1)
        if len(body) > MAX_ANSWER_BYTES:
            raise AnswerInvalidError(f"{self.destination}: an answer of more than {MAX_ANSWER_BYTES} bytes")
        if declared is not None and len(body) != declared:
            raise ConnectionResetError("the answer was cut short")
        return body

    def _bracketed_host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def _host_header(self) -> str:
        default = 443 if self.scheme == "https" else 80
        return self._bracketed_host() if self.port == default else f"{self._bracketed_host()}:{self.port}"


class _DeadlineStream:
    """A connected socket as `http.client` wants it, whose every step ends at one moment.

    A socket's own timeout begins anew with every byte; here each step gets what is left.
    """

    def __init__(self, connected: socket.socket, deadline: float) -> None:
        self._socket = connected
        self._deadline = deadline

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            self._socket.settimeout(_remaining(self._deadline))
            view = view[self._socket.send(view) :]

    def receive_into(self, buffer: Any) -> int:
        self._socket.settimeout(_remaining(self._deadline))
        return self._socket.recv_into(buffer)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_DeadlineReader(self))

    def close(self) -> None:
        """Called as soon as the headers are read; the connection is needed until the body is, too: see `end`."""

    def end(self) -> None:
        self._socket.close()


class _DeadlineReader(io.RawIOBase):
    def __init__(self, stream: _DeadlineStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.receive_into(buffer)


def check_secret(what: str, value: str) -> str:
    """A credential that can stand in a header, as it is. Raises `ConfigError` that does not show it."""
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"{what} is empty or holds a blank, a line break or a character that is not ASCII")
    return value


def _remaining(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _resolve(host: str, port: int, deadline: float) -> list[Any]:
    """Addresses of the host. The resolver takes no deadline, so it runs in a thread that may be left behind."""
    found: queue.SimpleQueue[list[Any] | OSError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            found.put(list(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
        except OSError as error:
            found.put(error)
        except UnicodeError:
            found.put(socket.gaierror("not a host name"))

    threading.Thread(target=look_up, name="resolve-provider", daemon=True).start()
    try:
        answer = found.get(timeout=_remaining(deadline))
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, OSError):
        raise answer
    return answer


def _read_at_most(response: http.client.HTTPResponse, limit: int) -> bytes:
    body = bytearray()
    while len(body) < limit and (chunk := response.read1(min(READ_BYTES, limit - len(body)))):
        body += chunk
    return bytes(body)


def _describe_failure(error: OSError | http.client.HTTPException) -> str:
    """Why there is no answer, without a byte of what the other side sent."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'closed'}"
    if isinstance(error, TimeoutError):
        return "no complete answer in time"
    if isinstance(error, socket.gaierror):
        return "its name is not known"
    if isinstance(error, http.client.IncompleteRead):
        return "the answer was cut short"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return f"not an HTTP answer ({type(error).__name__})"


def _split_address(base_url: str) -> tuple[str, str, int, str]:
    try:
        parts = urlsplit(base_url)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
    except ValueError:
        raise ConfigError("the provider's address is not a URL") from None
    if not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise ConfigError("the provider's address holds a blank, a line break or a character that is not ASCII")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("the provider's address holds a user name; credentials have settings of their own")
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"the provider's address is not https://host[:port][/path]: {base_url}")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigError(f"the provider's address has to begin with https (http only to loopback): {base_url}")
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _make_tls_context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the certificate authorities in {ca_file} cannot be read: {error}") from None
