"""The classical twin without references: a smooth fill, lines that run on into it, and grain like that around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inspector.generator.fill import fill_base
from inspector.generator.grain import add_grain
from inspector.generator.painting import Canvas, Painting, Place, place_regions
from inspector.generator.references import PlacedReferences
from inspector.generator.regions import check_repair_input
from inspector.generator.repairer import Twin
from inspector.generator.workers import Workers
from inspector.records import BgrImage


class TextureRepairer:
    """A Gaussian texture on a smooth ground, fitted to the surroundings of each region. Ignores references."""

    method = "texture"

    def __init__(self, threads: int = 1) -> None:
        """`threads` is for one frame."""
        self._workers = Workers(threads)

    def repair(self, pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences | None) -> Twin:
        """See `Repairer.repair`."""
        check_repair_input(pixels, mask, references)

        def prepare(place: Place) -> Painting:
            return add_grain(Painting(place, fill_base(pixels, mask, place.inner), None), pixels, mask)

        places = place_regions(mask)
        paintings = self._workers.each(prepare, places)
        canvas = Canvas(pixels, places)
        canvas.paint(paintings, self._workers)
        return Twin(canvas.pixels, canvas.changed, self.method, len(places))
