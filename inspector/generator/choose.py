"""Which repairer answers to which name."""

from __future__ import annotations

from inspector.errors import InputError
from inspector.generator.inpaint import NavierStokesRepairer, TeleaRepairer
from inspector.generator.paste import PasteRepairer
from inspector.generator.repairer import Repairer

REPAIR_METHODS = ("auto", "net", "paste", "telea", "ns")


def choose_repairer(method: str, has_reference: bool) -> Repairer:
    """The repairer for a `--method`: `auto` pastes where there is a registered reference and inpaints elsewhere.

    Raises `InputError` for an unknown method, for `paste` without a reference, and for `net`.
    """
    if method == "net":
        raise InputError("method net: no trained repair model ships with this version; use auto, paste, telea or ns")
    if method not in REPAIR_METHODS:
        raise InputError(f"method {method!r} is unknown; use one of {', '.join(REPAIR_METHODS)}")
    if method == "paste" and not has_reference:
        raise InputError(
            "method paste needs a reference registered to the image, and this recipe or image has none; use telea or ns"
        )
    if method == "paste" or (method == "auto" and has_reference):
        return PasteRepairer()
    return NavierStokesRepairer() if method == "ns" else TeleaRepairer()
