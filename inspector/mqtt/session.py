"""One MQTT connection from CONNECT to its end, driven by one thread.

paho-mqtt is used through its interface for external event loops, so that everything happens in the
thread that calls `step`: no locks around paho and no thread of its own. A session is never reused:
after its end, whatever the broker did not acknowledge is sent again, in order, by the next one.
"""

from __future__ import annotations

import math
import select
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.exception import MQTTException
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from inspector.config import MqttConfig
from inspector.errors import BrokerError, BrokerRefusedError, BrokerUnreachableError
from inspector.records import Message

ProtocolName: TypeAlias = Literal["5", "3.1.1"]

CONNECT_TIMEOUT_S = 10.0
COMMAND_WINDOW = 20
"""Commands that the broker may send before one is acknowledged (MQTT 5)."""

SESSION_EXPIRY_S = 60
"""How long an MQTT 5 broker keeps commands while the connection is gone without a goodbye. Short: a
trigger that is carried out minutes later would name the wrong part."""

SMALLEST_PACKET_LIMIT = 1_048_576
REFUSALS = {0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8E, 0x90, 0x95, 0x97, 0x98, 0x9A, 0x9B, 0x9C, 0x9D}
"""MQTT 5 reason codes that waiting a moment does not mend: rights, identity, limits, session taken over."""

log = structlog.get_logger(__name__)


class _ShakingContext(ssl.SSLContext):
    """Verifies the broker and its name (as every client context does) while it wraps a socket, so that a
    refused certificate closes the socket at once; paho would leave it to the garbage collector."""

    def wrap_socket(self, sock: socket.socket, *_: Any, server_hostname: Any = None, **__: Any) -> ssl.SSLSocket:
        return super().wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=True)


class ProtocolVersionError(BrokerRefusedError):
    """The broker does not speak this version of MQTT."""


class NoAnswerError(BrokerUnreachableError):
    """The broker did not answer CONNECT, or closed the connection instead; old ones may for a new version."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the service is towards the broker, already looked up."""

    username: str | None
    password: str | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a session needs to know. `topic_filter` is what it subscribes to, None for nothing. A session
    without a will is a bare one: it asks the broker for nothing and leaves nothing behind."""

    settings: MqttConfig
    client_id: str
    credentials: Credentials
    will: Message | None
    topic_filter: str | None


@dataclass(frozen=True, slots=True)
class ReceivedCommand:
    """A command as it came from the broker; `ticket` and `generation` are for its acknowledgement."""

    topic: str
    payload: bytes
    ticket: int
    qos: int
    retained: bool = False
    response_topic: str | None = None
    correlation: bytes | None = None
    generation: int = 0


def find_protocol(endpoint: Endpoint, is_unwanted: Callable[[], bool]) -> ProtocolName:
    """Ask the broker with a bare MQTT 5 CONNECT, under a client id of its own, which version it speaks.

    Brokers that know only 3.1.1 refuse it or hang up. A full one they may not even answer: amqtt takes
    the properties of MQTT 5 for the length of a client id and waits for more.
    """
    bare = replace(endpoint, client_id=f"{endpoint.client_id}.probe", will=None, topic_filter=None)
    session = MqttSession(bare, "5", lambda key: None, lambda command: None)
    try:
        session.open(is_unwanted)
        session.close(goodbye=True)
    except (ProtocolVersionError, NoAnswerError):
        return "3.1.1"
    except BrokerRefusedError:
        return "5"  # it understood; the session proper will say what is refused
    finally:
        session.close(goodbye=False)
    return "5"


class MqttSession:
    """Open it, `step` it until it raises `BrokerError`, close it. Not thread-safe by design."""

    def __init__(
        self,
        endpoint: Endpoint,
        protocol: ProtocolName,
        on_acknowledged: Callable[[int | None], None],
        on_command: Callable[[ReceivedCommand], None],
    ) -> None:
        self.window = endpoint.settings.max_inflight
        self._endpoint = endpoint
        self._protocol = protocol
        self._on_acknowledged = on_acknowledged
        self._on_command = on_command
        self._keys: dict[int, int | None] = {}
        self._topics: dict[int, str] = {}
        self._beyond_window: deque[tuple[int | None, Message]] = deque()
        self._answered = False
        self._ready = False
        self._failure: BrokerError | None = None
        self._client = self._make_client()

    def open(self, is_unwanted: Callable[[], bool]) -> None:
        """Connect and subscribe; returns when the broker has granted both, else raises `BrokerError`.

        So it does also when `is_unwanted` turns true meanwhile."""
        settings = self._endpoint.settings
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        try:
            if settings.tls is not None:
                self._client.tls_set_context(self._make_tls_context())
            if self._protocol == "5" and self._endpoint.will is not None:
                self._client.connect(
                    settings.host,
                    settings.port,
                    settings.keepalive_s,
                    clean_start=False,
                    properties=self._connect_wishes(),
                )
            else:
                self._client.connect(settings.host, settings.port, settings.keepalive_s)
        except ssl.SSLCertVerificationError as error:
            raise BrokerRefusedError(f"certificate of {self._where()} refused: {error.verify_message}") from error
        except (OSError, ValueError) as error:
            raise BrokerUnreachableError(f"no connection to {self._where()}: {error}") from error
        while not self._ready:
            if time.monotonic() > deadline or is_unwanted():
                raise NoAnswerError(f"{self._where()} accepts connections but does not answer")
            self.step(None, 0.1)

    def send(self, key: int | None, message: Message) -> None:
        """Publish; `on_acknowledged(key)` follows when the broker has it (QoS 0: when it is written).

        What does not fit into the window waits here for an acknowledgement.
        """
        if message.qos > 0 and (self._beyond_window or len(self._keys) >= self.window):
            self._beyond_window.append((key, message))
        else:
            self._publish(key, message)

    def _publish(self, key: int | None, message: Message) -> None:
        properties = None
        if self._protocol == "5" and message.correlation is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = message.correlation
        try:
            info = self._client.publish(
                message.topic, message.payload.encode("utf-8"), message.qos, message.retain, properties
            )
        except ValueError as error:
            raise BrokerRefusedError(f"cannot publish to {message.topic[:200]!r}: {error}") from error
        if message.qos == 0:
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._on_acknowledged(key)
            return
        self._keys[info.mid] = key
        self._topics[info.mid] = message.topic

    def acknowledge(self, command: ReceivedCommand) -> None:
        self._client.ack(command.ticket, command.qos)

    def step(self, wake: socket.socket | None, timeout_s: float) -> None:
        """Read and write what is possible within `timeout_s` or until `wake` is readable."""
        connection = self._client.socket()
        if connection is None:
            raise self._describe_end(MQTTErrorCode.MQTT_ERR_CONN_LOST)
        buffered = isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
        readers: list[Any] = [connection] if wake is None else [connection, wake]
        writers: list[Any] = [connection] if self._client.want_write() else []
        readable, writable, _ = select.select(readers, writers, [], 0.0 if buffered else timeout_s)
        try:
            if buffered or connection in readable:
                self._check(self._client.loop_read())
            if connection in writable:
                self._check(self._client.loop_write())
            self._check(self._client.loop_misc())
        except (MQTTException, struct.error, IndexError, UnicodeDecodeError, OSError) as error:
            raise BrokerUnreachableError(f"{self._where()} broke the protocol: {error}") from error

    def close(self, *, goodbye: bool) -> None:
        """With `goodbye` the broker forgets the subscription and drops the last will; without, it publishes it."""
        connection = self._client.socket()
        if connection is None:
            return
        if goodbye:
            if self._endpoint.topic_filter is not None:
                self._client.unsubscribe(self._endpoint.topic_filter)
            self._client.disconnect()
            self._write_rest()
        connection.close()

    # --- connecting ---------------------------------------------------------------------------------

    def _make_client(self) -> paho.Client:
        endpoint, is_v5 = self._endpoint, self._protocol == "5"
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=endpoint.client_id,
            clean_session=None if is_v5 else False,
            protocol=paho.MQTTv5 if is_v5 else paho.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages_set(0)  # the window is kept here: paho cannot change it when the broker asks
        client.connect_timeout = CONNECT_TIMEOUT_S
        if endpoint.credentials.username is not None:
            client.username_pw_set(endpoint.credentials.username, endpoint.credentials.password)
        will = endpoint.will
        if will is not None:
            client.will_set(will.topic, will.payload.encode("utf-8"), will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        return client

    def _make_tls_context(self) -> ssl.SSLContext:
        tls = self._endpoint.settings.tls
        if tls is None:
            raise ValueError("TLS is not configured")
        try:
            context = _ShakingContext(ssl.PROTOCOL_TLS_CLIENT)
            if tls.ca_file is None:
                context.load_default_certs()
            else:
                context.load_verify_locations(str(tls.ca_file))
            if tls.cert_file is not None:
                context.load_cert_chain(str(tls.cert_file), None if tls.key_file is None else str(tls.key_file))
        except OSError as error:
            files = ", ".join(str(path) for path in (tls.ca_file, tls.cert_file, tls.key_file) if path is not None)
            raise BrokerRefusedError(f"TLS files cannot be used ({files}): {error}") from error
        return context

    def _connect_wishes(self) -> Properties:
        wishes = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        wishes.SessionExpiryInterval = SESSION_EXPIRY_S
        wishes.ReceiveMaximum = COMMAND_WINDOW
        wishes.MaximumPacketSize = max(SMALLEST_PACKET_LIMIT, 4 * self._endpoint.settings.max_command_bytes)
        return wishes

    # --- what paho reports --------------------------------------------------------------------------

    def _on_connect(
        self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, granted: Properties | None
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._failure = self._describe_refusal(reason)
            return
        limit = getattr(granted, "ReceiveMaximum", None)
        if isinstance(limit, int):
            self.window = min(self.window, limit)
        if self._endpoint.topic_filter is None:
            self._ready = True
        else:
            self._client.subscribe(self._endpoint.topic_filter, qos=1)

    def _on_subscribe(self, _client: Any, _data: Any, _mid: int, reasons: list[ReasonCode], _props: Any) -> None:
        refused = [reason for reason in reasons if reason.is_failure]
        if refused:
            topic = self._endpoint.topic_filter
            self._failure = BrokerRefusedError(f"{self._where()} refuses the subscription to {topic}: {refused[0]}")
        self._ready = not refused

    def _on_publish(self, _client: Any, _data: Any, mid: int, reason: ReasonCode, _props: Any) -> None:
        if mid not in self._keys:
            return
        key, topic = self._keys.pop(mid), self._topics.pop(mid)
        if reason.is_failure:
            if topic.startswith(f"{self._endpoint.settings.topic_root}/"):
                self._failure = BrokerRefusedError(f"{self._where()} refuses messages on {topic}: {reason}")
                return
            # Whoever asked named this response topic; that it is forbidden must not hold up the verdicts.
            log.warning("answer_refused_by_broker", topic=topic[:200], reason=str(reason))
        self._on_acknowledged(key)
        if self._beyond_window:
            self._publish(*self._beyond_window.popleft())

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self._on_command(
            ReceivedCommand(
                topic=message.topic,
                payload=bytes(message.payload),
                ticket=message.mid,
                qos=message.qos,
                retained=message.retain,
                response_topic=getattr(properties, "ResponseTopic", None),
                correlation=getattr(properties, "CorrelationData", None),
            )
        )

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _props: Any) -> None:
        if flags.is_disconnect_packet_from_server and self._failure is None:
            kind = BrokerRefusedError if reason.value in REFUSALS else BrokerUnreachableError
            self._failure = kind(f"{self._where()} closed the connection: {reason}")

    # --- ends ---------------------------------------------------------------------------------------

    def _check(self, code: MQTTErrorCode) -> None:
        if self._failure is not None or code != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._describe_end(code)

    def _describe_end(self, code: MQTTErrorCode) -> BrokerError:
        if self._failure is not None:
            return self._failure
        if not self._answered:
            return NoAnswerError(f"{self._where()} closed the connection before it answered")
        return BrokerUnreachableError(f"connection to {self._where()} lost: {paho.error_string(code)}")

    def _describe_refusal(self, reason: ReasonCode) -> BrokerError:
        text = f"{self._where()} refuses the connection: {reason}"
        if reason.value == 0x84:
            return ProtocolVersionError(text)
        return BrokerRefusedError(text) if reason.value in REFUSALS else BrokerUnreachableError(text)

    def _write_rest(self) -> None:
        """Give the goodbye a moment to leave; a broker that does not read does not get it."""
        deadline = time.monotonic() + 1.0
        while self._client.want_write() and (connection := self._client.socket()) is not None:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not select.select([], [connection], [], math.ceil(remaining))[1]:
                return
            self._client.loop_write()

    def _where(self) -> str:
        return f"{self._endpoint.settings.host}:{self._endpoint.settings.port}"
