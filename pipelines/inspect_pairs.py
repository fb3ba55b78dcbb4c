"""`inspector inspect --template`: one-off verdicts and visuals for frames that each have their own template."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from inspector.cameras.camera import CapturedFrame
from inspector.clock import utc_now_us
from inspector.config import FolderCamera
from inspector.detector.recipe import Recipe
from inspector.errors import DatasetError, ImageError, InputError, RecipeMismatchError
from inspector.generator.references import place_one
from inspector.generator.repairer import Twin
from inspector.images import decode_image, read_image_bytes
from inspector.records import BgrImage, PartIdSource, Scoring, VerdictKind
from pipelines.evidence import describe_inspection
from pipelines.inspect_frame import InspectedFrame, decide_verdict, decode_frame
from pipelines.inspect_images import ONE_OFF_CAMERA, ImageVerdict, describe_one_off
from pipelines.station_lane import not_inspected
from pipelines.template_set import match_template, templates_by_stem
from pipelines.twin import mask_detections, paint_from_template
from reports.text_fonts import FontSet
from reports.visual import encode_visual, paint_visual


def inspect_pairs(
    recipe: Recipe, images: Sequence[Path], template: Path | None, out: Path | None
) -> Iterator[ImageVerdict]:
    """Verdicts in the order given. With `out`, a visual for every image that is not OK.

    `template` is the template of all images, or a folder that holds one with the stem of each. An unreadable image,
    or one whose template is missing, unreadable or of another size, is NOT_INSPECTED with the reason; the others
    go on. Raises `InputError` without a template and `RecipeMismatchError` for a recipe that takes none.
    """
    scorer = recipe.template_scorer(threads=2)
    if template is None:
        raise InputError(f"{recipe.ref} is a template recipe: name the template, or a folder of them, with --template")
    find = _template_finder(template)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images, start=1):
        try:
            inspected, laid = _inspect_pair(image, find(image), scorer.score_pair, recipe)
        except (ImageError, DatasetError, RecipeMismatchError) as error:
            yield ImageVerdict(image, not_inspected(str(error)), str(recipe.ref), {}, None)
            continue
        visual = None
        if out is not None and inspected.verdict.kind is not VerdictKind.OK:
            visual = out / f"{number:04d}_{image.stem}_visual.jpg"
            visual.write_bytes(_paint(recipe, inspected, laid, image, number))
        yield ImageVerdict(image, inspected.verdict, str(recipe.ref), inspected.timings_ms, visual)


def _template_finder(template: Path) -> Callable[[Path], Path]:
    """From an image to its template."""
    if not template.is_dir():
        return lambda image: template
    known = templates_by_stem(template)
    return lambda image: match_template(image, known, template)


def _inspect_pair(
    image: Path, template: Path, score_pair: Callable[[BgrImage, BgrImage], Scoring], recipe: Recipe
) -> tuple[InspectedFrame, BgrImage]:
    """The inspected frame, and its template as it is."""
    captured = CapturedFrame(
        captured_utc_us=utc_now_us(),
        captured_monotonic_ns=time.monotonic_ns(),
        encoded=read_image_bytes(image),
        part_id=image.stem,
        part_id_source=PartIdSource.FILE_NAME,
    )
    started = time.monotonic_ns()
    frame = decode_frame(captured, FolderCamera(id=ONE_OFF_CAMERA, path=Path()))
    golden = decode_image(read_image_bytes(template))
    decoded = time.monotonic_ns()
    scoring = score_pair(frame.pixels, golden)
    scored = time.monotonic_ns()
    verdict = decide_verdict(scoring, recipe.thresholds)
    timings = {"decode": (decoded - started) / 1e6, "score": (scored - decoded) / 1e6}
    return InspectedFrame(frame, scoring, verdict, timings), golden


def _paint(recipe: Recipe, inspected: InspectedFrame, template: BgrImage, image: Path, number: int) -> bytes:
    """The visual as a JPEG; its twin shows the template where something was detected."""
    facts = describe_inspection(describe_one_off(recipe, inspected, image, number))
    pixels = inspected.frame.pixels
    twin = _paste_template(inspected, template)
    return encode_visual(paint_visual(pixels, twin, facts, FontSet()), twin, facts)


def _paste_template(inspected: InspectedFrame, template: BgrImage) -> Twin | None:
    """None when nothing was detected."""
    pixels, registration = inspected.frame.pixels, inspected.scoring.registration
    if registration is None:
        return None
    size = (pixels.shape[1], pixels.shape[0])
    references = place_one(template, registration.matrix, size, registration.confidence)
    return paint_from_template(pixels, mask_detections(pixels, inspected.verdict.detections), references)
