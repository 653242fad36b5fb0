"""The probabilities of any network: one map or one per class, in any format, and the grid they lie on.

Channels come first in memory whatever the file has, and space keeps the index order of the grid.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topofix.errors import UnreadableFile
from topofix.imaging import arrays, itk, nifti, pictures
from topofix.imaging.volume import Volume, Voxels, check_finite, check_shape, intact
from topofix.imaging.volumes import WRITABLE, read, stem, suffix
from topofix.limits import MOST_VOXELS

SUM_TOLERANCE = 1e-3
"""How far from 1 the channels of a softmax may sum; half precision stays well below."""

_SINGLE = "single map"
_CROPPED = (
    "nnU-Net cropped it, or it belongs to another image; only probabilities of the whole image can be used"
)


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """One or more channels, and the grid on which results are written.

    Attributes:
        array: (C, *S), float32, or float64 where the file is; finite, in whatever range the file has.
        grid: the geometry, of shape S: the map itself where there is one, else without voxels of its own.
        layout: how the channels lay in the file, for people.
    """

    array: Voxels
    grid: Volume
    layout: str


def read_maps(path: Path | str, like: Path | str | None = None, *, max_voxels: int = MOST_VOXELS) -> Maps:
    """Reads a file of one or more maps.

    A file of 2 or 3 axes is one map. Of four axes the channels are those along which the values sum to 1, the
    last axis if that does not tell. NRRD and MetaImage may hold a vector per voxel. nnU-Net's `.npz` (key
    `probabilities`, or `softmax` of version 1) has the axes the other way round and no geometry: that comes
    from `like`, or from the label map of the same name beside it. Any other array of NumPy has channels first
    if it has four axes.

    Args:
        path: the file.
        like: an image whose geometry counts instead of the file's; needed by files that have none.
        max_voxels: more of them, of all channels together, are refused before memory is taken.

    Raises:
        UnreadableFile: a missing, damaged or too large file, values that are not finite, a shape that is not
            that of `like`, an unsupported layout.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(Path(folder) / "maps.npy", np.full((3, 4, 5, 6), 1 / 3, np.float16))
        ...     maps = read_maps(Path(folder) / "maps.npy")
        >>> maps.array.shape, maps.array.dtype.name, maps.grid.array.shape, maps.layout
        ((3, 4, 5, 6), 'float32', (4, 5, 6), 'channels first')
    """
    path = Path(path)
    kind = suffix(path)
    if not path.is_file() or kind not in (*nifti.SUFFIXES, *itk.SUFFIXES, *arrays.SUFFIXES):
        return _single(read(path, like, max_voxels=max_voxels))  # which also says what is wrong with the path
    with intact(path, f"{kind} file"):
        if kind in arrays.SUFFIXES:
            maps = _of_arrays(path, like, max_voxels)
        elif kind in nifti.SUFFIXES:
            maps = _of_nifti(nifti.read(path, channels=True, max_voxels=max_voxels))
        else:
            maps = _of_itk(itk.read(path, channels=True, max_voxels=max_voxels))
    values = maps.array[0] if len(maps.array) == 1 else maps.array  # places are told without a channel
    check_finite(dataclasses.replace(maps.grid, array=values))
    if like is None or kind in arrays.SUFFIXES:
        return maps
    grid = read(like, max_voxels=max_voxels)
    _check_fits(path, maps.grid.array.shape, like, grid.array.shape)
    return dataclasses.replace(maps, grid=_placed(maps.grid, grid))


def _of_nifti(stack: Volume) -> Maps:
    if stack.array.ndim < 4:
        return _single(stack)
    axis, layout = _channel_axis(stack.array)
    return Maps(_channels_first(stack.array, axis), nifti.without_channels(stack, axis), layout)


def _of_itk(stack: Volume) -> Maps:
    if itk.has_vectors(stack):
        axis, layout = 0, "a vector per voxel"
    elif stack.array.ndim < 4:
        return _single(stack)
    else:
        axis, layout = _channel_axis(stack.array)
    return Maps(_channels_first(stack.array, axis), itk.without_channels(stack, axis), layout)


def _of_arrays(path: Path, like: Path | str | None, max_voxels: int) -> Maps:
    key = arrays.only_key(path)
    if key in arrays.NETWORK_KEYS:
        return _of_nnunet(path, key, like, max_voxels)
    grid = None if like is None else read(like, max_voxels=max_voxels)

    def check(shape: tuple[int, ...]) -> None:
        space = shape[1:] if len(shape) == 4 else shape
        check_shape(path, space)
        if shape[0] < 1:
            raise UnreadableFile(f"{path}: expected at least one channel, found shape {shape}")
        if like is not None and grid is not None:
            _check_fits(path, space, like, grid.array.shape)

    array = arrays.load(path, key, check, max_voxels)
    space = array.shape[-3:]
    bare = Volume(_nothing(space), (1.0,) * len(space), np.eye(4), path)
    placed = bare if grid is None else _placed(bare, grid)
    if array.ndim < 4:
        return _single(dataclasses.replace(placed, array=array))
    return Maps(_channels_first(array, 0), placed, "channels first")


def _of_nnunet(path: Path, key: str, like: Path | str | None, max_voxels: int) -> Maps:
    if like is None:
        beside = (path.with_name(stem(path) + ending) for ending in WRITABLE)
        like = next((file for file in beside if file.is_file()), None)
    if like is None:
        raise UnreadableFile(
            f"{path}: expected a geometry for nnU-Net's '{key}', found no label map {stem(path)}.nii.gz "
            "beside it; name an image of that geometry with --like"
        )
    grid = read(like, max_voxels=max_voxels)
    space = grid.array.shape
    # Pictures and NumPy's arrays are (z, y, x) here, too; all else is (x, y, z).
    same = suffix(like) in (*pictures.SUFFIXES, *pictures.READ_ONLY, *arrays.SUFFIXES)

    def check(shape: tuple[int, ...]) -> None:
        found = shape[1:] if same else shape[:0:-1]
        if len(shape) not in (3, 4) or shape[0] < 1:
            raise UnreadableFile(
                f"{path}: expected nnU-Net's '{key}' as (C, z, y, x) or (C, y, x), found shape {shape}"
            )
        # 2-D images have a z of size 1 there and may have none here
        if math.prod(found) == 0 or [n for n in found if n > 1] != [n for n in space if n > 1]:
            wanted = space if same else space[::-1]
            raise UnreadableFile(
                f"{path}: expected nnU-Net's '{key}' of the shape of {like}, (C, {str(wanted)[1:]}, found "
                f"{shape}: {_CROPPED}"
            )

    array = arrays.load(path, key, check, max_voxels)
    axes = range(1, array.ndim)
    order = "(C, z, y, x)" if len(axes) == 3 else "(C, y, x)"
    array = array.transpose(0, *(axes if same else reversed(axes))).reshape(-1, *space)
    bare = Volume(_nothing(space), grid.spacing, grid.affine, path, grid.header)
    return Maps(_channels_first(array, 0), bare, f"nnU-Net npz '{key}' {order}")


def _single(volume: Volume) -> Maps:
    return Maps(_channels_first(volume.array[None], 0), volume, _SINGLE)


def _channel_axis(array: Voxels) -> tuple[int, str]:
    """Which of four axes holds the channels: the last one, unless only the first one sums to 1."""
    for axis, layout in ((3, "channels last"), (0, "channels first")):
        with np.errstate(all="ignore"):  # values that are not finite are refused later, with their place
            off = np.abs(array.sum(axis, dtype=np.float64) - 1).max()
        if array.shape[axis] > 1 and off <= SUM_TOLERANCE:
            return axis, layout
    return 3, "channels last, taken for granted since no axis sums to 1"


def _channels_first(array: Voxels, axis: int) -> Voxels:
    precise = array.dtype.kind == "f" and array.dtype.itemsize > 4
    moved = np.moveaxis(array, axis, 0)
    return np.ascontiguousarray(moved, np.float64 if precise else np.float32)


def _nothing(shape: tuple[int, ...]) -> Voxels:
    """Voxels that take no memory."""
    return np.broadcast_to(np.uint8(0), shape)


def _placed(volume: Volume, grid: Volume) -> Volume:
    return dataclasses.replace(volume, spacing=grid.spacing, affine=grid.affine, header=grid.header)


def _check_fits(path: Path, shape: tuple[int, ...], like: Path | str, wanted: tuple[int, ...]) -> None:
    if shape != wanted:
        raise UnreadableFile(f"{path}: expected the shape of {like}, {wanted}, found {shape}")
