"""What a file name says: as text for the database, and as part id, lot and attempt."""

from __future__ import annotations

import re


def printable_name(name: str) -> str:
    """A file name as text that any database takes; bytes that are not UTF-8 become backslash escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def parse_name(pattern: re.Pattern[str] | None, stem: str) -> tuple[str | None, str | None, int]:
    """Part id, lot and attempt from a file stem; None, None and 1 for what the pattern does not find."""
    match = pattern.search(printable_name(stem)) if pattern is not None else None
    groups = match.groupdict() if match is not None else {}
    attempt = groups.get("attempt") or ""
    is_count = attempt.isascii() and attempt.isdigit() and 0 < len(attempt) < 7 and int(attempt) > 0
    return groups.get("part_id") or None, groups.get("lot") or None, int(attempt) if is_count else 1
