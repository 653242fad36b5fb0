"""Where a training has got to, as one `.safetensors` file: weights, averages, moments, and a history in JSON.

Random numbers need no place in it: what is drawn follows from seed and epoch. A training goes on from the
file only if what it was asked is the same, to the last option and case.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from reprlib import repr as shown  # a stranger's names and numbers can be of any length
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor

from topofix.errors import InvalidCheckpoint
from topofix.learning.network import NetworkConfig, at_most, build, tensors_of, write_whole
from topofix.learning.tensor_file import Header, read_header, read_tensors

METADATA_KEY = "topofix training"

PhaseName = Literal["labels", "topology"]

_CONFIG = {field.name for field in fields(NetworkConfig)}
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of each weight


@dataclass(frozen=True, slots=True)
class Epoch:
    """State of a training after a batch or an epoch, for progress displays and logs.

    Attributes:
        number: Epoch, from 1.
        phase: `labels`, or `topology` where unlabelled batches come in between.
        step: Labelled batches done in this epoch.
        steps: Labelled batches in this epoch.
        loss: Mean supervised loss of the epoch so far.
        topological_loss: Mean L_topo of the unlabelled batches so far, without lambda; 0 in the first phase.
        dice: Validation Dice per label of the latest validation; empty before the first.
        right: Share of slices or volumes that it found topologically right.
        best: Best validation so far: mean Dice, or its mean with `right` where priors are known.
        seconds: Since the training started, interruptions left out.
        remaining: Estimated seconds to go.
        finished: Whether the epoch, its validation included, is over.
        validated: Whether it ended with a validation of its own.
    """

    number: int
    phase: PhaseName
    step: int
    steps: int
    loss: float
    topological_loss: float
    dice: tuple[float, ...]
    right: float
    best: float
    seconds: float = 0.0
    remaining: float = 0.0
    finished: bool = False
    validated: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class TrainingState:
    """All that a training needs to go on from the end of an epoch.

    Attributes:
        tensors: Under `network/`, `average/` and `best/` by name; under `optimiser/` by number and moment.
        phase: Index of the phase.
        begun: Epochs before it.
        updates: Steps of the running average in it.
        best_epoch: Epoch of the best validation; 0 before the first.
        best: Its score; -1 before the first.
        seconds: Spent so far.
        history: Every epoch so far.
    """

    tensors: Mapping[str, Tensor]
    phase: int
    begun: int
    updates: int
    best_epoch: int
    best: float
    seconds: float
    history: tuple[Epoch, ...]

    def under(self, beginning: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, without that beginning."""
        return {
            name.removeprefix(beginning): value
            for name, value in self.tensors.items()
            if name.startswith(beginning)
        }

    @property
    def moments(self) -> dict[int, dict[str, Tensor]]:
        """The optimiser's tensors, by number of the weight and name of the moment."""
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in self.under("optimiser/").items():
            number, _, kind = name.partition("/")
            moments.setdefault(int(number), {})[kind] = value
        return moments


def save_state(path: Path, state: TrainingState, request: Mapping[str, Any]) -> None:
    """Writes a state atomically.

    Args:
        path: Its folder exists.
        state: To keep.
        request: What the training was asked, as JSON can hold it.

    Raises:
        UnwritableFile: It cannot be written; an earlier file stays.
    """
    from safetensors.torch import save as serialise

    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.tensors.items()}
    progress = {
        "phase": state.phase,
        "begun": state.begun,
        "updates": state.updates,
        "best_epoch": state.best_epoch,
        "best": state.best,
        "seconds": state.seconds,
        "history": [asdict(epoch) for epoch in state.history],
    }
    metadata = json.dumps({"request": request, "progress": progress})
    write_whole(path, serialise(tensors, metadata={METADATA_KEY: metadata}))


def load_state(path: Path, request: Mapping[str, Any]) -> TrainingState:
    """Reads a state that fits what is asked now.

    Args:
        path: The file.
        request: What the training is asked; where the network's configuration stands in it, as it does in
            every training's, the tensors must be those of that network.

    Raises:
        InvalidCheckpoint: No state of a training, a damaged one, or one of another request.
    """
    if not path.is_file():
        raise InvalidCheckpoint(f"{path}: expected the state of a training, found no file")
    try:
        header = read_header(path)
        if METADATA_KEY not in header.metadata:
            raise InvalidCheckpoint(f"{path}: expected the state of a training, found other weights")
        try:
            stored = json.loads(header.metadata[METADATA_KEY])
            _compare(path, stored["request"], json.loads(json.dumps(request)))
            state = _progress(stored["progress"])
            if request.keys() >= _CONFIG:
                config = NetworkConfig(**{key: request[key] for key in _CONFIG})
                _check_scores(state.history, len(config.labels))
                _check_tensors(path, header, config)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise InvalidCheckpoint(
                f"{path}: expected the state of a training, found less ({error})"
            ) from error
        return replace(state, tensors=read_tensors(path))
    except (ValueError, OSError) as error:
        raise InvalidCheckpoint(
            f"{path}: expected the state of a training, found another ({error})"
        ) from error


def _progress(stored: Mapping[str, Any]) -> TrainingState:
    """The state that JSON holds, without tensors.

    Raises:
        ValueError: A value that there cannot be; other names than there should be raise a KeyError, a
            TypeError or an AttributeError.
    """
    epochs = [Epoch(**{**epoch, "dice": tuple(epoch["dice"])}) for epoch in stored["history"]]
    state = TrainingState({}, **{**stored, "history": tuple(epochs)})
    if not epochs:
        raise ValueError("no epoch")
    for number, epoch in enumerate(epochs, start=1):
        if epoch.phase not in get_args(PhaseName):
            raise ValueError(f"phase {shown(epoch.phase)}")
        _check_numbers(epoch, ("number", "step", "steps"))
        _check_numbers(epoch, ("loss", "topological_loss", "right", "best", "seconds", "remaining"), float)
        if not all(_is_number(score, float) for score in epoch.dice):
            raise ValueError(f"dice {shown(epoch.dice)}")
        if epoch.number != number:
            raise ValueError(f"epoch {epoch.number} in place {number}")
    _check_numbers(state, ("phase", "begun", "updates", "best_epoch"))
    _check_numbers(state, ("best", "seconds"), float)
    _check_place(state)
    return state


def _check_place(state: TrainingState) -> None:
    """Refuses a phase that the history does not bear out, and a best epoch without a validation."""
    names, count = get_args(PhaseName), len(state.history)
    if state.phase >= len(names) or state.begun >= count or state.best_epoch > count:
        raise ValueError(f"phase {state.phase}, begun after {state.begun} epochs, best {state.best_epoch}")
    earlier = [*names[: state.phase]] * state.begun
    if [epoch.phase for epoch in state.history] != earlier + [names[state.phase]] * (count - state.begun):
        raise ValueError(f"phase {state.phase}, begun after {state.begun} epochs, in a history of others")
    if state.best_epoch and not state.history[state.best_epoch - 1].dice:
        raise ValueError(f"best {state.best_epoch}, an epoch without Dice")


def _check_scores(history: Sequence[Epoch], labels: int) -> None:
    """Refuses Dice of more labels or fewer than there are."""
    for epoch in history:
        if len(epoch.dice) not in (0, labels):
            raise ValueError(f"dice {shown(epoch.dice)} for {labels} labels")


def _check_numbers(owner: Epoch | TrainingState, names: Sequence[str], kind: type = int) -> None:
    for name in names:
        value = getattr(owner, name)
        if not _is_number(value, kind):
            raise ValueError(f"{name} {shown(value)}")


def _is_number(value: object, kind: type) -> bool:
    """Whether it is a count from 0 on, or for `float` any number that is finite as such."""
    least, most = (0, sys.maxsize) if kind is int else (-sys.float_info.max, sys.float_info.max)
    return type(value) in (int, kind) and least <= cast(float, value) <= most


def _check_tensors(path: Path, header: Header, config: NetworkConfig) -> None:
    """Refuses tensors that are not those of a training of this network.

    Raises:
        InvalidCheckpoint: They are others.
    """
    with at_most(header.numbers, path.name):
        network = build(config)
    copies = {
        f"{copy}/{name}": tensor
        for copy in ("network", "average", "best")
        for name, tensor in tensors_of(network).items()
    }
    moments = {
        f"optimiser/{index}/{kind}": tensor if kind != "step" else torch.zeros(())
        for index, tensor in enumerate(network.parameters())
        for kind in _MOMENTS
    }
    wanted = copies | (moments if any(name.startswith("optimiser/") for name in header.tensors) else {})
    for name in sorted(wanted.keys() ^ header.tensors.keys()):
        raise InvalidCheckpoint(f"{path}: expected the tensors of this training, see {shown(name)}")
    for name, tensor in wanted.items():
        found = header.tensors[name]
        if found.shape != tensor.shape or found.is_floating_point != tensor.is_floating_point():
            raise InvalidCheckpoint(
                f"{path}: expected '{name}' of shape {tuple(tensor.shape)} like {tensor.dtype}, "
                f"found {found.shape} of {found.dtype}"
            )


def _compare(path: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for key in sorted(then.keys() | now.keys()):
        before, after = then.get(key), now.get(key)
        if before != after:
            found = (
                "another list"
                if isinstance(before, list) or isinstance(after, list)
                else f"{before}, now {after}"
            )
            raise InvalidCheckpoint(
                f"{path}: expected a training of the same request to go on with, found {key} {found}"
            )
