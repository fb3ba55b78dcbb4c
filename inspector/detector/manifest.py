"""The manifest of a recipe: what it was learned from, what it decides by, and the hash of every file."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inspector.config import ID_PATTERN
from inspector.detector.part_model import HeadName

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]


FORMAT_VERSION: Literal[2] = 2
"""2: located recipes compare contrasts beside energies."""
VIEWS_FORMAT: Literal[3] = 3
"""3: as 2, for a part with several views; one view is written as 2, as older programs do and read it."""
READ_FORMATS = (FORMAT_VERSION, VIEWS_FORMAT)
MOST_FURTHER_VIEWS = 7


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class TaughtImage(_Section):
    """One good image the recipe was learned from."""

    file: str = Field(max_length=1024)
    sha256: Sha256


class ManifestThresholds(_Section):
    """Score thresholds: below `review` OK, from `ng` NG."""

    review: float = Field(ge=0)
    ng: float = Field(ge=0)

    @model_validator(mode="after")
    def _in_order(self) -> ManifestThresholds:
        if self.review > self.ng:
            raise ValueError(f"the review threshold {self.review} lies above the NG threshold {self.ng}")
        return self


class LevelSettings(_Section):
    """How one scale of a detector turns distances into scores."""

    smooth_cells: int = Field(ge=1, le=99)
    unit: float = Field(gt=0)


class ExperienceSettings(_Section):
    """(lowest, highest) mean level and sharpness of a frame that is not odd."""

    level: tuple[float, float]
    sharpness: tuple[float, float]


class RegionSettings(_Section):
    """A region's own thresholds, before they are stretched to the common ones, and the least size that counts."""

    name: str = Field(min_length=1, max_length=64)
    own: ManifestThresholds
    min_defect_px: float | None = Field(default=None, gt=0)


class RegionsSettings(_Section):
    """Regions of a located recipe, what lies in none first; `common` are the thresholds they are stretched to."""

    regions: tuple[RegionSettings, ...] = Field(min_length=1, max_length=65)
    common: ManifestThresholds
    mm_per_px: float | None = Field(default=None, gt=0)

    @property
    def asks_for_size(self) -> bool:
        return any(region.min_defect_px is not None for region in self.regions)


class NetSettings(_Section):
    """How the learned head of a located recipe turns its net's answers into scores."""

    level: LevelSettings
    joint_unit: float = Field(gt=0)


class PartSettings(_Section):
    """Numbers of a located recipe that are not arrays."""

    kind: Literal["located"] = "located"
    ratio: int = Field(ge=1, le=64)
    window: tuple[int, int, int, int]
    tolerance: int = Field(ge=0, le=8)
    confidence_limit: float = Field(ge=0, le=1)
    motion: Literal["shift", "rigid", "affine", "perspective"]
    any_angle: bool = False
    reference_scale: float = Field(gt=0, le=1)
    experience: ExperienceSettings
    heads: tuple[HeadName, ...] = ("energy", "contrast")
    screen: LevelSettings
    contrast: LevelSettings
    close: LevelSettings | None
    regions: RegionsSettings | None = None
    net: NetSettings | None = None
    """None: the heads have no net."""

    @model_validator(mode="after")
    def _net_fits(self) -> PartSettings:
        if ("net" in self.heads) != (self.net is not None):
            raise ValueError("the heads and the settings of the net do not agree")
        return self


class FurtherView(_Section):
    """A view beside the first: its numbers, and its files, which another look in one pose shares with the first.

    Its arrays are named `viewN_…`.
    """

    settings: PartSettings
    golden: str = Field(pattern=r"^golden(-[2-8])?\.(png|jpg)$")
    graph: str = Field(pattern=r"^features(-[2-8])?\.onnx$")


class SurfaceSettings(_Section):
    """Numbers of a position-free recipe that are not arrays."""

    kind: Literal["surface"] = "surface"
    ratio: int = Field(ge=1, le=64)
    experience: ExperienceSettings
    screen: LevelSettings
    close: LevelSettings | None


class ReferencesRecord(_Section):
    """What `references.npz` holds: for each view the good images that are kept, by name, the golden one first."""

    views: tuple[tuple[Annotated[str, Field(max_length=1024)], ...], ...] = Field(min_length=1, max_length=8)


class RecipeVersion(_Section):
    """One version of this recipe, by number and by the hash of its manifest."""

    version: int = Field(ge=1)
    sha256: Sha256


class CalibrationRecord(_Section):
    """How the thresholds were estimated again from confirmed good parts.

    `same_scores` are the versions that score every frame alike, the one calibrated first and older ones after it.
    """

    same_scores: tuple[RecipeVersion, ...] = Field(min_length=1)
    from_database: int = Field(ge=0)
    from_folder: int = Field(ge=0)
    odd: tuple[str, ...]
    target: float = Field(gt=0, lt=1)


class NamedExamples(_Section):
    """One taught name: how many examples, and how many of them, each left out in turn, were named right or unknown."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    examples: int = Field(ge=1)
    right: int = Field(ge=0)
    unknown: int = Field(ge=0)


class NamesRecord(_Section):
    """What `names.npz` was learned from.

    `same_scores` are the versions that score every frame alike, the one that was given names first.
    """

    same_scores: tuple[RecipeVersion, ...] = Field(min_length=1)
    names: tuple[NamedExamples, ...] = Field(min_length=1, max_length=256)
    from_folder: int = Field(ge=0)
    from_reviews: int = Field(ge=0)


class PeelRecord(_Section):
    """What `peel.weights` was trained on and what it gains, measured on good images that the training did not see.

    `same_scores` are the versions that score every frame alike, the one that was given the peel first. `base_sha256`
    is the hash of the base weights, `method` what `auto` takes now. PSNR is inside random masks, in dB; `psnr_db` has
    the other methods on the same masks, None where one cannot work.
    """

    same_scores: tuple[RecipeVersion, ...] = Field(min_length=1)
    base_sha256: Sha256
    images: int = Field(ge=1)
    held_out: int = Field(ge=1)
    masks: int = Field(ge=1)
    minutes: float = Field(gt=0)
    steps: int = Field(ge=1)
    psnr_before_db: float
    psnr_after_db: float
    psnr_db: dict[Annotated[str, Field(max_length=16)], float | None]
    method: Annotated[str, Field(min_length=1, max_length=16)]


class TemplateSettings(_Section):
    """Numbers of a template recipe; `names` is empty when nothing was labelled, and then there is no graph."""

    kind: Literal["template"] = "template"
    names: tuple[Annotated[str, Field(min_length=1, max_length=64)], ...] = Field(max_length=256)
    least_difference: int = Field(ge=1, le=255)
    unit: float = Field(gt=0)
    mismatch_limit: float = Field(gt=0, le=1)


class Manifest(_Section):
    """`manifest.json` of a recipe version."""

    format_version: Literal[2, 3] = FORMAT_VERSION
    name: str = Field(pattern=ID_PATTERN)
    version: int = Field(ge=1)
    created_utc: str = Field(max_length=40)
    software_version: str = Field(max_length=40)
    mode: Literal["located", "surface", "template"]
    frame_size: tuple[int, int] | None
    images: tuple[TaughtImage, ...]
    thresholds: ManifestThresholds
    false_alarm_target: float = Field(gt=0, lt=1)
    false_alarm_interval: tuple[float, float]
    ng_false_alarm_interval: tuple[float, float] | None = None
    """At the NG threshold; recipes of older programs do not say."""
    promise: str
    choices: dict[str, Any]
    settings: Annotated[PartSettings | SurfaceSettings | TemplateSettings, Field(discriminator="kind")]
    calibration: CalibrationRecord | None = None
    """None: the thresholds are those of the fit."""
    names: NamesRecord | None = None
    """None: defects have no names, or in template mode those of the settings."""
    confidential: bool = False
    """Nothing about a part of this recipe is ever sent to a cloud model, whatever a station's settings say."""
    references: ReferencesRecord | None = None
    """None: a part without a pose, or a recipe of an older program; the golden image is then the only reference."""
    peel: PeelRecord | None = None
    """None: twins are painted with the base weights alone."""
    further_views: tuple[FurtherView, ...] = Field(default=(), max_length=MOST_FURTHER_VIEWS)
    """The views beside that of `settings`, numbered from 2; empty for most parts."""
    golden: Literal["golden.png", "golden.jpg"]
    files: dict[FileName, Sha256]

    @model_validator(mode="after")
    def _views_fit(self) -> Manifest:
        if bool(self.further_views) != (self.format_version == VIEWS_FORMAT):
            raise ValueError(f"format {self.format_version} does not go with {len(self.further_views)} further views")
        if not self.further_views:
            return self
        if not isinstance(self.settings, PartSettings):
            raise ValueError("only a located part has several views")
        for settings in (self.settings, *(view.settings for view in self.further_views)):
            if settings.ratio != self.settings.ratio:
                raise ValueError("the views of a part have one scale")
        for number, view in enumerate(self.further_views, start=2):
            its_own = view.golden.startswith(f"golden-{number}.") and view.graph == f"features-{number}.onnx"
            shared = view.golden == self.golden and view.graph == "features.onnx"
            if not its_own and not shared:
                raise ValueError(f"view {number} has the files of another view")
        return self

    @property
    def has_graph(self) -> bool:
        """Whether the recipe needs `features.onnx`: all do, but templates without names."""
        return not isinstance(self.settings, TemplateSettings) or bool(self.settings.names)

    @property
    def view_files(self) -> frozenset[str]:
        """The files of the further views."""
        return frozenset(name for view in self.further_views for name in (view.golden, view.graph))

    @property
    def same_scores(self) -> tuple[RecipeVersion, ...]:
        """The versions before this one that score every frame alike, newest first."""
        records = [record for record in (self.calibration, self.names, self.peel) if record is not None]
        known = {item.version: item for record in records for item in record.same_scores}
        return tuple(known[version] for version in sorted(known, reverse=True))


class Release(_Section):
    """One entry of `released.json`."""

    version: int = Field(ge=1)
    manifest_sha256: Sha256
    released_utc: str = Field(max_length=40)


class ReleaseList(_Section):
    """`released.json`: entries are only ever appended."""

    released: tuple[Release, ...] = ()
