"""What parts are made of: colour, metal and gloss, drawn from what factories use."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from inspector.scenes.light import F32, linear


@dataclass(frozen=True, slots=True)
class Material:
    """Linear BGR albedo (3,), metal 0..1, gloss 0..1 (rough to polished)."""

    albedo: F32
    metal: float
    gloss: float


METALS = {
    "steel": "#c9cbcd",
    "dark steel": "#8d8f92",
    "aluminium": "#dcdde0",
    "brass": "#d9b35f",
    "copper": "#d08a62",
    "gold": "#e6bd5a",
    "bronze": "#a97f4e",
    "zinc": "#b3b9bf",
    "black oxide": "#4d4e52",
    "tin": "#d3d1ca",
}


def hsv(hue: float, saturation: float, value: float) -> F32:
    """Linear BGR of a displayed colour; all 0..1."""
    pixel = np.array([[[hue * 360.0, saturation, value]]], np.float32)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0] ** 2.2, np.float32)


def metal(dice: np.random.Generator, name: str | None = None) -> Material:
    """A metal with a little of its own tint."""
    chosen = name or str(dice.choice(list(METALS)))
    tint = np.clip(1.0 + dice.normal(0, 0.03, 3), 0.8, 1.2).astype(np.float32)
    level = np.float32(dice.uniform(0.75, 1.0))
    return Material(np.asarray(linear(METALS[chosen]) * tint * level, np.float32), 1.0, float(dice.uniform(0.1, 0.9)))


def plastic(dice: np.random.Generator) -> Material:
    """Black, white, grey or any colour, dull to glossy."""
    look = dice.random()
    if look < 0.25:
        albedo = hsv(dice.uniform(0, 1), dice.uniform(0, 0.15), dice.uniform(0.08, 0.3))
    elif look < 0.45:
        albedo = hsv(dice.uniform(0.05, 0.2), dice.uniform(0, 0.12), dice.uniform(0.75, 0.97))
    elif look < 0.6:
        albedo = hsv(dice.uniform(0, 1), dice.uniform(0, 0.1), dice.uniform(0.3, 0.75))
    else:
        albedo = hsv(dice.uniform(0, 1), dice.uniform(0.4, 0.98), dice.uniform(0.25, 0.95))
    return Material(albedo, 0.0, float(dice.uniform(0.05, 1.0) ** 1.2))


def natural(dice: np.random.Generator) -> Material:
    """Wood, dough, cardboard, rubber, stone, wax: mostly warm and dull."""
    look = dice.random()
    if look < 0.55:
        albedo = hsv(dice.uniform(0.04, 0.14), dice.uniform(0.2, 0.75), dice.uniform(0.35, 0.95))
    elif look < 0.8:
        albedo = hsv(dice.uniform(0.04, 0.65), dice.uniform(0.0, 0.12), dice.uniform(0.15, 0.9))
    else:
        albedo = hsv(dice.uniform(0, 1), dice.uniform(0.2, 0.7), dice.uniform(0.3, 0.9))
    return Material(albedo, 0.0, float(dice.uniform(0.0, 0.45)))


def any_material(dice: np.random.Generator) -> Material:
    """Metal, plastic or natural."""
    look = dice.random()
    return metal(dice) if look < 0.4 else plastic(dice) if look < 0.8 else natural(dice)


def contrasting(dice: np.random.Generator, other: F32) -> F32:
    """An ink (linear BGR) that can be read on `other`."""
    dark = float(other.mean()) > 0.25
    if dice.random() < 0.6:
        return hsv(0.0, 0.0, dice.uniform(0.03, 0.25) if dark else dice.uniform(0.75, 1.0))
    return hsv(dice.uniform(0, 1), dice.uniform(0.6, 1), dice.uniform(0.2, 0.5) if dark else dice.uniform(0.8, 1.0))
