"""PNG and TIFF, in and out, and JPEG, which alters voxels and so is only read; by Pillow.

Pictures know neither millimetres nor a world: a pixel has a size of 1 and the affine is the identity. A TIFF
of several pages is a stack (page, row, column): the order of the file, which scikit-image and nnU-Net have.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from topofix.errors import InvalidArray, UnreadableFile
from topofix.imaging.volume import Volume, Voxels

SUFFIXES = (".png", ".tif", ".tiff")
READ_ONLY = (".jpg", ".jpeg")

_DESCRIPTION, _PLANAR = 270, 284  # tags of TIFF
_LARGE = 2**32  # bytes, beyond which only BigTIFF reaches


def read(path: Path) -> Volume:
    """Reads one file: colour as luminance, a palette as its indices, several pages as a stack."""
    from PIL import Image

    with Image.open(path) as image:
        image.verify()  # PNG's checksums, which decoding skips
    with Image.open(path) as image:
        count = getattr(image, "n_frames", 1)
        if count > 1 and image.format != "TIFF":
            raise UnreadableFile(f"{path}: expected a single picture, found {count}")
        _check_layers(path, image, count)
        first = _page(image)
        array = first if count == 1 else np.empty((count, *first.shape), first.dtype)
        for index in range(count if count > 1 else 0):
            image.seek(index)
            page = _page(image)
            if (page.shape, page.dtype) != (first.shape, first.dtype):
                raise UnreadableFile(
                    f"{path}: expected pages of one size and type, found {first.shape} {first.dtype} and "
                    f"{page.shape} {page.dtype}"
                )
            array[index] = page
    return Volume(array, (1.0,) * array.ndim, np.eye(4), path)


def write(path: Path, array: Voxels, like: Volume) -> None:
    """Writes one file, whole numbers as 8 or 16 bit; of `like` there is nothing that it could keep.

    A stack of one page is read again as that page, without its first axis.
    """
    from PIL import Image

    if array.ndim != 2 and (array.ndim != 3 or path.suffix == ".png"):
        raise InvalidArray(f"{path.name}: expected an array of 2 dimensions, found shape {array.shape}")
    if array.dtype.kind == "f":
        if path.suffix == ".png":
            raise InvalidArray(f"{path.name}: expected whole numbers, found {array.dtype}; use .tif")
        array = array.astype(np.float32)
    elif array.min() < 0 or array.max() > 65535:
        raise InvalidArray(
            f"{path.name}: expected values in 0 ... 65535, found {array.min()} ... {array.max()}"
        )
    elif array.dtype not in (np.uint8, np.uint16):
        array = array.astype(np.uint8 if array.max() < 256 else np.uint16)
    first, *others = (
        Image.fromarray(np.ascontiguousarray(page)) for page in array.reshape(-1, *array.shape[-2:])
    )
    if path.suffix == ".png":
        first.save(path, "PNG")
    else:
        large = array.nbytes + 1024 * len(array) > _LARGE
        first.save(path, "TIFF", save_all=bool(others), append_images=others, big_tiff=large)


def _page(image: Any) -> Voxels:
    """The page that an opened picture shows, in native order."""
    kept = image.mode in ("1", "L", "P", "F") or image.mode.startswith("I")
    array: Voxels = np.array(image if kept else image.convert("L"))
    return array.astype(np.uint8 if array.dtype == bool else array.dtype.newbyteorder("="), copy=False)


def _check_layers(path: Path, image: Any, pages: int) -> None:
    """Refuses a TIFF whose pages are not all there is, or not the slices of one stack.

    Raises:
        UnreadableFile: ImageJ's hyperstacks or hidden slices, or slices stored as planes of colour.
    """
    tags = getattr(image, "tag_v2", {})
    text = str(tags.get(_DESCRIPTION, ""))
    if text.startswith("ImageJ="):
        counts = {key: int(value) for key, value in re.findall(r"^(\w+)=(\d+)\r?$", text, re.MULTILINE)}
        if sum(counts.get(key, 1) > 1 for key in ("channels", "slices", "frames")) > 1:
            raise UnreadableFile(
                f"{path}: expected the slices of one stack, found ImageJ's hyperstack of channels or times"
            )
        if (images := counts.get("images", pages)) != pages:
            raise UnreadableFile(f"{path}: expected the {images} slices that ImageJ stored, found {pages}")
    if tags.get(_PLANAR) == 2 and len(image.getbands()) > 1:  # NumPy's users write 3 or 4 slices like that
        raise UnreadableFile(
            f"{path}: expected a page per slice, found {len(image.getbands())} planes of colour"
        )
