"""What differs from lot to lot and from part to part although every part is good.

Everything is drawn from (seed, part number) or (seed, lot number) alone, so that any part can be
rendered without the ones before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_SHIFT_AT_4K_PX = 40.0
MAX_ROTATION_DEG = 2.0
MAX_SCALE_CHANGE = 0.003

_LOT, _PART, _DEFECT, _FAMILY = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Lot:
    """Parts made together: `gains_bgr` is the camera's white balance, `shade` -1..1 the colour of the material."""

    number: int
    gains_bgr: tuple[float, float, float]
    shade: float
    week: int

    @property
    def name(self) -> str:
        """The lot as printed on the part and as the line reports it."""
        return f"L{self.number % 10_000:04d}"

    @property
    def date_code(self) -> str:
        """Year and week, four digits."""
        return f"{24 + self.week // 52}{self.week % 52 + 1:02d}"


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the part lies: shift of its centre in frame pixels, rotation counter-clockwise, scale."""

    shift_x_px: float
    shift_y_px: float
    rotation_deg: float
    scale: float


@dataclass(frozen=True, slots=True)
class Shot:
    """How this part was photographed. `blur_x_px` and `blur_y_px` are deviations of a Gaussian."""

    pose: Pose
    exposure: float
    blur_x_px: float
    blur_y_px: float
    belt_offset: float
    noise_offset: tuple[float, float]


def lot_number(part_number: int, lot_size: int) -> int:
    """The lot of a part; parts count from 1."""
    return (part_number - 1) // lot_size + 1


def draw_lot(seed: int, number: int) -> Lot:
    """The traits of a lot."""
    rng = np.random.default_rng([seed, number, _LOT])
    balance = rng.normal(0.0, 0.012, 3).clip(-0.03, 0.03)
    return Lot(
        number=number,
        gains_bgr=(1.0 + float(balance[0]), 1.0 + 0.3 * float(balance[1]), 1.0 + float(balance[2])),
        shade=float(np.clip(rng.normal(0.0, 0.5), -1, 1)),
        week=int(rng.integers(0, 104)),
    )


def draw_shot(seed: int, part_number: int, px_scale: float) -> Shot:
    """Pose and exposure of a part; `px_scale` is 1 for a frame 3840 px wide."""
    rng = np.random.default_rng([seed, part_number, _PART])
    reach = MAX_SHIFT_AT_4K_PX * px_scale
    shift = rng.normal(0.0, 0.4, 2).clip(-1, 1) * reach
    drift = 0.02 * np.sin(part_number / 37.0)
    blur = 0.55 + 0.25 * float(rng.random())
    return Shot(
        pose=Pose(
            shift_x_px=float(shift[0]),
            shift_y_px=float(shift[1]),
            rotation_deg=float(np.clip(rng.normal(0.0, 0.7), -MAX_ROTATION_DEG, MAX_ROTATION_DEG)),
            scale=1.0 + float(rng.uniform(-MAX_SCALE_CHANGE, MAX_SCALE_CHANGE)),
        ),
        exposure=1.0 + float(drift) + float(rng.normal(0.0, 0.012)),
        blur_x_px=(blur + 0.5 * float(rng.random())) * max(0.6, px_scale),
        blur_y_px=blur * max(0.6, px_scale),
        belt_offset=float(rng.random()),
        noise_offset=(float(rng.random()), float(rng.random())),
    )


def part_rng(seed: int, part_number: int) -> np.random.Generator:
    """Tolerances of a part: the same with and without a defect."""
    return np.random.default_rng([seed, part_number, _FAMILY])


def defect_rng(seed: int, part_number: int) -> np.random.Generator:
    """Everything about the defects of a part."""
    return np.random.default_rng([seed, part_number, _DEFECT])
