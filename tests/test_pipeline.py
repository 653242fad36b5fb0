"""One case from file to files: what is written is what was verified, and all of it or nothing."""

import json
import os
from pathlib import Path

import numpy as np
import phantoms
import pytest
import torch

from topofix import pipeline
from topofix.errors import (
    InvalidArray,
    InvalidOption,
    InvalidPrior,
    UnreadableFile,
    UnwritableFile,
)
from topofix.imaging.volumes import Volume, read, write
from topofix.learning import network as networks
from topofix.records import CaseOptions, Outcome, RefinementOptions, TrainingOptions
from topofix.request import PriorRequest
from topofix.topology.persistence import betti

MAP = CaseOptions("probabilities")
ONE_PIECE = PriorRequest(("1,0",))


def save(path: Path, array, spacing=None) -> Path:
    array = np.asarray(array)
    steps = spacing or (1.0,) * array.ndim
    write(path, array, Volume(array, steps, np.diag([*steps, 1.0, 1.0][:4]), path))
    return path


@pytest.fixture
def two_discs(tmp_path) -> Path:
    return save(tmp_path / "map.nii.gz", phantoms.probabilities(phantoms.two_discs().mask).astype(np.float32))


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


# --- refine ---


def test_the_record_on_disk_is_the_one_returned(two_discs, tmp_path):
    record = pipeline.refine(two_discs, tmp_path / "out" / "mask.nii.gz", ONE_PIECE, MAP)
    stored = json.loads((tmp_path / "out" / "mask.json").read_text("utf-8"))
    assert stored == json.loads(record.to_json())
    assert record.outcome is Outcome.SATISFIED
    assert record.seconds > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mask.nii.gz", "mask.json"}


@pytest.mark.parametrize("steps", [0, 1, 3, 200])
def test_the_record_tells_the_topology_of_the_file(two_discs, tmp_path, steps):
    output = tmp_path / "mask.nii.gz"
    options = RefinementOptions(steps=steps)
    record = pipeline.refine(two_discs, output, PriorRequest(("1,1",)), MAP, options)
    written = read(output).array
    assert record.topology[0].after == betti(written > 0)
    reached = record.topology[0].after == (1, 1)
    assert reached == record.topology[0].met == (record.outcome is Outcome.SATISFIED)
    assert reached == (steps == 200)


def test_the_best_state_is_never_worse_than_the_start(two_discs, tmp_path):
    for steps in (1, 4):
        options = RefinementOptions(steps=steps)
        record = pipeline.refine(
            two_discs, tmp_path / f"{steps}.nii.gz", PriorRequest(("1,2",)), MAP, options
        )
        before, after = record.topology[0].before, record.topology[0].after
        assert abs(after[0] - 1) + abs(after[1] - 2) <= abs(before[0] - 1) + abs(before[1] - 2)


def test_only_wrong_slices_are_touched(tmp_path):
    field = np.stack(
        [phantoms.probabilities(phantoms.two_discs().mask, seed) for seed in range(2)]
        + [phantoms.probabilities(np.pad(phantoms.disc().mask, ((0, 0), (0, 8)))[2:18])]
    ).astype(np.float32)
    path = save(tmp_path / "stack.nii.gz", field, (7.0, 1.0, 1.0))
    pipeline.refine(path, tmp_path / "out.nii.gz", ONE_PIECE, MAP)
    written = read(tmp_path / "out.nii.gz").array
    assert [betti(part > 0) for part in written] == [(1, 0)] * 3
    np.testing.assert_array_equal(written[2], field[2] > 0.5)


def test_stages_that_a_map_cannot_have_are_refused(two_discs, tmp_path):
    with pytest.raises(InvalidOption, match="--method weights"):
        pipeline.refine(two_discs, tmp_path / "o.nii", ONE_PIECE, MAP, RefinementOptions("weights"))
    assert not (tmp_path / "o.nii").exists()


def test_a_network_for_volumes_sees_no_single_slice(tmp_path):
    config = networks.NetworkConfig(3, ("blob",), (1.0,) * 3, (8,) * 3, (4, 4, 4))
    networks.save(tmp_path / "net.safetensors", networks.build(config), config, {})
    path = save(tmp_path / "scan.nii.gz", np.random.default_rng(0).random((8, 9, 10)))
    options = CaseOptions(model=str(tmp_path / "net.safetensors"), device="cpu")
    with pytest.raises(InvalidOption, match="3-D network sees no single slices"):
        pipeline.refine(
            path, tmp_path / "o.nii", PriorRequest(("7,7",)), options, RefinementOptions("weights")
        )
    assert not (tmp_path / "o.nii").exists()


@pytest.mark.parametrize("taken", ["out.nii.gz", "out.json"])
def test_nothing_is_replaced_unasked(two_discs, tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UnwritableFile, match=f"{taken}: exists already; --overwrite"):
        pipeline.refine(two_discs, tmp_path / "out.nii.gz", ONE_PIECE, MAP)
    assert (tmp_path / taken).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_impossible_prior_leaves_no_file(two_discs, tmp_path):
    with pytest.raises(InvalidPrior, match=r"map\.nii\.gz.*1,0,0"):
        pipeline.refine(two_discs, tmp_path / "new" / "out.nii.gz", PriorRequest(("1,0,0",)), MAP)
    assert not (tmp_path / "new").exists()


# --- files ---


@pytest.mark.parametrize(
    ("output", "record"),
    [("a.nii.gz", "a.json"), ("a.b.nrrd", "a.b.json"), ("out/a.PNG", "out/a.json")],
)
def test_the_record_lies_beside_its_output(output, record):
    assert pipeline.record_path(Path(output)) == Path(record)


def test_a_folder_that_can_be_made_is_fine_and_a_file_is_not(tmp_path):
    pipeline.check_writable([tmp_path / "new" / "deep" / "a.nii"], overwrite=False)
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(UnwritableFile, match="expected a folder that can be written to"):
        pipeline.check_writable([tmp_path / "file" / "a.nii"], overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UnwritableFile, match="expected a folder that can be written to"):
        pipeline.check_writable([tmp_path / "a.nii"], overwrite=False)


def test_text_is_written_whole_or_not_at_all(tmp_path):
    pipeline.write_text(tmp_path / "new" / "a.csv", "b0,b1\nμ")
    assert (tmp_path / "new" / "a.csv").read_bytes() == "b0,b1\nμ".encode()
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "folder", tmp_path / "new" / "a.csv" / "b.csv"):
        with pytest.raises(UnwritableFile, match=path.name):
            pipeline.write_text(path, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "new"]


# --- train ---


def test_the_plan_is_taken_from_the_data(tmp_path):
    spacings = [(1.0, 1.5, 8.0), (2.0, 1.5, 8.0), (1.2, 1.5, 9.0)]
    folder = volumes(tmp_path / "stacks", [(40, 20, 3), (20, 20, 4), (40, 20, 3)], spacings, highest=2)
    plan = pipeline.plan_network(folder, 2)
    assert (plan.dimensions, plan.labels, plan.spacing) == (2, ("label 1", "label 2"), (1.2, 1.5))
    assert plan.patch_size == (48, 32)  # the median extent of 40 mm by 30 mm, in whole multiples of 16
    assert plan.channels == networks.CHANNELS[2]


def test_patches_of_large_volumes_are_limited(tmp_path):
    folder = volumes(tmp_path / "large", [(100, 90, 30)], [(1.0, 1.0, 1.0)])
    assert pipeline.plan_network(folder, 3).patch_size == (64, 64, 32)
    assert pipeline.plan_network(folder, 2).patch_size == (112, 96)


def test_what_is_given_goes_before_the_data(tmp_path):
    folder = volumes(tmp_path / "stacks", [(40, 20, 3)], [(1.0, 1.0, 8.0)])
    (folder / "dataset.json").write_text('{"labels": {"wall": 1}}')
    plan = pipeline.plan_network(folder, 2, spacing=(2.0, 2.0), patch_size=(32, 16))
    assert (plan.labels, plan.spacing, plan.patch_size) == (("wall",), (2.0, 2.0), (32, 16))
    assert pipeline.plan_network(folder, 2, labels=("a", "b")).labels == ("a", "b")


def test_plans_that_cannot_work_are_refused(data):
    with pytest.raises(InvalidArray, match="expected a volume for a 3-D network"):
        pipeline.plan_network(data, 3)
    with pytest.raises(InvalidOption, match="--patch-size: expected sides that 16 divides"):
        pipeline.plan_network(data, 2, patch_size=(24, 16))


def test_a_data_set_without_a_single_label_is_refused(tmp_path):
    for name in ("images", "labels"):
        save(tmp_path / "data" / name / "a.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(InvalidArray, match="data: expected label maps with labels from 1 on"):
        pipeline.plan_network(tmp_path / "data", 2)


def test_the_best_network_is_the_one_on_disk(data, config, tmp_path):
    epochs = []
    options = TrainingOptions(epochs=4, batch_size=4, validate_every=1, augment=False, learning_rate=0.02)
    output = tmp_path / "new" / "net.safetensors"
    result = pipeline.train(
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
            pipeline.train(data, output, config)
    with pytest.raises(UnreadableFile, match="nowhere"):
        pipeline.train(tmp_path / "nowhere", tmp_path / "new" / "net.safetensors", config)
    assert not (tmp_path / "new").exists()


def test_names_of_labels_become_names_of_files_that_can_be_and_differ():
    files = pipeline._probability_files(
        Path("out/scan.nii.gz"), {"a/b": 1, "left x": 2, "left_x": 3, "Herz ä": 4}
    )
    assert {file.parent for file in files.values()} == {Path("out")}
    assert len(set(files.values())) == 4
    assert files["a/b"].name == "scan_probabilities_a_b.nii.gz"
