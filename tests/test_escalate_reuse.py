"""Answers that are reused for near-duplicates, and dispositions that opinions set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from inspector.cloud.provider import Answer, AnswerInvalidError
from inspector.records import VerdictKind
from inspector.store.cloud_spend import sum_spend
from inspector.store.reviews import current_disposition
from inspector.store.tables import InspectionRow
from pipelines.review import review_inspection
from tests.cloud_rig import DAY_S, DEFECT, GOOD, CloudRig, blot, cloud_plant, open_rig, read_payloads, say_in_turn
from tests.small_line import draw_part


@pytest.fixture
def data_dir(taught_plate: Path, tmp_path: Path) -> Path:
    shutil.copytree(taught_plate / "data", tmp_path / "data")
    return tmp_path / "data"


# --- near-duplicates --------------------------------------------------------------------------------


def test_near_duplicates_reuse_the_answer(data_dir: Path) -> None:
    """The same defect on other parts is asked about once; each part has an opinion of its own, the reused free."""
    with open_rig(data_dir, say=lambda question: DEFECT) as rig:
        for number in range(4):
            rig.inspect(number)
        assert rig.run() == 1
        rig.restart()
        rig.inspect(9)
        assert rig.run() == 0
        opinions = rig.opinions()
        assert rig.states() == {"answered": 1, "reused": 4}
        (spent,) = sum_spend(rig.db)
    costs = sorted(opinion.details["cost_micro"] for opinion in opinions)
    assert len(opinions) == 5 and costs[:4] == [0] * 4 and spent.money_micro == costs[4] and spent.attempts == 1
    assert {opinion.verdict for opinion in opinions} == {"defect"}
    first = next(opinion for opinion in opinions if opinion.details["same_as"] is None)
    others = {opinion.details["same_as"] for opinion in opinions if opinion is not first}
    assert others == {first.details["escalation_id"]}


def test_another_place_or_look_is_asked_about(data_dir: Path) -> None:
    """A blot elsewhere, one of another shape, and a known one with a second one beside it are cases of their own."""
    here, there = (183, 108, 207, 132), (90, 110, 110, 130)
    with open_rig(data_dir) as rig:
        rig.inspect(1)
        rig.inspect(2, pixels=blot(2, 100, 120), boxes=(there,))
        rig.inspect(3, pixels=draw_part(3), boxes=(here,))
        rig.inspect(4, boxes=(here, there))
        assert rig.run() == 4


def test_reuse_ends(data_dir: Path) -> None:
    """After the configured days the same look is asked about again; with zero days always."""
    with open_rig(data_dir, {"reuse_days": 1.0}) as rig:
        rig.inspect(1)
        rig.run()
        rig.clocks.pass_time(1.1 * DAY_S)
        rig.inspect(2)
        assert rig.run() == 1
        rig.restart(cloud_plant({"reuse_days": 0.0}))
        rig.inspect(3)
        assert rig.run() == 1


def test_a_duplicate_of_a_failed_question_is_asked(data_dir: Path) -> None:
    """When the first of several is refused for good, the next is asked, and the rest reuse its answer."""
    with open_rig(data_dir, say=say_in_turn(AnswerInvalidError("not JSON"), DEFECT)) as rig:
        for number in range(3):
            rig.inspect(number)
        assert rig.run() == 2 and rig.states() == {"answered": 1, "failed": 1, "reused": 1}
        assert len(rig.opinions()) == 2


def test_good_is_reused_once_three_agree(data_dir: Path) -> None:
    """Of six alike three are asked, whether they come at once or one by one; later processes ask none."""
    with open_rig(data_dir) as rig:
        for number in range(6):
            rig.inspect(number)
        assert rig.run() == 3 and rig.states() == {"answered": 3, "reused": 3}
        rig.restart()
        rig.inspect(9)
        assert rig.run() == 0
        there = (90, 110, 110, 130)
        asked = []
        for number in range(10, 15):
            rig.inspect(number, pixels=blot(number, 100, 120), boxes=(there,))
            asked.append(rig.run())
        assert asked == [1, 1, 1, 0, 0]
        assert {opinion.verdict for opinion in rig.opinions()} == {"good"} and len(rig.opinions()) == 12


def test_one_wrong_good_is_not_reused(data_dir: Path) -> None:
    """The next of the same kind are asked, too; once `defect` is ahead, the others are called defective."""
    with open_rig(data_dir, say=say_in_turn(GOOD, DEFECT)) as rig:
        for number in range(5):
            rig.inspect(number)
        assert rig.run() == 3 and rig.states() == {"answered": 3, "reused": 2}
        assert sorted(opinion.verdict for opinion in rig.opinions()) == ["defect"] * 4 + ["good"]


@pytest.mark.parametrize(("said", "lead", "asked"), [(GOOD, 1, 1), (GOOD, 4, 4), (DEFECT, 1, 1), (DEFECT, 2, 2)])
def test_how_many_have_to_agree_is_a_setting(data_dir: Path, said: Answer, lead: int, asked: int) -> None:
    """One is enough where the plant says so; more are asked where it wants more."""
    key = "reuse_good_lead" if said is GOOD else "reuse_defect_lead"
    with open_rig(data_dir, {key: lead}, say=lambda question: said) as rig:
        for number in range(5):
            rig.inspect(number)
        assert rig.run() == asked and rig.states() == {"answered": asked, "reused": 5 - asked}


def test_a_recheck_that_differs_ends_the_reuse(data_dir: Path) -> None:
    """A wrong `defect` is reused until a near-duplicate drawn to be asked is called good; then they are asked again."""
    with open_rig(data_dir, say=say_in_turn(DEFECT, GOOD)) as rig:
        for number in range(3):
            rig.inspect(number)
        assert rig.run() == 1
        rig.restart(cloud_plant({"recheck_share": 1.0}))
        rig.inspect(3)
        assert rig.run() == 1
        rig.restart(cloud_plant())
        asked = []
        for number in range(4, 9):
            rig.inspect(number)
            asked.append(rig.run())
        assert asked == [1, 1, 1, 0, 0]
        assert [opinion.verdict for opinion in rig.opinions()].count("defect") == 3


def test_one_that_is_asked_in_their_stead_is_waited_for(data_dir: Path) -> None:
    """After the first good answer the next of those that waited is asked; one that comes then waits for it."""
    with open_rig(data_dir, {"reuse_good_lead": 2}) as rig:
        for number in range(3):
            rig.inspect(number)
        while rig.planner.plan_once():
            pass
        assert rig.sender.send_once() and rig.states() == {"answered": 1, "queued": 1, "waiting": 1}
        rig.inspect(3)
        assert rig.planner.plan_once() and rig.states() == {"answered": 1, "queued": 1, "waiting": 2}
        assert rig.run() == 1 and rig.states() == {"answered": 2, "reused": 2}


def test_a_kill_before_the_cursor_moved_asks_nothing_twice(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process looks at the same parts again: each has one question, and near-duplicates still wait."""
    with open_rig(data_dir, say=lambda question: DEFECT) as rig:
        for number in range(3):
            rig.inspect(number)
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr("pipelines.escalation_plan.move_cursor", interrupt)
            rig.planner.plan_once()
        assert rig.states() == {"queued": 1, "waiting": 2}
        rig.restart()
        assert rig.run() == 1 and rig.states() == {"answered": 1, "reused": 2} and len(rig.opinions()) == 3


def interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_an_answer_about_two_regions_says_nothing_about_one(data_dir: Path) -> None:
    """The defect may have been the other region: a part with one of the two is asked about."""
    here, there = (183, 108, 207, 132), (90, 110, 110, 130)
    with open_rig(data_dir, say=lambda question: DEFECT) as rig:
        rig.inspect(1, boxes=(here, there))
        assert rig.run() == 1
        rig.inspect(2, boxes=(here,))
        assert rig.run() == 1


# --- dispositions -----------------------------------------------------------------------------------


def disposition_of(rig: CloudRig, inspection: Any) -> str | None:
    found = current_disposition(rig.db, str(inspection.trigger.trigger_id))
    return found.disposition if found is not None else None


@pytest.mark.parametrize(("answer", "expected"), [(GOOD, "OK"), (DEFECT, "NG")])
def test_with_authority_a_review_is_decided(data_dir: Path, answer: Answer, expected: str) -> None:
    """The disposition follows, published with its cause; the verdict stays what the edge said, and NG stays NG."""
    with open_rig(data_dir, {"authority": "decide_review"}, say=lambda question: answer) as rig:
        inspection = rig.inspect(1)
        bad = rig.inspect(2, VerdictKind.NG, pixels=blot(2, 100, 120), boxes=((90, 110, 110, 130),))
        assert rig.run() == 2
        assert disposition_of(rig, inspection) == expected and disposition_of(rig, bad) is None
        (message,) = read_payloads(rig, "disposition")
        with rig.db.read() as session:
            verdicts = session.scalars(select(InspectionRow.verdict).order_by(InspectionRow.sequence)).all()
    assert verdicts == ["REVIEW", "NG"]
    assert (message["disposition"], message["cause"]) == (expected, "opinion")


def test_an_advice_decides_nothing(data_dir: Path) -> None:
    """By default an opinion stands beside the verdict and changes no disposition."""
    with open_rig(data_dir, say=lambda question: DEFECT) as rig:
        inspection = rig.inspect(1)
        rig.run()
        assert disposition_of(rig, inspection) is None and read_payloads(rig, "disposition") == []


def test_a_late_answer_is_recorded_and_decides_nothing(data_dir: Path) -> None:
    """After the deadline the opinion says that it is late; a wall clock that jumps makes nothing late."""
    with open_rig(data_dir, {"authority": "decide_review", "deadline_s": 60, "reuse_days": 0}) as rig:
        late = rig.inspect(1)
        while rig.planner.plan_once():
            pass
        rig.clocks.pass_time(61)
        rig.run()
        prompt = rig.inspect(2)
        while rig.planner.plan_once():
            pass
        rig.clocks.wall_us += DAY_S * 1_000_000
        rig.run()
        assert disposition_of(rig, late) is None and disposition_of(rig, prompt) == "OK"
        assert sorted(opinion.details["late"] for opinion in rig.opinions()) == [False, True]
        assert sorted(message["late"] for message in read_payloads(rig, "escalation")) == [False, True]


def test_a_person_overrules_the_cloud(data_dir: Path) -> None:
    """A review after an opinion counts; an opinion after a review changes nothing."""
    with open_rig(data_dir, {"authority": "decide_review", "reuse_days": 0}) as rig:
        first, second = rig.inspect(1), rig.inspect(2)
        review_inspection(str(second.inspection_id), "defect", data_dir, reviewer="Ann")
        rig.run()
        assert disposition_of(rig, first) == "OK" and disposition_of(rig, second) == "NG"
        review_inspection(str(first.inspection_id), "defect", data_dir, reviewer="Ann")
        assert disposition_of(rig, first) == "NG" and len(rig.opinions()) == 2
