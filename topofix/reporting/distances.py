"""How far two barcodes are from each other, dimension by dimension."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from topofix.topology.bars import Bars

COMPARED = 200
"""The longest bars of a dimension, which are compared: the time grows with more than the square of their
number, and the thousands of short ones are noise."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How far the bars of one dimension moved, as points (death, birth) under the maximum norm.

    Attributes:
        bottleneck: The farthest that any bar has to move in the best matching, where bars may also come from
            and shrink to length 0.
        wasserstein: The sum of all moves in the best matching, at order 1, to within 1 %.
    """

    bottleneck: float
    wasserstein: float


def distances(before: Bars, after: Bars) -> tuple[Distance, ...]:
    """The distances between the barcodes of one region, one per dimension.

    The `COMPARED` longest bars of each count. Leaving out the others changes the bottleneck distance by no
    more than half the length of the longest of them.

    Example:
        >>> from topofix.topology.bars import gather
        >>> from topofix.topology.persistence import barcode
        >>> old, new = np.array([[0.9, 0.1, 0.8]]), np.array([[0.9, 0.1, 0.3]])
        >>> first, _ = distances(*(gather("", None, barcode(field), field) for field in (old, new)))
        >>> round(first.bottleneck, 3), round(first.wasserstein, 3)  # the longer bar shrinks away
        (0.35, 0.45)
    """
    import gudhi
    import gudhi.hera

    found = []
    for dimension in range(len(before.shape)):
        old, new = _points(before, dimension), _points(after, dimension)
        bottleneck = gudhi.bottleneck_distance(old, new)
        wasserstein = gudhi.hera.wasserstein_distance(old, new, order=1.0, internal_p=np.inf)
        found.append(Distance(float(bottleneck), float(wasserstein)))
    return tuple(found)


def _points(bars: Bars, dimension: int) -> npt.NDArray[np.float64]:
    """The longest bars as (death, birth), (n, 2)."""
    chosen = np.flatnonzero(bars.barcode.dimension == dimension)[:COMPARED]
    return np.stack([bars.deaths[chosen], bars.births[chosen]], axis=1).astype(np.float64)
