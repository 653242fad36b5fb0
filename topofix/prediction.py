"""What is known about one image before anything is corrected: logits, from a network or from a map.

A network is the one that was named, or else the bundled one that fits the image and the prior. A probability
map of somebody else's network takes the place of both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from topofix import __version__
from topofix.errors import InvalidArray, InvalidCheckpoint, InvalidOption, InvalidPrior
from topofix.imaging.volumes import Volume
from topofix.learning import network as networks
from topofix.learning.inference import Grid, grid_for, normalise, predict, widest_axis
from topofix.records import CaseOptions
from topofix.request import PriorRequest, Priors

SINGLE_REGION = {"foreground": 1}
ANISOTROPIC = 3.0
"""A volume whose voxels are this many times longer than wide was made slice by slice."""


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Logits of one image on its own grid, and where they come from.

    Attributes:
        logits: (K + 1, *S), channel 0 the background; float32, or float64 where the map is.
        labels: Label value by name.
        slice_axis: Axis that slices are counted along, of a volume.
        checkpoint: The network; None for a probability map.
        device: Where the network is; None for a probability map.
        image: What the network was given, (*S); None for a probability map.
        grid: The way to the network's grid and back; None for a probability map.
    """

    logits: Tensor
    labels: Mapping[str, int]
    slice_axis: int
    checkpoint: networks.Checkpoint | None = None
    device: torch.device | None = None
    image: Tensor | None = None
    grid: Grid | None = None

    @property
    def names(self) -> dict[int, str]:
        """Name by label value."""
        return {value: name for name, value in self.labels.items()}

    def provenance(self) -> dict[str, Any]:
        """What a Record says of where the prediction comes from."""
        return provenance(self.checkpoint, self.device)


def provenance(checkpoint: networks.Checkpoint | None, device: torch.device | None) -> dict[str, Any]:
    """Versions, model and device, by the names of a Record's fields."""
    packages = ("torch", "monai", "gudhi", "numpy")
    return {
        "versions": {"topofix": __version__, **{name: version(name) for name in packages}},
        "model": checkpoint and checkpoint.name,
        "device": str(device) if checkpoint else None,
    }


def label_map(logits: Tensor) -> npt.NDArray[np.uint8]:
    """The label map of logits (K + 1, *S): argmax, the background winning ties; uint8 (*S).

    For one region that is exactly probability > 1/2.
    """
    return logits.argmax(0).numpy().astype(np.uint8)


def predict_volume(
    volume: Volume, options: CaseOptions, request: PriorRequest | None = None
) -> tuple[Prediction, Priors]:
    """Logits of a volume, and the priors that were asked for it, read with the network's label names.

    Everything that can be refused is refused before the network runs.

    Args:
        volume: A scan, or with `options.input_type` a probability map.
        options: Names the model, the device and the slice axis.
        request: Priors as typed; None where nothing was asked.

    Raises:
        InvalidPrior: The prior doesn't fit the image or the labels.
        InvalidArray: A probability map with values outside [0, 1], or a 2-D image for a 3-D model.
        InvalidCheckpoint: No such model, or none fits.
    """
    slice_axis = choose_slice_axis(volume, options)
    shape, case = volume.array.shape, volume.path.name
    if options.input_type == "probabilities":
        priors = request.for_image(case, shape, slice_axis, SINGLE_REGION) if request else {}
        return Prediction(_logits_of_map(volume), SINGLE_REGION, slice_axis), priors
    name = options.model or choose_model(volume, slice_axis, request)
    device = networks.choose_device(options.device)
    path = networks.bundled().get(name, Path(name))
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    checkpoint = _on_device(name, device, changed)
    config = checkpoint.config
    grid = grid_for(config, shape, volume.spacing, volume.orientation, slice_axis)
    priors = request.for_image(case, shape, slice_axis, config.label_values) if request else {}
    if volume.array.min() == volume.array.max():
        raise InvalidArray(f"{case}: expected a scan, found every voxel equal to {volume.array.flat[0]:g}")
    image = normalise(volume.array)
    logits = predict(checkpoint.network, config, image, grid, device)
    return Prediction(logits, config.label_values, slice_axis, checkpoint, device, image, grid), priors


def choose_slice_axis(volume: Volume, options: CaseOptions) -> int:
    """The axis that slices are counted along: as given, or that of the largest spacing."""
    rank = volume.array.ndim
    if options.slice_axis is None:
        return widest_axis(volume.array.shape, volume.spacing)
    if not 0 <= options.slice_axis < rank:
        raise InvalidOption(f"--slice-axis: expected an axis from 0 to {rank - 1}, got {options.slice_axis}")
    return options.slice_axis


def choose_model(volume: Volume, slice_axis: int, request: PriorRequest | None) -> str:
    """The bundled model that fits the image's rank and, if there is one, the prior and its label names.

    A network of as many dimensions as the prior has numbers comes first; without a prior a volume of clearly
    anisotropic voxels goes to a 2-D network.

    Raises:
        InvalidPrior: No bundled model has the prior's labels.
        InvalidCheckpoint: No bundled model is for such an image.
    """
    rank = volume.array.ndim
    stacked = rank == 3 and max(volume.spacing) >= ANISOTROPIC * min(volume.spacing)
    fitting: list[tuple[bool, str]] = []
    refusal: InvalidPrior | None = None
    for name, path in networks.bundled().items():
        config, _ = networks.read_config(path)
        if config.dimensions > rank:
            continue
        wanted = 2 if stacked else rank
        if request is not None:
            try:
                priors = request.for_image(
                    volume.path.name, volume.array.shape, slice_axis, config.label_values
                )
            except InvalidPrior as error:
                refusal = error
                continue
            wanted = next(iter(priors.values())).dimensions
        fitting.append((config.dimensions != wanted, name))
    if fitting:
        return min(fitting)[1]
    if refusal is not None:
        raise refusal
    raise InvalidCheckpoint(
        f"{volume.path.name}: no bundled model is for a {rank}-D image; name one with --model"
    )


@lru_cache(maxsize=2)
def _on_device(name: str, device: torch.device, changed: int) -> networks.Checkpoint:
    """A checkpoint whose network is on its device, loaded once for all cases until its file changes."""
    checkpoint = networks.load(name)
    checkpoint.network.to(device)
    return checkpoint


def _logits_of_map(volume: Volume) -> Tensor:
    """A probability map (*S) as logits (2, *S): channel 1 is positive exactly where it is above 1/2."""
    values = volume.array
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise InvalidArray(
            f"{volume.path.name}: expected probabilities from 0 to 1, found values from {low:g} to {high:g}"
        )
    precise = np.float64 if values.dtype == np.float64 else np.float32
    logit = torch.from_numpy(np.ascontiguousarray(values, dtype=precise)).logit(eps=1e-6)
    return torch.stack([torch.zeros_like(logit), logit])
