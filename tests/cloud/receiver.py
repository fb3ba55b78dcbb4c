"""The receiver of a trial: a real webhook on loopback that fails at random, and remembers what it answered."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import ThreadingHTTPServer
from random import Random
from typing import Any

from tests.cloud_fakes.server import HOST, HttpReply, Received, Step
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


class TrialReceiver(FakeReceiver):
    """Chooses a fault for every request, or the storm's while there is one."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self.storm = False
        self.injected: Counter[str] = Counter()
        self.received_of: Counter[str] = Counter()
        self.answered_of: Counter[str] = Counter()
        self.refused_of: Counter[str] = Counter()

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
        names = list(FAULTS)
        name = "429" if self.storm else self._random.choices(names, [FAULTS[item][0] for item in names])[0]
        question: dict[str, Any] = json.loads(received.body)
        escalation_id = question["escalation_id"]
        step = FAULTS[name][1]
        if name == "none":
            step = Step(answer_text=json.dumps(make_answer(escalation_id)))
        self.script.append(step)
        reply, played = super().handle(received)
        self.injected[name] += 1
        self.received_of[escalation_id] += 1
        self.answered_of[escalation_id] += name == "none"
        self.refused_of[escalation_id] += name in FINAL_FAULTS
        return reply, played


def make_answer(escalation_id: str) -> dict[str, Any]:
    """The answer of this very question: a mix-up would be seen."""
    defective = escalation_id[0] in "01234567"
    return {
        "verdict": "defect" if defective else "good",
        "defect_name": "blot" if defective else None,
        "confidence": 0.75,
        "reason": f"About {escalation_id}.",
    }
