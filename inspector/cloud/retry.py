"""The retry rule, in prose (docs/escalation.md has it as a table) and as one predicate; and the circuit breaker.

Asked again: no complete answer (refused, reset, timed out, cut short), 429, and 5xx. Never: any other 4xx, and an
answer that does not fit the schema: it would be paid for again and be no better. Pauses double with jitter up to
an hour; a `Retry-After` is a lower bound and holds for the provider as a whole.
"""

from __future__ import annotations

from random import Random

from inspector.cloud.provider import ProviderError, ProviderRefusedError, ProviderUnreachableError

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 3600.0
LONGEST_RETRY_AFTER_S = 86_400.0
BREAKER_FAILURES = 5
BREAKER_FIRST_S = 15.0
BREAKER_LONGEST_S = 600.0
TOO_MANY_REQUESTS = 429


def is_retryable(error: ProviderError) -> bool:
    """Whether asking the same again can help."""
    if isinstance(error, ProviderUnreachableError):
        return True
    if isinstance(error, ProviderRefusedError) and error.status is not None:
        return error.status == TOO_MANY_REQUESTS or 500 <= error.status <= 599
    return False


def is_billed(error: ProviderError) -> bool:
    """Whether the request may have cost money: all but those that were refused with a status."""
    return not isinstance(error, ProviderRefusedError)


def next_pause_s(failures: int, retry_after_s: float | None, random: Random) -> float:
    """Before the next attempt of a question that failed `failures` times."""
    pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(failures - 1, 20)) * random.uniform(0.5, 1.0)
    return max(pause, clip_retry_after(retry_after_s))


def clip_retry_after(retry_after_s: float | None) -> float:
    """What a provider asked for, within reason: nothing below zero, a day at most."""
    return min(max(retry_after_s or 0.0, 0.0), LONGEST_RETRY_AFTER_S)


class CircuitBreaker:
    """Leaves a provider alone that failed several times in a row, then lets one question through to see.

    Times are in seconds of a clock that does not jump.
    """

    def __init__(self, random: Random) -> None:
        self._random = random
        self._failures = 0
        self._closed_again_s = 0.0

    def blocked_until_s(self, now_s: float) -> float | None:
        """When the provider may be asked again; None: now."""
        return self._closed_again_s if now_s < self._closed_again_s else None

    def note_success(self) -> None:
        """A question was answered, or refused for a reason of its own: somebody is there."""
        self._failures = 0
        self._closed_again_s = 0.0

    def note_failure(self, now_s: float, retry_after_s: float | None) -> None:
        """A question failed in a way that the next would too."""
        self._failures += 1
        pause = clip_retry_after(retry_after_s)
        if self._failures >= BREAKER_FAILURES:
            doubled = BREAKER_FIRST_S * 2.0 ** min(self._failures - BREAKER_FAILURES, 20)
            pause = max(pause, min(BREAKER_LONGEST_S, doubled) * self._random.uniform(0.75, 1.25))
        self._closed_again_s = max(self._closed_again_s, now_s + pause)
