"""The signed webhook: against a receiver written from its documentation, or against one of your own.

With INSPECTOR_TEST_WEBHOOK_URL and _SECRET set, the tests of `endpoint` run there, too.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from inspector.cloud.provider import AnswerInvalidError, ProviderRefusedError, ProviderUnreachableError
from inspector.cloud.webhook import (
    WebhookProvider,
    WebhookQuestion,
    WebhookReply,
    WebhookSettings,
    decode_secret,
    sign,
    write_question,
)
from inspector.errors import ConfigError
from tests.cloud_contract import PATIENT_S, ProviderContract
from tests.cloud_fakes.server import Asked, RequestRefusedError, Step
from tests.cloud_fakes.webhook import QUESTION, SECRET, FakeReceiver, check_signature
from tests.cloud_questions import make_question
from tests.mosquitto import OPENSSL, make_tls_files

REAL_S = 60.0
PAGE = Path(__file__).parent.parent / "docs" / "cloud-providers.md"


@pytest.fixture
def server() -> Iterator[FakeReceiver]:
    with FakeReceiver() as running:
        yield running


@pytest.fixture
def provider(server: FakeReceiver) -> WebhookProvider:
    return WebhookProvider(WebhookSettings(url=f"{server.url}/opinion", secret=SECRET))


@pytest.fixture(params=["fake", "real"])
def endpoint(request: pytest.FixtureRequest) -> Iterator[WebhookSettings]:
    """The fake, and a real receiver if the environment names one."""
    if request.param == "fake":
        with FakeReceiver() as running:
            yield WebhookSettings(url=f"{running.url}/opinion", secret=SECRET)
            assert running.violations == []
        return
    url = os.environ.get("INSPECTOR_TEST_WEBHOOK_URL")
    if url is None:
        pytest.skip("INSPECTOR_TEST_WEBHOOK_URL is not set: no real receiver is asked")
    yield WebhookSettings(url=url, secret=os.environ["INSPECTOR_TEST_WEBHOOK_SECRET"])


# --- a fake or a real receiver ----------------------------------------------------------------------


def test_question_is_answered(endpoint: WebhookSettings) -> None:
    """An answer by the schema, and who gave it."""
    reply = WebhookProvider(endpoint).ask(make_question(), REAL_S)
    assert reply.answer.verdict in ("good", "defect", "unsure")
    assert reply.model


def test_other_secret_is_refused(endpoint: WebhookSettings) -> None:
    """The receiver knows who is asking."""
    stranger = "whsec_" + base64.b64encode(b"another key of thirty-two bytes!").decode()
    with pytest.raises(ProviderRefusedError) as caught:
        WebhookProvider(replace(endpoint, secret=stranger)).ask(make_question(), REAL_S)
    assert caught.value.status in (401, 403)


def test_old_question_is_refused(endpoint: WebhookSettings) -> None:
    """A recorded request cannot be sent again later."""
    with pytest.raises(ProviderRefusedError) as caught:
        WebhookProvider(endpoint, clock=lambda: time.time() - 3600).ask(make_question(), REAL_S)
    assert caught.value.status in (400, 401, 403)


# --- requests ---------------------------------------------------------------------------------------


def test_everything_arrives_as_it_was(server: FakeReceiver, provider: WebhookProvider) -> None:
    """The receiver gets the very bytes of the question, golden pictures first."""
    question = make_question(3)
    seen: list[Asked] = []

    def look(asked: Asked) -> dict[str, Any]:
        seen.append(asked)
        return {"verdict": "defect", "defect_name": "dent", "confidence": 0.25, "reason": "A shadow."}

    server.model = look
    reply = provider.ask(question, PATIENT_S)
    images = tuple((image.media_type, image.content) for image in question.images)
    assert seen == [Asked(question.instruction, question.text, images)]
    assert (reply.answer.defect_name, reply.model) == ("dent", "a person at the bench")
    assert (reply.input_tokens, reply.cached_tokens, reply.output_tokens) == (1000, None, 40)
    assert server.received[0].headers["webhook-id"] == question.escalation_id


def test_signature_covers_id_time_and_body() -> None:
    """One changed bit in any of them, and a receiver that follows the page refuses."""
    body, now = b'{"a": 1}', int(time.time())
    right = {"webhook-id": "m-1", "webhook-timestamp": str(now)}
    right["webhook-signature"] = sign(decode_secret(SECRET), "m-1", now, body)
    check_signature(SECRET, right, body)
    for headers, content in (
        ({**right, "webhook-id": "m-2"}, body),
        ({**right, "webhook-timestamp": str(now + 1)}, body),
        (right, b'{"a": 2}'),
        ({**right, "webhook-signature": right["webhook-signature"].replace("v1,", "v2,")}, body),
    ):
        with pytest.raises(RequestRefusedError):
            check_signature(SECRET, headers, content)


def test_signature_of_the_standard() -> None:
    """The example in the Standard Webhooks specification."""
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    signature = sign(decode_secret(secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_body_is_what_the_schema_says() -> None:
    """The schema in the page's words, in the fake, and of the model are one."""
    document = json.loads(write_question(make_question()))
    assert list(Draft202012Validator(WebhookQuestion.model_json_schema()).iter_errors(document)) == []
    assert set(QUESTION["properties"]) == set(WebhookQuestion.model_fields)


def test_examples_in_the_page_are_true() -> None:
    """docs/cloud-providers.md: the question and the reply that it shows are valid."""
    page = PAGE.read_text(encoding="utf-8")
    question, reply = (
        re.search(rf"<!-- {name} -->\n```json\n(.*?)```", page, re.DOTALL) for name in ("webhook question", "reply")
    )
    assert question and reply
    assert list(Draft202012Validator(QUESTION).iter_errors(json.loads(question[1]))) == []
    assert WebhookReply.model_validate_json(reply[1]).answer.verdict == "defect"


def test_receiver_in_the_page_works() -> None:
    """The code that the page gives to receivers accepts what is sent, and nothing else."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.search(r"```python\n(import base64.*?)```", page, re.DOTALL)
    assert found
    names: dict[str, Any] = {}
    exec(found[1], names)
    body, now = b"{}", int(time.time())
    headers = {"webhook-id": "m-1", "webhook-timestamp": str(now)}
    headers["webhook-signature"] = sign(decode_secret(SECRET), "m-1", now, body)
    assert names["is_genuine"](SECRET, headers, body)
    assert not names["is_genuine"](SECRET, headers, b"{ }")
    old = {**headers, "webhook-timestamp": str(now - 400)}
    old["webhook-signature"] = sign(decode_secret(SECRET), "m-1", now - 400, body)
    assert not names["is_genuine"](SECRET, old, body)


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_certificate_is_verified(tmp_path: Path) -> None:
    """Nothing is sent to a server that cannot show who it is."""
    files = make_tls_files(tmp_path)
    with FakeReceiver(tls=files) as server:
        settings = WebhookSettings(url=f"{server.url}/opinion", secret=SECRET, ca_file=files.ca)
        assert WebhookProvider(settings).ask(make_question(), PATIENT_S).answer.verdict == "good"
        with pytest.raises(ProviderUnreachableError, match="certificate is refused"):
            WebhookProvider(replace(settings, ca_file=None)).ask(make_question(), PATIENT_S)
        assert len(server.received) == 1


# --- failures ---------------------------------------------------------------------------------------


class TestContract(ProviderContract):
    """Every failure of the common table."""


@pytest.mark.parametrize(
    "change", [{"model": ""}, {"model": "x" * 129}, {"input_tokens": -1}, {"output_tokens": "many"}, {"extra": 1}]
)
def test_reply_that_does_not_fit(server: FakeReceiver, provider: WebhookProvider, change: dict[str, Any]) -> None:
    """A field more, or one of another kind, is a recorded failure."""
    answer = {"verdict": "good", "defect_name": None, "confidence": 1, "reason": ""}
    server.script.append(Step(body=json.dumps({"answer": answer, "model": "m", **change}).encode()))
    with pytest.raises(AnswerInvalidError):
        provider.ask(make_question(), PATIENT_S)


def test_secret_is_in_no_message(server: FakeReceiver, provider: WebhookProvider) -> None:
    """Even when the receiver echoes it, with its prefix or without."""
    echo = json.dumps({"error": f"wrong: {SECRET} and {SECRET.removeprefix('whsec_')}"}).encode()
    server.script.append(Step(status=401, body=echo))
    with pytest.raises(ProviderRefusedError, match=r"wrong: \*\*\* and \*\*\*"):
        provider.ask(make_question(), PATIENT_S)


# --- settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "plain words", "whsec_c2hvcnQ=", base64.b64encode(b"x" * 32).decode(), "whsec_%%%"]
)
def test_secret_that_is_none(secret: str) -> None:
    """Too short, not base64 or without its prefix: said, without showing it."""
    with pytest.raises(ConfigError, match="whsec_ and 24 to 64 random bytes") as caught:
        WebhookProvider(WebhookSettings(url="https://receiver.example/opinion", secret=secret))
    assert len(secret) < 7 or secret not in str(caught.value)
