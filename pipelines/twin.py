"""The twin of one part: what a recipe knows to paint it with, loaded once for as many frames as come.

`TwinPainter` is what evidence, `inspector repair` and the measurements use, so that they show the same picture.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import structlog
from numpy.typing import NDArray

from inspector.detector.part_scorer import check_frame_size
from inspector.detector.recipe import Recipe, unpack_part
from inspector.errors import RecipeTamperedError, WeightsError
from inspector.generator.bank_file import unpack_bank
from inspector.generator.choose import IGNORE_REFERENCES, RepairChoice, choose_repairer, load_repairers
from inspector.generator.net import NetRepairer
from inspector.generator.peel import unpack_peel
from inspector.generator.references import NotPlaced, PlacedReferences, ReferenceBank
from inspector.generator.regions import expand_box
from inspector.generator.repairer import Repairer, Twin
from inspector.generator.view_images import DecodedTiles
from inspector.geometry.registration import make_reference
from inspector.records import BgrImage, Detection

REPAIR = "repair"
"""Where the choices of a recipe hold what `fit` measured about its twins."""

RIM_PX = 12
GAP_PX = 32
"""Places closer than this are painted as one region (`split_mask`): so is what lies between them."""

log = structlog.get_logger(__name__)


class TwinPainter:
    """Paints the twins of one recipe's parts. Thread-safe; painters may share repairers and decoded images."""

    def __init__(
        self,
        recipe: Recipe,
        threads: int = 2,
        *,
        repairers: dict[str, Repairer] | None = None,
        decoded: DecodedTiles | None = None,
    ) -> None:
        """`threads` is for one frame. Raises `RecipeTamperedError` for a recipe whose files do not fit each other."""
        self._bank = read_bank(recipe, decoded)
        self._frame_size = recipe.frame_size
        self._repairers = repairers if repairers is not None else load_repairers(threads)
        self._recipe = str(recipe.ref)
        self._bent, self._peel_problem = bend_repairers(recipe, self._repairers)
        self._choice = read_choice(recipe, with_peel=self._bent is not None)

    @property
    def peel_problem(self) -> str | None:
        """Why the peel of the recipe is not used; None when it is, or when there is none."""
        return self._peel_problem

    @property
    def has_references(self) -> bool:
        """Whether the recipe has good images to paint from; a texture has none."""
        return self._bank is not None

    def paint(self, pixels: BgrImage, mask: NDArray[np.bool_], method: str = "auto") -> Twin | None:
        """The defect-free twin of a frame (H, W, 3) inside `mask` (H, W, bool); None for an empty mask.

        `auto` takes what measured best for this recipe, and the net is bent by the recipe's peel. Where the
        references cannot be placed it takes what measured best without any, unbent; where the peel cannot be used, the
        base net. The twin's `fallback` says why.

        Raises `RecipeMismatchError` for a frame of another size than the recipe's, `ValueError` for a mask that does
        not fit the frame, `InputError` for a method that is unknown, not loaded, or needs references and has none.
        """
        if self._frame_size is not None:
            check_frame_size(pixels, self._frame_size)
        if not mask.any():
            return None
        references, reason = self.place(pixels, mask) if method not in IGNORE_REFERENCES else (None, None)
        # What the peel learned with references says nothing of pictures painted without.
        repairers = self._bent if self._bent is not None and reason is None else self._repairers
        repairer = choose_repairer(method, repairers, self._choice, references is not None, reason)
        twin = repairer.repair(pixels, mask, references)
        if reason is not None:
            log.warning("twin_without_reference", recipe=self._recipe, method=twin.method, reason=reason)
        elif self._peel_problem is not None and method in ("auto", "net"):
            reason = f"peel not used: {self._peel_problem}"
        return twin if reason is None else replace(twin, fallback=reason)

    def name_method(self, method: str) -> str:
        """What `method` comes down to on a frame whose references can be placed; raises as `paint` does."""
        has_references = self.has_references or method != "auto"
        return choose_repairer(method, self._repairers, self._choice, has_references).method

    def place(
        self, pixels: BgrImage, mask: NDArray[np.bool_] | None = None
    ) -> tuple[PlacedReferences | None, str | None]:
        """The references as they lie in a frame, or the reason why a recipe that has some cannot use them.

        What is going to be repaired, `mask` (H, W) bool, has no say in it.
        """
        if self._bank is None:
            return None, None
        found = self._bank.locate(pixels, mask)
        if isinstance(found, NotPlaced):
            return None, f"no reference: {found.reason}"
        return found, None


def paint_from_template(pixels: BgrImage, mask: NDArray[np.bool_], references: PlacedReferences) -> Twin | None:
    """The twin of a frame that brought its own template; None for an empty mask."""
    if not mask.any():
        return None
    choice = RepairChoice()
    return choose_repairer("auto", load_repairers(threads=2), choice, True).repair(pixels, mask, references)


def read_bank(recipe: Recipe, decoded: DecodedTiles | None = None) -> ReferenceBank | None:
    """The references of a recipe: its bank, or the golden image alone where an older `fit` made none."""
    if recipe.references is not None:
        bank = unpack_bank(recipe.references, decoded)
        if recipe.frame_size is not None and bank.frame_size != recipe.frame_size:
            raise RecipeTamperedError(f"{recipe.ref}: references.npz is of another frame size than the recipe")
        return bank
    if recipe.mode != "located":
        return None
    model = unpack_part(recipe.manifest, recipe.arrays)
    reference = make_reference(recipe.golden, model.reference.model, any_angle=model.reference.any_angle)
    return ReferenceBank.of_one(recipe.golden, model.confidence_limit, reference)


def bend_repairers(recipe: Recipe, repairers: dict[str, Repairer]) -> tuple[dict[str, Repairer] | None, str | None]:
    """The repairers with the net bent by the recipe's peel, or None and why not; None twice where there is no peel.

    The bent net shares base, encoder and cached features with the one in `repairers`, which stays as it is.
    """
    if recipe.manifest.peel is None:
        return None, None
    base = repairers.get(NetRepairer.method)
    try:
        if recipe.peel is None:
            raise WeightsError(recipe.peel_problem or f"{recipe.ref}: the file of the peel is missing")
        if not isinstance(base, NetRepairer):
            raise WeightsError("no trained repair model is loaded")
        bent = base.with_peel(unpack_peel(recipe.peel), recipe.ref.name)
    except WeightsError as error:
        log.error("peel_not_used", recipe=str(recipe.ref), reason=str(error))
        return None, str(error)
    return {**repairers, bent.method: bent}, None


def read_choice(recipe: Recipe, *, with_peel: bool = False) -> RepairChoice:
    """What `fit`, or the training of the peel, measured to be best for this recipe; the defaults without either."""
    default = RepairChoice()
    recorded = recipe.manifest.choices.get(REPAIR)
    chosen, without = (
        (recorded.get("method"), recorded.get("without_reference")) if isinstance(recorded, dict) else (None, None)
    )
    found = RepairChoice(
        chosen if isinstance(chosen, str) else default.method,
        without if isinstance(without, str) else default.without_reference,
    )
    peel = recipe.manifest.peel
    if not with_peel or peel is None:
        return found
    return RepairChoice(peel.method, found.without_reference if recipe.mode == "located" else peel.method)


def mask_detections(pixels: BgrImage, detections: tuple[Detection, ...]) -> NDArray[np.bool_]:
    """(H, W) bool: the boxes of the detections as `widen_mask` leaves them."""
    return widen_mask(mask_boxes(pixels, detections))


def mask_boxes(pixels: BgrImage, detections: tuple[Detection, ...]) -> NDArray[np.bool_]:
    """(H, W) bool: the boxes of the detections, no more."""
    mask = np.zeros(pixels.shape[:2], np.bool_)
    for detection in detections:
        x0, y0, x1, y1 = detection.box_xyxy_px
        mask[y0:y1, x0:x1] = True
    return mask


def widen_mask(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What is repaired for a (H, W) bool mask of suspicious places: `RIM_PX` more all around, narrow gaps closed.

    A box holds where the score is high, and what a defect reaches beyond it would stay in the twin. Between two boxes
    it would stay as a strip.
    """
    height, width = mask.shape
    left, top, wide, high = cv2.boundingRect(mask.view(np.uint8))
    x0, y0, x1, y1 = expand_box((left, top, left + wide, top + high), RIM_PX + GAP_PX, width, height)
    rim, gap = (np.ones((2 * reach + 1, 2 * reach + 1), np.uint8) for reach in (RIM_PX, GAP_PX // 2))
    wider = np.zeros_like(mask)
    near = cv2.dilate(np.ascontiguousarray(mask[y0:y1, x0:x1]).view(np.uint8), rim)
    wider[y0:y1, x0:x1] = cv2.morphologyEx(near, cv2.MORPH_CLOSE, gap) > 0
    return wider
