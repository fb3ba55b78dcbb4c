"""The command line: one JSON object a command, one sentence an error."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml

from inspector import __version__
from inspector.images import encode_jpeg
from pipelines.logs import configure_logging
from tests.small_line import call_inspector, draw_part, folder_camera, jpeg_part, small_plant


@pytest.fixture(scope="module")
def taught(taught_plate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(taught_plate, tmp_path_factory.mktemp("taught") / "plate")


def as_json(*arguments: object) -> dict[str, Any]:
    """The one object that a command prints with --json; anything else on stdout fails the test."""
    done = call_inspector(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    value = json.loads(done.stdout)
    assert isinstance(value, dict)
    return value


def test_version() -> None:
    """`inspector version` prints the package's version."""
    assert as_json("version") == {"version": __version__}
    assert call_inspector("version").stdout.strip() == __version__


def test_fit_then_inspect_then_repair(taught: Path, tmp_path: Path) -> None:
    """A recipe is learned, a bad part is NG with a visual, its twin is written; each answer has the contract's keys."""
    data_dir = tmp_path / "data"
    fitted = as_json("fit", "plate", "--good", taught / "good", "--data-dir", data_dir)
    assert fitted.keys() >= {
        "recipe",
        "version",
        "images",
        "fit_s",
        "mode",
        "review_threshold",
        "ng_threshold",
        "false_alarm_target",
        "false_alarm_interval",
        "choices",
    }
    assert (fitted["recipe"], fitted["version"], fitted["images"]) == ("plate", 1, 12)
    good, bad = tmp_path / "good.jpg", tmp_path / "bad.jpg"
    good.write_bytes(jpeg_part(1))
    bad.write_bytes(jpeg_part(2, defect=True))
    answer = as_json(
        "inspect", "plate", good, bad, tmp_path / "gone.jpg", "--out", tmp_path / "out", "--data-dir", data_dir
    )
    verdicts = [item["verdict"] for item in answer["inspections"]]
    assert verdicts == ["OK", "NG", "NOT_INSPECTED"]
    assert Path(answer["inspections"][1]["visual"]).stat().st_size > 10_000
    repaired = as_json("repair", "plate", bad, "--out", tmp_path / "twin.png", "--data-dir", data_dir)
    assert repaired.keys() >= {"method", "seconds", "regions", "generated"}
    assert (tmp_path / "twin.png").exists()


def test_versions_are_released_explicitly(taught: Path, tmp_path: Path) -> None:
    """An unreleased version is not what NAME means; `release` makes it so."""
    data_dir = tmp_path / "data"
    shutil.copytree(taught / "data", data_dir)
    as_json("fit", "plate", "--good", taught / "good", "--no-release", "--data-dir", data_dir)
    image = tmp_path / "a.jpg"
    image.write_bytes(jpeg_part(1))
    assert as_json("inspect", "plate", image, "--data-dir", data_dir)["recipe"] == "plate@1"
    assert as_json("inspect", "plate@2", image, "--data-dir", data_dir)["recipe"] == "plate@2"
    assert as_json("release", "plate@2", "--data-dir", data_dir)["released"] is True
    assert as_json("inspect", "plate", image, "--data-dir", data_dir)["recipe"] == "plate@2"


def test_calibrate_from_fresh_photographs(taught: Path, tmp_path: Path) -> None:
    """`calibrate` answers with old and new thresholds, what they rest on, and the version it released."""
    data_dir, fresh = tmp_path / "data", tmp_path / "fresh"
    shutil.copytree(taught / "data", data_dir)
    fresh.mkdir()
    for number in range(24):
        (fresh / f"{number}.jpg").write_bytes(jpeg_part(3000 + number))
    answer = as_json("calibrate", "plate", "--good", fresh, "--target", "0.08", "--data-dir", data_dir)
    assert list(answer) == [
        "recipe",
        "version",
        "from_version",
        "images",
        "from_database",
        "from_folder",
        "review_threshold",
        "ng_threshold",
        "previous_review_threshold",
        "previous_ng_threshold",
        "false_alarm_target",
        "false_alarm_interval",
        "ng_false_alarm_interval",
        "promise",
        "odd",
        "confirmed_defects",
        "defects_passed",
        "released",
        "notes",
    ]
    assert (answer["version"], answer["from_version"], answer["images"]) == (2, 1, 24)
    assert answer["released"] is True and answer["false_alarm_target"] == 0.08
    kept = as_json("calibrate", "plate@2", "--good", fresh, "--no-release", "--data-dir", data_dir)
    assert (kept["version"], kept["released"], kept["false_alarm_target"]) == (3, False, 0.08)
    assert as_json("inspect", "plate", fresh / "0.jpg", "--data-dir", data_dir)["recipe"] == "plate@2"


def test_evaluate_says_null_for_what_cannot_be_computed(taught: Path, tmp_path: Path) -> None:
    """Labelled images give the metrics of the contract; without masks the pixel metrics are null."""
    for folder, defect in (("test/good", False), ("test/spot", True)):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(4):
            image = encode_jpeg(draw_part(number + 50, defect=defect), 95)
            (tmp_path / folder / f"{number}.jpg").write_bytes(image)
    report = as_json("evaluate", "plate", "--data", tmp_path, "--data-dir", taught / "data")
    assert report["images"] == 8
    assert report["image_auroc"] == 1.0
    assert report["pixel_ap"] is None
    assert report["miss_rate"] == 0.0
    assert report["latency_ms"].keys() == {"p50", "p95", "p99"}


def test_check_masks_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`inspector check` prints the resolved file and whether a secret is set, never the secret."""
    monkeypatch.setenv("BROKER_PASSWORD", "hunter2")
    config = small_plant(
        folder_camera(tmp_path), mqtt={"username_env": "BROKER_USER", "password_env": "BROKER_PASSWORD"}
    )
    path = tmp_path / "plant.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    done = call_inspector("check", path, "--json")
    assert json.loads(done.stdout)["config"]["mqtt"]["password_env"] == "$BROKER_PASSWORD (set)"
    assert json.loads(done.stdout)["config"]["mqtt"]["username_env"] == "$BROKER_USER (NOT SET)"
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["check", "missing.yaml"], "ConfigError"),
        (["inspect", "nothing", "a.jpg"], "RecipeNotFoundError"),
        (["fit", "x", "--good", "no-such-folder"], "DatasetError"),
        (["release", "nothing@1"], "RecipeNotFoundError"),
        (["calibrate", "nothing"], "RecipeNotFoundError"),
        (["review", "nothing", "good"], "StoreError"),
        (["review", "nothing", "perhaps"], "InputError"),
    ],
)
def test_errors_are_one_sentence(arguments: list[str], error: str, tmp_path: Path) -> None:
    """A problem of the user's ends with status 1, its name and one sentence, no traceback; with --json as an object."""
    data_dir = [] if arguments[0] == "check" else ["--data-dir", str(tmp_path)]
    done = call_inspector(*arguments, *data_dir, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"] == error
    assert error in done.stderr
    assert "Traceback" not in done.stderr


def test_schema_is_the_configurations() -> None:
    """Editors get the same schema that the loader enforces."""
    assert as_json("schema")["$schema"].startswith("https://json-schema.org/")


def test_logs_follow_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that was replaced and closed after logs were set up breaks nobody who still writes to the log."""
    first, second = io.StringIO(), io.StringIO()
    try:
        monkeypatch.setattr(sys, "stderr", first)
        configure_logging(json_lines=True)
        log = structlog.get_logger("early").bind()
        log.info("heard", by="first")
        first_said = first.getvalue()
        monkeypatch.setattr(sys, "stderr", second)
        first.close()
        log.info("heard", by="second")
    finally:
        structlog.reset_defaults()
    assert json.loads(first_said)["by"] == "first" and json.loads(second.getvalue())["by"] == "second"
