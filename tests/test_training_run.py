"""From labelled images to a checkpoint: the plan comes from the data, the best network is kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from files import save

from topofix import training_run
from topofix.errors import InvalidArray, InvalidOption, UnreadableFile, UnwritableFile
from topofix.learning import network as networks
from topofix.records import TrainingOptions


@pytest.fixture
def data(tmp_path) -> Path:
    """Twelve images of 20 x 24 pixels, bright where the label is 1."""
    for number in range(12):
        random = np.random.default_rng(number)
        labels = np.zeros((20, 24), np.uint8)
        row, column = random.integers(2, 9, 2)
        labels[row : row + 8, column : column + 9] = 1
        save(tmp_path / "data" / "images" / f"{number:02}.png", (150 * labels + 40).astype(np.uint8))
        save(tmp_path / "data" / "labels" / f"{number:02}.png", labels)
    return tmp_path / "data"


@pytest.fixture
def config() -> networks.NetworkConfig:
    return networks.NetworkConfig(2, ("box",), (1.0, 1.0), (16, 16), (4, 4, 4))


def volumes(folder: Path, shapes, spacings, highest=1) -> Path:
    for number, (shape, spacing) in enumerate(zip(shapes, spacings, strict=True)):
        labels = np.zeros(shape, np.uint8)
        labels.flat[: highest + 1] = range(highest + 1)
        save(folder / "images" / f"{number}.nii.gz", labels, spacing)
        save(folder / "labels" / f"{number}.nii.gz", labels, spacing)
    return folder


def test_the_plan_is_taken_from_the_data(tmp_path):
    spacings = [(1.0, 1.5, 8.0), (2.0, 1.5, 8.0), (1.2, 1.5, 9.0)]
    folder = volumes(tmp_path / "stacks", [(40, 20, 3), (20, 20, 4), (40, 20, 3)], spacings, highest=2)
    plan = training_run.plan_network(folder, 2)
    assert (plan.dimensions, plan.labels, plan.spacing) == (2, ("label 1", "label 2"), (1.2, 1.5))
    assert plan.patch_size == (48, 32)  # the median extent of 40 mm by 30 mm, in whole multiples of 16
    assert plan.channels == networks.CHANNELS[2]


def test_patches_of_large_volumes_are_limited(tmp_path):
    folder = volumes(tmp_path / "large", [(100, 90, 30)], [(1.0, 1.0, 1.0)])
    assert training_run.plan_network(folder, 3).patch_size == (64, 64, 32)
    assert training_run.plan_network(folder, 2).patch_size == (112, 96)


def test_what_is_given_goes_before_the_data(tmp_path):
    folder = volumes(tmp_path / "stacks", [(40, 20, 3)], [(1.0, 1.0, 8.0)])
    (folder / "dataset.json").write_text('{"labels": {"wall": 1}}')
    plan = training_run.plan_network(folder, 2, spacing=(2.0, 2.0), patch_size=(32, 16))
    assert (plan.labels, plan.spacing, plan.patch_size) == (("wall",), (2.0, 2.0), (32, 16))
    assert training_run.plan_network(folder, 2, labels=("a", "b")).labels == ("a", "b")


def test_plans_that_cannot_work_are_refused(data):
    with pytest.raises(InvalidArray, match="expected a volume for a 3-D network"):
        training_run.plan_network(data, 3)
    with pytest.raises(InvalidOption, match="--patch-size: expected sides that 16 divides"):
        training_run.plan_network(data, 2, patch_size=(24, 16))


def test_a_data_set_without_a_single_label_is_refused(tmp_path):
    for name in ("images", "labels"):
        save(tmp_path / "data" / name / "a.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(InvalidArray, match="data: expected label maps with labels from 1 on"):
        training_run.plan_network(tmp_path / "data", 2)


def test_the_best_network_is_the_one_on_disk(data, config, tmp_path):
    epochs = []
    options = TrainingOptions(epochs=4, batch_size=4, validate_every=1, augment=False, learning_rate=0.02)
    output = tmp_path / "new" / "net.safetensors"
    result = training_run.train(
        data, output, config, options, device="cpu", about={"licence": "CC0-1.0"}, on_step=epochs.append
    )
    scores = [epoch.dice[0] for epoch in epochs if epoch.finished]
    assert len(scores) == 4
    assert result.best_epoch == 1 + int(np.argmax(scores))
    checkpoint = networks.load(output)
    assert checkpoint.config == config
    assert checkpoint.about["epoch"] == result.best_epoch
    assert checkpoint.about["validation_dice"] == {"box": round(max(scores), 4)}
    assert (checkpoint.about["training_cases"], checkpoint.about["validation_cases"]) == (11, 1)
    assert checkpoint.about["licence"] == "CC0-1.0"
    trained, stored = result.network.state_dict(), checkpoint.network.state_dict()
    for name, value in trained.items():
        torch.testing.assert_close(stored[name], value, rtol=1e-3, atol=1e-4)


def test_training_refuses_before_it_makes_a_folder(data, config, tmp_path):
    for output, error in ((tmp_path / "new" / "net.pt", UnwritableFile), (data / "images", UnwritableFile)):
        with pytest.raises(error, match=output.name):
            training_run.train(data, output, config)
    with pytest.raises(UnreadableFile, match="nowhere"):
        training_run.train(tmp_path / "nowhere", tmp_path / "new" / "net.safetensors", config)
    assert not (tmp_path / "new").exists()
