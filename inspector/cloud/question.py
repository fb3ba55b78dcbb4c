"""Composes a question from what may leave, and writes down the exact bytes that leave for it.

No part id, no lot, no file name: what a question says beside its pictures is in the settings and in `instruction`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Sequence

from inspector.cloud.instruction import (
    QuestionSubject,
    derive_context_key,
    write_instruction,
    write_question_text,
)
from inspector.cloud.provider import MediaResolution, Question, QuestionImage
from inspector.cloud.redaction import RedactedImage
from inspector.records import ID_NAMESPACE, Detection

UNNAMED = "anomaly"


def make_escalation_id(inspection_id: str) -> str:
    """The same for the same inspection: it is asked about once."""
    return str(uuid.uuid5(ID_NAMESPACE, f"escalation/{inspection_id}"))


def compose_question(
    escalation_id: str,
    subject: QuestionSubject,
    pictures: Sequence[RedactedImage],
    golden: RedactedImage | None,
    shown: Sequence[Detection],
    resolution: MediaResolution,
) -> Question:
    """All that leaves the plant for one escalation; `shown` are the regions in the pictures, worst first."""
    goldens = [QuestionImage("golden", image.content, "image/jpeg") for image in (golden,) if image is not None]
    instruction = write_instruction(subject, len(goldens))
    names = [detection.name for detection in shown if detection.name != UNNAMED]
    return Question(
        escalation_id=escalation_id,
        context_key=derive_context_key(instruction, goldens),
        instruction=instruction,
        text=write_question_text(len(shown), names[0] if names else ""),
        images=(*goldens, *(QuestionImage("part", image.content, "image/jpeg") for image in pictures)),
        media_resolution=resolution,
    )


def write_question(question: Question) -> bytes:
    """The file that records what leaves: canonical JSON with every text, and every picture in base64."""
    content = {
        "escalation_id": question.escalation_id,
        "context_key": question.context_key,
        "instruction": question.instruction,
        "text": question.text,
        "media_resolution": question.media_resolution,
        "images": [
            {
                "role": image.role,
                "media_type": image.media_type,
                "sha256": hashlib.sha256(image.content).hexdigest(),
                "base64": base64.b64encode(image.content).decode("ascii"),
            }
            for image in question.images
        ],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read_question(content: bytes) -> Question:
    """The inverse of `write_question`; `ValueError` for anything else."""
    try:
        values = json.loads(content)
        images = tuple(
            QuestionImage(item["role"], base64.b64decode(item["base64"], validate=True), item["media_type"])
            for item in values.pop("images")
        )
        return Question(images=images, **values)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a question: {error}") from error
