"""The reference bank as one file of a recipe: JPEGs and the registration of each view, without pickles."""

from __future__ import annotations

import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspector.errors import RecipeTamperedError
from inspector.generator.references import ReferenceBank, View
from inspector.generator.view_images import DecodedTiles, StoredImages, tile_boxes
from inspector.geometry.registration import Reference
from inspector.geometry.views import MOST_VIEWS

MOST_STORED = 64

DAMAGED_ARCHIVE = (ValueError, TypeError, KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _ViewMeta(_Section):
    images: int = Field(ge=1, le=MOST_STORED)
    model: Literal["shift", "rigid", "affine", "perspective"]
    any_angle: bool
    scale: float = Field(gt=0, le=1)
    confidence_limit: float = Field(ge=0, le=1)
    detail_limit: float = Field(ge=-1, le=1)


class _BankMeta(_Section):
    format_version: Literal[1] = 1
    size: tuple[Annotated[int, Field(ge=1, le=65535)], Annotated[int, Field(ge=1, le=65535)]]
    views: tuple[_ViewMeta, ...] = Field(min_length=1, max_length=MOST_VIEWS)


@dataclass(frozen=True, slots=True)
class StoredView:
    """One view as it is written, the golden image first: the JPEG tiles of each image, and its JPEG thumbnail."""

    reference: Reference
    confidence_limit: float
    detail_limit: float
    images: tuple[tuple[bytes, ...], ...]
    thumbnails: tuple[bytes, ...]


def pack_bank(views: tuple[StoredView, ...], size: tuple[int, int]) -> bytes:
    """The file of a bank; `size` is (width, height) of all its images."""
    described = tuple(
        _ViewMeta(
            images=len(view.images),
            model=view.reference.model,  # type: ignore[arg-type]  # pydantic checks it
            any_angle=view.reference.any_angle,
            scale=view.reference.scale,
            confidence_limit=view.confidence_limit,
            detail_limit=view.detail_limit,
        )
        for view in views
    )
    meta = _BankMeta(size=size, views=described).model_dump_json().encode()
    arrays: dict[str, NDArray[Any]] = {"meta": np.frombuffer(meta, np.uint8)}
    blobs: list[bytes] = []
    for number, view in enumerate(views):
        arrays[f"grey{number}"] = view.reference.grey
        arrays[f"part{number}"] = view.reference.part
        arrays[f"outline{number}"] = view.reference.outline
        for tiles, thumbnail in zip(view.images, view.thumbnails, strict=True):
            blobs += [*tiles, thumbnail]
    arrays["jpegs"] = np.frombuffer(b"".join(blobs), np.uint8)
    arrays["lengths"] = np.array([len(blob) for blob in blobs], np.int64)
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def unpack_bank(content: bytes, cache: DecodedTiles | None = None) -> ReferenceBank:
    """The bank of a file. Nothing is decoded before it is asked for.

    Raises `RecipeTamperedError` for anything that `pack_bank` did not write.
    """
    cache = cache or DecodedTiles()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            meta = _BankMeta.model_validate(json.loads(stored["meta"].tobytes()))
            blobs = _cut_blobs(stored["jpegs"].tobytes(), stored["lengths"])
            views = tuple(_read_view(stored, number, meta, blobs, cache) for number in range(len(meta.views)))
    except (*DAMAGED_ARCHIVE, ValidationError) as error:
        raise RecipeTamperedError(f"references.npz cannot be read: {str(error).splitlines()[0]}") from error
    return ReferenceBank(views, meta.size)


def _cut_blobs(joined: bytes, lengths: NDArray[np.int64]) -> Iterator[bytes]:
    ends = np.cumsum(lengths)
    if lengths.ndim != 1 or (lengths < 0).any() or not len(ends) or int(ends[-1]) != len(joined):
        raise ValueError("the lengths of the images do not add up")
    return (joined[int(end) - int(length) : int(end)] for end, length in zip(ends, lengths, strict=True))


def _read_view(stored: Any, number: int, meta: _BankMeta, blobs: Iterator[bytes], cache: DecodedTiles) -> View:
    described = meta.views[number]
    grey, part, outline = (np.asarray(stored[f"{name}{number}"]) for name in ("grey", "part", "outline"))
    if grey.dtype != np.float32 or grey.ndim != 2 or not part.shape == outline.shape == grey.shape:
        raise ValueError(f"the registration of view {number} is not one")
    count = len(tile_boxes(meta.size))
    images = [tuple(itertools.islice(blobs, count + 1)) for _ in range(described.images)]
    if any(len(image) != count + 1 for image in images):
        raise ValueError(f"images of view {number} are missing")
    reference = Reference(
        grey, part.astype(np.bool_), outline.astype(np.bool_), described.scale, described.model, described.any_angle
    )
    view_images = StoredImages(
        tuple(image[:-1] for image in images), tuple(image[-1] for image in images), meta.size, cache
    )
    return View(reference, view_images, described.confidence_limit, described.detail_limit)
