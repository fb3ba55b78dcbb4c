"""`inspector repair`: one image in, its twin in a file, and a report."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from inspector.errors import ImageSizeError, ImageTruncatedError, InputError
from inspector.images import decode_image
from pipelines.repair import repair_image
from reports.xmp import read_packet
from tests.small_line import HEIGHT_PX, RECIPE, WIDTH_PX, draw_part, teach

BOX = (180, 105, 212, 136)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("repair")
    teach(base / "data", base / "good", images=6)
    return base / "data"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A defective part, without loss."""
    path = tmp_path / "part.png"
    cv2.imwrite(str(path), draw_part(3, defect=True))
    return path


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    pixels = np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8)
    pixels[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
    path = tmp_path / "mask.png"
    cv2.imwrite(str(path), pixels)
    return path


@pytest.mark.parametrize(("method", "used"), [("auto", "paste"), ("paste", "paste"), ("telea", "telea"), ("ns", "ns")])
def test_only_the_surroundings_of_the_mask_change(
    data_dir: Path, image: Path, mask: Path, tmp_path: Path, method: str, used: str
) -> None:
    """White pixels are repaired, and no pixel farther than 32 px from them differs, mark included."""
    out = tmp_path / "deep" / "twin.png"
    report = repair_image(RECIPE, image, mask, method, out, data_dir).to_json()

    source, twin = decode_image(image.read_bytes()), decode_image(out.read_bytes())
    white = decode_image(mask.read_bytes())[..., 0] > 127
    distance = cv2.distanceTransform((~white).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    assert np.array_equal(source[distance > 32], twin[distance > 32])
    assert set(report) == {"method", "seconds", "regions", "generated", "fallback", "peel"}
    assert (report["method"], report["regions"], report["generated"]) == (used, 1, True)
    if used == "paste":
        assert np.abs(twin[white].astype(int) - draw_part(3)[white]).mean() < 10


def test_without_a_mask_the_detector_says_what_is_repaired(data_dir: Path, image: Path, tmp_path: Path) -> None:
    """The spot is found and painted over."""
    out = tmp_path / "twin.jpg"
    report = repair_image(RECIPE, image, None, "auto", out, data_dir)
    twin = decode_image(out.read_bytes())
    spot = np.s_[110:130, 185:205]
    assert report.regions >= 1
    assert np.abs(twin[spot].astype(int) - draw_part(3)[spot]).mean() < 15


def test_a_good_part_is_its_own_twin(data_dir: Path, tmp_path: Path) -> None:
    """Nothing suspicious, nothing generated, and the file says so."""
    image, out = tmp_path / "good.png", tmp_path / "twin.png"
    cv2.imwrite(str(image), draw_part(4))
    report = repair_image(RECIPE, image, None, "auto", out, data_dir)
    assert (report.regions, report.generated) == (0, False)
    assert np.array_equal(decode_image(out.read_bytes()), draw_part(4))
    with Image.open(out) as written:
        assert read_packet(written.info["xmp"])["insp:generated"] == "false"


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_file_says_that_it_is_generated(
    data_dir: Path, image: Path, mask: Path, tmp_path: Path, suffix: str
) -> None:
    """XMP in PNG and JPEG: method, regions and source type."""
    out = tmp_path / f"twin{suffix}"
    repair_image(RECIPE, image, mask, "auto", out, data_dir)
    with Image.open(out) as written:
        values = read_packet(written.info["xmp"])
    assert values["insp:kind"] == "twin"
    assert values["insp:twinMethod"] == "paste"
    assert values["insp:generatedRegions"] == " ".join(str(edge) for edge in BOX)


def test_input_that_cannot_work_is_named(data_dir: Path, image: Path, mask: Path, tmp_path: Path) -> None:
    """A mask of another size, a black or broken mask, a model that does not ship, an unknown file type."""
    small, black, broken = (tmp_path / name for name in ("small.png", "black.png", "broken.png"))
    cv2.imwrite(str(small), np.full((20, 20), 255, np.uint8))
    cv2.imwrite(str(black), np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8))
    broken.write_bytes(mask.read_bytes()[:40])
    out = tmp_path / "twin.png"
    for bad_mask, error, message in (
        (small, ImageSizeError, "the mask is 20x20 px"),
        (black, InputError, "no white pixel"),
        (broken, ImageTruncatedError, "not"),
    ):
        with pytest.raises(error, match=message):
            repair_image(RECIPE, image, bad_mask, "auto", out, data_dir)
    with pytest.raises(InputError, match="magic"):
        repair_image(RECIPE, image, mask, "magic", out, data_dir)
    with pytest.raises(InputError, match=r"twin\.gif"):
        repair_image(RECIPE, image, mask, "auto", tmp_path / "twin.gif", data_dir)
    assert not out.exists()
