"""From committed inspections to questions in the queue: the policy, near-duplicates, a short transaction for each.

The cursor moves after them; a kill in between looks at the same inspections again, which changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import structlog
from sqlalchemy.orm import Session

from inspector.cloud.looks import Look, are_covered, are_near_duplicates, pack_looks, take_look, unpack_looks
from inspector.cloud.policy import (
    RECENT_ANSWERS,
    Case,
    EscalationReason,
    Judgement,
    find_reason,
    is_drawn,
    judge_case,
)
from inspector.cloud.question import make_escalation_id
from inspector.cloud_settings import StationCloudConfig
from inspector.config import PlantConfig
from inspector.errors import QuestionHinderedError, RecipeError
from inspector.records import BoxPx
from inspector.store.database import Database
from inspector.store.escalations import (
    OPEN_STATES,
    QUEUED,
    REUSED,
    WAITING,
    NewEscalation,
    list_original_ids,
    load_escalation,
    load_escalations,
    move_cursor,
    next_inspections,
    open_cursor,
    queue_escalation,
)
from inspector.store.reviews import Opinion
from inspector.store.steady_clock import ClockReader, advance_clock
from inspector.store.stored import StoredInspection
from pipelines.escalation_frames import QuestionMaterial, hinder_one_question
from pipelines.escalation_record import Recorder, find_agreed_opinion
from pipelines.inspect_frame import BETWEEN_THRESHOLDS

BATCH = 20
DAY_US = 86_400_000_000

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class KnownCase:
    """A question whose answer near-duplicates reuse."""

    escalation_id: str
    camera: str
    recipe_name: str
    queued_utc_us: int
    looks: tuple[Look, ...]


@dataclass(frozen=True, slots=True)
class PlannedQuestion:
    """An inspection that the policy wants to ask about, and how it looks; no looks: nothing is reused.

    `alike` are its near-duplicates among the known cases, newest first; `is_known`: each of its looks is one of theirs.
    """

    inspection: StoredInspection
    reason: EscalationReason
    looks: tuple[Look, ...]
    alike: tuple[KnownCase, ...] = ()
    is_known: bool = False

    @property
    def recipe_name(self) -> str:
        return self.inspection.recipe.name if self.inspection.recipe is not None else ""


class StationPlanner:
    """Looks at every committed inspection of one station once. Belongs to one thread."""

    def __init__(
        self,
        config: PlantConfig,
        station: str,
        rules: StationCloudConfig,
        db: Database,
        data_dir: Path,
        clocks: ClockReader,
    ) -> None:
        self._station = station
        self._rules = rules
        self._db = db
        self._clocks = clocks
        self._material = QuestionMaterial(config, data_dir)
        self._recorder = Recorder(config.mqtt.topic_root, rules)
        now_us = clocks().wall_us
        open_cursor(db, station, now_us - int(rules.deadline_s * 1e6))
        self._known: list[KnownCase] = []
        """Newest first."""
        self.hindrances: Counter[str] = Counter()
        """Why parts that the policy would ask about were not asked about, since the start."""

    def plan_once(self) -> bool:
        """Look at the next inspections; False when there are none."""
        inspections = next_inspections(self._db, self._station, BATCH)
        if not inspections:
            return False
        planned = [question for item in inspections if (question := self._plan(item)) is not None]
        reading = self._clocks()
        if planned:
            self._refresh_known(reading.wall_us)
        for question in planned:
            # Compared outside the transaction: it takes time, and the verdict lane writes to the same database.
            compared = self._compare(question, reading.wall_us)
            with self._db.write() as session:
                self._queue(session, compared, advance_clock(session, reading), reading.wall_us)
        with self._db.write() as session:
            move_cursor(session, self._station, inspections[-1].chain_index)
        self._db.checkpoint_if_due()
        return True

    def _plan(self, inspection: StoredInspection) -> PlannedQuestion | None:
        """What the policy says about one inspection; only what it wants to ask about costs more than a look."""
        case = describe_case(inspection)
        if find_reason(case, self._rules) is None:
            return None
        try:
            with hinder_one_question(inspection.inspection_id):
                judgement = judge_case(self._with_recipe(case, inspection), self._rules)
                if judgement.reason is None:
                    self._note_hindrance(inspection, judgement.hindrance or "not asked")
                    return None
                looks = self._take_looks(inspection, judgement)
        except QuestionHinderedError as error:
            self._note_hindrance(inspection, str(error))
            return None
        return PlannedQuestion(inspection, judgement.reason, looks)

    def _with_recipe(self, case: Case, inspection: StoredInspection) -> Case:
        if inspection.recipe is None:
            raise RecipeError("it was inspected under no recipe")
        return replace(case, confidential=self._material.read_recipe(inspection.recipe).confidential)

    def _take_looks(self, inspection: StoredInspection, judgement: Judgement) -> tuple[Look, ...]:
        """Of all suspicious regions, also those that are not shown; of the whole frame where there are none."""
        if judgement.reason is EscalationReason.AUDIT or self._rules.reuse_days == 0:
            return ()
        pixels = self._material.read_frame(inspection)
        whole: BoxPx = (0, 0, pixels.shape[1], pixels.shape[0])
        boxes = [detection.box_xyxy_px for detection in inspection.detections] or [whole]
        return tuple(take_look(pixels, box) for box in boxes)

    def _queue(self, session: Session, question: PlannedQuestion, steady_us: int, now_us: int) -> None:
        inspection = question.inspection
        new = NewEscalation(
            escalation_id=make_escalation_id(inspection.inspection_id),
            inspection_id=inspection.inspection_id,
            station=self._station,
            camera=inspection.camera,
            recipe_name=question.recipe_name,
            reason=question.reason.value,
            looks=pack_looks(question.looks),
            waited_us=now_us - inspection.decided_utc_us,
        )
        if question.reason is EscalationReason.NEW_LOOKING:
            if question.is_known:
                return
        elif self._settle(session, new, question.alike, steady_us, now_us):
            return
        if queue_escalation(session, new, QUEUED, steady_us, now_us):
            session.flush()
            if question.looks:
                self._known.insert(0, KnownCase(new.escalation_id, new.camera, new.recipe_name, now_us, question.looks))
            log.info("escalation_queued", escalation_id=new.escalation_id, reason=new.reason)

    def _compare(self, question: PlannedQuestion, now_us: int) -> PlannedQuestion:
        """With what the known cases say of it."""
        since_us = now_us - int(self._rules.reuse_days * DAY_US)
        same = [
            case
            for case in self._known
            if case.camera == question.inspection.camera
            and case.recipe_name == question.recipe_name
            and case.queued_utc_us >= since_us
        ]
        if question.reason is EscalationReason.NEW_LOOKING:
            seen = [look for case in same for look in case.looks]
            return replace(question, is_known=are_covered(question.looks, seen))
        alike = (case for case in same if are_near_duplicates(question.looks, case.looks))
        return replace(question, alike=tuple(islice(alike, RECENT_ANSWERS)))

    def _refresh_known(self, now_us: int) -> None:
        """A near-duplicate that waited for an answer may have been asked itself since; others failed."""
        ids = list_original_ids(self._db, self._station, now_us - int(self._rules.reuse_days * DAY_US))
        known = {case.escalation_id: case for case in self._known}
        for item in load_escalations(self._db, [one for one in ids if one not in known]):
            known[item.escalation_id] = KnownCase(
                item.escalation_id, item.camera, item.recipe_name, item.queued_utc_us, unpack_looks(item.looks)
            )
        self._known = [known[one] for one in ids if one in known]

    def _settle(
        self, session: Session, new: NewEscalation, alike: Sequence[KnownCase], steady_us: int, now_us: int
    ) -> bool:
        """Answer a near-duplicate by what earlier ones agree on, or let it wait for one that is being asked.

        False when it has to be asked itself, as a few are though their answer is known.
        """
        if is_drawn(new.inspection_id, self._rules.recheck_share, "recheck"):
            return False
        ids = [case.escalation_id for case in alike]
        opinion = find_agreed_opinion(session, ids, self._rules)
        if opinion is not None:
            source = opinion.details["escalation_id"]
            self._reuse(session, replace(new, same_as=source), opinion, steady_us, now_us)
            return True
        for escalation_id in ids:
            original = load_escalation(session, escalation_id)
            if original is not None and original.state in OPEN_STATES:
                queue_escalation(session, replace(new, same_as=escalation_id), WAITING, steady_us, now_us)
                return True
        return False

    def _reuse(self, session: Session, behind: NewEscalation, opinion: Opinion, steady_us: int, now_us: int) -> None:
        if not queue_escalation(session, behind, REUSED, steady_us, now_us):
            return
        session.flush()
        escalation = load_escalation(session, behind.escalation_id)
        if escalation is not None:
            self._recorder.reuse(session, escalation, opinion, steady_us=steady_us, now_us=now_us)

    def _note_hindrance(self, inspection: StoredInspection, why: str) -> None:
        self.hindrances[why.split(":", 1)[0]] += 1
        log.info("escalation_hindered", inspection_id=inspection.inspection_id, reason=why)


def describe_case(inspection: StoredInspection) -> Case:
    """What the policy looks at; whether the recipe is confidential is found out only when that matters."""
    return Case(
        inspection_id=inspection.inspection_id,
        camera=inspection.camera,
        purpose=inspection.trigger.purpose,
        verdict=inspection.kind,
        odd=any(reason != BETWEEN_THRESHOLDS for reason in inspection.verdict.reasons),
        detections=inspection.detections,
        frame_kept=inspection.frame_key is not None,
        confidential=False,
    )
