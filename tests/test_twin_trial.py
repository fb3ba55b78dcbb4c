"""The twin's trial on a small data set: its tables, what is missing, and when a criterion is met."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspector.generator.references import PlacedReferences
from inspector.generator.repairer import Twin
from inspector.records import AnomalyMap, BgrImage
from tests.part_images import paint_board, write_images
from tools.twin import lanes, speed
from tools.twin.determinism import measure_leak
from tools.twin.judging import Criterion, TrialSettings
from tools.twin.lanes import judge_lanes, measure_lanes, sum_up_lanes
from tools.twin.low_light import judge_low_light, sum_up_low_light
from tools.twin.masks import Mask, sample_mask
from tools.twin.methods import METHODS, PRODUCT_METHODS, ProductPainter
from tools.twin.nearest import NearestGood
from tools.twin.peels import judge_peels, measure_peels
from tools.twin.quality import score_mask
from tools.twin.real_defects import Fall, Reading, describe_defects, judge_defects, measure_defects, sum_changes
from tools.twin.restoring import describe_restoring, judge_restoring, measure_restoring
from tools.twin.sets import TrialSet, open_sets
from tools.twin.speed import CASES, judge_speed, measure_speed
from tools.twin.weights import describe_weights, judge_weights, measure_weights
from tools.twin_trial import describe_criteria, parse

SIZE = (480, 270)


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one data set of small boards."""
    root = tmp_path_factory.mktemp("sets") / "boards"
    write_images(root / "train" / "good", [paint_board(seed) for seed in range(10)])
    write_images(root / "test" / "good", [paint_board(seed) for seed in range(50, 54)])
    write_images(root / "test" / "spot", [paint_board(seed, defect=True) for seed in range(70, 73)])
    return root.parent


@pytest.fixture(scope="module")
def settings(boards: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrialSettings]:
    work = tmp_path_factory.mktemp("work")
    sets = open_sets(boards, (), work / "data", 1)
    yield TrialSettings(sets, work, 6, 3, 2.0, 4, SIZE, 1, None, 0.0, lambda line: None)


@pytest.fixture(scope="module")
def board_set(settings: TrialSettings) -> TrialSet:
    return settings.sets[0]


def test_folders_that_are_no_data_sets_are_left_out(boards: Path, tmp_path: Path) -> None:
    """Only folders with `train/good` and `test/good` are sets; names choose among them."""
    (boards / "template").mkdir()
    assert [item.name for item in open_sets(boards, (), tmp_path, 1)] == ["boards"]
    assert open_sets(boards, ("others",), tmp_path, 1) == []


def test_tasks_are_masks_on_held_back_images(board_set: TrialSet) -> None:
    """More masks than images: each image has several; the recipe's own images are never among them."""
    tasks = board_set.tasks(6, 4)
    assert len(tasks) == 6 and {task.path.parent.name for task in tasks} == {"good"}
    assert {task.path for task in tasks} == set(board_set.held_out)
    assert not {task.path for task in tasks} & set(board_set.good)
    again = board_set.tasks(6, 4)
    assert all(np.array_equal(one.sampled.mask, other.sampled.mask) for one, other in zip(tasks, again, strict=True))


def test_the_plain_baseline_restores_a_part_from_its_nearest_good_image(board_set: TrialSet) -> None:
    """In the masks it is as near as the noise of two photographs allows; outside nothing changes."""
    nearest = NearestGood(board_set.good)
    truth = paint_board(99)
    mask = sample_mask(np.random.default_rng(6), board_set.find_part(truth)).mask
    painted = nearest.paint(truth, mask)
    assert painted is not None and np.array_equal(painted[~mask], truth[~mask])
    assert score_mask(painted, truth, mask).psnr_db > 27
    assert nearest.paint(paint_board(99, width=200), np.ones((240, 200), np.bool_)) is None


def test_restoring_compares_all_methods_on_the_same_masks(settings: TrialSettings) -> None:
    """Reference methods beat those without; what the product does not have is missing, with the reason."""
    result = measure_restoring(settings)
    found = result.figures["sets"]["boards"]
    methods = found["methods"]
    assert set(methods) == set(METHODS) and found["masks"] == 6
    assert methods["paste"]["psnr_db"] > methods["telea"]["psnr_db"] + 2
    least = methods[found["best_classical"]]["psnr_db"]
    assert found["auto_above"]["psnr_db"] == methods["auto"]["psnr_db"] - least
    assert (found["net_above"] is None) == (methods["net"]["psnr_db"] is None)
    for name, method in methods.items():
        missing = method["psnr_db"] is None
        assert missing == (method["refused"] == 6) and (not missing or method["refusal"]), name
    assert json.dumps(result.figures)
    assert f"**{methods[found['best_classical']]['psnr_db']:.2f} (" in "\n".join(result.lines)


def test_restoring_is_judged_by_every_set_and_their_mean() -> None:
    """Half a decibel below on one set is a miss there, whatever the mean is; without a net nothing is judged."""

    def one(gain: float | None, best: float = 30.0) -> dict[str, object]:
        methods: dict[str, dict[str, object]] = {
            name: {"psnr_db": None, "ssim": None, "refused": 9, "refusal": "no"} for name in METHODS
        }
        methods["paste"] = {"psnr_db": best, "mean_psnr_db": 31.0, "ssim": 0.9, "refused": 0, "refusal": None}
        return {
            "masks": 9,
            "images": 9,
            "methods": methods,
            "best_classical": "paste",
            "net_above": None if gain is None else {"psnr_db": gain, "ssim": gain},
            "auto_above": {"psnr_db": 0.0, "ssim": 0.0},
        }

    figures = {"sets": {"a": one(-0.5), "b": one(4.0)}}
    every, ssim, mean, peel = judge_restoring(figures)
    assert (every.met, ssim.met, mean.met, peel.met) == (False, False, True, None)
    assert [item.met for item in judge_restoring({"sets": {"a": one(0.0), "b": one(1.9)}})][:3] == [True, True, False]
    assert [item.met for item in judge_restoring({"sets": {"a": one(None), "b": one(4.0)}})] == [None] * 4
    assert "| a (9 masks, 9 images) | – | **30.00 (31.00) / 0.900** | – |" in "\n".join(describe_restoring(figures))


def test_real_defects_fall_to_the_good_median_when_the_reference_is_painted(settings: TrialSettings) -> None:
    """The spot on each board is found by the detector, and gone after `paste`."""
    figures = measure_defects(settings).figures
    defects, good = (figures["sets"]["boards"][name] for name in ("defects", "good"))
    assert defects["images"] == 3 and defects["masks"] == "detector"
    assert defects["methods"]["paste"]["share_of_way"] > 0.9
    assert defects["methods"]["paste"]["alarms_before"] == 3
    assert defects["methods"]["paste"]["share_of_way"] > defects["methods"]["telea"]["share_of_way"]
    assert defects["methods"]["net+peel"] is None and good["methods"]["net+peel"] is None
    assert good["methods"]["paste"]["rises"] + good["methods"]["paste"]["falls"] <= good["masks"] == 6
    assert all("boards" in line for line in describe_defects(figures) if line.startswith("- "))
    assert [item.met for item in judge_defects(figures)] == [True, True]


def test_marked_defects_are_repaired_with_a_rim_and_missed_ones_left_out(
    settings: TrialSettings, tmp_path: Path
) -> None:
    """A mark tighter than its spot: the outline stays with the mask to the letter only. A mark on nothing is missed."""
    root = tmp_path / "boards"
    images = [paint_board(seed, defect=True) for seed in (70, 71)]
    marks = [np.asarray(cv2.erode(find_spot(image), np.ones((7, 7), np.uint8)), np.uint8) for image in images]
    nothing = np.zeros_like(marks[0])
    nothing[90:110, 200:220] = 255
    write_images(root / "train" / "good", [paint_board(0)])
    write_images(root / "test" / "good", [paint_board(seed) for seed in range(50, 54)])
    write_images(root / "test" / "spot", [*images, paint_board(72)])
    (root / "ground_truth" / "spot").mkdir(parents=True)
    for number, mark in enumerate((*marks, nothing)):
        cv2.imwrite(str(root / "ground_truth" / "spot" / f"{number:03d}_mask.png"), mark)
    fitted = settings.sets[0]
    marked = replace(settings, sets=[TrialSet(root, fitted.data_dir, 1)])
    figures = measure_defects(marked).figures["sets"]["boards"]["defects"]
    assert (figures["images"], figures["missed"], figures["masks"]) == (2, 1, "marked")
    paste = figures["methods"]["paste"]
    assert paste["share_of_way"] > 0.9
    assert paste["strict"] < paste["share_of_way"] - 0.2


def find_spot(board: BgrImage) -> NDArray[np.uint8]:
    """255 where the white spot in the middle of a spoiled board is."""
    white = np.zeros(board.shape[:2], np.uint8)
    white[90:150, 130:190] = 255 * (board[90:150, 130:190].min(axis=2) > 190)
    return np.asarray(cv2.morphologyEx(white, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), np.uint8)


def test_a_place_that_scores_as_good_ones_do_is_left_out() -> None:
    """Nothing can fall there; elsewhere each method has its own fall."""
    place = np.zeros((8, 8), np.bool_)
    place[2, 2] = True

    def level(value: float) -> AnomalyMap:
        return AnomalyMap(np.full((2, 2), value, np.float32), 4)

    reading = Reading({"one": [], "other": []})
    after = {"one": level(1.0), "other": level(3.0)}
    reading.read(level(1.0), after, [level(1.0), level(0.5), level(2.0)], place)
    assert reading.no_higher == 1 and reading.share("one") is None
    reading.read(level(3.0), after, [level(1.0), level(0.5), level(2.0)], place)
    assert reading.share("one") == 1.0 and reading.share("other") == 0.0


def test_a_fall_below_the_good_median_wins_nothing() -> None:
    """Smoother than a good part is no better: only the way to the median counts."""
    assert Fall(3.0, 0.2, 1.0).fallen == Fall(3.0, 1.0, 1.0).fallen == 2.0
    assert Fall(3.0, 2.0, 1.0).fallen / Fall(3.0, 2.0, 1.0).way == 0.5


def test_rises_on_good_parts_are_counted_in_pairs() -> None:
    found = sum_changes([(1.0, 1.2), (1.0, 0.7), (1.5, 2.5), (1.0, 1.0)], review=2.0)
    assert (found["rises"], found["falls"], found["alarms_before"], found["alarms_after"]) == (2, 1, 0, 1)
    assert found["chance_of_rises"] == pytest.approx(0.5)
    assert sum_changes([(1.0, 1.1)] * 12, 2.0)["chance_of_rises"] < 0.01


@pytest.mark.timeout(400)
def test_speed_has_every_case_and_a_fresh_process(settings: TrialSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliseconds of each method the product has, the first use and the memory of a process that only repairs."""
    monkeypatch.setattr(speed, "REPEATS", 1)
    result = measure_speed(settings)
    figures = result.figures
    assert list(figures["cases"]) == list(CASES) and figures["size"] == "480x270"
    for found in figures["cases"].values():
        assert set(found) == set(PRODUCT_METHODS)
        assert (
            found["paste"] > 0
            and found["telea"] > 0
            and (found["net"] is None) == (figures["first_use"]["net"] is None)
        )
    assert figures["first_use"]["paste"]["peak_mb"] > figures["first_use"]["paste"]["before_mb"] > 20
    assert figures["references"]["paste"]["cached_ms"] > 0
    assert len(judge_speed(figures)) == 6
    assert any("verdict of the frame" in line for line in result.lines)


def test_weights_that_are_not_there_are_missing_with_the_reason(settings: TrialSettings, tmp_path: Path) -> None:
    """Without a folder of variants only what ships can be measured; an empty one has none."""
    figures = measure_weights(replace(settings, variants=tmp_path)).figures
    assert set(figures["missing"]) == {"f32", "int8", "mxfp4"} and not figures["variants"]
    assert all(str(tmp_path) in why for why in figures["missing"].values())
    assert [item.met for item in judge_weights(figures)] == [None, None]


def test_weights_are_judged_on_every_set() -> None:
    """MXFP4 within 2 % of int8, int8 within 1 % of float32, in decibels."""

    def variant(aliens: float, screws: float) -> dict[str, object]:
        sizes = dict.fromkeys(("bytes_on_disk", "bytes_resident", "bytes_read"), 1_000_000)
        return {**sizes, "sets": {"aliens": {"psnr_db": aliens}, "screws": {"psnr_db": screws}}}

    figures = {
        "missing": {},
        "variants": {"f32": variant(30, 40), "int8": variant(29.8, 40.1), "mxfp4": variant(29, 40)},
    }
    assert [item.met for item in judge_weights(figures)] == [True, False]
    assert "| mxfp4 | 1.00 | 1.00 | 1.00 | 29.00 | 40.00 |" in describe_weights(figures)


@pytest.mark.timeout(400)
def test_the_verdict_lane_is_timed_beside_a_saturated_evidence_lane(
    settings: TrialSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real evidence process makes pictures during the second block, and still owes some after it."""
    monkeypatch.setattr(lanes, "BLOCKS", ("idle", "saturated"))
    result = measure_lanes(settings)
    assert result.figures["evidence_made"] > 0
    assert result.figures["idle"]["parts"] >= 3 and result.figures["saturated"]["p99"] > 0
    assert "| saturated |" in "\n".join(result.lines)


def test_lanes_are_judged_only_when_the_evidence_lane_was_saturated() -> None:
    figures = sum_up_lanes({"idle": [[100.0] * 50] * 2, "saturated": [[110.0] * 50, [119.0] * 50]})
    assert figures["ratio_p99"] == pytest.approx(1.19)
    busy = figures | {"evidence_made": 9, "evidence_owed_after": [4, 3]}
    assert judge_lanes(busy)[0].met is True
    assert judge_lanes(busy | {"ratio_p99": 1.21})[0].met is False
    assert judge_lanes(busy | {"evidence_owed_after": [4, 0]})[0].met is None


def test_peels_are_missing_with_the_reason_and_judged_by_the_slowest(settings: TrialSettings) -> None:
    """A peel that changes nothing is no proof that the base is kept."""
    figures = measure_peels(settings).figures
    assert figures["missing"]["boards"] == "no peel was asked for (--peel-minutes)"
    assert [item.met for item in judge_peels(figures)] == [None, None]
    kept = {"swap_ms": 20.0, "bytes_on_disk": 90_000, "bends": True, "base_same_after": True}
    assert [item.met for item in judge_peels({"sets": {"a": kept, "b": kept | {"swap_ms": 51.0}}})] == [False, True]
    assert [item.met for item in judge_peels({"sets": {"a": kept, "b": kept | {"bends": False}}})] == [True, False]


def test_low_light_is_held_against_the_best_classical_method_of_each_frame() -> None:
    """Not against their means: on each frame another one may be the best."""

    def row(name: str, gain: float, gamma: float, ours: float) -> dict[str, object]:
        return {"data_set": name, "psnr_db": {"gain": gain, "gamma": gamma, "ours": ours}}

    figures = sum_up_low_light([row("a", 20, 30, 34), row("a", 30, 20, 33), row("b", 25, 24, 27)])
    assert figures["sets"]["a"] == {"frames": 2, "ours_db": 33.5, "gain_db": 3.5, "least_gain_db": 3}
    assert judge_low_light(figures)[0].met is False and "+2.75" in judge_low_light(figures)[0].found
    assert judge_low_light({"missing": "no trial"})[0].met is None


def test_criteria_are_summed_up_in_the_last_line() -> None:
    lines = describe_criteria(
        [Criterion("a", "≤ 1", "2", False), Criterion("b", "≤ 1", "1", True), Criterion("c", "≤ 1", "–", None)]
    )
    assert lines[0] == "MISS: a (≤ 1): 2" and lines[-1] == "1 pass, 1 miss, 1 not measured"


class Peeking:
    """A repairer that leaves what it was asked to paint over."""

    method = "telea"

    def repair(self, pixels: BgrImage, mask: Mask, references: PlacedReferences | None) -> Twin:
        return Twin(pixels.copy(), mask, self.method, 1)


def test_a_method_that_looks_under_the_mask_is_found_out(board_set: TrialSet) -> None:
    """What a defect looks like must not matter to its twin; what Telea fills does not know it."""
    tasks = board_set.tasks(3, 4)
    honest = ProductPainter(board_set.recipe, 1)
    leaked = measure_leak(honest, tasks, "telea")
    assert leaked is not None and leaked <= 4
    peeking = ProductPainter(board_set.recipe, 1, {**honest.repairers, "telea": Peeking()})
    found = measure_leak(peeking, tasks, "telea")
    assert found is not None and found >= 60
    assert measure_leak(honest, tasks, "net") is None or "net" in honest.repairers


def call_trial(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.twin_trial", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)


@pytest.mark.timeout(400)
def test_the_command_prints_tables_and_writes_its_figures(boards: Path, tmp_path: Path) -> None:
    """One part alone: its table, its criteria, the sum, and the same figures as JSON."""
    done = call_trial(boards, tmp_path, "--only", "determinism", "--threads", 1)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "twin-trial.json").read_text())
    found = results["determinism"]["sets"]["boards"]
    assert found["paste"]["same_bytes"] is True and found["paste"]["levels_between_thread_counts"] <= 1
    assert {item["name"]: item["met"] for item in results["criteria"]}["fresh processes"] is True
    assert results["host"]["cores"] >= 1
    assert "| boards | yes / 0 / " in done.stdout
    assert done.stdout.strip().splitlines()[-1].endswith("0 not measured")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "beauty"], "no part is called beauty"),
        (["--size", "8K"], "WIDTHxHEIGHT"),
    ],
)
def test_wrong_arguments_are_refused(
    boards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as refused:
        parse([str(boards), str(tmp_path), *arguments])
    assert refused.value.code and said in capsys.readouterr().err


def test_a_set_that_is_not_there_ends_the_command(boards: Path, tmp_path: Path) -> None:
    done = call_trial(boards, tmp_path, "--sets", "nothing")
    assert done.returncode != 0 and "no data set" in done.stderr
