"""The descent on Eq. 5 that both refinement stages share, and the best state that it has come through."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from topofix.learning.boxes import Box, box_around
from topofix.learning.loss import evaluate
from topofix.topology.persistence import Connectivity
from topofix.topology.priors import FOREGROUND, Prior

NEGLIGIBLE = 0.01
"""Voxels whose probability is below this lie outside the box that barcodes are computed in."""

MARGIN = 8
"""Voxels added around that box on every side, so that pieces have room to grow."""

OnStep = Callable[[int, tuple[tuple[int, ...], ...]], None]
"""Told after each look at a prediction: steps taken, and the Betti numbers of every constraint."""


def unheard(steps: int, betti: tuple[tuple[int, ...], ...]) -> None:
    """Tells nobody."""


End = Literal["met", "steps", "deadline", "outgrown", "diverged"]
"""Why a descent ended: the prior is met, all steps are taken, time is up, a region has reached the edge of
its box, or a step led to numbers that are not finite."""


class Best:
    """The best state seen: smallest Betti error first, then fewest voxels whose label changed."""

    def __init__(self, start: Tensor) -> None:
        self.start = start
        self.box: Box = (slice(None),)
        self.part = start
        self.error: float = math.inf
        self._labels = labels_of(start)
        self._changed = 0

    def offer(self, part: Tensor, error: int, box: Box = (slice(None),)) -> None:
        """Keeps a state if it is better: logits (C, *S) of a box, outside of which all is as it was."""
        if error > self.error:
            return
        changed = int((labels_of(part) != self._labels[box[1:]]).sum())
        if (error, changed) < (self.error, self._changed):
            self.box, self.part = box, part.detach().clone()
            self.error, self._changed = error, changed

    @property
    def logits(self) -> Tensor:
        """The best state, (C, *S)."""
        whole = self.start.clone()
        whole[self.box] = self.part
        return whole


@dataclass(slots=True, eq=False)
class Descent:
    """Steps on Eq. 5, over whatever a prediction depends on; of bars that are not wanted, those shown count.

    V of Eq. 5 is that of a box twice as long, along every axis, as the prior's regions are at the start. So
    lambda means the same whatever the size and the resolution of the image, and where it is 1, even taking
    away all there is pays.

    Attributes:
        prior: The topology that is asked for.
        connectivity: Of the foreground.
        topology_weight: lambda.
        best: The best state so far, and the one that changes are measured from.
        temperature: Logits are divided by this before they become probabilities.
        deadline: On the clock of `time.perf_counter`; no step begins after it.
        on_step: Told how it goes.
        steps: Taken so far.
    """

    prior: Prior
    connectivity: Connectivity
    topology_weight: float
    best: Best
    temperature: float = 1.0
    deadline: float | None = None
    on_step: OnStep = unheard
    steps: int = 0
    _volume: int = field(init=False)

    def __post_init__(self) -> None:
        box = box_around(is_likely(self._probabilities(self.best.start), self.prior), 0)
        self._volume = math.prod(2 * (part.stop - part.start) for part in box)

    def run(
        self,
        predict: Callable[[], Tensor],
        optimiser: torch.optim.Optimizer,
        last_step: int,
        outgrown: Callable[[Tensor], bool],
        box: Box = (slice(None),),
    ) -> End:
        """Takes steps until there is a reason to stop.

        Args:
            predict: The logits of the box, (C, *S), as they depend on what the optimiser moves.
            optimiser: Moves it.
            last_step: When so many steps are taken in all, no more are.
            outgrown: Whether a region, in such logits, has reached an edge of what `predict` can change.
            box: Channels and axes of the whole that `predict` is about.
        """
        before = self._probabilities(self.best.start[box])
        while True:
            logits = predict()
            probabilities = self._probabilities(logits)
            change = (probabilities - before).square().sum() / self._volume
            if self.steps and not torch.isfinite(change):
                return "diverged"
            crop = box_around(is_likely(probabilities.detach(), self.prior), MARGIN)
            topology = evaluate(
                probabilities[(slice(None), *crop)], self.prior, self.connectivity, shown_only=True
            )
            self.best.offer(logits, topology.error, box)
            self.on_step(self.steps, topology.betti)
            if topology.error == 0:
                return "met"
            if self.steps >= last_step:
                return "steps"
            if self.deadline is not None and time.perf_counter() >= self.deadline:
                return "deadline"
            if outgrown(logits.detach()):
                return "outgrown"
            optimiser.zero_grad(set_to_none=True)
            (change + self.topology_weight * topology.loss).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            self.steps += 1

    def _probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits / self.temperature if self.temperature != 1 else logits, 0)


def labels_of(logits: Tensor) -> Tensor:
    """The label map (*S) of logits (C, *S); of equal logits the first counts.

    `argmax` says the same, ten times slower on a CPU.

    Example:
        >>> labels_of(torch.tensor([[0.0, 1.0], [2.0, 1.0]])).tolist()
        [1, 0]
    """
    return logits.max(0).indices


def is_likely(probabilities: Tensor, prior: Prior) -> Tensor:
    """Where the regions of a prior are not negligible: (*S), boolean, from probabilities (C, *S).

    Example:
        >>> probabilities = torch.tensor([[0.9, 0.995, 0.0], [0.1, 0.005, 0.0], [0.0, 0.0, 1.0]])
        >>> is_likely(probabilities, Prior.parse("1:1,0")).tolist()
        [True, False, False]
    """
    labels = prior_labels(prior, len(probabilities))
    return probabilities[labels].sum(0) > NEGLIGIBLE


def prior_labels(prior: Prior, channels: int) -> list[int]:
    """The labels that a prior is about, of those that have a channel.

    Example:
        >>> prior_labels(Prior.parse("1,0"), 4)
        [1, 2, 3]
        >>> prior_labels(Prior.parse("2:1,0 2+3:1,0"), 4)
        [2, 3]
    """
    labels: set[int] = set()
    for constraint in prior.constraints:
        labels |= set(range(1, channels) if constraint.region == FOREGROUND else constraint.region)
    return sorted(label for label in labels if label < channels)
