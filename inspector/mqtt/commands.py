"""Reads commands (pure). Their payloads are untrusted: bounded, closed schemas, nothing used as a path."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pydantic_core
from pydantic import ValidationError

from inspector.errors import CommandError
from inspector.mqtt.messages import station_root
from inspector.mqtt.payloads import REQUEST_ID_PATTERN, REQUESTS

MAX_RESPONSE_TOPIC_CHARACTERS = 512
MAX_CORRELATION_BYTES = 1024
VERB_PATTERN = r"[a-z][a-z0-9-]{0,31}"


@dataclass(frozen=True, slots=True)
class ParsedCommand:
    """A command that is acceptable in form. `arguments` holds only what the sender gave."""

    station: str
    verb: str
    request_id: str
    arguments: dict[str, Any]


class RefusedCommandError(CommandError):
    """A command that is not acceptable, with as much of its address as could be read.

    It can be answered when `station`, `verb` and `request_id` are all known.
    """

    def __init__(
        self, reason: str, *, station: str | None = None, verb: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.station = station
        self.verb = verb
        self.request_id = request_id


def parse_command(
    topic: str, payload: bytes, *, topic_root: str, stations: Collection[str], max_bytes: int
) -> ParsedCommand:
    """The command of one message, or `RefusedCommandError` (a `CommandError`) that says what is wrong."""
    station, verb = _split_topic(topic, topic_root, stations)
    if len(payload) > max_bytes:
        reason = f"{len(payload)} bytes, more than the {max_bytes} allowed"
        raise RefusedCommandError(reason, station=station, verb=verb)
    try:
        values = pydantic_core.from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise RefusedCommandError(f"not JSON: {error}", station=station, verb=verb) from error
    if not isinstance(values, dict):
        reason = f"expected a JSON object, found {type(values).__name__}"
        raise RefusedCommandError(reason, station=station, verb=verb)
    request_id = _readable_request_id(values)
    if verb not in REQUESTS:
        reason = f"unknown command {verb}; known: {', '.join(REQUESTS)}"
        raise RefusedCommandError(reason, station=station, verb=verb, request_id=request_id)
    try:
        request = REQUESTS[verb].model_validate(values)
    except ValidationError as error:
        raise RefusedCommandError(_describe(error), station=station, verb=verb, request_id=request_id) from error
    return ParsedCommand(
        station, verb, request.request_id, request.model_dump(exclude={"request_id"}, exclude_unset=True)
    )


def check_reply_address(response_topic: str | None, correlation: bytes | None, topic_root: str) -> str | None:
    """Why an answer must not go there, None when it may.

    A requester must not make this service publish wildcards, system topics, or in its own topic tree,
    where an answer could pass for a verdict or for a command.
    """
    if correlation is not None and len(correlation) > MAX_CORRELATION_BYTES:
        return f"correlation data has {len(correlation)} bytes, more than {MAX_CORRELATION_BYTES}"
    if response_topic is None:
        return None
    if not response_topic or len(response_topic) > MAX_RESPONSE_TOPIC_CHARACTERS:
        return f"the response topic needs 1 to {MAX_RESPONSE_TOPIC_CHARACTERS} characters"
    if response_topic.startswith("$") or re.search(r"[#+\x00-\x1f\x7f]", response_topic):
        return "the response topic must be a plain topic"
    own_tree = response_topic == topic_root or response_topic.startswith(f"{topic_root}/")
    if own_tree and not re.search(rf"/cmd/{VERB_PATTERN}/result$", response_topic):
        return f"the response topic must not lie under {topic_root}"
    return None


def _split_topic(topic: str, topic_root: str, stations: Collection[str]) -> tuple[str, str]:
    address, separator, verb = topic.rpartition("/cmd/")
    station = address.removeprefix(f"{topic_root}/")
    if not separator or address != station_root(topic_root, station):
        raise RefusedCommandError(f"not a command topic: {topic[:200]}")
    if station not in stations:
        raise RefusedCommandError(f"unknown station {station[:100]}")
    if not re.fullmatch(VERB_PATTERN, verb):
        raise RefusedCommandError("not a command verb", station=station)
    return station, verb


def _readable_request_id(values: dict[str, Any]) -> str | None:
    request_id = values.get("request_id")
    return request_id if isinstance(request_id, str) and re.fullmatch(REQUEST_ID_PATTERN, request_id) else None


def _describe(error: ValidationError) -> str:
    problems = []
    for detail in error.errors(include_url=False, include_input=False)[:5]:
        key = ".".join(str(part) for part in detail["loc"])
        reason = {"extra_forbidden": "unknown key", "missing": "this key is required"}.get(
            detail["type"], detail["msg"]
        )
        problems.append(f"{key[:64]}: {reason}")
    return "; ".join(problems)
