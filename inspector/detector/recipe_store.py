"""Recipes on disk: `recipes/NAME/VERSION/`, immutable once written; releases beside them in `released.json`.

A version is written to a temporary folder, synced and renamed, so it exists wholly or not at all. Its hash is
the SHA-256 of its manifest, which holds the hash of every other file. Everything read back is untrusted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pydantic import ValidationError

from inspector import __version__
from inspector.clock import to_rfc3339, utc_now_us
from inspector.config import ID_PATTERN, RECIPE_REF_PATTERN
from inspector.detector.manifest import (
    FORMAT_VERSION,
    READ_FORMATS,
    VIEWS_FORMAT,
    CalibrationRecord,
    FurtherView,
    Manifest,
    ManifestThresholds,
    NamesRecord,
    PartSettings,
    PeelRecord,
    ReferencesRecord,
    Release,
    ReleaseList,
    SurfaceSettings,
    TaughtImage,
    TemplateSettings,
)
from inspector.detector.naming import Namer, pack_names, unpack_names
from inspector.detector.recipe import Arrays, Recipe, RecipeView, decode_arrays, encode_arrays
from inspector.detector.recipe_files import disk_errors, read_bounded, replace_file, sync_folder, write_synced
from inspector.errors import (
    ImageError,
    RecipeError,
    RecipeNotFoundError,
    RecipeNotReleasedError,
    RecipeTamperedError,
)
from inspector.images import decode_image, encode_jpeg, sha256_hex
from inspector.records import BgrImage, RecipeRef, Thresholds

MANIFEST = "manifest.json"
RELEASES = "released.json"
LARGEST_PNG_BYTES = 4_000_000
LARGEST_FILE_BYTES = 512 * 1024 * 1024
CONTRAST = "contrast.onnx"
NAMES = "names.npz"
REFERENCES = "references.npz"
PEEL = "peel.weights"
NET = "net.onnx"
FEATURES = "features.onnx"
LARGEST_JSON_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FurtherViewContent:
    """A view beside the first; its arrays are among those of the recipe.

    Without a graph or a golden image of its own it has the first view's: it is another look in the same pose.
    """

    settings: PartSettings
    graph: bytes | None
    golden: BgrImage | None


@dataclass(frozen=True, slots=True)
class RecipeContent:
    """What a fit hands over to be stored."""

    name: str
    settings: PartSettings | SurfaceSettings | TemplateSettings
    frame_size: tuple[int, int] | None
    arrays: Arrays
    graph: bytes
    contrast_graph: bytes | None
    golden: BgrImage
    images: tuple[TaughtImage, ...]
    thresholds: Thresholds
    false_alarm_target: float
    false_alarm_interval: tuple[float, float]
    promise: str
    choices: dict[str, Any]
    ng_false_alarm_interval: tuple[float, float] | None = None
    confidential: bool = False
    references: bytes | None = None
    references_record: ReferencesRecord | None = None
    net_graph: bytes | None = None
    further_views: tuple[FurtherViewContent, ...] = ()


@dataclass(frozen=True, slots=True)
class CalibratedContent:
    """What a calibration changes in a recipe."""

    thresholds: Thresholds
    false_alarm_interval: tuple[float, float]
    ng_false_alarm_interval: tuple[float, float]
    promise: str
    record: CalibrationRecord


class RecipeStore:
    """The recipes of one data directory. Several processes may use it at once."""

    def __init__(self, data_dir: Path) -> None:
        self._root = data_dir / "recipes"

    def save(self, content: RecipeContent) -> RecipeRef:
        """Write a new version, unreleased; versions count up from 1.

        Raises `RecipeError` for a bad name, `DiskFullError` or `DataDirReadOnlyError` when it cannot be written.
        """
        if not re.fullmatch(ID_PATTERN, content.name):
            raise RecipeError(f"recipe name {content.name!r} must match {ID_PATTERN}")
        golden_name, golden = _encode_golden(content.golden)
        files = {"arrays.npz": encode_arrays(content.arrays), golden_name: golden}
        if content.graph:
            files[FEATURES] = content.graph
        views = [
            _add_view(files, view, number, golden_name) for number, view in enumerate(content.further_views, start=2)
        ]
        if content.contrast_graph is not None:
            files[CONTRAST] = content.contrast_graph
        if content.references is not None:
            files[REFERENCES] = content.references
        if content.net_graph is not None:
            files[NET] = content.net_graph
        describe = partial(_describe, content, golden_name, tuple(views), files)
        return self._add_version(content.name, files, describe)

    def save_calibrated(self, recipe: Recipe, calibrated: CalibratedContent) -> RecipeRef:
        """Write a new version, unreleased, with the very files of `recipe` and other thresholds.

        Raises `RecipeTamperedError` when a file changed since `recipe` was loaded, and what `save` raises.
        """
        old, ref = recipe.manifest, recipe.ref
        files = _read_listed_files(self._root / ref.name / str(ref.version), old, ref)
        return self._add_version(ref.name, files, lambda version: _describe_calibrated(old, version, calibrated))

    def save_named(self, recipe: Recipe, namer: Namer, record: NamesRecord) -> RecipeRef:
        """Write a new version, unreleased, with the very files of `recipe` and these names, which replace older ones.

        Raises what `save_calibrated` raises.
        """
        old, ref = recipe.manifest, recipe.ref
        files = _read_listed_files(self._root / ref.name / str(ref.version), old, ref)
        files[NAMES] = encode_arrays(pack_names(namer))
        return self._add_version(ref.name, files, partial(_describe_extended, old, files, {"names": record}))

    def save_peeled(self, recipe: Recipe, peel: bytes, record: PeelRecord) -> RecipeRef:
        """Write a new version, unreleased, with the very files of `recipe` and this peel, which replaces an older one.

        Raises what `save_calibrated` raises, but for a changed file of the older peel.
        """
        old, ref = recipe.manifest, recipe.ref
        files = _read_listed_files(self._root / ref.name / str(ref.version), old, ref, {PEEL})
        files[PEEL] = peel
        return self._add_version(ref.name, files, partial(_describe_extended, old, files, {"peel": record}))

    def _add_version(self, name: str, files: dict[str, bytes], describe: Callable[[int], Manifest]) -> RecipeRef:
        folder = self._root / name
        with disk_errors(folder), self._locked(name):
            version = max([*self._existing(name), *self._released_versions(name), 0]) + 1
            with tempfile.TemporaryDirectory(prefix=".new-", dir=folder, ignore_cleanup_errors=True) as temporary:
                manifest = _write_version(Path(temporary) / str(version), describe(version), files)
                (Path(temporary) / str(version)).rename(folder / str(version))
            sync_folder(folder)
        return RecipeRef(name, version, sha256_hex(manifest))

    def release(self, name: str, version: int) -> RecipeRef:
        """Allow a version in production. Releasing it again changes nothing."""
        recipe = self.load(f"{name}@{version}", require_released=False)
        with disk_errors(self._root / name), self._locked(name):
            releases = self._releases(name)
            if all(entry.version != version for entry in releases.released):
                entry = Release(
                    version=version, manifest_sha256=recipe.ref.sha256, released_utc=to_rfc3339(utc_now_us())
                )
                extended = ReleaseList(released=(*releases.released, entry))
                replace_file(self._root / name / RELEASES, extended.model_dump_json(indent=1).encode())
        return recipe.ref

    def names(self) -> tuple[str, ...]:
        """Recipes that have at least one version, sorted."""
        if not self._root.is_dir():
            return ()
        found = (item.name for item in self._root.iterdir() if re.fullmatch(ID_PATTERN, item.name))
        return tuple(sorted(name for name in found if self._existing(name)))

    def versions(self, name: str) -> tuple[RecipeRef, ...]:
        """All versions of a recipe, oldest first, with the hashes their manifests have now."""
        _check_name(name)
        return tuple(self._ref(name, version) for version in self._existing(name))

    def released(self, name: str) -> tuple[Release, ...]:
        """The releases of a recipe, in the order they were made."""
        _check_name(name)
        return self._releases(name).released

    def resolve(self, reference: str) -> RecipeRef:
        """`NAME` is the latest released version, `NAME@3` a given one. Raises `RecipeNotFoundError`."""
        name, version = _parse(reference)
        existing = self._existing(name)
        if version is None:
            if not existing:
                raise RecipeNotFoundError(f"no recipe named {name} in {self._root}; teach it with `inspector fit`")
            released = self._released_versions(name)
            if not released:
                raise RecipeNotReleasedError(f"no version of recipe {name} is released")
            version = max(released)
        if version not in existing:
            raise RecipeNotFoundError(f"recipe {name} has no version {version} in {self._root}")
        return self._ref(name, version)

    def read_manifest(self, ref: RecipeRef) -> Manifest:
        """What a version says of itself; its files are not looked at. Raises `RecipeTamperedError`."""
        return _parse_manifest(
            read_bounded(self._root / ref.name / str(ref.version) / MANIFEST, str(ref), LARGEST_JSON_BYTES), ref
        )

    def load(self, reference: str | RecipeRef, *, require_released: bool = True) -> Recipe:
        """Read a version and check every hash.

        Raises `RecipeNotFoundError`, `RecipeNotReleasedError`, or `RecipeTamperedError` naming the file that is
        changed, missing or not listed. A `RecipeRef` must still have the hash it was made with. A peel that is changed
        or missing is left out: verdicts do not need it, and `peel_problem` says why.
        """
        ref = self.resolve(str(reference))
        if isinstance(reference, RecipeRef) and reference.sha256 != ref.sha256:
            raise RecipeTamperedError(f"{reference}: {MANIFEST} changed since it was resolved")
        release = next((entry for entry in self._releases(ref.name).released if entry.version == ref.version), None)
        if release is None and require_released:
            raise RecipeNotReleasedError(f"recipe {ref} was never released")
        folder = self._root / ref.name / str(ref.version)
        content = read_bounded(folder / MANIFEST, str(ref), LARGEST_JSON_BYTES)
        if release is not None and release.manifest_sha256 != sha256_hex(content):
            raise RecipeTamperedError(f"{ref}: {MANIFEST} does not match the hash it was released with")
        manifest = _parse_manifest(content, ref)
        files = _read_listed_files(folder, manifest, ref, {PEEL})
        peel, peel_problem = _read_peel(folder, manifest, ref)
        golden, *others = (
            _decode_golden(files[name], name, ref)
            for name in (manifest.golden, *(view.golden for view in manifest.further_views))
        )
        views = zip(manifest.further_views, others, strict=True)
        ref = RecipeRef(ref.name, ref.version, sha256_hex(content))
        return Recipe(
            ref=ref,
            manifest=manifest,
            golden=golden,
            arrays=decode_arrays(files["arrays.npz"]),
            graph=files.get(FEATURES, b""),
            contrast_graph=files.get(CONTRAST),
            namer=unpack_names(decode_arrays(files[NAMES], NAMES)) if NAMES in files else None,
            references=files.get(REFERENCES),
            peel=peel,
            peel_problem=peel_problem,
            net_graph=files.get(NET),
            further_views=tuple(RecipeView(other, files[view.graph]) for view, other in views),
        )

    def _existing(self, name: str) -> list[int]:
        folder = self._root / name
        if not folder.is_dir():
            return []
        return sorted(int(item.name) for item in folder.iterdir() if re.fullmatch(r"[1-9][0-9]{0,5}", item.name))

    def _ref(self, name: str, version: int) -> RecipeRef:
        content = read_bounded(self._root / name / str(version) / MANIFEST, f"{name}@{version}", LARGEST_JSON_BYTES)
        return RecipeRef(name, version, sha256_hex(content))

    def _releases(self, name: str) -> ReleaseList:
        path = self._root / name / RELEASES
        if not path.exists():
            return ReleaseList()
        try:
            return ReleaseList.model_validate_json(read_bounded(path, name, LARGEST_JSON_BYTES))
        except ValidationError as error:
            raise RecipeTamperedError(f"{name}: {RELEASES} is not a list of releases: {_first(error)}") from error

    def _released_versions(self, name: str) -> list[int]:
        return [entry.version for entry in self._releases(name).released]

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _parse(reference: str) -> tuple[str, int | None]:
    if not re.fullmatch(RECIPE_REF_PATTERN, reference):
        raise RecipeNotFoundError(f"{reference[:80]!r} is not a recipe; write NAME or NAME@VERSION")
    name, _, version = reference.partition("@")
    return name, int(version) if version else None


def _check_name(name: str) -> None:
    if not re.fullmatch(ID_PATTERN, name):
        raise RecipeNotFoundError(f"{name[:80]!r} is not a recipe name")


def _add_view(files: dict[str, bytes], view: FurtherViewContent, number: int, first_golden: str) -> FurtherView:
    """Put the files of a view beside the first to the others, and describe it."""
    golden, graph = first_golden, FEATURES
    if view.golden is not None:
        golden, files[golden] = _encode_golden(view.golden, f"golden-{number}")
    if view.graph is not None:
        graph = f"features-{number}.onnx"
        files[graph] = view.graph
    return FurtherView(settings=view.settings, golden=golden, graph=graph)


def _describe(
    content: RecipeContent, golden_name: str, views: tuple[FurtherView, ...], files: dict[str, bytes], version: int
) -> Manifest:
    return Manifest(
        format_version=VIEWS_FORMAT if views else FORMAT_VERSION,
        name=content.name,
        version=version,
        created_utc=to_rfc3339(utc_now_us()),
        software_version=__version__,
        mode=content.settings.kind,
        frame_size=content.frame_size,
        images=content.images,
        thresholds=ManifestThresholds(review=content.thresholds.review, ng=content.thresholds.ng),
        false_alarm_target=content.false_alarm_target,
        false_alarm_interval=content.false_alarm_interval,
        ng_false_alarm_interval=content.ng_false_alarm_interval,
        promise=content.promise,
        choices=content.choices,
        settings=content.settings,
        confidential=content.confidential,
        references=content.references_record,
        further_views=views,
        golden=golden_name,  # type: ignore[arg-type]  # pydantic checks it
        files={name: sha256_hex(data) for name, data in files.items()},
    )


def _describe_calibrated(old: Manifest, version: int, calibrated: CalibratedContent) -> Manifest:
    thresholds = ManifestThresholds(review=calibrated.thresholds.review, ng=calibrated.thresholds.ng)
    return old.model_copy(
        update={
            "version": version,
            "created_utc": to_rfc3339(utc_now_us()),
            "software_version": __version__,
            "thresholds": thresholds,
            "false_alarm_target": calibrated.record.target,
            "false_alarm_interval": calibrated.false_alarm_interval,
            "ng_false_alarm_interval": calibrated.ng_false_alarm_interval,
            "promise": calibrated.promise,
            "choices": {**old.choices, "promise": calibrated.promise},
            "calibration": calibrated.record,
        }
    )


def _describe_extended(
    old: Manifest, files: dict[str, bytes], record: dict[str, NamesRecord | PeelRecord], version: int
) -> Manifest:
    return old.model_copy(
        update={
            "version": version,
            "created_utc": to_rfc3339(utc_now_us()),
            "software_version": __version__,
            **record,
            "files": {name: sha256_hex(data) for name, data in files.items()},
        }
    )


def _write_version(folder: Path, manifest: Manifest, files: dict[str, bytes]) -> bytes:
    one_view = None if manifest.further_views else {"further_views"}
    encoded = manifest.model_dump_json(indent=1, exclude=one_view).encode()
    folder.mkdir()
    for name, data in {**files, MANIFEST: encoded}.items():
        write_synced(folder / name, data, 0o444)
    sync_folder(folder)
    return encoded


def _encode_golden(pixels: BgrImage, stem: str = "golden") -> tuple[str, bytes]:
    """Lossless while that is small, else JPEG 95."""
    done, buffer = cv2.imencode(".png", pixels)
    if done and buffer.size <= LARGEST_PNG_BYTES:
        return f"{stem}.png", bytes(np.asarray(buffer, np.uint8))
    return f"{stem}.jpg", encode_jpeg(pixels, 95)


def _decode_golden(content: bytes, name: str, ref: RecipeRef) -> BgrImage:
    try:
        return decode_image(content)
    except ImageError as error:
        raise RecipeTamperedError(f"{ref}: {name}: {error}") from error


def _parse_manifest(content: bytes, ref: RecipeRef) -> Manifest:
    check_format(content, ref)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise RecipeTamperedError(f"{ref}: {MANIFEST} is not a manifest: {_first(error)}") from error
    if (manifest.name, manifest.version) != (ref.name, ref.version):
        raise RecipeTamperedError(f"{ref}: {MANIFEST} belongs to {manifest.name}@{manifest.version}")
    graphs = {"features.onnx"} if manifest.has_graph else set()
    graphs |= {CONTRAST} if manifest.mode == "located" else set()
    names = {NAMES} if manifest.names is not None else set()
    references = {REFERENCES} if manifest.references is not None else set()
    peel = {PEEL} if manifest.peel is not None else set()
    models = (manifest.settings, *(view.settings for view in manifest.further_views))
    net = {NET} if any(isinstance(item, PartSettings) and item.net is not None for item in models) else set()
    optional = graphs | names | references | peel | net | manifest.view_files
    if set(manifest.files) != {"arrays.npz", manifest.golden} | optional:
        raise RecipeTamperedError(f"{ref}: {MANIFEST} does not list the files of a recipe")
    return manifest


def check_format(content: bytes, ref: RecipeRef) -> None:
    """Raise `RecipeError` for a manifest in the format of another version of this software."""
    try:
        found = json.loads(content)["format_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return
    if isinstance(found, int) and found not in READ_FORMATS:
        read = " and ".join(map(str, READ_FORMATS))
        raise RecipeError(f"{ref} is in recipe format {found}, this version reads {read}: fit it again")


def _read_listed_files(
    folder: Path, manifest: Manifest, ref: RecipeRef, left_out: Set[str] = frozenset()
) -> dict[str, bytes]:
    extra = {item.name for item in folder.iterdir()} - set(manifest.files) - {MANIFEST}
    if extra:
        raise RecipeTamperedError(f"{ref}: {min(extra)} is not in the manifest")
    return {name: _read_listed(folder, name, manifest, ref) for name in sorted(set(manifest.files) - left_out)}


def _read_listed(folder: Path, name: str, manifest: Manifest, ref: RecipeRef) -> bytes:
    content = read_bounded(folder / name, str(ref), LARGEST_FILE_BYTES)
    if sha256_hex(content) != manifest.files[name]:
        raise RecipeTamperedError(f"{ref}: {name} does not match its hash in the manifest")
    return content


def _read_peel(folder: Path, manifest: Manifest, ref: RecipeRef) -> tuple[bytes | None, str | None]:
    """The peel of a recipe and None, or None and why a recipe with a peel comes without."""
    if manifest.peel is None:
        return None, None
    try:
        return _read_listed(folder, PEEL, manifest, ref), None
    except RecipeTamperedError as error:
        return None, str(error)


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"


def remove_unfinished(data_dir: Path) -> None:
    """Delete what a killed fit left behind (`.new-*` folders)."""
    for leftover in (data_dir / "recipes").glob("*/.new-*"):
        shutil.rmtree(leftover, ignore_errors=True)
