"""Everything that goes between one station and the broker: its messages, its status, its commands."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import structlog

from inspector.clock import UtcClock
from inspector.config import MqttConfig
from inspector.mqtt.client import Connection, Phase
from inspector.mqtt.commands import RefusedCommandError, check_reply_address, parse_command
from inspector.mqtt.messages import StatusState, command_result_message, mark_historical, status_message
from inspector.mqtt.session import ReceivedCommand
from inspector.records import Message
from inspector.store.commands import answered_message, record_command
from inspector.store.database import Database
from inspector.store.outbox import OutboxEntry
from pipelines.station_status import Condition

WAITING_ENTRIES = 200
STATUS_EVERY_S = 60.0

log = structlog.get_logger(__name__)


class StationChannel:
    """One station's side of the delivery; used by one thread.

    `cursor` means: every unsent row up to this id is either not this station's or was taken. A new
    connection starts over at 0, because what was not acknowledged must be sent again; rows that were
    acknowledged but could not be marked yet are left out.
    """

    def __init__(
        self, station: str, connection: Connection, db: Database, settings: MqttConfig, clock: UtcClock
    ) -> None:
        self.station = station
        self.connection = connection
        self.cursor = 0
        self.acknowledged: set[int] = set()
        self.refused_commands = 0
        self._db = db
        self._settings = settings
        self._clock = clock
        self._generation = 0
        self._waiting: deque[OutboxEntry] = deque()
        self._commands: deque[ReceivedCommand] = deque()
        self._state: StatusState | None = None
        self._since_utc_us = clock()
        self._published: Condition | None = None
        self._republish_s = 0.0

    # --- messages -----------------------------------------------------------------------------------

    def follow_connection(self) -> bool:
        """Take in what the broker acknowledged; True when a new connection stands and all starts over."""
        self.acknowledged.update(self.connection.take_acknowledged())
        state = self.connection.state()
        if state.phase is not Phase.CONNECTED or state.generation == self._generation:
            return False
        self._generation = state.generation
        self._waiting.clear()
        self._published = None
        self.cursor = 0
        return True

    def is_connected(self) -> bool:
        return self.connection.state().phase is Phase.CONNECTED

    def space(self) -> int:
        """How many entries it can take now."""
        return WAITING_ENTRIES - len(self._waiting) if self.is_connected() else 0

    def take(self, entries: Sequence[OutboxEntry]) -> None:
        """Take this station's entries behind the cursor, of a read that began at or before the cursor."""
        for entry in entries:
            if entry.outbox_id <= self.cursor:
                continue
            if entry.station == self.station and entry.outbox_id not in self.acknowledged:
                if len(self._waiting) >= WAITING_ENTRIES:
                    return
                self._waiting.append(entry)
            self.cursor = entry.outbox_id

    def publish_waiting(self) -> int:
        """Hand over as much as the window allows, in order; how many."""
        count = min(self.connection.room(), len(self._waiting))
        if count == 0:
            return 0
        entries = [self._waiting.popleft() for _ in range(count)]
        messages = [(entry.outbox_id, self._at_sending_time(entry)) for entry in entries]
        if not self.connection.publish(messages, self._generation):
            self._waiting.clear()  # that connection is gone; the next one starts over
            return 0
        return count

    def has_waiting(self) -> bool:
        return bool(self._waiting)

    def _at_sending_time(self, entry: OutboxEntry) -> Message:
        age_us = self._clock() - entry.created_utc_us
        if age_us <= self._settings.historical_after_s * 1e6:
            return entry.message
        return replace(entry.message, payload=mark_historical(entry.message.payload))

    # --- status and counters ------------------------------------------------------------------------

    def publish_status(self, condition: Condition, now_s: float) -> None:
        """Retained `status`, when it changed, after a new connection, and at least each minute."""
        if condition.state != self._state:
            self._state, self._since_utc_us = condition.state, self._clock()
        if not self.is_connected() or (condition == self._published and now_s < self._republish_s):
            return
        message = status_message(
            topic_root=self._settings.topic_root,
            station=self.station,
            state=condition.state,
            since_utc_us=self._since_utc_us,
            reasons=condition.reasons,
            as_of_utc_us=self._clock(),
        )
        if not self.publish_unrecorded(message):
            return
        if condition != self._published:
            log.info("status_published", station=self.station, state=condition.state, reasons=list(condition.reasons))
        self._published, self._republish_s = condition, now_s + STATUS_EVERY_S

    def publish_unrecorded(self, message: Message) -> bool:
        """Publish something that is not in the outbox; False when there is no connection."""
        return self.connection.publish([(None, message)], self._generation)

    # --- commands -----------------------------------------------------------------------------------

    def serve_commands(self) -> None:
        """Commit what came, then acknowledge it. On `StoreError` the rest waits, unacknowledged, in order."""
        if not self._commands:
            self._commands.extend(self.connection.take_commands())
        while self._commands:
            self._serve(self._commands[0])
            self.connection.acknowledge(self._commands.popleft())

    def _serve(self, received: ReceivedCommand) -> None:
        try:
            if received.retained:
                raise RefusedCommandError("commands must not be retained: they would come again and again")
            command = parse_command(
                received.topic,
                received.payload,
                topic_root=self._settings.topic_root,
                stations=(self.station,),
                max_bytes=self._settings.max_command_bytes,
            )
            problem = check_reply_address(received.response_topic, received.correlation, self._settings.topic_root)
            if problem is not None:
                raise RefusedCommandError(
                    problem, station=command.station, verb=command.verb, request_id=command.request_id
                )
        except RefusedCommandError as refusal:
            self._refuse(received, refusal)
            return
        is_new = record_command(
            self._db,
            command.station,
            command.verb,
            command.request_id,
            command.arguments,
            received.response_topic,
            received.correlation,
            self._clock(),
        )
        log.info("command_received", station=self.station, verb=command.verb, request_id=command.request_id, new=is_new)
        if not is_new:
            self._answer_again(received, command.request_id)

    def _answer_again(self, received: ReceivedCommand, request_id: str) -> None:
        """A duplicate gets the first answer, where it asks for it now; one that is still open gets it later."""
        answer = answered_message(self._db, self.station, request_id)
        if answer is None:
            return
        if received.response_topic is not None:
            answer = replace(answer, topic=received.response_topic, correlation=received.correlation)
        self.publish_unrecorded(answer)

    def _refuse(self, received: ReceivedCommand, refusal: RefusedCommandError) -> None:
        self.refused_commands += 1
        log.warning(
            "command_refused",
            station=self.station,
            topic=received.topic[:200],
            request_id=refusal.request_id,
            reason=refusal.reason,
            refused_so_far=self.refused_commands,
        )
        if refusal.verb is None or refusal.request_id is None:
            return
        reply = check_reply_address(received.response_topic, received.correlation, self._settings.topic_root) is None
        answer = command_result_message(
            self._settings.topic_root,
            self.station,
            refusal.verb,
            refusal.request_id,
            False,
            {"error": refusal.reason},
            received.response_topic if reply else None,
            received.correlation if reply else None,
        )
        self.publish_unrecorded(answer)
