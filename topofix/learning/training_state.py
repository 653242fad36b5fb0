"""Where a training has got to, as one `.safetensors` file: weights, averages, moments, and a history in JSON.

Random numbers need no place in it: what is drawn follows from seed and epoch. A training goes on from the
file only if what it was asked is the same, to the last option and case.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from topofix.errors import InvalidCheckpoint
from topofix.learning.network import write_whole

METADATA_KEY = "topofix training"

PhaseName = Literal["labels", "topology"]


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

    Raises:
        InvalidCheckpoint: No state of a training, a damaged one, or one of another request.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError) as error:
        raise InvalidCheckpoint(
            f"{path}: expected the state of a training, found another ({error})"
        ) from error
    if text is None:
        raise InvalidCheckpoint(f"{path}: expected the state of a training, found other weights")
    try:
        stored = json.loads(text)
        _compare(path, stored["request"], json.loads(json.dumps(request)))
        progress = stored["progress"]
        epochs = [{**epoch, "dice": tuple(epoch["dice"])} for epoch in progress.pop("history")]
        state = TrainingState(tensors, history=tuple(Epoch(**epoch) for epoch in epochs), **progress)
        if not state.history:
            raise ValueError("no epoch")
        return state
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidCheckpoint(f"{path}: expected the state of a training, found less ({error})") from error


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
