"""What a Gemini model keeps of a recipe between questions: the instruction and the golden images, for a while.

Storage is billed by time, so a cache is made for the second question within the lifetime, not for the
first, and renewed only when it is used in the second half of its life. Every failure here means only that
a question is asked in full. A cache belongs to this process; what a killed one leaves behind expires.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from inspector.cloud.provider import ProviderError, ProviderRefusedError, Question

if TYPE_CHECKING:
    from google.genai.caches import Caches
    from google.genai.types import CachedContent, Content

EXPIRY_MARGIN_S = 30.0
"""A cache is not used in its last seconds: the answer may take as long."""

REFUSED_PAUSE_S = 3600.0
"""After a refusal (most often: too small to cache), so long without another try for this recipe."""

SDK_FAILURES = (ProviderError, ValueError, TypeError, AttributeError, RecursionError)
"""What comes out of the SDK when the reply about a cache is not what it expects."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CachedContext:
    """A live cache. `created_tokens` were billed as input for making it just now; 0 when it was there before."""

    name: str
    expires_s: float
    created_tokens: int


class ContextCache:
    """Caches by `context_key` and resolution.

    `clock` is monotonic, and the provider's own times are not looked at: clocks that jump change nothing.
    """

    def __init__(
        self, caches: Caches, model: str, lifetime_s: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._caches = caches
        self._model = model
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._live: dict[str, CachedContext] = {}
        self._last_asked: dict[str, float] = {}
        self._not_before: dict[str, float] = {}

    def find(self, question: Question, contents: list[Content]) -> CachedContext | None:
        """The cache for this question, made or renewed where that pays; None: ask in full.

        `contents` are the golden images as the SDK wants them; an instruction alone is too small to cache.
        """
        now, key = self._clock(), _name_key(question)
        if not contents or self._lifetime_s == 0 or now < self._not_before.get(key, now):
            return None
        asked_before = now - self._last_asked.get(key, -float("inf")) <= self._lifetime_s
        self._last_asked[key] = now
        entry = self._live.get(key)
        if entry is not None and entry.expires_s - now > self._lifetime_s / 2:
            return entry
        if entry is not None and entry.expires_s - now > EXPIRY_MARGIN_S:
            return self._renew(key, entry)
        self._live.pop(key, None)
        return self._create(question, contents) if asked_before else None

    def forget(self, question: Question) -> None:
        """The provider does not know this question's cache any more."""
        self._live.pop(_name_key(question), None)

    def delete_all(self) -> None:
        """Golden images are not left with the provider longer than they are of use. Gives up at the first failure."""
        while self._live:
            _, entry = self._live.popitem()
            try:
                self._caches.delete(name=entry.name)
            except SDK_FAILURES as error:
                log.info("a context cache is left to expire", reason=_name_failure(error))
                return

    def _create(self, question: Question, contents: list[Content]) -> CachedContext | None:
        key = _name_key(question)
        began = self._clock()
        try:
            made = self._caches.create(
                model=self._model,
                config={
                    "contents": [*contents],
                    "system_instruction": question.instruction,
                    "ttl": f"{self._lifetime_s}s",
                    "display_name": f"line-inspector {key}"[:128],
                },
            )
        except SDK_FAILURES as error:
            if isinstance(error, ProviderRefusedError) and error.status in (400, 403, 404):
                self._not_before[key] = began + REFUSED_PAUSE_S
            log.info("no context cache; the question is asked in full", reason=_name_failure(error))
            return None
        if not made.name:
            return None
        # From the moment of asking: the provider's time cannot have begun earlier.
        self._live[key] = CachedContext(made.name, began + self._lifetime_s, 0)
        return CachedContext(made.name, began + self._lifetime_s, _count_tokens(made))

    def _renew(self, key: str, entry: CachedContext) -> CachedContext | None:
        began = self._clock()
        try:
            self._caches.update(name=entry.name, config={"ttl": f"{self._lifetime_s}s"})
        except SDK_FAILURES as error:
            if isinstance(error, ProviderRefusedError) and error.status in (400, 403, 404):
                self._live.pop(key, None)
                return None
            log.info("a context cache was not renewed", reason=_name_failure(error))
            return entry
        renewed = CachedContext(entry.name, began + self._lifetime_s, 0)
        self._live[key] = renewed
        return renewed


def _name_key(question: Question) -> str:
    return f"{question.context_key} {question.media_resolution}"


def _count_tokens(made: CachedContent) -> int:
    usage = made.usage_metadata
    return (usage.total_token_count or 0) if usage is not None else 0


def _name_failure(error: Exception) -> str:
    """A `ProviderError` speaks for itself; of the SDK's own the name is enough: its text holds what came back."""
    return str(error) if isinstance(error, ProviderError) else type(error).__name__
