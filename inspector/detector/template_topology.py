"""What a difference does to the connected regions of a board: a cut trace is one region more, a bridge one less.

Counted on two tones, light and dark, split where Otsu (1979) splits the template.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.template_pair import LaidPair
from inspector.geometry.boxes import grow_box
from inspector.records import BoxPx

MARGINS_PX = (4, 10)
COUNTS = 2 * len(MARGINS_PX)
SMALLEST_REGION_PX = 6
LARGEST_CHANGE = 2


def count_changes(pair: LaidPair, boxes: list[BoxPx]) -> NDArray[np.float32]:
    """(N, `COUNTS`) float32, -1..1: light and dark regions that the frame has more than its template.

    Counted around each box with each of the `MARGINS_PX`; two regions or more are 1.
    """
    greys = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (pair.template, pair.frame)]
    limit, _ = cv2.threshold(greys[0], 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    tones = [np.asarray(grey > limit, np.uint8) for grey in greys]
    size = (pair.frame.shape[1], pair.frame.shape[0])
    changes = np.zeros((len(boxes), COUNTS), np.float32)
    for index, box in enumerate(boxes):
        for place, margin in enumerate(MARGINS_PX):
            x0, y0, x1, y1 = grow_box(box, margin, size) or box
            template, frame = (np.ascontiguousarray(tone[y0:y1, x0:x1]) for tone in tones)
            changes[index, 2 * place] = _count(frame) - _count(template)
            changes[index, 2 * place + 1] = _count(1 - frame) - _count(1 - template)
    return np.asarray(np.clip(changes, -LARGEST_CHANGE, LARGEST_CHANGE) / LARGEST_CHANGE, np.float32)


def _count(tone: NDArray[np.uint8]) -> int:
    """Connected regions (4 neighbours) that are no specks."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(tone, connectivity=4)
    return int(np.count_nonzero(stats[1:, cv2.CC_STAT_AREA] >= SMALLEST_REGION_PX))
