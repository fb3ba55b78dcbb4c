"""The servers of a trial: the fakes of the providers on loopback, failing at random, remembering what they answered."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from dataclasses import replace
from http.server import ThreadingHTTPServer
from random import Random
from typing import Any

from tests.cloud_fakes.gemini import FakeGemini, FakeVertex
from tests.cloud_fakes.openai_api import FakeOpenAi
from tests.cloud_fakes.server import HOST, Asked, FakeServer, HttpReply, Received, Step
from tests.cloud_fakes.webhook import FakeReceiver

SLOW_S = 0.05
"""A byte: the answer takes much longer than a question may."""
FAULTS: dict[str, tuple[float, Step]] = {
    "hang": (1.5, Step(fault="hang")),
    "reset_at_once": (4, Step(fault="reset_at_once")),
    "reset_mid_body": (4, Step(fault="reset")),
    "cut_short": (4, Step(fault="cut")),
    "slow_bytes": (1.5, Step(fault="slow_body", pause_s=SLOW_S)),
    "500": (4, Step(status=500)),
    "503_retry_after": (3, Step(status=503, headers={"Retry-After": "20"})),
    "429": (3, Step(status=429, headers={"Retry-After": "5"})),
    "wrong_json": (2, Step(body=b'{"answer": {"verdict": ')),
    "wrong_schema": (2, Step(answer_text='{"verdict": "probably", "confidence": 3}')),
    "400": (1, Step(status=400)),
    "413": (1, Step(status=413)),
    "none": (69, Step()),
}
"""How often each, of a hundred."""
FINAL_FAULTS = frozenset({"wrong_json", "wrong_schema", "400", "413"})
CACHE_GONE_EVERY = 3
"""Of the questions to a Gemini model that name a context cache, before which one all its caches expire."""
CACHE_REFUSED = 0.1
SMALLEST_CACHE_TOKENS = 400


class FaultyServer(FakeServer):
    """Chooses a fault for every question, or the storm's while there is one. Questions are told apart by their last
    picture, which all providers are sent unchanged."""

    random: Random
    storm = False

    def expect(self, random: Random) -> None:
        """Before it is used: where its chance comes from."""
        self.random = random
        self.injected: Counter[str] = Counter()
        self.received_of: Counter[str] = Counter()
        self.answered_of: Counter[str] = Counter()
        self.refused_of: Counter[str] = Counter()
        self._turn = threading.Lock()
        self._shown: list[str] = []
        """The question that is being handled, once it was understood."""
        self._says: str | None = None

    def unplug(self) -> None:
        """Nobody listens any more: connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def plug(self) -> None:
        """Listen again, on the same port."""
        old = self._server
        self._server = ThreadingHTTPServer((HOST, int(old.server_address[1])), old.RequestHandlerClass)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def handle(self, received: Received) -> tuple[HttpReply, Step]:
        with self._turn:
            names = list(FAULTS)
            name = "429" if self.storm else self.random.choices(names, [FAULTS[item][0] for item in names])[0]
            step = FAULTS[name][1]
            self._says = step.answer_text
            self._shown.clear()
            self.script.append(replace(step, answer_text=None))
            reply, played = super().handle(received)
            if not self.asks_again(received, step.status):
                for case in self._shown:
                    self.injected[name] += 1
                    self.received_of[case] += 1
                    self.answered_of[case] += name == "none"
                    self.refused_of[case] += name in FINAL_FAULTS
            return reply, played

    def asks_again(self, received: Received, status: int | None) -> bool:
        """Whether the same attempt is expected to ask once more after this refusal."""
        return False

    def answer_text(self, asked: Asked) -> str:
        case = name_case(asked.images[-1][1])
        self._shown.append(case)
        return self._says or json.dumps(make_answer(case))


class FaultyReceiver(FaultyServer, FakeReceiver):
    """The webhook."""


class FaultyOpenAi(FaultyServer, FakeOpenAi):
    """A server with the OpenAI protocol."""


class FaultyGemini(FaultyServer, FakeGemini):
    """Gemini, whose context caches expire again and again: what names a cache that is gone is refused."""

    named_caches = 0

    def handle(self, received: Received) -> tuple[HttpReply, Step]:
        if "cachedContents" in received.path:
            return self._handle_cache(received)
        if b"cachedContent" in received.body:
            self.named_caches += 1
            if self.named_caches % CACHE_GONE_EVERY == 0:
                with self._turn:
                    self.forget_caches()
                    self.injected["cache_gone"] += 1
                    return FakeServer.handle(self, received)
        return super().handle(received)

    def _handle_cache(self, received: Received) -> tuple[HttpReply, Step]:
        with self._turn:
            self.min_cached_tokens = SMALLEST_CACHE_TOKENS
            if self.random.random() < CACHE_REFUSED:
                self.injected["cache_refused"] += 1
                self.script.append(Step(status=503))
            return FakeServer.handle(self, received)

    def asks_again(self, received: Received, status: int | None) -> bool:
        return status == 400 and b"cachedContent" in received.body


class FaultyVertex(FaultyGemini, FakeVertex):
    """The same by Vertex AI."""


def name_case(picture: bytes) -> str:
    """What a question is called by the bytes of its last picture."""
    return hashlib.sha256(picture).hexdigest()[:24]


def make_answer(case: str) -> dict[str, Any]:
    """The answer to this very question: a mix-up would be seen."""
    defective = case[0] in "01234567"
    return {
        "verdict": "defect" if defective else "good",
        "defect_name": "blot" if defective else None,
        "confidence": 0.75,
        "reason": f"About {case}.",
    }
