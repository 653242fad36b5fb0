"""Training of a U-net: on labels first, then on labels and topology in turn (Eq. 6).

    labels      batch, batch, batch, ...                          L_Dice, until its validation stops improving
    topology    batch, unlabelled batch, batch, unlabelled, ...   L_Dice and lambda L_topo in turn

Read from top to bottom: `train` goes through the phases and their epochs, `_Run` holds what changes on the
way. In each phase the learning rate rises shortly and falls along a half cosine. The weights that are
validated and kept are a running average of those that the optimiser moves. After every epoch that is due the
cases held back are segmented whole, and the best state is kept: by mean Dice, and where there are priors by
Dice and topology. A training whose loss or weights are no longer finite ends before any of that.

Source of Eq. 6 and of the phases: Clough et al., TPAMI 2020.
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topofix.errors import InvalidOption
from topofix.learning.dataset import Case, Draw, Patches, Wholes
from topofix.learning.distributed import ALONE, World
from topofix.learning.loss import evaluate_batch
from topofix.learning.network import NetworkConfig, build, tensors_of
from topofix.learning.training_state import Epoch, PhaseName, TrainingState
from topofix.learning.validation import Scores, validate
from topofix.records import LossName, TrainingOptions
from topofix.topology.priors import Prior

RISE = 0.05
"""Share of a phase in which the learning rate rises."""

MEMORY = 0.998
"""Of the running average of weights, per step; shorter at the start."""

LOADERS = 4
"""Processes that draw patches for a GPU."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """The best network of a training, on the CPU in evaluation mode, and how it got there."""

    network: nn.Module
    history: tuple[Epoch, ...]
    best_epoch: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Phase:
    name: PhaseName
    epochs: int
    learning_rate: float


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
    if state is not None:
        run.restore(state)
    start = time.monotonic() - run.seconds
    for index in range(run.phase, len(run.phases)):
        if index > run.phase:
            run.enter(index)
        while not run.phase_is_over:
            with _enough_memory(device):
                for epoch in run.steps():
                    run.seconds = time.monotonic() - start
                    on_step(replace(epoch, seconds=run.seconds, remaining=run.remaining))
                run.check_weights()
                due = run.is_due
                improved = run.validate() if due else False
            run.seconds = time.monotonic() - start
            epoch = run.close_epoch(epoch, validated=due)
            on_step(epoch)
            on_epoch(run.state())
            if improved:
                on_best(run.average, epoch)
    return TrainingResult(run.best_network(), tuple(run.history), run.best_epoch, run.seconds)


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
        self.patches = Patches(training, config, augment=options.augment, seed=options.seed)
        self.wholes = Wholes(training, config, augment=options.augment, seed=options.seed)
        self.phases = [_Phase("labels", options.epochs, options.learning_rate)]
        if len(self.wholes) and options.topology_weight and options.topology_epochs:
            self.phases.append(_Phase("topology", options.topology_epochs, options.topology_learning_rate))
        self.judges_topology = len(self.phases) > 1 or any(case.has_priors for case in validation)
        network = build(config, options.seed).to(device)
        self.network = network.to(memory_format=_memory_format(config))  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.joined = world.join(self.network)
        self.criterion = make_loss(options.loss)
        self.scores: Scores | None = None
        self.best, self.best_epoch, self.best_tensors = -1.0, 0, _copies(self.average)
        self.history: list[Epoch] = []
        self.phase, self.begun, self.updates, self.done, self.seconds = 0, 0, 0, 0, 0.0
        self.optimiser = self._new_optimiser()

    @property
    def number(self) -> int:
        """Epochs over so far."""
        return len(self.history)

    @property
    def batches(self) -> int:
        return -(-len(self.patches) // self.options.batch_size)

    @property
    def phase_is_over(self) -> bool:
        """The phase has had its epochs, or its validations have not got better for too long."""
        count = self.number - self.begun
        patience = self.number - max(self.best_epoch, self.begun) >= self.options.patience
        validated = count > 0 and self._is_due(count)
        return count >= self.phases[self.phase].epochs or (validated and patience)

    @property
    def is_due(self) -> bool:
        """Whether the epoch that has just had its batches is to be validated."""
        return self._is_due(self.number + 1 - self.begun)

    @property
    def remaining(self) -> float:
        """Estimated seconds to go, should no phase end early."""
        total = sum(phase.epochs for phase in self.phases[self.phase :]) * self.batches
        into = (self.number - self.begun) * self.batches + self.done
        over = sum(epoch.steps for epoch in self.history) + self.done
        return self.seconds / max(1, over) * (total - into)

    def _is_due(self, count: int) -> bool:
        return count % self.options.validate_every == 0 or count == self.phases[self.phase].epochs

    def _new_optimiser(self) -> torch.optim.AdamW:
        rate = self.phases[self.phase].learning_rate
        return torch.optim.AdamW(self.network.parameters(), rate, weight_decay=1e-4)

    def enter(self, phase: int) -> None:
        """Begins a phase from the best state so far."""
        self.phase, self.begun = phase, self.number
        for module in (self.network, self.average):
            _load(module, self.best_tensors)
        self.optimiser, self.updates = self._new_optimiser(), 0

    def steps(self) -> Iterator[Epoch]:
        """One epoch, a state after every labelled batch."""
        number, phase = self.number + 1, self.phases[self.phase]
        loss = topological = 0.0
        unlabelled = self._unlabelled_batches(number) if phase.name == "topology" else iter(())
        self.done = 0
        for images, labels in self._labelled_batches(number):
            self._set_learning_rate(phase)
            loss += self._labelled_step(images, labels)
            self._check_loss(loss)
            if phase.name == "topology":
                for _ in range(self.options.unlabelled_batches):
                    topological += self._unlabelled_step(*next(unlabelled))
                self._check_loss(topological)
            self.updates += 1
            _follow(self.average, self.network, self.updates)
            self.done += 1
            yield Epoch(
                number,
                phase.name,
                self.done,
                self.batches,
                loss / self.done,
                topological / (self.done * self.options.unlabelled_batches),
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
        self.best, self.best_epoch, self.best_tensors = mean, self.number + 1, _copies(self.average)
        return True

    def check_weights(self) -> None:
        """Refuses weights that are not finite in the half precision of a checkpoint.

        Raises:
            InvalidOption: Such weights, which a loss may tell only after the next step.
        """
        weights = [value for value in tensors_of(self.average).values() if value.is_floating_point()]
        if not all(value.half().isfinite().all() for value in weights):
            raise self._astray("weights that are not")

    def _check_loss(self, loss: float) -> None:
        """Refuses a loss that is not finite, in all processes at once."""
        total = self.world.total(torch.tensor(loss, dtype=torch.float64)).item()
        if not math.isfinite(total):
            raise self._astray(f"a loss of {total:g}")

    def _astray(self, found: str) -> InvalidOption:
        phase = self.phases[self.phase]
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
            remaining=self.remaining,
            finished=True,
            validated=validated,
        )
        self.history.append(closed)
        self.done = 0
        return closed

    def best_network(self) -> nn.Module:
        """The best state, on the CPU in evaluation mode."""
        _load(self.average, self.best_tensors)
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
            self.phase,
            self.begun,
            self.updates,
            self.best_epoch,
            self.best,
            self.seconds,
            tuple(self.history),
        )

    def restore(self, state: TrainingState) -> None:
        """Goes back to a state; what it holds must come from the same network and options."""
        self.phase, self.begun, self.updates = state.phase, state.begun, state.updates
        self.best, self.best_epoch, self.seconds = state.best, state.best_epoch, state.seconds
        self.history = list(state.history)
        latest = state.history[-1]
        if latest.dice:
            self.scores = Scores(latest.dice, latest.right)
        _load(self.network, state.under("network/"))
        _load(self.average, state.under("average/"))
        self.best_tensors = {k: v.to(self.device) for k, v in state.under("best/").items()}
        self.optimiser = self._new_optimiser()
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.under("optimiser/").items():
            index, _, kind = name.partition("/")
            moments.setdefault(int(index), {})[kind] = value
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})

    def _set_learning_rate(self, phase: _Phase) -> None:
        steps = phase.epochs * self.batches
        place = ((self.number - self.begun) * self.batches + self.done + 0.5) / steps
        rising = max(1 / steps, RISE)
        share = (
            place / rising
            if place < rising
            else (1 + math.cos(math.pi * (place - rising) / (1 - rising))) / 2
        )
        self.optimiser.param_groups[0]["lr"] = phase.learning_rate * share

    def _labelled_step(self, images: Tensor, labels: Tensor) -> float:
        self.joined.train()
        return self._descend([partial(self._supervised_loss, images, labels)])

    def _supervised_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        images = images.to(self.device, memory_format=_memory_format(self.config))  # (B, 1, *patch)
        with _mixed_precision(self.device):
            logits = self.joined(images)  # (B, K + 1, *patch)
        return self.criterion(logits.float(), labels.to(self.device))

    def _unlabelled_step(self, images: list[Tensor], priors: list[Prior]) -> float:
        """One step down lambda L_topo, with no more at once than a labelled batch has, or a single image.

        In evaluation mode: normalisation as in use, and statistics that only labelled patches move.
        """
        self.joined.eval()
        epoch = self.number + 1 - self.begun
        weight = self.options.topology_weight * min(1.0, epoch / max(1, self.options.warm_up))
        most = self.options.batch_size * math.prod(self.config.patch_size)
        losses = [
            partial(self._topological_loss, images[piece], priors[piece], len(images))
            for piece in _pieces([image.numel() for image in images], most)
        ]
        return self._descend(losses, weight)

    def _topological_loss(self, images: list[Tensor], priors: list[Prior], count: int) -> Tensor:
        """What some images give to the mean L_topo of a batch of `count`."""
        batch = _padded(images, self.config.divisor).to(
            self.device, memory_format=_memory_format(self.config)
        )
        with _mixed_precision(self.device):
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

    def _labelled_batches(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = _order(len(self.patches), self.options.seed, epoch)
        draws = [(epoch, index) for index in order]
        loaders = LOADERS if self.device.type == "cuda" else 0  # a CPU has better to do
        return iter(_loader(self.patches, self._shares(draws), loaders))

    def _unlabelled_batches(self, epoch: int) -> Iterator[tuple[list[Tensor], list[Prior]]]:
        order = _order(len(self.wholes), self.options.seed, epoch)
        needed = self.batches * self.options.unlabelled_batches * self.options.batch_size
        draws = [(epoch, order[place % len(order)]) for place in range(needed)]
        for share in self._shares(draws):
            images, priors = zip(*(self.wholes[draw] for draw in share), strict=True)
            yield list(images), list(priors)

    def _shares(self, draws: list[Draw]) -> list[list[Draw]]:
        """Batches of draws, and of each this process's share."""
        size = self.options.batch_size
        batches = [draws[first : first + size] for first in range(0, len(draws), size)]
        return [list(self.world.share_of_batch(batch)) for batch in batches]


def make_loss(name: LossName) -> Callable[[Tensor, Tensor], Tensor]:
    """The supervised loss called `name`: logits (N, K + 1, *S) and labels (N, 1, *S) to a scalar."""
    from monai.losses.dice import DiceCELoss, DiceLoss

    match name:
        case "dice":
            loss = DiceLoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        case "dice_bce":
            loss = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
        case "bce":
            return lambda logits, labels: F.cross_entropy(logits, labels[:, 0].long())
        case "mse":
            return lambda logits, labels: F.mse_loss(
                torch.softmax(logits, 1),
                F.one_hot(labels[:, 0].long(), logits.shape[1]).movedim(-1, 1).float(),
            )
    return lambda logits, labels: loss(logits, labels)


def _loader(patches: Patches, draws: list[list[Draw]], loaders: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of patches, drawn by other processes where there are `loaders`."""
    generator = torch.Generator()  # of nothing that matters, but the global one must not be touched
    data = torch.utils.data.DataLoader(patches, batch_sampler=draws, num_workers=loaders, generator=generator)
    yield from data


def _order(count: int, seed: int, epoch: int) -> list[int]:
    """A random order that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(count, generator=generator).tolist()


def _pieces(sizes: Sequence[int], most: int) -> list[slice]:
    """Neighbours that together have `most` voxels or fewer; what has more is alone."""
    pieces, first = [], 0
    for last in range(1, len(sizes) + 1):
        if last == len(sizes) or sum(sizes[first : last + 1]) > most:
            pieces.append(slice(first, last))
            first = last
    return pieces


@contextmanager
def _enough_memory(device: torch.device) -> Iterator[None]:
    """Turns what the allocators of NumPy, torch and GPUs say without memory into one sentence."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = ("out of memory", "can't allocate memory", "not enough memory")
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        raise InvalidOption(
            f"expected memory for a training with these options, found too little of it on {device}; a "
            "smaller --batch-size or --patch-size, or a coarser --spacing, needs less"
        ) from error


def _padded(images: Sequence[Tensor], divisor: int) -> Tensor:
    """Images (1, *size) of different sizes as one batch (B, 1, *padded), their last voxels repeated."""
    sizes = [image.shape[1:] for image in images]
    size = [-(-max(sides) // divisor) * divisor for sides in zip(*sizes, strict=True)]
    padded = []
    for image in images:
        padding = [
            p for side, full in zip(image.shape[:0:-1], size[::-1], strict=True) for p in (0, full - side)
        ]
        padded.append(F.pad(image[None], padding, mode="replicate"))
    return torch.cat(padded)


def _mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies it natively: about twice as fast on such a CPU."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def _memory_format(config: NetworkConfig) -> torch.memory_format:
    return torch.channels_last if config.dimensions == 2 else torch.channels_last_3d


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, updates: int) -> None:
    """Moves the running average one step after the network; it forgets faster at the start."""
    memory = min(MEMORY, (1 + updates) / (10 + updates))
    for slow, fast in zip(tensors_of(average).values(), tensors_of(network).values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - memory)
        else:
            slow.copy_(fast)


def _copies(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in tensors_of(network).items()}


@torch.no_grad()
def _load(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    for name, value in tensors_of(network).items():
        value.copy_(tensors[name])
