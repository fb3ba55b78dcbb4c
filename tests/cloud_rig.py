"""A station with real frames, a real recipe and a real database, and somebody scripted to be asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import cv2
from sqlalchemy import select

from inspector.cloud.provider import Answer, Provider, ProviderError, Question, Reply
from inspector.cloud_settings import ProviderConfig
from inspector.config import PlantConfig
from inspector.detector.recipe_store import RecipeStore
from inspector.images import encode_jpeg
from inspector.records import BgrImage, Detection, Inspection, Purpose, Thresholds, Verdict, VerdictKind
from inspector.store import escalations as queue
from inspector.store.database import Database
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.inspections import commit_inspection
from inspector.store.outbox import next_messages
from inspector.store.stations import ensure_station
from inspector.store.steady_clock import ClockReading
from inspector.store.tables import OpinionRow
from inspector.store.triggers import accept_trigger
from pipelines.escalation_plan import StationPlanner
from pipelines.escalation_send import QuestionSender
from pipelines.inspect_frame import BETWEEN_THRESHOLDS
from tests.small_line import RECIPE, STATION, draw_part, folder_camera, small_plant
from tests.store_samples import NOON_US, PROVENANCE, announce

SPOT = (183, 108, 207, 132)
DAY_S = 86_400
HOOK_URL = "http://127.0.0.1:9"
GOOD = Answer(verdict="good", defect_name=None, confidence=0.9, reason="Nothing to see.")
DEFECT = Answer(verdict="defect", defect_name="dent", confidence=0.8, reason="A dark dent.")
PRICES = {"price_input": 1.0, "price_cached": 0.1, "price_output": 4.0, "max_output_tokens": 256}


class HandClocks:
    """Clocks that a test sets: `wall_us` may jump, `boot_us` only goes on."""

    def __init__(self) -> None:
        self.wall_us = NOON_US
        self.boot_us = 1_000_000

    def __call__(self) -> ClockReading:
        return ClockReading(self.wall_us, "boot", self.boot_us)

    def pass_time(self, seconds: float) -> None:
        self.wall_us += int(seconds * 1e6)
        self.boot_us += int(seconds * 1e6)


class ScriptedProvider:
    """Answers as `say` does: an answer, or an error to be raised."""

    def __init__(self, settings: ProviderConfig, say: Callable[[Question], Answer | ProviderError]) -> None:
        self.name = settings.name
        self.destination = settings.destination
        self.say = say

    def ask(self, question: Question, timeout_s: float) -> Reply:
        answer = self.say(question)
        if isinstance(answer, ProviderError):
            raise answer
        return Reply(answer, "scripted-1", 900, 300, 40)

    def close(self) -> None:
        """Nothing is open."""


def cloud_plant(station: dict[str, Any] | None = None, url: str = HOOK_URL, **provider: Any) -> PlantConfig:
    """The small line with one webhook that may be asked; `station` are settings of its cloud section."""
    hook = {"kind": "webhook", "name": "hook", "base_url": url, "secret_env": "HOOK_SECRET", **PRICES, **provider}
    rules = {"send": "crops", "provider": "hook", "audit_share": 0.0, "recheck_share": 0.0, **(station or {})}
    return small_plant(
        folder_camera(Path("incoming")),
        station={"cloud": rules},
        cloud={"allowed_hosts": ["127.0.0.1"], "providers": [hook]},
    )


class CloudRig:
    """Planner and sender of one station by hand, without threads."""

    def __init__(self, data_dir: Path, config: PlantConfig, say: Callable[[Question], Answer | ProviderError]) -> None:
        self.data_dir, self.config, self.say = data_dir, config, say
        self.clocks = HandClocks()
        self.db = Database.open(data_dir)
        ensure_station(self.db, STATION, recipe_name=RECIPE, recipe_version=None, now_us=NOON_US)
        self.recipe = RecipeStore(data_dir).resolve(RECIPE)
        self.asked: list[Question] = []
        self.restart()

    def restart(self, config: PlantConfig | None = None) -> None:
        """A new process, perhaps with other settings: nothing but the database is remembered."""
        self.config = config or self.config
        rules = self.config.stations()[STATION].cloud
        self.planner = StationPlanner(self.config, STATION, rules, self.db, self.data_dir, self.clocks)
        self.sender = QuestionSender(
            self.config, {STATION: rules}, self.db, self.data_dir, self.clocks, self._open, Random(1)
        )

    def _open(self, settings: ProviderConfig) -> Provider:
        return ScriptedProvider(settings, self._answer)

    def _answer(self, question: Question) -> Answer | ProviderError:
        self.asked.append(question)
        return self.say(question)

    def inspect(
        self,
        number: int,
        kind: VerdictKind = VerdictKind.REVIEW,
        *,
        pixels: BgrImage | None = None,
        boxes: tuple[tuple[int, int, int, int], ...] = (SPOT,),
        reasons: tuple[str, ...] | None = None,
        name: str = "anomaly",
        **trigger: Any,
    ) -> Inspection:
        """Commit an inspected part whose frame lies on disk."""
        suspicious = kind in (VerdictKind.NG, VerdictKind.REVIEW)
        if pixels is None:
            pixels = draw_part(number, defect=suspicious)
        accepted = accept_trigger(
            self.db,
            STATION,
            accepted_utc_us=self.clocks.wall_us,
            **{"cameras": ("top",), "purpose": Purpose.PRODUCTION, **trigger},
        ).trigger
        if reasons is None:
            reasons = (BETWEEN_THRESHOLDS,) if kind is VerdictKind.REVIEW else ()
        detections = tuple(Detection(box, 4.5 - rank / 10, name, 300) for rank, box in enumerate(boxes))
        inspection = Inspection(
            trigger=accepted,
            camera="top",
            verdict=Verdict(
                kind, 3.5 if suspicious else 1.0, Thresholds(3.0, 4.0), detections if suspicious else (), reasons
            ),
            decided_utc_us=self.clocks.wall_us,
            provenance=PROVENANCE,
            recipe=self.recipe,
            frame_sha256="f" * 64,
        )
        key = frame_key(STATION, inspection.decided_utc_us, inspection.inspection_id, ".jpg")
        FrameFiles(self.data_dir / "frames").write(key, encode_jpeg(pixels, 95))
        stored = replace(inspection, frame_key=key)
        commit_inspection(self.db, stored, [announce(stored)], wants_evidence=False)
        return stored

    def run(self) -> int:
        """Plan everything and send everything that may be sent now; returns how many questions were asked."""
        before = len(self.asked)
        while self.planner.plan_once():
            pass
        deadline = time.monotonic() + 30.0
        while self.sender.send_once():
            assert time.monotonic() < deadline
        return len(self.asked) - before

    def states(self) -> dict[str, int]:
        return queue.count_states(self.db)

    def opinions(self) -> list[OpinionRow]:
        with self.db.read() as session:
            return list(session.scalars(select(OpinionRow).order_by(OpinionRow.received_utc_us, OpinionRow.opinion_id)))


@contextmanager
def open_rig(
    data_dir: Path,
    station: dict[str, Any] | None = None,
    say: Callable[[Question], Answer | ProviderError] = lambda question: GOOD,
    **provider: Any,
) -> Iterator[CloudRig]:
    rig = CloudRig(data_dir, cloud_plant(station, **provider), say)
    try:
        yield rig
    finally:
        rig.db.close()


def blot(number: int, x: int, y: int, radius: int = 10) -> BgrImage:
    """A part with a blot of its own."""
    pixels = draw_part(number)
    cv2.circle(pixels, (x, y), radius, (20, 20, 25), -1, cv2.LINE_AA)
    return pixels


def say_in_turn(*answers: Answer | ProviderError) -> Callable[[Question], Answer | ProviderError]:
    """The answers one after the other, the last one for ever."""
    numbers = count()
    return lambda question: answers[min(next(numbers), len(answers) - 1)]


def read_payloads(rig: CloudRig, kind: str) -> list[dict[str, Any]]:
    found = [entry.message for entry in next_messages(rig.db, 0, 1000)]
    return [json.loads(message.payload) for message in found if message.topic.endswith(f"/{kind}")]
