"""`inspector repair --exposure`: a well-lit alternative of an under-exposed frame, for people to look at.

The frame's file, the detector and the store keep the original; the picture is marked generated.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspector import __version__
from inspector.clock import utc_now_us
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import InputError
from inspector.generator.exposure.net import open_net
from inspector.generator.exposure.relighting import LitFrame, relight_frame
from inspector.generator.mark import mark_generated
from inspector.images import decode_image, read_image_bytes, sha256_hex
from pipelines.repair import OUT_SUFFIXES, encode_picture
from reports.xmp import PictureOrigin, embed_packet, write_packet

METHOD = "exposure"
THREADS = 2


@dataclass(frozen=True, slots=True)
class ExposureReport:
    """What was done. `generated` is False for a frame that was not under-exposed: the picture is then the frame.

    `gain` is how much light was missing and `exposure` its inverse; `response` how the camera seems to code light.
    `noise_sigma` and `noise_left` are grey levels (root mean square) at the new light, before and after;
    `shot_noise` and `read_noise` the slope and the foot of the frame's noise curve: variance of light 0..1.
    """

    method: str
    seconds: float
    regions: int
    generated: bool
    gain: float
    exposure: float
    response: str
    noise_sigma: float
    noise_left: float
    shot_noise: float
    read_noise: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_exposure_options(mask: Path | None, method: str, gain: float | None, *, exposure: bool) -> None:
    """Raise `InputError` for options of `repair` that cannot be meant together."""
    if gain is not None and not exposure:
        raise InputError("--gain is how much light a dark frame lacks; it goes with --exposure")
    if exposure and mask is not None:
        raise InputError("--exposure lights the whole frame and repairs nothing; leave out --mask, or run repair twice")
    if exposure and method != "auto":
        raise InputError(f"--exposure has one method; leave out --method {method}")


def relight_image(name: str, image: Path, out: Path, data_dir: Path, gain: float | None = None) -> ExposureReport:
    """Light a dark frame as the recipe's golden image is lit (or by a known `gain`) and write it to `out`.

    Raises `RecipeError`, `ImageError`, `WeightsError`, or `InputError` for a frame that is black, an unknown suffix,
    or an `out` that is the frame itself.
    """
    if out.suffix.lower() not in OUT_SUFFIXES:
        raise InputError(f"{out.name}: the picture is written as {', '.join(OUT_SUFFIXES)}")
    if out.resolve() == image.resolve():
        raise InputError(f"{out}: is the frame itself, which is never altered; write to another file")
    recipe = RecipeStore(data_dir).load(name, require_released=False)
    encoded = read_image_bytes(image)
    pixels = decode_image(encoded, expected_size=recipe.frame_size)
    net = open_net(threads=THREADS)
    started = time.monotonic()
    lit = relight_frame(pixels, recipe.golden_for(pixels), net, same_view=recipe.mode == "located", gain=gain)
    seconds = time.monotonic() - started
    _write(out, lit, sha256_hex(encoded))
    return ExposureReport(
        method=METHOD,
        seconds=round(seconds, 4),
        regions=int(lit.generated),
        generated=lit.generated,
        gain=round(lit.exposure.gain, 4),
        exposure=round(1 / lit.exposure.gain, 4),
        response=lit.exposure.response,
        noise_sigma=round(lit.noise_sigma, 3),
        noise_left=round(lit.noise_left, 3),
        shot_noise=lit.noise.shot,
        read_noise=lit.noise.read,
    )


def _write(out: Path, lit: LitFrame, frame_sha256: str) -> None:
    height, width = lit.pixels.shape[:2]
    marked = mark_generated(lit.pixels, np.ones((height, width), np.bool_)) if lit.generated else lit.pixels
    origin = PictureOrigin(
        title=f"Well-lit alternative of {frame_sha256[:12]}",
        kind=METHOD,
        created_utc_us=utc_now_us(),
        software=f"line-inspector {__version__}",
        frame_sha256=frame_sha256,
        twin_method="net" if lit.generated else None,
        generated_regions=((0, 0, width, height),) if lit.generated else (),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(embed_packet(encode_picture(marked, out.suffix), write_packet(origin)))
