"""Training of the general net from the command line.

python -m inspector.detector.training train|export
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from inspector.detector.training.general_config import GeneralStage
from inspector.scenes.samples.stage_file import read_stage
from inspector.scenes.samples.training_command import S_A_MINUTE, name_folders, require_torch, run_training_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

PhotographsOption = Annotated[
    Path | None, typer.Option(help="What the stage names ${photographs}: a folder of data sets.")
]
BankOption = Annotated[
    Path | None,
    typer.Option(help="What the stage names ${bank}: a bank of rendered parts, with faults."),
]


class Device(StrEnum):
    """Where the net is trained."""

    CPU = "cpu"
    CUDA = "cuda"


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML of the stage.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run, which may go on there.")],
    photographs: PhotographsOption = None,
    bank: BankOption = None,
    device: Annotated[Device, typer.Option(help="Where the net is trained.")] = Device.CPU,
    threads: Annotated[int, typer.Option(min=1, help="On a CPU; other numbers give other weights.")] = 1,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop then, ready to go on.")] = None,
) -> None:
    """Run the stage, or go on with the one in --out, and print where its checkpoint lies."""
    stage = read_stage(config, GeneralStage)
    # Read by cuBLAS when it starts: without it, it adds in no fixed order.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    require_torch()
    from inspector.detector.training.general_stage import train_general

    checkpoint = train_general(
        stage,
        out,
        folders=name_folders(photographs=photographs, bank=bank),
        device=device.value,
        threads=threads,
        budget_s=None if minutes is None else minutes * S_A_MINUTE,
    )
    typer.echo(checkpoint)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="What `train` printed.")],
    out: Annotated[Path, typer.Option("--out", help="Folder that takes the graph and its facts.")],
) -> None:
    """Write the graph that ships, checked against PyTorch, and print where it lies."""
    require_torch()
    from inspector.detector.training.general_export import export_general

    typer.echo(export_general(checkpoint, out))


def main() -> None:
    """The program."""
    run_training_app(app)


if __name__ == "__main__":
    main()
