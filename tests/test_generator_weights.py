"""The file of weights: what was written is read, and nothing else is believed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspector.errors import DataDirReadOnlyError, DiskFullError, StoreError, WeightsError
from inspector.generator.mxfp4 import decode_mxfp4, encode_mxfp4
from inspector.generator.weight_file import (
    LARGEST_CONTENT_BYTES,
    LARGEST_HEADER_BYTES,
    MAGIC,
    Encoding,
    StoredTensor,
    WeightMetadata,
    read_weights,
    store_tensor,
    write_weights,
)

START_BYTES = 56
METADATA = WeightMetadata(
    model="repair-test",
    licence="CC BY-SA 4.0",
    training_config_sha256="1" * 64,
    graph_sha256={"repair": "2" * 64, "reference": "3" * 64},
    details={"steps": "100"},
)
ENCODINGS: tuple[Encoding, ...] = ("mxfp4", "int8", "f16", "f32")


def make_tensors() -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(7)
    shapes = {"stem": (16, 3, 3, 3), "body": (32, 64, 3, 3), "bias": (32,), "head": (12, 40)}
    return {name: (random.standard_normal(shape) * 0.1).astype(np.float32) for name, shape in shapes.items()}


def write_sample(path: Path) -> Path:
    """One tensor of each encoding."""
    tensors = {
        name: store_tensor(values, encoding)
        for (name, values), encoding in zip(make_tensors().items(), ENCODINGS, strict=True)
    }
    write_weights(path, tensors, METADATA)
    return path


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    return write_sample(tmp_path / "net.weights")


def build_file(
    path: Path, header: bytes, content: bytes, version: int = 1, lengths: tuple[int, int] | None = None
) -> Path:
    """A file with a hash that is right, whatever it holds."""
    start = MAGIC + struct.pack("<IIQ", version, *(lengths or (len(header), len(content))))
    path.write_bytes(start + hashlib.sha256(start + header + content).digest() + header + content)
    return path


def parts_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    length = struct.unpack_from("<I", content, 12)[0]
    return json.loads(content[START_BYTES : START_BYTES + length]), content[START_BYTES + length :]


def rebuild(path: Path, change: Any) -> Path:
    """The file again after `change` edited its header, with a hash that is right."""
    header, content = parts_of(path)
    change(header)
    return build_file(path, json.dumps(header).encode(), content)


# --- what comes back --------------------------------------------------------------------------------


def test_every_encoding_comes_back(sample: Path) -> None:
    """f32 exactly, f16 to its precision, int8 to half a step, MXFP4 as the codec says; shapes and metadata too."""
    file, tensors = read_weights(sample), make_tensors()
    assert file.metadata == METADATA and list(file.tensors) == list(tensors)
    assert {name: file.tensor(name).shape for name in tensors} == {name: tensors[name].shape for name in tensors}
    assert file.tensor("head").tobytes() == tensors["head"].tobytes()
    assert (file.tensor("bias") == tensors["bias"].astype(np.float16)).all()
    steps = np.abs(tensors["body"]).max(axis=(1, 2, 3), keepdims=True) / 127
    assert (np.abs(file.tensor("body") - tensors["body"]) <= 0.5001 * steps).all()
    matrix = tensors["stem"].reshape(16, 27)
    assert (
        file.tensor("stem").reshape(16, 27) == decode_mxfp4(encode_mxfp4(matrix, "least_error", foldable=True))
    ).all()


def test_folded_tensors_are_the_decoded_ones(sample: Path) -> None:
    """Integers times scale of a row equals the decoded values, for both encodings that fold."""
    file = read_weights(sample)
    for name in ("stem", "body"):
        integers, scale = file.folded(name)
        decoded = file.tensor(name)
        assert integers.dtype == np.int8 and integers.shape == (len(decoded), decoded[0].size)
        assert (integers * scale[:, None] == decoded.reshape(integers.shape)).all()
    for name in ("bias", "head"):
        with pytest.raises(WeightsError, match=f"tensor {name}: it is stored as f.*does not fold"):
            file.folded(name)


def test_sizes_are_those_of_the_encodings(tmp_path: Path) -> None:
    """MXFP4 takes 4.25 bits a weight of whole blocks; a file is its tensors and less than 1 KB."""
    values = np.random.default_rng(1).standard_normal((128, 128, 3, 3)).astype(np.float32)
    wanted = {"mxfp4": 4.25 / 8, "int8": 1 + 4 / 1152, "f16": 2.0, "f32": 4.0}
    for encoding in ENCODINGS:
        path = tmp_path / encoding
        write_weights(path, {"body": store_tensor(values, encoding)}, METADATA)
        file = read_weights(path)
        assert file.bytes_resident == wanted[encoding] * values.size
        assert file.bytes_on_disk == path.stat().st_size and 0 < file.bytes_on_disk - file.bytes_resident < 1000


def test_files_are_the_same_for_the_same_weights(tmp_path: Path) -> None:
    """Byte for byte; the hash that writing returns is the one that reading reports, and changes with a weight."""
    first, second = write_sample(tmp_path / "a"), write_sample(tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    other = {"head": store_tensor(make_tensors()["head"] + 1, "f32")}
    sha256 = write_weights(second, other, METADATA)
    assert read_weights(second).sha256 == sha256 != read_weights(first).sha256


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    encoding=st.sampled_from(ENCODINGS),
    seed=st.integers(0, 2**32 - 1),
    power=st.integers(-12, 10),
)
def test_stored_values_are_stored_again_as_they_are(
    shape: list[int], encoding: Encoding, seed: int, power: int
) -> None:
    """Decoding and storing again changes at most the last bit of an int8 scale, and nothing else."""
    values = (np.random.default_rng(seed).standard_normal(shape) * 2.0**power).astype(np.float32)
    decoded = store_tensor(values, encoding).decode()
    again = store_tensor(decoded, encoding).decode()
    np.testing.assert_allclose(again, decoded, rtol=2e-7 if encoding == "int8" else 0)


# --- what is refused --------------------------------------------------------------------------------


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    """Nothing there, or a folder."""
    with pytest.raises(WeightsError, match="there are no weights here"):
        read_weights(tmp_path / "none.weights")
    with pytest.raises(WeightsError, match="cannot be read"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip of something else" * 10, b"\x08\x08onnx", b"\x89PNG\r\n\x1a\n" * 9]
)
def test_foreign_files_are_named(tmp_path: Path, content: bytes) -> None:
    """Whatever does not begin as weights do."""
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is not a file of weights"):
        read_weights(path)


def test_truncation_anywhere_is_found(sample: Path) -> None:
    """After any byte of the start and the header, and at many places of the content."""
    content = sample.read_bytes()
    lengths = [*range(1, 1200), *range(1200, len(content), 97), len(content) - 1]
    for length in lengths:
        sample.write_bytes(content[:length])
        with pytest.raises(WeightsError, match="truncated"):
            read_weights(sample)


def test_any_changed_byte_is_found(sample: Path) -> None:
    """Every byte of the start, a sample of the others, each with one bit or all of it changed."""
    content = sample.read_bytes()
    places = [*range(START_BYTES), *range(START_BYTES, len(content), 61), len(content) - 1]
    for place in places:
        for change in (1, 0x80, 0xFF):
            changed = bytearray(content)
            changed[place] ^= change
            sample.write_bytes(changed)
            with pytest.raises(WeightsError):
                read_weights(sample)
    sample.write_bytes(content)
    assert read_weights(sample).bytes_on_disk == len(content)


def test_what_was_changed_is_said(sample: Path) -> None:
    """A weight: the hash. Bytes at the end: how many. The version: that it is newer."""
    content = sample.read_bytes()
    sample.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match="does not match the hash it carries"):
        read_weights(sample)
    sample.write_bytes(content + b"more")
    with pytest.raises(WeightsError, match="4 bytes after its end"):
        read_weights(sample)
    build_file(sample, *_encoded_parts(content), version=2)
    with pytest.raises(WeightsError, match=r"weight format 2, this version reads 1: a newer version"):
        read_weights(sample)


def _encoded_parts(content: bytes) -> tuple[bytes, bytes]:
    length = struct.unpack_from("<I", content, 12)[0]
    return content[START_BYTES : START_BYTES + length], content[START_BYTES + length :]


@pytest.mark.parametrize(
    "lengths", [(LARGEST_HEADER_BYTES + 1, 4), (2**32 - 1, 4), (4, LARGEST_CONTENT_BYTES + 1), (4, 2**64 - 1)]
)
def test_huge_lengths_are_refused_before_anything_is_read(tmp_path: Path, lengths: tuple[int, int]) -> None:
    """Also when the file is as long as it says: a sparse one costs its writer nothing."""
    path = build_file(tmp_path / "huge", b"{}  ", b"1234", lengths=lengths)
    with path.open("r+b") as stream:
        stream.truncate(min(START_BYTES + sum(lengths), 2**40))
    with pytest.raises(WeightsError, match="more than any file of weights"):
        read_weights(path)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("sparsity", "2:4", "does not read sparsity '2:4'"),
        ("encoding", "mxfp6", "does not read the encoding 'mxfp6'"),
        ("shape", [16, 3, 3, 4], "bytes, not"),
        ("shape", [2**31, 2**31, 2**31], "bytes, not"),
        ("shape", [0, 3], "greater than or equal to 1"),
        ("shape", [], "at least 1 item"),
        ("offset", 8, "where the one before ends"),
        ("bytes", 10**6, "where the one before ends"),
        ("bytes", 10**12, "less than or equal to"),
        ("name", "body", "listed twice"),
        ("colour", "red", "Extra inputs"),
    ],
)
def test_headers_are_checked(sample: Path, field: str, value: object, sentence: str) -> None:
    """With a hash that is right: an unknown sparsity or encoding, shapes and places that do not fit the content."""

    def change(header: dict[str, Any]) -> None:
        header["tensors"][0][field] = value

    with pytest.raises(WeightsError, match=sentence):
        read_weights(rebuild(sample, change))


def test_content_without_an_owner_is_refused(sample: Path) -> None:
    """A header that lists less than there is, and one that is no JSON or too deep."""
    with pytest.raises(WeightsError, match="belong to no tensor"):
        read_weights(rebuild(sample, lambda header: header["tensors"].pop()))
    for header in (b"{", b"[" * 100_000, b"\xff\xfe", b"null"):
        with pytest.raises(WeightsError, match="the header is not one of weights"):
            read_weights(build_file(sample, header, b""))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, encoding: Encoding) -> None:
    """When they are stored, and when a file with a right hash holds them."""
    for bad in (np.nan, np.inf):
        values = np.ones((2, 32), np.float32)
        values[1, 3] = bad
        with pytest.raises(WeightsError, match="not finite"):
            store_tensor(values, encoding)
    good = store_tensor(np.ones((1, 32), np.float32), encoding)
    path = tmp_path / "net.weights"
    write_weights(path, {"a": good}, METADATA)
    header, content = parts_of(path)
    build_file(path, json.dumps(header).encode(), content[:-4] + b"\xff\xff\xff\xff")
    with pytest.raises(WeightsError, match="tensor a: the weights hold values that are not finite"):
        read_weights(path)


def test_tensors_that_do_not_fit_their_encoding_are_refused() -> None:
    """Beyond half precision, empty, without an axis, or with content of another length."""
    with pytest.raises(WeightsError, match="70000, which is beyond f16"):
        store_tensor(np.array([7e4], np.float32), "f16")
    for shape in ((0, 3), (3, 0), ()):
        with pytest.raises(WeightsError, match="holds no weights"):
            store_tensor(np.zeros(shape, np.float32), "f32")
    with pytest.raises(WeightsError, match="takes 12 bytes, not 11"):
        StoredTensor((3,), "f32", b"\0" * 11)


def test_names_that_are_not_there_are_named(sample: Path) -> None:
    """The message says which file and which tensor."""
    file = read_weights(sample)
    for ask in (file.tensor, file.folded):
        with pytest.raises(WeightsError, match=r"net\.weights holds no tensor tail"):
            ask("tail")


def test_more_than_a_file_holds_is_refused(tmp_path: Path) -> None:
    """Nothing is written for a tensor without a name."""
    tensor = store_tensor(np.ones(3, np.float32), "f32")
    for name in ("", "x" * 201):
        with pytest.raises(WeightsError, match="cannot be written"):
            write_weights(tmp_path / "net.weights", {name: tensor}, METADATA)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "named"), [(errno.ENOSPC, DiskFullError), (errno.EROFS, DataDirReadOnlyError), (errno.EIO, StoreError)]
)
def test_a_write_that_fails_leaves_the_old_file(
    sample: Path, monkeypatch: pytest.MonkeyPatch, number: int, named: type[StoreError]
) -> None:
    """What the disk refuses has a name; the file before is whole, and nothing lies about."""
    before = sample.read_bytes()

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(named):
        write_weights(sample, {"a": store_tensor(np.ones(3, np.float32), "f32")}, METADATA)
    monkeypatch.undo()
    assert sample.read_bytes() == before and list(sample.parent.iterdir()) == [sample]
