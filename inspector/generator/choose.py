"""Which repairer answers to which name, and which one `auto` takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import structlog

from inspector.errors import InputError, WeightsError
from inspector.generator.inpaint import NavierStokesRepairer, TeleaRepairer
from inspector.generator.net import NetRepairer
from inspector.generator.paste import PasteRepairer
from inspector.generator.repair_model import load_repair_model
from inspector.generator.repairer import Repairer
from inspector.generator.texture import TextureRepairer

REPAIR_METHODS = ("auto", "net", "paste", "texture", "telea", "ns")
NEED_REFERENCES = frozenset({"paste"})
IGNORE_REFERENCES = frozenset({"texture", "telea", "ns"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RepairChoice:
    """What `auto` takes where there are references, and where there are none."""

    method: str = "paste"
    without_reference: str = "texture"


def load_repairers(threads: int, weights: Path | None = None) -> dict[str, Repairer]:
    """Every repairer that works on this machine, by name; `threads` is for one frame.

    Without usable weights (the shipped ones, or those in the folder `weights`) there is no `net`, which is logged:
    a picture never keeps a service from starting. `find_model_problem` says what is wrong.
    """
    # The plain ones of OpenCV use its own threads, which the process sets.
    repairers: list[Repairer] = [
        PasteRepairer(threads),
        TextureRepairer(threads),
        TeleaRepairer(),
        NavierStokesRepairer(),
    ]
    try:
        repairers.append(NetRepairer(load_repair_model(threads, weights)))
    except WeightsError as error:
        log.error("repair_model_missing", reason=str(error))
    return {repairer.method: repairer for repairer in repairers}


def find_model_problem(weights: Path | None = None) -> str | None:
    """Why the repair model cannot be used, None when it can."""
    try:
        load_repair_model(folder=weights)
    except WeightsError as error:
        return str(error)
    return None


def choose_repairer(
    method: str,
    repairers: dict[str, Repairer],
    choice: RepairChoice,
    has_references: bool,
    reason: str | None = None,
) -> Repairer:
    """The repairer for a `--method`; `reason` says why there are no references where there should be some.

    A choice whose repairer is not loaded gives way to the default. Raises `InputError` for an unknown method, for one
    that needs references and has none, and for one that is not loaded.
    """
    if method not in REPAIR_METHODS:
        raise InputError(f"method {method!r} is unknown; use one of {', '.join(REPAIR_METHODS)}")
    if method == "auto":
        wanted = (choice.method, RepairChoice().method) if has_references else ()
        wanted = (*wanted, choice.without_reference, RepairChoice().without_reference)
        usable = [name for name in wanted if name in repairers and (has_references or name not in NEED_REFERENCES)]
        return repairers[usable[0]]
    if method not in repairers:
        raise InputError(f"method {method}: no trained repair model is loaded; use auto, paste, texture, telea or ns")
    if method in NEED_REFERENCES and not has_references:
        said = f" ({reason})" if reason else ""
        raise InputError(
            f"method {method} needs a reference registered to the image, and this recipe or image has none{said}; "
            "use texture, telea or ns"
        )
    return repairers[method]
