"""Refinement of images in memory: arrays, tensors, nibabel and SimpleITK images in, the same kind out.

    from topofix.api import refine

    result = refine(probabilities, "1,0,0", spacing=(0.8, 0.8, 2.5))
    result.labels, result.record.outcome

It is the same pipeline as `topofix refine`, less the files.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from topofix.errors import InvalidArray, InvalidOption
from topofix.imaging.itk import affine_of
from topofix.imaging.maps import Maps
from topofix.imaging.volume import Affine, Volume, Voxels
from topofix.prediction import predict_maps, predict_volume
from topofix.records import CaseOptions, Record, RefinementOptions
from topofix.refined import refine_prediction
from topofix.request import PriorRequest

_MM = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}  # as nibabel names NIfTI's units


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What became of an image in memory.

    Attributes:
        labels: The label map, (*S) uint8, of the kind that the image was: a NumPy array, a torch tensor on
            the same device, a nibabel or a SimpleITK image with the same geometry.
        probabilities: (K + 1, *S), channel 0 the background.
        record: What was asked, found and changed; the same as the JSON beside a file.
    """

    labels: Any
    probabilities: Voxels
    record: Record


def refine(
    image: Any,
    betti: str | Sequence[str],
    *,
    spacing: Sequence[float] | None = None,
    channel_axis: int | None = None,
    options: CaseOptions = CaseOptions(input_type="probabilities"),
    refinement: RefinementOptions = RefinementOptions(),
    frozen: Any = None,
) -> Result:
    """Gives an image in memory the topology that was asked for.

    Args:
        image: Probabilities, or by `options.input_type` a scan or a label map: a NumPy array, a torch tensor,
            a nibabel image or a SimpleITK image, of rank 2 or 3. Probabilities may have a channel axis.
        betti: The prior, as on the command line: `1,0,0`, `2:1,1`, or several of them.
        spacing: mm per axis, without the channels'; None takes the image's own, and 1 for arrays and tensors.
        channel_axis: Axis of the channels; None where there are none. SimpleITK keeps channels as components.
        options: What the image is, network, connectivity, slice axis; how many voxels it may have.
        refinement: Stages, steps, learning rates, limits.
        frozen: A mask of the image's shape, of any of its kinds; where it is not zero, the label stays.

    Raises:
        TopofixError: An image or a prior that cannot be, or do not fit each other.

    Example:
        >>> field = np.full((12, 12), 0.1)
        >>> field[2:5, 2:5], field[7:10, 7:10] = 0.9, 0.6     # two pieces where one is asked for
        >>> result = refine(field, "1,0")
        >>> result.record.outcome.name, result.labels.shape
        ('SATISFIED', (12, 12))
    """
    for what, given in (("image", image), ("frozen", frozen)):
        _check_count(what, given, options.max_voxels)
    source = _source(image)
    maps = _on_grid(source, channel_axis, spacing)
    mask = None if frozen is None else _mask(frozen, maps.grid.array.shape)
    if options.freeze is not None:
        raise InvalidOption(f"freeze: expected a mask in memory as 'frozen', got the file {options.freeze}")
    request = PriorRequest((betti,) if isinstance(betti, str) else tuple(betti))
    if options.input_type == "probabilities":
        prediction, priors = predict_maps(maps, "image", options, request)
    elif len(maps.array) == 1:
        prediction, priors = predict_volume(maps.grid, options, request)
    else:
        raise InvalidArray(f"image: expected no channels in {options.input_type}, got {len(maps.array)}")
    refined = refine_prediction(maps.grid, prediction, priors, request, options, refinement, frozen=mask)
    probabilities = torch.softmax(refined.logits, 0).numpy()
    return Result(source.like(refined.labels), probabilities, refined.record)


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """An image of any kind as an array, and the way back."""

    array: Voxels
    like: Callable[[Voxels], Any]
    affine: Affine | None = None
    channel_axis: int | None = None


def _on_grid(source: _Source, channel_axis: int | None, spacing: Sequence[float] | None) -> Maps:
    """The image with its channels first, checked, on the grid that results are given on."""
    array = source.array
    axis = source.channel_axis if channel_axis is None else channel_axis
    if axis is not None and not -array.ndim <= axis < array.ndim:
        raise InvalidArray(f"channel_axis: expected an axis of {array.shape}, got {axis}")
    array = array[None] if axis is None else np.moveaxis(array, axis, 0)
    rank = array.ndim - 1
    if rank not in (2, 3) or 0 in array.shape:
        raise InvalidArray(f"image: expected 2 or 3 axes of space, got shape {source.array.shape}")
    if array.dtype.kind not in "buif" or not np.isfinite(array).all():
        raise InvalidArray(f"image: expected finite real numbers, got {array.dtype}")
    affine = np.eye(4) if source.affine is None else source.affine
    own = np.linalg.norm(affine[:3, :rank], axis=0).tolist()
    steps = tuple(float(step) for step in (own if spacing is None else spacing))
    if len(steps) != rank or not all(0 < step < math.inf for step in steps):
        raise InvalidArray(f"spacing: expected {rank} lengths above 0 mm, got {steps}")
    if spacing is not None:
        affine = affine.copy()
        affine[:3, :rank] *= np.divide(steps, own)
    layout = "single map" if axis is None else f"channels on axis {axis}"
    return Maps(array, Volume(array[0], steps, affine, Path("image")), layout)


def _check_count(what: str, image: Any, most: int) -> None:
    """Refuses an image of too many voxels, before one that is still on the disk is read."""
    if hasattr(image, "GetNumberOfComponentsPerPixel"):
        found = math.prod(image.GetSize()) * image.GetNumberOfComponentsPerPixel()
    else:
        found = math.prod(getattr(image, "shape", ()))
    if found > most:
        raise InvalidArray(
            f"{what}: expected at most {most} voxels, got {found}; max_voxels among the options allows more"
        )


def _mask(frozen: Any, shape: tuple[int, ...]) -> Voxels:
    """A mask of any kind as a boolean array of the image's shape."""
    array = _source(frozen).array
    if array.shape != shape:
        raise InvalidArray(f"frozen: expected the shape of the image, {shape}, got {array.shape}")
    return np.ascontiguousarray(array != 0)


def _source(image: Any) -> _Source:
    if isinstance(image, torch.Tensor):
        tensor = image.detach().cpu()
        array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return _Source(array, lambda labels: torch.from_numpy(labels).to(image.device))
    if hasattr(image, "dataobj") and hasattr(image, "affine"):  # nibabel's images, whatever the format
        return _of_nibabel(image)
    if hasattr(image, "GetDirection"):
        return _of_simpleitk(image)
    return _Source(np.asarray(image), lambda labels: labels)


def _of_nibabel(image: Any) -> _Source:
    """Trailing axes of size 1 are dropped, as from a file; the affine is that of the axes of space."""

    def like(labels: Voxels) -> Any:
        made = type(image)(labels, image.affine, image.header)
        made.set_data_dtype(labels.dtype)
        return made

    array = np.asarray(image.dataobj)
    while array.ndim > 3 and array.shape[-1] == 1:
        array = array[..., 0]
    unit = _MM.get(image.header.get_xyzt_units()[0], 1.0) if hasattr(image.header, "get_xyzt_units") else 1.0
    affine = np.array(image.affine, np.float64)
    affine[:3] *= unit
    return _Source(array, like, affine)


def _of_simpleitk(image: Any) -> _Source:
    """ITK's arrays have the first index last, and channels behind it."""
    import SimpleITK

    channels = image.GetNumberOfComponentsPerPixel() > 1
    array = SimpleITK.GetArrayFromImage(image)
    axes = (*reversed(range(image.GetDimension())), image.GetDimension())
    array = array.transpose(axes[: array.ndim])

    def like(labels: Voxels) -> Any:
        made = SimpleITK.GetImageFromArray(np.ascontiguousarray(labels.T))
        made.CopyInformation(image)  # type: ignore[no-untyped-call]
        return made

    return _Source(array, like, affine_of(image), -1 if channels else None)
