"""Procedural surfaces for the low-light net: grain, brushing, grinding, machined edges, and the marks of use.

What it must keep is here in excess: hairlines, pits and low-contrast stains at every level of light.
"""

from __future__ import annotations

import cv2
import numpy as np

from inspector.generator.exposure.response import FloatImage
from inspector.records import BgrImage


def draw_surface(side_px: int, random: np.random.Generator) -> BgrImage:
    """One square surface, (S, S, 3) uint8 BGR, without camera noise; half of them are grey."""
    height = _draw_grain(side_px, random) * float(random.uniform(0.01, 0.12))
    height += _draw_grain(side_px, random, slope=1.6) * float(random.uniform(0.02, 0.12))
    light = float(random.uniform(0.12, 0.8)) + height
    for _ in range(int(random.integers(0, 4))):
        light = _step_across(light, random)
    light = _scratch(light, random)
    light = _spot(light, random)
    tint = random.uniform(0.6, 1.0, 3) if random.random() < 0.5 else np.ones(3)
    blurred = cv2.GaussianBlur(light.astype(np.float32), (0, 0), float(random.uniform(0.4, 1.1)))
    return np.clip(np.rint(blurred[..., None] * tint * 255), 0, 255).astype(np.uint8)


def _draw_grain(side_px: int, random: np.random.Generator, slope: float | None = None) -> FloatImage:
    """Gaussian grain with a power-law spectrum, stretched along one direction; standard deviation 1."""
    down, across = (np.fft.fftfreq(side_px)[:, None], np.fft.rfftfreq(side_px)[None])
    turn, stretch = float(random.uniform(0, np.pi)), float(np.exp(random.uniform(0.0, 3.0)))
    along = across * np.cos(turn) + down * np.sin(turn)
    beside = -across * np.sin(turn) + down * np.cos(turn)
    frequency = np.sqrt(np.square(along * stretch) + np.square(beside)) + 1 / side_px
    spectrum = np.fft.rfft2(random.standard_normal((side_px, side_px)))
    grain = np.fft.irfft2(spectrum / frequency ** (slope or float(random.uniform(0.2, 1.4))), s=(side_px, side_px))
    return np.asarray(grain / max(float(grain.std()), 1e-9), np.float32)


def _step_across(light: FloatImage, random: np.random.Generator) -> FloatImage:
    """An edge of the part: everything on one side gets lighter or darker, sharply or over some pixels."""
    side = light.shape[0]
    turn, offset = float(random.uniform(0, 2 * np.pi)), float(random.uniform(-0.35, 0.35)) * side
    rows, columns = np.mgrid[0:side, 0:side] - side / 2
    distance = columns * np.cos(turn) + rows * np.sin(turn) - offset
    soft = 1 / (1 + np.exp(-np.clip(distance / float(np.exp(random.uniform(-1.5, 2.0))), -30, 30)))
    return np.asarray(light * (1 + (float(random.uniform(0.2, 1.8)) - 1) * soft), np.float32)


def _scratch(light: FloatImage, random: np.random.Generator) -> FloatImage:
    side = light.shape[0]
    sheet = np.zeros((side, side), np.float32)
    for _ in range(int(random.integers(0, 9))):
        start = random.uniform(0, side, 2)
        bends = np.cumsum(random.normal(0, side * float(random.uniform(0.02, 0.12)), (5, 2)), axis=0)
        points = np.rint(np.vstack([start, start + bends]) * 16).astype(np.int32)
        depth = float(random.uniform(-0.5, 0.4))
        cv2.polylines(sheet, [points], False, depth, int(random.integers(1, 4)), cv2.LINE_AA, 4)
    return np.asarray(light * (1 + sheet), np.float32)


def _spot(light: FloatImage, random: np.random.Generator) -> FloatImage:
    side = light.shape[0]
    sheet = np.zeros((side, side), np.float32)
    for _ in range(int(random.integers(0, 12))):
        centre = tuple(int(value) for value in random.integers(0, side, 2))
        axes = tuple(max(1, int(value)) for value in np.exp(random.uniform(0.0, 3.0, 2)))
        cv2.ellipse(sheet, centre, axes, float(random.uniform(0, 180)), 0, 360, float(random.uniform(-0.7, 0.4)), -1)
    soft = cv2.GaussianBlur(sheet, (0, 0), float(np.exp(random.uniform(-0.7, 1.3))))
    return np.asarray(light * (1 + soft), np.float32)
