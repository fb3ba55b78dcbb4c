"""Low light: the physics, the noise told from the detail, the light matched, the net run without seams."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.errors import InputError, WeightsError
from inspector.generator.exposure.brightening import brighten
from inspector.generator.exposure.darkening import Sensor, darken
from inspector.generator.exposure.level import match_exposure
from inspector.generator.exposure.net import FACTS_FILE, GRAPH_FILE, WEIGHTS_DIR, LowLightNet, open_net
from inspector.generator.exposure.noise import NoiseCurve, estimate_noise
from inspector.generator.exposure.relighting import relight_frame
from inspector.generator.exposure.response import RESPONSES, Response, light_levels, to_light, to_values, value_slope
from inspector.images import is_grey, sha256_hex
from inspector.records import BgrImage
from inspector.scenes.renderer import render_part


@pytest.fixture(scope="module")
def net() -> LowLightNet:
    return open_net(threads=1)


@pytest.fixture(scope="module")
def part() -> BgrImage:
    """A rendered board at a size that tests can afford; its seed is none of the training's."""
    return render_part("board", 101, 1, width_px=480, height_px=270, defect_rate=0.0).pixels


@pytest.fixture(scope="module")
def golden() -> BgrImage:
    """Another board of the same kind."""
    return render_part("board", 101, 2, width_px=480, height_px=270, defect_rate=0.0).pixels


def psnr(one: BgrImage, other: BgrImage) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(np.float64) - other).mean()))


def gain_then_smooth(dark: BgrImage, exposure: float, sensor: Sensor, truth: BgrImage) -> float:
    """PSNR of gain and OpenCV's non-local means at the strength that suits the truth best."""
    values = to_values(light_levels(sensor.response) / np.float32(exposure), sensor.response)
    lit = np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8)[dark]
    return max(
        psnr(np.asarray(cv2.fastNlMeansDenoisingColored(lit, None, h, h), np.uint8), truth) for h in (3, 8, 17, 30)
    )


# --- light and values -------------------------------------------------------------------------------


@pytest.mark.parametrize("response", RESPONSES)
def test_values_and_light_are_inverses(response: Response) -> None:
    """There and back, and the slope is the derivative."""
    values = np.linspace(0, 1.2, 500, dtype=np.float32)
    light = to_light(values, response)
    assert np.abs(to_values(light, response) - values).max() < 1e-5
    step = np.float32(1e-4)
    measured = (to_values(light + step, response) - to_values(light, response)) / step
    assert np.abs(measured / value_slope(light + step / 2, response) - 1).max() < 0.05


def test_srgb_is_that_of_the_standard() -> None:
    """IEC 61966-2-1: mid grey 188 is half the light, 10 lies on the straight foot."""
    levels = light_levels("srgb")
    assert levels[188] == pytest.approx(0.5029, abs=1e-4)
    assert levels[10] == pytest.approx(10 / 255 / 12.92, rel=1e-5)
    assert (levels[0], levels[255]) == (0.0, 1.0)


# --- darkening --------------------------------------------------------------------------------------


def test_a_dark_frame_has_the_noise_of_its_electrons() -> None:
    """Mean and variance of a flat frame are those of Poisson and read noise; equal seeds give equal frames."""
    flat = np.full((300, 300, 3), (90, 140, 200), np.uint8)
    sensor = Sensor(4000, 5, "linear")
    dark = darken(flat, 0.5, sensor, np.random.default_rng(1))
    electrons = flat[0, 0] / 255 * 0.5 * 4000
    assert np.allclose(dark.mean(axis=(0, 1)), electrons / 4000 * 255, rtol=0.01)
    expected = (electrons + 25) * (255 / 4000) ** 2 + 1 / 12
    assert np.allclose(dark.var(axis=(0, 1)), expected, rtol=0.05)
    assert np.array_equal(dark, darken(flat, 0.5, sensor, np.random.default_rng(1)))


def test_a_grey_frame_is_darkened_as_one_sample_a_pixel() -> None:
    """A monochrome camera's three equal channels stay equal; a colour camera's do not."""
    grey = np.full((40, 40, 3), 120, np.uint8)
    tinted = grey + np.array([0, 0, 1], np.uint8)
    assert is_grey(darken(grey, 0.1, Sensor(), np.random.default_rng(1)))
    assert not is_grey(darken(tinted, 0.1, Sensor(), np.random.default_rng(1)))


# --- noise ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize(("full_well_e", "read_noise_e"), [(2000, 6), (6000, 4)])
def test_the_noise_is_told_from_the_detail(
    part: BgrImage, response: Response, full_well_e: float, read_noise_e: float
) -> None:
    """On a board full of edges the standard deviation at the frame's level is found within 20 %."""
    sensor = Sensor(full_well_e, read_noise_e, response)
    dark = darken(part, 0.1, sensor, np.random.default_rng(2))
    level = light_levels(response)[dark].mean(keepdims=True).reshape(1)
    found = estimate_noise(dark, response).sigma_light(level)[0]
    true = NoiseCurve(1 / full_well_e, (read_noise_e / full_well_e) ** 2, response).sigma_light(level)[0]
    assert found / true == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    "pixels", [np.zeros((64, 64, 3), np.uint8), np.full((1, 1, 3), 9, np.uint8)], ids=["black", "1px"]
)
def test_a_frame_without_noise_to_see_has_that_of_rounding(pixels: BgrImage) -> None:
    """Black and tiny frames give a curve, with nothing but rounding in it."""
    curve = estimate_noise(pixels, "srgb")
    assert (curve.shot, curve.read) == (0.0, 0.0)
    assert curve.sigma_light(np.array([1.0], np.float32))[0] > 0


# --- level ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response", RESPONSES)
@pytest.mark.parametrize("exposure", [0.05, 0.15])
def test_the_golden_image_says_how_much_light_is_missing(
    part: BgrImage, golden: BgrImage, response: Response, exposure: float
) -> None:
    """Gain and response are found from another part of the same kind, which is lit a little differently itself."""
    light = light_levels(response)
    lit_otherwise = float(light[golden].mean() / light[part].mean())
    dark = darken(part, exposure, Sensor(5000, 4, response), np.random.default_rng(3))
    found = match_exposure(dark, golden)
    assert found.response == response
    assert found.gain * exposure == pytest.approx(lit_otherwise, rel=0.06)
    assert lit_otherwise == pytest.approx(1, abs=0.15)
    assert found.is_dark
    assert match_exposure(dark, golden, same_view=False).response == "srgb"


def test_a_known_gain_is_taken_and_a_black_frame_refused(part: BgrImage, golden: BgrImage) -> None:
    """A camera that reports its exposure is believed; a frame with nothing in it is an error."""
    dark = darken(part, 0.1, Sensor(), np.random.default_rng(3))
    assert match_exposure(dark, golden, gain=8.0).gain == 8.0
    with pytest.raises(InputError, match="black"):
        match_exposure(np.zeros_like(part), golden)
    with pytest.raises(InputError, match="nothing can be told from noise"):
        match_exposure(dark, golden, gain=300.0)


# --- the net ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exposure", "sensor"), [(0.05, Sensor()), (0.1, Sensor(2000, 6)), (0.1, Sensor(4000, 5, "linear"))]
)
def test_it_beats_gain_and_non_local_means_by_3_db(
    net: LowLightNet, part: BgrImage, golden: BgrImage, exposure: float, sensor: Sensor
) -> None:
    """Told the same exposure, on a board of another seed than any it learned from."""
    dark = darken(part, exposure, sensor, np.random.default_rng(4))
    lit = relight_frame(dark, golden, net, gain=1 / exposure)
    assert psnr(lit.pixels, part) >= gain_then_smooth(dark, exposure, sensor, part) + 3
    assert lit.generated
    assert lit.noise_left < 0.6 * lit.noise_sigma


def test_a_defect_stays_visible(net: LowLightNet) -> None:
    """What only the dark frame shows is in the picture with most of its contrast; the golden image is not."""
    good = np.full((160, 160, 3), (150, 155, 160), np.uint8)
    bad = good.copy()
    cv2.line(bad, (30, 40), (120, 110), (90, 92, 95), 2, cv2.LINE_AA)
    cv2.circle(bad, (110, 40), 4, (70, 72, 75), -1, cv2.LINE_AA)
    dark = darken(bad, 0.08, Sensor(), np.random.default_rng(5))
    lit = relight_frame(dark, good, net, gain=12.5).pixels
    marked = (bad < 110).all(axis=2)
    contrast = [float(image[~marked].mean() - image[marked].mean()) for image in (lit.astype(float), bad.astype(float))]
    assert contrast[0] >= 0.8 * contrast[1]


def test_tiles_leave_no_seam(net: LowLightNet, part: BgrImage) -> None:
    """Cut into tiles of any size the answer is that of the whole frame, to a twentieth of a grey level."""
    dark = darken(part, 0.1, Sensor(), np.random.default_rng(6))
    bright = brighten(dark, 10.0, estimate_noise(dark, "srgb"))
    whole = net.restore(bright, tile_px=4096)
    for tile_px in (64, 200):
        assert np.abs(net.restore(bright, tile_px=tile_px) - whole).max() < 2e-4


def test_the_same_frame_gives_the_same_bytes(part: BgrImage, golden: BgrImage, net: LowLightNet) -> None:
    """Again, and with another number of threads within one grey level."""
    dark = darken(part, 0.1, Sensor(), np.random.default_rng(6))
    first, again = (relight_frame(dark, golden, net).pixels for _ in range(2))
    other = relight_frame(dark, golden, open_net(threads=2)).pixels
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).max() <= 1


def test_a_grey_frame_stays_grey(net: LowLightNet, part: BgrImage) -> None:
    """Equal channels in, equal channels out."""
    grey = np.asarray(cv2.cvtColor(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR), np.uint8)
    dark = darken(grey, 0.1, Sensor(), np.random.default_rng(6))
    assert is_grey(relight_frame(dark, grey, net, gain=10.0).pixels)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 9), (97, 131)])
def test_any_size_is_lit(net: LowLightNet, size: tuple[int, int]) -> None:
    """One pixel, one row, sides that no stride divides: the same size comes back, at about the right level."""
    dark = darken(np.full((*size, 3), (100, 140, 160), np.uint8), 0.1, Sensor(50_000, 1), np.random.default_rng(7))
    lit = relight_frame(dark, np.full((32, 32, 3), (100, 140, 160), np.uint8), net, gain=10.0).pixels
    assert lit.shape == (*size, 3)
    assert np.abs(lit.mean(axis=(0, 1)) - (100, 140, 160)).max() < 20


def test_a_well_lit_frame_is_its_own_picture(net: LowLightNet, part: BgrImage, golden: BgrImage) -> None:
    """Nothing is generated for a frame that has the light of the golden image, or a little less."""
    dimmed = darken(part, 0.8, Sensor(100_000, 1), np.random.default_rng(8))
    for frame in (part, dimmed):
        lit = relight_frame(frame, golden, net)
        assert not lit.generated
        assert np.array_equal(lit.pixels, frame)


# --- weights ----------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    for name in (GRAPH_FILE, FACTS_FILE):
        shutil.copy(WEIGHTS_DIR / name, tmp_path / name)
    return tmp_path


def test_the_shipped_weights_are_small_and_licensed() -> None:
    """Under 2 MB, with a card beside them that states licence, data and the graph's hash."""
    assert (WEIGHTS_DIR / GRAPH_FILE).stat().st_size < 2_000_000
    card = (WEIGHTS_DIR / "exposure.md").read_text(encoding="utf-8")
    facts = open_net(threads=1).facts
    assert facts.licence == "CC-BY-SA-4.0"
    assert facts.sha256 in card and "CC BY-SA 4.0" in card and f"{facts.parameters:,}".replace(",", " ") in card


def test_missing_weights_are_named(weights: Path) -> None:
    (weights / GRAPH_FILE).unlink()
    with pytest.raises(WeightsError, match=r"exposure\.onnx: cannot be read"):
        open_net(weights)


@pytest.mark.parametrize("change", ["truncate", "flip", "empty"])
def test_changed_weights_are_refused(weights: Path, change: str) -> None:
    """Half a file, one flipped bit, no bytes: each is found before anything is run."""
    content = bytearray((weights / GRAPH_FILE).read_bytes())
    if change == "flip":
        content[len(content) // 2] ^= 1
    else:
        del content[len(content) // 2 if change == "truncate" else 0 :]
    (weights / GRAPH_FILE).write_bytes(content)
    with pytest.raises(WeightsError, match="does not match its hash"):
        open_net(weights)


@pytest.mark.parametrize("facts", ["", "{}", "[1]", "not json", '{"sha256": "x"}'])
def test_foreign_facts_are_refused(weights: Path, facts: str) -> None:
    (weights / FACTS_FILE).write_text(facts, encoding="utf-8")
    with pytest.raises(WeightsError, match="not the facts"):
        open_net(weights)


def test_a_foreign_graph_with_its_own_hash_is_refused(weights: Path) -> None:
    """Bytes that are no graph at all, though their hash was written beside them."""
    facts = open_net(weights).facts
    (weights / GRAPH_FILE).write_bytes(b"no graph")
    changed = facts.model_copy(update={"sha256": sha256_hex(b"no graph")})
    (weights / FACTS_FILE).write_text(changed.model_dump_json(), encoding="utf-8")
    with pytest.raises(WeightsError, match="not a graph that can be run"):
        open_net(weights)
