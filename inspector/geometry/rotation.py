"""Where a part that may lie at any angle could lie: a few candidate poses, for the registration to try.

With a background the part's centroid is the centre and its grey values are compared ring by ring for every angle.
Without one the middle of the reference is turned in steps and correlated with the whole frame, both much reduced.
Neither decides: a part that looks alike at several angles gives several candidates.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]

ANGLES = 360
RADII = 96
MOST_CANDIDATES = 6
LEAST_TURN_BETWEEN = 8
"""Degrees between two candidates: the refinement finds its way from further than half of it."""
SEARCH_SIDE_PX = 64
SEARCH_STEPS = 72


def turn_about(angle_rad: float, centre: NDArray[np.float64], onto: NDArray[np.float64]) -> Matrix:
    """The (2, 3) matrix that turns about `centre` (x, y) and moves it onto another point."""
    linear = np.array([[np.cos(angle_rad), -np.sin(angle_rad)], [np.sin(angle_rad), np.cos(angle_rad)]])
    return np.hstack([linear, (onto - linear @ centre)[:, None]])


def candidates_of_part(grey: Grey, part: Mask, frame_grey: Grey, frame_part: Mask) -> list[Matrix]:
    """Poses in which the part of a reference may lie in a frame, the likeliest first; matrices map reference to frame.

    Grey values are (h, w) float32, the masks bool of the same sizes; both parts must be found.
    """
    centre, frame_centre = _centroid(part), _centroid(frame_part)
    radius = max(_reach(part, centre), _reach(frame_part, frame_centre))
    rings = _rings(np.where(part, grey - grey[part].mean(), 0.0), centre, radius)
    frame_rings = _rings(np.where(frame_part, frame_grey - frame_grey[frame_part].mean(), 0.0), frame_centre, radius)
    outline = _rings(part.astype(np.float32), centre, radius)
    frame_outline = _rings(frame_part.astype(np.float32), frame_centre, radius)
    likeness = _turn_likeness(rings, frame_rings) + _turn_likeness(outline, frame_outline)
    return [turn_about(angle, centre, frame_centre) for angle in _peaks(likeness)]


def candidates_of_frame(grey: Grey, frame_grey: Grey) -> list[Matrix]:
    """As `candidates_of_part`, for a part without a background: the middle of the reference is looked for."""
    factor = SEARCH_SIDE_PX / max(grey.shape)
    size = (max(8, round(grey.shape[1] * factor)), max(8, round(grey.shape[0] * factor)))
    ours, theirs = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (grey, frame_grey))
    middle = (np.array(size, np.float64) - 1.0) / 2.0
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]]
    disc = np.hypot(columns - middle[0], rows - middle[1]) <= min(size) / 2.0 - 1.0
    spectrum = np.fft.rfft2(theirs - theirs.mean())
    likeness, shifts = np.zeros(SEARCH_STEPS), []
    for step in range(SEARCH_STEPS):
        turn = turn_about(2.0 * np.pi * step / SEARCH_STEPS, middle, middle)
        turned = cv2.warpAffine(ours, turn, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        looked_for = np.where(disc, turned - turned[disc].mean(), 0.0)
        found = np.fft.irfft2(spectrum * np.conj(np.fft.rfft2(looked_for)), s=(size[1], size[0]))
        row, column = divmod(int(found.argmax()), size[0])
        likeness[step] = found[row, column] / max(float(np.sqrt((looked_for**2).sum())), 1e-9)
        shifts.append(((column + size[0] // 2) % size[0] - size[0] // 2, (row + size[1] // 2) % size[1] - size[1] // 2))
    whole = (np.array([grey.shape[1], grey.shape[0]], np.float64) - 1.0) / 2.0
    candidates = []
    for angle in _peaks(likeness):
        shift = np.array(shifts[round(angle * SEARCH_STEPS / (2.0 * np.pi)) % SEARCH_STEPS], np.float64)
        candidates.append(turn_about(angle, whole, whole + shift / factor))
    return candidates


def _centroid(part: Mask) -> NDArray[np.float64]:
    moments = cv2.moments(part.astype(np.uint8), binaryImage=True)
    area = max(moments["m00"], 1.0)
    return np.array([moments["m10"] / area, moments["m01"] / area])


def _reach(part: Mask, centre: NDArray[np.float64]) -> float:
    rows, columns = np.nonzero(part)
    return float(np.hypot(columns - centre[0], rows - centre[1]).max()) + 1.0


def _rings(values: NDArray[np.floating], centre: NDArray[np.float64], radius: float) -> Grey:
    """(ANGLES, RADII) float32: values around a centre, weighted by the area that each stands for."""
    flags = cv2.WARP_POLAR_LINEAR | cv2.INTER_LINEAR | cv2.WARP_FILL_OUTLIERS
    place = (float(centre[0]), float(centre[1]))
    rings = cv2.warpPolar(values.astype(np.float32), (RADII, ANGLES), place, radius, flags)
    weights = np.sqrt(np.arange(RADII, dtype=np.float32) + np.float32(0.5))
    return np.asarray(rings * weights[None], np.float32)


def _turn_likeness(rings: Grey, frame_rings: Grey) -> NDArray[np.float64]:
    """(ANGLES,) correlation, -1..1, of rings with those of a frame turned back by each angle."""
    spectrum = np.conj(np.fft.rfft(rings, axis=0)) * np.fft.rfft(frame_rings, axis=0)
    norm = float(np.sqrt((rings.astype(np.float64) ** 2).sum() * (frame_rings.astype(np.float64) ** 2).sum()))
    likeness = np.fft.irfft(spectrum.sum(axis=1), n=len(rings))
    return np.asarray(likeness / max(norm, 1e-9), np.float64)


def _peaks(likeness: NDArray[np.float64]) -> list[float]:
    """Angles in radians of the highest of values all around, none within `LEAST_TURN_BETWEEN` of a higher one."""
    left, count = likeness.copy(), len(likeness)
    reach = max(1, LEAST_TURN_BETWEEN * count // 360)
    found = []
    for _ in range(MOST_CANDIDATES):
        best = int(left.argmax())
        if left[best] == -np.inf:
            break
        found.append(2.0 * np.pi * best / count)
        left[np.arange(best - reach + 1, best + reach) % count] = -np.inf
    return found
