"""A region's barcode with the values at its critical voxels: what tables and figures are drawn from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.topology.persistence import Barcode

Field = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Bars:
    """The barcode of one region in an image or slice.

    Attributes:
        region: The region's name.
        slice: Index along the slice axis; None for the whole image.
        barcode: Pairs of voxels, longest bars first in each dimension.
        births: Values at birth, (n,).
        deaths: Values at death, 0 for the essential bar, (n,).
        shape: The field's, to which the barcode's flat indices belong.
        frame: Index in time; None for an image of its own.
    """

    region: str
    slice: int | None
    barcode: Barcode
    births: Field
    deaths: Field
    shape: tuple[int, ...]
    frame: int | None = None


def gather(
    region: str,
    index: int | None,
    barcode: Barcode,
    field: Field,
    min_persistence: float = 0.0,
    frame: int | None = None,
) -> Bars:
    """The bars of a field that are at least `min_persistence` long, with their values.

    Example:
        >>> from topofix.topology.persistence import barcode
        >>> field = np.array([[0.9, 0.1, 0.8]])
        >>> gather("foreground", None, barcode(field), field, min_persistence=0.8).births
        array([0.9])
    """
    births, deaths = barcode.values(field)
    long = births - deaths >= min_persistence
    kept = Barcode(barcode.dimension[long], barcode.birth[long], barcode.death[long])
    return Bars(region, index, kept, births[long], deaths[long], field.shape, frame)
