"""What a part of a trial hands over: figures for the JSON, lines for people, and criteria met or missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.twin.sets import TrialSet

DASH = "–"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One line of what the trial must reach. `met` is None where it could not be measured."""

    name: str
    wanted: str
    found: str
    met: bool | None

    @property
    def word(self) -> str:
        return {True: "pass", False: "MISS", None: "not measured"}[self.met]


@dataclass(frozen=True, slots=True)
class PartResult:
    """One part of the trial; `figures` can be written as JSON."""

    figures: dict[str, Any]
    lines: tuple[str, ...]
    criteria: tuple[Criterion, ...]


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """What the parts of a trial share.

    `work` holds what is made on the way. `size` is (width, height) of the frames of the timed parts. `variants` is a
    folder with the net's weights stored in several ways, None where only what ships is to be measured, and
    `peel_minutes` how long a peel is trained for each set, 0 for none. `say` takes a line about the progress.
    """

    sets: Sequence[TrialSet]
    work: Path
    masks: int
    defects: int
    seconds: float
    seed: int
    size: tuple[int, int]
    threads: int
    variants: Path | None
    peel_minutes: float
    say: Callable[[str], None]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return (*lines, *(f"| {' | '.join(row)} |" for row in rows))


def format_db(value: float | None) -> str:
    return DASH if value is None else f"{value:.2f}"
