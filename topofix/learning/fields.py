"""Logits from what others made: probability maps, logits, and label maps that somebody drew.

Whatever comes in, what comes out is one channel per label behind one for the background, and the largest
channel is the label map that the input stands for. A label map has no probabilities, so how sure it is of a
voxel is taken from the distance to the nearest border, in mm, negative outside:

    . . . # # # # . . .        the label
    -3 -2 -1 1 2 2 1 -1 -2     signed distance d, counted from the border between voxels
    .2 .3 .4 .6 .7 .7 .6 .4    p = 1 / (1 + exp(-d / softness))

so that a thin bridge or a small piece is given up before the body of a structure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from topofix.errors import InvalidArray

Array = npt.NDArray[Any]

SOFTNESS = 2.0
"""Of a label map without a softness of its own, in voxels of the finest axis."""

SUMS_TO_ONE = 1e-3
"""How far the channels of a softmax may be from a sum of 1, as files round them."""

MOST_LABELS = 255
"""Each label costs a channel of the image's size."""

_CERTAIN = 1e-6  # probabilities nearer to 0 or 1 have no finite logit in float32


def logits_of_maps(maps: Array, are_logits: bool = False) -> Tensor:
    """Logits of one map, of a softmax, or of maps that know nothing of each other.

    Args:
        maps: (C, *S). C = 1: the foreground. C > 1 with a sum of 1 everywhere, and any logits of C > 1: a
            softmax whose channel 0 is the background. Else: channel k is the probability of label k + 1, and
            where none is above 1/2 lies the background.
        are_logits: Whether `maps` are logits rather than probabilities.

    Returns:
        (K + 1, *S), channel 0 the background; float64 if `maps` is, else float32.

    Raises:
        InvalidArray: Probabilities outside [0, 1].

    Example:
        >>> logits_of_maps(np.array([[[0.2, 0.7]], [[0.6, 0.8]]])).argmax(0)
        tensor([[2, 2]])
    """
    precise = np.float64 if maps.dtype == np.float64 else np.float32
    values = torch.from_numpy(np.ascontiguousarray(maps, dtype=precise))
    if are_logits:
        return _with_background(values) if len(values) == 1 else values
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise InvalidArray(f"expected probabilities from 0 to 1, found values from {low:g} to {high:g}")
    if len(values) > 1 and bool((values.sum(0) - 1).abs().max() <= SUMS_TO_ONE):
        return values.clamp(min=_CERTAIN).log()
    return _with_background(values.logit(eps=_CERTAIN))


def logits_of_labels(
    labels: Array,
    spacing: Sequence[float],
    softness: float | None = None,
    slice_axis: int | None = None,
) -> Tensor:
    """Logits of a label map by signed distance; their largest channel is the label map again.

    Args:
        labels: (*S), whole numbers from 0 on.
        spacing: mm per axis.
        softness: mm over which a probability falls from 0.73 to 1/2; None for `SOFTNESS` voxels.
        slice_axis: Measure distances within slices along this axis; None: in all directions.

    Returns:
        (K + 1, *S) float32, K the largest label.

    Raises:
        InvalidArray: Not whole numbers from 0 on, or more than `MOST_LABELS`.

    Example:
        >>> logits = logits_of_labels(np.array([[0, 1, 1, 0]]), (1.0, 1.0), softness=1.0)
        >>> [round(p, 2) for p in torch.softmax(logits, 0)[1, 0].tolist()]
        [0.38, 0.62, 0.62, 0.38]
    """
    if labels.dtype.kind == "f" and not np.array_equal(labels, np.floor(labels)):
        raise InvalidArray("expected a label map of whole numbers, found fractions")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > MOST_LABELS:
        raise InvalidArray(f"expected labels from 0 to {MOST_LABELS}, found values from {low} to {high}")
    if softness is None:
        softness = SOFTNESS * min(spacing)
    logits = np.empty((max(high, 1) + 1, *labels.shape), np.float32)
    for value, channel in enumerate(logits):
        # Halved, since of two classes each holds one side: their difference is the distance.
        channel[...] = _signed_distance(labels == value, spacing, slice_axis) / (2 * softness)
    return torch.from_numpy(logits)


def _with_background(logits: Tensor) -> Tensor:
    """Channel 0 for the background: a label needs a probability above 1/2 to be larger."""
    return torch.cat([torch.zeros_like(logits[:1]), logits])


def _signed_distance(mask: Array, spacing: Sequence[float], slice_axis: int | None) -> Array:
    """mm to the nearest border of a mask, positive inside; the border lies between voxels."""

    if slice_axis is not None:
        rest = [step for axis, step in enumerate(spacing) if axis != slice_axis]
        parts = [_signed_distance(part, rest, None) for part in np.moveaxis(mask, slice_axis, 0)]
        return np.moveaxis(np.stack(parts), 0, slice_axis)
    if mask.all() or not mask.any():  # there is no border: farther away than any
        farthest = float(np.linalg.norm(np.multiply(mask.shape, spacing)))
        return np.full(mask.shape, farthest if mask.all() else -farthest)
    distance: Array = np.where(mask, 1.0, -1.0)
    for side in (mask, ~mask):
        distance[side] *= _to_the_other_side(side, spacing)[side]
    return distance


def _to_the_other_side(side: Array, spacing: Sequence[float]) -> Array:
    """mm from the middle of each voxel of one side to the nearest voxel of the other, whose border counts."""
    from scipy import ndimage

    nearest = ndimage.distance_transform_edt(
        side, sampling=spacing, return_distances=False, return_indices=True
    )
    total = np.zeros(side.shape)
    for axis, step in enumerate(spacing):
        place = np.arange(side.shape[axis]).reshape([-1 if k == axis else 1 for k in range(side.ndim)])
        apart = np.maximum(np.abs(nearest[axis] - place) - 0.5, 0) * step
        total += apart * apart
    return np.sqrt(total)
