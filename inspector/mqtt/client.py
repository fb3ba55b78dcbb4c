"""The connection of one station to the broker: kept up for ever, in a thread of its own.

MQTT knows one last will per connection, and each station promises its own `status` topic, so each
station has its own connection; that also keeps the order per station independent of the others.

Nothing is stored here. Whoever publishes keeps the message (the outbox does) until its key comes
back from `take_acknowledged`; when `state().generation` has changed, everything not acknowledged must
be published again. Commands are acknowledged to the broker only when `acknowledge` is called.
"""

from __future__ import annotations

import random
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

import structlog

from inspector.config import MqttConfig, read_secret
from inspector.errors import BrokerError, BrokerRefusedError, BrokerUnreachableError
from inspector.mqtt.session import (
    Credentials,
    Endpoint,
    MqttSession,
    NoAnswerError,
    ProtocolName,
    ProtocolVersionError,
    ReceivedCommand,
    find_protocol,
)
from inspector.records import Message

FIRST_PAUSE_S = 0.2
STABLE_S = 5.0
"""A connection that lasted this long was a good one: the next pause starts small again."""

MAX_WAITING_COMMANDS = 1000
"""Of those sent with QoS 0, which promises nothing; the others wait at the broker, which sends a few at a time."""

SHORT_CONNECTIONS_ARE_ODD = 3
SILENCES_BEFORE_DOUBT = 2
STEP_S = 0.5

log = structlog.get_logger(__name__)


class Phase(StrEnum):
    """Where a connection stands."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """`generation` counts the attempts to connect; a message belongs to the one it was published in."""

    phase: Phase
    generation: int = 0
    protocol: ProtocolName | None = None
    reason: str | None = None


class Connection(Protocol):
    """What the delivery process needs from the broker; every method may be called from any thread."""

    def start(self) -> None:
        """Begin to connect; returns at once."""
        ...

    def state(self) -> ConnectionState:
        """Where the connection stands now."""
        ...

    def room(self) -> int:
        """How many more messages may be published now; 0 when not connected."""
        ...

    def publish(self, messages: Sequence[tuple[int | None, Message]], generation: int) -> bool:
        """Publish in this order with keys for `take_acknowledged` (None: nobody asks).

        False, and nothing is published, when `generation` is not the connection that is up now."""
        ...

    def take_acknowledged(self) -> list[int]:
        """Keys of messages that the broker has since the last call, of any generation."""
        ...

    def take_commands(self) -> list[ReceivedCommand]:
        """Commands since the last call, in order."""
        ...

    def acknowledge(self, command: ReceivedCommand) -> None:
        """The command is safe; harmless when its connection is gone (the broker sends it again)."""
        ...

    def close(self, timeout_s: float) -> bool:
        """Wait until all published is acknowledged, then say goodbye; False when that took too long."""
        ...


class BrokerConnection:
    """`Connection` over paho-mqtt: MQTT 5 with fallback to 3.1.1, back-off with jitter, window of messages.

    `wake` is set whenever there is something to take. `ConfigError` when a secret is not set.
    """

    def __init__(
        self, settings: MqttConfig, *, client_id: str, will: Message, topic_filter: str | None, wake: threading.Event
    ) -> None:
        credentials = Credentials(read_secret(settings.username_env), read_secret(settings.password_env))
        self._endpoint = Endpoint(settings, client_id, credentials, will, topic_filter)
        self._settings = settings
        self._wake_owner = wake
        self._lock = threading.Lock()
        self._state = ConnectionState(Phase.CONNECTING)
        self._window = 0
        self._open_messages = 0
        self._outgoing: deque[tuple[int | None, Message]] = deque()
        self._acknowledgements: deque[ReceivedCommand] = deque()
        self._acknowledged: list[int] = []
        self._commands: list[ReceivedCommand] = []
        self._closing = threading.Event()
        self._flushed = threading.Event()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._protocol: ProtocolName | None = None if settings.protocol == "auto" else settings.protocol
        self._silences = 0
        self._logged_reason: str | None = None
        self._thread = threading.Thread(target=self._keep_connected, name=f"mqtt:{client_id}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def state(self) -> ConnectionState:
        with self._lock:
            return self._state

    def room(self) -> int:
        with self._lock:
            return max(0, self._window - self._open_messages) if self._state.phase is Phase.CONNECTED else 0

    def publish(self, messages: Sequence[tuple[int | None, Message]], generation: int) -> bool:
        with self._lock:
            if self._state.phase is not Phase.CONNECTED or self._state.generation != generation:
                return False
            self._outgoing.extend(messages)
            self._open_messages += len(messages)
        self._wake_network()
        return True

    def take_acknowledged(self) -> list[int]:
        with self._lock:
            taken, self._acknowledged = self._acknowledged, []
        return taken

    def take_commands(self) -> list[ReceivedCommand]:
        with self._lock:
            taken, self._commands = self._commands, []
        return taken

    def acknowledge(self, command: ReceivedCommand) -> None:
        with self._lock:
            if command.generation != self._state.generation:
                return
            self._acknowledgements.append(command)
        self._wake_network()

    def close(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self._has_open_messages() and time.monotonic() < deadline:
            time.sleep(0.01)
        flushed = not self._has_open_messages()
        self._closing.set()
        self._wake_network()
        if self._thread.is_alive():
            self._thread.join(timeout=max(0.5, deadline - time.monotonic()))
        if not self._thread.is_alive():  # else it hangs in connect(); as a daemon it ends with the process
            self._wake_writer.close()
            self._wake_reader.close()
        return flushed

    def _has_open_messages(self) -> bool:
        with self._lock:
            return self._state.phase is Phase.CONNECTED and self._open_messages > 0

    # --- the network thread -------------------------------------------------------------------------

    def _keep_connected(self) -> None:
        failures = 0
        while not self._closing.is_set():
            began = time.monotonic()
            try:
                self._serve_one_connection()
            except BrokerError as error:
                failure = error
            except Exception as error:  # the outermost loop of this thread: a fault must not end the delivery
                log.exception("mqtt_thread_fault", client_id=self._endpoint.client_id)
                failure = BrokerUnreachableError(f"internal fault: {error!r}")
            else:
                break
            failures = 1 if self._was_stable(began) else failures + 1
            self._note_failure(failure, failures)
            self._closing.wait(self._pause_s(failure, failures))
        self._set_state(Phase.CLOSED, None)

    def _serve_one_connection(self) -> None:
        """Raises `BrokerError` at the end of the connection, returns when this object is being closed."""
        with self._lock:
            self._state = replace(self._state, generation=self._state.generation + 1)
            self._open_messages = 0
            self._outgoing.clear()
            self._acknowledgements.clear()
        if self._protocol is None:
            self._protocol = find_protocol(self._endpoint, self._closing.is_set)
        session = MqttSession(self._endpoint, self._protocol, self._note_acknowledged, self._note_command)
        try:
            session.open(self._closing.is_set)
            self._note_connected(session.window, self._protocol)
            while not self._closing.is_set():
                self._hand_over(session)
                session.step(self._wake_reader, STEP_S)
                self._drain_wake()
            self._hand_over(session)
            session.close(goodbye=True)
        finally:
            session.close(goodbye=False)

    def _hand_over(self, session: MqttSession) -> None:
        with self._lock:
            outgoing, self._outgoing = self._outgoing, deque()
            acknowledgements, self._acknowledgements = self._acknowledgements, deque()
        for command in acknowledgements:
            session.acknowledge(command)
        for key, message in outgoing:
            session.send(key, message)

    def _note_connected(self, window: int, protocol: ProtocolName) -> None:
        self._silences = 0
        with self._lock:
            self._state = ConnectionState(Phase.CONNECTED, self._state.generation, protocol)
            self._window = window
        log.info("broker_connected", client_id=self._endpoint.client_id, protocol=protocol, window=window)
        self._wake_owner.set()

    def _note_acknowledged(self, key: int | None) -> None:
        with self._lock:
            self._open_messages -= 1
            if key is not None:
                self._acknowledged.append(key)
        self._wake_owner.set()

    def _note_command(self, command: ReceivedCommand) -> None:
        with self._lock:
            if command.qos == 0 and len(self._commands) >= MAX_WAITING_COMMANDS:
                log.warning("command_dropped", client_id=self._endpoint.client_id, topic=command.topic[:200], qos=0)
                return
            self._commands.append(replace(command, generation=self._state.generation))
        self._wake_owner.set()

    def _note_failure(self, error: BrokerError, failures: int) -> None:
        refused = isinstance(error, BrokerRefusedError)
        reason = str(error)
        if self.state().phase is Phase.CONNECTED and failures >= SHORT_CONNECTIONS_ARE_ODD:
            reason += f"; again after moments: does another service use the client id {self._endpoint.client_id}?"
        self._forget_protocol(error)
        self._set_state(Phase.REFUSED if refused else Phase.UNREACHABLE, reason)
        if reason != self._logged_reason or failures == 1:
            log.warning("broker_away", client_id=self._endpoint.client_id, refused=refused, reason=reason)
        self._logged_reason = reason

    def _forget_protocol(self, error: BrokerError) -> None:
        """With `auto`, ask again which version the broker speaks when it does not seem to speak this one."""
        self._silences = self._silences + 1 if isinstance(error, NoAnswerError) else 0
        doubtful = isinstance(error, ProtocolVersionError) or self._silences >= SILENCES_BEFORE_DOUBT
        if self._settings.protocol == "auto" and doubtful:
            self._protocol, self._silences = None, 0

    def _was_stable(self, began: float) -> bool:
        return self.state().phase is Phase.CONNECTED and time.monotonic() - began >= STABLE_S

    def _pause_s(self, error: BrokerError, failures: int) -> float:
        longest = self._settings.backoff_max_s
        exponential = FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20)
        pause = longest if isinstance(error, BrokerRefusedError) else min(longest, exponential)
        return pause * random.uniform(0.5, 1.0)

    def _set_state(self, phase: Phase, reason: str | None) -> None:
        with self._lock:
            self._state = replace(self._state, phase=phase, reason=reason)
        self._wake_owner.set()

    def _wake_network(self) -> None:
        try:
            self._wake_writer.send(b"\0")
        except (BlockingIOError, OSError):
            return  # full means that it will wake anyway; closed means that there is nobody to wake

    def _drain_wake(self) -> None:
        try:
            while self._wake_reader.recv(4096):
                pass
        except BlockingIOError:
            return
