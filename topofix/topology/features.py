"""What a region lacks, and how it is made: where the barcode has evidence for it.

A feature that is wanted and not there has a bar that ends before 1/2 or begins after it. Making it means
to bring back what the bar's critical voxel does:

    bar lies      component          hole (2-D), tunnel (3-D)      hole (2-D), cavity (3-D)
    below 1/2     its birth voxel    a path that closes the loop   the sheet around its deepest voxel
    above 1/2     a cut around it    a path that opens the loop    its death voxel

(in 2-D the sheet around a hole is the path that closes the loop, and the cut the path that opens one). Paths
are the cheapest there are (`native/paths.hpp`); what a sheet has too much of is taken back by simple points.
The longest bar is tried first, as the loss has it (Clough et al., TPAMI 2020, Eq. 3), and with it those at
least half as long: of them the cheapest feature is made. No bar is used that is shorter than the evidence
that is asked for, so that nothing is made up where the field shows nothing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.special import expit

from topofix.topology import _kernel
from topofix.topology.partition import Costs, Indices, Labels, Mask, Partition
from topofix.topology.persistence import NEVER, barcode
from topofix.topology.priors import Constraint
from topofix.topology.sizes import enlarge

COMPARABLE = 0.5
"""Bars at least so long, as a share of the longest, compete for the price."""

MOST_TRIED = 8
"""Bars that are tried for one feature; making one fails where other changes are in its way."""

SIDE_EFFECT = 4.0
"""What it may cost to take away a defect that a new feature brings along, as a difference of logits."""


@dataclass(frozen=True, slots=True)
class Source:
    """A bar that a wanted feature can be made from.

    Attributes:
        birth: Flat index of the voxel that creates the feature.
        death: That of the voxel that ends it, or -1.
        length: In probability; of the bar that never dies, down to the lowest value of the field.
        below: Whether the bar lies below 1/2, so that voxels are added; else it lies above.
    """

    birth: int
    death: int
    length: float
    below: bool


def sources(partition: Partition, constraint: Constraint, dimension: int) -> list[Source]:
    """The bars of one dimension that are not there at 1/2, the longest first.

    Example:
        >>> from topofix.topology.priors import Prior
        >>> logit = np.array([[2.0, -3.0, -1.0]], np.float32)
        >>> two = Prior.parse("2,0")
        >>> partition = Partition(logit > 0, np.stack([0 * logit, logit]), two)
        >>> [(s.birth, s.below, round(s.length, 2)) for s in sources(partition, two.constraints[0], 0)]
        [(2, True, 0.22)]
    """
    field = partition.field(constraint)
    inside = field.ravel() > 0
    bars = barcode(field, partition.connectivity).of(dimension)
    below = ~inside[bars.birth]
    absent = below | ((bars.death != NEVER) & inside[bars.death])
    births, deaths, below = bars.birth[absent], bars.death[absent], below[absent]
    probability = expit(field.ravel().astype(np.float64))
    # The bar that never dies ends at 0; but what a field shows of it is no more than what stands out in it.
    lengths = probability[births] - np.where(deaths == NEVER, probability.min(), probability[deaths])
    order = np.argsort(-lengths, kind="stable")
    rows = zip(births[order], deaths[order], lengths[order], below[order], strict=True)
    return [Source(int(b), int(d), float(length), bool(low)) for b, d, length, low in rows]


def add_features(partition: Partition, min_evidence: float, deadline: float, min_voxels: float = 0) -> None:
    """Makes the features that are missing, as far as there is evidence for them.

    Args:
        partition: Is changed. What is too many may become more by it, and is to be taken away afterwards.
        min_evidence: No shorter bar is taken for a feature.
        deadline: In the time of `time.perf_counter`.
        min_voxels: Components and holes that are made grow to this size.
    """
    for index, constraint in enumerate(partition.prior.constraints):
        for dimension, wish in enumerate(constraint.betti):
            while (
                partition.betti[index][dimension] < wish.low
                and time.perf_counter() < deadline
                and _add_one(partition, index, dimension, min_evidence, deadline, min_voxels)
            ):
                pass


def _add_one(
    partition: Partition,
    index: int,
    dimension: int,
    min_evidence: float,
    deadline: float,
    min_voxels: float,
) -> bool:
    """Makes one feature at the least cost; whether there was a way."""
    constraint = partition.prior.constraints[index]
    start, count = partition.labels(), partition.betti[index][dimension]
    best: float | None = None
    chosen = start
    found = [source for source in sources(partition, constraint, dimension) if source.length >= min_evidence]
    for source in found[:MOST_TRIED]:
        if best is not None and source.length < COMPARABLE * found[0].length:
            break
        voxels = _outline(partition, constraint, dimension, source)
        for labels in _colourings(partition, constraint, source, voxels):
            partition.change(voxels, labels)
            partition.settle(start)
            if min_voxels > 1:
                enlarge(partition, constraint, min_voxels)
            if partition.betti[index][dimension] > count and partition.within_limit():
                price = partition.cost + SIDE_EFFECT * partition.error
                if best is None or price < best:
                    best, chosen = price, partition.labels()
            partition.restore(start)
    partition.restore(chosen)
    return best is not None


def _colourings(
    partition: Partition, constraint: Constraint, source: Source, voxels: Indices
) -> Iterator[Labels]:
    """Labels that voxels may get to change sides: the likeliest of each, or, of several, one for all.

    A hole in label 1 may have to be of label 2, as their union must not have it, too.
    """
    yield partition.cheapest(constraint, source.below)[0][voxels]
    choices = partition.side(constraint, source.below)
    if len(choices) > 1:
        for label in choices:
            yield np.full(len(voxels), label, np.uint8)


def _outline(partition: Partition, constraint: Constraint, dimension: int, source: Source) -> Indices:
    """The voxels that make the feature when they change sides."""
    field = partition.field(constraint)
    top = field.ndim - 1
    voxel = source.birth if source.below else source.death
    if dimension == (0 if source.below else top):
        return np.array([voxel])
    if field.ndim == 2 or dimension == 1:
        outline = _loop(partition, constraint, field, voxel, source.below)
    else:
        outline = _sheet(partition, field, source)
    other: Indices = outline[(field.ravel()[outline] > 0) != source.below]
    return other


def _loop(partition: Partition, constraint: Constraint, field: Costs, voxel: int, below: bool) -> Indices:
    """The cheapest closed path through a voxel, in the region or, if it is to be opened, around it."""
    side = field > 0 if below else field < 0
    allowed = side | _earlier(field if below else -field, voxel, first=below)
    costs = np.where(side, 0, partition.cheapest(constraint, below)[1].reshape(field.shape))
    # Around the image lies background, in which a path costs nothing; around that lies nothing.
    margin = 1 if below else 2
    allowed = np.pad(np.pad(allowed, margin - 1, constant_values=True), 1)
    path: Indices = _kernel.closed_path(
        allowed.view(np.uint8),
        np.pad(costs, margin).astype(np.float32),
        int(np.ravel_multi_index(np.add(np.unravel_index(voxel, field.shape), margin), allowed.shape)),
        below == (partition.connectivity == "full"),
    )
    places = np.stack(np.unravel_index(path, allowed.shape)) - margin
    sides = np.array(field.shape)[:, None]
    places = places[:, ((places >= 0) & (places < sides)).all(0)]
    loop: Indices = np.append(np.ravel_multi_index(tuple(places), field.shape), voxel)
    return loop


def _sheet(partition: Partition, field: Costs, source: Source) -> Indices:
    """What lies around the cavity when it closes, or around the component before it joins another."""
    if source.below:
        core, seed = ~((field > 0) | _earlier(field, source.birth)), source.death
        core.flat[source.birth] = False
    else:
        core, seed = _earlier(field, source.death), source.birth
    corners = source.below != (partition.connectivity == "full")
    structure = np.ones((3,) * 3) if corners else None
    numbers = ndimage.label(core, structure)[0]
    body = numbers == numbers.flat[seed]
    return np.flatnonzero(ndimage.binary_dilation(body, structure) & ~body)


def _earlier(field: Costs, voxel: int, first: bool = True) -> Mask:
    """What enters the superlevel filtration before a voxel: of equal values the first, or else the last."""
    value = field.flat[voxel]
    earlier = field > value
    ties = np.flatnonzero(field == value)
    earlier.flat[ties[ties < voxel] if first else ties[ties > voxel]] = True
    return earlier
