"""Training from the command line: render a bank, run a stage, export what ships.

python -m inspector.generator.training bank|train|export
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from inspector.generator.training.config import load_stage
from inspector.scenes.samples.bank import write_bank
from inspector.scenes.samples.sample_part import LEAST_SIDE_PX
from inspector.scenes.samples.training_command import S_A_MINUTE, name_folders, require_torch, run_training_app

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

OutOption = Annotated[Path, typer.Option("--out", help="Folder that takes the result.")]
PhotographsOption = Annotated[
    Path | None, typer.Option(help="What the stage names ${photographs}: a folder of data sets.")
]
BankOption = Annotated[Path | None, typer.Option(help="What the stage names ${bank}: a bank of rendered parts.")]


class Device(StrEnum):
    """Where the net is trained."""

    CPU = "cpu"
    CUDA = "cuda"


class StoredAs(StrEnum):
    """The encoding of the weights."""

    MXFP4 = "mxfp4"
    INT8 = "int8"
    F32 = "f32"


@app.command()
def bank(
    out: OutOption,
    parts: Annotated[int, typer.Option(min=1, help="How many parts and surfaces.")] = 6000,
    views: Annotated[int, typer.Option(min=1, max=32, help="Photographs of each.")] = 6,
    side_px: Annotated[int, typer.Option(min=LEAST_SIDE_PX, help="Sides of a photograph.")] = 384,
    seed: Annotated[int, typer.Option(min=0, help="Of the first part; the others count on.")] = 1,
    faulty_views: Annotated[
        int, typer.Option(min=0, help="Of parts with loose pieces, photographed with a fault.")
    ] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes that render.")] = 2,
) -> None:
    """Render a bank of good parts and surfaces. The same arguments give the same bytes."""
    write_bank(
        out,
        parts=parts,
        views=views,
        side_px=side_px,
        seed=seed,
        faulty_views=faulty_views,
        workers=workers,
        report=lambda done: typer.echo(f"\r{done} of {parts} parts", err=True, nl=done == parts),
    )


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="YAML of the stage.")],
    out: OutOption,
    photographs: PhotographsOption = None,
    bank: BankOption = None,
    start_from: Annotated[
        Path | None, typer.Option(help="What the stage names ${start_from}: another stage's checkpoint.")
    ] = None,
    device: Annotated[Device, typer.Option(help="Where the net is trained.")] = Device.CPU,
    threads: Annotated[int | None, typer.Option(min=1, help="On a CPU; other numbers give other weights.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop then, ready to go on.")] = None,
) -> None:
    """Run a stage, or go on with the one in --out, and print where its checkpoint lies."""
    stage = load_stage(config)
    # Read by cuBLAS when it starts: without it, it adds in no fixed order.
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    require_torch()
    from inspector.generator.training.repair_stage import train_repair

    checkpoint = train_repair(
        stage,
        out,
        folders=name_folders(photographs=photographs, bank=bank, start_from=start_from),
        device=device.value,
        threads=threads,
        budget_s=None if minutes is None else minutes * S_A_MINUTE,
    )
    typer.echo(checkpoint)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="What `train` printed.")],
    out: OutOption,
    encoding: Annotated[StoredAs, typer.Option(help="How the weights are stored.")] = StoredAs.MXFP4,
    photographs: PhotographsOption = None,
    bank: BankOption = None,
) -> None:
    """Write weights and graphs, checked against PyTorch, and print where they lie.

    The samples of the training are needed once more, to measure the ranges of the activations.
    """
    require_torch()
    from inspector.generator.training.finish_repair import export_repair

    typer.echo(export_repair(checkpoint, out, encoding.value, name_folders(photographs=photographs, bank=bank)))


def main() -> None:
    """The program."""
    run_training_app(app)


if __name__ == "__main__":
    main()
