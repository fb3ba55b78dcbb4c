"""The container files, without a container engine: what they name is there, and fits together."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

import inspector
from inspector.config import FolderCamera, load_config
from tests.mosquitto import MOSQUITTO, MOSQUITTO_PASSWD, OPENSSL, find_free_port, find_program, is_listening

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Stage:
    """One FROM of the Dockerfile and what follows it."""

    name: str
    image: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def last(self, keyword: str) -> str:
        return [argument for word, argument in self.steps if word == keyword][-1]


def parse_dockerfile() -> list[Stage]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    stages: list[Stage] = []
    for line in filter(None, lines):
        word, _, argument = line.partition(" ")
        if word == "FROM":
            image, _, name = argument.partition(" AS ")
            stages.append(Stage(name=name or str(len(stages)), image=image))
        else:
            stages[-1].steps.append((word, argument.strip()))
    return stages


COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))


# --- the image (its steps are carried out in tests/test_container_image.py) ----------------------------


def test_wheel_has_every_file_of_the_packages() -> None:
    """Templates, fonts, schemas, migrations and weights travel with the wheel that is installed here."""
    site = Path(inspector.__file__).parent.parent
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        [*command, "inspector", "reports", "pipelines"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    expected = [line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    assert "inspector/config.schema.json" in expected
    assert [line for line in expected if not (site / line).is_file()] == []


def test_image_does_not_run_as_root() -> None:
    """The service runs as the unprivileged user that owns /data."""
    final = parse_dockerfile()[-1]
    user = final.last("USER")
    created = next(argument for word, argument in final.steps if word == "RUN" and argument.startswith("useradd"))
    assert user not in ("0", "root") and f"--uid {user}" in created
    assert "-o inspector -g inspector /data" in created and final.last("VOLUME") == "/data"
    assert "INSPECTOR_DATA_DIR=/data" in final.last("ENV")


def test_stages_use_the_same_slim_python() -> None:
    """Both stages start from one slim Python that the locks were resolved for, and nothing is taken from apt."""
    images = {stage.image for stage in parse_dockerfile()}
    assert images == {"python:3.11-slim"}
    assert "apt-get" not in "".join(argument for stage in parse_dockerfile() for _, argument in stage.steps)


def test_dockerignore_lets_through_what_is_copied() -> None:
    """Everything that the Dockerfile copies from the context passes .dockerignore."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in parse_dockerfile():
        for word, argument in stage.steps:
            if word == "COPY" and not argument.startswith("--from"):
                for source in shlex.split(argument)[:-1]:
                    assert source.rstrip("/") in allowed, source


# --- the compose file -------------------------------------------------------------------------------


def resolve_in_container(service: dict[str, Any], path: str) -> Path:
    """Where a path inside the container lies on the host, by the service's bind mounts."""
    for volume in service["volumes"]:
        source, target, *_ = volume.split(":")
        if path.startswith(f"{target}/") and source.startswith("./"):
            return ROOT / str(source) / path.removeprefix(f"{target}/")
    raise AssertionError(f"{path} lies in no bind mount")


def bind_mounts() -> Iterator[tuple[str, str]]:
    for name, service in COMPOSE["services"].items():
        for volume in service["volumes"]:
            if volume.startswith("./"):
                yield name, volume


def test_every_mount_and_volume_exists() -> None:
    """Bind mounts name folders of the repository (or the drop folder), the others declared volumes."""
    for _, volume in bind_mounts():
        source, _, mode = volume.split(":")
        assert mode == "ro", f"{volume} should be read-only"
        assert (ROOT / source).is_dir() or source == "./incoming", volume
    named = {
        volume.split(":")[0]
        for service in COMPOSE["services"].values()
        for volume in service["volumes"]
        if not volume.startswith("./")
    }
    assert named == set(COMPOSE["volumes"])


def test_every_command_and_check_of_the_compose_file_exists() -> None:
    """The broker's scripts are mounted; the service's health check is Python that runs."""
    broker, service = COMPOSE["services"]["mosquitto"], COMPOSE["services"]["inspector"]
    for words in (broker["command"], broker["healthcheck"]["test"][1:]):
        assert words[0] == "/bin/sh" and resolve_in_container(broker, words[1]).is_file()
    check = service["healthcheck"]["test"]
    assert check[:3] == ["CMD", "python", "-c"] and check in [
        ["CMD", *json.loads(argument.partition("CMD ")[2])]
        for word, argument in parse_dockerfile()[-1].steps
        if word == "HEALTHCHECK"
    ]
    refused = subprocess.run([sys.executable, *check[2:]], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "Connection refused" in refused.stderr


def test_nothing_is_published_beyond_this_machine() -> None:
    """Every published port is bound to loopback."""
    ports = [port for service in COMPOSE["services"].values() for port in service["ports"]]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_come_from_the_environment() -> None:
    """The files hold no secret: the password is required from outside, and the service reads it by name."""
    for service in COMPOSE["services"].values():
        assert service["environment"]["INSPECTOR_MQTT_PASSWORD"].startswith("${INSPECTOR_MQTT_PASSWORD:?")
    config = load_config(ROOT / "docker" / "config" / "station.yaml")
    assert (config.mqtt.username_env, config.mqtt.password_env) == ("INSPECTOR_MQTT_USER", "INSPECTOR_MQTT_PASSWORD")


def test_configuration_fits_the_compose_file() -> None:
    """Broker name, health port and drop folder of the mounted configuration are those of the compose file."""
    config = load_config(ROOT / "docker" / "config" / "station.yaml")
    service = COMPOSE["services"]["inspector"]
    assert config.mqtt.host in service["depends_on"]
    assert config.mqtt.host in COMPOSE["services"]
    assert f"127.0.0.1:{config.http.port}:{config.http.port}" in service["ports"]
    camera = config.stations()["plant1/line1/final"].cameras[0]
    assert isinstance(camera, FolderCamera) and str(camera.path).startswith("/incoming/")
    assert any(volume.endswith(":/incoming:ro") for volume in service["volumes"]) and camera.after == "keep"


def test_service_has_time_to_stop() -> None:
    """Docker waits longer than an orderly stop may take."""
    from pipelines.supervise import STOP_GRACE_S

    assert int(COMPOSE["services"]["inspector"]["stop_grace_period"].rstrip("s")) > sum(STOP_GRACE_S.values())


# --- the broker's files -----------------------------------------------------------------------------


@dataclass
class BrokerFiles:
    """The broker of the compose file, started from its own scripts in a folder instead of a container."""

    folder: Path
    ports: dict[int, int]
    process: subprocess.Popen[bytes]

    def ask(self, port: int, *options: str, password: str = "pass word$1") -> bool:
        """Whether a client with these options gets an answer."""
        program = find_program("mosquitto_sub")
        assert program
        command = [program, "-h", "localhost", "-p", str(self.ports[port]), "-t", "$SYS/broker/version", "-C", "1"]
        who = ["-u", "inspector", "-P", password] if password else []
        return subprocess.run([*command, "-W", "5", *who, *options], capture_output=True, check=False).returncode == 0


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerFiles]:
    """Started by docker/mosquitto/start.sh, with /mosquitto moved to a folder and free ports."""
    if not (MOSQUITTO and MOSQUITTO_PASSWD and OPENSSL and find_program("mosquitto_sub")):
        pytest.skip("mosquitto, mosquitto-clients or openssl is not installed")
    ports = {1883: find_free_port(), 8883: find_free_port()}
    config = tmp_path / "config"
    shutil.copytree(ROOT / "docker" / "mosquitto", config, ignore=shutil.ignore_patterns("certificates"))
    subprocess.run([config / "make_certificates.sh"], check=True, capture_output=True)
    for path in config.glob("*.*"):
        text = path.read_text().replace("/mosquitto/", f"{tmp_path}/").replace("-p 1883", f"-p {ports[1883]}")
        text = re.sub(r"^listener (\d+)$", lambda found: f"listener {ports[int(found[1])]} 127.0.0.1", text, flags=re.M)
        path.write_text(text)
    (tmp_path / "data").mkdir()
    tmp_path.chmod(0o755)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/bin",
        "INSPECTOR_MQTT_USER": "inspector",
        "INSPECTOR_MQTT_PASSWORD": "pass word$1",
    }
    for parent in (tmp_path, *tmp_path.parents):
        if os.geteuid() == 0 and parent.owner() == "root" and str(parent).startswith("/tmp/"):
            parent.chmod(parent.stat().st_mode | 0o055)  # the broker gives up root and must reach its files
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(["sh", config / "start.sh"], env=environment, stderr=log)
    try:
        deadline = time.monotonic() + 10
        while not all(is_listening(port) for port in ports.values()):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield BrokerFiles(tmp_path, ports, process)
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.broker
def test_broker_of_the_compose_file(broker: BrokerFiles) -> None:
    """Its scripts start it; it takes the password, refuses others and nobody, and speaks TLS by the example CA."""
    ca = ["--cafile", str(broker.folder / "config" / "certificates" / "ca.pem")]
    assert broker.ask(1883)
    assert not broker.ask(1883, password="wrong")
    assert not broker.ask(1883, password="")
    assert broker.ask(8883, *ca)
    assert not broker.ask(8883, "--cafile", "/etc/ssl/certs/ca-certificates.crt")
    check = subprocess.run(
        ["sh", broker.folder / "config" / "check.sh"],
        env={"PATH": "/usr/bin", "INSPECTOR_MQTT_USER": "inspector", "INSPECTOR_MQTT_PASSWORD": "pass word$1"},
        capture_output=True,
        check=False,
    )
    assert check.returncode == 0, check.stderr


@pytest.mark.broker
def test_broker_keeps_no_readable_password(broker: BrokerFiles) -> None:
    """The password file holds hashes, and nobody else on the machine may read it."""
    file = broker.folder / "data" / "passwords"
    assert "pass word" not in file.read_text() and file.read_text().startswith("inspector:$")
    assert file.stat().st_mode & 0o077 == 0
