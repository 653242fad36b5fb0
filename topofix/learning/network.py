"""The U-net, its configuration, and the one file that holds both.

A checkpoint is a single `.safetensors` file: the weights as half-precision tensors and, in the header's
metadata, the JSON of a `NetworkConfig` and of where the weights come from. Nothing is ever unpickled.
The architecture is MONAI's `DynUNet` (the plain U-net of Isensee et al., nnU-Net, Nature Methods 2021) with
batch normalisation, whose frozen statistics make a prediction independent of what else is in the image.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from reprlib import repr as shown  # a stranger's names and numbers can be of any length
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from topofix import __version__
from topofix.errors import InvalidCheckpoint, InvalidOption, UnwritableFile
from topofix.learning.configuration import NetworkConfig, parse_config
from topofix.learning.tensor_file import Header, read_header, read_tensors

__all__ = [
    "CHANNELS",
    "METADATA_KEY",
    "Checkpoint",
    "NetworkConfig",
    "at_most",
    "build",
    "bundled",
    "choose_device",
    "load",
    "read_config",
    "save",
    "tensors_of",
    "write_whole",
]

METADATA_KEY = "topofix"

CHANNELS = {2: (16, 32, 64, 128, 256), 3: (16, 32, 64, 96)}
"""Feature maps by dimension: about two and one million weights, 4 and 2 MB as a file."""


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A network ready to predict, with what is known about it.

    Attributes:
        name: Bundled name, or the file's.
        config: The network's configuration.
        network: In evaluation mode, on the CPU; (N, 1, *S) images to (N, K + 1, *S) logits.
        about: Provenance: training data, licence, command, scores. Free text for people.
    """

    name: str
    config: NetworkConfig
    network: nn.Module
    about: Mapping[str, Any] = field(default_factory=dict)


def build(config: NetworkConfig, seed: int = 0) -> nn.Module:
    """Builds a freshly initialised U-net: (N, 1, *S) to logits (N, K + 1, *S), sides multiples of `divisor`.

    Args:
        config: What to build.
        seed: Seeds the initial weights, without touching torch's global generator.

    Raises:
        InvalidCheckpoint: A configuration without channels.

    Example:
        >>> config = NetworkConfig(2, ("disc",), (1.0, 1.0), (32, 32), channels=(4, 8, 8))
        >>> build(config)(torch.zeros(1, 1, 32, 32)).shape
        torch.Size([1, 2, 32, 32])
    """
    from monai.networks.nets import DynUNet  # MONAI takes seconds to import

    levels = len(config.channels)
    if not levels:
        raise InvalidCheckpoint("expected a configuration of topofix with channels, found one without")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DynUNet(
            spatial_dims=config.dimensions,
            in_channels=1,
            out_channels=len(config.labels) + 1,
            kernel_size=[3] * levels,
            strides=[1] + [2] * (levels - 1),
            upsample_kernel_size=[2] * (levels - 1),
            filters=list(config.channels),
            norm_name="batch",
        )
    return cast(nn.Module, network)


def choose_device(name: str = "auto") -> torch.device:
    """The device called `name`; `auto` takes CUDA, else MPS, else the CPU.

    Raises:
        InvalidOption: The name is unknown, or this machine has no such device.

    Example:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise RuntimeError("a meta tensor holds no numbers")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        raise InvalidOption(
            f"--device: expected a device of this machine (auto, cpu, cuda, mps), got '{name}'"
        ) from error
    return device


def save(path: Path, network: nn.Module, config: NetworkConfig, about: Mapping[str, Any]) -> None:
    """Writes a checkpoint atomically: floating-point weights as float16, counters as they are.

    Args:
        path: Ends in `.safetensors`; its folder exists.
        network: Built from `config`.
        config: Stored beside the weights.
        about: Provenance that JSON can hold; topofix's version is added.

    Raises:
        UnwritableFile: It cannot be written; an earlier file stays.
    """
    from safetensors.torch import save as serialise

    tensors = {
        name: (value.detach().half() if value.is_floating_point() else value).contiguous().cpu()
        for name, value in tensors_of(network).items()
    }
    metadata = json.dumps({"config": asdict(config), "about": {**about, "topofix": __version__}})
    write_whole(path, serialise(tensors, metadata={METADATA_KEY: metadata}))


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all: what was there before stays until the new one is on the disk.

    Raises:
        UnwritableFile: The disk is full, or the folder cannot be written to.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise UnwritableFile(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        if part.is_file():
            part.unlink()


def read_config(path: Path) -> tuple[NetworkConfig, dict[str, Any]]:
    """Configuration and provenance of a checkpoint, without its weights.

    Raises:
        InvalidCheckpoint: No such file, not a safetensors file, or not one of topofix.
    """
    config, about, _ = _read(path)
    return config, about


def load(model: str | Path) -> Checkpoint:
    """Loads a bundled model by name, or a checkpoint by path, onto the CPU in evaluation mode.

    Raises:
        InvalidCheckpoint: The file is missing or damaged, or its weights don't fit its configuration.
    """
    path = bundled().get(str(model), Path(model))
    config, about, header = _read(path)
    with at_most(header.numbers, path.name):
        network = build(config)
    stored, expected = header.tensors, tensors_of(network)
    if stored.keys() != expected.keys():
        name = min(stored.keys() ^ expected.keys())
        raise InvalidCheckpoint(f"{path.name}: weights don't fit their configuration, see {shown(name)}")
    for name, tensor in expected.items():
        if stored[name].shape != tensor.shape:
            raise InvalidCheckpoint(
                f"{path.name}: expected '{name}' of shape {tuple(tensor.shape)}, got {stored[name].shape}"
            )
        if stored[name].is_floating_point != tensor.is_floating_point():
            raise InvalidCheckpoint(
                f"{path.name}: expected '{name}' of a type like {tensor.dtype}, got {stored[name].dtype}"
            )
    try:
        weights = read_tensors(path)
    except (ValueError, OSError) as error:
        raise _no_safetensors(path, error) from error
    with torch.no_grad():
        for name, tensor in expected.items():
            tensor.copy_(weights[name])
    return Checkpoint(path.stem, config, network.eval(), about)


@contextmanager
def at_most(numbers: int, source: str) -> Iterator[None]:
    """Refuses to build a network of far more weights than its file has, before memory is taken for them.

    Args:
        numbers: How many the file has.
        source: Its name.

    Raises:
        InvalidCheckpoint: The network that is built within has more than twice as many, and a million.
    """
    thread, most = threading.get_ident(), 2 * numbers + 2**20
    found = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal found
        again = name in dict(module.named_parameters(recurse=False))
        if parameter is None or again or threading.get_ident() != thread:
            return
        found += parameter.numel()  # there is an address for them, but nothing was written yet
        if found > most:
            raise InvalidCheckpoint(
                f"{source}: expected a network for the {numbers} numbers in its file, got one of over {most}"
            )

    hook = register_module_parameter_registration_hook(count)  # it is called in all threads
    try:
        yield
    finally:
        hook.remove()


def _read(path: Path) -> tuple[NetworkConfig, dict[str, Any], Header]:
    """Configuration, provenance and names of the weights."""
    if not path.is_file():
        raise InvalidCheckpoint(
            f"{path.name}: expected a bundled model ({', '.join(bundled()) or 'none is installed'}) or a "
            ".safetensors file, found neither"
        )
    try:
        header = read_header(path)
    except (ValueError, OSError) as error:
        raise _no_safetensors(path, error) from error
    if METADATA_KEY not in header.metadata:
        raise InvalidCheckpoint(f"{path.name}: expected a checkpoint of topofix, found other weights")
    try:
        stored = json.loads(header.metadata[METADATA_KEY])
        return parse_config(stored["config"]), dict(stored["about"]), header
    except InvalidCheckpoint as error:
        raise InvalidCheckpoint(f"{path.name}: {error}") from None
    except (RecursionError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidCheckpoint(
            f"{path.name}: expected a network's whole configuration in its header, found less ({error})"
        ) from error


def _no_safetensors(path: Path, error: Exception) -> InvalidCheckpoint:
    return InvalidCheckpoint(f"{path.name}: expected a .safetensors file, found another ({error})")


def bundled() -> dict[str, Path]:
    """The models that come with topofix: path by name.

    They lie inside an installed package, and beside it in a source checkout.
    """
    package = Path(__file__).resolve().parents[1]
    folders = [package / "models"]
    if (package.parent / "pyproject.toml").is_file():
        folders.append(package.parent / "models")
    found = [path for folder in folders for path in folder.glob("*.safetensors")]
    return {path.stem: path for path in sorted(found, reverse=True)}


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Weights and statistics by name, each once: `state_dict` lists shared ones under every alias."""
    return dict([*network.named_parameters(), *network.named_buffers()])
