"""Training of a U-net: on labels first, then on labels and topology in turn (Eq. 6).

    labels      batch, batch, batch, ...                          L_Dice, until its validation stops improving
    topology    batch, unlabelled batch, batch, unlabelled, ...   L_Dice and lambda L_topo in turn

Read from top to bottom: `train` goes through the phases and their epochs, `_Run` holds what changes on the
way. The weights that are validated and kept are a running average of those that the optimiser moves. After
every epoch that is due the cases held back are segmented whole, and the best state is kept: by mean Dice, and
where there are priors by Dice and topology. A training whose loss or weights are no longer finite ends before
any of that.

Source of Eq. 6 and of the phases: Clough et al., TPAMI 2020.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from topofix.errors import InvalidOption
from topofix.learning import weights
from topofix.learning.batches import Batches, padded, pieces
from topofix.learning.dataset import Case
from topofix.learning.distributed import ALONE, World
from topofix.learning.loss import evaluate_batch
from topofix.learning.machine import enough_memory, memory_format, mixed_precision
from topofix.learning.network import NetworkConfig, build, tensors_of
from topofix.learning.schedule import Schedule
from topofix.learning.supervised import make_loss
from topofix.learning.training_state import Epoch, TrainingState
from topofix.learning.turns import in_turn
from topofix.learning.validation import Scores, validate
from topofix.records import TrainingOptions
from topofix.topology.priors import Prior


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """The best network of a training, on the CPU in evaluation mode, and how it got there."""

    network: nn.Module
    history: tuple[Epoch, ...]
    best_epoch: int
    seconds: float


def train(
    training: Sequence[Case],
    validation: Sequence[Case],
    config: NetworkConfig,
    options: TrainingOptions,
    device: torch.device,
    on_step: Callable[[Epoch], None] = lambda epoch: None,
    on_best: Callable[[nn.Module, Epoch], None] = lambda network, epoch: None,
    on_epoch: Callable[[TrainingState], None] = lambda state: None,
    *,
    state: TrainingState | None = None,
    world: World = ALONE,
) -> TrainingResult:
    """Trains a network and returns it as it was at its best validation.

    The second phase begins from the best state of the first. It needs cases whose topology is known: those
    without labels, or if there are none those with labels and a prior. A case counts slice by slice for a 2-D
    network; slices without a prior are left out.

    Args:
        training: Cases to learn from; at least one has labels.
        validation: Labelled cases to choose by.
        config: The network to build; its patch size is what it is trained on.
        options: Loss, length, weights, seed.
        device: Where to train.
        on_step: Called after every labelled batch and at the end of every epoch.
        on_best: Called with the network whenever a validation was the best so far, to save it.
        on_epoch: Called at the end of every epoch with all that a later call needs to go on from there, in
            tensors that the training goes on changing.
        state: Where to go on; on a CPU the result is that of a training never interrupted, bit for bit.
        world: Processes that train together; of each batch every one takes its share.

    Raises:
        InvalidOption: Loss or weights are no longer finite, or the memory is not enough.
        InvalidCheckpoint: The state is in a phase that this training does not have.

    Example:
        >>> import numpy as np
        >>> from topofix.learning.dataset import make_case
        >>> config = NetworkConfig(2, ("square",), (1.0, 1.0), (16, 16), channels=(4, 4, 4))
        >>> square = np.zeros((16, 16)); square[4:12, 4:12] = 1
        >>> case = make_case("square", square, square, (1.0, 1.0), ((0, 1), ()), config)
        >>> options = TrainingOptions(epochs=2, batch_size=1, augment=False)
        >>> [epoch.number for epoch in train([case], [case], config, options, torch.device("cpu")).history]
        [1, 2]
    """
    run = _Run(training, validation, config, options, device, world)
    schedule = run.schedule
    if state is not None:
        run.restore(state)
    start = time.monotonic() - run.seconds
    for index in range(schedule.index, len(schedule.phases)):
        if index > schedule.index:
            run.enter(index)
        while not schedule.phase_is_over(run.best_epoch):
            with enough_memory(device):
                for epoch in run.steps():
                    run.seconds = time.monotonic() - start
                    remaining = schedule.remaining(run.seconds)
                    on_step(replace(epoch, seconds=run.seconds, remaining=remaining))
                run.check_weights()
                due = schedule.is_due
                improved = run.validate() if due else False
            run.seconds = time.monotonic() - start
            epoch = run.close_epoch(epoch, validated=due)
            on_step(epoch)
            on_epoch(run.state())
            if improved:
                on_best(run.average, epoch)
    return TrainingResult(run.best_network(), tuple(schedule.history), run.best_epoch, run.seconds)


class _Run:
    """A training under way: network, average, optimiser, and the place it has got to."""

    def __init__(
        self,
        training: Sequence[Case],
        validation: Sequence[Case],
        config: NetworkConfig,
        options: TrainingOptions,
        device: torch.device,
        world: World,
    ) -> None:
        self.config, self.options, self.device, self.world = config, options, device, world
        self.validation = validation
        self.batches = Batches(training, config, options, device, world)
        self.schedule = Schedule(options, len(self.batches), with_topology=self.batches.with_topology)
        learns_topology = len(self.schedule.phases) > 1
        self.judges_topology = learns_topology or any(case.has_priors for case in validation)
        self.layout = memory_format(config.dimensions)
        network = build(config, options.seed).to(device)
        self.network = network.to(memory_format=self.layout)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.joined = world.join(self.network)
        self.criterion = make_loss(options.loss)
        self.scores: Scores | None = None
        self.best, self.best_epoch, self.best_tensors = -1.0, 0, weights.copies(self.average)
        self.updates, self.seconds = 0, 0.0
        self.optimiser = self._new_optimiser()

    @property
    def number(self) -> int:
        """Epochs over so far."""
        return self.schedule.number

    def _new_optimiser(self) -> torch.optim.AdamW:
        rate = self.schedule.phase.learning_rate
        return torch.optim.AdamW(self.network.parameters(), rate, weight_decay=1e-4)

    def enter(self, phase: int) -> None:
        """Begins a phase from the best state so far."""
        self.schedule.enter(phase)
        for module in (self.network, self.average):
            weights.put_back(module, self.best_tensors)
        self.optimiser, self.updates = self._new_optimiser(), 0

    def steps(self) -> Iterator[Epoch]:
        """One epoch, a state after every labelled batch."""
        number, phase = self.number + 1, self.schedule.phase
        loss = topological = 0.0
        unlabelled = self.batches.unlabelled(number) if phase.name == "topology" else iter(())
        for done, (images, labels) in enumerate(self.batches.labelled(number), start=1):
            self.optimiser.param_groups[0]["lr"] = self.schedule.learning_rate
            loss += self._labelled_step(images, labels)
            self._check_loss(loss)
            if phase.name == "topology":
                for _ in range(self.options.unlabelled_batches):
                    topological += self._unlabelled_step(*next(unlabelled))
                self._check_loss(topological)
            self.updates += 1
            weights.follow(self.average, self.network, self.updates)
            self.schedule.done = done
            yield Epoch(
                number,
                phase.name,
                done,
                len(self.batches),
                loss / done,
                topological / (done * self.options.unlabelled_batches),
                self.scores.dice if self.scores else (),
                self.scores.right if self.scores else 0.0,
                self.best,
            )

    def validate(self) -> bool:
        """Validates the averaged weights and keeps them if they are the best so far; tells whether."""
        self.world.align(self.average)
        self.scores = validate(self.average, self.config, self.validation, self.device, self.world)
        mean = self.scores.mean(with_topology=self.judges_topology)
        if mean <= self.best:
            return False
        self.best, self.best_epoch = mean, self.number + 1
        self.best_tensors = weights.copies(self.average)
        return True

    @in_turn()
    def check_weights(self) -> None:
        """Refuses weights that are not finite, which a loss may tell only after the next step.

        Raises:
            InvalidOption: They are not, in any process; all raise it at once.
        """
        astray = torch.tensor(not weights.are_finite(self.average), dtype=torch.int64)
        if self.world.total(astray):
            raise self._astray("weights that are not")

    @in_turn()
    def _check_loss(self, loss: float) -> None:
        """Refuses a loss that is not finite, in all processes at once."""
        total = self.world.total(torch.tensor(loss, dtype=torch.float64)).item()
        if not math.isfinite(total):
            raise self._astray(f"a loss of {total:g}")

    def _astray(self, found: str) -> InvalidOption:
        phase = self.schedule.phase
        option = "--learning-rate" if phase.name == "labels" else "--topology-learning-rate"
        last = f"the last good epoch is {self.number}" if self.number else "there is no good epoch before it"
        return InvalidOption(
            f"{option}: expected loss and weights that stay finite, found {found} in epoch {self.number + 1} "
            f"at the rate {phase.learning_rate:g}; {last}, and a lower rate may help"
        )

    def close_epoch(self, epoch: Epoch, *, validated: bool) -> Epoch:
        """The epoch with its validation, added to the history."""
        sums = self.world.total(torch.tensor([epoch.loss, epoch.topological_loss], dtype=torch.float64))
        loss, topological = (sums / self.world.size).tolist()
        closed = replace(
            epoch,
            loss=loss,
            topological_loss=topological,
            dice=self.scores.dice if self.scores else (),
            right=self.scores.right if self.scores else 0.0,
            best=self.best,
            seconds=self.seconds,
            remaining=self.schedule.remaining(self.seconds),
            finished=True,
            validated=validated,
        )
        self.schedule.close(closed)
        return closed

    def best_network(self) -> nn.Module:
        """The best state, on the CPU in evaluation mode."""
        weights.put_back(self.average, self.best_tensors)
        return cast(nn.Module, self.average.cpu().eval())

    def state(self) -> TrainingState:
        """All that a training needs to go on from here."""
        tensors = {
            **{f"network/{name}": value for name, value in tensors_of(self.network).items()},
            **{f"average/{name}": value for name, value in tensors_of(self.average).items()},
            **{f"best/{name}": value for name, value in self.best_tensors.items()},
        }
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser/{index}/{name}": value for name, value in moments.items()}
        return TrainingState(
            tensors,
            self.schedule.index,
            self.schedule.begun,
            self.updates,
            self.best_epoch,
            self.best,
            self.seconds,
            tuple(self.schedule.history),
        )

    def restore(self, state: TrainingState) -> None:
        """Goes back to a state; what it holds must come from the same network and options.

        Raises:
            InvalidCheckpoint: It is in a phase that this training does not have.
        """
        self.schedule.restore(state)
        self.updates, self.seconds = state.updates, state.seconds
        self.best, self.best_epoch = state.best, state.best_epoch
        latest = state.history[-1]
        if latest.dice:
            self.scores = Scores(latest.dice, latest.right)
        weights.put_back(self.network, state.under("network/"))
        weights.put_back(self.average, state.under("average/"))
        self.best_tensors = {k: v.to(self.device) for k, v in state.under("best/").items()}
        self.optimiser = self._new_optimiser()
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state.moments, "param_groups": groups})

    def _labelled_step(self, images: Tensor, labels: Tensor) -> float:
        self.joined.train()
        return self._descend([partial(self._supervised_loss, images, labels)])

    def _supervised_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        images = images.to(self.device, memory_format=self.layout)  # (B, 1, *patch)
        with mixed_precision(self.device):
            logits = self.joined(images)  # (B, K + 1, *patch)
        return self.criterion(logits.float(), labels.to(self.device))

    def _unlabelled_step(self, images: list[Tensor], priors: list[Prior]) -> float:
        """One step down lambda L_topo, with no more at once than a labelled batch has, or a single image.

        In evaluation mode: normalisation as in use, and statistics that only labelled patches move.
        """
        self.joined.eval()
        most = self.options.batch_size * math.prod(self.config.patch_size)
        losses = [
            partial(self._topological_loss, images[piece], priors[piece], len(images))
            for piece in pieces([image.numel() for image in images], most)
        ]
        return self._descend(losses, self.schedule.topology_weight)

    def _topological_loss(self, images: list[Tensor], priors: list[Prior], count: int) -> Tensor:
        """What some images give to the mean L_topo of a batch of `count`."""
        batch = padded(images, self.config.divisor).to(self.device, memory_format=self.layout)
        with mixed_precision(self.device):
            logits = self.joined(batch)  # (B, K + 1, *padded)
        if not logits.isfinite().all():  # which has no barcode
            raise self._astray("predictions that are not")
        probabilities = [
            torch.softmax(one.float(), 0)[(slice(None), *map(slice, image.shape[1:]))]
            for one, image in zip(logits, images, strict=True)
        ]
        loss = torch.stack([e.loss for e in evaluate_batch(probabilities, priors)]).sum() / count
        if not loss.requires_grad:  # the priors allow everything; other processes still wait for gradients
            loss = loss + 0 * logits.float().mean()
        return loss

    def _descend(self, losses: Sequence[Callable[[], Tensor]], weight: float = 1.0) -> float:
        """A step down the weighted sum of losses, which is returned without the weight.

        Each is computed when the one before has left its gradients and the memory.
        """
        self.optimiser.zero_grad(set_to_none=True)
        total = 0.0
        for place, compute in enumerate(losses, start=1):
            with self.world.adding(self.joined) if place < len(losses) else nullcontext():
                loss = compute()
                (weight * loss).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        self.optimiser.step()
        return total
