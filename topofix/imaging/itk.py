"""NRRD and MetaImage, in and out, by SimpleITK.

ITK counts in LPS where a `Volume` counts in RAS: `RAS_LPS` is the one place where the two meet. SimpleITK's
arrays have the file's first index last, so both ways turn them round.
"""

import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from topofix.errors import UnreadableFile, UnwritableFile
from topofix.imaging.bounds import check_count, check_name
from topofix.imaging.headers import check_storage, detach, read_storage
from topofix.imaging.silence import silence
from topofix.imaging.volume import Affine, Volume, Voxels, check_shape
from topofix.limits import MOST_VOXELS

_IMAGE_IO = {".nrrd": "NrrdImageIO", ".nhdr": "NrrdImageIO", ".mha": "MetaImageIO", ".mhd": "MetaImageIO"}
SUFFIXES = tuple(_IMAGE_IO)
_WHOLE = {"NrrdImageIO": "draft.nrrd", "MetaImageIO": "draft.mha"}
_WHOLE_SUFFIXES = (".nrrd", ".mha")

_BITS = re.compile(r"([0-9]+)-bit")  # in what SimpleITK calls a type

RAS_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Takes LPS mm to RAS mm, and back."""


class _Header(NamedTuple):
    """Where ITK places an image, in LPS mm, and the metadata beside it."""

    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    direction: tuple[float, ...]
    metadata: dict[str, str]


@silence()
def read(path: Path, *, channels: bool = False, max_voxels: int = MOST_VOXELS) -> Volume:
    """Reads one file, and the data file that a `.nhdr` or `.mhd` names.

    Args:
        path: the file.
        channels: lets several numbers per voxel pass, as the first axis, and a fourth axis. Which axis of
            four holds channels is not known here: `without_channels` gives such an array its place.
        max_voxels: more of them, channels included, are refused before memory is taken.
    """
    import SimpleITK

    check_name(path)
    storage = read_storage(path)
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO(_IMAGE_IO[path.suffix.lower()])
    reader.SetFileName(str(path.absolute()))  # in front of a path, ITK has ~ for a home
    reader.ReadImageInformation()
    count, shape = reader.GetNumberOfComponents(), reader.GetSize()
    kind = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    if (count > 1 and not channels) or "complex" in kind:
        found = kind if "complex" in kind else f"{count} numbers per voxel"
        raise UnreadableFile(f"{path}: expected one real number per voxel, found {found}")
    rank = len(shape)
    if not (channels and rank == 4 and count == 1):
        check_shape(path, shape)
    voxels = math.prod(shape) * count
    check_count(path, voxels, max_voxels)
    check_storage(path, storage, voxels * int(_BITS.findall(kind)[0]) // 8)
    image = reader.Execute()
    # "ITK_..." is what the reader noted for itself, and no part of the file
    metadata = {k: image.GetMetaData(k) for k in image.GetMetaDataKeys() if not k.startswith("ITK_")}
    header = _Header(image.GetOrigin(), image.GetSpacing(), image.GetDirection(), metadata)
    affine = _affine(header) if rank < 4 else np.eye(4)
    return Volume(SimpleITK.GetArrayFromImage(image).T, header.spacing, affine, path, header)


def has_vectors(stack: Volume) -> bool:
    """Whether what `read` read with `channels` has several numbers per voxel: its first axis counts them."""
    return len(stack.spacing) < stack.array.ndim


def without_channels(stack: Volume, axis: int) -> Volume:
    """The grid of what `read` read with `channels`, without the axis that holds them and without voxels."""
    header = stack.header
    rank = len(header.spacing)
    kept = [index for index in range(rank) if has_vectors(stack) or index != axis]
    header = _Header(
        tuple(header.origin[index] for index in kept),
        tuple(header.spacing[index] for index in kept),
        tuple(np.reshape(header.direction, (rank, rank))[np.ix_(kept, kept)].ravel().tolist()),
        # what NRRD says axis by axis no longer fits
        {key: value for key, value in header.metadata.items() if not key.startswith("NRRD_")},
    )
    shape = stack.array.shape[:axis] + stack.array.shape[axis + 1 :]
    empty = np.broadcast_to(np.uint8(0), shape)
    return Volume(empty, header.spacing, _affine(header), stack.path, header)


def write(path: Path, array: Voxels, like: Volume) -> None:
    """Writes one file, and the data file beside a `.nhdr` or `.mhd`."""
    import SimpleITK

    check_name(path, UnwritableFile)
    rank = array.ndim
    if isinstance(like.header, _Header):
        header = like.header
    else:
        lps = (RAS_LPS @ like.affine)[:rank]
        steps = np.linalg.norm(lps[:, :rank], axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):  # a collapsed axis is refused below, by ITK
            direction = lps[:, :rank] / steps
        origin, spacing, axes = (tuple(part.ravel().tolist()) for part in (lps[:, 3], steps, direction))
        header = _Header(origin, spacing, axes, {})
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
    # Of some names ITK makes a format, a list or a place elsewhere, so it is shown none but this one.
    whole = path.absolute().with_name(_WHOLE[image_io])
    writer.SetFileName(str(whole))
    writer.Execute(image)
    if path.suffix in _WHOLE_SUFFIXES:
        whole.replace(path)
    else:
        detach(whole, path)


def affine_of(image: Any) -> Affine:
    """The affine, to RAS mm, of a SimpleITK image of rank 2 or 3."""
    return _affine(_Header(image.GetOrigin(), image.GetSpacing(), image.GetDirection(), {}))


def _affine(header: _Header) -> Affine:
    rank = len(header.spacing)
    lps = np.eye(4)
    lps[:rank, :rank] = np.reshape(header.direction, (rank, rank)) * header.spacing
    lps[:rank, 3] = header.origin
    return RAS_LPS @ lps
