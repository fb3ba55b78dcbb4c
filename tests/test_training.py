"""Training of the repair net: honest samples, resumable runs, exact rounding, exports that are checked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from inspector.errors import ConfigError, DatasetError, WeightsError
from inspector.generator.mxfp4 import decode_mxfp4, encode_mxfp4
from inspector.generator.repair_model import (
    ENCODER_REACH_PX,
    FEATURE_CELL_PX,
    STRIDE_PX,
    TRUNK_REACH_PX,
    load_repair_model,
)
from inspector.generator.training.config import RepairSamples, RepairStage, load_stage
from inspector.generator.training.repair_base import fill_smoothly, lay_references
from inspector.generator.training.samples import SampleBatch, SampleMaker, open_sources
from inspector.generator.training.sources import PhotographSource, order_by_likeness
from inspector.scenes.samples.bank import write_bank
from inspector.scenes.samples.stage_file import fill_in

pytest.importorskip("torch", reason="training needs PyTorch, the extra `train`")

import torch

from inspector.generator.training.checkpoint import read_checkpoint
from inspector.generator.training.export import OPSET, RANGE_MARGIN, measure_ranges
from inspector.generator.training.fake_mxfp4 import round_to_mxfp4
from inspector.generator.training.finish_repair import export_repair
from inspector.generator.training.repair_stage import load_averaged, to_tensors, train_repair
from tests.tiny_repair_net import CHANNELS, build_tiny_net, export_tiny_net

SHIPPED_STAGES = sorted((Path(__file__).parent.parent / "configs" / "train").glob("repair*.yaml"))
STAGE = """
seed: 3
shape: {widths: [8, 8, 8, 8], reference_width: 8, reference_channels: 8}
samples: {side_px: 64, references: 2, most_mask_px: 40, rendered: [{bank: "${bank}"}]}
steps: 40
batch: 2
warmup_steps: 2
precision: float32
shard_samples: 4
shards_kept: 3
passes: 1.0
checkpoint_every_steps: 3
"""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    write_bank(folder, parts=6, views=3, side_px=96, seed=1, workers=1)
    return folder


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stage") / "tiny.yaml"
    path.write_text(STAGE)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, stage: Path, bank: Path) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return train_repair(load_stage(stage), folder, folders={"bank": bank}, threads=1)


def make_samples(bank: Path, count: int = 6) -> SampleBatch:
    config = RepairSamples.model_validate(
        {"side_px": 96, "references": 2, "most_mask_px": 60, "rendered": [{"bank": bank}]}
    )
    return SampleMaker(config, open_sources(config, {})).make_batch((1, 2), count)


# --- samples ----------------------------------------------------------------------------------------


def test_samples_depend_on_their_seed_alone(bank: Path) -> None:
    """The same seed gives the same samples; their holes are no more than their share of a crop."""
    one, other = make_samples(bank), make_samples(bank)
    for name in ("frame", "base", "hole", "references", "weights"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    assert one.hole.any(axis=(1, 2)).all() and not one.hole.all(axis=(1, 2)).any()
    sums = one.weights.sum(axis=1)
    assert (np.isclose(sums, 1.0, atol=1e-5) | (sums == 0.0)).all() and (sums > 0).any()


def test_the_net_sees_nothing_of_what_is_hidden(bank: Path) -> None:
    """Other pixels in the hole change neither the base, nor the choice of references, nor what the trunk is given."""
    samples = make_samples(bank)
    rng = np.random.default_rng(4)
    for frame, hole, references, weights in zip(
        samples.frame, samples.hole, samples.references, samples.weights, strict=True
    ):
        other = frame.copy()
        other[hole] = rng.integers(0, 256, (int(hole.sum()), 3), np.uint8)
        assert np.array_equal(fill_smoothly(frame, hole), fill_smoothly(other, hole))
        if not weights.any():
            continue
        laid = [[*references[weights != 0], references[0][::-1].copy()] for _ in range(2)]
        one, two = lay_references(frame, hole, laid[0]), lay_references(other, hole, laid[1])
        assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
        orders = [order_by_likeness(shown, laid[0], hole) for shown in (frame, other)]
        assert all(a is b for a, b in zip(*orders, strict=True))
    hidden = samples.frame.copy()
    hidden[samples.hole] = 255 - hidden[samples.hole]
    changed = SampleBatch(hidden, samples.base, samples.hole, samples.references, samples.weights)
    assert torch.equal(to_tensors(samples, "cpu").target, to_tensors(changed, "cpu").target)
    assert not torch.equal(to_tensors(samples, "cpu").wanted, to_tensors(changed, "cpu").wanted)


def test_folders_that_teach_nothing_are_refused(tmp_path: Path, stage: Path) -> None:
    """No folder, no images, images of different parts, no bank: each is named."""
    with pytest.raises(DatasetError, match="no such folder"):
        PhotographSource(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="two images"):
        PhotographSource(tmp_path)
    for seed in range(3):
        noise = np.random.default_rng(seed).integers(0, 256, (120, 160, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{seed}.png"), noise)
    with pytest.raises(DatasetError, match="do not register"):
        PhotographSource(tmp_path)
    with pytest.raises(DatasetError, match="not a bank"):
        train_repair(load_stage(stage), tmp_path / "run", folders={"bank": tmp_path}, threads=1)


def test_a_stage_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    """Unknown keys, no sources, folders that were not named."""
    for text in (STAGE + "speed: 3\n", STAGE.replace(', rendered: [{bank: "${bank}"}]', ""), "- 1\n", "\x00"):
        path = tmp_path / "stage.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"stage\.yaml"):
            load_stage(path)
    with pytest.raises(ConfigError, match="--start-from"):
        fill_in(Path("${start_from}"), {})


@pytest.mark.parametrize("path", SHIPPED_STAGES, ids=lambda path: path.stem)
def test_shipped_stages_are_valid(path: Path) -> None:
    """Every stage in configs/train is read, and names its folders instead of places on a machine."""
    stage = load_stage(path)
    places = [item.folder for item in stage.samples.photographs] + [item.bank for item in stage.samples.rendered]
    assert places and all(str(place).startswith("${") for place in places)


# --- runs -------------------------------------------------------------------------------------------


def test_a_killed_run_ends_where_an_unbroken_one_does(trained: Path, stage: Path, bank: Path, tmp_path: Path) -> None:
    """kill -9 and resume: the same weights, averages and optimizer, bit for bit, after the same steps."""
    command = [sys.executable, "-m", "inspector.generator.training", "train", str(stage), "--threads", "1"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path), "--bank", str(bank)], stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < read_checkpoint(tmp_path / "checkpoint.pt").step < 40

    resumed = train_repair(load_stage(stage), tmp_path, folders={"bank": bank}, threads=1)

    one, other = read_checkpoint(trained), read_checkpoint(resumed)
    assert one.step == other.step == 40
    for part in ("net", "average"):
        for name, values in getattr(one, part).items():
            assert torch.equal(values, getattr(other, part)[name]), (part, name)
    for number, state in one.optimizer["state"].items():
        assert all(torch.equal(values, other.optimizer["state"][number][name]) for name, values in state.items())
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(process.pid)


def _wait_until_gone(group: int) -> None:
    """Raises `ProcessLookupError` when no process of a group is left: workers end without their trainer."""
    for _ in range(600):
        os.killpg(group, 0)
        time.sleep(0.1)


def test_a_run_is_not_another_stage(trained: Path, stage: Path, bank: Path) -> None:
    """A folder with a checkpoint of another stage is left alone."""
    changed = load_stage(stage).model_copy(update={"learning_rate": 0.5})
    with pytest.raises(ConfigError, match="learning_rate"):
        train_repair(changed, trained.parent, folders={"bank": bank})


def test_a_second_stage_begins_with_the_first_and_rounds(
    trained: Path, stage: Path, bank: Path, tmp_path: Path
) -> None:
    """It starts from the averaged weights, trains rounded ones, and leaves what MXFP4 stores unchanged."""
    update = {"start_from": Path("${start_from}"), "quantize": True, "steps": 3, "learning_rate": 1e-4}
    second = load_stage(stage).model_copy(update=update)
    folders = {"bank": bank, "start_from": trained}
    checkpoint = train_repair(second, tmp_path, folders=folders, threads=1)
    begun, ended = load_averaged(trained)[0], load_averaged(checkpoint)[0]
    before, after = dict(begun.named_parameters()), dict(ended.named_parameters())
    moved = sum(torch.dist(before[name], after[name]).item() for name in before)
    assert 0 < moved < 0.3 * sum(values.norm().item() for values in before.values())
    weight = ended.trunk.enter_a.first.weight.detach()
    assert torch.equal(weight, round_to_mxfp4(weight))

    wider = second.model_copy(update={"shape": second.shape.model_copy(update={"widths": (8, 8, 8, 16)})})
    with pytest.raises(WeightsError, match="another shape"):
        train_repair(wider, tmp_path / "wider", folders=folders, threads=1)


@pytest.mark.parametrize("damage", ["truncated", "foreign", "missing"])
def test_damaged_checkpoints_are_refused(trained: Path, tmp_path: Path, damage: str) -> None:
    """What is no whole checkpoint is a `WeightsError`."""
    path = tmp_path / "checkpoint.pt"
    if damage == "truncated":
        path.write_bytes(trained.read_bytes()[:5000])
    if damage == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"checkpoint\.pt"):
        read_checkpoint(path)


def test_an_exported_checkpoint_runs(trained: Path, tmp_path: Path) -> None:
    """What was trained is loaded by the product, with its steps and its licence, and computes what PyTorch does."""
    export_repair(trained, tmp_path, "f32")
    model = load_repair_model(folder=tmp_path, form="-float")
    assert model.weights.metadata.details["steps"] == "40"
    assert model.weights.metadata.licence == "CC-BY-SA-4.0"
    image = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    planes = torch.from_numpy(image.transpose(2, 0, 1).copy())[None].float() / 255.0
    expected = load_averaged(trained)[0].encoder(planes)[0].detach().numpy()
    assert np.allclose(model.encode(image), expected, atol=1e-4 * max(1.0, float(np.abs(expected).max())))


# --- the net ----------------------------------------------------------------------------------------


def test_the_trunk_reaches_no_further_than_it_says() -> None:
    """What lies further than its reach from a cell of whole strides changes nothing in it; what is nearer does."""
    net = build_tiny_net().trunk
    side = 2 * TRUNK_REACH_PX + 2 * STRIDE_PX + STRIDE_PX
    start = TRUNK_REACH_PX + STRIDE_PX
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(1, 7, STRIDE_PX, side, generator=generator)
    features = torch.rand(1, CHANNELS, STRIDE_PX // 8, side // 8, generator=generator)
    with torch.no_grad():
        cell = net(target, features)[..., start : start + STRIDE_PX]
        far = target.clone()
        far[..., : start - TRUNK_REACH_PX] = 9.0
        far[..., start + STRIDE_PX + TRUNK_REACH_PX :] = -9.0
        assert torch.equal(net(far, features)[..., start : start + STRIDE_PX], cell)
        near = target.clone()
        near[..., start - 40 : start] = 9.0
        assert not torch.equal(net(near, features)[..., start : start + STRIDE_PX], cell)


def test_the_encoder_reaches_no_further_than_it_says() -> None:
    """As the trunk, from a cell of features."""
    net = build_tiny_net().encoder
    reference = torch.rand(1, 3, 64, 192, generator=torch.Generator().manual_seed(1))
    column = 96 // FEATURE_CELL_PX
    with torch.no_grad():
        cell = net(reference)[..., column]
        far = reference.clone()
        far[..., : 96 - ENCODER_REACH_PX] = 9.0
        far[..., 96 + FEATURE_CELL_PX + ENCODER_REACH_PX :] = 9.0
        assert torch.equal(net(far)[..., column], cell)
        near = reference.clone()
        near[..., 90:96] = 9.0
        assert not torch.equal(net(near)[..., column], cell)


def test_an_export_that_differs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that computes something else than the net never becomes a file."""
    write = torch.onnx.export

    def write_another(net: torch.nn.Module, *arguments: Any, **options: Any) -> None:
        bias = next(values for name, values in net.named_parameters() if name.endswith("stem.bias"))
        kept = bias.detach().clone()
        with torch.no_grad():
            bias.add_(0.1)
            write(net, *arguments, **options)
            bias.copy_(kept)

    monkeypatch.setattr(torch.onnx, "export", write_another)
    with pytest.raises(WeightsError, match="the export is refused"):
        export_tiny_net(tmp_path, build_tiny_net())
    assert list(tmp_path.iterdir()) == []


def test_ranges_reach_what_few_feeds_show() -> None:
    """What one feed in twenty shows counts like all else: 1 value in 2,000 is in the range, 1 in 200,000 is clipped."""
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["x"], ["y"])],
            "relu",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [10_000])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [10_000])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    feeds = [{"x": np.random.default_rng(number).normal(0, 0.1, 10_000).astype(np.float32)} for number in range(20)]
    feeds[7]["x"][:100], feeds[3]["x"][0] = 5.0, 90.0
    ranges = measure_ranges(model.SerializeToString(), feeds)
    assert ranges["y"][0] == 0.0 and ranges["y"][1] == pytest.approx(5.0 * RANGE_MARGIN)
    assert ranges["x"][1] == pytest.approx(5.0 * RANGE_MARGIN) and -0.6 < ranges["x"][0] < -0.3


@pytest.mark.parametrize("spread", [0.0, 1.0, 4.0])
def test_rounded_weights_are_stored_as_they_are(spread: float) -> None:
    """What the net is trained with is on the grid of MXFP4 and foldable: encoding it changes no bit."""
    generator = torch.Generator().manual_seed(int(spread))
    weight = torch.randn(24, 11, 3, 3, generator=generator) * torch.exp(
        spread * torch.randn(24, 11, 1, 1, generator=generator)
    )
    weight[3], weight[4, :8] = 0.0, 0.0
    rounded = round_to_mxfp4(weight)
    matrix = rounded.flatten(1).numpy()
    for choice in ("specification", "least_error"):
        stored = decode_mxfp4(encode_mxfp4(matrix, choice, foldable=True))
        assert np.array_equal(stored, matrix)
    assert torch.equal(round_to_mxfp4(rounded), rounded)
    plain = decode_mxfp4(encode_mxfp4(weight.flatten(1).numpy(), "specification", foldable=True))
    error = float(((rounded.flatten(1) - weight.flatten(1)) ** 2).sum())
    assert error <= float(((plain - weight.flatten(1).numpy()) ** 2).sum()) * 1.001


def test_stages_share_one_configuration_form(stage: Path) -> None:
    """A stage survives its own JSON, as it is kept in a checkpoint."""
    read = load_stage(stage)
    assert RepairStage.model_validate_json(read.model_dump_json()) == read
