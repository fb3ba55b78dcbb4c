"""Where the part lies: find it, and map the reference onto a frame.

Everything here works on small grey images (long side `WORK_SIDE_PX`). Matrices are (2, 3) float64, or (3, 3) for a part
seen in perspective, map reference pixels to frame pixels and are returned at full resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.geometry.rotation import candidates_of_frame, candidates_of_part
from inspector.records import BgrImage, Registration

Matrix: TypeAlias = NDArray[np.float64]
Grey: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]

WORK_SIDE_PX = 400
REFINEMENTS = ((100, 50), (WORK_SIDE_PX, 12))
"""Long side in px and iterations of each ECC stage."""
MOST_REFINED = 4
"""At any angle: so many starts are refined at the first of them before the best is chosen."""
ECC_EPSILON = 1e-4
RIM_SHARE = 0.02
MIN_PART_SHARE = 0.01
MAX_PART_SHARE = 0.9
MAX_SCALE_CHANGE = 1.25
MAX_PERSPECTIVE = 0.3
"""How much nearer one end of the frame may be to the camera than the other, as a share of the distance."""
LEAST_KNOWN = 0.3
"""Share of the part that a mask must leave, or there is too little to tell the part by."""
KNOWN_GUARD_PX = 3
FILL_CELL_PX = 4
FILL_SIGMA_CELLS = 3.0
FILL_FAR = 1e-3
"""What all of the frame counts in the colour of a hole: only where nothing near is known."""
WHOLLY_KNOWN = 0.999
MODELS = {
    "shift": cv2.MOTION_TRANSLATION,
    "rigid": cv2.MOTION_EUCLIDEAN,
    "affine": cv2.MOTION_AFFINE,
    "perspective": cv2.MOTION_HOMOGRAPHY,
}


@dataclass(frozen=True, slots=True)
class Reference:
    """What frames are registered to.

    `grey` is the reference reduced to `WORK_SIDE_PX`, (h, w) float32 0..255. `part` is (h, w) bool: the
    part with a small rim, where the match is judged (all True when no background was found). `scale` is
    reduced pixels per pixel of the frame as it is handed to `register`. `model` is a key of `MODELS`.
    `outline` is the part without its rim. With `any_angle` the part may lie at any angle in a frame.
    """

    grey: Grey
    part: Mask
    outline: Mask
    scale: float
    model: str = "rigid"
    any_angle: bool = False

    @property
    def has_background(self) -> bool:
        return not bool(self.part.all())


def work_scale(width_px: int, height_px: int) -> float:
    """Reduced pixels per frame pixel for registration; never enlarges."""
    return min(1.0, WORK_SIDE_PX / max(width_px, height_px))


def reduce_for_registration(pixels: BgrImage) -> BgrImage:
    """A frame reduced to `WORK_SIDE_PX` by area averaging."""
    scale = work_scale(pixels.shape[1], pixels.shape[0])
    if scale >= 1.0:
        return pixels
    size = (max(8, round(pixels.shape[1] * scale)), max(8, round(pixels.shape[0] * scale)))
    while min(pixels.shape[0] // size[1], pixels.shape[1] // size[0]) >= 4:
        # Halving is vectorised in OpenCV, other factors are not.
        even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
        pixels = np.asarray(cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def to_grey(small: BgrImage) -> Grey:
    """(h, w) float32 grey, 0..255, lightly blurred so that gradients are smooth."""
    grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), 1.0), np.float32)


def find_part(small: BgrImage) -> Mask:
    """(h, w) bool: what differs from the colour of the frame's rim.

    The rim must be of one colour for most of its length; otherwise the part fills the frame and the
    mask is all True. A fixed background left in the mask outvotes the part in registration.
    """
    lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB).astype(np.float32)
    blurred = np.asarray(cv2.GaussianBlur(lab, (0, 0), 1.5), np.float32)
    distance = np.sqrt(((blurred - _fit_background(blurred)) ** 2).sum(axis=2))
    rim = np.concatenate(
        [distance[:4].ravel(), distance[-4:].ravel(), distance[:, :4].ravel(), distance[:, -4:].ravel()]
    )
    spread = float(np.percentile(rim, 75))
    limit = max(12.0, 4.0 * spread)
    mask = (distance > limit).astype(np.uint8)
    size = max(3, round(max(small.shape[:2]) / 80) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    mask = cv2.morphologyEx(cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel[::2, ::2]), cv2.MORPH_CLOSE, kernel)
    share = float(mask.mean())
    if not MIN_PART_SHARE <= share <= MAX_PART_SHARE or spread > 20.0:
        return np.ones(mask.shape, np.bool_)
    return np.asarray(mask > 0, np.bool_)


def _fit_background(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """A plane per channel through the rim, refitted without the rim pixels that do not belong to it."""
    height, width = lab.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    depth = max(2, min(height, width) // 25)
    rim = (rows < depth) | (rows >= height - depth) | (columns < depth) | (columns >= width - depth)
    design = np.stack([np.ones(rim.sum()), rows[rim] / height - 0.5, columns[rim] / width - 0.5], axis=1)
    values = lab[rim].astype(np.float64)
    keep = np.ones(len(values), np.bool_)
    keep &= np.abs(values - np.median(values, axis=0)).sum(axis=1) < 60.0
    if keep.sum() < 16:
        keep[:] = True
    coefficients = np.linalg.lstsq(design[keep], values[keep], rcond=None)[0]
    everywhere = np.stack([np.ones(lab.shape[:2]), rows / height - 0.5, columns / width - 0.5], axis=2)
    return np.asarray(everywhere @ coefficients, np.float32)


def make_reference(pixels: BgrImage, model: str = "rigid", *, any_angle: bool = False) -> Reference:
    """Prepare a reference frame: (H, W, 3) uint8 BGR at full resolution."""
    small = reduce_for_registration(pixels)
    outline = find_part(small)
    rim = max(3, round(max(outline.shape) * RIM_SHARE)) * 2 + 1
    part = cv2.dilate(outline.astype(np.uint8), np.ones((rim, rim), np.uint8)) > 0
    scale = small.shape[1] / pixels.shape[1]
    return Reference(to_grey(small), np.asarray(part, np.bool_), outline, scale, model, any_angle)


def register(reference: Reference, pixels: BgrImage, known: Mask | None = None) -> Registration:
    """Register a frame of the reference's size: coarse start, then ECC (Evangelidis and Psarakis 2008).

    The start is the best of: no motion, phase correlation, and the two parts laid on each other by their
    centroid and principal axis; at any angle, candidates all around the circle, refined a little before the best
    is chosen, so that a part which looks nearly alike at several angles is told by its detail. Never raises: what
    cannot be matched has confidence near 0. The confidence is the correlation of the part's grey values after
    registration.

    `known`, (h, w) bool at the frame's reduced size, is where the frame is to be believed. What it leaves out may
    suggest a start (`fill_unknown` takes that from it too), but has no say in which one is taken, in the refinement
    and in the confidence. A pose that leaves less than `LEAST_KNOWN` of the part to see has confidence 0.
    """
    small = reduce_for_registration(pixels)
    grey = to_grey(small)
    starts = [np.eye(2, 3), _phase_shift(reference, grey)]
    if reference.any_angle:
        starts = _any_angle_starts(reference, small, grey, known)
    elif reference.has_background:
        starts.extend(_moment_starts(reference, small))
    scored = [(match_part(reference, grey, start, known), start) for start in starts]
    best, matrix = max(scored, key=lambda item: item[0])
    first = _first_model(reference)
    for side, iterations in REFINEMENTS[1:] if reference.any_angle else REFINEMENTS:
        refined = _refine(reference, grey, matrix, side, iterations, first, known)
        if refined is not None:
            match = match_part(reference, grey, refined, known)
            if match >= best:
                best, matrix = match, refined
    if reference.model == "perspective":
        refined = _refine(reference, grey, matrix, *REFINEMENTS[-1], "perspective", known)
        if refined is not None and (match := match_part(reference, grey, refined, known)) > best:
            best, matrix = match, refined
    return Registration(scale_matrix(matrix, reference.scale), float(np.clip(best, 0.0, 1.0)))


def reduce_known(masked: Mask, size: tuple[int, int]) -> Mask:
    """What is known of a frame (H, W) reduced to `size` (width, height) when `masked` is not: a guard is left out too.

    The guard covers what the blur of `to_grey` carries out of the mask.
    """
    touched = masked.view(np.uint8) * np.uint8(255)
    while min(touched.shape[0] // size[1], touched.shape[1] // size[0]) >= 4:
        odd = (0, touched.shape[0] % 2, 0, touched.shape[1] % 2)
        even = cv2.copyMakeBorder(touched, *odd, cv2.BORDER_REPLICATE) if any(odd) else touched
        halved = cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        touched = np.asarray(cv2.threshold(halved, 0, 255, cv2.THRESH_BINARY)[1], np.uint8)
    guard = np.ones((2 * KNOWN_GUARD_PX + 1, 2 * KNOWN_GUARD_PX + 1), np.uint8)
    return np.asarray(cv2.dilate(cv2.resize(touched, size, interpolation=cv2.INTER_AREA), guard) == 0, np.bool_)


def lay_known(known: Mask, matrix: Matrix, size: tuple[int, int]) -> Mask:
    """What is known of a frame, laid on the reference; outside the frame it is what it is at its edge."""
    laid = warp(known.view(np.uint8), matrix, size, cv2.BORDER_REPLICATE, interpolation=cv2.INTER_NEAREST)
    return np.asarray(laid > 0, np.bool_)


def tells_enough(reference: Reference, matrix: Matrix, known: Mask) -> bool:
    """Whether at least `LEAST_KNOWN` of the part is known where it lies in a frame."""
    return _known_part(reference, matrix, known) is not None


def _known_part(reference: Reference, matrix: Matrix, known: Mask) -> Mask | None:
    """What is known of the part in a pose, None where it is too little."""
    seen = reference.part & lay_known(known, matrix, (known.shape[1], known.shape[0]))
    return seen if np.count_nonzero(seen) >= LEAST_KNOWN * np.count_nonzero(reference.part) else None


def fill_unknown(small: BgrImage, known: Mask) -> BgrImage:
    """A reduced frame with what is unknown closed over by the colour around it: nothing of it is left to be matched."""
    weight = known.astype(np.float32)[..., None]
    planes = np.concatenate([small * weight, weight], axis=2)
    size = (max(1, small.shape[1] // FILL_CELL_PX), max(1, small.shape[0] // FILL_CELL_PX))
    coarse = cv2.resize(planes, size, interpolation=cv2.INTER_AREA)
    around = cv2.GaussianBlur(coarse, (0, 0), FILL_SIGMA_CELLS) + np.float32(FILL_FAR) * coarse.mean(axis=(0, 1))
    around = cv2.resize(around, (small.shape[1], small.shape[0]), interpolation=cv2.INTER_LINEAR)
    filled = np.rint(around[..., :3] / np.maximum(around[..., 3:], np.float32(1e-6)))
    return np.where(known[..., None], small, np.clip(filled, 0, 255)).astype(np.uint8)


def scaling(factor: float) -> Matrix:
    """The matrix from an image reduced by `factor` to the full one, pixel centres kept."""
    return np.array([[factor, 0.0, factor / 2 - 0.5], [0.0, factor, factor / 2 - 0.5]])


def scale_matrix(matrix: Matrix, scale: float) -> Matrix:
    """A matrix estimated at `scale` (reduced px per px), as it is at full resolution (pixel centres kept)."""
    up = scaling(1.0 / scale)
    return compose(compose(up, matrix), invert(up))


def compose(outer: Matrix, inner: Matrix) -> Matrix:
    """The matrix that does `inner` first and `outer` after it: (2, 3), or (3, 3) when one of them is."""
    return _shorten(_square(outer) @ _square(inner))


def invert(matrix: Matrix) -> Matrix:
    """Frame to reference for a matrix that maps reference to frame."""
    return _shorten(np.asarray(np.linalg.inv(_square(matrix)), np.float64))


def transform_points(matrix: Matrix, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) points x, y mapped by a matrix."""
    mapped = points @ matrix[:, :2].T + matrix[:, 2]
    return np.asarray(mapped[:, :2] / mapped[:, 2:] if len(matrix) == 3 else mapped, np.float64)


def warp(
    image: NDArray[Any],
    matrix: Matrix,
    size: tuple[int, int],
    border: int = cv2.BORDER_REFLECT_101,
    *,
    forward: bool = False,
    value: float = 0.0,
    interpolation: int = cv2.INTER_LINEAR,
) -> NDArray[Any]:
    """An image of (width, height) whose pixel p is taken from matrix(p) of `image`, or with `forward` the other way."""
    flags = interpolation if forward else interpolation | cv2.WARP_INVERSE_MAP
    change = cv2.warpPerspective if len(matrix) == 3 else cv2.warpAffine
    return np.asarray(change(image, matrix, size, flags=flags, borderMode=border, borderValue=value))


def warp_to_reference(pixels: BgrImage, matrix: Matrix, size: tuple[int, int]) -> BgrImage:
    """The frame as it would look in the reference's pose; `size` is (width, height). Mirrored outside the frame."""
    return np.asarray(warp(pixels, matrix, size), np.uint8)


def warp_to_frame(pixels: BgrImage, matrix: Matrix, size: tuple[int, int]) -> BgrImage:
    """The reference laid onto a frame of (width, height). Mirrored outside the reference."""
    return np.asarray(warp(pixels, matrix, size, forward=True), np.uint8)


def _square(matrix: Matrix) -> Matrix:
    if len(matrix) == 3:
        return matrix
    square = np.eye(3)
    square[:2] = matrix
    return square


def _shorten(matrix: Matrix) -> Matrix:
    """(2, 3) where nothing is in perspective."""
    scaled = matrix / matrix[2, 2]
    return np.asarray(scaled[:2] if not scaled[2, :2].any() else scaled, np.float64)


def _phase_shift(reference: Reference, grey: Grey) -> Matrix:
    size = (grey.shape[1] // 2, grey.shape[0] // 2)
    ours, theirs = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (reference.grey, grey))
    window = cv2.createHanningWindow(size, cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(ours, theirs, window)
    return np.array([[1.0, 0.0, 2.0 * dx], [0.0, 1.0, 2.0 * dy]])


def _moment_starts(reference: Reference, small: BgrImage) -> list[Matrix]:
    """Centroid and principal axis laid on each other, with and without the rotation."""
    frame_part = find_part(_halved(small))
    if frame_part.all():
        return []
    centre, angle = _centre_and_angle(reference.outline)
    frame_centre, frame_angle = _centre_and_angle(frame_part)
    frame_centre = frame_centre * 2.0 + 0.5
    turn = (frame_angle - angle + np.pi / 2) % np.pi - np.pi / 2
    starts = []
    for rotation in (0.0, turn):
        linear = np.array([[np.cos(rotation), -np.sin(rotation)], [np.sin(rotation), np.cos(rotation)]])
        starts.append(np.hstack([linear, (frame_centre - linear @ centre)[:, None]]))
    return starts


def _any_angle_starts(reference: Reference, small: BgrImage, grey: Grey, known: Mask | None) -> list[Matrix]:
    """The likeliest poses all around the circle, as they were guessed and coarsely refined."""
    frame_part = find_part(_halved(small)) if reference.has_background else None
    if frame_part is not None and not frame_part.all():
        size = (grey.shape[1], grey.shape[0])
        whole = cv2.resize(frame_part.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        found = candidates_of_part(reference.grey, reference.outline, grey, np.asarray(whole, np.bool_))
    else:
        found = candidates_of_frame(reference.grey, grey)
    likeliest = sorted(found, key=lambda start: match_part(reference, grey, start, known), reverse=True)[:MOST_REFINED]
    first = _first_model(reference)
    refined = (_refine(reference, grey, start, *REFINEMENTS[0], first, known) for start in likeliest)
    return [*likeliest, *(matrix for matrix in refined if matrix is not None)]


def _first_model(reference: Reference) -> str:
    """Perspective is estimated last, from a pose that is nearly right."""
    return "affine" if reference.model == "perspective" else reference.model


def _halved(small: BgrImage) -> BgrImage:
    size = (small.shape[1] // 2, small.shape[0] // 2)
    return np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), np.uint8)


def _centre_and_angle(mask: Mask) -> tuple[NDArray[np.float64], float]:
    moments = cv2.moments(mask.astype(np.uint8), binaryImage=True)
    area = max(moments["m00"], 1.0)
    angle = 0.5 * np.arctan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"])
    return np.array([moments["m10"] / area, moments["m01"] / area]), float(angle)


def _refine(
    reference: Reference, grey: Grey, start: Matrix, side: int, iterations: int, model: str, known: Mask | None = None
) -> Matrix | None:
    """ECC at a long side of `side` px on what is known of the part; None when it fails or leaves the plausible.

    The frame is first laid on the reference by `start`: then one crop and one mask fit both images.
    """
    factor = min(1.0, side / max(grey.shape))
    size = (max(8, round(grey.shape[1] * factor)), max(8, round(grey.shape[0] * factor)))
    ours, theirs = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (reference.grey, grey))
    mask = cv2.resize(reference.part.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    x, y, width, height = cv2.boundingRect(mask)
    crop = np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
    laid_by = compose(scale_matrix(start, 1.0 / factor), crop)
    laid = warp(theirs, laid_by, (width, height), cv2.BORDER_REPLICATE)
    window = np.s_[y : y + height, x : x + width]
    if known is not None:
        share = cv2.resize(known.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        mask[window][~lay_known(np.asarray(share > WHOLLY_KNOWN), laid_by, (width, height))] = 0
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, ECC_EPSILON)
    still: NDArray[np.float32] = np.eye(3 if model == "perspective" else 2, 3, dtype=np.float32)
    try:
        _, found = cv2.findTransformECC(
            ours[window], laid, still, MODELS[model], criteria, np.ascontiguousarray(mask[window]), 1
        )
    except cv2.error:
        return None
    matrix = scale_matrix(compose(compose(laid_by, np.asarray(found, np.float64)), invert(crop)), factor)
    return matrix if _is_plausible(matrix, grey) else None


def _is_plausible(matrix: Matrix, grey: Grey) -> bool:
    """Whether a part could look so: not much larger or smaller, and hardly tilted."""
    if not np.isfinite(matrix).all():
        return False
    middle = np.array([grey.shape[1] / 2, grey.shape[0] / 2])
    ends = transform_points(matrix, np.array([middle, middle + np.array([1.0, 0.0]), middle + np.array([0.0, 1.0])]))
    stretch = np.linalg.svd((ends[1:] - ends[0]).T, compute_uv=False)
    tilt = float(np.abs(matrix[2, :2] * (grey.shape[1], grey.shape[0])).sum()) if len(matrix) == 3 else 0.0
    within = stretch[0] <= MAX_SCALE_CHANGE and stretch[1] >= 1 / MAX_SCALE_CHANGE
    return bool(within and tilt <= MAX_PERSPECTIVE)


def match_part(reference: Reference, grey: Grey, matrix: Matrix, known: Mask | None = None) -> float:
    """Correlation, -1..1, of the reference's part with a frame laid on it, both at the reference's reduced size.

    Pixels outside the frame are left out, and those that are not `known` (h, w); 0 where too little is left.
    """
    size = (grey.shape[1], grey.shape[0])
    laid = warp(grey, matrix, size, cv2.BORDER_CONSTANT, value=-1.0)
    part = reference.part if known is None else _known_part(reference, matrix, known)
    if part is None:
        return 0.0
    valid = part & (laid >= 0.0)
    if valid.sum() < 0.5 * part.sum():
        return 0.0
    ours, theirs = reference.grey[valid], np.asarray(laid, np.float32)[valid]
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    norm = float(np.sqrt((ours @ ours) * (theirs @ theirs)))
    return float(ours @ theirs) / norm if norm > 1e-6 * len(ours) else 0.0
