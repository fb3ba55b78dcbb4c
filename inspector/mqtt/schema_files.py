"""The JSON Schema files that ship with the package: `python -m inspector.mqtt.schema_files` rewrites them."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

from inspector.mqtt.payloads import PAYLOADS

DRAFT = "https://json-schema.org/draft/2020-12/schema"


def schema_text(name: str) -> str:
    """The schema of one topic as it stands in its file; `KeyError` for an unknown name."""
    model = PAYLOADS[name]
    schema: dict[str, Any] = {"$schema": DRAFT, "$id": f"inspector/v1/{name}.schema.json"}
    schema.update(model.model_json_schema(mode="validation"))
    if "schema_version" in schema["properties"]:
        schema["required"] = ["schema_version", *schema["required"]]
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def load_schema(name: str) -> dict[str, Any]:
    """The shipped schema of one topic, for example `inspection` or `cmd-trigger`."""
    text = resources.files("inspector.mqtt").joinpath("schemas", f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def write_schema_files(folder: Path) -> list[Path]:
    """Write one file per topic into `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in PAYLOADS:
        path = folder / f"{name}.schema.json"
        path.write_text(schema_text(name), encoding="utf-8")
        paths.append(path)
    return paths


if __name__ == "__main__":
    write_schema_files(Path(__file__).parent / "schemas")
