"""One image file and its place in the world: NIfTI, NRRD, MetaImage, PNG and TIFF, in and out.

A `Volume` holds the voxels in the file's own index order, never transposed and never padded, beside all that
is needed to write another array onto exactly the same grid. What is handed on is whole: a file that is
truncated, or holds voxels that are not finite, is refused here with one sentence and not later by a stranger.

World coordinates are RAS millimetres, as NIfTI has them. ITK's formats count in LPS: `_RAS_LPS` is the one
place where the two meet.
"""

import gzip
import io
import logging
import math
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray, UnreadableFile, UnwritableFile

Voxels = npt.NDArray[Any]
Affine = npt.NDArray[np.float64]

_NIFTI = (".nii.gz", ".nii")
_ITK = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
_PICTURES = (".png", ".tif", ".tiff")
_READ_ONLY = (".jpg", ".jpeg")
SUFFIXES = (*_NIFTI, *_ITK, *_PICTURES, *_READ_ONLY)
"""The suffixes of the files that `read` understands; `write` too, but for JPEG, which alters voxels."""

_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_GZIP_MAGIC = b"\x1f\x8b"
_NIFTI_UNITS = {1: 1000.0, 3: 0.001}  # the code of metres and of microns, in mm; unknown counts as mm
_STORED_AS: dict[str, npt.DTypeLike] = {"bool": np.uint8, "float16": np.float32}  # no format knows these
_SCANNER = 1  # NIfTI's qform and sform code for "scanner coordinates"

# nibabel reports the blemishes of a header to a logger; its own prints, this one stays silent until asked.
_LOGGER = logging.getLogger(__name__)
_LOGGER.addHandler(logging.NullHandler())


class _ItkHeader(NamedTuple):
    """Where ITK places an image, in LPS mm, and the metadata beside it."""

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    metadata: dict[str, str]


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
    reader = _read_nifti if kind in _NIFTI else _read_itk if kind in _ITK else _read_picture
    try:
        volume = reader(path)
    except (UnreadableFile, MemoryError):
        raise
    except Exception as error:  # the kinds that the decoders raise on damaged bytes are many and undocumented
        found = getattr(error, "strerror", None) or "one that is damaged, truncated or without its data file"
        raise UnreadableFile(f"{path}: expected a complete {kind} file, found: {found}") from error
    _check_shape(path, volume.array.shape)
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
    if kind not in SUFFIXES or kind in _READ_ONLY:
        writable = ", ".join(known for known in SUFFIXES if known not in _READ_ONLY)
        raise UnwritableFile(f"{path}: expected a file ending in {writable}, found '{kind}'")
    if array.shape != like.array.shape:
        raise InvalidArray(f"{path}: expected an array of shape {like.array.shape}, found {array.shape}")
    if array.dtype.kind not in "buif":
        raise InvalidArray(f"{path}: expected whole or real numbers, found {array.dtype}")
    array = array.astype(_STORED_AS.get(array.dtype.name, array.dtype.newbyteorder("=")), copy=False)
    writer = _write_nifti if kind in _NIFTI else _write_itk if kind in _ITK else _write_picture
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder, not a file: of two files written together, one names the other.
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as drafts:
            main = Path(drafts) / f"{stem(path)}{kind}"  # ITK knows suffixes only in lower case
            writer(main, array, like)
            for draft in sorted(Path(drafts).iterdir(), key=lambda draft: draft == main):
                with draft.open("rb") as written:
                    os.fsync(written.fileno())
                draft.replace(path if draft == main else path.parent / draft.name)
    except (OSError, RuntimeError) as error:  # ITK's RuntimeError is pages long and names no cause
        reason = getattr(error, "strerror", None) or f"writing {kind} failed"
        raise UnwritableFile(f"{path}: cannot be written ({reason})") from error


def _check_shape(path: Path, shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3):
        raise UnreadableFile(f"{path}: expected an image of 2 or 3 dimensions, found shape {shape}")
    if min(shape) < 1:
        raise UnreadableFile(f"{path}: expected voxels along every axis, found shape {shape}")


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


def _read_nifti(path: Path) -> Volume:
    from nibabel import Nifti1Header, Nifti2Header

    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        content = gzip.decompress(content)  # all of it, so that the checksum at the end is verified
    # StopIteration here is one more kind of damage to `read`
    kind = next(kind for kind in (Nifti1Header, Nifti2Header) if kind.may_contain_header(content))
    header = kind.from_fileobj(io.BytesIO(content), check=False)
    mended = header.copy()  # nibabel mends blemishes to make sense of them; what is written again stays as is
    mended.check_fix(logger=_LOGGER)
    if mended["magic"].item() != kind.single_magic:
        raise UnreadableFile(f"{path}: expected header and voxels in one file, found only a header")

    shape = stored_shape = tuple(int(size) for size in mended.get_data_shape())
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    _check_shape(path, shape)
    dtype = mended.get_data_dtype()
    if dtype.kind not in "uif":
        raise UnreadableFile(f"{path}: expected one real number per voxel, found type {dtype}")
    offset = max(mended.get_data_offset(), kind.single_vox_offset)
    missing = offset + math.prod(stored_shape) * dtype.itemsize - len(content)
    if missing > 0:
        raise UnreadableFile(
            f"{path}: expected {math.prod(shape)} {dtype.name} voxels, found it truncated by {missing} B"
        )
    array: Voxels = np.frombuffer(content, dtype, math.prod(shape), offset).reshape(shape, order="F")
    slope, intercept = mended.get_slope_inter()
    if slope is None or (slope, intercept) == (1.0, 0.0):
        array = array.astype(dtype.newbyteorder("="))
    else:
        array = (array.astype(np.float64) * slope + intercept).astype(np.result_type(dtype, np.float32))

    unit = _NIFTI_UNITS.get(int(mended["xyzt_units"]) & 7, 1.0)
    affine = mended.get_best_affine()
    affine[:3] *= unit
    # as stored, because mending turns a spacing of 0 into 1; a negative one is an old way to say "flipped"
    spacing = tuple(abs(float(step)) * unit for step in header["pixdim"][1 : len(shape) + 1])
    return Volume(array, spacing, affine, path, header)


def _write_nifti(path: Path, array: Voxels, like: Volume) -> None:
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
    packed = suffix(path) == ".nii.gz"
    # gzip without name and date: equal arrays, equal bytes
    with path.open("wb") as file, gzip.GzipFile("", "wb", 4, file, 0) if packed else file as stream:
        header.write_to(stream)
        stream.write(np.ascontiguousarray(stored.T).data)  # NIfTI's first index runs fastest


def _read_itk(path: Path) -> Volume:
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_ITK[suffix(path)])
    reader.SetFileName(str(path))
    image = reader.Execute()
    if (count := image.GetNumberOfComponentsPerPixel()) > 1 or "complex" in image.GetPixelIDTypeAsString():
        found = f"{count} numbers per voxel" if count > 1 else image.GetPixelIDTypeAsString()
        raise UnreadableFile(f"{path}: expected one real number per voxel, found {found}")
    rank = image.GetDimension()
    _check_shape(path, image.GetSize())
    # "ITK_..." is what the reader noted for itself, and no part of the file
    metadata = {k: image.GetMetaData(k) for k in image.GetMetaDataKeys() if not k.startswith("ITK_")}
    header = _ItkHeader(image.GetOrigin(), image.GetSpacing(), image.GetDirection(), metadata)
    lps = np.eye(4)
    lps[:rank, :rank] = np.reshape(header.direction, (rank, rank)) * header.spacing
    lps[:rank, 3] = header.origin
    return Volume(SimpleITK.GetArrayFromImage(image).T, header.spacing, _RAS_LPS @ lps, path, header)


def _write_itk(path: Path, array: Voxels, like: Volume) -> None:
    import SimpleITK

    rank = array.ndim
    if isinstance(like.header, _ItkHeader):
        header = like.header
    else:
        lps = (_RAS_LPS @ like.affine)[:rank]
        steps = np.linalg.norm(lps[:, :rank], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):  # a collapsed axis is refused below, by ITK
            direction = lps[:, :rank] / steps
        header = _ItkHeader(tuple(lps[:, 3]), tuple(steps), tuple(direction.ravel()), {})
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    nrrd_to_nrrd = _ITK[suffix(path)] == _ITK.get(suffix(like.path)) == "NrrdImageIO"
    for key, value in header.metadata.items():
        if nrrd_to_nrrd or not key.startswith("NRRD_"):
            image.SetMetaData(key, value)
    try:
        image.SetOrigin(header.origin)
        image.SetSpacing(header.spacing)
        image.SetDirection(header.direction)
    except RuntimeError as error:
        raise UnwritableFile(
            f"{path.name}: cannot be written with spacing {header.spacing} and direction {header.direction}"
        ) from error
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO(_ITK[suffix(path)])
    writer.SetUseCompression(True)
    writer.SetFileName(str(path))
    writer.Execute(image)


def _read_picture(path: Path) -> Volume:
    from PIL import Image

    with Image.open(path) as image:
        image.verify()  # PNG's checksums, which decoding skips
    with Image.open(path) as image:
        if (pages := getattr(image, "n_frames", 1)) > 1:
            raise UnreadableFile(
                f"{path}: expected a single page, found {pages}; convert it to NIfTI or NRRD"
            )
        kept = image.mode in ("1", "L", "P", "F") or image.mode.startswith("I")
        array = np.array(image if kept else image.convert("L"))
    array = array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="), copy=False)
    return Volume(array, (1.0,) * array.ndim, np.eye(4), path)


def _write_picture(path: Path, array: Voxels, like: Volume) -> None:
    from PIL import Image

    if array.ndim != 2:
        raise InvalidArray(f"{path.name}: expected an array of 2 dimensions, found shape {array.shape}")
    if array.dtype.kind == "f":
        if suffix(path) == ".png":
            raise InvalidArray(f"{path.name}: expected whole numbers, found {array.dtype}; use .tif")
        array = array.astype(np.float32)
    elif array.min() < 0 or array.max() > 65535:
        raise InvalidArray(
            f"{path.name}: expected values in 0 ... 65535, found {array.min()} ... {array.max()}"
        )
    elif array.dtype not in (np.uint8, np.uint16):
        array = array.astype(np.uint8 if array.max() < 256 else np.uint16)
    Image.fromarray(np.ascontiguousarray(array)).save(path, "PNG" if suffix(path) == ".png" else "TIFF")
