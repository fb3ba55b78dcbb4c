"""Teaching the low-light net: what may be learned from, runs that resume exactly, exports that are checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the [train] extra is not installed")

from inspector.errors import ConfigError, DatasetError, WeightsError  # noqa: E402
from inspector.generator.exposure.net import open_net  # noqa: E402
from inspector.generator.training.exposure_batches import Look, draw_batch  # noqa: E402
from inspector.generator.training.exposure_config import ExposureTraining, read_training  # noqa: E402
from inspector.generator.training.exposure_export import build_graph, check_parity, export, round_to_half  # noqa: E402
from inspector.generator.training.exposure_images import PictureSet, draw_surfaces, read_good_images  # noqa: E402
from inspector.generator.training.exposure_net import ExposureNet, reach_px  # noqa: E402
from inspector.generator.training.exposure_train import CHECKPOINT, ExposureTrainer, Sources, draw_batches  # noqa: E402

CONFIGS = Path(__file__).resolve().parent.parent / "configs" / "train"
TINY = {"widths": (8, 8, 8), "blocks": (1, 1, 1), "steps": 4, "batch": 2, "side_px": 32, "warmup_steps": 1}


@pytest.fixture(scope="module")
def config() -> ExposureTraining:
    """The second stage as it ships, made tiny."""
    return read_training(CONFIGS / "exposure_fine.yaml").model_copy(update=TINY)


@pytest.fixture(scope="module")
def sources() -> Sources:
    surfaces = draw_surfaces(3, 1)
    return Sources((surfaces,), (surfaces,), (1.0,))


def run(trainer: ExposureTrainer, config: ExposureTraining, sources: Sources, until: int) -> None:
    for batch in draw_batches(config, sources, trainer.step):
        trainer.learn(batch)
        if trainer.step == until:
            return


def weights_of(net: ExposureNet) -> list[np.ndarray]:
    return [parameter.detach().numpy().copy() for parameter in net.parameters()]


def test_a_resumed_run_learns_what_an_uninterrupted_one_does(
    config: ExposureTraining, sources: Sources, tmp_path: Path
) -> None:
    """Four steps at once, or two, a checkpoint and two: the same weights to the last bit, and not the first ones."""
    whole = ExposureTrainer(config, "cpu")
    before = weights_of(whole.net)
    run(whole, config, sources, 4)
    first = ExposureTrainer(config, "cpu")
    run(first, config, sources, 2)
    first.save(tmp_path)
    second = ExposureTrainer(config, "cpu")
    second.resume(tmp_path)
    run(second, config, sources, 4)
    for name in ("net", "average"):
        pairs = zip(weights_of(getattr(whole, name)), weights_of(getattr(second, name)), strict=True)
        assert all(np.array_equal(one, other) for one, other in pairs)
    assert any(not np.array_equal(one, other) for one, other in zip(before, weights_of(whole.net), strict=True))


def test_a_checkpoint_of_another_run_is_refused(config: ExposureTraining, tmp_path: Path) -> None:
    """Another seed is another run; more steps are the same one, longer."""
    ExposureTrainer(config, "cpu").save(tmp_path)
    ExposureTrainer(config.model_copy(update={"steps": 9}), "cpu").resume(tmp_path)
    with pytest.raises(ConfigError, match="belongs to another configuration"):
        ExposureTrainer(config.model_copy(update={"seed": 99}), "cpu").resume(tmp_path)


def test_a_second_stage_starts_from_the_averaged_weights(
    config: ExposureTraining, sources: Sources, tmp_path: Path
) -> None:
    """And counts the steps of the first."""
    first = ExposureTrainer(config, "cpu")
    run(first, config, sources, 3)
    first.save(tmp_path)
    second = ExposureTrainer(config.model_copy(update={"seed": 99}), "cpu")
    second.start_from(tmp_path / CHECKPOINT)
    assert (second.step, second.steps_before) == (0, 3)
    pairs = zip(weights_of(first.average), weights_of(second.net), strict=True)
    assert all(np.array_equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("name", ["magnetic_tile", "deeppcb", "../anything"])
def test_sets_for_measuring_only_are_never_opened(name: str, tmp_path: Path) -> None:
    """Even where their images lie in the data directory."""
    (tmp_path / name / "train" / "good").mkdir(parents=True)
    with pytest.raises(DatasetError, match="must not be trained on"):
        read_good_images(tmp_path, name)


def test_the_shipped_configurations_are_valid(tmp_path: Path) -> None:
    """Both stages teach the same net; an unknown key is an error."""
    stages = [read_training(CONFIGS / name) for name in ("exposure.yaml", "exposure_fine.yaml")]
    assert (stages[0].widths, stages[0].blocks) == (stages[1].widths, stages[1].blocks)
    (tmp_path / "bad.yaml").write_text((CONFIGS / "exposure.yaml").read_text(encoding="utf-8") + "typo: 1\n")
    with pytest.raises(ConfigError, match="typo"):
        read_training(tmp_path / "bad.yaml")


def test_batches_follow_the_seed() -> None:
    """The same state gives the same batch; inputs are brightened to about the truth, with a noise map beside."""
    picture = PictureSet((np.full((64, 64, 3), (60, 120, 180), np.uint8),))
    one, same, other = (
        draw_batch([picture], [1.0], Look(0.3, 0.3, 0.1), 4, 32, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert one.inputs.shape == (4, 6, 32, 32)
    assert one.truths.shape == (4, 3, 32, 32)
    assert np.array_equal(one.inputs, same.inputs)
    assert not np.array_equal(one.inputs, other.inputs)
    means = np.abs(one.inputs[:, :3].mean(axis=(2, 3)) - one.truths.mean(axis=(2, 3)))
    assert means.max() < 0.1
    assert (one.inputs[:, 3:] > 0).all()


def test_an_export_is_what_was_taught(config: ExposureTraining, sources: Sources, tmp_path: Path) -> None:
    """ONNX Runtime agrees with torch, the files load; a graph of other weights is refused."""
    trainer = ExposureTrainer(config, "cpu")
    run(trainer, config, sources, 3)
    trainer.save(tmp_path)
    facts = export(tmp_path / CHECKPOINT, tmp_path / "out")
    assert facts.steps == 3
    assert open_net(tmp_path / "out").facts == facts
    taught = round_to_half(trainer.average)
    assert check_parity(build_graph(taught), taught) < 1e-5
    with torch.no_grad():
        taught.head.weight += 0.01
    with pytest.raises(WeightsError, match="differs from the taught net"):
        check_parity(build_graph(round_to_half(trainer.average)), taught)


def test_the_reach_is_the_receptive_field() -> None:
    """A changed pixel changes nothing farther away than `reach_px`."""
    torch.manual_seed(1)
    blocks = (2, 2, 2)
    net = ExposureNet((8, 8, 8), blocks)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    source = torch.rand(1, 6, 256, 256)
    changed = source.clone()
    changed[..., 128, 128] += 1
    with torch.no_grad():
        difference = (net(source) - net(changed)).abs().amax(dim=(0, 1)) > 0
    rows, columns = np.nonzero(difference.numpy())
    reach = reach_px(blocks)
    assert max(abs(rows - 128).max(), abs(columns - 128).max()) <= reach
    assert max(abs(rows - 128).max(), abs(columns - 128).max()) > reach // 2
