"""`inspector peel`: bend the repair net to one line, and see which recipes have such a peel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inspector.config import resolve_data_dir
from pipelines.command_options import DataDirOption, JsonOption, NameArgument, answer, plain_text, show_values

peel_app = typer.Typer(help="Bend the repair net to one line with a few minutes of training; see which recipes are.")


@peel_app.command("train")
def peel_train(
    name: NameArgument,
    good: Annotated[Path, typer.Option("--good", help="Folder of good images of the line.")],
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.05, max=600, help="How long to train; measuring comes on top.")
    ] = 5.0,
    release: Annotated[bool, typer.Option("--release/--no-release", help="Release the version for production.")] = True,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a peel for a recipe and attach it as a new version if it paints held-out good images better."""
    from pipelines.peel import train_recipe_peel

    value = train_recipe_peel(name, good, resolve_data_dir(data_dir), minutes=minutes, release=release).to_json()
    answer(as_json, value, lambda console: show_values(console, "peel", value))


@peel_app.command("list")
def peel_list(data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """The recipe versions that have a peel, what it gained, and whether it fits the weights of this machine."""
    from pipelines.peel import list_peels

    peels = [peel.to_json() for peel in list_peels(resolve_data_dir(data_dir))]

    def show(console: Console) -> None:
        table = Table("recipe", "released", "images", "minutes", "PSNR before", "after", "problem")
        for peel in peels:
            columns = ("released", "images", "minutes", "psnr_before_db", "psnr_after_db", "problem")
            table.add_row(f"{peel['recipe']}@{peel['version']}", *(plain_text(peel[column]) for column in columns))
        console.print(table)

    answer(as_json, {"peels": peels}, show)
