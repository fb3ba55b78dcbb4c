"""The heart: decoding, and the rule that turns a scoring into a verdict."""

from __future__ import annotations

import numpy as np
import pytest

from inspector.cameras.camera import CapturedFrame
from inspector.config import SimulatedCamera
from inspector.errors import ImageError, ImageSizeError
from inspector.images import encode_jpeg, sha256_hex, sha256_pixels
from inspector.records import AnomalyMap, BgrImage, Detection, Scoring, Thresholds, VerdictKind
from pipelines.inspect_frame import decide_verdict, decode_frame, inspect_frame

THRESHOLDS = Thresholds(review=1.0, ng=2.0)
CAMERA = SimulatedCamera(id="top", width_px=320, height_px=256)
PIXELS: BgrImage = np.full((256, 320, 3), 90, np.uint8)


def scoring(score: float, oddities: tuple[str, ...] = ()) -> Scoring:
    cells = AnomalyMap(np.full((4, 4), score, np.float32), cell_px=80)
    return Scoring(score, cells, (Detection((1, 2, 30, 40), score),), oddities=oddities)


class FixedScorer:
    """A scorer whose answer is known."""

    thresholds = THRESHOLDS
    frame_size = (320, 256)

    def score_frame(self, pixels: BgrImage) -> Scoring:
        return scoring(3.0)


def captured(encoded: bytes | None = None, pixels: BgrImage | None = None) -> CapturedFrame:
    return CapturedFrame(captured_utc_us=1, captured_monotonic_ns=1, encoded=encoded, pixels=pixels)


@pytest.mark.parametrize(
    ("score", "kind"),
    [
        (0.0, VerdictKind.OK),
        (0.999, VerdictKind.OK),
        (1.0, VerdictKind.REVIEW),
        (1.999, VerdictKind.REVIEW),
        (2.0, VerdictKind.NG),
        (50.0, VerdictKind.NG),
    ],
)
def test_score_against_thresholds(score: float, kind: VerdictKind) -> None:
    """Below review is OK, from ng upward NG, REVIEW between them; each limit belongs to the worse side."""
    assert decide_verdict(scoring(score), THRESHOLDS).kind is kind


@pytest.mark.parametrize("score", [0.0, 1.5, 9.0])
def test_odd_frame_is_never_ok_nor_ng(score: float) -> None:
    """A frame outside the recipe's experience goes to a person, with the reason, whatever its score."""
    verdict = decide_verdict(scoring(score, ("badly lit",)), THRESHOLDS)
    assert verdict.kind is VerdictKind.REVIEW
    assert verdict.reasons == ("badly lit",)


def test_ok_carries_no_detections() -> None:
    """Regions below the review threshold are not shown to anybody."""
    assert decide_verdict(scoring(0.5), THRESHOLDS).detections == ()
    assert len(decide_verdict(scoring(2.5), THRESHOLDS).detections) == 1


def test_hash_is_over_the_delivered_bytes() -> None:
    """The hash in the audit row is that of the camera's own bytes, or of the raw pixels."""
    encoded = encode_jpeg(PIXELS)
    assert decode_frame(captured(encoded=encoded), CAMERA).sha256 == sha256_hex(encoded)
    assert decode_frame(captured(pixels=PIXELS), CAMERA).sha256 == sha256_pixels(PIXELS)


def test_frame_of_another_size_is_an_error() -> None:
    """A frame of another size than the camera declares is refused, encoded or raw."""
    small = PIXELS[:100]
    for frame in (captured(encoded=encode_jpeg(small)), captured(pixels=small)):
        with pytest.raises(ImageSizeError, match="320x100 px, expected 320x256"):
            decode_frame(frame, CAMERA)


def test_capture_failure_is_an_image_error() -> None:
    """A frame that the camera could not deliver carries its reason."""
    frame = CapturedFrame(captured_utc_us=1, captured_monotonic_ns=1, failure="never complete")
    with pytest.raises(ImageError, match="never complete"):
        decode_frame(frame, CAMERA)


def test_one_frame_through_the_heart() -> None:
    """Frame, scoring, verdict and the time of each stage come back together."""
    inspected = inspect_frame(captured(encoded=encode_jpeg(PIXELS)), CAMERA, FixedScorer())
    assert inspected.verdict.kind is VerdictKind.NG
    assert inspected.timings_ms.keys() == {"decode", "score"}


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    """NaN compares as below every threshold; it must never become an OK."""
    with pytest.raises(ValueError, match="finite"):
        scoring(score)
