"""The learned twin: the classical base of each region and what the repair net adds to it.

    region → base (references in the light of the frame, or a smooth fill) → tile in the pose of the references
           → net → residual → back into the frame → grain, where there are no references → blend

The net works in the pose of the references, so that their features can be cached; the base itself is made in the
frame's own pixels and is interpolated once.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.feature_cache import FeatureCache, ReferenceImage
from inspector.generator.fill import fill_base
from inspector.generator.grain import add_grain
from inspector.generator.painting import (
    FINE_REGION_PX,
    Base,
    Canvas,
    LaidAhead,
    Painting,
    Place,
    carry_misfit,
    place_regions,
)
from inspector.generator.paste import MatchedReferences, match_references
from inspector.generator.peel import Peel, attach_peel
from inspector.generator.references import PlacedReferences, warp_bgr
from inspector.generator.regions import check_repair_input
from inspector.generator.repair_model import (
    FEATURE_CELL_PX,
    STRIDE_PX,
    TRUNK_REACH_PX,
    Features,
    FloatImage,
    RepairModel,
    RepairTile,
)
from inspector.generator.repairer import Twin
from inspector.generator.smooth import ReducedCrop, SmoothLayer, align_box, reduce_crop
from inspector.generator.surroundings import reduce_padded
from inspector.generator.workers import Workers
from inspector.geometry.registration import Matrix, compose, invert, scaling, transform_points, warp
from inspector.images import is_grey
from inspector.records import BgrImage, BoxPx

LEAST_CONTEXT_PX = 32
MOST_CONTEXT_PX = 64
CONTEXT_SHARE = 0.25
LARGEST_TILE_PX = 2048
"""Larger regions are cut into tiles that overlap by the reach of the net, so that no seam can show."""
REDUCED_REGION_PX = 128
"""What the net adds to a region larger than `FINE_REGION_PX` is computed at a quarter of its resolution or less, with
so many pixels at most: deep inside a hole the net has no detail to add to the base, which is always laid at full
resolution. On holes of 300 to 600 px a quarter is as good as half, to 0.01 dB, and takes a third of the time."""
STILL: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


class NetRepairer:
    """The repair net. Works with references and, for surfaces, without. Thread-safe and deterministic."""

    method = "net"

    def __init__(self, model: RepairModel, cache: FeatureCache | None = None, workers: Workers | None = None) -> None:
        """`cache` and `workers` are those of another repairer with the same encoder."""
        self.model = model
        self.cache = cache if cache is not None else FeatureCache(model.encode)
        self._workers = workers if workers is not None else Workers(model.threads)

    def with_peel(self, peel: Peel, recipe: str) -> NetRepairer:
        """A repairer whose trunk is bent by a peel of `recipe`; it shares everything else with this one.

        Raises `WeightsError` as `attach_peel` does.
        """
        return NetRepairer(attach_peel(self.model, peel, recipe), self.cache, self._workers)

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None) -> Twin:
        """See `Repairer.repair`."""
        check_repair_input(pixels, mask, references)
        places = place_regions(mask)
        canvas = self._workers.start(lambda: Canvas(pixels, places))
        # Several regions keep the workers busy by themselves.
        painters = self._start(places, pixels, mask, references, self._workers if len(places) == 1 else None)
        residuals = iter(self.model.predict([tile for painter in painters for tile in painter.tiles]))
        tiles = [[next(residuals) for _ in painter.tiles] for painter in painters]
        paintings = self._workers.each(lambda pair: pair[0].finish(pair[1]), zip(painters, tiles, strict=True))
        painted = canvas.result()
        painted.paint(paintings, self._workers)
        return Twin(painted.pixels, painted.changed, self.method, len(places), peel=self.model.peel)

    def cut_tiles(
        self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None
    ) -> list[RepairTile]:
        """What the net would see to repair `mask`; raises as `repair` does. A peel learns from such tiles."""
        check_repair_input(pixels, mask, references)
        painters = self._start(place_regions(mask), pixels, mask, references)
        return [tile for painter in painters for tile in painter.tiles]

    def _start(
        self,
        places: list[Place],
        pixels: BgrImage,
        mask: NDArray[np.bool_],
        references: PlacedReferences | None,
        ahead: Workers | None = None,
    ) -> list[_RegionPainter]:
        def start(place: Place) -> _RegionPainter:
            return _RegionPainter(place, pixels, mask, references, self.cache, self.model.feature_channels, ahead)

        return self._workers.each(start, places)


class _RegionPainter:
    """One region on its way through the net. `tiles` lie at `boxes` of the view, reduced for the net."""

    def __init__(
        self,
        place: Place,
        pixels: BgrImage,
        mask: NDArray[np.bool_],
        references: PlacedReferences | None,
        cache: FeatureCache,
        feature_channels: int,
        ahead: Workers | None,
    ) -> None:
        """With the workers `ahead` the base is laid by them from now on; without, when it is painted."""
        size = (mask.shape[1], mask.shape[0])
        self._place, self._pixels, self._mask = place, pixels, mask
        self._level = choose_level(place.region.size_px)
        self._to_frame = compose(references.to_frame if references is not None else STILL, scaling(2**self._level))
        whole = references.view_size if references is not None else size
        view_size = (max(STRIDE_PX, whole[0] >> self._level), max(STRIDE_PX, whole[1] >> self._level))
        self.boxes = plan_tiles(self._reach_in_view(), _whole_strides(view_size))
        around = self._reach_in_frame(size)
        matched = match_references(pixels, mask, place.region, references) if references is not None else None
        self._has_references = matched is not None
        self._base: Base = matched if matched is not None else fill_base(pixels, mask, around)
        if matched is not None and ahead is not None:
            self._base = LaidAhead(matched, place.blocks(), ahead)
        crop = reduce_crop(pixels, mask, around, place.level)
        self._grey = is_grey(crop.frame)
        laid = self._base.lay(around, place.level)
        self._added = carry_misfit(crop, laid)
        # Around the hole the net was trained on the base as it is.
        self._hole = SmoothLayer(crop.box, crop.level, crop.hole[..., None].astype(np.float32))
        inside = cv2.copyTo(self._added.values, crop.hole.view(np.uint8))
        corrected = np.asarray(cv2.add(laid, inside, dtype=cv2.CV_8U), np.uint8)
        self.tiles = [
            self._cut_tile(crop, corrected, box, _read_features(matched, cache, box, self._level, feature_channels))
            for box in self.boxes
        ]

    def finish(self, residuals: list[FloatImage]) -> Painting:
        """With the residuals of the tiles."""
        added = self._added.cut(self._place.inner)
        height, width = added.values.shape[:2]
        painted = np.zeros_like(added.values)
        for box, residual in zip(self.boxes, residuals, strict=True):
            kept = _own_part(box, self.boxes, residual)
            to_cells = compose(added.from_frame, self._tile_to_frame(box))
            painted += warp(kept, to_cells, (width, height), cv2.BORDER_CONSTANT, forward=True)
        if self._grey:
            # The net knows colours. A tint in the twin of a grey frame would be a defect, to a detector at least.
            painted[:] = painted.mean(axis=2, keepdims=True)
        painted *= self._hole.cut(self._place.inner).values
        painting = Painting(self._place, self._base, replace(added, values=added.values + painted))
        return painting if self._has_references else add_grain(painting, self._pixels, self._mask)

    def _reach_in_view(self) -> BoxPx:
        """What the region and its context cover in the view, in its reduced pixels."""
        side = self._place.region.size_px >> self._level
        context = int(np.clip(side * CONTEXT_SHARE, LEAST_CONTEXT_PX, MOST_CONTEXT_PX))
        return _map_box(invert(self._to_frame), self._place.inner, context)

    def _reach_in_frame(self, size: tuple[int, int]) -> BoxPx:
        """What the tiles see of the frame, and what is painted, on the lattice of the place."""
        boxes = [self._place.inner, *(_map_box(self._to_frame, box, 1) for box in self.boxes)]
        low = [max(0, min(box[axis] for box in boxes)) for axis in (0, 1)]
        high = [min(size[axis], max(box[axis + 2] for box in boxes)) for axis in (0, 1)]
        return align_box((low[0], low[1], high[0], high[1]), self._place.level, size)

    def _tile_to_frame(self, box: BoxPx) -> Matrix:
        return compose(self._to_frame, np.array([[1.0, 0.0, box[0]], [0.0, 1.0, box[1]]]))

    def _cut_tile(self, crop: ReducedCrop, base: BgrImage, box: BoxPx, features: Features) -> RepairTile:
        size = (box[2] - box[0], box[3] - box[1])
        further = self._level - crop.level
        from_crop = compose(self._added.from_frame, self._tile_to_frame(box))
        if further:
            from_crop = compose(invert(scaling(2**further)), from_crop)
        # Reduced by averaging first, so that nothing is skipped; a cell that touches the hole is unknown.
        frame, base = (reduce_padded(image, further, cv2.BORDER_REPLICATE) for image in (crop.frame, base))
        covered = reduce_padded(crop.hole.view(np.uint8) * np.uint8(255), further, cv2.BORDER_REPLICATE)
        # What lies outside of the frame is as unknown as the hole.
        unknown = warp(covered, from_crop, size, cv2.BORDER_CONSTANT, value=255.0) > 0
        return RepairTile(warp_bgr(frame, from_crop, size), warp_bgr(base, from_crop, size), unknown, features)


def _read_features(
    matched: MatchedReferences | None, cache: FeatureCache, box: BoxPx, level: int, channels: int
) -> Features:
    """The weighted mean of the features of the references at a tile; 0 without any."""
    mean = np.zeros((channels, (box[3] - box[1]) // FEATURE_CELL_PX, (box[2] - box[0]) // FEATURE_CELL_PX), np.float32)
    if matched is not None:
        for index, weight in zip(matched.indices, matched.weights, strict=True):
            image = ReferenceImage(*matched.references.origin(index), level)
            mean += np.float32(weight) * cache.read(image, box)
    return mean


def choose_level(size_px: int) -> int:
    """How often a region of `size_px` is halved for the net."""
    level = 0
    while size_px > FINE_REGION_PX and size_px >> level > REDUCED_REGION_PX:
        level += 1
    return level


def plan_tiles(wanted: BoxPx, size: tuple[int, int]) -> list[BoxPx]:
    """Boxes of whole strides that cover `wanted`, cut at `size`; several only where one would be too large.

    At least one box is returned, also where nothing of `wanted` lies inside.
    """
    spans = [_plan_span(wanted[axis], wanted[axis + 2], size[axis]) for axis in (0, 1)]
    return [(x0, y0, x1, y1) for y0, y1 in spans[1] for x0, x1 in spans[0]]


def _plan_span(low: int, high: int, limit: int) -> list[tuple[int, int]]:
    low = min(max(0, low // STRIDE_PX * STRIDE_PX), limit - STRIDE_PX)
    high = max(low + STRIDE_PX, min(limit, -(-high // STRIDE_PX) * STRIDE_PX))
    if high - low <= LARGEST_TILE_PX:
        return [(low, high)]
    step = LARGEST_TILE_PX - 2 * TRUNK_REACH_PX
    count = -(-(high - low - 2 * TRUNK_REACH_PX) // step)
    starts = [low + number * step for number in range(count)]
    return [(start, min(high, start + LARGEST_TILE_PX)) for start in starts]


def _own_part(box: BoxPx, boxes: list[BoxPx], residual: FloatImage) -> FloatImage:
    """The residual where this tile answers for it; 0 within the reach of an inner edge, where a neighbour does."""
    if len(boxes) == 1:
        return residual
    own = residual.copy()
    low = [min(item[axis] for item in boxes) for axis in (0, 1)]
    high = [max(item[axis + 2] for item in boxes) for axis in (0, 1)]
    if box[0] > low[0]:
        own[:, :TRUNK_REACH_PX] = 0.0
    if box[1] > low[1]:
        own[:TRUNK_REACH_PX] = 0.0
    if box[2] < high[0]:
        own[:, residual.shape[1] - TRUNK_REACH_PX :] = 0.0
    if box[3] < high[1]:
        own[residual.shape[0] - TRUNK_REACH_PX :] = 0.0
    return own


def _whole_strides(size: tuple[int, int]) -> tuple[int, int]:
    width, height = (-(-side // STRIDE_PX) * STRIDE_PX for side in size)
    return width, height


def _map_box(matrix: Matrix, box: BoxPx, margin: int) -> BoxPx:
    x0, y0, x1, y1 = box
    corners = transform_points(matrix, np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]], np.float64))
    low, high = np.floor(corners.min(axis=0)) - margin, np.ceil(corners.max(axis=0)) + margin
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
