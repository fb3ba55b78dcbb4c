"""The inspections to which a person gave a defect name: examples to learn names from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import func, select

from inspector.records import VerdictKind
from inspector.store.database import Database
from inspector.store.stored import StoredInspection, load_stored
from inspector.store.tables import InspectionRow, ReviewRow


@dataclass(frozen=True, slots=True)
class NamedInspection:
    """An inspection, and what a person called its worst region."""

    inspection: StoredInspection
    defect_name: str


def list_named_inspections(
    db: Database, recipe_name: str, stations: Collection[str] | None = None
) -> list[NamedInspection]:
    """Inspections under any version of a recipe whose newest review found a defect and named it, oldest first.

    `stations` (full ids) None: all.
    """
    place = func.row_number().over(
        partition_by=ReviewRow.inspection_id,
        order_by=(ReviewRow.reviewed_utc_us.desc(), ReviewRow.review_id.desc()),
    )
    ranked = select(ReviewRow.inspection_id, ReviewRow.finding, ReviewRow.defect_name, place.label("place")).subquery()
    named = select(ranked.c.inspection_id, ranked.c.defect_name).where(
        ranked.c.place == 1, ranked.c.finding == VerdictKind.NG.value, ranked.c.defect_name.is_not(None)
    )
    with db.read() as session:
        names = {inspection_id: str(name) for inspection_id, name in session.execute(named)}
        chosen = named.with_only_columns(ranked.c.inspection_id)
        wanted = (
            select(InspectionRow)
            .where(InspectionRow.inspection_id.in_(chosen), InspectionRow.recipe_name == recipe_name)
            .order_by(InspectionRow.decided_utc_us, InspectionRow.inspection_id)
        )
        if stations is not None:
            wanted = wanted.where(InspectionRow.station.in_(sorted(stations)))
        found = load_stored(session, wanted)
    return [NamedInspection(inspection, names[inspection.inspection_id]) for inspection in found]
