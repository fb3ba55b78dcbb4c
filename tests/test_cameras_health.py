"""What a camera's health says about the frames that passed."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from inspector.cameras.health import HealthMeter
from inspector.images import encode_jpeg
from inspector.records import BgrImage


class Clock:
    """A clock that a test sets by hand."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def sharp_picture(width: int = 1920, height: int = 1080) -> BgrImage:
    tiles = np.indices((height // 40, width // 40)).sum(axis=0) % 2
    grey = np.kron(tiles * 120 + 60, np.ones((40, 40))).astype(np.uint8)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def test_nothing_is_known_before_the_first_frame() -> None:
    """Unknown values are None, not zero."""
    health = HealthMeter("cam").snapshot(False, "connecting")
    assert (health.frames_per_s, health.last_frame_age_s, health.level, health.focus) == (None, None, None, None)
    assert (health.camera, health.connected, health.dropped, health.reason) == ("cam", False, 0, "connecting")


def test_rate_and_age_follow_the_clock() -> None:
    """Frames a second are over a sliding window and go to zero when the camera falls silent; the age grows."""
    clock = Clock()
    meter = HealthMeter("cam", clock)
    for _ in range(100):
        meter.saw()
        clock.now_s += 0.25
    health = meter.snapshot(True)
    assert health.frames_per_s == pytest.approx(4.0, abs=0.15)
    assert health.last_frame_age_s == pytest.approx(0.25)
    clock.now_s += 60.0
    assert meter.snapshot(True).frames_per_s == 0.0


def test_the_rate_is_right_from_the_second_frame() -> None:
    """A young camera is not measured against the whole window."""
    clock = Clock()
    meter = HealthMeter("cam", clock)
    meter.saw()
    assert meter.snapshot(True).frames_per_s is None
    clock.now_s += 0.1
    meter.saw()
    assert meter.snapshot(True).frames_per_s == pytest.approx(10.0)


def test_level_and_focus_of_pixels() -> None:
    """The level is the mean grey value; a blurred picture has less focus than a sharp one."""
    sharp = sharp_picture()
    blurred = np.asarray(cv2.GaussianBlur(sharp, (0, 0), 12.0), np.uint8)
    values = []
    for picture in (sharp, blurred):
        meter = HealthMeter("cam")
        meter.saw(picture)
        values.append(meter.snapshot(True))
    assert values[0].level == pytest.approx(120.0, abs=1.0) and values[1].level == pytest.approx(120.0, abs=1.0)
    assert values[0].focus is not None and values[1].focus is not None
    assert values[0].focus > 4 * values[1].focus


@pytest.mark.parametrize("size", [(3840, 2160), (1920, 1080), (1040, 600), (480, 280)])
def test_an_encoded_frame_gives_the_same_level(size: tuple[int, int]) -> None:
    """Compressed frames are measured at reduced size, with the same brightness as their pixels."""
    picture = sharp_picture(*size)
    meter = HealthMeter("cam")
    meter.saw_encoded(encode_jpeg(picture), size[0])
    assert meter.snapshot(True).level == pytest.approx(float(picture.mean()), abs=2.0)


def test_an_encoded_frame_that_cannot_be_decoded_is_only_counted() -> None:
    """Health never fails because of a bad frame."""
    meter = HealthMeter("cam")
    meter.saw_encoded(b"no image", 3840)
    health = meter.snapshot(True)
    assert health.last_frame_age_s is not None and health.level is None


def test_pixels_are_measured_at_most_twice_a_second() -> None:
    """Between two measurements frames are only counted, so that health costs next to nothing."""
    clock = Clock()
    meter = HealthMeter("cam", clock)
    meter.saw(np.full((40, 60, 3), 10, np.uint8))
    clock.now_s += 0.3
    meter.saw(np.full((40, 60, 3), 250, np.uint8))
    assert meter.snapshot(True).level == pytest.approx(10.0)
    clock.now_s += 5.0
    meter.saw(np.full((40, 60, 3), 250, np.uint8))
    assert meter.snapshot(True).level == pytest.approx(250.0)


def test_many_threads_count_exactly() -> None:
    """Drops and frames from several threads add up."""
    meter = HealthMeter("cam")

    def work() -> None:
        for _ in range(500):
            meter.saw()
            meter.drop(2)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.snapshot(True).dropped == 4000
