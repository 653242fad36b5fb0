"""Image files: NIfTI, NRRD, MetaImage, DICOM series, PNG, TIFF and NumPy's, found, read and written.

What is handed on is whole: a file that is truncated, or holds voxels that are not finite, is refused here
with one sentence and not later by a stranger. What is written appears whole or not at all.

The bytes of a format are the business of `nifti`, `itk`, `dicom`, `pictures` and `arrays`, each with a `read`
and most with a `write` that are called from here and from `maps` only: on damaged bytes they raise whatever
their decoder raises, and what they write is a draft, its suffix in lower case.
"""

import dataclasses
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray, UnreadableFile, UnwritableFile
from topofix.imaging import arrays, dicom, itk, nifti, pictures
from topofix.imaging.bounds import check_kind
from topofix.imaging.volume import Volume, Voxels, check_finite, check_shape, intact
from topofix.limits import MOST_VOXELS

__all__ = ["SUFFIXES", "WRITABLE", "Volume", "find_images", "is_image", "read", "stem", "suffix", "write"]

WRITABLE = (*nifti.SUFFIXES, *itk.SUFFIXES, *pictures.SUFFIXES)
"""The suffixes of the files that `write` writes."""

SUFFIXES = (*WRITABLE, *pictures.READ_ONLY, *arrays.SUFFIXES)
"""The suffixes of the files that `read` understands. JPEG alters voxels and NumPy's files have no geometry,
so neither is written."""

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

    A folder that holds a DICOM series is itself one image, whatever its files are called. NumPy's files are
    left out, because nnU-Net puts its probabilities as such beside every label map.

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
    images: set[Path] = set()
    for found in path.rglob("*"):
        if any(part.startswith(".") for part in found.relative_to(path).parts) or not found.is_file():
            continue
        if is_image(found):
            if suffix(found) not in arrays.SUFFIXES:
                images.add(found)
        elif found.parent not in images and dicom.is_slice(found):
            images.add(found.parent)
    return sorted(images)


def read(path: Path | str, like: Path | str | None = None, *, max_voxels: int = MOST_VOXELS) -> Volume:
    """Reads one image file whole, or the folder of a DICOM series; the suffix names the format.

    Integers stay integers. NIfTI's scaling is applied: 8 and 16 bit integers become float32, wider ones
    float64. Trailing axes of size 1 beyond the third are dropped. Colour becomes luminance; the indices of a
    palette are kept, since label maps are stored that way. A TIFF of several pages is a stack with the pages
    along its first axis, as they lie in the file and as NumPy's users have it.

    Args:
        path: the file or folder.
        like: an image of the same shape whose geometry counts, for files that have none.
        max_voxels: a file that promises more of them, channels included, is refused before memory is taken.

    Raises:
        UnreadableFile: the file is missing, damaged, truncated, too large, of an unknown or unsupported kind,
            or holds voxels or a geometry that are not finite, or is not of the shape of `like`.

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
    check_kind(path, "an image file")
    with intact(path, "DICOM series" if path.is_dir() else f"{suffix(path)} file"):
        volume = _decode(path, max_voxels)
    check_shape(path, volume.array.shape)
    check_finite(volume)
    if like is None:
        return volume
    grid = read(like, max_voxels=max_voxels)
    if grid.array.shape != volume.array.shape:
        raise UnreadableFile(
            f"{path}: expected the shape of {like}, {grid.array.shape}, found {volume.array.shape}"
        )
    return dataclasses.replace(volume, spacing=grid.spacing, affine=grid.affine, header=grid.header)


def write(path: Path | str, array: Voxels, like: Volume) -> None:
    """Writes `array` onto the grid of `like`, in the format that the suffix of `path` names.

    A NIfTI file like a NIfTI file keeps every field of the header but type, scaling and display range; an
    ITK file like an ITK file keeps origin, spacing, direction and metadata. Between formats the affine
    carries over; indices are never transposed. The file appears whole or not at all (of a header with a
    separate data file, the header comes last), replaces an older one, and equal arrays give equal bytes.

    Args:
        path: the output; missing folders are made.
        array: of the shape of `like.array`. PNG and TIFF hold whole numbers in 0 ... 65535 as 8 or 16 bit,
            TIFF also float32, and several pages, one per index of the first axis. `bool` is written as uint8.
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
    if kind not in WRITABLE:
        raise UnwritableFile(f"{path}: expected a file ending in {', '.join(WRITABLE)}, found '{kind}'")
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


def _decode(path: Path, max_voxels: int) -> Volume:
    """Reads with the decoder that the suffix names."""
    kind = suffix(path)
    if path.is_dir():
        return dicom.read(path, max_voxels)
    if kind in nifti.SUFFIXES:
        return nifti.read(path, max_voxels=max_voxels)
    if kind in itk.SUFFIXES:
        return itk.read(path, max_voxels=max_voxels)
    if kind in arrays.SUFFIXES:
        return arrays.read(path, max_voxels)
    if kind in SUFFIXES:
        return pictures.read(path, max_voxels)
    if dicom.is_slice(path):
        raise UnreadableFile(f"{path}: expected the folder of a DICOM series, found one of its files")
    raise UnreadableFile(f"{path}: expected a file ending in {', '.join(SUFFIXES)}, found '{kind}'")
