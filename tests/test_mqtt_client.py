"""The connection to the broker: versions of MQTT, back-off, window, and servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from inspector.config import MqttConfig
from inspector.mqtt import session as session_module
from inspector.mqtt.client import BrokerConnection, ConnectionState, Phase
from inspector.mqtt.embedded_broker import EmbeddedBroker
from inspector.records import Message
from inspector.store.database import Database
from tests.delivery_rig import (
    ROOT,
    STATION,
    delivery,
    first_deliveries,
    make_config,
    poll,
    queue_numbered,
    wait_until_sent,
)
from tests.mosquitto import MOSQUITTO, Mosquitto, find_free_port, is_listening
from tests.mqtt_subscriber import Subscriber

WILL = Message(f"{ROOT}/{STATION}/status", "{}", retain=True)
needs_mosquitto = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
CONNACK_OK, CONNACK_NOT_AUTHORISED, SUBACK_OK = b"\x20\x02\x00\x00", b"\x20\x02\x00\x05", b"\x90\x03\x00\x01\x01"


@contextmanager
def connection(
    port: int, *, protocol: str = "auto", backoff_max_s: float = 0.3, max_inflight: int = 100
) -> Iterator[BrokerConnection]:
    settings = MqttConfig.model_validate(
        {"port": port, "protocol": protocol, "backoff_max_s": backoff_max_s, "max_inflight": max_inflight}
    )
    link = BrokerConnection(
        settings, client_id="test", will=WILL, topic_filter=f"{ROOT}/{STATION}/cmd/+", wake=threading.Event()
    )
    link.start()
    try:
        yield link
    finally:
        link.close(2.0)


def wait_for(link: BrokerConnection, phase: Phase, reason: str = "") -> ConnectionState:
    state: ConnectionState = poll(
        lambda: (now := link.state()).phase is phase and reason in (now.reason or "") and now, f"never {phase} {reason}"
    )
    return state


# --- versions ---------------------------------------------------------------------------------------


def test_broker_of_mqtt_3_1_1_only(tmp_path: Path) -> None:
    """`auto` falls back when the broker refuses MQTT 5; killed and restarted, it gets everything, in order."""
    db = Database.open(tmp_path / "data")
    queue_numbered(db, range(100))
    broker = EmbeddedBroker()
    broker.start()
    try:
        config = make_config(broker.port)
        with delivery(config, db.data_dir):
            with Subscriber(broker.port, f"{ROOT}/#", v5=False) as observer:
                observer.wait_for(lambda seen: seen, "/status")
            wait_until_sent(db)
            broker.kill()
            queue_numbered(db, range(100, 200))
            time.sleep(0.2)
            assert is_listening(broker.port) is False
            broker.start()
            with Subscriber(broker.port, f"{ROOT}/#", v5=False, name="second") as observer:
                queue_numbered(db, range(200, 300))
                wait_until_sent(db)
                observer.wait_for(lambda seen: seen and seen[-1].values["n"] == 299, "/inspection")
        numbers = first_deliveries([message.values["n"] for message in observer.seen("/inspection")])
        assert numbers == list(range(numbers[0], 300))
        assert numbers[0] <= 200
    finally:
        broker.stop()
        db.close()


def test_answer_on_3_1_1_broker(tmp_path: Path) -> None:
    """Commands work on the embedded broker, too: a refused one is answered on cmd/<verb>/result."""
    with EmbeddedBroker() as broker, Subscriber(broker.port, f"{ROOT}/#", v5=False) as observer:
        with delivery(make_config(broker.port), tmp_path):
            observer.wait_for(lambda seen: len({message.topic for message in seen}) >= 2, "/status")
            observer.publish(f"{ROOT}/{STATION}/cmd/explode", {"request_id": "r-1"})
            answer = observer.wait_for(lambda seen: seen, "/cmd/explode/result")[0]
        assert (answer.values["ok"], answer.values["request_id"]) == (False, "r-1")


def test_embedded_broker_ends_with_its_user() -> None:
    """Started, stopped and started again on the same port; after that nothing listens there."""
    broker = EmbeddedBroker()
    for _ in range(2):
        broker.start()
        assert is_listening(broker.port)
        broker.stop()
        assert not is_listening(broker.port)


@pytest.mark.broker
@needs_mosquitto
@pytest.mark.parametrize(("protocol", "spoken"), [("auto", "5"), ("5", "5"), ("3.1.1", "3.1.1")])
def test_configured_version_is_spoken(tmp_path: Path, protocol: str, spoken: str) -> None:
    """MQTT 5 where the broker can, 3.1.1 when it is asked for."""
    with Mosquitto(tmp_path) as broker, connection(broker.port, protocol=protocol) as link:
        assert wait_for(link, Phase.CONNECTED).protocol == spoken


@pytest.mark.broker
@needs_mosquitto
def test_broker_that_hangs_up_on_mqtt_5(tmp_path: Path) -> None:
    """Old brokers close the connection instead of answering; `auto` then tries 3.1.1."""
    with Mosquitto(tmp_path) as broker:

        def relay_old_versions(near: socket.socket) -> None:
            first = near.recv(4096)
            if first[8] == 5:
                return
            with socket.create_connection(("127.0.0.1", broker.port)) as far:
                far.sendall(first)
                back = threading.Thread(target=pump, args=(far, near))
                back.start()
                pump(near, far)
                back.join()

        with scripted_server(relay_old_versions) as port, connection(port) as link:
            assert wait_for(link, Phase.CONNECTED).protocol == "3.1.1"


def test_fixed_version_does_not_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for MQTT 5 gets no other protocol, and is told that a 3.1.1 broker does not answer."""
    monkeypatch.setattr(session_module, "CONNECT_TIMEOUT_S", 0.5)
    with EmbeddedBroker() as broker, connection(broker.port, protocol="5") as link:
        first = wait_for(link, Phase.UNREACHABLE, "does not answer")
        poll(lambda: link.state().generation > first.generation + 1, "it does not try again")
        assert link.state().protocol is None


# --- misbehaviour -----------------------------------------------------------------------------------


def test_server_that_talks_nonsense() -> None:
    """Something else listens on the port: said, retried, and the thread lives on."""

    def talk(near: socket.socket) -> None:
        near.recv(4096)
        near.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 20)

    with scripted_server(talk) as port, connection(port) as link:
        first = wait_for(link, Phase.UNREACHABLE)
        poll(lambda: link.state().generation > first.generation + 1, "it does not try again")


def test_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without an answer is given up after a while."""
    monkeypatch.setattr(session_module, "CONNECT_TIMEOUT_S", 0.3)
    with scripted_server(drain) as port, connection(port) as link:
        wait_for(link, Phase.UNREACHABLE, "does not answer")


def test_attempts_back_off() -> None:
    """The pauses grow: a broker that is away for long is not hammered."""
    attempts: list[float] = []

    def hang_up(near: socket.socket) -> None:
        attempts.append(time.monotonic())

    with scripted_server(hang_up) as port, connection(port, protocol="3.1.1", backoff_max_s=30) as link:
        poll(lambda: len(attempts) >= 5, "too few attempts")
        wait_for(link, Phase.UNREACHABLE)
    pauses = [later - earlier for earlier, later in pairwise(attempts)]
    assert 0.09 <= pauses[0] <= 0.4
    assert pauses[3] >= 0.75


def test_refusal_is_retried_slowly() -> None:
    """Wrong credentials do not get better within a moment, and brokers ban who tries too often."""
    attempts: list[float] = []

    def refuse(near: socket.socket) -> None:
        attempts.append(time.monotonic())
        near.recv(4096)
        near.sendall(CONNACK_NOT_AUTHORISED)

    with scripted_server(refuse) as port, connection(port, protocol="3.1.1", backoff_max_s=30) as link:
        assert "Not authorized" in (wait_for(link, Phase.REFUSED).reason or "")
        time.sleep(0.8)
    assert len(attempts) == 1


def test_window_is_never_exceeded() -> None:
    """A broker that acknowledges nothing gets `max_inflight` messages and not one more."""

    def accept_all(near: socket.socket) -> None:
        near.recv(4096)
        near.sendall(CONNACK_OK)
        near.recv(4096)
        near.sendall(SUBACK_OK)
        drain(near)

    with scripted_server(accept_all) as port, connection(port, protocol="3.1.1", max_inflight=7) as link:
        state = wait_for(link, Phase.CONNECTED)
        assert link.room() == 7
        messages: list[tuple[int | None, Message]] = [(n, Message("t", json.dumps(n))) for n in range(7)]
        assert link.publish(messages, state.generation)
        assert link.room() == 0
        assert link.close(0.2) is False
        assert link.take_acknowledged() == []


@pytest.mark.broker
@needs_mosquitto
def test_window_of_the_broker_is_respected(tmp_path: Path) -> None:
    """MQTT 5 brokers say how much they take at once and hang up on more; the rest waits, also beyond `room`."""
    messages: list[tuple[int | None, Message]] = [(n, Message("t", str(n))) for n in range(200)]
    with Mosquitto(tmp_path, extra_lines=("max_inflight_messages 5",)) as broker, connection(broker.port) as link:
        state = wait_for(link, Phase.CONNECTED)
        assert link.room() == 5
        assert link.publish(messages, state.generation)
        poll(lambda: link.room() == 5, "not all is acknowledged")
        assert link.take_acknowledged() == list(range(200))
        assert link.state() == state


@pytest.mark.broker
@needs_mosquitto
def test_keys_come_back_when_the_broker_has_the_message(tmp_path: Path) -> None:
    """Published under the present generation only; what an old one asks for is refused."""
    with Mosquitto(tmp_path) as broker, connection(broker.port) as link:
        state = wait_for(link, Phase.CONNECTED)
        assert not link.publish([(1, Message("t", "1"))], state.generation - 1)
        assert link.publish([(2, Message("t", "2")), (None, Message("t", "3")), (4, Message("t", "4", qos=0))], 1)
        poll(lambda: link.room() == 100, "no acknowledgement")
        assert sorted(link.take_acknowledged()) == [2, 4]


@pytest.mark.broker
@needs_mosquitto
def test_second_service_with_the_same_station_is_noticed(tmp_path: Path) -> None:
    """Two services that claim one station push each other out again and again; the reason says what to look for."""
    with Mosquitto(tmp_path) as broker, connection(broker.port) as first, connection(broker.port) as second:
        poll(
            lambda: any(
                "does another service use the client id test" in (c.state().reason or "") for c in (first, second)
            ),
            "the takeover is not visible",
        )


def test_nothing_is_published_without_a_connection() -> None:
    """Who publishes keeps the message until there is a broker."""
    with connection(find_free_port()) as link:
        state = wait_for(link, Phase.UNREACHABLE, "no connection to")
        assert link.room() == 0
        assert not link.publish([(1, Message("t", "1"))], state.generation)


# --- parts of the rig -------------------------------------------------------------------------------


@contextmanager
def scripted_server(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP server that treats each connection as the script says and then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []

    def serve_one(near: socket.socket) -> None:
        with near, suppress(OSError):
            near.settimeout(10)
            serve(near)

    def accept() -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=serve_one, args=(near,)))
            threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for thread in [accepting, *threads]:
            thread.join(12)


def drain(near: socket.socket) -> None:
    while near.recv(65_536):
        pass


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
