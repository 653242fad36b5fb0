"""Series in time: a 4-D NIfTI file as volumes, one per frame, and volumes as such a file again.

Everything else that topofix reads is a series of one frame, so that whoever takes frames takes any image.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from topofix.errors import UnwritableFile
from topofix.imaging import nifti
from topofix.imaging.volume import Volume, Voxels, check_finite, intact
from topofix.imaging.volumes import WRITABLE, read, suffix, write
from topofix.limits import MOST_VOXELS


def read_frames(path: Path | str, *, max_voxels: int = MOST_VOXELS) -> tuple[Volume, ...]:
    """Reads an image; the frames of a 4-D NIfTI file one by one, in the order of its last axis.

    Args:
        path: An image file or the folder of a DICOM series.
        max_voxels: More of them, of all frames together, are refused before memory is taken.

    Returns:
        One volume with `frame` None, or several that count it from 0. All keep the header of the file.

    Raises:
        UnreadableFile: As `topofix.imaging.volumes.read`.

    Example:
        >>> import tempfile
        >>> frame = Volume(np.zeros((4, 5, 6)), (1.0,) * 3, np.eye(4), Path(), frame=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_frames(Path(folder) / "cine.nii.gz", [frame.array] * 7, [frame] * 7)
        ...     [volume.frame for volume in read_frames(Path(folder) / "cine.nii.gz")]
        [0, 1, 2, 3, 4, 5, 6]
    """
    path = Path(path)
    if not path.is_file() or suffix(path) not in nifti.SUFFIXES:
        return (read(path, max_voxels=max_voxels),)
    with intact(path, f"{suffix(path)} file"):
        series = nifti.read(path, channels=True, max_voxels=max_voxels)
    check_finite(series)
    if series.array.ndim < 4:
        return (series,)
    return tuple(
        replace(series, array=series.array[..., frame], spacing=series.spacing[:3], frame=frame)
        for frame in range(series.array.shape[3])
    )


def write_frames(path: Path | str, arrays: Sequence[Voxels], frames: Sequence[Volume]) -> None:
    """Writes an array per frame onto the grid that `read_frames` found, into one file.

    Args:
        path: The output, NIfTI where there are several frames.
        arrays: One per frame, of its shape.
        frames: From `read_frames`.

    Raises:
        InvalidArray: As `topofix.imaging.volumes.write`.
        UnwritableFile: The same, or another format than NIfTI for several frames.
    """
    path, first = Path(path), frames[0]
    check_format(path, frames)
    if first.frame is None:
        return write(path, arrays[0], like=first)
    stack = np.stack(arrays, axis=-1)
    write(path, stack, like=replace(first, array=np.broadcast_to(np.uint8(0), stack.shape)))


def check_format(path: Path, frames: Sequence[Volume]) -> None:
    """Refuses an output whose format cannot hold label maps of these frames, before any work is done.

    Raises:
        UnwritableFile: A format that is only read, PNG for a volume, or any but NIfTI for several frames.
    """
    kind = suffix(path)
    if kind not in WRITABLE:
        raise UnwritableFile(f"{path}: expected a file ending in {', '.join(WRITABLE)}, found '{kind}'")
    if frames[0].frame is not None and kind not in nifti.SUFFIXES:
        raise UnwritableFile(
            f"{path}: expected a NIfTI file for a series in time, found {len(frames)} frames for '{kind}'"
        )
    if kind == ".png" and frames[0].array.ndim > 2:
        raise UnwritableFile(
            f"{path}: expected an image of 2 dimensions for '{kind}', found shape {frames[0].array.shape}"
        )
