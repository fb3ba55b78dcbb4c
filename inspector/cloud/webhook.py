"""A plain signed webhook, for whoever wants to answer with a program of their own.

One POST, signed as the Standard Webhooks specification says (HMAC-SHA256 over id, time and body), and the
answer in its response. docs/cloud-providers.md has the fields and how a receiver checks the signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from inspector.cloud.channel import Channel
from inspector.cloud.provider import Answer, MediaResolution, Question, Reply
from inspector.cloud.replies import read_envelope, refuse
from inspector.errors import ConfigError

SECRET_PREFIX = "whsec_"
KEY_BYTES = (24, 64)
"""Fewest and most bytes of a key, by the specification."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSettings:
    """Whom to ask. `secret` is `whsec_` and 24 to 64 random bytes in base64, known to the receiver, too."""

    url: str
    secret: str
    name: str = "webhook"
    ca_file: Path | None = None


class WebhookImage(BaseModel):
    """One picture of a question."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["golden", "part"] = Field(description="A defect-free example, or the part in question.")
    media_type: Literal["image/jpeg", "image/png"]
    content_base64: str = Field(description="The file, in base64 without line breaks.")


class WebhookQuestion(BaseModel):
    """The body of the request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    contract: Literal["inspector.question/1"] = "inspector.question/1"
    escalation_id: str = Field(description="The same for every attempt at one question.")
    context_key: str = Field(description="The same for all questions with this instruction and golden images.")
    instruction: str
    text: str
    media_resolution: MediaResolution
    images: tuple[WebhookImage, ...]


class WebhookReply(BaseModel):
    """The body of the response, status 200. Counts of tokens are for the ledger, where the receiver has them."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    answer: Answer
    model: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(description="Who answered.")
    input_tokens: Annotated[int, Field(ge=0)] | None = None
    cached_tokens: Annotated[int, Field(ge=0)] | None = None
    output_tokens: Annotated[int, Field(ge=0)] | None = None


class WebhookProvider:
    """A `Provider`. Raises `ConfigError` for an address or a secret that cannot work."""

    def __init__(self, settings: WebhookSettings, *, clock: Callable[[], float] = time.time) -> None:
        self.name = settings.name
        self._channel = Channel(settings.url, ca_file=settings.ca_file)
        self._secret = settings.secret
        self._key = decode_secret(settings.secret)
        self._clock = clock

    @property
    def destination(self) -> str:
        return self._channel.destination

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """One POST. See `Provider.ask`."""
        deadline = time.monotonic() + timeout_s
        body = write_question(question)
        sent_at = int(self._clock())
        headers = (
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
            ("webhook-id", question.escalation_id),
            ("webhook-timestamp", str(sent_at)),
            ("webhook-signature", sign(self._key, question.escalation_id, sent_at, body)),
        )
        answer = self._channel.exchange("POST", self._channel.base_path or "/", headers, body, deadline)
        if answer.status != 200:
            raise refuse(answer, self.destination, (self._secret, self._secret.removeprefix(SECRET_PREFIX)))
        reply = read_envelope(WebhookReply, answer.body, self.destination)
        return Reply(reply.answer, reply.model, reply.input_tokens, reply.cached_tokens, reply.output_tokens)

    def close(self) -> None:
        """Nothing is kept open."""


def write_question(question: Question) -> bytes:
    """The body for a question, as JSON in UTF-8."""
    images = tuple(
        WebhookImage(
            role=image.role, media_type=image.media_type, content_base64=base64.b64encode(image.content).decode("ascii")
        )
        for image in question.images
    )
    body = WebhookQuestion(
        escalation_id=question.escalation_id,
        context_key=question.context_key,
        instruction=question.instruction,
        text=question.text,
        media_resolution=question.media_resolution,
        images=images,
    )
    return body.model_dump_json().encode()


def sign(key: bytes, message_id: str, sent_at: int, body: bytes) -> str:
    """The signature header: `v1,` and base64 of HMAC-SHA256 over `id.seconds.body`."""
    signed = f"{message_id}.{sent_at}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode('ascii')}"


def decode_secret(secret: str) -> bytes:
    """The key in a `whsec_…` secret. Raises `ConfigError` that does not show it."""
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(SECRET_PREFIX) or not KEY_BYTES[0] <= len(key) <= KEY_BYTES[1]:
        raise ConfigError(
            "the webhook's secret has to be whsec_ and 24 to 64 random bytes in base64; make one with: "
            'echo "whsec_$(openssl rand -base64 32)"'
        )
    return key
