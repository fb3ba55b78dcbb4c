"""`inspector cloud`: second opinions of cloud models, what left, what it cost, what it would cost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inspector.config import load_config, resolve_data_dir
from pipelines.command_options import (
    ConfigArgument,
    DataDirOption,
    JsonOption,
    answer,
    parse_time,
    plain_text,
    show_values,
)

cloud_app = typer.Typer(help="Second opinions of cloud models: what left, what it cost, what it would cost.")


@cloud_app.command("audit")
def cloud_audit(
    station: Annotated[str | None, typer.Option("--station", help="Only what this station sent: SITE/LINE/ID.")] = None,
    last: Annotated[int, typer.Option("--last", min=0, max=100_000, help="Rows to list, the newest.")] = 20,
    export: Annotated[
        Path | None, typer.Option("--export", help="New folder for every row, every question and every picture.")
    ] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the log of what left the plant, list it, export it."""
    from pipelines.cloud_audit import audit_cloud

    value = audit_cloud(resolve_data_dir(data_dir), station=station, last=last, export=export).to_json()
    entries = value["entries"]

    def show(console: Console) -> None:
        table = Table("row", "sent", "station", "why", "to", "pictures", "bytes", "SHA-256")
        for entry in entries:
            columns = ("position", "recorded_utc", "station", "reason", "destination", "images", "payload_bytes")
            table.add_row(*(str(entry[name]) for name in columns), entry["payload_sha256"][:16])
        console.print(table)
        show_values(console, "log of what left", {name: item for name, item in value.items() if name != "entries"})

    answer(as_json, value, show)


@cloud_app.command("report")
def cloud_report(
    config: ConfigArgument,
    since: Annotated[str | None, typer.Option("--from", help="RFC 3339 time.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="RFC 3339 time.")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="HTML page with the pictures that were sent.")] = None,
    data_dir: DataDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the edge handled, where the cloud agrees, and what it cost."""
    from pipelines.cloud_report import report_cloud

    value = report_cloud(
        load_config(config), resolve_data_dir(data_dir), since=parse_time(since), until=parse_time(until), out=out
    ).to_json()
    answer(as_json, value, lambda console: show_values(console, "cloud", value))


@cloud_app.command("simulate")
def cloud_simulate(
    config: ConfigArgument,
    inspections: Annotated[
        Path, typer.Option("--inspections", help="Data directory, or inspector.db, of recorded parts.")
    ],
    as_json: JsonOption = False,
) -> None:
    """What each policy would have asked, cost, missed and stopped wrongly on recorded inspections."""
    from pipelines.cloud_simulate import simulate_recorded

    value = simulate_recorded(load_config(config), inspections).to_json()

    def show(console: Console) -> None:
        for cloud in value["clouds"]:
            heads = ("policy", "questions", "reused", "bytes", value["currency"], "missed", "overkill")
            table = Table(*heads, title=f"Cloud: {cloud['cloud']}", title_justify="left")
            for item in cloud["policies"]:
                names = ("policy", "calls", "reused", "bytes", "money", "missed", "overkill")
                table.add_row(*(plain_text(item[name]) for name in names))
            console.print(table)
        for sentence in value["assumptions"]:
            console.print(sentence)

    answer(as_json, value, show)
