"""Structured logs: one JSON object a line on stderr, or plain lines for people at a terminal."""

from __future__ import annotations

import logging
import sys
from typing import TextIO, cast

import structlog


class _StandardError:
    """`sys.stderr` as it is at the moment of writing: a stream that was replaced and closed must break nobody's log."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def configure_logging(*, json_lines: bool, level: int = logging.INFO) -> None:
    """Set up structlog for this process. Times are RFC 3339 UTC; events carry key-values, never secrets."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _StandardError())),
        cache_logger_on_first_use=True,
    )
