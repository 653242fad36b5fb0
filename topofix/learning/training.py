"""Supervised training of a U-net: epochs, validation, early stopping.

Read from top to bottom: patches, network, optimiser, then one loop. The learning rate falls along a half
cosine; after every epoch that is due the cases held back are segmented whole, on their own grid, and the
weights with the best mean Dice are kept.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topofix.learning.dataset import Case, Patches
from topofix.learning.inference import predict
from topofix.learning.network import NetworkConfig, build
from topofix.records import LossName, TrainingOptions
from topofix.topology.regions import dice


@dataclass(frozen=True, slots=True)
class Epoch:
    """State of a training after a step or an epoch, for progress displays and logs.

    Attributes:
        number: Epoch, from 1.
        step: Batches done in this epoch.
        steps: Batches in this epoch.
        loss: Mean training loss of the epoch so far.
        dice: Validation Dice per label of the latest validation; empty before the first.
        best: Best mean validation Dice so far.
        seconds: Since the training started.
        remaining: Estimated seconds to go.
        finished: Whether the epoch, its validation included, is over.
    """

    number: int
    step: int
    steps: int
    loss: float
    dice: tuple[float, ...]
    best: float
    seconds: float
    remaining: float
    finished: bool = False


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
) -> TrainingResult:
    """Trains a network from scratch and returns it as it was at its best validation.

    Args:
        training: Labelled cases to learn from.
        validation: Labelled cases to choose by.
        config: The network to build; its patch size is what it is trained on.
        options: Loss, length, seed.
        device: Where to train.
        on_step: Called after every batch.
        on_best: Called with the network whenever validation improved, to save it.
    """
    start = time.monotonic()
    network = build(config, options.seed).to(device)
    network = network.to(memory_format=_memory_format(config))  # type: ignore[call-overload]
    patches = Patches(training, config, augment=options.augment, seed=options.seed)
    criterion = make_loss(options.loss)
    optimiser = torch.optim.AdamW(network.parameters(), options.learning_rate, weight_decay=1e-4)
    order = torch.Generator().manual_seed(options.seed)
    steps = -(-len(patches) // options.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, epochs=options.epochs, steps_per_epoch=steps, pct_start=0.05
    )
    history: list[Epoch] = []
    dice: tuple[float, ...] = ()
    best, best_epoch, best_state = -1.0, 0, _copy_state(network)
    for number in range(1, options.epochs + 1):
        network.train()
        total = 0.0
        epoch = Epoch(number, 0, steps, 0.0, dice, best, 0.0, 0.0)
        for step, (images, labels) in enumerate(_batches(patches, options.batch_size, order), start=1):
            images = images.to(device, memory_format=_memory_format(config))  # (B, 1, *patch)
            with _mixed_precision(device):
                logits = network(images)  # (B, K + 1, *patch)
            loss = criterion(logits.float(), labels.to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            total += loss.item()
            seconds = time.monotonic() - start
            done = (number - 1) * steps + step
            remaining = seconds / done * (options.epochs * steps - done)
            epoch = Epoch(number, step, steps, total / step, dice, best, seconds, remaining)
            on_step(epoch)
        due = number % options.validate_every == 0 or number == options.epochs
        if due:
            dice = validate(network, config, validation, device)
            mean = float(np.mean(dice))
            epoch = replace(epoch, dice=dice, best=max(best, mean), seconds=time.monotonic() - start)
            if mean > best:
                best, best_epoch, best_state = mean, number, _copy_state(network)
                on_best(network, epoch)
        epoch = replace(epoch, finished=True)
        on_step(epoch)
        history.append(epoch)
        if due and number - best_epoch >= options.patience:
            break
    network.load_state_dict(best_state)
    return TrainingResult(network.cpu().eval(), tuple(history), best_epoch, time.monotonic() - start)


def validate(
    network: nn.Module, config: NetworkConfig, cases: Sequence[Case], device: torch.device
) -> tuple[float, ...]:
    """Mean Dice of every label over whole cases, each on its own grid.

    A label that neither the truth nor the prediction of a case holds counts as 1.
    """
    network.eval()
    scores = []
    for case in cases:
        predicted = predict(network, config, case.image, case.grid, device).argmax(0).numpy()
        scores.append([dice(predicted == k, case.label == k) for k in range(1, len(config.labels) + 1)])
    return tuple(float(score) for score in np.mean(scores, axis=0))


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


def _batches(patches: Patches, size: int, order: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    indices = torch.randperm(len(patches), generator=order).tolist()
    for first in range(0, len(indices), size):
        items = [patches[index] for index in indices[first : first + size]]
        yield torch.stack([i["image"] for i in items]), torch.stack([i["label"] for i in items])


def _mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies it natively: about twice as fast on such a CPU."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def _memory_format(config: NetworkConfig) -> torch.memory_format:
    return torch.channels_last if config.dimensions == 2 else torch.channels_last_3d


def _copy_state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
