"""A subscriber for tests, independent of the product's own MQTT code: it keeps everything it sees, in order."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

DEADLINE_S = 15.0


@dataclass(frozen=True)
class Seen:
    """One message as it arrived."""

    topic: str
    payload: bytes
    retained: bool
    correlation: bytes | None

    @cached_property
    def values(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.payload)
        return values


class Subscriber:
    """Connects to a broker, also again and again, with a session that the broker keeps.

    It never acknowledges: to a broker that was just killed an acknowledgement cannot be written, and then
    paho closes the socket with messages unread that the broker had written before it died.
    """

    def __init__(
        self,
        port: int,
        topic_filter: str,
        *,
        v5: bool = True,
        user: tuple[str, str] | None = None,
        name: str = "observer",
    ) -> None:
        self._lock = threading.Lock()
        self._seen: list[Seen] = []
        self._ready = threading.Event()
        self._filter = topic_filter
        self._port = port
        self._v5 = v5
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=name,
            protocol=paho.MQTTv5 if v5 else paho.MQTTv311,
            clean_session=None if v5 else False,
            manual_ack=True,
        )
        if user is not None:
            self._client.username_pw_set(*user)
        self._client.reconnect_delay_set(0.05, 0.2)  # type: ignore[arg-type]  # seconds as float work
        self._client.on_connect = self._subscribe
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_disconnect = lambda *_: self._ready.clear()
        self._client.on_message = self._keep

    def __enter__(self) -> Self:
        properties = None
        if self._v5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = 300
            self._client.connect("127.0.0.1", self._port, clean_start=False, properties=properties)
        else:
            self._client.connect("127.0.0.1", self._port)
        self._client.loop_start()
        self.wait_connected()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_connected(self) -> None:
        """Until it is subscribed again; a broker that is killed while it is away forgets what it kept for it."""
        if not self._ready.wait(DEADLINE_S):
            raise TimeoutError("the subscriber was not connected")

    def seen(self, suffix: str = "") -> list[Seen]:
        """What arrived so far on topics that end so."""
        with self._lock:
            return [message for message in self._seen if message.topic.endswith(suffix)]

    def wait_for(self, condition: Callable[[list[Seen]], Any], suffix: str = "", deadline_s: float = DEADLINE_S) -> Any:
        """Poll until the condition over what was seen is true and return it; `TimeoutError` with what was seen."""
        deadline = time.monotonic() + deadline_s
        while True:
            result = condition(self.seen(suffix))
            if result:
                return result
            if time.monotonic() > deadline:
                tail = [(message.topic, message.payload[:200]) for message in self.seen(suffix)[-10:]]
                raise TimeoutError(f"{len(self.seen(suffix))} messages, the last ones: {tail}")
            time.sleep(0.02)

    def publish(
        self,
        topic: str,
        payload: bytes | Mapping[str, Any],
        *,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Publish with QoS 1 and wait for the broker to have it."""
        properties = None
        if self._v5 and response_topic is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ResponseTopic = response_topic
            if correlation is not None:
                properties.CorrelationData = correlation
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        self._client.publish(topic, raw, 1, retain, properties).wait_for_publish(DEADLINE_S)

    def _subscribe(self, client: paho.Client, *_: Any) -> None:
        client.subscribe(self._filter, qos=1)

    def _keep(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        correlation = getattr(message.properties, "CorrelationData", None)
        with self._lock:
            self._seen.append(Seen(message.topic, bytes(message.payload), message.retain, correlation))
