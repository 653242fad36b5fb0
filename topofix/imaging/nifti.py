"""NIfTI-1 and -2, plain and gzipped, in and out.

nibabel knows the header; the bytes are read and written here. So a gzip's checksum is verified, a truncated
file is found out, and a header with blemishes, which nibabel would mend, is written again as it was.
"""

import gzip
import io
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import DEFLATED, check_count, check_size
from topofix.imaging.volume import Affine, Volume, Voxels, check_shape
from topofix.limits import MOST_VOXELS

SUFFIXES = (".nii.gz", ".nii")

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 2**24
_MOST_HEADER = 2**26  # bytes, extensions included
_MOST_BEHIND = 2**20  # bytes behind the voxels that some programs pad with: what is packed may never end
_UNITS = {1: 1000.0, 3: 0.001}  # the code of metres and of microns, in mm; unknown counts as mm
_SCANNER = 1  # the qform and sform code for "scanner coordinates"

# nibabel reports the blemishes of a header to a logger; its own prints, this one stays silent until asked.
_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())


@np.errstate(all="ignore")  # what is not finite in a header or by scaling is refused later, with its place
def read(path: Path, *, channels: bool = False, max_voxels: int = MOST_VOXELS) -> Volume:
    """Reads one file, with its scaling applied; the header is kept as stored, extensions too.

    Args:
        path: the file.
        channels: lets a fourth axis pass, or a fifth behind one of size 1, which is where NIfTI has vectors.
            `without_channels` gives such an array its place.
        max_voxels: more of them are refused.
    """
    check_size(path, max_voxels)
    with path.open("rb") as file:
        room = os.fstat(file.fileno()).st_size
        if file.read(2) != _GZIP_MAGIC:
            file.seek(0)
            return _read(path, file, room, channels, max_voxels)
        file.seek(0)
        with gzip.GzipFile(fileobj=file) as unpacked:
            volume = _read(path, unpacked, DEFLATED * room, channels, max_voxels)
            _check_end(path, unpacked)
        return volume


def _read(path: Path, file: io.BufferedIOBase, room: int, channels: bool, max_voxels: int) -> Volume:
    """Reads what a file unpacks to, at most `room` bytes; of what lies behind the voxels nothing."""
    header, mended = _header(path, file)
    shape = tuple(int(size) for size in mended.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if channels and len(shape) == 5 and shape[3] == 1:
        shape = (*shape[:3], shape[4])
    check_shape(path, shape[:3] if channels and len(shape) == 4 else shape)
    if shape[-1] < 1:
        raise UnreadableFile(f"{path}: expected at least one frame or channel, found shape {shape}")
    dtype = mended.get_data_dtype()
    if dtype.kind not in "uif":
        raise UnreadableFile(f"{path}: expected one real number per voxel, found type {dtype}")
    count = math.prod(shape)
    check_count(path, count, max_voxels)
    promised = count * dtype.itemsize
    missing = file.tell() + promised - room
    if missing <= 0:
        content = np.empty(promised, np.uint8)
        missing = promised - _fill(content, file)
    if missing > 0:
        raise UnreadableFile(
            f"{path}: expected {count} {dtype.name} voxels, found it truncated by {missing} B"
        )
    array: Voxels = content.view(dtype).reshape(shape, order="F")
    slope, intercept = mended.get_slope_inter()
    if slope is None or (slope, intercept) == (1.0, 0.0):
        array = array.astype(dtype.newbyteorder("="), copy=False)
    else:
        array = (array.astype(np.float64) * slope + intercept).astype(np.result_type(dtype, np.float32))
    return Volume(array, _spacing(header, len(shape)), _affine(header), path, header)


def _header(path: Path, file: io.BufferedIOBase) -> tuple[Any, Any]:
    """Reads up to the first voxel: the header as stored, with extensions, and as nibabel understands it."""
    from nibabel import Nifti1Header, Nifti2Header

    kinds = (Nifti1Header, Nifti2Header)
    start = file.read(max(kind.sizeof_hdr for kind in kinds))
    if start.startswith(_GZIP_MAGIC):
        raise UnreadableFile(f"{path}: expected a NIfTI image, found gzip within gzip")
    # StopIteration here is one more kind of damage to `volumes.read`
    kind = next(kind for kind in kinds if kind.may_contain_header(start))
    mended = kind(start[: kind.sizeof_hdr], check=False)
    mended.check_fix(logger=_LOGGER)
    if mended["magic"].item() != kind.single_magic:
        raise UnreadableFile(f"{path}: expected header and voxels in one file, found only a header")
    offset = max(mended.get_data_offset(), kind.single_vox_offset)
    if offset > _MOST_HEADER:
        raise UnreadableFile(
            f"{path}: expected voxels within the first {_MOST_HEADER} B, found them promised at {offset}"
        )
    file.seek(0)
    return kind.from_fileobj(io.BytesIO(file.read(offset)), check=False), mended


def _fill(content: Voxels, file: io.BufferedIOBase) -> int:
    """Reads into an array of bytes until it is full or the file ends; how many bytes came."""
    filled = 0
    while chunk := file.read(min(_CHUNK, len(content) - filled)):
        content[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    return filled


def _check_end(path: Path, unpacked: gzip.GzipFile) -> None:
    """Reads on to the end, where gzip's checksum is verified; what lies there is dropped."""
    left = _MOST_BEHIND
    while chunk := unpacked.read(_CHUNK):
        left -= len(chunk)
        if left < 0:
            raise UnreadableFile(
                f"{path}: expected the end of the file behind its voxels, found more than {_MOST_BEHIND} B"
            )


@np.errstate(all="ignore")
def without_channels(stack: Volume, axis: int) -> Volume:
    """The grid of what `read` read with `channels`, without the axis that holds them and without voxels.

    The affine is that of the three axes that are left. So have it those who write channels first: a scan's
    affine beside an array of one more axis. Their spacing is then the affine's, not that of the first axes.
    """
    shape = stack.array.shape[:axis] + stack.array.shape[axis + 1 :]
    header = stack.header.copy()
    header["dim"] = [3, *shape, 1, 1, 1, 1]
    if axis == 0 and header["sform_code"] > 0:
        header["pixdim"][1:4] = np.linalg.norm(header.get_sform()[:3, :3], axis=0)
    empty = np.broadcast_to(np.uint8(0), shape)
    return Volume(empty, _spacing(header, 3), _affine(header), stack.path, header)


def write(path: Path, array: Voxels, like: Volume) -> None:
    """Writes one file, with the header of `like` if that is a NIfTI header of this shape, else a new one."""
    from nibabel import Nifti1Header, Nifti2Header

    known = isinstance(like.header, Nifti1Header)
    if known and tuple(like.header.get_data_shape()[: array.ndim]) == array.shape:
        header = like.header.copy()
        header["dim"][0] = array.ndim  # trailing axes of size 1 that were dropped on reading
    else:
        header = (Nifti1Header if max(array.shape) < 2**15 else Nifti2Header)()
        header.set_data_shape(array.shape)
        header.set_sform(like.affine, _SCANNER)
        header.set_qform(like.affine, _SCANNER)  # also sets pixdim
        header.set_xyzt_units("mm")
    header.set_data_dtype(array.dtype)
    header.set_slope_inter(1.0, 0.0)
    header["cal_min"] = header["cal_max"] = header["vox_offset"] = 0
    stored = array.astype(array.dtype.newbyteorder(header.endianness), copy=False)
    packed = path.suffix == ".gz"
    # gzip without name and date: equal arrays, equal bytes
    with path.open("wb") as file, gzip.GzipFile("", "wb", 4, file, 0) if packed else file as stream:
        header.write_to(stream)
        stream.write(np.ascontiguousarray(stored.T).data)  # NIfTI's first index runs fastest


def _affine(header: Any) -> Affine:
    mended = header.copy()
    mended.check_fix(logger=_LOGGER)
    affine: Affine = mended.get_best_affine()
    affine[:3] *= _UNITS.get(int(mended["xyzt_units"]) & 7, 1.0)
    return affine


def _spacing(header: Any, rank: int) -> tuple[float, ...]:
    """In mm, as stored: mending turns 0 into 1; a negative one is an old way to say "flipped"."""
    unit = _UNITS.get(int(header["xyzt_units"]) & 7, 1.0)
    return tuple(abs(float(step)) * unit for step in header["pixdim"][1 : rank + 1])
