"""What is known about one image before anything is corrected: logits, from a network, a map or a label map.

A network is the one that was named, or else the bundled one that fits the image and the prior. Probabilities
of somebody else's network, or labels that somebody drew, take the place of both.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
from topofix.imaging.frames import read_frames
from topofix.imaging.maps import Maps, read_maps
from topofix.imaging.volumes import Volume
from topofix.learning import foreign
from topofix.learning import network as networks
from topofix.learning.fields import logits_of_labels, logits_of_maps
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
        layout: How a file of probabilities was read; None for other inputs.
    """

    logits: Tensor
    labels: Mapping[str, int]
    slice_axis: int
    checkpoint: networks.Checkpoint | None = None
    device: torch.device | None = None
    image: Tensor | None = None
    grid: Grid | None = None
    layout: str | None = None

    @property
    def names(self) -> dict[int, str]:
        """Name by label value."""
        return {value: name for name, value in self.labels.items()}

    def provenance(self) -> dict[str, Any]:
        """What a Record says of where the prediction comes from."""
        return {**provenance(self.checkpoint, self.device), "layout": self.layout}


def provenance(checkpoint: networks.Checkpoint | None, device: torch.device | None) -> dict[str, Any]:
    """Versions, model and device, by the names of a Record's fields."""
    packages = ("torch", "monai", "gudhi", "numpy")
    return {
        "versions": {"topofix": __version__, **{name: version(name) for name in packages}},
        "model": checkpoint and checkpoint.name,
        "device": str(device) if checkpoint else None,
    }


def label_map(logits: Tensor) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The label map of logits (K + 1, *S): argmax, the background winning ties; (*S), uint16 if need be.

    For one region that is exactly probability > 1/2.
    """
    return logits.argmax(0).numpy().astype(np.uint8 if len(logits) <= 256 else np.uint16)


def predict_file(
    path: Path,
    options: CaseOptions,
    request: PriorRequest | None = None,
    on_read: Callable[[Sequence[Volume]], None] = lambda frames: None,
) -> list[tuple[Volume, Prediction, Priors]]:
    """Reads a case of any kind, frame by frame: its grid, its logits, and the priors that were asked for it.

    Args:
        path: A scan, a file of probabilities or a label map, as `options.input_type` says.
        options: Names the model, the device and the slice axis.
        request: Priors as typed; None where nothing was asked.
        on_read: Called with the grids before anything is computed, to refuse what cannot be written.

    Returns:
        One entry, or as many as a series in time has frames.

    Raises:
        InvalidPrior: A table has no row for any of the frames.
        TopofixError: An unreadable file, or what `predict_volume` and `predict_maps` refuse.
    """
    if options.input_type == "probabilities":
        like = Path(options.like) if options.like else None
        maps = read_maps(path, like, max_voxels=options.max_voxels)
        on_read([maps.grid])
        return [(maps.grid, *predict_maps(maps, path.name, options, request))]
    frames = read_frames(path, max_voxels=options.max_voxels)
    on_read(frames)
    cases = [(frame, *predict_volume(frame, options, request)) for frame in frames]
    if request is not None and not any(priors for _, _, priors in cases):
        raise InvalidPrior(f"{request.describe()}: expected a row for {path.name}, found none")
    return cases


def predict_maps(
    maps: Maps, case: str, options: CaseOptions, request: PriorRequest | None = None
) -> tuple[Prediction, Priors]:
    """Logits of somebody else's probabilities, and the priors that were asked for them.

    Args:
        maps: One or more channels on a grid; a single one is the foreground.
        case: The case's file name, for tables and messages.
        options: Whether they are logits; the slice axis.
        request: Priors as typed, whose labels are channel numbers; None where nothing was asked.

    Raises:
        InvalidArray: Probabilities outside [0, 1].
        InvalidPrior: The prior doesn't fit the image or the labels.
    """
    slice_axis = choose_slice_axis(maps.grid, options)
    with naming(case):
        logits = logits_of_maps(maps.array, options.logits)
    labels = SINGLE_REGION if len(maps.array) == 1 else {str(k): k for k in range(1, len(logits))}
    shape = maps.array.shape[1:]
    priors = request.for_image(case, shape, slice_axis, labels) if request else {}
    return Prediction(logits, labels, slice_axis, layout=maps.layout), priors


def predict_volume(
    volume: Volume, options: CaseOptions, request: PriorRequest | None = None
) -> tuple[Prediction, Priors]:
    """Logits of a scan or a label map, and the priors that were asked for it, read with the label names.

    Everything that can be refused is refused before the network runs.

    Args:
        volume: A scan, or with `options.input_type` a label map or a single probability map.
        options: Names the model, the device and the slice axis.
        request: Priors as typed; None where nothing was asked.

    Raises:
        InvalidPrior: The prior doesn't fit the image or the labels.
        InvalidArray: Values that are no labels or probabilities, a 2-D image for a 3-D model, or voxels so
            long that there are too many of the model's in them.
        InvalidCheckpoint: No such model, or none fits.
        InvalidOption: The model's file would run code, and `options` don't trust it.
    """
    slice_axis = choose_slice_axis(volume, options)
    shape, case = volume.array.shape, volume.path.name
    if options.input_type == "probabilities":
        return predict_maps(Maps(volume.array[None], volume, "single map"), case, options, request)
    if options.input_type == "labels":
        return _predict_labels(volume, slice_axis, options, request)
    name = options.model or choose_model(volume, slice_axis, request)
    device = networks.choose_device(options.device)
    checkpoint = _on_device(name, device, options.trust_model, foreign.last_change(name))
    if not checkpoint.config.spacing:
        checkpoint = _on_spacing_of(volume, slice_axis, checkpoint)
    config = checkpoint.config
    grid = grid_for(config, shape, volume.spacing, volume.orientation, slice_axis)
    _check_grid(volume, grid, options.max_voxels)
    priors = request.for_image(case, shape, slice_axis, config.label_values, volume.frame) if request else {}
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
                    volume.path.name, volume.array.shape, slice_axis, config.label_values, volume.frame
                )
            except InvalidPrior as error:
                refusal = error
                continue
            if priors:
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
def _on_device(
    name: str, device: torch.device, trusted: bool, changed: tuple[int, ...]
) -> networks.Checkpoint:
    """A checkpoint whose network is on its device, loaded once for all cases until its files change."""
    checkpoint = foreign.load(name, trusted)
    checkpoint.network.to(device)
    return checkpoint


def _on_spacing_of(volume: Volume, slice_axis: int, checkpoint: networks.Checkpoint) -> networks.Checkpoint:
    """A checkpoint without a spacing of its own, for the voxels of one image as they are."""
    config, axes = checkpoint.config, list(volume.orientation[0])
    if len(axes) > config.dimensions:
        axes.remove(slice_axis)
    if len(axes) < config.dimensions:
        return checkpoint  # refused with the image's rank, in a moment
    spacing = tuple(volume.spacing[axis] for axis in axes)
    return replace(checkpoint, config=replace(config, spacing=spacing))


def _check_grid(volume: Volume, grid: Grid, most: int) -> None:
    """Refuses an image that takes too many voxels of a network's size: spacings, too, come from anywhere."""
    slices = 1 if grid.slice_axis is None else grid.shape[grid.slice_axis]
    if (found := slices * math.prod(grid.size)) > most:
        raise InvalidArray(
            f"{volume.path.name}: expected at most {most} voxels on the model's grid, found {found} for a "
            f"spacing of {volume.spacing} mm; --max-voxels allows more"
        )


def _predict_labels(
    volume: Volume, slice_axis: int, options: CaseOptions, request: PriorRequest | None
) -> tuple[Prediction, Priors]:
    """A label map as if a network had been sure of it far from its borders, and unsure near them."""
    with naming(volume.path.name):
        logits = logits_of_labels(volume.array, volume.spacing, options.softness)
        labels = {str(value): value for value in range(1, len(logits))}
        case, shape = volume.path.name, volume.array.shape
        priors = request.for_image(case, shape, slice_axis, labels, volume.frame) if request else {}
        if priors and None not in priors:  # slices are corrected one by one, so each has its own distances
            logits = logits_of_labels(volume.array, volume.spacing, options.softness, slice_axis)
    return Prediction(logits, labels, slice_axis), priors


@contextmanager
def naming(case: str) -> Iterator[None]:
    """Puts the case's name before what is wrong with its values."""
    try:
        yield
    except InvalidArray as error:
        raise InvalidArray(f"{case}: {error}") from None
