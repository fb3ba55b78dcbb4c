"""The learned twin: the classical base of each region and what the repair net adds to it.

    region → base (references in the light of the frame, or a smooth fill) → tile in the pose of the references
           → net → residual → back into the frame → blend

The net works in the pose of the references, so that their features can be cached; the base itself is made in the
frame's own pixels and is interpolated once.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.generator.feature_cache import FeatureCache, ReferenceImage
from inspector.generator.fill import fill_base
from inspector.generator.harmonic import carry_in
from inspector.generator.paste import MatchedReferences, match_references
from inspector.generator.peel import Peel, attach_peel
from inspector.generator.references import PlacedReferences
from inspector.generator.regions import (
    MaskRegion,
    blend_into,
    check_repair_input,
    choose_feather_px,
    expand_box,
    feather_alpha,
    is_grey,
    place_mask,
    split_mask,
)
from inspector.generator.repair_model import (
    FEATURE_CELL_PX,
    STRIDE_PX,
    TRUNK_REACH_PX,
    FloatImage,
    RepairModel,
    RepairTile,
)
from inspector.generator.repairer import Twin
from inspector.generator.surroundings import grow_mask, reduce_padded
from inspector.geometry.registration import Matrix, compose, invert, scaling, transform_points, warp
from inspector.records import BgrImage, BoxPx

LEAST_CONTEXT_PX = 32
MOST_CONTEXT_PX = 64
CONTEXT_SHARE = 0.25
LARGEST_TILE_PX = 2048
"""Larger regions are cut into tiles that overlap by the reach of the net, so that no seam can show."""
NATIVE_REGION_PX = 256
"""What the net adds to a larger region is computed at half its resolution, or a quarter and so on: deep inside a hole
the net has no detail to add to the base, which is always laid at full resolution."""
STILL: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


class NetRepairer:
    """The repair net. Works with references and, for surfaces, without. Thread-safe and deterministic."""

    method = "net"

    def __init__(self, model: RepairModel, cache: FeatureCache | None = None) -> None:
        """`cache` is that of another repairer with the same encoder."""
        self.model = model
        self.cache = cache if cache is not None else FeatureCache(model.encode)

    def with_peel(self, peel: Peel, recipe: str) -> NetRepairer:
        """A repairer whose trunk is bent by a peel of `recipe`; it shares everything else with this one.

        Raises `WeightsError` as `attach_peel` does.
        """
        return NetRepairer(attach_peel(self.model, peel, recipe), self.cache)

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None) -> Twin:
        """See `Repairer.repair`."""
        check_repair_input(pixels, mask, references)
        twin, changed = pixels.copy(), np.zeros(mask.shape, np.bool_)
        painters = self._start(pixels, mask, references)
        tiles = [tile for painter in painters for tile in painter.tiles]
        residuals = iter(self.model.predict(tiles))
        grey = is_grey(pixels)
        for painter in painters:
            painted = painter.paint([next(residuals) for _ in painter.tiles])
            if grey:
                painted = np.repeat(painted.mean(axis=2, keepdims=True), 3, axis=2)
            alpha = feather_alpha(place_mask(painter.region, painter.inner), painter.feather_px)
            blend_into(twin, changed, painter.inner, painted, alpha)
        return Twin(twin, changed, self.method, len(painters), peel=self.model.peel)

    def cut_tiles(
        self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None
    ) -> list[RepairTile]:
        """What the net would see to repair `mask`; raises as `repair` does. A peel learns from such tiles."""
        check_repair_input(pixels, mask, references)
        return [tile for painter in self._start(pixels, mask, references) for tile in painter.tiles]

    def _start(
        self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None
    ) -> list[_RegionPainter]:
        regions = split_mask(mask)
        return [_RegionPainter(pixels, mask, region, references, self.cache, self.model) for region in regions]


class _RegionPainter:
    """One region on its way through the net. `tiles` lie at `boxes` of the view; `inner` is what is painted."""

    def __init__(
        self,
        pixels: BgrImage,
        mask: NDArray[np.bool_],
        region: MaskRegion,
        references: PlacedReferences | None,
        cache: FeatureCache,
        model: RepairModel,
    ) -> None:
        height, width = mask.shape
        self.region = region
        self.feather_px = choose_feather_px(region)
        self.inner = expand_box(region.box_xyxy_px, self.feather_px + 1, width, height)
        self._level = choose_level(region.size_px)
        to_frame = references.to_frame if references is not None else STILL
        self._to_frame = compose(to_frame, scaling(2**self._level))
        whole = references.view_size if references is not None else (width, height)
        size = (max(STRIDE_PX, whole[0] >> self._level), max(STRIDE_PX, whole[1] >> self._level))
        self.boxes = plan_tiles(self._reach_in_view(), _whole_strides(size))
        self._surroundings = self._reach_in_frame((width, height))
        matched = match_references(pixels, mask, region, references) if references is not None else None
        self._base = (
            matched.combine(self._surroundings).pixels
            if matched is not None
            else fill_base(pixels, mask, region, self._surroundings).pixels
        )
        hole = grow_mask(mask, self._surroundings)
        if matched is not None:
            x0, y0, x1, y1 = self._surroundings
            self._base = carry_in(pixels[y0:y1, x0:x1].astype(np.float32), self._base, hole)
        base = np.clip(np.rint(self._base), 0, 255).astype(np.uint8)
        self.tiles = [self._cut_tile(pixels, base, hole, box, matched, cache, model) for box in self.boxes]

    def paint(self, residuals: list[FloatImage]) -> FloatImage:
        """Base and residuals at `inner`: (h, w, 3) float32."""
        x0, y0, x1, y1 = self.inner
        left, top = self._surroundings[:2]
        painted = self._base[y0 - top : y1 - top, x0 - left : x1 - left].copy()
        for box, residual in zip(self.boxes, residuals, strict=True):
            kept = _own_part(box, self.boxes, residual)
            to_inner = compose(np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0]]), self._tile_to_frame(box))
            painted += warp(kept, to_inner, (x1 - x0, y1 - y0), cv2.BORDER_CONSTANT, forward=True)
        return painted

    def _reach_in_view(self) -> BoxPx:
        """What the region and its context cover in the view, in its reduced pixels."""
        side = self.region.size_px >> self._level
        context = int(np.clip(side * CONTEXT_SHARE, LEAST_CONTEXT_PX, MOST_CONTEXT_PX))
        return _map_box(invert(self._to_frame), self.inner, context)

    def _reach_in_frame(self, size: tuple[int, int]) -> BoxPx:
        """What the tiles see of the frame, and `inner`."""
        boxes = [_map_box(self._to_frame, box, 1) for box in self.boxes]
        low = [min(box[axis] for box in (*boxes, self.inner)) for axis in (0, 1)]
        high = [max(box[axis + 2] for box in (*boxes, self.inner)) for axis in (0, 1)]
        return max(0, low[0]), max(0, low[1]), min(size[0], high[0]), min(size[1], high[1])

    def _tile_to_frame(self, box: BoxPx) -> Matrix:
        return compose(self._to_frame, np.array([[1.0, 0.0, box[0]], [0.0, 1.0, box[1]]]))

    def _cut_tile(
        self,
        pixels: BgrImage,
        base: BgrImage,
        hole: NDArray[np.bool_],
        box: BoxPx,
        matched: MatchedReferences | None,
        cache: FeatureCache,
        model: RepairModel,
    ) -> RepairTile:
        x0, y0, x1, y1 = self._surroundings
        size = (box[2] - box[0], box[3] - box[1])
        from_here = compose(np.array([[1.0, 0.0, -x0], [0.0, 1.0, -y0]]), self._tile_to_frame(box))
        covered = hole.view(np.uint8) * np.uint8(255)
        images: tuple[NDArray[np.uint8], ...] = (pixels[y0:y1, x0:x1], base, covered)
        if self._level:
            # Reduced by averaging first, so that nothing is skipped; a cell that touches the hole is unknown.
            from_here = compose(invert(scaling(2**self._level)), from_here)
            images = tuple(reduce_padded(image, self._level, cv2.BORDER_REPLICATE) for image in images)
        laid = [warp(image, from_here, size) for image in images[:2]]
        # What lies outside of the frame is as unknown as the hole.
        unknown = warp(images[2], from_here, size, cv2.BORDER_CONSTANT, value=255.0) > 0
        features = np.zeros(
            (model.feature_channels, size[1] // FEATURE_CELL_PX, size[0] // FEATURE_CELL_PX), np.float32
        )
        if matched is not None:
            for index, weight in zip(matched.indices, matched.weights, strict=True):
                image = ReferenceImage(*matched.references.origin(index), self._level)
                features += np.float32(weight) * cache.read(image, box)
        return RepairTile(np.asarray(laid[0], np.uint8), np.asarray(laid[1], np.uint8), unknown, features)


def choose_level(size_px: int) -> int:
    """How often a region of `size_px` is halved for the net."""
    level = 0
    while size_px >> level > NATIVE_REGION_PX:
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
