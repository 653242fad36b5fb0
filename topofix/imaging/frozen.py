"""A mask of voxels that are not to be touched, on the grid of the image that it is for."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray
from topofix.imaging import arrays, pictures
from topofix.imaging.frames import read_frames
from topofix.imaging.volume import Volume
from topofix.imaging.volumes import suffix
from topofix.limits import MOST_VOXELS

Mask = npt.NDArray[np.bool_]

TOLERANCE = 0.1
"""How far a voxel of the mask may lie from the image's, in voxel sides: formats round differently."""

_NOWHERE = (*pictures.SUFFIXES, *pictures.READ_ONLY, *arrays.SUFFIXES)
"""Suffixes of files that say nothing about where they lie."""


def read_frozen(
    path: Path | str, frames: Sequence[Volume], *, max_voxels: int = MOST_VOXELS
) -> tuple[Mask, ...]:
    """Reads a mask for every frame of an image: True where a voxel is not zero.

    Args:
        path: An image file of the image's shape and place; for a series in time, one mask for all frames or
            as many as there are.
        frames: The image, frame by frame.
        max_voxels: A mask of more of them is refused before memory is taken, unless the image has as many.

    Raises:
        InvalidArray: The mask has another shape than the image, or lies somewhere else.
        UnreadableFile: The mask cannot be read.

    Example:
        >>> import tempfile
        >>> from topofix.imaging.volumes import write
        >>> image = Volume(np.zeros((2, 3)), (1.0, 1.0), np.eye(4), Path("image.png"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder) / "mask.png", np.array([[0, 0, 0], [0, 255, 0]], np.uint8), like=image)
        ...     int(read_frozen(Path(folder) / "mask.png", [image])[0].sum())
        1
    """
    masks = read_frames(path, max_voxels=max(max_voxels, sum(frame.array.size for frame in frames)))
    if len(masks) not in (1, len(frames)):
        raise InvalidArray(f"{path}: expected {len(frames)} frames as in {frames[0].path}, got {len(masks)}")
    masks = masks * len(frames) if len(masks) == 1 else masks
    for mask, frame in zip(masks, frames, strict=True):
        if mask.array.shape != frame.array.shape:
            raise InvalidArray(
                f"{path}: expected the shape of {frame.path}, {frame.array.shape}, got {mask.array.shape}"
            )
        apart = _apart(mask, frame)
        if apart > TOLERANCE * min(frame.spacing):
            raise InvalidArray(
                f"{path}: expected the grid of {frame.path}, got one that lies up to {apart:.3g} mm apart"
            )
    return tuple(np.ascontiguousarray(mask.array != 0) for mask in masks)


def _apart(mask: Volume, frame: Volume) -> float:
    """mm between the corners of two grids of one shape, at most; 0 where one of them lies nowhere."""
    if any(suffix(volume.path) in _NOWHERE for volume in (mask, frame)):
        return 0.0
    shape = (*frame.array.shape, 1, 1)[:3]
    corners = np.array([(*index, 1) for index in np.ndindex(2, 2, 2)]) * [*np.subtract(shape, 1), 1]
    return float(np.linalg.norm(corners @ (mask.affine - frame.affine).T, axis=1).max())
