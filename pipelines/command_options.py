"""What the commands share: options, and answers as one JSON object or as a table for a person."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from inspector.clock import to_utc_us

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; logs go to stderr.")]
DataDirOption = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Recipes and database; default $INSPECTOR_DATA_DIR or ./inspector-data."),
]
ConfigArgument = Annotated[Path, typer.Argument(help="YAML of a station or plant.", show_default=False)]
NameArgument = Annotated[str, typer.Argument(help="Recipe: NAME (latest released) or NAME@3.", show_default=False)]


def answer(as_json: bool, value: dict[str, Any], show: Callable[[Console], None]) -> None:
    """Write the JSON object, or let `show` write for a person."""
    if as_json:
        sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        show(Console(highlight=False))


def parse_time(text: str | None) -> datetime | None:
    """The moment of an option; `typer.BadParameter` without a zone."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        to_utc_us(moment)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not an RFC 3339 time with a zone: {error}") from error
    return moment


def show_values(console: Console, title: str, values: dict[str, Any]) -> None:
    """A table of names and values."""
    table = Table(title=title, show_header=False, title_justify="left")
    for key, value in values.items():
        table.add_row(key.replace("_", " "), plain_text(value))
    console.print(table)


def plain_text(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return os.linesep.join(f"{key}: {plain_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return os.linesep.join(plain_text(item) for item in value)
    return "–" if value is None else str(value)
