"""From a data set to a checkpoint: the plan comes from the data, the best is kept, work is not lost."""

import csv
import errno
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from files import save
from PIL import Image

from topofix import training_run
from topofix.errors import (
    InvalidArray,
    InvalidCheckpoint,
    InvalidOption,
    InvalidPrior,
    TopofixError,
    UnreadableFile,
    UnwritableFile,
)
from topofix.imaging.constraints import read_constraints
from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import Volume, write
from topofix.learning import network as networks
from topofix.learning import training
from topofix.learning.dataset import Case, Wholes
from topofix.learning.training_state import Epoch
from topofix.records import TrainingOptions
from topofix.request import PriorRequest


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


class Stop(Exception):
    """An interruption from outside."""


@pytest.fixture
def mixed(data) -> Path:
    """Five of them labelled, four without labels, the others gone."""
    for number in range(5, 12):
        (data / "labels" / f"{number:02}.png").unlink()
    for number in range(9, 12):
        (data / "images" / f"{number:02}.png").unlink()
    return data


QUICK = TrainingOptions(
    epochs=3, topology_epochs=2, batch_size=2, validate_every=1, learning_rate=0.02, topology_weight=0.1
)
BOX = PriorRequest(("1,0",))


def train(data: Path, output: Path, config, options=QUICK, **how):
    return training_run.train(data, output, config, options, device="cpu", **{"prior": BOX, **how})


def stop_after(epochs: int):
    def stop(epoch: Epoch) -> None:
        if epoch.number > epochs:
            raise Stop

    return stop


def rows(output: Path) -> list[dict[str, str]]:
    """The history as a table, without the time it took."""
    with (output.with_name(f"{output.stem}_training") / "metrics.csv").open(newline="") as file:
        return [{key: cell for key, cell in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def in_folder(folder: Path) -> set[str]:
    """The files in a folder; TensorBoard's without the time and the place in their names."""
    return {re.sub(r"(tfevents).*", r"\1", path.name) for path in folder.iterdir()}


def test_a_training_leaves_a_checkpoint_and_its_history(mixed, config, tmp_path):
    pytest.importorskip("tensorboard")
    output = tmp_path / "net.safetensors"
    result = train(mixed, output, config)
    about = networks.load(output).about
    assert (about["training_cases"], about["unlabelled_cases"], about["validation_cases"]) == (4, 4, 1)
    assert about["prior"] == "1,0"
    assert about["options"]["topology_weight"] == 0.1
    assert about["validation_right"] == round(result.history[result.best_epoch - 1].right, 4)
    folder = tmp_path / "net_training"
    assert in_folder(folder) == {"metrics.csv", "curve.png", "state.safetensors", "events.out.tfevents"}
    table = rows(output)
    assert [row["phase"] for row in table] == ["labels"] * 3 + ["topology"] * 2
    for row, epoch in zip(table, result.history, strict=True):
        assert int(row["epoch"]) == epoch.number
        assert float(row["loss"]) == pytest.approx(epoch.loss, rel=1e-5)
        assert float(row["dice box"]) == pytest.approx(epoch.dice[0], rel=1e-5)
        assert float(row["best"]) == pytest.approx(epoch.best, rel=1e-5)
        assert bool(row["topological_loss"]) == (epoch.phase == "topology")
    with Image.open(folder / "curve.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (800, 600))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("loss/supervised")] == [1, 2, 3, 4, 5]
    assert [event.step for event in events.Scalars("loss/topological")] == [4, 5]


def test_without_tensorboard_there_are_no_events(data, config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    train(data, tmp_path / "net.safetensors", config, replace(QUICK, epochs=1, topology_epochs=0), prior=None)
    assert in_folder(tmp_path / "net_training") == {"metrics.csv", "curve.png", "state.safetensors"}


@pytest.mark.parametrize("epochs", [1, 3, 4])
def test_an_interrupted_training_goes_on_to_the_same_end(epochs, mixed, config, tmp_path):
    """Bit for bit, in the first phase, between the two and in the second; no epoch that is over is lost."""
    straight, broken = tmp_path / "straight.safetensors", tmp_path / "broken.safetensors"
    train(mixed, straight, config)
    with pytest.raises(Stop):
        train(mixed, broken, config, on_step=stop_after(epochs))
    assert [row["epoch"] for row in rows(broken)] == [str(1 + index) for index in range(epochs)]
    seen: list[Epoch] = []
    result = train(mixed, broken, config, resume=True, on_step=seen.append)
    assert {epoch.number for epoch in seen} == set(range(epochs + 1, 6))
    assert [epoch.number for epoch in result.history] == [1, 2, 3, 4, 5]
    assert rows(broken) == rows(straight)
    assert broken.read_bytes() == straight.read_bytes()


def test_events_go_on_where_a_training_did(mixed, config, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output = tmp_path / "net.safetensors"
    with pytest.raises(Stop):
        train(mixed, output, config, on_step=stop_after(2))
    result = train(mixed, output, config, resume=True)
    events = EventAccumulator(str(tmp_path / "net_training"))
    events.Reload()
    found = {event.step: event.value for event in events.Scalars("loss/supervised")}
    assert list(found) == [1, 2, 3, 4, 5]
    assert list(found.values()) == pytest.approx([epoch.loss for epoch in result.history], rel=1e-5)


def test_resuming_what_never_began_begins_it(data, config, tmp_path):
    options = replace(QUICK, epochs=2)
    outputs = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for output, resume in zip(outputs, (False, True), strict=True):
        assert len(train(data, output, config, options, resume=resume, prior=None).history) == 2
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_resuming_what_is_over_returns_at_once(mixed, config, tmp_path):
    output = tmp_path / "net.safetensors"
    first = train(mixed, output, config)
    checkpoint, table = output.read_bytes(), rows(output)
    again = train(mixed, output, config, resume=True, on_step=stop_after(0))
    assert again.history == first.history
    assert again.best_epoch == first.best_epoch
    assert (output.read_bytes(), rows(output)) == (checkpoint, table)


def test_a_checkpoint_that_was_lost_is_written_anew(mixed, config, tmp_path):
    output = tmp_path / "net.safetensors"
    train(mixed, output, config)
    checkpoint = output.read_bytes()
    output.unlink()
    train(mixed, output, config, resume=True, on_step=stop_after(0))
    assert output.read_bytes() == checkpoint


def test_resuming_without_a_state_replaces_nothing(mixed, config, tmp_path):
    output = tmp_path / "net.safetensors"
    output.write_text("mine")
    with pytest.raises(UnwritableFile, match=r"net\.safetensors"):
        train(mixed, output, config, resume=True)
    assert output.read_text() == "mine"


def test_a_table_that_was_edited_is_another_request(mixed, config, tmp_path):
    output = tmp_path / "net.safetensors"
    text = "case,b0,b1\n05,1,0\n06,1,0\n07,1,0\n08,1,0\n"
    with pytest.raises(Stop):
        train(mixed, output, config, prior=request(tmp_path, text), on_step=stop_after(1))
    with pytest.raises(InvalidCheckpoint, match="found prior "):
        train(mixed, output, config, prior=request(tmp_path, text.replace("08,1,0", "08,1,1")), resume=True)
    train(mixed, output, config, prior=request(tmp_path, text), resume=True)


def test_a_new_training_does_not_go_on_with_an_old_one(mixed, config, tmp_path):
    output = tmp_path / "net.safetensors"
    options = replace(QUICK, epochs=1, topology_epochs=0)
    train(mixed, output, config, options)
    events = sorted((tmp_path / "net_training").glob("events*"))
    seen: list[Epoch] = []
    train(mixed, output, config, replace(options, seed=1), overwrite=True, on_step=seen.append)
    assert [epoch.number for epoch in seen if epoch.finished] == [1]
    assert networks.load(output).about["options"]["seed"] == 1
    assert not any(event.exists() for event in events)


def test_only_the_same_training_can_be_resumed(mixed, config, tmp_path):
    output = tmp_path / "net.safetensors"
    with pytest.raises(Stop):
        train(mixed, output, config, on_step=stop_after(1))
    before = {path: path.read_bytes() for path in (tmp_path / "net_training").iterdir()}
    found = "expected a training of the same request to go on with, found"
    wider = networks.NetworkConfig(2, ("box",), (1.0, 1.0), (16, 16), (4, 4, 8))
    for change, sentence in (
        ({"options": replace(QUICK, epochs=4)}, "epochs 3, now 4"),
        ({"options": replace(QUICK, topology_weight=0.2)}, "topology_weight 0.1, now 0.2"),
        ({"prior": PriorRequest(("1,1",))}, "prior 1,0, now 1,1"),
        ({"config": wider}, "channels another list"),
    ):
        with pytest.raises(InvalidCheckpoint) as caught:
            train(**{"data": mixed, "output": output, "config": config, "resume": True, **change})
        assert str(caught.value) == f"{tmp_path / 'net_training' / 'state.safetensors'}: {found} {sentence}"
    (mixed / "images" / "08.png").unlink()
    with pytest.raises(InvalidCheckpoint, match="found training cases another list"):
        train(mixed, output, config, resume=True)
    assert {path: path.read_bytes() for path in (tmp_path / "net_training").iterdir()} == before


def test_a_damaged_state_is_refused(mixed, config, tmp_path):
    output, state = tmp_path / "net.safetensors", tmp_path / "net_training" / "state.safetensors"
    with pytest.raises(Stop):
        train(mixed, output, config, on_step=stop_after(1))
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(
        InvalidCheckpoint, match=r"state.safetensors: expected the state of a training, found"
    ):
        train(mixed, output, config, resume=True)
    state.write_bytes(output.read_bytes())
    with pytest.raises(InvalidCheckpoint, match="found other weights"):
        train(mixed, output, config, resume=True)


@pytest.mark.parametrize("saves", [0, 1, 2, 3, 4])
def test_a_full_disk_ends_a_training_that_can_be_resumed(saves, mixed, config, tmp_path, monkeypatch):
    """Table, state and checkpoint, in that order, are each the last that was whole, no part of another."""
    straight, output = tmp_path / "straight.safetensors", tmp_path / "net.safetensors"
    train(mixed, straight, config)
    fsync, space = os.fsync, iter(range(saves))

    def full(descriptor):
        if next(space, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableFile, match=r"net.*: cannot be written \(No space left on device\)"):
        train(mixed, output, config)
    monkeypatch.undo()
    assert not list(tmp_path.rglob(".*.part"))
    state = tmp_path / "net_training" / "state.safetensors"
    assert (output.exists(), state.exists()) == (saves > 2, saves > 1)
    if saves > 2:
        networks.load(output)
    train(mixed, output, config, resume=True)
    assert rows(output) == rows(straight)
    assert output.read_bytes() == straight.read_bytes()


def request(tmp_path: Path, text: str) -> PriorRequest:
    table = tmp_path / "priors.csv"
    table.write_text(text)
    return PriorRequest(table=read_priors(table))


@pytest.mark.parametrize("checkpoint", [True, False])
def test_an_interrupted_training_is_not_begun_anew_by_mistake(checkpoint, mixed, config, tmp_path):
    output = tmp_path / "net.safetensors"
    with pytest.raises(Stop):
        train(mixed, output, config, on_step=stop_after(1))
    if not checkpoint:
        output.unlink()
    before = {path: path.read_bytes() for path in tmp_path.rglob("net*") if path.is_file()}
    with pytest.raises(UnwritableFile) as caught:
        train(mixed, output, config)
    state = tmp_path / "net_training" / "state.safetensors"
    sentence = f"{state}: exists already; --resume goes on from it, --overwrite begins anew"
    assert str(caught.value) == sentence
    assert {path: path.read_bytes() for path in before} == before
    assert len(train(mixed, output, config, overwrite=True).history) == 5


def test_a_training_that_goes_astray_keeps_the_last_good_state_and_checkpoint(
    mixed, config, tmp_path, monkeypatch
):
    output = tmp_path / "net.safetensors"
    compute = training._Run._supervised_loss
    monkeypatch.setattr(
        training._Run,
        "_supervised_loss",
        lambda self, *batch: compute(self, *batch) * (float("nan") if self.number == 2 else 1),
    )
    with pytest.raises(InvalidOption, match=r"--learning-rate: .* a loss of nan in epoch 3 .* is 2,"):
        train(mixed, output, config)
    monkeypatch.undo()
    assert [row["epoch"] for row in rows(output)] == ["1", "2"]
    assert all(value.isfinite().all() for value in networks.load(output).network.state_dict().values())
    assert len(train(mixed, output, config, resume=True).history) == 5


@pytest.mark.parametrize("change", [{"topology_weight": 0.0}, {"topology_epochs": 0}], ids=str)
@pytest.mark.parametrize("prior", [None, BOX], ids=["no prior", "a prior"])
def test_cases_without_labels_are_left_out_where_topology_is_not_learned(
    change, prior, mixed, config, tmp_path
):
    output = tmp_path / "net.safetensors"
    result = train(mixed, output, config, replace(QUICK, epochs=1, **change), prior=prior)
    assert [epoch.phase for epoch in result.history] == ["labels"]
    about = networks.load(output).about
    assert (about["training_cases"], about["unlabelled_cases"]) == (4, 0)


def test_a_table_of_other_cases_is_refused(data, config, tmp_path):
    text = "case,b0,b1\n" + "".join(f"scan{number},1,0\n" for number in range(4))
    sentence = "expected a row for at least one case of the data set, found rows for scan0, scan1, scan2, ..."
    with pytest.raises(InvalidPrior, match=re.escape(f"priors.csv: {sentence}")):
        train(data, tmp_path / "new" / "net.safetensors", config, prior=request(tmp_path, text))
    assert not (tmp_path / "new").exists()
    some = request(tmp_path, f"{text}03,1,0\n")
    train(data, tmp_path / "net.safetensors", config, replace(QUICK, epochs=1), prior=some)


def test_a_label_that_no_case_to_train_on_holds_is_refused(data, config, tmp_path):
    """Even if the case held back has it."""
    labels = np.array(Image.open(data / "labels" / "11.png"))
    labels[0, 0] = 2
    save(data / "labels" / "11.png", labels)
    sentence = "data: expected voxels of every label in the cases to train on, found none of lid (2), key (3)"
    with pytest.raises(InvalidArray, match=re.escape(sentence)):
        train(data, tmp_path / "new" / "net.safetensors", replace(config, labels=("box", "lid", "key")))
    assert not (tmp_path / "new").exists()


def prior_file(tmp_path: Path) -> PriorRequest:
    path = tmp_path / "prior.toml"
    path.write_text('[[constraint]]\nregion = "box"\nbetti = [1, 0, 0]\n')
    return PriorRequest(file=read_constraints(path))


@pytest.mark.parametrize(
    ("prior", "error", "sentence"),
    [
        (
            lambda folder: None,
            InvalidPrior,
            "expected --betti, --betti-csv or --prior for the cases without labels, found none for 4 of them "
            r"\(05, 06, 07, ...\)",
        ),
        (lambda folder: PriorRequest(("wall:1,1",)), InvalidPrior, r"expected one of the labels box \(1\)"),
        (lambda folder: PriorRequest(("2:1,1",)), InvalidPrior, r"'2:1,1': .*one of the labels box \(1\)"),
        (lambda folder: PriorRequest(("1,0,0",)), InvalidPrior, "0[0-9].*1,0,0"),
        (prior_file, TopofixError, "1,0,0"),
        (
            lambda folder: request(folder, "case,b0,b1\n05,1,0\n06,1,0\n07,1,0\n"),
            InvalidPrior,
            "priors.csv: expected a row for 08, found none",
        ),
    ],
    ids=["none", "another name", "another number", "another rank", "a file of another rank", "a row too few"],
)
def test_priors_that_do_not_fit_are_refused_before_anything_is_written(
    prior, error, sentence, mixed, config, tmp_path
):
    output = tmp_path / "new" / "net.safetensors"
    with pytest.raises(error, match=sentence):
        train(mixed, output, config, prior=prior(tmp_path), on_step=stop_after(0))
    assert not (tmp_path / "new").exists()


def test_a_single_labelled_case_is_not_enough(mixed, config, tmp_path):
    for number in range(1, 5):
        (mixed / "labels" / f"{number:02}.png").unlink()
    with pytest.raises(InvalidArray, match="data: expected at least two labelled cases, found 1"):
        train(mixed, tmp_path / "new" / "net.safetensors", config)
    assert not (tmp_path / "new").exists()


def test_a_table_of_priors_needs_names_of_their_own(mixed, config, tmp_path):
    (mixed / "other").mkdir()
    (mixed / "other" / "01.png").write_bytes((mixed / "images" / "06.png").read_bytes())
    table = mixed / "data.csv"
    lines = [f"images/{number:02}.png,labels/{number:02}.png" for number in range(3)]
    table.write_text("\n".join(["image,label", *lines, "other/01.png,", ""]))
    priors = request(tmp_path, "case,b0,b1\n01,1,0\n")
    one, another = mixed / "images" / "01.png", mixed / "other" / "01.png"
    sentence = f"priors.csv: expected a name of its own for every case, got {one} and {another}"
    with pytest.raises(InvalidPrior, match=re.escape(sentence)):
        train(table, tmp_path / "net.safetensors", config, prior=priors)
    assert len(train(table, tmp_path / "net.safetensors", config, replace(QUICK, epochs=1)).history) == 3


def cases_of(monkeypatch, data: Path, config, prior: PriorRequest) -> tuple[list[Case], list[Case]]:
    """What a training would be given."""

    def record(training: Sequence[Case], validation: Sequence[Case], *args, **how):
        found.extend([list(training), list(validation)])
        raise Stop

    found: list[list[Case]] = []
    monkeypatch.setattr(training_run, "fit", record)
    with pytest.raises(Stop):
        train(data, data.parent / "net.safetensors", config, prior=prior)
    return found[0], found[1]


def test_the_table_decides_which_cases_have_a_prior(mixed, config, tmp_path, monkeypatch):
    """All unlabelled ones need a row; a labelled one may have one."""
    table = "case,b0,b1\n02,1,0\n04,1,1\n05,1,0\n06,1,0\n07,2,0\n08,0-1,0\n"
    training, validation = cases_of(monkeypatch, mixed, config, request(tmp_path, table))
    found = {case.name: str(case.priors[0]) if case.priors[0] else None for case in (*training, *validation)}
    assert found == {
        "00.png": None,
        "01.png": None,
        "02.png": "1,0",
        "03.png": None,
        "04.png": "1,1",
        "05.png": "1,0",
        "06.png": "1,0",
        "07.png": "2,0",
        "08.png": "0-1,0",
    }
    assert [case.name for case in validation] == ["04.png"]


def stack(path: Path, array: np.ndarray, backwards: bool) -> None:
    """Slices of 8 mm along the last axis, which runs towards the feet if they are stored backwards."""
    affine = np.diag([1.0, 1.0, -8.0 if backwards else 8.0, 1.0])
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, array, Volume(array, (1.0, 1.0, 8.0), affine, path))


@pytest.mark.parametrize("backwards", [False, True])
def test_priors_by_slice_reach_their_slices(backwards, config, tmp_path, monkeypatch):
    """Slice k is k bright, and k components are asked of it."""
    image = np.zeros((18, 20, 5), np.float32) + np.arange(5, dtype=np.float32)
    for name in ("a", "b", "c"):
        stack(tmp_path / "data" / "images" / f"{name}.nii.gz", image, backwards)
    for name in ("a", "b"):
        stack(tmp_path / "data" / "labels" / f"{name}.nii.gz", (image > 3).astype(np.uint8), backwards)
    table = "case,slice,b0,b1\n" + "".join(f"c,{k},{k},0\n" for k in (0, 1, 3, 4))
    training, _ = cases_of(monkeypatch, tmp_path / "data", config, request(tmp_path, table))
    case = training[-1]
    assert [str(prior) if prior else None for prior in case.priors] == ["0,0", "1,0", None, "3,0", "4,0"]
    wholes = Wholes(training, config, augment=False, seed=0)
    values = {float(value): k for k, value in enumerate(case.image[0, 0])}
    pairs = [wholes[1, index] for index in range(len(wholes))]
    found = [values[float(seen[0, 0, 0])] for seen, _ in pairs]
    assert found == ([4, 3, 1, 0] if backwards else [0, 1, 3, 4])
    assert [str(prior) for _, prior in pairs] == [f"{k},0" for k in found]


def test_a_table_knows_nnunets_cases_without_the_number_of_the_channel(config, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    labels = np.zeros((20, 24), np.uint8)
    labels[4:12, 5:14] = 1
    for name in ("a", "b", "c"):
        save(folder / "imagesTr" / f"{name}_0000.png", 150 * labels)
    for name in ("a", "b"):
        save(folder / "labelsTr" / f"{name}.png", labels)
    table = "case,b0,b1\na,1,0\nb,1,1\nc,2,0\n"
    training, validation = cases_of(monkeypatch, folder, config, request(tmp_path, table))
    assert [str(case.priors[0]) for case in (*training, *validation)] == ["1,0", "2,0", "1,1"]


def test_a_table_of_cases_says_who_trains_and_who_validates(mixed, config, tmp_path):
    table = mixed / "data.csv"
    lines = [f"images/{number:02}.png,labels/{number:02}.png" for number in range(4)]
    splits = ["validation", "train", "train", "test"]
    lines = [f"{line},{split}" for line, split in zip(lines, splits, strict=True)]
    table.write_text("\n".join(["image,label,split", *lines, "images/06.png,,train", ""]))
    output = tmp_path / "net.safetensors"
    train(table, output, config, replace(QUICK, epochs=1, topology_epochs=1))
    about = networks.load(output).about
    assert (about["training_cases"], about["unlabelled_cases"], about["validation_cases"]) == (2, 1, 1)
    assert about["data"] == "data/data.csv"
