"""What the delivery does with the outbox and with one station's connection; the broker is a fake one in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from inspector.clock import utc_now_us
from inspector.config import MqttConfig
from inspector.mqtt.client import Connection, ConnectionState, Phase
from inspector.mqtt.session import ReceivedCommand
from inspector.records import Message
from inspector.store.database import Database
from inspector.store.outbox import OutboxEntry, count_unsent
from pipelines.deliver import Delivery
from pipelines.station_channel import STATUS_EVERY_S, WAITING_ENTRIES, StationChannel
from pipelines.station_status import Condition
from tests.delivery_rig import OTHER, STATION, make_config, poll, queue_numbered


@dataclass
class FakeConnection:
    """Keeps what is published; acknowledges at once unless `holds`."""

    window: int = 100
    holds: bool = False
    generation: int = 1
    phase: Phase = Phase.CONNECTED
    published: list[tuple[int | None, Message]] = field(default_factory=list)
    open_keys: list[int] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    def start(self) -> None:
        return

    def state(self) -> ConnectionState:
        return ConnectionState(self.phase, self.generation, "5")

    def room(self) -> int:
        return self.window - len(self.open_keys) if self.phase is Phase.CONNECTED else 0

    def publish(self, messages: Sequence[tuple[int | None, Message]], generation: int) -> bool:
        if self.phase is not Phase.CONNECTED or generation != self.generation:
            return False
        self.published += messages
        keys = [key for key, _ in messages if key is not None]
        (self.open_keys if self.holds else self.acknowledged).extend(keys)
        return True

    def take_acknowledged(self) -> list[int]:
        taken, self.acknowledged = self.acknowledged, []
        return taken

    def take_commands(self) -> list[ReceivedCommand]:
        return []

    def acknowledge(self, command: ReceivedCommand) -> None:
        raise AssertionError("no command was sent")

    def close(self, timeout_s: float) -> bool:
        return True

    def reconnect(self) -> None:
        self.generation += 1
        self.open_keys.clear()

    def numbers(self) -> list[int]:
        payloads = [json.loads(message.payload) for key, message in self.published if key is not None]
        return [payload["n"] for payload in payloads]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "data")
    yield database
    database.close()


class RunningDelivery:
    """The real loop over fake connections, in a thread."""

    def __init__(self, db: Database, one: FakeConnection, two: FakeConnection) -> None:
        self._stop = threading.Event()
        connections: dict[str, Connection] = {STATION: one, OTHER: two}
        delivery = Delivery(make_config(1), db, connections, threading.Event())
        self._thread = threading.Thread(target=delivery.run, args=(self._stop,))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)


def test_blocked_station_does_not_hold_up_another(db: Database) -> None:
    """More unsent rows than are read at once, all of a station whose broker acknowledges nothing, stand in front."""
    blocked, free = FakeConnection(window=5, holds=True), FakeConnection()
    queue_numbered(db, range(3 * WAITING_ENTRIES), STATION)
    queue_numbered(db, range(300), OTHER)
    with RunningDelivery(db, blocked, free):
        poll(lambda: len(free.numbers()) == 300, "the other station waits")
        assert free.numbers() == list(range(300))
        assert blocked.numbers() == list(range(5))
        blocked.holds = False
        blocked.acknowledged += blocked.open_keys
        blocked.open_keys.clear()
        poll(lambda: count_unsent(db) == 0, "the first station is not resumed")
    assert blocked.numbers() == list(range(3 * WAITING_ENTRIES))


def test_new_connection_repeats_only_what_was_not_acknowledged(db: Database) -> None:
    """Acknowledged before the cut: not sent again. The rest comes again, in order, before anything new."""
    one = FakeConnection(window=10, holds=True)
    queue_numbered(db, range(20))
    with RunningDelivery(db, one, FakeConnection()):
        poll(lambda: len(one.numbers()) == 10, "nothing was published")
        one.acknowledged += one.open_keys[:4]
        poll(lambda: count_unsent(db) == 16, "acknowledged messages are not marked")
        one.holds = False
        one.reconnect()
        poll(lambda: count_unsent(db) == 0, "the rest is not sent")
    assert one.numbers() == [*range(10), *range(4, 20)]


def test_station_without_a_connection_keeps_its_messages(db: Database) -> None:
    """Its rows stay unsent while the neighbour's flow."""
    away, free = FakeConnection(phase=Phase.UNREACHABLE), FakeConnection()
    queue_numbered(db, range(10), STATION)
    queue_numbered(db, range(10), OTHER)
    with RunningDelivery(db, away, free):
        poll(lambda: count_unsent(db) == 10, "the other station waits")
    assert away.published == []
    assert free.numbers() == list(range(10))


# --- one channel ------------------------------------------------------------------------------------


def make_channel(db: Database, connection: FakeConnection, now_us: int) -> StationChannel:
    channel = StationChannel(STATION, connection, db, MqttConfig(historical_after_s=30), lambda: now_us)
    channel.follow_connection()
    return channel


@pytest.mark.parametrize(
    ("age_s", "late"), [(0, False), (29, False), (31, True), (-3600, False), (10 * 365 * 86_400, True)]
)
def test_age_decides_on_historical_also_when_the_clock_jumps(db: Database, age_s: int, late: bool) -> None:
    """A clock that jumped back makes ages negative: such messages are not late, and none is lost."""
    connection, now_us = FakeConnection(), utc_now_us()
    channel = make_channel(db, connection, now_us)
    message = Message("t", '{"n":1}')
    channel.take([OutboxEntry(1, STATION, message, now_us - age_s * 1_000_000)])
    assert channel.publish_waiting() == 1
    expected = '{"n":1,"is_historical":true}' if late else '{"n":1}'
    assert connection.published[0][1].payload == expected


def test_status_is_repeated_each_minute_and_on_change(db: Database) -> None:
    """The same condition again only after a minute; another state moves `since_utc`, other reasons do not."""
    connection = FakeConnection()
    channel = make_channel(db, connection, utc_now_us())
    online, degraded, worse = Condition("online", ()), Condition("degraded", ("a",)), Condition("degraded", ("a", "b"))
    for condition, at_s in [
        (online, 0.0),
        (online, STATUS_EVERY_S - 1),
        (online, STATUS_EVERY_S + 1),
        (degraded, STATUS_EVERY_S + 2),
        (worse, STATUS_EVERY_S + 3),
    ]:
        channel.publish_status(condition, at_s)
    states = [json.loads(message.payload)["state"] for _, message in connection.published]
    assert states == ["online", "online", "degraded", "degraded"]


def test_status_is_said_again_after_a_new_connection(db: Database) -> None:
    """A restarted broker may have forgotten it, and the last will may stand there."""
    connection = FakeConnection()
    channel = make_channel(db, connection, utc_now_us())
    channel.publish_status(Condition("online", ()), 0.0)
    connection.reconnect()
    assert channel.follow_connection()
    channel.publish_status(Condition("online", ()), 1.0)
    assert len(connection.published) == 2
