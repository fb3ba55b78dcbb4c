"""What is carried into holes: kriging of what a base is off by, and grain for surfaces."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspector.generator.grain import restore_grain
from inspector.generator.kriging import Texture, carry_in
from inspector.generator.net import NetRepairer
from inspector.generator.repair_model import load_repair_model
from inspector.generator.repairer import Repairer
from inspector.generator.texture import TextureRepairer

SIDE = 160


def make_hole(half: int = 24) -> NDArray[np.bool_]:
    hole = np.zeros((SIDE, SIDE), np.bool_)
    hole[SIDE // 2 - half : SIDE // 2 + half, SIDE // 2 - half : SIDE // 2 + half] = True
    return hole


def draw_grain(sigma_x: float, sigma_y: float, strength: float, seed: int = 1) -> NDArray[np.float32]:
    """Gaussian noise as smooth as that along each axis, the same in all channels."""
    noise = np.random.default_rng(seed).standard_normal((SIDE, SIDE)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    return np.repeat((smooth * (strength / smooth.std()))[..., None], 3, axis=2)


def rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(values).mean()))


def test_lines_run_on_into_the_hole() -> None:
    """Where lines cross it, most of what the base is off by is known inside, too."""
    errors, hole = draw_grain(1.5, 60.0, 10.0), make_hole()
    base = np.full((SIDE, SIDE, 3), 100.0, np.float32)
    carried = carry_in((base + errors) * ~hole[..., None], base, hole)
    assert np.array_equal(carried[~hole], base[~hole])
    assert rms((base + errors - carried)[hole]) < 0.5 * rms(errors[hole])


def test_what_nobody_can_know_is_left_alone() -> None:
    """Noise says nothing about the inside: guessing it would make things worse."""
    errors, hole = draw_grain(0.5, 0.5, 10.0), make_hole()
    base = np.full((SIDE, SIDE, 3), 100.0, np.float32)
    deep = make_hole(16)
    carried = carry_in(base + errors, base, hole)
    assert rms((carried - base)[deep]) < 2.0


def test_what_lies_in_the_hole_does_not_count() -> None:
    frame, hole = 100.0 + draw_grain(4.0, 4.0, 10.0), make_hole()
    other = np.where(hole[..., None], np.float32(255.0), frame)
    base = np.full_like(frame, 100.0)
    assert np.array_equal(carry_in(frame, base, hole), carry_in(other, base, hole))
    assert np.array_equal(restore_grain(frame, base, hole), restore_grain(other, base, hole))


def test_a_right_base_stays() -> None:
    base, hole = 100.0 + draw_grain(4.0, 4.0, 10.0), make_hole()
    assert np.allclose(carry_in(base.copy(), base, hole), base)


def test_large_holes_are_closed_at_less_resolution() -> None:
    """An offset that varies slowly arrives whatever the resolution."""
    hole = make_hole(60)
    base = np.full((SIDE, SIDE, 3), 100.0, np.float32)
    frame = base + draw_grain(1.0, 400.0, 10.0)
    fine, coarse = (carry_in(frame, base, hole, largest) for largest in (SIDE, SIDE // 4))
    truth = frame[hole]
    assert rms(fine[hole] - truth) < 0.6 * rms(base[hole] - truth)
    assert rms(coarse[hole] - truth) < 0.9 * rms(base[hole] - truth)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.floats(0.0, 1.0), st.integers(0, 2**31), st.integers(1, 64))
def test_any_hole_gives_a_picture(height: int, width: int, share: float, seed: int, largest: int) -> None:
    """Whatever is known: finite, and the base outside."""
    random = np.random.default_rng(seed)
    frame, base = random.uniform(0, 255, (2, height, width, 3)).astype(np.float32)
    hole = random.random((height, width)) < share
    carried = carry_in(frame, base, hole, largest)
    assert np.isfinite(carried).all() and np.array_equal(carried[~hole], base[~hole])
    restored = restore_grain(frame, base, hole)
    assert np.isfinite(restored).all() and np.array_equal(restored[~hole], frame[~hole])


def test_draws_have_the_covariance_of_the_pattern() -> None:
    values = draw_grain(2.0, 8.0, 10.0)
    drawn = Texture.learn(values, np.ones((SIDE, SIDE), np.bool_)).draw(np.random.default_rng(1))
    assert rms(drawn) == pytest.approx(10.0, rel=0.25)

    def neighbours(field: NDArray[np.float32], axis: int) -> float:
        grey = field[..., 0]
        return float((grey * np.roll(grey, 4, axis)).mean() / np.square(grey).mean())

    for axis in (0, 1):
        assert neighbours(drawn, axis) == pytest.approx(neighbours(values, axis), abs=0.12)


def test_draws_fit_beside_themselves() -> None:
    """From one edge to the other the field goes on as smoothly as elsewhere."""
    drawn = Texture.learn(draw_grain(4.0, 4.0, 10.0), np.ones((SIDE, SIDE), np.bool_)).draw(np.random.default_rng(1))
    assert rms(drawn[0] - drawn[-1]) < 2.0 * rms(drawn[1:] - drawn[:-1])


def test_an_even_surface_gets_grain_and_plain_ground_none() -> None:
    hole, deep = make_hole(), make_hole(12)
    surface, smear = 100.0 + draw_grain(0.7, 0.7, 8.0), np.full((SIDE, SIDE, 3), 100.0, np.float32)
    grainy = restore_grain(surface, smear, hole)
    assert 0.3 * 8.0 < grainy[deep].std() < 0.9 * 8.0

    part = np.full((SIDE, SIDE, 3), 60.0, np.float32)
    part[:, : SIDE // 3] = 200.0
    assert restore_grain(part, np.full_like(part, 60.0), hole)[deep].std() < 1.0


@pytest.mark.parametrize("repairer", [TextureRepairer(), NetRepairer(load_repair_model())], ids=["texture", "net"])
def test_a_grey_frame_stays_grey(repairer: Repairer) -> None:
    """A tint in the twin of a grey camera would be a defect to a detector."""
    frame = np.clip(np.rint(110.0 + draw_grain(1.0, 6.0, 12.0)), 0, 255).astype(np.uint8)
    twin = repairer.repair(frame, make_hole(), None)
    assert not np.array_equal(twin.pixels, frame)
    assert np.array_equal(twin.pixels[..., 0], twin.pixels[..., 1])
    assert np.array_equal(twin.pixels[..., 1], twin.pixels[..., 2])
    assert np.array_equal(twin.pixels, repairer.repair(frame, make_hole(), None).pixels)
