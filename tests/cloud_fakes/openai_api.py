"""An OpenAI-compatible server, as far as questions go: `POST /v1/chat/completions`."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.cloud_fakes.gemini import decode_image
from tests.cloud_fakes.openai_schema import CHAT_COMPLETION, MAX_IMAGES, MAX_REQUEST_BYTES, find_strict_fault
from tests.cloud_fakes.server import (
    Asked,
    FakeServer,
    HttpReply,
    Model,
    Received,
    RequestRefusedError,
    check_schema,
)
from tests.mosquitto import TlsFiles

API_KEY = "sk-fake-key-for-tests-0123456789"
MODEL = "test-vision-1"
TOKENS_OF_IMAGE = {"low": 85, "high": 765, "auto": 765, "original": 2000}
PREFIX_BLOCK = 128


class FakeOpenAi(FakeServer):
    """`api_key` None asks for none, as Ollama does. Equal beginnings of prompts are counted as cached."""

    def __init__(
        self, *, tls: TlsFiles | None = None, model: Model | None = None, api_key: str | None = API_KEY
    ) -> None:
        super().__init__(tls=tls, model=model)
        self.api_key = api_key
        self._seen_prefixes: set[str] = set()

    def refusal(self, status: int, message: str, reason: str) -> bytes:
        return json.dumps({"error": {"message": message, "type": reason, "param": None, "code": None}}).encode()

    def reply(self, received: Received, answer_text: str | None) -> HttpReply:
        if self.api_key is not None and received.headers.get("authorization") != f"Bearer {self.api_key}":
            raise RequestRefusedError(401, "Incorrect API key provided", "invalid_request_error", is_violation=False)
        if (received.method, received.path) != ("POST", "/v1/chat/completions"):
            raise RequestRefusedError(404, f"Invalid URL ({received.method} {received.path})")
        if len(received.body) > MAX_REQUEST_BYTES or received.headers.get("content-type") != "application/json":
            raise RequestRefusedError(413, "too large, or not JSON")
        body = received.json()
        check_schema(CHAT_COMPLETION, body)
        schema = body.get("response_format", {}).get("json_schema")
        if schema is not None and schema.get("strict") and (fault := find_strict_fault(schema["schema"])):
            raise RequestRefusedError(400, f"Invalid schema for response_format '{schema['name']}': {fault}")
        if body["model"] != MODEL:
            raise RequestRefusedError(404, f"The model `{body['model']}` does not exist", is_violation=False)
        asked, prompt_tokens, cached_tokens = self._look_at(body["messages"])
        text = self.answer_text(asked) if answer_text is None else answer_text
        return HttpReply(200, json.dumps(_completion(text, prompt_tokens, cached_tokens)).encode())

    def _look_at(self, messages: list[dict[str, Any]]) -> tuple[Asked, int, int]:
        texts: dict[str, list[str]] = {"system": [], "user": []}
        images: list[tuple[str, bytes]] = []
        tokens, cached, prefix = 0, 0, ""
        for message in messages:
            content = message["content"]
            parts: list[dict[str, Any]] = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for part in parts:
                if part["type"] == "text":
                    texts["system" if message["role"] in ("system", "developer") else "user"].append(part["text"])
                    tokens += len(part["text"]) // 4 + 1
                else:
                    images.append(_read_data_url(part["image_url"]["url"]))
                    tokens += TOKENS_OF_IMAGE[part["image_url"].get("detail", "auto")]
                prefix += json.dumps(part, sort_keys=True)
                if prefix in self._seen_prefixes:
                    cached = tokens
                self._seen_prefixes.add(prefix)
        if len(images) > MAX_IMAGES:
            raise RequestRefusedError(400, "too many images")
        asked = Asked("\n".join(texts["system"]), "\n".join(texts["user"]), tuple(images))
        return asked, tokens, cached // PREFIX_BLOCK * PREFIX_BLOCK


def _read_data_url(url: str) -> tuple[str, bytes]:
    found = re.fullmatch(r"data:(image/[a-z]+);base64,(.+)", url, re.DOTALL)
    if found is None:
        raise RequestRefusedError(400, "the picture has to be inline")
    return found[1], decode_image(found[1], found[2])


def _completion(text: str, prompt_tokens: int, cached_tokens: int) -> dict[str, Any]:
    written = len(text) // 4 + 1
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": f"{MODEL}-2026-01-01",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": written,
            "total_tokens": prompt_tokens + written,
            "prompt_tokens_details": {"cached_tokens": cached_tokens, "audio_tokens": 0},
        },
        "service_tier": "default",
    }
