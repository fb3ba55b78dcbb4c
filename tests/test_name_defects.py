"""`name`: labelled images and reviews teach a recipe names, as a new version that scores every frame as before."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from inspector.cameras.camera import CapturedFrame
from inspector.config import FolderCamera
from inspector.detector.name_detections import DetectionNamer, open_describer, open_namer
from inspector.detector.naming import MOST_EXAMPLES, UNKNOWN, Namer, learn_names
from inspector.detector.recipe_store import RecipeStore
from inspector.errors import DatasetError, FitError, InputError, RecipeMismatchError, RecipeTamperedError, StoreError
from inspector.images import encode_jpeg
from inspector.mqtt.messages import inspection_message
from inspector.records import BgrImage, Detection, Inspection, VerdictKind
from inspector.scenes.overlays import paint_defect
from inspector.store.database import Database
from inspector.store.frames import FrameFiles, frame_key
from inspector.store.hash_chain import verify_chain
from inspector.store.inspections import commit_inspection, load_inspection
from pipelines.calibrate import versions_with_same_scores
from pipelines.evaluate import evaluate_recipe
from pipelines.fit_template import fit_asked
from pipelines.inspect_frame import InspectedFrame, inspect_frame
from pipelines.inspect_images import inspect_images
from pipelines.name import Labelled, name_defects, thin_out
from pipelines.review import review_inspection
from tests.small_line import RECIPE, draw_part
from tests.store_samples import PROVENANCE, accept, open_station

CAMERA = FolderCamera(id="top", path=Path())
PLATE = np.zeros((240, 320), np.bool_)
PLATE[70:170, 110:210] = True


@dataclass(frozen=True)
class BrokenNames:
    """A namer that breaks."""

    names: tuple[str, ...] = ("dot",)

    def name(self, looks: np.ndarray) -> list[object]:
        raise ValueError("broken names")


def mark_part(kind: str, number: int) -> tuple[BgrImage, np.ndarray]:
    """A part with a dark dot, a bright scratch or a discoloured patch somewhere on its plate, and the mask."""
    part = draw_part(number)
    dice = np.random.default_rng([number, len(kind)])
    x, y = int(dice.integers(140, 200)), int(dice.integers(80, 100))
    mask = np.zeros(part.shape[:2], np.uint8)
    if kind == "dot":
        cv2.circle(mask, (x, y), int(dice.integers(7, 10)), 255, -1)
        part[mask > 0] = (25, 25, 30)
    elif kind == "scratch":
        cv2.line(mask, (x - 18, y - 9), (x + 18, y + 9), 255, 3)
        part[mask > 0] = (245, 245, 245)
    else:
        cv2.rectangle(mask, (x - 12, y - 12), (x + 12, y + 12), 255, -1)
        part[mask > 0] = np.clip(part[mask > 0] * np.array([1.6, 0.9, 0.4]), 0, 255).astype(np.uint8)
    return part, mask


def write_set(root: Path, kinds: Sequence[str], numbers: Sequence[int], *, masks: bool) -> Path:
    """A data set in the MVTec convention."""
    for kind in kinds:
        for number in numbers:
            part, mask = mark_part(kind, number)
            write(root / "test" / kind / f"{number:03d}.jpg", encode_jpeg(part, 95))
            if masks:
                write(root / "ground_truth" / kind / f"{number:03d}_mask.png", bytes(cv2.imencode(".png", mask)[1]))
    return root


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def inspect(data_dir: Path, pixels: BgrImage, reference: str = RECIPE) -> InspectedFrame:
    """One frame under a recipe, as the lane does it."""
    recipe = RecipeStore(data_dir).load(reference, require_released=False)
    return inspect_frame(capture(pixels), CAMERA, recipe.scorer(), namer=open_namer(recipe))


def capture(pixels: BgrImage) -> CapturedFrame:
    return CapturedFrame(captured_utc_us=0, captured_monotonic_ns=0, encoded=encode_jpeg(pixels, 95))


@pytest.fixture(scope="module")
def root(taught_plate: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe in `data`, examples in `shown` (with masks) and `bare` (without), other parts in `fresh`."""
    root = shutil.copytree(taught_plate, tmp_path_factory.mktemp("names") / "plate")
    write_set(root / "shown", ("dot", "scratch"), range(5), masks=True)
    write_set(root / "bare", ("dot", "scratch"), range(5), masks=False)
    write_set(root / "fresh", ("dot", "patch", "scratch"), range(100, 108), masks=True)
    return root


@pytest.fixture
def data_dir(root: Path, tmp_path: Path) -> Path:
    """A data directory of its own with the recipe."""
    shutil.copytree(root / "data", tmp_path / "data")
    return tmp_path / "data"


@pytest.mark.parametrize("examples", ["shown", "bare"])
def test_examples_make_a_new_version_that_knows_names(root: Path, data_dir: Path, examples: str) -> None:
    """Released, with the same files beside the names, and the same scores; a family not shown is unknown."""
    report = name_defects(RECIPE, data_dir, examples_dir=root / examples)
    printed = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (printed["version"], printed["from_version"], printed["released"], printed["notes"]) == (2, 1, True, [])
    assert printed["names"]["dot"]["examples"] == printed["names"]["scratch"]["examples"] == 5
    assert printed["examples"] == printed["from_folder"] == 10 and printed["accuracy"] >= 0.6
    store = RecipeStore(data_dir)
    old, new = store.load(f"{RECIPE}@1"), store.load(RECIPE)
    assert set(new.manifest.files) == {*old.manifest.files, "names.npz"}
    assert {name: new.manifest.files[name] for name in old.manifest.files} == old.manifest.files
    frame = mark_part("dot", 300)[0]
    assert old.scorer().score_frame(frame).score == new.scorer().score_frame(frame).score
    measured = evaluate_recipe(RECIPE, root / "fresh", data_dir).to_json()
    assert measured["name_accuracy"] >= 0.7
    confusion = measured["name_confusion"]
    assert confusion["patch"].get(UNKNOWN, 0) >= 6
    assert confusion["dot"].get("scratch", 0) == confusion["scratch"].get("dot", 0) == 0
    assert {sum(counts.values()) for counts in confusion.values()} == {8}


def test_a_recipe_without_names_is_as_before(root: Path, data_dir: Path) -> None:
    """Regions are called anomaly, without confidence; evaluate measures no names."""
    found = inspect(data_dir, mark_part("dot", 300)[0]).verdict.detections
    assert found and {(item.name, item.name_confidence) for item in found} == {("anomaly", None)}
    measured = evaluate_recipe(RECIPE, root / "fresh", data_dir).to_json()
    assert [measured[key] for key in ("name_accuracy", "name_unknown_rate", "name_confusion")] == [None] * 3


def test_names_travel_to_the_message_the_database_and_the_chain(root: Path, data_dir: Path) -> None:
    """The detection's name and its confidence, in the MQTT payload and as stored; the audit chain covers them."""
    name_defects(RECIPE, data_dir, examples_dir=root / "shown")
    inspected = inspect(data_dir, mark_part("scratch", 301)[0])
    worst = inspected.verdict.detections[0]
    assert worst.name == "scratch" and worst.name_confidence is not None and "name" in inspected.timings_ms
    db = open_station(data_dir)
    inspection = Inspection(accept(db), "top", inspected.verdict, 1_700_000_000_000_000, PROVENANCE)
    payload = json.loads(inspection_message(inspection, "inspector/v1").payload)
    assert payload["detections"][0]["name"] == "scratch"
    assert payload["detections"][0]["name_confidence"] == worst.name_confidence
    commit_inspection(db, inspection, [], wants_evidence=False)
    assert load_inspection(db, str(inspection.inspection_id)).detections == inspected.verdict.detections
    assert verify_chain(db, inspection.trigger.station).rows == 1
    db.close()


def test_one_off_inspections_print_names(root: Path, data_dir: Path) -> None:
    """`inspect --json` holds name and confidence."""
    name_defects(RECIPE, data_dir, examples_dir=root / "shown")
    recipe = RecipeStore(data_dir).load(RECIPE)
    (verdict,) = inspect_images(recipe, [root / "fresh" / "test" / "dot" / "100.jpg"], None)
    detection = verdict.to_json()["detections"][0]
    assert detection["name"] in ("dot", UNKNOWN) and 0.0 < detection["name_confidence"] <= 1.0


def test_a_namer_that_breaks_costs_no_verdict(data_dir: Path) -> None:
    """The verdict stands, its regions stay unnamed, and the log says why."""
    recipe = RecipeStore(data_dir).load(RECIPE)
    broken: Namer = BrokenNames()  # type: ignore[assignment]
    pixels = mark_part("dot", 302)[0]
    captured = capture(pixels)
    plain = inspect_frame(captured, CAMERA, recipe.scorer())
    with capture_logs() as logged:
        named = inspect_frame(captured, CAMERA, recipe.scorer(), namer=DetectionNamer(open_describer(recipe), broken))
    assert named.verdict == plain.verdict and named.verdict.kind is VerdictKind.NG
    assert [entry["event"] for entry in logged] == ["naming_failed"]


def test_changed_names_are_refused(root: Path, data_dir: Path) -> None:
    """A byte of names.npz, its absence, and a names.npz that no manifest lists."""
    name_defects(RECIPE, data_dir, examples_dir=root / "shown")
    path = data_dir / "recipes" / RECIPE / "2" / "names.npz"
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RecipeTamperedError, match=r"names\.npz does not match its hash"):
        RecipeStore(data_dir).load(RECIPE)
    path.unlink()
    with pytest.raises(RecipeTamperedError, match=r"names\.npz"):
        RecipeStore(data_dir).load(RECIPE)
    (data_dir / "recipes" / RECIPE / "1" / "names.npz").write_bytes(content)
    with pytest.raises(RecipeTamperedError, match=r"names\.npz is not in the manifest"):
        RecipeStore(data_dir).load(f"{RECIPE}@1")


def test_names_and_calibration_know_the_versions_with_the_same_scores(root: Path, data_dir: Path) -> None:
    """Parts that were produced before a recipe got names still calibrate it."""
    first = RecipeStore(data_dir).load(RECIPE).ref
    second = name_defects(RECIPE, data_dir, examples_dir=root / "shown").ref
    third = name_defects(RECIPE, data_dir, examples_dir=root / "bare").ref
    assert versions_with_same_scores(RecipeStore(data_dir).load(RECIPE)) == (third, second, first)


def test_reviews_teach_names(data_dir: Path) -> None:
    """The newest review counts; a defect without a name, a frame that is gone and a good part teach nothing."""
    db = open_station(data_dir)
    ref = RecipeStore(data_dir).load(RECIPE).ref
    ids = {kind: [produce(db, data_dir, kind, number) for number in range(4)] for kind in ("dot", "scratch")}
    for kind, inspections in ids.items():
        for name in inspections:
            review_inspection(name, "defect", data_dir, reviewer="Ada", defect_name=kind)
    changed, unnamed = produce(db, data_dir, "dot", 40), produce(db, data_dir, "dot", 41)
    review_inspection(changed, "defect", data_dir, reviewer="Ada", defect_name="scratch")
    review_inspection(changed, "good", data_dir, reviewer="Bob")
    review_inspection(unnamed, "defect", data_dir, reviewer="Ada")
    gone = produce(db, data_dir, "dot", 42)
    review_inspection(gone, "defect", data_dir, reviewer="Ada", defect_name="dot")
    FrameFiles(data_dir / "frames").delete(str(load_inspection(db, gone).frame_key))
    db.close()
    report = name_defects(RECIPE, data_dir, reviews=data_dir)
    assert (report.record.from_reviews, report.record.from_folder) == (8, 0)
    assert [item.examples for item in report.record.names] == [4, 4]
    assert report.notes == (f"left out, 1 examples have no frame that can be read (any more): {gone}",)
    assert ref.version == report.from_version
    assert inspect(data_dir, mark_part("scratch", 303)[0]).verdict.detections[0].name in ("scratch", UNKNOWN)


def produce(db: Database, data_dir: Path, kind: str, number: int) -> str:
    """A part of production with a defect: inspected, its frame kept, committed; the inspection's id."""
    inspected = inspect(data_dir, mark_part(kind, number)[0])
    trigger = accept(db, 1_700_000_000_000_000 + number)
    recipe = RecipeStore(data_dir).load(RECIPE).ref
    key = frame_key(trigger.station, trigger.accepted_utc_us, str(trigger.trigger_id), ".jpg")
    FrameFiles(data_dir / "frames").write(key, encode_jpeg(mark_part(kind, number)[0], 95))
    inspection = Inspection(
        trigger, "top", inspected.verdict, trigger.accepted_utc_us, PROVENANCE, recipe=recipe, frame_key=key
    )
    commit_inspection(db, inspection, [], wants_evidence=False)
    return str(inspection.inspection_id)


def test_what_cannot_teach_is_said(root: Path, data_dir: Path, tmp_path: Path) -> None:
    """Too few examples, nothing to learn from, no folder, no database, an unreadable file; no version is made."""
    write_set(tmp_path / "few", ("dot",), range(2), masks=True)
    with pytest.raises(FitError, match="dot has 2"):
        name_defects(RECIPE, data_dir, examples_dir=tmp_path / "few")
    with pytest.raises(InputError, match="--examples"):
        name_defects(RECIPE, data_dir)
    with pytest.raises(DatasetError, match="is not a folder"):
        name_defects(RECIPE, data_dir, examples_dir=tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="one folder for each defect name"):
        name_defects(RECIPE, data_dir, examples_dir=root / "good")
    with pytest.raises(StoreError, match="no database"):
        name_defects(RECIPE, data_dir, reviews=data_dir)
    write(tmp_path / "broken" / "dot" / "0.jpg", b"no image")
    with pytest.raises(DatasetError, match=r"0\.jpg"):
        name_defects(RECIPE, data_dir, examples_dir=tmp_path / "broken")
    write(tmp_path / "small" / "dot" / "0.jpg", encode_jpeg(np.zeros((64, 64, 3), np.uint8)))
    with pytest.raises(DatasetError, match=r"0\.jpg: frame is 64x64"):
        name_defects(RECIPE, data_dir, examples_dir=tmp_path / "small")
    write(tmp_path / "clean" / "dot" / "0.jpg", encode_jpeg(draw_part(3), 95))
    with pytest.raises(InputError, match="a mask would say where"):
        name_defects(RECIPE, data_dir, examples_dir=tmp_path / "clean")
    assert len(RecipeStore(data_dir).versions(RECIPE)) == 1


def test_a_mask_says_where_a_defect_is_that_nobody_finds(data_dir: Path, tmp_path: Path) -> None:
    """Parts without a visible defect are examples all the same when a mask marks a place."""
    for number in range(3):
        mask = np.zeros((240, 320), np.uint8)
        cv2.circle(mask, (180, 90), 10, 255, -1)
        write(tmp_path / "set" / "faint" / f"{number}.jpg", encode_jpeg(draw_part(number), 95))
        write(tmp_path / "set" / "ground_truth" / "faint" / f"{number}.png", bytes(cv2.imencode(".png", mask)[1]))
    report = name_defects(RECIPE, data_dir, examples_dir=tmp_path / "set", release=False)
    assert [(item.name, item.examples) for item in report.record.names] == [("faint", 3)] and not report.released


def test_more_examples_than_teach_are_thinned_out() -> None:
    """Equally many of each name, evenly over their order; few are kept whole."""
    many = [Labelled("dot", False, lambda: None) for _ in range(2600)]
    few = [Labelled("pit", True, lambda: None) for _ in range(20)]
    chosen = thin_out([*many, *few])
    assert sum(item.name == "dot" for item in chosen) == MOST_EXAMPLES // 2
    assert sum(item.name == "pit" for item in chosen) == 20
    places = [place for place, item in enumerate(many) if any(item is kept for kept in chosen)]
    assert max(np.diff(places)) <= 6 and places[-1] == 2599
    assert thin_out(few) == few


def test_template_recipes_learn_names_otherwise(tmp_path: Path, root: Path) -> None:
    """Labelled boxes name there; the refusal says what the recipe is."""
    for folder in ("template", "test"):
        for number in range(3):
            write(tmp_path / "pairs" / folder / f"{number}.png", bytes(cv2.imencode(".png", draw_part(number))[1]))
    fit_asked(
        "pairs",
        tmp_path / "data",
        mode="template",
        good=tmp_path / "pairs",
        labels=None,
        ignore_mask=None,
        false_alarm_target=0.05,
        release=True,
    )
    with pytest.raises(RecipeMismatchError, match="template recipe"):
        name_defects("pairs", tmp_path / "data", examples_dir=root / "shown")


def test_painted_families_are_told_apart(data_dir: Path) -> None:
    """Tints and cracks as the synthetic families paint them: most of those found get their name from five examples."""
    recipe = RecipeStore(data_dir).load(RECIPE)
    scorer, describer = recipe.scorer(), open_describer(recipe)
    looks: dict[str, list[np.ndarray]] = {"crack": [], "tint": []}
    for kind, found in looks.items():
        for seed in range(60):
            painted = paint_defect(draw_part(seed), kind, seed, PLATE)
            if painted is None:
                continue
            scoring = scorer.score_frame(painted[0])
            if scoring.detections and not scoring.oddities:
                found.append(describer.describe(painted[0], scoring, scoring.detections[:1]))
    assert min(len(found) for found in looks.values()) >= 12
    taught = np.concatenate([look for found in looks.values() for look in found[:5]])
    namer = learn_names(taught, ["crack"] * 5 + ["tint"] * 5).namer
    said = [(kind, namer.name(look)[0].name) for kind, found in looks.items() for look in found[5:]]
    named = [(kind, name) for kind, name in said if name != UNKNOWN]
    assert len(named) >= len(said) / 2
    assert sum(kind == name for kind, name in named) >= 0.75 * len(named)


def test_a_verdict_keeps_its_order_and_boxes(root: Path, data_dir: Path) -> None:
    """Names are all that naming changes, and it is repeatable."""
    name_defects(RECIPE, data_dir, examples_dir=root / "shown")
    pixels = mark_part("dot", 304)[0]
    plain, named = inspect(data_dir, pixels, f"{RECIPE}@1").verdict, inspect(data_dir, pixels).verdict

    def bare(detections: tuple[Detection, ...]) -> list[tuple[object, ...]]:
        return [(item.box_xyxy_px, item.score, item.area_px) for item in detections]

    assert bare(plain.detections) == bare(named.detections) and plain.kind is named.kind
    assert inspect(data_dir, pixels).verdict == named


def test_the_command_line_teaches_and_reviews(root: Path, data_dir: Path) -> None:
    """`name` and `review --name` answer with one JSON object; an error says what is wrong."""
    taught = run_inspector("name", RECIPE, "--examples", root / "shown", "--data-dir", data_dir)
    assert (taught["recipe"], taught["version"], set(taught["names"])) == (RECIPE, 2, {"dot", "scratch"})
    db = open_station(data_dir)
    inspection_id = produce(db, data_dir, "dot", 50)
    db.close()
    reviewed = run_inspector("review", inspection_id, "defect", "--name", "dot", "--by", "Ada", "--data-dir", data_dir)
    assert (reviewed["defect_name"], reviewed["finding"]) == ("dot", "defect")
    refused = run_inspector("name", RECIPE, "--reviews", data_dir, "--data-dir", data_dir)
    assert refused["error"] == "FitError" and "dot has 1" in refused["message"]


def run_inspector(*arguments: object) -> dict[str, Any]:
    """The one JSON object that a command prints."""
    command = [sys.executable, "-m", "pipelines.command_line", *map(str, arguments), "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    value: dict[str, Any] = json.loads(done.stdout)
    return value
