"""A recipe in memory: manifest, arrays, compiled graph and golden image of one version."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from inspector.detector.change_net import ChangeNet
from inspector.detector.experience import Experience
from inspector.detector.features import FeatureBank
from inspector.detector.good_part import GoodPart
from inspector.detector.judged_regions import JudgedRegions, Region
from inspector.detector.manifest import (
    ExperienceSettings,
    LevelSettings,
    Manifest,
    ManifestThresholds,
    NetSettings,
    PartSettings,
    RegionSettings,
    RegionsSettings,
    SurfaceSettings,
    TemplateSettings,
)
from inspector.detector.naming import Namer
from inspector.detector.part_model import NetLevel, PartLevel, PartStatistics
from inspector.detector.part_scorer import PartModel, PartScorer
from inspector.detector.scorer import Scorer
from inspector.detector.surface_model import SurfaceStatistics
from inspector.detector.surface_scorer import SurfaceLevel, SurfaceModel, SurfaceScorer
from inspector.detector.template_scorer import ClassifyingScorer, DifferenceScorer, TemplateModel, TemplateScorer
from inspector.detector.views_scorer import ViewsScorer, place_view
from inspector.errors import RecipeMismatchError, RecipeTamperedError
from inspector.geometry.registration import Reference
from inspector.geometry.tiles import Tile
from inspector.records import BgrImage, RecipeRef, Thresholds

Arrays: TypeAlias = dict[str, NDArray[Any]]

SAME_SCALE = 0.01
"""Cameras calibrated again differ by less than this share."""


@dataclass(frozen=True, slots=True)
class RecipeView:
    """What a view beside the first has to itself: its golden image and its compiled graph."""

    golden: BgrImage
    graph: bytes


@dataclass(frozen=True, slots=True)
class Recipe:
    """One loaded recipe version. Immutable; arrays are shared by all scorers made from it."""

    ref: RecipeRef
    manifest: Manifest
    golden: BgrImage
    arrays: Arrays
    graph: bytes
    contrast_graph: bytes | None
    namer: Namer | None = None
    references: bytes | None = None
    """The file of the reference bank; the generator reads it."""
    peel: bytes | None = None
    """The file of the peel; the generator reads it."""
    net_graph: bytes | None = None
    """The net of the learned head."""
    peel_problem: str | None = None
    """Why a recipe that has a peel comes without its file: twins are then painted without it."""
    further_views: tuple[RecipeView, ...] = ()
    """In the order of the manifest's; the golden image and graph above are those of the first view."""

    @property
    def goldens(self) -> tuple[BgrImage, ...]:
        """The golden image of each view, the first one's first."""
        return (self.golden, *(view.golden for view in self.further_views))

    @property
    def mode(self) -> str:
        """`located`, `surface` or `template`."""
        return self.manifest.mode

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(width, height) that frames must have, None for any."""
        return self.manifest.frame_size

    @property
    def thresholds(self) -> Thresholds:
        """Below `review` OK, from `ng` NG."""
        return Thresholds(self.manifest.thresholds.review, self.manifest.thresholds.ng)

    def scorer(self, threads: int = 1) -> Scorer:
        """A detector of this recipe; `threads` is for one frame, several frames may be scored side by side.

        Raises `RecipeMismatchError` for a template recipe: see `template_scorer`.
        """
        if isinstance(self.manifest.settings, TemplateSettings):
            raise RecipeMismatchError(
                f"{self.ref} is a template recipe: each frame needs its own template, which no station delivers; "
                "use it with `inspector inspect --template` and `inspector evaluate`"
            )
        bank = FeatureBank(self.graph, threads)
        if isinstance(self.manifest.settings, SurfaceSettings):
            return SurfaceScorer(unpack_surface(self.manifest, self.arrays), bank)
        if self.contrast_graph is None:
            raise RecipeTamperedError(f"{self.ref}: the graph of the contrasts is missing")
        contrast_bank = FeatureBank(self.contrast_graph, threads)
        if self.further_views:
            models = unpack_views(self.manifest, self.arrays)
            graphs = (self.graph, *(view.graph for view in self.further_views))
            scorers = [
                PartScorer(model, FeatureBank(graph, threads), contrast_bank, golden, self._net_of(model, threads))
                for model, graph, golden in zip(models, graphs, self.goldens, strict=True)
            ]
            return ViewsScorer(models, scorers)
        model = unpack_part(self.manifest, self.arrays)
        return PartScorer(model, bank, contrast_bank, self.golden, self._net_of(model, threads))

    def _net_of(self, model: PartModel, threads: int) -> ChangeNet | None:
        if model.net is None:
            return None
        if self.net_graph is None:
            raise RecipeTamperedError(f"{self.ref}: the graph of the net is missing")
        return ChangeNet(self.net_graph, threads)

    @property
    def mm_per_px(self) -> float | None:
        """The size of a frame pixel that the fit was told, None when it was not."""
        settings = self.manifest.settings
        regions = settings.regions if isinstance(settings, PartSettings) else None
        return regions.mm_per_px if regions else None

    def golden_for(self, pixels: BgrImage) -> BgrImage:
        """The golden image of the view that a frame shows. Raises `RecipeMismatchError` for one of another size."""
        if not self.further_views:
            return self.golden
        return self.goldens[place_view(unpack_views(self.manifest, self.arrays), pixels).number]

    def check_scale(self, camera: str, mm_per_px: float | None) -> None:
        """Raise `RecipeMismatchError` when defects would be measured with another scale than the camera's."""
        settings = self.manifest.settings
        regions = settings.regions if isinstance(settings, PartSettings) else None
        if regions is None or not regions.asks_for_size or regions.mm_per_px is None:
            return
        if mm_per_px is None:
            raise RecipeMismatchError(
                f"{self.ref} leaves out small defects by their size, but camera {camera} has no mm_per_px; the recipe "
                f"was fitted for {regions.mm_per_px:g}"
            )
        if abs(mm_per_px - regions.mm_per_px) > SAME_SCALE * regions.mm_per_px:
            raise RecipeMismatchError(
                f"{self.ref} was fitted for {regions.mm_per_px:g} mm per pixel, camera {camera} says {mm_per_px:g}; "
                "correct the one that is wrong, or fit again with --mm-per-px"
            )

    def template_scorer(self, threads: int = 1) -> TemplateScorer:
        """The detector of a template recipe; `RecipeMismatchError` for any other."""
        settings = self.manifest.settings
        if not isinstance(settings, TemplateSettings):
            raise RecipeMismatchError(
                f"{self.ref} is a {self.mode} recipe and compares with no template; fit one with --mode template"
            )
        model = TemplateModel(
            names=settings.names,
            least_difference=settings.least_difference,
            unit=settings.unit,
            mismatch_limit=settings.mismatch_limit,
            thresholds=self.thresholds,
        )
        return ClassifyingScorer(model, self.graph, threads) if settings.names else DifferenceScorer(model)


def pack_part(model: PartModel) -> tuple[PartSettings, Arrays]:
    """The numbers and the arrays of a located model."""
    settings = PartSettings(
        ratio=model.ratio,
        window=(model.window.row, model.window.column, model.window.rows, model.window.columns),
        tolerance=model.tolerance,
        confidence_limit=model.confidence_limit,
        motion=model.reference.model,  # type: ignore[arg-type]  # pydantic checks it
        any_angle=model.reference.any_angle,
        reference_scale=model.reference.scale,
        experience=ExperienceSettings(level=model.experience.level, sharpness=model.experience.sharpness),
        screen=_level_settings(model.screen),
        heads=model.heads,
        contrast=_level_settings(model.contrast),
        close=_level_settings(model.close) if model.close else None,
        regions=_pack_regions(model.regions) if model.regions else None,
        net=NetSettings(level=_level_settings(model.net.level), joint_unit=model.net.joint_unit) if model.net else None,
    )
    arrays: Arrays = {
        "reference_grey": model.reference.grey,
        "reference_part": model.reference.part,
        "reference_outline": model.reference.outline,
        "part": model.part,
        "screen_mean": model.screen.statistics.mean,
        "screen_inverse_sd": model.screen.statistics.inverse_sd,
        "contrast_mean": model.contrast.statistics.mean,
        "contrast_inverse_sd": model.contrast.statistics.inverse_sd,
    }
    if model.close:
        arrays["close_mean"] = model.close.statistics.mean
        arrays["close_inverse_sd"] = model.close.statistics.inverse_sd
    if model.regions:
        arrays["region_labels"] = model.regions.labels
    if model.net:
        arrays["net_good"] = model.net.good.picture
        arrays["net_spread"] = model.net.good.spread
        arrays["net_mean"] = model.net.level.statistics.mean
        arrays["net_inverse_sd"] = model.net.level.statistics.inverse_sd
    return settings, arrays


def _pack_regions(judged: JudgedRegions) -> RegionsSettings:
    return RegionsSettings(
        regions=tuple(
            RegionSettings(name=region.name, own=_manifest_thresholds(region.own), min_defect_px=region.min_defect_px)
            for region in judged.regions
        ),
        common=_manifest_thresholds(judged.common),
        mm_per_px=judged.mm_per_px,
    )


def _unpack_regions(settings: RegionsSettings, labels: NDArray[Any]) -> JudgedRegions:
    if labels.dtype != np.uint8 or int(labels.max()) >= len(settings.regions):
        raise RecipeTamperedError("arrays.npz: region_labels name regions that the manifest does not have")
    regions = tuple(
        Region(item.name, Thresholds(item.own.review, item.own.ng), item.min_defect_px) for item in settings.regions
    )
    common = Thresholds(settings.common.review, settings.common.ng)
    return JudgedRegions(labels, regions, common, settings.mm_per_px)


def _manifest_thresholds(thresholds: Thresholds) -> ManifestThresholds:
    return ManifestThresholds(review=thresholds.review, ng=thresholds.ng)


def pack_views(models: Sequence[PartModel]) -> tuple[tuple[PartSettings, ...], Arrays]:
    """As `pack_part`, for the views of a part; the arrays of the first have their usual names."""
    packed, arrays = [], Arrays()
    for number, model in enumerate(models, start=1):
        settings, own = pack_part(model)
        packed.append(settings)
        prefix = _prefix(number) if number > 1 else ""
        arrays |= {f"{prefix}{name}": array for name, array in own.items()}
        if len(models) > 1 and model.look is not None:
            arrays[f"{prefix}look"] = model.look
    return tuple(packed), arrays


def unpack_views(manifest: Manifest, arrays: Arrays) -> tuple[PartModel, ...]:
    """The models of all views of a recipe's files; `RecipeTamperedError` when they do not fit each other."""
    models = [unpack_part(manifest, arrays)]
    for number, view in enumerate(manifest.further_views, start=2):
        prefix = _prefix(number)
        own = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
        models.append(_unpack_settings(view.settings, manifest, own, prefix))
    return tuple(models)


def _prefix(number: int) -> str:
    return f"view{number}_"


def unpack_part(manifest: Manifest, arrays: Arrays) -> PartModel:
    """The located model of a recipe's files, of several views the first.

    Raises `RecipeTamperedError` when they do not fit each other.
    """
    if not isinstance(manifest.settings, PartSettings):
        raise RecipeTamperedError("manifest.json: the settings do not belong to a located recipe")
    return _unpack_settings(manifest.settings, manifest, arrays)


def _unpack_settings(settings: PartSettings, manifest: Manifest, arrays: Arrays, prefix: str = "") -> PartModel:
    if manifest.frame_size is None:
        raise RecipeTamperedError("manifest.json: a located recipe has a frame size")
    try:
        reference = Reference(
            arrays["reference_grey"],
            arrays["reference_part"],
            arrays["reference_outline"],
            settings.reference_scale,
            settings.motion,
            settings.any_angle,
        )
        return PartModel(
            frame_size=manifest.frame_size,
            ratio=settings.ratio,
            reference=reference,
            window=Tile(*settings.window),
            part=arrays["part"],
            tolerance=settings.tolerance,
            screen=_level(settings.screen, arrays, "screen"),
            heads=settings.heads,
            contrast=_level(settings.contrast, arrays, "contrast"),
            close=_level(settings.close, arrays, "close") if settings.close else None,
            confidence_limit=settings.confidence_limit,
            experience=Experience(settings.experience.level, settings.experience.sharpness),
            thresholds=Thresholds(manifest.thresholds.review, manifest.thresholds.ng),
            regions=_unpack_regions(settings.regions, arrays["region_labels"]) if settings.regions else None,
            net=_unpack_net(settings.net, arrays) if settings.net else None,
            look=arrays["look"] if manifest.further_views else None,
        )
    except KeyError as error:
        raise RecipeTamperedError(f"arrays.npz: {prefix + str(error.args[0])!r} is missing") from error


def _unpack_net(settings: NetSettings, arrays: Arrays) -> NetLevel:
    good = GoodPart(arrays["net_good"], arrays["net_spread"])
    return NetLevel(good, _level(settings.level, arrays, "net"), settings.joint_unit)


def _level_settings(level: PartLevel) -> LevelSettings:
    return LevelSettings(smooth_cells=level.smooth_cells, unit=level.unit)


def _level(settings: LevelSettings, arrays: Arrays, name: str) -> PartLevel:
    statistics = PartStatistics(arrays[f"{name}_mean"], arrays[f"{name}_inverse_sd"])
    return PartLevel(statistics, settings.smooth_cells, settings.unit)


def pack_template(model: TemplateModel) -> tuple[TemplateSettings, Arrays]:
    """The numbers of a template model; it has no arrays, what it learned is in its graph."""
    return (
        TemplateSettings(
            names=model.names,
            least_difference=model.least_difference,
            unit=model.unit,
            mismatch_limit=model.mismatch_limit,
        ),
        {},
    )


def pack_surface(model: SurfaceModel) -> tuple[SurfaceSettings, Arrays]:
    """The numbers and the arrays of a surface model."""
    settings = SurfaceSettings(
        ratio=model.ratio,
        experience=ExperienceSettings(level=model.experience.level, sharpness=model.experience.sharpness),
        screen=LevelSettings(smooth_cells=model.screen.smooth_cells, unit=model.screen.unit),
        close=LevelSettings(smooth_cells=model.close.smooth_cells, unit=model.close.unit) if model.close else None,
    )
    arrays: Arrays = {"close_level_ratio": model.close_level_ratio}
    for name, level in (("screen", model.screen), ("close", model.close)):
        if level is not None:
            for field in fields(SurfaceStatistics):
                arrays[f"{name}_{field.name}"] = getattr(level.statistics, field.name)
    return settings, arrays


def unpack_surface(manifest: Manifest, arrays: Arrays) -> SurfaceModel:
    """The surface model of a recipe's files; `RecipeTamperedError` when they do not fit each other."""
    settings = manifest.settings
    if not isinstance(settings, SurfaceSettings):
        raise RecipeTamperedError("manifest.json: the settings do not belong to a surface recipe")
    try:
        return SurfaceModel(
            ratio=settings.ratio,
            screen=_surface_level(settings.screen, arrays, "screen"),
            close=_surface_level(settings.close, arrays, "close") if settings.close else None,
            close_level_ratio=arrays["close_level_ratio"],
            experience=Experience(settings.experience.level, settings.experience.sharpness),
            thresholds=Thresholds(manifest.thresholds.review, manifest.thresholds.ng),
        )
    except KeyError as error:
        raise RecipeTamperedError(f"arrays.npz: {error} is missing") from error


def _surface_level(settings: LevelSettings, arrays: Arrays, name: str) -> SurfaceLevel:
    statistics = SurfaceStatistics(*(arrays[f"{name}_{field.name}"] for field in fields(SurfaceStatistics)))
    return SurfaceLevel(statistics, settings.smooth_cells, settings.unit)


def encode_arrays(arrays: Arrays) -> bytes:
    """`arrays.npz`: compressed, no pickles."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


# What numpy and zipfile raise for bytes that are no archive, or a damaged one ("encrypted", unknown compression).
DAMAGED_ARCHIVE = (
    ValueError,
    TypeError,
    KeyError,
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def decode_arrays(content: bytes, name: str = "arrays.npz") -> Arrays:
    """The arrays of a file; `RecipeTamperedError` that calls it `name` for anything else. Pickles are never loaded."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            return {name: np.asarray(stored[name]) for name in stored.files}
    except DAMAGED_ARCHIVE as error:
        raise RecipeTamperedError(f"{name} cannot be read: {error}") from error
