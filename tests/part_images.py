"""Small procedural good and bad images: a board on a plain table, and a brushed surface. Reproducible from a seed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from inspector.records import BgrImage

WIDTH, HEIGHT = 320, 240


def paint_board(seed: int, *, width: int = WIDTH, height: int = HEIGHT, defect: bool = False) -> BgrImage:
    """A board with components, shifted by up to 6 px, turned by up to 2 degrees, lit a little differently."""
    layout = np.random.default_rng(7)
    board = np.full((height, width, 3), (60, 100, 70), np.uint8)
    x0, y0, x1, y1 = width // 6, height // 5, width * 5 // 6, height * 4 // 5
    cv2.rectangle(board, (x0, y0), (x1, y1), (120, 60, 40), -1)
    for _ in range(40):
        x, y = int(layout.integers(x0 + 4, x1 - 24)), int(layout.integers(y0 + 4, y1 - 20))
        colour = tuple(int(value) for value in layout.integers(30, 230, 3))
        cv2.rectangle(board, (x, y), (x + int(layout.integers(5, 20)), y + int(layout.integers(4, 14))), colour, -1)
    if defect:
        cv2.circle(board, (width // 2, height // 2), height // 16, (240, 240, 240), -1)
    shot = np.random.default_rng(seed)
    turn = np.asarray(cv2.getRotationMatrix2D((width / 2, height / 2), float(shot.uniform(-2, 2)), 1.0), np.float64)
    turn[:, 2] += shot.uniform(-6, 6, 2)
    board = np.asarray(cv2.warpAffine(board, turn, (width, height), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    light = float(shot.uniform(0.96, 1.04))
    noise = shot.normal(0.0, 2.0, board.shape)
    return np.asarray(np.clip(cv2.GaussianBlur(board, (0, 0), 0.8) * light + noise, 0, 255), np.uint8)


def paint_surface(seed: int, *, width: int = WIDTH, height: int = HEIGHT, defect: bool = False) -> BgrImage:
    """Brushed metal without any fixed structure."""
    shot = np.random.default_rng(seed)
    grain = cv2.blur(shot.normal(0.0, 1.0, (height, width)), (31, 1)) * 30.0
    grey = 120.0 + grain + shot.normal(0.0, 2.0, (height, width))
    if defect:
        cv2.line(grey, (width // 2, height // 2), (width // 2 + 8, height // 2 + 40), 40.0, 3)
    return np.asarray(cv2.cvtColor(np.clip(grey, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)


def write_images(folder: Path, images: list[BgrImage]) -> Path:
    """Write images as 000.png, 001.png, … and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, pixels in enumerate(images):
        cv2.imwrite(str(folder / f"{index:03d}.png"), pixels)
    return folder
