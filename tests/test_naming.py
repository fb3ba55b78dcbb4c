"""Names from few examples: looks describe, the namer learns, what nothing explains is unknown."""

from __future__ import annotations

import time
from collections.abc import Sequence

import cv2
import numpy as np
import pytest

from inspector.detector.look import FEATURES, GoldenView, describe_looks
from inspector.detector.naming import UNKNOWN, Namer, learn_names, pack_names, unpack_names
from inspector.detector.recipe import decode_arrays, encode_arrays
from inspector.errors import FitError, RecipeTamperedError
from inspector.records import BgrImage, Detection
from inspector.scenes.renderer import SceneRenderer

CELL_PX = 4
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


@pytest.fixture(scope="module")
def good() -> BgrImage:
    """A good casting."""
    return SceneRenderer("casting", 5, 480, 270, defect_rate=0.0).render(1).pixels


def mark(good: BgrImage, kind: str, seed: int) -> tuple[BgrImage, Detection]:
    """A part with a dark dot, a bright scratch or a blue stain somewhere in its middle, and its detection."""
    dice = np.random.default_rng([seed, len(kind)])
    x, y = int(dice.integers(150, 330)), int(dice.integers(80, 190))
    shown = good.copy()
    if kind == "dot":
        cv2.circle(shown, (x, y), int(dice.integers(4, 7)), (15, 15, 15), -1, cv2.LINE_AA)
    elif kind == "scratch":
        turn = dice.uniform(0, np.pi)
        step = (round(14 * np.cos(turn)), round(14 * np.sin(turn)))
        cv2.line(shown, (x - step[0], y - step[1]), (x + step[0], y + step[1]), (250, 250, 250), 2, cv2.LINE_AA)
    else:
        patch = shown[y - 12 : y + 12, x - 12 : x + 12].astype(np.float32) * np.array([1.5, 1.0, 0.5], np.float32)
        shown[y - 12 : y + 12, x - 12 : x + 12] = np.clip(patch, 0, 255).astype(np.uint8)
    box = (x - 12, y - 12, x + 12, y + 12)
    return shown, Detection(box, float(dice.uniform(1.5, 2.5)), area_px=300)


def looks_of(good: BgrImage, kind: str, seeds: Sequence[int]) -> np.ndarray:
    """(N, FEATURES) looks of marked parts, against the good one."""
    view = GoldenView(good, 1, IDENTITY)
    shown = (mark(good, kind, seed) for seed in seeds)
    return np.concatenate([describe_looks(pixels, [found], CELL_PX, view) for pixels, found in shown])


def teach(good: BgrImage, kinds: Sequence[str], count: int) -> Namer:
    looks = np.concatenate([looks_of(good, kind, range(count)) for kind in kinds])
    return learn_names(looks, [kind for kind in kinds for _ in range(count)]).namer


@pytest.mark.parametrize("count", [3, 5])
def test_a_few_examples_teach_names(good: BgrImage, count: int) -> None:
    """Dots, scratches and stains that were not shown get their names, with a confidence; hardly any a wrong one."""
    kinds = ("dot", "scratch", "stain")
    namer = teach(good, kinds, count)
    said = {kind: namer.name(looks_of(good, kind, range(100, 130))) for kind in kinds}
    for kind, namings in said.items():
        right = sum(naming.name == kind for naming in namings)
        wrong = sum(naming.name not in (kind, UNKNOWN) for naming in namings)
        assert right >= 15 and wrong <= 2
        assert all(0.0 < naming.confidence <= 1.0 for naming in namings)


def test_a_look_that_nothing_explains_is_unknown(good: BgrImage) -> None:
    """Stains, where only dots and scratches were taught; and dots, where stains alone were."""
    namer = teach(good, ("dot", "scratch"), 5)
    stains = namer.name(looks_of(good, "stain", range(100, 130)))
    assert sum(naming.name == UNKNOWN for naming in stains) >= 25
    single = teach(good, ("stain",), 5)
    dots, own = (single.name(looks_of(good, kind, range(100, 130))) for kind in ("dot", "stain"))
    assert sum(naming.name == UNKNOWN for naming in dots) >= 25
    assert sum(naming.name == "stain" for naming in own) >= 15


def test_the_exposure_is_no_part_of_a_look(good: BgrImage) -> None:
    """Names hold at four fifths of the light."""
    kinds = ("dot", "scratch", "stain")
    looks = {kind: describe_dimmed(good, kind, range(5), 1.0) for kind in kinds}
    namer = learn_names(np.concatenate(list(looks.values())), [kind for kind in kinds for _ in range(5)]).namer
    for kind in kinds:
        namings = namer.name(describe_dimmed(good, kind, range(100, 120), 0.8))
        assert sum(naming.name in (kind, UNKNOWN) for naming in namings) >= 17


def describe_dimmed(good: BgrImage, kind: str, seeds: Sequence[int], light: float) -> np.ndarray:
    """Looks with no golden image."""
    shown = (mark(good, kind, seed) for seed in seeds)
    return np.concatenate(
        [describe_looks((pixels * light).astype(np.uint8), [found], CELL_PX) for pixels, found in shown]
    )


def test_the_report_of_learning_says_what_examples_are_named_without_themselves(good: BgrImage) -> None:
    """An example with another's label is mistaken and named; the others are right; sums are those of the examples."""
    looks = np.concatenate([looks_of(good, "dot", range(8)), looks_of(good, "scratch", range(8))])
    labels = ["dot"] * 8 + ["scratch"] * 7 + ["dot"]
    learned = learn_names(looks, labels)
    assert (15, "scratch") in learned.mistaken
    dot, scratch = learned.checks
    assert (dot.name, dot.examples, scratch.name, scratch.examples) == ("dot", 9, "scratch", 7)
    assert dot.right >= 6 and scratch.right >= 5
    assert dot.right + dot.unknown <= dot.examples


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["dot"] * 3 + ["pit"] * 2, "pit has 2"),
        (["unknown"] * 3, "no defect can be called 'unknown'"),
        (["Good"] * 3, "no defect can be called 'Good'"),
        (["a\nb"] * 3, "printable"),
        ([" dot"] * 3, "printable"),
        (["x" * 65] * 3, "1 to 64"),
        ([], "no labelled example"),
    ],
)
def test_names_that_cannot_be_taught_are_refused(labels: list[str], reason: str) -> None:
    """Too few examples, reserved words and unprintable names each say why."""
    looks = np.random.default_rng(1).normal(0, 1, (len(labels), FEATURES)).astype(np.float32)
    with pytest.raises(FitError, match=reason):
        learn_names(looks, labels)


def test_a_namer_survives_its_file(good: BgrImage) -> None:
    """Stored and read back, it says the same."""
    namer = teach(good, ("dot", "scratch"), 3)
    again = unpack_names(decode_arrays(encode_arrays(pack_names(namer))))
    looks = looks_of(good, "dot", range(100, 110))
    assert [naming.name for naming in again.name(looks)] == [naming.name for naming in namer.name(looks)]
    assert again.names == ("dot", "scratch")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("mixing", np.zeros((FEATURES, 3), np.float32)),
        ("centre", np.full(FEATURES, np.nan, np.float32)),
        ("labels", np.zeros(6, np.int64)),
        ("labels", np.array(["a"] * 6)),
        ("limits", np.array([1.0])),
        ("limits", np.array([1.0, 0.0])),
        ("examples", None),
    ],
)
def test_arrays_that_are_no_namer_are_refused(good: BgrImage, key: str, value: np.ndarray | None) -> None:
    """Wrong shapes, numbers that are none, and missing arrays."""
    arrays = pack_names(teach(good, ("dot", "scratch"), 3))
    if value is None:
        del arrays[key]
    else:
        arrays[key] = value
    with pytest.raises(RecipeTamperedError, match=r"names\.npz"):
        unpack_names(arrays)


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (96, 96)])
@pytest.mark.parametrize("cell_px", [4, 12])
def test_detections_anywhere_have_finite_looks(size: tuple[int, int], cell_px: int) -> None:
    """In frames smaller than a window, at their corners, on flat black and on noise."""
    height, width = size
    boxes = [(0, 0, 1, 1), (width - 1, height - 1, width, height), (0, 0, width, height)]
    found = [Detection(box, 0.0) for box in boxes]
    for pixels in (np.zeros((*size, 3), np.uint8), np.random.default_rng(1).integers(0, 255, (*size, 3), np.uint8)):
        looks = describe_looks(pixels, found, cell_px)
        assert looks.shape == (3, FEATURES) and np.isfinite(looks).all()


def test_the_golden_image_is_laid_where_the_part_lies() -> None:
    """A part that moved and turned differs from the golden image nowhere; the same defect then looks the same."""
    noise = np.random.default_rng(2).integers(0, 255, (200, 300, 3), np.uint8)
    golden = np.asarray(cv2.GaussianBlur(noise, (0, 0), 4), np.uint8)
    turn = np.asarray(cv2.getRotationMatrix2D((150, 100), 3.0, 1.0), np.float64)
    turn[:, 2] += (5.0, -3.0)
    moved = np.asarray(cv2.warpAffine(golden, turn, (300, 200), borderMode=cv2.BORDER_REFLECT_101), np.uint8)
    found = [Detection((140, 90, 160, 110), 2.0, area_px=200)]
    at_home = describe_looks(golden, found, CELL_PX, GoldenView(golden, 1, IDENTITY))
    laid = describe_looks(moved, found, CELL_PX, GoldenView(golden, 1, turn))
    astray = describe_looks(moved, found, CELL_PX, GoldenView(golden, 1, IDENTITY))
    contrast = slice(0, 20)
    assert np.abs(laid - at_home)[:, contrast].max() < 0.35 * np.abs(astray - at_home)[:, contrast].max()


def test_naming_is_cheap(good: BgrImage) -> None:
    """Ten detections of a located part: a few milliseconds at most, even on a busy machine."""
    namer, view = teach(good, ("dot", "scratch", "stain"), 5), GoldenView(good, 1, IDENTITY)
    found = [mark(good, "dot", seed)[1] for seed in range(10)]
    durations = []
    for _ in range(20):
        started = time.perf_counter()
        namer.name(describe_looks(good, found, CELL_PX, view))
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.006
