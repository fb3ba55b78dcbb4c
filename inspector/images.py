"""Decoding images that strangers send: sizes bounded, formats named, nothing guessed.

The header is read before a pixel is decoded, so that a decompression bomb costs nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from inspector.errors import (
    ImageSizeError,
    ImageTooLargeError,
    ImageTruncatedError,
    ImageUnsupportedError,
    ImageVanishedError,
)
from inspector.records import BgrImage

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
}
FOREIGN_MAGIC = {
    b"GIF8": "GIF",
    b"\0\0\1\0": "ICO",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"%PDF": "PDF",
    b"PK\3\4": "ZIP",
}
"""First bytes of what is a complete file and yet no image that an inspection camera should send."""
SPARSE_PX = 16
"""One pixel in so many rows and columns shows at once that a frame has colours."""


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is accepted from a camera. The defaults admit 8K in 16 bits."""

    max_bytes: int = 256 * 1024 * 1024
    max_pixels: int = 40_000_000


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the file says about itself before any pixel is decoded."""

    width_px: int
    height_px: int
    media_type: str


def sha256_hex(content: bytes) -> str:
    """Lower-case hex SHA-256."""
    return hashlib.sha256(content).hexdigest()


def sha256_pixels(pixels: NDArray[np.generic]) -> str:
    """Lower-case hex SHA-256 over the rows of an array, as they lie in memory."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def read_image_bytes(path: Path, limits: ImageLimits = ImageLimits()) -> bytes:
    """The bytes of an image file.

    Raises `ImageVanishedError` (gone, or not readable), `ImageTooLargeError` (without reading it),
    `ImageTruncatedError` (empty) or `ImageUnsupportedError` (a folder, a device, a pipe).
    """
    try:
        # O_NONBLOCK: a named pipe that somebody left in the folder must not make us wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            content = _read_regular_file(descriptor, path.name, limits)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise ImageVanishedError(f"{path.name}: removed while it was being read") from error
    except OSError as error:
        raise ImageVanishedError(f"{path.name}: cannot be read: {error.strerror}") from error
    if not content:
        raise ImageTruncatedError(f"{path.name}: zero bytes")
    return content


def _read_regular_file(descriptor: int, name: str, limits: ImageLimits) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise ImageUnsupportedError(f"{name}: not a regular file")
    if status.st_size > limits.max_bytes:
        raise ImageTooLargeError(f"{name}: {status.st_size} bytes, more than the limit of {limits.max_bytes}")
    with os.fdopen(descriptor, "rb", closefd=False) as stream:
        return stream.read(limits.max_bytes + 1)


def read_header(encoded: bytes, limits: ImageLimits = ImageLimits()) -> ImageHeader:
    """Check format, size, colour space and frame count without decoding; raise the fitting `ImageError`."""
    if not encoded:
        raise ImageTruncatedError("zero bytes")
    if len(encoded) > limits.max_bytes:
        raise ImageTooLargeError(f"{len(encoded)} bytes, more than the limit of {limits.max_bytes}")
    try:
        with warnings.catch_warnings():
            # Pillow warns of what the checks here and after it turn into errors (bombs, cut-off tags).
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            warnings.simplefilter("ignore", UserWarning)
            with Image.open(io.BytesIO(encoded), formats=tuple(MEDIA_TYPES)) as image:
                return _checked_header(image, limits)
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"more pixels than the limit of {limits.max_pixels}: {error}") from error
    except UnidentifiedImageError as error:
        raise _explain_unidentified(encoded) from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageTruncatedError(f"not a complete {'/'.join(MEDIA_TYPES)} image: {error}") from error


def check_complete(encoded: bytes, limits: ImageLimits = ImageLimits()) -> ImageHeader:
    """Whether the last byte of the image has arrived, as cheaply as its format allows; raises like `decode_image`.

    JPEG, PNG and WebP say where they end. BMP and TIFF do not, so they are decoded.
    """
    header = read_header(encoded, limits)
    if header.media_type in ("image/bmp", "image/tiff"):
        decode_image(encoded, limits)
    else:
        _require_end_marker(encoded, header.media_type)
    return header


def decode_image(
    encoded: bytes,
    limits: ImageLimits = ImageLimits(),
    *,
    expected_size: tuple[int, int] | None = None,
    bit_depth: int = 16,
) -> BgrImage:
    """Decode to (H, W, 3) uint8 BGR, in the orientation of the stored pixels (EXIF rotation is not applied).

    Grey is replicated to three channels; alpha is dropped; 16-bit samples are scaled so that
    `bit_depth` significant bits fill 0..255. `expected_size` is (width, height).

    Raises `ImageTruncatedError`, `ImageTooLargeError`, `ImageUnsupportedError` or `ImageSizeError`.
    """
    header = read_header(encoded, limits)
    check_size(header.width_px, header.height_px, expected_size)
    _require_end_marker(encoded, header.media_type)
    flags = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error as error:
        raise ImageTruncatedError(f"cannot be decoded: {error}") from error
    if decoded is None or decoded.size == 0:
        raise ImageTruncatedError(f"the {header.media_type} cannot be decoded: the file is not complete")
    return to_bgr8(np.asarray(decoded), bit_depth)


def to_bgr8(decoded: NDArray[np.generic], bit_depth: int = 16) -> BgrImage:
    """Any (H, W[, 1|3|4]) uint8 or uint16 array as (H, W, 3) uint8 BGR; `ImageUnsupportedError` otherwise."""
    if decoded.dtype == np.uint16:
        decoded = _scale_to_8_bits(decoded.astype(np.uint16), bit_depth)
    if decoded.dtype != np.uint8:
        raise ImageUnsupportedError(f"samples of type {decoded.dtype}; 8 and 16 bits are supported")
    samples = decoded.astype(np.uint8, copy=False)
    if samples.ndim not in (2, 3) or (samples.ndim == 3 and samples.shape[2] not in (1, 3, 4)):
        raise ImageUnsupportedError(f"an array of shape {samples.shape}; expected 1, 3 or 4 channels")
    if samples.ndim == 2 or samples.shape[2] == 1:
        return np.asarray(cv2.cvtColor(samples, cv2.COLOR_GRAY2BGR), np.uint8)
    if samples.shape[2] == 4:
        return np.asarray(cv2.cvtColor(samples, cv2.COLOR_BGRA2BGR), np.uint8)
    return samples


def _scale_to_8_bits(samples: NDArray[np.uint16], bit_depth: int) -> NDArray[np.uint8]:
    brightest = np.uint16(2**bit_depth - 1)
    return np.asarray(cv2.convertScaleAbs(np.minimum(samples, brightest), alpha=255.0 / int(brightest)), np.uint8)


def is_grey(pixels: BgrImage) -> bool:
    """Whether the three channels of (H, W, 3) are equal everywhere: what a grey camera gives."""
    sparse = pixels[::SPARSE_PX, ::SPARSE_PX]
    return all(bool((part == part[..., :1]).all()) for part in (sparse, pixels))


def check_size(width_px: int, height_px: int, expected_size: tuple[int, int] | None) -> None:
    """Raise `ImageSizeError` unless the frame has the declared (width, height)."""
    if expected_size is not None and (width_px, height_px) != expected_size:
        raise ImageSizeError(
            f"frame is {width_px}x{height_px} px, expected {expected_size[0]}x{expected_size[1]}; "
            "check the camera's resolution or the configuration"
        )


def encode_jpeg(pixels: BgrImage, quality: int = 95, *, all_colours: bool = False) -> bytes:
    """JPEG bytes of a BGR image; with `all_colours` (4:4:4) colour is kept at full resolution."""
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality]
    if all_colours:
        settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, buffer = cv2.imencode(".jpg", pixels, settings)
    if not done:
        raise ImageUnsupportedError(f"a {pixels.shape} array cannot be written as JPEG")
    return bytes(buffer)


def _checked_header(image: Image.Image, limits: ImageLimits) -> ImageHeader:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageTooLargeError(f"{width}x{height} px, more than the limit of {limits.max_pixels} pixels")
    if image.format is None or image.format not in MEDIA_TYPES:
        raise ImageUnsupportedError(f"format {image.format}; supported: {', '.join(MEDIA_TYPES)}")
    if image.mode in ("CMYK", "YCCK", "LAB"):
        raise ImageUnsupportedError(f"colour space {image.mode}; send RGB or grey")
    if getattr(image, "n_frames", 1) > 1:
        raise ImageUnsupportedError("an animation or multi-page file; send one image a file")
    return ImageHeader(width_px=width, height_px=height, media_type=MEDIA_TYPES[image.format])


def _require_end_marker(encoded: bytes, media_type: str) -> None:
    """Raise `ImageTruncatedError` for a JPEG or PNG whose end is missing; bytes after the end are harmless."""
    if media_type == "image/jpeg" and encoded.find(b"\xff\xd9", _jpeg_scan_start(encoded)) < 0:
        # libjpeg fills the missing rows with grey and only warns; half a part is not a part.
        raise ImageTruncatedError("the JPEG has no end-of-image marker: the file is not complete")
    if media_type == "image/png" and b"IEND\xaeB`\x82" not in encoded[-65_536:]:
        raise ImageTruncatedError("the PNG has no IEND chunk: the file is not complete")


def _jpeg_scan_start(encoded: bytes) -> int:
    """Offset of the first start-of-scan segment: an EXIF thumbnail before it has an end marker of its own."""
    position = 2
    while position + 4 <= len(encoded) and encoded[position] == 0xFF and encoded[position + 1] != 0xDA:
        if encoded[position + 1] == 0xFF:
            position += 1
        else:
            position += 2 + int.from_bytes(encoded[position + 2 : position + 4], "big")
    return min(position, len(encoded))


def _explain_unidentified(encoded: bytes) -> ImageUnsupportedError | ImageTruncatedError:
    for magic, name in FOREIGN_MAGIC.items():
        if encoded.startswith(magic):
            return ImageUnsupportedError(f"format {name}; supported: {', '.join(MEDIA_TYPES)}")
    return ImageTruncatedError(f"not a complete image in any of the formats {', '.join(MEDIA_TYPES)}")
