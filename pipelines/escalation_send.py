"""Asking: compose and record what leaves, debit it, send it, record what came of it.

    queued → [file; debit + audit row + sending, one transaction] → ask → [opinion + answered, one transaction]

A kill before the first transaction leaves an orphaned file; between the two it leaves `sending`, which the next
process puts back once. Nothing leaves before the first transaction is committed.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import structlog

from inspector.cloud.budget import bound_charge, cost_of_reply, refuse_charge
from inspector.cloud.instruction import QuestionSubject
from inspector.cloud.looks import are_near_duplicates, unpack_looks
from inspector.cloud.policy import RECENT_ANSWERS, boxes_of, judge_case
from inspector.cloud.provider import Provider, ProviderError, ProviderRefusedError, Question, Reply
from inspector.cloud.question import compose_question, write_question
from inspector.cloud.redaction import redact_frame, redact_regions
from inspector.cloud.retry import CircuitBreaker, is_billed, is_retryable, next_pause_s
from inspector.cloud_settings import ProviderConfig, StationCloudConfig, policy_version
from inspector.config import PlantConfig
from inspector.errors import CloudError, ConfigError, MissingExtraError, QuestionHinderedError, RecipeError
from inspector.records import Charge
from inspector.store.cloud_audit import Departure, append_departure
from inspector.store.cloud_spend import debit, read_spent, settle
from inspector.store.database import Database
from inspector.store.escalations import (
    ANSWERED,
    FAILED,
    Escalation,
    close_escalation,
    list_asked_like,
    list_waiting,
    mark_reused,
    mark_sending,
    next_due,
    promote_waiting,
    requeue,
)
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.steady_clock import ClockReader, advance_clock, peek_clock
from inspector.store.stored import StoredInspection
from pipelines.escalation_frames import QuestionMaterial, hinder_one_question
from pipelines.escalation_plan import DAY_US, describe_case
from pipelines.escalation_record import GivenAnswer, Recorder, find_agreed_opinion, plain_text

REOPEN_S = 30.0
BUDGET_LOOK_S = 5.0
LEFT_ALONE_S = 600.0
"""After 401, 403 or 404: the next question would fare the same until somebody corrects the settings."""
WRONG_SETTINGS = frozenset({401, 403, 404})

ProviderOpener = Callable[[ProviderConfig], Provider]

log = structlog.get_logger(__name__)


@dataclass
class ProviderSeat:
    """A configured provider: open or not, and whether it is being left alone."""

    settings: ProviderConfig
    breaker: CircuitBreaker
    provider: Provider | None = None
    try_again_s: float = 0.0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class PreparedQuestion:
    """A question with the bytes that are recorded before it leaves."""

    question: Question
    content: bytes
    key: str
    charge: Charge


class QuestionSender:
    """Sends one question after the other for all stations. Belongs to one thread."""

    def __init__(
        self,
        config: PlantConfig,
        stations: Mapping[str, StationCloudConfig],
        db: Database,
        data_dir: Path,
        clocks: ClockReader,
        opener: ProviderOpener,
        random: Random,
    ) -> None:
        self._config = config
        self._stations = stations
        self._db = db
        self._clocks = clocks
        self._opener = opener
        self._random = random
        self._material = QuestionMaterial(config, data_dir)
        self._outgoing = FrameFiles(data_dir / "outgoing")
        self._seats = {
            settings.name: ProviderSeat(settings, CircuitBreaker(random)) for settings in config.cloud.providers
        }
        self._no_budget: dict[str, tuple[float, str]] = {}

    @property
    def problems(self) -> tuple[str, ...]:
        """Why questions wait, in words; nothing when none does."""
        seats = [f"provider {name}: {seat.problem}" for name, seat in self._seats.items() if seat.problem]
        budgets = [f"budget of {station}: {why}" for station, (_, why) in self._no_budget.items()]
        return (*seats, *budgets)

    def send_once(self) -> bool:
        """Ask one question that is due; False when none can be asked now."""
        now_s = self._now_s()
        ready = [station for station in self._stations if self._is_ready(station, now_s)]
        if not ready:
            return False
        reading = self._clocks()
        with self._db.read() as session:
            steady_us = peek_clock(session, reading)
        due = next_due(self._db, ready, steady_us)
        if due is None:
            return False
        escalation, inspection = due
        seat = self._seats[self._stations[escalation.station].provider or ""]
        try:
            with hinder_one_question(inspection.inspection_id):
                prepared = self._prepare(escalation, inspection, seat)
        except QuestionHinderedError as error:
            self._give_up(escalation, str(error))
            return True
        if not self._begin(escalation, inspection, prepared, seat):
            return True
        self._ask(escalation, prepared, seat)
        return True

    def close(self) -> None:
        for seat in self._seats.values():
            if seat.provider is not None:
                seat.provider.close()

    # --- before -------------------------------------------------------------------------------------

    def _now_s(self) -> float:
        """Seconds that do not jump, for what is remembered in this process alone."""
        return self._clocks().boot_us / 1e6

    def _is_ready(self, station: str, now_s: float) -> bool:
        blocked = self._no_budget.get(station)
        if blocked is not None and now_s < blocked[0]:
            return False
        self._no_budget.pop(station, None)
        seat = self._seats[self._stations[station].provider or ""]
        return self._is_open(seat, now_s) and seat.breaker.blocked_until_s(now_s) is None

    def _is_open(self, seat: ProviderSeat, now_s: float) -> bool:
        """Open a provider when it is first needed; what is missing may be there a little later."""
        if seat.provider is None and now_s >= seat.try_again_s:
            try:
                provider = self._opener(seat.settings)
                self._check_destination(provider, seat.settings)
            except (ConfigError, MissingExtraError, CloudError) as error:
                seat.try_again_s, seat.problem = now_s + REOPEN_S, str(error)
                log.error("provider_cannot_be_asked", provider=seat.settings.name, reason=str(error))
            else:
                seat.provider, seat.problem = provider, None
        return seat.provider is not None

    def _check_destination(self, provider: Provider, settings: ProviderConfig) -> None:
        """What would really be contacted must be what the settings say and the plant allows."""
        host = urlsplit(provider.destination).hostname or ""
        allowed = {name.lower() for name in self._config.cloud.allowed_hosts}
        if provider.destination != settings.destination or host not in allowed:
            raise CloudError(f"{settings.name} would send to {provider.destination}, which the settings do not allow")

    def _prepare(self, escalation: Escalation, inspection: StoredInspection, seat: ProviderSeat) -> PreparedQuestion:
        """Redact and compose under the settings of now, whatever they were when the question was queued."""
        rules = self._stations[escalation.station]
        if inspection.recipe is None:
            raise RecipeError("it was inspected under no recipe")
        facts = self._material.read_recipe(inspection.recipe)
        case = describe_case(inspection)
        if facts.confidential:
            raise CloudError("the recipe is confidential")
        judgement = judge_case(case, rules)
        if judgement.reason is None:
            raise CloudError(judgement.hindrance or "the settings do not ask about it any more")
        pixels = self._material.read_frame(inspection)
        masks = boxes_of(rules.masks, inspection.camera)
        resolution = rules.media_resolution
        if rules.send == "frames":
            pictures = [redact_frame(pixels, masks, resolution=resolution)]
        else:
            others = [detection.box_xyxy_px for detection in inspection.detections]
            pictures = list(
                redact_regions(pixels, judgement.boxes, others, masks, margin=rules.margin, resolution=resolution)
            )
        if not pictures:
            raise CloudError("its regions lie outside the frame")
        golden = redact_frame(facts.golden_for(pixels), masks, resolution=resolution) if rules.golden else None
        shown = inspection.detections[: rules.most_regions] if rules.send == "crops" else ()
        subject = QuestionSubject(rules.product, rules.description, ())
        question = compose_question(escalation.escalation_id, subject, pictures, golden, shown, resolution)
        content = write_question(question)
        suffix = f"-question-{escalation.attempts + 1}.json"
        key = frame_key(inspection.station, inspection.decided_utc_us, inspection.inspection_id, suffix)
        return PreparedQuestion(question, content, key, bound_charge(question, len(content), seat.settings))

    def _begin(
        self, escalation: Escalation, inspection: StoredInspection, prepared: PreparedQuestion, seat: ProviderSeat
    ) -> bool:
        """Write the exact bytes, then debit, log and mark in one transaction; False when it must not be sent now."""
        station, rules = escalation.station, self._stations[escalation.station]
        reading = self._clocks()
        with self._db.read() as session:
            refusal = refuse_charge(
                rules.budget, read_spent(session, station, peek_clock(session, reading)), prepared.charge
            )
        if refusal is None:
            self._outgoing.write(prepared.key, prepared.content)
            with self._db.write() as session:
                steady_us = advance_clock(session, reading)
                refusal = refuse_charge(rules.budget, read_spent(session, station, steady_us), prepared.charge)
                attempt = escalation.attempts + 1
                if refusal is None and mark_sending(session, escalation.escalation_id, attempt):
                    debit(
                        session,
                        escalation.escalation_id,
                        attempt,
                        station,
                        seat.settings.name,
                        prepared.charge,
                        steady_us,
                        reading.wall_us,
                    )
                    append_departure(
                        session, self._describe_departure(escalation, prepared, seat, attempt, reading.wall_us)
                    )
                    return True
        if refusal is not None:
            self._no_budget[station] = (self._now_s() + BUDGET_LOOK_S, refusal)
            log.warning("escalation_waits_for_budget", station=station, reason=refusal)
        return False

    def _describe_departure(
        self, escalation: Escalation, prepared: PreparedQuestion, seat: ProviderSeat, attempt: int, now_us: int
    ) -> Departure:
        rules = self._stations[escalation.station]
        return Departure(
            escalation_id=escalation.escalation_id,
            attempt=attempt,
            inspection_id=escalation.inspection_id,
            station=escalation.station,
            reason=escalation.reason,
            provider=seat.settings.name,
            destination=seat.settings.destination,
            policy_version=policy_version(rules, seat.settings),
            send=rules.send,
            images=len(prepared.question.images),
            payload_key=prepared.key,
            payload_sha256=hashlib.sha256(prepared.content).hexdigest(),
            payload_bytes=len(prepared.content),
            recorded_utc_us=now_us,
        )

    # --- the question and after ---------------------------------------------------------------------

    def _ask(self, escalation: Escalation, prepared: PreparedQuestion, seat: ProviderSeat) -> None:
        if seat.provider is None:
            raise CloudError(f"provider {seat.settings.name} is not open")
        started = time.monotonic()
        try:
            reply = seat.provider.ask(prepared.question, seat.settings.timeout_s)
        except ProviderError as error:
            self._record_failure(escalation, prepared, seat, error)
            return
        seat.breaker.note_success()
        seat.problem = None
        self._record_answer(escalation, prepared, seat, reply, time.monotonic() - started)

    def _record_answer(
        self, escalation: Escalation, prepared: PreparedQuestion, seat: ProviderSeat, reply: Reply, seconds: float
    ) -> None:
        """Opinion, messages, dispositions and the end of the question, those that waited for it included."""
        rules = self._stations[escalation.station]
        recorder = Recorder(self._config.mqtt.topic_root, rules)
        cost = cost_of_reply(reply, seat.settings, prepared.charge.money_micro)
        record = {
            "model": plain_text(reply.model),
            "provider": seat.settings.name,
            "destination": seat.settings.destination,
            "policy_version": policy_version(rules, seat.settings),
            "input_tokens": reply.input_tokens,
            "cached_tokens": reply.cached_tokens,
            "output_tokens": reply.output_tokens,
            "cost_micro": cost,
            "latency_ms": round(seconds * 1e3, 1),
            "attempt": escalation.attempts + 1,
        }
        given = reply.answer
        name = plain_text(given.defect_name) if given.defect_name is not None else None
        answer = GivenAnswer(given.verdict, name, given.confidence, plain_text(given.reason), record)
        reading = self._clocks()
        own_id = escalation.escalation_id
        alike = self._list_alike(escalation, rules, reading.wall_us)
        with self._db.write() as session:
            steady_us, now_us = advance_clock(session, reading), reading.wall_us
            settle(session, own_id, escalation.attempts + 1, cost)
            close_escalation(session, own_id, ANSWERED, now_us)
            recorder.record(session, escalation, answer, same_as=None, steady_us=steady_us, now_us=now_us)
            session.flush()
            agreed = find_agreed_opinion(session, alike, rules)
            if agreed is None:
                promote_waiting(session, own_id, steady_us)
            else:
                for behind in list_waiting(session, own_id):
                    mark_reused(session, behind.escalation_id, agreed.details["escalation_id"], now_us)
                    recorder.reuse(session, behind, agreed, steady_us=steady_us, now_us=now_us)
        self._db.checkpoint_if_due()
        log.info("escalation_answered", escalation_id=own_id, verdict=given.verdict, seconds=round(seconds, 3))

    def _list_alike(self, escalation: Escalation, rules: StationCloudConfig, now_us: int) -> list[str]:
        """This question and those on near-duplicates that were answered, newest first. Outside a transaction."""
        own = unpack_looks(escalation.looks)
        if not own:
            return [escalation.escalation_id]
        with self._db.read() as session:
            asked = list_asked_like(session, escalation, now_us - int(rules.reuse_days * DAY_US))
        alike = (item.escalation_id for item in asked if are_near_duplicates(own, unpack_looks(item.looks)))
        return list(islice(alike, RECENT_ANSWERS))

    def _record_failure(
        self, escalation: Escalation, prepared: PreparedQuestion, seat: ProviderSeat, error: ProviderError
    ) -> None:
        """Back to the queue with a pause, or the end of the question; refused requests cost no money."""
        own_id, attempt = escalation.escalation_id, escalation.attempts + 1
        problem = plain_text(f"{type(error).__name__}: {error}")
        again = is_retryable(error)
        now_s = self._now_s()
        if again:
            seat.breaker.note_failure(now_s, error.retry_after_s)
        elif isinstance(error, ProviderRefusedError) and error.status in WRONG_SETTINGS:
            seat.breaker.note_failure(now_s, LEFT_ALONE_S)
        else:
            seat.breaker.note_success()
        seat.problem = problem if seat.breaker.blocked_until_s(now_s) is not None else None
        reading = self._clocks()
        with self._db.write() as session:
            steady_us = advance_clock(session, reading)
            settle(session, own_id, attempt, prepared.charge.money_micro if is_billed(error) else 0)
            if again:
                pause_s = next_pause_s(attempt, error.retry_after_s, self._random)
                requeue(session, own_id, steady_us + int(pause_s * 1e6), problem)
            else:
                close_escalation(session, own_id, FAILED, reading.wall_us, problem)
                promote_waiting(session, own_id, steady_us)
        log.warning("escalation_attempt_failed", escalation_id=own_id, attempt=attempt, again=again, reason=problem)

    def _give_up(self, escalation: Escalation, problem: str) -> None:
        """It cannot be asked: the frame is gone, the recipe cannot be read, the settings changed."""
        reading = self._clocks()
        with self._db.write() as session:
            close_escalation(session, escalation.escalation_id, FAILED, reading.wall_us, plain_text(problem))
            promote_waiting(session, escalation.escalation_id, advance_clock(session, reading))
        log.warning("escalation_given_up", escalation_id=escalation.escalation_id, reason=problem)
