"""The container files, without a container engine: their steps are carried out, their names resolved."""

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

from inspector.config import FolderCamera, load_config
from tests.mosquitto import MOSQUITTO, MOSQUITTO_PASSWD, OPENSSL, find_free_port, find_program, is_listening

ROOT = Path(__file__).parent.parent
SLIM_LIBRARIES = {
    *("libc", "libm", "libdl", "libpthread", "librt", "libutil", "ld-linux"),
    *("libstdc++", "libgcc_s", "libz"),
}
"""What python:3.11-slim has without any apt-get: the C and C++ run-time libraries and zlib."""

ABSOLUTE = re.compile(r"(?<![\w./])/(?=(?:src|wheels|data)\b)")


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


# --- the image --------------------------------------------------------------------------------------


class StageRun:
    """Carries out a stage's COPY and RUN in a folder and a clean virtual environment instead of a container."""

    def __init__(self, folder: Path, done: dict[str, StageRun]) -> None:
        self.folder = folder
        self._done = done
        self._workdir = "/"
        folder.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)

    def carry_out(self, stage: Stage) -> None:
        for word, argument in stage.steps:
            if word == "WORKDIR":
                self._workdir = argument
                self._place(argument).mkdir(parents=True, exist_ok=True)
            elif word == "COPY":
                self._copy(argument)
            elif word == "RUN" and not argument.startswith("useradd"):
                self._run(argument)

    def program(self, name: str) -> Path:
        return self.folder / "venv" / "bin" / name

    def _place(self, path: str) -> Path:
        return self.folder / os.path.join(self._workdir, path).lstrip("/")  # noqa: PTH118 - joins container paths

    def _copy(self, argument: str) -> None:
        words = shlex.split(argument)
        source_root = ROOT
        if words[0].startswith("--from="):
            source_root = self._done[words.pop(0).removeprefix("--from=")].folder
        *sources, target = words
        for source in sources:
            found = source_root / source.lstrip("/")
            assert found.exists(), f"COPY names {source}, which does not exist"
            if found.is_dir():
                shutil.copytree(found, self._place(target), dirs_exist_ok=True, ignore=_ignored)
            else:
                self._place(target).mkdir(parents=True, exist_ok=True)
                shutil.copy2(found, self._place(target))

    def _run(self, command: str) -> None:
        here = ABSOLUTE.sub(f"{self.folder}/", command)
        environment = {**os.environ, "PATH": f"{self.folder}/venv/bin:{os.environ['PATH']}", "PIP_NO_COMPILE": "1"}
        result = subprocess.run(
            ["sh", "-e", "-c", here], cwd=self._place("."), env=environment, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"RUN {command}\n{result.stdout[-2000:]}{result.stderr[-2000:]}"


def _ignored(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == "__pycache__" or name.endswith(".pyc")}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> StageRun:
    """The final stage, after all install steps."""
    done: dict[str, StageRun] = {}
    for stage in parse_dockerfile():
        done[stage.name] = StageRun(tmp_path_factory.mktemp("image") / "root", done)
        done[stage.name].carry_out(stage)
    return done[parse_dockerfile()[-1].name]


def call(program: Path, *arguments: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    result = subprocess.run(
        [str(program), *arguments], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.timeout(400)
def test_image_holds_the_service_and_nothing_else(image: StageRun) -> None:
    """The Dockerfile's steps, in clean environments, give the wheel with its run-time packages and no others."""
    site = next((image.folder / "venv" / "lib").iterdir()) / "site-packages"
    installed = {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower() for path in site.glob("*.dist-info")}
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert installed - {"pip", "setuptools"} == {re.sub(r"[-_.]+", "-", name) for name in locked} | {"line-inspector"}


def test_wheel_has_every_file_of_the_packages(image: StageRun) -> None:
    """Templates, fonts, schemas, migrations and weights travel with the wheel."""
    site = next((image.folder / "venv" / "lib").iterdir()) / "site-packages"
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        [*command, "inspector", "reports", "pipelines"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    expected = [line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]
    assert "inspector/config.schema.json" in expected
    assert [line for line in expected if not (site / line).is_file()] == []


@pytest.mark.timeout(400)
def test_image_runs_the_commands_that_are_named(image: StageRun) -> None:
    """The entry point runs and accepts the configuration that the compose file mounts."""
    entry_point = json.loads(parse_dockerfile()[-1].last("ENTRYPOINT"))
    program = image.program(entry_point[0])
    assert "run" in call(program, "--help")
    for command in (json.loads(parse_dockerfile()[-1].last("CMD")), COMPOSE["services"]["inspector"]["command"]):
        assert command[0] == "run"
        mounted = resolve_in_container(COMPOSE["services"]["inspector"], command[1])
        assert json.loads(call(program, "check", str(mounted), "--json"))["valid"] is True


def test_image_needs_no_system_libraries(image: StageRun) -> None:
    """Every shared library of the run-time packages finds what it needs in the wheels or in the slim image."""
    libraries = [path for path in image.folder.rglob("*.so*") if path.is_file() and not path.is_symlink()]
    assert any("cv2" in path.parts for path in libraries)
    foreign: dict[str, str] = {}
    for path in libraries:
        for line in subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout.splitlines():
            name, _, target = line.strip().partition(" => ")
            stem = re.split(r"\.so|-x86|-aarch", Path(name.split(" ")[0]).name)[0]
            inside = str(image.folder) in target or any(sibling.name == name for sibling in libraries)
            if target and not inside and stem not in SLIM_LIBRARIES:
                foreign[name] = path.name
    assert foreign == {}


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


def test_every_command_and_check_of_the_compose_file_exists(image: StageRun) -> None:
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
    refused = subprocess.run([image.program("python"), *check[2:]], capture_output=True, text=True, check=False)
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
