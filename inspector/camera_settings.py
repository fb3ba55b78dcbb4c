"""Settings of triggers and cameras: the part of the YAML that says where frames come from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}$"
ENV_NAME_PATTERN = r"^[A-Z_][A-Z0-9_]{0,63}$"

Id = Annotated[str, Field(pattern=ID_PATTERN)]
EnvName = Annotated[str, Field(pattern=ENV_NAME_PATTERN)]


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EveryFrameTrigger(Settings):
    """Each frame of the source is a part."""

    kind: Literal["every_frame"] = Field(default="every_frame", description="Each frame of the source is a part.")


class IntervalTrigger(Settings):
    """One part each `interval_s` seconds."""

    kind: Literal["interval"] = Field(default="interval", description="One part at fixed intervals.")
    interval_s: float = Field(default=1.0, gt=0, le=86_400, description="Seconds between two parts.")


class PartPresentTrigger(Settings):
    """A part is in position when the picture differs from the empty station and has come to rest."""

    kind: Literal["part_present"] = Field(default="part_present", description="A part is seen in the picture.")
    difference_level: float = Field(
        default=12.0,
        gt=0,
        le=255,
        description="Mean grey-level difference to the empty station that means a part.",
    )
    motion_level: float = Field(
        default=3.0,
        gt=0,
        le=255,
        description="Grey levels by which, from one frame to the next, the mean of a patch as wide as a twelfth "
        "of the picture may change while the part is at rest.",
    )
    settle_frames: int = Field(default=2, ge=1, le=100, description="Frames at rest before the part is taken.")
    empty_frames: int = Field(default=5, ge=1, le=1000, description="Frames at the start that show the empty station.")


class CommandTrigger(Settings):
    """A part is announced by the MQTT command `trigger` (a PLC or a code reader)."""

    kind: Literal["command"] = Field(default="command", description="A part is announced over MQTT.")
    frame_timeout_s: float = Field(
        default=2.0, gt=0, le=60, description="No frame within this time after the command: NOT_INSPECTED."
    )


TriggerConfig = Annotated[
    EveryFrameTrigger | IntervalTrigger | PartPresentTrigger | CommandTrigger, Field(discriminator="kind")
]


class CameraBase(Settings):
    """What every camera has."""

    id: Id = Field(description="Name of the camera in topics, file names and the database.")
    trigger: TriggerConfig = Field(
        default_factory=EveryFrameTrigger, description="When a frame of this camera is a part."
    )
    backpressure: Literal["block", "newest"] = Field(
        default="block",
        description="When frames come faster than verdicts: `block` the source, or keep the `newest` and count "
        "the frames given up as NOT_INSPECTED.",
    )
    width_px: int | None = Field(
        default=None,
        ge=16,
        le=32_768,
        description="Declared frame width; a frame of another width is an error.",
    )
    height_px: int | None = Field(
        default=None,
        ge=16,
        le=32_768,
        description="Declared frame height; a frame of another height is an error.",
    )
    bit_depth: int = Field(
        default=16, ge=9, le=16, description="Significant bits of 16-bit images (12-bit cameras: 12)."
    )
    mm_per_px: float | None = Field(
        default=None, gt=0, le=1000, description="Size of one frame pixel on the part, in millimetres."
    )
    calibration_id: str | None = Field(
        default=None, max_length=64, description="Certificate of the mm_per_px calibration, for audits."
    )


class FolderCamera(CameraBase):
    """Files dropped by a camera's FTP or a share."""

    kind: Literal["folder"] = Field(default="folder", description="Files in a folder.")
    path: Path = Field(description="The folder to watch; relative paths start at the configuration file.")
    pattern: str = Field(default="*", min_length=1, max_length=128, description="Which file names are images (glob).")
    name_pattern: str | None = Field(
        default=None,
        max_length=256,
        description="Regular expression over the file stem with the named groups part_id, lot and attempt.",
    )
    settle_s: float = Field(
        default=0.5,
        ge=0,
        le=600,
        description="A file is complete when size and mtime rest this long and it decodes.",
    )
    poll_s: float = Field(default=0.2, gt=0, le=60, description="Seconds between two looks at the folder.")
    incomplete_after_s: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        description="A file that still does not decode after this long is set aside as failed.",
    )
    after: Literal["keep", "move", "delete"] = Field(
        default="keep",
        description="What happens to a file after its verdict is committed: keep it, move it to `done/`, delete it.",
    )

    @field_validator("name_pattern")
    @classmethod
    def _known_groups(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            groups = set(re.compile(value).groupindex)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        unknown = groups - {"part_id", "lot", "attempt"}
        if unknown or not groups:
            raise ValueError("needs at least one of the named groups part_id, lot, attempt and no others")
        return value


class StreamCamera(CameraBase):
    """RTSP, HTTP-MJPEG, a V4L2 device or a video file, decoded in a process of its own."""

    kind: Literal["stream"] = Field(default="stream", description="A live or recorded video stream.")
    url: str = Field(
        min_length=1,
        max_length=1024,
        description="rtsp://…, http://…, /dev/videoN or a video file. Credentials go into username_env/password_env.",
    )
    username_env: EnvName | None = Field(default=None, description="Environment variable with the user name.")
    password_env: EnvName | None = Field(default=None, description="Environment variable with the password.")
    rtsp_transport: Literal["tcp", "udp"] = Field(default="tcp", description="RTSP transport.")
    stall_s: float = Field(default=5.0, gt=0, le=600, description="No frame for this long: the stream is restarted.")
    open_timeout_s: float = Field(default=10.0, gt=0, le=600, description="Give up opening after this long.")
    backoff_max_s: float = Field(default=30.0, gt=0, le=3600, description="Longest pause between two attempts.")
    loop: bool = Field(default=False, description="Start a video file again when it ends.")
    backpressure: Literal["block", "newest"] = Field(
        default="newest",
        description="When frames come faster than verdicts: `block` the source, or keep the `newest` and count "
        "the frames given up as NOT_INSPECTED.",
    )

    @field_validator("url")
    @classmethod
    def _no_credentials(cls, value: str) -> str:
        try:
            address = urlsplit(value)
            broken = "@" in address.netloc or (bool(address.netloc) and address.port == 0)
        except ValueError:
            broken = True
        if broken or re.search(r"[?&](pass|pwd|passwd|password|token|secret)=", value, re.IGNORECASE):
            raise ValueError("credentials do not belong into the file; use username_env and password_env")
        return value


class SimulatedCamera(CameraBase):
    """A procedural 4K line that knows the truth about every part."""

    kind: Literal["simulated"] = Field(default="simulated", description="A procedural line.")
    scene: Literal["board", "casting"] = Field(default="board", description="Which product the line makes.")
    seed: int = Field(default=1, ge=0, le=2**31 - 1, description="The same seed gives the same parts.")
    parts: int | None = Field(default=None, ge=1, le=10_000_000, description="Stop after this many; empty: never.")
    frames_per_s: float = Field(default=2.0, gt=0, le=120, description="Parts a second.")
    defect_rate: float = Field(default=0.2, ge=0, le=1, description="Share of parts that get a defect.")
    first_part: int = Field(default=1, ge=1, le=1_000_000_000, description="Number of the first part.")
    lot_size: int = Field(default=50, ge=1, le=1_000_000, description="Parts a lot.")
    width_px: int | None = Field(default=3840, ge=256, le=16_384, description="Frame width.")
    height_px: int | None = Field(default=2160, ge=256, le=16_384, description="Frame height.")


CameraConfig = Annotated[FolderCamera | StreamCamera | SimulatedCamera, Field(discriminator="kind")]
