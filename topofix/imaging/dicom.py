"""A DICOM series, the files of one scan in one folder, in only; by SimpleITK's GDCM.

GDCM's own search leaves out files that it cannot read, and ITK stacks what it is given: a scan with a missing
slice would come out shorter, or bent. So the slices are found, ordered and checked here.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import check_count, check_name, check_room, check_size
from topofix.imaging.itk import RAS_LPS
from topofix.imaging.sequences import TYPES, Order, check_elements, element, is_typed, no_slice
from topofix.imaging.silence import silence
from topofix.imaging.volume import Affine, Volume
from topofix.limits import MOST_VOXELS

_MAGIC_AT = 128
_MAGIC = b"DICM"
_SUFFIX = ".dcm"  # which slices need not have, but what has it should be one
_SERIES = "0020|000e"  # Series Instance UID
_BITS = "0028|0100"  # Bits Allocated
_META, _SYNTAX = b"\x02\x00", 0x00020010  # the group that begins a file, and in it the Transfer Syntax UID
_BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_PACKED = ("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5")  # JPEG in all its kinds, and run lengths
_TOLERANCE = 0.05  # of the distance of two slices; scanners round positions


class _Slice(NamedTuple):
    """What the header of one file says, in LPS mm."""

    path: Path
    series: str
    size: tuple[int, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    pixel: int

    @property
    def plane(self) -> tuple[float, ...]:
        """What all slices of a scan have in common: size, pixel size and orientation."""
        return (*self.size, *self.spacing[:2], *self.direction)


def is_slice(path: Path) -> bool:
    """Whether a file is DICOM by its content, whatever its name, and no table of contents."""
    try:
        with path.open("rb") as file:
            return file.read(_MAGIC_AT + 4)[_MAGIC_AT:] == _MAGIC and path.name.upper() != "DICOMDIR"
    except OSError:
        return False


@silence()
def read(path: Path, max_voxels: int = MOST_VOXELS) -> Volume:
    """Reads the one series in a folder: axes (column, row, slice), that is ITK's (x, y, z).

    The rescaling to real values is applied. Slices may be sheared, as by a tilted gantry; the affine says so.

    Args:
        path: the folder.
        max_voxels: more of them, of all slices together, are refused before memory is taken.

    Raises:
        UnreadableFile: no series, several, a damaged file, too many voxels, or slices that don't make up a
            regular grid.
    """
    import SimpleITK

    files = sorted(file for file in path.iterdir() if file.name[0] != "." and file.is_file())
    files = [file for file in files if is_slice(file) or file.suffix.lower() == _SUFFIX]
    if not files:
        raise UnreadableFile(f"{path}: expected an image file, found a folder without a DICOM series")
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    slices = [_slice(reader, file, max_voxels) for file in files]
    check_count(path, sum(math.prod(some.size) for some in slices), max_voxels)
    if (count := len({some.series for some in slices})) > 1:
        raise UnreadableFile(
            f"{path}: expected one DICOM series in a folder, found {count}; give each a folder of its own"
        )
    normal = np.reshape(slices[0].direction, (3, 3))[:, 2]
    slices.sort(key=lambda some: float(normal @ some.origin))
    affine = _affine(path, slices)
    series = SimpleITK.ImageSeriesReader()
    series.SetImageIO("GDCMImageIO")
    series.SetFileNames([str(some.path.absolute()) for some in slices])
    if len({some.pixel for some in slices}) > 1:  # ITK would squeeze all into the type of the first
        series.SetOutputPixelType(SimpleITK.sitkFloat64)
    array = SimpleITK.GetArrayFromImage(series.Execute()).T
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0).tolist())
    return Volume(array, spacing, affine, path)


def _slice(reader: Any, path: Path, max_voxels: int) -> _Slice:
    syntax = _check_content(path, max_voxels)
    reader.SetFileName(str(path.absolute()))  # in front of a path, ITK has ~ for a home
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise no_slice(path) from error
    if (count := reader.GetNumberOfComponents()) > 1:
        raise UnreadableFile(f"{path}: expected one real number per voxel, found {count} numbers per voxel")
    if not syntax.startswith(_PACKED):  # ITK takes what lies behind the end of the file for voxels
        bits = int(reader.GetMetaData(_BITS)) if reader.HasMetaDataKey(_BITS) else 8
        check_room(path, math.prod(reader.GetSize()) * max(1, bits) // 8, path.stat().st_size)
    return _Slice(
        path,
        reader.GetMetaData(_SERIES).strip() if reader.HasMetaDataKey(_SERIES) else "",
        reader.GetSize(),
        reader.GetOrigin(),
        reader.GetSpacing(),
        reader.GetDirection(),
        reader.GetPixelID(),
    )


def _check_content(path: Path, max_voxels: int) -> str:
    """Refuses a file that GDCM should not see; its transfer syntax, which says how it is written."""
    check_name(path)
    check_size(path, max_voxels)
    content = path.read_bytes()
    if content[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] != _MAGIC:
        raise no_slice(path)
    syntax, at = "", _MAGIC_AT + len(_MAGIC)
    while content[at : at + 2] == _META:  # this group is always written in one way
        tag, kind, size, begin = element(content, at, typed=True, order="little")
        if kind not in TYPES or begin + size > len(content):  # GDCM takes gigabytes to find that out
            raise no_slice(path)
        at = begin + size
        if tag == _SYNTAX:
            syntax = content[begin:at].decode("latin-1").rstrip("\0 ")
    if syntax == _DEFLATED:
        raise UnreadableFile(
            f"{path}: expected a slice that is stored or packed as a picture, found a deflated one"
        )
    order: Order = "big" if syntax == _BIG_ENDIAN else "little"
    check_elements(path, content, at, is_typed(content, at), order)
    return syntax


def _affine(path: Path, slices: Sequence[_Slice]) -> Affine:
    """Takes a voxel index of the stack to RAS mm; the way from slice to slice is that of their positions.

    Raises:
        UnreadableFile: the slices differ in more than position, or are missing, doubled or uneven.
    """
    first = slices[0]
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(first.direction, (3, 3)) * first.spacing
    lps[:3, 3] = first.origin
    if len(slices) == 1:
        return RAS_LPS @ lps
    for other in slices[1:]:
        if not np.allclose(other.plane, first.plane, rtol=1e-4, atol=1e-4) or other.size[2:] != (1,):
            raise UnreadableFile(
                f"{path}: expected slices of one size, pixel size and orientation, found "
                f"{first.path.name} and {other.path.name} to differ"
            )
    origins = np.array([some.origin for some in slices])
    step = (origins[-1] - origins[0]) / (len(slices) - 1)
    distance = float(np.linalg.norm(step))
    off = np.linalg.norm(origins - (origins[0] + np.outer(np.arange(len(slices)), step)), axis=1)
    if not off.max() < _TOLERANCE * distance:  # also where all lie in one place
        raise UnreadableFile(
            f"{path}: expected slices at even distances, found {len(slices)} with gaps between them, or "
            "several in one place"
        )
    lps[:3, 2] = step
    return RAS_LPS @ lps
