"""When a frame is a part, shown on synthetic sequences with invented times."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from inspector.cameras.triggers import TriggerGate, make_gate
from inspector.config import CommandTrigger, EveryFrameTrigger, IntervalTrigger, PartPresentTrigger
from inspector.records import BgrImage

WIDTH, HEIGHT = 192, 108


class Clock:
    """A clock that a test sets by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Belt:
    """A station seen by a noisy camera: an empty belt, and a bright part with its left edge at `x`."""

    def __init__(self) -> None:
        self._dice = np.random.default_rng(3)
        self._noise = self._dice.normal(0.0, 6.0, (2 * HEIGHT, 2 * WIDTH, 3)).astype(np.float32)

    def show(self, x: int | None, light: float = 60.0) -> BgrImage:
        """`x` is in units of a belt 320 wide."""
        picture = np.full((HEIGHT, WIDTH, 3), light, np.float32)
        if x is not None:
            cv2.rectangle(picture, (x * WIDTH // 320, 18), ((x + 160) * WIDTH // 320, 90), (200.0, 200.0, 200.0), -1)
        top, left = self._dice.integers(0, HEIGHT), self._dice.integers(0, WIDTH)
        noisy = picture + self._noise[top : top + HEIGHT, left : left + WIDTH]
        return np.asarray(np.clip(noisy, 0, 255), np.uint8)


def parts_of(gate: TriggerGate, frames: list[BgrImage]) -> list[int]:
    """Which of the frames, taken ten a second, are parts."""
    return [number for number, frame in enumerate(frames) if gate.offer(frame, number / 10)]


def test_every_frame_is_a_part() -> None:
    """`every_frame` lets everything through and needs no pixels."""
    gate = make_gate(EveryFrameTrigger())
    assert not gate.needs_pixels
    assert [gate.offer(None, float(second)) for second in range(3)] == [True, True, True]


def test_interval_keeps_its_rhythm() -> None:
    """With a frame each 0.3 s and an interval of 1 s the parts do not drift away from whole seconds."""
    gate = make_gate(IntervalTrigger(interval_s=1.0))
    taken = [index * 0.3 for index in range(40) if gate.offer(None, index * 0.3)]
    assert taken[0] == 0.0
    assert all(0.0 <= moment - second < 0.3 for second, moment in enumerate(taken))
    assert len(taken) == 12


def test_interval_does_not_catch_up_after_a_gap() -> None:
    """After ten silent seconds one part is due, not ten."""
    gate = make_gate(IntervalTrigger(interval_s=1.0))
    assert [gate.offer(None, moment) for moment in (0.0, 10.0, 10.1, 10.9, 11.0)] == [True, True, False, False, True]


def test_command_claims_the_next_frame_captured_after_it() -> None:
    """A frame that was already under way when the command came is not its part; the next one is, and only that."""
    clock = Clock()
    gate = make_gate(CommandTrigger(), clock)
    assert not gate.offer(None, 100.0)
    clock.now_s = 100.5
    gate.arm()
    assert [gate.offer(None, moment) for moment in (100.4, 100.6, 100.7)] == [False, True, False]


def test_two_commands_claim_two_frames() -> None:
    """Commands that come faster than frames do not share a frame."""
    clock = Clock()
    gate = make_gate(CommandTrigger(), clock)
    gate.arm()
    gate.arm()
    assert [gate.offer(None, moment) for moment in (100.1, 100.2, 100.3)] == [True, True, False]


def test_a_command_that_timed_out_claims_nothing() -> None:
    """After `frame_timeout_s` the station has answered NOT_INSPECTED; a frame that comes later is nobody's part."""
    clock = Clock()
    gate = make_gate(CommandTrigger(frame_timeout_s=2.0), clock)
    gate.arm()
    assert not gate.offer(None, 102.5)
    clock.now_s = 103.0
    gate.arm()
    assert gate.offer(None, 103.1)
    assert not gate.offer(None, 103.2)


def test_a_part_is_taken_once_when_it_has_come_to_rest() -> None:
    """Nothing while the belt is empty or moves; one part at rest, however long it stays; the next after it left."""
    belt, empty = Belt(), [None] * 5
    arriving, resting, leaving = [-100, -60, -20, 20, 60], [80] * 8, [120, 180, 240, 300]
    positions = [*empty, *[None] * 3, *arriving, *resting, *leaving, *empty, *arriving, *resting]
    taken = parts_of(make_gate(PartPresentTrigger()), [belt.show(x) for x in positions])
    rest_begins = 5 + 3 + len(arriving)
    second_rest = rest_begins + len(resting) + len(leaving) + len(empty) + len(arriving)
    assert taken == [rest_begins + 2, second_rest + 2]


def test_a_part_that_never_rests_is_not_taken() -> None:
    """A part that passes without stopping is no part in position."""
    belt = Belt()
    positions: list[int | None] = [None] * 5 + list(range(-100, 300, 25)) + [None] * 5
    assert parts_of(make_gate(PartPresentTrigger()), [belt.show(x) for x in positions]) == []


def test_a_dull_slow_part_is_not_taken_while_it_moves() -> None:
    """One edge of a part that is hardly brighter than the belt, 4 px a frame, under noise: moving all the same."""
    noise = np.random.default_rng(7)
    frames = []
    for left in [None] * 5 + list(range(-160, 80, 4)) + [80] * 6:
        frame = np.full((240, 320, 3), 60, np.float32)
        if left is not None:
            frame[40:200, max(left, 0) : left + 160] = 100
        frames.append((frame + noise.normal(0, 6, frame.shape)).clip(0, 255).astype(np.uint8))
    assert parts_of(make_gate(PartPresentTrigger()), frames) == [5 + 60 + 2]


def test_more_settle_frames_wait_longer() -> None:
    """`settle_frames` counts frames at rest before the part is taken."""
    belt = Belt()
    frames = [belt.show(x) for x in [None] * 5 + [80] * 10]
    assert parts_of(make_gate(PartPresentTrigger(settle_frames=5)), frames) == [5 + 5]


def test_slowly_changing_light_is_no_part() -> None:
    """The background follows the light of an empty station, so a day's drift triggers nothing and hides nothing."""
    belt = Belt()
    lights = [60.0] * 5 + [60.0 + step * 0.1 for step in range(400)]
    gate = make_gate(PartPresentTrigger())
    assert parts_of(gate, [belt.show(None, light) for light in lights]) == []
    assert parts_of(gate, [belt.show(80, 100.0) for _ in range(5)]) == [2]


def test_a_camera_that_changes_its_size_learns_the_station_again() -> None:
    """Another frame size cannot be compared with the old background: it is learned anew, without a false part."""
    belt, gate = Belt(), make_gate(PartPresentTrigger(empty_frames=2))
    narrow = [belt.show(None) for _ in range(4)]
    tall = [np.concatenate([frame, frame]) for frame in narrow]
    assert parts_of(gate, narrow + tall) == []


def test_part_present_cannot_work_without_pixels() -> None:
    """A caller that does not decode is told so."""
    gate = make_gate(PartPresentTrigger())
    assert gate.needs_pixels
    with pytest.raises(ValueError, match="needs the pixels"):
        gate.offer(None, 0.0)
