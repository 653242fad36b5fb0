"""A checkpoint comes back as it was saved, or is refused with one sentence; nothing is unpickled."""

import errno
import io
import json
import os
import pickle
import re
import struct
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from topofix import __version__
from topofix.errors import InvalidCheckpoint, InvalidOption, UnwritableFile
from topofix.learning import network as networks
from topofix.learning.network import (
    NetworkConfig,
    at_most,
    build,
    bundled,
    choose_device,
    load,
    read_config,
    save,
    tensors_of,
    write_whole,
)

FLAT = NetworkConfig(2, ("disc", "ring"), (1.25, 0.5), (32, 48), channels=(4, 8, 8))
SOLID = NetworkConfig(3, ("ball",), (1.0, 2.0, 3.0), (16, 16, 8), channels=(2, 4, 4))
ABOUT = {"data": "made up", "licence": "CC0", "dice": [0.9, 0.8], "note": "ß"}


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save(path, build(FLAT, seed=3), FLAT, ABOUT)
    return path


def with_header(path: Path, text: str | None, tensors=None) -> Path:
    """The same weights under another header."""
    save_file(tensors or load_file(path), path, metadata=None if text is None else {"topofix": text})
    return path


@pytest.mark.parametrize("config", [FLAT, SOLID], ids=["2-D", "3-D"])
def test_what_is_saved_comes_back(config, tmp_path):
    network, generator = build(config, seed=5), torch.Generator().manual_seed(0)
    for buffer in network.buffers():  # statistics must survive too
        if buffer.is_floating_point():
            buffer.add_(torch.rand(buffer.shape, generator=generator))
        else:
            buffer.add_(7)
    path = tmp_path / "model.safetensors"
    save(path, network, config, ABOUT)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    loaded = load(path)
    assert loaded.name == "model"
    assert loaded.config == config
    assert loaded.about == {**ABOUT, "topofix": __version__}
    assert not any(module.training for module in loaded.network.modules())
    stored = loaded.network.state_dict()
    for name, value in network.state_dict().items():
        assert stored[name].dtype == value.dtype, name
        torch.testing.assert_close(stored[name], value.half().to(value.dtype), rtol=0, atol=0, msg=name)
        assert torch.allclose(stored[name].double(), value.double(), rtol=1e-3, atol=1e-6), name
    images = torch.rand(2, 1, *([16] * config.dimensions), generator=generator)
    with torch.no_grad():
        expected, got = network.eval()(images), loaded.network(images)
    assert (expected - got).abs().max() < 0.02 * expected.abs().max()


def test_saving_what_was_loaded_changes_no_bit(saved, tmp_path):
    first = load(saved)
    save(tmp_path / "again.safetensors", first.network, first.config, first.about)
    again = load(tmp_path / "again.safetensors")
    for name, value in first.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value), name


def test_saving_leaves_the_network_as_it_is(tmp_path):
    network = build(FLAT)
    save(tmp_path / "a.safetensors", network, FLAT, {})
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_a_save_that_fails_leaves_the_old_file_and_no_other(saved, monkeypatch):
    before = saved.read_bytes()
    with pytest.raises(TypeError):
        save(saved, build(FLAT), FLAT, {"not JSON": object()})

    def refuse(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UnwritableFile, match="cannot be written"):
        save(saved, build(FLAT, seed=9), FLAT, {})
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


class FullFile(io.FileIO):
    """A file on a disk that has space for four bytes."""

    def write(self, content):
        super().write(content[:4])
        full()


def full(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("late", [True, False])
def test_a_full_disk_leaves_the_old_file_and_no_other(late, saved, monkeypatch):
    """The operating system may say so at once, or only when the bytes have to be on the disk."""
    before = saved.read_bytes()
    if late:
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "open", lambda self, mode: FullFile(self, mode))
    with pytest.raises(UnwritableFile) as caught:
        write_whole(saved, b"new")
    monkeypatch.undo()
    assert str(caught.value) == f"{saved}: cannot be written (No space left on device)"
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]


def test_a_file_is_written_whole_and_where_an_interrupted_one_was_left(tmp_path):
    path = tmp_path / "file.bin"
    (tmp_path / ".file.bin.part").write_bytes(b"a half of what")
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"
    write_whole(path, b"another")
    assert path.read_bytes() == b"another"
    assert [file.name for file in tmp_path.iterdir()] == ["file.bin"]


@pytest.mark.parametrize("place", ["nowhere/file.bin", "file/file.bin"])
def test_a_folder_that_is_none_is_refused_in_one_sentence(place, tmp_path):
    (tmp_path / "file").write_bytes(b"not a folder")
    with pytest.raises(UnwritableFile, match=r"file.bin: cannot be written \("):
        write_whole(tmp_path / place, b"content")


def test_shared_weights_are_listed_once():
    network = build(FLAT)
    tensors = tensors_of(network)
    assert {value.data_ptr() for value in tensors.values()} == {
        value.data_ptr() for value in network.state_dict().values()
    }
    assert len(network.state_dict()) > len(tensors) == len({id(value) for value in tensors.values()})
    assert {name for name in tensors if name.endswith("running_mean")}, "statistics are part of it"


def test_the_configuration_is_read_without_the_weights(saved, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("weights were read")

    monkeypatch.setattr(networks, "build", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    config, about = read_config(saved)
    assert config == FLAT
    assert hash(config) == hash(FLAT)  # tuples, not JSON's lists
    assert about["licence"] == "CC0"


def test_label_values_and_divisor():
    assert FLAT.label_values == {"disc": 1, "ring": 2}
    assert FLAT.divisor == 4
    assert NetworkConfig(2, ("a",), (1.0, 1.0), (32, 32), (4,) * 5).divisor == 16


def test_a_missing_file_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(networks, "bundled", lambda: {"heart": tmp_path / "heart.safetensors"})
    expected = "nowhere.safetensors: expected a bundled model (heart) or a .safetensors file, found neither"
    for read in (read_config, load):
        with pytest.raises(InvalidCheckpoint, match=re.escape(expected)):
            read(tmp_path / "nowhere.safetensors")
    monkeypatch.setattr(networks, "bundled", dict)
    with pytest.raises(InvalidCheckpoint, match=r"\(none is installed\)"):
        load("heart")


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04 a zip", b"\xff" * 40, struct.pack("<Q", 10**9) + b"{}"], ids=len
)
def test_what_is_no_safetensors_file_is_refused(content, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(InvalidCheckpoint, match=r"^model.safetensors: expected a .safetensors file, found"):
        load(path)


def test_a_truncated_file_is_refused(saved):
    saved.write_bytes(saved.read_bytes()[:-100])
    with pytest.raises(InvalidCheckpoint, match=r"expected a .safetensors file, found another"):
        load(saved)


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("dump", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_nothing_is_ever_unpickled(dump, tmp_path):
    path, trace = tmp_path / "model.safetensors", tmp_path / "trace"
    dump(Bomb(trace), path)
    with pytest.raises(InvalidCheckpoint, match=r"expected a .safetensors file"):
        load(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists(), "the bomb is no bomb"


def test_somebody_elses_weights_are_refused(saved):
    with pytest.raises(InvalidCheckpoint, match="expected a checkpoint of topofix, found other weights"):
        load(with_header(saved, None))


@pytest.mark.parametrize(
    "text",
    [
        "{broken",
        "[]",
        "null",
        "{}",
        json.dumps({"config": asdict(FLAT)}),
        json.dumps({"config": None, "about": {}}),
        json.dumps({"config": {"dimensions": 2}, "about": {}}),
        json.dumps({"config": {**asdict(FLAT), "depth": 3}, "about": {}}),
        json.dumps({"config": {**asdict(FLAT), "spacing": ["a", "b"]}, "about": {}}),
        json.dumps({"config": asdict(FLAT), "about": 7}),
        json.dumps({"config": {**asdict(FLAT), "labels": "ab"}, "about": {}}),
        json.dumps({"config": {**asdict(FLAT), "channels": [4.0, 8, 8]}, "about": {}}),
        "[" * 100_000,
    ],
)
def test_a_broken_header_is_refused(saved, text):
    with pytest.raises(InvalidCheckpoint, match=r"^tiny.safetensors: expected a network's whole config"):
        load(with_header(saved, text))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dimensions": 4}, "expected a network of 2 or 3 dimensions, got 4"),
        ({"dimensions": 3}, "expected 3 numbers for spacing and patch size, got (1.25, 0.5) and (32, 48)"),
        ({"patch_size": (32,)}, "expected 2 numbers for spacing and patch size"),
        ({"labels": ()}, "expected at least one label name and three levels of channels"),
        ({"channels": (4, 8)}, "expected at least one label name and three levels of channels"),
        ({"spacing": (1.0, 0.0)}, "expected positive sizes in a network's configuration"),
        ({"patch_size": (32, 0)}, "expected positive sizes in a network's configuration"),
        ({"channels": (4, 8, -1)}, "expected positive sizes in a network's configuration"),
    ],
)
def test_an_impossible_configuration_is_refused(saved, change, message):
    values = {**asdict(FLAT), **change}
    with pytest.raises(InvalidCheckpoint, match=re.escape(message)):
        NetworkConfig(**values)
    with pytest.raises(InvalidCheckpoint, match=re.escape(message)):
        load(with_header(saved, json.dumps({"config": values, "about": {}})))


def test_weights_of_another_shape_are_refused(saved):
    wider = NetworkConfig(2, ("disc", "ring"), (1.25, 0.5), (32, 48), channels=(4, 8, 16))
    with pytest.raises(
        InvalidCheckpoint, match=r"expected '.+' of shape \(16, 8, 3, 3\), got \(8, 8, 3, 3\)"
    ):
        load(with_header(saved, json.dumps({"config": asdict(wider), "about": {}})))


def test_missing_and_foreign_weights_are_refused_by_name(saved):
    header = json.dumps({"config": asdict(FLAT), "about": {}})
    tensors = load_file(saved)
    name = sorted(tensors)[2]
    kept = {key: value for key, value in tensors.items() if key != name}
    with pytest.raises(InvalidCheckpoint, match=f"weights don't fit their configuration, see '{name}'"):
        load(with_header(saved, header, kept))
    with pytest.raises(InvalidCheckpoint, match=r"see 'a.stranger'"):
        load(with_header(saved, header, {**tensors, "a.stranger": torch.zeros(1)}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"channels": (4096,) * 10},
            "expected a network for the 5021 numbers in its file, got one of over 1058618",
        ),
        ({"labels": tuple(map(str, range(1024))), "channels": (4096, 4, 4)}, "expected a network for the"),
        ({"channels": (10**9,) * 3}, "expected at most 4096 channels on a level, got 1000000000"),
        ({"channels": (2,) * 5000}, "expected at most 10 levels of channels, got 5000"),
        ({"labels": tuple(map(str, range(200_000)))}, "expected at most 1024 labels, got 200000"),
        ({"patch_size": (10**6, 10**6)}, "expected at most 16777216 voxels in a patch, got 1000000000000"),
    ],
)
def test_a_network_far_larger_than_its_file_is_refused_before_it_takes_memory(saved, change, says):
    header = json.dumps({"config": {**asdict(FLAT), **change}, "about": {}})
    with pytest.raises(InvalidCheckpoint, match=f"^tiny.safetensors: {says}"):
        load(with_header(saved, header))


def test_weights_are_counted_once_and_only_in_the_thread_that_builds():
    numbers = sum(parameter.numel() for parameter in build(FLAT).parameters())
    with at_most((numbers - 2**20 + 1) // 2, "net"):  # twice that and a million: exactly as many
        build(FLAT)
    with (
        pytest.raises(InvalidCheckpoint, match=r"^net: expected a network for the -\d+ numbers in its file"),
        at_most((numbers - 2**20 - 1) // 2, "net"),
    ):
        build(FLAT)
    built = []
    with at_most(-(2**19), "net"):  # nothing at all
        thread = threading.Thread(target=lambda: built.append(build(FLAT)))
        thread.start()
        thread.join()
    assert len(built) == 1
    build(FLAT)


@pytest.mark.parametrize("name", ["counters", "weights"])
def test_weights_of_another_kind_are_refused(saved, name):
    header = json.dumps({"config": asdict(FLAT), "about": {}})
    tensors = load_file(saved)
    if name == "counters":
        changed = {
            key: value.float() if value.dtype == torch.int64 else value for key, value in tensors.items()
        }
    else:
        changed = {key: value.to(torch.int16) for key, value in tensors.items()}
    with pytest.raises(InvalidCheckpoint, match=r"expected '.+' of a type like torch\.\w+, got \w+$"):
        load(with_header(saved, header, changed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_weights_of_another_precision_are_read(saved, dtype):
    header = json.dumps({"config": asdict(FLAT), "about": {}})
    tensors = {
        key: value.to(dtype) if value.is_floating_point() else value.int()
        for key, value in load_file(saved).items()
    }
    load(with_header(saved, header, tensors))


@pytest.mark.parametrize(
    "content",
    [
        lambda content: content[:8] + b"[" * (len(content) - 8),
        lambda content: struct.pack("<Q", 2**40) + content[8:],
        lambda content: content.replace(b'"F16"', b'"F64"', 1),
        lambda content: content.replace(b'"data_offsets":[0', b'"data_offsets":[2', 1),
        lambda content: content + b"\0",
    ],
)
def test_a_header_that_lies_is_refused_before_a_network_is_built(saved, content, monkeypatch):
    monkeypatch.setattr(networks, "build", lambda *args: pytest.fail("a network was built"))
    saved.write_bytes(content(saved.read_bytes()))
    with pytest.raises(
        InvalidCheckpoint, match=r"^tiny.safetensors: expected a .safetensors file, found another"
    ):
        load(saved)


def test_a_file_that_changes_while_it_is_read_is_refused(saved, monkeypatch):
    def fail(path):
        raise ValueError("other tensors")

    monkeypatch.setattr(networks, "read_tensors", fail)
    with pytest.raises(
        InvalidCheckpoint, match=r"expected a .safetensors file, found another .other tensors."
    ):
        load(saved)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()]
)
def test_what_is_no_file_is_refused_without_waiting(make, tmp_path):
    make(tmp_path / "model.safetensors")
    with pytest.raises(InvalidCheckpoint, match=r"or a .safetensors file, found neither"):
        load(tmp_path / "model.safetensors")


def test_initial_weights_depend_on_the_seed_alone():
    first = build(FLAT, seed=1).state_dict()
    torch.manual_seed(1234)
    again, other = build(FLAT, seed=1).state_dict(), build(FLAT, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_building_and_loading_leave_the_global_generator_alone(saved):
    state = torch.get_rng_state()
    build(FLAT, seed=1)
    load(saved)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("config", [FLAT, SOLID], ids=["2-D", "3-D"])
def test_a_network_maps_images_to_one_logit_per_label_and_background(config):
    images = torch.zeros(2, 1, *(config.divisor * side for side in (4, 2, 3)[: config.dimensions]))
    logits = build(config).eval()(images)
    assert logits.shape == (2, len(config.labels) + 1, *images.shape[2:])


def test_in_evaluation_a_prediction_does_not_depend_on_its_batch():
    network = build(FLAT).eval()
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(network(images)[:1], network(images[:1]), atol=1e-5)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "tpu", ""])
def test_devices_that_are_not_there_are_refused(name):
    with pytest.raises(InvalidOption, match=rf"^--device: expected a device of this machine .*got '{name}'$"):
        choose_device(name)


def test_auto_is_a_device_that_works():
    assert torch.ones(2, device=choose_device("auto")).sum().item() == 2
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cardiac-sax-2d", "hippocampus-3d"])
def test_every_bundled_model_loads_by_name(name):
    checkpoint = load(name)
    assert checkpoint.name == name
    assert checkpoint.config == read_config(bundled()[name])[0]
    side = checkpoint.config.divisor
    with torch.no_grad():
        logits = checkpoint.network(torch.zeros(1, 1, *[2 * side] * checkpoint.config.dimensions))
    assert torch.isfinite(logits).all()
    assert logits.shape[1] == len(checkpoint.config.labels) + 1


def test_bundled_models_are_the_files_beside_the_package():
    for name, path in bundled().items():
        assert path.is_file()
        assert path.name == f"{name}.safetensors"
        assert path.parent.name == "models"
