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

References: Clough et al., "A Topological Loss Function for Deep-Learning based Image Segmentation using
Persistent Homology", TPAMI 2020, Eqs. 1-2 and footnote 1. Edelsbrunner and Harer, "Computational
Topology", AMS 2010, chapter VII. The GUDHI Project, "GUDHI User and Reference Manual: Cubical complex".
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray

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


def barcode(field: Field, connectivity: Connectivity = "full", min_persistence: float = 0.0) -> Barcode:
    """Compute the barcode of the superlevel filtration of a field.

    Probabilities are expected, but any finite values will do: an essential bar is then still taken to die at
    0 when its length is measured.

    Args:
        field: rank 2 or 3, real numbers, any strides.
        connectivity: which foreground voxels touch, see above.
        min_persistence: bars shorter than this are left out (0 keeps every essential bar). Pairs of equal
            value are no bars and never returned.

    Returns:
        The bars, in an order that depends on nothing but the field.

    Raises:
        InvalidArray: the field is no finite image of rank 2 or 3, or an option is none of those above.

    >>> field = np.array([[0.9, 0.8, 0.9], [0.7, 0.2, 0.8], [0.9, 0.9, 0.6]])
    >>> bars = barcode(field)
    >>> bars.dimension.tolist(), bars.birth.tolist(), bars.death.tolist()
    ([0, 0, 0, 1], [0, 2, 6, 3], [-1, 1, 5, 4])
    """
    values = _checked(field, "field", connectivity)
    if not min_persistence >= 0:
        raise InvalidArray(f"min_persistence: expected a number that is not negative, got {min_persistence}")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)

    dimension, birth, death = _pairs_by_gudhi(_ranks(values), connectivity)
    births = values.flat[birth].astype(np.float64)
    deaths = np.where(death == NEVER, 0.0, values.flat[death])
    length = births - deaths
    kept = (death == NEVER) | (length > 0)
    if min_persistence > 0:
        kept &= length >= min_persistence

    order = np.lexsort((death[kept], birth[kept], -length[kept], dimension[kept]))
    return Barcode(dimension[kept][order], birth[kept][order], death[kept][order])


def betti(mask: Field, connectivity: Connectivity = "full") -> tuple[int, ...]:
    """Count the Betti numbers of a binary mask: (components, holes) or (components, tunnels, voids).

    Args:
        mask: rank 2 or 3; what is not zero is foreground.
        connectivity: which foreground voxels touch, see above.

    Returns:
        As many numbers as the mask has dimensions.

    Raises:
        InvalidArray: the mask is no finite image of rank 2 or 3, or the connectivity is unknown.

    >>> betti(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]]))
    (1, 1)
    """
    from scipy import ndimage  # costs more to import than most masks take to count

    foreground = np.pad(_bounding_box(_checked(mask, "mask", connectivity) != 0), 1)
    touching = {
        "face": ndimage.generate_binary_structure(foreground.ndim, 1),
        "full": ndimage.generate_binary_structure(foreground.ndim, foreground.ndim),
    }
    dual: Connectivity = "face" if connectivity == "full" else "full"
    components = int(ndimage.label(foreground, touching[connectivity])[1])
    enclosed = int(ndimage.label(~foreground, touching[dual])[1]) - 1  # all but the outside
    if foreground.ndim == 2:
        return components, enclosed
    return components, components + enclosed - _euler_characteristic(foreground, connectivity), enclosed


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
    alive = (births > threshold) & ((deaths <= threshold) | (bars.death == NEVER))
    return tuple(np.bincount(bars.dimension[alive], minlength=np.ndim(field)).tolist())


def _checked(array: Field, name: str, connectivity: str) -> Field:
    """The array, once it is known to be a finite image of rank 2 or 3 and the connectivity to exist."""
    array = np.asarray(array)
    if array.ndim not in (2, 3):
        raise InvalidArray(f"{name}: expected an array of rank 2 or 3, got rank {array.ndim}")
    if array.dtype.kind not in "biuf":
        raise InvalidArray(f"{name}: expected real numbers, got dtype {array.dtype}")
    if array.size == 0:
        raise InvalidArray(f"{name}: expected at least one voxel along every axis, got shape {array.shape}")
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        wrong = array.size - np.count_nonzero(finite)
        raise InvalidArray(f"{name}: expected finite values, got {wrong} that are NaN or infinite")
    if connectivity not in get_args(Connectivity):
        raise InvalidArray(f"connectivity: expected 'full' or 'face', got {connectivity!r}")
    return array


def _ranks(field: Field) -> Indices:
    """The step of the filtration, 0 for the first, at which each voxel enters; flat, in C order."""
    order = np.argsort(-field.ravel(), kind="stable")
    ranks = np.empty(field.shape, np.int64)
    ranks.flat[order] = np.arange(order.size)
    return ranks


def _pairs_by_gudhi(
    ranks: Indices, connectivity: Connectivity
) -> tuple[npt.NDArray[np.int8], Indices, Indices]:
    """Every pair of different voxels that the filtration by rank makes, in no particular order."""
    from gudhi import CubicalComplex

    # GUDHI flattens in Fortran order: with the axes reversed, its flat indices are ours in C order.
    shape, values = ranks.shape[::-1], ranks.ravel().astype(np.float64)
    if connectivity == "full":
        complex_ = CubicalComplex(dimensions=shape, top_dimensional_cells=values)
        complex_.compute_persistence(homology_coeff_field=2)
        finite, essential = complex_.cofaces_of_persistence_pairs()
    else:
        complex_ = CubicalComplex(dimensions=shape, vertices=values)
        complex_.compute_persistence(homology_coeff_field=2)
        finite, essential = complex_.vertices_of_persistence_pairs()

    pairs = [np.empty((0, 2), np.int64), *finite]
    never = [np.stack([birth, np.full_like(birth, NEVER)], axis=1) for birth in essential]
    birth, death = np.concatenate([*pairs, *never]).astype(np.int64).T
    sizes = [len(bars) for bars in (*finite, *essential)]
    dimensions = np.array([*range(len(finite)), *range(len(essential))], np.int8)
    return np.repeat(dimensions, sizes), birth, death


def _bounding_box(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The part of the mask that holds all its foreground; a view."""
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        first, last = (occupied[0], occupied[-1]) if occupied.size else (0, -1)
        mask = mask[(slice(None),) * axis + (slice(first, last + 1),)]
    return mask


def _euler_characteristic(cells: npt.NDArray[np.bool_], connectivity: Connectivity, axis: int = 0) -> int:
    """Even-dimensional minus odd-dimensional cells of a mask with a margin of background.

    "full" takes voxels for cubes: what lies between two of them is a cell if either is. "face" takes them
    for vertices: what lies between two of them is a cell if both are.
    """
    if axis == cells.ndim - 1:  # along a line, vertices minus edges is the number of runs, in both readings
        return int(np.count_nonzero(cells[..., 1:] > cells[..., :-1]))
    before = cells[(slice(None),) * axis + (slice(None, -1),)]
    after = cells[(slice(None),) * axis + (slice(1, None),)]
    voxels = _euler_characteristic(cells, connectivity, axis + 1)
    if connectivity == "full":
        return _euler_characteristic(before | after, connectivity, axis + 1) - voxels
    return voxels - _euler_characteristic(before & after, connectivity, axis + 1)
