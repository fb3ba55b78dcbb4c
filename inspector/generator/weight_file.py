"""Weights on disk: one file of named tensors, each in the encoding that suits it, checked as a whole when it is read.

    8 bytes    magic
    4          format version, little-endian as all numbers here
    4          length of the header
    8          length of the content
    32         SHA-256 of everything else: the 24 bytes before it, then header and content
    header     JSON: metadata, and each tensor's name, shape, encoding, sparsity, offset and length
    content    the tensors one after the other, in the order of the header, without gaps

A tensor is stored as rows = its first axis and columns = the others (a convolution: out, in * kernel * kernel):

    mxfp4      16 bytes of codes per block and row, then one scale byte per block and row (see `mxfp4`)
    int8       rows x columns int8, then one float32 scale per row
    f16, f32   rows x columns numbers
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import struct
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspector.errors import DataDirReadOnlyError, DiskFullError, StoreError, WeightsError
from inspector.generator.mxfp4 import (
    BLOCK,
    HIGHEST_EXPONENT,
    SCALE_BIAS,
    ExponentChoice,
    Mxfp4Blocks,
    count_blocks,
    decode_mxfp4,
    encode_mxfp4,
    fold_rows,
)

MAGIC = b"\x89INSPWT\n"
FORMAT_VERSION = 1
LARGEST_HEADER_BYTES = 4 * 1024 * 1024
LARGEST_CONTENT_BYTES = 512 * 1024 * 1024
MOST_TENSORS = 4096
INT8_MAX = 127
_PREAMBLE = struct.Struct("<8sIIQ")
_SHA256_BYTES = 32
_START_BYTES = _PREAMBLE.size + _SHA256_BYTES

Encoding: TypeAlias = Literal["mxfp4", "int8", "f16", "f32"]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word: TypeAlias = Annotated[str, Field(min_length=1, max_length=200)]


class WeightMetadata(BaseModel):
    """What the weights are, who may use them, and what they belong to.

    `graph_sha256` names the graphs that take these weights, each with the hash of its bytes before they are filled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Word
    licence: Word
    training_config_sha256: Sha256
    graph_sha256: Annotated[dict[Word, Sha256], Field(min_length=1, max_length=16)]
    details: Annotated[dict[Word, Word], Field(max_length=64)] = {}


class _TensorEntry(BaseModel):
    """One tensor in the header. Encoding and sparsity are any word: unknown ones get an error of their own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Word
    shape: Annotated[tuple[Annotated[int, Field(ge=1, le=2**31)], ...], Field(min_length=1, max_length=8)]
    encoding: Annotated[str, Field(max_length=32)]
    sparsity: Annotated[str, Field(max_length=32)] = "dense"
    offset: Annotated[int, Field(ge=0, le=LARGEST_CONTENT_BYTES)]
    bytes: Annotated[int, Field(ge=1, le=LARGEST_CONTENT_BYTES)]


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    metadata: WeightMetadata
    tensors: Annotated[tuple[_TensorEntry, ...], Field(max_length=MOST_TENSORS)]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in its stored form: `content` is laid out as the top of this file says for `encoding`.

    Raises `WeightsError` when the length of `content` is not that of the shape, and for values that are not finite.
    """

    shape: tuple[int, ...]
    encoding: Encoding
    content: bytes | memoryview = field(repr=False)

    def __post_init__(self) -> None:
        wanted = _stored_bytes(self.shape, self.encoding)
        if len(self.content) != wanted:
            raise WeightsError(f"{self.encoding} of shape {self.shape} takes {wanted} bytes, not {len(self.content)}")
        if not self._is_finite():
            raise WeightsError("the weights hold values that are not finite")

    def decode(self) -> NDArray[np.float32]:
        """The values, float32 of `shape`."""
        if self.encoding == "mxfp4":
            return decode_mxfp4(self._blocks()).reshape(self.shape)
        if self.encoding == "int8":
            integers, scale = self._integers()
            return np.asarray(integers.astype(np.float32) * scale[:, None], np.float32).reshape(self.shape)
        return self._numbers().astype(np.float32).reshape(self.shape)

    def fold(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """The same values as ((rows, columns) int8, (rows,) float32 scale), exactly.

        Raises `WeightsError` for f16 and f32, and for MXFP4 that does not fold.
        """
        if self.encoding == "mxfp4":
            return fold_rows(self._blocks())
        if self.encoding == "int8":
            integers, scale = self._integers()
            return integers.copy(), scale.copy()
        raise WeightsError(f"it is stored as {self.encoding}, which does not fold into 8-bit integers")

    def _is_finite(self) -> bool:
        if self.encoding == "mxfp4":
            return bool((self._blocks().scales <= HIGHEST_EXPONENT + SCALE_BIAS).all())
        numbers = self._integers()[1] if self.encoding == "int8" else self._numbers()
        return bool(np.isfinite(numbers).all())

    def _numbers(self) -> NDArray[np.floating]:
        return np.frombuffer(self.content, _float_type(self.encoding))

    def _blocks(self) -> Mxfp4Blocks:
        rows, columns = _matrix_shape(self.shape)
        blocks = count_blocks(columns)
        content = np.frombuffer(self.content, np.uint8)
        codes, scales = np.split(content, [rows * blocks * BLOCK // 2])
        return Mxfp4Blocks(columns, codes.reshape(rows, -1), scales.reshape(rows, blocks))

    def _integers(self) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        rows, columns = _matrix_shape(self.shape)
        integers = np.frombuffer(self.content, np.int8, rows * columns)
        scale = np.frombuffer(self.content, "<f4", rows, rows * columns)
        return integers.reshape(rows, columns), scale.astype(np.float32)


def store_tensor(
    values: NDArray[np.float32], encoding: Encoding, choice: ExponentChoice = "least_error"
) -> StoredTensor:
    """Encode an array of at least one axis. MXFP4 is made foldable; int8 is symmetric, the largest of a row is ±127.

    Raises `WeightsError` for values that are not finite, also after rounding to f16.
    """
    if values.ndim == 0 or values.size == 0:
        raise WeightsError(f"an array of shape {values.shape} holds no weights")
    matrix = np.ascontiguousarray(values, np.float32).reshape(_matrix_shape(values.shape))
    if not np.isfinite(matrix).all():
        raise WeightsError("the weights hold values that are not finite")
    if encoding == "mxfp4":
        blocks = encode_mxfp4(matrix, choice, foldable=True)
        return StoredTensor(values.shape, encoding, blocks.codes.tobytes() + blocks.scales.tobytes())
    if encoding == "int8":
        return StoredTensor(values.shape, encoding, _pack_integers(matrix))
    with np.errstate(over="ignore"):
        stored = matrix.astype(_float_type(encoding))
    if not np.isfinite(stored).all():
        raise WeightsError(f"the weights reach {np.abs(matrix).max():g}, which is beyond {encoding}")
    return StoredTensor(values.shape, encoding, stored.tobytes())


@dataclass(frozen=True, slots=True)
class WeightFile:
    """The tensors of a file, still encoded: decoding makes new arrays, so that nothing is kept twice.

    `bytes_on_disk` is the size of the file, `sha256` the hash that it carries and that was checked.
    """

    path: Path
    metadata: WeightMetadata
    tensors: Mapping[str, StoredTensor]
    bytes_on_disk: int
    sha256: str

    @property
    def bytes_resident(self) -> int:
        """Memory that the encoded tensors take."""
        return sum(len(stored.content) for stored in self.tensors.values())

    def tensor(self, name: str) -> NDArray[np.float32]:
        """A tensor's values. Raises `WeightsError` for a name that is not in the file."""
        return self._stored(name).decode()

    def folded(self, name: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """A tensor as ((rows, columns) int8, (rows,) float32 scale). Raises `WeightsError` where it does not fold."""
        stored = self._stored(name)
        try:
            return stored.fold()
        except WeightsError as error:
            raise WeightsError(f"{self.path}: tensor {name}: {error}") from error

    def _stored(self, name: str) -> StoredTensor:
        if name not in self.tensors:
            raise WeightsError(f"{self.path} holds no tensor {name}")
        return self.tensors[name]


def write_weights(path: Path, tensors: Mapping[str, StoredTensor], metadata: WeightMetadata) -> str:
    """Write a file whole or not at all, and return its hash. Overwrites.

    Raises `WeightsError` for more than the format holds, and `DiskFullError`, `DataDirReadOnlyError` or `StoreError`.
    """
    parts = _pack_parts(path, tensors, metadata)
    _write_synced(path, parts)
    return bytes(parts[1]).hex()


def pack_weights(path: Path, tensors: Mapping[str, StoredTensor], metadata: WeightMetadata) -> bytes:
    """The bytes of a file that will lie at `path`. Raises `WeightsError` for more than the format holds."""
    return b"".join(_pack_parts(path, tensors, metadata))


def _pack_parts(path: Path, tensors: Mapping[str, StoredTensor], metadata: WeightMetadata) -> list[bytes | memoryview]:
    """Preamble, hash, header and contents."""
    content_bytes = sum(len(stored.content) for stored in tensors.values())
    try:
        header = _Header(metadata=metadata, tensors=_list_tensors(tensors)).model_dump_json().encode()
    except ValidationError as error:
        raise WeightsError(f"{path}: cannot be written: {_first(error)}") from error
    if len(header) > LARGEST_HEADER_BYTES or content_bytes > LARGEST_CONTENT_BYTES:
        raise WeightsError(
            f"{path}: {len(header)} bytes of header and {content_bytes} of weights are more than a file holds"
        )
    preamble = _PREAMBLE.pack(MAGIC, FORMAT_VERSION, len(header), content_bytes)
    parts = [header, *(stored.content for stored in tensors.values())]
    return [preamble, _hash([preamble, *parts]), *parts]


def read_weights(path: Path) -> WeightFile:
    """Read a file and check its hash before anything of it is believed.

    Raises `WeightsError`: missing, not a file of weights, written by a newer version, truncated, longer than it says,
    changed since it was written, or with an encoding or a sparsity that this version does not know.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            start = stream.read(_START_BYTES)
            header_bytes, content_bytes = _check_start(path, start, size)
            body = stream.read(header_bytes + content_bytes)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: there are no weights here") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    return _parse_body(path, start, body, header_bytes, content_bytes)


def parse_weights(path: Path, content: bytes) -> WeightFile:
    """As `read_weights`, for the bytes of a file; `path` is what errors call it."""
    start = content[:_START_BYTES]
    header_bytes, content_bytes = _check_start(path, start, len(content))
    return _parse_body(path, start, content[_START_BYTES:], header_bytes, content_bytes)


def _parse_body(path: Path, start: bytes, body: bytes, header_bytes: int, content_bytes: int) -> WeightFile:
    if len(body) != header_bytes + content_bytes:
        raise WeightsError(f"{path} is truncated: it ends after {_START_BYTES + len(body)} bytes")
    digest = start[_PREAMBLE.size :]
    if _hash([start[: _PREAMBLE.size], body]) != digest:
        raise WeightsError(f"{path} does not match the hash it carries: it was changed after it was written")
    header = _parse_header(path, body[:header_bytes])
    content = memoryview(body)[header_bytes:]
    tensors = _cut_tensors(path, header, content)
    return WeightFile(path, header.metadata, tensors, _START_BYTES + len(body), digest.hex())


def _list_tensors(tensors: Mapping[str, StoredTensor]) -> tuple[_TensorEntry, ...]:
    entries, offset = [], 0
    for name, stored in tensors.items():
        length = len(stored.content)
        entries.append(
            _TensorEntry(name=name, shape=stored.shape, encoding=stored.encoding, offset=offset, bytes=length)
        )
        offset += length
    return tuple(entries)


def _check_start(path: Path, start: bytes, size: int) -> tuple[int, int]:
    """The lengths of header and content, bounded, and in agreement with the size of the file."""
    if start[: len(MAGIC)] != MAGIC[: len(start)] or not start:
        raise WeightsError(f"{path} is not a file of weights")
    if len(start) < _START_BYTES:
        raise WeightsError(f"{path} is truncated: it ends after {size} bytes")
    _, version, header_bytes, content_bytes = _PREAMBLE.unpack_from(start)
    if version != FORMAT_VERSION:
        age = "a newer version of this software wrote it" if version > FORMAT_VERSION else "no version wrote that"
        raise WeightsError(f"{path} is in weight format {version}, this version reads {FORMAT_VERSION}: {age}")
    if header_bytes > LARGEST_HEADER_BYTES or content_bytes > LARGEST_CONTENT_BYTES:
        raise WeightsError(f"{path} claims {header_bytes} + {content_bytes} bytes, more than any file of weights")
    wanted = _START_BYTES + header_bytes + content_bytes
    if size < wanted:
        raise WeightsError(f"{path} is truncated: {size} of {wanted} bytes are there")
    if size > wanted:
        raise WeightsError(f"{path} has {size - wanted} bytes after its end")
    return header_bytes, content_bytes


def _parse_header(path: Path, content: bytes) -> _Header:
    try:
        return _Header.model_validate_json(content)
    except ValidationError as error:
        raise WeightsError(f"{path}: the header is not one of weights: {_first(error)}") from error


def _cut_tensors(path: Path, header: _Header, content: memoryview) -> dict[str, StoredTensor]:
    tensors: dict[str, StoredTensor] = {}
    end = 0
    for entry in header.tensors:
        owner = f"{path}: tensor {entry.name}"
        if entry.sparsity != "dense":
            raise WeightsError(f"{owner}: this version does not read sparsity {entry.sparsity!r}")
        encoding = _known_encoding(entry.encoding)
        if encoding is None:
            raise WeightsError(f"{owner}: this version does not read the encoding {entry.encoding!r}")
        if entry.name in tensors or entry.offset != end or entry.offset + entry.bytes > len(content):
            raise WeightsError(f"{owner}: listed twice, or its place in the file is not where the one before ends")
        end = entry.offset + entry.bytes
        try:
            tensors[entry.name] = StoredTensor(entry.shape, encoding, content[entry.offset : end])
        except WeightsError as error:
            raise WeightsError(f"{owner}: {error}") from error
    if end != len(content):
        raise WeightsError(f"{path}: {len(content) - end} bytes belong to no tensor")
    return tensors


def _known_encoding(word: str) -> Encoding | None:
    return next((encoding for encoding in get_args(Encoding) if encoding == word), None)


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    return shape[0], math.prod(shape[1:])


def _stored_bytes(shape: tuple[int, ...], encoding: Encoding) -> int:
    rows, columns = _matrix_shape(shape)
    if encoding == "mxfp4":
        return rows * count_blocks(columns) * (BLOCK // 2 + 1)
    if encoding == "int8":
        return rows * columns + 4 * rows
    return rows * columns * _float_type(encoding).itemsize


def _float_type(encoding: str) -> np.dtype[Any]:
    return np.dtype({"f16": "<f2", "f32": "<f4"}[encoding])


def _pack_integers(matrix: NDArray[np.float32]) -> bytes:
    scale = (np.abs(matrix).max(axis=1) / np.float32(INT8_MAX)).astype(np.float32)
    # Rows of zeros, and of numbers so small that their step would be none.
    scale[scale < np.finfo(np.float32).tiny] = np.finfo(np.float32).tiny
    integers = np.clip(np.rint(matrix / scale[:, None]), -INT8_MAX, INT8_MAX).astype(np.int8)
    return bytes(integers.tobytes() + scale.astype("<f4").tobytes())


def _hash(parts: list[bytes | memoryview]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _write_synced(path: Path, parts: list[bytes | memoryview]) -> None:
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            stream.writelines(parts)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(f"no space left for weights in {path.parent}") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise DataDirReadOnlyError(f"{path.parent} cannot be written: {error.strerror}") from error
        raise StoreError(f"{path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
