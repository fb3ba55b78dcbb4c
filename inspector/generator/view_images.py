"""The reference images of one view: kept as they are stored, decoded when asked for, in bounded memory."""

from __future__ import annotations

import threading
from collections import OrderedDict

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.errors import ImageError, RecipeTamperedError
from inspector.images import decode_image
from inspector.records import BgrImage

CACHE_BYTES = 192_000_000
"""Five 4K references with their reductions, the most that one region uses."""


class DecodedImages:
    """Decoded images and their reductions, the least recently used forgotten first. Thread-safe."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._levels: OrderedDict[tuple[object, int], list[BgrImage]] = OrderedDict()
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def read(self, owner: ViewImages, index: int, level: int) -> BgrImage:
        """Image `index` of `owner`, reduced by 2 ** level. Read-only."""
        with self._lock:
            key = (owner, index)
            if key not in self._levels:
                self._levels[key] = [owner.decode(index)]
                self._held_bytes += self._levels[key][0].nbytes
            self._levels.move_to_end(key)
            levels = self._levels[key]
            while len(levels) <= level:
                levels.append(reduce_by_half(levels[-1]))
                self._held_bytes += levels[-1].nbytes
            wanted = levels[level]
            while self._held_bytes > self._limit_bytes and len(self._levels) > 1:
                _, forgotten = self._levels.popitem(last=False)
                self._held_bytes -= sum(image.nbytes for image in forgotten)
            return wanted


class ViewImages:
    """Good images in one pose: `sources` are JPEG bytes, or pixels where there is but one image.

    All are (width, height) `size`. `thumbnails` are the same images reduced, as JPEG or pixels too, to choose by.
    """

    def __init__(
        self,
        sources: tuple[bytes | BgrImage, ...],
        thumbnails: tuple[bytes | BgrImage, ...],
        size: tuple[int, int],
        cache: DecodedImages,
    ) -> None:
        self.size = size
        self._sources = sources
        self._thumbnails = thumbnails
        self._cache = cache
        self._lock = threading.Lock()
        self._stack: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self._sources)

    def read(self, index: int, level: int = 0) -> BgrImage:
        """(h, w, 3) uint8, reduced by 2 ** level; an odd last row or column is lost at each level. Read-only."""
        return self._cache.read(self, index, level)

    def thumbnails(self) -> NDArray[np.uint8]:
        """All images reduced to one size: (N, h, w, 3) uint8."""
        with self._lock:
            if self._stack is None:
                decoded = [_decode(source) for source in self._thumbnails]
                if len({image.shape for image in decoded}) != 1:
                    raise RecipeTamperedError("references.npz: the thumbnails of a view differ in size")
                self._stack = np.stack(decoded)
            return self._stack

    def decode(self, index: int) -> BgrImage:
        """The image without the cache. Raises `RecipeTamperedError` for one that is damaged or of another size."""
        pixels = _decode(self._sources[index])
        if (pixels.shape[1], pixels.shape[0]) != self.size:
            raise RecipeTamperedError(
                f"references.npz: an image is {pixels.shape[1]}x{pixels.shape[0]} px, its view {self.size}"
            )
        return pixels


def reduce_by_half(pixels: BgrImage) -> BgrImage:
    """Half of the size by area averaging, without an odd last row or column; at least one pixel is left."""
    height, width = max(1, pixels.shape[0] // 2), max(1, pixels.shape[1] // 2)
    even = pixels[: max(1, pixels.shape[0] // 2 * 2), : max(1, pixels.shape[1] // 2 * 2)]
    return np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _decode(source: bytes | BgrImage) -> BgrImage:
    if not isinstance(source, bytes):
        return source
    try:
        return decode_image(source)
    except ImageError as error:
        raise RecipeTamperedError(f"references.npz: {error}") from error
