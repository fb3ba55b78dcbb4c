"""The queue of questions to the cloud: durable, in the same database, outside the verdict lane.

A cursor over the committed inspections of each station says what was looked at; verdicts know nothing of it.
Sending is at most once a repeat: an attempt is recorded before it leaves, so one that a kill interrupted is known
to be uncertain, goes back to the queue once, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.orm import Session

from inspector.store.cloud_tables import CloudCursorRow, EscalationRow
from inspector.store.database import Database
from inspector.store.inspections import chain_inspections
from inspector.store.stored import StoredInspection, load_stored
from inspector.store.tables import InspectionRow

QUEUED, WAITING, SENDING = "queued", "waiting", "sending"
ANSWERED, REUSED, FAILED, EXPIRED = "answered", "reused", "failed", "expired"
OPEN_STATES = (QUEUED, WAITING, SENDING)
MAX_KILLS = 5
MOST_LOOKS = 2000
IDS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class NewEscalation:
    """A question to be queued; with `same_as` the near-duplicate of another one."""

    escalation_id: str
    inspection_id: str
    station: str
    camera: str
    recipe_name: str
    reason: str
    looks: bytes
    waited_us: int
    same_as: str | None = None


@dataclass(frozen=True, slots=True)
class Escalation:
    """A question as it stands in the queue."""

    escalation_id: str
    inspection_id: str
    station: str
    camera: str
    recipe_name: str
    reason: str
    state: str
    same_as: str | None
    looks: bytes
    attempts: int
    kills: int
    queued_utc_us: int
    queued_steady_us: int
    waited_us: int
    problem: str | None

    def age_us(self, steady_us: int) -> int:
        """Since the verdict."""
        return self.waited_us + max(0, steady_us - self.queued_steady_us)


# --- what was looked at -----------------------------------------------------------------------------


def open_cursor(db: Database, station: str, since_utc_us: int) -> None:
    """At the first start of a station's questions: begin with inspections decided since then, not with old ones."""
    with db.write() as session:
        if session.get(CloudCursorRow, station) is not None:
            return
        first = session.scalar(
            select(func.min(InspectionRow.chain_index)).where(
                InspectionRow.station == station, InspectionRow.decided_utc_us >= since_utc_us
            )
        )
        last = session.scalar(select(func.max(InspectionRow.chain_index)).where(InspectionRow.station == station))
        index = first - 1 if first is not None else (last or 0)
        session.execute(insert(CloudCursorRow).values(station=station, chain_index=index))


def next_inspections(db: Database, station: str, limit: int) -> list[StoredInspection]:
    """Committed inspections of a station that were not looked at yet, in the order of its chain."""
    with db.read() as session:
        cursor = session.get(CloudCursorRow, station)
    return chain_inspections(db, station, cursor.chain_index if cursor else 0, limit)


def move_cursor(session: Session, station: str, chain_index: int) -> None:
    """Everything up to here was looked at, and what came of it is queued."""
    session.execute(
        update(CloudCursorRow)
        .where(CloudCursorRow.station == station, CloudCursorRow.chain_index < chain_index)
        .values(chain_index=chain_index)
    )


# --- queueing ---------------------------------------------------------------------------------------


def queue_escalation(session: Session, new: NewEscalation, state: str, steady_us: int, now_us: int) -> bool:
    """Put a question into the queue (`queued`), behind another (`waiting`), or down as answered by it (`reused`).

    False, and nothing is written, when the inspection was asked about before.
    """
    if session.get(EscalationRow, new.escalation_id) is not None:
        return False
    session.execute(
        insert(EscalationRow).values(
            escalation_id=new.escalation_id,
            inspection_id=new.inspection_id,
            station=new.station,
            camera=new.camera,
            recipe_name=new.recipe_name,
            reason=new.reason,
            state=state,
            same_as=new.same_as,
            looks=new.looks,
            attempts=0,
            kills=0,
            queued_utc_us=now_us,
            queued_steady_us=steady_us,
            waited_us=max(0, new.waited_us),
            due_steady_us=steady_us,
            finished_utc_us=now_us if state == REUSED else None,
            problem=None,
        )
    )
    return True


def list_original_ids(db: Database, station: str, since_utc_us: int) -> list[str]:
    """Questions whose answers may be reused, newest first: asked or to be asked, and not failed."""
    wanted = (
        select(EscalationRow.escalation_id)
        .where(
            EscalationRow.station == station,
            EscalationRow.queued_utc_us >= since_utc_us,
            EscalationRow.state.in_((QUEUED, SENDING, ANSWERED)),
            EscalationRow.looks != b"",
        )
        .order_by(EscalationRow.queued_steady_us.desc(), EscalationRow.escalation_id)
        .limit(MOST_LOOKS)
    )
    with db.read() as session:
        return list(session.scalars(wanted))


def load_escalations(db: Database, ids: Sequence[str]) -> list[Escalation]:
    """Those of these that exist, in any order."""
    with db.read() as session:
        return [
            _escalation(row)
            for start in range(0, len(ids), IDS_A_QUERY)
            for row in session.scalars(
                select(EscalationRow).where(EscalationRow.escalation_id.in_(ids[start : start + IDS_A_QUERY]))
            )
        ]


def list_asked_like(session: Session, escalation: Escalation, since_utc_us: int) -> list[Escalation]:
    """This question, which is being answered, and those of its camera and recipe that were; newest first."""
    wanted = (
        select(EscalationRow)
        .where(
            EscalationRow.station == escalation.station,
            EscalationRow.camera == escalation.camera,
            EscalationRow.recipe_name == escalation.recipe_name,
            EscalationRow.queued_utc_us >= since_utc_us,
            EscalationRow.looks != b"",
            or_(EscalationRow.state == ANSWERED, EscalationRow.escalation_id == escalation.escalation_id),
        )
        .order_by(EscalationRow.queued_steady_us.desc(), EscalationRow.escalation_id)
        .limit(MOST_LOOKS)
    )
    return [_escalation(row) for row in session.scalars(wanted)]


def load_escalation(session: Session, escalation_id: str) -> Escalation | None:
    """As it stands now; None when there is none (any more)."""
    row = session.get(EscalationRow, escalation_id, populate_existing=True)
    return _escalation(row) if row is not None else None


# --- sending ----------------------------------------------------------------------------------------


def next_due(db: Database, stations: Collection[str], steady_us: int) -> tuple[Escalation, StoredInspection] | None:
    """The newest question of these stations that may be sent now, with its inspection.

    Newest first: when there is more to ask than may be asked, an answer in time is worth more than a late one.
    """
    wanted = (
        select(EscalationRow)
        .where(
            EscalationRow.state == QUEUED,
            EscalationRow.due_steady_us <= steady_us,
            EscalationRow.station.in_(stations),
        )
        .order_by(EscalationRow.queued_steady_us.desc(), EscalationRow.escalation_id)
        .limit(1)
    )
    with db.read() as session:
        row = session.scalar(wanted)
        if row is None:
            return None
        inspections = load_stored(
            session, select(InspectionRow).where(InspectionRow.inspection_id == row.inspection_id)
        )
        return _escalation(row), inspections[0]


def mark_sending(session: Session, escalation_id: str, attempt: int) -> bool:
    """This attempt is about to leave; False when the question is not queued any more."""
    found = session.execute(
        update(EscalationRow)
        .where(EscalationRow.escalation_id == escalation_id, EscalationRow.state == QUEUED)
        .where(EscalationRow.attempts == attempt - 1)
        .values(state=SENDING, attempts=attempt)
    )
    return bool(found.rowcount)  # type: ignore[attr-defined]  # an update has one


def requeue(session: Session, escalation_id: str, due_steady_us: int, problem: str) -> None:
    """The attempt failed in a way that another may not."""
    session.execute(
        update(EscalationRow)
        .where(EscalationRow.escalation_id == escalation_id)
        .values(state=QUEUED, due_steady_us=due_steady_us, problem=problem)
    )


def close_escalation(session: Session, escalation_id: str, state: str, now_us: int, problem: str | None = None) -> None:
    """`answered`, `failed` or `expired`: nothing more is sent for it."""
    session.execute(
        update(EscalationRow)
        .where(EscalationRow.escalation_id == escalation_id)
        .values(state=state, finished_utc_us=now_us, problem=problem)
    )


def mark_reused(session: Session, escalation_id: str, same_as: str, now_us: int) -> None:
    """A near-duplicate that waited has the answer of this question."""
    session.execute(
        update(EscalationRow)
        .where(EscalationRow.escalation_id == escalation_id)
        .values(state=REUSED, same_as=same_as, finished_utc_us=now_us)
    )


def list_waiting(session: Session, escalation_id: str) -> list[Escalation]:
    """The near-duplicates that wait for this answer, oldest first."""
    wanted = select(EscalationRow).where(EscalationRow.same_as == escalation_id, EscalationRow.state == WAITING)
    rows = session.scalars(wanted.order_by(EscalationRow.queued_steady_us, EscalationRow.escalation_id))
    return [_escalation(row) for row in rows]


def promote_waiting(session: Session, failed_id: str, steady_us: int) -> str | None:
    """A question failed: the first that waited for its answer is asked instead, the others wait for that."""
    waiting = list_waiting(session, failed_id)
    if not waiting:
        return None
    promoted = waiting[0].escalation_id
    session.execute(
        update(EscalationRow)
        .where(EscalationRow.escalation_id == promoted)
        .values(state=QUEUED, same_as=None, due_steady_us=steady_us)
    )
    session.execute(
        update(EscalationRow)
        .where(EscalationRow.same_as == failed_id, EscalationRow.state == WAITING)
        .values(same_as=promoted)
    )
    return promoted


def recover_sending(db: Database, steady_us: int, now_us: int) -> tuple[int, int]:
    """At the start of the process: attempts that its predecessor did not live to finish.

    They may have arrived or not. Each goes back to the queue, once a kill; one that `MAX_KILLS` processes died of
    is given up. Returns how many went back and how many were given up.
    """
    again, given_up = 0, 0
    with db.write() as session:
        for row in session.scalars(select(EscalationRow).where(EscalationRow.state == SENDING)).all():
            row.kills += 1
            row.state, row.due_steady_us = QUEUED, steady_us
            again += 1
            if row.kills >= MAX_KILLS:
                row.state, row.finished_utc_us = FAILED, now_us
                row.problem = f"the process died {MAX_KILLS} times while asking it"
                again, given_up = again - 1, given_up + 1
                session.flush()
                promote_waiting(session, row.escalation_id, steady_us)
    return again, given_up


def expire_escalations(db: Database, station: str, queued_before_steady_us: int, now_us: int) -> int:
    """Give up questions of a station that are too old, those behind them included; returns how many."""
    old = (
        EscalationRow.station == station,
        EscalationRow.state.in_((QUEUED, WAITING)),
        EscalationRow.queued_steady_us - EscalationRow.waited_us < queued_before_steady_us,
    )
    with db.read() as session:
        if session.scalar(select(func.count()).where(*old)) == 0:
            return 0
    with db.write() as session:
        ids: Sequence[str] = session.scalars(select(EscalationRow.escalation_id).where(*old)).all()
        steady = queued_before_steady_us
        for escalation_id in ids:
            close_escalation(session, escalation_id, EXPIRED, now_us, "too old to be asked")
        for escalation_id in ids:
            promote_waiting(session, escalation_id, steady)
    return len(ids)


# --- counting ---------------------------------------------------------------------------------------


def count_states(db: Database, station: str | None = None) -> dict[str, int]:
    """How many questions are in each state; states without any are left out."""
    wanted = select(EscalationRow.state, func.count()).group_by(EscalationRow.state)
    if station is not None:
        wanted = wanted.where(EscalationRow.station == station)
    with db.read() as session:
        return {row[0]: row[1] for row in session.execute(wanted)}


def count_problems(db: Database) -> dict[str, int]:
    """{why: how many} of the questions that failed or expired, by the words before the first colon."""
    wanted = select(EscalationRow.problem).where(EscalationRow.state.in_((FAILED, EXPIRED)))
    with db.read() as session:
        return dict(Counter((problem or "unknown").split(":", 1)[0] for problem in session.scalars(wanted)))


def count_open(db: Database) -> int:
    """How many questions are neither answered nor given up."""
    with db.read() as session:
        return session.scalar(select(func.count()).where(EscalationRow.finished_utc_us.is_(None))) or 0


def _escalation(row: EscalationRow) -> Escalation:
    return Escalation(
        escalation_id=row.escalation_id,
        inspection_id=row.inspection_id,
        station=row.station,
        camera=row.camera,
        recipe_name=row.recipe_name,
        reason=row.reason,
        state=row.state,
        same_as=row.same_as,
        looks=row.looks,
        attempts=row.attempts,
        kills=row.kills,
        queued_utc_us=row.queued_utc_us,
        queued_steady_us=row.queued_steady_us,
        waited_us=row.waited_us,
        problem=row.problem,
    )
