"""The U-net, its configuration, and the one file that holds both.

A checkpoint is a single `.safetensors` file: the weights as half-precision tensors and, in the header's
metadata, the JSON of a `NetworkConfig` and of where the weights come from. Nothing is ever unpickled.
The architecture is MONAI's `DynUNet` (the plain U-net of Isensee et al., nnU-Net, Nature Methods 2021) with
batch normalisation, whose frozen statistics make a prediction independent of what else is in the image.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from topofix import __version__
from topofix.errors import InvalidCheckpoint, InvalidOption, UnwritableFile

METADATA_KEY = "topofix"

CHANNELS = {2: (16, 32, 64, 128, 256), 3: (16, 32, 64, 96)}
"""Feature maps by dimension: about two and one million weights, 4 and 2 MB as a file."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Everything needed to rebuild a network and to bring an image onto its grid.

    Attributes:
        dimensions: 2 or 3, the rank of what the network sees.
        labels: Names of the label values 1, 2, ... in order; value 0 is the background.
        spacing: Voxel size in mm that images are resampled to, one per dimension; empty only for a network of
            somebody else's, where it is the image's own.
        patch_size: Voxels of a training patch, one per dimension.
        channels: Feature maps on each level of the U-net; every further level halves the resolution. Empty
            for a network of somebody else's.
    """

    dimensions: int
    labels: tuple[str, ...]
    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3):
            raise InvalidCheckpoint(f"expected a network of 2 or 3 dimensions, got {self.dimensions}")
        sizes = {
            len(self.patch_size),
            len(self.spacing) if self.spacing or self.channels else self.dimensions,
        }
        if sizes != {self.dimensions}:
            raise InvalidCheckpoint(
                f"expected {self.dimensions} numbers for spacing and patch size, "
                f"got {self.spacing} and {self.patch_size}"
            )
        if not self.labels or len(self.channels) in (1, 2):
            raise InvalidCheckpoint("expected at least one label name and three levels of channels")
        folded = {label.strip().casefold() for label in self.labels}
        if len(folded) < len(self.labels) or "" in folded:
            raise InvalidCheckpoint(f"expected a name of its own for every label, got {self.labels}")
        if min(self.spacing, default=1) <= 0 or min(*self.patch_size, *self.channels) < 1:
            raise InvalidCheckpoint(f"expected positive sizes in a network's configuration, got {self}")

    @property
    def divisor(self) -> int:
        """Every side of what the network sees is a multiple of this."""
        return int(2 ** max(0, len(self.channels) - 1))

    @property
    def label_values(self) -> dict[str, int]:
        """Label value by name, as `Prior.parse` takes it."""
        return {name: value for value, name in enumerate(self.labels, start=1)}


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
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise InvalidCheckpoint(
            f"{path.name}: expected a bundled model ({', '.join(bundled()) or 'none is installed'}) or a "
            ".safetensors file, found neither"
        )
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
        if text is None:
            raise InvalidCheckpoint(f"{path.name}: expected a checkpoint of topofix, found other weights")
        stored = json.loads(text)
        values: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in stored["config"].items()
        }
        return NetworkConfig(**values), dict(stored["about"])
    except (SafetensorError, OSError) as error:
        raise InvalidCheckpoint(
            f"{path.name}: expected a .safetensors file, found another ({error})"
        ) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidCheckpoint(
            f"{path.name}: expected a network's whole configuration in its header, found less ({error})"
        ) from error


def load(model: str | Path) -> Checkpoint:
    """Loads a bundled model by name, or a checkpoint by path, onto the CPU in evaluation mode.

    Raises:
        InvalidCheckpoint: The file is missing or damaged, or its weights don't fit its configuration.
    """
    from safetensors.torch import load_file

    path = bundled().get(str(model), Path(model))
    config, about = read_config(path)
    network = build(config)
    stored, expected = load_file(path), tensors_of(network)
    if stored.keys() != expected.keys():
        name = min(stored.keys() ^ expected.keys())
        raise InvalidCheckpoint(f"{path.name}: weights don't fit their configuration, see '{name}'")
    with torch.no_grad():
        for name, tensor in expected.items():
            if stored[name].shape != tensor.shape:
                raise InvalidCheckpoint(
                    f"{path.name}: expected '{name}' of shape {tuple(tensor.shape)}, "
                    f"got {tuple(stored[name].shape)}"
                )
            tensor.copy_(stored[name])
    return Checkpoint(path.stem, config, network.eval(), about)


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
