"""From the values of a file to light and back: the two responses that cameras on a line have."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

Response: TypeAlias = Literal["srgb", "linear"]
RESPONSES: tuple[Response, ...] = get_args(Response)
FloatImage: TypeAlias = NDArray[np.float32]

BREAK_LIGHT, BREAK_VALUE = 0.0031308, 0.04045
"""Where the straight foot of the sRGB curve ends (IEC 61966-2-1)."""
FOOT_SLOPE = 12.92
EXPONENT, EXCESS = 2.4, 0.055


def to_light(values: FloatImage, response: Response) -> FloatImage:
    """Values 0..1 as light 0..1, where 1 is the camera's white. `srgb` is IEC 61966-2-1, `linear` the identity."""
    if response == "linear":
        return values
    curved = np.power((np.maximum(values, BREAK_VALUE) + np.float32(EXCESS)) / np.float32(1 + EXCESS), EXPONENT)
    return np.where(values <= BREAK_VALUE, values / np.float32(FOOT_SLOPE), curved).astype(np.float32)


def to_values(light: FloatImage, response: Response) -> FloatImage:
    """The inverse of `to_light`; light above 1 gives values above 1, nothing is clipped."""
    if response == "linear":
        return light
    curved = (1 + EXCESS) * np.power(np.maximum(light, BREAK_LIGHT), np.float32(1 / EXPONENT)) - np.float32(EXCESS)
    return np.where(light <= BREAK_LIGHT, light * np.float32(FOOT_SLOPE), curved).astype(np.float32)


def value_slope(light: FloatImage, response: Response) -> FloatImage:
    """The derivative of `to_values`: how far a value moves for a little more light."""
    if response == "linear":
        return np.ones_like(light)
    steep = (1 + EXCESS) / EXPONENT * np.power(np.maximum(light, BREAK_LIGHT), np.float32(1 / EXPONENT - 1))
    return np.where(light <= BREAK_LIGHT, np.float32(FOOT_SLOPE), steep).astype(np.float32)


def light_levels(response: Response) -> FloatImage:
    """The light of each of the 256 values of a file, (256,) float32."""
    return to_light(np.arange(256, dtype=np.float32) / np.float32(255), response)
