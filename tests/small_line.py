"""A small line for tests: 320x240 parts that take a second to teach, and the configuration of its station."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

from inspector.config import PlantConfig
from inspector.images import encode_jpeg
from inspector.records import BgrImage
from pipelines import fit_twin
from pipelines.fit import fit_recipe

WIDTH_PX, HEIGHT_PX = 320, 240
STATION = "plant/line1/st1"
RECIPE = "plate"
SHIPPED_MASKS = (fit_twin.MOST_FRAMES, fit_twin.MASKS_A_FRAME)
FEW_MASKS = (2, 1)


@contextmanager
def measure_repairs_on(masks: tuple[int, int]) -> Iterator[None]:
    """Fits in here measure the repair methods on so many frames and masks a frame.

    With `SHIPPED_MASKS` that is two thirds of a small fit's time; `FEW_MASKS` are for tests in which it does not
    matter which method is best.
    """
    frames, masks_a_frame = masks
    with patch.object(fit_twin, "MOST_FRAMES", frames), patch.object(fit_twin, "MASKS_A_FRAME", masks_a_frame):
        yield


def draw_part(number: int, *, defect: bool = False, width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> BgrImage:
    """A bright plate with holes on a dark table; a defect is a dark spot of 24 px on the plate."""
    rng = np.random.default_rng([7, number])
    plate = np.full((240, 320, 3), 45, np.uint8)
    cv2.rectangle(plate, (60, 50), (260, 190), (170, 165, 160), -1)
    for x, y in ((90, 80), (230, 80), (90, 160), (230, 160)):
        cv2.circle(plate, (x, y), 12, (60, 60, 60), -1, cv2.LINE_AA)
    cv2.putText(plate, "A7", (130, 132), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (90, 90, 90), 2, cv2.LINE_AA)
    if defect:
        cv2.circle(plate, (195, 120), 12, (30, 30, 35), -1, cv2.LINE_AA)
    shift = np.array([[1, 0, rng.uniform(-2, 2)], [0, 1, rng.uniform(-2, 2)]])
    moved = cv2.warpAffine(plate, shift, (320, 240), borderMode=cv2.BORDER_REPLICATE)
    noisy = moved.astype(np.float32) * rng.uniform(0.97, 1.03) + rng.normal(0, 2, moved.shape)
    return np.asarray(cv2.resize(np.clip(noisy, 0, 255).astype(np.uint8), (width_px, height_px)), np.uint8)


def jpeg_part(number: int, *, defect: bool = False) -> bytes:
    """The part as a camera's JPEG."""
    return encode_jpeg(draw_part(number, defect=defect), 95)


def teach(data_dir: Path, good_dir: Path, *, images: int = 12, name: str = RECIPE) -> None:
    """Fit and release the small recipe in a data directory."""
    good_dir.mkdir(parents=True, exist_ok=True)
    for number in range(images):
        (good_dir / f"good{number:03d}.jpg").write_bytes(jpeg_part(1000 + number))
    fit_recipe(name, good_dir, data_dir)


def small_plant(camera: dict[str, Any], **sections: Any) -> PlantConfig:
    """A plant with one station and one camera; `sections` replace whole sections of the file."""
    station = {"id": "st1", "recipe": RECIPE, "deadline_ms": 5000, "cameras": [camera]}
    station |= sections.pop("station", {})
    values: dict[str, Any] = {
        "site": {"id": "plant"},
        "lines": [{"id": "line1", "stations": [station]}],
        "http": {"port": None},
        "store": {"min_free_mb": 10},
    }
    return PlantConfig.model_validate(values | sections)


def folder_camera(path: Path, **changes: Any) -> dict[str, Any]:
    """Settings of a folder camera that is quick enough for tests."""
    return {"id": "top", "kind": "folder", "path": str(path), "settle_s": 0.05, "poll_s": 0.02} | changes


def drop(path: Path, content: bytes) -> None:
    """Put a file into a watched folder as a careful camera does: complete at once."""
    hidden = path.with_name(f".{path.name}.tmp")
    hidden.write_bytes(content)
    hidden.rename(path)


def call_inspector(*arguments: object) -> subprocess.CompletedProcess[str]:
    """One command in a process of its own: it sets up logs for its own standard error."""
    command = [sys.executable, "-m", "pipelines.command_line", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
