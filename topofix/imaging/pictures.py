"""PNG and TIFF, in and out, and JPEG, which alters voxels and so is only read; by Pillow.

Pictures know neither millimetres nor a world: a pixel has a size of 1 and the affine is the identity. A TIFF
of several pages is a stack (page, row, column): the order of the file, which scikit-image and nnU-Net have.
"""

import math
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from topofix.errors import InvalidArray, UnreadableFile
from topofix.imaging.bounds import DEFLATED, check_count, check_room, check_size
from topofix.imaging.png import check_png
from topofix.imaging.silence import silence
from topofix.imaging.volume import Volume, Voxels
from topofix.limits import MOST_VOXELS

SUFFIXES = (".png", ".tif", ".tiff")
READ_ONLY = (".jpg", ".jpeg")

_FORMATS = ("PNG", "TIFF", "JPEG")  # whatever the suffix: others run programs, or have limits of their own
_MOST_PAGES = 2**13  # Pillow goes from one to the next ever more slowly
_LARGE_TILE = 2**12  # pixels along a side; what decodes a tile takes memory for all of it

_BIG_TIFF = 43  # the version whose offsets have eight bytes
_BITS, _DESCRIPTION, _PLANAR, _TILE_WIDTH, _TILE_LENGTH = 258, 270, 284, 322, 323  # tags of TIFF
_PACKING = {
    "PNG": DEFLATED,
    "tiff_adobe_deflate": DEFLATED,
    "tiff_deflate": DEFLATED,
    "packbits": 64,
    "raw": 1,
}
"""Bytes at most that become one in a format, or by a compression as Pillow names it."""

_PILLOW = threading.Lock()  # limit and warnings are those of the process
_LARGE = 2**32  # bytes, beyond which only BigTIFF reaches


@silence()
def read(path: Path, max_voxels: int = MOST_VOXELS) -> Volume:
    """Reads one file: colour as luminance, a palette as its indices, several pages as a stack."""
    from PIL import Image

    check_size(path, max_voxels)
    with _without_limit():
        with Image.open(path, formats=_FORMATS) as image:
            _check_size(path, image, 0, max_voxels)
            image.verify()  # PNG's checksums, which decoding skips
            if image.format == "PNG":
                check_png(path)
        with Image.open(path, formats=_FORMATS) as image:
            array = _pages(path, image, max_voxels)
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


@contextmanager
def _without_limit() -> Iterator[None]:
    """Without Pillow's warnings, and its own limit of pixels: a caller has given another, for one file."""
    from PIL import Image

    with _PILLOW, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _pages(path: Path, image: Any, max_voxels: int) -> Voxels:
    """All pages of an opened picture, as a stack where there are several."""
    count = _count(path, image, max_voxels)
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
    return array


def _count(path: Path, image: Any, max_voxels: int) -> int:
    """How many pages there are; every header is checked before any page is decoded."""
    if image.format != "TIFF":
        if (count := getattr(image, "n_frames", 1)) > 1:
            raise UnreadableFile(f"{path}: expected a single picture, found {count}")
        return 1
    count, voxels = _directories(path), 0
    for index in range(count):
        image.seek(index)
        voxels = _check_size(path, image, voxels, max_voxels)
    image.seek(0)
    return count


def _directories(path: Path) -> int:
    """How many pages a TIFF has: Pillow takes one that is cut off for the end of the file.

    Raises:
        UnreadableFile: one is cut off, or there are too many.
    """
    with path.open("rb") as file:
        order: Literal["little", "big"] = "little" if file.read(2) == b"II" else "big"
        is_big = int.from_bytes(file.read(2), order) == _BIG_TIFF
        counter, entry, pointer = (8, 20, 8) if is_big else (2, 12, 4)  # bytes
        file.seek(8 if is_big else 4)
        at, seen = int.from_bytes(file.read(pointer), order), set[int]()
        while at and at not in seen:  # a circle is an end, too
            seen.add(at)
            if len(seen) > _MOST_PAGES:
                raise UnreadableFile(f"{path}: expected at most {_MOST_PAGES} pages, found more")
            file.seek(at)
            file.seek(at + counter + entry * int.from_bytes(file.read(counter), order))
            following = file.read(pointer)
            if len(following) < pointer:
                raise UnreadableFile(f"{path}: expected {len(seen)} whole pages or more, found it truncated")
            at = int.from_bytes(following, order)
    return len(seen)


def _check_size(path: Path, image: Any, before: int, max_voxels: int) -> int:
    """Refuses the page that an opened picture shows if its header promises too much.

    Args:
        path: the file.
        image: the picture.
        before: voxels of the pages before this one.
        max_voxels: of all pages, channels included.

    Returns:
        Voxels up to this page.

    Raises:
        UnreadableFile: too many voxels, more than the file can hold, or tiles far larger than the page.
    """
    tags = getattr(image, "tag_v2", {})
    pixels: int = math.prod(image.size)
    voxels: int = before + pixels * len(image.getbands())
    check_count(path, voxels, max_voxels)
    packing = _PACKING.get(image.format if image.format == "PNG" else image.info.get("compression"))
    if packing:  # of others nobody knows how far they go
        check_room(path, pixels * sum(tags.get(_BITS, (1,))) // 8, packing * path.stat().st_size)
    for side, tag in zip(image.size, (_TILE_WIDTH, _TILE_LENGTH), strict=True):
        if (tile := tags.get(tag, 0)) > max(side, _LARGE_TILE):
            raise UnreadableFile(f"{path}: expected tiles of at most {_LARGE_TILE} pixels, found {tile}")
    return voxels


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
