"""Recipes on disk: every change is noticed and named, only released versions run, and scores never drift."""

from __future__ import annotations

import io
import json
import re
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.detector.recipe import Recipe, decode_arrays, encode_arrays
from inspector.detector.recipe_store import RecipeContent, RecipeStore, remove_unfinished
from inspector.errors import (
    RecipeError,
    RecipeMismatchError,
    RecipeNotFoundError,
    RecipeNotReleasedError,
    RecipeTamperedError,
)
from inspector.geometry.registration import make_reference, register
from inspector.images import sha256_hex
from inspector.records import RecipeRef, Scoring
from tests.small_line import HEIGHT_PX, RECIPE, WIDTH_PX, draw_part, teach

FILES = ("arrays.npz", "contrast.onnx", "features.onnx", "golden.png", "manifest.json", "references.npz")
BAD_NAMES = ("", "../plate", "a/b", "/etc", "..", ".new-x", "Plate", "plate\n", "plate\0", "p" * 33, "plätte")
BAD_REFERENCES = (*BAD_NAMES, "plate@", "plate@0", "plate@-1", "plate@1.0", "plate@01", "plate@../1", "@1", "plate@1@1")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one small released recipe, fitted once; nobody changes it."""
    root = tmp_path_factory.mktemp("taught")
    teach(root / "data", root / "good")
    return root / "data"


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


def content_of(recipe: Recipe, name: str = RECIPE) -> RecipeContent:
    """What a fit would hand over to store the same recipe again."""
    return RecipeContent(
        name=name,
        settings=recipe.manifest.settings,
        frame_size=recipe.frame_size,
        arrays=recipe.arrays,
        graph=recipe.graph,
        contrast_graph=recipe.contrast_graph,
        golden=recipe.golden,
        images=recipe.manifest.images,
        thresholds=recipe.thresholds,
        false_alarm_target=recipe.manifest.false_alarm_target,
        false_alarm_interval=recipe.manifest.false_alarm_interval,
        promise=recipe.manifest.promise,
        choices=recipe.manifest.choices,
    )


def overwrite(path: Path, content: bytes) -> None:
    """Write a read-only file as somebody with the rights to would."""
    path.chmod(0o644)
    path.write_bytes(content)


def change_one_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    overwrite(path, bytes(content))


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file of a recipe, put its new hash into the manifest and take the release back."""
    overwrite(folder / name, content)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = sha256_hex(content)
    overwrite(folder / "manifest.json", json.dumps(manifest).encode())
    (folder.parent / "released.json").unlink(missing_ok=True)


def facts(scoring: Scoring) -> tuple[object, ...]:
    """Everything a scoring says, exactly."""
    registration = scoring.registration
    assert registration is not None
    return (
        scoring.score,
        scoring.anomaly_map.scores.tobytes(),
        scoring.detections,
        registration.matrix.tobytes(),
        registration.confidence,
    )


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
    with pytest.raises(RecipeError, match=r"is in recipe format 1, this version reads 2: fit it again"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False)


@pytest.mark.parametrize("name", ["features.onnx", "contrast.onnx"])
def test_a_graph_that_is_none(data_dir: Path, folder: Path, name: str) -> None:
    """A file that is no compiled graph is a tampered recipe, not a crash of the runtime."""
    forge(folder, name, b"no graph")
    with pytest.raises(RecipeTamperedError, match="is not a graph of ours"):
        RecipeStore(data_dir).load(f"{RECIPE}@1", require_released=False).scorer()


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


@pytest.mark.parametrize("size", [(WIDTH_PX * 2, HEIGHT_PX), (WIDTH_PX, HEIGHT_PX - 1), (HEIGHT_PX, WIDTH_PX)])
def test_a_frame_of_another_size_is_refused(recipe: Recipe, size: tuple[int, int]) -> None:
    """A recipe for another camera size gives no verdict; both sizes are named."""
    frame = np.asarray(cv2.resize(draw_part(1), size), np.uint8)
    with pytest.raises(RecipeMismatchError, match=rf"{size[0]}x{size[1]} px.*{WIDTH_PX}x{HEIGHT_PX}"):
        recipe.scorer().score_frame(frame)


def test_loading_twice_gives_the_same_scores(taught: Path) -> None:
    """The same pixels give the same score, map, detections and registration, to the last bit."""
    first, second = (RecipeStore(taught).load(RECIPE).scorer() for _ in range(2))
    for number, defect in ((1, False), (2, True)):
        frame = draw_part(number, defect=defect)
        assert facts(first.score_frame(frame)) == facts(second.score_frame(frame))


def test_scores_do_not_depend_on_what_was_scored_before(recipe: Recipe) -> None:
    """The reference once faded from frame to frame: after many others a frame still scores what it did first."""
    scorer = recipe.scorer()
    frame = draw_part(3, defect=True)
    before, arrays = frame.copy(), {name: array.copy() for name, array in recipe.arrays.items()}
    first = facts(scorer.score_frame(frame))
    for number in range(10, 22):
        scorer.score_frame(draw_part(number, defect=number % 2 == 0))
    scorer.score_frame(np.zeros_like(frame))
    assert facts(scorer.score_frame(frame)) == first
    assert np.array_equal(frame, before)
    assert all(np.array_equal(array, arrays[name]) for name, array in recipe.arrays.items())


def test_frames_scored_side_by_side_do_not_touch_each_other(recipe: Recipe) -> None:
    """One scorer in two threads, and two scorers of one recipe, say what one thread alone says."""
    frames = [draw_part(number, defect=number % 3 == 0) for number in range(6)] * 3
    shared, other = recipe.scorer(), recipe.scorer()
    alone = [facts(recipe.scorer().score_frame(frame)) for frame in frames[:6]] * 3
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda frame: facts(shared.score_frame(frame)), frames))
        apart = list(pool.map(lambda job: facts((shared, other)[job[0] % 2].score_frame(job[1])), enumerate(frames)))
    assert together == alone
    assert apart == alone


@pytest.mark.parametrize("model", ["shift", "rigid", "affine"])
@pytest.mark.parametrize("width_px", [320, 1280])
def test_registration_leaves_its_reference_alone(model: str, width_px: int) -> None:
    """Registering changes neither the reference nor the frame, and twice gives the same matrix."""
    height_px = width_px * 3 // 4
    reference = make_reference(draw_part(1, width_px=width_px, height_px=height_px), model)
    frame = draw_part(2, width_px=width_px, height_px=height_px)
    grey, part, pixels = reference.grey.copy(), reference.part.copy(), frame.copy()
    first, second = register(reference, frame), register(reference, frame)
    assert np.array_equal(reference.grey, grey)
    assert np.array_equal(reference.part, part)
    assert np.array_equal(frame, pixels)
    assert np.array_equal(first.matrix, second.matrix)
    assert first.confidence == second.confidence > 0.9
