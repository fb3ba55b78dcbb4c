"""Write README.md's file map from the first sentence of every module: new lines appear, lines of gone files vanish.

python tools/write_file_map.py
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINE = re.compile(r"^- `([\w./-]+)` — .*$")
FEWEST_LINES_OF_INIT = 4


def describe(path: Path) -> str:
    """The first sentence of a module's docstring, without its full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or path.stem
    paragraph = " ".join(docstring.split("\n\n")[0].split())
    sentence = re.split(r"(?<=[.?!])\s", paragraph)[0]
    return sentence.removesuffix(".")


def modules_below(folder: str) -> list[str]:
    """Python files of a top folder that the map names, sorted."""
    found = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        short = len(path.read_text(encoding="utf-8").splitlines()) < FEWEST_LINES_OF_INIT
        if "versions" not in path.parts and not (path.name == "__init__.py" and short):
            found.append(str(path.relative_to(ROOT)))
    return found


def rewrite_section(lines: list[str]) -> list[str]:
    """The lines below one heading: Python files of their folder are listed anew, other lines stay where they are."""
    folders = {Path(match[1]).parts[0] for line in lines if (match := LINE.match(line)) and match[1].endswith(".py")}
    if not folders:
        return lines
    first = next(index for index, line in enumerate(lines) if LINE.match(line))
    kept = [line for line in lines if not ((match := LINE.match(line)) and match[1].endswith(".py"))]
    entries = [line for line in kept if LINE.match(line)]
    entries += [f"- `{name}` — {describe(ROOT / name)}" for folder in folders for name in modules_below(folder)]
    rest = [line for line in kept if not LINE.match(line)]
    return rest[:first] + sorted(entries) + rest[first:]


def main() -> None:
    """Rewrite the section in place."""
    path = ROOT / "README.md"
    before, heading, after = path.read_text(encoding="utf-8").partition("## File map\n")
    section, end, rest = after.partition("\n## ")
    blocks = re.split(r"(?m)^(?=### )", section)
    written = "".join("\n".join(rewrite_section(block.split("\n"))) for block in blocks)
    path.write_text(before + heading + written + end + rest, encoding="utf-8")


if __name__ == "__main__":
    main()
