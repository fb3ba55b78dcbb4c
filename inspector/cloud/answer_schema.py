"""The schema of `Answer` in the dialects of the providers, derived from the model itself.

No dialect has every keyword. What one lacks is told to the model in words; the answer is held against
`Answer` in any case.
"""

from __future__ import annotations

from typing import Any

from inspector.cloud.provider import Answer


def derive_openai_schema() -> dict[str, Any]:
    """JSON Schema as OpenAI's strict mode takes it: everything required, nothing else allowed, no `maxLength`.

    Servers that know more of JSON Schema (vLLM, Ollama) take it as well.
    """
    return {
        "type": "object",
        "properties": {name: _strict_property(value) for name, value in _properties().items()},
        "required": list(_properties()),
        "additionalProperties": False,
    }


def derive_gemini_schema() -> dict[str, Any]:
    """The `Schema` object of the Gemini API (a subset of OpenAPI 3.0): types in capitals, `nullable`, an order."""
    names = list(_properties())
    return {
        "type": "OBJECT",
        "properties": {name: _gemini_property(value) for name, value in _properties().items()},
        "required": names,
        "property_ordering": names,
    }


def _properties() -> dict[str, dict[str, Any]]:
    properties: dict[str, dict[str, Any]] = Answer.model_json_schema()["properties"]
    return properties


def _split_nullable(value: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """The schema of the value without its alternative `null`, and whether it had one; no title."""
    alternatives = value.get("anyOf", [value])
    kept = [item for item in alternatives if item.get("type") != "null"]
    merged = {**{key: item for key, item in value.items() if key != "anyOf"}, **kept[0]}
    return {key: item for key, item in merged.items() if key != "title"}, len(kept) < len(alternatives)


def _strict_property(value: dict[str, Any]) -> dict[str, Any]:
    plain, nullable = _split_nullable(value)
    longest = plain.pop("maxLength", None)
    if longest is not None:
        plain["description"] = f"{plain['description']} At most {longest} characters."
    if not nullable:
        return plain
    description = plain.pop("description")
    return {"anyOf": [plain, {"type": "null"}], "description": description}


def _gemini_property(value: dict[str, Any]) -> dict[str, Any]:
    plain, nullable = _split_nullable(value)
    names = {"maxLength": "max_length"}
    renamed = {names.get(key, key): item for key, item in plain.items()}
    renamed["type"] = plain["type"].upper()
    return {**renamed, "nullable": True} if nullable else renamed
