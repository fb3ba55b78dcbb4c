"""Settings of the cloud: who may be asked, and what a station asks, sends and spends. Nothing leaves by default."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from inspector.camera_settings import EnvName, Id, Settings

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})
HOST_PATTERN = r"^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$"
GEMINI_URL = "https://generativelanguage.googleapis.com"

Price = Annotated[float, Field(ge=0, le=10_000)]
Pixel = Annotated[int, Field(ge=0, le=65_535)]
HostName = Annotated[str, Field(pattern=HOST_PATTERN)]
Url = Annotated[str, Field(min_length=8, max_length=512)]


# --- who is asked -----------------------------------------------------------------------------------


class ProviderBase(Settings):
    """What every provider has."""

    name: Id = Field(description="Name that stations and the ledger use.")
    timeout_s: float = Field(default=30.0, gt=0, le=600, description="Longest wait for one answer.")
    max_output_tokens: int = Field(
        default=4096, ge=64, le=65_536, description="Longest answer that is asked for, a model's thoughts included."
    )
    tokens_per_image: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Most tokens that the provider bills for one picture; null: those of the media resolution.",
    )
    price_input: Price = Field(default=0.0, description="Money for a million input tokens.")
    price_cached: Price = Field(default=0.0, description="Money for a million input tokens from the provider's cache.")
    price_output: Price = Field(default=0.0, description="Money for a million output tokens.")
    price_request: float = Field(default=0.0, ge=0, le=1000, description="Money for a request, beside its tokens.")

    @property
    def destination(self) -> str:
        """`https://host:port` that questions go to."""
        return name_destination(self.url)

    @property
    def url(self) -> str:
        raise NotImplementedError


class GeminiProvider(ProviderBase):
    """The Gemini Developer API (needs the extra `gemini`)."""

    kind: Literal["gemini"] = Field(default="gemini", description="The Gemini Developer API.")
    model: str = Field(min_length=1, max_length=128, description="Name of the model.")
    api_key_env: EnvName = Field(description="Environment variable with the API key.")
    base_url: Url = Field(default=GEMINI_URL, description="Where the API is.")
    use_cache: bool = Field(default=True, description="Keep instruction and golden image in the provider's cache.")

    @property
    def url(self) -> str:
        return self.base_url


class VertexProvider(ProviderBase):
    """Gemini models on Vertex AI (needs the extra `gemini`)."""

    kind: Literal["vertex"] = Field(default="vertex", description="Gemini models on Vertex AI.")
    model: str = Field(min_length=1, max_length=128, description="Name of the model.")
    project: str = Field(pattern=r"^[a-z][a-z0-9.:-]{4,62}$", description="Id of the Google Cloud project.")
    location: str = Field(
        pattern=r"^[a-z][a-z0-9-]{1,30}$", description="Region such as europe-west4, or eu, us, global."
    )
    credentials_file: Path = Field(description="JSON key of a service account.")
    base_url: Url | None = Field(default=None, description="Where the API is; null: that of the region.")
    use_cache: bool = Field(default=True, description="Keep instruction and golden image in the provider's cache.")

    @property
    def url(self) -> str:
        if self.base_url is not None:
            return self.base_url
        if self.location in ("us", "eu"):
            return f"https://aiplatform.{self.location}.rep.googleapis.com"
        prefix = "" if self.location == "global" else f"{self.location}-"
        return f"https://{prefix}aiplatform.googleapis.com"


class OpenAiCompatibleProvider(ProviderBase):
    """Any server that speaks the OpenAI protocol, a plant's own included (needs the extra `openai`)."""

    kind: Literal["openai_compatible"] = Field(
        default="openai_compatible", description="A server with the OpenAI protocol."
    )
    model: str = Field(min_length=1, max_length=128, description="Name of the model.")
    base_url: Url = Field(description="Where the API is, such as https://models.plant.example/v1.")
    api_key_env: EnvName | None = Field(default=None, description="Environment variable with the key, if any.")
    limit_field: Literal["max_completion_tokens", "max_tokens"] = Field(
        default="max_completion_tokens", description="What the server calls the limit of an answer."
    )
    ca_file: Path | None = Field(default=None, description="CA bundle for its certificate; empty: the system's.")

    @property
    def url(self) -> str:
        return self.base_url


class WebhookProvider(ProviderBase):
    """A plain webhook whose requests are signed."""

    kind: Literal["webhook"] = Field(default="webhook", description="A signed webhook.")
    base_url: Url = Field(description="Where questions are posted to.")
    secret_env: EnvName = Field(description="Environment variable with the secret of the signature.")
    ca_file: Path | None = Field(default=None, description="CA bundle for its certificate; empty: the system's.")

    @property
    def url(self) -> str:
        return self.base_url


ProviderConfig = Annotated[
    GeminiProvider | VertexProvider | OpenAiCompatibleProvider | WebhookProvider, Field(discriminator="kind")
]


class CloudConfig(Settings):
    """Who may be asked at all. Each station says for itself whether and what it asks."""

    allowed_hosts: tuple[HostName, ...] = Field(
        default=(), max_length=32, description="Hosts that questions may go to; a provider elsewhere is an error."
    )
    currency: str = Field(default="EUR", pattern=r"^[A-Z]{3}$", description="Of all prices and budgets.")
    providers: tuple[ProviderConfig, ...] = Field(default=(), max_length=16, description="Models that may be asked.")

    @model_validator(mode="after")
    def _reachable_as_allowed(self) -> CloudConfig:
        names = [provider.name for provider in self.providers]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"provider {name!r} is named twice")
        for provider in self.providers:
            check_url(provider.url)
            host = urlsplit(provider.url).hostname or ""
            if host not in {allowed.lower() for allowed in self.allowed_hosts}:
                raise ValueError(f"provider {provider.name!r} is at {host}, which is not among allowed_hosts")
        return self

    def find_provider(self, name: str) -> ProviderConfig | None:
        return next((provider for provider in self.providers if provider.name == name), None)


# --- what a station asks ----------------------------------------------------------------------------


class MaskConfig(Settings):
    """A rectangle of a camera's frames that never leaves the plant."""

    camera: Id | None = Field(default=None, description="Camera; null: all of the station.")
    box_xyxy_px: tuple[Pixel, Pixel, Pixel, Pixel] = Field(
        description="x0, y0, x1, y1 in frame pixels; x1 and y1 are exclusive."
    )

    @field_validator("box_xyxy_px")
    @classmethod
    def _has_area(cls, value: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        if value[2] <= value[0] or value[3] <= value[1]:
            raise ValueError("a box needs x1 > x0 and y1 > y0")
        return value


class AreaConfig(MaskConfig):
    """A rectangle of a camera's frames that may leave where no region is suspicious."""


class BudgetConfig(Settings):
    """The most that a station may ask, send and spend; debited before anything is sent."""

    requests_per_hour: int = Field(default=60, ge=0, le=100_000, description="Requests in any hour.")
    requests_per_day: int = Field(default=500, ge=0, le=1_000_000, description="Requests in any 24 hours.")
    bytes_per_day: int = Field(
        default=200_000_000, ge=0, le=1_000_000_000_000, description="Bytes of questions in any 24 hours."
    )
    money_per_month: float = Field(default=10.0, ge=0, le=1_000_000, description="Money in any 30 days.")


class StationCloudConfig(Settings):
    """When this station asks a cloud model for a second opinion, and what may leave the plant for it."""

    send: Literal["none", "crops", "frames"] = Field(
        default="none", description="What leaves the plant: nothing, suspicious regions with a margin, or whole frames."
    )
    authority: Literal["advise", "decide_review"] = Field(
        default="advise", description="`decide_review`: an opinion in time sets the disposition of a REVIEW part."
    )
    provider: Id | None = Field(default=None, description="Name of one of cloud.providers.")
    media_resolution: Literal["low", "medium", "high"] = Field(
        default="medium", description="Size of what is sent: about 280, 560 or 1120 tokens a picture."
    )
    review: bool = Field(default=True, description="Ask about parts between the two thresholds.")
    drift: bool = Field(default=True, description="Ask about frames unlike the recipe's experience.")
    new_looking: bool = Field(default=True, description="Ask about NG parts with a defect that looks new.")
    audit_share: float = Field(
        default=0.005, ge=0, le=1, description="Share of OK parts asked about, drawn at random; their frames are kept."
    )
    reuse_days: float = Field(
        default=30.0, ge=0, le=365, description="Near-duplicates of a case reuse its answer this long; 0: never."
    )
    reuse_good_lead: int = Field(
        default=3,
        ge=1,
        le=10,
        description="`good` is reused once it is so many answers on near-duplicates ahead of all others.",
    )
    reuse_defect_lead: int = Field(
        default=1, ge=1, le=10, description="The same for `defect` and `unsure`, which stop a part."
    )
    recheck_share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of near-duplicates asked about although an answer could be reused, drawn at random.",
    )
    margin: float = Field(
        default=0.5, ge=0, le=4, description="Surroundings of a region that leave with it, as a share of its size."
    )
    most_regions: int = Field(default=4, ge=1, le=8, description="Regions of a part that are shown, worst first.")
    golden: bool = Field(
        default=False,
        description="Send the recipe's golden image too, masks blacked out: a whole part, the same for every question.",
    )
    product: str = Field(
        default="manufactured part", min_length=1, max_length=64, description="What the model is told the part is."
    )
    description: str = Field(default="", max_length=600, description="What else it is told about good and bad parts.")
    masks: tuple[MaskConfig, ...] = Field(default=(), max_length=64, description="What is always blacked out.")
    areas: tuple[AreaConfig, ...] = Field(
        default=(),
        max_length=8,
        description="With crops: what leaves of a frame without a suspicious region; without it none is asked about.",
    )
    deadline_s: float = Field(default=60.0, gt=0, le=86_400, description="A later opinion is recorded as late.")
    give_up_h: float = Field(default=72.0, gt=0, le=720, description="A question this old is not asked any more.")
    budget: BudgetConfig = Field(default_factory=BudgetConfig, description="The most it may ask, send and spend.")

    @model_validator(mode="after")
    def _somebody_is_asked(self) -> StationCloudConfig:
        if self.send != "none" and self.provider is None:
            raise ValueError(f"send: {self.send} needs a provider; name one of cloud.providers")
        return self


def policy_version(station: StationCloudConfig, provider: ProviderBase | None) -> str:
    """16 hex digits that change with every setting that decides what is sent where; secrets are no part of it."""
    content = [station.model_dump(mode="json"), provider.model_dump(mode="json") if provider is not None else None]
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def check_url(url: str) -> None:
    """`ValueError` unless the URL is https, or http to this very machine, without user, query or fragment."""
    parts = urlsplit(url)
    if parts.hostname is None or parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not a plain URL such as https://models.example/v1")
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS):
        raise ValueError(f"{url!r} must be https; http is for this machine alone")
    name_destination(url)


def name_destination(url: str) -> str:
    """`scheme://host:port` of a URL; `ValueError` for a port that is none."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    shown = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
