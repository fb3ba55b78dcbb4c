"""What a station must remember over a restart: epoch, next sequence, recipe, lot, pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, bindparam, insert, select, update
from sqlalchemy.orm import Session

from inspector.errors import StoreError
from inspector.records import RecipeRef
from inspector.store.database import Database
from inspector.store.hash_chain import GENESIS_HASH
from inspector.store.rows import storable
from inspector.store.tables import StationRow, table_of

_STATION = table_of(StationRow)
_SELECT_STATION = select(_STATION).where(_STATION.c.station == bindparam("station"))


@dataclass(frozen=True, slots=True)
class StationState:
    """What survived the last run. `recipe_version` None means the latest released one."""

    station: str
    epoch: int
    next_sequence: int
    recipe_name: str | None
    recipe_version: int | None
    lot: str | None
    paused: bool


def ensure_station(
    db: Database, station: str, *, recipe_name: str | None, recipe_version: int | None, now_us: int
) -> StationState:
    """Create the station at its first start (`now_us` becomes its epoch for ever), else return what survived."""
    first = {
        "station": station,
        "epoch": now_us,
        "next_sequence": 1,
        "recipe_name": recipe_name,
        "recipe_version": recipe_version,
        "lot": None,
        "paused": False,
        "chain_index": 0,
        "chain_hash": GENESIS_HASH,
        "accepted": {},
        "totals": {},
    }
    with db.write() as session:
        if session.get(StationRow, station) is None:
            session.execute(insert(StationRow).values(**first))
        return _state(get_station(session, station))


def load_station(db: Database, station: str) -> StationState:
    """Raises `StoreError` for a station that never started on this database."""
    with db.read() as session:
        return _state(get_station(session, station))


def set_station(
    db: Database,
    station: str,
    *,
    recipe: RecipeRef | None = None,
    lot: str | None = None,
    paused: bool | None = None,
) -> StationState:
    """Change what is given; None keeps, an empty `lot` clears it."""
    changes: dict[str, Any] = {}
    if recipe is not None:
        changes |= {"recipe_name": recipe.name, "recipe_version": recipe.version}
    if lot is not None:
        changes["lot"] = storable(lot) or None
    if paused is not None:
        changes["paused"] = paused
    with db.write() as session:
        if changes:
            session.execute(update(StationRow).where(StationRow.station == station).values(**changes))
        return _state(get_station(session, station))


def get_station(session: Session, station: str) -> Row[Any]:
    """The columns inside a transaction; `StoreError` when `ensure_station` never ran."""
    row = session.connection().execute(_SELECT_STATION, {"station": station}).one_or_none()
    if row is None:
        raise StoreError(f"station {station} is not in this database; it never started here")
    return row


def _state(row: Row[Any]) -> StationState:
    return StationState(
        station=row.station,
        epoch=row.epoch,
        next_sequence=row.next_sequence,
        recipe_name=row.recipe_name,
        recipe_version=row.recipe_version,
        lot=row.lot,
        paused=row.paused,
    )
