"""Settings: one YAML per station or plant, and the only reader of the environment.

`load_config` turns a file into a frozen `PlantConfig` or raises `ConfigError` naming, for every
problem, the file, the line, the key and what was expected (for an unknown key: the nearest valid
one). Secrets never stand in the file: fields that end in `_env` hold the NAME of an environment
variable, and only `read_secret` looks it up.
"""

from __future__ import annotations

import hashlib
import json
import os
import zoneinfo
from datetime import time
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, WithJsonSchema, field_validator, model_validator

from inspector.camera_settings import ENV_NAME_PATTERN as ENV_NAME_PATTERN
from inspector.camera_settings import ID_PATTERN as ID_PATTERN
from inspector.camera_settings import CameraBase as CameraBase
from inspector.camera_settings import CameraConfig as CameraConfig
from inspector.camera_settings import CommandTrigger as CommandTrigger
from inspector.camera_settings import EnvName, Id, Settings
from inspector.camera_settings import EveryFrameTrigger as EveryFrameTrigger
from inspector.camera_settings import FolderCamera as FolderCamera
from inspector.camera_settings import IntervalTrigger as IntervalTrigger
from inspector.camera_settings import PartPresentTrigger as PartPresentTrigger
from inspector.camera_settings import SimulatedCamera as SimulatedCamera
from inspector.camera_settings import StreamCamera as StreamCamera
from inspector.camera_settings import TriggerConfig as TriggerConfig
from inspector.cloud_settings import BudgetConfig as BudgetConfig
from inspector.cloud_settings import CloudConfig, StationCloudConfig
from inspector.cloud_settings import ProviderConfig as ProviderConfig
from inspector.errors import ConfigError
from inspector.records import Purpose
from inspector.yaml_source import describe_problems, read_yaml

RECIPE_REF_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,31}(@[1-9][0-9]{0,5})?$"
DATA_DIR_VARIABLE = "INSPECTOR_DATA_DIR"
DEFAULT_DATA_DIR = "inspector-data"
FILES_OF_PROVIDERS = ("ca_file", "credentials_file")


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
    cloud: StationCloudConfig = Field(default_factory=StationCloudConfig, description="Second opinions; off.")

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
    start: Annotated[time, WithJsonSchema({"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9](:[0-5][0-9])?$"})] = (
        Field(description='Local time of its beginning, for example "06:00".')
    )

    @field_validator("start")
    @classmethod
    def _local(cls, value: time) -> time:
        if value.tzinfo is not None:
            raise ValueError("a shift begins at local time; the zone is site.timezone")
        return value


class SiteConfig(Settings):
    """The factory."""

    id: Id = Field(description="Name in topics and the database.")
    name: str | None = Field(default=None, max_length=80, description="Display name.")
    timezone: str = Field(
        default="UTC", max_length=64, description="IANA time zone of the shift table and the reports."
    )
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

    @model_validator(mode="after")
    def _certificate_with_key(self) -> TlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file need each other")
        return self


class MqttConfig(Settings):
    """The broker that everybody on the shop floor listens to."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=253, description="Broker host.")
    port: int = Field(default=1883, ge=1, le=65_535, description="Broker port (8883 with TLS).")
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        default="auto", description="`auto` tries MQTT 5 and falls back to 3.1.1."
    )
    topic_root: str = Field(
        default="inspector/v1",
        max_length=128,
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

    host: str = Field(
        default="127.0.0.1", min_length=1, max_length=253, description="Address to listen on; loopback unless changed."
    )
    port: int | None = Field(default=9464, ge=1, le=65_535, description="/healthz and /metrics; null: off.")


class PlantConfig(Settings):
    """The whole file."""

    site: SiteConfig = Field(description="The factory.")
    lines: tuple[LineConfig, ...] = Field(min_length=1, max_length=64, description="Its lines.")
    mqtt: MqttConfig = Field(default_factory=MqttConfig, description="The broker.")
    store: StoreConfig = Field(default_factory=StoreConfig, description="Database and pictures.")
    evidence: EvidenceConfig = Field(default_factory=EvidenceConfig, description="Pictures for people.")
    http: HttpConfig = Field(default_factory=HttpConfig, description="Health and metrics.")
    cloud: CloudConfig = Field(default_factory=CloudConfig, description="Who may be asked for second opinions.")

    @model_validator(mode="after")
    def _unique_lines(self) -> PlantConfig:
        _require_unique("line", [line.id for line in self.lines])
        return self

    @model_validator(mode="after")
    def _known_providers(self) -> PlantConfig:
        for name, station in self.stations().items():
            asked = station.cloud.provider
            if asked is not None and self.cloud.find_provider(asked) is None:
                raise ValueError(f"station {name} asks provider {asked!r}, which is not among cloud.providers")
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
    source = read_yaml(path)
    # Strict, and by way of JSON: "1883" is no number, true is no 1, but a text may be a path or a time.
    text = json.dumps(source.values, default=str)
    try:
        config = PlantConfig.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError("\n".join(describe_problems(source, error.errors(), config_schema()))) from error
    return _resolve_paths(config, path.resolve().parent)


def config_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of the configuration, for editors."""
    schema = PlantConfig.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Line Inspector configuration"
    for section in schema["$defs"].values():
        if "kind" in section.get("properties", {}):
            section["required"] = ["kind", *section.get("required", [])]
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


def _resolve_paths(config: PlantConfig, base: Path) -> PlantConfig:
    """Make the paths of folder cameras and certificates absolute, relative to the configuration file."""

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

    def with_files(provider: Any) -> Any:
        files = {name: absolute(getattr(provider, name)) for name in FILES_OF_PROVIDERS if hasattr(provider, name)}
        return provider.model_copy(update=files)

    providers = tuple(with_files(provider) for provider in config.cloud.providers)
    cloud = config.cloud.model_copy(update={"providers": providers})
    return config.model_copy(update={"lines": lines, "mqtt": mqtt, "cloud": cloud})


def _mask(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: f"${item} ({'set' if os.environ.get(item) else 'NOT SET'})"
            if key.endswith("_env") and isinstance(item, str)
            else _mask(item)
            for key, item in value.items()
        }
    return [_mask(item) for item in value] if isinstance(value, list) else value
