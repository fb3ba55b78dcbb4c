"""Settings: one YAML per station or plant, and the only reader of the environment.

`load_config` turns a file into a frozen `PlantConfig` or raises `ConfigError` naming, for every
problem, the file, the line, the key and what was expected (for an unknown key: the nearest valid
one). Secrets never stand in the file: fields that end in `_env` hold the NAME of an environment
variable, and only `read_secret` looks it up.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import zoneinfo
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from inspector.errors import ConfigError
from inspector.records import Purpose

ID_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}$"
ENV_NAME_PATTERN = r"^[A-Z_][A-Z0-9_]{0,63}$"
RECIPE_REF_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}(@[1-9][0-9]{0,5})?$"
DATA_DIR_VARIABLE = "INSPECTOR_DATA_DIR"
DEFAULT_DATA_DIR = "inspector-data"
MAX_CONFIG_BYTES = 1_000_000

Id = Annotated[str, Field(pattern=ID_PATTERN)]
EnvName = Annotated[str, Field(pattern=ENV_NAME_PATTERN)]


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- triggers and cameras ---------------------------------------------------------------------------


class EveryFrameTrigger(Settings):
    """Each frame of the source is a part."""

    kind: Literal["every_frame"] = "every_frame"


class IntervalTrigger(Settings):
    """One part each `interval_s` seconds."""

    kind: Literal["interval"] = "interval"
    interval_s: float = Field(default=1.0, gt=0, le=86_400, description="Seconds between two parts.")


class PartPresentTrigger(Settings):
    """A part is in position when the picture differs from the empty station and has come to rest."""

    kind: Literal["part_present"] = "part_present"
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
        description="Mean difference between two frames below which the part is at rest.",
    )
    settle_frames: int = Field(default=2, ge=1, le=100, description="Frames at rest before the part is taken.")
    empty_frames: int = Field(default=5, ge=1, le=1000, description="Frames at the start that show the empty station.")


class CommandTrigger(Settings):
    """A part is announced by the MQTT command `trigger` (a PLC or a code reader)."""

    kind: Literal["command"] = "command"
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

    kind: Literal["folder"] = "folder"
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

    kind: Literal["stream"] = "stream"
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
    backpressure: Literal["block", "newest"] = "newest"

    @field_validator("url")
    @classmethod
    def _no_credentials(cls, value: str) -> str:
        if re.match(r"^[a-z]+://[^/@]*@", value):
            raise ValueError("credentials do not belong into the file; use username_env and password_env")
        return value


class SimulatedCamera(CameraBase):
    """A procedural 4K line that knows the truth about every part."""

    kind: Literal["simulated"] = "simulated"
    scene: Literal["board", "casting"] = Field(default="board", description="Which product the line makes.")
    seed: int = Field(default=1, ge=0, le=2**31 - 1, description="The same seed gives the same parts.")
    parts: int | None = Field(default=None, ge=1, le=10_000_000, description="Stop after this many; empty: never.")
    frames_per_s: float = Field(default=2.0, gt=0, le=120, description="Parts a second.")
    defect_rate: float = Field(default=0.2, ge=0, le=1, description="Share of parts that get a defect.")
    first_part: int = Field(default=1, ge=1, description="Number of the first part.")
    lot_size: int = Field(default=50, ge=1, le=1_000_000, description="Parts a lot.")
    width_px: int | None = Field(default=3840, ge=256, le=16_384, description="Frame width.")
    height_px: int | None = Field(default=2160, ge=256, le=16_384, description="Frame height.")


CameraConfig = Annotated[FolderCamera | StreamCamera | SimulatedCamera, Field(discriminator="kind")]


# --- plant ------------------------------------------------------------------------------------------


class StationConfig(Settings):
    """One inspection station."""

    id: Id = Field(description="Name in topics and the database.")
    name: str | None = Field(default=None, max_length=80, description="Display name.")
    recipe: str = Field(
        pattern=RECIPE_REF_PATTERN,
        description="Recipe at the first start: NAME (latest released) or NAME@VERSION. Later `set-recipe` rules.",
    )
    purpose: Purpose = Field(default=Purpose.PRODUCTION, description="Only production counts in yields.")
    deadline_ms: float = Field(
        default=500.0,
        gt=0,
        le=600_000,
        description="A verdict later than this after its trigger is marked late.",
    )
    cameras: tuple[CameraConfig, ...] = Field(min_length=1, max_length=8, description="The cameras of this station.")
    workers: int = Field(default=2, ge=1, le=32, description="Frames inspected side by side.")
    queue_frames: int = Field(default=4, ge=1, le=256, description="Frames that may wait for a worker.")

    @model_validator(mode="after")
    def _unique_cameras(self) -> StationConfig:
        _require_unique("camera", [camera.id for camera in self.cameras])
        return self


class LineConfig(Settings):
    """One production line."""

    id: Id = Field(description="Name in topics and the database.")
    name: str | None = Field(default=None, max_length=80, description="Display name.")
    stations: tuple[StationConfig, ...] = Field(min_length=1, max_length=64, description="Its stations.")

    @model_validator(mode="after")
    def _unique_stations(self) -> LineConfig:
        _require_unique("station", [station.id for station in self.stations])
        return self


class ShiftConfig(Settings):
    """A shift begins at a local wall-clock time and lasts until the next one begins."""

    name: str = Field(min_length=1, max_length=40, description="Name of the shift in counters and reports.")
    start: time = Field(description='Local time of its beginning, for example "06:00".')


class SiteConfig(Settings):
    """The factory."""

    id: Id = Field(description="Name in topics and the database.")
    name: str | None = Field(default=None, max_length=80, description="Display name.")
    timezone: str = Field(default="UTC", description="IANA time zone of the shift table and the reports.")
    shifts: tuple[ShiftConfig, ...] = Field(
        default=(ShiftConfig(name="day", start=time(0, 0)),),
        min_length=1,
        max_length=12,
        description="Shift table.",
    )

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            zoneinfo.ZoneInfo(value)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"unknown time zone {value!r}; use a name such as Europe/Berlin") from error
        return value

    @model_validator(mode="after")
    def _unique_shifts(self) -> SiteConfig:
        _require_unique("shift", [shift.name for shift in self.shifts])
        _require_unique("shift start", [shift.start.isoformat() for shift in self.shifts])
        return self


class TlsConfig(Settings):
    """TLS towards the broker; the certificate of the broker is always verified."""

    ca_file: Path | None = Field(default=None, description="CA bundle; empty: the system's.")
    cert_file: Path | None = Field(default=None, description="Client certificate.")
    key_file: Path | None = Field(default=None, description="Key of the client certificate.")


class MqttConfig(Settings):
    """The broker that everybody on the shop floor listens to."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="Broker host.")
    port: int = Field(default=1883, ge=1, le=65_535, description="Broker port (8883 with TLS).")
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        default="auto", description="`auto` tries MQTT 5 and falls back to 3.1.1."
    )
    topic_root: str = Field(
        default="inspector/v1",
        pattern=r"^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+){0,7}$",
        description="First levels of every topic.",
    )
    username_env: EnvName | None = Field(default=None, description="Environment variable with the user name.")
    password_env: EnvName | None = Field(default=None, description="Environment variable with the password.")
    tls: TlsConfig | None = Field(default=None, description="Set (even to {}) to use TLS.")
    keepalive_s: int = Field(default=20, ge=5, le=3600, description="MQTT keep-alive.")
    backoff_max_s: float = Field(default=30.0, gt=0, le=3600, description="Longest pause between two attempts.")
    max_inflight: int = Field(default=100, ge=1, le=1000, description="Messages sent and not yet acknowledged.")
    historical_after_s: float = Field(
        default=30.0,
        gt=0,
        le=86_400,
        description="A message older than this when sent carries is_historical: true.",
    )
    max_command_bytes: int = Field(default=16_384, ge=256, le=1_048_576, description="Larger commands are refused.")

    @model_validator(mode="after")
    def _password_needs_user(self) -> MqttConfig:
        if self.password_env is not None and self.username_env is None:
            raise ValueError("password_env needs username_env")
        return self


class StoreConfig(Settings):
    """The database and the pictures beside it."""

    keep_ok_frame_every: int = Field(
        default=100, ge=0, le=1_000_000, description="Of OK frames the bytes of one in N are kept; 0: none."
    )
    retention_days: float = Field(default=90.0, gt=0, le=3650, description="Older inspections are removed.")
    retention_mb: int = Field(
        default=50_000,
        ge=100,
        le=100_000_000,
        description="Beyond this the oldest pictures are removed first.",
    )
    min_free_mb: int = Field(
        default=500,
        ge=10,
        le=10_000_000,
        description="Below this the station takes no further parts: status degraded.",
    )


class EvidenceConfig(Settings):
    """Pictures made for people."""

    enabled: bool = Field(default=True, description="Make twins and annotated visuals of NG and REVIEW parts.")
    base_url: str = Field(
        default="",
        max_length=512,
        description="Prefix under which the evidence folder is served, for links in messages.",
    )
    max_regions: int = Field(default=4, ge=1, le=12, description="Regions shown enlarged, worst first.")


class HttpConfig(Settings):
    """Health and metrics for the plant's monitoring."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; loopback unless changed.")
    port: int | None = Field(default=9464, ge=1, le=65_535, description="/healthz and /metrics; null: off.")


class PlantConfig(Settings):
    """The whole file."""

    site: SiteConfig = Field(description="The factory.")
    lines: tuple[LineConfig, ...] = Field(min_length=1, max_length=64, description="Its lines.")
    mqtt: MqttConfig = Field(default_factory=MqttConfig, description="The broker.")
    store: StoreConfig = Field(default_factory=StoreConfig, description="Database and pictures.")
    evidence: EvidenceConfig = Field(default_factory=EvidenceConfig, description="Pictures for people.")
    http: HttpConfig = Field(default_factory=HttpConfig, description="Health and metrics.")

    @model_validator(mode="after")
    def _unique_lines(self) -> PlantConfig:
        _require_unique("line", [line.id for line in self.lines])
        return self

    def stations(self) -> dict[str, StationConfig]:
        """Every station under its full id `site/line/station`, in file order."""
        return {f"{self.site.id}/{line.id}/{station.id}": station for line in self.lines for station in line.stations}


def _require_unique(what: str, values: list[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ValueError(f"{what} {value!r} appears twice")
        seen.add(value)


# --- loading ----------------------------------------------------------------------------------------


def load_config(path: Path) -> PlantConfig:
    """Read and validate one YAML file; raise `ConfigError` that lists every problem with its line."""
    text = _read_text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{where}: not valid YAML: {problem}") from error
    if not isinstance(values, dict) or root is None:
        raise ConfigError(f"{path}:1: expected keys such as site and lines, found {type(values).__name__}")
    duplicate = _find_duplicate_key(root)
    if duplicate is not None:
        raise ConfigError(f"{path}:{duplicate[1]}: {duplicate[0]}: this key appears twice")
    try:
        config = PlantConfig.model_validate(values)
    except ValidationError as error:
        problems = [_describe_problem(path, root, detail) for detail in error.errors()]
        raise ConfigError("\n".join(problems)) from error
    return _resolve_paths(config, path.resolve().parent)


def config_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the configuration, for editors."""
    schema = PlantConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Line Inspector configuration"
    return schema


def config_sha256(config: PlantConfig) -> str:
    """Hash of the resolved configuration; every inspection row carries it."""
    canonical = json.dumps(config.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def describe_resolved(config: PlantConfig) -> dict[str, Any]:
    """The resolved configuration for people: each `_env` field says whether its variable is set, never its value."""
    masked: dict[str, Any] = _mask(config.model_dump(mode="json"))
    return masked


def read_secret(variable: str | None) -> str | None:
    """The value of an environment variable, None when no name is configured; `ConfigError` when it is not set."""
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise ConfigError(f"environment variable {variable} is not set; the configuration names it as a secret")
    return value


def resolve_data_dir(argument: Path | None) -> Path:
    """`--data-dir`, else $INSPECTOR_DATA_DIR, else ./inspector-data."""
    if argument is not None:
        return argument.resolve()
    return Path(os.environ.get(DATA_DIR_VARIABLE) or DEFAULT_DATA_DIR).resolve()


def _read_text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: {len(raw)} bytes, more than {MAX_CONFIG_BYTES}: not a configuration")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error


def _resolve_paths(config: PlantConfig, base: Path) -> PlantConfig:
    """Make the paths of folder cameras and TLS files absolute, relative to the configuration file."""

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else (base / path.expanduser()).resolve()

    def with_path(camera: Any) -> Any:
        return camera.model_copy(update={"path": absolute(camera.path)}) if isinstance(camera, FolderCamera) else camera

    lines = tuple(
        line.model_copy(
            update={
                "stations": tuple(
                    station.model_copy(update={"cameras": tuple(with_path(camera) for camera in station.cameras)})
                    for station in line.stations
                )
            }
        )
        for line in config.lines
    )
    mqtt = config.mqtt
    if mqtt.tls is not None:
        files = {name: absolute(getattr(mqtt.tls, name)) for name in ("ca_file", "cert_file", "key_file")}
        mqtt = mqtt.model_copy(update={"tls": mqtt.tls.model_copy(update=files)})
    return config.model_copy(update={"lines": lines, "mqtt": mqtt})


def _mask(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: f"${item} ({'set' if os.environ.get(item) else 'NOT SET'})"
            if key.endswith("_env") and isinstance(item, str)
            else _mask(item)
            for key, item in value.items()
        }
    return [_mask(item) for item in value] if isinstance(value, list) else value


# --- explaining what is wrong -----------------------------------------------------------------------


def _describe_problem(path: Path, root: yaml.Node, detail: Any) -> str:
    """One line: file:line: key: reason."""
    location = [part for part in detail["loc"] if not _is_union_tag(part)]
    node, line, found = root, root.start_mark.line + 1, []
    for part in location:
        step = _descend(node, part)
        if step is None:
            break
        node, line = step
        found.append(part)
    key = ".".join(str(part) for part in location) or "(file)"
    reason = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        reason = "unknown key" + _nearest_hint(str(location[-1]), detail["loc"])
    elif detail["type"] == "missing":
        reason = "this key is required"
    elif detail["type"] not in ("value_error", "union_tag_not_found"):
        reason = f"{reason} (found {_shorten(detail['input'])})"
    return f"{path}:{line}: {key}: {reason}"


def _is_union_tag(part: Any) -> bool:
    return part in {"folder", "stream", "simulated", "every_frame", "interval", "part_present", "command"}


def _descend(node: yaml.Node, part: Any) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if str(key.value) == str(part):
                return value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _nearest_hint(key: str, location: tuple[Any, ...]) -> str:
    valid = _valid_keys(location[:-1])
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; valid here: {', '.join(sorted(valid))}" if valid else ""


def _valid_keys(location: tuple[Any, ...]) -> list[str]:
    """The keys allowed at a location, found by walking the JSON Schema."""
    schema = PlantConfig.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolve(node: dict[str, Any], tag: Any = None) -> dict[str, Any]:
        if "$ref" in node:
            return resolve(definitions[node["$ref"].rsplit("/", 1)[1]], tag)
        if "discriminator" in node and tag in node["discriminator"]["mapping"]:
            return resolve({"$ref": node["discriminator"]["mapping"][tag]})
        for choice in node.get("anyOf", []):
            if "$ref" in choice:
                return resolve(choice, tag)
        return node

    here = resolve(schema)
    for part in location:
        if isinstance(part, int):
            here = here.get("items", {})
        elif _is_union_tag(part):
            here = resolve(here, part)
        else:
            here = resolve(here).get("properties", {}).get(part, {})
            if "$ref" in here:
                here = resolve(here)
    return list(resolve(here).get("properties", {}))


def _find_duplicate_key(node: yaml.Node, prefix: str = "") -> tuple[str, int] | None:
    """The first key that stands twice in one mapping: (dotted key, line)."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            dotted = f"{prefix}{key.value}"
            if key.value in seen:
                return dotted, key.start_mark.line + 1
            seen.add(key.value)
            deeper = _find_duplicate_key(value, f"{dotted}.")
            if deeper is not None:
                return deeper
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            deeper = _find_duplicate_key(item, f"{prefix}{position}.")
            if deeper is not None:
                return deeper
    return None


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
