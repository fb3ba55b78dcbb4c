"""The policy on paper: who is asked about what, the budget, the retry rule and the breaker, without any network."""

from __future__ import annotations

import uuid
from itertools import combinations
from random import Random
from typing import Any

import cv2
import numpy as np
import pytest

from inspector.cloud.budget import MICRO, bound_charge, cost_of_reply, refuse_charge
from inspector.cloud.looks import Look, are_alike, are_covered, pack_looks, take_look, unpack_looks
from inspector.cloud.policy import (
    Case,
    EscalationReason,
    can_decide,
    find_agreed,
    find_reason,
    is_drawn,
    judge_case,
)
from inspector.cloud.provider import (
    Answer,
    AnswerInvalidError,
    ProviderError,
    ProviderRefusedError,
    ProviderUnreachableError,
    Question,
    QuestionImage,
    Reply,
)
from inspector.cloud.retry import BREAKER_FAILURES, CircuitBreaker, is_retryable, next_pause_s
from inspector.cloud_settings import BudgetConfig, StationCloudConfig, WebhookProvider
from inspector.records import BgrImage, Charge, Detection, Purpose, Spent, VerdictKind
from tests.small_line import draw_part

SPOT = Detection((183, 108, 207, 132), 4.2, "dent", 450)
CROPS = StationCloudConfig(send="crops", provider="hook", audit_share=0.1)


def case(**changes: Any) -> Case:
    values: dict[str, Any] = {
        "inspection_id": "11111111-1111-4111-8111-111111111111",
        "camera": "top",
        "purpose": Purpose.PRODUCTION,
        "verdict": VerdictKind.REVIEW,
        "odd": False,
        "detections": (SPOT,),
        "frame_kept": True,
        "confidential": False,
    }
    return Case(**(values | changes))


# --- reasons ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, EscalationReason.REVIEW),
        ({"odd": True}, EscalationReason.DRIFT),
        ({"verdict": VerdictKind.NG}, EscalationReason.NEW_LOOKING),
        ({"verdict": VerdictKind.NG, "detections": ()}, None),
        ({"verdict": VerdictKind.NOT_INSPECTED, "detections": ()}, None),
        ({"purpose": Purpose.VERIFICATION}, None),
        ({"purpose": Purpose.SETUP}, None),
        ({"confidential": True}, None),
        ({"frame_kept": False}, None),
        ({"detections": ()}, None),
    ],
)
def test_why_a_part_is_asked_about(changes: dict[str, Any], reason: EscalationReason | None) -> None:
    """REVIEW, drift and new-looking NG parts are asked about; confidential parts and lost frames never are."""
    assert judge_case(case(**changes), CROPS).reason is reason


@pytest.mark.parametrize("verdict", list(VerdictKind))
def test_with_send_none_nothing_is_asked(verdict: VerdictKind) -> None:
    """The default settings ask about no inspection whatever, even with everything else switched on."""
    rules = StationCloudConfig(audit_share=1.0)
    assert find_reason(case(verdict=verdict), rules) is None


@pytest.mark.parametrize(("switch", "changes"), [("review", {}), ("drift", {"odd": True})])
def test_each_reason_can_be_switched_off(switch: str, changes: dict[str, Any]) -> None:
    """A station that does not want a kind of question asks none of it."""
    assert find_reason(case(**changes), CROPS.model_copy(update={switch: False})) is None


def test_audit_is_a_fair_draw_that_repeats() -> None:
    """The share of drawn OK parts is the configured one, and drawing again gives the same parts."""
    ids = [str(uuid.UUID(int=number)) for number in range(20_000)]
    drawn = [one for one in ids if is_drawn(one, 0.1)]
    assert abs(len(drawn) - 2000) < 5 * (20_000 * 0.1 * 0.9) ** 0.5
    assert drawn == [one for one in ids if is_drawn(one, 0.1)]
    assert {one for one in ids if is_drawn(one, 0.05)} < set(drawn)
    assert not any(is_drawn(one, 0.0) for one in ids) and all(is_drawn(one, 1.0) for one in ids)


def test_without_a_region_only_a_configured_area_may_leave() -> None:
    """With crops a frame without suspicious region is asked about by its configured area, or not at all."""
    plain = case(odd=True, detections=())
    assert "no area" in (judge_case(plain, CROPS).hindrance or "")
    area = {"areas": [{"camera": "top", "box_xyxy_px": [10, 10, 90, 90]}]}
    rules = StationCloudConfig.model_validate(CROPS.model_dump() | area)
    assert judge_case(plain, rules).boxes == ((10, 10, 90, 90),)
    assert judge_case(case(odd=True, detections=(), camera="side"), rules).reason is None
    assert judge_case(plain, rules.model_copy(update={"send": "frames"})).boxes == ()


def decides(rules: StationCloudConfig = CROPS, **changes: Any) -> bool:
    values: dict[str, Any] = {
        "reason": EscalationReason.REVIEW,
        "verdict": VerdictKind.REVIEW,
        "answer": "good",
        "shown": 1,
        "total": 1,
        "late": False,
    } | changes
    reason, verdict = values.pop("reason"), values.pop("verdict")
    return can_decide(reason, rules.model_copy(update={"authority": "decide_review"}), verdict, **values)


def test_only_a_review_in_time_is_decided() -> None:
    """An opinion sets a disposition only with that authority, only of REVIEW, only in time, never from an audit."""
    assert decides() and decides(answer="defect")
    assert not can_decide(
        EscalationReason.REVIEW, CROPS, VerdictKind.REVIEW, answer="good", shown=1, total=1, late=False
    )
    assert not decides(late=True) and not decides(answer="unsure")
    assert not decides(reason=EscalationReason.NEW_LOOKING, verdict=VerdictKind.NG, answer="defect")
    assert not decides(reason=EscalationReason.AUDIT, verdict=VerdictKind.OK, answer="defect")


def test_good_needs_to_have_seen_everything() -> None:
    """A part with more regions than were shown, or with an odd frame of which crops were shown, is not released."""
    assert not decides(shown=4, total=5) and decides(shown=4, total=5, answer="defect")
    assert not decides(reason=EscalationReason.DRIFT) and not decides(shown=1, total=0)
    frames = CROPS.model_copy(update={"send": "frames"})
    assert decides(frames, reason=EscalationReason.DRIFT, shown=0, total=0)


# --- looks ------------------------------------------------------------------------------------------


def look(pixels: BgrImage, box: tuple[int, int, int, int] = SPOT.box_xyxy_px) -> Look:
    return take_look(pixels, box)


def test_the_same_defect_on_the_next_part_looks_the_same() -> None:
    """Another part, moved by a few pixels, a little brighter and noisier, with the same defect: near-duplicates."""
    looks = [look(draw_part(number, defect=True)) for number in range(8)]
    assert all(are_alike(looks[0], other) for other in looks[1:])


def test_another_look_at_the_same_place_is_no_duplicate() -> None:
    """A good part at the place of a defect, and a defect of another shape there, are cases of their own."""
    known = look(draw_part(1, defect=True))
    ground, scratched = draw_part(2), draw_part(2)
    ground[112:128, 185:205] //= 3
    cv2.line(scratched, (186, 112), (204, 128), (60, 60, 60), 1, cv2.LINE_AA)
    others = [look(draw_part(2)), look(ground), look(scratched)]
    assert not any(are_alike(known, other) for other in others)
    assert not any(are_alike(one, other) for one, other in combinations(others, 2))


def test_the_same_look_at_another_place_is_no_duplicate() -> None:
    """A hole looks like every other hole; what is meant is the one at this place."""
    part = draw_part(3)
    left, right = look(part, (76, 66, 104, 94)), look(part, (216, 66, 244, 94))
    assert are_alike(left, left) and not are_alike(left, right)


def test_every_region_must_be_known() -> None:
    """A part with one known and one new region is new; a part without any region is never known."""
    part = draw_part(4, defect=True)
    spot, hole = look(part), look(part, (76, 66, 104, 94))
    assert are_covered([spot], [hole, spot]) and not are_covered([spot, hole], [spot]) and not are_covered([], [spot])


def test_looks_survive_the_database() -> None:
    """Packed and unpacked they are the same, at the frame's edge and beyond it too; other bytes are refused."""
    part = draw_part(5, defect=True)
    looks = (look(part), look(part, (0, 0, 12, 12)), look(part, (400, 300, 420, 330)))
    for before, after in zip(looks, unpack_looks(pack_looks(looks)), strict=True):
        assert before.box_xyxy_px == after.box_xyxy_px and np.array_equal(before.cells, after.cells)
    with pytest.raises(ValueError, match="no looks"):
        unpack_looks(b"abc")


# --- what answers agree on --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "agreed"),
    [
        ("", None),
        ("gg", None),
        ("ggg", "good"),
        ("d", "defect"),
        ("u", "unsure"),
        ("gd", None),
        ("gdd", "defect"),
        ("dgggg", "good"),
        ("ggggggggd", None),
        ("ggggggggdg", "good"),
        ("ggggggggddd", None),
        ("ggggggggdddd", "defect"),
        ("dg", None),
        ("ud", None),
    ],
)
def test_what_answers_agree_on(said: str, agreed: str | None) -> None:
    """`good` three votes ahead, all else one; a contradiction reopens a case however often it was confirmed."""
    verdicts = [{"g": "good", "d": "defect", "u": "unsure"}[letter] for letter in said]
    assert find_agreed(verdicts, good_lead=3, defect_lead=1) == agreed


def test_a_defect_is_agreed_on_as_good_once_in_820() -> None:
    """The docs' figure: answers that are right nine times of ten, asked for until they agree, by the default leads."""
    random, wrong, rules = Random(5), 0, StationCloudConfig()
    for _ in range(40_000):
        said: list[str] = []
        while (
            agreed := find_agreed(said, good_lead=rules.reuse_good_lead, defect_lead=rules.reuse_defect_lead)
        ) is None:
            said.append("defect" if random.random() < 0.9 else "good")
        wrong += agreed == "good"
    assert abs(wrong - 40_000 / 820) < 5 * (40_000 / 820) ** 0.5


# --- budget -----------------------------------------------------------------------------------------

PROVIDER = WebhookProvider(
    name="hook",
    base_url="https://hook.example",
    secret_env="SECRET",
    price_input=2.0,
    price_cached=0.5,
    price_output=10.0,
    price_request=0.001,
)
QUESTION = Question("e", "c", "i" * 100, "t" * 50, (QuestionImage("part", b"123", "image/jpeg"),) * 2, "low")
ANSWER = Answer(verdict="good", defect_name=None, confidence=0.5, reason="fine")


def test_what_is_debited_is_an_upper_bound() -> None:
    """The bound exceeds what any reply with honest counts costs; a reply without counts costs the bound."""
    charge = bound_charge(QUESTION, 6, PROVIDER)
    reply = Reply(ANSWER, "m", 150 + 2 * 280, 300, 512)
    cost = cost_of_reply(reply, PROVIDER, charge.money_micro)
    assert charge.size_bytes == 6 and 0 < cost < charge.money_micro
    assert cost == (410 * 2 + 300 * 0.5 + 512 * 10) + 1000
    assert cost_of_reply(Reply(ANSWER, "m", None, None, None), PROVIDER, charge.money_micro) == charge.money_micro


@pytest.mark.parametrize(
    ("spent", "word"),
    [
        (Spent(requests_hour=3), "hour"),
        (Spent(requests_day=5), "day"),
        (Spent(bytes_day=901), "bytes"),
        (Spent(money_month_micro=1_000_001 - 500), "spent"),
        (Spent(2, 4, 900, 1_000_000 - 500), None),
    ],
)
def test_no_limit_is_ever_exceeded(spent: Spent, word: str | None) -> None:
    """One request more is refused as soon as it would exceed any limit, and allowed exactly up to it."""
    limits = BudgetConfig(requests_per_hour=3, requests_per_day=5, bytes_per_day=1000, money_per_month=1.0)
    refusal = refuse_charge(limits, spent, Charge(100, 500))
    assert (refusal is None) if word is None else (refusal is not None and word in refusal)
    assert MICRO == 1_000_000


# --- retry ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", range(400, 600))
def test_the_retry_predicate(status: int) -> None:
    """429 and every 5xx are asked again, no other 4xx ever."""
    assert is_retryable(ProviderRefusedError("no", status=status)) is (status == 429 or status >= 500)


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (ProviderUnreachableError("reset"), True),
        (AnswerInvalidError("not JSON", status=200), False),
        (AnswerInvalidError("withheld", status=503), False),
        (ProviderRefusedError("redirected", status=302), False),
        (ProviderRefusedError("no status"), False),
        (ProviderError("something else"), False),
    ],
)
def test_other_failures(error: ProviderError, again: bool) -> None:
    """An answer that never came is asked for again; an answer that does not fit is not."""
    assert is_retryable(error) is again


def test_pauses_grow_and_respect_retry_after() -> None:
    """Pauses double with jitter up to an hour; what the provider asked for is a lower bound, a day at most."""
    random = Random(1)
    pauses = [next_pause_s(failures, None, random) for failures in range(1, 30)]
    assert 1.0 <= pauses[0] <= 2.0 and all(pause <= 3600 for pause in pauses) and max(pauses) > 1800
    assert next_pause_s(1, 120.0, random) == 120.0
    assert next_pause_s(1, 1e9, random) == 86_400.0
    assert next_pause_s(1, -5.0, random) > 0


def test_the_breaker_opens_lets_one_through_and_closes() -> None:
    """After five failures in a row nobody is asked for a while; then one question decides how it goes on."""
    breaker = CircuitBreaker(Random(2))
    for second in range(BREAKER_FAILURES - 1):
        breaker.note_failure(second, None)
        assert breaker.blocked_until_s(second) is None
    breaker.note_failure(10.0, None)
    opens = breaker.blocked_until_s(10.0)
    assert opens is not None and 20 < opens < 30 and breaker.blocked_until_s(opens) is None
    breaker.note_failure(opens, None)
    longer = breaker.blocked_until_s(opens)
    assert longer is not None and longer - opens > opens - 10.0
    breaker.note_success()
    assert breaker.blocked_until_s(opens) is None


def test_retry_after_holds_for_the_whole_provider() -> None:
    """A single 429 with Retry-After keeps every question to that provider waiting."""
    breaker = CircuitBreaker(Random(3))
    breaker.note_failure(0.0, 40.0)
    assert breaker.blocked_until_s(39.9) == 40.0 and breaker.blocked_until_s(40.0) is None
