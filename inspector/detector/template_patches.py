"""Patches around proposals, as the classifier of template recipes sees them, and their eight flips.

A patch is (48, 48, 3): grey of the template, grey of the frame, tolerant difference, centred on the proposal.
Boxes are regressed as the four edges relative to the patch's centre, in units of half a patch.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from inspector.detector.template_pair import LaidPair
from inspector.detector.template_topology import COUNTS, count_changes
from inspector.records import BoxPx

Floats: TypeAlias = NDArray[np.float32]
Patches: TypeAlias = NDArray[np.uint8]
Pixel = TypeVar("Pixel", np.uint8, np.float32)

PATCH_PX = 48
EDGE_UNIT_PX = 24.0
LARGEST_SIZE = 3.0
FACTS = 3 + COUNTS
EMPHASIS = 8.0
"""Seven facts beside two thousand values of the patch must speak up to be learned from a few hundred examples."""
FLIPS = 8
"""The dihedral group of the square: bit 0 mirrors x, bit 1 mirrors y, bit 2 then swaps x and y."""


def cut_patches(pair: LaidPair, boxes: list[BoxPx], margin_px: int = 0, scale: float = 1.0) -> Patches:
    """(N, 48 + 2 margin, 48 + 2 margin, 3) uint8 around the centres of `boxes`, mirrored at the frame's border.

    With a `scale` other than 1 as if the board had been photographed that much larger.
    """
    side = PATCH_PX + 2 * margin_px
    half = round(side / scale / 2)
    layers = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (pair.template, pair.frame)]
    stacked = np.dstack([*layers, pair.difference])
    padded = cv2.copyMakeBorder(stacked, half, half, half, half, cv2.BORDER_REFLECT)
    patches = np.empty((len(boxes), side, side, 3), np.uint8)
    for index, (x, y) in enumerate(box_centres(boxes)[:, :2].astype(int)):
        cut = padded[y : y + 2 * half, x : x + 2 * half]
        patches[index] = cut if 2 * half == side else cv2.resize(cut, (side, side), interpolation=cv2.INTER_AREA)
    return patches


def normalise_patches(patches: Patches) -> Floats:
    """float32, -1..1."""
    return patches.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def box_centres(boxes: list[BoxPx]) -> Floats:
    """(N, 4) float32 x, y, x, y of the patch centres: whole pixels, so that a patch needs no interpolation."""
    edges = np.asarray(boxes, np.int64).reshape(-1, 4)
    centres = (edges[:, :2] + edges[:, 2:]) // 2
    return np.concatenate([centres, centres], axis=1).astype(np.float32)


def describe_regions(pair: LaidPair, boxes: list[BoxPx]) -> Floats:
    """(N, `FACTS`) float32: what a patch does not show well of each region.

    Width and height in patches, at most `LARGEST_SIZE`; whether the frame is lighter (1) or darker (-1) there; how
    the numbers of connected regions change.
    """
    edges = np.asarray(boxes, np.float32).reshape(-1, 4)
    sizes = np.minimum((edges[:, 2:] - edges[:, :2]) / np.float32(PATCH_PX), np.float32(LARGEST_SIZE))
    changes = np.concatenate([measure_lightening(pair, boxes), count_changes(pair, boxes)], axis=1)
    return np.concatenate([sizes, changes * np.float32(EMPHASIS)], axis=1)


def measure_lightening(pair: LaidPair, boxes: list[BoxPx]) -> Floats:
    """(N, 1) float32, -1..1: by how much the frame is lighter than its template where they differ."""
    template, frame = (cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (pair.template, pair.frame))
    change = cv2.subtract(frame, template, dtype=cv2.CV_16S)
    lighter = np.zeros((len(boxes), 1), np.float32)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        differs = pair.difference[y0:y1, x0:x1] > 0
        lighter[index] = change[y0:y1, x0:x1][differs].mean() / 255.0 if differs.any() else 0.0
    return lighter


def flip_patches(patches: NDArray[Pixel], flip: int) -> NDArray[Pixel]:
    """(N, S, S, C) flipped by one of the `FLIPS`; a view."""
    if flip & 1:
        patches = patches[:, :, ::-1]
    if flip & 2:
        patches = patches[:, ::-1]
    return patches.transpose(0, 2, 1, 3) if flip & 4 else patches


def flip_facts(facts: Floats, flip: int) -> Floats:
    """(N, `FACTS`) of the flipped patches' regions."""
    return np.concatenate([facts[:, 1::-1], facts[:, 2:]], axis=1) if flip & 4 else facts


def flip_edges(edges: Floats, flip: int) -> Floats:
    """(N, 4) x0, y0, x1, y1 relative to the centre, as they lie in the flipped patch."""
    if flip & 1:
        edges = edges[:, [2, 1, 0, 3]] * np.array([-1, 1, -1, 1], np.float32)
    if flip & 2:
        edges = edges[:, [0, 3, 2, 1]] * np.array([1, -1, 1, -1], np.float32)
    return edges[:, [1, 0, 3, 2]] if flip & 4 else edges


def unflip_edges(edges: Floats, flip: int) -> Floats:
    """The inverse of `flip_edges`."""
    if flip & 4:
        edges = edges[:, [1, 0, 3, 2]]
    return flip_edges(edges, flip & 3)
