"""The models of the configuration: each described and bounded; the shipped files and the schema agree with them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from inspector.camera_settings import Settings
from inspector.cloud_settings import StationCloudConfig
from inspector.config import PlantConfig, config_schema, load_config
from inspector.yaml_source import make_core_schema_loader

ROOT = Path(__file__).resolve().parent.parent


def walk_models(model: type[BaseModel] = Settings) -> Iterator[type[BaseModel]]:
    for subclass in model.__subclasses__():
        yield subclass
        yield from walk_models(subclass)


def fields_of_all_models() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{model.__name__}.{name}", field)
        for model in walk_models()
        for name, field in model.model_json_schema()["properties"].items()
    ]


@pytest.mark.parametrize("model", list(walk_models()), ids=lambda model: model.__name__)
def test_every_section_and_field_is_described(model: type[BaseModel]) -> None:
    """Every section has a docstring, every field a description that ends as a sentence; none takes unknown keys."""
    assert model.__doc__ and model.model_config.get("extra") == "forbid" and model.model_config.get("frozen")
    for name, field in model.model_fields.items():
        assert field.description and field.description.endswith("."), f"{model.__name__}.{name}"


@pytest.mark.parametrize(
    ("name", "field"), fields_of_all_models(), ids=lambda item: item if isinstance(item, str) else ""
)
def test_every_field_is_bounded(name: str, field: dict[str, Any]) -> None:
    """Numbers have both bounds, lists a longest length, texts a pattern or a longest length."""
    for choice in field.get("anyOf", [field]):
        kind = choice.get("type")
        if kind in ("integer", "number"):
            assert {"minimum", "exclusiveMinimum"} & choice.keys(), name
            assert {"maximum", "exclusiveMaximum"} & choice.keys(), name
        elif kind == "array":
            assert "maxItems" in choice, name
        elif kind == "string" and choice.get("format") != "path":
            assert {"enum", "const", "pattern", "maxLength"} & choice.keys(), name


CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configuration(path: Path) -> None:
    """Every shipped configuration loads, agrees with the schema, and tells editors where that is."""
    first_line = path.read_text(encoding="utf-8").splitlines()[0]
    match = re.fullmatch(r"# yaml-language-server: \$schema=(.+)", first_line)
    assert match and (path.parent / match[1]).is_file()
    values = yaml.load(path.read_text(encoding="utf-8"), Loader=make_core_schema_loader())
    assert list(Draft202012Validator(config_schema()).iter_errors(values)) == []
    assert load_config(path).stations()


def test_reference_station_shows_every_key() -> None:
    """The annotated reference has every key of every section that a real station can have."""
    values = yaml.load(CONFIGS[-1].read_text(encoding="utf-8"), Loader=make_core_schema_loader())
    assert CONFIGS[-1].name == "station.yaml"
    written = set(_keys(values))
    for model in walk_models():
        if not model.__name__.startswith(("Simulated", "Interval", "CameraBase")):
            missing = set(model.model_fields) - written
            assert not missing, f"{model.__name__}: {missing}"


def test_reference_station_states_the_defaults() -> None:
    """Where the reference says that it shows a default, it does."""
    config = load_config(CONFIGS[-1])
    written = config.model_dump()
    plain = PlantConfig.model_validate({"site": {"id": "a"}, "lines": written["lines"], "cloud": written["cloud"]})
    cloud = next(iter(config.stations().values())).cloud
    assert cloud.model_dump(exclude={"provider", "masks", "areas"}) == StationCloudConfig().model_dump(
        exclude={"provider", "masks", "areas"}
    )
    assert config.store == plain.store and config.http == plain.http
    assert config.mqtt.model_dump(exclude={"host", "port", "username_env", "password_env", "tls"}) == (
        plain.mqtt.model_dump(exclude={"host", "port", "username_env", "password_env", "tls"})
    )


def _keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _keys(item)
    elif isinstance(value, list):
        for item in value:
            yield from _keys(item)


def test_only_config_reads_the_environment() -> None:
    """No other module of the product looks at environment variables for settings."""
    readers = {
        str(path.relative_to(ROOT))
        for folder in ("inspector", "reports", "pipelines")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"os\.(environ\b(?!\[\S+\] = )|getenv)", path.read_text(encoding="utf-8"))
    }
    assert readers <= {"inspector/config.py"}, readers


def test_shipped_schema_is_that_of_the_models() -> None:
    """The package ships the JSON Schema for editors, and it is the models' own."""
    text = resources.files("inspector").joinpath("config.schema.json").read_text(encoding="utf-8")
    assert json.loads(text) == config_schema()


def test_reference_page_is_that_of_the_models(tmp_path: Path) -> None:
    """`make schema` would change nothing: docs/configuration.md lists every key as the models have it."""
    subprocess.run([sys.executable, ROOT / "tools" / "write_config_reference.py", tmp_path], check=True)
    written = (tmp_path / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8") == written
    for model in walk_models():
        for name in model.model_fields:
            assert f"| `{name}` |" in written, f"{model.__name__}.{name}"
