"""From an image to the network's grid, through the network, and back to the image's own grid.

The network sees its training resolution and the axes in canonical (right, anterior, superior) order; a 2-D
network sees a volume slice by slice. `Grid` holds that way in both directions, and both are differentiable,
so that what is optimised, verified and written are the same voxels: the image's.

      image (i, j, k), spacing 0.7 x 0.7 x 10 mm             network (N, 1, y, x), spacing 1.4 x 1.4 mm
      +--------+   permute, flip    +--------+   resample    +----+   U-net   +----+
      |        | -----------------> |        | ------------> |    | --------> |    | --> all the way back
      +--------+   slices first     +--------+               +----+           +----+     (logits, linearly)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topofix.errors import InvalidArray
from topofix.learning.network import NetworkConfig

T = TypeVar("T")

WINDOW = {2: 512, 3: 96}
"""Largest side, in network voxels, that goes through the network in one piece; beyond it, windows slide."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The way from an image's voxels to a network's, and back.

    Attributes:
        shape: The image's shape, in its own axis order.
        permutation: For each canonical axis, the image axis it comes from.
        flips: Canonical axes whose direction is reversed.
        slice_axis: Image axis whose slices a 2-D network sees one by one; None where the ranks are equal.
        size: Shape of what the network sees, before padding.
    """

    shape: tuple[int, ...]
    permutation: tuple[int, ...]
    flips: tuple[int, ...]
    slice_axis: int | None
    size: tuple[int, ...]

    def to_network(self, image: Tensor, mode: Literal["linear", "nearest"] = "linear") -> Tensor:
        """Brings an image (*shape) onto the network's grid: (N, 1, *size), N = 1 or the number of slices."""
        x = image.permute(self.permutation).flip(self.flips)
        x = x[None] if self.slice_axis is None else x.movedim(self._canonical_slice_axis, 0)
        return _resample(x[:, None], self.size, mode)

    def to_image(self, logits: Tensor) -> Tensor:
        """Brings logits (N, C, *size) back onto the image's grid: (C, *shape)."""
        canonical = [self.shape[axis] for axis in self.permutation]
        if self.slice_axis is not None:
            del canonical[self._canonical_slice_axis]
        x = _resample(logits, tuple(canonical), "linear")
        x = x[0] if self.slice_axis is None else x.movedim(0, self._canonical_slice_axis + 1)
        x = x.flip([axis + 1 for axis in self.flips])  # (C, *canonical)
        inverse = np.argsort(self.permutation)
        return x.permute(0, *(int(axis) + 1 for axis in inverse))

    def in_network_order(self, of_slices: Sequence[T]) -> Sequence[T]:
        """What belongs to the image's slices, in the order in which the network sees these."""
        flipped = self.slice_axis is not None and self._canonical_slice_axis in self.flips
        return of_slices[::-1] if flipped else of_slices

    def of_slice(self) -> "Grid":
        """The grid of one slice, as a 2-D image, of a volume that a 2-D network sees slice by slice."""
        axis = cast(int, self.slice_axis)
        gone = self._canonical_slice_axis
        return Grid(
            shape=self.shape[:axis] + self.shape[axis + 1 :],
            permutation=tuple(a - (a > axis) for a in self.permutation if a != axis),
            flips=tuple(flip - (flip > gone) for flip in self.flips if flip != gone),
            slice_axis=None,
            size=self.size,
        )

    @property
    def _canonical_slice_axis(self) -> int:
        return self.permutation.index(cast(int, self.slice_axis))


def grid_for(
    config: NetworkConfig,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    orientation: tuple[tuple[int, ...], tuple[int, ...]] | None = None,
    slice_axis: int | None = None,
) -> Grid:
    """Plans how an image gets onto a network's grid.

    Args:
        config: The network's configuration.
        shape: The image's shape; rank 2 or 3.
        spacing: The image's voxel size in mm.
        orientation: Permutation and flips to canonical axes, as `Volume.orientation` has it.
        slice_axis: Where a 2-D network runs on a volume; the axis of the largest spacing if None.

    Raises:
        InvalidArray: A 3-D network was given a 2-D image.

    Example:
        >>> config = NetworkConfig(2, ("disc",), (2.0, 2.0), (32, 32), channels=(4, 8, 8))
        >>> grid_for(config, (60, 40, 5), (1.0, 1.0, 10.0)).size
        (30, 20)
    """
    rank = len(shape)
    if rank < config.dimensions:
        raise InvalidArray(f"expected a volume for a {config.dimensions}-D model, got a {rank}-D image")
    permutation, flips = orientation or (tuple(range(rank)), ())
    kept = list(permutation)
    if rank > config.dimensions:
        slice_axis = widest_axis(shape, spacing) if slice_axis is None else slice_axis
        kept.remove(slice_axis)
    else:
        slice_axis = None
    size = tuple(
        max(1, round(shape[axis] * spacing[axis] / target))
        for axis, target in zip(kept, config.spacing, strict=True)
    )
    return Grid(shape, permutation, flips, slice_axis, size)


def widest_axis(shape: tuple[int, ...], spacing: tuple[float, ...]) -> int:
    """The axis that a stack was made along: one of a single voxel, else that of the largest spacing.

    Of several the shortest is taken, then the last.

    Example:
        >>> widest_axis((256, 256, 10), (1.4, 1.4, 8.0))
        2
    """
    return max(range(len(shape)), key=lambda axis: (shape[axis] == 1, spacing[axis], -shape[axis], axis))


def normalise(array: npt.NDArray[np.generic]) -> Tensor:
    """Intensities between their 0.5th and 99.5th percentile, with mean 0 and standard deviation 1, float32.

    The scanner's scale is arbitrary (maxima from 110 to 1,700,000 in one public data set), so each image is
    its own reference. A constant image becomes zero.

    Example:
        >>> normalise(np.arange(4.0)).mean().item()
        0.0
    """
    values = np.asarray(array, dtype=np.float64)
    low, high = np.percentile(values, [0.5, 99.5])
    values = np.clip(values, low, high)
    rounding = 1e-8 * float(np.abs(values).max()) + np.finfo(np.float64).tiny
    values = (values - values.mean()) / max(float(values.std()), rounding)
    return torch.from_numpy(values.astype(np.float32))


def forward(network: nn.Module, config: NetworkConfig, images: Tensor) -> Tensor:
    """Images (N, 1, *S) of any size to logits (N, K + 1, *S), padded to what the U-net can halve.

    A side beyond `WINDOW` goes through in overlapping windows (MONAI's sliding window, Gaussian weights).
    """
    size = images.shape[2:]
    padding = [(-side) % config.divisor for side in size]
    padded = F.pad(images, [p for side in reversed(padding) for p in (0, side)], mode="replicate")
    if config.dimensions == 2:
        padded = padded.contiguous(memory_format=torch.channels_last)  # half again as fast
    window = WINDOW[config.dimensions]
    if max(padded.shape[2:]) <= window:
        logits = network(padded)
    else:
        from monai.inferers.utils import sliding_window_inference

        roi = [min(side, window) for side in padded.shape[2:]]
        logits = sliding_window_inference(padded, roi, 1, network, overlap=0.25, mode="gaussian")
    inner: tuple[Any, ...] = (..., *(slice(0, side) for side in size))
    return cast(Tensor, logits)[inner]


@torch.inference_mode()
def predict(
    network: nn.Module, config: NetworkConfig, image: Tensor, grid: Grid, device: torch.device
) -> Tensor:
    """Logits of an image on its own grid.

    Args:
        network: On `device`, in evaluation mode.
        config: The network's configuration.
        image: Normalised intensities, (*grid.shape), on the CPU.
        grid: From `grid_for`.
        device: Where the network runs; resampling stays on the CPU.

    Returns:
        Logits (K + 1, *grid.shape), float32, on the CPU.
    """
    images = grid.to_network(image)
    batch = 8 if config.dimensions == 2 else 1  # slices at a time: more costs memory and wins no time
    logits = [forward(network, config, part.to(device)).float().cpu() for part in torch.split(images, batch)]
    return grid.to_image(torch.cat(logits))


def _resample(x: Tensor, size: tuple[int, ...], mode: Literal["linear", "nearest"]) -> Tensor:
    """(N, C, *S) to (N, C, *size); the outer borders of the two grids coincide."""
    if tuple(x.shape[2:]) == size:
        return x
    if mode == "nearest":
        return F.interpolate(x, size, mode="nearest-exact")
    return F.interpolate(x, size, mode="bilinear" if len(size) == 2 else "trilinear", align_corners=False)
