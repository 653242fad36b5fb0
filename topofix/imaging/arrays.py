"""NumPy's `.npy` and `.npz`, in only.

Nothing is ever unpickled, and nothing is allocated before the header's promise has been held against the size
of what is there. NumPy's files know neither millimetres nor a world.
"""

import io
import math
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import numpy as np

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import DEFLATED, check_count, check_size, shown
from topofix.imaging.volume import Volume, Voxels, check_shape
from topofix.limits import MOST_VOXELS

SUFFIXES = (".npy", ".npz")
NETWORK_KEYS = ("probabilities", "softmax")
"""What nnU-Net calls the one array of its files, versions 2 and 1."""

_CHUNK = 2**24
_MOST_HEADER = 2**16  # bytes; NumPy writes some 100, and reads them all before it looks at them


def read(path: Path, max_voxels: int = MOST_VOXELS) -> Volume:
    """Reads the one array of a file as an image, with a spacing of 1 and the identity as affine."""
    key = only_key(path)
    if key in NETWORK_KEYS:
        raise UnreadableFile(f"{path}: expected an image, found a network's '{key}' of several channels")
    array = load(path, key, lambda shape: check_shape(path, shape), max_voxels)
    return Volume(array, (1.0,) * array.ndim, np.eye(4), path)


def only_key(path: Path) -> str | None:
    """The name of the array that counts in a `.npz`: the only one, or nnU-Net's; None for a `.npy`.

    Raises:
        UnreadableFile: there is none, or several of which none is nnU-Net's.
    """
    if path.suffix.lower() == ".npy":
        return None
    with zipfile.ZipFile(path) as archive:
        keys = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    for key in NETWORK_KEYS:
        if key in keys:
            return key
    if len(keys) != 1:
        names = ", ".join(repr(key[:99])[1:-1] for key in keys[:9])  # a stranger's names, on one line
        found = f"{len(keys)}: {names}" if keys else "none"
        raise UnreadableFile(f"{path}: expected one array, or one named 'probabilities', found {found}")
    return keys[0]


def load(
    path: Path, key: str | None, check: Callable[[tuple[int, ...]], None], max_voxels: int = MOST_VOXELS
) -> Voxels:
    """Reads an array of real numbers, in native order and writable; half precision as float32.

    Args:
        path: the file.
        key: the array's name in a `.npz`, None for a `.npy`.
        check: called with the shape before anything is allocated; raises where it does not fit.
        max_voxels: more numbers are refused.

    Raises:
        UnreadableFile: no real numbers, too many, or a header that promises more or less than there is.
    """
    check_size(path, max_voxels)
    with ExitStack() as stack:
        if key is None:
            size = path.stat().st_size
            stream: IO[bytes] = stack.enter_context(path.open("rb"))
        else:
            archive = stack.enter_context(zipfile.ZipFile(path))
            entry = archive.getinfo(f"{key}.npy")
            _check_packed(path, entry)
            size = entry.file_size
            stream = stack.enter_context(archive.open(entry))
        shape, fortran, dtype = _header(path, stream)
        if dtype.hasobject:
            raise UnreadableFile(
                f"{path}: expected real numbers, found Python objects, which are never unpickled"
            )
        if dtype.kind not in "buif":
            raise UnreadableFile(f"{path}: expected real numbers, found type {str(dtype)[:99]}")
        check(shape)
        promised, present = math.prod(shape) * dtype.itemsize, size - stream.tell()
        if promised != present:
            raise UnreadableFile(
                f"{path}: expected {promised} B of {dtype.name} for shape {shown(shape)}, found {present} B: "
                "it is truncated or damaged"
            )
        check_count(path, math.prod(shape), max_voxels)
        content = np.empty(promised, np.uint8)
        for start in range(0, promised, _CHUNK):
            chunk = stream.read(min(_CHUNK, promised - start))
            content[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
            if len(chunk) < min(_CHUNK, promised - start):
                raise UnreadableFile(f"{path}: expected {promised} B, found a file that is truncated")
        stream.read(1)  # at its end a zip's checksum is verified
    array: Voxels = content.view(dtype).reshape(shape, order="F" if fortran else "C")
    with np.errstate(over="ignore", invalid="ignore"):  # what double precision cannot hold is refused as such
        return array.astype(_kept_as(dtype), copy=False)


def _header(path: Path, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise UnreadableFile(f"{path}: expected an array of version 1 or 2, found {version[0]}.{version[1]}")
    stored = stream.read(2 if version == (1, 0) else 4)
    if (size := int.from_bytes(stored, "little")) > _MOST_HEADER:
        raise UnreadableFile(f"{path}: expected a header of at most {_MOST_HEADER} B, found {size} B")
    header = io.BytesIO(stored + stream.read(size))
    try:
        return npy.read_array_header_1_0(header) if version == (1, 0) else npy.read_array_header_2_0(header)
    except MemoryError as error:  # what Python's parser says of brackets in brackets
        raise UnreadableFile(f"{path}: expected an array's header, found one nested too deep") from error


def _kept_as(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f" and dtype.itemsize not in (4, 8):
        return np.dtype(np.float32 if dtype.itemsize < 4 else np.float64)
    return dtype.newbyteorder("=")


def _check_packed(path: Path, entry: zipfile.ZipInfo) -> None:
    """Refuses what promises to unpack to more than it can hold."""
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableFile(f"{path}: expected a zip that is stored or deflated, found another compression")
    packed = min(entry.compress_size, path.stat().st_size)
    if entry.file_size > packed * (1 if entry.compress_type == zipfile.ZIP_STORED else DEFLATED):
        raise UnreadableFile(
            f"{path}: expected an array that {packed} B can hold, found one that promises {entry.file_size} B"
        )
