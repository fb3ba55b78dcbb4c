"""Commands from MQTT are untrusted: what is accepted, what is refused, and what can still be answered."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspector.errors import CommandError
from inspector.mqtt.commands import ParsedCommand, RefusedCommandError, check_reply_address, parse_command
from inspector.mqtt.schema_files import load_schema

ROOT = "inspector/v1"
STATION = "plant/line/final"


def parse(verb: str, payload: Any, *, station: str = STATION, max_bytes: int = 16_384) -> ParsedCommand:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return parse_command(f"{ROOT}/{station}/cmd/{verb}", raw, topic_root=ROOT, stations={STATION}, max_bytes=max_bytes)


@pytest.mark.parametrize(
    ("verb", "payload", "arguments"),
    [
        ("trigger", {"request_id": "1"}, {}),
        (
            "trigger",
            {"request_id": "1", "part_id": "Ø-7", "part_id_source": "code_reader", "attempt": 2, "lot": "L"},
            {"part_id": "Ø-7", "part_id_source": "code_reader", "attempt": 2, "lot": "L"},
        ),
        ("set-lot", {"request_id": "1", "lot": None}, {"lot": None}),
        ("set-recipe", {"request_id": "1", "recipe": "board@3"}, {"recipe": "board@3"}),
        ("pause", {"request_id": "1", "reason": "lunch"}, {"reason": "lunch"}),
        ("resume", {"request_id": "1"}, {}),
    ],
)
def test_acceptable_commands(verb: str, payload: dict[str, Any], arguments: dict[str, Any]) -> None:
    """Only what the sender gave becomes an argument, and the shipped schema agrees."""
    assert parse(verb, payload) == ParsedCommand(STATION, verb, "1", arguments)
    jsonschema.validate(payload, load_schema(f"cmd-{verb}"))


@pytest.mark.parametrize(
    ("verb", "payload", "reason"),
    [
        ("trigger", {"request_id": "1", "part": "7"}, "part: unknown key"),
        ("trigger", {"request_id": "1", "part_id": ""}, "part_id"),
        ("trigger", {"request_id": "1", "part_id": "a\nb"}, "part_id"),
        ("trigger", {"request_id": "1", "part_id": "x" * 129}, "part_id"),
        ("trigger", {"request_id": "1", "part_id": 7}, "part_id"),
        ("trigger", {"request_id": "1", "attempt": 0}, "attempt"),
        ("trigger", {"request_id": "1", "attempt": 10**40}, "attempt"),
        ("trigger", {"request_id": "1", "purpose": "fun"}, "purpose"),
        ("set-lot", {"request_id": "1"}, "lot: this key is required"),
        ("set-recipe", {"request_id": "1", "recipe": "../../etc/passwd"}, "recipe"),
        ("explode", {"request_id": "1"}, "unknown command explode; known: trigger"),
    ],
)
def test_refused_commands_that_can_be_answered(verb: str, payload: dict[str, Any], reason: str) -> None:
    """The reason names the key, and who asked is known."""
    with pytest.raises(RefusedCommandError) as refusal:
        parse(verb, payload)
    assert reason in refusal.value.reason
    assert (refusal.value.station, refusal.value.verb, refusal.value.request_id) == (STATION, verb, "1")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not JSON"),
        (b"go!", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"request_id": "\\ud800"}', "not JSON"),
        (b'{"request_id": NaN}', "not JSON"),
        (b"[" * 10_000, "not JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b'{"request_id": 7}', "request_id"),
        (b'{"request_id": "a b"}', "request_id"),
        (b'{"request_id": ""}', "request_id"),
        (b"{}", "request_id: this key is required"),
        (b" " * 20_000, "20000 bytes, more than the 16384 allowed"),
    ],
)
def test_refused_commands_without_a_readable_request_id(payload: bytes, reason: str) -> None:
    """Nothing can be answered, but the reason is known for the log."""
    with pytest.raises(CommandError) as refusal:
        parse("pause", payload)
    assert isinstance(refusal.value, RefusedCommandError)
    assert reason in refusal.value.reason
    assert refusal.value.request_id is None


@pytest.mark.parametrize("station", ["plant/line/other", "plant/line", "plant/line/final/x", "+/+/+", ""])
def test_another_station_is_refused(station: str) -> None:
    """A command for a station that is not ours is never taken for ours."""
    with pytest.raises(RefusedCommandError, match=r"station|command topic"):
        parse("pause", {"request_id": "1"}, station=station)


@given(payload=st.binary(max_size=200), verb=st.sampled_from(["trigger", "set-lot", "pause", "x"]))
def test_no_payload_can_crash_the_parser(payload: bytes, verb: str) -> None:
    """Whatever arrives ends in a command or in a refusal."""
    try:
        assert parse(verb, payload).request_id
    except RefusedCommandError as refusal:
        assert refusal.reason


@pytest.mark.parametrize(
    ("topic", "allowed"),
    [
        (None, True),
        ("plc/answers/7", True),
        (f"{ROOT}/{STATION}/cmd/pause/result", True),
        (f"{ROOT}/{STATION}/inspection", False),
        (f"{ROOT}/{STATION}/cmd/trigger", False),
        ("plc/#", False),
        ("plc/+/x", False),
        ("$SYS/x", False),
        ("", False),
        ("x" * 600, False),
        ("a\x00b", False),
    ],
)
def test_answers_cannot_be_sent_anywhere(topic: str | None, allowed: bool) -> None:
    """A requester must not make the service forge verdicts or commands by way of a response topic."""
    assert (check_reply_address(topic, b"c", ROOT) is None) == allowed


def test_correlation_data_is_bounded() -> None:
    """It is stored and sent back, so it must be small."""
    assert check_reply_address("plc/answers", bytes(2000), ROOT) is not None
