"""The exact correction: a label map with the Betti numbers that were asked for, at a small cost.

    field            at 1/2           asked for 1,0        what it costs
    9 9 8 . . . .    # # # . . . .    # # # . . . .        the hole: filled at 0.1, or opened at 0.2 and more
    9 4 8 . 3 7 .    # . # . . # .    # # # . . . .        the speck: removed at 0.2, or bridged at 0.2 + 0.5
    9 9 7 . . . .    # # # . . . .    # # # . . . .

What is missing is made first (`features.py`), from the longest bars of the field; what is too many is taken
away after that (`defects.py`), each defect by the cheapest of its ways out; then everything that turns out
not to be needed is taken back. Every Betti number is known after each step, the best state is kept, and the
end is counted once more, by labelling and Euler characteristic.

The cost is the log-probability that the label map loses: with one label, the sum of |logit| over flipped
voxels.
"""

import itertools
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray
from topofix.topology.defects import remove_defects
from topofix.topology.features import add_features, sources
from topofix.topology.partition import MOST_CHANNELS, Labels, Mask, Partition
from topofix.topology.persistence import Connectivity
from topofix.topology.priors import Constraint, Prior
from topofix.topology.ranges import Range
from topofix.topology.regions import betti_of_regions
from topofix.topology.sizes import drop_small, enlarge, small_parts

Logits = npt.NDArray[np.floating[Any]]

OTHER_STARTS = (-2.0, -1.0, 1.0, 2.0)
"""Differences of logits at which a region begins anew where its own border leads nowhere."""


@dataclass(frozen=True, slots=True, eq=False)
class Repair:
    """What became of a label map.

    Attributes:
        labels: (*S), the best that was found; never worse than the start.
        error: Its Betti error, with one for each component or hole that is too small; 0: the prior is met.
        finished: False where the time was over or the limit of changed voxels held something back.
    """

    labels: Labels
    error: int
    finished: bool


@dataclass(frozen=True, slots=True)
class Lack:
    """A feature that is asked for and that the field shows no sign of.

    Attributes:
        region: As in the prior.
        dimension: Of the feature.
        wanted: How many are asked for, at least.
        longest: Length of the bar that the first of those missing would need; 0 if there is none.
    """

    region: tuple[int, ...]
    dimension: int
    wanted: int
    longest: float


def repair(
    logits: Logits,
    prior: Prior,
    connectivity: Connectivity = "full",
    *,
    frozen: Mask | None = None,
    min_evidence: float = 0.02,
    min_voxels: float = 0,
    most_changed: int | None = None,
    deadline: float | None = None,
    labels: npt.NDArray[np.integer[Any]] | None = None,
) -> Repair:
    """Gives a label map the topology that is asked for, at a small cost.

    Args:
        logits: (K + 1, *S), channel 0 the background; finite.
        prior: What is asked for, of the rank of S.
        connectivity: Of the foreground.
        frozen: (*S), voxels that keep their label.
        min_evidence: A missing feature is only made from a bar at least so long, in probability.
        min_voxels: Components and holes of constrained regions that are smaller count as defects.
        most_changed: At most so many voxels may differ from the likeliest label map.
        deadline: In the time of `time.perf_counter`.
        labels: (*S), where to start, and where to keep close to; the likeliest label map if None.

    Raises:
        InvalidArray: Logits that are not finite, or whose rank is not the prior's; labels without a channel;
            shapes that differ.

    Example:
        >>> logit = np.array([[5, 4, 3, -3, -3, 1], [4, -1, 4, -3, -3, 2], [5, 3, 4, -3, -3, -3]], np.float32)
        >>> repair(np.stack([np.zeros_like(logit), logit]), Prior.parse("1,0")).labels
        array([[1, 1, 1, 0, 0, 0],
               [1, 1, 1, 0, 0, 0],
               [1, 1, 1, 0, 0, 0]], dtype=uint8)
    """
    logits = _checked(logits, prior)
    until = np.inf if deadline is None else deadline
    most = np.inf if most_changed is None else most_changed
    start = (logits.argmax(0) if labels is None else labels).astype(np.uint8)
    if error_of(start, prior, connectivity, min_voxels) == 0:
        return Repair(start, 0, True)
    if len(logits) > MOST_CHANNELS:
        used, renamed = _in_use(logits, prior, start)
        found_there = repair(
            logits[used],
            renamed,
            connectivity,
            frozen=frozen,
            min_evidence=min_evidence,
            min_voxels=min_voxels,
            most_changed=most_changed,
            deadline=deadline,
            labels=np.searchsorted(used, start),
        )
        return replace(found_there, labels=used[found_there.labels].astype(np.uint8))
    supported = _supported(logits, prior, connectivity, min_evidence)

    def attempt(begin: Labels) -> tuple[int, float, Labels, bool]:
        partition = Partition(begin, logits, supported, connectivity, frozen, most)
        _work(partition, start, min_evidence, min_voxels, until)
        result = partition.labels()
        error = error_of(result, prior, connectivity, min_voxels)
        if not partition.within_limit():
            return error_of(start, prior, connectivity, min_voxels), np.inf, start, False
        return error, partition.cost, result, not partition.held_back

    best = attempt(start)
    for shift in OTHER_STARTS:
        if best[0] == 0 or time.perf_counter() > until or supported != prior:
            break
        unmet = next((c for c in prior.constraints if error_of(best[2], Prior((c,)), connectivity)), None)
        if unmet is None:  # only parts that are too small are left
            break
        other = attempt(_shifted(logits, unmet, shift, start, frozen))
        best = min(best, other, key=lambda result: result[:2])
    error, _, found, free = best
    if error > (given := error_of(start, prior, connectivity, min_voxels)):
        error, found = given, start
    return Repair(found, error, free and time.perf_counter() <= until)


def lacking(
    logits: Logits, prior: Prior, connectivity: Connectivity = "full", min_evidence: float = 0.02
) -> tuple[Lack, ...]:
    """The wanted features that the field shows no sign of: neither are they there, nor is there a bar.

    Args:
        logits: (K + 1, *S), channel 0 the background; finite.
        prior: What is asked for.
        connectivity: Of the foreground.
        min_evidence: Length that a bar needs to be a sign, in probability.

    Example:
        >>> lacking(np.zeros((2, 4, 4), np.float32) - [[[0]], [[9]]], Prior.parse("1,0"))[0].longest < 0.001
        True
    """
    logits, asked = _checked(logits, prior), prior.constraints
    found = betti_of_regions(logits.argmax(0), prior, connectivity)
    wishes = [wish for constraint in asked for wish in constraint.betti]
    if all(wish.low <= count for wish, count in zip(wishes, itertools.chain(*found), strict=True)):
        return ()
    if len(logits) > MOST_CHANNELS:
        used, prior = _in_use(logits, prior, logits.argmax(0))
        logits = logits[used]
    partition = Partition(logits.argmax(0), logits, prior, connectivity)
    lacks = []
    for wanted, constraint, counts in zip(asked, prior.constraints, found, strict=True):
        for dimension, (wish, count) in enumerate(zip(constraint.betti, counts, strict=True)):
            missing = wish.low - count
            if missing <= 0:
                continue
            lengths = [source.length for source in sources(partition, constraint, dimension)][:missing]
            signs = sum(length >= min_evidence for length in lengths)
            if signs < missing:
                longest = lengths[signs] if signs < len(lengths) else 0.0
                lacks.append(Lack(wanted.region, dimension, wish.low, longest))
    return tuple(lacks)


def error_of(
    labels: npt.NDArray[np.integer[Any]],
    prior: Prior,
    connectivity: Connectivity = "full",
    min_voxels: float = 0,
) -> int:
    """How far a label map is from the prior: the Betti error, and one for each part that is too small.

    Example:
        >>> error_of(np.array([[1, 0, 1, 1]]), Prior.parse("1,0"))
        1
        >>> error_of(np.array([[1, 0, 1, 1]]), Prior.parse("2,0"), min_voxels=2)
        1
    """
    found = betti_of_regions(labels, prior, connectivity)
    error = sum(c.error(counts) for c, counts in zip(prior.constraints, found, strict=True))
    return error + sum(1 for _ in small_parts(labels, prior, connectivity, min_voxels))


def _checked(logits: Logits, prior: Prior) -> npt.NDArray[np.float32]:
    """Logits as float32, once it is known that they fit the prior."""
    if logits.ndim - 1 != prior.dimensions:
        raise InvalidArray(f"logits: expected channels and {prior.dimensions} axes, got {logits.shape}")
    with np.errstate(over="ignore"):
        logits = np.asarray(logits, np.float32)
    if not np.isfinite(logits).all():
        raise InvalidArray("logits: expected finite values, got some that are NaN, infinite or too large")
    return logits


def _in_use(
    logits: Logits, prior: Prior, labels: npt.NDArray[np.integer[Any]]
) -> tuple[npt.NDArray[np.intp], Prior]:
    """The channels that are seen or named, two in a mask of 0 and 255, and the prior in terms of these."""
    named = [label for constraint in prior.constraints for label in constraint.region]
    seen = np.union1d(labels, logits.argmax(0))
    used = np.union1d([0, *(label for label in named if label < len(logits))], seen).astype(np.intp)
    places = {int(label): place for place, label in enumerate(used)}
    renamed = [
        replace(
            constraint, region=tuple(places.get(label, len(logits) + label) for label in constraint.region)
        )
        for constraint in prior.constraints
    ]
    return used, Prior(tuple(renamed))


def _work(
    partition: Partition, base: Labels, min_evidence: float, min_voxels: float, deadline: float
) -> None:
    """Makes and takes away in turns, as long as that brings the partition nearer."""
    drop_small(partition, min_voxels)
    best, error = partition.labels(), partition.error + 1
    while 0 < partition.error < error and time.perf_counter() < deadline:
        best, error = partition.labels(), partition.error
        add_features(partition, min_evidence, deadline, min_voxels)
        remove_defects(partition, deadline)
    if partition.error > error:
        partition.restore(best)
    partition.settle(base)
    if min_voxels > 1:
        for constraint in partition.prior.constraints:
            enlarge(partition, constraint, min_voxels)


def _supported(logits: Logits, prior: Prior, connectivity: Connectivity, min_evidence: float) -> Prior:
    """The prior without what there is no evidence for, so that no way is taken to make it up."""
    lacks = {(lack.region, lack.dimension) for lack in lacking(logits, prior, connectivity, min_evidence)}
    constraints = tuple(
        replace(
            constraint,
            betti=tuple(
                Range(0, wish.high) if (constraint.region, dimension) in lacks else wish
                for dimension, wish in enumerate(constraint.betti)
            ),
        )
        for constraint in prior.constraints
    )
    return Prior(constraints) if lacks else prior


def _shifted(
    logits: Logits, constraint: Constraint, shift: float, start: Labels, frozen: Mask | None
) -> Labels:
    """A label map whose region lies above another level than 1/2."""
    members = [k for k in range(1, len(logits)) if not constraint.region or k in constraint.region]
    shifted = logits.copy()
    shifted[members] += shift
    labels = shifted.argmax(0).astype(np.uint8)
    return labels if frozen is None else np.where(frozen, start, labels)
