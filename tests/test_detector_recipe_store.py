"""Recipes on disk: immutable, versioned, released explicitly, and every changed byte is noticed."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import numpy as np
import pytest

from inspector.detector.recipe_store import RecipeStore, remove_unfinished
from inspector.errors import (
    DataDirReadOnlyError,
    RecipeError,
    RecipeNotFoundError,
    RecipeNotReleasedError,
    RecipeTamperedError,
    StoreError,
)
from pipelines.fit import fit_recipe
from tests.part_images import paint_board, write_images

FILES = ("arrays.npz", "features.onnx", "golden.png", "manifest.json")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two versions of one recipe, the first of them released."""
    root = tmp_path_factory.mktemp("fitted")
    good = write_images(root / "good", [paint_board(seed) for seed in range(4)])
    fit_recipe("board", good, root)
    fit_recipe("board", good, root, release=False)
    return root


@pytest.fixture
def data_dir(fitted: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(fitted, tmp_path / "data"))


def _spoil(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_loaded_recipe_scores_as_the_fitted_one(data_dir: Path) -> None:
    """The golden image is one of the good ones, pixel for pixel, and scores like an ordinary good part."""
    recipe = RecipeStore(data_dir).load("board")
    scoring = recipe.scorer().score_frame(recipe.golden)
    assert any(np.array_equal(recipe.golden, paint_board(seed)) for seed in range(4))
    assert scoring.score < recipe.thresholds.review
    assert scoring.registration is not None and np.allclose(scoring.registration.matrix, np.eye(2, 3), atol=0.05)


def test_names_resolve_to_versions(data_dir: Path) -> None:
    """NAME is the latest released version, NAME@2 a given one; versions count up; a released recipe is required."""
    store = RecipeStore(data_dir)
    assert store.names() == ("board",)
    assert [ref.version for ref in store.versions("board")] == [1, 2]
    assert (store.resolve("board").version, store.resolve("board@2").version) == (1, 2)
    with pytest.raises(RecipeNotReleasedError, match="board@2"):
        store.load("board@2")
    assert store.load("board@2", require_released=False).ref.version == 2
    store.release("board", 2)
    store.release("board", 2)
    assert store.load("board").ref.version == 2
    assert [entry.version for entry in store.released("board")] == [1, 2]


@pytest.mark.parametrize("reference", ["other", "board@7", "../board", "board@0", "board/1", "", "Board", "board@1@2"])
def test_what_does_not_exist_is_not_found(data_dir: Path, reference: str) -> None:
    """Unknown names and versions, and anything that is not a reference, whatever a message sends."""
    with pytest.raises(RecipeNotFoundError):
        RecipeStore(data_dir).load(reference)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_in_any_file_is_noticed(data_dir: Path, name: str) -> None:
    """The error names the file."""
    path = data_dir / "recipes" / "board" / "1" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    _spoil(path, bytes(content))
    with pytest.raises(RecipeTamperedError, match=name):
        RecipeStore(data_dir).load("board")


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(data_dir: Path, name: str) -> None:
    """The error names the file."""
    (data_dir / "recipes" / "board" / "1" / name).unlink()
    with pytest.raises(RecipeTamperedError, match=name):
        RecipeStore(data_dir).load("board@1")


def test_an_extra_file_is_noticed(data_dir: Path) -> None:
    """Nothing that the manifest does not list may lie in a recipe."""
    (data_dir / "recipes" / "board" / "1" / "extra.bin").write_bytes(b"x")
    with pytest.raises(RecipeTamperedError, match=r"extra\.bin is not in the manifest"):
        RecipeStore(data_dir).load("board")


def test_thresholds_cannot_be_edited_after_the_release(data_dir: Path) -> None:
    """A manifest that is valid in itself but not the released one is refused."""
    path = data_dir / "recipes" / "board" / "1" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["thresholds"] = {"review": 90.0, "ng": 99.0}
    _spoil(path, json.dumps(manifest).encode())
    with pytest.raises(RecipeTamperedError, match="hash it was released with"):
        RecipeStore(data_dir).load("board")


def test_a_reference_notices_that_its_recipe_changed(data_dir: Path) -> None:
    """An unreleased version has no recorded hash but the one in the reference."""
    store = RecipeStore(data_dir)
    ref = store.resolve("board@2")
    path = data_dir / "recipes" / "board" / "2" / "manifest.json"
    _spoil(path, path.read_bytes() + b"\n")
    with pytest.raises(RecipeTamperedError, match="changed since it was resolved"):
        store.load(ref, require_released=False)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"released": [{"version": 0}]}', b"\xff\xfe"])
def test_broken_json_is_tampering_not_a_crash(data_dir: Path, content: bytes) -> None:
    """Neither a manifest nor a release list that is not JSON, or not of the right shape, raises anything else."""
    (data_dir / "recipes" / "board" / "released.json").write_bytes(content)
    with pytest.raises(RecipeTamperedError, match=r"released\.json"):
        RecipeStore(data_dir).load("board")
    _spoil(data_dir / "recipes" / "board" / "2" / "manifest.json", content)
    with pytest.raises(RecipeTamperedError):
        RecipeStore(data_dir).load("board@2", require_released=False)


def test_pickles_are_never_loaded(data_dir: Path) -> None:
    """An arrays file with a pickled object and a matching hash is refused before anything runs."""
    from inspector.detector.recipe import decode_arrays, encode_arrays

    hostile = data_dir / "hostile.npz"
    np.savez(hostile, allow_pickle=True, part=np.array([object()], dtype=object))
    with pytest.raises(RecipeTamperedError, match=r"arrays\.npz"):
        decode_arrays(hostile.read_bytes())
    with pytest.raises(RecipeTamperedError, match=r"arrays\.npz"):
        decode_arrays(b"PK\x03\x04 not an archive")
    assert decode_arrays(encode_arrays({"a": np.arange(3)}))["a"].tolist() == [0, 1, 2]


def test_files_are_read_only_and_unfinished_folders_are_swept(data_dir: Path) -> None:
    """Nothing in a version is writable; what a killed fit left is not a version and can be removed."""
    folder = data_dir / "recipes" / "board"
    for name in FILES:
        assert not (folder / "1" / name).stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    (folder / ".new-killed" / "3").mkdir(parents=True)
    assert [ref.version for ref in RecipeStore(data_dir).versions("board")] == [1, 2]
    remove_unfinished(data_dir)
    assert not (folder / ".new-killed").exists()


def test_bad_names_and_unwritable_places_are_named(data_dir: Path, tmp_path: Path) -> None:
    """A name that could leave the folder is refused; a data directory that is a file is a storage error."""
    good = write_images(tmp_path / "good", [paint_board(1)])
    with pytest.raises(RecipeError, match="must match"):
        fit_recipe("../escape", good, data_dir)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises((DataDirReadOnlyError, StoreError), match="file"):
        fit_recipe("board", good, blocked)
