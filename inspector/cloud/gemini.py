"""Gemini models, by the Gemini Developer API (an API key) or by Vertex AI (a service account).

Uses the google-genai SDK; install `line-inspector[gemini]`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from inspector.cloud.answer_schema import derive_gemini_schema
from inspector.cloud.channel import Channel, check_secret
from inspector.cloud.gemini_cache import CachedContext, ContextCache
from inspector.cloud.provider import (
    AnswerInvalidError,
    ProviderRefusedError,
    ProviderUnreachableError,
    Question,
    QuestionImage,
    Reply,
)
from inspector.cloud.replies import WireModel, clean_text, read_answer, read_envelope, refuse
from inspector.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from google.genai.types import Content, Part

GEMINI_URL = "https://generativelanguage.googleapis.com"
GEMINI_VERSION = "v1beta"
VERTEX_VERSION = "v1"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

CACHE_SHARE = 1 / 3
"""Of a question's time at most this much is spent on its cache, so that enough is left to ask in full."""

CLOSING_S = 3.0
MODEL_NAME = re.compile(r"[\w./:@-]+", re.ASCII)
PROJECT_OR_LOCATION = re.compile(r"[a-z0-9.:-]+")
ThinkingLevel = Literal["minimal", "low", "medium", "high"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """How a Gemini model is asked. `max_output_tokens` bounds what an answer can cost, thoughts included.

    `cache_lifetime_s` is how long the instruction and the golden images are kept there (0: not at all).
    `thinking_level` None leaves it to the model.
    """

    model: str
    max_output_tokens: int = 4096
    thinking_level: ThinkingLevel | None = None
    cache_lifetime_s: int = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class GeminiSettings(ModelSettings):
    """The Gemini Developer API. `ca_file` replaces the system's certificate authorities."""

    api_key: str
    base_url: str = GEMINI_URL
    name: str = "gemini"
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VertexSettings(ModelSettings):
    """Vertex AI. `location` is a region, `us`, `eu` or `global`; where pictures are processed depends on it.

    `credentials_file` is the JSON key of a service account. `base_url` None: Google's address for the location.
    """

    project: str
    location: str
    credentials_file: Path | None = None
    base_url: str | None = None
    name: str = "vertex"
    ca_file: Path | None = None


class _GenerativeModel:
    """What both have in common: everything but the address and who is asking."""

    _may_be_stored: bool | None = None
    """Sent along where the API knows the field: projects keep questions and answers for weeks unless told not to."""

    def __init__(
        self, name: str, settings: ModelSettings, channel: Channel, list_secrets: Callable[[], list[str]], **client: Any
    ) -> None:
        try:
            from google import genai
            from google.genai.client import DebugConfig

            from inspector.cloud.sdk_transport import ChannelTransport, make_http_client
        except ImportError as error:
            raise _missing_extra() from error
        if not MODEL_NAME.fullmatch(settings.model) or ".." in settings.model:
            raise ConfigError(f"not the name of a model: {settings.model}")
        self.name = name
        self._settings = settings
        self._channel = channel
        self._transport = ChannelTransport(channel, lambda answer: refuse(answer, self.destination, list_secrets()))
        self._http_client = make_http_client(self._transport)
        options = genai.types.HttpOptions(
            base_url=channel.destination + channel.base_path,
            api_version=client.pop("api_version"),
            httpx_client=self._http_client,
            retry_options=genai.types.HttpRetryOptions(attempts=1),
        )
        # Said in full, so that nothing is taken from the environment: neither a replay mode nor another address.
        debug = DebugConfig(client_mode=None, replays_directory=None, replay_id=None)
        self._client = genai.Client(http_options=options, debug_config=debug, **client)
        self._cache = ContextCache(self._client.caches, settings.model, settings.cache_lifetime_s)

    @property
    def destination(self) -> str:
        return self._channel.destination

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """One attempt, with the cached context if there is one. See `Provider.ask`.

        When the cache turns out to be gone, the question is asked once more in full: the provider refused
        it before any work, so it was not answered twice. `input_tokens` contains what making a cache cost.
        """
        began = time.monotonic()
        deadline = began + timeout_s
        self._authorise()
        self._transport.deadline = began + timeout_s * CACHE_SHARE
        golden = [_write_image(image) for image in question.images if image.role == "golden"]
        own = [_write_image(image) for image in question.images if image.role == "part"]
        context = self._cache.find(question, _cacheable(question))
        self._transport.deadline = deadline
        created_tokens = 0 if context is None else context.created_tokens
        if context is not None:
            try:
                return self._generate(question, own, context, created_tokens)
            except ProviderRefusedError as error:
                if error.status not in (400, 403, 404):
                    raise
                self._cache.forget(question)
        return self._generate(question, [*golden, *own], None, created_tokens)

    def close(self) -> None:
        """Deletes its caches as far as that is quick, so that golden images do not stay there."""
        self._transport.deadline = time.monotonic() + CLOSING_S
        self._cache.delete_all()
        self._client.close()
        self._http_client.close()

    def _authorise(self) -> None:
        """Before every question."""

    def _generate(
        self, question: Question, images: list[Part], context: CachedContext | None, created_tokens: int
    ) -> Reply:
        from google.genai import types

        thinking = self._settings.thinking_level
        config = types.GenerateContentConfig(
            system_instruction=question.instruction if context is None else None,
            cached_content=None if context is None else context.name,
            response_mime_type="application/json",
            response_schema=derive_gemini_schema(),
            media_resolution=types.MediaResolution(_resolution(question)),
            max_output_tokens=self._settings.max_output_tokens,
            thinking_config=types.ThinkingConfig(thinking_level=types.ThinkingLevel(thinking)) if thinking else None,
            store=self._may_be_stored,
            automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
            automatic_continuation=False,  # it would ask, and be billed, again and again within one attempt
            should_return_http_response=True,
        )
        contents = types.Content(role="user", parts=[*images, types.Part(text=question.text)])
        response = self._client.models.generate_content(model=self._settings.model, contents=contents, config=config)
        raw = response.sdk_http_response
        return _read_reply(raw.body if raw and raw.body else "", self._settings.model, created_tokens, self.destination)


class GeminiProvider(_GenerativeModel):
    """A `Provider`. Raises `MissingExtraError` without the SDK, `ConfigError` for settings that cannot work."""

    _may_be_stored = False

    def __init__(self, settings: GeminiSettings) -> None:
        key = check_secret("the API key", settings.api_key)
        channel = Channel(settings.base_url, ca_file=settings.ca_file)
        super().__init__(
            settings.name, settings, channel, lambda: [key], vertexai=False, api_key=key, api_version=GEMINI_VERSION
        )


class VertexProvider(_GenerativeModel):
    """A `Provider`. It signs its own tokens with the service account's key: no other host is asked for one.

    `credentials` instead of a file must be able to do the same, or hold a token already. Raises like
    `GeminiProvider`.
    """

    def __init__(self, settings: VertexSettings, *, credentials: Credentials | None = None) -> None:
        for value in (settings.project, settings.location):
            if not PROJECT_OR_LOCATION.fullmatch(value):
                raise ConfigError(f"not a project or a location of Google Cloud: {value}")
        self._credentials = _load_credentials(settings.credentials_file) if credentials is None else credentials
        channel = Channel(settings.base_url or vertex_url(settings.location), ca_file=settings.ca_file)
        super().__init__(
            settings.name,
            settings,
            channel,
            lambda: [str(self._credentials.token or "")],
            vertexai=True,
            project=settings.project,
            location=settings.location,
            credentials=self._credentials,
            api_version=VERTEX_VERSION,
        )

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """See `_GenerativeModel.ask`. A token that is refused (this clock was wrong, say) is not used again."""
        try:
            return super().ask(question, timeout_s)
        except ProviderRefusedError as error:
            if error.status == 401:
                self._credentials.token = None
            raise

    def _authorise(self) -> None:
        from google.auth.exceptions import GoogleAuthError

        if self._credentials.valid:
            return
        try:
            self._credentials.refresh(_refuse_network)  # type: ignore[no-untyped-call]
        except GoogleAuthError as error:
            text = clean_text(str(error), ())
            raise ProviderUnreachableError(f"{self.destination}: no token from the credentials: {text}") from None


def vertex_url(location: str) -> str:
    """Google's address for a location of Vertex AI."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def _load_credentials(path: Path | None) -> Credentials:
    try:
        from google.oauth2 import service_account
    except ImportError as error:
        raise _missing_extra() from error
    if path is None:
        raise ConfigError("Vertex AI needs the JSON key file of a service account")
    try:
        loaded = service_account.Credentials.from_service_account_file(str(path), scopes=[SCOPE])  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not the JSON key of a service account ({type(error).__name__})") from None
    credentials: Credentials = loaded.with_always_use_jwt_access(True)
    return credentials


def _refuse_network(*_: Any, **__: Any) -> None:
    from google.auth.exceptions import TransportError

    raise TransportError(  # type: ignore[no-untyped-call]
        "these credentials ask another host for a token; use a service account's key"
    )


def _missing_extra() -> MissingExtraError:
    return MissingExtraError("asking Gemini needs the extra 'gemini': pip install 'line-inspector[gemini]'")


class _CamelModel(WireModel):
    model_config = ConfigDict(alias_generator=to_camel)


class _Part(_CamelModel):
    text: str | None = None
    thought: bool | None = None


class _Content(_CamelModel):
    parts: list[_Part] = []


class _Candidate(_CamelModel):
    content: _Content | None = None
    finish_reason: str | None = None


class _Feedback(_CamelModel):
    block_reason: str | None = None


class _Usage(_CamelModel):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Generated(_CamelModel):
    candidates: list[_Candidate] = []
    prompt_feedback: _Feedback | None = None
    usage_metadata: _Usage | None = None
    model_version: str | None = None


def _write_image(image: QuestionImage) -> Part:
    from google.genai import types

    return types.Part(inline_data=types.Blob(mime_type=image.media_type, data=image.content))


def _cacheable(question: Question) -> list[Content]:
    """The golden images for a cache. It has no resolution of its own, so each image carries it (Gemini 3 and newer)."""
    from google.genai import types

    level = types.PartMediaResolution(level=types.PartMediaResolutionLevel(_resolution(question)))
    parts = [_write_image(image) for image in question.images if image.role == "golden"]
    return (
        [types.Content(role="user", parts=[part.model_copy(update={"media_resolution": level}) for part in parts])]
        if parts
        else []
    )


def _resolution(question: Question) -> str:
    return f"MEDIA_RESOLUTION_{question.media_resolution.upper()}"


def _read_reply(body: str, asked_model: str, created_tokens: int, destination: str) -> Reply:
    generated = read_envelope(_Generated, body, destination)
    feedback = generated.prompt_feedback
    if not generated.candidates:
        reason = clean_text(feedback.block_reason or "", ()) if feedback else ""
        raise AnswerInvalidError(f"{destination}: no answer, the question was blocked ({reason or 'no reason given'})")
    candidate = generated.candidates[0]
    if candidate.finish_reason == "MAX_TOKENS":
        raise AnswerInvalidError(f"{destination}: the answer was longer than max_output_tokens")
    if candidate.finish_reason not in (None, "STOP"):
        raise AnswerInvalidError(f"{destination}: the answer was withheld ({clean_text(candidate.finish_reason, ())})")
    parts = candidate.content.parts if candidate.content else []
    text = "".join(part.text for part in parts if part.text and not part.thought)
    if not text:
        raise AnswerInvalidError(f"{destination}: an empty answer")
    usage = generated.usage_metadata or _Usage()
    outputs = [count for count in (usage.candidates_token_count, usage.thoughts_token_count) if count is not None]
    prompt = usage.prompt_token_count
    return Reply(
        answer=read_answer(text, destination),
        model=(generated.model_version or asked_model)[:128],
        input_tokens=None if prompt is None else prompt + created_tokens,
        cached_tokens=usage.cached_content_token_count,
        output_tokens=sum(outputs) if outputs else None,
    )
