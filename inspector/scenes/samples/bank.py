"""A stored bank of samples: parts, several good photographs each and some of a fault, as memory maps for training."""

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
from inspector.scenes.samples.sample_part import SamplePart, make_part
from inspector.scenes.samples.spoiling import LOOSE_PIECE_FAMILIES

IMAGES_FILE = "images.npy"
FAULTS_FILE = "faults.npy"
NOTES_FILE = "samples.json"
_CHUNK_PARTS = 8


@dataclass(frozen=True, slots=True)
class BankedPart:
    """One part of a bank: what it is and whether its photographs show the same place."""

    seed: int
    kind: str
    registered: bool


@dataclass(frozen=True, slots=True)
class BankedFault:
    """One photograph of a part with a missing, misplaced, exchanged or doubled piece: its view in all but the fault.

    `part` counts the bank's parts; `box` is (x0, y0, x1, y1), outside of which no byte differs from that view.
    """

    part: int
    view: int
    box: tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Bank:
    """`images` is (parts, views, side, side, 3) uint8 BGR, read-only and memory-mapped; `parts` in the same order.

    `faulty` is (faults, side, side, 3), `faults` in the same order; both are empty for a bank without.
    """

    images: U8
    parts: tuple[BankedPart, ...]
    faulty: U8
    faults: tuple[BankedFault, ...]


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
    faulty_views: int = 0,
    report: Callable[[int], None] | None = None,
) -> None:
    """Render `parts` x `views` good photographs into `folder`; `report` hears how many parts are done.

    The first `faulty_views` views of registered parts with loose pieces are photographed again with a fault. The bytes
    depend on the arguments only, not on `workers`. Part i has seed `seed` + i; views are seeds 0, 1, 2 …
    The notes are written last: a folder without them is not a finished bank. Raises `ValueError` for more faulty views
    than views, and for faults in anything but usual, registered views: nothing else can be photographed again.
    """
    if faulty_views > views or (faulty_views and (variation != 1.0 or misregistration_px)):
        raise ValueError("only a bank's own views at the usual variation, registered, can be photographed with a fault")
    folder.mkdir(parents=True, exist_ok=True)
    notes = folder / NOTES_FILE
    notes.unlink(missing_ok=True)
    shape = (parts, views, side_px, side_px, 3)
    np.lib.format.open_memmap(folder / IMAGES_FILE, mode="w+", dtype=np.uint8, shape=shape).flush()
    chunks = [(start, min(start + _CHUNK_PARTS, parts)) for start in range(0, parts, _CHUNK_PARTS)]
    how = _How(views, side_px, seed, variation, misregistration_px, faulty_views)
    done: dict[int, list[_Rendered]] = {}
    finished = 0
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        waiting = {pool.submit(_render_chunk, folder, chunk, how): chunk for chunk in chunks}
        for future in as_completed(waiting):
            start, stop = waiting[future]
            done[start] = future.result()
            finished += stop - start
            if report is not None:
                report(finished)
    rendered = [item for start in sorted(done) for item in done[start]]
    faulty = [pixels for item in rendered for pixels in item.faulty]
    faults = [fault for item in rendered for fault in item.faults]
    np.save(folder / FAULTS_FILE, np.stack(faulty) if faulty else np.zeros((0, *shape[2:]), np.uint8))
    listed = {"parts": [asdict(item.part) for item in rendered], "faults": [asdict(fault) for fault in faults]}
    notes.write_text(json.dumps({"shape": shape, **listed}))


def open_bank(folder: Path) -> Bank:
    """A finished bank. Raises FileNotFoundError when it is not finished, ValueError when its files do not belong
    together."""
    notes = json.loads((folder / NOTES_FILE).read_text())
    images = np.load(folder / IMAGES_FILE, mmap_mode="r")
    if list(images.shape) != notes["shape"] or len(notes["parts"]) != images.shape[0]:
        raise ValueError(f"{folder}: the images are {images.shape}, the notes say {notes['shape']}")
    faults = [BankedFault(fault["part"], fault["view"], tuple(fault["box"])) for fault in notes["faults"]]
    faulty = np.load(folder / FAULTS_FILE, mmap_mode="r" if faults else None)
    if faulty.shape != (len(faults), *images.shape[2:]):
        raise ValueError(f"{folder}: the faulty images are {faulty.shape}, the notes say {len(faults)}")
    return Bank(images, tuple(BankedPart(**part) for part in notes["parts"]), faulty, tuple(faults))


@dataclass(frozen=True, slots=True)
class _How:
    """The arguments of `write_bank` that decide the bytes."""

    views: int
    side_px: int
    seed: int
    variation: float
    misregistration_px: float
    faulty_views: int


@dataclass(frozen=True, slots=True)
class _Rendered:
    part: BankedPart
    faults: list[BankedFault]
    faulty: list[U8]


def _render_chunk(folder: Path, chunk: tuple[int, int], how: _How) -> list[_Rendered]:
    images = np.load(folder / IMAGES_FILE, mmap_mode="r+")
    rendered = []
    for number in range(*chunk):
        part = make_part(how.seed + number, how.side_px)
        for view in range(how.views):
            images[number, view] = part.render(view, variation=how.variation, misregistration_px=how.misregistration_px)
        item = _Rendered(BankedPart(how.seed + number, part.kind, part.registered), [], [])
        if part.registered and part.work.placements:
            for view in range(how.faulty_views):
                _add_fault(item, number, view, part, np.asarray(images[number, view]))
        rendered.append(item)
    images.flush()
    return rendered


def _add_fault(item: _Rendered, number: int, view: int, part: SamplePart, good: U8) -> None:
    """One more, unless none of the faults can be seen in this view."""
    try:
        faulty, mask, _ = part.spoil(good, view, LOOSE_PIECE_FAMILIES, view=view)
    except RuntimeError:
        return
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    item.faults.append(BankedFault(number, view, (x, y, x + width, y + height)))
    item.faulty.append(faulty)
