"""Networks that somebody else made: TorchScript, torch.export, or bare weights of one of MONAI's networks.

Such a file does not say what its channels mean, so a small TOML beside it does: see
`description.py`.

The network maps (1, 1, *patch_size) to logits (1, K + 1, *patch_size); for a single label one channel does,
to which a sigmoid belongs. It sees intensities as topofix's own networks do, mean 0 and deviation 1.

TorchScript and torch.export files are programs: to load one is to run what its author wrote, so that needs
trust. Bare weights are numbers, read without unpickling objects, for a class of MONAI's: they need none.
"""

import copy
import inspect
import logging
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topofix.errors import InvalidCheckpoint, InvalidOption
from topofix.learning import network as networks
from topofix.learning.description import EXPORTED, SCRIPTS, Description, describe
from topofix.learning.network import Checkpoint, NetworkConfig
from topofix.learning.tensor_file import read_tensors

NESTED = ("state_dict", "model")
"""Where training programs keep a network's weights in a larger dictionary."""

TRIED_PATCHES = ((64,) * 3, (96,) * 3, (128,) * 3, (32,) * 3, (128,) * 2, (256,) * 2, (64,) * 2)
"""Shapes that a program without a description is tried on, until it takes one; volumes first, as layers for
volumes take a 2-D image for a volume without a batch."""


class ForeignNetwork(nn.Module):
    """Somebody else's network behind the interface of topofix's own: (N, 1, *S) to (N, K + 1, *S) logits.

    It only ever sees one image of exactly the patch size at a time: a traced or exported program may know no
    other. Smaller images are padded, larger ones go through in overlapping windows.
    """

    def __init__(self, inner: nn.Module, source: str, patch_size: tuple[int, ...], labels: int) -> None:
        super().__init__()
        self.inner = inner
        self.source = source
        self.patch_size = patch_size
        self.labels = labels
        for parameter in inner.parameters():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)  # authors freeze what `weights` adapts

    def forward(self, images: Tensor) -> Tensor:
        size = images.shape[2:]
        if any(side > patch for side, patch in zip(size, self.patch_size, strict=True)):
            from monai.inferers.utils import sliding_window_inference

            windows = sliding_window_inference(
                *(images, self.patch_size, 1, self._logits),
                overlap=0.25,
                mode="gaussian",
                padding_mode="replicate",
            )
            return cast(Tensor, windows)
        missing = [patch - side for side, patch in zip(size, self.patch_size, strict=True)]
        padding = [width for gap in reversed(missing) for width in (gap // 2, gap - gap // 2)]
        padded = F.pad(images, padding, mode="replicate") if any(missing) else images
        logits = torch.cat([self._logits(image) for image in torch.split(padded, 1)])
        starts = [gap // 2 for gap in missing]
        inner: Any = (slice(start, start + side) for start, side in zip(starts, size, strict=True))
        return logits[(..., *inner)]

    def train(self, mode: bool = True) -> Self:
        self.training = mode
        if not isinstance(self.inner, torch.fx.GraphModule):  # an exported program is as it was exported
            self.inner.train(mode)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "ForeignNetwork":
        # With gradients, copies of TorchScript's weights are no leaves: an optimiser would refuse them.
        with torch.no_grad(), _quietly():
            inner = copy.deepcopy(self.inner, memo)
        return ForeignNetwork(inner, self.source, self.patch_size, self.labels).train(self.training)

    @cached_property
    def adaptable(self) -> bool:
        """Whether a copy of it can be made whose weights receive gradients; found out by trying."""
        try:
            twin = copy.deepcopy(self)
            zeros = torch.zeros(1, 1, *self.patch_size, device=next(twin.parameters()).device)
            with torch.enable_grad():
                twin(zeros).sum().backward()
        except Exception:  # no weights, no copies, no gradients: every kind of file says so in its own way
            return False
        return any(parameter.grad is not None for parameter in twin.parameters())

    def _logits(self, image: Tensor) -> Tensor:
        """One patch (1, 1, *S) to (1, K + 1, *S), checked."""
        try:
            logits = self.inner(image)
        except Exception as error:  # a stranger's program raises what it likes
            raise InvalidCheckpoint(
                f"{self.source}: expected logits for an image of shape {tuple(image.shape)}, "
                f"got an error ({_reason(error)})"
            ) from error
        found = f"a {type(logits).__name__}"
        if isinstance(logits, Tensor):
            found = f"{tuple(logits.shape)}" if logits.is_floating_point() else f"{logits.dtype} numbers"
        counts = (2, 1) if self.labels == 1 else (self.labels + 1,)
        shapes = [f"{(1, count, *image.shape[2:])}" for count in counts]
        if found not in shapes:
            raise InvalidCheckpoint(
                f"{self.source}: expected logits of shape {' or '.join(shapes)}, found {found}"
            )
        if logits.shape[1] == 1:  # a sigmoid of z is a softmax of 0 and z
            return torch.cat([torch.zeros_like(logits), logits], 1)
        return cast(Tensor, logits)


def load(model: str | Path, trusted: bool = False) -> Checkpoint:
    """Loads a network from any source: bundled, topofix's own checkpoint, or described by a TOML.

    Somebody else's network is tried on an image of zeros before it is returned.

    Args:
        model: A bundled name, a `.safetensors` checkpoint of topofix, a `.toml` as this module describes, or
            a program alone, whose labels are then numbers.
        trusted: Whether code that the network's file brings along may run.

    Raises:
        InvalidCheckpoint: A file is missing, damaged, or not what its description says.
        InvalidOption: Loading would run a stranger's code, and `trusted` is False.

    Example:
        >>> load("hippocampus-3d").config.labels
        ('anterior', 'posterior')
    """
    path = Path(model)
    kind = path.suffix.lower()
    if str(model) in networks.bundled() or kind not in (".toml", *SCRIPTS, *EXPORTED):
        return networks.load(model)
    return _load_described(describe(path), trusted) if kind == ".toml" else _load_alone(path, trusted)


def last_change(model: str | Path) -> tuple[int, ...]:
    """When the files of a network were last written, so that what is kept in memory can be told from them.

    Example:
        >>> last_change("nowhere.safetensors")
        (0,)
    """
    return tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files_of(model))


def files_of(model: str | Path) -> list[Path]:
    """The files that a network is made of, whether they are there or not.

    Example:
        >>> [file.name for file in files_of("hippocampus-3d")]
        ['hippocampus-3d.safetensors']
    """
    path = networks.bundled().get(str(model), Path(model))
    return [path, describe(path).weights] if path.suffix.lower() == ".toml" else [path]


def adaptable(network: nn.Module) -> bool:
    """Whether the `weights` stage can move a network; topofix's own always.

    Example:
        >>> adaptable(nn.Conv2d(1, 2, 1))
        True
    """
    return network.adaptable if isinstance(network, ForeignNetwork) else True


def _load_alone(path: Path, trusted: bool) -> Checkpoint:
    """A program without a description: what it takes is found by trying, and its labels are numbers."""
    if not path.is_file():
        raise InvalidCheckpoint(f"{path.name}: expected a network's file, found none")
    if not trusted:
        raise _mistrust(path.name, path)
    inner = _load_program(path)
    for patch in TRIED_PATCHES:
        try:
            with torch.no_grad():
                logits = inner(torch.zeros(1, 1, *patch))
            fits = logits.is_floating_point() and logits.shape[0] == 1 and logits.shape[2:] == patch
        except Exception:  # a stranger's program raises what it likes; here that only means "not this shape"
            continue
        if fits:
            labels = tuple(str(label) for label in range(1, max(2, logits.shape[1])))
            config = NetworkConfig(len(patch), labels, (), patch, channels=())
            network = ForeignNetwork(inner, path.name, patch, len(labels)).eval()
            return Checkpoint(path.stem, config, network, {"weights": path.name})
    raise InvalidCheckpoint(
        f"{path.name}: expected a network from (1, 1, *S) to logits (1, K, *S), found none for S such as "
        f"{TRIED_PATCHES[0]} and {TRIED_PATCHES[-1]}; a .toml beside it can say what it takes"
    )


def _mistrust(name: str, weights: Path) -> InvalidOption:
    return InvalidOption(
        f"{name}: loading '{weights.name}' runs code from that file; "
        "expected --trust-model, which allows it, got none"
    )


def _load_described(description: Description, trusted: bool) -> Checkpoint:
    path, weights, config = description.path, description.weights, description.config
    if not weights.is_file():
        raise InvalidCheckpoint(f"{path.name}: expected the file '{weights.name}' beside it, found none")
    if description.needs_trust and not trusted:
        raise _mistrust(path.name, weights)
    if description.network is not None:
        stored = _read_weights(weights)
        with networks.at_most(sum(value.numel() for value in stored.values()), path.name):
            inner = _build(path.name, description.network)
        _fill(inner, weights, stored)
    else:
        inner = _load_program(weights)
    network = ForeignNetwork(inner, weights.name, config.patch_size, len(config.labels)).eval()
    with torch.no_grad():
        network(torch.zeros(1, 1, *config.patch_size))
    return Checkpoint(path.stem, config, network, {"weights": weights.name})


def _load_program(path: Path) -> nn.Module:
    """A TorchScript or exported file, on the CPU; this runs code from the file."""
    exported = path.suffix.lower() in EXPORTED
    try:
        with _quietly():
            if exported:
                return cast(nn.Module, torch.export.load(path).module())
            return cast(nn.Module, torch.jit.load(path, map_location="cpu"))  # type: ignore[no-untyped-call]
    except Exception as error:  # of many kinds, by what is wrong with the file
        expected = "a program of torch.export" if exported else "TorchScript"
        hint = "" if exported else "; bare weights need a [network] table"
        raise InvalidCheckpoint(
            f"{path.name}: expected {expected}, found another file or version ({_reason(error)}){hint}"
        ) from error


def _build(source: str, table: Mapping[str, Any]) -> nn.Module:
    """A MONAI network by name and arguments.

    Only classes of `monai.networks.nets` that say how many channels they take and make: others classify, and
    some of those fetch files from the network while they are built.
    """
    from monai.networks import nets

    arguments = {key: value for key, value in table.items() if key != "name"}
    kind = getattr(nets, table["name"], None)
    if not (inspect.isclass(kind) and issubclass(kind, nn.Module)) or not {"in_channels", "out_channels"} <= (
        known := inspect.signature(kind).parameters.keys()
    ):
        raise InvalidCheckpoint(
            f"{source}: expected one of MONAI's networks from image to image (such as UNet, DynUNet, "
            f"SegResNet, SwinUNETR), found '{table['name']}'"
        )
    if unknown := sorted(arguments.keys() - known):
        raise InvalidCheckpoint(
            f"{source}: expected arguments of {table['name']} ({', '.join(known)}), found '{unknown[0]}'"
        )
    if any(key.startswith("pretrained") and value for key, value in arguments.items()):
        raise InvalidCheckpoint(f"{source}: expected weights from a file alone, found a 'pretrained' network")
    try:
        with torch.random.fork_rng(devices=[]), _quietly():
            return kind(**arguments)
    except InvalidCheckpoint:
        raise
    except Exception as error:  # MONAI checks arguments by all kinds of errors
        raise InvalidCheckpoint(
            f"{source}: expected arguments that {table['name']} takes, got an error ({_reason(error)})"
        ) from error


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name; no object is ever unpickled."""
    try:
        if path.suffix.lower() == ".safetensors":
            return read_tensors(path)
        _check_stored(path)
        with _quietly():
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, by what is wrong with the file
        raise InvalidCheckpoint(f"{path.name}: expected bare weights, found another kind of file") from error
    for key in NESTED:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise InvalidCheckpoint(f"{path.name}: expected bare weights, tensors by name, found other objects")
    return {str(name): value for name, value in found.items()}


def _check_stored(path: Path) -> None:
    """Refuses an archive that unpacks to more than it is: torch never packs its weights.

    Raises:
        ValueError: It does.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("an archive that is packed")


def _fill(network: nn.Module, path: Path, stored: Mapping[str, Tensor]) -> None:
    """Copies weights into a network; they must be all of its weights and no others."""
    expected: dict[str, Tensor] = network.state_dict(keep_vars=True)
    for name, value in stored.items():
        if name not in expected:
            raise InvalidCheckpoint(f"{path.name}: expected the weights of [network] alone, found '{name}'")
        if value.shape != expected[name].shape:
            shapes = f"{tuple(expected[name].shape)}, got {tuple(value.shape)}"
            raise InvalidCheckpoint(f"{path.name}: expected '{name}' of shape {shapes}")
    filled = {id(expected[name]) for name in stored}  # one tensor may go by several names
    missing = [name for name, tensor in expected.items() if id(tensor) not in filled]
    if missing:
        raise InvalidCheckpoint(f"{path.name}: expected '{missing[0]}' among the weights, found none")
    with torch.no_grad():
        for name, value in stored.items():
            expected[name].copy_(value)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without torch's advice to authors of such files: the errors say what matters to a user."""
    logger = logging.getLogger("torch.export")
    level = logger.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            logger.setLevel(level)


def _reason(error: Exception) -> str:
    """The last line of what went wrong, to its first full stop: TorchScript puts listings before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(". ")[0].rstrip(".")[:200] if lines else type(error).__name__
