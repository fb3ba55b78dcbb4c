"""Folder cameras for tests: pictures to drop, a ledger in place of the store, and cameras that wait for little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from inspector import config as settings
from inspector.cameras.camera import CapturedFrame
from inspector.cameras.folder import FolderCamera, Knowledge
from inspector.images import ImageLimits

PATIENCE_S = 10.0

Open = Callable[..., FolderCamera]


def picture(seed: int = 0, width: int = 64, height: int = 48) -> np.ndarray[Any, np.dtype[np.uint8]]:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.0), np.uint8)


def jpeg(seed: int = 0, width: int = 64, height: int = 48) -> bytes:
    return bytes(cv2.imencode(".jpg", picture(seed, width, height))[1])


class Ledger:
    """What the store knows of identities: stands in for its look-up, as a real dict."""

    def __init__(self) -> None:
        self.state: dict[str, Knowledge] = {}
        self.asked: list[str] = []

    def __call__(self, identity: str) -> Knowledge:
        self.asked.append(identity)
        return self.state.get(identity, "new")

    def accept(self, frame: CapturedFrame) -> str:
        assert frame.source_identity is not None
        self.state[frame.source_identity] = "open"
        return frame.source_identity

    def commit(self, frame: CapturedFrame) -> str:
        identity = self.accept(frame)
        self.state[identity] = "closed"
        return identity


def folder_opener(folder: Path, ledger: Ledger) -> Open:
    """Gives a function that opens a camera on the folder; calling it again is a restart of the service."""

    def open_one(
        *, limits: ImageLimits = ImageLimits(), has_closed: Callable[[str], bool] = lambda prefix: False, **values: Any
    ) -> FolderCamera:
        chosen = {"settle_s": 0.05, "poll_s": 0.02, "incomplete_after_s": 0.4, **values}
        config = settings.FolderCamera(id="cam", path=folder, **chosen)
        camera = FolderCamera(config, ledger, has_closed, limits=limits)
        camera.open(0)
        return camera

    return open_one


def read_frame(camera: FolderCamera) -> CapturedFrame:
    """The next frame, which must come."""
    frame = camera.read(PATIENCE_S)
    assert frame is not None
    return frame


def names_in(folder: Path) -> list[str]:
    """Every file below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
