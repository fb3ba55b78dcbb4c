"""The general net's training: reproducible samples, resumable to the bit, a checked export; and the net that ships."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from inspector.detector import general_net
from inspector.detector.change_net import ChangeNet
from inspector.detector.features import CELL_PX, MARGIN_PX
from inspector.detector.general_net import FACTS_FILE, GRAPH_FILE, LARGEST_PX, prepare_general_net, read_general_net
from inspector.detector.good_part import SPREAD_STEPS, GoodPart, learn_good_part
from inspector.errors import ConfigError, DatasetError, WeightsError
from inspector.images import sha256_hex
from inspector.scenes.samples.bank import open_bank, write_bank
from inspector.scenes.samples.stage_file import read_stage
from pipelines.fit import no_progress

VIEWS, FAULTY = 5, 2


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some small parts; those with loose pieces have faults."""
    folder = tmp_path_factory.mktemp("bank")
    write_bank(folder, parts=10, views=VIEWS, side_px=96, seed=5000, workers=2, faulty_views=FAULTY)
    return folder


def test_faults_are_photographs_of_their_view(bank: Path) -> None:
    """Outside of its box no byte of a fault differs from the good view, inside some do."""
    opened = open_bank(bank)
    assert 0 < len(opened.faults) == len(opened.faulty)
    for fault, faulty in zip(opened.faults, opened.faulty, strict=True):
        assert opened.parts[fault.part].registered and fault.view < FAULTY
        differs = (faulty != opened.images[fault.part, fault.view]).any(axis=2)
        x0, y0, x1, y1 = fault.box
        assert differs[y0:y1, x0:x1].any()
        differs[y0:y1, x0:x1] = False
        assert not differs.any()


def test_only_usual_views_can_be_photographed_again(tmp_path: Path) -> None:
    for wrong in ({"views": 1}, {"variation": 0.5}, {"misregistration_px": 1.0}):
        given = {"views": 4, **wrong}
        with pytest.raises(ValueError, match="with a fault"):
            write_bank(tmp_path, parts=1, side_px=64, seed=1, workers=1, faulty_views=2, **given)  # type: ignore[arg-type]


def test_a_good_part_is_the_median_and_its_spread() -> None:
    """Half a grey level a step; the spread of noise is found, and one odd picture does not move the median."""
    dice = np.random.default_rng(2)
    pictures = [np.clip(dice.normal(120, 6, (90, 80, 3)), 0, 255).astype(np.uint8) for _ in range(21)]
    pictures[3][:] = 255
    good = learn_good_part(pictures)
    np.testing.assert_array_equal(good.picture, np.median(np.stack(pictures), axis=0))
    calm = learn_good_part([picture for index, picture in enumerate(pictures) if index != 3])
    assert np.median(calm.spread) / SPREAD_STEPS == pytest.approx(6.0, rel=0.1)


# --- what ships -------------------------------------------------------------------------------------


def test_the_net_that_ships_sees_a_change_and_not_the_spread() -> None:
    """A blot stands out from a part it has never seen; where good parts vary as much it says less."""
    dice = np.random.default_rng(7)
    rows, columns = 40, 50
    shape = (rows * CELL_PX + 2 * MARGIN_PX, columns * CELL_PX + 2 * MARGIN_PX, 3)
    texture = dice.integers(80, 140, shape, dtype=np.uint8)
    spoilt = texture.copy()
    spoilt[MARGIN_PX + 60 : MARGIN_PX + 100, MARGIN_PX + 80 : MARGIN_PX + 120] = 230
    net, gain = ChangeNet(read_general_net()), np.ones(3, np.float32)
    blot = np.s_[17:23, 22:28]
    steady = net.compare(spoilt, GoodPart(texture, np.full(shape, 4, np.uint8)), gain)[0]
    restless = net.compare(spoilt, GoodPart(texture, np.full(shape, 200, np.uint8)), gain)[0]
    elsewhere = np.ones((rows, columns), np.bool_)
    elsewhere[10:30, 15:35] = False
    assert steady[blot].mean() > steady[elsewhere].max()
    assert restless[blot].mean() < steady[blot].mean()


def test_a_net_that_is_damaged_or_missing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash of the graph is among its facts."""
    monkeypatch.setattr(general_net, "WEIGHTS", tmp_path)
    read = read_general_net.__wrapped__
    with pytest.raises(WeightsError, match="cannot be read"):
        read()
    (tmp_path / GRAPH_FILE).write_bytes(b"graph")
    (tmp_path / FACTS_FILE).write_text(json.dumps({"sha256": sha256_hex(b"another")}))
    with pytest.raises(WeightsError, match="reinstall"):
        read()


def test_large_parts_are_judged_without_the_net() -> None:
    """The verdict lane has no time for it."""
    side = int(LARGEST_PX**0.5) + 1
    pictures = [np.zeros((side, side, 3), np.uint8)] * 8
    assert prepare_general_net(pictures, np.ones((2, 2), np.bool_), (0,) * 8, no_progress) is None


# --- training ---------------------------------------------------------------------------------------

STAGE = """
seed: 3
widths: [4, 4, 4, 4]
rendered: {bank: "${bank}", faulty_share: 1.0}
steps: 4
batch: 2
checkpoint_every_steps: 1
"""


def test_training_goes_on_to_the_very_same_weights(bank: Path, tmp_path: Path) -> None:
    """Stopped after a step and started again, it ends as one that was never stopped; its export is checked."""
    pytest.importorskip("torch", reason="training needs PyTorch, the extra `train`")
    from inspector.detector.training.general_config import GeneralStage
    from inspector.detector.training.general_export import export_general
    from inspector.detector.training.general_stage import load_averaged, train_general

    (tmp_path / "stage.yaml").write_text(STAGE)
    stage, folders = read_stage(tmp_path / "stage.yaml", GeneralStage), {"bank": bank}
    whole = train_general(stage, tmp_path / "whole", folders=folders)
    halves = train_general(stage, tmp_path / "halves", folders=folders, budget_s=0.01)
    assert load_averaged(halves)[2] < 4
    train_general(stage, tmp_path / "halves", folders=folders)
    one, other = (load_averaged(path)[0].state_dict() for path in (whole, halves))
    assert all(bool((one[name] == other[name]).all()) for name in one)
    graph = export_general(whole, tmp_path / "out")
    facts = json.loads((tmp_path / "out" / FACTS_FILE).read_text())
    assert facts["steps"] == 4 and facts["sha256"] == sha256_hex(graph.read_bytes())
    with pytest.raises(ConfigError, match="another stage"):
        train_general(stage.model_copy(update={"seed": 4}), tmp_path / "whole", folders=folders)
    (tmp_path / "whole" / "checkpoint.pt").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="damaged"):
        load_averaged(tmp_path / "whole" / "checkpoint.pt")


def test_a_bank_without_faults_or_with_few_views_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs PyTorch, the extra `train`")
    from inspector.detector.training.general_config import GeneralStage
    from inspector.detector.training.general_samples import GeneralSamples

    stage = GeneralStage.model_validate({"rendered": {"bank": tmp_path}})
    with pytest.raises(DatasetError, match="not a bank"):
        GeneralSamples(stage, {})
    write_bank(tmp_path, parts=2, views=5, side_px=64, seed=1, workers=1)
    with pytest.raises(DatasetError, match="no faults"):
        GeneralSamples(stage, {})
