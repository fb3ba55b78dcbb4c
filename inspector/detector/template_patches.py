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
from inspector.records import BoxPx

Floats: TypeAlias = NDArray[np.float32]
Patches: TypeAlias = NDArray[np.uint8]
Pixel = TypeVar("Pixel", np.uint8, np.float32)

PATCH_PX = 48
EDGE_UNIT_PX = 24.0
LARGEST_SIZE = 3.0
FLIPS = 8
"""The dihedral group of the square: bit 0 mirrors x, bit 1 mirrors y, bit 2 then swaps x and y."""


def cut_patches(pair: LaidPair, boxes: list[BoxPx], margin_px: int = 0) -> Patches:
    """(N, 48 + 2 margin, 48 + 2 margin, 3) uint8 around the centres of `boxes`, mirrored at the frame's border."""
    half = PATCH_PX // 2 + margin_px
    layers = [cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in (pair.template, pair.frame)]
    stacked = np.dstack([*layers, pair.difference])
    padded = cv2.copyMakeBorder(stacked, half, half, half, half, cv2.BORDER_REFLECT)
    patches = np.empty((len(boxes), 2 * half, 2 * half, 3), np.uint8)
    for index, (x, y) in enumerate(box_centres(boxes)[:, :2].astype(int)):
        patches[index] = padded[y : y + 2 * half, x : x + 2 * half]
    return patches


def normalise_patches(patches: Patches) -> Floats:
    """float32, -1..1."""
    return patches.astype(np.float32) / np.float32(127.5) - np.float32(1.0)


def box_centres(boxes: list[BoxPx]) -> Floats:
    """(N, 4) float32 x, y, x, y of the patch centres: whole pixels, so that a patch needs no interpolation."""
    edges = np.asarray(boxes, np.int64).reshape(-1, 4)
    centres = (edges[:, :2] + edges[:, 2:]) // 2
    return np.concatenate([centres, centres], axis=1).astype(np.float32)


def box_sizes(boxes: list[BoxPx]) -> Floats:
    """(N, 2) float32 width and height in patches, at most `LARGEST_SIZE`: a patch cannot show them."""
    edges = np.asarray(boxes, np.float32).reshape(-1, 4)
    sizes = (edges[:, 2:] - edges[:, :2]) / np.float32(PATCH_PX)
    return np.asarray(np.minimum(sizes, np.float32(LARGEST_SIZE)), np.float32)


def flip_patches(patches: NDArray[Pixel], flip: int) -> NDArray[Pixel]:
    """(N, S, S, C) flipped by one of the `FLIPS`; a view."""
    if flip & 1:
        patches = patches[:, :, ::-1]
    if flip & 2:
        patches = patches[:, ::-1]
    return patches.transpose(0, 2, 1, 3) if flip & 4 else patches


def flip_sizes(sizes: Floats, flip: int) -> Floats:
    """(N, 2) width and height of the flipped patches' regions."""
    return sizes[:, ::-1] if flip & 4 else sizes


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
