"""The reference images of one view: stored as JPEG tiles, decoded where they are looked at, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.errors import ImageError, RecipeTamperedError
from inspector.images import ImageLimits, decode_image
from inspector.records import BgrImage, BoxPx

TILE_PX = 512
CACHE_BYTES = 96_000_000
"""122 tiles: four regions of 512 px, or one of a quarter of a 4K frame, with five references each."""
THUMBNAIL_BYTES = 24_000_000
SMALLEST_THUMBNAIL_PX = 64
LIMITS = ImageLimits(max_bytes=64 * 1024 * 1024, max_pixels=40_000_000)


class ViewImages(Protocol):
    """Good images of one size in one pose. Thread-safe."""

    size: tuple[int, int]
    """(width, height)."""
    thumbnail_level: int
    """Thumbnails are reduced by 2 ** this."""

    def __len__(self) -> int: ...

    def cut(self, index: int, level: int, box: BoxPx) -> BgrImage:
        """A box of image `index` reduced by 2 ** level, in pixels of that level and inside it. Read-only."""
        ...

    def thumbnails(self) -> NDArray[np.uint8]:
        """All images reduced: (N, h, w, 3) uint8. Read-only."""
        ...


class PixelImages:
    """`ViewImages` that are in memory as they are: (H, W, 3) uint8, all of one size."""

    def __init__(self, images: tuple[BgrImage, ...]) -> None:
        self.size = (images[0].shape[1], images[0].shape[0])
        self.thumbnail_level = choose_thumbnail_level(self.size, len(images))
        self._images = images
        self._thumbnails = np.stack([reduce_by(image, self.thumbnail_level) for image in images])

    def __len__(self) -> int:
        return len(self._images)

    def cut(self, index: int, level: int, box: BoxPx) -> BgrImage:
        """See `ViewImages.cut`."""
        if level >= self.thumbnail_level:
            return _cut_reduced(self._thumbnails[index], level - self.thumbnail_level, box)
        return _cut_reduced(self._images[index], level, box)

    def thumbnails(self) -> NDArray[np.uint8]:
        """See `ViewImages.thumbnails`."""
        return self._thumbnails


class DecodedTiles:
    """Decoded tiles, also reduced, the least recently used forgotten first. Thread-safe."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._tiles: OrderedDict[tuple[object, int, int, int], BgrImage] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def read(self, owner: StoredImages, index: int, tile: int, level: int = 0) -> BgrImage:
        """Tile number `tile` of image `index` of `owner`, reduced by 2 ** level. Read-only."""
        key = (owner, index, tile, level)
        with self._lock:
            if key in self._tiles:
                self._tiles.move_to_end(key)
                return self._tiles[key]
        # Others decode meanwhile: what two threads miss at once is decoded twice, with the same result.
        decoded = reduce_by(self.read(owner, index, tile), level) if level else owner.decode_tile(index, tile)
        with self._lock:
            if key not in self._tiles:
                self._tiles[key] = decoded
                self._held_bytes += decoded.nbytes
            while self._held_bytes > self._limit_bytes and len(self._tiles) > 1:
                _, forgotten = self._tiles.popitem(last=False)
                self._held_bytes -= forgotten.nbytes
        return decoded


class StoredImages:
    """`ViewImages` as JPEG tiles of `TILE_PX`, row by row, and JPEG thumbnails."""

    def __init__(
        self,
        tiles: tuple[tuple[bytes, ...], ...],
        thumbnails: tuple[bytes, ...],
        size: tuple[int, int],
        cache: DecodedTiles,
    ) -> None:
        self.size = size
        self.thumbnail_level = choose_thumbnail_level(size, len(tiles))
        self._tiles = tiles
        self._encoded_thumbnails = thumbnails
        self._cache = cache
        self._lock = threading.Lock()
        self._thumbnails: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self._tiles)

    def cut(self, index: int, level: int, box: BoxPx) -> BgrImage:
        """See `ViewImages.cut`. Raises `RecipeTamperedError` for an image that is damaged or of another size."""
        if level >= self.thumbnail_level:
            return _cut_reduced(self.thumbnails()[index], level - self.thumbnail_level, box)
        # A tile reduced by itself is that part of the reduced image: its corner is on multiples of 2 ** level.
        side, columns = TILE_PX >> level, -(-self.size[0] // TILE_PX)
        found = np.empty((box[3] - box[1], box[2] - box[0], 3), np.uint8)
        for row in range(box[1] // side, -(-box[3] // side)):
            top, bottom = max(row * side, box[1]), min((row + 1) * side, box[3])
            for column in range(box[0] // side, -(-box[2] // side)):
                left, right = max(column * side, box[0]), min((column + 1) * side, box[2])
                tile = self._cache.read(self, index, row * columns + column, level)
                part = tile[top - row * side : bottom - row * side, left - column * side : right - column * side]
                found[top - box[1] : bottom - box[1], left - box[0] : right - box[0]] = part
        return found

    def thumbnails(self) -> NDArray[np.uint8]:
        """See `ViewImages.thumbnails`; decoded once and kept."""
        with self._lock:
            if self._thumbnails is None:
                size = tuple(max(1, side >> self.thumbnail_level) for side in self.size)
                self._thumbnails = np.stack([_decode(item, (size[0], size[1])) for item in self._encoded_thumbnails])
            return self._thumbnails

    def decode_tile(self, index: int, tile: int) -> BgrImage:
        """One tile without the cache."""
        x0, y0, x1, y1 = tile_boxes(self.size)[tile]
        return _decode(self._tiles[index][tile], (x1 - x0, y1 - y0))


def tile_boxes(size: tuple[int, int]) -> list[BoxPx]:
    """The tiles of an image of (width, height), row by row; those at the right and lower edges are smaller."""
    width, height = size
    return [
        (x, y, min(x + TILE_PX, width), min(y + TILE_PX, height))
        for y in range(0, height, TILE_PX)
        for x in range(0, width, TILE_PX)
    ]


def choose_thumbnail_level(size: tuple[int, int], count: int) -> int:
    """As large as helps to choose by, while all thumbnails fit into memory; at least half of the size where it can."""
    level = 1 if min(size) >= 2 * SMALLEST_THUMBNAIL_PX else 0
    while 3 * count * (size[0] >> level) * (size[1] >> level) > THUMBNAIL_BYTES:
        level += 1
    return level


def reduce_by(pixels: BgrImage, level: int) -> BgrImage:
    """Reduced by 2 ** level by area averaging; an odd last row or column is lost at each halving."""
    for _ in range(level):
        height, width = pixels.shape[0] // 2 * 2 or 1, pixels.shape[1] // 2 * 2 or 1
        size = (max(1, width // 2), max(1, height // 2))
        pixels = np.asarray(cv2.resize(pixels[:height, :width], size, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels


def _cut_reduced(pixels: BgrImage, level: int, box: BoxPx) -> BgrImage:
    x0, y0, x1, y1 = _box_at_full_size(box, level)
    return reduce_by(pixels[y0:y1, x0:x1], level)


def _box_at_full_size(box: BoxPx, level: int) -> BoxPx:
    x0, y0, x1, y1 = (edge << level for edge in box)
    return x0, y0, x1, y1


def _decode(encoded: bytes, size: tuple[int, int]) -> BgrImage:
    try:
        return decode_image(encoded, LIMITS, expected_size=size)
    except ImageError as error:
        raise RecipeTamperedError(f"references.npz: {error}") from error
