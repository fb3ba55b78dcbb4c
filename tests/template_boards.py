"""Small procedural bare boards with their templates: traces on laminate, two kinds of defects. From a seed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from inspector.records import BgrImage, BoxPx

WIDTH, HEIGHT = 200, 160
PITCH, TRACE = 20, 8
BOARD, COPPER = (30, 60, 20), (90, 170, 210)
Labels = list[tuple[BoxPx, str]]


def paint_template(seed: int) -> BgrImage:
    """Parallel traces with pads at random places."""
    random = np.random.default_rng(seed)
    board = np.full((HEIGHT, WIDTH, 3), BOARD, np.uint8)
    for y in range(PITCH // 2, HEIGHT, PITCH):
        cv2.rectangle(board, (0, y), (WIDTH, y + TRACE), COPPER, -1)
        x = int(random.integers(20, WIDTH - 20))
        cv2.circle(board, (x, y + TRACE // 2), 8, COPPER, -1)
    return board


def paint_pair(seed: int, defects: int = 2) -> tuple[BgrImage, BgrImage, Labels]:
    """Template, frame and labels. Defects alternate: `open` (a cut trace) and `copper` (a blob between traces)."""
    random = np.random.default_rng(1000 + seed)
    template = paint_template(seed)
    frame = template.copy()
    labels: Labels = []
    rows = random.permutation(np.arange(PITCH // 2, HEIGHT - 2 * PITCH, PITCH))[:defects]
    for index, y in enumerate(int(row) for row in rows):
        x = int(random.integers(30, WIDTH - 30))
        if (seed + index) % 2:
            cv2.rectangle(frame, (x, y - 6), (x + 6, y + TRACE + 6), BOARD, -1)
            labels.append(((x - 4, y - 4, x + 11, y + TRACE + 5), "open"))
        else:
            middle = y + (TRACE + PITCH) // 2
            cv2.circle(frame, (x, middle), 4, COPPER, -1)
            labels.append(((x - 7, middle - 7, x + 8, middle + 8), "copper"))
    shift = np.array([[1.0, 0.0, random.uniform(-1, 1)], [0.0, 1.0, random.uniform(-1, 1)]])
    moved = cv2.warpAffine(frame, shift, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
    noisy = np.clip(moved + random.normal(0.0, 3.0, moved.shape), 0, 255).astype(np.uint8)
    return template, np.asarray(noisy, np.uint8), labels


def write_set(root: Path, seeds: range, *, boxes: bool = True, defects: int = 2) -> Path:
    """A template set of PNG files 000.png, 001.png, …; without boxes it has none of their files either."""
    for folder in ("template", "test", *(["boxes"] if boxes else [])):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds):
        template, frame, labels = paint_pair(seed, defects)
        cv2.imwrite(str(root / "template" / f"{index:03d}.png"), template)
        cv2.imwrite(str(root / "test" / f"{index:03d}.png"), frame)
        if boxes:
            lines = [f"{x0} {y0} {x1} {y1} {name}\n" for (x0, y0, x1, y1), name in labels]
            (root / "boxes" / f"{index:03d}.txt").write_text("".join(lines))
    return root
