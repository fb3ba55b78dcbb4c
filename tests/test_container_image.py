"""The image without a container engine: its steps, carried out in clean environments (`make image-trial`)."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_container import COMPOSE, ROOT, Stage, parse_dockerfile, resolve_in_container

pytestmark = [pytest.mark.image, pytest.mark.timeout(400)]

SLIM_LIBRARIES = {
    *("libc", "libm", "libdl", "libpthread", "librt", "libutil", "ld-linux"),
    *("libstdc++", "libgcc_s", "libz"),
}
"""What python:3.11-slim has without any apt-get: the C and C++ run-time libraries and zlib."""

ABSOLUTE = re.compile(r"(?<![\w./])/(?=(?:src|wheels|data)\b)")


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


def test_image_holds_the_service_and_nothing_else(image: StageRun) -> None:
    """The Dockerfile's steps, in clean environments, give the wheel with its run-time packages and no others."""
    site = next((image.folder / "venv" / "lib").iterdir()) / "site-packages"
    installed = {re.sub(r"[-_.]+", "-", path.name.split("-")[0]).lower() for path in site.glob("*.dist-info")}
    locked = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert installed - {"pip", "setuptools"} == {re.sub(r"[-_.]+", "-", name) for name in locked} | {"line-inspector"}


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
