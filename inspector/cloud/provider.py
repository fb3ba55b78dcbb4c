"""One question to a cloud model, its answer, and the one protocol of everybody who can be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from inspector.errors import CloudError

MediaResolution = Literal["low", "medium", "high"]
"""About 280, 560 and 1120 tokens an image."""


@dataclass(frozen=True, slots=True)
class QuestionImage:
    """One encoded picture of a question: the very bytes that were recorded before sending."""

    role: Literal["part", "golden"]
    content: bytes
    media_type: Literal["image/jpeg", "image/png"]


@dataclass(frozen=True, slots=True)
class Question:
    """All that leaves the plant for one escalation, apart from the vendor's envelope.

    `instruction` and the golden images are the same for every question about one recipe version
    (`context_key` names them), so a provider may cache them; `text` is about this part only. Images
    come golden first.
    """

    escalation_id: str
    context_key: str
    instruction: str
    text: str
    images: tuple[QuestionImage, ...]
    media_resolution: MediaResolution


class Answer(BaseModel):
    """What a model has to answer, as JSON; anything else is a recorded failure, not a guess."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    verdict: Literal["good", "defect", "unsure"] = Field(description="What the picture shows.")
    defect_name: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        description="A short name of the defect, null unless the verdict is `defect`."
    )
    confidence: float = Field(ge=0, le=1, description="0 (a guess) to 1 (certain).")
    reason: Annotated[str, StringConstraints(max_length=600)] = Field(description="One or two sentences.")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that fits the schema, and what it cost. Counts are the provider's own, None where it gives none.

    `input_tokens` contains what was billed for making a cache on the occasion; the price of storing it is in no count.
    """

    answer: Answer
    model: str
    input_tokens: int | None
    cached_tokens: int | None
    """Part of `input_tokens` that came from the provider's cache."""
    output_tokens: int | None


class ProviderError(CloudError):
    """A question was not answered. The message holds no credentials and no picture.

    `status` is the HTTP status if there was one, `retry_after_s` what the provider asked for.
    """

    def __init__(self, message: str, *, status: int | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class ProviderUnreachableError(ProviderError):
    """No complete answer: refused, reset, timed out, cut short."""


class ProviderRefusedError(ProviderError):
    """An HTTP status that is not success; `status` says which."""


class AnswerInvalidError(ProviderError):
    """A complete answer that is not JSON, or does not fit the schema, or was withheld by the provider's filters."""


class Provider(Protocol):
    """Somebody who can be asked. An object belongs to one thread."""

    name: str
    """As in the configuration, for the ledger."""

    @property
    def destination(self) -> str:
        """`https://host:port`, checked against the allow-list before anything is sent."""
        ...

    def ask(self, question: Question, timeout_s: float) -> Reply:
        """One attempt, without retries of its own. Raises a `ProviderError`; nothing else for what the network does."""
        ...

    def close(self) -> None: ...
