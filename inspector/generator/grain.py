"""Grain for a picture of a surface that is right but too smooth: lines run on into it, and grain is drawn anew.

The best guess of a grain is none, which looks like a smear, and to a detector, too. Half of it is drawn at random, as
strong and as fine as around the hole, and only as far as the surroundings are grainy everywhere alike.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.fill import FilledBase
from inspector.generator.kriging import FloatImage, Texture, carry_in
from inspector.generator.painting import Painting
from inspector.generator.regions import expand_box
from inspector.generator.surroundings import grow_mask
from inspector.records import BgrImage

RIM_PX = 64
"""So far around a hole its surroundings should be known."""
TREND_PX = 32.0
"""What varies more slowly is the picture's own; the rest is continued from around the hole."""
LARGEST_HOLE_PX = 320
OUTLIER_RMS = 10.0
"""Lines are far off the trend, and no rest of a defect."""
FINE_PX = 4.0
"""Grain is finer than this."""
GRAIN_SHARE = 0.5
"""Of the amplitude. All of it would cost 2 dB in the mask, half 0.6 dB."""
LEAST_EVEN, MOST_EVEN = 0.2, 0.4
"""Evenness of the surroundings from which on grain is drawn, and from which on with its whole share."""
WINDOW_PX = 9
LOCAL_PX = 16.0
LEAST_PIXELS = 64
LARGEST_PATTERN_PX = 1024
SEED = 3


def add_grain(painting: Painting, pixels: BgrImage, mask: NDArray[np.bool_]) -> Painting:
    """A painting of a frame (H, W, 3) and `mask` (H, W) as `restore_grain` gives it."""
    box = painting.place.inner
    x0, y0, x1, y1 = around = expand_box(box, RIM_PX, mask.shape[1], mask.shape[0])
    frame = pixels[y0:y1, x0:x1].astype(np.float32)
    inside = (slice(box[1] - y0, box[3] - y0), slice(box[0] - x0, box[2] - x0))
    completed = frame.copy()
    completed[inside] = painting.lay(box)
    restored = np.ascontiguousarray(restore_grain(frame, completed, grow_mask(mask, around))[inside])
    return Painting(painting.place, FilledBase(box, restored), None)


def restore_grain(frame: FloatImage, painted: FloatImage, hole: NDArray[np.bool_]) -> FloatImage:
    """`painted` (h, w, 3) 0..255 in the `hole` (h, w) with the lines and the grain around it; outside the frame.

    The same input gives the same output.
    """
    outside = (~hole)[..., None]
    completed = np.where(outside, frame, painted)
    trend = _blur(completed, TREND_PX)
    fine = completed - _blur(completed, FINE_PX)
    # Beside the hole the blur has seen what was painted.
    known = cv2.erode((~hole).view(np.uint8), np.ones((5, 5), np.uint8)).astype(np.bool_)
    share = GRAIN_SHARE * np.clip((_measure_evenness(fine, known) - LEAST_EVEN) / (MOST_EVEN - LEAST_EVEN), 0.0, 1.0)
    base = trend + np.float32(share) * _draw_grain(fine, known) if share > 0 else trend
    return np.where(outside, frame, carry_in(frame, np.asarray(base, np.float32), hole, LARGEST_HOLE_PX, OUTLIER_RMS))


def _draw_grain(fine: FloatImage, known: NDArray[np.bool_]) -> FloatImage:
    """A grain like the known one, as strong as it is nearby: (h, w, 3)."""
    strength = _local_rms(fine, known)[..., None]
    rows, columns = _choose_window(known)
    pattern = Texture.learn((fine / strength)[rows, columns], known[rows, columns]).draw(np.random.default_rng(SEED))
    height, width = known.shape
    repeats = (-(-height // pattern.shape[0]), -(-width // pattern.shape[1]), 1)
    return np.asarray(np.tile(pattern, repeats)[:height, :width] * strength, np.float32)


def _choose_window(known: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Of a large crop the corner where most is known: enough to learn from, and it bounds the memory."""
    spans = [
        [slice(0, LARGEST_PATTERN_PX), slice(max(0, length - LARGEST_PATTERN_PX), length)] for length in known.shape
    ]
    corners = [(rows, columns) for rows in spans[0] for columns in spans[1]]
    return max(corners, key=lambda corner: int(np.count_nonzero(known[corner])))


def _measure_evenness(fine: FloatImage, known: NDArray[np.bool_]) -> float:
    """How alike the fine detail of all known places is, 0..1: plain ground with an edge in it is not, a grain is."""
    energy = cv2.blur(np.square(fine).mean(axis=2) * known, (WINDOW_PX, WINDOW_PX))
    inner = cv2.erode(known.view(np.uint8), np.ones((WINDOW_PX, WINDOW_PX), np.uint8)).astype(np.bool_)
    strengths = np.sqrt(np.maximum(energy[inner], 0.0))
    if len(strengths) < LEAST_PIXELS:
        return 0.0
    low, high = np.percentile(strengths, [20, 80])
    return float(low / (high + 0.3))


def _local_rms(fine: FloatImage, known: NDArray[np.bool_]) -> FloatImage:
    """(h, w): root mean square of the known detail nearby, from far where nothing is known near."""
    energy = np.asarray(np.square(fine).mean(axis=2) * known, np.float32)
    weight = known.astype(np.float32)
    local = np.full_like(energy, energy.sum() / max(1.0, float(weight.sum())))
    for reach in (4 * LOCAL_PX, 2 * LOCAL_PX, LOCAL_PX):
        local = (_blur(energy, reach) + 0.05 * local) / (_blur(weight, reach) + 0.05)
    return np.asarray(np.sqrt(np.maximum(local, 0.01)), np.float32)


def _blur(image: FloatImage, sigma_px: float) -> FloatImage:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px, borderType=cv2.BORDER_REFLECT_101), np.float32)
