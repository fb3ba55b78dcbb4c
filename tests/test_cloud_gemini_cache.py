"""Context caches of Gemini and Vertex AI: made when they pay, renewed while they are used, and missed by nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from inspector.cloud.gemini import CLOSING_S
from tests.cloud_contract import PATIENT_S
from tests.cloud_fakes.gemini import MODEL
from tests.cloud_fakes.server import Step
from tests.cloud_fakes.service_account import ServiceAccount, make_service_account
from tests.cloud_questions import make_question
from tests.gemini_endpoints import CACHES, GENERATE, Endpoint, fake_of, open_fake


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> ServiceAccount:
    return make_service_account(tmp_path_factory.mktemp("account"))


@pytest.fixture(params=["gemini", "vertex"])
def endpoint(request: pytest.FixtureRequest, account: ServiceAccount) -> Iterator[Endpoint]:
    """The fakes of both APIs."""
    with open_fake(request.param, account) as opened:
        yield opened


@dataclass
class FakeClock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def test_single_question_makes_no_cache(endpoint: Endpoint) -> None:
    """Storage is billed by time: a recipe that asks once a day keeps nothing there."""
    endpoint.make().ask(make_question(), PATIENT_S)
    assert [request.path.rpartition("/")[2] for request in fake_of(endpoint).received] == [f"{MODEL}{GENERATE}"]


def test_cost_of_making_a_cache_is_counted(endpoint: Endpoint) -> None:
    """Its tokens are billed once as input; the reply of the question that made it says so."""
    provider = endpoint.make()
    full, made, used = (provider.ask(make_question(number), PATIENT_S) for number in range(3))
    assert made.cached_tokens == used.cached_tokens and used.cached_tokens is not None
    assert made.input_tokens is not None and used.input_tokens is not None
    assert made.input_tokens - used.input_tokens == used.cached_tokens
    assert used.input_tokens == full.input_tokens


def test_cache_that_is_gone(endpoint: Endpoint) -> None:
    """The question is asked in full at once, and a later one makes a new cache."""
    server, provider = fake_of(endpoint), endpoint.make()
    for number in range(2):
        provider.ask(make_question(number), PATIENT_S)
    server.forget_caches()
    assert provider.ask(make_question(2), PATIENT_S).cached_tokens is None
    assert provider.ask(make_question(3), PATIENT_S).cached_tokens == 1360
    assert ["cachedContent" in request.json() for request in server.generated()] == [False, True, True, False, True]


def test_cache_is_renewed_while_it_is_used(endpoint: Endpoint) -> None:
    """In the second half of its life; its images travel once."""
    server = fake_of(endpoint)
    provider = endpoint.make(cache_lifetime_s=62)
    clock = FakeClock()
    provider._cache._clock = clock
    for _ in range(6):
        provider.ask(make_question(), PATIENT_S)
        clock.now += 31.0
    methods = [request.method for request in server.received if CACHES in request.path]
    assert methods == ["POST", "PATCH", "PATCH", "PATCH", "PATCH"]


def test_cache_that_was_not_used_is_made_anew_only_on_demand(endpoint: Endpoint) -> None:
    """A pause longer than its life: the next question goes in full, the one after makes a cache again."""
    server = fake_of(endpoint)
    provider = endpoint.make(cache_lifetime_s=60)
    clock = FakeClock()
    provider._cache._clock = clock
    for pause_s in (1.0, 1.0, 100.0, 1.0, 1.0):
        provider.ask(make_question(), PATIENT_S)
        clock.now += pause_s
    assert ["cachedContent" in request.json() for request in server.generated()] == [False, True, True, False, True]


def test_failed_renewal_costs_nothing(endpoint: Endpoint) -> None:
    """Refused: asked in full. Unreachable: the cache is used while it lives."""
    server = fake_of(endpoint)
    provider = endpoint.make(cache_lifetime_s=80)
    clock = FakeClock()
    provider._cache._clock = clock
    for _ in range(2):
        provider.ask(make_question(), PATIENT_S)
    clock.now += 45.0
    server.script.append(Step(on=CACHES, fault="reset_at_once"))
    assert provider.ask(make_question(), PATIENT_S).cached_tokens == 1360
    server.script.append(Step(on=CACHES, status=403))
    assert provider.ask(make_question(), PATIENT_S).cached_tokens is None


def test_too_small_to_cache(endpoint: Endpoint) -> None:
    """The provider's minimum is its own business: questions go in full, and it is not asked every time."""
    server, provider = fake_of(endpoint), endpoint.make()
    server.min_cached_tokens = 32_768
    for number in range(4):
        assert provider.ask(make_question(number), PATIENT_S).cached_tokens is None
    assert len([request for request in server.received if CACHES in request.path]) == 1
    assert len(server.generated()) == 4


@pytest.mark.parametrize(
    "step",
    [
        Step(on=CACHES, status=429),
        Step(on=CACHES, status=500),
        Step(on=CACHES, fault="reset"),
        Step(on=CACHES, body=b"<html>"),
        Step(on=CACHES, body=b"[1, 2]"),
        Step(on=CACHES, body=b'{"name": 7}'),
        Step(on=CACHES, body=b"{}"),
        Step(on=CACHES, body=b"[" * 100_000),
    ],
    ids=lambda step: f"{step.status or step.fault} {(step.body or b'')[:14].decode()}",
)
def test_failed_cache_costs_no_answer(endpoint: Endpoint, step: Step) -> None:
    """Whatever goes wrong with it."""
    server, provider = fake_of(endpoint), endpoint.make()
    provider.ask(make_question(1), PATIENT_S)
    server.script.append(step)
    assert provider.ask(make_question(2), PATIENT_S).answer.verdict == "good"


def test_slow_cache_leaves_time_for_the_question(endpoint: Endpoint) -> None:
    """A third of the time at most."""
    server, provider = fake_of(endpoint), endpoint.make()
    provider.ask(make_question(1), PATIENT_S)
    server.script.append(Step(on=CACHES, fault="hang"))
    began = time.monotonic()
    assert provider.ask(make_question(2), 6.0).answer.verdict == "good"
    assert 1.99 <= time.monotonic() - began < 6.0


def test_recipes_have_caches_of_their_own(endpoint: Endpoint) -> None:
    """By the key of the question and its resolution; closing deletes them all."""
    server, provider = fake_of(endpoint), endpoint.make()
    other = replace(make_question(golden=4), context_key="another")
    finer = make_question(resolution="high")
    for question in (make_question(1), other, finer, make_question(2), other, finer):
        provider.ask(question, PATIENT_S)
    assert sorted(cache.tokens for cache in server.caches.values()) == [1360, 2480, 2480]
    provider.close()
    assert server.caches == {}


def test_closing_does_not_wait_for_the_provider(endpoint: Endpoint) -> None:
    """It gives up at the first failure; what cannot be deleted expires."""
    server, provider = fake_of(endpoint), endpoint.make()
    for key in ("one", "two", "one", "two"):
        provider.ask(replace(make_question(), context_key=key), PATIENT_S)
    server.script.append(Step(on=CACHES, fault="reset_at_once"))
    began = time.monotonic()
    provider.close()
    assert time.monotonic() - began < CLOSING_S
    assert [request.method for request in server.received].count("DELETE") == 1


def test_question_without_golden_images(endpoint: Endpoint) -> None:
    """Nothing to keep but words: far below any minimum, so no cache is tried."""
    server, provider = fake_of(endpoint), endpoint.make()
    for number in range(3):
        provider.ask(make_question(number, golden=0), PATIENT_S)
    assert all(GENERATE in request.path for request in server.received)
