"""Chat completions with pictures: OpenAI, and every server that speaks its language (vLLM, Ollama, a plant's own).

Uses the openai SDK; install `line-inspector[openai]`.
"""

from __future__ import annotations

import base64
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from inspector.cloud.answer_schema import derive_openai_schema
from inspector.cloud.channel import Channel, check_secret
from inspector.cloud.provider import AnswerInvalidError, MediaResolution, Question, QuestionImage, Reply
from inspector.cloud.replies import WireModel, read_answer, read_envelope, refuse
from inspector.errors import MissingExtraError

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionContentPartParam, ChatCompletionMessageParam
    from openai.types.shared_params import ResponseFormatJSONSchema

OPENAI_URL = "https://api.openai.com/v1"
DETAIL: dict[MediaResolution, Literal["low", "high"]] = {"low": "low", "medium": "high", "high": "high"}
"""There is nothing between: a picture for `medium` was made smaller before, and stays as it is."""


KEEP_UNLESS_TOLD = (".openai.com", ".googleapis.com")
"""Hosts that may store questions and answers; they are told not to. Other servers may not know the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiCompatibleSettings:
    """Whom to ask, and how. `base_url` ends in the version, as the SDK wants it: `https://host:8000/v1`.

    `api_key` is None for a server that asks for none. `limit_field` is the older name for servers that do
    not know `max_completion_tokens`. `ca_file` replaces the system's certificate authorities.
    """

    model: str
    api_key: str | None = None
    base_url: str = OPENAI_URL
    name: str = "openai"
    max_output_tokens: int = 4096
    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    ca_file: Path | None = None


class OpenAiCompatibleProvider:
    """A `Provider`. Raises `MissingExtraError` without the SDK, `ConfigError` for settings that cannot work."""

    def __init__(self, settings: OpenAiCompatibleSettings) -> None:
        try:
            from openai import OpenAI

            from inspector.cloud.sdk_transport import ChannelTransport, make_http_client
        except ImportError as error:
            raise MissingExtraError(
                "asking an OpenAI-compatible server needs the extra 'openai': pip install 'line-inspector[openai]'"
            ) from error
        self.name = settings.name
        self._settings = settings
        self._channel = Channel(settings.base_url, ca_file=settings.ca_file)
        secrets = [] if settings.api_key is None else [check_secret("the API key", settings.api_key)]
        self._transport = ChannelTransport(self._channel, lambda answer: refuse(answer, self.destination, secrets))
        self._client = OpenAI(
            api_key=settings.api_key or "none",
            base_url=settings.base_url,
            max_retries=0,
            http_client=make_http_client(self._transport),
        )

    @property
    def destination(self) -> str:
        return self._channel.destination

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """One request. See `Provider.ask`."""
        from openai import omit

        limit = self._settings.max_output_tokens
        older = self._settings.limit_field == "max_tokens"
        self._transport.deadline = time.monotonic() + timeout_s
        response = self._client.chat.completions.with_raw_response.create(
            model=self._settings.model,
            messages=_write_messages(question),
            response_format=_ask_for_schema(),
            max_completion_tokens=omit if older else limit,
            max_tokens=limit if older else omit,
            store=False if f".{self._channel.host}".endswith(KEEP_UNLESS_TOLD) else omit,
        )
        return _read_reply(response.text, self.destination)

    def close(self) -> None:
        self._client.close()


class _PromptDetails(WireModel):
    cached_tokens: int | None = None


class _Usage(WireModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None


class _Message(WireModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(WireModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(WireModel):
    model: str
    choices: list[_Choice]
    usage: _Usage | None = None


def _write_messages(question: Question) -> list[ChatCompletionMessageParam]:
    """The instruction, then golden pictures, pictures of the part and the text: what is the same comes first.

    A server that keeps prefixes can then reuse its work on them."""
    parts: list[ChatCompletionContentPartParam] = [
        {"type": "image_url", "image_url": {"url": _data_url(image), "detail": DETAIL[question.media_resolution]}}
        for image in question.images
    ]
    parts.append({"type": "text", "text": question.text})
    return [{"role": "system", "content": question.instruction}, {"role": "user", "content": parts}]


def _data_url(image: QuestionImage) -> str:
    return f"data:{image.media_type};base64,{base64.b64encode(image.content).decode('ascii')}"


def _ask_for_schema() -> ResponseFormatJSONSchema:
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": derive_openai_schema()},
    }


def _read_reply(body: str, destination: str) -> Reply:
    completion = read_envelope(_Completion, body, destination)
    if not completion.choices:
        raise AnswerInvalidError(f"{destination}: a reply without any choice")
    choice = completion.choices[0]
    if choice.message.refusal is not None or choice.finish_reason == "content_filter":
        raise AnswerInvalidError(f"{destination}: the model or its filter refused to answer")
    if choice.finish_reason == "length":
        raise AnswerInvalidError(f"{destination}: the answer was longer than max_output_tokens")
    if not choice.message.content:
        raise AnswerInvalidError(f"{destination}: an empty answer")
    usage = completion.usage or _Usage()
    details = usage.prompt_tokens_details or _PromptDetails()
    return Reply(
        answer=read_answer(choice.message.content, destination),
        model=completion.model[:128],
        input_tokens=usage.prompt_tokens,
        cached_tokens=details.cached_tokens,
        output_tokens=usage.completion_tokens,
    )
