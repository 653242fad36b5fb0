r"""What a correction did to each region, feature by feature: the rows of a Record.

Between the mask before and the mask after lies a growing sequence of masks, in which every component, hole
and void that appears or vanishes does so at one voxel; which bar of the probability field it was is read off
that sequence, too.

    before           after            what was gained, from the most probable voxel on
    # # # . .        # # # . .        . . . . .
    # . # . #        # # # # #        . 2 . 1 .      1 joins two components: one was removed there
    # # # . .        # # # . .        . . . . .      2 fills the hole: it was removed there

* A region that only gains: H(before) -> H(after). What maps to zero was *removed*, what is new was *added*.
  The voxels gained are put in from the most probable on, as a falling threshold would; the one that ends or
  makes a feature is its place. A region that only loses is the same backwards.
* A region that does both goes through the union of the masks or through what they share, whichever needs
  fewer features. A thin wall that moves by a voxel is then neither opened nor closed.
* So the features added, less those removed, are the change of the Betti numbers, in every dimension.
* Bars: above 1/2 the sequence of a gain is the field's own superlevel filtration, hence a removed feature
  has the birth voxel of its bar; below 1/2 that of a loss is, hence the death voxel. Where gains and losses
  mix, and for what was added, it is the bar whose critical voxel lies in the piece, the nearest to the place.

Reference: Edelsbrunner and Harer, "Computational Topology", AMS 2010, chapter VII (pairs of a filtration).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray
from topofix.topology.persistence import NEVER, Barcode, Connectivity, barcode
from topofix.topology.priors import FOREGROUND, Prior
from topofix.topology.regions import Labels, Mask, region_mask

Logits = npt.NDArray[np.floating[Any]]
Margin = npt.NDArray[np.float64]
Pieces = npt.NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Change:
    """A feature that a region gained or lost, or a piece of its shape that changed without any.

    Attributes:
        region: The region, as the prior names it.
        dimension: 0 a component, 1 a hole or tunnel, 2 a void; None where no feature changed.
        kind: `removed` or `added`; `changed` where no feature did.
        birth: Probability at which the feature's bar is born in the field before; None where no bar fits.
        death: That at which it dies; 0 for an essential bar.
        voxel: Where the feature was made or ended; of mere shape, the voxel nearest to the piece's centre.
        voxels: Voxels of the connected piece that flipped. Where it did several things, each voxel counts for
            the nearest place, and at one place for the first of them, which leaves none for the others. So
            the rows of a region add up to all that flipped in it.
        gained: Whether the region gained these voxels; otherwise it lost them.
    """

    region: tuple[int, ...]
    dimension: int | None
    kind: Literal["removed", "added", "changed"]
    birth: float | None
    death: float | None
    voxel: tuple[int, ...]
    voxels: int
    gained: bool


def explain(
    before: Labels, after: Labels, logits: Logits, prior: Prior, connectivity: Connectivity = "full"
) -> tuple[Change, ...]:
    """The changes of every region that a prior constrains, from one label map to another.

    Args:
        before: Label map, (*S).
        after: The corrected one, (*S).
        logits: The field before, (K + 1, *S), channel 0 the background; finite.
        prior: Names the regions.
        connectivity: Of the foreground.

    Returns:
        Region by region in the prior's order; features first, by dimension and place, then mere shape.

    Raises:
        InvalidArray: The shapes differ, or a region names a label that has no channel.

    Example:
        >>> p = np.array([[0.9, 0.8, 0.9, 0.2, 0.1], [0.8, 0.3, 0.7, 0.4, 0.6], [0.9, 0.8, 0.9, 0.2, 0.1]])
        >>> filled = (p > 0.5).astype(int)
        >>> filled[1, 1] = filled[1, 3] = 1
        >>> logits = np.stack([np.log(1 - p), np.log(p)])
        >>> for row in explain((p > 0.5).astype(int), filled, logits, Prior.parse("1,0")):
        ...     print(row.kind, row.dimension, f"{row.birth:.1f} to {row.death:.1f}", row.voxel, row.voxels)
        removed 0 0.6 to 0.4 (1, 3) 1
        removed 1 0.7 to 0.3 (1, 1) 1
    """
    if not before.shape == after.shape == logits.shape[1:]:
        raise InvalidArray(
            f"expected label maps and logits of one shape, got {before.shape}, {after.shape} "
            f"and {logits.shape[1:]}"
        )
    changes: list[Change] = []
    for constraint in prior.constraints:
        old, new = region_mask(before, constraint.region), region_mask(after, constraint.region)
        if (old != new).any():
            margin = _margin(logits, constraint.region)
            changes += _changes_of_region(constraint.region, old, new, margin, connectivity)
    return tuple(changes)


def _changes_of_region(
    region: tuple[int, ...], old: Mask, new: Mask, margin: Margin, connectivity: Connectivity
) -> list[Change]:
    features = _fewest_features(old, new, margin, connectivity)
    pieces, sizes = _pieces(old, new)
    rows: list[Change] = []
    if len(features):
        ends = _bars_of(features, pieces, margin, connectivity)
        shares = _shares(features.place, pieces, sizes)
        positions = _positions(features.place, old.shape)
        for k, (birth, death) in enumerate(ends):
            kind: Literal["removed", "added"] = "removed" if features.removed[k] else "added"
            voxel = tuple(positions[k].tolist())
            gained, dimension = bool(new[voxel]), int(features.dimension[k])
            rows.append(Change(region, dimension, kind, birth, death, voxel, shares[k], gained))
        rows.sort(key=lambda row: (row.dimension, row.voxel))
    for piece, voxel in _shapes(pieces, features.place):
        gained = bool(new[voxel])
        rows.append(Change(region, None, "changed", None, None, voxel, int(sizes[piece]), gained))
    return rows


def _margin(logits: Logits, region: tuple[int, ...]) -> Margin:
    """How far the region's best label is ahead of all others: the logit of its probability, (*S)."""
    channels = len(logits)
    inside = list(range(1, channels)) if region == FOREGROUND else list(region)
    if max(inside) >= channels:
        raise InvalidArray(f"expected labels 1 to {channels - 1}, got a prior for label {max(inside)}")
    outside = [label for label in range(channels) if label not in inside]
    ours, others = (np.max([logits[label] for label in labels], axis=0) for labels in (inside, outside))
    # In float64 the differences of float32 logits stay distinct, whatever is added to them later.
    margin: Margin = np.subtract(ours, others, dtype=np.float64)
    return margin


# --- Features -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Features:
    """What was removed and added between two masks; all arrays (n,), voxels as flat C-order indices.

    Attributes:
        dimension: Of each feature.
        removed: Whether it was removed; otherwise it was added.
        at_death: Whether it is the death of its bar that was reached, by a gain, or taken back, by a loss;
            otherwise it is the birth.
        place: The voxel gained or lost by which it happened.
        other: The other end of the feature's bar in the sequence of masks.
    """

    dimension: npt.NDArray[np.int8]
    removed: Mask
    at_death: Mask
    place: npt.NDArray[np.int64]
    other: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.place)


def _fewest_features(old: Mask, new: Mask, margin: Margin, connectivity: Connectivity) -> _Features:
    """From one mask to another by the union of both or by what they share, whichever makes fewer."""
    ways = []
    for middle in (old | new, old & new):
        steps = [(a, b) for a, b in ((old, middle), (middle, new)) if (a != b).any()]
        parts = [_features(a, b, margin, connectivity) for a, b in steps]
        ways.append(
            _Features(
                np.concatenate([part.dimension for part in parts]),
                np.concatenate([part.removed for part in parts]),
                np.concatenate([part.at_death for part in parts]),
                np.concatenate([part.place for part in parts]),
                np.concatenate([part.other for part in parts]),
            )
        )
        if len(parts) == 1 or len(ways[0]) == _net(ways[0]):  # the same either way, or as few as can be
            break
    return min(ways, key=len)


def _net(features: _Features) -> int:
    """By how much the Betti numbers change, all dimensions together: no way makes fewer features."""
    changes = np.bincount(features.dimension, np.where(features.removed, -1, 1))
    return int(np.abs(changes).sum())


def _features(start: Mask, end: Mask, margin: Margin, connectivity: Connectivity) -> _Features:
    """Those of a mere gain or a mere loss.

    Three levels, so far apart that every bar from one to another is longer than any within: the smaller mask,
    then what the larger one has besides, then the rest; within each the order is the field's own.
    """
    gains = bool(end[start].all())
    smaller, larger = (start, end) if gains else (end, start)
    values = margin - margin.min()
    step = values.max() + 1
    values[larger] += 2 * step
    values[smaller] += 2 * step
    bars = barcode(values, connectivity, min_persistence=step)
    born_in_smaller, born_in_larger = smaller.flat[bars.birth], larger.flat[bars.birth]
    dies_in_larger = (bars.death != NEVER) & larger.flat[bars.death]
    at_death = born_in_smaller & dies_in_larger
    chosen = at_death | (born_in_larger & ~born_in_smaller & ~dies_in_larger)
    at_death, birth, death = at_death[chosen], bars.birth[chosen], bars.death[chosen]
    place, other = np.where(at_death, (death, birth), (birth, death))
    return _Features(bars.dimension[chosen], at_death == gains, at_death, place, other)


# --- Bars ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    """The bars that features of one dimension and one fate may have been.

    Attributes:
        features: Numbers of these features, (n,).
        removed: Whether they were removed.
        bars: Numbers of the bars, (m,), longest first.
        other: The end of each bar that the change did not touch, (m,).
        piece: The piece that the end lies in which it did, or 0, (m,).
        position: Coordinates of that end, (m, rank).
    """

    features: npt.NDArray[np.int64]
    removed: bool
    bars: npt.NDArray[np.int64]
    other: npt.NDArray[np.int64]
    piece: npt.NDArray[np.integer]
    position: npt.NDArray[np.int64]


def _bars_of(
    features: _Features, pieces: Pieces, margin: Margin, connectivity: Connectivity
) -> list[tuple[float, float] | tuple[None, None]]:
    """Probabilities at which the bar of each feature is born and dies; no bar is taken twice.

    A removed feature was a bar alive at 1/2: the one with the same other end, else one whose critical voxel
    lies in the piece, else the nearest. An added one was no such bar, and only the second will do.
    """
    bars = barcode(margin, connectivity)
    groups = _candidates(features, bars, pieces, margin)
    places = _positions(features.place, margin.shape)
    free = np.ones(len(bars), bool)
    chosen: list[int | None] = [None] * len(features)
    for wanted in ("other end", "piece", "nearest"):
        for group in groups:
            if not group.removed and wanted != "piece":
                continue
            for k in group.features.tolist():
                if chosen[k] is not None:
                    continue
                left = free[group.bars]
                if wanted == "other end":
                    left &= group.other == features.other[k]
                elif wanted == "piece":
                    left &= group.piece == pieces.flat[features.place[k]]
                fitting = np.flatnonzero(left)
                if len(fitting):
                    distances = np.square(group.position[fitting] - places[k]).sum(1)
                    bar = int(group.bars[fitting[distances.argmin()]])
                    chosen[k], free[bar] = bar, False
    births, deaths = (0.5 * (1 + np.tanh(0.5 * ends)) for ends in bars.values(margin))
    deaths[bars.death == NEVER] = 0
    return [(None, None) if bar is None else (float(births[bar]), float(deaths[bar])) for bar in chosen]


def _candidates(features: _Features, bars: Barcode, pieces: Pieces, margin: Margin) -> list[_Candidates]:
    births, deaths = bars.values(margin)
    above = births > 0
    ended = (bars.death != NEVER) & (deaths > 0)
    fates = np.stack([features.dimension, features.removed, features.at_death], axis=1)  # (n, 3)
    groups = []
    for dimension, removed, at_death in np.unique(fates, axis=0).tolist():
        alike = np.flatnonzero((fates == (dimension, removed, at_death)).all(1))
        fate = above & ~ended if removed else ended if at_death else ~above
        critical, other = (bars.death, bars.birth) if at_death else (bars.birth, bars.death)
        fitting = np.flatnonzero(fate & (bars.dimension == dimension) & (critical != NEVER))
        piece = pieces.flat[critical[fitting]]
        if not removed:
            fitting, piece = fitting[piece > 0], piece[piece > 0]
        position = _positions(critical[fitting], margin.shape)
        groups.append(_Candidates(alike, bool(removed), fitting, other[fitting], piece, position))
    return groups


def _positions(voxels: npt.NDArray[np.int64], shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Coordinates (n, rank) of flat indices (n,)."""
    return np.stack(np.unravel_index(voxels, shape), axis=1).astype(np.int64, copy=False)


# --- Pieces -------------------------------------------------------------------------------------------------


def _pieces(old: Mask, new: Mask) -> tuple[Pieces, npt.NDArray[np.int64]]:
    """Connected pieces of what was gained, and of what was lost: their numbers from 1 on, (*S), and sizes."""
    from scipy import ndimage  # imported late, like all that is heavy: the command line answers at once

    neighbourhood = np.ones((3,) * old.ndim)
    pieces, gained = ndimage.label(new & ~old, neighbourhood)
    lost, _ = ndimage.label(old & ~new, neighbourhood)
    pieces[lost > 0] = lost[lost > 0] + gained
    return pieces, np.bincount(pieces.ravel())


def _shares(places: npt.NDArray[np.int64], pieces: Pieces, sizes: npt.NDArray[np.int64]) -> list[int]:
    """How many voxels of its piece lie nearest to each place; of several equal places the first has them."""
    from scipy import ndimage, spatial

    of_piece = pieces.flat[places]
    shares = sizes[of_piece]
    found, counts = np.unique(of_piece, return_counts=True)
    boxes = ndimage.find_objects(pieces)
    for piece in found[counts > 1].tolist():
        box = boxes[piece - 1]
        corner = [side.start for side in box]
        voxels = np.argwhere(pieces[box] == piece) + corner
        sharing = np.flatnonzero(of_piece == piece)
        tree = spatial.cKDTree(_positions(places[sharing], pieces.shape))
        _, nearest = tree.query(voxels)
        shares[sharing] = np.bincount(nearest, minlength=len(sharing))
    return list(map(int, shares))


def _shapes(pieces: Pieces, places: npt.NDArray[np.int64]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Pieces in which no feature changed, each with its voxel nearest to its centre of mass."""
    from scipy import ndimage

    with_features = set(pieces.flat[places].tolist())
    for piece, box in enumerate(ndimage.find_objects(pieces), 1):
        if piece not in with_features:
            voxels = np.argwhere(pieces[box] == piece) + [side.start for side in box]
            centre = np.square(voxels - voxels.mean(0)).sum(1).argmin()
            yield piece, tuple(voxels[centre].tolist())
