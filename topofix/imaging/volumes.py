"""Image files: NIfTI, NRRD, MetaImage, PNG and TIFF, found, read and written.

What is handed on is whole: a file that is truncated, or holds voxels that are not finite, is refused here
with one sentence and not later by a stranger. What is written appears whole or not at all.

The bytes of a format are the business of `nifti`, `itk` and `pictures`, each with a `read` and a `write` that
are called from here only: on damaged bytes they raise whatever their decoder raises, and what they write is a
draft, its suffix in lower case.
"""

import math
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray, UnreadableFile, UnwritableFile
from topofix.imaging import itk, nifti, pictures
from topofix.imaging.volume import Volume, Voxels, check_shape

__all__ = ["SUFFIXES", "Volume", "find_images", "is_image", "read", "stem", "suffix", "write"]

_WRITABLE = (*nifti.SUFFIXES, *itk.SUFFIXES, *pictures.SUFFIXES)
SUFFIXES = (*_WRITABLE, *pictures.READ_ONLY)
"""The suffixes of the files that `read` understands; `write` too, but for JPEG, which alters voxels."""

_STORED_AS: dict[str, npt.DTypeLike] = {"bool": np.uint8, "float16": np.float32}  # no format knows these


def suffix(path: Path | str) -> str:
    """The suffix of a file name in lower case, `.nii.gz` as one.

    Example:
        >>> suffix("scan.v2.NII.gz"), suffix("scan.png")
        ('.nii.gz', '.png')
    """
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def stem(path: Path | str) -> str:
    """The file name without its `suffix`.

    Example:
        >>> stem("data/scan.v2.nii.gz")
        'scan.v2'
    """
    return Path(path).name[: -len(suffix(path)) or None]


def is_image(path: Path | str) -> bool:
    """Whether the name says that `read` understands the file; the file need not exist.

    Example:
        >>> is_image("scan.nii.gz"), is_image("priors.csv")
        (True, False)
    """
    return suffix(path) in SUFFIXES


def find_images(path: Path | str) -> list[Path]:
    """The image files of a folder and the folders in it, sorted; hidden ones are left out.

    Args:
        path: a folder, or a file, which is returned as it is.

    Raises:
        UnreadableFile: there is nothing at `path`.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     (Path(folder) / "scan.nii.gz").touch()
        ...     [found.name for found in find_images(folder)]
        ['scan.nii.gz']
    """
    path = Path(path)
    if not path.exists():
        raise UnreadableFile(f"{path}: expected a file or a folder, found nothing there")
    if path.is_file():
        return [path]
    return sorted(
        found
        for found in path.rglob("*")
        if is_image(found)
        and found.is_file()
        and not any(part.startswith(".") for part in found.relative_to(path).parts)
    )


def read(path: Path | str) -> Volume:
    """Reads one image file whole; the suffix names the format.

    Integers stay integers. NIfTI's scaling is applied: 8 and 16 bit integers become float32, wider ones
    float64. Trailing axes of size 1 beyond the third are dropped. Colour becomes luminance; the indices of a
    palette are kept, since label maps are stored that way.

    Raises:
        UnreadableFile: the file is missing, damaged, truncated, of an unknown or unsupported kind, or holds
            voxels or a geometry that are not finite.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     scan = Volume(np.ones((4, 5, 6), np.uint8), (1.0, 1.0, 2.0), np.diag([1.0, 1, 2, 1]), Path())
        ...     write(Path(folder) / "scan.nii.gz", scan.array, like=scan)
        ...     read(Path(folder) / "scan.nii.gz").spacing
        (1.0, 1.0, 2.0)
    """
    path = Path(path)
    if not path.exists():
        raise UnreadableFile(f"{path}: expected an image file, found nothing there")
    if path.is_dir():
        raise UnreadableFile(f"{path}: expected an image file, found a folder")
    kind = suffix(path)
    if kind not in SUFFIXES:
        raise UnreadableFile(f"{path}: expected a file ending in {', '.join(SUFFIXES)}, found '{kind}'")
    reader = nifti.read if kind in nifti.SUFFIXES else itk.read if kind in itk.SUFFIXES else pictures.read
    try:
        volume = reader(path)
    except (UnreadableFile, MemoryError):
        raise
    except Exception as error:  # the kinds that the decoders raise on damaged bytes are many and undocumented
        found = getattr(error, "strerror", None) or "one that is damaged, truncated or without its data file"
        raise UnreadableFile(f"{path}: expected a complete {kind} file, found: {found}") from error
    check_shape(path, volume.array.shape)
    _check_finite(volume)
    return volume


def write(path: Path | str, array: Voxels, like: Volume) -> None:
    """Writes `array` onto the grid of `like`, in the format that the suffix of `path` names.

    A NIfTI file like a NIfTI file keeps every field of the header but type, scaling and display range; an
    ITK file like an ITK file keeps origin, spacing, direction and metadata. Between formats the affine
    carries over; indices are never transposed. The file appears whole or not at all (of a header with a
    separate data file, the header comes last), replaces an older one, and equal arrays give equal bytes.

    Args:
        path: the output; missing folders are made.
        array: of the shape of `like.array`. PNG and TIFF hold whole numbers in 0 ... 65535 as 8 or 16 bit,
            TIFF also float32. `bool` is written as uint8.
        like: the volume whose geometry counts.

    Raises:
        InvalidArray: another shape than `like.array`, or a type, rank or range that the format cannot hold.
        UnwritableFile: unknown suffix, or a folder or file that cannot be written.

    Example:
        >>> scan = Volume(np.ones((4, 5, 6)), (1.0, 1.0, 2.0), np.diag([1.0, 1, 2, 1]), Path())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write(Path(folder) / "mask.nrrd", scan.array > 0.5, like=scan)
        ...     read(Path(folder) / "mask.nrrd").array.dtype
        dtype('uint8')
    """
    path, array = Path(path), np.asarray(array)
    kind = suffix(path)
    if kind not in _WRITABLE:
        raise UnwritableFile(f"{path}: expected a file ending in {', '.join(_WRITABLE)}, found '{kind}'")
    if array.shape != like.array.shape:
        raise InvalidArray(f"{path}: expected an array of shape {like.array.shape}, found {array.shape}")
    if array.dtype.kind not in "buif":
        raise InvalidArray(f"{path}: expected whole or real numbers, found {array.dtype}")
    array = array.astype(_STORED_AS.get(array.dtype.name, array.dtype.newbyteorder("=")), copy=False)
    writer = nifti.write if kind in nifti.SUFFIXES else itk.write if kind in itk.SUFFIXES else pictures.write
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder, not a file: of two files written together, one names the other.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as drafts:
            main = Path(drafts) / f"{stem(path)}{kind}"  # `kind`, because ITK knows only lower case
            writer(main, array, like)
            for draft in sorted(Path(drafts).iterdir(), key=lambda draft: draft == main):
                with draft.open("rb") as written:
                    os.fsync(written.fileno())
                draft.replace(path if draft == main else path.parent / draft.name)
    except (OSError, RuntimeError) as error:  # ITK's RuntimeError is pages long and names no cause
        reason = getattr(error, "strerror", None) or f"writing {kind} failed"
        raise UnwritableFile(f"{path}: cannot be written ({reason})") from error


def _check_finite(volume: Volume) -> None:
    if not np.isfinite(volume.affine).all():
        raise UnreadableFile(f"{volume.path}: expected a finite affine, found {volume.affine.tolist()}")
    if not all(0 < step < math.inf for step in volume.spacing):
        raise UnreadableFile(f"{volume.path}: expected a spacing above 0 mm, found {volume.spacing}")
    if volume.array.dtype.kind == "f" and not (finite := np.isfinite(volume.array)).all():
        first = tuple(int(index) for index in np.unravel_index(np.argmin(finite), finite.shape))
        count = finite.size - np.count_nonzero(finite)
        raise UnreadableFile(
            f"{volume.path}: expected finite voxels, found {count} that are NaN or infinite, first at {first}"
        )
