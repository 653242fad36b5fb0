"""Somebody else's network predicts as ever, runs no code untrusted, or is refused with a reason."""

import copy
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from monai.networks.nets import DynUNet, UNet
from safetensors.torch import save_file
from torch import nn
from torch.torch_version import TorchVersion

from topofix.errors import InvalidCheckpoint, InvalidOption
from topofix.learning import network as networks
from topofix.learning.description import describe
from topofix.learning.foreign import adaptable, last_change, load
from topofix.learning.inference import grid_for, predict
from topofix.learning.network import NetworkConfig, build
from topofix.learning.refinement import refine_weights
from topofix.records import RefinementOptions
from topofix.topology.priors import Prior

PATCH = {2: (16, 24), 3: (8, 12, 10)}
UNET = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "channels": [4, 8, 8], "strides": [2, 2]}


class Tiny(nn.Module):
    """Two convolutions around a normalisation whose statistics matter."""

    def __init__(self, dimensions: int = 2, channels: int = 3) -> None:
        super().__init__()
        convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
        self.first = convolution(1, 4, 3, padding=1)
        self.norm = (nn.BatchNorm2d if dimensions == 2 else nn.BatchNorm3d)(4)
        self.last = convolution(4, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.first(x))))


class Odd(nn.Module):
    """Makes something of an image that is no logits."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        logits = torch.cat([x, x, x], 1) * self.weight
        if self.kind == "pair":
            return logits, logits
        if self.kind == "integers":
            return logits.argmax(1, keepdim=True).repeat(1, 3, 1, 1)
        if self.kind == "half the size":
            return logits[..., ::2, ::2]
        return logits


class Detached(Tiny):
    """Its logits carry no gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.norm(self.first(x)))).detach()


def seeded(network: nn.Module) -> nn.Module:
    """The network with weights and statistics that depend on nothing else, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) - 0.3)
        for name, tensor in network.named_buffers():
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    return network.eval()


def tiny(dimensions: int = 2, channels: int = 3) -> nn.Module:
    return seeded(Tiny(dimensions, channels))


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def script(network: nn.Module, example: torch.Tensor, path: Path) -> Path:
    torch.jit.script(network).save(path.with_suffix(".ts"))
    return path.with_suffix(".ts")


def trace(network: nn.Module, example: torch.Tensor, path: Path) -> Path:
    torch.jit.trace(network, example).save(path.with_suffix(".pt"))
    return path.with_suffix(".pt")


def export(network: nn.Module, example: torch.Tensor, path: Path) -> Path:
    torch.export.save(torch.export.export(network, (example,)), path.with_suffix(".pt2"))
    return path.with_suffix(".pt2")


PROGRAMS = [script, trace, export]


def note(file: Path, network: dict | None = None, **changes) -> Path:
    """Writes the TOML of a network beside its file; what is None is left out."""
    patch = PATCH.get(changes.get("dimensions"), PATCH[2])
    values = {"weights": file.name, "dimensions": 2, "labels": ["disc", "ring"], "patch_size": list(patch)}
    values |= {"spacing": [1.0] * len(patch), **changes}
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if value is not None]
    if network is not None:
        lines += ["[network]", *(f"{key} = {json.dumps(value)}" for key, value in network.items())]
    path = file.with_name("their.toml")
    path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.fixture
def program(tmp_path) -> Path:
    """A scripted network with three channels."""
    return script(tiny(), images(1, 1, *PATCH[2]), tmp_path / "model")


def refused(path: Path, trusted: bool = True, error: type[Exception] = InvalidCheckpoint) -> str:
    """The one sentence that loading a model ends in."""
    with pytest.raises(error) as caught:
        load(path, trusted)
    text = str(caught.value)
    assert "\n" not in text
    assert len(text) < 400
    return text


# Predictions


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("make", PROGRAMS)
def test_a_program_predicts_as_the_network_it_was_made_of(make, dimensions, tmp_path):
    network, several = tiny(dimensions), images(3, 1, *PATCH[dimensions])
    path = note(make(network, several[:1], tmp_path / "model"), dimensions=dimensions)
    checkpoint = load(str(path), trusted=True)
    assert checkpoint.name == "their"
    assert checkpoint.config.labels == ("disc", "ring")
    assert checkpoint.config.label_values == {"disc": 1, "ring": 2}
    assert checkpoint.config.patch_size == PATCH[dimensions]
    assert checkpoint.config.divisor == 1
    assert not checkpoint.network.training
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.network(several), network(several), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", PROGRAMS)
def test_a_unet_of_monai_predicts_as_it_did(make, tmp_path):
    network, example = seeded(UNet(**UNET)), images(1, 1, *PATCH[2])
    checkpoint = load(note(make(network, example, tmp_path / "model")), trusted=True)
    with torch.no_grad():
        torch.testing.assert_close(checkpoint.network(example), network(example), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth", "nested", "half"])
def test_bare_weights_of_monai_need_no_trust(kind, tmp_path, monkeypatch):
    network, example = seeded(UNet(**UNET)), images(1, 1, *PATCH[2])
    state = network.state_dict()
    if kind in ("safetensors", "half"):
        path = tmp_path / "model.safetensors"
        save_file({k: v.half() if kind == "half" else v for k, v in state.items()}, path)
    else:
        path = tmp_path / ("model.pth" if kind == "pth" else "model.pt")
        torch.save({"state_dict": state, "epoch": 3} if kind == "nested" else state, path)
    forbid_programs(monkeypatch)
    checkpoint = load(note(path, {"name": "UNet", **UNET}))
    with torch.no_grad():
        expected, got = network(example), checkpoint.network(example)
    assert (expected - got).abs().max() <= (0.02 if kind == "half" else 1e-5) * expected.abs().max()


def test_weights_that_go_by_two_names_may_be_stored_once(tmp_path):
    arguments = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3, "kernel_size": [3, 3, 3]}
    arguments |= {"strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 8, 8]}
    network = seeded(DynUNet(**arguments))
    save_file(networks.tensors_of(network), tmp_path / "model.safetensors")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    assert len(network.state_dict()) > len(networks.tensors_of(network))
    for name in ("model.safetensors", "model.pt"):
        got = load(note(tmp_path / name, {"name": "DynUNet", **arguments})).network
        with torch.no_grad():
            torch.testing.assert_close(
                got(images(1, 1, *PATCH[2])), network(images(1, 1, *PATCH[2])), rtol=1e-4, atol=1e-4
            )


def test_one_channel_for_one_label_is_a_sigmoid(tmp_path):
    network, example = tiny(channels=1), images(2, 1, *PATCH[2])
    path = note(script(network, example, tmp_path / "model"), labels=["disc"])
    with torch.no_grad():
        logits = load(path, trusted=True).network(example)
        expected = torch.sigmoid(network(example))
    assert logits.shape == (2, 2, *PATCH[2])
    torch.testing.assert_close(torch.softmax(logits, 1)[:, 1:], expected)
    two = note(script(tiny(channels=2), example, tmp_path / "two"), labels=["disc"])
    with torch.no_grad():
        torch.testing.assert_close(load(two, trusted=True).network(example), tiny(channels=2)(example))


@pytest.mark.parametrize("make", PROGRAMS)
def test_an_image_of_any_size_goes_through_in_patches(make, tmp_path):
    network = tiny()
    theirs = load(note(make(network, images(1, 1, *PATCH[2]), tmp_path / "model")), trusted=True).network
    small, large = images(2, 1, 13, 24), images(2, 1, 20, 61)
    with torch.no_grad():
        padded = nn.functional.pad(small, (0, 0, 1, 2), mode="replicate")
        torch.testing.assert_close(theirs(small), network(padded)[:, :, 1:14], rtol=1e-5, atol=1e-5)
        windows = sliding_window_inference(large, PATCH[2], 4, network, overlap=0.25, mode="gaussian")
        torch.testing.assert_close(theirs(large), windows, rtol=1e-4, atol=1e-4)
        assert theirs(images(1, 1, 40, 5)).shape == (1, 3, 40, 5)


def test_a_program_saved_in_training_mode_is_evaluated(tmp_path):
    network = nn.Sequential(tiny(), nn.Dropout(0.9)).train()
    theirs = load(note(script(network, None, tmp_path / "model")), trusted=True).network
    with torch.no_grad():
        expected = network.eval()(images(1, 1, *PATCH[2]))
        torch.testing.assert_close(theirs(images(1, 1, *PATCH[2])), expected)
    assert not any(module.training for module in theirs.modules())


def test_topofix_checkpoints_are_loaded_as_ever(tmp_path):
    config = NetworkConfig(2, ("disc",), (1.0, 1.0), (16, 16), channels=(2, 4, 4))
    networks.save(tmp_path / "ours.safetensors", build(config), config, {"licence": "CC0"})
    checkpoint = load(tmp_path / "ours.safetensors")
    assert (checkpoint.name, checkpoint.config, checkpoint.about["licence"]) == ("ours", config, "CC0")
    assert adaptable(checkpoint.network)
    with pytest.raises(InvalidCheckpoint, match="expected a bundled model"):
        load("nowhere")


def test_the_global_generator_is_left_alone(tmp_path):
    save_file(seeded(UNet(**UNET)).state_dict(), tmp_path / "model.safetensors")
    state = torch.get_rng_state()
    load(note(tmp_path / "model.safetensors", {"name": "UNet", **UNET}))
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_said_on_the_way(tmp_path, capfd, recwarn):
    path = note(export(tiny(), images(1, 1, *PATCH[2]), tmp_path / "model"))
    recwarn.clear()
    capfd.readouterr()
    copy.deepcopy(load(path, trusted=True).network)
    path.with_name("model.pt2").write_bytes(b"nonsense")
    refused(path)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


# Trust


def forbid_programs(monkeypatch) -> None:
    def refuse(*args, **kwargs):
        raise AssertionError("a program was loaded")

    monkeypatch.setattr(torch.jit, "load", refuse)
    monkeypatch.setattr(torch.export, "load", refuse)


@pytest.mark.parametrize("make", PROGRAMS)
def test_a_program_needs_trust_before_it_is_opened(make, tmp_path, monkeypatch):
    path = note(make(tiny(), images(1, 1, *PATCH[2]), tmp_path / "model"))
    forbid_programs(monkeypatch)
    text = refused(path, trusted=False, error=InvalidOption)
    name = describe(path).weights.name
    assert text == (
        f"their.toml: loading '{name}' runs code from that file; "
        "expected --trust-model, which allows it, got none"
    )


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("trusted", [False, True])
def test_bare_weights_are_never_unpickled(trusted, tmp_path):
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    torch.save({**UNet(**UNET).state_dict(), "bomb": Bomb(trace)}, path)
    text = refused(note(path, {"name": "UNet", **UNET}), trusted)
    assert text == "model.pt: expected bare weights, found another kind of file"
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists(), "the bomb is no bomb"


def test_where_torch_unpickles_carelessly_weights_need_trust_too(tmp_path, monkeypatch):
    torch.save(UNet(**UNET).state_dict(), tmp_path / "model.pt")
    save_file(UNet(**UNET).state_dict(), tmp_path / "model.safetensors")
    table = {"name": "UNet", **UNET}
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.5.1"))
    assert "--trust-model" in refused(note(tmp_path / "model.pt", table), False, InvalidOption)
    assert load(note(tmp_path / "model.pt", table), trusted=True)
    assert load(note(tmp_path / "model.safetensors", table))


# Refinement


def disc_prediction(checkpoint):
    """A network that smooths, an image with two discs where one is asked for, and what it makes of that."""
    field = np.full((16, 24), -1.0, np.float32)
    field[3:11, 3:11] = 1.0
    field[5:8, 16:19] = 0.6
    image = torch.from_numpy(field)
    grid = grid_for(checkpoint.config, image.shape, (1.0, 1.0))
    return image, grid, predict(checkpoint.network, checkpoint.config, image, grid, torch.device("cpu"))


def smoothing() -> nn.Module:
    """Logits of the background and of a disc: whatever is bright."""
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[:2] = 1 / 9
        network[0].weight[2:] = -1 / 9
        network[2].weight[1, :2] = 2.0
        network[2].weight[1, 2:] = -2.0
    return network.eval()


def frozen(network: nn.Module, example: torch.Tensor, path: Path) -> Path:
    torch.jit.freeze(torch.jit.script(network)).save(path.with_suffix(".ts"))
    return path.with_suffix(".ts")


@pytest.mark.parametrize("make", PROGRAMS)
def test_the_weights_of_a_copy_are_adapted(make, tmp_path):
    network = smoothing().requires_grad_(False)  # as many release it
    path = note(make(network, images(1, 1, *PATCH[2]), tmp_path / "model"), labels=["disc"])
    checkpoint = load(path, trusted=True)
    assert adaptable(checkpoint.network)
    image, grid, before = disc_prediction(checkpoint)
    stored = {name: value.clone() for name, value in checkpoint.network.state_dict().items()}
    options = RefinementOptions(steps=60)
    prior = Prior.parse("1,0")
    result = refine_weights(checkpoint.network, checkpoint.config, image, grid, prior, options)
    assert result.error == 0
    assert 0 < result.steps <= 60
    assert not torch.equal(result.logits, before)
    for name, value in checkpoint.network.state_dict().items():
        assert torch.equal(value, stored[name]), name
    torch.testing.assert_close(disc_prediction(checkpoint)[2], before)
    again = refine_weights(smoothing(), checkpoint.config, image, grid, prior, options)
    assert again.steps == result.steps, "the original would have gone another way"


def test_bare_weights_are_adapted_too(tmp_path):
    save_file(seeded(UNet(**UNET)).state_dict(), tmp_path / "model.safetensors")
    network = load(note(tmp_path / "model.safetensors", {"name": "UNet", **UNET})).network
    assert adaptable(network)
    assert adaptable(network), "the same when asked again"


@pytest.mark.parametrize(
    ("network", "make"),
    [
        (tiny(), frozen),
        (seeded(Detached()), script),
        (seeded(Detached()), export),
    ],
    ids=["frozen", "detached script", "detached export"],
)
def test_what_receives_no_gradient_predicts_but_cannot_be_adapted(network, make, tmp_path):
    path = note(make(network, images(1, 1, *PATCH[2]), tmp_path / "model"))
    checkpoint = load(path, trusted=True)
    assert not adaptable(checkpoint.network)
    with torch.no_grad():
        example = images(1, 1, *PATCH[2])
        torch.testing.assert_close(checkpoint.network(example), network(example), rtol=1e-5, atol=1e-5)


def test_what_cannot_be_copied_cannot_be_adapted(program, monkeypatch):
    network = load(note(program), trusted=True).network

    def refuse(*args):
        raise RuntimeError("no copies")

    monkeypatch.setattr("topofix.learning.foreign.copy.deepcopy", refuse)
    assert not adaptable(network)


def test_a_copy_is_a_network_of_its_own(program):
    network = load(note(program), trusted=True).network
    twin = copy.deepcopy(network)
    assert not twin.training
    assert all(p.is_leaf and p.requires_grad for p in twin.parameters())
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
        example = images(1, 1, *PATCH[2])
        torch.testing.assert_close(network(example), tiny()(example))
        assert (twin(example) - network(example)).abs().max() > 0.1


# What is refused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "their.toml: expected a TOML that describes a network, found none"),
        ("weights = [", "their.toml: expected TOML, found something else (Invalid value"),
        (b"\xff\xfe", "their.toml: expected TOML, found something else ('utf-8' codec"),
        ("", "their.toml: expected weights = a file's name, found no such line"),
    ],
)
def test_what_is_no_description_is_refused(text, says, tmp_path):
    path = tmp_path / "their.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert refused(path).startswith(says)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"weights": 3}, "expected weights to be a file's name, found 3"),
        (
            {"weights": "model.onnx"},
            "expected weights to end in .ts, .pt, .pth, .pt2 without a [network] table",
        ),
        ({"weights": "model.safetensors"}, "without a [network] table, found 'model.safetensors'"),
        ({"weights": "gone.ts"}, "expected the file 'gone.ts' beside it, found none"),
        ({"dimensions": 4}, "expected dimensions to be 2 or 3, found 4"),
        ({"dimensions": None}, "expected dimensions = 2 or 3, found no such line"),
        ({"labels": "disc"}, "expected labels to be a list of names, found 'disc'"),
        ({"labels": [1, 2]}, "expected labels to be a list of names, found [1, 2]"),
        ({"labels": []}, "expected at least one label name"),
        ({"labels": ["disc", "Disc "]}, "expected a name of its own for every label"),
        ({"patch_size": [16.0, 24.0]}, "expected patch_size to be a list of whole numbers"),
        ({"patch_size": [16]}, "expected 2 numbers for spacing and patch size"),
        ({"patch_size": [16, 0]}, "expected positive sizes"),
        ({"patch_size": None}, "expected patch_size = a list of whole numbers, found no such line"),
        ({"spacing": [1.0]}, "expected 2 numbers for spacing and patch size"),
        ({"spacing": [1.0, -1.0]}, "expected positive sizes"),
        ({"spacing": [True, 1]}, "expected spacing to be a list of numbers, found [True, 1]"),
        ({"network": "UNet"}, "expected network to be a table with a name and arguments, found 'UNet'"),
        (
            {"colour": "red"},
            "expected weights, dimensions, labels, patch_size, spacing, network, found 'colour'",
        ),
    ],
)
def test_a_senseless_description_is_refused(changes, says, program):
    changes = dict(changes)
    table = changes.pop("network", None)
    path = note(program, **changes)
    if table:
        path.write_text(path.read_text("utf-8") + f'\nnetwork = "{table}"', "utf-8")
    text = refused(path)
    assert text.startswith("their.toml: ")
    assert says in text


def test_a_spacing_of_infinity_is_refused(program):
    path = note(program, spacing=None)
    path.write_text(path.read_text("utf-8") + "\nspacing = [inf, 1.0]", "utf-8")
    assert "expected spacing to be a list of numbers, found [inf, 1.0]" in refused(path)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_program_alone_shows_what_it_takes(tmp_path, rank, channels):
    convolution = (nn.Conv2d if rank == 2 else nn.Conv3d)(1, channels, 3, padding=1)
    torch.jit.script(convolution).save(tmp_path / "their.ts")
    checkpoint = load(tmp_path / "their.ts", trusted=True)
    assert checkpoint.config.dimensions == rank
    assert checkpoint.config.labels == tuple(str(label) for label in range(1, max(2, channels)))
    image = torch.randn(1, 1, *(20, 21, 22)[:rank])
    logits = checkpoint.network(image)
    assert logits.shape == (1, max(2, channels), *image.shape[2:])


def test_a_traced_program_alone_is_tried_on_patches_until_it_takes_one(tmp_path):
    class Fixed(nn.Module):
        def forward(self, image):
            return torch.cat([image, -image], 1).reshape(1, 2, 96, 96, 96)

    torch.jit.trace(Fixed(), torch.zeros(1, 1, 96, 96, 96)).save(tmp_path / "their.pt")
    assert load(tmp_path / "their.pt", trusted=True).config.patch_size == (96, 96, 96)


def test_a_program_alone_needs_trust_and_has_to_be_there_and_to_fit(tmp_path):
    with pytest.raises(InvalidCheckpoint, match=r"their.ts: expected a network's file, found none"):
        load(tmp_path / "their.ts", trusted=True)
    torch.jit.script(nn.Conv1d(1, 2, 1)).save(tmp_path / "their.ts")
    with pytest.raises(InvalidOption, match=r"expected --trust-model"):
        load(tmp_path / "their.ts")
    with pytest.raises(InvalidCheckpoint, match=r"expected a network from \(1, 1, \*S\) to logits"):
        load(tmp_path / "their.ts", trusted=True)


@pytest.mark.parametrize("content", [b"", b"nonsense", "weights"], ids=["empty", "nonsense", "bare weights"])
@pytest.mark.parametrize(
    ("name", "expected"),
    [("model.ts", "TorchScript"), ("model.pt", "TorchScript"), ("model.pt2", "a program of torch.export")],
)
def test_what_is_no_program_is_refused(name, expected, content, tmp_path):
    path = tmp_path / name
    if content == "weights":
        torch.save(tiny().state_dict(), path)
    else:
        path.write_bytes(content)
    text = refused(note(path))
    assert text.startswith(f"{name}: expected {expected}, found another file or version (")
    assert ("[network]" in text) == (name != "model.pt2")


def test_one_kind_of_program_is_not_the_other(tmp_path):
    example = images(1, 1, *PATCH[2])
    script(tiny(), example, tmp_path / "a").rename(tmp_path / "a.pt2")
    export(tiny(), example, tmp_path / "b").rename(tmp_path / "b.ts")
    assert "expected a program of torch.export" in refused(note(tmp_path / "a.pt2"))
    assert "expected TorchScript" in refused(note(tmp_path / "b.ts"))


@pytest.mark.parametrize(
    ("network", "says"),
    [
        (tiny(channels=4), "expected logits of shape (1, 3, 16, 24), found (1, 4, 16, 24)"),
        (tiny(channels=1), "expected logits of shape (1, 3, 16, 24), found (1, 1, 16, 24)"),
        (Odd("half the size"), "expected logits of shape (1, 3, 16, 24), found (1, 3, 8, 12)"),
        (Odd("integers"), "expected logits of shape (1, 3, 16, 24), found torch.int64 numbers"),
        (Odd("pair"), "expected logits of shape (1, 3, 16, 24), found a tuple"),
        (
            tiny(dimensions=3),
            "expected logits for an image of shape (1, 1, 16, 24), got an error (RuntimeError",
        ),
        (
            nn.Conv2d(3, 3, 1),
            "expected logits for an image of shape (1, 1, 16, 24), got an error (RuntimeError",
        ),
    ],
    ids=["channels", "one channel", "size", "integers", "pair", "rank", "input channels"],
)
def test_what_makes_no_logits_is_refused_before_any_work(network, says, tmp_path):
    example = images(1, network.in_channels if isinstance(network, nn.Conv2d) else 1, *PATCH[2])
    make = trace if isinstance(network, Odd) else script
    path = make(network, example, tmp_path / "model")
    assert refused(note(path)).startswith(f"{path.name}: {says}")


def test_both_shapes_for_one_label_are_named(program):
    text = refused(note(program, labels=["disc"]))
    assert text == "model.ts: expected logits of shape (1, 2, 16, 24) or (1, 1, 16, 24), found (1, 3, 16, 24)"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "Unit"}, "their.toml: expected one of MONAI's networks from image to image"),
        ({"name": "nn"}, "found 'nn'"),
        ({"name": "torch.nn.Module"}, "found 'torch.nn.Module'"),
        ({"name": "__builtins__"}, "found '__builtins__'"),
        ({"name": "resnet18"}, "found 'resnet18'"),  # a function
        ({"name": "EfficientNetBN"}, "found 'EfficientNetBN'"),  # would fetch weights
        ({"name": "HoVerNet", "pretrained_url": "x"}, "found 'HoVerNet'"),  # the same, from anywhere
        ({"depth": 3}, "expected arguments of UNet (spatial_dims, in_channels, out_channels"),
        ({"strides": [2]}, "expected arguments that UNet takes, got an error (the length of `strides`"),
        ({"channels": "many"}, "expected arguments that UNet takes, got an error ("),
        ({"norm": "magic"}, "expected arguments that UNet takes, got an error ("),
        ({"spatial_dims": None}, "missing 1 required positional argument: 'spatial_dims'"),
        ({"out_channels": 2}, "model.safetensors: expected 'model."),
        (
            {"channels": [4, 8, 8, 8], "strides": [2, 2, 2]},
            "expected the weights of [network] alone, found 'model.",
        ),
    ],
)
def test_a_network_that_monai_does_not_have_is_refused(changes, says, tmp_path):
    save_file(UNet(**UNET).state_dict(), tmp_path / "model.safetensors")
    table = {key: v for key, v in {"name": "UNet", **UNET, **changes}.items() if v is not None}
    assert says in refused(note(tmp_path / "model.safetensors", table), trusted=False)


def test_a_network_that_fetches_its_weights_is_refused(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    table = {"name": "FlexibleUNet", "in_channels": 1, "out_channels": 3, "backbone": "resnet18"}
    text = refused(note(tmp_path / "model.safetensors", {**table, "pretrained": True}))
    assert text == "their.toml: expected weights from a file alone, found a 'pretrained' network"


def change_weights(change, path: Path) -> Path:
    state = dict(UNet(**UNET).state_dict())
    change(state)
    torch.save(state, path)
    return note(path, {"name": "UNet", **UNET})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda state: state.popitem(),
            "among the weights, found none",
        ),
        (dict.clear, "among the weights, found none"),
        (
            lambda state: state.update(more=torch.ones(1)),
            "expected the weights of [network] alone, found 'more'",
        ),
        (lambda state: state.update(more=3), "expected bare weights, tensors by name, found other objects"),
        (
            lambda state: state.update({"model.0.conv.bias": torch.ones(2)}),
            "expected 'model.0.conv.bias' of shape (4,), got (2,)",
        ),
    ],
    ids=["missing", "empty", "more", "no tensor", "shape"],
)
def test_weights_that_do_not_fit_are_refused_by_name(change, says, tmp_path):
    text = refused(change_weights(change, tmp_path / "model.pt"))
    assert text.startswith("model.pt: expected ")
    assert says in text


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
@pytest.mark.parametrize("kind", ["nonsense", "program", "tensor"])
def test_what_are_no_bare_weights_is_refused(name, kind, tmp_path):
    path = tmp_path / name
    if kind == "program":
        script(tiny(), None, tmp_path / "other").rename(path)
    elif kind == "tensor":
        torch.save(torch.zeros(3), path)
    else:
        path.write_bytes(b"nonsense")
    text = refused(note(path, {"name": "UNet", **UNET}))
    assert text.startswith(f"{name}: expected bare weights, ")


def test_a_checkpoint_without_channels_is_not_ours(tmp_path):
    """Only a description may leave out the spacing and the channels."""
    config = NetworkConfig(2, ("disc",), (), (16, 16), channels=())
    with pytest.raises(InvalidCheckpoint, match="expected a configuration of topofix with channels"):
        build(config)
    with pytest.raises(InvalidCheckpoint, match="expected 2 numbers for spacing and patch size"):
        NetworkConfig(2, ("disc",), (), (16, 16), channels=(4, 8, 8))


# Files


def test_the_last_change_is_that_of_either_file(program):
    path = note(program)
    before = last_change(path)
    assert len(before) == 2
    assert last_change(str(path)) == before
    os.utime(program, ns=(5, 5))
    assert last_change(path) == (before[0], 5)
    program.unlink()
    assert last_change(path) == (before[0], 0)
    assert last_change("hippocampus-3d") == (networks.bundled()["hippocampus-3d"].stat().st_mtime_ns,)


def test_a_description_says_what_it_needs(program):
    description = describe(note(program, spacing=None))
    assert description.weights == program
    assert description.config.spacing == ()
    assert description.needs_trust
    assert not describe(note(program.with_suffix(".safetensors"), {"name": "UNet"})).needs_trust


# What comes from anywhere


def test_a_table_for_a_network_far_larger_than_its_weights_is_refused_before_it_takes_memory(tmp_path):
    save_file(UNet(**UNET).state_dict(), tmp_path / "model.safetensors")
    table = {"name": "UNet", **UNET, "channels": [16_384] * 9, "strides": [2] * 8}
    text = refused(note(tmp_path / "model.safetensors", table), trusted=False)
    assert text.startswith("their.toml: expected a network for the ")
    assert " numbers in its file, got one of over " in text


def test_packed_weights_are_refused_before_they_are_unpacked(tmp_path, monkeypatch):
    """torch never packs what it writes; an archive of zeros would unpack to a thousand times its size."""
    torch.save(UNet(**UNET).state_dict(), tmp_path / "stored.pt")
    with (
        zipfile.ZipFile(tmp_path / "stored.pt") as stored,
        zipfile.ZipFile(tmp_path / "model.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in stored.namelist():
            packed.writestr(name, stored.read(name))
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("the archive was read"))
    text = refused(note(tmp_path / "model.pt", {"name": "UNet", **UNET}))
    assert text == "model.pt: expected bare weights, found another kind of file"


def test_bare_weights_with_a_header_that_lies_are_refused(tmp_path):
    save_file(UNet(**UNET).state_dict(), tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(content + b"more")
    text = refused(note(tmp_path / "model.safetensors", {"name": "UNet", **UNET}))
    assert text == "model.safetensors: expected bare weights, found another kind of file"


@pytest.mark.parametrize("name", ["model.ts", "model.pt2", "model.pt", "model.safetensors", "their.toml"])
@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"]
)
def test_what_is_no_file_is_refused_without_waiting(name, make, tmp_path):
    make(tmp_path / name)
    assert "found n" in refused(tmp_path / name)
    if name != "their.toml":
        table = {"name": "UNet", **UNET} if name == "model.safetensors" else None
        assert refused(note(tmp_path / name, table)).endswith(
            f"expected the file '{name}' beside it, found none"
        )
