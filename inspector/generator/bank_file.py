"""The reference bank as one file of a recipe: JPEGs and the registration of each view, without pickles."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspector.errors import RecipeTamperedError
from inspector.generator.references import ReferenceBank, View
from inspector.generator.view_images import DecodedImages, ViewImages
from inspector.geometry.registration import Reference

MOST_VIEWS = 8
MOST_STORED = 64
Blob = NDArray[np.uint8]

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
    size: tuple[int, int]
    views: tuple[_ViewMeta, ...] = Field(min_length=1, max_length=MOST_VIEWS)


@dataclass(frozen=True, slots=True)
class StoredView:
    """One view as it is written: `images` and `thumbnails` are JPEGs, the golden image first."""

    reference: Reference
    confidence_limit: float
    detail_limit: float
    images: tuple[bytes, ...]
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
    arrays: dict[str, NDArray[Any]] = {"meta": _to_blob(meta)}
    for number, view in enumerate(views):
        arrays[f"grey{number}"] = view.reference.grey
        arrays[f"part{number}"] = view.reference.part
        arrays[f"outline{number}"] = view.reference.outline
        for index, (image, thumbnail) in enumerate(zip(view.images, view.thumbnails, strict=True)):
            arrays[f"image{number}_{index}"] = _to_blob(image)
            arrays[f"thumbnail{number}_{index}"] = _to_blob(thumbnail)
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def unpack_bank(content: bytes, cache: DecodedImages | None = None) -> ReferenceBank:
    """The bank of a file. Nothing is decoded before it is asked for.

    Raises `RecipeTamperedError` for anything that `pack_bank` did not write.
    """
    cache = cache or DecodedImages()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            meta = _BankMeta.model_validate(json.loads(stored["meta"].tobytes()))
            views = tuple(_read_view(stored, number, meta, cache) for number in range(len(meta.views)))
    except (*DAMAGED_ARCHIVE, ValidationError) as error:
        raise RecipeTamperedError(f"references.npz cannot be read: {str(error).splitlines()[0]}") from error
    return ReferenceBank(views, meta.size)


def _read_view(stored: Any, number: int, meta: _BankMeta, cache: DecodedImages) -> View:
    described = meta.views[number]
    grey, part, outline = (np.asarray(stored[f"{name}{number}"]) for name in ("grey", "part", "outline"))
    if grey.dtype != np.float32 or grey.ndim != 2 or not part.shape == outline.shape == grey.shape:
        raise ValueError(f"the registration of view {number} is not one")
    images, thumbnails = (
        tuple(stored[f"{name}{number}_{index}"].tobytes() for index in range(described.images))
        for name in ("image", "thumbnail")
    )
    reference = Reference(
        grey, part.astype(np.bool_), outline.astype(np.bool_), described.scale, described.model, described.any_angle
    )
    view_images = ViewImages(images, thumbnails, meta.size, cache)
    return View(reference, view_images, described.confidence_limit, described.detail_limit)


def _to_blob(content: bytes) -> Blob:
    return np.frombuffer(content, np.uint8)
