"""The reference bank of a recipe: its own good images in one common pose, and where that pose lies in a frame.

A part seen from several sides has several views, each with a pose of its own. A frame is registered to every view;
the best one is taken when it matches as well as its own good images did, and otherwise there is no reference: what
another part shows must never be painted over this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.view_images import DecodedImages, ViewImages
from inspector.geometry.detail import detail_match
from inspector.geometry.registration import (
    Matrix,
    Reference,
    compose,
    invert,
    make_reference,
    reduce_for_registration,
    register,
    scale_matrix,
    scaling,
    to_grey,
    transform_points,
    warp,
)
from inspector.records import BgrImage, BoxPx

CHOICE_SAMPLES = 1500
CUT_MARGIN_PX = 4
GAIN_RANGE = (0.4, 2.5)
THUMBNAIL_SIDE_PX = 640
THUMBNAIL_BYTES = 24_000_000


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
        """One image in the view's pose: (H, W, 3) uint8, decoded once and cached. Read-only."""
        return self._images.read(self._kept[index])

    def origin(self, index: int) -> tuple[ViewImages, int]:
        """Whose image this is and its number there: the same for the same picture, whatever else was left out."""
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
        x0, y0, x1, y1 = crop_box
        factor = 2**level
        source = self._images.read(self._kept[index], level)
        moved = self.to_frame if correction is None else compose(correction, self.to_frame)
        crop_to_frame = compose(np.array([[1.0, 0.0, x0], [0.0, 1.0, y0]]), scaling(factor))
        matrix = compose(compose(invert(scaling(factor)), invert(moved)), crop_to_frame)
        size = (-(-(x1 - x0) // factor), -(-(y1 - y0) // factor))
        part, corner = _cut_needed(source, matrix, size)
        matrix = compose(np.array([[1.0, 0.0, -corner[0]], [0.0, 1.0, -corner[1]]]), matrix)
        return np.asarray(warp(part, matrix, size, interpolation=interpolation), np.uint8)

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
        reduce = invert(scaling(self.view_size[0] / stack.shape[2]))
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
        cache: DecodedImages | None = None,
    ) -> ReferenceBank:
        """A bank of the golden image alone; `reference` is how frames are registered to it at full resolution."""
        size = (golden.shape[1], golden.shape[0])
        images = ViewImages((golden,), (golden,), size, cache or DecodedImages())
        return cls((View(reference or make_reference(golden, "affine"), images, confidence_limit),), size)

    def place(self, frame: BgrImage) -> PlacedReferences | None:
        """The references of the view that `frame` (H, W, 3) shows, None when it shows none of them."""
        found = self.locate(frame)
        return found if isinstance(found, PlacedReferences) else None

    def locate(self, frame: BgrImage) -> PlacedReferences | NotPlaced:
        """As `place`, with the reason where there is none."""
        size = (frame.shape[1], frame.shape[0])
        if size != self.frame_size:
            return NotPlaced(f"the frame is {size[0]}x{size[1]} px, the references {self.frame_size}")
        registered = [register(view.reference, frame) for view in self.views]
        number = max(range(len(registered)), key=lambda item: registered[item].confidence)
        registration, view = registered[number], self.views[number]
        confidence = registration.confidence
        if confidence < view.confidence_limit:
            return NotPlaced(f"registration confidence {confidence:.2f} < {view.confidence_limit:.2f}")
        detail = match_detail(view.reference, frame, registration.matrix)
        if detail < view.detail_limit:
            return NotPlaced(f"detail match {detail:.2f} < {view.detail_limit:.2f}")
        return PlacedReferences(view.images, registration.matrix, size, confidence, number)


def place_one(golden: BgrImage, to_frame: Matrix, frame_size: tuple[int, int], confidence: float) -> PlacedReferences:
    """One good image whose place in the frame is known already."""
    images = ViewImages((golden,), (golden,), (golden.shape[1], golden.shape[0]), DecodedImages())
    return PlacedReferences(images, to_frame, frame_size, confidence)


def match_detail(reference: Reference, frame: BgrImage, matrix: Matrix) -> float:
    """How well the fine structure of a registered frame matches, -1..1; `matrix` at full resolution."""
    small = to_grey(reduce_for_registration(frame))
    return detail_match(reference, small, scale_matrix(matrix, 1.0 / reference.scale))


def _cut_needed(source: BgrImage, matrix: Matrix, size: tuple[int, int]) -> tuple[BgrImage, tuple[int, int]]:
    """The part of `source` that a crop of `size` needs, and its corner: a warp from a small image is much faster."""
    width, height = size
    corners = np.array([[0.0, 0.0], [width, 0.0], [0.0, height], [width, height]])
    reached = transform_points(matrix, corners)
    low, high = np.floor(reached.min(axis=0)) - CUT_MARGIN_PX, np.ceil(reached.max(axis=0)) + CUT_MARGIN_PX
    limit = (source.shape[1], source.shape[0])
    if (low < 0).any() or (high > limit).any():
        # Beyond the image its mirror is laid, which must be that of the whole image.
        return source, (0, 0)
    x0, y0, x1, y1 = (int(edge) for edge in (*low, *high))
    return source[y0:y1, x0:x1], (x0, y0)


def _unexplained(ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean square of `ours` (S, C) that the best line through each of `theirs` (N, S, C) leaves: (N,)."""
    ours_free = ours - ours.mean(axis=0)
    theirs_free = theirs - theirs.mean(axis=1, keepdims=True)
    covariance = np.einsum("sc,nsc->nc", ours_free, theirs_free) / len(ours)
    variance = np.einsum("nsc,nsc->nc", theirs_free, theirs_free) / len(ours)
    slope = np.clip(covariance / np.maximum(variance, 1e-3), *GAIN_RANGE)
    own = (ours_free**2).mean(axis=0)
    return np.asarray((own - 2.0 * slope * covariance + slope**2 * variance).sum(axis=1), np.float32)
