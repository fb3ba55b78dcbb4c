"""Images from strangers: what is accepted, and which error names what is wrong with the rest."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from inspector.errors import (
    ImageError,
    ImageSizeError,
    ImageTooLargeError,
    ImageTruncatedError,
    ImageUnsupportedError,
    ImageVanishedError,
)
from inspector.images import (
    ImageLimits,
    check_complete,
    decode_image,
    encode_jpeg,
    read_header,
    read_image_bytes,
    sha256_hex,
    sha256_pixels,
    to_bgr8,
)

WIDTH, HEIGHT = 96, 64


def textured(seed: int = 0) -> NDArray[np.uint8]:
    """A picture with structure, so that its compressed form has a body that can be cut."""
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.0), np.uint8)


def encoded_as(suffix: str, pixels: NDArray[np.uint8] | NDArray[np.uint16] | None = None) -> bytes:
    done, buffer = cv2.imencode(suffix, textured() if pixels is None else pixels)
    assert done
    return bytes(buffer)


def saved_as(image: Image.Image, media: str, **options: object) -> bytes:
    target = io.BytesIO()
    image.save(target, media, **options)
    return target.getvalue()


def declared_png(width: int, height: int) -> bytes:
    """A PNG of a few hundred bytes that declares any size."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


FORMATS = [".jpg", ".png", ".bmp", ".tif", ".webp"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_supported_format_decodes_to_bgr(suffix: str) -> None:
    """Each format gives (H, W, 3) uint8 in blue-green-red order, and its header is read without decoding."""
    blue = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    blue[:, :, 0] = 200
    encoded = encoded_as(suffix, blue)
    decoded = decode_image(encoded, expected_size=(WIDTH, HEIGHT))
    assert decoded.shape == (HEIGHT, WIDTH, 3) and decoded.dtype == np.uint8
    assert decoded[5, 5].astype(int) == pytest.approx([200, 0, 0], abs=6)
    assert check_complete(encoded) == read_header(encoded)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.95, 0.995])
def test_a_cut_image_is_truncated(suffix: str, share: float) -> None:
    """Whatever the format and wherever it is cut, the error is `ImageTruncatedError`, in both checks."""
    encoded = encoded_as(suffix)
    part = encoded[: int(len(encoded) * share)]
    with pytest.raises(ImageTruncatedError):
        decode_image(part)
    with pytest.raises(ImageTruncatedError):
        check_complete(part)


def test_every_prefix_of_a_jpeg_is_refused() -> None:
    """No prefix of a JPEG passes for complete, not even one that ends with the thumbnail's own end marker."""
    exif = Image.Exif()
    image = Image.fromarray(textured())
    thumbnail = encode_jpeg(textured(1)[:16, :16])
    encoded = saved_as(image, "JPEG", exif=exif.tobytes() + thumbnail, quality=60)
    assert thumbnail in encoded
    check_complete(encoded)
    passing = []
    for length in range(len(encoded) - 1):
        try:
            check_complete(encoded[:length])
        except ImageTruncatedError:
            continue
        passing.append(length)
    assert passing == []


def test_bytes_after_the_end_of_a_jpeg_are_harmless() -> None:
    """Cameras pad their files; padding is no reason to refuse a part."""
    assert decode_image(encoded_as(".jpg") + bytes(5000)).shape == (HEIGHT, WIDTH, 3)


def test_a_hole_of_zeros_where_the_end_should_be_is_truncated() -> None:
    """A file whose size was reserved before its content arrived is not complete."""
    encoded = encoded_as(".jpg")
    with pytest.raises(ImageTruncatedError, match="end-of-image"):
        check_complete(encoded[: len(encoded) // 2] + bytes(len(encoded) - len(encoded) // 2))


def test_a_wrong_size_names_both_sizes() -> None:
    """The message says what came and what was expected."""
    with pytest.raises(ImageSizeError, match=r"96x64 px, expected 3840x2160"):
        decode_image(encoded_as(".png"), expected_size=(3840, 2160))


def test_16_bit_samples_fill_8_bits() -> None:
    """A 16-bit PNG is scaled by its significant bits; what exceeds them saturates."""
    twelve = np.full((HEIGHT, WIDTH), 2048, np.uint16)
    twelve[0, 0], twelve[0, 1] = 4095, 65_535
    encoded = encoded_as(".png", twelve)
    as_12_bits, as_16_bits = decode_image(encoded, bit_depth=12), decode_image(encoded)
    assert as_12_bits[9, 9].tolist() == [128, 128, 128]
    assert as_12_bits[0, 0, 0] == 255 and as_12_bits[0, 1, 0] == 255
    assert as_16_bits[9, 9].tolist() == [8, 8, 8] and as_16_bits[0, 1, 0] == 255


def test_16_bit_colour_keeps_its_channels() -> None:
    """16-bit colour stays colour."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint16)
    pixels[:, :, 2] = 65_535
    assert decode_image(encoded_as(".png", pixels))[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA"])
def test_grey_palette_and_alpha_become_three_channels(mode: str) -> None:
    """Grey is replicated, palettes are resolved, alpha is dropped."""
    image = Image.fromarray(np.full((HEIGHT, WIDTH), 255, np.uint8)).convert(mode)
    decoded = decode_image(saved_as(image, "PNG"))
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert decoded[3, 3].tolist() == [255, 255, 255]


def test_the_stored_orientation_is_kept() -> None:
    """EXIF rotation is not applied: boxes and calibration are in the pixels of the sensor."""
    exif = Image.Exif()
    exif[0x112] = 6
    decoded = decode_image(saved_as(Image.fromarray(textured()), "JPEG", exif=exif))
    assert decoded.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("media", ["JPEG", "TIFF"])
def test_cmyk_is_unsupported(media: str) -> None:
    """CMYK belongs to printing; the message says what to send instead."""
    with pytest.raises(ImageUnsupportedError, match="CMYK; send RGB or grey"):
        decode_image(saved_as(Image.fromarray(textured()).convert("CMYK"), media))


@pytest.mark.parametrize("media", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_are_unsupported(media: str) -> None:
    """Animated GIF, WebP and PNG and multi-page TIFF: which of the images is the part nobody can say."""
    first, second = Image.fromarray(textured()), Image.fromarray(textured(1))
    with pytest.raises(ImageUnsupportedError):
        decode_image(saved_as(first, media, save_all=True, append_images=[second]))


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (11_000, 9_000), (7_000, 6_000)])
def test_a_decompression_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    """A tiny PNG that declares gigapixels is refused before a pixel is decoded, at any level of exaggeration."""
    bomb = declared_png(width, height)
    assert len(bomb) < 1000
    with pytest.raises(ImageTooLargeError, match="limit of 40000000"):
        decode_image(bomb)


def test_more_bytes_than_the_limit_are_not_looked_at() -> None:
    """The limit on bytes comes before any parser."""
    with pytest.raises(ImageTooLargeError, match="more than the limit of 100"):
        read_header(bytes(101), ImageLimits(max_bytes=100))


@pytest.mark.parametrize(
    "content", [b"<html>404</html>" * 20, os.urandom(500), b"\xff\xd8\xff\xd9", b"\x89PNG\r\n\x1a\n"]
)
def test_what_is_no_image_says_so_without_addresses(content: bytes) -> None:
    """Junk is an `ImageTruncatedError` whose message is the same every time it is raised."""
    messages = []
    for _ in range(2):
        with pytest.raises(ImageTruncatedError) as caught:
            decode_image(content)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "0x" not in messages[0]


def test_sample_types_that_are_no_pictures_are_unsupported() -> None:
    """Floating point images and odd channel counts are refused, not guessed at."""
    floating = Image.fromarray(np.zeros((HEIGHT, WIDTH), np.float32))
    with pytest.raises(ImageUnsupportedError, match="float32"):
        decode_image(saved_as(floating, "TIFF"))
    with pytest.raises(ImageUnsupportedError, match="channels"):
        to_bgr8(np.zeros((4, 4, 2), np.uint8))


def test_reading_a_file(tmp_path: Path) -> None:
    """The bytes as they are; each way in which a file can be none is named."""
    good, empty, large = tmp_path / "good.jpg", tmp_path / "empty.jpg", tmp_path / "large.jpg"
    good.write_bytes(encoded_as(".jpg"))
    empty.touch()
    with large.open("wb") as stream:
        stream.truncate(ImageLimits().max_bytes + 1)
    assert read_image_bytes(good) == good.read_bytes()
    expectations: list[tuple[Path, type[ImageError]]] = [
        (empty, ImageTruncatedError),
        (large, ImageTooLargeError),
        (tmp_path / "gone.jpg", ImageVanishedError),
        (tmp_path, ImageUnsupportedError),
        (Path("/dev/zero"), ImageUnsupportedError),
    ]
    for path, error in expectations:
        with pytest.raises(error, match=path.name):
            read_image_bytes(path)


@pytest.mark.timeout(10)
def test_a_named_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Opening a pipe without a writer would wait for ever; here it is an error."""
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    with pytest.raises(ImageUnsupportedError, match="not a regular file"):
        read_image_bytes(pipe)


def test_hashes_are_over_bytes_and_pixels() -> None:
    """A view and its copy have one hash, so memory layout does not matter; one changed pixel does."""
    pixels = textured()
    view = np.concatenate([pixels, pixels], axis=1)[:, :WIDTH]
    assert sha256_pixels(view) == sha256_pixels(pixels) == sha256_hex(pixels.tobytes())
    changed = pixels.copy()
    changed[0, 0, 0] ^= 1
    assert sha256_pixels(changed) != sha256_pixels(pixels)
