"""The Gemini Developer API and Vertex AI, as far as questions go: `generateContent` and `cachedContents`."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import google.auth.jwt
from PIL import Image, UnidentifiedImageError

from tests.cloud_fakes.gemini_schema import (
    CREATE_CACHED_CONTENT,
    GENERATE_CONTENT,
    MAX_REQUEST_BYTES,
    MIN_CACHED_TOKENS,
    UPDATE_CACHED_CONTENT,
    use_json_names,
)
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

API_KEY = "AIzaFakeKeyForTests_0123456789abcdefghi"
PROJECT, LOCATION = "plant-project", "europe-west3"
MODEL = "gemini-test-flash"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"
TOKENS_OF_IMAGE = {
    "MEDIA_RESOLUTION_LOW": 280,
    "MEDIA_RESOLUTION_MEDIUM": 560,
    "MEDIA_RESOLUTION_HIGH": 1120,
    "MEDIA_RESOLUTION_ULTRA_HIGH": 2240,
}
STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
GONE = "CachedContent not found (or permission denied)"


@dataclass
class _Cache:
    body: Mapping[str, Any]
    tokens: int
    expires: float


class FakeGemini(FakeServer):
    """The Developer API. `forget_caches` makes every cache expire; `retry_delay_s` stands in its 429s."""

    prefix = "/v1beta/"
    models = "models/"

    def __init__(self, *, tls: TlsFiles | None = None, model: Model | None = None) -> None:
        super().__init__(tls=tls, model=model)
        self.caches: dict[str, _Cache] = {}
        self.min_cached_tokens = MIN_CACHED_TOKENS
        self.retry_delay_s: float | None = None
        self._made = 0

    def forget_caches(self) -> None:
        self.caches.clear()

    def generated(self) -> list[Received]:
        """Requests for an answer, without those about caches."""
        return [item for item in self.received if item.path.endswith(":generateContent")]

    def authorise(self, headers: Mapping[str, str]) -> None:
        key = headers.get("x-goog-api-key")
        if key is None:
            raise RequestRefusedError(403, "Method doesn't allow unregistered callers", is_violation=False)
        if key != API_KEY:
            raise RequestRefusedError(400, "API key not valid. Please pass a valid API key.", is_violation=False)

    def refusal(self, status: int, message: str, reason: str) -> bytes:
        error: dict[str, Any] = {"code": status, "message": message, "status": STATUS_NAMES.get(status, reason)}
        if status == 429 and self.retry_delay_s is not None:
            error["details"] = [
                {"@type": "type.googleapis.com/google.rpc.Help", "links": []},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{self.retry_delay_s}s"},
            ]
        return json.dumps({"error": error}).encode()

    def reply(self, received: Received, answer_text: str | None) -> HttpReply:
        self.authorise(received.headers)
        if len(received.body) > MAX_REQUEST_BYTES:
            raise RequestRefusedError(413, f"Request payload size exceeds the limit: {MAX_REQUEST_BYTES} bytes.")
        if received.body and received.headers.get("content-type") != "application/json":
            raise RequestRefusedError(400, "the body has to be application/json")
        path, _, query = received.path.partition("?")
        if not path.startswith(self.prefix):
            raise RequestRefusedError(404, f"no such path: {path}")
        resource = path.removeprefix(self.prefix)
        if received.method == "POST" and resource == f"{self.models}{MODEL}:generateContent":
            return self._generate(_read(received), answer_text)
        if received.method == "POST" and resource == "cachedContents":
            return self._create(_read(received))
        if found := re.fullmatch(r"cachedContents/[a-z0-9]+", resource):
            if received.method == "PATCH":
                return self._update(found[0], _read(received), query)
            if received.method == "DELETE":
                self._find(found[0])
                del self.caches[found[0]]
                return HttpReply(200, b"{}")
        if received.method == "POST" and re.fullmatch(re.escape(self.models) + r"[\w.-]+:generateContent", resource):
            raise RequestRefusedError(404, f"{resource} is not found for this API version", is_violation=False)
        raise RequestRefusedError(404, f"no such method: {received.method} {path}")

    def _generate(self, body: dict[str, Any], answer_text: str | None) -> HttpReply:
        check_schema(GENERATE_CONTENT, body)
        config = body.get("generationConfig", {})
        cached, cached_body = 0, {}
        if (name := body.get("cachedContent")) is not None:
            if {"systemInstruction", "tools", "toolConfig"} & body.keys():
                raise RequestRefusedError(
                    400, "CachedContent can not be used with GenerateContent request setting system_instruction"
                )
            cache = self._find(self._short(name))
            cached, cached_body = cache.tokens, dict(cache.body)
        contents = [*cached_body.get("contents", []), *body["contents"]]
        asked = Asked(
            instruction=_text_of([body.get("systemInstruction") or cached_body.get("systemInstruction", {})]),
            text=_text_of(contents),
            images=_images_of(contents),
        )
        prompt = cached + _count_tokens([*body["contents"], body.get("systemInstruction", {})], config)
        text = self.answer_text(asked) if answer_text is None else answer_text
        usage = {"promptTokenCount": prompt, "candidatesTokenCount": len(text) // 4 + 1, "thoughtsTokenCount": 11}
        if cached:
            usage["cachedContentTokenCount"] = cached
        usage["totalTokenCount"] = prompt + usage["candidatesTokenCount"] + 11
        reply = {
            "candidates": [
                {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
            ],
            "usageMetadata": usage,
            "modelVersion": f"{MODEL}-001",
            "responseId": "r-1",
        }
        return HttpReply(200, json.dumps(reply).encode())

    def _create(self, body: dict[str, Any]) -> HttpReply:
        check_schema(CREATE_CACHED_CONTENT, body)
        if not body["model"].endswith(MODEL):
            raise RequestRefusedError(404, f"{body['model']} is not found")
        contents = body.get("contents", [])
        _images_of(contents)
        tokens = _count_tokens([*contents, body.get("systemInstruction", {})], {})
        if tokens < self.min_cached_tokens:
            raise RequestRefusedError(
                400,
                f"Cached content is too small. total_token_count={tokens},"
                f" min_total_token_count={self.min_cached_tokens}",
                is_violation=False,
            )
        self._made += 1
        name = f"cachedContents/c{self._made}"
        self.caches[name] = _Cache(body, tokens, time.monotonic() + _seconds(body.get("ttl", "3600s")))
        return self._describe(name)

    def _update(self, name: str, body: dict[str, Any], query: str) -> HttpReply:
        check_schema(UPDATE_CACHED_CONTENT, body)
        if query not in ("", "updateMask=ttl"):
            raise RequestRefusedError(400, f"not an update mask: {query}")
        self._find(name).expires = time.monotonic() + _seconds(body["ttl"])
        return self._describe(name)

    def _find(self, name: str) -> _Cache:
        cache = self.caches.get(name)
        if cache is None or cache.expires <= time.monotonic():
            raise RequestRefusedError(403, GONE, is_violation=False)
        return cache

    def _short(self, name: str) -> str:
        return name

    def _full(self, name: str) -> str:
        return name

    def _describe(self, name: str) -> HttpReply:
        cache = self.caches[name]
        left_s = cache.expires - time.monotonic()
        now = datetime.now(UTC)
        described = {
            "name": self._full(name),
            "model": cache.body["model"],
            "createTime": now.isoformat().replace("+00:00", "Z"),
            "updateTime": now.isoformat().replace("+00:00", "Z"),
            "expireTime": datetime.fromtimestamp(now.timestamp() + left_s, UTC).isoformat().replace("+00:00", "Z"),
            "usageMetadata": {"totalTokenCount": cache.tokens},
        }
        return HttpReply(200, json.dumps(described).encode())


class FakeVertex(FakeGemini):
    """Vertex AI. Tokens are JWTs signed with the key that belongs to `certificate` (PEM)."""

    prefix = f"/v1/projects/{PROJECT}/locations/{LOCATION}/"
    models = "publishers/google/models/"

    def __init__(self, certificate: bytes, account: str, *, model: Model | None = None) -> None:
        super().__init__(model=model)
        self._certificate = certificate
        self._account = account

    def authorise(self, headers: Mapping[str, str]) -> None:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        try:
            claims = google.auth.jwt.decode(  # type: ignore[no-untyped-call]
                token, certs=self._certificate, verify=True
            )
        except ValueError as error:
            raise RequestRefusedError(401, f"invalid credentials: {error}", is_violation=False) from error
        if (claims["iss"], claims["sub"], claims.get("scope")) != (self._account, self._account, SCOPE):
            raise RequestRefusedError(403, "the caller does not have permission", is_violation=False)

    def _generate(self, body: dict[str, Any], answer_text: str | None) -> HttpReply:
        if unknown := {"store", "serviceTier"} & body.keys():
            raise RequestRefusedError(400, f'Invalid JSON payload received. Unknown name "{unknown.pop()}"')
        if any("role" not in content for content in body.get("contents", [])):
            raise RequestRefusedError(400, "Please use a valid role: user, model.")
        return super()._generate(body, answer_text)

    def _short(self, name: str) -> str:
        return name.removeprefix(f"projects/{PROJECT}/locations/{LOCATION}/")

    def _full(self, name: str) -> str:
        return f"projects/{PROJECT}/locations/{LOCATION}/{name}"


def _read(received: Received) -> Any:
    try:
        return use_json_names(received.json())
    except ValueError as error:
        raise RequestRefusedError(400, str(error)) from error


def _parts(contents: list[Any]) -> list[dict[str, Any]]:
    return [part for content in contents for part in content.get("parts", [])]


def _text_of(contents: list[Any]) -> str:
    return "\n".join(part["text"] for part in _parts(contents) if "text" in part)


def _images_of(contents: list[Any]) -> tuple[tuple[str, bytes], ...]:
    """The pictures, decoded: each has to be what it says it is."""
    return tuple(
        (part["inlineData"]["mimeType"], decode_image(part["inlineData"]["mimeType"], part["inlineData"]["data"]))
        for part in _parts(contents)
        if "inlineData" in part
    )


def decode_image(media_type: str, base64_text: str) -> bytes:
    """Raises `RequestRefusedError` unless it is a whole picture of that type."""
    try:
        content = base64.b64decode(base64_text.replace("-", "+").replace("_", "/"), validate=True)
        with Image.open(io.BytesIO(content)) as image:
            found = Image.MIME[image.format or ""]
            image.load()
    except (binascii.Error, UnidentifiedImageError, OSError, KeyError) as error:
        raise RequestRefusedError(400, f"Unable to process input image: {error}") from error
    if found != media_type:
        raise RequestRefusedError(400, f"the picture is {found}, not {media_type}")
    return content


def _count_tokens(contents: list[Any], config: Mapping[str, Any]) -> int:
    total = 0
    for part in _parts(contents):
        if "text" in part:
            total += len(part["text"]) // 4 + 1
        else:
            own = part.get("mediaResolution", {}).get("level")
            total += TOKENS_OF_IMAGE[own or config.get("mediaResolution", "MEDIA_RESOLUTION_HIGH")]
    return total


def _seconds(duration: str) -> float:
    return float(duration.removesuffix("s"))
