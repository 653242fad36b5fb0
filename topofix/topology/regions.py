"""Label maps as sets: the mask of a region, its Betti numbers, and the overlap of two masks.

A region is a label, a union of labels, or the foreground, that is every label together. What is counted here
is the label map that is written, never a probability.
"""

import numpy as np
import numpy.typing as npt

from topofix.topology.persistence import Connectivity, betti
from topofix.topology.priors import FOREGROUND, Prior

Labels = npt.NDArray[np.integer]
Mask = npt.NDArray[np.bool_]


def region_mask(labels: Labels, region: tuple[int, ...]) -> Mask:
    """Where a label map (*S) shows a region: a boolean (*S).

    Example:
        >>> region_mask(np.array([[0, 1, 2, 3]]), (2, 3)).astype(int)
        array([[0, 0, 1, 1]])
    """
    return labels > 0 if region == FOREGROUND else np.isin(labels, region)


def betti_of_regions(
    labels: Labels, prior: Prior, connectivity: Connectivity = "full"
) -> tuple[tuple[int, ...], ...]:
    """Betti numbers of every region that a prior constrains, in the prior's order.

    Example:
        >>> betti_of_regions(np.array([[2, 2, 2], [2, 3, 2], [2, 2, 2]]), Prior.parse("2:1,1 2+3:1,0"))
        ((1, 1), (1, 0))
    """
    return tuple(betti(region_mask(labels, c.region), connectivity) for c in prior.constraints)


def dice(a: Mask, b: Mask) -> float:
    """Dice overlap of two masks of one shape; 1 where both are empty.

    Example:
        >>> dice(np.array([1, 1, 0], bool), np.array([1, 0, 0], bool))
        0.6666666666666666
    """
    size = int(a.sum()) + int(b.sum())
    return 2.0 * int(np.logical_and(a, b).sum()) / size if size else 1.0
