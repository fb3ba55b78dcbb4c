"""The heart: one frame in, one verdict out. No broker, no database, no camera; one image and one recipe.

decode_frame  →  score (register, screen, tiles)  →  decide_verdict  →  name_detections
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import cv2
import structlog

from inspector.cameras.camera import CapturedFrame
from inspector.config import CameraBase
from inspector.detector.name_detections import DetectionNamer
from inspector.detector.scorer import Scorer
from inspector.errors import ImageError
from inspector.images import ImageLimits, check_size, decode_image, read_header, sha256_hex, sha256_pixels
from inspector.records import BgrImage, Frame, Scoring, Thresholds, Verdict, VerdictKind

BETWEEN_THRESHOLDS = "score between the review and the NG threshold"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InspectedFrame:
    """A frame with its verdict. `timings_ms` holds the monotonic duration of each stage."""

    frame: Frame
    scoring: Scoring
    verdict: Verdict
    timings_ms: dict[str, float]


def inspect_frame(
    captured: CapturedFrame,
    camera: CameraBase,
    scorer: Scorer,
    limits: ImageLimits = ImageLimits(),
    namer: DetectionNamer | None = None,
) -> InspectedFrame:
    """Inspect one frame under one recipe; `namer` is the recipe's, if it was taught names.

    Raises `ImageError` for a frame that cannot be decoded or has not the declared size and
    `RecipeMismatchError` for a frame that the recipe was not made for.
    """
    started = time.monotonic_ns()
    frame = decode_frame(captured, camera, limits)
    decoded = time.monotonic_ns()
    scoring = scorer.score_frame(frame.pixels)
    scored = time.monotonic_ns()
    verdict = decide_verdict(scoring, scorer.thresholds)
    timings = {"decode": (decoded - started) / 1e6, "score": (scored - decoded) / 1e6}
    if namer is not None and verdict.detections:
        verdict = name_detections(verdict, frame.pixels, scoring, namer)
        timings["name"] = (time.monotonic_ns() - scored) / 1e6
    return InspectedFrame(frame=frame, scoring=scoring, verdict=verdict, timings_ms=timings)


def decode_frame(captured: CapturedFrame, camera: CameraBase, limits: ImageLimits = ImageLimits()) -> Frame:
    """The pixels of what a camera delivered, with the hash of exactly the bytes it delivered."""
    expected = (camera.width_px, camera.height_px) if camera.width_px and camera.height_px else None
    if captured.encoded is not None:
        pixels = decode_image(captured.encoded, limits, expected_size=expected, bit_depth=camera.bit_depth)
        sha256, media_type = sha256_hex(captured.encoded), read_header(captured.encoded, limits).media_type
    elif captured.pixels is not None:
        pixels, media_type = captured.pixels, None
        check_size(pixels.shape[1], pixels.shape[0], expected)
        sha256 = sha256_pixels(pixels)
    else:
        raise ImageError(captured.failure or "the camera delivered no image")
    return Frame(
        camera=camera.id,
        pixels=pixels,
        sha256=sha256,
        captured_utc_us=captured.captured_utc_us,
        encoded=captured.encoded,
        media_type=media_type,
        mm_per_px=camera.mm_per_px,
        calibration_id=camera.calibration_id,
    )


def decide_verdict(scoring: Scoring, thresholds: Thresholds) -> Verdict:
    """Below `review`: OK. From `ng` upward: NG. Between, or when anything is odd about the frame: REVIEW.

    An odd frame (badly registered, wrong light) is never called OK and never called NG: the score says
    little about it, so a person or the cloud should look.
    """
    if scoring.oddities:
        kind, reasons = VerdictKind.REVIEW, scoring.oddities
    elif scoring.score >= thresholds.ng:
        kind, reasons = VerdictKind.NG, ()
    elif scoring.score >= thresholds.review:
        kind, reasons = VerdictKind.REVIEW, (BETWEEN_THRESHOLDS,)
    else:
        kind, reasons = VerdictKind.OK, ()
    return Verdict(
        kind=kind,
        score=scoring.score,
        thresholds=thresholds,
        detections=() if kind is VerdictKind.OK else scoring.detections,
        reasons=reasons,
    )


def name_detections(verdict: Verdict, pixels: BgrImage, scoring: Scoring, namer: DetectionNamer) -> Verdict:
    """The verdict with a name for each detection. A verdict never fails for a name: then they stay as they are."""
    try:
        return replace(verdict, detections=namer.name(pixels, scoring, verdict.detections))
    except (cv2.error, ArithmeticError, ValueError, LookupError, TypeError, RuntimeError):
        log.exception("naming_failed", detections=len(verdict.detections))
        return verdict
