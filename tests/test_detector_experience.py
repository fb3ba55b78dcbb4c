"""What a frame must look like to be judged by its score: light and sharpness, against those of the good images."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from inspector.detector.experience import Look, describe_oddities, learn_experience, look_at
from inspector.scenes.renderer import SceneRenderer


@pytest.mark.parametrize("scene", ["board", "casting"])
def test_parts_of_one_product_are_alike_and_blurred_ones_are_not(scene: str) -> None:
    """Sharpness varies by a few percent over parts, lots and defects, and hardly with the light; a blur takes much."""
    renderer = SceneRenderer(scene, 3, 960, 540, defect_rate=0.5)
    frames = [renderer.render(number).pixels for number in (1, 2, 60, 61, 120)]
    experience = learn_experience([look_at(frame) for frame in frames[:3]])
    for frame in frames[3:]:
        assert describe_oddities(look_at(frame), experience) == ()
        dimmed = np.asarray(frame * 0.8, np.uint8)
        assert describe_oddities(look_at(dimmed), experience) == ()
        dull = np.asarray(cv2.GaussianBlur(frame, (0, 0), 2.0), np.uint8)
        assert "out of focus" in " ".join(describe_oddities(look_at(dull), experience))


def test_every_oddity_is_named_with_its_limits() -> None:
    """Too dark, too bright, too dull and too noisy each say what was measured and what was expected."""
    experience = learn_experience([Look(100.0, 0.40), Look(120.0, 0.50)])
    assert describe_oddities(Look(110.0, 0.45), experience) == ()
    assert describe_oddities(Look(20.0, 0.45), experience) == ("mean level 20 outside 44 to 198",)
    assert describe_oddities(Look(220.0, 0.45), experience) == ("mean level 220 outside 44 to 198",)
    assert describe_oddities(Look(110.0, 0.30), experience)[0].startswith("sharpness 0.30 below 0.34")
    assert describe_oddities(Look(110.0, 0.80), experience)[0].startswith("sharpness 0.80 above 0.75")


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (96, 96), (97, 480), (481, 481)])
def test_frames_of_any_size_can_be_looked_at(size: tuple[int, int]) -> None:
    """From one pixel upwards; a frame without structure has none."""
    noisy = np.random.default_rng(1).integers(0, 255, (*size, 3)).astype(np.uint8)
    assert 0.0 <= look_at(noisy).sharpness < 10.0
    flat = look_at(np.full((*size, 3), 77, np.uint8))
    assert flat.level == 77.0 and flat.sharpness < 1e-3
