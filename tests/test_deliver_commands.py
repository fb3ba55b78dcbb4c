"""Commands over a real broker: committed before they are acknowledged, answered, and never able to block the line."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from inspector.clock import utc_now_us
from inspector.mqtt.messages import command_result_message
from inspector.store.commands import Command, answer_command, open_commands
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.outbox import count_unsent
from tests.delivery_rig import (
    OTHER,
    ROOT,
    STATION,
    DeliveryProcess,
    delivery,
    make_config,
    poll,
    queue_numbered,
    wait_until_sent,
)
from tests.mosquitto import MOSQUITTO, Mosquitto
from tests.mqtt_subscriber import Subscriber

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]
CMD = f"{ROOT}/{STATION}/cmd"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "data")
    yield database
    database.close()


@contextmanager
def answering_station(db: Database) -> Iterator[list[Command]]:
    """Stands in for the station process: answers every command with its arguments; yields what it served."""
    served: list[Command] = []
    stop = threading.Event()

    def serve() -> None:
        while not stop.wait(0.02):
            for command in open_commands(db, STATION):
                served.append(command)
                answer = command_result_message(
                    ROOT,
                    STATION,
                    command.verb,
                    command.request_id,
                    True,
                    {"arguments": command.arguments, "serial": len(served)},
                    command.response_topic,
                    command.correlation,
                )
                answer_command(db, command.command_id, answer, utc_now_us())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield served
    finally:
        stop.set()
        thread.join()


@contextmanager
def connected_delivery(config: Any, db: Database, observer: Subscriber) -> Iterator[None]:
    with delivery(config, db.data_dir):
        observer.wait_for(lambda seen: len({message.topic for message in seen}) >= 2, "/status")
        yield


def test_answer_comes_on_the_response_topic_with_its_correlation(broker: Mosquitto, db: Database) -> None:
    """MQTT 5: the requester says where and under which mark it wants the answer."""
    with (
        Subscriber(broker.port, "#") as observer,
        answering_station(db) as served,
        connected_delivery(make_config(broker.port), db, observer),
    ):
        request = {"request_id": "r-1", "lot": "L7"}
        observer.publish(f"{CMD}/set-lot", request, response_topic="plc/answers", correlation=b"\x00\x01")
        answer = observer.wait_for(lambda seen: seen, "plc/answers")[0]
        wait_until_sent(db)
    assert (served[0].verb, served[0].arguments) == ("set-lot", {"lot": "L7"})
    assert answer.correlation == b"\x00\x01"
    assert (answer.values["ok"], answer.values["request_id"]) == (True, "r-1")


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_answer_without_a_response_topic(broker: Mosquitto, db: Database, protocol: str) -> None:
    """MQTT 3.1.1, or nobody named a topic: cmd/<verb>/result with the request's id."""
    with (
        Subscriber(broker.port, f"{ROOT}/#", v5=False) as observer,
        answering_station(db),
        connected_delivery(make_config(broker.port, protocol=protocol), db, observer),
    ):
        observer.publish(f"{CMD}/pause", {"request_id": "r-2"})
        answer = observer.wait_for(lambda seen: seen, "/cmd/pause/result")[0]
    assert (answer.topic, answer.values["request_id"]) == (f"{CMD}/pause/result", "r-2")


def test_duplicate_gets_the_same_answer_and_is_not_served_twice(broker: Mosquitto, db: Database) -> None:
    """A requester that did not see its answer asks again with the same id."""
    with (
        Subscriber(broker.port, "#") as observer,
        answering_station(db) as served,
        connected_delivery(make_config(broker.port), db, observer),
    ):
        for response_topic in ("plc/answers", "plc/answers", "plc/again"):
            observer.publish(f"{CMD}/pause", {"request_id": "r-3"}, response_topic=response_topic, correlation=b"c")
            observer.wait_for(lambda seen: seen, "plc/answers")
        again = observer.wait_for(lambda seen: seen, "plc/again")[0]
        first, second = observer.wait_for(lambda seen: len(seen) == 2 and seen, "plc/answers")
    assert first.payload == second.payload == again.payload
    assert again.correlation == b"c"
    assert len(served) == 1


@pytest.mark.parametrize(
    ("verb", "payload", "error"),
    [
        ("explode", {"request_id": "r-4"}, "unknown command explode"),
        ("trigger", {"request_id": "r-4", "part": "7"}, "part: unknown key"),
        ("set-recipe", {"request_id": "r-4", "recipe": "../x"}, "recipe"),
    ],
)
def test_refused_command_is_answered_with_the_reason(
    broker: Mosquitto, db: Database, verb: str, payload: dict[str, Any], error: str
) -> None:
    """Whoever can be told is told, on the response topic, and nothing is committed."""
    with (
        Subscriber(broker.port, "#") as observer,
        connected_delivery(make_config(broker.port), db, observer),
    ):
        observer.publish(f"{CMD}/{verb}", payload, response_topic="plc/answers", correlation=b"x")
        answer = observer.wait_for(lambda seen: seen, "plc/answers")[0]
    assert (answer.values["ok"], answer.values["request_id"], answer.correlation) == (False, "r-4", b"x")
    assert error in answer.values["detail"]["error"]
    assert open_commands(db, STATION) == []


def test_garbage_does_not_block_what_follows(broker: Mosquitto, db: Database) -> None:
    """Not JSON, too large, retained, without an id: acknowledged and forgotten; the next command is served."""
    with (
        Subscriber(broker.port, f"{ROOT}/#") as observer,
        answering_station(db) as served,
        connected_delivery(make_config(broker.port, max_command_bytes=1000), db, observer),
    ):
        for _ in range(10):
            observer.publish(f"{CMD}/trigger", b"go!")
            observer.publish(f"{CMD}/trigger", b'{"request_id": "big", "part_id": "' + b"x" * 2000 + b'"}')
            observer.publish(f"{CMD}/trigger", b"{}")
        observer.publish(f"{CMD}/trigger", {"request_id": "good"})
        observer.wait_for(lambda seen: seen, "/cmd/trigger/result")
    assert [command.request_id for command in served] == ["good"]


def test_command_for_another_station_is_not_ours(broker: Mosquitto, db: Database) -> None:
    """Each station sees its own commands only; those of a station of another service nobody here sees."""
    with (
        Subscriber(broker.port, f"{ROOT}/#") as observer,
        connected_delivery(make_config(broker.port), db, observer),
    ):
        observer.publish(f"{ROOT}/plant/line/three/cmd/pause", {"request_id": "a"})
        observer.publish(f"{ROOT}/plant/cmd/pause", {"request_id": "b"})
        observer.publish(f"{ROOT}/{OTHER}/cmd/pause", {"request_id": "c"})
        commands = poll(lambda: open_commands(db, OTHER), "the command was not recorded")
    assert [command.request_id for command in commands] == ["c"]
    assert open_commands(db, STATION) == []
    assert open_commands(db, "plant/line/three") == []


def test_retained_command_is_refused(broker: Mosquitto, db: Database) -> None:
    """It would be carried out again after every reconnect."""
    with Subscriber(broker.port, f"{ROOT}/#") as observer:
        observer.publish(f"{CMD}/pause", {"request_id": "r-5"}, retain=True)
        with connected_delivery(make_config(broker.port), db, observer):
            observer.publish(f"{CMD}/resume", {"request_id": "r-6"})
            poll(lambda: open_commands(db, STATION), "the second command was not recorded")
    assert [command.verb for command in open_commands(db, STATION)] == ["resume"]


def test_answers_cannot_forge_verdicts(broker: Mosquitto, db: Database) -> None:
    """A response topic inside the contract's tree is refused, and said on the ordinary result topic."""
    with (
        Subscriber(broker.port, f"{ROOT}/#") as observer,
        connected_delivery(make_config(broker.port), db, observer),
    ):
        observer.publish(f"{CMD}/pause", {"request_id": "r-7"}, response_topic=f"{ROOT}/{STATION}/inspection")
        answer = observer.wait_for(lambda seen: seen, "/cmd/pause/result")[0]
    assert "must not lie under" in answer.values["detail"]["error"]
    assert observer.seen("/inspection") == []
    assert open_commands(db, STATION) == []


def test_forbidden_answer_topic_does_not_hold_up_the_verdicts(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker forbids the topic a requester named: that answer is given up with a log, verdicts flow."""
    monkeypatch.setenv("PLANT_USER", "edge")
    monkeypatch.setenv("PLANT_PASSWORD", "e")
    rights = tmp_path / "rights"
    rights.write_text(f"user edge\ntopic readwrite {ROOT}/#\nuser plc\ntopic readwrite #\n", encoding="utf-8")
    users = {"edge": "e", "plc": "p"}
    with (
        Mosquitto(tmp_path / "broker", users=users, extra_lines=(f"acl_file {rights}",)) as broker,
        Subscriber(broker.port, f"{ROOT}/#", user=("plc", "p")) as observer,
        answering_station(db) as served,
        connected_delivery(
            make_config(broker.port, username_env="PLANT_USER", password_env="PLANT_PASSWORD"), db, observer
        ),
    ):
        observer.publish(f"{CMD}/pause", {"request_id": "r-8"}, response_topic="secret/place")
        poll(lambda: served, "the command was not served")
        queue_numbered(db, range(3))
        observer.wait_for(lambda seen: len(seen) == 3, "/inspection")
        wait_until_sent(db)


def test_command_is_acknowledged_only_after_its_commit(broker: Mosquitto, db: Database, tmp_path: Path) -> None:
    """kill -9 while the commit waits for the database: the broker still has the command and sends it again."""
    config = make_config(broker.port)
    with Subscriber(broker.port, f"{ROOT}/#") as observer:
        with (
            closing(sqlite3.connect(db.data_dir / DATABASE_FILE, isolation_level=None)) as blocker,
            DeliveryProcess(config, db.data_dir, tmp_path) as process,
        ):
            observer.wait_for(lambda seen: len({m.topic for m in seen}) >= 2, "/status", deadline_s=30)
            blocker.execute("BEGIN IMMEDIATE")
            observer.publish(f"{CMD}/trigger", {"request_id": "r-9", "part_id": "P1"})
            observer.publish(f"{ROOT}/marker", {})
            observer.wait_for(lambda seen: seen, "/marker")
            process.kill()
            process.wait()
            blocker.execute("ROLLBACK")
        assert open_commands(db, STATION) == []
        with delivery(config, db.data_dir):
            commands = poll(lambda: open_commands(db, STATION), "the command is lost")
    assert [(command.request_id, command.arguments) for command in commands] == [("r-9", {"part_id": "P1"})]


def test_busy_database_delays_a_command_and_loses_none(broker: Mosquitto, db: Database) -> None:
    """While another process holds the write lock the command stays unacknowledged; afterwards it is committed."""
    with (
        Subscriber(broker.port, f"{ROOT}/#") as observer,
        connected_delivery(make_config(broker.port), db, observer),
        closing(sqlite3.connect(db.data_dir / DATABASE_FILE, isolation_level=None)) as blocker,
    ):
        blocker.execute("BEGIN IMMEDIATE")
        observer.publish(f"{CMD}/pause", {"request_id": "r-10"})
        assert open_commands(db, STATION) == []
        blocker.execute("ROLLBACK")
        poll(lambda: open_commands(db, STATION), "the command is lost")
    assert count_unsent(db) == 0
