"""The delivery against a real mosquitto: nothing is lost, order is kept, whatever happens to the broker."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from inspector.errors import ConfigError
from inspector.store.database import Database
from inspector.store.outbox import count_unsent
from inspector.store.processes import ProcessBeat, list_processes
from tests.delivery_rig import (
    OTHER,
    ROOT,
    STATION,
    DeliveryProcess,
    beat_stations,
    delivery,
    first_deliveries,
    make_config,
    poll,
    queue_numbered,
    wait_until_sent,
)
from tests.mosquitto import MOSQUITTO, OPENSSL, Mosquitto, find_free_port, make_tls_files
from tests.mqtt_subscriber import Seen, Subscriber

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed"),
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(tmp_path / "data")
    yield database
    database.close()


def numbers_of(seen: list[Seen], station: str = STATION) -> list[int]:
    return [message.values["n"] for message in seen if message.topic == f"{ROOT}/{station}/inspection"]


def wait_for_number(observer: Subscriber, number: int) -> None:
    observer.wait_for(lambda seen: number in numbers_of(seen))


def delivery_beat(db: Database) -> ProcessBeat | None:
    return next((row for row in list_processes(db) if row.process == "delivery"), None)


# --- messages ---------------------------------------------------------------------------------------


def test_messages_arrive_once_and_in_order_of_each_station(broker: Mosquitto, db: Database) -> None:
    """With a healthy broker every row arrives exactly once, unchanged, in the order of its commit, and is marked."""
    for start in range(0, 300, 50):
        queue_numbered(db, range(start, start + 50), STATION)
        queue_numbered(db, range(start, start + 50), OTHER)
    with Subscriber(broker.port, f"{ROOT}/#") as observer, delivery(make_config(broker.port), db.data_dir):
        wait_until_sent(db)
        observer.wait_for(lambda seen: len(seen) >= 600, "/inspection")
    for station in (STATION, OTHER):
        assert numbers_of(observer.seen(), station) == list(range(300))
    assert not any("is_historical" in message.values for message in observer.seen("/inspection"))


def test_broker_killed_in_mid_stream_loses_nothing(broker: Mosquitto, db: Database) -> None:
    """kill -9 twice while messages flow: all arrive at least once, and in order once duplicates are dropped."""
    with Subscriber(broker.port, f"{ROOT}/#") as observer:
        broker.save()  # the observer's subscription survives the kill
        with delivery(make_config(broker.port, max_inflight=20), db.data_dir):
            for part in range(3):
                queue_numbered(db, range(part * 1000, part * 1000 + 1000), pad=200)
                wait_for_number(observer, part * 1000 + 100)
                if part < 2:
                    observer.wait_connected()
                    broker.kill()
                    broker.start()
                    observer.wait_connected()
            wait_until_sent(db)
            observer.wait_for(lambda seen: set(numbers_of(seen)) == set(range(3000)))
    assert first_deliveries(numbers_of(observer.seen())) == list(range(3000))


def test_unreachable_for_the_whole_run_then_delivered_as_historical(tmp_path: Path, db: Database) -> None:
    """Nothing is lost while there is no broker; the heartbeat says so; a later run delivers, flagged as late."""
    port = find_free_port()
    queue_numbered(db, range(20), age_s=3600)
    queue_numbered(db, range(20, 25))
    with delivery(make_config(port), db.data_dir):
        row = poll(lambda: (row := delivery_beat(db)) and row.state == "degraded" and row, "no heartbeat")
        assert "broker unreachable" in poll(
            lambda: next((r for r in (delivery_beat(db) or row).reasons if "unreachable" in r), ""), "not said"
        )
    assert count_unsent(db) == 25
    with (
        Mosquitto(tmp_path / "broker", port=port),
        Subscriber(port, f"{ROOT}/#") as observer,
        delivery(make_config(port), db.data_dir),
    ):
        wait_until_sent(db)
        observer.wait_for(lambda seen: len(numbers_of(seen)) == 25)
    assert numbers_of(observer.seen()) == list(range(25))
    late = [message.values.get("is_historical", False) for message in observer.seen("/inspection")]
    assert late == [True] * 20 + [False] * 5


def test_connection_cut_in_the_middle_of_messages(broker: Mosquitto, db: Database) -> None:
    """A network that breaks again and again in the middle of a packet delays, and neither loses nor garbles."""
    queue_numbered(db, range(200), pad=500)
    with CuttingProxy(broker.port, cuts_after=[3_000, 20_000, 40_777, 61_003]) as proxy:
        with Subscriber(broker.port, f"{ROOT}/#") as observer, delivery(make_config(proxy.port), db.data_dir):
            wait_until_sent(db)
            observer.wait_for(lambda seen: set(numbers_of(seen)) == set(range(200)))
        assert proxy.cuts_made == 4
    assert first_deliveries(numbers_of(observer.seen())) == list(range(200))


def test_delivery_killed_and_restarted_sends_again_in_order(broker: Mosquitto, db: Database, tmp_path: Path) -> None:
    """kill -9 of the delivery process itself: its successor sends what was not marked, and the last will was seen."""
    queue_numbered(db, range(2000), pad=1000)
    config = make_config(broker.port, max_inflight=10)
    with Subscriber(broker.port, f"{ROOT}/#") as observer:
        with DeliveryProcess(config, db.data_dir, tmp_path) as process:
            observer.wait_for(lambda seen: len(numbers_of(seen)) > 100, deadline_s=30)
            process.kill()
        will = observer.wait_for(
            lambda seen: [m for m in seen if m.values["reasons"] == ["connection lost"]], "/status"
        )
        assert will[0].values["state"] == "offline"
        assert 0 < count_unsent(db) < 2000
        with delivery(make_config(broker.port), db.data_dir):
            wait_until_sent(db)
            observer.wait_for(lambda seen: set(numbers_of(seen)) == set(range(2000)))
    assert first_deliveries(numbers_of(observer.seen())) == list(range(2000))


# --- status -----------------------------------------------------------------------------------------


def test_status_follows_the_station_and_ends_offline(broker: Mosquitto, db: Database) -> None:
    """Retained, for whoever comes later: offline without a station, online, degraded with the reason, stopped."""
    topic = f"{ROOT}/{STATION}/status"
    with Subscriber(broker.port, topic) as early:
        with delivery(make_config(broker.port), db.data_dir):
            early.wait_for(
                lambda seen: [m for m in seen if m.values["reasons"] == ["the station process does not run"]]
            )
            beat_stations(db)
            early.wait_for(lambda seen: [m for m in seen if m.values["state"] == "online"])
            beat_stations(db, "degraded", ("no recipe: board has no released version",))
            degraded = early.wait_for(lambda seen: [m for m in seen if m.values["state"] == "degraded"])[0].values
            with Subscriber(broker.port, topic, name="late") as late:
                assert late.wait_for(lambda seen: seen)[0].retained
        early.wait_for(lambda seen: (seen[-1].values["state"], seen[-1].values["reasons"]) == ("offline", ["stopped"]))
    assert degraded["reasons"] == ["no recipe: board has no released version"]
    assert degraded["since_utc"] <= degraded["as_of_utc"]


def test_kill_leaves_the_last_will_behind(broker: Mosquitto, db: Database, tmp_path: Path) -> None:
    """After kill -9 a subscriber that comes later finds a retained offline for every station."""
    with (
        Subscriber(broker.port, f"{ROOT}/#") as observer,
        DeliveryProcess(make_config(broker.port), db.data_dir, tmp_path) as process,
    ):
        observer.wait_for(lambda seen: {m.topic for m in seen} >= {f"{ROOT}/{s}/status" for s in (STATION, OTHER)})
        process.send_signal(signal.SIGKILL)
        observer.wait_for(lambda seen: len([m for m in seen if m.values["since_utc"] is None]) == 2, "/status")
    with Subscriber(broker.port, f"{ROOT}/#", name="late") as late:
        retained = late.wait_for(lambda seen: len(seen) == 2 and seen, "/status")
    assert {(m.retained, m.values["state"], tuple(m.values["reasons"])) for m in retained} == {
        (True, "offline", ("connection lost",))
    }


def test_counters_are_retained_and_published_on_change(broker: Mosquitto, db: Database) -> None:
    """A new subscriber gets the counters at once; they name the shift and add up."""
    with delivery(make_config(broker.port), db.data_dir):
        with Subscriber(broker.port, f"{ROOT}/{STATION}/counters") as observer:
            values = observer.wait_for(lambda seen: seen)[0].values
        with Subscriber(broker.port, f"{ROOT}/{STATION}/counters", name="late") as late:
            assert late.wait_for(lambda seen: seen)[0].retained
    verdicts = ("ok", "ng", "review", "not_inspected", "pending")
    assert values["shift"] == "day"
    assert values["triggers"] == sum(values[name] for name in verdicts) == 0


# --- who may connect --------------------------------------------------------------------------------


def test_refused_credentials_are_visible_and_lose_nothing(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password: the heartbeat says refused, messages wait; with the right one they arrive."""
    queue_numbered(db, range(10))
    monkeypatch.setenv("PLANT_USER", "edge")
    monkeypatch.setenv("PLANT_PASSWORD", "wrong")
    with Mosquitto(tmp_path / "broker", users={"edge": "right", "observer": "o"}) as broker:
        config = make_config(broker.port, username_env="PLANT_USER", password_env="PLANT_PASSWORD")
        with delivery(config, db.data_dir):
            reasons = poll(
                lambda: (
                    (row := delivery_beat(db))
                    and row.reasons
                    and all("refuses the connection" in reason for reason in row.reasons)
                    and row.reasons
                ),
                "every station refused",
            )
        assert any("refused" in reason for reason in reasons)
        assert count_unsent(db) == 10
        monkeypatch.setenv("PLANT_PASSWORD", "right")
        with Subscriber(broker.port, f"{ROOT}/#", user=("observer", "o")) as observer, delivery(config, db.data_dir):
            observer.wait_for(lambda seen: numbers_of(seen) == list(range(10)))


def test_missing_secret_is_said_at_once(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password variable that is not set is a configuration error, not a broker problem."""
    monkeypatch.delenv("PLANT_USER", raising=False)
    with (
        pytest.raises(ConfigError, match="PLANT_USER"),
        delivery(make_config(1, username_env="PLANT_USER"), db.data_dir),
    ):
        pass


def test_rights_that_are_missing_are_visible_and_lose_nothing(
    tmp_path: Path, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An access list that forbids verdicts: they stay in the outbox and the heartbeat names the topic."""
    monkeypatch.setenv("PLANT_USER", "edge")
    monkeypatch.setenv("PLANT_PASSWORD", "e")
    rights = tmp_path / "rights"
    rights.write_text(
        f"user edge\ntopic write {ROOT}/+/+/+/status\ntopic read {ROOT}/+/+/+/cmd/+\ntopic write +/answers\n",
        encoding="utf-8",
    )
    queue_numbered(db, range(3))
    extra = (f"acl_file {rights}",)
    with Mosquitto(tmp_path / "broker", users={"edge": "e"}, extra_lines=extra) as broker:
        config = make_config(broker.port, username_env="PLANT_USER", password_env="PLANT_PASSWORD")
        with delivery(config, db.data_dir):
            poll(
                lambda: (row := delivery_beat(db)) and any(f"{STATION}/inspection: Not auth" in r for r in row.reasons),
                "the refusal is not visible",
            )
    assert count_unsent(db) == 3


@pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")
def test_tls_is_used_and_verified(tmp_path: Path, db: Database) -> None:
    """With the right CA messages arrive over TLS; with another one nothing is sent and the reason is told."""
    good, other = make_tls_files(tmp_path / "good"), make_tls_files(tmp_path / "other")
    queue_numbered(db, range(5))
    plain_port = find_free_port()
    plain_lines = (f"listener {plain_port} 127.0.0.1",)
    with Mosquitto(tmp_path / "broker", tls=good, extra_lines=plain_lines) as broker:
        with delivery(make_config(broker.port, tls={"ca_file": str(other.ca)}), db.data_dir):
            poll(
                lambda: (row := delivery_beat(db)) and any("certificate" in r and "refused" in r for r in row.reasons),
                "the certificate was not refused",
            )
        assert count_unsent(db) == 5
        with (
            Subscriber(plain_port, f"{ROOT}/#") as observer,
            delivery(make_config(broker.port, tls={"ca_file": str(good.ca)}), db.data_dir),
        ):
            observer.wait_for(lambda seen: numbers_of(seen) == list(range(5)))


# --- parts of the rig -------------------------------------------------------------------------------


class CuttingProxy:
    """A TCP relay that breaks each of its first connections after so many bytes towards the broker."""

    def __init__(self, broker_port: int, cuts_after: list[int]) -> None:
        self._broker_port = broker_port
        self._cuts = list(cuts_after)
        self.cuts_made = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> CuttingProxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._open:
            self._cut(end)
        for thread in self._threads:
            thread.join(5)
        for end in self._open:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._broker_port))
            self._open += [near, far]
            for source, target, counted in ((near, far, True), (far, near, False)):
                thread = threading.Thread(target=self._relay, args=(source, target, counted))
                self._threads.append(thread)
                thread.start()

    def _relay(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(1000):
                passed += len(data)
                with self._lock:
                    limit = self._cuts[0] if self._cuts and counted else None
                    due = limit is not None and passed >= limit
                    if due:
                        self._cuts.pop(0)
                        self.cuts_made += 1
                target.sendall(data[: len(data) // 2] if due else data)
                if due:
                    break
        self._cut(source)
        self._cut(target)

    @staticmethod
    def _cut(end: socket.socket) -> None:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
