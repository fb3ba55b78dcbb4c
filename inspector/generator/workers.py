"""Threads of one painter: OpenCV and NumPy let go of the interpreter, so that two crops are worked on at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


class Workers:
    """Does independent pieces of work on `threads` threads; with one, in the caller's own. Thread-safe.

    What is made does not depend on the number of threads. No piece of work may hand others to the same workers.
    """

    def __init__(self, threads: int = 1) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="paint") if threads > 1 else None

    @property
    def beside(self) -> bool:
        """Whether what is started runs beside the caller."""
        return self._pool is not None

    def start(self, work: Callable[[], Made]) -> Future[Made]:
        """Begin a piece of work that is waited for later; with one thread it is done at once."""
        if self._pool is not None:
            return self._pool.submit(work)
        done: Future[Made] = Future()
        done.set_result(work())
        return done

    def each(self, work: Callable[[Given], Made], given: Iterable[Given]) -> list[Made]:
        """The result of `work` for each of `given`, in order; raises what the first that fails raised."""
        pieces = list(given)
        if self._pool is None or len(pieces) <= 1:
            return [work(piece) for piece in pieces]
        return list(self._pool.map(work, pieces))
