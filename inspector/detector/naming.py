"""Names for defects, learned from a few labelled examples each; a look that no example explains is "unknown".

Looks (see `look`) are standardised and whitened by the scatter within the names, both shrunk because examples are
few. A look is as far from a name as from the mean of its examples and from the nearest of them, in squared whitened
units; the nearest name wins. It is unknown when it is stranger than most examples are when they are left out
themselves, by their conformal rank: far from every name, the more so where the next name is hardly farther. About one
in ten looks of taught names is called unknown, too. Confidence is a softmax over the distances, its temperature fitted
to the left-out examples.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.detector.look import FEATURES, Floats
from inspector.errors import FitError, RecipeTamperedError

UNKNOWN = "unknown"
FEWEST_EXAMPLES = 3
MOST_EXAMPLES = 1000
LONGEST_NAME = 64
MOST_NAMES = 64
UNKNOWN_SHARE, UNKNOWN_SHARE_OF_ONE = 0.1, 0.6
"""The share of left-out examples beyond the limit: the first, and the second divided by the examples a name. What few
examples taught is farther from the one that was left out than from the next one after all of them were taught."""
PRIOR_FREEDOM = 5.0
"""The spread over all examples counts as much as this many degrees of freedom of the spread within the names."""
LEAST_SPREAD = 0.05
"""Looks are logarithms and ratios: what happened to vary less over the few examples may vary so much in the next."""
TEMPERATURES = np.geomspace(0.5, 500.0, 61)

Arrays: TypeAlias = dict[str, NDArray[Any]]
Labels: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Naming:
    """What a look is called: one of the taught names or `UNKNOWN`; `confidence` is that of the likeliest name, 0..1."""

    name: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Space:
    """Where looks are compared: whitened = (look - centre) @ mixing."""

    centre: NDArray[np.float64]
    mixing: NDArray[np.float64]

    def place(self, looks: Floats) -> NDArray[np.float64]:
        """(N, F) looks, whitened."""
        return np.asarray((looks - self.centre) @ self.mixing, np.float64)


@dataclass(frozen=True, slots=True)
class Namer:
    """Taught names. `examples` (n, F) are whitened looks, `labels` (n,) index `names`. Read only, so thread-safe."""

    names: tuple[str, ...]
    space: Space
    examples: NDArray[np.float64]
    labels: Labels
    limit: float
    temperature: float

    def name(self, looks: Floats) -> list[Naming]:
        """One naming for each of (N, F) looks, as `describe_looks` gives them; `ArithmeticError` for no numbers."""
        distances = measure_distances(self.space.place(looks), self.examples, self.labels, len(self.names))
        if not np.isfinite(distances).all():
            raise ArithmeticError("a look is no finite number")
        shares = _softmax(distances, self.temperature)
        best = distances.argmin(axis=1)
        strange = measure_strangeness(distances) > self.limit
        return [
            Naming(UNKNOWN if unknown else self.names[index], round(float(share[index]), 4))
            for index, unknown, share in zip(best, strange, shares, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class NameCheck:
    """One name when each of its examples is named without it: how many were right, and how many unknown."""

    name: str
    examples: int
    right: int
    unknown: int


@dataclass(frozen=True, slots=True)
class LearnedNames:
    """A namer and what its examples say about it; `mistaken` are the examples that got another taught name."""

    namer: Namer
    checks: tuple[NameCheck, ...]
    mistaken: tuple[tuple[int, str], ...]


def learn_names(looks: Floats, labels: Sequence[str]) -> LearnedNames:
    """A namer from (n, F) looks of n examples.

    Raises `FitError` for a name that cannot be used, and for fewer than `FEWEST_EXAMPLES` examples of one.
    """
    counts = Counter(labels)
    _check_names(counts)
    names = tuple(sorted(counts))
    indices = np.array([names.index(label) for label in labels], np.int64)
    space = _learn_space(looks, indices)
    left_out = np.stack([_distances_without(looks, indices, example) for example in range(len(labels))])
    strangeness = measure_strangeness(left_out)
    share = UNKNOWN_SHARE + UNKNOWN_SHARE_OF_ONE * len(names) / len(labels)
    rank = min(len(labels), math.ceil((len(labels) + 1) * (1.0 - share)))
    limit = float(np.sort(strangeness)[rank - 1])
    namer = Namer(names, space, space.place(looks), indices, limit, _fit_temperature(left_out, indices))
    found = np.where(strangeness <= limit, left_out.argmin(axis=1), -1)
    checks = tuple(
        NameCheck(
            name=name,
            examples=counts[name],
            right=int((found[indices == index] == index).sum()),
            unknown=int((found[indices == index] < 0).sum()),
        )
        for index, name in enumerate(names)
    )
    wrong = np.flatnonzero((found >= 0) & (found != indices))
    return LearnedNames(namer, checks, tuple((int(example), names[found[example]]) for example in wrong))


def measure_distances(
    placed: NDArray[np.float64], examples: NDArray[np.float64], labels: Labels, names: int
) -> NDArray[np.float64]:
    """(N, names) squared distances of (N, F) whitened looks to the mean of each name and to its nearest example."""
    distances = np.empty((len(placed), names))
    for index in range(names):
        own = examples[labels == index]
        to_mean = ((placed - own.mean(axis=0)) ** 2).sum(axis=1)
        products = (placed**2).sum(axis=1)[:, None] + (own**2).sum(axis=1) - 2.0 * placed @ own.T
        distances[:, index] = to_mean + np.maximum(products, 0.0).min(axis=1)
    return distances


def measure_strangeness(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) how badly (N, names) distances explain a look: the least, less half of its lead over the next."""
    ranked = np.sort(distances, axis=1)
    lead = ranked[:, 1] - ranked[:, 0] if distances.shape[1] > 1 else np.zeros(len(ranked))
    return np.asarray(ranked[:, 0] - lead / 2.0, np.float64)


def pack_names(namer: Namer) -> Arrays:
    """The arrays of `names.npz`."""
    return {
        "names": np.array(namer.names, np.str_),
        "centre": namer.space.centre.astype(np.float32),
        "mixing": namer.space.mixing.astype(np.float32),
        "examples": namer.examples.astype(np.float32),
        "labels": namer.labels,
        "limits": np.array([namer.limit, namer.temperature], np.float64),
    }


def unpack_names(arrays: Arrays) -> Namer:
    """The namer of a recipe's `names.npz`; `RecipeTamperedError` when its arrays do not fit each other."""
    try:
        names = tuple(str(name) for name in arrays["names"])
        labels = np.asarray(arrays["labels"], np.int64)
        centre, mixing, examples = (np.asarray(arrays[key], np.float64) for key in ("centre", "mixing", "examples"))
        limit, temperature = (float(value) for value in arrays["limits"])
    except (KeyError, ValueError, TypeError) as error:
        raise RecipeTamperedError(f"names.npz does not hold a namer: {error}") from error
    fits = (
        centre.shape == (FEATURES,)
        and mixing.shape == (FEATURES, FEATURES)
        and examples.shape == (len(labels), FEATURES)
        and set(labels.tolist()) == set(range(len(names)))
        and all(np.isfinite(part).all() for part in (centre, mixing, examples))
        and math.isfinite(limit)
        and temperature > 0.0
    )
    if not fits:
        raise RecipeTamperedError("names.npz: its arrays do not fit each other")
    return Namer(names, Space(centre, mixing), examples, labels, limit, temperature)


def check_name(name: str) -> str | None:
    """Why a defect cannot be called `name`; None when it can."""
    if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
        return f"a defect's name must have 1 to {LONGEST_NAME} printable characters, {name[:80]!r} has not"
    if name.lower() in RESERVED:
        return f"no defect can be called {name!r}: the word means something else here"
    return None


RESERVED = frozenset({UNKNOWN, "anomaly", "good", "without a name"})


def _check_names(counts: Counter[str]) -> None:
    if not counts:
        raise FitError("there is no labelled example to learn names from")
    if len(counts) > MOST_NAMES:
        raise FitError(f"{len(counts)} names are more than a namer can tell apart, {MOST_NAMES}")
    if counts.total() > MOST_EXAMPLES:
        raise FitError(f"{counts.total()} examples are too many: {MOST_EXAMPLES} teach as well")
    for name in counts:
        problem = check_name(name)
        if problem is not None:
            raise FitError(problem)
    few = {name: count for name, count in sorted(counts.items()) if count < FEWEST_EXAMPLES}
    if few:
        listed = ", ".join(f"{name} has {count}" for name, count in few.items())
        raise FitError(
            f"a name needs at least {FEWEST_EXAMPLES} examples: {listed}; show more, or leave out what is rare "
            "(it will be called unknown)"
        )


def _learn_space(looks: Floats, labels: Labels) -> Space:
    """Standardise by a spread between that within the names and that of all, then whiten by the shrunk scatter."""
    count, features = looks.shape
    wide = np.asarray(looks, np.float64)
    centre = np.median(wide, axis=0)
    means = np.stack([wide[labels == index].mean(axis=0) for index in range(int(labels.max()) + 1)])
    within = wide - means[labels]
    freedom = max(1, count - len(means))
    trust = freedom / (freedom + PRIOR_FREEDOM)
    variance = trust * (within**2).sum(axis=0) / freedom + (1.0 - trust) * wide.var(axis=0)
    spread = np.sqrt(variance + LEAST_SPREAD**2)
    within /= spread
    shrink = 0.05 + 0.9 * features / (features + freedom)
    scatter = (1.0 - shrink) * within.T @ within / freedom + shrink * np.eye(features)
    lower = np.linalg.cholesky(scatter)
    return Space(centre, np.linalg.solve(lower, np.diag(1.0 / spread)).T)


def _distances_without(looks: Floats, labels: Labels, example: int) -> NDArray[np.float64]:
    """(names,) distances of one example to what is learned from all others."""
    others = np.arange(len(labels)) != example
    space = _learn_space(looks[others], labels[others])
    placed, own = space.place(looks[others]), space.place(looks[example : example + 1])
    distances = measure_distances(own, placed, labels[others], int(labels.max()) + 1)
    return np.asarray(distances[0], np.float64)


def _softmax(distances: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    raised = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / temperature)
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float64)


def _fit_temperature(left_out: NDArray[np.float64], labels: Labels) -> float:
    """The temperature at which the left-out examples' own names are likeliest."""
    rows = np.arange(len(labels))
    losses = [-np.log(_softmax(left_out, value)[rows, labels] + 1e-9).mean() for value in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])
