"""The twin difference: a score in the unit of the detector, and a map that shows where a part is not its twin."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.generator.bank_building import build_bank
from inspector.generator.bank_file import unpack_bank
from inspector.generator.references import ReferenceBank
from inspector.records import BgrImage
from tests.part_images import HEIGHT, WIDTH, paint_board, paint_surface
from tools.twin.difference import TwinDifference


class Boards:
    """Ten good boards."""

    def __len__(self) -> int:
        return 10

    def read(self, index: int) -> BgrImage:
        return paint_board(index)


@pytest.fixture(scope="module")
def difference() -> TwinDifference:
    built = build_bank(Boards())
    assert built is not None
    return TwinDifference(unpack_bank(built.content))


def test_a_defect_stands_out_where_it_is(difference: TwinDifference) -> None:
    """Good boards score about 1, a board with a white spot far more, and the map is highest on the spot."""
    good = [difference.score_frame(paint_board(seed)) for seed in range(40, 44)]
    bad = [difference.score_frame(paint_board(seed, defect=True)) for seed in range(40, 44)]
    assert all(found is not None and found[0] < 2.0 for found in good)
    for found in bad:
        assert found is not None
        score, scores = found
        assert score > 4.0
        row, column = np.unravel_index(int(scores.scores.argmax()), scores.scores.shape)
        assert abs(row * scores.cell_px - HEIGHT / 2) < 30
        assert abs(column * scores.cell_px - WIDTH / 2) < 30


def test_the_light_is_no_difference(difference: TwinDifference) -> None:
    """A third less light changes the score of a good board little."""
    board = paint_board(45)
    usual, dark = difference.score_frame(board), difference.score_frame(np.asarray(board * 0.67, np.uint8))
    assert usual is not None and dark is not None
    assert dark[0] < 1.5 * usual[0]


def test_without_references_there_is_no_score(difference: TwinDifference) -> None:
    """Another part, or a bank of the golden image alone."""
    assert difference.score_frame(paint_surface(3)) is None
    alone = TwinDifference(ReferenceBank.of_one(paint_board(0), 0.3))
    assert alone.score_frame(paint_board(46)) is None
