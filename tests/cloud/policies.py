"""The policies compared on runs over real images, resampled to rates of defects that lines have.

Each data set in the MVTec convention: a recipe is fitted on its good images, test images are inspected in several
variants each (moved by a pixel or two, a little brighter or darker), and runs are drawn from these: good parts at
random, defects that repeat. What a fake cloud answers is assumed, so this says nothing about real models; and since
good parts repeat here, so do their false alarms, which flatters reuse. Each comparison is run with several seeds:
missed defects are compared part by part in every run, money over the runs together.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from inspector.cloud.instruction import QuestionSubject
from inspector.cloud.looks import Look, take_look
from inspector.cloud.question import compose_question, write_question
from inspector.cloud.redaction import redact_frame, redact_regions
from inspector.cloud.simulation import ComparedLooks, PolicyOutcome, RecordedPart
from inspector.cloud_settings import StationCloudConfig, WebhookProvider
from inspector.detector.recipe_store import RecipeStore
from inspector.records import BgrImage, Scoring, Thresholds, Verdict, VerdictKind
from pipelines.cloud_simulate import compare
from pipelines.dataset import TestImage, open_test_set, read_image
from pipelines.fit import fit_recipe
from pipelines.inspect_frame import decide_verdict
from tests.cloud.audit_trial import TrialAudit

IMAGES, VARIANTS = 24, 3
"""Of each half of a test set, and of each image."""
PARTS = 5000
RATES = (0.001, 0.01, 0.05)
REPEATS = 5.0
"""How often a defect comes again on average once it has begun."""
AUDIT_SHARE = 0.005
RULES = StationCloudConfig(send="crops", provider="hook", audit_share=AUDIT_SHARE, golden=True)
PRICED = WebhookProvider(
    name="hook",
    base_url="https://hook.example",
    secret_env="SECRET",
    price_input=0.3,
    price_cached=0.075,
    price_output=2.5,
)
"""About what small vision models cost in 2026, for a million tokens."""
HALF = "reuse and cache cost at most half of REVIEW alone"
REVIEW, SAVING = "REVIEW", "REVIEW + reuse + cache"
BOTH = "REVIEW + audit + reuse + cache"


@dataclass
class Tally:
    """Runs of one data set, rate and assumed cloud with different seeds, added up. Money in millionths."""

    runs: int = 0
    money: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    overkill: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    more_missed: int = 0
    """Runs in which reuse and cache missed a defect that REVIEW with the same audits found."""
    dearer: int = 0
    """Runs in which reuse and cache cost more than half of REVIEW alone."""

    def add(self, outcomes: Sequence[PolicyOutcome]) -> None:
        by_name = {item.policy: item for item in outcomes}
        self.runs += 1
        for name, item in by_name.items():
            self.money[name] += item.money_micro
            self.missed[name] += len(item.missed)
            self.overkill[name] += len(item.overkill)
            self.calls[name] += item.calls
        # The same case asked gets the same answer under every policy, so that the parts themselves can be compared.
        alone, saving, both = (by_name[name] for name in (REVIEW, SAVING, BOTH))
        self.more_missed += not set(saving.missed) | set(both.missed) <= set(alone.missed)
        self.dearer += saving.money_micro > 0.5 * alone.money_micro

    def check(self, rate: float) -> dict[str, bool]:
        """What the policies are meant to save, and that no run loses anything for it."""
        promises = {
            HALF: self.money[SAVING] <= 0.5 * self.money[REVIEW],
            "no defect missed beyond those of REVIEW alone": self.more_missed == 0,
        }
        if rate == 0.01:
            promises["with audit at most 5 % of asking about everything"] = (
                self.money[BOTH] <= 0.05 * self.money["everything"]
            )
        return promises

    def describe(self) -> list[str]:
        """A line for each policy: means of a run, missed and wrongly stopped parts of all runs."""
        lines = []
        for name, money in self.money.items():
            calls, missed, overkill = self.calls[name] / self.runs, self.missed[name], self.overkill[name]
            mean = f"{name:31s} {calls:7.1f} questions, {money / self.runs / 1e6:7.4f} EUR a run"
            lines.append(f"      {mean}; in all {missed} missed, {overkill} stopped wrongly")
        lines.append(f"      {self.more_missed} of {self.runs} runs miss more, {self.dearer} cost more than half")
        return lines


def compare_on_data(data: Path, work: Path, runs: int, audit: TrialAudit, say: Callable[[str], None]) -> None:
    """`runs` runs for each data set and rate, every policy and assumed cloud: a table, and which promises were kept."""
    kept = promised = 0
    totals = Tally()
    for folder in sorted(path for path in data.iterdir() if (path / "train" / "good").is_dir()):
        began = time.monotonic()
        good, bad = record_data_set(folder, work / folder.name)
        compared = ComparedLooks()
        say(f"\n{folder.name}: {_describe(good)} of good images, {_describe(bad)} of defective ones")
        for rate in RATES:
            tallies: dict[str, Tally] = {}
            for seed in range(runs):
                run = draw_run(good, bad, rate, seed)
                for cloud, share, outcomes in compare(run, RULES, PRICED, "EUR", compared).outcomes:
                    tallies.setdefault(cloud, Tally()).add(outcomes)
                    if share < 1:
                        totals.add(outcomes)
            for cloud, tally in tallies.items():
                say(f"  {rate:.1%} defective, cloud {cloud}:")
                for line in tally.describe():
                    say(line)
                found = tally.check(rate)
                for promise in (name for name, is_kept in found.items() if not is_kept):
                    say(f"      NOT KEPT: {promise}")
                kept, promised = kept + sum(found.values()), promised + len(found)
        say(f"  {time.monotonic() - began:.0f} s")
    audit.counts["policy promises kept"] = f"{kept} of {promised} ({runs} runs each)"
    audit.counts["runs that miss more, cloud right 9 times of 10"] = f"{totals.more_missed} of {totals.runs}"
    audit.counts["missed by REVIEW alone / with reuse"] = f"{totals.missed[REVIEW]} / {totals.missed[SAVING]}"
    audit.counts["stopped wrongly"] = f"{totals.overkill[REVIEW]} / {totals.overkill[SAVING]}"
    audit.require("policy promises kept", kept, promised)


def record_data_set(folder: Path, work: Path) -> tuple[list[list[RecordedPart]], list[list[RecordedPart]]]:
    """Variants of good and of defective test images, inspected by a recipe of the good ones."""
    fit_recipe("part", folder / "train" / "good", work)
    recipe = RecipeStore(work).load("part")
    scorer = recipe.scorer(threads=2)
    images = open_test_set(folder).images
    rng = np.random.default_rng(7)
    halves: list[list[list[RecordedPart]]] = []
    for wanted in (False, True):
        half = [image for image in images if (image.defect is not None) is wanted]
        chosen = [half[index] for index in sorted(rng.permutation(len(half))[:IMAGES])]
        halves.append([_record_image(image, scorer.score_frame, scorer.thresholds, rng) for image in chosen])
    return halves[0], halves[1]


def _record_image(
    image: TestImage, score: Callable[[BgrImage], Scoring], thresholds: Thresholds, rng: np.random.Generator
) -> list[RecordedPart]:
    pixels = read_image(image.path)
    parts = []
    for number in range(VARIANTS):
        varied = vary(pixels, rng) if number else pixels
        verdict = decide_verdict(score(varied), thresholds)
        parts.append(record_part(f"{image.path.stem}/{number}", varied, verdict, image.defect is not None))
    return parts


def vary(pixels: BgrImage, rng: np.random.Generator) -> BgrImage:
    """The next part of the same kind: moved by up to two pixels and 1 % brighter or darker. Noise and interpolation
    would change the grain, and a recipe that knows the grain of a surface would find that."""
    shift = np.array([[1, 0, rng.integers(-2, 3)], [0, 1, rng.integers(-2, 3)]], np.float64)
    size = (pixels.shape[1], pixels.shape[0])
    moved = cv2.warpAffine(pixels, shift, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(np.clip(moved.astype(np.float32) * rng.uniform(0.99, 1.01), 0, 255), np.uint8)


def record_part(key: str, pixels: BgrImage, verdict: Verdict, defective: bool) -> RecordedPart:
    """What a question about this part would hold."""
    boxes = [detection.box_xyxy_px for detection in verdict.detections]
    whole = (0, 0, pixels.shape[1], pixels.shape[0])
    suspicious = verdict.kind is not VerdictKind.OK
    looks: tuple[Look, ...] = tuple(take_look(pixels, box) for box in boxes or [whole]) if suspicious else ()
    if boxes:
        shown = boxes[: RULES.most_regions]
        sent = list(redact_regions(pixels, shown, boxes, (), margin=RULES.margin, resolution="medium"))
    else:
        sent = [redact_frame(pixels, (), resolution="medium")]
    subject = QuestionSubject(RULES.product, RULES.description, ())
    question = compose_question("0" * 36, subject, sent, None, verdict.detections, "medium")
    golden = redact_frame(pixels, (), resolution="medium")
    context = len(question.instruction.encode()) + len(golden.content) * 4 // 3
    size = len(write_question(question)) - len(question.instruction.encode())
    return RecordedPart(key, "top", "part", verdict.kind, defective, looks, len(sent), size, context, 1)


def draw_run(
    good: list[list[RecordedPart]], bad: list[list[RecordedPart]], rate: float, seed: int
) -> list[RecordedPart]:
    """`PARTS` parts: good ones at random, and runs of one defect, `rate` of all parts on average."""
    rng = np.random.default_rng([seed, int(rate * 10_000)])
    parts: list[RecordedPart] = []
    while len(parts) < PARTS:
        if rng.random() < rate / REPEATS / (1 - rate + rate / REPEATS):
            case = bad[rng.integers(len(bad))]
            parts.extend(case[rng.integers(len(case))] for _ in range(rng.geometric(1 / REPEATS)))
        else:
            case = good[rng.integers(len(good))]
            parts.append(case[rng.integers(len(case))])
    return [replace(part, key=f"{seed}/{rate}/{number}/{part.key}") for number, part in enumerate(parts[:PARTS])]


def _describe(cases: list[list[RecordedPart]]) -> str:
    kinds = [part.verdict.value for case in cases for part in case]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("OK", "REVIEW", "NG"))
