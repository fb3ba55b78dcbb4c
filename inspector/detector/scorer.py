"""What the pipelines ask of any detector, whatever head stands behind it."""

from __future__ import annotations

from typing import Protocol

from inspector.records import BgrImage, Scoring, Thresholds


class Scorer(Protocol):
    """A fitted detector, loaded from a recipe. Thread-safe: several frames may be scored side by side."""

    @property
    def thresholds(self) -> Thresholds:
        """Below `review`: OK; from `ng`: NG."""
        ...

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) that every frame must have, None when the recipe accepts any size."""
        ...

    def score_frame(self, pixels: BgrImage) -> Scoring:
        """Score one frame: (H, W, 3) uint8 BGR. Raises `RecipeMismatchError` for a frame of another size.

        Deterministic: the same pixels give the same scores, whatever else runs beside it.
        """
        ...
