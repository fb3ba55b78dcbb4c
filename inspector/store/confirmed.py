"""What production says about a recipe's scores: each scored part with what a person found about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import and_, func, or_, select
from sqlalchemy.orm import aliased

from inspector.records import Purpose, RecipeRef, VerdictKind
from inspector.store.database import Database
from inspector.store.tables import DispositionRow, InspectionRow, TriggerRow

ROWS_A_FETCH = 2000
BY_A_PERSON = "review"


@dataclass(frozen=True, slots=True)
class ProducedPart:
    """One part at its first attempt, by its worst view.

    `confirmed` is the newest disposition when a person gave it, None otherwise: an OK verdict alone confirms nothing,
    nor does an opinion of the cloud.
    """

    trigger_id: str
    score: float
    suspicious: bool
    confirmed: VerdictKind | None
    frame_sha256s: tuple[str, ...]


def stream_produced_parts(
    db: Database, recipes: Sequence[RecipeRef], reasons_of_score: Sequence[str]
) -> Iterator[ProducedPart]:
    """Every production part scored under one of these recipe versions, by station in the order of acceptance.

    Left out are re-inspections (no new part), parts that still owe a view, and parts of which any view has no score
    or is odd, that is: has a reason beside `reasons_of_score`. Their score says little about a good part.
    """
    # One look into an index a part: against the set of all newest positions SQLite would scan it for every part.
    other = aliased(DispositionRow)
    newest = select(func.max(other.position)).where(other.trigger_id == InspectionRow.trigger_id)
    same = [
        and_(
            InspectionRow.recipe_name == ref.name,
            InspectionRow.recipe_version == ref.version,
            InspectionRow.recipe_sha256 == ref.sha256,
        )
        for ref in recipes
    ]
    query = (
        select(
            InspectionRow.trigger_id,
            InspectionRow.score,
            InspectionRow.verdict,
            InspectionRow.reasons,
            InspectionRow.frame_sha256,
            DispositionRow.disposition,
            DispositionRow.cause,
        )
        .join(TriggerRow, TriggerRow.trigger_id == InspectionRow.trigger_id)
        .outerjoin(
            DispositionRow,
            DispositionRow.position == newest.correlate(InspectionRow).scalar_subquery(),
        )
        .where(
            or_(*same),
            TriggerRow.purpose == Purpose.PRODUCTION.value,
            TriggerRow.attempt == 1,
            TriggerRow.closed,
        )
        .order_by(TriggerRow.station, TriggerRow.epoch, TriggerRow.sequence, InspectionRow.chain_index)
    )
    with db.read() as session:
        rows = session.execute(query.execution_options(yield_per=ROWS_A_FETCH))
        for _, views in groupby(rows, key=lambda row: row.trigger_id):
            part = _judge_views(list(views), frozenset(reasons_of_score))
            if part is not None:
                yield part


def _judge_views(views: Sequence[Any], reasons_of_score: frozenset[str]) -> ProducedPart | None:
    scores = [
        float(view.score) for view in views if view.score is not None and reasons_of_score.issuperset(view.reasons)
    ]
    if len(scores) < len(views):
        return None
    disposition, cause = views[0].disposition, views[0].cause
    known = {kind.value: kind for kind in VerdictKind}
    return ProducedPart(
        trigger_id=views[0].trigger_id,
        score=max(scores),
        suspicious=any(view.verdict != VerdictKind.OK.value for view in views),
        confirmed=known.get(disposition) if cause == BY_A_PERSON else None,
        frame_sha256s=tuple(view.frame_sha256 for view in views if view.frame_sha256 is not None),
    )
