"""A YAML file that still knows on which line each key stands, so that problems can name it.

Scalars follow the core schema of YAML 1.2, as editors do: `14:00` is text (YAML 1.1 reads 840), `no`
is text (1.1 reads false), `010` is text (1.1 reads 8). Aliases are refused: they are the one way in
which a small file becomes a huge one.
"""

from __future__ import annotations

import difflib
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import ErrorDetails

from inspector.errors import ConfigError

MAX_FILE_BYTES = 1_000_000
MAX_SHOWN_CHARACTERS = 60
CORE_SCALARS = (
    ("null", r"^(?:~|null|Null|NULL|)$", ("~", "n", "N", "")),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?(?:0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", "-+."),
)
"""Tag, form and first characters of the scalars that are not text."""

Key = str | int


@dataclass(frozen=True, slots=True)
class YamlSource:
    """`values` is what the file says, `root` the same as nodes with line marks."""

    path: Path
    root: yaml.MappingNode
    values: dict[str, Any]


def make_core_schema_loader() -> type[yaml.SafeLoader]:
    """A safe loader that recognises only the scalars of YAML 1.2's core schema."""

    class CoreSchemaLoader(yaml.SafeLoader):
        yaml_implicit_resolvers = {}

    for tag, pattern, first_characters in CORE_SCALARS:
        CoreSchemaLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), list(first_characters))
    return CoreSchemaLoader


def read_yaml(path: Path, expected: str = "site and lines") -> YamlSource:
    """Read one mapping; `ConfigError` names file and line of bad YAML, a key that appears twice, an alias.

    `expected` names keys that such a file has.
    """
    text = _read_text(path)
    loader = make_core_schema_loader()
    try:
        root = yaml.compose(text, Loader=loader)
        values = yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        problem = getattr(error, "problem", None) or str(error)
        hint = "; indent with spaces" if "'\\t'" in problem else ""
        raise ConfigError(f"{where}: not valid YAML: {problem}{hint}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply to be a configuration") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(root, yaml.MappingNode) or not isinstance(values, dict):
        found = "an empty file" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{path}:1: expected keys such as {expected}, found {found}")
    _refuse_aliases_and_duplicates(path, root)
    return YamlSource(path=path, root=root, values=values)


def describe_problems(source: YamlSource, problems: Sequence[ErrorDetails], schema: dict[str, Any]) -> list[str]:
    """One line for each problem: `file:line: key: reason`, in the order of the file's lines.

    `schema` is the JSON Schema of the model that found the problems; it knows the valid keys.
    """
    described = [_describe_problem(source, problem, schema) for problem in problems if not _is_consequence(problem)]
    return [f"{source.path}:{line}: {reason}" for line, reason in sorted(described, key=lambda item: item[0])]


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: more than {MAX_FILE_BYTES} bytes: not a configuration")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}") from error


def _refuse_aliases_and_duplicates(path: Path, root: yaml.Node) -> None:
    waiting: deque[tuple[str, yaml.Node]] = deque([("", root)])
    visited: set[int] = set()
    while waiting:
        prefix, node = waiting.popleft()
        if id(node) in visited:
            line = node.start_mark.line + 1
            raise ConfigError(f"{path}:{line}: {prefix}: YAML aliases are not supported; write the value out")
        visited.add(id(node))
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, value in node.value:
                dotted = f"{prefix}.{key.value}".lstrip(".")
                if str(key.value) in seen:
                    raise ConfigError(f"{path}:{key.start_mark.line + 1}: {dotted}: this key appears twice")
                seen.add(str(key.value))
                waiting.append((dotted, value))
        elif isinstance(node, yaml.SequenceNode):
            waiting.extend((f"{prefix}.{position}", item) for position, item in enumerate(node.value))


def _is_consequence(problem: ErrorDetails) -> bool:
    """A list whose bad items were dropped is reported as too short as well; only the items are to blame."""
    return problem["type"] == "too_short" and len(problem["input"]) >= problem.get("ctx", {})["min_length"]


def _describe_problem(source: YamlSource, problem: ErrorDetails, schema: dict[str, Any]) -> tuple[int, str]:
    kind = problem["type"]
    location = problem["loc"]
    if kind == "union_tag_invalid":
        location = (*location, problem["ctx"]["discriminator"].strip("'"))
    keys, valid = _follow_location(schema, location, last_is_a_key=kind == "extra_forbidden")
    reason = problem["msg"].removeprefix("Value error, ")
    if kind == "extra_forbidden":
        reason = "unknown key" + _nearest_hint(str(keys[-1]), valid)
    elif kind == "missing":
        reason = "this key is required"
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        reason = _describe_tag(problem, schema)
    elif kind != "value_error" and not _may_be_secret(keys):
        reason = f"{reason} (found {_shorten(problem['input'])})"
    return _find_line(source.root, keys), f"{'.'.join(str(key) for key in keys) or '(file)'}: {reason}"


def _describe_tag(problem: ErrorDetails, schema: dict[str, Any]) -> str:
    key = problem["ctx"]["discriminator"].strip("'")
    tags = list(_resolve(schema, _node_at(schema, problem["loc"])).get("discriminator", {}).get("mapping", {}))
    if problem["type"] == "union_tag_not_found":
        return f"the key {key} is required, one of {', '.join(tags)}"
    return f"{problem['ctx']['tag']!r} is none of {', '.join(tags)}{_nearest_hint(problem['ctx']['tag'], tags, '')}"


def _may_be_secret(keys: list[Key]) -> bool:
    """A value that somebody may have put there instead of its variable's name, or a URL with a password."""
    return not keys or str(keys[-1]).endswith("_env") or keys[-1] == "url"


def _follow_location(
    schema: dict[str, Any], location: tuple[Key, ...], *, last_is_a_key: bool
) -> tuple[list[Key], list[str]]:
    """The location without union tags, and the keys that are valid beside its last one."""
    keys: list[Key] = []
    here = _resolve(schema, schema)
    valid: list[str] = []
    for position, part in enumerate(location):
        forced = last_is_a_key and position == len(location) - 1
        if part in here.get("discriminator", {}).get("mapping", {}) and not forced:
            here = _step(schema, here, part)
            continue
        keys.append(part)
        valid = list(here.get("properties", {}))
        here = _step(schema, here, part)
    return keys, valid


def _node_at(schema: dict[str, Any], location: tuple[Key, ...]) -> dict[str, Any]:
    here = _resolve(schema, schema)
    for part in location:
        here = _step(schema, here, part)
    return here


def _step(schema: dict[str, Any], here: dict[str, Any], part: Key) -> dict[str, Any]:
    """One step down the JSON Schema: into a list, a union's branch or a key."""
    branches = here.get("discriminator", {}).get("mapping", {})
    if isinstance(part, int):
        return _resolve(schema, here.get("items", {}))
    if part in branches:
        return _resolve(schema, {"$ref": branches[part]})
    return _resolve(schema, here.get("properties", {}).get(part, {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Follow references; of a choice between a section and null, the section."""
    if "$ref" in node:
        return _resolve(schema, schema["$defs"][node["$ref"].rsplit("/", 1)[1]])
    for choice in node.get("anyOf", []):
        if "$ref" in choice:
            return _resolve(schema, choice)
    return node


def _find_line(root: yaml.Node, keys: list[Key]) -> int:
    """Line of the deepest part of the location that stands in the file."""
    node, line = root, root.start_mark.line + 1
    for key in keys:
        found = _descend(node, key)
        if found is None:
            break
        node, line = found
    return line


def _descend(node: yaml.Node, key: Key) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if str(name.value) == str(key):
                return value, name.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key], node.value[key].start_mark.line + 1
    return None


def _nearest_hint(key: str, valid: list[str], otherwise: str | None = None) -> str:
    near = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"
    if otherwise is not None:
        return otherwise
    return f"; valid here: {', '.join(sorted(valid))}" if valid else ""


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"
