"""The command line: arguments in, one pipeline called, an answer for a person or one JSON object for a program."""

from __future__ import annotations

import json
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inspector import __version__
from inspector.config import config_schema, describe_resolved, load_config, resolve_data_dir
from inspector.errors import InspectorError
from pipelines.cloud_commands import cloud_app
from pipelines.command_options import (
    ConfigArgument,
    DataDirOption,
    JsonOption,
    NameArgument,
    answer,
    parse_time,
    show_values,
)
from pipelines.logs import configure_logging
from pipelines.peel_commands import peel_app

EXIT_ERROR = 1

app = typer.Typer(
    name="inspector",
    help="Visual inspection beside the line: verdicts from good photographs alone, never lost, explained in pictures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(cloud_app, name="cloud", no_args_is_help=True)
app.add_typer(peel_app, name="peel", no_args_is_help=True)


def main() -> None:
    """Entry point of `inspector`: errors of ours become one sentence and exit status 1."""
    try:
        app()
    except InspectorError as error:
        if "--json" in sys.argv:
            sys.stdout.write(json.dumps({"error": type(error).__name__, "message": str(error)}) + "\n")
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"[bold red]{type(error).__name__}[/]", end=": ")
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_ERROR)


@app.callback()
def prepare() -> None:
    """Logs for people go to stderr."""
    configure_logging(json_lines=False)


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    answer(as_json, {"version": __version__}, lambda console: console.print(__version__))


@app.command()
def check(config: ConfigArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Validate a configuration, and the recipes it names as far as they exist; print it resolved, secrets masked."""
    from pipelines.station_recipe import check_recipes

    plant = load_config(config)
    check_recipes(plant, resolve_data_dir(data_dir))
    resolved = describe_resolved(plant)
    answer(as_json, {"valid": True, "config": resolved}, lambda console: console.print_json(data=resolved))


@app.command()
def schema(as_json: JsonOption = False) -> None:
    """Print the JSON Schema of the configuration, for editors."""
    value = config_schema()
    answer(as_json, value, lambda console: console.print_json(data=value))


@app.command()
def fit(
    name: Annotated[str, typer.Argument(help="Name of the recipe.", show_default=False)],
    good: Annotated[
        Path | None,
        typer.Option("--good", help="Folder of good images; in template mode of good pairs, or of templates."),
    ] = None,
    mode: Annotated[
        str, typer.Option("--mode", help="auto, or template: each frame brings its own template.")
    ] = "auto",
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Template mode: folder with template/, test/ and boxes/ that teaches names."),
    ] = None,
    false_alarm_rate: Annotated[
        float, typer.Option("--false-alarm-rate", min=0.001, max=0.5, help="Target share of good parts not called OK.")
    ] = 0.05,
    ignore: Annotated[
        Path | None,
        typer.Option("--ignore", help="Mask drawn on the recipe's golden image: what is white is never judged."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option("--regions", help="YAML of named regions with thresholds or a least defect size of their own."),
    ] = None,
    mm_per_px: Annotated[
        float | None,
        typer.Option(
            "--mm-per-px", min=1e-6, max=1000, help="Size of a frame pixel on the part: defects are then measured."
        ),
    ] = None,
    rotation: Annotated[
        str, typer.Option("--rotation", help="small: a few degrees; free: the part lies at any angle.")
    ] = "small",
    train: Annotated[
        float | None,
        typer.Option("--train", min=0.01, max=1440, help="Minutes to train a net on the good images (needs PyTorch)."),
    ] = None,
    confidential: Annotated[
        bool, typer.Option("--confidential", help="Nothing about these parts is ever sent to a cloud model.")
    ] = False,
    release: Annotated[bool, typer.Option("--release/--no-release", help="Release the version for production.")] = True,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn a recipe from good images only (twenty are a good start, one is accepted without a promise)."""
    from pipelines.fit_template import fit_asked

    report = fit_asked(
        name,
        resolve_data_dir(data_dir),
        mode=mode,
        good=good,
        labels=labels,
        ignore_mask=ignore,
        regions=regions,
        mm_per_px=mm_per_px,
        rotation=rotation,
        false_alarm_target=false_alarm_rate,
        release=release,
        confidential=confidential,
        train_minutes=train,
    ).to_json()
    answer(as_json, report, lambda console: show_values(console, f"recipe {report['recipe']}", report))


@app.command()
def calibrate(
    name: NameArgument,
    good: Annotated[
        Path | None,
        typer.Option("--good", help="Photographs that a person confirmed good and that were not used in the fit."),
    ] = None,
    target: Annotated[
        float | None,
        typer.Option(
            "--target", min=0.001, max=0.499, help="Target share of good parts not called OK; default the recipe's."
        ),
    ] = None,
    release: Annotated[bool, typer.Option("--release/--no-release", help="Release the version for production.")] = True,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Estimate thresholds again from parts that a person confirmed good, as a new recipe version."""
    from pipelines.calibrate import calibrate_recipe

    report = calibrate_recipe(
        name, resolve_data_dir(data_dir), good_dir=good, false_alarm_target=target, release=release
    ).to_json()
    answer(as_json, report, lambda console: show_values(console, f"recipe {report['recipe']}", report))


@app.command("name")
def name_recipe(
    name: NameArgument,
    examples: Annotated[
        Path | None,
        typer.Option(
            "--examples", help="Folder with a folder of images for each defect name; masks are used if there."
        ),
    ] = None,
    reviews: Annotated[
        Path | None,
        typer.Option("--reviews", help="Learn from named reviews: a data directory, or the YAML of a plant."),
    ] = None,
    release: Annotated[bool, typer.Option("--release/--no-release", help="Release the version for production.")] = True,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn names of defects from a few labelled examples of each, as a new recipe version with the same scores."""
    from pipelines.name import name_defects

    report = name_defects(
        name, resolve_data_dir(data_dir), examples_dir=examples, reviews=reviews, release=release
    ).to_json()
    answer(as_json, report, lambda console: show_values(console, f"recipe {report['recipe']}", report))


@app.command()
def release(name: NameArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Release a recipe version (NAME@3) for production; plain NAME releases the latest again."""
    from inspector.detector.recipe_store import RecipeStore

    recipes = RecipeStore(resolve_data_dir(data_dir))
    wanted = recipes.resolve(name)
    ref = recipes.release(wanted.name, wanted.version)
    value = {"recipe": ref.name, "version": ref.version, "sha256": ref.sha256, "released": True}
    answer(as_json, value, lambda console: console.print(f"{ref} is released"))


@app.command()
def evaluate(
    name: NameArgument,
    data: Annotated[
        Path, typer.Option("--data", help="Data set in the MVTec convention, or a template set.", show_default=False)
    ],
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a recipe on labelled images."""
    from pipelines.evaluate_template import evaluate_any

    report = evaluate_any(name, data, resolve_data_dir(data_dir)).to_json()
    answer(as_json, report, lambda console: show_values(console, f"{name} on {data}", report))


@app.command()
def inspect(
    name: NameArgument,
    images: Annotated[list[Path], typer.Argument(help="Image files.", show_default=False)],
    template: Annotated[
        Path | None,
        typer.Option("--template", help="Template recipes: the template of all images, or a folder of them by stem."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the visuals of parts that are not OK.")] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """One-off verdicts and visuals."""
    from inspector.detector.recipe_store import RecipeStore
    from pipelines.inspect_images import inspect_images
    from pipelines.inspect_pairs import inspect_pairs

    recipe = RecipeStore(resolve_data_dir(data_dir)).load(name, require_released=False)
    if recipe.mode == "template" or template is not None:
        verdicts = list(inspect_pairs(recipe, images, template, out))
    else:
        verdicts = list(inspect_images(recipe, images, out))

    def show(console: Console) -> None:
        table = Table("image", "verdict", "score", "regions", "reason", "visual")
        for item in verdicts:
            score = "" if item.verdict.score is None else f"{item.verdict.score:.3f}"
            table.add_row(
                str(item.image),
                item.verdict.kind.value,
                score,
                ", ".join([str(len(item.verdict.detections)), *item.names()]),
                "; ".join(item.verdict.reasons),
                str(item.visual or ""),
            )
        console.print(table)

    answer(as_json, {"recipe": str(recipe.ref), "inspections": [item.to_json() for item in verdicts]}, show)


@app.command()
def repair(
    name: NameArgument,
    image: Annotated[Path, typer.Argument(help="The image to repair.", show_default=False)],
    out: Annotated[Path, typer.Option("--out", help="File for the twin (PNG or JPEG).", show_default=False)],
    mask: Annotated[
        Path | None, typer.Option("--mask", help="White pixels are repaired; default: what the detector marks.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="auto, net, paste, texture, telea or ns.")] = "auto",
    exposure: Annotated[
        bool, typer.Option("--exposure", help="No twin: a well-lit alternative of an under-exposed frame.")
    ] = False,
    gain: Annotated[
        float | None,
        typer.Option("--gain", min=1.0, max=256.0, help="With --exposure: the missing light, where it is known."),
    ] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Paint the defect-free twin of a part, or light a dark frame of it."""
    from pipelines.repair import repair_image
    from pipelines.repair_exposure import check_exposure_options, relight_image

    check_exposure_options(mask, method, gain, exposure=exposure)
    where = resolve_data_dir(data_dir)
    if exposure:
        report = relight_image(name, image, out, where, gain).to_json()
    else:
        report = repair_image(name, image, mask, method, out, where).to_json()
    answer(as_json, report, lambda console: show_values(console, str(out), report))


@app.command()
def run(config: ConfigArgument, data_dir: DataDirOption = None, as_json: JsonOption = False) -> None:
    """Run the service: every station of the configuration, evidence and delivery, until SIGTERM or Ctrl-C."""
    from pipelines.supervise import Supervisor

    configure_logging(json_lines=True)
    plant = load_config(config)
    stop = _stop_on_signals()
    Supervisor(plant, config, resolve_data_dir(data_dir)).run(stop)
    answer(as_json, {"stopped": True}, lambda console: None)


@app.command()
def report(
    config: ConfigArgument,
    since: Annotated[
        str | None, typer.Option("--from", help="RFC 3339 time, for example 2026-11-01T06:00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 time.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write.")] = Path("report.html"),
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the HTML report of a period as one self-contained file."""
    from pipelines.report import write_report

    summary = write_report(
        load_config(config), resolve_data_dir(data_dir), out, parse_time(since), parse_time(until)
    ).to_json()
    answer(as_json, summary, lambda console: show_values(console, str(out), summary))


@app.command()
def review(
    inspection_id: Annotated[str, typer.Argument(help="Id of the inspection, as in its message.", show_default=False)],
    finding: Annotated[str, typer.Argument(help="What a person found: good or defect.", show_default=False)],
    by: Annotated[str | None, typer.Option("--by", help="Who found it; default the user of this machine.")] = None,
    note: Annotated[str | None, typer.Option("--note", help="A sentence for the record.")] = None,
    defect_name: Annotated[
        str | None,
        typer.Option("--name", "--defect-name", help="What the defect is called; `inspector name` learns it."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML of the plant, where its MQTT topic root is not inspector/v1.")
    ] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record what a person found about an inspected part; the verdict stays, the part's disposition follows."""
    from pipelines.review import review_inspection

    topic_root = load_config(config).mqtt.topic_root if config else None
    value = review_inspection(
        inspection_id,
        finding,
        resolve_data_dir(data_dir),
        reviewer=by,
        note=note,
        defect_name=defect_name,
        topic_root=topic_root,
    ).to_json()
    answer(as_json, value, lambda console: show_values(console, inspection_id, value))


@app.command()
def bench(
    size: Annotated[str, typer.Option("--size", help="Frame size, WIDTHxHEIGHT.")] = "3840x2160",
    seconds: Annotated[float, typer.Option("--seconds", min=1, max=3600, help="Length of each of the two loads.")] = 20,
    detections: Annotated[
        int, typer.Option("--detections", "--regions", min=0, max=60, help="Suspicious places painted on each frame.")
    ] = 8,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure throughput and latency on this machine: JPEG in memory to committed verdict."""
    from pipelines.bench import run_bench

    width, height = _parse_size(size)
    value = run_bench(width, height, seconds, detections, data_dir).to_json()
    answer(as_json, value, lambda console: show_values(console, "bench", value))


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for the report and the pictures.")] = Path("demo-out"),
    parts: Annotated[int, typer.Option("--parts", min=60, max=10_000, help="Parts to inspect.")] = 60,
    cloud: Annotated[
        bool, typer.Option("--cloud", help="Ask for second opinions, too: a simulated oracle on this machine.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """The whole line on this machine: camera, detector, database, MQTT, evidence, report."""
    from pipelines.demo import run_demo

    outcome = run_demo(out, parts, quiet=as_json, cloud=cloud)
    answer(as_json, outcome.to_json(), outcome.show)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, frame: stop.set())
    return stop


def _parse_size(text: str) -> tuple[int, int]:
    width, separator, height = text.partition("x")
    if not separator or not width.isdigit() or not height.isdigit() or not min(int(width), int(height)) >= 256:
        raise typer.BadParameter(f"{text!r} is not WIDTHxHEIGHT with at least 256 pixels each")
    return int(width), int(height)


if __name__ == "__main__":
    main()
