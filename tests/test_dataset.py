"""Folders of images: the convention, its masks, and everything else that lies about in such folders."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.errors import DatasetError
from inspector.images import sha256_hex
from pipelines.dataset import ImageFolder, find_images, open_good_images, open_test_set, read_image, read_mask

SIZE = (40, 30)


def write_image(path: Path, size: tuple[int, int] = SIZE, level: int = 90) -> Path:
    """A grey picture of (width, height), with the folders that lead to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), level, np.uint8))
    return path


def write_mask(path: Path, size: tuple[int, int] = SIZE, value: int = 255) -> Path:
    """A one-channel mask that marks a box of 6x4 px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((size[1], size[0]), np.uint8)
    mask[10:14, 20:26] = value
    assert cv2.imwrite(str(path), mask)
    return path


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    """Two good images, two scratched and one bent, each defective one with its mask."""
    root = tmp_path / "plate"
    for name in ("good/002.png", "good/001.png", "scratch/000.png", "scratch/001.png", "bent/000.png"):
        write_image(root / "test" / name)
    for name in ("scratch/000_mask.png", "scratch/001_mask.png", "bent/000_mask.png"):
        write_mask(root / "ground_truth" / name)
    write_image(root / "train" / "good" / "000.png")
    return root


def test_the_convention_is_read_in_a_fixed_order(data_set: Path) -> None:
    """Folders are defects, `good` is none; images come sorted by folder and name, each with its own mask."""
    found = open_test_set(data_set)
    listed = [(image.defect, image.path.name, image.mask and image.mask.name) for image in found.images]
    assert listed == [
        ("bent", "000.png", "000_mask.png"),
        (None, "001.png", None),
        (None, "002.png", None),
        ("scratch", "000.png", "000_mask.png"),
        ("scratch", "001.png", "001_mask.png"),
    ]
    assert found.images[0].mask == data_set / "ground_truth" / "bent" / "000_mask.png"
    assert found.has_masks


def test_masks_mark_the_defect_and_nothing_on_good_images(data_set: Path) -> None:
    """A mask is True where it is white; a good image has an empty one of its own size."""
    bent, good = open_test_set(data_set).images[:2]
    mask = read_mask(bent, SIZE)
    assert mask.dtype == np.bool_
    assert mask[10:14, 20:26].all()
    assert mask.sum() == 24
    assert read_mask(good, (7, 5)).shape == (5, 7)
    assert not read_mask(good, (7, 5)).any()


@pytest.mark.parametrize("name", ["000.png", "000_mask.png", "000_mask.jpg"])
def test_masks_under_the_names_that_occur(tmp_path: Path, name: str) -> None:
    """Some data sets leave `_mask` out, some keep the suffix of the image."""
    write_image(tmp_path / "test" / "scratch" / "000.jpg")
    write_mask(tmp_path / "ground_truth" / "scratch" / name)
    found = open_test_set(tmp_path)
    assert found.has_masks
    assert read_mask(found.images[0], SIZE)[12, 23]


def test_one_missing_mask_is_noticed(data_set: Path) -> None:
    """Pixel measures need a mask for every defective image: with one missing the set has none."""
    (data_set / "ground_truth" / "scratch" / "001_mask.png").unlink()
    assert not open_test_set(data_set).has_masks


def test_good_images_alone_have_no_masks(tmp_path: Path) -> None:
    """Without a defective image there is nothing to mark."""
    write_image(tmp_path / "test" / "good" / "000.png")
    assert not open_test_set(tmp_path).has_masks


def test_mask_of_another_size_is_named(data_set: Path) -> None:
    """A mask must fit its image; the error names the file and both sizes."""
    write_mask(data_set / "ground_truth" / "bent" / "000_mask.png", (80, 60))
    with pytest.raises(DatasetError, match=r"000_mask\.png is 80x60 px, its image 40x30"):
        read_mask(open_test_set(data_set).images[0], SIZE)


def test_mask_that_is_no_image_is_named(data_set: Path) -> None:
    """An unreadable mask is an error, not an empty mask."""
    (data_set / "ground_truth" / "bent" / "000_mask.png").write_bytes(b"not a picture")
    with pytest.raises(DatasetError, match=r"bent/000_mask\.png"):
        read_mask(open_test_set(data_set).images[0], SIZE)


@pytest.mark.parametrize("missing", ["nothing there", "no test folder", "test is a file"])
def test_no_test_folder(tmp_path: Path, missing: str) -> None:
    """The error says which folder is expected."""
    root = tmp_path / "plate"
    if missing != "nothing there":
        write_image(root / "train" / "good" / "000.png")
    if missing == "test is a file":
        (root / "test").write_text("")
    with pytest.raises(DatasetError, match="no folder `test`; expected test/good and test/<defect>"):
        open_test_set(root)


@pytest.mark.parametrize("folders", [[], ["good"], ["good", "scratch"]])
def test_test_folder_without_images(tmp_path: Path, folders: list[str]) -> None:
    """Empty folders are not a test set."""
    (tmp_path / "test").mkdir()
    for name in folders:
        (tmp_path / "test" / name).mkdir()
    with pytest.raises(DatasetError, match="test holds no images"):
        open_test_set(tmp_path)


def test_images_beside_the_folders_have_no_label(tmp_path: Path) -> None:
    """An image directly in `test` is neither good nor defective: alone it makes no test set."""
    write_image(tmp_path / "test" / "000.png")
    with pytest.raises(DatasetError, match="test holds no images"):
        open_test_set(tmp_path)


def test_an_empty_defect_folder_is_no_defect(data_set: Path) -> None:
    """A folder without images adds nothing."""
    (data_set / "test" / "dent").mkdir()
    assert len(open_test_set(data_set).images) == 5


def test_nested_folders_are_not_entered(data_set: Path) -> None:
    """Only images directly in a defect's folder belong to it."""
    write_image(data_set / "test" / "scratch" / "more" / "005.png")
    write_image(data_set / "test" / "good" / "scratch" / "006.png")
    assert len(open_test_set(data_set).images) == 5


def test_hidden_folders_are_no_defects(data_set: Path) -> None:
    """What file managers and notebooks leave behind does not become a kind of defect."""
    write_image(data_set / "test" / ".thumbnails" / "000.png")
    write_image(data_set / "test" / ".ipynb_checkpoints" / "001.png")
    assert {image.defect for image in open_test_set(data_set).images} == {None, "bent", "scratch"}


def test_only_images_are_found(tmp_path: Path) -> None:
    """Sorted by name; hidden files, other suffixes, folders, and links that lead nowhere are left out."""
    for name in ("b.png", "A.JPG", "c.tiff", ".hidden.png", "._b.png"):
        write_image(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "Thumbs.db").write_bytes(b"\0")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert [path.name for path in find_images(tmp_path)] == ["A.JPG", "b.png", "c.tiff"]


@pytest.mark.parametrize("kind", ["missing", "file"])
def test_a_folder_that_is_none(tmp_path: Path, kind: str) -> None:
    """Named as what it is."""
    path = tmp_path / "good"
    if kind == "file":
        path.write_text("")
    with pytest.raises(DatasetError, match="good is not a folder"):
        open_good_images(path)


def test_good_images_of_a_whole_data_set(data_set: Path) -> None:
    """Given the root of a data set, its `train/good` is meant; given a folder of images, these."""
    assert open_good_images(data_set).paths == (data_set / "train" / "good" / "000.png",)
    assert [path.name for path in open_good_images(data_set / "test" / "good").paths] == ["001.png", "002.png"]


def test_images_in_the_folder_come_before_those_of_a_data_set(data_set: Path) -> None:
    """The folder that was named is the one that is used."""
    chosen = write_image(data_set / "mine.png")
    assert open_good_images(data_set).paths == (chosen,)


@pytest.mark.parametrize("inside", ["nothing", "text", "nested", "empty train/good"])
def test_a_folder_without_good_images(tmp_path: Path, inside: str) -> None:
    """The error says what would have been taken; images are not looked for in deeper folders."""
    if inside == "text":
        (tmp_path / "notes.txt").write_text("none")
    elif inside == "nested":
        write_image(tmp_path / "monday" / "000.png")
    elif inside == "empty train/good":
        (tmp_path / "train" / "good").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"holds no images \(.*\.jpg.*\.png"):
        open_good_images(tmp_path)


@pytest.mark.parametrize("content", [b"", b"plain text", b"\x89PNG\r\n\x1a\n", b"GIF89a" + bytes(40)])
def test_unreadable_images_are_named(tmp_path: Path, content: bytes) -> None:
    """Every way to an image that cannot be read ends in an error with its path."""
    path = tmp_path / "odd.png"
    path.write_bytes(content)
    folder = open_good_images(tmp_path)
    for read in (lambda: folder.read(0), lambda: folder.size(0), lambda: read_image(path)):
        with pytest.raises(DatasetError, match=r"odd\.png: "):
            read()


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    """Half a file is not half an image."""
    path = write_image(tmp_path / "half.jpg", (200, 160))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DatasetError, match=r"half\.jpg: "):
        open_good_images(tmp_path).read(0)


def test_an_image_that_vanishes_is_named(tmp_path: Path) -> None:
    """Listed, then removed: reading, measuring and hashing it all name it."""
    path = write_image(tmp_path / "brief.png")
    folder = open_good_images(tmp_path)
    path.unlink()
    for read in (lambda: folder.read(0), lambda: folder.size(0), lambda: folder.sha256(0)):
        with pytest.raises(DatasetError, match=r"brief\.png: .*removed"):
            read()


def test_images_of_one_folder_may_differ(tmp_path: Path) -> None:
    """Sizes come from the headers, hashes from the bytes, grey images are replicated to three channels."""
    write_mask(tmp_path / "a.png", (50, 40))
    second = write_image(tmp_path / "b.png", (30, 20), level=10)
    folder = ImageFolder(find_images(tmp_path))
    assert [folder.size(0), folder.size(1)] == [(50, 40), (30, 20)]
    assert folder.read(0).shape == (40, 50, 3)
    assert folder.sha256(1) == sha256_hex(second.read_bytes())
    assert len(folder) == 2
