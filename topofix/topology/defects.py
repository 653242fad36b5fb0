"""What a region has too much of, and the cheapest ways to be rid of it.

    too many              by taking away         by adding
    components            remove                 bridge
    holes, cavities       drill to the outside   fill
    tunnels (3-D)         cut the handle         close with a sheet

Removing and filling are priced by adding up; the other ways come from homotopic sweeps
(`native/partition.hpp`), which look where the barcode says that features begin and end. All moves compete,
and the one with the lowest price per defect goes first. Levels of price rise: what costs more than the level
has to wait, for the next level may know a way that is cheaper: whatever has not been found yet has a voxel
that costs more than the level. Near by comes first, too, since most defects are small and a sweep over
everything is not.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from topofix.topology.partition import Indices, Mask, Move, Partition
from topofix.topology.persistence import NEVER, barcode
from topofix.topology.priors import Constraint
from topofix.topology.regions import region_mask
from topofix.topology.sizes import parts

LEVELS = {
    2: ((1.0, 8), (4.0, 16), (16.0, 32), (np.inf, -1)),
    3: ((1.0, 4), (4.0, 5), (16.0, 8), (64.0, 12), (256.0, 32), (np.inf, -1)),
}
"""By rank: the highest price of a move, and how far from the ends of bars sweeps look; -1: everywhere."""

_NOWHERE: Indices = np.empty(0, np.int64)


def remove_defects(partition: Partition, deadline: float) -> None:
    """Brings a partition nearer to what is asked of it, as far as something is too many.

    Args:
        partition: Is changed; its error never grows.
        deadline: In the time of `time.perf_counter`.
    """
    for limit, radius in LEVELS[len(partition.shape)]:
        before = partition.error + 1
        while 0 < partition.error < before and time.perf_counter() < deadline:
            before = partition.error
            moves = [move for move in _moves(partition, limit, radius, deadline) if move.cost <= limit]
            _apply(partition, moves, deadline)
            if radius >= 0:
                break  # the next level finds what is left, and more


def _apply(partition: Partition, moves: Sequence[Move], deadline: float) -> None:
    """Makes the moves that bring the whole nearer, the cheapest per defect first."""
    now, error = partition.labels().ravel(), partition.error
    rated = []
    for number, move in enumerate(moves):
        if time.perf_counter() > deadline:
            break
        partition.change(move.voxels, move.labels)
        if partition.error < error:
            rated.append((move.cost / (error - partition.error), number))
        partition.change(move.voxels, now[move.voxels])
    for _, number in sorted(rated):
        if partition.error == 0 or time.perf_counter() > deadline:
            break
        partition.attempt(moves[number], now)


def _moves(partition: Partition, limit: float, radius: int, deadline: float) -> Iterator[Move]:
    labels = partition.labels()
    for index, (constraint, counts) in enumerate(
        zip(partition.prior.constraints, partition.betti, strict=True)
    ):
        if constraint.error(counts) == 0:
            continue
        mask = region_mask(labels, constraint.region)
        for dimension, inside in ((0, True), (mask.ndim - 1, False)):
            if dimension in _too_many(constraint, counts):
                yield from _whole_parts(partition, constraint, mask, inside, limit)
        births, deaths = _ends(partition, constraint, counts) if radius >= 0 else (_NOWHERE, _NOWHERE)
        ways = [(True, True), (False, True)]  # growing and shrinking, short ways first
        if radius < 0:
            ways += [(True, False), (False, False)]

        def sweep(
            way: tuple[bool, bool], index: int = index, ends: tuple[Indices, Indices] = (births, deaths)
        ) -> list[Move]:
            grow, spreading = way
            centres = ends[1] if grow else ends[0]
            seconds = deadline - time.perf_counter()
            return list(partition.sweep(index, grow, limit, spreading, seconds, centres, radius))

        with ThreadPoolExecutor(len(ways)) as pool:
            yield from itertools.chain.from_iterable(pool.map(sweep, ways))


def _too_many(constraint: Constraint, counts: Sequence[int]) -> list[int]:
    """The dimensions in which a region has more features than it may."""
    wishes = zip(constraint.betti, counts, strict=True)
    return [k for k, (wish, count) in enumerate(wishes) if wish.high is not None and count > wish.high]


def _ends(partition: Partition, constraint: Constraint, counts: Sequence[int]) -> tuple[Indices, Indices]:
    """Where features begin and end, in the dimensions that have too many: flat indices of voxels."""
    field = partition.field(constraint)
    inside = field.ravel() > 0
    bars = barcode(field, partition.connectivity)
    essential = bars.death == NEVER
    there = inside[bars.birth] & (essential | ~inside[bars.death])
    there &= np.isin(bars.dimension, _too_many(constraint, counts))
    return bars.birth[there], bars.death[there & ~essential]


def _whole_parts(
    partition: Partition, constraint: Constraint, mask: Mask, inside: bool, limit: float
) -> Iterator[Move]:
    """Components to remove, or holes to fill: with the likeliest label of each voxel, or with one for all."""
    labels, costs = partition.cheapest(constraint, not inside)
    choices = partition.side(constraint, not inside)
    for part in parts(mask, inside, partition.connectivity):
        if costs[part].sum() > limit:
            continue
        yield partition.move(part, labels[part])
        if len(choices) > 1:
            for label in choices:
                yield partition.move(part, np.full(len(part), label, np.uint8))
