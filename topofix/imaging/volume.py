"""The voxels of one image file and their place in the world, whatever its format.

A `Volume` holds the voxels in the file's own index order, never transposed and never padded, beside all that
is needed to write another array onto exactly the same grid. World coordinates are RAS millimetres, as NIfTI
has them.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.errors import UnreadableFile

Voxels = npt.NDArray[Any]
Affine = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """The voxels of one file and its geometry.

    Attributes:
        array: voxels of rank 2 or 3, axes in the file's index order: (i, j, k) of NIfTI, (x, y, z) of ITK's
            formats, (row, column) of PNG, TIFF and JPEG.
        spacing: mm per axis of `array`; 1.0 for PNG, TIFF and JPEG, which know no mm.
        affine: `(4, 4)`, takes a voxel index to RAS mm; the identity for PNG, TIFF and JPEG.
        path: the file it came from.
        header: opaque; what `write` needs to keep all that the file's own format says of this grid.
    """

    array: Voxels
    spacing: tuple[float, ...]
    affine: Affine
    path: Path
    header: Any = field(default=None, repr=False)

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel in mm³; in 2-D the area of a pixel in mm²."""
        return math.prod(self.spacing)

    @property
    def orientation(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The way to the closest canonical (RAS) order: a permutation of array axes, then the axes to flip.

        The identity in 2-D, and where the affine collapses an axis and so defines no order.

        Example:
            >>> lps = Volume(np.zeros((4, 5, 6)), (1.0, 1.0, 1.0), np.diag([-1.0, -1, 1, 1]), Path("lps.nii"))
            >>> permutation, flips = lps.orientation
            >>> permutation, flips
            ((0, 1, 2), (0, 1))
            >>> canonical = np.flip(lps.array.transpose(permutation), flips)
        """
        from nibabel.orientations import io_orientation

        rank = self.array.ndim
        if rank == 2 or np.isnan(axes := io_orientation(self.affine)).any():
            return tuple(range(rank)), ()
        permutation = tuple(int(axis) for axis in np.argsort(axes[:, 0]))
        return permutation, tuple(canonical for canonical in range(3) if axes[permutation[canonical], 1] < 0)


def check_shape(path: Path, shape: tuple[int, ...]) -> None:
    """Refuses a shape that no `Volume` has; a format that knows it early asks before it reads the voxels.

    Raises:
        UnreadableFile: neither 2 nor 3 axes, or an axis without voxels.
    """
    if len(shape) not in (2, 3):
        raise UnreadableFile(f"{path}: expected an image of 2 or 3 dimensions, found shape {shape}")
    if min(shape) < 1:
        raise UnreadableFile(f"{path}: expected voxels along every axis, found shape {shape}")
