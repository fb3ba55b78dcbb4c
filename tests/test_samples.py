"""The stream of training samples: reproducible, varied, honest masks, families that stay apart."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.scenes import defects, overlays
from inspector.scenes.samples.bank import NOTES_FILE, open_bank, write_bank
from inspector.scenes.samples.kinds import KINDS, draw_kind
from inspector.scenes.samples.sample_part import LEAST_SIDE_PX, SamplePart, make_part
from inspector.scenes.samples.spoiling import FAMILIES, LOOSE_PIECE_FAMILIES, families_for

SIDE_PX = 128


def correlation(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.corrcoef(one.astype(np.float32).ravel(), other.astype(np.float32).ravel())[0, 1])


def a_clear_board() -> SamplePart:
    """A board with loose pieces in a picture of good contrast, on which any family can be seen."""
    boards = (make_part(seed, SIDE_PX, "pcb") for seed in range(100))
    return next(board for board in boards if len(board.work.placements) > 20 and board.render(1).std() > 45)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_real_picture(kind: str) -> None:
    """Every kind renders at its size, with finite light behind it, neither black nor white all over, with detail."""
    for seed in (1, 2, 3):
        part = make_part(seed, SIDE_PX, kind)
        for plane in (part.work.relief.albedo, part.work.relief.height, part.work.relief.metal, part.work.relief.gloss):
            assert np.isfinite(plane).all()
        picture = part.render(0)
        assert picture.shape == (SIDE_PX, SIDE_PX, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 1.0
        assert 4 < picture.mean() < 254


@pytest.mark.parametrize("kind", KINDS)
def test_registered_parts_stay_in_place(kind: str) -> None:
    """Two photographs of a located part agree pixel on pixel but not byte by byte; of a surface they need not agree."""
    part = make_part(4, SIDE_PX, kind)
    one, other = part.render(1), part.render(2)
    assert not np.array_equal(one, other)
    if part.registered:
        blurred = [np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), np.uint8) for picture in (one, other)]
        assert correlation(*blurred) > 0.6


def test_same_seeds_same_bytes_in_another_process() -> None:
    """Nothing depends on the process, its hash seed or on what was drawn before."""
    code = (
        "import hashlib; from inspector.scenes.samples.sample_part import make_part;"
        "print([hashlib.sha256(make_part(s, 96).render(5).tobytes()).hexdigest() for s in (9, 7, 8)])"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": hash_seed}
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(runs) == 1
    assert np.array_equal(make_part(8, 96).render(5), make_part(8, 96).render(5))
    assert not np.array_equal(make_part(8, 96).render(5), make_part(8, 96).render(6))


def test_samples_are_varied() -> None:
    """Fifty parts look different from each other, and many kinds, grey and colour, dark and bright are among them."""
    parts = [make_part(seed, LEAST_SIDE_PX) for seed in range(50)]
    pictures = [cv2.resize(part.render(0), (24, 24), interpolation=cv2.INTER_AREA).astype(np.float32) for part in parts]
    flat = np.stack(pictures).reshape(50, -1)
    distances = [np.abs(one - other).mean() for number, one in enumerate(flat) for other in flat[:number]]
    assert np.mean(distances) > 45
    assert np.min(distances) > 3
    levels = flat.mean(axis=1)
    assert levels.min() < 60
    assert levels.max() > 180
    assert len({part.kind for part in parts}) > 20
    assert {part.registered for part in parts} == {True, False}


def test_all_kinds_occur() -> None:
    """The stream draws every kind that there is."""
    dice = np.random.default_rng(0)
    assert {draw_kind(dice) for _ in range(3000)} == set(KINDS)


def test_misregistration_moves_a_little() -> None:
    """Pictures can be off by a few pixels, never by more than asked for; without it, pose does not change."""
    part = make_part(12, 192, "pcb")
    still = cv2.cvtColor(part.render(1, variation=0.0), cv2.COLOR_BGR2GRAY).astype(np.float32)
    moved = part.render(1, variation=0.0, misregistration_px=4.0)
    grey = cv2.cvtColor(moved, cv2.COLOR_BGR2GRAY).astype(np.float32)
    (x, y), _ = cv2.phaseCorrelate(still, grey, cv2.createHanningWindow((192, 192), cv2.CV_32F))
    assert 0.2 < float(np.hypot(x, y)) < 4.5


@pytest.mark.parametrize("kind", FAMILIES)
def test_masks_are_exact(kind: str) -> None:
    """Outside the mask no byte changes, inside every pixel does, visibly; the same seed spoils in the same way."""
    part = a_clear_board()
    good = part.render(1)
    bad, mask, name = part.spoil(good, 5, [kind])
    changed = cv2.absdiff(good, bad).max(axis=2)
    assert name == kind
    assert mask.dtype == np.bool_
    assert np.array_equal(changed > 0, mask)
    assert changed[mask].mean() > 10
    assert mask.mean() < 0.5
    again, same_mask, _ = part.spoil(good, 5, [kind])
    assert np.array_equal(again, bad)
    assert np.array_equal(same_mask, mask)


@pytest.mark.parametrize("kind", LOOSE_PIECE_FAMILIES)
def test_a_faulty_piece_is_photographed_at_the_same_moment(kind: str) -> None:
    """With the view's seed, what lies away from the faulty piece is the very photograph, noise and all."""
    part = a_clear_board()
    good = part.render(7)
    bad, mask, _ = part.spoil(good, 1, [kind], view=7)
    assert np.array_equal(cv2.absdiff(good, bad).max(axis=2) > 0, mask)
    assert mask.mean() < 0.4


def test_families_stay_apart() -> None:
    """No family teaches and judges; a family has the same use wherever the scenes know its name."""
    assert not set(families_for("train")) & set(families_for("judge"))
    assert len(families_for("judge")) >= 4
    for table in (overlays.FAMILIES, *defects.FAMILIES.values()):
        for kind, use in table.items():
            assert FAMILIES.get(kind, use) == use
    part = a_clear_board()
    good = part.render(0)
    assert {part.spoil(good, seed, "judge")[2] for seed in range(12)} <= set(families_for("judge"))


def test_bad_requests_are_named() -> None:
    """A wrong size, an unknown family and a tiny part are refused in words."""
    part = make_part(3, SIDE_PX, "nut")
    with pytest.raises(ValueError, match="no such defect families: rust"):
        part.spoil(part.render(0), 1, ["rust"])
    with pytest.raises(ValueError, match="128 px"):
        part.spoil(np.zeros((64, 64, 3), np.uint8), 1)
    with pytest.raises(ValueError, match="at least 64 px"):
        make_part(1, 32)


def test_bank_holds_what_was_rendered(tmp_path: Path) -> None:
    """The bank's bytes are the renders', whatever the number of workers; an unfinished one is not opened."""
    heard: list[int] = []
    write_bank(tmp_path, parts=10, views=2, side_px=64, seed=40, workers=2, report=heard.append)
    bank = open_bank(tmp_path)
    assert bank.images.shape == (10, 2, 64, 64, 3)
    assert sorted(heard)[-1] == 10
    part = make_part(49, 64)
    assert (bank.parts[9].seed, bank.parts[9].kind, bank.parts[9].registered) == (49, part.kind, part.registered)
    assert np.array_equal(bank.images[9, 1], part.render(1))
    (tmp_path / NOTES_FILE).unlink()
    with pytest.raises(FileNotFoundError):
        open_bank(tmp_path)
