"""Versions of recipes: only released ones run, numbers are given once, and names never become paths."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore, remove_unfinished
from inspector.errors import (
    RecipeError,
    RecipeNotFoundError,
    RecipeNotReleasedError,
    RecipeTamperedError,
)
from tests.recipe_rig import change_one_byte, content_of
from tests.small_line import RECIPE

BAD_NAMES = ("", "../plate", "a/b", "/etc", "..", ".new-x", "Plate", "plate\n", "plate\0", "p" * 33, "plätte")
BAD_REFERENCES = (*BAD_NAMES, "plate@", "plate@0", "plate@-1", "plate@1.0", "plate@01", "plate@../1", "@1", "plate@1@1")


@pytest.fixture(scope="module")
def taught(taught_plate: Path) -> Path:
    """A data directory with one small released recipe; nobody changes it."""
    return taught_plate / "data"


@pytest.fixture
def data_dir(taught: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    shutil.copytree(taught, tmp_path / "data")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def recipe(taught: Path) -> Recipe:
    """The recipe as it was taught."""
    return RecipeStore(taught).load(RECIPE)


@pytest.mark.parametrize("content", [b"", b"not json", b"[]", b'{"released": [{"version": 1}]}', b'{"more": 1}'])
def test_a_list_of_releases_that_is_none(data_dir: Path, content: bytes) -> None:
    """Named, whatever was asked for."""
    (data_dir / "recipes" / RECIPE / "released.json").write_bytes(content)
    store = RecipeStore(data_dir)
    for reference in (RECIPE, f"{RECIPE}@1"):
        with pytest.raises(RecipeTamperedError, match=r"released\.json"):
            store.load(reference)


def test_a_release_with_another_hash_is_noticed(data_dir: Path) -> None:
    """The list of releases and the manifest must agree."""
    path = data_dir / "recipes" / RECIPE / "released.json"
    releases = json.loads(path.read_bytes())
    releases["released"][0]["manifest_sha256"] = "0" * 64
    path.write_text(json.dumps(releases))
    with pytest.raises(RecipeTamperedError, match="does not match the hash it was released with"):
        RecipeStore(data_dir).load(f"{RECIPE}@1")


def test_only_released_versions_run(data_dir: Path, recipe: Recipe) -> None:
    """A new version is not released by being there; NAME stays the latest released one until it is."""
    store = RecipeStore(data_dir)
    assert store.save(content_of(recipe)).version == 2
    assert store.resolve(RECIPE).version == 1
    with pytest.raises(RecipeNotReleasedError, match="plate@2 was never released"):
        store.load(f"{RECIPE}@2")
    assert store.load(f"{RECIPE}@2", require_released=False).ref.version == 2
    store.release(RECIPE, 2)
    assert store.load(RECIPE).ref.version == 2
    assert store.load(f"{RECIPE}@1").ref.version == 1


def test_latest_means_the_highest_version(data_dir: Path, recipe: Recipe) -> None:
    """Not the one released last, and not the one that sorts last as text."""
    store = RecipeStore(data_dir)
    for _ in range(9):
        store.save(content_of(recipe))
    store.release(RECIPE, 10)
    store.release(RECIPE, 3)
    assert store.resolve(RECIPE).version == 10
    assert [ref.version for ref in store.versions(RECIPE)] == list(range(1, 11))
    assert [entry.version for entry in store.released(RECIPE)] == [1, 10, 3]


def test_a_recipe_without_a_release(data_dir: Path) -> None:
    """NAME needs a released version, also where unreleased ones are accepted by number."""
    (data_dir / "recipes" / RECIPE / "released.json").unlink()
    store = RecipeStore(data_dir)
    with pytest.raises(RecipeNotReleasedError, match="no version of recipe plate is released"):
        store.load(RECIPE)
    with pytest.raises(RecipeNotReleasedError):
        store.load(f"{RECIPE}@1")


def test_releasing_twice_changes_nothing(data_dir: Path) -> None:
    """The list of releases grows only by what is new."""
    path = data_dir / "recipes" / RECIPE / "released.json"
    before = path.read_bytes()
    assert RecipeStore(data_dir).release(RECIPE, 1).version == 1
    assert path.read_bytes() == before


def test_a_tampered_version_cannot_be_released(data_dir: Path, recipe: Recipe) -> None:
    """Releasing checks every hash first."""
    store = RecipeStore(data_dir)
    store.save(content_of(recipe))
    change_one_byte(data_dir / "recipes" / RECIPE / "2" / "arrays.npz")
    with pytest.raises(RecipeTamperedError, match=r"arrays\.npz"):
        store.release(RECIPE, 2)
    assert [entry.version for entry in store.released(RECIPE)] == [1]


def test_a_version_number_is_never_given_twice(data_dir: Path, recipe: Recipe) -> None:
    """After the newest released version was deleted, its number still belongs to it."""
    store = RecipeStore(data_dir)
    store.release(RECIPE, store.save(content_of(recipe)).version)
    shutil.rmtree(data_dir / "recipes" / RECIPE / "2")
    assert store.save(content_of(recipe)).version == 3
    with pytest.raises(RecipeNotFoundError, match="no version 2"):
        store.load(RECIPE)


def test_versions_saved_side_by_side_are_all_kept(data_dir: Path, recipe: Recipe) -> None:
    """Two programs that store at once get two numbers, and both versions are whole."""
    stores = [RecipeStore(data_dir) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        saved = list(pool.map(lambda store: store.save(content_of(recipe)), stores))
    assert sorted(ref.version for ref in saved) == [2, 3, 4, 5]
    for ref in saved:
        assert stores[0].load(ref, require_released=False).ref == ref


def test_unknown_names_and_versions(data_dir: Path, tmp_path: Path) -> None:
    """Said so, with what was asked for; a data directory without recipes is no special case."""
    with pytest.raises(RecipeNotFoundError, match="no recipe named other"):
        RecipeStore(data_dir).load("other")
    with pytest.raises(RecipeNotFoundError, match="plate has no version 7"):
        RecipeStore(data_dir).load(f"{RECIPE}@7")
    empty = RecipeStore(tmp_path / "nothing")
    with pytest.raises(RecipeNotFoundError):
        empty.load(RECIPE)
    assert empty.names() == ()
    assert empty.versions(RECIPE) == ()
    assert RecipeStore(data_dir).names() == (RECIPE,)


@pytest.mark.parametrize("reference", BAD_REFERENCES)
def test_references_that_are_none_are_refused(data_dir: Path, reference: str) -> None:
    """A reference never becomes a path of its own."""
    with pytest.raises(RecipeNotFoundError):
        RecipeStore(data_dir).load(reference, require_released=False)


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_are_none_are_refused(data_dir: Path, recipe: Recipe, name: str) -> None:
    """Neither stored, listed nor released; nothing appears outside the recipe's own folder."""
    store = RecipeStore(data_dir)
    before = sorted(data_dir.parent.rglob("*"))
    for action in (lambda: store.save(content_of(recipe, name)), lambda: store.versions(name)):
        with pytest.raises(RecipeError):
            action()
    for look in (lambda: store.released(name), lambda: store.release(name, 1)):
        with pytest.raises(RecipeNotFoundError):
            look()
    assert sorted(data_dir.parent.rglob("*")) == before


def test_what_a_killed_fit_left_behind_goes(data_dir: Path) -> None:
    """A half-written version is no version, and is cleared away without touching the whole ones."""
    leftover = data_dir / "recipes" / RECIPE / ".new-abc" / "2"
    leftover.mkdir(parents=True)
    (leftover / "arrays.npz").write_bytes(b"half")
    store = RecipeStore(data_dir)
    assert [ref.version for ref in store.versions(RECIPE)] == [1]
    remove_unfinished(data_dir)
    assert not leftover.parent.exists()
    assert store.load(RECIPE).ref.version == 1
