"""What every training from the command line does: folders by name, PyTorch asked for, errors as one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import structlog
import typer

from inspector.errors import InspectorError, MissingExtraError

EXIT_ERROR = 1
S_A_MINUTE = 60.0


def run_training_app(app: typer.Typer) -> None:
    """Errors of ours become one sentence and exit status 1."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        app()
    except InspectorError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        sys.exit(EXIT_ERROR)


def name_folders(**given: Path | None) -> dict[str, Path]:
    """The folders that were given, absolute, by the names that stages call them (`stage_file.fill_in`)."""
    return {name: folder.absolute() for name, folder in given.items() if folder is not None}


def require_torch() -> None:
    """Raise `MissingExtraError` where PyTorch is not installed."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError('training needs PyTorch: pip install "line-inspector[train]"') from error
