"""Write docs/commands.md from the command line's own definitions.

python tools/write_command_reference.py [FOLDER]
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer.main
from typer.core import TyperArgument, TyperGroup, TyperOption

from pipelines.command_line import app

INTRODUCTION = """\
# Command reference

Generated from the command line by `make schema`; a test holds it against the code. Every command takes
`--json`: one JSON object on stdout, logs on stderr. The exit status is 0, or 1 with one sentence that says
what was wrong, where and what to do, or 2 for a command line that makes no sense.
"""


def write_reference(root: Path) -> None:
    """Write the page below `root`."""
    page = root / "docs" / "commands.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    group = typer.main.get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError(f"the command line is a {type(group).__name__}, not a group of commands")
    page.write_text(INTRODUCTION + "\n" + "\n".join(_render_group(group, "inspector")), encoding="utf-8")


def _render_group(group: TyperGroup, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _render_group(command, f"{prefix} {name}")
            continue
        arguments = [item for item in command.params if isinstance(item, TyperArgument)]
        options = [item for item in command.params if isinstance(item, TyperOption) and item.name != "help"]
        usage = " ".join([*(_argument_name(item) for item in arguments), "[OPTIONS]"])
        yield f"## {prefix} {name}\n\n{command.help}\n\n    {prefix} {name} {usage}\n"
        yield "| argument or option | meaning | default |\n|---|---|---|"
        for argument in arguments:
            yield f"| `{_argument_name(argument)}` | {argument.help} | {_describe_default(argument)} |"
        for option in options:
            names = ", ".join(f"`{text}`" for text in [*option.opts, *option.secondary_opts])
            yield f"| {names} | {option.help} | {_describe_default(option)} |"
        yield ""


def _argument_name(argument: TyperArgument) -> str:
    name = (argument.name or "").upper()
    return f"{name}..." if argument.nargs == -1 else name


def _describe_default(parameter: TyperArgument | TyperOption) -> str:
    if parameter.required:
        return "required"
    if parameter.default in (None, False):
        return ""
    if parameter.default is True and isinstance(parameter, TyperOption):
        return f"`{parameter.opts[0]}`"
    return f"`{parameter.default}`"


if __name__ == "__main__":
    write_reference(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
