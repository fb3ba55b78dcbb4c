"""Copper traces of a board: nets routed on a grid so that they look as a layout program leaves them.

A* with a price on bends (Hart, Nilsson, Raphael 1968) over one layer; what finds no way ends in a via.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID_MM = 0.4
_MOVES = tuple(
    (dx, dy, 1.414 if dx and dy else 1.0)
    for dx, dy in ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))
)
_MAX_VISITS = 1500
_GREED = 1.4
"""More than 1 finds a good way instead of the best one, several times faster."""

Point = tuple[float, float]
Cell = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Copper:
    """What the router drew, in millimetres: polylines and the vias at their open ends."""

    traces: tuple[tuple[Point, ...], ...]
    vias: tuple[Point, ...]


class Router:
    """One copper layer of `width_mm` x `height_mm`; blocked where something stands."""

    def __init__(self, width_mm: float, height_mm: float) -> None:
        self._owner: NDArray[np.int32] = np.zeros((int(height_mm / GRID_MM) + 1, int(width_mm / GRID_MM) + 1), np.int32)
        self._owner[:4, :] = self._owner[-4:, :] = -1
        self._owner[:, :4] = self._owner[:, -4:] = -1
        self._traces: list[tuple[Point, ...]] = []
        self._vias: list[Point] = []
        self._net = 0

    def block(self, x: float, y: float, width: float, height: float, owner: int = -1) -> None:
        """Nothing but `owner` may pass this rectangle."""
        x0, y0 = self._cell((x - width / 2, y - height / 2))
        x1, y1 = self._cell((x + width / 2, y + height / 2))
        self._owner[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1] = owner

    def connect(self, start: Point, end: Point, start_owner: int, end_owner: int) -> bool:
        """Route between two pads; False when there is no way."""
        self._net += 1
        path = self._search(self._cell(start), self._cell(end), {0, start_owner, end_owner})
        if path is None:
            return False
        for x, y in path:
            if self._owner[y, x] == 0:
                self._owner[y, x] = 1_000_000 + self._net
        self._traces.append((start, *_corners(path), end))
        return True

    def drop_via(self, start: Point, owner: int, direction: Point, rng: np.random.Generator) -> bool:
        """A short trace from a pad to a via near it; False when there is no room."""
        for length in rng.permutation([1.4, 1.8, 2.4, 3.0]):
            side = float(rng.choice([-0.8, 0.0, 0.8]))
            spot = (
                start[0] + direction[0] * length + direction[1] * side,
                start[1] + direction[1] * length + direction[0] * side,
            )
            if self._is_free(spot, 2) and self.connect(start, spot, owner, 0):
                self._vias.append(spot)
                self.block(*spot, 0.8, 0.8)
                return True
        return False

    def add_via(self, spot: Point) -> bool:
        """A via that belongs to the ground plane, where there is room."""
        if not self._is_free(spot, 2):
            return False
        self._vias.append(spot)
        self.block(*spot, 0.8, 0.8)
        return True

    def result(self) -> Copper:
        """Everything drawn so far."""
        return Copper(tuple(self._traces), tuple(self._vias))

    def _cell(self, point: Point) -> Cell:
        return round(point[0] / GRID_MM), round(point[1] / GRID_MM)

    def _is_free(self, spot: Point, reach: int) -> bool:
        x, y = self._cell(spot)
        rows, columns = self._owner.shape
        if not (reach <= x < columns - reach and reach <= y < rows - reach):
            return False
        return not self._owner[y - reach : y + reach + 1, x - reach : x + reach + 1].any()

    def _search(self, start: Cell, end: Cell, allowed: set[int]) -> list[Cell] | None:
        rows, columns = self._owner.shape
        free = np.isin(self._owner, list(allowed)).tolist()
        best: dict[tuple[Cell, int], float] = {(start, 8): 0.0}
        came: dict[tuple[Cell, int], tuple[Cell, int]] = {}
        queue: list[tuple[float, float, Cell, int]] = [(0.0, 0.0, start, 8)]
        for _ in range(_MAX_VISITS):
            if not queue:
                return None
            _, cost, cell, heading = heapq.heappop(queue)
            if cell == end:
                return _walk_back(came, (cell, heading))
            if cost > best[(cell, heading)]:
                continue
            prices = _BEND_PRICES[heading]
            for turn, (dx, dy, length) in enumerate(_MOVES):
                x, y = cell[0] + dx, cell[1] + dy
                if not (0 <= x < columns and 0 <= y < rows and free[y][x]):
                    continue
                if dx and dy and not (free[cell[1]][x] and free[y][cell[0]]):
                    continue
                step = cost + length + prices[turn]
                state = ((x, y), turn)
                if step < best.get(state, 1e9):
                    best[state] = step
                    came[state] = (cell, heading)
                    far_x, far_y = abs(end[0] - x), abs(end[1] - y)
                    far = far_x + 0.414 * far_y if far_x > far_y else far_y + 0.414 * far_x
                    heapq.heappush(queue, (step + _GREED * far, step, (x, y), turn))
        return None


def _bend_prices() -> list[list[float]]:
    """Price of turning from a heading (8: none yet) to another: gentle bends are cheap."""
    price = (0.0, 0.6, 3.0, 9.0, 20.0)
    table = [[price[min((old - new) % 8, (new - old) % 8)] for new in range(8)] for old in range(8)]
    return [*table, [0.0] * 8]


def _walk_back(came: dict[tuple[Cell, int], tuple[Cell, int]], state: tuple[Cell, int]) -> list[Cell]:
    path = [state[0]]
    while state in came:
        state = came[state]
        path.append(state[0])
    return path[::-1]


def _corners(path: list[Cell]) -> list[Point]:
    kept = [
        cell
        for index, cell in enumerate(path)
        if 0 < index < len(path) - 1
        and (cell[0] - path[index - 1][0], cell[1] - path[index - 1][1])
        != (path[index + 1][0] - cell[0], path[index + 1][1] - cell[1])
    ]
    return [(x * GRID_MM, y * GRID_MM) for x, y in kept]


_BEND_PRICES = _bend_prices()
