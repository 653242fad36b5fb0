"""The small TOML that says of somebody else's network what its file does not: what its channels mean.

weights = "model.ts"            # TorchScript (.ts, .pt, .pth) or torch.export (.pt2)
dimensions = 3
labels = ["liver", "tumour"]    # channels 1, 2, ...; channel 0 is the background
patch_size = [96, 96, 96]       # the shape that the network sees; larger images go through in windows
spacing = [1.0, 1.0, 1.0]       # mm; without it the image keeps its own
[network]                       # only for bare weights (.safetensors, .pt, .pth), as in MONAI bundles
name = "UNet"                   # in monai.networks.nets; the rest are its arguments
spatial_dims = 3
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from reprlib import repr as shown  # a stranger's names and numbers can be of any length
from typing import Any

import torch

from topofix.errors import InvalidCheckpoint
from topofix.learning.network import NetworkConfig

SCRIPTS, EXPORTED = (".ts", ".pt", ".pth"), (".pt2",)
WEIGHTS = (".safetensors", ".pt", ".pth")

SAFE_UNPICKLING = "2.6"
"""Before this version of torch, `weights_only` could be made to run code (CVE-2025-32434)."""

MOST_BYTES = 2**18
"""Of the TOML: a longer one can take hours to understand."""

MOST_NUMBER = 2**14
"""Among a network's arguments: sizes, counts and strides. What they make of it together is held against the
weights when it is built."""

_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "weights": (lambda value: isinstance(value, str) and bool(value), "a file's name"),
    "dimensions": (lambda value: type(value) is int and value in (2, 3), "2 or 3"),
    "labels": (lambda value: _all(value, lambda name: isinstance(name, str)), "a list of names"),
    "patch_size": (lambda value: _all(value, lambda side: type(side) is int), "a list of whole numbers"),
    "spacing": (
        lambda value: _all(value, lambda mm: type(mm) in (int, float) and abs(mm) < 1e6),
        "a list of numbers",
    ),
    "network": (
        lambda value: isinstance(value, dict) and isinstance(value.get("name"), str),
        "a table with a name and arguments",
    ),
}
_OPTIONAL = {"spacing", "network"}


@dataclass(frozen=True, slots=True)
class Description:
    """What a TOML says about a network.

    Attributes:
        path: The TOML.
        weights: The network's file.
        config: Without channels: its architecture is its own business. Without a spacing: the image's own.
        network: Name and arguments of a MONAI network, for bare weights; None where the file is a program.
    """

    path: Path
    weights: Path
    config: NetworkConfig
    network: Mapping[str, Any] | None

    @property
    def needs_trust(self) -> bool:
        """Whether loading runs code that the file brings along."""
        if self.network is None:
            return True
        return self.weights.suffix.lower() != ".safetensors" and torch.__version__ < SAFE_UNPICKLING


def describe(path: Path) -> Description:
    """Reads the TOML of a network, without its weights.

    Raises:
        InvalidCheckpoint: It is missing or no TOML, or an entry is missing, unknown or senseless.

    Example:
        >>> describe(Path("nowhere.toml"))
        Traceback (most recent call last):
        topofix.errors.InvalidCheckpoint: nowhere.toml: expected a TOML that describes a network, found none
    """
    if not path.is_file():
        raise InvalidCheckpoint(f"{path.name}: expected a TOML that describes a network, found none")
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise InvalidCheckpoint(f"{path.name}: expected at most {MOST_BYTES} B of TOML, found more")
        values = tomllib.loads(text.decode("utf-8"))
    # no file that can be read, no TOML, no UTF-8, a number too long to read, or tables nested without end
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidCheckpoint(f"{path.name}: expected TOML, found something else ({error})") from error
    if unknown := sorted(values.keys() - _KEYS.keys()):
        raise InvalidCheckpoint(f"{path.name}: expected {', '.join(_KEYS)}, found {unknown[0]!r}")
    for key, (fits, meaning) in _KEYS.items():
        if key not in values and key not in _OPTIONAL:
            raise InvalidCheckpoint(f"{path.name}: expected {key} = {meaning}, found no such line")
        if key in values and not fits(values[key]):
            raise InvalidCheckpoint(
                f"{path.name}: expected {key} to be {meaning}, found {shown(values[key])}"
            )
    try:
        config = NetworkConfig(
            values["dimensions"],
            tuple(values["labels"]),
            tuple(map(float, values.get("spacing", ()))),
            tuple(values["patch_size"]),
            channels=(),
        )
    except InvalidCheckpoint as error:
        raise InvalidCheckpoint(f"{path.name}: {error}") from None
    name, network = values["weights"], values.get("network")
    windows = PureWindowsPath(name)
    if PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts or "\0" in name:
        raise InvalidCheckpoint(
            f"{path.name}: expected weights to be a file below its own folder, neither absolute nor with .., "
            f"found {shown(name)}"
        )
    weights = path.parent / name
    if network is not None and not _are_small(network):
        raise InvalidCheckpoint(
            f"{path.name}: expected no whole number beyond {MOST_NUMBER} in [network], found one"
        )
    kinds = (*SCRIPTS, *EXPORTED) if network is None else WEIGHTS
    if weights.suffix.lower() not in kinds:
        table = "without a [network] table" if network is None else "beside a [network] table"
        raise InvalidCheckpoint(
            f"{path.name}: expected weights to end in {', '.join(kinds)} {table}, found {shown(name)}"
        )
    return Description(path, weights, config, network)


def _are_small(value: Any) -> bool:
    """Whether no whole number in it, however deep, is too large for a size or a count in a network."""
    if isinstance(value, dict | list):
        return all(map(_are_small, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, int) or abs(value) <= MOST_NUMBER


def _all(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(fits, value))
