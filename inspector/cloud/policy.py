"""Which inspections a cloud model is asked about, and why: pure rules, no pictures, no network, no clock.

REVIEW, score between the thresholds     review        (near-duplicates reuse an answer that was agreed on)
REVIEW, frame unlike the experience      drift         (likewise)
NG, a region that looks like none before new_looking   (first occurrences alone)
OK, drawn at random                      audit         (never reused: it estimates the escape rate)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from inspector.cloud_settings import MaskConfig, StationCloudConfig
from inspector.records import BoxPx, Detection, Purpose, VerdictKind

GOOD, DEFECT = "good", "defect"
RECENT_ANSWERS = 20
"""So many near-duplicates that were asked about are enough to find out what they agree on."""

ASKED_PURPOSES = frozenset({Purpose.PRODUCTION, Purpose.SIMULATED})
"""Verification and set-up parts are known to somebody; an opinion about them costs money and says nothing."""


class EscalationReason(StrEnum):
    """Why a cloud model is asked."""

    REVIEW = "review"
    DRIFT = "drift"
    NEW_LOOKING = "new_looking"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Case:
    """What the rules look at of one committed inspection. `odd`: a reason stands beside those of the score."""

    inspection_id: str
    camera: str
    purpose: Purpose
    verdict: VerdictKind
    odd: bool
    detections: tuple[Detection, ...]
    frame_kept: bool
    confidential: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """`reason` to ask, or None; `hindrance` says why a case that asks for a question cannot be one."""

    reason: EscalationReason | None
    hindrance: str | None = None
    boxes: tuple[BoxPx, ...] = ()
    """What the question is about, worst first; empty: the whole frame."""


def judge_case(case: Case, rules: StationCloudConfig) -> Judgement:
    """Whether to ask about a case, before anybody looks for near-duplicates."""
    reason = find_reason(case, rules)
    if reason is None:
        return Judgement(None)
    if case.confidential:
        return Judgement(None, "the recipe is confidential")
    if not case.frame_kept:
        return Judgement(None, "the frame was not kept")
    boxes = choose_boxes(case, rules)
    if not boxes and rules.send == "crops":
        return Judgement(None, "no suspicious region, and no area is configured that may leave")
    return Judgement(reason, boxes=boxes)


def find_reason(case: Case, rules: StationCloudConfig) -> EscalationReason | None:
    """Why these rules would ask about a case, whether or not anything may leave."""
    if rules.send == "none" or case.purpose not in ASKED_PURPOSES:
        return None
    if case.verdict is VerdictKind.REVIEW:
        if case.odd:
            return EscalationReason.DRIFT if rules.drift else None
        return EscalationReason.REVIEW if rules.review else None
    if case.verdict is VerdictKind.NG and case.detections and rules.new_looking:
        return EscalationReason.NEW_LOOKING
    if case.verdict is VerdictKind.OK and is_drawn(case.inspection_id, rules.audit_share):
        return EscalationReason.AUDIT
    return None


def is_drawn(inspection_id: str, share: float, draw: Literal["audit", "recheck"] = "audit") -> bool:
    """A draw that is the same for the same inspection, whoever asks and however often."""
    digest = hashlib.sha256(f"{draw}/{inspection_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def find_agreed(verdicts: Iterable[str], *, good_lead: int, defect_lead: int) -> str | None:
    """The verdict that answers on near-duplicates, oldest first, agree on; None while they do not.

    Each answer is a vote. A verdict is agreed on once it is so many votes ahead of the others: `good` by `good_lead`,
    all else by `defect_lead`. With two verdicts and independent answers this is Wald's sequential test: if they are
    right nine times of ten, leads of 3 and 1 agree on `good` for a defect once in 820. Votes beyond the lead are not
    kept, so that one contradiction reopens a case however often it was confirmed before.
    """
    leading, ahead, lead = "", 0, 0
    for verdict in verdicts:
        if ahead == 0:
            leading, lead = verdict, good_lead if verdict == GOOD else defect_lead
        ahead = min(ahead + 1, lead) if verdict == leading else ahead - 1
    return leading if lead and ahead == lead else None


def choose_boxes(case: Case, rules: StationCloudConfig) -> tuple[BoxPx, ...]:
    """The worst regions; without any the configured area of the camera; empty for a whole frame."""
    if case.detections:
        worst = sorted(case.detections, key=lambda detection: -detection.score)[: rules.most_regions]
        return tuple(detection.box_xyxy_px for detection in worst)
    if rules.send == "crops":
        return tuple(boxes_of(rules.areas, case.camera))[: rules.most_regions]
    return ()


def boxes_of(masks: Sequence[MaskConfig], camera: str) -> list[BoxPx]:
    """The rectangles that are meant for a camera."""
    return [mask.box_xyxy_px for mask in masks if mask.camera in (None, camera)]


def can_decide(
    reason: EscalationReason,
    rules: StationCloudConfig,
    verdict: VerdictKind,
    *,
    answer: str,
    shown: int,
    total: int,
    late: bool,
) -> bool:
    """Whether an opinion may set a disposition: in time, of a REVIEW, and only where the plant said so.

    `good` counts only when everything suspicious was shown: all regions of a part between the thresholds, the whole
    frame of one that is unlike the experience.
    """
    asked_for_it = reason in (EscalationReason.REVIEW, EscalationReason.DRIFT)
    if rules.authority != "decide_review" or verdict is not VerdictKind.REVIEW or not asked_for_it or late:
        return False
    whole = rules.send == "frames"
    saw_all = whole or (reason is EscalationReason.REVIEW and 0 < total <= shown)
    return answer == "defect" or (answer == "good" and saw_all)
