"""Recipes on disk: every change is noticed and named."""

from __future__ import annotations

import io
import json
import re
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from inspector.detector.recipe import Recipe, decode_arrays, encode_arrays
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import (
    RecipeError,
    RecipeTamperedError,
)
from inspector.images import sha256_hex
from inspector.records import RecipeRef
from tests.recipe_rig import change_one_byte, forge, overwrite
from tests.small_line import HEIGHT_PX, RECIPE, WIDTH_PX

FILES = ("arrays.npz", "contrast.onnx", "features.onnx", "golden.png", "manifest.json", "references.npz")


@pytest.fixture(scope="module")
def taught(taught_plate: Path) -> Path:
    """A data directory with one small released recipe; nobody changes it."""
    return taught_plate / "data"


@pytest.fixture
def data_dir(taught: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(taught, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture
def folder(data_dir: Path) -> Path:
    """The folder of version 1."""
    return data_dir / "recipes" / RECIPE / "1"


@pytest.fixture(scope="module")
def recipe(taught: Path) -> Recipe:
    """The recipe as it was taught."""
    return RecipeStore(taught).load(RECIPE)


def test_what_is_stored_is_what_comes_back(taught: Path, recipe: Recipe) -> None:
    """A loaded recipe has the hash of its manifest, the taught images by hash, thresholds and a golden image."""
    manifest = taught / "recipes" / RECIPE / "1" / "manifest.json"
    assert recipe.ref == RecipeRef(RECIPE, 1, sha256_hex(manifest.read_bytes()))
    assert recipe.frame_size == (WIDTH_PX, HEIGHT_PX)
    assert recipe.golden.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert 0 < recipe.thresholds.review <= recipe.thresholds.ng
    taught_images = sorted((taught.parent / "good").iterdir())
    assert [image.sha256 for image in recipe.manifest.images] == [sha256_hex(p.read_bytes()) for p in taught_images]


def test_saved_files_are_read_only_and_nothing_else_is_left(taught: Path) -> None:
    """A version is exactly its six files, none writable by anybody; no temporary folder stays behind."""
    folder = taught / "recipes" / RECIPE / "1"
    assert sorted(item.name for item in folder.iterdir()) == sorted(FILES)
    assert {stat.S_IMODE(item.stat().st_mode) for item in folder.iterdir()} == {0o444}
    assert sorted(item.name for item in folder.parent.iterdir()) == ["1", "released.json"]


@pytest.mark.parametrize("require_released", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_is_noticed(data_dir: Path, folder: Path, name: str, require_released: bool) -> None:
    """Whatever file it is in, and also for tools that accept unreleased versions."""
    change_one_byte(folder / name)
    with pytest.raises(RecipeTamperedError, match=re.escape(name)):
        RecipeStore(data_dir).load(RECIPE, require_released=require_released)


@pytest.mark.parametrize("name", FILES)
def test_a_removed_file_is_noticed(data_dir: Path, folder: Path, name: str) -> None:
    """The error names what is missing."""
    (folder / name).unlink()
    with pytest.raises(RecipeTamperedError, match=rf"{re.escape(name)} cannot be read"):
        RecipeStore(data_dir).load(f"{RECIPE}@1")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_became_a_folder_is_noticed(data_dir: Path, folder: Path, name: str) -> None:
    """As a tampered recipe, not as a crash."""
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(RecipeTamperedError, match=re.escape(name)):
        RecipeStore(data_dir).load(RECIPE)


@pytest.mark.parametrize("name", ["extra.npz", ".hidden", "arrays.npz.bak"])
def test_an_extra_file_is_noticed(data_dir: Path, folder: Path, name: str) -> None:
    """A recipe is its manifest's files and nothing else."""
    (folder / name).write_bytes(b"anything")
    with pytest.raises(RecipeTamperedError, match=rf"{re.escape(name)} is not in the manifest"):
        RecipeStore(data_dir).load(RECIPE)


def test_an_extra_folder_is_noticed(data_dir: Path, folder: Path) -> None:
    """Folders count as well."""
    (folder / "more").mkdir()
    with pytest.raises(RecipeTamperedError, match="more is not in the manifest"):
        RecipeStore(data_dir).load(RECIPE)


def test_a_consistent_forgery_is_noticed(data_dir: Path, folder: Path) -> None:
    """Thresholds raised in the manifest, all file hashes right: the release remembers another manifest."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["thresholds"] = {"review": 1e6, "ng": 1e6}
    overwrite(folder / "manifest.json", json.dumps(manifest).encode())
    with pytest.raises(RecipeTamperedError, match=r"manifest\.json does not match the hash it was released with"):
        RecipeStore(data_dir).load(RECIPE)


def test_a_recipe_changed_after_it_was_resolved_is_noticed(data_dir: Path, folder: Path) -> None:
    """A reference with a hash holds a recipe to it, released or not."""
    store = RecipeStore(data_dir)
    ref = store.resolve(RECIPE)
    assert store.load(ref).ref == ref
    (data_dir / "recipes" / RECIPE / "released.json").unlink()
    overwrite(folder / "manifest.json", (folder / "manifest.json").read_bytes() + b" ")
    with pytest.raises(RecipeTamperedError, match=r"manifest\.json changed since"):
        store.load(ref, require_released=False)


@pytest.mark.parametrize(
    "content",
    [b"", b"not json", b"[]", b"{}", b"\xff\xfe\x00", b'{"name": "plate"}', b"[" * 100_000],
    ids=["empty", "text", "list", "no fields", "no text", "few fields", "deep"],
)
def test_a_manifest_that_is_none(data_dir: Path, folder: Path, content: bytes) -> None:
    """Unreleased, so that no hash speaks first: the manifest is read as the untrusted text it is."""
    (data_dir / "recipes" / RECIPE / "released.json").unlink()
    overwrite(folder / "manifest.json", content)
    with pytest.raises(RecipeTamperedError, match=r"manifest\.json is not a manifest"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "other"),
        ("version", 2),
        ("files", {"../../secret": "0" * 64}),
        ("files", {}),
        ("mode", "unknown"),
        ("format_version", "two"),
        ("surplus", 1),
    ],
)
def test_a_manifest_that_does_not_fit(data_dir: Path, folder: Path, key: str, value: object) -> None:
    """Another recipe's manifest, files elsewhere, unknown keys and later formats are all refused."""
    (data_dir / "recipes" / RECIPE / "released.json").unlink()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    overwrite(folder / "manifest.json", json.dumps(manifest | {key: value}).encode())
    with pytest.raises(RecipeTamperedError, match=r"manifest\.json"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False)


@pytest.mark.parametrize(
    ("low", "high"), [(5.0, 1.0), (float("nan"), 1.0), (-1.0, 1.0)], ids=["swapped", "not a number", "negative"]
)
def test_thresholds_that_cannot_be(data_dir: Path, folder: Path, low: float, high: float) -> None:
    """Impossible thresholds are a tampered recipe, at the latest when a scorer is made from it."""
    (data_dir / "recipes" / RECIPE / "released.json").unlink()
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["thresholds"] = {"review": low, "ng": high}
    overwrite(folder / "manifest.json", json.dumps(manifest).encode())
    with pytest.raises(RecipeTamperedError, match=r"manifest\.json"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False).scorer()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_golden_image_that_is_none(data_dir: Path, folder: Path, content: bytes) -> None:
    """With a matching hash it is still decoded with care."""
    forge(folder, "golden.png", content)
    with pytest.raises(RecipeTamperedError, match=r"golden\.png"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False)


def as_npy(array: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def pickled_arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, part=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no archive", b"PK\x03\x04" + bytes(30), as_npy(np.zeros(3)), pickled_arrays()],
    ids=["empty", "text", "cut off", "one array", "pickle"],
)
def test_arrays_that_are_none(content: bytes) -> None:
    """Anything but an archive of plain arrays is refused; pickles are never loaded."""
    with pytest.raises(RecipeTamperedError, match=r"arrays\.npz"):
        decode_arrays(content)


def test_damaged_arrays_are_refused_or_whole() -> None:
    """Wherever a byte is changed, the arrays come back as they were or are refused by name."""
    arrays = {"a": np.arange(60, dtype=np.float32), "b": np.zeros((8, 9), np.bool_)}
    encoded = encode_arrays(arrays)
    refused = 0
    for position in range(len(encoded)):
        damaged = bytearray(encoded)
        damaged[position] ^= 0x55
        try:
            found = decode_arrays(bytes(damaged))
        except RecipeTamperedError:
            refused += 1
        else:
            assert all(np.array_equal(found[name], arrays[name]) for name in set(found) & set(arrays))
    assert refused > len(encoded) // 3


def test_missing_arrays_are_named(data_dir: Path, folder: Path, recipe: Recipe) -> None:
    """A recipe whose arrays do not go with its settings makes no scorer."""
    forge(folder, "arrays.npz", encode_arrays({k: v for k, v in recipe.arrays.items() if k != "reference_grey"}))
    with pytest.raises(RecipeTamperedError, match=r"arrays\.npz: 'reference_grey' is missing"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False).scorer()


def test_a_recipe_in_an_older_format_says_what_to_do(data_dir: Path, folder: Path) -> None:
    """Not "tampered": the manifest is whole, only older than this software."""
    manifest = json.loads((folder / "manifest.json").read_text())
    overwrite(folder / "manifest.json", json.dumps(manifest | {"format_version": 1}).encode())
    (folder.parent / "released.json").unlink(missing_ok=True)
    with pytest.raises(RecipeError, match=r"is in recipe format 1, this version reads 2 and 3: fit it again"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False)


@pytest.mark.parametrize("name", ["features.onnx", "contrast.onnx"])
def test_a_graph_that_is_none(data_dir: Path, folder: Path, name: str) -> None:
    """A file that is no compiled graph is a tampered recipe, not a crash of the runtime."""
    forge(folder, name, b"no graph")
    with pytest.raises(RecipeTamperedError, match="is not a graph of ours"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False).scorer()
