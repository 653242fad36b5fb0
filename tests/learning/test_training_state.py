"""The state of a training comes back bit for bit, or is refused with one sentence."""

import errno
import json
import os
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from topofix.errors import InvalidCheckpoint, UnwritableFile
from topofix.learning import training_state
from topofix.learning.network import NetworkConfig, build, save, tensors_of
from topofix.learning.training_state import Epoch, TrainingState, load_state, save_state

REQUEST = {"epochs": 6, "learning_rate": 1e-3, "patch_size": (16, 16), "prior": None, "cases": ["a", "b"]}
HISTORY = (
    Epoch(1, "labels", 3, 3, 0.1 + 0.2, 0.0, (), 0.0, -1.0, 1.5, 9.5, finished=True),
    Epoch(
        2, "topology", 3, 3, 1e-17, 1 / 3, (0.7, 1.0), 2 / 3, 0.75, 3.0, 0.0, finished=True, validated=True
    ),
)


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights = torch.rand(4, 2, 3, 3, generator=generator).to(memory_format=torch.channels_last)
    return {
        "network/a.weight": torch.nn.Parameter(weights),
        "network/a.count": torch.tensor(12345678901),
        "average/a.weight": weights / 3,
        "best/a.weight": weights[:, :1],  # a view of another's memory
        "optimiser/0/step": torch.tensor(7.0),
        "optimiser/0/exp_avg": torch.tensor([torch.nan, -0.0, 1e-42, torch.inf]),
    }


@pytest.fixture
def state() -> TrainingState:
    return TrainingState(tensors(), 1, 1, 40, 2, 0.75, 12.125, HISTORY)


@pytest.fixture
def file(tmp_path, state) -> Path:
    save_state(tmp_path / "state.safetensors", state, REQUEST)
    return tmp_path / "state.safetensors"


def test_a_state_comes_back_bit_for_bit(file, state):
    loaded = load_state(file, REQUEST)
    assert replace(loaded, tensors={}).history == HISTORY
    for name in ("phase", "begun", "updates", "best_epoch", "best", "seconds"):
        assert getattr(loaded, name) == getattr(state, name), name
    assert loaded.tensors.keys() == state.tensors.keys()
    for name, value in state.tensors.items():
        found = loaded.tensors[name]
        assert (found.dtype, found.shape, found.requires_grad) == (value.dtype, value.shape, False), name
        expected = value.detach().contiguous()
        same = (
            torch.equal(found.view(torch.uint8), expected.view(torch.uint8)) if value.ndim else found == value
        )
        assert same, name
    assert [path.name for path in file.parent.iterdir()] == ["state.safetensors"]


def test_moments_are_found_by_number_and_name(state):
    assert {number: set(kinds) for number, kinds in state.moments.items()} == {0: {"step", "exp_avg"}}


def test_tensors_are_found_by_the_beginning_of_their_names(state):
    assert state.under("network/").keys() == {"a.weight", "a.count"}
    assert state.under("optimiser/").keys() == {"0/step", "0/exp_avg"}
    assert state.under("nothing/") == {}


def test_a_request_is_compared_as_json_has_it(file):
    """A tuple comes back as a list, and that is no difference."""
    load_state(file, {**REQUEST, "patch_size": [16, 16]})


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"epochs": 8}, "epochs 6, now 8"),
        ({"learning_rate": 2e-3}, "learning_rate 0.001, now 0.002"),
        ({"prior": "1,1"}, "prior None, now 1,1"),
        ({"cases": ["a", "c"]}, "cases another list"),
        ({"cases": ["b", "a"]}, "cases another list"),
        ({"patch_size": (16, 32)}, "patch_size another list"),
        ({"loss": "dice"}, "loss None, now dice"),
        ({"prior": "1,1", "epochs": 8}, "epochs 6, now 8"),
    ],
    ids=str,
)
def test_a_state_of_another_request_is_refused(change, found, file):
    sentence = f"{file}: expected a training of the same request to go on with, found {found}"
    with pytest.raises(InvalidCheckpoint, match=f"^{re.escape(sentence)}$"):
        load_state(file, {**REQUEST, **change})


def test_a_damaged_file_is_refused(file):
    whole = file.read_bytes()
    for content in (b"", b"not a state", whole[:20], whole[:-1], whole + b"x", bytes(len(whole))):
        file.write_bytes(content)
        with pytest.raises(
            InvalidCheckpoint, match=r"state.safetensors: expected the state of a training, fou"
        ):
            load_state(file, REQUEST)


def test_other_weights_are_refused(tmp_path):
    config = NetworkConfig(2, ("disc",), (1.0, 1.0), (16, 16), channels=(4, 4, 4))
    save(tmp_path / "net.safetensors", build(config), config, {})
    save_file({"a": torch.zeros(1)}, tmp_path / "bare.safetensors")
    for name in ("net", "bare"):
        with pytest.raises(InvalidCheckpoint, match=rf"{name}.safetensors: .* found other weights$"):
            load_state(tmp_path / f"{name}.safetensors", REQUEST)


PROGRESS = {
    "phase": 1,
    "begun": 1,
    "updates": 1,
    "best_epoch": 2,
    "best": 0.75,
    "seconds": 1.0,
    "history": [],
}


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "7",
        "{}",
        json.dumps({"request": REQUEST}),
        json.dumps({"request": [], "progress": PROGRESS}),
        json.dumps({"request": REQUEST, "progress": []}),
        json.dumps({"request": REQUEST, "progress": "half"}),
        json.dumps({"request": REQUEST, "progress": {**PROGRESS, "history": [{"number": 1}]}}),
        json.dumps({"request": REQUEST, "progress": {**PROGRESS, "history": ["first"]}}),
        json.dumps({"request": REQUEST, "progress": {**PROGRESS, "history": [{"dice": 1}]}}),
        json.dumps({"request": REQUEST, "progress": {"history": []}}),
        json.dumps({"request": REQUEST, "progress": {**PROGRESS, "more": 1}}),
        "[" * 100_000,
    ],
)
def test_a_header_without_a_whole_state_is_refused(text, file):
    save_file(load_file(file), file, metadata={"topofix training": text})
    with pytest.raises(InvalidCheckpoint, match=r"expected the state of a training, found less \("):
        load_state(file, REQUEST)


def progress(**changes) -> dict:
    """What a header says of two epochs, with changes to it, or as `epoch` to the last of them."""
    epochs = [asdict(epoch) for epoch in HISTORY]
    epochs[-1] |= changes.pop("epoch", {})
    return {**PROGRESS, "history": epochs, **changes}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"history": []}, "no epoch"),
        ({"phase": 2}, "phase 2, begun after 1 epochs, best 2"),
        ({"phase": -1}, "phase -1"),
        ({"phase": True}, "phase True"),
        ({"phase": "0"}, "phase '0'"),
        ({"phase": 0}, "phase 0, begun after 1 epochs, in a history of others"),
        ({"phase": 0, "begun": 0}, "phase 0, begun after 0 epochs, in a history of others"),
        ({"begun": 0}, "phase 1, begun after 0 epochs, in a history of others"),
        ({"begun": 2}, "phase 1, begun after 2 epochs, best 2"),
        ({"begun": 10**12}, "phase 1, begun after 1000000000000 epochs, best 2"),
        ({"begun": -1}, "begun -1"),
        ({"best_epoch": 3}, "phase 1, begun after 1 epochs, best 3"),
        ({"best_epoch": 1}, "best 1, an epoch without Dice"),
        ({"best_epoch": -1}, "best_epoch -1"),
        ({"updates": -1}, "updates -1"),
        ({"updates": 2**64}, "updates 18446744073709551616"),
        ({"updates": 1.5}, "updates 1.5"),
        ({"best": "high"}, "best 'high'"),
        ({"best": float("nan")}, "best nan"),
        ({"seconds": None}, "seconds None"),
        ({"seconds": float("inf")}, "seconds inf"),
        pytest.param({"seconds": 10**400}, "seconds 100000000000000000...0000000000000000000", id="large"),
        ({"epoch": {"number": "1"}}, "number '1'"),
        ({"epoch": {"number": 7}}, "epoch 7 in place 2"),
        ({"epoch": {"phase": "labels"}}, "phase 1, begun after 1 epochs, in a history of others"),
        ({"epoch": {"phase": "dreams"}}, "phase 'dreams'"),
        ({"epoch": {"phase": []}}, "phase []"),
        ({"epoch": {"loss": "low"}}, "loss 'low'"),
        ({"epoch": {"dice": [0.5, "x"]}}, "dice (0.5, 'x')"),
        ({"epoch": {"dice": [0.5, float("inf")]}}, "dice (0.5, inf)"),
        ({"epoch": {"dice": []}}, "best 2, an epoch without Dice"),
        ({"epoch": {"steps": -1}}, "steps -1"),
    ],
    ids=str,
)
def test_a_header_with_values_that_cannot_be_is_refused(changes, found, file):
    text = json.dumps({"request": REQUEST, "progress": progress(**changes)})
    save_file(load_file(file), file, metadata={"topofix training": text})
    with pytest.raises(
        InvalidCheckpoint, match=re.escape(f"{file}: expected the state of a training, found less ({found})")
    ):
        load_state(file, REQUEST)


CONFIG = NetworkConfig(2, ("disc", "hole"), (1.0, 1.0), (16, 16), channels=(4, 4, 4))
TRAINED = {**REQUEST, **asdict(CONFIG)}


def of_network(with_moments: bool = True) -> dict[str, torch.Tensor]:
    """What a training of a network keeps."""
    network = build(CONFIG)
    kept = {
        f"{copy}/{name}": value.detach().clone()
        for copy in ("network", "average", "best")
        for name, value in tensors_of(network).items()
    }
    for index, weight in enumerate(network.parameters() if with_moments else ()):
        kept |= {f"optimiser/{index}/{kind}": weight.detach().clone() for kind in ("exp_avg", "exp_avg_sq")}
        kept[f"optimiser/{index}/step"] = torch.tensor(7.0)
    return kept


@pytest.mark.parametrize("with_moments", [True, False], ids=["begun", "before the first step"])
def test_the_state_of_a_network_fits_its_configuration(tmp_path, with_moments):
    path = tmp_path / "state.safetensors"
    save_state(path, TrainingState(of_network(with_moments), 1, 1, 1, 2, 0.75, 1.0, HISTORY), TRAINED)
    assert load_state(path, TRAINED).tensors.keys() == of_network(with_moments).keys()


def without(name):
    return lambda kept: {key: value for key, value in kept.items() if key != name}


@pytest.mark.parametrize("dice", [(0.7,), (0.7, 0.8, 0.9)], ids=str)
def test_dice_of_other_labels_is_refused(tmp_path, dice):
    path, history = tmp_path / "state.safetensors", (HISTORY[0], replace(HISTORY[1], dice=dice))
    save_state(path, TrainingState(of_network(), 1, 1, 1, 2, 0.75, 1.0, history), TRAINED)
    with pytest.raises(InvalidCheckpoint, match=re.escape(f"found less (dice {dice} for 2 labels)")):
        load_state(path, TRAINED)


NAME = "network/bottleneck.conv1.conv.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without(NAME), "expected the tensors of this training, see 'network/bott...1.conv.weight'"),
        (without("optimiser/3/step"), "expected the tensors of this training, see 'optimiser/3/step'"),
        (lambda kept: {**kept, "a": torch.zeros(1)}, "expected the tensors of this training, see 'a'"),
        (
            lambda kept: {**kept, "optimiser/999/step": torch.zeros(())},
            "expected the tensors of this training, see 'optimiser/999/step'",
        ),
        (
            lambda kept: {**kept, NAME: torch.zeros(4, 4, 3)},
            f"expected '{NAME}' of shape (4, 4, 3, 3) like torch.float32, found (4, 4, 3) of F32",
        ),
        (
            lambda kept: {**kept, NAME: kept[NAME].long()},
            f"expected '{NAME}' of shape (4, 4, 3, 3) like torch.float32, found (4, 4, 3, 3) of I64",
        ),
    ],
    ids=["missing", "a moment missing", "strange", "a strange moment", "shape", "type"],
)
def test_tensors_of_another_network_are_refused_before_they_are_read(tmp_path, change, says, monkeypatch):
    path = tmp_path / "state.safetensors"
    save_state(path, TrainingState(change(of_network()), 1, 1, 1, 2, 0.75, 1.0, HISTORY), TRAINED)
    monkeypatch.setattr(training_state, "read_tensors", lambda path: pytest.fail("tensors were read"))
    with pytest.raises(InvalidCheckpoint, match=f"^{re.escape(f'{path}: {says}')}$"):
        load_state(path, TRAINED)


def test_a_state_far_smaller_than_its_network_is_refused_before_that_is_built(tmp_path):
    large = {**REQUEST, **asdict(replace(CONFIG, channels=(4096,) * 10))}
    path = tmp_path / "state.safetensors"
    save_state(path, TrainingState(of_network(), 1, 1, 1, 2, 0.75, 1.0, HISTORY), large)
    with pytest.raises(
        InvalidCheckpoint, match=r"state.safetensors: expected a network for the \d+ numbers in its"
    ):
        load_state(path, large)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()]
)
def test_what_is_no_file_is_refused_without_waiting(make, tmp_path):
    make(tmp_path / "state.safetensors")
    with pytest.raises(InvalidCheckpoint, match=r"expected the state of a training, found no file$"):
        load_state(tmp_path / "state.safetensors", REQUEST)


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_earlier_state_and_no_other_file(file, state, monkeypatch):
    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableFile) as caught:
        save_state(file, replace(state, phase=0), REQUEST)
    assert str(caught.value) == f"{file}: cannot be written (No space left on device)"
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["state.safetensors"]


def test_a_later_state_replaces_an_earlier_one(file, state):
    save_state(file, replace(state, updates=41), REQUEST)
    assert load_state(file, REQUEST).updates == 41
