"""A stored bank of samples: many parts, several good photographs each, as one memory map for training."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np

from inspector.scenes.light import U8
from inspector.scenes.samples.sample_part import make_part

IMAGES_FILE = "images.npy"
NOTES_FILE = "samples.json"
_CHUNK_PARTS = 8


@dataclass(frozen=True, slots=True)
class BankedPart:
    """One part of a bank: what it is and whether its photographs show the same place."""

    seed: int
    kind: str
    registered: bool


@dataclass(frozen=True, slots=True)
class Bank:
    """`images` is (parts, views, side, side, 3) uint8 BGR, read-only and memory-mapped; `parts` in the same order."""

    images: U8
    parts: tuple[BankedPart, ...]


def write_bank(
    folder: Path,
    *,
    parts: int,
    views: int,
    side_px: int,
    seed: int,
    workers: int,
    variation: float = 1.0,
    misregistration_px: float = 0.0,
    report: Callable[[int], None] | None = None,
) -> None:
    """Render `parts` x `views` good photographs into `folder`; `report` hears how many parts are done.

    The bytes depend on the arguments only, not on `workers`. Part i has seed `seed` + i; views are seeds 0, 1, 2 …
    The notes are written last: a folder without them is not a finished bank.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notes = folder / NOTES_FILE
    notes.unlink(missing_ok=True)
    shape = (parts, views, side_px, side_px, 3)
    np.lib.format.open_memmap(folder / IMAGES_FILE, mode="w+", dtype=np.uint8, shape=shape).flush()
    chunks = [(start, min(start + _CHUNK_PARTS, parts)) for start in range(0, parts, _CHUNK_PARTS)]
    done: dict[int, list[BankedPart]] = {}
    finished = 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        waiting = {
            pool.submit(_render_chunk, folder, chunk, views, side_px, seed, variation, misregistration_px): chunk
            for chunk in chunks
        }
        for future in as_completed(waiting):
            start, stop = waiting[future]
            done[start] = future.result()
            finished += stop - start
            if report is not None:
                report(finished)
    listed = [asdict(part) for start in sorted(done) for part in done[start]]
    notes.write_text(json.dumps({"shape": shape, "parts": listed}))


def open_bank(folder: Path) -> Bank:
    """A finished bank. Raises FileNotFoundError when it is not finished, ValueError when its files do not belong
    together."""
    notes = json.loads((folder / NOTES_FILE).read_text())
    images = np.load(folder / IMAGES_FILE, mmap_mode="r")
    if list(images.shape) != notes["shape"] or len(notes["parts"]) != images.shape[0]:
        raise ValueError(f"{folder}: the images are {images.shape}, the notes say {notes['shape']}")
    return Bank(images, tuple(BankedPart(**part) for part in notes["parts"]))


def _render_chunk(
    folder: Path,
    chunk: tuple[int, int],
    views: int,
    side_px: int,
    seed: int,
    variation: float,
    misregistration_px: float,
) -> list[BankedPart]:
    images = np.load(folder / IMAGES_FILE, mmap_mode="r+")
    rendered = []
    for number in range(*chunk):
        part = make_part(seed + number, side_px)
        for view in range(views):
            images[number, view] = part.render(view, variation=variation, misregistration_px=misregistration_px)
        rendered.append(BankedPart(seed + number, part.kind, part.registered))
    images.flush()
    return rendered
