"""Questions for the tests of cloud providers, with real pictures in them."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from inspector.cloud.instruction import QuestionSubject, derive_context_key, write_instruction, write_question_text
from inspector.cloud.provider import MediaResolution, Question, QuestionImage

SUBJECT = QuestionSubject("bracket", "Stamped steel, two holes", ("scratch", "dent"))


def make_image(role: str, seed: int, *, text: str = "", size: int = 96) -> QuestionImage:
    """A small grey part with noise; `text` is printed on it, as a label would be."""
    pixels = np.random.default_rng(seed).integers(110, 140, (size, size * 2, 3), dtype=np.uint8)
    cv2.circle(pixels, (size, size // 2), size // 4, (60, 60, 60), -1)
    cv2.putText(pixels, text, (4, size - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    if role == "golden":
        return QuestionImage("golden", cv2.imencode(".png", pixels)[1].tobytes(), "image/png")
    return QuestionImage("part", cv2.imencode(".jpg", pixels)[1].tobytes(), "image/jpeg")


def make_question(
    number: int = 1, *, golden: int = 2, resolution: MediaResolution = "medium", label: str = ""
) -> Question:
    """Question `number` about one recipe version: instruction and golden images are always the same."""
    images = tuple(make_image("golden", seed) for seed in range(golden))
    instruction = write_instruction(SUBJECT, golden)
    return Question(
        escalation_id=f"00000000-0000-5000-8000-{number:012d}",
        context_key=derive_context_key(instruction, images),
        instruction=instruction,
        text=write_question_text(1, "scratch"),
        images=(*images, make_image("part", 100 + number, text=label)),
        media_resolution=resolution,
    )


def with_resolution(question: Question, resolution: MediaResolution) -> Question:
    return dataclasses.replace(question, media_resolution=resolution)
