"""The phases of a training and their epochs: where it is, how fast it learns there, and when it is to stop.

In each phase the learning rate rises shortly and falls along a half cosine; lambda rises over the first
epochs on topology. A phase ends after its epochs, or when its validations have not got better for too long.
"""

import math
from dataclasses import dataclass

from topofix.errors import InvalidCheckpoint
from topofix.learning.training_state import Epoch, PhaseName, TrainingState
from topofix.learning.turns import in_turn
from topofix.records import TrainingOptions

RISE = 0.05
"""Share of a phase in which the learning rate rises."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a training.

    Attributes:
        name: `labels`, or `topology` where unlabelled batches come in between.
        epochs: It has at most.
        learning_rate: The highest in it.
    """

    name: PhaseName
    epochs: int
    learning_rate: float


class Schedule:
    """The way of a training through its phases.

    Args:
        options: Epochs, rates, patience.
        batches: Labelled batches in an epoch.
        with_topology: Whether there are cases whose topology can be learned.

    Attributes:
        phases: The first is on labels; the second, on topology, may be missing.
        index: Of the phase under way.
        begun: Epochs before it.
        history: Every epoch that is over.
        done: Labelled batches behind it in the epoch under way.
    """

    def __init__(self, options: TrainingOptions, batches: int, *, with_topology: bool) -> None:
        self.phases = [Phase("labels", options.epochs, options.learning_rate)]
        if with_topology and options.topology_weight and options.topology_epochs:
            self.phases.append(Phase("topology", options.topology_epochs, options.topology_learning_rate))
        self.index, self.begun, self.done = 0, 0, 0
        self.history: list[Epoch] = []
        self._options, self._batches = options, batches

    @property
    def phase(self) -> Phase:
        """The phase under way."""
        return self.phases[self.index]

    @property
    def number(self) -> int:
        """Epochs over so far."""
        return len(self.history)

    @property
    def is_due(self) -> bool:
        """Whether the epoch that has just had its batches is to be validated."""
        return self._is_due(self.number + 1 - self.begun)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        steps = self.phase.epochs * self._batches
        place = ((self.number - self.begun) * self._batches + self.done + 0.5) / steps
        rising = max(1 / steps, RISE)
        share = (
            place / rising
            if place < rising
            else (1 + math.cos(math.pi * (place - rising) / (1 - rising))) / 2
        )
        return self.phase.learning_rate * share

    @property
    def topology_weight(self) -> float:
        """Lambda in the epoch under way."""
        epoch = self.number + 1 - self.begun
        return self._options.topology_weight * min(1.0, epoch / max(1, self._options.warm_up))

    def phase_is_over(self, best_epoch: int) -> bool:
        """Whether the phase has had its epochs, or too many since its best validation."""
        count = self.number - self.begun
        patience = self.number - max(best_epoch, self.begun) >= self._options.patience
        validated = count > 0 and self._is_due(count)
        return count >= self.phase.epochs or (validated and patience)

    def remaining(self, seconds: float) -> float:
        """Estimated seconds to go after so many, should no phase end early."""
        total = sum(phase.epochs for phase in self.phases[self.index :]) * self._batches
        into = (self.number - self.begun) * self._batches + self.done
        over = sum(epoch.steps for epoch in self.history) + self.done
        return seconds / max(1, over) * (total - into)

    def enter(self, index: int) -> None:
        """Begins a phase."""
        self.index, self.begun = index, self.number

    def close(self, epoch: Epoch) -> None:
        """Ends the epoch under way."""
        self.history.append(epoch)
        self.done = 0

    @in_turn()
    def restore(self, state: TrainingState) -> None:
        """Goes to where a state was saved.

        Raises:
            InvalidCheckpoint: That is a phase which this training does not have.
        """
        if state.phase >= len(self.phases):
            raise InvalidCheckpoint(
                "--resume: expected a training of the same request to go on with, found a state in its phase "
                f"'{state.history[-1].phase}', now there is only '{self.phases[-1].name}'"
            )
        self.index, self.begun, self.history = state.phase, state.begun, list(state.history)

    def _is_due(self, count: int) -> bool:
        return count % self._options.validate_every == 0 or count == self.phase.epochs
