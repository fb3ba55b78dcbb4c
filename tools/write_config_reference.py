"""Write the JSON Schema of the configuration and its page in the docs, both from the models.

    python tools/write_config_reference.py [FOLDER]

FOLDER is the repository's root by default; the files go to `inspector/config.schema.json` and
`docs/configuration.md` in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspector.config import config_schema

INTRODUCTION = """\
# Configuration reference

Generated from the models by `make schema`; a test holds it against them. An annotated example of a
whole file is [configs/station.yaml](../configs/station.yaml), a plant of two lines
[configs/plant.yaml](../configs/plant.yaml).

- `inspector check FILE` validates a file and prints it resolved. Each problem names file, line, key and
  reason; an unknown key also the nearest valid one.
- Keys ending in `_env` hold the NAME of an environment variable; secrets never stand in the file.
- Relative paths start at the configuration file.
- The data directory is `--data-dir`, else the environment variable `INSPECTOR_DATA_DIR`, else
  `./inspector-data`.
- Editors complete and check the file when its first line is
  `# yaml-language-server: $schema=PATH/config.schema.json`; `inspector schema` prints that schema.
- Scalars follow YAML 1.2: write `true` or `false`, numbers without quotes. Aliases (`*name`) are refused.
"""


def write_reference(root: Path) -> None:
    """Write both files below `root`."""
    schema = config_schema()
    schema_path = root / "inspector" / "config.schema.json"
    page_path = root / "docs" / "configuration.md"
    for path in (schema_path, page_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    schema_path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page_path.write_text(INTRODUCTION + "\n" + "\n".join(_render_sections(schema)), encoding="utf-8")


def _render_sections(schema: dict[str, Any]) -> Iterator[str]:
    """Every section below the root, each after the section that holds it."""
    waiting = [("(top level)", schema)]
    while waiting:
        path, section = waiting.pop(0)
        yield f"## `{path}`\n\n{section['description']}\n"
        yield "| key | what | default | meaning |\n|---|---|---|---|"
        inner: list[tuple[str, dict[str, Any]]] = []
        for key, field in section["properties"].items():
            default = _describe_default(field, required=key in section.get("required", []))
            cells = (f"`{key}`", _describe_type(schema, field), default, _describe_meaning(schema, field))
            yield f"| {' | '.join(_escape(cell) for cell in cells)} |"
            below = f"{path}.{key}".removeprefix("(top level).")
            inner.extend(_subsections(schema, below, field))
        yield ""
        waiting = inner + waiting


def _subsections(schema: dict[str, Any], path: str, field: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "items" in field:
        yield from _subsections(schema, f"{path}[]", field["items"])
    if "$ref" in field and "properties" in _referred(schema, field):
        yield path, _referred(schema, field)
    for choice in field.get("anyOf", []):
        yield from _subsections(schema, path, choice)
    for choice in field.get("oneOf", []):
        # Triggers are the same for every kind of camera: one explanation is enough.
        if "trigger" not in path or "folder" in path:
            branch = _referred(schema, choice)
            shown = path.replace(" with kind: folder", "")
            yield f"{shown} with kind: {branch['properties']['kind']['const']}", branch


def _referred(schema: dict[str, Any], field: dict[str, Any]) -> dict[str, Any]:
    section: dict[str, Any] = schema["$defs"][field["$ref"].rsplit("/", 1)[1]]
    return section


def _describe_meaning(schema: dict[str, Any], field: dict[str, Any]) -> str:
    """The field's description; pydantic leaves it out where it repeats the section's."""
    text: str = field["description"] if "description" in field else _referred(schema, field)["description"]
    return text


def _describe_type(schema: dict[str, Any], field: dict[str, Any]) -> str:
    if "$ref" in field:
        section = _referred(schema, field)
        return _join_values(section["enum"]) if "enum" in section else "section"
    if "anyOf" in field:
        return " or ".join(_describe_type(schema, choice) for choice in field["anyOf"])
    if "oneOf" in field:
        return "section, by `kind`"
    if "enum" in field:
        return _join_values(field["enum"])
    if "const" in field:
        return f"`{field['const']}`"
    if field["type"] == "array":
        return f"list, {field.get('minItems', 0)} to {field['maxItems']} items"
    if field["type"] == "string":
        return _describe_text(field)
    name = {"boolean": "true or false"}.get(field["type"], field["type"])
    return f"{name} {' and '.join(_describe_bounds(field))}".rstrip()


def _describe_text(field: dict[str, Any]) -> str:
    if field.get("format") == "path":
        return "path"
    if "pattern" in field:
        return f"text matching `{field['pattern']}`"
    return f"text, at most {field['maxLength']} characters" if "maxLength" in field else "text"


def _describe_bounds(field: dict[str, Any]) -> list[str]:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return [f"{sign} {field[word]:,}".replace(",", " ") for word, sign in words.items() if word in field]


def _describe_default(field: dict[str, Any], *, required: bool) -> str:
    if required:
        return "required"
    if "default" not in field:
        return "`every_frame`" if "discriminator" in field else "see its section"
    return "none" if field["default"] in (None, "") else f"`{json.dumps(field['default'], ensure_ascii=False)}`"


def _join_values(values: list[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
