"""A real mosquitto on a free loopback port, for tests: started, stopped, killed, and restarted with its memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"
DEADLINE_S = 10.0


def find_program(name: str) -> str | None:
    """Debian keeps the daemon in /usr/sbin, which is not on everybody's PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


MOSQUITTO = find_program("mosquitto")
MOSQUITTO_PASSWD = find_program("mosquitto_passwd")
OPENSSL = find_program("openssl")


@dataclass
class Mosquitto:
    """One broker in `folder`. A subscriber gets a message before its sender gets the acknowledgement
    (no limits on what is under way), so a kill loses nothing that was acknowledged; sessions survive a
    `stop`, and a kill as far as `save` wrote them."""

    folder: Path
    users: Mapping[str, str] = field(default_factory=dict)
    tls: TlsFiles | None = None
    extra_lines: tuple[str, ...] = ()
    port: int = 0
    _process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return HOST

    @property
    def pid(self) -> int:
        return self._running().pid

    def start(self) -> None:
        """Returns when the broker accepts connections; `RuntimeError` with its log when it does not."""
        if MOSQUITTO is None:
            raise RuntimeError("mosquitto is not installed")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or find_free_port()
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join(self._config_lines()) + "\n", encoding="utf-8")
        with (self.folder / "stderr.log").open("ab") as log:
            self._process = subprocess.Popen([MOSQUITTO, "-c", str(config)], stdout=log, stderr=log)
        deadline = time.monotonic() + DEADLINE_S
        while not is_listening(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"mosquitto did not start: {self._logs()}")
            time.sleep(0.02)

    def save(self) -> None:
        """Write subscriptions and queued messages to disk now, so that they survive a kill."""
        file = self.folder / "mosquitto.db"
        before = file.stat().st_mtime_ns if file.exists() else 0
        os.kill(self.pid, signal.SIGUSR1)
        deadline = time.monotonic() + DEADLINE_S
        while not file.exists() or file.stat().st_mtime_ns == before:
            if time.monotonic() > deadline:
                raise RuntimeError("mosquitto did not save its state")
            time.sleep(0.01)

    def stop(self) -> None:
        """SIGTERM: it saves its state and says goodbye."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: no goodbye, nothing saved."""
        self._end(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("mosquitto is not running")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _config_lines(self) -> list[str]:
        lines = [
            f"listener {self.port} {HOST}",
            "persistence true",
            f"persistence_location {self.folder}/",
            f"log_dest file {self.folder / 'mosquitto.log'}",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "set_tcp_nodelay true",
            *([] if os.geteuid() else ["user root"]),
        ]
        if self.users:
            lines += ["allow_anonymous false", f"password_file {self._write_passwords()}"]
        else:
            lines += ["allow_anonymous true"]
        if self.tls is not None:
            lines += [f"cafile {self.tls.ca}", f"certfile {self.tls.certificate}", f"keyfile {self.tls.key}"]
        return [*lines, *self.extra_lines]

    def _write_passwords(self) -> Path:
        if MOSQUITTO_PASSWD is None:
            raise RuntimeError("mosquitto_passwd is not installed")
        path = self.folder / "passwords"
        path.write_text("".join(f"{user}:{password}\n" for user, password in self.users.items()), encoding="utf-8")
        subprocess.run([MOSQUITTO_PASSWD, "-U", str(path)], check=True, capture_output=True)
        return path

    def _logs(self) -> str:
        texts = []
        for name in ("stderr.log", "mosquitto.log"):
            with contextlib.suppress(OSError):
                texts.append((self.folder / name).read_text(encoding="utf-8"))
        return "\n".join(texts)


@dataclass(frozen=True)
class TlsFiles:
    """A certificate for 127.0.0.1 and the self-made CA that signed it."""

    ca: Path
    certificate: Path
    key: Path


def make_tls_files(folder: Path) -> TlsFiles:
    """A CA of our own and a broker certificate signed by it, by way of the openssl command."""
    if OPENSSL is None:
        raise RuntimeError("openssl is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    files = TlsFiles(folder / "ca.pem", folder / "broker.pem", folder / "broker.key")
    ca_key, request, extensions = folder / "ca.key", folder / "broker.csr", folder / "extensions"
    extensions.write_text("subjectAltName=IP:127.0.0.1\n", encoding="utf-8")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    signed_by = ["-CA", files.ca, "-CAkey", ca_key, "-CAcreateserial"]
    for command in (
        ["req", "-x509", *new_key, "-keyout", ca_key, "-out", files.ca, "-days", "2", "-subj", "/CN=test CA"],
        ["req", *new_key, "-keyout", files.key, "-out", request, "-subj", "/CN=test broker"],
        ["x509", "-req", "-in", request, *signed_by, "-days", "2", "-extfile", extensions, "-out", files.certificate],
    ):
        subprocess.run([OPENSSL, *map(str, command)], check=True, capture_output=True)
    return files


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0
