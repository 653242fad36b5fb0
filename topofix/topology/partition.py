"""A label map that is being repaired: what each change costs, and what it does to every Betti number.

The work is done by `native/partition.hpp`, which says how; here are the moves in terms of arrays. A cost is
what the label map loses in log-probability: the sum, over voxels whose label is not the likeliest, of the
difference between the largest logit and that of the label. With one label that is the sum of |logit| over
flipped voxels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray
from topofix.topology import _kernel
from topofix.topology.persistence import Connectivity, betti
from topofix.topology.priors import Constraint, Prior
from topofix.topology.regions import region_mask

Labels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Costs = npt.NDArray[np.float32]

MOST_CHANNELS, MOST_CONSTRAINTS = 254, 64

_UNHEARD_OF = 1e4
"""What a region without any label costs, everywhere; no logits are so far apart."""

_TINY = np.float32(1e-6)
_NO_PLACES: Indices = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Move:
    """Voxels that get other labels, together.

    Attributes:
        voxels: C-order flat indices, (n,).
        labels: The labels they get, (n,).
        cost: Of these labels in these voxels.
    """

    voxels: Indices
    labels: Labels
    cost: float


class Partition:
    """A label map whose Betti numbers are known after every change.

    Args:
        labels: (*S), where the repair starts.
        logits: (K + 1, *S) float32, channel 0 the background.
        prior: What is asked for.
        connectivity: Of the foreground.
        frozen: (*S), voxels that keep their label.
        most_changed: How many voxels may have another label than the likeliest.

    Raises:
        InvalidArray: More channels or constraints than there is room for, labels without a channel, shapes
            that differ.
    """

    def __init__(
        self,
        labels: npt.NDArray[np.integer[Any]],
        logits: npt.NDArray[np.floating[Any]],
        prior: Prior,
        connectivity: Connectivity = "full",
        frozen: Mask | None = None,
        most_changed: float = np.inf,
    ) -> None:
        if len(logits) > MOST_CHANNELS:
            raise InvalidArray(f"logits: expected at most {MOST_CHANNELS} channels, got {len(logits)}")
        if len(prior.constraints) > MOST_CONSTRAINTS:
            raise InvalidArray(
                f"prior: expected at most {MOST_CONSTRAINTS} constraints, got {len(prior.constraints)}"
            )
        for name, array in (("labels", labels), ("frozen", frozen)):
            if array is not None and array.shape != logits.shape[1:]:
                raise InvalidArray(f"{name}: expected the shape {logits.shape[1:]}, got {array.shape}")
        if not 0 <= labels.min() <= labels.max() < len(logits):
            raise InvalidArray(
                f"labels: expected 0 to {len(logits) - 1}, got {labels.min()} to {labels.max()}"
            )
        self.prior, self.connectivity, self.shape = prior, connectivity, labels.shape
        self.most_changed, self.held_back = most_changed, False
        self._frozen = frozen
        self._likeliest = logits.argmax(0).ravel()
        self.costs: Costs = np.ascontiguousarray(logits.max(0) - logits, np.float32).reshape(len(logits), -1)
        self._sides: dict[tuple[tuple[int, ...], bool], tuple[Labels, Costs]] = {}
        wishes = []
        for constraint in prior.constraints:
            found = betti(region_mask(labels, constraint.region), connectivity)
            high = [-1 if wish.high is None else wish.high for wish in constraint.betti]
            low = [wish.low for wish in constraint.betti]
            wishes.append([*low, *high, *found, *self.members(constraint)])
        native = _kernel.Partition2 if labels.ndim == 2 else _kernel.Partition3
        self._native = native(
            np.ascontiguousarray(labels, np.uint8),
            self.costs,
            None if frozen is None else np.ascontiguousarray(frozen, np.bool_).view(np.uint8),
            wishes,
            connectivity == "face",
        )

    def members(self, constraint: Constraint) -> list[int]:
        """The labels of a region, as far as they have a channel."""
        return [k for k in range(1, len(self.costs)) if not constraint.region or k in constraint.region]

    @property
    def error(self) -> int:
        """Sum of the distances between Betti numbers and what is asked for."""
        return self._native.error()

    @property
    def betti(self) -> list[list[int]]:
        """Betti numbers by constraint and dimension."""
        return self._native.betti()

    @property
    def changed(self) -> int:
        """How many voxels have another label than the likeliest."""
        return int(np.count_nonzero(self._native.labels() != self._likeliest))

    @property
    def cost(self) -> float:
        """Of the label map as it is now."""
        labels = self._native.labels()
        differ = np.flatnonzero(labels != self._likeliest)
        return float(self.costs[labels[differ], differ].sum(dtype=np.float64))

    def labels(self) -> Labels:
        """The label map as it is now, (*S)."""
        return self._native.labels().reshape(self.shape)

    def change(self, voxels: Indices, labels: Labels) -> None:
        """Gives voxels other labels; those that are frozen keep theirs."""
        self._native.change(np.ascontiguousarray(voxels, np.int64), np.ascontiguousarray(labels, np.uint8))

    def attempt(self, move: Move, now: Labels) -> bool:
        """Makes a move if that brings the whole nearer and does not change too much; whether it did.

        Args:
            move: What to try.
            now: The labels as they are, (voxels,); changed along with them.
        """
        before, old = self.error, now[move.voxels]
        self.change(move.voxels, move.labels)
        if self.error < before and self.within_limit():
            now[move.voxels] = move.labels
            return True
        self.change(move.voxels, old)
        return False

    def within_limit(self) -> bool:
        """Whether no more voxels are changed than may be; that it was not is remembered in `held_back`."""
        within = self.most_changed == np.inf or self.changed <= self.most_changed
        self.held_back |= not within
        return within

    def restore(self, labels: Labels) -> None:
        """Goes back to a label map as it was before, in all voxels."""
        differ = np.flatnonzero(self.labels() != labels)
        self.change(differ, labels.ravel()[differ])

    def settle(self, labels: Labels) -> None:
        """Takes back what differs from a label map, dearest first, wherever no Betti number changes."""
        self._native.settle_to(np.ascontiguousarray(labels))

    def freeze(self, voxels: Indices) -> None:
        """Has voxels keep the labels that they have now."""
        self._native.freeze(np.ascontiguousarray(voxels, np.int64))

    def is_frozen(self, voxels: Indices) -> bool:
        """Whether any of some voxels was given as frozen."""
        return self._frozen is not None and bool(self._frozen.flat[voxels].any())

    def cheapest(self, constraint: Constraint, inside: bool) -> tuple[Labels, Costs]:
        """The cheapest label of each voxel inside of a region, or outside, and its cost: (voxels,) each."""
        key = (constraint.region, inside)
        if key not in self._sides:
            labels = self.side(constraint, inside)
            costs = self.costs[labels] if labels else np.full_like(self.costs[:1], _UNHEARD_OF)
            self._sides[key] = np.array(labels or [0], np.uint8)[costs.argmin(0)], costs.min(0)
        return self._sides[key]

    def side(self, constraint: Constraint, inside: bool) -> list[int]:
        """The labels inside of a region, or outside."""
        members = self.members(constraint)
        return members if inside else [k for k in range(len(self.costs)) if k not in members]

    def field(self, constraint: Constraint) -> Costs:
        """By how much a region's largest logit exceeds that of all else, (*S), above 0 exactly in the region.

        Where the label map is not the likeliest, its voxels come last of all inside, or first of all outside.
        """
        mask = region_mask(self.labels(), constraint.region)
        inside, outside = self.cheapest(constraint, True)[1], self.cheapest(constraint, False)[1]
        logit = (outside - inside).reshape(self.shape)
        field: Costs = np.where(mask, np.maximum(logit, _TINY), np.minimum(logit, -_TINY))
        return field

    def move(self, voxels: Indices, labels: Labels) -> Move:
        """A move with its price."""
        return Move(voxels, labels, float(self.costs[labels, voxels].sum(dtype=np.float64)))

    def sweep(
        self,
        index: int,
        grow: bool,
        limit: float,
        spreading: bool,
        seconds: float,
        centres: Indices = _NO_PLACES,
        radius: int = -1,
    ) -> Iterator[Move]:
        """Moves that bring one constraint's region nearer to what is asked, by growing it or by shrinking it.

        Args:
            index: Of the constraint.
            grow: Whether the region grows.
            limit: No voxel that is changed costs more.
            spreading: Prefer short ways, whose costs are added up, to ways whose dearest voxel is cheapest.
            seconds: The sweep stops after so many.
            centres: Flat indices of voxels around which to look; ignored if the radius is negative.
            radius: In voxels along each axis.
        """
        for voxels, labels in self._native.sweep(index, grow, limit, spreading, centres, radius, seconds):
            yield self.move(voxels, labels)
