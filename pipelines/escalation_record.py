"""What an answer leaves behind, inside one transaction: the opinion, its message, a picture that is owed again, and
perhaps a disposition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from inspector.cloud.policy import EscalationReason, can_decide, find_agreed
from inspector.cloud_settings import StationCloudConfig
from inspector.mqtt.messages import disposition_message, escalation_message
from inspector.store.escalations import Escalation
from inspector.store.evidence import owe_repaint
from inspector.store.outbox import insert_messages
from inspector.store.reviews import (
    Opinion,
    insert_disposition,
    insert_opinion,
    judge_by_opinions,
    load_opinion,
    make_disposition_id,
    make_opinion_id,
)
from inspector.store.stored import StoredInspection, load_stored
from inspector.store.tables import InspectionRow

LONGEST_TEXT = 600


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """What a model said about a case, and the record of how it came about (model, tokens, cost, …)."""

    verdict: str
    defect_name: str | None
    confidence: float
    text: str
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recorder:
    """How opinions of a station are recorded; `rules` are its settings now."""

    topic_root: str
    rules: StationCloudConfig

    def record(
        self,
        session: Session,
        escalation: Escalation,
        answer: GivenAnswer,
        *,
        same_as: str | None,
        steady_us: int,
        now_us: int,
    ) -> None:
        """Opinion, message and disposition of one escalation; nothing when its inspection is gone."""
        wanted = select(InspectionRow).where(InspectionRow.inspection_id == escalation.inspection_id)
        found = load_stored(session, wanted)
        if not found:
            return
        inspection = found[0]
        age_us = escalation.age_us(steady_us)
        late = age_us > self.rules.deadline_s * 1e6
        total = len(inspection.detections)
        decides = can_decide(
            EscalationReason(escalation.reason),
            self.rules,
            inspection.kind,
            answer=answer.verdict,
            shown=min(total, self.rules.most_regions),
            total=total,
            late=late,
        )
        opinion_id = make_opinion_id(escalation.escalation_id)
        details = {
            **answer.record,
            "escalation_id": escalation.escalation_id,
            "asked_because": escalation.reason,
            "defect_name": answer.defect_name,
            "confidence": answer.confidence,
            "text": answer.text,
            "same_as": same_as,
            "age_s": round(age_us / 1e6, 3),
            "late": late,
            "decides": decides,
        }
        if insert_opinion(
            session, opinion_id, inspection.inspection_id, verdict=answer.verdict, details=details, now_us=now_us
        ):
            self._announce(session, escalation, inspection, opinion_id, answer, same_as, late, now_us)
            owe_repaint(session, inspection.inspection_id, now_us)
            if decides:
                self._decide(session, inspection, opinion_id, now_us)

    def reuse(self, session: Session, escalation: Escalation, opinion: Opinion, *, steady_us: int, now_us: int) -> None:
        """The opinion on a near-duplicate as the answer to this one."""
        source = opinion.details["escalation_id"]
        self.record(session, escalation, answer_of(opinion), same_as=source, steady_us=steady_us, now_us=now_us)

    def _announce(
        self,
        session: Session,
        escalation: Escalation,
        inspection: StoredInspection,
        opinion_id: str,
        answer: GivenAnswer,
        same_as: str | None,
        late: bool,
        now_us: int,
    ) -> None:
        message = escalation_message(
            topic_root=self.topic_root,
            station=inspection.station,
            opinion_id=opinion_id,
            inspection_id=inspection.inspection_id,
            verdict=answer.verdict,
            received_utc_us=now_us,
            summary=answer.text,
            escalation_id=escalation.escalation_id,
            reason=escalation.reason,
            defect_name=answer.defect_name,
            confidence=answer.confidence,
            model=answer.record.get("model"),
            late=late,
            same_as=same_as,
        )
        insert_messages(session, inspection.station, (message,), now_us)

    def _decide(self, session: Session, inspection: StoredInspection, opinion_id: str, now_us: int) -> None:
        trigger = inspection.trigger
        trigger_id = str(trigger.trigger_id)
        session.flush()
        truth = judge_by_opinions(session, trigger_id)
        if truth is None:
            return
        message = disposition_message(
            topic_root=self.topic_root,
            station=inspection.station,
            disposition_id=make_disposition_id(trigger_id, "opinion", opinion_id),
            trigger_id=trigger_id,
            disposition=truth.value,
            cause="opinion",
            cause_id=opinion_id,
            decided_utc_us=now_us,
            inspection_id=inspection.inspection_id,
            sequence=trigger.sequence,
            part_id=trigger.part_id,
        )
        insert_disposition(
            session,
            trigger_id,
            truth.value,
            cause="opinion",
            cause_id=opinion_id,
            messages=(message,),
            now_us=now_us,
        )


def find_agreed_opinion(session: Session, ids: Sequence[str], rules: StationCloudConfig) -> Opinion | None:
    """The newest opinion of what questions on near-duplicates, by their ids, newest first, agree on; None for nothing.

    Questions without an opinion do not count.
    """
    loaded = (load_opinion(session, make_opinion_id(one)) for one in ids)
    opinions = [opinion for opinion in loaded if opinion is not None]
    agreed = find_agreed(
        (opinion.verdict for opinion in reversed(opinions)),
        good_lead=rules.reuse_good_lead,
        defect_lead=rules.reuse_defect_lead,
    )
    return next((opinion for opinion in opinions if opinion.verdict == agreed), None)


def answer_of(opinion: Opinion) -> GivenAnswer:
    """An earlier opinion as the answer to a near-duplicate: the same words, without tokens and cost."""
    details = opinion.details
    record: dict[str, Any] = {
        name: details.get(name) for name in ("model", "provider", "destination", "policy_version")
    }
    record |= {"input_tokens": None, "cached_tokens": None, "output_tokens": None, "cost_micro": 0}
    return GivenAnswer(opinion.verdict, details.get("defect_name"), details["confidence"], details["text"], record)


def plain_text(text: str) -> str:
    """A stranger's sentence in one line: printable characters alone, at most `LONGEST_TEXT`."""
    printable = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(printable.split())[:LONGEST_TEXT]
