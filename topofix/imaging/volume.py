"""The voxels of one image file and their place in the world, whatever its format.

A `Volume` holds the voxels in the file's own index order, never transposed and never padded, beside all that
is needed to write another array onto exactly the same grid. World coordinates are RAS millimetres, as NIfTI
has them. Beside it stands what every reader of files asks of its voxels.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import shown

Voxels = npt.NDArray[Any]
Affine = npt.NDArray[np.float64]

SHORTEST, LONGEST = 1e-12, 1e12
"""mm, a voxel's side at least and at most, and the way to it at most: beyond that a header is damaged, and
volumes are 0 or overflow."""


@dataclass(frozen=True, slots=True, eq=False)
class Volume:
    """The voxels of one file and its geometry.

    Attributes:
        array: voxels of rank 2 or 3, axes in the file's index order: (i, j, k) of NIfTI, (x, y, z) of ITK's
            formats and DICOM, (row, column) of PNG, TIFF and JPEG, (page, row, column) of a TIFF of several
            pages, and what NumPy's files have.
        spacing: mm per axis of `array`; 1.0 for pictures and NumPy's files, which know no mm.
        affine: `(4, 4)`, takes a voxel index to RAS mm; the identity for pictures and NumPy's files.
        path: the file it came from.
        header: opaque; what `write` needs to keep all that the file's own format says of this grid.
        frame: index in time of a volume out of a series, from 0; None for an image of its own.
    """

    array: Voxels
    spacing: tuple[float, ...]
    affine: Affine
    path: Path
    header: Any = field(default=None, repr=False)
    frame: int | None = None

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
        raise UnreadableFile(f"{path}: expected an image of 2 or 3 dimensions, found shape {shown(shape)}")
    if min(shape) < 1:
        raise UnreadableFile(f"{path}: expected voxels along every axis, found shape {shown(shape)}")


def check_finite(volume: Volume) -> None:
    """Refuses a geometry or voxels that are not finite, or a geometry of no world.

    Raises:
        UnreadableFile: they are not; the message counts the voxels and names the first.
    """
    if not (np.abs(volume.affine) <= LONGEST).all():  # not so, either, where it is no number
        raise UnreadableFile(f"{volume.path}: expected a finite affine, found {volume.affine.tolist()}")
    if not all(SHORTEST <= step <= LONGEST for step in volume.spacing):
        raise UnreadableFile(
            f"{volume.path}: expected a spacing from {SHORTEST:g} to {LONGEST:g} mm, found {volume.spacing}"
        )
    if volume.array.dtype.kind == "f" and not (finite := np.isfinite(volume.array)).all():
        first = tuple(int(index) for index in np.unravel_index(np.argmin(finite), finite.shape))
        count = finite.size - np.count_nonzero(finite)
        raise UnreadableFile(
            f"{volume.path}: expected finite voxels, found {count} that are NaN or infinite, first at {first}"
        )


@contextmanager
def intact(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever a decoder raises on damaged bytes into one sentence.

    Args:
        path: what is being decoded.
        kind: what it is, such as `.nii file`.

    Raises:
        UnreadableFile: the decoder raised anything but this and a MemoryError.
    """
    try:
        yield
    except (UnreadableFile, MemoryError):
        raise
    except Exception as error:  # the kinds that the decoders raise on damaged bytes are many and undocumented
        found = getattr(error, "strerror", None) or "one that is damaged, truncated or without its data file"
        raise UnreadableFile(f"{path}: expected a complete {kind}, found: {found}") from error
