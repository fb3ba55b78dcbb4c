"""`fit --regions FILE`: places of the golden image with thresholds of their own, as a person wrote them down.

    min_defect_mm: 0.5              # everywhere, but where a region says otherwise
    regions:
      - name: pads
        boxes: [[120, 80, 400, 160], [120, 300, 400, 380]]
        false_alarm_target: 0.01    # a share of the recipe's target, kept for this region
        min_defect_mm: 0.2
      - name: label
        polygon: [[500, 90], [700, 90], [690, 200], [505, 195]]
        sensitivity: 0.5            # a mark must be twice as strong as elsewhere

Coordinates are pixels of the golden image. JSON is YAML, so it is read too.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inspector.detector.ignore_mask import load_ignore_mask
from inspector.errors import ConfigError, FitError
from inspector.yaml_source import describe_problems, read_yaml

MOST_REGIONS = 64
ELSEWHERE = "elsewhere"
"""The name of what lies in no region."""

Labels = NDArray[np.uint8]
PointPx = tuple[int, int]
RegionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")]
MinDefectMm = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RegionEntry(_Section):
    """One named region: its place, how strictly it is judged, and which defects are too small to count."""

    name: RegionName
    boxes: tuple[tuple[int, int, int, int], ...] = ()
    polygon: tuple[PointPx, ...] = ()
    mask: Path | None = None
    false_alarm_target: float | None = Field(default=None, gt=0, lt=0.5, allow_inf_nan=False)
    sensitivity: float = Field(default=1.0, ge=0.01, le=100, allow_inf_nan=False)
    min_defect_mm: MinDefectMm | None = None

    @model_validator(mode="after")
    def _one_place_and_one_way(self) -> RegionEntry:
        if sum((bool(self.boxes), bool(self.polygon), self.mask is not None)) != 1:
            raise ValueError("a region needs exactly one of boxes, polygon and mask")
        if self.polygon and len(self.polygon) < 3:
            raise ValueError(f"a polygon needs at least 3 points, found {len(self.polygon)}")
        for x0, y0, x1, y1 in self.boxes:
            if x1 <= x0 or y1 <= y0:
                raise ValueError(f"a box is x0, y0, x1, y1 with x1 > x0 and y1 > y0, found {x0}, {y0}, {x1}, {y1}")
        if self.false_alarm_target is not None and self.sensitivity != 1.0:
            raise ValueError("a region has either false_alarm_target or sensitivity")
        if self.name == ELSEWHERE:
            raise ValueError(f"{ELSEWHERE!r} is the name of what lies in no region")
        return self


class RegionFile(_Section):
    """The whole file."""

    min_defect_mm: MinDefectMm | None = None
    regions: tuple[RegionEntry, ...] = Field(default=(), max_length=MOST_REGIONS)

    @model_validator(mode="after")
    def _names_differ(self) -> RegionFile:
        names = [entry.name for entry in self.regions]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"region {twice[0]!r} appears twice")
        if not names and self.min_defect_mm is None:
            raise ValueError("neither regions nor min_defect_mm: the file says nothing")
        return self


@dataclass(frozen=True, slots=True)
class RegionPlan:
    """A region file laid onto the golden image.

    `labels` (H, W) uint8 says where each region lies: 0 elsewhere, n for `entries[n - 1]`; later ones lie on top.
    `mm_per_px` is the size of a frame pixel, None when nobody said; then no minimum size is asked for.
    """

    labels: Labels
    entries: tuple[RegionEntry, ...]
    min_defect_mm: float | None
    mm_per_px: float | None

    @property
    def asks_for_size(self) -> bool:
        return self.min_defect_mm is not None or any(entry.min_defect_mm is not None for entry in self.entries)


def load_regions(path: Path, frame_size: tuple[int, int], mm_per_px: float | None) -> RegionPlan:
    """The regions of a file over a golden image of (width, height).

    Raises `ConfigError` that lists every problem with its line, `DatasetError` for a mask that does not fit, and
    `FitError` for a region outside the image or a minimum size without `mm_per_px`.
    """
    source = read_yaml(path, "regions")
    try:
        found = RegionFile.model_validate_json(json.dumps(source.values, default=str), strict=True)
    except ValidationError as error:
        problems = describe_problems(source, error.errors(), RegionFile.model_json_schema())
        raise ConfigError("\n".join(problems)) from error
    labels = np.zeros((frame_size[1], frame_size[0]), np.uint8)
    for number, entry in enumerate(found.regions, start=1):
        inside = _fill(entry, frame_size, path.resolve().parent)
        if not inside.any():
            raise FitError(
                f"{path}: region {entry.name!r} lies outside the golden image of {frame_size[0]}x{frame_size[1]} px"
            )
        labels[inside] = number
    plan = RegionPlan(labels, found.regions, found.min_defect_mm, mm_per_px)
    if plan.asks_for_size and mm_per_px is None:
        raise FitError(f"{path}: min_defect_mm needs to know the size of a pixel: fit with --mm-per-px")
    return plan


def reduce_labels(labels: Labels, cell_px: int) -> Labels:
    """The label at the middle of each cell of `cell_px` pixels; cells may reach beyond the lower and right edge."""
    height, width = labels.shape
    rows = np.minimum(np.arange(-(-height // cell_px)) * cell_px + cell_px // 2, height - 1)
    columns = np.minimum(np.arange(-(-width // cell_px)) * cell_px + cell_px // 2, width - 1)
    return np.asarray(labels[rows[:, None], columns[None, :]], np.uint8)


def _fill(entry: RegionEntry, frame_size: tuple[int, int], folder: Path) -> NDArray[np.bool_]:
    """(H, W) bool: where a region lies."""
    if entry.mask is not None:
        return load_ignore_mask(folder / entry.mask, frame_size)
    drawn = np.zeros((frame_size[1], frame_size[0]), np.uint8)
    for x0, y0, x1, y1 in entry.boxes:
        drawn[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)] = 1
    if entry.polygon:
        cv2.fillPoly(drawn, [np.array(entry.polygon, np.int32)], 1)
    return np.asarray(drawn > 0, np.bool_)
