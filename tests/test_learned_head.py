"""The learned head at work, without PyTorch: stored, read back, checked, and scoring as it was calibrated."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from inspector.detector import part_learning
from inspector.detector.change_net import ChangeNet, TaughtNet, light_gain
from inspector.detector.comparison import Cells
from inspector.detector.evidence import JOINED_HEADS, Choice
from inspector.detector.features import CELL_PX, MARGIN_PX, FeatureBank
from inspector.detector.good_part import GoodPart, learn_good_part
from inspector.detector.graphs import GraphBuilder
from inspector.detector.manifest import CalibrationRecord, RecipeVersion
from inspector.detector.net_samples import CROP_PX, PAINTED, SampleMaker
from inspector.detector.part_learning import LearnedPart, learn_part
from inspector.detector.part_model import LEAST_SAID, HeadName, Mask, join_heads
from inspector.detector.part_scorer import PartScorer
from inspector.detector.recipe import pack_part
from inspector.detector.recipe_store import NET, CalibratedContent, RecipeContent, RecipeStore
from inspector.errors import RecipeTamperedError
from inspector.geometry.tiles import Tile
from inspector.images import sha256_hex
from inspector.records import BgrImage, Thresholds
from inspector.scenes.overlays import judge_families
from pipelines.dataset import open_good_images
from pipelines.fit import no_progress
from tests.part_images import paint_board, write_images

WIDTH, HEIGHT = 480, 360
GOOD = 10
NETS = 2


def mean_difference_graph() -> bytes:
    """A pair of nets that needs no training: the mean step of each cell, and ten times that."""
    graph = GraphBuilder()
    for name in ("pixels", "reference"):
        graph.add("Cast", [name], f"{name}_levels", to=TensorProto.FLOAT)
    graph.add("Mul", ["pixels_levels", "gain"], "lit")
    graph.add("Abs", [graph.add("Sub", ["lit", "reference_levels"], "difference")], "step")
    graph.add("Transpose", ["step"], "planes", perm=[2, 0, 1])
    kernel = np.full((NETS, 3, CELL_PX, CELL_PX), 1.0 / (3 * CELL_PX**2), np.float32)
    kernel[1] *= 10.0
    graph.add("Unsqueeze", ["planes", graph.constant("axis", np.array([0], np.int64))], "batch")
    graph.add("Conv", ["batch", graph.constant("mean", kernel)], "cells", strides=[CELL_PX, CELL_PX])
    graph.add("Squeeze", ["cells", "axis"], "changes")
    pictures = [
        helper.make_tensor_value_info(name, TensorProto.UINT8, [f"{name}_rows", f"{name}_columns", 3])
        for name in ("pixels", "reference", "spread")
    ]
    gain = helper.make_tensor_value_info("gain", TensorProto.FLOAT, [3])
    changes = helper.make_tensor_value_info("changes", TensorProto.FLOAT, [NETS, "cell_rows", "cell_columns"])
    return graph.model("mean_difference", [*pictures, gain], changes)


def teach_difference(pictures: list[BgrImage], part: Mask, looks: tuple[int, ...], progress: object) -> TaughtNet:
    good = learn_good_part(pictures)
    unseen_by = tuple(index % NETS for index in range(len(pictures)))
    return TaughtNet(mean_difference_graph(), unseen_by, unseen_by, (good,) * NETS, (good,), 1, 0.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("learned")
    write_images(root / "good", [paint_board(seed, width=WIDTH, height=HEIGHT) for seed in range(GOOD)])
    return root


def learn(root: Path, heads: tuple[HeadName, ...]) -> LearnedPart:
    """A part whose choice is made: the evidence has tests of its own."""
    images = open_good_images(root / "good")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_learning, "choose_heads", lambda *_, **__: Choice(heads, 0, ()))
        return learn_part(images, 0.05, len(images), no_progress, teach=teach_difference)


@pytest.fixture(scope="module", params=[JOINED_HEADS, ("net",)])
def learned(root: Path, request: pytest.FixtureRequest) -> LearnedPart:
    return learn(root, request.param)


@pytest.fixture
def stored(learned: LearnedPart, tmp_path: Path) -> Iterator[Path]:
    """A data directory with the learned part as `board`."""
    settings, arrays = pack_part(learned.model)
    assert learned.taught is not None
    content = RecipeContent(
        name="board",
        settings=settings,
        frame_size=(WIDTH, HEIGHT),
        arrays=arrays,
        graph=learned.graph,
        contrast_graph=learned.contrast_graph,
        golden=paint_board(learned.golden, width=WIDTH, height=HEIGHT),
        images=(),
        thresholds=learned.calibration.thresholds,
        false_alarm_target=0.05,
        false_alarm_interval=learned.calibration.interval,
        promise=learned.calibration.promise,
        choices={},
        net_graph=learned.taught.graph,
    )
    store = RecipeStore(tmp_path)
    store.release("board", store.save(content).version)
    yield tmp_path


def scorer_of(learned: LearnedPart) -> PartScorer:
    assert learned.taught is not None
    net = ChangeNet(learned.taught.graph)
    return PartScorer(learned.model, FeatureBank(learned.graph), FeatureBank(learned.contrast_graph), net=net)


def test_a_stored_net_scores_as_it_was_learned(learned: LearnedPart, stored: Path) -> None:
    """The scores of the recipe read back are those of the model in memory; good is below, a defect above NG."""
    scorer = RecipeStore(stored).load("board").scorer()
    for defect in (False, True):
        frame = paint_board(99, width=WIDTH, height=HEIGHT, defect=defect)
        found, direct = scorer.score_frame(frame), scorer_of(learned).score_frame(frame)
        assert found.score == direct.score
        np.testing.assert_array_equal(found.anomaly_map.scores, direct.anomaly_map.scores)
        assert (found.score >= scorer.thresholds.ng) == defect


def test_the_unit_is_an_ordinary_good_part(learned: LearnedPart) -> None:
    """Whatever judges, the worst place of a median good image scores one, and thresholds lie above."""
    assert np.median(learned.held_out_scores) == pytest.approx(1.0, abs=1e-5)
    assert learned.calibration.thresholds.review >= 1.0


def test_banks_and_net_have_to_agree() -> None:
    """Joined, the map is the geometric mean of the larger bank and the net; neither silences the other."""
    energy, contrast, net = (np.array(row, np.float32)[None] for row in ([4, 4, 1, 9], [1, 1, 1, 1], [4, 1, 4, 0]))
    maps: dict[HeadName, Cells] = {"energy": energy, "contrast": contrast, "net": net}
    np.testing.assert_allclose(join_heads(maps, 2.0)[0], [2.0, 1.0, 1.0, np.sqrt(9 * LEAST_SAID) / 2.0])
    np.testing.assert_array_equal(join_heads({"net": net}, 2.0), net)


def test_the_net_is_in_the_same_units_alone_and_joined(root: Path) -> None:
    """What it says of a good part does not depend on what else judges."""
    joined, alone = (learn(root, heads).model for heads in (JOINED_HEADS, ("net",)))
    assert joined.net is not None and alone.net is not None
    assert joined.net.joint_unit > 0.0
    assert joined.net.level.unit == alone.net.level.unit


def test_scoring_never_imports_torch(stored: Path) -> None:
    """A service scores with a stored net where PyTorch is not installed."""
    program = (
        "import sys; from pathlib import Path; import numpy as np;"
        "from inspector.detector.recipe_store import RecipeStore;"
        f"scorer = RecipeStore(Path({str(stored)!r})).load('board').scorer();"
        f"scorer.score_frame(np.full(({HEIGHT}, {WIDTH}, 3), 90, np.uint8));"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parent.parent)


def test_a_calibrated_version_keeps_the_net(stored: Path) -> None:
    """Other thresholds, the very same scores."""
    store = RecipeStore(stored)
    recipe = store.load("board")
    known = RecipeVersion(version=recipe.ref.version, sha256=recipe.ref.sha256)
    record = CalibrationRecord(same_scores=(known,), from_database=0, from_folder=20, odd=(), target=0.05)
    content = CalibratedContent(Thresholds(2.0, 3.0), (0.0, 0.2), (0.0, 0.1), "a promise", record)
    later = store.load(store.save_calibrated(recipe, content), require_released=False)
    frame = paint_board(99, width=WIDTH, height=HEIGHT, defect=True)
    assert later.net_graph == recipe.net_graph is not None
    assert later.scorer().score_frame(frame).score == recipe.scorer().score_frame(frame).score


def test_a_changed_or_missing_net_is_refused(stored: Path) -> None:
    """The net is one more file whose hash the manifest holds."""
    path = stored / "recipes" / "board" / "1" / NET
    path.chmod(0o644)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RecipeTamperedError, match=NET):
        RecipeStore(stored).load("board")
    path.unlink()
    with pytest.raises(RecipeTamperedError, match=NET):
        RecipeStore(stored).load("board")


@pytest.mark.parametrize("listed", [True, False])
def test_a_net_that_is_no_graph_or_not_listed_is_refused(stored: Path, listed: bool) -> None:
    """Forged with a valid hash it still has to be a graph, and settings with a net need the file."""
    folder = stored / "recipes" / "board" / "1"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    (folder / NET).chmod(0o644)
    if listed:
        (folder / NET).write_bytes(b"no graph")
        manifest["files"][NET] = sha256_hex(b"no graph")
    else:
        (folder / NET).unlink()
        del manifest["files"][NET]
    (folder / "manifest.json").chmod(0o644)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder.parent / "released.json").unlink()
    with pytest.raises(RecipeTamperedError):
        RecipeStore(stored).load("board@1", require_released=False).scorer()


# --- the pair ---------------------------------------------------------------------------------------


def still(picture: BgrImage) -> GoodPart:
    """A good part that never varies."""
    return GoodPart(picture, np.zeros_like(picture))


def laid(rows: int, columns: int, seed: int) -> BgrImage:
    shape = (rows * CELL_PX + 2 * MARGIN_PX, columns * CELL_PX + 2 * MARGIN_PX, 3)
    return np.random.default_rng(seed).integers(40, 200, shape, dtype=np.uint8)


@pytest.mark.parametrize("place", [(0, 0), (5, 9), (37, 30), (17, 0)])
def test_a_painted_window_is_judged_as_in_the_whole_picture(place: tuple[int, int]) -> None:
    """The cells of the window, wherever it lies, are those of the whole painted picture."""
    rows, columns = 53, 61
    picture, good = laid(rows, columns, 1), still(laid(rows, columns, 2))
    window = Tile(place[0], place[1], 16, 20)
    y, x = window.row * CELL_PX, window.column * CELL_PX
    painted = laid(window.rows, window.columns, 3)
    whole = picture.copy()
    whole[y : y + painted.shape[0], x : x + painted.shape[1]] = painted
    net, gain = ChangeNet(mean_difference_graph()), np.ones(3, np.float32)
    expected = net.compare(whole, good, gain)
    assert expected.shape == (NETS, rows, columns)
    found = net.compare_window(picture, painted, window, good, gain)
    np.testing.assert_allclose(found, window.cut(expected), rtol=1e-5)


def test_light_makes_no_difference() -> None:
    """A part under half of the light differs from its reference by rounding only."""
    picture = laid(20, 20, 4) // 2 * 2
    part = np.ones((20, 20), np.bool_)
    gain = light_gain(picture // 2, picture, part)
    assert float(ChangeNet(mean_difference_graph()).compare(picture // 2, still(picture), gain)[0].max()) < 1.0


# --- what it is taught with -------------------------------------------------------------------------


def test_samples_never_show_what_judges() -> None:
    """The families that rank the heads are painted for no net."""
    assert len(PAINTED) >= 5 and not set(PAINTED) & set(judge_families())


def test_samples_are_reproducible_and_say_where_they_changed() -> None:
    """The same seed draws the same samples; changed cells count, half-changed ones are left out, good samples occur."""
    pictures = [paint_board(seed, width=WIDTH, height=HEIGHT) for seed in range(4)]
    part = np.ones((70, 100), np.bool_)
    good = learn_good_part(pictures)
    makers = [SampleMaker(pictures, [0] * 4, [good], [0] * 4, part, 5) for _ in range(2)]
    drawn = [[maker.draw() for _ in range(30)] for maker in makers]
    cells = CROP_PX // CELL_PX
    for first, second in zip(*drawn, strict=True):
        assert first.pixels.shape == first.reference.shape == first.spread.shape == (CROP_PX, CROP_PX, 3)
        assert first.target.shape == first.weight.shape == (cells, cells)
        np.testing.assert_array_equal(first.pixels, second.pixels)
        np.testing.assert_array_equal(first.target, second.target)
        assert not np.any((first.target > 0) & (first.weight == 0))
    marked = [bool(sample.target.any()) for sample in drawn[0]]
    assert any(marked) and not all(marked)
