"""PNG and TIFF, in and out, and JPEG, which alters voxels and so is only read; by Pillow.

Pictures know neither millimetres nor a world: a pixel has a size of 1 and the affine is the identity.
"""

from pathlib import Path

import numpy as np

from topofix.errors import InvalidArray, UnreadableFile
from topofix.imaging.volume import Volume, Voxels

SUFFIXES = (".png", ".tif", ".tiff")
READ_ONLY = (".jpg", ".jpeg")


def read(path: Path) -> Volume:
    """Reads one file of a single page: colour as luminance, a palette as its indices."""
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


def write(path: Path, array: Voxels, like: Volume) -> None:
    """Writes one file, whole numbers as 8 or 16 bit; of `like` there is nothing that it could keep."""
    from PIL import Image

    if array.ndim != 2:
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
    Image.fromarray(np.ascontiguousarray(array)).save(path, "PNG" if path.suffix == ".png" else "TIFF")
