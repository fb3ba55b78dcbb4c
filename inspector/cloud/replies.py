"""What comes back from a provider: refusals with what they ask for, and answers that fit the schema or are none.

Everything in it was written by others. Of a refusal's text a short piece is kept, without credentials.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from inspector.cloud.channel import HttpAnswer
from inspector.cloud.provider import Answer, AnswerInvalidError, ProviderRefusedError

MAX_DETAIL = 200
SECONDS = re.compile(r"\d{1,9}(?:\.\d{1,9})?")

Envelope = TypeVar("Envelope", bound=BaseModel)


class WireModel(BaseModel):
    """The part of a provider's JSON that is used; the rest is let pass."""

    model_config = ConfigDict(extra="ignore", frozen=True)


def read_envelope(model: type[Envelope], body: bytes | str, destination: str) -> Envelope:
    """The provider's own JSON around an answer. Raises `AnswerInvalidError`."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise AnswerInvalidError(
            f"{destination}: the reply is not what the provider documents: {_where(error)}"
        ) from None


def read_answer(text: str, destination: str) -> Answer:
    """The model's JSON, held against the schema of `Answer`. Raises `AnswerInvalidError`: nothing is guessed."""
    try:
        return Answer.model_validate_json(text)
    except ValidationError as error:
        raise AnswerInvalidError(f"{destination}: the answer does not fit the schema: {_where(error)}") from None


def refuse(answer: HttpAnswer, destination: str, secrets: Iterable[str]) -> ProviderRefusedError:
    """The error for an answer that is not a success: status, what to wait, and a short piece of its text."""
    details = _read_json(answer.body)
    wait_s = parse_retry_after(answer.header("Retry-After"), _their_time(answer))
    if wait_s is None:
        wait_s = _find_retry_info(details)
    text = clean_text(_find_message(details), secrets)
    return ProviderRefusedError(
        f"{destination}: HTTP {answer.status}{': ' + text if text else ''}", status=answer.status, retry_after_s=wait_s
    )


def parse_retry_after(value: str | None, now_s: float) -> float | None:
    """Seconds to wait by a `Retry-After` header (RFC 9110: seconds or an HTTP date); None if it says nothing usable."""
    if value is None:
        return None
    if SECONDS.fullmatch(value.strip()):
        return float(value)
    try:
        moment = parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, moment - now_s)


def _their_time(answer: HttpAnswer) -> float:
    """The server's own clock if it says what it shows: a date to come back at is by that, and ours may be wrong."""
    try:
        return parsedate_to_datetime(answer.header("Date") or "").timestamp()
    except (ValueError, OverflowError):
        return time.time()


def clean_text(text: str, secrets: Iterable[str]) -> str:
    """At most `MAX_DETAIL` printable characters of a stranger's text, with the credentials taken out."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "***")
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:MAX_DETAIL]


def _read_json(body: bytes) -> Any:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return document[0] if isinstance(document, list) and len(document) == 1 else document


def _find_message(details: Any) -> str:
    """`{"error": {"message": …}}`, `{"error": …}` or `{"message": …}`: what servers of all kinds send."""
    if not isinstance(details, Mapping):
        return ""
    inner = details.get("error", details.get("message"))
    if isinstance(inner, Mapping):
        inner = inner.get("message")
    return inner if isinstance(inner, str) else ""


def _find_retry_info(details: Any) -> float | None:
    """The delay of a `google.rpc.RetryInfo` among the details of a Google API's error, such as `34.07s`."""
    error = details.get("error") if isinstance(details, Mapping) else None
    entries = error.get("details") if isinstance(error, Mapping) else None
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, Mapping) and entry.get("@type") == "type.googleapis.com/google.rpc.RetryInfo":
            delay = str(entry.get("retryDelay", ""))
            if delay.endswith("s") and SECONDS.fullmatch(delay[:-1]):
                return float(delay[:-1])
    return None


def _where(error: ValidationError) -> str:
    """Places and kinds of the first problems: never the values, which a stranger wrote."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)[:3]
    return "; ".join(f"{'.'.join(map(str, item['loc']))[:80] or 'document'}: {item['type']}" for item in problems)
