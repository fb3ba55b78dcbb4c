"""From a camera's configuration to the camera."""

from __future__ import annotations

from collections.abc import Callable

from inspector import config as settings
from inspector.cameras.camera import Camera
from inspector.cameras.folder import FolderCamera, IsKnown
from inspector.cameras.stream import StreamCamera


def make_camera(config: settings.CameraConfig, is_known: IsKnown, has_closed: Callable[[str], bool]) -> Camera:
    """The camera for a configuration, not opened yet.

    `is_known` tells of a `source_identity` whether its trigger is new, open or closed; `has_closed` whether any
    closed trigger's identity begins with a text (see `FolderCamera`). Only folders ask.
    """
    if isinstance(config, settings.FolderCamera):
        return FolderCamera(config, is_known, has_closed=has_closed)
    if isinstance(config, settings.StreamCamera):
        return StreamCamera(config)
    from inspector.cameras.simulated import SimulatedCamera

    return SimulatedCamera(config)
