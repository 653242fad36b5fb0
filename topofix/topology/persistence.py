r"""Which voxels create and destroy the components, holes and voids of a field, and how many a mask has.

`barcode` measures the persistent homology of a probability field; `betti` counts the homology of a binary
mask in the same convention, without computing any persistence.

    pixels are closed squares            two pixels that share one corner, and the two connectivities

        +---+---+---+                        full: they touch         face: they do not touch
        | # | # | # |                        +---+                    +---+
        +---+---+---+                        | # |                    | # |
        | # |   | # |   betti (1, 1)         +---o---+                +---'   .---+
        +---+---+---+                            | # |                        | # |
        | # | # | # |                            +---+                        +---+
        +---+---+---+                        betti (1, 0)             betti (2, 0)

Superlevel filtration: the threshold falls from the largest value, so a bar is born high and dies low.

* Connectivity: "full" joins foreground that shares a corner (8 neighbours in 2-D, 26 in 3-D), and the
  background then needs a common side (4, 6). "face" is the dual: foreground 4 or 6, background 8 or 26.
* Border: the image lies in endless background, so a hole that is open to the border is no hole.
* Essential bar: the component that never dies is cut off at 0, so on probabilities its length is its birth.
* Ties: of two equal values the one with the smaller C-order index enters first. The order is total, so the
  result is unique.

The work is done by the C++ of `native/`, which says how. It compares float32 and float64 values as integers
in the same order, bit for bit: no value is rounded, both zeros are equal, and denormals are numbers like any
other.

References: Clough et al., "A Topological Loss Function for Deep-Learning based Image Segmentation using
Persistent Homology", TPAMI 2020, Eqs. 1-2 and footnote 1. Edelsbrunner and Harer, "Computational
Topology", AMS 2010, chapter VII.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray
from topofix.topology import _kernel

Connectivity = Literal["full", "face"]
Field = npt.NDArray[Any]
Indices = npt.NDArray[np.int64]

NEVER = -1  # the death of an essential bar


@dataclass(frozen=True, slots=True, eq=False)
class Barcode:
    """The bars of one field, each as a pair of voxels: where it is born and where it dies.

    Bars are ordered by dimension, then from long to short, then by birth index.

    Attributes:
        dimension: int8 (n,), 0 for components, 1 for loops (holes in 2-D), 2 for voids.
        birth: int64 (n,), C-order flat index of the voxel that creates the feature.
        death: int64 (n,), that of the voxel that destroys it, or -1 for an essential bar.
    """

    dimension: npt.NDArray[np.int8]
    birth: Indices
    death: Indices

    def __len__(self) -> int:
        """The number of bars.

        >>> len(barcode(np.array([[0.9, 0.1, 0.8]])))
        2
        """
        return len(self.birth)

    def of(self, dimension: int) -> "Barcode":
        """The bars of one dimension, in the same order.

        >>> barcode(np.array([[0.9, 0.1, 0.8]])).of(0).birth
        array([0, 2])
        """
        chosen = self.dimension == dimension
        return Barcode(self.dimension[chosen], self.birth[chosen], self.death[chosen])

    def values(self, field: Field) -> tuple[Field, Field]:
        """Gather the births and deaths (n,) from the field; an essential bar dies at 0.

        >>> births, deaths = barcode(np.array([[0.9, 0.1, 0.8]])).values(np.array([[0.9, 0.1, 0.8]]))
        >>> births.tolist(), deaths.tolist()
        ([0.9, 0.8], [0.0, 0.1])
        """
        voxels = np.asarray(field).flat  # in C order whatever the strides, and without a copy
        deaths = voxels[self.death]
        deaths[self.death == NEVER] = 0
        return voxels[self.birth], deaths


def barcode(
    field: Field,
    connectivity: Connectivity = "full",
    min_persistence: float = 0.0,
    threads: int | None = None,
) -> Barcode:
    """Compute the barcode of the superlevel filtration of a field.

    Probabilities are expected, but any finite values will do: an essential bar is then still taken to die at
    0 when its length is measured.

    Args:
        field: rank 2 or 3, real numbers, any strides; float32 and float64 are taken as they are, other types
            as the narrower of the two that holds all their values, int64 and wider ones as float64.
        connectivity: which foreground voxels touch, see above.
        min_persistence: bars shorter than this are left out (0 keeps an essential bar that is born below 0).
            Bars without length are never returned, so a field of zeros has none.
        threads: at most this many; None for as many as the machine has. The result is the same.

    Returns:
        The bars, in an order that depends on nothing but the field.

    Raises:
        InvalidArray: the field is no finite image of rank 2 or 3, or an option is none of those above.

    >>> field = np.array([[0.9, 0.8, 0.9], [0.7, 0.2, 0.8], [0.9, 0.9, 0.6]])
    >>> bars = barcode(field)
    >>> bars.dimension.tolist(), bars.birth.tolist(), bars.death.tolist()
    ([0, 0, 0, 1], [0, 2, 6, 3], [-1, 1, 5, 4])
    """
    return barcodes([field], connectivity, min_persistence, threads)[0]


def barcodes(
    fields: Iterable[Field],
    connectivity: Connectivity = "full",
    min_persistence: float = 0.0,
    threads: int | None = None,
) -> list[Barcode]:
    """Compute the barcodes of several fields, spread over threads: a training batch in one call.

    Args:
        fields: a stack (n, *S) or any other iterable of fields, whose shapes may differ.
        connectivity: as for `barcode`, like all that follows.
        min_persistence: see there.
        threads: see there.

    Returns:
        A barcode for each field, in their order.

    Raises:
        InvalidArray: as for `barcode`.

    >>> [len(bars) for bars in barcodes(np.array([[[0.9, 0.1, 0.8]], [[0.9, 0.8, 0.1]]]))]
    [2, 1]
    """
    if not (isinstance(min_persistence, int | float | np.number) and min_persistence >= 0):
        raise InvalidArray(
            f"min_persistence: expected a number that is not negative, got {min_persistence!r}"
        )
    images: Field | list[Field]
    if isinstance(fields, np.ndarray) and fields.ndim > 0 and len(fields) > 0 and fields.dtype.kind != "O":
        _checked(fields[0], "field", connectivity)
        images = _floating(fields)
    else:
        images = [_floating(_checked(field, "field", connectivity)) for field in fields]
    count = _thread_count(threads)
    try:
        if isinstance(images, list):
            found = _kernel.barcodes_of_list(images, connectivity == "face", min_persistence, count)
        else:
            found = _kernel.barcodes_of_stack(images, connectivity == "face", min_persistence, count)
    except ValueError as error:
        raise InvalidArray(f"field: {_why_not_finite(images) or error}") from None
    dimension, birth, death, sizes = found
    birth, death = birth.view(np.int64), death.view(np.int64)  # the type that NumPy calls so on every machine
    ends = np.cumsum(sizes)
    parts = [slice(end - size, end) for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
    return [Barcode(dimension[part], birth[part], death[part]) for part in parts]


def betti(mask: Field, connectivity: Connectivity = "full", threads: int | None = None) -> tuple[int, ...]:
    """Count the Betti numbers of a binary mask: (components, holes) or (components, tunnels, voids).

    Args:
        mask: rank 2 or 3; what is not zero is foreground.
        connectivity: which foreground voxels touch, see above.
        threads: at most this many; None for as many as the machine has.

    Returns:
        As many numbers as the mask has dimensions.

    Raises:
        InvalidArray: the mask is no finite image of rank 2 or 3, or an option is none of those above.

    >>> betti(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]))
    (1, 1)
    """
    foreground = _foreground(_checked(mask, "mask", connectivity))
    count = _thread_count(threads)
    try:
        return tuple(_kernel.betti(foreground, connectivity == "face", count))
    except ValueError as error:
        raise InvalidArray(f"mask: {error}") from None


def simple_points(mask: Field, connectivity: Connectivity = "full") -> npt.NDArray[np.bool_]:
    """Find the voxels that a mask could gain, or lose, without any change of its topology, one at a time.

    Adding or removing a simple point neither makes nor ends, joins nor divides any component, hole or void.
    Two simple points that are changed together may.

    Args:
        mask: rank 2 or 3; what is not zero is foreground.
        connectivity: which foreground voxels touch, see above.

    Returns:
        A boolean array of the mask's shape.

    Raises:
        InvalidArray: as for `betti`.

    >>> simple_points(np.array([[0, 0, 0, 0, 0], [0, 1, 1, 1, 0]])).astype(int)
    array([[1, 1, 1, 1, 1],
           [1, 1, 0, 1, 1]])
    """
    foreground = _foreground(_checked(mask, "mask", connectivity))
    return _kernel.simple_points(foreground, connectivity == "face").view(np.bool_).reshape(foreground.shape)


def betti_at(bars: Barcode, field: Field, threshold: float = 0.5) -> tuple[int, ...]:
    """Read the Betti numbers of `field > threshold` off the field's barcode.

    Args:
        bars: the whole barcode of the field: bars that `min_persistence` left out are not counted.
        field: the field that the barcode was computed from.
        threshold: a voxel is foreground when its value is larger.

    Returns:
        As many numbers as the field has dimensions, those of `betti(field > threshold)`.

    >>> field = np.array([[0.9, 0.4, 0.8]])
    >>> betti_at(barcode(field), field), betti_at(barcode(field), field, threshold=0.3)
    ((2, 0), (1, 0))
    """
    births, deaths = bars.values(field)
    essential = bars.death == NEVER
    alive = (births > threshold) & ((deaths <= threshold) | essential)
    counts = np.bincount(bars.dimension[alive], minlength=np.ndim(field))
    if threshold < 0 and not essential.any():  # it has no length where the largest value is 0
        counts[0] += 1
    return tuple(counts.tolist())


def _checked(array: Field, name: str, connectivity: str) -> Field:
    """The array, once it is known to be a finite image of rank 2 or 3 and the connectivity to exist."""
    array = np.asarray(array)
    if array.ndim not in (2, 3):
        raise InvalidArray(f"{name}: expected an array of rank 2 or 3, got rank {array.ndim}")
    if array.dtype.kind not in "biuf":
        raise InvalidArray(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.size == 0:
        raise InvalidArray(f"{name}: expected at least one voxel along every axis, got shape {array.shape}")
    if connectivity not in get_args(Connectivity):
        raise InvalidArray(f"connectivity: expected 'full' or 'face', got {connectivity!r}")
    return array


def _floating(array: Field) -> Field:
    """The array as float32 or float64 in the machine's byte order, the very same one where it can be."""
    if any(stride % array.itemsize for stride in array.strides):  # a field of records
        array = array.copy()
    if array.dtype in (np.float32, np.float64):
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    return array.astype(np.float32 if np.can_cast(array.dtype, np.float32) else np.float64)


def _foreground(mask: Field) -> npt.NDArray[np.uint8]:
    """1 in the foreground, 0 in the background; without a copy where that is so already."""
    if mask.dtype.kind == "f" and (problem := _why_not_finite([mask])):
        raise InvalidArray(f"mask: {problem}")
    return (mask if mask.dtype in (np.bool_, np.uint8) else mask != 0).view(np.uint8)


def _why_not_finite(images: Iterable[Field]) -> str:
    """A sentence about the first of them that is not; nothing if all are."""
    for image in images:
        if wrong := image.size - np.count_nonzero(np.isfinite(image)):
            return f"expected finite values, got {wrong} that are NaN or infinite"
    return ""


def _thread_count(threads: int | None) -> int:
    """The kernel's number for it: 0 for as many as there are."""
    if threads is None:
        return 0
    if not isinstance(threads, int | np.integer) or not 1 <= threads < 2**31:
        raise InvalidArray(f"threads: expected a whole number from 1 on, or None, got {threads!r}")
    return int(threads)
