"""Configuration: what a wrong file is told, what a right one becomes, and that secrets stay out of sight."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from inspector.config import (
    FolderCamera,
    PartPresentTrigger,
    StreamCamera,
    config_schema,
    config_sha256,
    describe_resolved,
    load_config,
    read_secret,
    resolve_data_dir,
)
from inspector.errors import ConfigError
from inspector.yaml_source import make_core_schema_loader

GOOD = """\
site:
  id: plant1
  shifts:
    - {name: early, start: 06:00}
    - {name: late, start: 14:00}
lines:
  - id: line1
    stations:
      - id: final
        recipe: gearbox@3
        cameras:
          - id: top
            kind: folder
            path: incoming
            mm_per_px: 0.05
          - id: side
            kind: stream
            url: rtsp://camera/main
            password_env: SIDE_PASSWORD
            trigger:
              kind: part_present
              settle_frames: 3
mqtt:
  host: broker
  username_env: MQTT_USER
  password_env: MQTT_PASSWORD
"""


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "station.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refuse(folder: Path, text: str | bytes) -> str:
    """The message with which the file is refused, without the folder's name."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value).replace(f"{folder}/", "")


def refuse_change(folder: Path, old: str, new: str) -> str:
    """The message after one change of the good file."""
    assert GOOD.count(old) == 1, f"{old!r} must stand once in the good file"
    return refuse(folder, GOOD.replace(old, new))


# --- a right file -----------------------------------------------------------------------------------


def test_good_file(tmp_path: Path) -> None:
    """A right file becomes frozen sections with defaults; relative paths start at the file."""
    config = load_config(write(tmp_path, GOOD))
    station = config.stations()["plant1/line1/final"]
    folder, stream = station.cameras
    assert isinstance(folder, FolderCamera) and folder.path == tmp_path / "incoming"
    assert isinstance(stream, StreamCamera) and isinstance(stream.trigger, PartPresentTrigger)
    assert (stream.trigger.settle_frames, stream.backpressure, folder.backpressure) == (3, "newest", "block")
    assert [shift.start.isoformat() for shift in config.site.shifts] == ["06:00:00", "14:00:00"]
    with pytest.raises(ValueError, match="frozen"):
        station.workers = 3


def test_tls_paths_start_at_the_file(tmp_path: Path) -> None:
    """TLS files are found relative to the configuration file; absolute paths stay."""
    text = GOOD + "  tls: {ca_file: certs/ca.pem, cert_file: /etc/own.pem, key_file: /etc/own.key}\n"
    tls = load_config(write(tmp_path, text)).mqtt.tls
    assert tls is not None
    assert (tls.ca_file, tls.cert_file) == (tmp_path / "certs/ca.pem", Path("/etc/own.pem"))


def test_empty_tls_section_means_tls(tmp_path: Path) -> None:
    """`tls: {}` turns TLS on with the system's authorities; without the key there is none."""
    assert load_config(write(tmp_path, GOOD + "  tls: {}\n")).mqtt.tls is not None
    assert load_config(write(tmp_path, GOOD)).mqtt.tls is None


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("no", "no"),
        ("on", "on"),
        ("yes", "yes"),
        ("2026-05-01", "2026-05-01"),
        ("2026-13-45", "2026-13-45"),
        ("010", "010"),
        ("14:00", "14:00"),
        ("1_000", "1_000"),
        ("10", 10),
        ("-3", -3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("~", None),
        ("", None),
        ("0x10", "0x10"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written: str, read: Any) -> None:
    """Scalars mean what editors show, not what YAML 1.1 makes of them (14:00 is not 840, no is not false)."""
    found = yaml.load(f"key: {written}", Loader=make_core_schema_loader())["key"]
    assert found == read and type(found) is type(read)


# --- unknown keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  id: plant1", "  id: plant1\n  timezon: UTC",
         "station.yaml:3: site.timezon: unknown key; did you mean timezone?"),
        ("    - {name: late, start: 14:00}", "    - {name: late, star: 14:00, start: 14:00}",
         "station.yaml:5: site.shifts.1.star: unknown key; did you mean start?"),
        ("        recipe:", "        receipe: x\n        recipe:",
         "station.yaml:10: lines.0.stations.0.receipe: unknown key; did you mean recipe?"),
        ("            mm_per_px", "            mm_pr_px: 1\n            mm_per_px",
         "station.yaml:15: lines.0.stations.0.cameras.0.mm_pr_px: unknown key; did you mean mm_per_px?"),
        ("            mm_per_px", "            folder: x\n            mm_per_px",
         "station.yaml:15: lines.0.stations.0.cameras.0.folder: unknown key"),
        ("              settle_frames", "              setle_frames: 1\n              settle_frames",
         "station.yaml:22: lines.0.stations.0.cameras.1.trigger.setle_frames: unknown key; "
         "did you mean settle_frames?"),
        ("  host: broker", "  hots: broker", "station.yaml:24: mqtt.hots: unknown key; did you mean host?"),
        ("mqtt:", "mqqt:", "station.yaml:23: mqqt: unknown key; did you mean mqtt?"),
    ],
)  # fmt: skip
def test_unknown_key_names_file_line_key_and_nearest(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """At every depth an unknown key is named with file, line, its place and the nearest valid key."""
    assert expected in refuse_change(tmp_path, old, new).splitlines()[0]


def test_unknown_key_inside_an_optional_section(tmp_path: Path) -> None:
    """The nearest key is known inside sections that may be null, too."""
    message = refuse(tmp_path, GOOD + "  tls: {ca_fil: x}\n")
    assert message == "station.yaml:27: mqtt.tls.ca_fil: unknown key; did you mean ca_file?"


def test_key_near_nothing_lists_the_valid_ones(tmp_path: Path) -> None:
    """A key that resembles none gets the list of those that are valid there."""
    message = refuse_change(tmp_path, "  id: plant1", "  id: plant1\n  qqq: 1")
    assert "valid here: id, name, shifts, timezone" in message


def test_every_problem_is_listed_in_file_order(tmp_path: Path) -> None:
    """All problems of a file come at once, by line, and none is a mere consequence of another."""
    text = GOOD.replace("mm_per_px: 0.05", "mm_per_px: -1").replace("id: plant1", "id: Plant 1") + "  port: 0\n"
    lines = refuse(tmp_path, text).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["station.yaml:2", "site.id"],
        ["station.yaml:15", "lines.0.stations.0.cameras.0.mm_per_px"],
        ["station.yaml:27", "mqtt.port"],
    ]


@settings(max_examples=60, deadline=None)
@given(key=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=40))
def test_any_key_gets_an_answer(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    """Whatever stands in place of a key, the answer is a `ConfigError` that names the line."""
    text = GOOD.replace(
        "            mm_per_px", f"            {json.dumps(key, ensure_ascii=False)}: 1\n            mm_per_px"
    )
    message = refuse(tmp_path_factory.mktemp("key"), text)
    assert re.match(r"station\.yaml:1[56]: ", message)


# --- wrong types and impossible values --------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  host: broker", '  host: broker\n  port: "1883"',
         "mqtt.port: Input should be a valid integer (found '1883')"),
        ("  host: broker", "  host: broker\n  port: true", "mqtt.port: Input should be a valid integer (found True)"),
        ("  host: broker", "  host: broker\n  port: 18.5", "mqtt.port: Input should be a valid integer"),
        ("mm_per_px: 0.05", "mm_per_px: yes", "mm_per_px: Input should be a valid number (found 'yes')"),
        ("mm_per_px: 0.05", "mm_per_px: 010", "mm_per_px: Input should be a valid number (found '010')"),
        ("  id: plant1", "  id: 7", "site.id: Input should be a valid string (found 7)"),
        ("            path: incoming", "            path: [a]", "path: Input should be a valid string (found ['a'])"),
        ("start: 14:00", "start: 1400", "site.shifts.1.start: Input should be a valid time (found 1400)"),
        ("start: 14:00", "start: 25:00", "site.shifts.1.start"),
    ],
)  # fmt: skip
def test_wrong_type(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """A value of another type is refused, not bent into shape; the message shows what was found."""
    assert expected in refuse_change(tmp_path, old, new)


def test_list_where_a_section_belongs(tmp_path: Path) -> None:
    """A list in place of a section is named with its line."""
    assert refuse(tmp_path, "site: [1]\nlines: {}\n").splitlines()[0].startswith("station.yaml:1: site: ")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("mm_per_px: 0.05", "mm_per_px: 0", "greater than 0 (found 0)"),
        ("mm_per_px: 0.05", "mm_per_px: .nan", "mm_per_px"),
        ("mm_per_px: 0.05", "mm_per_px: .inf", "mm_per_px"),
        ("mm_per_px: 0.05", "bit_depth: 8", "bit_depth: Input should be greater than or equal to 9 (found 8)"),
        ("mm_per_px: 0.05", "width_px: 100000", "width_px"),
        ("recipe: gearbox@3", "recipe: gearbox@0", "recipe"),
        ("recipe: gearbox@3", "recipe: gearbox@3\n        deadline_ms: -1", "deadline_ms"),
        ("  id: plant1", "  id: Plant_1", "site.id"),
        ("  id: plant1", "  id: plant1\n  timezone: Mars/Olympus", "unknown time zone 'Mars/Olympus'"),
        ("  id: plant1", "  id: plant1\n  timezone: ../../etc/passwd", "unknown time zone"),
        ("start: 14:00", "start: 06:00", "shift start '06:00:00' appears twice"),
        ("start: 14:00", "start: 14:00:00Z", "a shift begins at local time"),
        ("name: late", "name: early", "shift 'early' appears twice"),
        ("          - id: side", "          - id: top", "camera 'top' appears twice"),
        ("  host: broker", "  host: broker\n  port: 65536", "less than or equal to 65535 (found 65536)"),
        ("  host: broker", "  host: broker\n  topic_root: a/+/b", "mqtt.topic_root"),
        ("  host: broker", "  host: broker\n  topic_root: '#'", "mqtt.topic_root"),
        ("  host: broker", "  host: broker\n  tls: {cert_file: a.pem}", "cert_file and key_file need each other"),
        ("  username_env: MQTT_USER\n", "", "password_env needs username_env"),
        ("            mm_per_px", "            name_pattern: '(?P<id>.+)'\n            mm_per_px", "named groups"),
        ("            mm_per_px", "            name_pattern: '(?P<part_id>'\n            mm_per_px",
         "not a regular expression"),
        ("            kind: folder", "            kind: foldr",
         "station.yaml:13: lines.0.stations.0.cameras.0.kind: 'foldr' is none of folder, simulated, stream; "
         "did you mean folder?"),
        ("            kind: folder\n", "", "the key kind is required, one of folder, simulated, stream"),
        ("              kind: part_present\n", "", "the key kind is required, one of "),
        ("            path: incoming\n", "", "lines.0.stations.0.cameras.0.path: this key is required"),
    ],
)  # fmt: skip
def test_impossible_value(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """A value that cannot be meant is refused with the reason."""
    message = refuse_change(tmp_path, old, new)
    assert expected in message
    assert re.match(r"station\.yaml:\d+: ", message)


@pytest.mark.parametrize("section", ["site", "lines"])
def test_missing_section(tmp_path: Path, section: str) -> None:
    """The sections without which there is nothing to inspect are required."""
    text = "site: {id: a}\n" if section == "lines" else "lines: []\n"
    assert f": {section}: this key is required" in refuse(tmp_path, text)


def test_stations_and_lines_are_unique(tmp_path: Path) -> None:
    """Two stations of one line, and two lines of one plant, cannot share a name."""
    station = "{id: a, recipe: r, cameras: [{id: c, kind: simulated}]}"
    twice = refuse(tmp_path, f"site: {{id: p}}\nlines:\n  - {{id: l, stations: [{station}, {station}]}}\n")
    assert twice == "station.yaml:3: lines.0: station 'a' appears twice"
    lines = f"site: {{id: p}}\nlines: [{{id: l, stations: [{station}]}}, {{id: l, stations: [{station}]}}]\n"
    assert "line 'l' appears twice" in refuse(tmp_path, lines)


# --- files that are no configuration ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "station.yaml:1: expected keys such as site and lines, found an empty file"),
        (b"# only a comment\n", "found an empty file"),
        (b"- site\n- lines\n", "station.yaml:1: expected keys such as site and lines, found a list"),
        (b"hello", "found a str"),
        (b"site:\n\tid: a\n", "station.yaml:2: not valid YAML: found character '\\t' that cannot start any token; "
         "indent with spaces"),
        (b"site: {id: a\n", "not valid YAML"),
        (b"site: {id: a}\n---\nlines: []\n", "not valid YAML: but found another document"),
        (b"site: {id: \xff\xfe}\n", "not UTF-8 at byte 11"),
        ("site: {id: ä}\n".encode("latin-1"), "not UTF-8 at byte 11"),
        (b"\x00\x01\x02", "not valid YAML"),
        (b"site: {id: a}\nsite: {id: b}\n", "station.yaml:2: site: this key appears twice"),
        (b"site:\n  id: a\n  name: x\n  id: b\n", "station.yaml:4: site.id: this key appears twice"),
        (b"lines:\n  - id: a\n    id: b\n", "station.yaml:3: lines.0.id: this key appears twice"),
        (b"site: &s {id: a}\nlines: *s\n", "station.yaml:1: lines: YAML aliases are not supported"),
        (b"site: &s [*s]\n", "YAML aliases are not supported"),
        (b"site: !!python/object/apply:os.system ['true']\n", "not valid YAML: could not determine a constructor"),
        (b"? [a, b]\n: 1\n", "station.yaml:1: not valid YAML"),
        (b"site: " + b"9" * 5000 + b"\n", "not valid YAML"),
        (b"[" * 100_000, "nested too deeply"),
        (b"x" * 1_000_001, "more than 1000000 bytes: not a configuration"),
        (b'site: {id: "\\ud800"}\n', "station.yaml:1"),
    ],
)  # fmt: skip
def test_not_a_configuration(tmp_path: Path, content: bytes, expected: str) -> None:
    """Empty, huge, binary, tabbed, doubled, recursive: each is refused in one sentence."""
    assert expected in refuse(tmp_path, content)


def test_unreadable_file(tmp_path: Path) -> None:
    """A file that is not there, and a folder in its place, are named."""
    for path, reason in ((tmp_path / "absent.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError, match=reason) as caught:
            load_config(path)
        assert str(path) in str(caught.value)


def test_billion_laughs_cost_nothing(tmp_path: Path) -> None:
    """Aliases that would expand to 10^9 items are refused before anything is expanded."""
    levels = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    assert "aliases are not supported" in refuse(tmp_path, "\n".join(levels))


# --- secrets ----------------------------------------------------------------------------------------


def test_resolved_configuration_masks_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `inspector check` prints says whether each variable is set, never what it holds."""
    monkeypatch.setenv("MQTT_PASSWORD", "hunter2-secret")
    monkeypatch.delenv("SIDE_PASSWORD", raising=False)
    resolved = describe_resolved(load_config(write(tmp_path, GOOD)))
    shown = json.dumps(resolved)
    assert "hunter2-secret" not in shown
    assert resolved["mqtt"]["password_env"] == "$MQTT_PASSWORD (set)"
    assert "$SIDE_PASSWORD (NOT SET)" in shown


@pytest.mark.parametrize(
    "line",
    [
        "password_env: hunter2-secret",
        "username_env: hunter2-secret",
        "password: hunter2-secret",
        "url: rtsp://admin:hunter2-secret@camera/main",
        "url: RTSP://admin:hunter2-secret@camera/main",
        "url: rtsp://admin:hunter2-secret/x@camera/main",
        "url: http://camera/video?user=admin&pwd=hunter2-secret",
        "url: [hunter2-secret]",
        f"url: http://admin:hunter2-secret@camera/{'x' * 2000}",
    ],
)
def test_misplaced_secret_is_refused_and_not_repeated(tmp_path: Path, line: str) -> None:
    """A secret that stands in the file by mistake is refused, and the message does not spread it."""
    text = GOOD.replace("            password_env: SIDE_PASSWORD\n", "")
    if line.startswith("url"):
        text = text.replace("            url: rtsp://camera/main\n", f"            {line}\n")
    else:
        text = text.replace("            url: ", f"            {line}\n            url: ")
    message = refuse(tmp_path, text)
    assert "cameras.1" in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "url",
    ["rtsp://10.0.0.2:554/a@b", "http://cam/mjpg?channel=1", "/dev/video0", "clips/line 1.mp4", "rtsp://[::1]:8554/x"],
)
def test_addresses_without_secrets_are_accepted(tmp_path: Path, url: str) -> None:
    """An address is not mistaken for one with credentials."""
    load_config(write(tmp_path, GOOD.replace("rtsp://camera/main", url)))


def test_secret_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is looked up by name; a missing or empty variable is an error that names it."""
    monkeypatch.setenv("PLANT_SECRET", "s3cret")
    assert (read_secret("PLANT_SECRET"), read_secret(None)) == ("s3cret", None)
    for empty in (True, False):
        if empty:
            monkeypatch.setenv("PLANT_SECRET", "")
        else:
            monkeypatch.delenv("PLANT_SECRET")
        with pytest.raises(ConfigError, match="PLANT_SECRET is not set"):
            read_secret("PLANT_SECRET")


def test_data_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The data directory is the option, else the environment, else ./inspector-data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INSPECTOR_DATA_DIR", raising=False)
    assert resolve_data_dir(None) == tmp_path / "inspector-data"
    monkeypatch.setenv("INSPECTOR_DATA_DIR", str(tmp_path / "from-environment"))
    assert resolve_data_dir(None) == tmp_path / "from-environment"
    assert resolve_data_dir(tmp_path / "option") == tmp_path / "option"


# --- hash and environment ----------------------------------------------------------------------------


def test_hash_follows_meaning(tmp_path: Path) -> None:
    """Comments and order leave the hash alone; a changed value, or a default written differently, tells."""
    first = config_sha256(load_config(write(tmp_path, GOOD)))
    assert config_sha256(load_config(write(tmp_path, "# a comment\n" + GOOD + "  port: 1883\n"))) == first
    assert config_sha256(load_config(write(tmp_path, GOOD + "  port: 1884\n"))) != first


def test_reading_does_not_touch_the_environment(tmp_path: Path) -> None:
    """Loading a configuration needs none of its secrets: `inspector check` works on any machine."""
    assert "MQTT_PASSWORD" not in os.environ
    assert load_config(write(tmp_path, GOOD)).mqtt.password_env == "MQTT_PASSWORD"


def test_schema_agrees_with_the_loader(tmp_path: Path) -> None:
    """The JSON Schema for editors accepts the good file and refuses what the loader refuses."""
    validator = Draft202012Validator(config_schema())
    Draft202012Validator.check_schema(config_schema())
    loader = make_core_schema_loader()
    assert list(validator.iter_errors(yaml.load(GOOD, Loader=loader))) == []
    for old, new in (
        ("mqtt:", "mqqt:"),
        ("mm_per_px: 0.05", "mm_per_px: 0"),
        ("start: 14:00", "start: 1400"),
        ("            kind: folder\n", ""),
        ("            path: incoming\n", ""),
    ):
        changed = GOOD.replace(old, new)
        refuse(tmp_path, changed)
        assert list(validator.iter_errors(yaml.load(changed, Loader=loader))) != [], new
