"""The house: layout, import direction, locks, documentation that is true, and nothing left lying about."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import typer.main
from jsonschema import Draft202012Validator
from typer.core import TyperGroup

from pipelines.command_line import app

ROOT = Path(__file__).resolve().parent.parent
CODE = ("inspector", "reports", "pipelines")
MAX_LINES, MAX_TEST_LINES = 500, 700
MAX_FILE_BYTES = 4_000_000
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "handler", "data", "misc", "base"}
LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-build.lock")
TRAIN_LOCK = "requirements-train.lock"
REGISTRY_OR_PATH = re.compile(r"https?://|file:|/work\b|/opt\b|/tmp\b|index-url|find-links|trusted-host")


def files_of_the_repository() -> list[Path]:
    """What git has or would take: tracked files and new ones that are not ignored, as far as they exist."""
    listed = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [Path(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def python_files(*folders: str) -> list[Path]:
    return [path for path in files_of_the_repository() if path.suffix == ".py" and path.parts[0] in folders]


def read(path: Path | str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


# --- layout -----------------------------------------------------------------------------------------


def test_no_file_is_long() -> None:
    """Every file of the product stays under 500 lines, every test under 700."""
    for limit, folders in ((MAX_LINES, (*CODE, "tools")), (MAX_TEST_LINES, ("tests",))):
        lengths = {str(path): len(read(path).splitlines()) for path in python_files(*folders)}
        assert lengths and {name: lines for name, lines in lengths.items() if lines >= limit} == {}


def test_no_file_without_a_good_name() -> None:
    """No module is called after nothing (utils, common, helpers, manager …)."""
    assert [path for path in python_files(*CODE, "tests", "tools") if path.stem in BANNED_NAMES] == []


def test_every_module_says_what_it_is() -> None:
    """Every module of the product begins with a docstring."""
    modules = [path for path in python_files(*CODE) if path.name != "__init__.py" and "versions" not in path.parts]
    assert modules and [path for path in modules if not read(path).lstrip().startswith(('"""', 'r"""'))] == []


def test_nothing_prints() -> None:
    """The product logs or answers through the command line; nothing calls print."""
    printing = [path for path in python_files(*CODE) if re.search(r"^\s*print\(", read(path), re.MULTILINE)]
    assert printing == []


def test_no_bare_except_and_no_assert_in_the_product() -> None:
    """Errors are caught by name, and input is checked by code that -O keeps."""
    for path in python_files(*CODE):
        assert not re.search(r"^\s*except\s*:", read(path), re.MULTILINE), path
        assert not re.search(r"^\s*assert\s", read(path), re.MULTILINE), path


def test_repository_is_small_and_portable() -> None:
    """No file is larger than 4 MB, and the locks name no package index and no place on somebody's machine."""
    for path in files_of_the_repository():
        assert (ROOT / path).stat().st_size < MAX_FILE_BYTES, path
    for name in LOCKS:
        assert not REGISTRY_OR_PATH.search(read(name)), name


# --- import direction -------------------------------------------------------------------------------


def test_import_direction() -> None:
    """Pipelines import reports, these the six, these geometry and scenes, these the foundations; never back."""
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout


def test_import_direction_is_enforced(tmp_path: Path) -> None:
    """The contracts are not empty: they name every package of the product, and the six as independent."""
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers, independence = contracts
    named = set(re.findall(r"[\w.]+", " ".join(layers["layers"])))
    packages = {f"inspector.{path.name}" for path in (ROOT / "inspector").iterdir() if (path / "__init__.py").exists()}
    assert packages | {"reports", "pipelines"} <= named
    assert set(independence["modules"]) == packages - {"inspector.geometry", "inspector.scenes"}


# --- locks ------------------------------------------------------------------------------------------


def locked_versions(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==(\S+) \\$", read(name), re.MULTILINE))


def normalise(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def test_locks_hold_what_is_required() -> None:
    """Every direct requirement is locked with hashes, and what is tested is what is shipped and built with."""
    project = tomllib.loads(read("pyproject.toml"))
    runtime, development, build = (locked_versions(name) for name in LOCKS)
    assert {normalise(item) for item in project["project"]["dependencies"]} <= runtime.keys()
    assert {normalise(item) for item in project["project"]["optional-dependencies"]["dev"]} <= development.keys()
    assert {normalise(item) for item in project["build-system"]["requires"]} <= build.keys()
    assert runtime.items() <= development.items()
    assert build.items() <= development.items()
    for name in LOCKS:
        assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[a-z0-9])", read(name).strip())), name


def test_training_is_locked_with_the_same_versions() -> None:
    """What training needs has a lock of its own, with hashes, whose versions are those that are tested and shipped."""
    project = tomllib.loads(read("pyproject.toml"))["project"]
    training, development = (locked_versions(name) for name in (TRAIN_LOCK, "requirements-dev.lock"))
    assert {normalise(item) for item in project["optional-dependencies"]["train"]} <= training.keys()
    assert locked_versions("requirements.lock").items() <= training.items()
    assert {name for name in training.keys() & development.keys() if training[name] != development[name]} == set()
    assert all("--hash=sha256:" in entry for entry in re.split(r"\n(?=[a-z0-9])", read(TRAIN_LOCK).strip()))
    assert not re.search(r"://|^--", read(TRAIN_LOCK), re.MULTILINE)


def test_optional_parts_are_not_locked_in() -> None:
    """Neither PyTorch nor a cloud provider's client comes with the service."""
    assert not {"torch", "google-genai", "openai"} & locked_versions("requirements.lock").keys()


def test_cloud_clients_are_locked_for_the_tests() -> None:
    """The SDKs of the cloud providers are installed where the tests run, with hashes, so that none is skipped."""
    extras = tomllib.loads(read("pyproject.toml"))["project"]["optional-dependencies"]
    required = {normalise(item) for name in ("gemini", "openai") for item in extras[name]}
    assert required <= locked_versions("requirements-dev.lock").keys()


def test_the_weights_and_their_card_ship() -> None:
    """What is installed holds the card of the shipped nets, with their licence and the data behind it."""
    card = (resources.files("inspector.generator") / "weights" / "MODEL_CARD.md").read_text(encoding="utf-8")
    for said in ("CC BY-SA 4.0", "circuitboard", "ball_screw", "aliens", "2103.13003", "Known failures"):
        assert said in card, said


# --- documentation ----------------------------------------------------------------------------------


def walk_commands(group: TyperGroup, prefix: str = "inspector") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from walk_commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def all_commands() -> dict[str, Any]:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(walk_commands(group))


@pytest.mark.parametrize("name", all_commands())
def test_every_command_is_explained(name: str) -> None:
    """Each command, argument and option has a help text, and each command takes --json."""
    command = all_commands()[name]
    assert command.help and all(parameter.help for parameter in command.params), name
    assert "--json" in [option for parameter in command.params for option in parameter.opts]


@pytest.mark.parametrize("name", [name for name in all_commands() if name != "inspector version"])
def test_every_command_stands_in_the_readme(name: str) -> None:
    """The README's table of commands is complete."""
    assert f"`{name}" in read("README.md")


def test_command_page_is_that_of_the_code(tmp_path: Path) -> None:
    """`make schema` would change nothing: docs/commands.md has every command with every option."""
    subprocess.run([sys.executable, ROOT / "tools" / "write_command_reference.py", tmp_path], check=True)
    written = (tmp_path / "docs" / "commands.md").read_text(encoding="utf-8")
    assert read("docs/commands.md") == written
    for name, command in all_commands().items():
        section = written.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for parameter in command.params:
            assert parameter.name == "help" or parameter.opts[0] in section or parameter.name.upper() in section


def test_readme_file_map_is_true() -> None:
    """The README's file map names every module of the product once, and none that is gone."""
    section = re.search(r"^## File map$(.*?)(?=^## |\Z)", read("README.md"), re.MULTILINE | re.DOTALL)
    assert section, "README.md has no section 'File map'"
    named = re.findall(r"^\s*(?:[-*]\s+)?`?([\w./-]+\.(?:py|md|yaml|yml|toml|html))`?\s", section[1], re.MULTILINE)
    assert len(named) == len(set(named))
    assert [name for name in named if not (ROOT / name).is_file()] == []
    modules = {
        str(path)
        for path in python_files(*CODE)
        if "versions" not in path.parts and not (path.name == "__init__.py" and len(read(path).splitlines()) < 4)
    }
    assert modules - set(named) == set()


@pytest.mark.parametrize("page", [path for path in files_of_the_repository() if path.suffix == ".md"], ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link and picture of every page exists."""
    text = re.sub(r"`[^`\n]*`", "", read(page))
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)|src=\"([^\"]+)\"", text):
        path = target[0] or target[1]
        if not re.match(r"[a-z]+:", path):
            assert ((ROOT / page).parent / path).exists(), f"{page}: {path}"


def test_make_targets_are_documented() -> None:
    """`make help` lists every target that people run, and the README gives the two that matter."""
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = "venv demo test lint bench line-trial crash-trial accuracy schema lock clean"
    for target in targets.split():
        assert re.search(rf"make {target}\s+\S", shown), target
    assert "make demo" in read("README.md") and "make test" in read("README.md")


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """CI runs what people run."""
    assert re.search(r"^make test\b", read(".ci/run"), re.MULTILINE)


def test_mqtt_page_names_every_topic() -> None:
    """docs/mqtt.md explains each topic and each command that has a schema."""
    page = read("docs/mqtt.md")
    for path in (ROOT / "inspector" / "mqtt" / "schemas").glob("*.json"):
        name = path.name.removesuffix(".schema.json")
        assert f"`{name}`" in page or f"`{name.replace('cmd-', 'cmd/', 1)}`" in page, name
        assert f"<!-- {name} -->" in page, f"{name} has no example"


def test_examples_in_the_mqtt_page_are_true() -> None:
    """Every JSON example in docs/mqtt.md is valid by the shipped schema of its topic."""
    examples = re.findall(r"<!-- (\S+) -->\n```json\n(.*?)```", read("docs/mqtt.md"), re.DOTALL)
    assert examples
    for name, text in examples:
        schema = json.loads(read(f"inspector/mqtt/schemas/{name}.schema.json"))
        assert list(Draft202012Validator(schema).iter_errors(json.loads(text))) == [], name


def test_shell_scripts_are_sound() -> None:
    """Every script parses, stops at the first error and is executable."""
    scripts = [path for path in files_of_the_repository() if path.suffix == ".sh"] + [Path(".ci/run")]
    assert len(scripts) >= 5
    for path in scripts:
        subprocess.run(["bash", "-n", path], cwd=ROOT, check=True)
        assert re.search(r"^(set -eu|exec )", read(path), re.MULTILINE), path
        assert (ROOT / path).stat().st_mode & 0o111, path


def test_markers_are_used_where_programs_are_needed() -> None:
    """Each Debian package that the tests use is installed by the script, or its absence is explained by it."""
    script = read("tools/install_debian_packages.sh")
    markers = tomllib.loads(read("pyproject.toml"))["tool"]["pytest"]["ini_options"]["markers"]
    for marker in ("broker", "browser", "ocr", "rtsp", "trial"):
        assert any(item.startswith(f"{marker}:") for item in markers)
        assert marker in script, marker
