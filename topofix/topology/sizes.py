"""Components and holes that are too small to be what somebody asked for.

A speck is no kidney, and a pinhole no ventricle: with a least size, smaller components of a region are
removed and smaller holes (in 3-D: cavities) are filled, whatever their probability, and none so small is
made.
"""

import heapq
import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from topofix.topology.partition import Indices, Mask, Partition
from topofix.topology.persistence import Connectivity
from topofix.topology.priors import Constraint, Prior
from topofix.topology.regions import region_mask


def parts(mask: Mask, inside: bool, connectivity: Connectivity = "full") -> Iterator[Indices]:
    """The components of a mask, or its holes, each as flat indices in ascending order.

    Args:
        mask: (*S).
        inside: Components; else holes, that is components of the background but for the outside.
        connectivity: Of the foreground.

    Example:
        >>> [part.tolist() for part in parts(np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool), False)]
        [[4]]
    """
    structure = np.ones((3,) * mask.ndim) if (connectivity == "full") == inside else None
    if inside:
        numbers, count = ndimage.label(mask, structure)
    else:
        numbers, count = ndimage.label(np.pad(~mask, 1, constant_values=True), structure)
        numbers[numbers == numbers.flat[0]] = 0
        numbers = numbers[(slice(1, -1),) * mask.ndim]
    where = np.flatnonzero(numbers)
    found = numbers.flat[where]
    where = where[np.argsort(found, kind="stable")]
    ends = np.cumsum(np.bincount(found, minlength=count + 1))
    for start, end in itertools.pairwise(ends):
        if end > start:
            yield where[start:end]


def small_parts(
    labels: npt.NDArray[np.integer], prior: Prior, connectivity: Connectivity, min_voxels: float
) -> Iterator[tuple[Constraint, bool, Indices]]:
    """Components (True) and holes (False) of constrained regions that have fewer voxels than that."""
    if min_voxels <= 1:
        return
    for constraint in prior.constraints:
        mask = region_mask(labels, constraint.region)
        for inside in (True, False):
            for part in parts(mask, inside, connectivity):
                if len(part) < min_voxels:
                    yield constraint, inside, part


def drop_small(partition: Partition, min_voxels: float) -> None:
    """Removes small components, then fills the small holes that are left, for good, as far as that may be.

    In turn, so that a small ring does not leave its filled hole behind.
    """
    touched: list[Indices] = []
    for side in (True, False):
        start = partition.labels()
        for constraint, inside, part in small_parts(
            start, partition.prior, partition.connectivity, min_voxels
        ):
            if inside != side or partition.is_frozen(part):
                continue
            partition.change(part, partition.cheapest(constraint, not inside)[0][part])
            if partition.within_limit():
                touched.append(part)
            else:
                partition.change(part, start.ravel()[part])
    if touched:
        partition.freeze(np.concatenate(touched))


def enlarge(partition: Partition, constraint: Constraint, min_voxels: float) -> None:
    """Lets the small components and holes of a region grow by its cheapest simple points."""
    for owner, inside, part in small_parts(
        partition.labels(), partition.prior, partition.connectivity, min_voxels
    ):
        if owner == constraint:
            _grow(partition, constraint, inside, part, min_voxels)


def _grow(
    partition: Partition, constraint: Constraint, inside: bool, part: Indices, min_voxels: float
) -> None:
    labels, costs = partition.cheapest(constraint, inside)
    start = partition.labels().ravel()
    members = set(part.tolist())
    seen = set(members)
    queue: list[tuple[float, int]] = []

    def look_around(voxel: int) -> None:
        for other in _neighbours(voxel, partition.shape):
            if other not in seen:
                seen.add(other)
                heapq.heappush(queue, (float(costs[other]), other))

    for voxel in part.tolist():
        look_around(voxel)
    while queue and len(members) < min_voxels:
        _, voxel = heapq.heappop(queue)
        before = partition.betti
        one = np.array([voxel])
        partition.change(one, labels[one])
        if partition.betti != before:
            partition.change(one, start[one])
            continue
        members.add(voxel)
        look_around(voxel)


def _neighbours(voxel: int, shape: tuple[int, ...]) -> Iterator[int]:
    """Voxels that share a side with one."""
    step = 1
    for side in reversed(shape):
        place = voxel // step % side
        if place > 0:
            yield voxel - step
        if place < side - 1:
            yield voxel + step
        step *= side
