"""Template mode: fit with and without labels, evaluate, inspect, and what broken sets and wrong uses do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspector.config import resolve_data_dir
from inspector.detector.recipe import Recipe
from inspector.detector.recipe_store import RecipeStore
from inspector.detector.template_pair import MOST_PROPOSALS, lay_pair, propose_regions, tolerant_difference
from inspector.errors import DatasetError, FitError, ImageSizeError, InputError, RecipeMismatchError
from inspector.geometry.boxes import overlap
from inspector.records import VerdictKind
from pipelines.evaluate_template import evaluate_any, evaluate_template_recipe
from pipelines.fit import FitReport
from pipelines.fit_template import fit_asked, fit_template_recipe
from pipelines.inspect_pairs import inspect_pairs
from pipelines.station_recipe import ActiveRecipe
from tests.template_boards import HEIGHT, WIDTH, paint_pair, paint_template, write_set

LITTLE_TRAINING = 3_000


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitReport, Recipe]:
    """A recipe taught with 24 labelled pairs, the folder with its data and with a labelled set `unseen`."""
    root = tmp_path_factory.mktemp("labelled")
    labels = write_set(root / "set", range(24))
    write_set(root / "unseen", range(100, 110))
    report = fit_template_recipe("boards", root, labels=labels, samples_seen=LITTLE_TRAINING)
    return root, report, RecipeStore(root).load("boards")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FitReport, Recipe]:
    """A recipe from 20 good pairs."""
    root = tmp_path_factory.mktemp("good")
    good = write_set(root / "good", range(20), boxes=False, defects=0)
    report = fit_template_recipe("plain", root, good=good)
    return root, report, RecipeStore(root).load("plain")


def test_labels_teach_names_and_the_report_says_how_well(taught: tuple[Path, FitReport, Recipe]) -> None:
    """Held-out figures stand in the choices; the names are those of the label files."""
    _, report, recipe = taught
    assert (report.mode, report.images, report.version) == ("template", 24, 1)
    assert report.choices["names"] == ["copper", "open"]
    held_out = report.choices["held_out"]
    assert held_out["images"] == 24 and held_out["map"] > 0.9 and held_out["f_score"] > 0.9
    assert 0.0 < recipe.thresholds.review <= recipe.thresholds.ng <= 1.0
    json.dumps(report.to_json(), allow_nan=False)


def test_unseen_frames_are_boxed_and_named(taught: tuple[Path, FitReport, Recipe]) -> None:
    """`evaluate` on a set that was not taught: every field, and figures near the held-out ones."""
    root, _, recipe = taught
    report = evaluate_any("boards", root / "unseen", root).to_json()
    assert report["map"] > 0.9 and report["f_score"] > 0.9 and report["class_agnostic_ap"] > 0.9
    assert set(report["ap_by_class"]) == {"copper", "open"} and report["iou_threshold"] == 0.33
    assert (report["images"], report["labelled_boxes"], report["refused"]) == (10, 20, 0)
    assert set(report["latency_ms"]) == {"p50", "p95", "p99"} and report["false_alarm_rate"] is None
    again = evaluate_template_recipe(recipe, root / "unseen").to_json()
    assert {**again, "latency_ms": None} == {**report, "latency_ms": None}


def test_teaching_is_reproducible(tmp_path: Path) -> None:
    """The same labels give the same graph and thresholds."""
    labels = write_set(tmp_path / "set", range(6))
    for name in ("one", "two"):
        fit_template_recipe(name, tmp_path, labels=labels, samples_seen=200)
    one, two = (RecipeStore(tmp_path).load(name) for name in ("one", "two"))
    assert one.graph == two.graph and one.thresholds == two.thresholds


def test_without_labels_differences_are_found_without_names(unlabelled: tuple[Path, FitReport, Recipe]) -> None:
    """Good pairs set the threshold: good boards pass, defective ones do not, and average precision has no classes."""
    root, report, recipe = unlabelled
    assert report.choices["names"] == [] and report.review_threshold >= 1.0 and recipe.graph == b""
    scorer = recipe.template_scorer()
    for seed in range(40, 48):
        template, frame, _ = paint_pair(seed, defects=0)
        assert scorer.score_pair(frame, template).score < recipe.thresholds.review
    write_set(root / "bad", range(60, 66))
    measured = evaluate_template_recipe(recipe, root / "bad").to_json()
    assert measured["map"] is None and measured["ap_by_class"] is None
    assert measured["class_agnostic_ap"] > 0.9 and measured["miss_rate"] == 0.0


def test_a_folder_of_templates_is_enough(tmp_path: Path) -> None:
    """Their own copies, moved by up to two pixels, stand for good frames."""
    for index in range(8):
        (tmp_path / "templates").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "templates" / f"{index}.png"), paint_template(index))
    report = fit_template_recipe("alone", tmp_path, good=tmp_path / "templates")
    assert report.false_alarm_interval == (0.0, 1.0) and "nothing is promised" in report.choices["promise"]
    recipe = RecipeStore(tmp_path).load("alone")
    template, frame, labels = paint_pair(70)
    scoring = recipe.template_scorer().score_pair(frame, template)
    assert scoring.score >= recipe.thresholds.review
    strongest = sorted(item.box_xyxy_px for item in scoring.detections[:2])
    for detection, (box, _) in zip(strongest, sorted(labels), strict=True):
        assert overlap(detection, box) > 0.33


def test_good_pairs_join_the_labelled_ones(tmp_path: Path) -> None:
    """With both folders the frames without boxes count for the false-alarm interval."""
    labels = write_set(tmp_path / "set", range(8))
    good = write_set(tmp_path / "good", range(50, 54), boxes=False, defects=0)
    report = fit_template_recipe("both", tmp_path, labels=labels, good=good, samples_seen=500)
    assert report.images == 12 and report.false_alarm_interval[1] < 1.0


def test_inspect_finds_templates_and_paints_the_twin(taught: tuple[Path, FitReport, Recipe], tmp_path: Path) -> None:
    """A folder matches by stem, a file serves all; the visual is written; a frame without template is not inspected."""
    root, _, recipe = taught
    frames = [root / "unseen" / "test" / name for name in ("000.png", "001.png")]
    stray = tmp_path / "stray.png"
    shutil.copy(frames[0], stray)
    verdicts = list(inspect_pairs(recipe, [*frames, stray], root / "unseen" / "template", tmp_path / "out"))
    assert [item.verdict.kind is VerdictKind.NOT_INSPECTED for item in verdicts] == [False, False, True]
    assert "stray" in verdicts[2].verdict.reasons[0]
    for item in verdicts[:2]:
        assert item.verdict.kind in (VerdictKind.NG, VerdictKind.REVIEW)
        assert item.verdict.detections[0].name in ("copper", "open")
        assert item.visual is not None and item.visual.stat().st_size > 10_000
    single = list(inspect_pairs(recipe, frames[:1], root / "unseen" / "template" / "000.png", None))
    assert single[0].verdict.detections == verdicts[0].verdict.detections


def test_a_template_of_another_board_is_odd(taught: tuple[Path, FitReport, Recipe]) -> None:
    """Most of the frame differs: a person should look, whatever the boxes say."""
    template = np.rot90(paint_template(3), 2).copy()
    template[:, :100] = 255
    scoring = taught[2].template_scorer().score_pair(paint_pair(3)[1], template)
    assert "is it the right template?" in scoring.oddities[0]


def test_a_template_of_another_size_is_refused(taught: tuple[Path, FitReport, Recipe], tmp_path: Path) -> None:
    """The scorer says both sizes; `inspect` and `evaluate` go on; `fit` names the files."""
    root, _, recipe = taught
    template, frame, _ = paint_pair(1)
    with pytest.raises(ImageSizeError, match="100x160 px, its frame 200x160"):
        recipe.template_scorer().score_pair(frame, template[:, :100].copy())
    broken = tmp_path / "set"
    shutil.copytree(root / "unseen", broken)
    cv2.imwrite(str(broken / "template" / "003.png"), template[:, :100])
    verdicts = list(inspect_pairs(recipe, [broken / "test" / "003.png"], broken / "template", None))
    assert verdicts[0].verdict.kind is VerdictKind.NOT_INSPECTED
    report = evaluate_template_recipe(recipe, broken).to_json()
    assert report["refused"] == 1 and report["recall"] <= 0.9
    with pytest.raises(DatasetError, match=r"test/003\.png is 200x160 px, its template .*003\.png 100x160"):
        fit_template_recipe("broken", tmp_path, labels=broken)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 2 3 open", "is not `x1 y1 x2 y2 class`"),
        ("1 2 a 4 open", "is not `x1 y1 x2 y2 class`"),
        ("10 10 10 20 open", "is an empty box"),
        ("-4 0 10 10 open", "outside the frame"),
        (f"1 1 9 9 {'x' * 65}", "at most 64"),
    ],
)
def test_malformed_labels_name_file_and_line(tmp_path: Path, line: str, reason: str) -> None:
    """The sentence begins with FILE:LINE."""
    labels = write_set(tmp_path / "set", range(4))
    (labels / "boxes" / "002.txt").write_text(f"5 5 20 20 open\n{line}\n")
    with pytest.raises(DatasetError, match=rf"002\.txt:2: .*{reason}"):
        fit_template_recipe("broken", tmp_path, labels=labels)


def test_sets_with_missing_parts_are_explained(tmp_path: Path) -> None:
    """Each sentence names what is missing and where; boxes beyond the frame name both."""
    labels = write_set(tmp_path / "set", range(5))
    (labels / "boxes" / "001.txt").write_text("150 100 260 140 open\n")
    with pytest.raises(DatasetError, match=r"001\.png: the box 150 100 260 140 lies outside the frame of 200x160"):
        fit_template_recipe("broken", tmp_path, labels=labels)
    (labels / "boxes" / "001.txt").unlink()
    with pytest.raises(DatasetError, match=r"001\.txt is missing; a frame without defects has an empty file"):
        fit_template_recipe("broken", tmp_path, labels=labels)
    (labels / "template" / "000.png").unlink()
    with pytest.raises(DatasetError, match=r"000\.png has no template"):
        fit_template_recipe("broken", tmp_path, labels=labels)
    shutil.rmtree(labels / "boxes")
    with pytest.raises(DatasetError, match="has no folder `boxes`"):
        fit_template_recipe("broken", tmp_path, labels=labels)
    for folder in ("template", "test", "boxes"):
        (tmp_path / "empty" / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds no images"):
        fit_template_recipe("broken", tmp_path, labels=tmp_path / "empty")
    with pytest.raises(DatasetError, match="has labelled defects"):
        fit_template_recipe("broken", tmp_path, good=write_set(tmp_path / "bad", range(2)))


def test_options_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    """Template mode needs something to learn from, labels need template mode, other modes need good images."""

    def fit(mode: str, good: Path | None = None, labels: Path | None = None) -> FitReport:
        return fit_asked(
            "x",
            tmp_path,
            mode=mode,
            good=good,
            labels=labels,
            ignore_mask=None,
            false_alarm_target=0.05,
            release=True,
        )

    with pytest.raises(FitError, match=r"--labels .*--good"):
        fit("template")
    with pytest.raises(FitError, match="--labels belongs to --mode template"):
        fit("auto", good=tmp_path, labels=tmp_path)
    with pytest.raises(FitError, match="--good is missing"):
        fit("auto")
    with pytest.raises(FitError, match="3 labelled pairs are too few"):
        fit("template", labels=write_set(tmp_path / "few", range(3)))
    with pytest.raises(FitError, match="are the pairs mixed up"):
        fit("template", labels=write_set(tmp_path / "clean", range(4), defects=0))


def test_a_station_refuses_a_template_recipe(taught: tuple[Path, FitReport, Recipe]) -> None:
    """It says why, stays without a recipe and does not fall over; template commands refuse other uses likewise."""
    root, _, recipe = taught
    active = ActiveRecipe(RecipeStore(resolve_data_dir(root)), "boards")
    assert active.try_load_wanted() is False and active.current() is None
    assert active.problem is not None and "each frame needs its own template" in active.problem
    with pytest.raises(RecipeMismatchError, match="--template"):
        recipe.scorer()
    with pytest.raises(InputError, match="--template"):
        list(inspect_pairs(recipe, [root / "unseen" / "test" / "000.png"], None, None))


def test_the_difference_tolerates_two_pixels_and_sees_colour() -> None:
    """Shifted by two pixels nothing differs; a patch of another colour but equal grey does."""
    template = paint_template(4)
    moved = np.roll(template, (2, 0), axis=(0, 1))
    assert tolerant_difference(template, moved)[8:-8].max() == 0
    tinted = template.copy()
    tinted[60:80, 60:80] = (200, 60, 60)
    boxes = propose_regions(tolerant_difference(template, tinted), 30)
    assert len(boxes) == 1 and 58 <= boxes[0][0] <= 62


def test_what_the_template_does_not_reach_is_not_judged() -> None:
    """A frame shifted by 4 px shows a strip that its template has not: no difference there, nor elsewhere."""
    size = (WIDTH + 40, HEIGHT + 40)
    large = np.asarray(cv2.resize(paint_template(5), size, interpolation=cv2.INTER_NEAREST), np.uint8)
    template, frame = large[:HEIGHT, :WIDTH].copy(), large[4 : HEIGHT + 4, 4 : WIDTH + 4].copy()
    cv2.circle(frame, (WIDTH - 1, 60), 3, (255, 255, 255), -1)
    pair = lay_pair(frame, template)
    assert pair.registration.matrix[:, 2] == pytest.approx((-4.0, -4.0), abs=0.6)
    assert not propose_regions(pair.difference, 60)


def test_proposals_are_bounded() -> None:
    """Noise all over gives no more than the largest regions."""
    noise = np.zeros((600, 600), np.uint8)
    noise[::12, ::12] = noise[1::12, ::12] = noise[::12, 1::12] = noise[1::12, 1::12] = 255
    assert len(propose_regions(noise, 30)) == MOST_PROPOSALS
