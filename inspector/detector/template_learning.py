"""Learning for template mode: a threshold from good pairs, or names and boxes from labelled ones.

Labelled frames are dealt into folds. Each net is taught without one fold and judged on it, so every frame has an
answer of a net that never saw it: those answers set the threshold. The recipe averages all nets.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from inspector.detector.box_matching import (
    IOU_THRESHOLD,
    BoxImage,
    LabelledBox,
    average_precisions,
    best_threshold,
    rank_boxes,
)
from inspector.detector.calibration import binomial_interval, calibrate, score_unit
from inspector.detector.good_images import Progress
from inspector.detector.template_net import NetTrainer, Weights, export_nets
from inspector.detector.template_pair import LaidPair, compare_known, differing_share, lay_pair, propose_regions
from inspector.detector.template_patches import (
    EDGE_UNIT_PX,
    FLIPS,
    PATCH_PX,
    Floats,
    Patches,
    box_centres,
    cut_patches,
    describe_regions,
    flip_edges,
    flip_facts,
    flip_patches,
    normalise_patches,
)
from inspector.detector.template_scorer import (
    WEAKEST_UNIT,
    ClassifyingScorer,
    TemplateModel,
    region_strengths,
)
from inspector.errors import FitError
from inspector.geometry.boxes import clip_box, overlap
from inspector.geometry.registration import warp_to_frame
from inspector.records import BgrImage, BoxPx, Thresholds

FAINTEST_DIFFERENCE = 30
"""Grey levels that count as a difference without labels: nobody has said yet how faint a defect may be."""
LABELLED_DIFFERENCE = 60
"""With labels: a net sorts the proposals, but more of them cost time."""
MISMATCH_FACTOR = 3.0
LEAST_MISMATCH = 0.05
BOX_MARGIN_PX = 4
JITTER_PX = 6
SCALES = (1.0, 0.8, 1.25)
"""Boards of another pitch look like this."""
DISPLACED_PX = 1.2
FOLDS = 4
FEWEST_LABELLED = 4
MOST_SAMPLES = 20_000
BATCH = 32
FLIPS_A_BATCH = 4
SAMPLES_SEEN = 120_000
MOST_PASSES = 200
RATE, LAST_RATE = 2e-3, 2e-5
SURE_PRECISION = 0.99


class GoodPairs(Protocol):
    """Defect-free frames with their templates, decoded when asked for."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> tuple[BgrImage, BgrImage]:
        """Frame and template: (H, W, 3) uint8 BGR of one size."""
        ...


class LabelledPairs(GoodPairs, Protocol):
    """Frames with their templates and the boxes of all their defects."""

    def boxes(self, index: int) -> tuple[LabelledBox, ...]:
        """All defects of a frame; none for a good one."""
        ...


@dataclass(frozen=True, slots=True)
class LearnedTemplate:
    """What a fit in template mode gives. `graph` is empty without names."""

    model: TemplateModel
    graph: bytes
    false_alarm_interval: tuple[float, float]
    promise: str
    choices: dict[str, Any]


def learn_differences(pairs: GoodPairs, real_frames: int, target: float, report: Progress) -> LearnedTemplate:
    """The threshold of a recipe without names, from good pairs: as for any recipe, see `calibrate`.

    `real_frames` of the pairs have a frame that was photographed; the others are copies of templates, which promise
    nothing about a scanner.
    """
    worst, shares = [], []
    for index in range(len(pairs)):
        difference = lay_pair(*pairs.read(index)).difference
        strengths = region_strengths(difference, propose_regions(difference, FAINTEST_DIFFERENCE))
        worst.append(max(strengths, default=0.0))
        shares.append(differing_share(difference, FAINTEST_DIFFERENCE))
        report("compare", (index + 1) / len(pairs))
    unit = max(WEAKEST_UNIT, score_unit(worst))
    calibration = calibrate([value / unit for value in worst], target, real_frames)
    model = TemplateModel(
        names=(),
        least_difference=FAINTEST_DIFFERENCE,
        unit=unit,
        mismatch_limit=mismatch_limit(shares),
        thresholds=calibration.thresholds,
    )
    promise = calibration.promise if real_frames else "the good frames are copies of templates: nothing is promised"
    return LearnedTemplate(model, b"", calibration.interval, promise, {"names": []})


def mismatch_limit(shares: list[float]) -> float:
    """The share of a frame that may differ from its template before the template must be the wrong one."""
    return min(1.0, max(LEAST_MISMATCH, MISMATCH_FACTOR * max(shares)))


@dataclass(frozen=True, slots=True)
class _Samples:
    """Proposals of all frames: patches with a margin for jitter, facts, labels (0 is "nothing"), edges, and frame."""

    patches: Patches
    facts: Floats
    labels: NDArray[np.int64]
    edges: Floats
    frames: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Proposals:
    """The samples of one frame, and how many labelled boxes have no proposal."""

    patches: Patches
    facts: Floats
    labels: list[int]
    edges: list[tuple[float, ...]]
    missed: int
    share: float


def learn_names(
    pairs: LabelledPairs, report: Progress, *, seed: int = 0, samples_seen: int = SAMPLES_SEEN
) -> LearnedTemplate:
    """Names, boxes and the threshold of best F from labelled pairs.

    `samples_seen` is how many patches each net is shown: training time. Raises `FitError` with fewer than
    `FEWEST_LABELLED` pairs, or when no labelled box differs from its template.
    """
    if len(pairs) < FEWEST_LABELLED:
        raise FitError(f"{len(pairs)} labelled pairs are too few: {FEWEST_LABELLED} are the least that can be held out")
    names = tuple(sorted({box.name for index in range(len(pairs)) for box in pairs.boxes(index)}))
    gathered = []
    for index in range(len(pairs)):
        gathered.append(_gather(pairs, index, names))
        report("compare", (index + 1) / len(pairs))
    samples = _stack(gathered)
    if not names or not samples.labels.any():
        raise FitError("no labelled box covers a difference between a frame and its template; are the pairs mixed up?")
    fold_of = np.random.default_rng(seed).permutation(len(pairs)) % FOLDS
    nets = _teach_folds(samples, fold_of, len(names) + 1, seed, samples_seen, report)
    model = TemplateModel(
        names=names,
        least_difference=LABELLED_DIFFERENCE,
        unit=1.0,
        mismatch_limit=mismatch_limit([proposals.share for proposals in gathered]),
        thresholds=Thresholds(0.5, 0.5),
    )
    held_out = _judge_held_out(model, nets, pairs, fold_of, report)
    return _summarise(model, nets, held_out, sum(proposals.missed for proposals in gathered))


def _gather(pairs: LabelledPairs, index: int, names: tuple[str, ...]) -> _Proposals:
    """The proposals of one frame, at each of the `SCALES`; at all but the first with its template a little off."""
    pair = lay_pair(*pairs.read(index))
    labelled = pairs.boxes(index)
    random = np.random.default_rng(index)
    parts = []
    for place, scale in enumerate(SCALES):
        view = pair if place == 0 else displace(pair, random)
        parts.append(_sample(view, labelled, names, scale))
    return _Proposals(
        np.concatenate([part.patches for part in parts]),
        np.concatenate([part.facts for part in parts]),
        [label for part in parts for label in part.labels],
        [edges for part in parts for edges in part.edges],
        missed=parts[0].missed,
        share=parts[0].share,
    )


def displace(pair: LaidPair, random: np.random.Generator) -> LaidPair:
    """The pair as if registration had been off by up to `DISPLACED_PX`: what then differs is no defect."""
    size = (pair.frame.shape[1], pair.frame.shape[0])
    off = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    off[:, 2] = random.uniform(-DISPLACED_PX, DISPLACED_PX, 2)
    moved = warp_to_frame(pair.template, off, size)
    return LaidPair(pair.frame, moved, compare_known(moved, pair.frame, off), pair.registration)


def _sample(pair: LaidPair, labelled: tuple[LabelledBox, ...], names: tuple[str, ...], scale: float) -> _Proposals:
    boxes = propose_regions(pair.difference, LABELLED_DIFFERENCE)
    labels, edges, reached = [], [], set()
    for box, centre in zip(boxes, box_centres(boxes), strict=True):
        owner = _owner(box, centre, labelled)
        labels.append(0 if owner is None else 1 + names.index(labelled[owner].name))
        target = centre if owner is None else np.array(labelled[owner].box_xyxy_px, np.float32)
        edges.append(tuple(float(edge) * scale for edge in target - centre))
        reached.add(owner)
    facts = describe_regions(pair, boxes)
    facts[:, :2] *= np.float32(scale)
    return _Proposals(
        cut_patches(pair, boxes, JITTER_PX, scale),
        facts,
        labels,
        edges,
        missed=len(set(range(len(labelled))) - reached),
        share=differing_share(pair.difference, LABELLED_DIFFERENCE),
    )


def _owner(box: BoxPx, centre: Floats, labelled: tuple[LabelledBox, ...]) -> int | None:
    """The labelled box that a proposal belongs to: of those around its centre the one it overlaps most."""
    x, y = float(centre[0]), float(centre[1])
    best, most = None, -1.0
    for index, item in enumerate(labelled):
        x0, y0, x1, y1 = item.box_xyxy_px
        if x0 - BOX_MARGIN_PX <= x <= x1 + BOX_MARGIN_PX and y0 - BOX_MARGIN_PX <= y <= y1 + BOX_MARGIN_PX:
            shared = overlap(box, item.box_xyxy_px)
            if shared > most:
                best, most = index, shared
    return best


def _stack(gathered: list[_Proposals]) -> _Samples:
    """All samples in one place; of more than fit in memory every n-th."""
    frames = np.concatenate([np.full(len(one.labels), index, np.int64) for index, one in enumerate(gathered)])
    samples = _Samples(
        np.concatenate([one.patches for one in gathered]),
        np.concatenate([one.facts for one in gathered]),
        np.array([label for one in gathered for label in one.labels], np.int64),
        np.array([edge for one in gathered for edge in one.edges], np.float32).reshape(-1, 4),
        frames,
    )
    return _take(samples, np.arange(0, len(frames), max(1, -(-len(frames) // MOST_SAMPLES))))


def _take(samples: _Samples, chosen: NDArray[np.int64]) -> _Samples:
    return _Samples(
        samples.patches[chosen],
        samples.facts[chosen],
        samples.labels[chosen],
        samples.edges[chosen],
        samples.frames[chosen],
    )


def _teach_folds(
    samples: _Samples, fold_of: NDArray[np.int64], classes: int, seed: int, samples_seen: int, report: Progress
) -> list[Weights]:
    """One net a fold, taught on all others; two at a time, each on one core, so that the sums keep their order."""
    kept = [_take(samples, np.flatnonzero(fold_of[samples.frames] != fold)) for fold in range(FOLDS)]
    with threadpool_limits(1), ThreadPoolExecutor(2) as pool:
        running = [pool.submit(_teach, part, classes, seed + 1 + fold, samples_seen) for fold, part in enumerate(kept)]
        nets = []
        for fold, future in enumerate(running):
            nets.append(future.result())
            report("teach", (fold + 1) / FOLDS)
    return nets


def _teach(samples: _Samples, classes: int, seed: int, samples_seen: int) -> Weights:
    random = np.random.default_rng(seed)
    trainer = NetTrainer(classes, seed)
    count = len(samples.labels)
    if count == 0:
        return trainer.weights
    passes = max(1, min(MOST_PASSES, samples_seen // count))
    steps = passes * -(-count // BATCH)
    step = 0
    for _ in range(passes):
        order = random.permutation(count)
        for first in range(0, count, BATCH):
            rate = max(LAST_RATE, RATE * 0.5 * (1.0 + np.cos(np.pi * step / steps)))
            chosen = order[first : first + BATCH]
            patches, facts, edges = _augment(samples, chosen, random)
            trainer.learn(patches, facts, samples.labels[chosen], edges, rate)
            step += 1
    return trainer.weights


def _augment(
    samples: _Samples, chosen: NDArray[np.int64], random: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """A batch, moved and flipped in `FLIPS_A_BATCH` different ways."""
    patches, facts, edges = [], [], []
    for part in np.array_split(chosen, FLIPS_A_BATCH):
        flip = int(random.integers(FLIPS))
        dx, dy = (int(shift) for shift in random.integers(-JITTER_PX, JITTER_PX + 1, 2))
        top, left = JITTER_PX + dy, JITTER_PX + dx
        cut = samples.patches[part][:, top : top + PATCH_PX, left : left + PATCH_PX]
        moved = samples.edges[part] - np.array([dx, dy, dx, dy], np.float32)
        patches.append(flip_patches(cut, flip))
        facts.append(flip_facts(samples.facts[part], flip))
        edges.append(flip_edges(moved, flip) / np.float32(EDGE_UNIT_PX))
    return normalise_patches(np.concatenate(patches)), np.concatenate(facts), np.concatenate(edges)


def _judge_held_out(
    model: TemplateModel, nets: list[Weights], pairs: LabelledPairs, fold_of: NDArray[np.int64], report: Progress
) -> list[BoxImage]:
    """What the net that never saw a frame finds in it."""
    scorers = [ClassifyingScorer(model, export_nets([net])) for net in nets]
    images = []
    for index in range(len(pairs)):
        frame, template = pairs.read(index)
        found = scorers[fold_of[index]].find_candidates(lay_pair(frame, template))
        size = (frame.shape[1], frame.shape[0])
        inside = tuple(box for box in pairs.boxes(index) if clip_box(box.box_xyxy_px, size) is not None)
        images.append(BoxImage(found, inside))
        report("hold out", (index + 1) / len(pairs))
    return images


def _summarise(
    model: TemplateModel, nets: list[Weights], images: list[BoxImage], without_proposal: int
) -> LearnedTemplate:
    ranked = rank_boxes(images)
    review = best_threshold(ranked)
    precision, recall, score = ranked.at(review)
    by_name = average_precisions(images)
    choices = {
        "names": list(model.names),
        "held_out": {
            "images": len(images),
            "folds": FOLDS,
            "map": float(np.mean(list(by_name.values()))),
            "ap_by_class": by_name,
            "f_score": score,
            "precision": precision,
            "recall": recall,
            "iou_threshold": IOU_THRESHOLD,
        },
        "labelled_boxes": sum(len(image.labelled) for image in images),
        "boxes_without_difference": without_proposal,
    }
    clean = [image for image in images if not image.labelled]
    alarms = sum(any(found.score >= review for found in image.found) for image in clean)
    interval = binomial_interval(alarms, len(clean)) if len(clean) > 1 else (0.0, 1.0)
    promise = "the review threshold gives the best F on held-out labelled frames; no false-alarm rate is promised"
    taught = replace(model, thresholds=Thresholds(review, max(review, _sure_threshold(images, review))))
    return LearnedTemplate(taught, export_nets(nets), interval, promise, choices)


def _sure_threshold(images: list[BoxImage], review: float) -> float:
    """The lowest score from `review` up, above which `SURE_PRECISION` of the held-out detections are right."""
    ranked = rank_boxes(images)
    precision = np.cumsum(ranked.right) / np.arange(1, len(ranked.right) + 1)
    sure = np.flatnonzero((precision >= SURE_PRECISION) & (ranked.scores >= review))
    return float(ranked.scores[sure[-1]]) if len(sure) else review
