"""How commands answer: one JSON object, or a table for a person."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table


def answer(as_json: bool, value: dict[str, Any], show: Callable[[Console], None]) -> None:
    """Write the JSON object, or let `show` write for a person."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        show(Console(highlight=False))


def show_values(console: Console, title: str, values: dict[str, Any]) -> None:
    """A table of names and values."""
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in values.items():
        table.add_row(key.replace("_", " "), plain(value))
    console.print(table)


def plain(value: Any) -> str:
    """A value in words: four digits, a line for each item, a dash for nothing."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return os.linesep.join(f"{key}: {plain(item)}" for key, item in value.items())
    if isinstance(value, list):
        return os.linesep.join(plain(item) for item in value)
    return "–" if value is None else str(value)
