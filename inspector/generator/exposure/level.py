"""How dark a frame is: the light of the recipe's golden image against the light of the frame."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.errors import InputError
from inspector.generator.exposure.response import RESPONSES, FloatImage, Response, light_levels, to_values
from inspector.records import BgrImage

CELL_PX = 8
"""Light is compared over cells of this side, in which noise averages out and the part may have moved a little."""
SHARES = np.linspace(0.02, 0.98, 25)
LINEAR_WINS_BY = 0.5
"""Most cameras code their values; a linear one is believed where it explains the frame this much better."""
LEAST_GAIN = 1.5
"""Below it a frame is not under-exposed: parts and lamps differ by so much anyway."""
MOST_GAIN = 64.0
"""Above it eight bits hold too few levels for any picture."""
LEAST_MEAN_LEVEL = 0.25
"""Mean level under which a frame counts as black."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """`gain` is how much more light the golden image has than the frame, `response` how the camera codes light."""

    gain: float
    response: Response

    @property
    def is_dark(self) -> bool:
        """Whether the frame is under-exposed at all."""
        return self.gain >= LEAST_GAIN


def match_exposure(
    pixels: BgrImage, golden: BgrImage, *, same_view: bool = True, gain: float | None = None
) -> Exposure:
    """The exposure of a frame by the golden image of its recipe, (H, W, 3) uint8 BGR each; sizes may differ.

    Both show the same kind of part, so their mean light is the same but for the exposure. Where they show it in the
    `same_view`, the camera's response is the one that makes the distributions of values agree; pieces of a surface
    differ too much to tell, and sRGB is assumed. A known `gain` is taken as it is.

    Raises `InputError` for a black frame and for one that is darker than `MOST_GAIN` can mend.
    """
    if float(pixels.mean()) < LEAST_MEAN_LEVEL:
        raise InputError("the frame is black: there is nothing in it that more light would show")
    cells = {response: (_cell_light(pixels, response), _cell_light(golden, response)) for response in RESPONSES}
    gains = {response: float(wanted.mean() / dark.mean()) for response, (dark, wanted) in cells.items()}
    misfits = {response: _misfit(*cells[response], gains[response], response) for response in RESPONSES}
    is_linear = same_view and misfits["linear"] < LINEAR_WINS_BY * misfits["srgb"]
    response: Response = "linear" if is_linear else "srgb"
    missing = gains[response] if gain is None else gain
    if missing > MOST_GAIN:
        raise InputError(
            f"the frame has 1/{missing:.0f} of the light of the recipe's golden image; from 1/{MOST_GAIN:.0f} on "
            "nothing can be told from noise"
        )
    return Exposure(missing, response)


def _cell_light(pixels: BgrImage, response: Response) -> FloatImage:
    size = (max(1, pixels.shape[1] // CELL_PX), max(1, pixels.shape[0] // CELL_PX))
    return np.asarray(cv2.resize(light_levels(response)[pixels], size, interpolation=cv2.INTER_AREA), np.float32)


def _misfit(dark: FloatImage, wanted: FloatImage, gain: float, response: Response) -> float:
    """Mean distance of the quantiles of two distributions of values, after the gain."""
    bright = to_values(np.minimum(dark * np.float32(gain), np.float32(1.0)), response)
    quantiles: list[NDArray[np.float64]] = [
        np.quantile(values, SHARES) for values in (bright, to_values(wanted, response))
    ]
    return float(np.abs(quantiles[0] - quantiles[1]).mean())
