"""`inspector cloud simulate`: what each policy would have asked, cost and missed on recorded inspections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inspector.cloud.budget import MICRO
from inspector.cloud.instruction import QuestionSubject
from inspector.cloud.looks import Look, take_look
from inspector.cloud.policy import boxes_of
from inspector.cloud.question import compose_question, write_question
from inspector.cloud.redaction import RedactedImage, redact_frame, redact_regions
from inspector.cloud.simulation import (
    ComparedLooks,
    PolicyOutcome,
    Prices,
    RecordedPart,
    compare_policies,
    simulate_policy,
)
from inspector.cloud_settings import ProviderBase, StationCloudConfig
from inspector.config import PlantConfig
from inspector.errors import ImageError, InputError, StoreError
from inspector.records import BgrImage, Detection, VerdictKind
from inspector.store.database import DATABASE_FILE, Database
from inspector.store.history import known_stations
from inspector.store.inspections import chain_inspections
from inspector.store.reviews import load_findings
from inspector.store.stored import StoredInspection
from pipelines.escalation_frames import QuestionMaterial

BATCH = 200
BYTES_A_TOKEN = 4
ANSWER_TOKENS = 120
MEASURED_FRAMES = 200
"""Bytes of so many whole frames are measured; of the others their mean is taken."""
CLOUDS = (("an oracle", 1.0), ("right 9 times of 10", 0.9))
ASSUMPTIONS = (
    "A REVIEW that is not asked about goes to a person, who is right; an NG stays NG.",
    "What the cloud says of a REVIEW is followed; an OK part that it calls defective is stopped.",
    "How often the cloud is right is assumed: no real model was asked.",
    f"A token is taken as {BYTES_A_TOKEN} bytes of text, an answer as {ANSWER_TOKENS} tokens; caches are free to keep.",
)


@dataclass(frozen=True, slots=True)
class SimulationReport:
    """What `simulate --json` prints."""

    inspections: int
    known: int
    defective: int
    currency: str
    outcomes: tuple[tuple[str, float, tuple[PolicyOutcome, ...]], ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; money in units of the currency."""
        return {
            "inspections": self.inspections,
            "truth_known": self.known,
            "defective": self.defective,
            "currency": self.currency,
            "assumptions": list(ASSUMPTIONS),
            "clouds": [
                {"cloud": name, "right_share": share, "policies": [_outcome(item) for item in outcomes]}
                for name, share, outcomes in self.outcomes
            ],
        }


def simulate_recorded(config: PlantConfig, inspections: Path) -> SimulationReport:
    """Replay the policies over the inspections of a data directory (or its database file), station by station.

    Rules, prices and audit share are those of the stations in the configuration; where a station sends nothing yet,
    it is simulated with crops. Raises `InputError` without a provider to take prices from, `StoreError` without a
    database.
    """
    data_dir = inspections.parent if inspections.is_file() else inspections
    if not (data_dir / DATABASE_FILE).is_file():
        raise StoreError(f"{data_dir}: there is no {DATABASE_FILE} here")
    provider, rules = _choose_rules(config)
    db = Database.open(data_dir)
    try:
        material = QuestionMaterial(config, data_dir)
        parts = record_parts(db, material, rules, _stations(db))
    finally:
        db.close()
    return compare(parts, rules, provider, config.cloud.currency)


def compare(
    parts: Sequence[RecordedPart],
    rules: StationCloudConfig,
    provider: ProviderBase,
    currency: str,
    compared: ComparedLooks | None = None,
) -> SimulationReport:
    """Every policy with every assumed cloud, over the same parts."""
    compared = compared or ComparedLooks()
    subject = QuestionSubject(rules.product, rules.description, ())
    question = compose_question("0" * 36, subject, (), None, (), rules.media_resolution)
    prices = Prices(
        provider=provider,
        resolution=rules.media_resolution,
        context_tokens=len(question.instruction.encode()) // BYTES_A_TOKEN,
        text_tokens=len(question.text.encode()) // BYTES_A_TOKEN,
        answer_tokens=ANSWER_TOKENS,
    )
    policies = compare_policies(rules)
    return SimulationReport(
        inspections=len(parts),
        known=sum(part.defective is not None for part in parts),
        defective=sum(part.defective is True for part in parts),
        currency=currency,
        outcomes=tuple(
            (name, share, tuple(simulate_policy(parts, policy, prices, share, compared) for policy in policies))
            for name, share in CLOUDS
        ),
    )


def record_parts(
    db: Database, material: QuestionMaterial, rules: StationCloudConfig, stations: Sequence[str]
) -> list[RecordedPart]:
    """Every inspection of the stations, in the order of their chains, with what a question about it would hold."""
    findings = load_findings(db)
    scale = PictureScale(material, rules)
    parts = []
    for station in stations:
        for inspection in _stream(db, station):
            truth = (inspection.truth or {}).get("defective")
            found = findings.get(str(inspection.trigger.trigger_id))
            defective = found is VerdictKind.NG if found is not None else truth
            parts.append(scale.record(inspection, defective))
    return scale.fill_in(parts)


class PictureScale:
    """Measures what would leave, on the frames that were kept."""

    def __init__(self, material: QuestionMaterial, rules: StationCloudConfig) -> None:
        self._material = material
        self._rules = rules
        self._whole: list[int] = []
        subject = QuestionSubject(rules.product, rules.description, ())
        self._context = len(compose_question("", subject, (), None, (), rules.media_resolution).instruction.encode())

    def record(self, inspection: StoredInspection, defective: bool | None) -> RecordedPart:
        """One inspection; `part_bytes` is 0 where no frame was kept."""
        pixels = self._read(inspection)
        suspicious = inspection.kind in (VerdictKind.NG, VerdictKind.REVIEW)
        looks: tuple[Look, ...] = ()
        pictures, size = 1, 0
        if pixels is not None:
            boxes = [detection.box_xyxy_px for detection in inspection.detections]
            whole = (0, 0, pixels.shape[1], pixels.shape[0])
            looks = tuple(take_look(pixels, box) for box in boxes or [whole]) if suspicious else ()
            sent = self._redact(pixels, inspection)
            pictures, size = max(1, len(sent)), self._measure(sent, inspection.detections)
        return RecordedPart(
            key=inspection.inspection_id,
            camera=f"{inspection.station}/{inspection.camera}",
            recipe_name=inspection.recipe.name if inspection.recipe is not None else "",
            verdict=inspection.kind,
            defective=defective,
            looks=looks,
            pictures=pictures,
            part_bytes=size,
            context_bytes=self._context,
            context_pictures=1 if self._rules.golden else 0,
        )

    def fill_in(self, parts: Sequence[RecordedPart]) -> list[RecordedPart]:
        """Parts whose frame was not kept get the mean bytes of the whole frames that were."""
        mean = round(sum(self._whole) / len(self._whole)) if self._whole else 0
        return [replace(part, part_bytes=mean) if part.part_bytes == 0 else part for part in parts]

    def _read(self, inspection: StoredInspection) -> BgrImage | None:
        needed = inspection.detections or len(self._whole) < MEASURED_FRAMES
        if inspection.frame_key is None or not needed:
            return None
        try:
            return self._material.read_frame(inspection)
        except (StoreError, ImageError):
            return None

    def _redact(self, pixels: BgrImage, inspection: StoredInspection) -> list[RedactedImage]:
        rules = self._rules
        masks = boxes_of(rules.masks, inspection.camera)
        boxes = [detection.box_xyxy_px for detection in inspection.detections]
        if rules.send == "frames" or not boxes:
            return [redact_frame(pixels, masks, resolution=rules.media_resolution)]
        shown = boxes[: rules.most_regions]
        return list(redact_regions(pixels, shown, boxes, masks, margin=rules.margin, resolution=rules.media_resolution))

    def _measure(self, sent: Sequence[RedactedImage], detections: Sequence[Detection]) -> int:
        subject = QuestionSubject(self._rules.product, self._rules.description, ())
        question = compose_question("0" * 36, subject, sent, None, detections, self._rules.media_resolution)
        size = len(write_question(question)) - self._context
        if not detections:
            self._whole.append(size)
        return size


def _choose_rules(config: PlantConfig) -> tuple[ProviderBase, StationCloudConfig]:
    """Of the first station that names a provider; prices of the first provider where none does."""
    for station in config.stations().values():
        if station.cloud.provider is not None:
            provider = config.cloud.find_provider(station.cloud.provider)
            if provider is not None:
                send = station.cloud.send if station.cloud.send != "none" else "crops"
                return provider, station.cloud.model_copy(update={"send": send})
    if config.cloud.providers:
        return config.cloud.providers[0], StationCloudConfig().model_copy(update={"send": "crops"})
    raise InputError("the configuration names no provider; its prices are what a simulation is about")


def _stations(db: Database) -> list[str]:
    with db.read() as session:
        return list(known_stations(session))


def _stream(db: Database, station: str) -> Iterator[StoredInspection]:
    after = 0
    while batch := chain_inspections(db, station, after, BATCH):
        yield from batch
        after = batch[-1].chain_index


def _outcome(outcome: PolicyOutcome) -> dict[str, Any]:
    return {
        "policy": outcome.policy,
        "calls": outcome.calls,
        "reused": outcome.reused,
        "bytes": outcome.size_bytes,
        "money": outcome.money_micro / MICRO,
        "missed": len(outcome.missed),
        "missed_inspections": list(outcome.missed),
        "overkill": len(outcome.overkill),
        "overkill_inspections": list(outcome.overkill),
    }
