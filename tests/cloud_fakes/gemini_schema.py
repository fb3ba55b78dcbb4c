"""What the Gemini API and Vertex AI publish about their requests, as JSON Schema, written down from the REST reference.

Field names, types, enum values and limits are theirs (`generateContent` and `cachedContents`, versions
v1beta and v1); fields that we would never send are listed without their depths. Anything else is refused,
as Google's servers refuse an unknown name.
"""

from __future__ import annotations

import re
from typing import Any

MAX_REQUEST_BYTES = 20_000_000
"""Of a request with inline data; larger files have to be uploaded first."""

MIN_CACHED_TOKENS = 1024
TYPES = ["STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL"]
RESOLUTIONS = ["MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_MEDIUM", "MEDIA_RESOLUTION_HIGH"]
IMAGE_TYPES = ["image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"]
COUNT = {"type": "integer", "minimum": 0}
DURATION = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]{1,9})?s$"}
ANY_OBJECT = {"type": "object"}


def closed(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


DEFINITIONS: dict[str, Any] = {
    "schema": closed(
        {
            "type": {"enum": TYPES},
            "format": {"type": "string"},
            "title": {"type": "string"},
            "description": {"type": "string"},
            "nullable": {"type": "boolean"},
            "enum": {"type": "array", "items": {"type": "string"}},
            "maxItems": COUNT,
            "minItems": COUNT,
            "properties": {"type": "object", "additionalProperties": {"$ref": "#/$defs/schema"}},
            "required": {"type": "array", "items": {"type": "string"}},
            "minProperties": COUNT,
            "maxProperties": COUNT,
            "minLength": COUNT,
            "maxLength": COUNT,
            "pattern": {"type": "string"},
            "example": {},
            "anyOf": {"type": "array", "items": {"$ref": "#/$defs/schema"}},
            "propertyOrdering": {"type": "array", "items": {"type": "string"}},
            "default": {},
            "items": {"$ref": "#/$defs/schema"},
            "minimum": {"type": "number"},
            "maximum": {"type": "number"},
        },
        "type",
    ),
    "blob": closed(
        {
            "mimeType": {"enum": IMAGE_TYPES},
            "data": {"type": "string", "pattern": "^[A-Za-z0-9+/_-]+={0,2}$"},
        },
        "mimeType",
        "data",
    ),
    "part": {
        **closed(
            {
                "text": {"type": "string", "minLength": 1},
                "inlineData": {"$ref": "#/$defs/blob"},
                "fileData": closed({"mimeType": {"type": "string"}, "fileUri": {"type": "string"}}, "fileUri"),
                "thought": {"type": "boolean"},
                "thoughtSignature": {"type": "string"},
                "videoMetadata": ANY_OBJECT,
                "mediaResolution": closed({"level": {"enum": [*RESOLUTIONS, "MEDIA_RESOLUTION_ULTRA_HIGH"]}}, "level"),
            }
        ),
        "oneOf": [{"required": ["text"]}, {"required": ["inlineData"]}, {"required": ["fileData"]}],
    },
    "content": closed(
        {
            "role": {"enum": ["user", "model"]},
            "parts": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/part"}},
        },
        "parts",
    ),
    "safety_setting": closed(
        {
            "category": {"type": "string", "pattern": "^HARM_CATEGORY_[A-Z_]+$"},
            "threshold": {
                "enum": ["BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF"]
            },
            "method": {"enum": ["SEVERITY", "PROBABILITY"]},
        },
        "category",
        "threshold",
    ),
    "thinking_config": closed(
        {
            "includeThoughts": {"type": "boolean"},
            "thinkingBudget": {"type": "integer", "minimum": -1},
            "thinkingLevel": {"enum": ["MINIMAL", "LOW", "MEDIUM", "HIGH"]},
        }
    ),
    "generation_config": {
        **closed(
            {
                "stopSequences": {"type": "array", "maxItems": 5, "items": {"type": "string"}},
                "responseMimeType": {"enum": ["text/plain", "application/json", "text/x.enum"]},
                "responseSchema": {"$ref": "#/$defs/schema"},
                "responseJsonSchema": {},
                "responseModalities": {"type": "array", "items": {"enum": ["TEXT", "IMAGE", "AUDIO"]}},
                "candidateCount": {"type": "integer", "minimum": 1, "maximum": 8},
                "maxOutputTokens": {"type": "integer", "minimum": 1},
                "temperature": {"type": "number", "minimum": 0, "maximum": 2},
                "topP": {"type": "number", "minimum": 0, "maximum": 1},
                "topK": {"type": "number", "minimum": 1},
                "seed": {"type": "integer"},
                "presencePenalty": {"type": "number"},
                "frequencyPenalty": {"type": "number"},
                "responseLogprobs": {"type": "boolean"},
                "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
                "speechConfig": ANY_OBJECT,
                "thinkingConfig": {"$ref": "#/$defs/thinking_config"},
                "imageConfig": ANY_OBJECT,
                "mediaResolution": {"enum": RESOLUTIONS},
            }
        ),
        "dependentSchemas": {
            "responseSchema": {
                "required": ["responseMimeType"],
                "properties": {"responseMimeType": {"enum": ["application/json", "text/x.enum"]}},
            }
        },
    },
}

GENERATE_CONTENT: dict[str, Any] = {
    **closed(
        {
            "contents": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/content"}},
            "tools": {"type": "array", "items": ANY_OBJECT},
            "toolConfig": ANY_OBJECT,
            "safetySettings": {"type": "array", "items": {"$ref": "#/$defs/safety_setting"}},
            "systemInstruction": {"$ref": "#/$defs/content"},
            "generationConfig": {"$ref": "#/$defs/generation_config"},
            "store": {"type": "boolean"},
            "serviceTier": {"type": "string"},
            "cachedContent": {"type": "string", "pattern": "^(projects/[^/]+/locations/[^/]+/)?cachedContents/[^/]+$"},
        },
        "contents",
    ),
    "$defs": DEFINITIONS,
}

CREATE_CACHED_CONTENT: dict[str, Any] = {
    **closed(
        {
            "contents": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/content"}},
            "tools": {"type": "array", "items": ANY_OBJECT},
            "toolConfig": ANY_OBJECT,
            "systemInstruction": {"$ref": "#/$defs/content"},
            "displayName": {"type": "string", "maxLength": 128},
            "model": {
                "type": "string",
                "pattern": "^(models/|projects/[^/]+/locations/[^/]+/publishers/google/models/)",
            },
            "expireTime": {"type": "string"},
            "ttl": DURATION,
        },
        "model",
    ),
    "not": {"required": ["ttl", "expireTime"]},
    "$defs": DEFINITIONS,
}

UPDATE_CACHED_CONTENT: dict[str, Any] = {
    **closed({"expireTime": {"type": "string"}, "ttl": DURATION}),
    "oneOf": [{"required": ["ttl"]}, {"required": ["expireTime"]}],
}
"""Only the expiration of a cache can be changed."""


def use_json_names(document: Any) -> Any:
    """Names in camel case, as published: Google's servers take the original names of the fields as well.

    That is the JSON mapping of Protocol Buffers, and the SDK makes use of it. Keys of `properties` are no
    names of fields. The same field under both names is an error.
    """
    if isinstance(document, list):
        return [use_json_names(item) for item in document]
    if not isinstance(document, dict):
        return document
    renamed = {}
    for key, value in document.items():
        name = re.sub(r"_([a-z])", lambda found: found[1].upper(), key)
        if name in renamed:
            raise ValueError(f"the field {name} stands there twice")
        is_map = name == "properties" and isinstance(value, dict)
        renamed[name] = {inner: use_json_names(v) for inner, v in value.items()} if is_map else use_json_names(value)
    return renamed
