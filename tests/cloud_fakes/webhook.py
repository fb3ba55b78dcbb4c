"""A receiver of signed webhooks, written from docs/cloud-providers.md alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from tests.cloud_fakes.gemini import decode_image
from tests.cloud_fakes.gemini_schema import closed
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

SECRET = "whsec_" + base64.b64encode(b"thirty-two bytes for the tests..").decode()
TOLERANCE_S = 300
MAX_REQUEST_BYTES = 20_000_000
QUESTION: dict[str, Any] = closed(
    {
        "contract": {"const": "inspector.question/1"},
        "escalation_id": {"type": "string", "minLength": 1, "maxLength": 64},
        "context_key": {"type": "string", "minLength": 1, "maxLength": 128},
        "instruction": {"type": "string", "minLength": 1},
        "text": {"type": "string", "minLength": 1},
        "media_resolution": {"enum": ["low", "medium", "high"]},
        "images": {
            "type": "array",
            "minItems": 1,
            "items": closed(
                {
                    "role": {"enum": ["golden", "part"]},
                    "media_type": {"enum": ["image/jpeg", "image/png"]},
                    "content_base64": {"type": "string", "pattern": "^[A-Za-z0-9+/]+={0,2}$"},
                },
                "role",
                "media_type",
                "content_base64",
            ),
        },
    },
    "contract",
    "escalation_id",
    "context_key",
    "instruction",
    "text",
    "media_resolution",
    "images",
)


class FakeReceiver(FakeServer):
    """Checks signature, time and body of what arrives at `/opinion`, and answers as documented."""

    def __init__(self, *, tls: TlsFiles | None = None, model: Model | None = None) -> None:
        super().__init__(tls=tls, model=model)
        self.secret = SECRET

    def refusal(self, status: int, message: str, reason: str) -> bytes:
        return json.dumps({"error": message}).encode()

    def reply(self, received: Received, answer_text: str | None) -> HttpReply:
        if (received.method, received.path) != ("POST", "/opinion"):
            raise RequestRefusedError(404, "no such address")
        if len(received.body) > MAX_REQUEST_BYTES or received.headers.get("content-type") != "application/json":
            raise RequestRefusedError(413, "too large, or not JSON")
        check_signature(self.secret, received.headers, received.body)
        body = received.json()
        check_schema(QUESTION, body)
        if received.headers["webhook-id"] != body["escalation_id"]:
            raise RequestRefusedError(400, "the id in the header is another one")
        images = tuple(
            (image["media_type"], decode_image(image["media_type"], image["content_base64"]))
            for image in body["images"]
        )
        asked = Asked(body["instruction"], body["text"], images)
        text = self.answer_text(asked) if answer_text is None else answer_text
        try:
            answer: Any = json.loads(text)
        except ValueError:
            answer = text
        reply = {"answer": answer, "model": "a person at the bench", "input_tokens": 1000, "output_tokens": 40}
        return HttpReply(200, json.dumps(reply).encode())


def check_signature(secret: str, headers: Mapping[str, str], body: bytes) -> None:
    """As the page describes it. Raises `RequestRefusedError` with 401."""
    message_id, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "0")
    if abs(time.time() - int(sent_at)) > TOLERANCE_S:
        raise RequestRefusedError(401, "sent too long ago, or in the future", is_violation=False)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = hmac.new(key, f"{message_id}.{sent_at}.".encode() + body, hashlib.sha256).digest()
    for entry in headers.get("webhook-signature", "").split(" "):
        version, _, signature = entry.partition(",")
        if version == "v1" and hmac.compare_digest(signature.encode(), base64.b64encode(expected)):
            return
    raise RequestRefusedError(401, "the signature is not valid", is_violation=False)
