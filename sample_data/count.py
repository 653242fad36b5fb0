"""Counts the Betti numbers of a label map's foreground without topofix: python count.py LABELS

Two voxels belong together if they share a corner, and the image lies in endless background. Components and
enclosed pieces of background are labelled by SciPy. Tunnels follow from the Euler number, which counts the
corners, edges, faces and cubes of the voxels; in 2-D it has to agree with what was labelled.
"""

import sys
from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from scipy import ndimage


def read(path: str) -> np.ndarray:
    """The voxels of a file; the order of the axes does not matter here."""
    if not Path(path).is_file():
        sys.exit(f"{path}: there is no such file")
    if path.lower().endswith((".nii", ".nii.gz")):
        return np.asarray(nibabel.load(path).dataobj)
    image = SimpleITK.ReadImage(path)
    if image.GetNumberOfComponentsPerPixel() != 1:
        sys.exit(f"{path}: expected one label per voxel, got colours")
    return SimpleITK.GetArrayFromImage(image)


def count(foreground: np.ndarray) -> tuple[int, ...]:
    """(components, holes) of a 2-D mask, (components, tunnels, cavities) of a 3-D one."""
    rank = foreground.ndim
    mask = np.pad(foreground, 1)
    components = ndimage.label(mask, ndimage.generate_binary_structure(rank, rank))[1]
    enclosed = ndimage.label(~mask, ndimage.generate_binary_structure(rank, 1))[1] - 1  # all but the outside
    euler = euler_number(mask)
    if rank == 3:
        return components, components + enclosed - euler, enclosed
    if euler != components - enclosed:
        sys.exit(f"the Euler number {euler} contradicts {components} components and {enclosed} holes")
    return components, enclosed


def euler_number(mask: np.ndarray) -> int:
    """Corners - edges + faces - cubes of a mask with a margin: a cell is there if any voxel around it is.

    A cell that is flat along some axes lies between two voxels along each of them.
    """
    total = 0
    for flat in product((0, 1), repeat=mask.ndim):
        around = np.ones([1 + along for along in flat], dtype=bool)
        cells = np.count_nonzero(ndimage.binary_dilation(mask, around))
        total += cells * (-1) ** (mask.ndim - sum(flat))
    return int(total)


def main() -> None:
    """Prints one line."""
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} LABELS")
    foreground = np.squeeze(read(sys.argv[1])) != 0
    if foreground.ndim not in (2, 3):
        sys.exit(f"{sys.argv[1]}: expected an image of rank 2 or 3, got shape {foreground.shape}")
    words = ("component", "hole") if foreground.ndim == 2 else ("component", "tunnel", "cavity")
    numbers = count(foreground)
    print("counted independently: " + ", ".join(map(phrase, numbers, words)))


def phrase(number: int, word: str) -> str:
    """`1 component`, `0 cavities`."""
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{number} {word if number == 1 else plural}"


if __name__ == "__main__":
    main()
