"""The reference bank of a recipe: its own good images in one common pose, and where that pose lies in a frame.

A part seen from several sides has several views, each with a pose of its own. A frame is registered to every view;
the best one is taken when it matches as well as its own good images did, and otherwise there is no reference: what
another part shows must never be painted over this one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.view_images import PixelImages, ViewImages
from inspector.geometry.detail import detail_match
from inspector.geometry.registration import (
    Matrix,
    Reference,
    compose,
    fill_unknown,
    invert,
    make_reference,
    match_part,
    reduce_for_registration,
    reduce_known,
    register,
    scale_matrix,
    scaling,
    tells_enough,
    to_grey,
    transform_points,
    warp,
)
from inspector.records import BgrImage, BoxPx, Registration

CHOICE_SAMPLES = 1500
CUT_MARGIN_PX = 4
GAIN_RANGE = (0.4, 2.5)
USUAL_MARGIN = 0.25
"""So far above its limit a view's confidence is that of nearly all good images."""
CONTRADICTION = 2.0
"""The pose of the whole frame is given up where another leaves so many times less of what is known unexplained."""


@dataclass(frozen=True, slots=True)
class View:
    """One pose: how frames are registered to it and what a frame must reach to be of this part.

    `confidence_limit` is for the correlation of the registered grey values, `detail_limit` for that of their fine
    structure; -1 asks for nothing.
    """

    reference: Reference
    images: ViewImages
    confidence_limit: float
    detail_limit: float = -1.0


@dataclass(frozen=True, slots=True)
class NotPlaced:
    """Why a frame has no references: a short phrase."""

    reason: str


class PlacedReferences:
    """Good images of the view that a frame shows, and where they lie in it. Thread-safe.

    `to_frame` maps view pixels to frame pixels, (2, 3) or (3, 3); indices count the images, 0 is the golden one.
    `view` is the number of the view in its bank.
    """

    def __init__(
        self,
        images: ViewImages,
        to_frame: Matrix,
        frame_size: tuple[int, int],
        confidence: float,
        view: int = 0,
        kept: tuple[int, ...] | None = None,
    ) -> None:
        self.to_frame = to_frame
        self.frame_size = frame_size
        self.confidence = confidence
        self.view = view
        self._images = images
        self._kept = tuple(range(len(images))) if kept is None else kept

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def view_size(self) -> tuple[int, int]:
        """(width, height) of the images in the view's pose."""
        return self._images.size

    def image(self, index: int) -> BgrImage:
        """One image in the view's pose: (H, W, 3) uint8, decoded at each call."""
        return self._images.cut(self._kept[index], 0, (0, 0, *self.view_size))

    def origin(self, index: int) -> tuple[ViewImages, int]:
        """Whose image this is and its number there: the same for the same picture, whatever else was left out.

        The images' `cut` gives any box of it, in the view's pose, reduced by a power of two.
        """
        return self._images, self._kept[index]

    def images(self) -> list[BgrImage]:
        """All images in the view's pose. At 4K each takes 25 MB while the caller keeps it."""
        return [self.image(index) for index in range(len(self))]

    def without(self, left_out: Sequence[int]) -> PlacedReferences:
        """The same references but for some of them; indices are those of this object."""
        kept = tuple(item for index, item in enumerate(self._kept) if index not in set(left_out))
        return PlacedReferences(self._images, self.to_frame, self.frame_size, self.confidence, self.view, kept)

    def lay(self, index: int, crop_box: BoxPx, correction: Matrix | None = None) -> BgrImage:
        """Image `index` as it lies in a crop of the frame: (h, w, 3) uint8, interpolated once, cubically.

        `correction` moves the laid image within the frame, in frame pixels. Mirrored outside the image.
        """
        return self.lay_reduced(index, crop_box, 0, correction, cv2.INTER_CUBIC)

    def lay_reduced(
        self,
        index: int,
        crop_box: BoxPx,
        level: int,
        correction: Matrix | None = None,
        interpolation: int = cv2.INTER_LINEAR,
    ) -> BgrImage:
        """As `lay`, reduced by 2 ** level; sizes are rounded up, so the last row and column may reach over the crop."""
        (laid,) = self.lay_each((index,), crop_box, level, correction, interpolation)
        return laid

    def lay_each(
        self,
        indices: Sequence[int],
        crop_box: BoxPx,
        level: int,
        correction: Matrix | None = None,
        interpolation: int = cv2.INTER_LINEAR,
    ) -> list[BgrImage]:
        """Several images that are moved alike, each as by `lay_reduced`."""
        size, box, matrix = self._find_cut(crop_box, level, correction)
        parts = (self._images.cut(self._kept[index], level, box) for index in indices)
        return [warp_bgr(part, matrix, size, interpolation) for part in parts]

    def lay_sum(
        self,
        indices: Sequence[int],
        gains: NDArray[np.float32],
        offset: NDArray[np.float32],
        crop_box: BoxPx,
        level: int,
        correction: Matrix | None = None,
    ) -> NDArray[np.float32]:
        """The sum of gain x image, + offset, over images that are moved alike, as by `lay_reduced`: (h, w, 3) float32.

        `gains` is (K, 3), `offset` (3,), for each channel. Summed before they are moved, they are interpolated once.
        """
        size, box, matrix = self._find_cut(crop_box, level, correction)
        total = add_up((self._images.cut(self._kept[index], level, box) for index in indices), gains, offset)
        # OpenCV interpolates four channels faster than three.
        wide = warp(cv2.cvtColor(total, cv2.COLOR_BGR2BGRA), matrix, size)
        return np.asarray(cv2.cvtColor(wide, cv2.COLOR_BGRA2BGR), np.float32)

    def _find_cut(
        self, crop_box: BoxPx, level: int, correction: Matrix | None
    ) -> tuple[tuple[int, int], BoxPx, Matrix]:
        """What shows in a crop of the frame reduced by 2 ** level: its size, the box of an image, and crop -> box."""
        x0, y0, x1, y1 = crop_box
        factor = 2**level
        moved = self.to_frame if correction is None else compose(correction, self.to_frame)
        crop_to_frame = compose(np.array([[1.0, 0.0, x0], [0.0, 1.0, y0]]), scaling(factor))
        matrix = compose(compose(invert(scaling(factor)), invert(moved)), crop_to_frame)
        size = (-(-(x1 - x0) // factor), -(-(y1 - y0) // factor))
        box = _find_needed(matrix, size, (self.view_size[0] >> level, self.view_size[1] >> level))
        return size, box, compose(np.array([[1.0, 0.0, -box[0]], [0.0, 1.0, -box[1]]]), matrix)

    def nearest(
        self, crop_box: BoxPx, ring_mask: NDArray[np.bool_], target_crop: NDArray[np.generic], count: int
    ) -> tuple[int, ...]:
        """The `count` images most like the frame around a region, best first, whatever the light.

        `target_crop` is the frame's crop, (h, w, 3), at any resolution, and `ring_mask` (h, w) bool where it may be
        compared. Chosen on thumbnails by what is left of the ring after the best gain and offset for each channel.
        """
        rows, columns = np.nonzero(ring_mask)
        if len(self) <= 1 or not len(rows):
            return tuple(range(min(count, len(self))))
        step = max(1, len(rows) // CHOICE_SAMPLES)
        rows, columns = rows[::step], columns[::step]
        stack = self._images.thumbnails()
        x0, y0, x1, y1 = crop_box
        in_crop = np.stack(
            [
                (columns + 0.5) * (x1 - x0) / ring_mask.shape[1] - 0.5 + x0,
                (rows + 0.5) * (y1 - y0) / ring_mask.shape[0] - 0.5 + y0,
            ],
            axis=1,
        )
        reduce = invert(scaling(2**self._images.thumbnail_level))
        places = transform_points(compose(reduce, invert(self.to_frame)), in_crop).astype(np.float32)
        xs, ys = np.ascontiguousarray(places[None, :, 0]), np.ascontiguousarray(places[None, :, 1])
        ours = np.asarray(target_crop[rows, columns], np.float32)
        theirs = np.concatenate(
            [cv2.remap(stack[kept], xs, ys, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101) for kept in self._kept]
        )
        left = _unexplained(ours, theirs.astype(np.float32))
        return tuple(int(index) for index in np.argsort(left, kind="stable")[:count])


class ReferenceBank:
    """Good images of a recipe in the poses of its views."""

    def __init__(self, views: tuple[View, ...], frame_size: tuple[int, int]) -> None:
        self.views = views
        self.frame_size = frame_size

    def __len__(self) -> int:
        return sum(len(view.images) for view in self.views)

    @classmethod
    def of_one(
        cls,
        golden: BgrImage,
        confidence_limit: float,
        reference: Reference | None = None,
    ) -> ReferenceBank:
        """A bank of the golden image alone; `reference` is how frames are registered to it at full resolution."""
        images = PixelImages((golden,))
        return cls((View(reference or make_reference(golden, "affine"), images, confidence_limit),), images.size)

    def place(self, frame: BgrImage, mask: NDArray[np.bool_] | None = None) -> PlacedReferences | None:
        """The references of the view that `frame` (H, W, 3) shows, None when it shows none of them.

        Whether it shows one is judged beside what `mask` (H, W) bool hides: a defect must not refuse the references
        that it is repaired from, nor move them. The limits stay those of whole good images: on real good ones with up
        to 70 % of the part hidden both matches fall by 0.06 at most, and the least margin of a limit is 0.2. With more
        of it hidden than `LEAST_KNOWN` allows there is too little to tell a part by, and the whole frame is judged.
        """
        found = self.locate(frame, mask)
        return found if isinstance(found, PlacedReferences) else None

    def locate(self, frame: BgrImage, mask: NDArray[np.bool_] | None = None) -> PlacedReferences | NotPlaced:
        """As `place`, with the reason where there is none."""
        size = (frame.shape[1], frame.shape[0])
        if size != self.frame_size:
            return NotPlaced(f"the frame is {size[0]}x{size[1]} px, the references {self.frame_size}")
        small = reduce_for_registration(frame)
        known = None if mask is None else reduce_known(mask, (small.shape[1], small.shape[0]))
        registered = [register_beside(view, small, known) for view in self.views]
        number = max(range(len(registered)), key=lambda item: registered[item][0].confidence)
        (registration, detail), view = registered[number], self.views[number]
        confidence = registration.confidence
        if confidence < view.confidence_limit:
            return NotPlaced(f"registration confidence {confidence:.2f} < {view.confidence_limit:.2f}")
        if detail < view.detail_limit:
            return NotPlaced(f"detail match {detail:.2f} < {view.detail_limit:.2f}")
        to_frame = scale_matrix(registration.matrix, view.reference.scale)
        return PlacedReferences(view.images, to_frame, size, confidence, number)


def place_one(golden: BgrImage, to_frame: Matrix, frame_size: tuple[int, int], confidence: float) -> PlacedReferences:
    """One good image whose place in the frame is known already."""
    return PlacedReferences(PixelImages((golden,)), to_frame, frame_size, confidence)


def add_up(images: Iterable[BgrImage], gains: NDArray[np.float32], offset: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of gain x image, + offset, for each channel: (h, w, 3) float32 of at least one (h, w, 3) of any type."""
    total = None
    for gain, image in zip(gains, images, strict=True):
        lit = cv2.transform(image.astype(np.float32), np.concatenate([np.diag(gain), offset[:, None]], axis=1))
        total = lit if total is None else cv2.add(total, lit, dst=total)
        offset = np.zeros_like(offset)
    return np.asarray(total, np.float32)


def warp_bgr(image: BgrImage, matrix: Matrix, size: tuple[int, int], interpolation: int = cv2.INTER_LINEAR) -> BgrImage:
    """As `warp`, for (h, w, 3) uint8; mirrored outside the image."""
    # OpenCV interpolates four channels 2.5 times as fast as three, to the same bytes.
    wide = warp(cv2.cvtColor(image, cv2.COLOR_BGR2BGRA), matrix, size, interpolation=interpolation)
    return np.asarray(cv2.cvtColor(wide, cv2.COLOR_BGRA2BGR), np.uint8)


def register_beside(view: View, small: BgrImage, known: NDArray[np.bool_] | None) -> tuple[Registration, float]:
    """As `views.register_reduced`, but the matches are those of the pixels that are `known` (h, w); None means all.

    The pose of the whole frame is taken as long as what is known does not speak against it: also the hidden pixels of
    a part hold it in its place. With a pose of the rest alone twins of good parts were up to 1.6 dB worse.
    """
    at_work, grey = replace(view.reference, scale=1.0), to_grey(small)
    whole = register(at_work, small)
    if known is None or not tells_enough(at_work, whole.matrix, known):
        return whole, detail_match(at_work, grey, whole.matrix)
    found = Registration(whole.matrix, max(0.0, match_part(at_work, grey, whole.matrix, known)))
    if found.confidence < view.confidence_limit + USUAL_MARGIN:
        beside = register(at_work, fill_unknown(small, known), known)
        left, left_beside = 1.0 - found.confidence, 1.0 - beside.confidence
        if found.confidence < view.confidence_limit or left_beside * CONTRADICTION < left:
            found = beside
    return found, detail_match(at_work, grey, found.matrix, known)


def _find_needed(matrix: Matrix, size: tuple[int, int], image_size: tuple[int, int]) -> BoxPx:
    """The part of an image of (width, height) that a crop of `size` is taken from by `matrix`, and what it mirrors."""
    corners = np.array([[0.0, 0.0], [size[0], 0.0], [0.0, size[1]], [size[0], size[1]]])
    reached = transform_points(matrix, corners)
    edges: list[tuple[int, int]] = []
    for axis, limit in enumerate(image_size):
        along = [float(value) for value in reached[:, axis]]
        low = math.floor(min(along)) - CUT_MARGIN_PX
        high = math.ceil(max(along)) + CUT_MARGIN_PX
        # Beyond the image lies its mirror, for which as much is needed inside as is asked for outside.
        wanted_low = min(low, 2 * limit - high) if high > limit else low
        wanted_high = max(high, -low) if low < 0 else high
        start = min(max(wanted_low, 0), limit - 1)
        edges.append((start, min(max(wanted_high, start + 1), limit)))
    (x0, x1), (y0, y1) = edges
    return x0, y0, x1, y1


def _unexplained(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean square of `ours` (S, C) that the best line through each of `theirs` (N, S, C) leaves: (N,)."""
    ours_free = ours - ours.mean(axis=0)
    theirs_free = theirs - theirs.mean(axis=1, keepdims=True)
    covariance = np.einsum("sc,nsc->nc", ours_free, theirs_free) / len(ours)
    variance = np.einsum("nsc,nsc->nc", theirs_free, theirs_free) / len(ours)
    slope = np.clip(covariance / np.maximum(variance, 1e-3), *GAIN_RANGE)
    own = (ours_free**2).mean(axis=0)
    return np.asarray((own - 2.0 * slope * covariance + slope**2 * variance).sum(axis=1), np.float32)
