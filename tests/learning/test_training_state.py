"""The state of a training comes back bit for bit, or is refused with one sentence."""

import errno
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from topofix.errors import InvalidCheckpoint, UnwritableFile
from topofix.learning.network import NetworkConfig, build, save
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
    "phase": 0,
    "begun": 0,
    "updates": 1,
    "best_epoch": 0,
    "best": -1.0,
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
    ],
)
def test_a_header_without_a_whole_state_is_refused(text, file):
    save_file(load_file(file), file, metadata={"topofix training": text})
    with pytest.raises(InvalidCheckpoint, match=r"expected the state of a training, found less \("):
        load_state(file, REQUEST)


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
