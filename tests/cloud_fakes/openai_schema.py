"""What OpenAI publishes about chat completion requests, as JSON Schema, written down from its OpenAPI description.

Field names, types, enum values and limits are theirs; fields that we would never send are listed without
their depths. Anything else is refused.
"""

from __future__ import annotations

from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from tests.cloud_fakes.gemini_schema import closed

MAX_REQUEST_BYTES = 50_000_000
MAX_IMAGES = 500
ANY = {"type": "object"}
ANY_LIST = {"type": "array", "items": ANY}
NUMBER_OR_NULL = {"type": ["number", "null"]}
INTEGER_OR_NULL = {"type": ["integer", "null"]}
BOOLEAN_OR_NULL = {"type": ["boolean", "null"]}
STRING_OR_NULL = {"type": ["string", "null"]}

TEXT_PART = closed({"type": {"const": "text"}, "text": {"type": "string"}}, "type", "text")
IMAGE_PART = closed(
    {
        "type": {"const": "image_url"},
        "image_url": closed(
            {
                "url": {"type": "string", "pattern": "^(https://|data:image/(png|jpeg|webp|gif);base64,)"},
                "detail": {"enum": ["auto", "low", "high", "original"]},
            },
            "url",
        ),
    },
    "type",
    "image_url",
)
TEXTS = {"oneOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": TEXT_PART}]}
USER_CONTENT = {
    "oneOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {"oneOf": [TEXT_PART, IMAGE_PART]}},
    ]
}
MESSAGE = {
    "oneOf": [
        closed({"role": {"const": "system"}, "content": TEXTS, "name": {"type": "string"}}, "role", "content"),
        closed({"role": {"const": "developer"}, "content": TEXTS, "name": {"type": "string"}}, "role", "content"),
        closed({"role": {"const": "user"}, "content": USER_CONTENT, "name": {"type": "string"}}, "role", "content"),
        closed({"role": {"const": "assistant"}, "content": TEXTS, "name": {"type": "string"}}, "role"),
    ]
}
RESPONSE_FORMAT = {
    "oneOf": [
        closed({"type": {"const": "text"}}, "type"),
        closed({"type": {"const": "json_object"}}, "type"),
        closed(
            {
                "type": {"const": "json_schema"},
                "json_schema": closed(
                    {
                        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
                        "description": {"type": "string"},
                        "schema": ANY,
                        "strict": BOOLEAN_OR_NULL,
                    },
                    "name",
                ),
            },
            "type",
            "json_schema",
        ),
    ]
}

CHAT_COMPLETION: dict[str, Any] = closed(
    {
        "messages": {"type": "array", "minItems": 1, "items": MESSAGE},
        "model": {"type": "string", "minLength": 1},
        "audio": ANY,
        "frequency_penalty": NUMBER_OR_NULL,
        "logit_bias": ANY,
        "logprobs": BOOLEAN_OR_NULL,
        "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "metadata": ANY,
        "modalities": {"type": "array", "items": {"enum": ["text", "audio"]}},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": 128},
        "parallel_tool_calls": {"type": "boolean"},
        "prediction": ANY,
        "presence_penalty": NUMBER_OR_NULL,
        "prompt_cache_key": STRING_OR_NULL,
        "prompt_cache_retention": {"enum": ["in_memory", "24h", None]},
        "reasoning_effort": {"enum": ["none", "minimal", "low", "medium", "high", "xhigh", None]},
        "response_format": RESPONSE_FORMAT,
        "safety_identifier": STRING_OR_NULL,
        "seed": INTEGER_OR_NULL,
        "service_tier": {"enum": ["auto", "default", "flex", "scale", "priority", None]},
        "stop": {"type": ["string", "array", "null"]},
        "store": BOOLEAN_OR_NULL,
        "stream": {"enum": [False, None]},
        "stream_options": ANY,
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "tool_choice": {},
        "tools": ANY_LIST,
        "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
        "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "user": {"type": "string"},
        "verbosity": {"enum": ["low", "medium", "high", None]},
        "web_search_options": ANY,
    },
    "messages",
    "model",
)

STRICT_KEYWORDS = {
    "type", "properties", "required", "additionalProperties", "description", "enum", "const", "anyOf", "items",
    "$ref", "$defs", "pattern", "format", "multipleOf", "minimum", "maximum", "exclusiveMinimum",
    "exclusiveMaximum", "minItems", "maxItems",
}  # fmt: skip
"""The part of JSON Schema that strict structured outputs know."""


def find_strict_fault(schema: Any) -> str | None:
    """Why a schema is not one for strict mode, or None."""
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return f"not a JSON Schema: {error.message[:200]}"
    if schema.get("type") != "object":
        return "schema must be a JSON Schema of 'type: \"object\"'"
    return _find_fault(schema, "schema")


def _find_fault(schema: dict[str, Any], where: str) -> str | None:
    if unknown := schema.keys() - STRICT_KEYWORDS:
        return f"{where}: keywords {sorted(unknown)} are not permitted"
    if schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            return f"{where}: 'additionalProperties' is required to be supplied and to be false"
        if set(schema.get("required", [])) != set(schema.get("properties", {})):
            return f"{where}: 'required' has to hold every key in properties"
    nested = [*schema.get("properties", {}).items(), *enumerate(schema.get("anyOf", []))]
    if "items" in schema:
        nested.append(("items", schema["items"]))
    return next((fault for key, item in nested if (fault := _find_fault(item, f"{where}.{key}"))), None)
