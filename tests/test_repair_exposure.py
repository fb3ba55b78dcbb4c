"""`inspector repair --exposure`: a dark frame in, a well-lit picture in a file, and a report."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from inspector.errors import ImageSizeError, ImageTruncatedError, InputError, InspectorError
from inspector.generator.exposure.darkening import Sensor, darken
from inspector.generator.mark import mark_generated
from inspector.images import decode_image
from pipelines.command_line import app
from pipelines.repair_exposure import check_exposure_options, relight_image
from reports.xmp import read_packet
from tests.small_line import HEIGHT_PX, RECIPE, WIDTH_PX, draw_part, teach


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("exposure")
    teach(base / "data", base / "good", images=6)
    return base / "data"


@pytest.fixture
def dark(tmp_path: Path) -> Path:
    """A defective part in a tenth of the light."""
    path = tmp_path / "dark.png"
    cv2.imwrite(str(path), darken(draw_part(3, defect=True), 0.1, Sensor(), np.random.default_rng(1)))
    return path


def test_a_dark_frame_is_lit_and_its_file_left_alone(data_dir: Path, dark: Path, tmp_path: Path) -> None:
    """The picture has the light of the recipe's parts, the defect is in it, and the report tells noise from detail."""
    before, out = dark.read_bytes(), tmp_path / "deep" / "lit.png"

    report = relight_image(RECIPE, dark, out, data_dir).to_json()

    lit, truth = decode_image(out.read_bytes()), draw_part(3, defect=True)
    assert np.abs(lit[140:].astype(float) - truth[140:]).mean() < 6
    assert lit[112:128, 187:203].mean() < 60 < 120 < lit[100:140, 225:245].mean()
    assert dark.read_bytes() == before
    assert (report["method"], report["generated"], report["regions"]) == ("exposure", True, 1)
    assert report["gain"] == pytest.approx(10, rel=0.1)
    assert report["exposure"] == pytest.approx(0.1, rel=0.1)
    assert 2 < report["noise_sigma"] < 12
    assert report["noise_left"] < report["noise_sigma"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_the_picture_says_that_it_is_generated(data_dir: Path, dark: Path, tmp_path: Path, suffix: str) -> None:
    """In XMP with the hash of the frame, and in its pixels: the word in the corner."""
    out = tmp_path / f"lit{suffix}"
    relight_image(RECIPE, dark, out, data_dir)
    with Image.open(out) as written:
        values = read_packet(written.info["xmp"])
    assert (values["insp:kind"], values["insp:generated"], values["insp:twinMethod"]) == ("exposure", "true", "net")
    assert values["Iptc4xmpExt:DigitalSourceType"].endswith("compositeWithTrainedAlgorithmicMedia")
    assert values["insp:generatedRegions"] == f"0 0 {WIDTH_PX} {HEIGHT_PX}"
    stamp = mark_generated(np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8), np.ones((HEIGHT_PX, WIDTH_PX), np.bool_)) > 0
    assert stamp.sum() >= 300
    assert decode_image(out.read_bytes())[stamp].mean() > 235


def test_a_well_lit_frame_is_written_as_it_is(data_dir: Path, tmp_path: Path) -> None:
    """Nothing generated, nothing marked, and the report and the file say so."""
    image, out = tmp_path / "good.png", tmp_path / "lit.png"
    cv2.imwrite(str(image), draw_part(4))
    report = relight_image(RECIPE, image, out, data_dir)
    assert (report.generated, report.regions) == (False, 0)
    assert report.gain == pytest.approx(1, abs=0.15)
    assert np.array_equal(decode_image(out.read_bytes()), draw_part(4))
    with Image.open(out) as written:
        assert read_packet(written.info["xmp"])["insp:generated"] == "false"


def test_grey_and_16_bit_frames_are_lit(data_dir: Path, tmp_path: Path) -> None:
    """A grey file of 8 bits and one of 16 give grey pictures at the right light."""
    truth = cv2.cvtColor(draw_part(5), cv2.COLOR_BGR2GRAY)
    dark = darken(
        np.asarray(cv2.cvtColor(truth, cv2.COLOR_GRAY2BGR), np.uint8), 0.1, Sensor(), np.random.default_rng(2)
    )
    for name, samples in (("8.png", dark[..., 0]), ("16.png", dark[..., 0].astype(np.uint16) * 257)):
        cv2.imwrite(str(tmp_path / name), samples)
        out = tmp_path / f"lit{name}"
        assert relight_image(RECIPE, tmp_path / name, out, data_dir).generated
        lit = decode_image(out.read_bytes())
        assert np.array_equal(lit[..., 0], lit[..., 2])
        assert np.abs(lit[20:, :, 0].astype(float) - truth[20:]).mean() < 8


def test_input_that_cannot_work_is_named(data_dir: Path, dark: Path, tmp_path: Path) -> None:
    """Another size, half a file, a black frame, an unknown file type, the frame itself as --out."""
    small, half, black = (tmp_path / name for name in ("small.png", "half.png", "black.png"))
    cv2.imwrite(str(small), np.full((20, 20, 3), 9, np.uint8))
    half.write_bytes(dark.read_bytes()[:200])
    cv2.imwrite(str(black), np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8))
    out = tmp_path / "lit.png"
    cases: tuple[tuple[Path, Path, type[InspectorError], str], ...] = (
        (small, out, ImageSizeError, "20x20"),
        (half, out, ImageTruncatedError, "not"),
        (black, out, InputError, "black"),
        (dark, tmp_path / "lit.gif", InputError, r"lit\.gif"),
        (dark, dark, InputError, "never altered"),
    )
    for image, target, error, message in cases:
        with pytest.raises(error, match=message):
            relight_image(RECIPE, image, target, data_dir)
    assert not out.exists()


@pytest.mark.parametrize(
    ("mask", "method", "gain", "exposure", "message"),
    [
        (Path("mask.png"), "auto", None, True, "leave out --mask"),
        (None, "paste", None, True, "leave out --method paste"),
        (None, "auto", 4.0, False, "goes with --exposure"),
    ],
)
def test_options_that_exclude_each_other(
    mask: Path | None, method: str, gain: float | None, exposure: bool, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        check_exposure_options(mask, method, gain, exposure=exposure)


def test_the_command_answers_in_json(data_dir: Path, dark: Path, tmp_path: Path) -> None:
    """`repair --exposure --gain --json`: one object with the contract's keys and those of the exposure."""
    out = tmp_path / "lit.jpg"
    arguments = ["repair", RECIPE, str(dark), "--exposure", "--gain", "10", "--out", str(out)]
    done = CliRunner().invoke(app, [*arguments, "--data-dir", str(data_dir), "--json"], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert report.keys() >= {"method", "seconds", "regions", "generated", "gain", "exposure", "noise_sigma"}
    assert report["gain"] == 10.0
    assert out.is_file()
