"""NRRD and MetaImage, in and out, by SimpleITK.

ITK counts in LPS where a `Volume` counts in RAS: `_RAS_LPS` is the one place where the two meet. SimpleITK's
arrays have the file's first index last, so both ways turn them round.
"""

import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from topofix.errors import UnreadableFile, UnwritableFile
from topofix.imaging.volume import Volume, Voxels, check_shape

_IMAGE_IO = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
SUFFIXES = tuple(_IMAGE_IO)

_RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


class _Header(NamedTuple):
    """Where ITK places an image, in LPS mm, and the metadata beside it."""

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    metadata: dict[str, str]


def read(path: Path) -> Volume:
    """Reads one file, and the data file that a `.nhdr` or `.mhd` names."""
    import SimpleITK

    if path.suffix.lower() in (".mha", ".mhd"):
        _check_deflated(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_IMAGE_IO[path.suffix.lower()])
    reader.SetFileName(str(path))
    image = reader.Execute()
    if (count := image.GetNumberOfComponentsPerPixel()) > 1 or "complex" in image.GetPixelIDTypeAsString():
        found = f"{count} numbers per voxel" if count > 1 else image.GetPixelIDTypeAsString()
        raise UnreadableFile(f"{path}: expected one real number per voxel, found {found}")
    rank = image.GetDimension()
    check_shape(path, image.GetSize())
    # "ITK_..." is what the reader noted for itself, and no part of the file
    metadata = {k: image.GetMetaData(k) for k in image.GetMetaDataKeys() if not k.startswith("ITK_")}
    header = _Header(image.GetOrigin(), image.GetSpacing(), image.GetDirection(), metadata)
    lps = np.eye(4)
    lps[:rank, :rank] = np.reshape(header.direction, (rank, rank)) * header.spacing
    lps[:rank, 3] = header.origin
    return Volume(SimpleITK.GetArrayFromImage(image).T, header.spacing, _RAS_LPS @ lps, path, header)


def write(path: Path, array: Voxels, like: Volume) -> None:
    """Writes one file, and the data file beside a `.nhdr` or `.mhd`."""
    import SimpleITK

    rank = array.ndim
    if isinstance(like.header, _Header):
        header = like.header
    else:
        lps = (_RAS_LPS @ like.affine)[:rank]
        steps = np.linalg.norm(lps[:, :rank], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):  # a collapsed axis is refused below, by ITK
            direction = lps[:, :rank] / steps
        header = _Header(tuple(lps[:, 3]), tuple(steps), tuple(direction.ravel()), {})
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    image_io = _IMAGE_IO[path.suffix]
    nrrd_to_nrrd = image_io == _IMAGE_IO.get(like.path.suffix.lower()) == "NrrdImageIO"
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
    writer.SetImageIO(image_io)
    writer.SetUseCompression(True)
    writer.SetFileName(str(path))
    writer.Execute(image)


def _check_deflated(path: Path) -> None:
    """Inflates the voxels of a compressed MetaImage: of damaged ones ITK hands on memory it never wrote to.

    Raises:
        UnreadableFile: the checksum is wrong, or the stream ends early.
    """
    header, marker, rest = path.read_bytes().partition(b"ElementDataFile")
    name, _, local = rest.partition(b"\n")
    if not marker or b"CompressedData = True" not in header:
        return
    where = name.decode(errors="replace").strip(" =\r")
    if where != "LOCAL" and not (path.parent / where).is_file():
        return  # several data files, or a missing one: ITK's to judge
    stored = local if where == "LOCAL" else (path.parent / where).read_bytes()
    stream = zlib.decompressobj()
    try:
        stream.decompress(stored)
    except zlib.error as error:
        raise UnreadableFile(f"{path}: expected intact voxels, found damaged ones ({error})") from error
    if not stream.eof:
        raise UnreadableFile(f"{path}: expected whole voxels, found a file that is damaged or truncated")
