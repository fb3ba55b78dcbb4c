"""What every provider has to do with a server that fails: one table of failures, inherited by each provider's tests."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest

from inspector.cloud.channel import MAX_ANSWER_BYTES
from inspector.cloud.provider import (
    AnswerInvalidError,
    Provider,
    ProviderError,
    ProviderRefusedError,
    ProviderUnreachableError,
)
from tests.cloud_fakes.server import FakeServer, Step
from tests.cloud_questions import make_question

TIMEOUT_S = 0.5
SLACK_S = 4.0
"""For a busy machine. Without a deadline the slow replies here take 25 s and more."""

PATIENT_S = 60.0


@dataclass(frozen=True)
class Failure:
    """What the server does, and what has to come of it. `says` stands in the message."""

    name: str
    step: Step
    error: type[ProviderError]
    status: int | None = None
    retry_after_s: float | None = None
    says: str = ""


def _refused(status: int, retry_after: str | None = None, wait_s: float | None = None) -> Failure:
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    name = f"{status}" if retry_after is None else f"{status} retry after {retry_after}"
    return Failure(name, Step(status=status, headers=headers), ProviderRefusedError, status, wait_s, f"HTTP {status}")


def _unfit(name: str, answer: Any) -> Failure:
    text = answer if isinstance(answer, str) else json.dumps(answer)
    return Failure(name, Step(answer_text=text), AnswerInvalidError)


GOOD = {"verdict": "good", "defect_name": None, "confidence": 0.5, "reason": "clean"}
FAILURES = [
    _refused(400),
    _refused(401),
    _refused(403),
    _refused(404),
    _refused(408),
    _refused(413),
    _refused(429),
    _refused(429, "7", 7.0),
    _refused(429, "Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
    _refused(429, "soon"),
    _refused(500),
    _refused(503, "120", 120.0),
    Failure(
        "redirect",
        Step(status=307, headers={"Location": "https://elsewhere.example/steal"}),
        ProviderRefusedError,
        307,
        says="HTTP 307",
    ),
    Failure("204", Step(status=204, body=b""), ProviderRefusedError, 204),
    Failure("an error page in HTML", Step(status=502, body=b"<html>bad gateway</html>"), ProviderRefusedError, 502),
    Failure("an error nested too deep", Step(status=500, body=b"[" * 60_000), ProviderRefusedError, 500),
    Failure("an endless error page", Step(status=500, body=b"x" * 5_000_000), ProviderRefusedError, 500),
    Failure("reset at once", Step(fault="reset_at_once"), ProviderUnreachableError),
    Failure("reset mid-body", Step(fault="reset"), ProviderUnreachableError),
    Failure("cut short", Step(fault="cut"), ProviderUnreachableError, says="cut short"),
    Failure("not JSON", Step(body=b"<html>hello</html>"), AnswerInvalidError),
    Failure("empty", Step(body=b""), AnswerInvalidError),
    Failure("JSON of another kind", Step(body=b'["good"]'), AnswerInvalidError),
    Failure("JSON null", Step(body=b"null"), AnswerInvalidError),
    Failure("JSON nested too deep", Step(body=b"[" * 400_000), AnswerInvalidError),
    Failure("not UTF-8", Step(body=b'{"candidates": "\xff\xfe"}'), AnswerInvalidError),
    Failure("too large", Step(body=b'"' + b"x" * (MAX_ANSWER_BYTES + 1) + b'"'), AnswerInvalidError, says="more than"),
    Failure(
        "compressed without being asked",
        Step(body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}),
        AnswerInvalidError,
        says="compressed",
    ),
    _unfit("prose", "The part looks good to me."),
    _unfit("JSON in a fence", f"```json\n{json.dumps(GOOD)}\n```"),
    _unfit("a verdict of its own", {**GOOD, "verdict": "OK"}),
    _unfit("a confidence above 1", {**GOOD, "confidence": 1.5}),
    _unfit("a confidence in words", {**GOOD, "confidence": "0.5"}),
    _unfit("no confidence", '{"verdict": "good", "defect_name": null, "confidence": NaN, "reason": ""}'),
    _unfit("a missing field", {key: value for key, value in GOOD.items() if key != "reason"}),
    _unfit("a field more", {**GOOD, "disposition": "OK"}),
    _unfit("a name too long", {**GOOD, "verdict": "defect", "defect_name": "x" * 65}),
    _unfit("a reason too long", {**GOOD, "reason": "x" * 601}),
]

_every_failure = pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: failure.name)
_every_delay = pytest.mark.parametrize("fault", ["hang", "slow_body", "slow_headers"])


class ProviderContract:
    """What the tests of each provider inherit; they have fixtures `server` and `provider`."""

    @_every_failure
    def test_failure_has_its_name(self, server: FakeServer, provider: Provider, failure: Failure) -> None:
        """The failure has its name, leaks nothing, is not retried, and the next question is answered."""
        server.script.append(failure.step)
        with pytest.raises(ProviderError) as caught:
            provider.ask(make_question(1), PATIENT_S)
        error = caught.value
        assert type(error) is failure.error
        assert (error.status, error.retry_after_s) == (failure.status, failure.retry_after_s)
        assert failure.says in str(error)
        assert provider.destination in str(error)
        assert len(str(error)) < 400
        assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)
        assert len(server.received) == 1
        assert provider.ask(make_question(2), PATIENT_S).answer.verdict == "good"
        assert server.violations == []

    @_every_delay
    def test_slow_server_is_left_in_time(self, server: FakeServer, provider: Provider, fault: Any) -> None:
        """However the bytes are held back, the attempt ends in time."""
        provider.ask(make_question(1), PATIENT_S)  # what is imported at the first question is not measured
        server.script.append(Step(fault=fault, pause_s=0.05))
        began = time.monotonic()
        with pytest.raises(ProviderUnreachableError, match="in time"):
            provider.ask(make_question(1, golden=0), TIMEOUT_S)
        took = time.monotonic() - began
        server.script.clear()  # a very busy machine may not even have sent it
        assert TIMEOUT_S - 0.01 <= took < TIMEOUT_S + SLACK_S
        assert provider.ask(make_question(2), PATIENT_S).answer.verdict == "good"

    def test_gone_server_is_unreachable(self, server: FakeServer, provider: Provider) -> None:
        """Nobody listens any more."""
        server.__exit__()
        with pytest.raises(ProviderUnreachableError):
            provider.ask(make_question(1), PATIENT_S)
