"""Decoding images that strangers send: sizes bounded, formats named, nothing guessed.

The header is read before a pixel is decoded, so that a decompression bomb costs nothing.
"""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

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
    """The bytes of an image file; `ImageVanishedError`, `ImageTooLargeError` or `ImageTruncatedError` (empty)."""
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limits.max_bytes:
                raise ImageTooLargeError(f"{path.name}: {size} bytes, more than the limit of {limits.max_bytes}")
            content = stream.read(limits.max_bytes + 1)
    except FileNotFoundError as error:
        raise ImageVanishedError(f"{path.name}: removed while it was being read") from error
    except IsADirectoryError as error:
        raise ImageUnsupportedError(f"{path.name}: a folder, not an image") from error
    except OSError as error:
        raise ImageVanishedError(f"{path.name}: cannot be read: {error.strerror}") from error
    if not content:
        raise ImageTruncatedError(f"{path.name}: zero bytes")
    return content


def read_header(encoded: bytes, limits: ImageLimits = ImageLimits()) -> ImageHeader:
    """Check format, size, colour space and frame count without decoding; raise the fitting `ImageError`."""
    if not encoded:
        raise ImageTruncatedError("zero bytes")
    if len(encoded) > limits.max_bytes:
        raise ImageTooLargeError(f"{len(encoded)} bytes, more than the limit of {limits.max_bytes}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=tuple(MEDIA_TYPES)) as image:
                return _checked_header(image, limits)
    except Image.DecompressionBombError as error:
        raise ImageTooLargeError(f"more pixels than the limit of {limits.max_pixels}: {error}") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise ImageTruncatedError(f"not a complete {'/'.join(MEDIA_TYPES)} image: {error}") from error


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
    if header.media_type == "image/jpeg" and b"\xff\xd9" not in encoded[-64:]:
        # libjpeg fills the missing rows with grey and only warns; half a part is not a part.
        raise ImageTruncatedError("the JPEG has no end-of-image marker: the file is not complete")
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
    if samples.ndim == 2 or samples.shape[2] == 1:
        return np.asarray(cv2.cvtColor(samples, cv2.COLOR_GRAY2BGR), np.uint8)
    if samples.shape[2] == 4:
        return np.asarray(cv2.cvtColor(samples, cv2.COLOR_BGRA2BGR), np.uint8)
    return samples


def _scale_to_8_bits(samples: NDArray[np.uint16], bit_depth: int) -> NDArray[np.uint8]:
    brightest = np.uint16(2**bit_depth - 1)
    return np.asarray(cv2.convertScaleAbs(np.minimum(samples, brightest), alpha=255.0 / int(brightest)), np.uint8)


def check_size(width_px: int, height_px: int, expected_size: tuple[int, int] | None) -> None:
    """Raise `ImageSizeError` unless the frame has the declared (width, height)."""
    if expected_size is not None and (width_px, height_px) != expected_size:
        raise ImageSizeError(
            f"frame is {width_px}x{height_px} px, expected {expected_size[0]}x{expected_size[1]}; "
            "check the camera's resolution or the configuration"
        )


def encode_jpeg(pixels: BgrImage, quality: int = 95) -> bytes:
    """JPEG bytes of a BGR image."""
    done, buffer = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
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
