"""A network from a data set: planned from the data, trained, and written as a checkpoint with its history.

heart.safetensors                the best network so far
heart_training/metrics.csv       a row per epoch
heart_training/curve.png         the same as a picture
heart_training/state.safetensors where to go on
heart_training/events...         for TensorBoard, where the package is installed
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from topofix.errors import InvalidArray, InvalidOption, InvalidPrior, UnwritableFile
from topofix.imaging.datasets import CaseFile, Dataset, read_dataset, read_pair
from topofix.imaging.rows import PriorTable
from topofix.imaging.volumes import Volume, suffix
from topofix.learning import network as networks
from topofix.learning.dataset import Case, make_case
from topofix.learning.distributed import joined
from topofix.learning.inference import widest_axis
from topofix.learning.training import TrainingResult
from topofix.learning.training import train as fit
from topofix.learning.training_state import Epoch, TrainingState, load_state, save_state
from topofix.learning.turns import in_turn
from topofix.limits import MOST_VOXELS
from topofix.outputs import check_writable, write_text
from topofix.records import TrainingOptions
from topofix.reporting.curves import Board, draw_curve, metrics_csv
from topofix.request import PriorRequest, Priors

CURVE_EVERY = 20.0
"""Seconds between two drawings of the training curve."""


def train(
    dataset: Path,
    output: Path,
    config: networks.NetworkConfig,
    options: TrainingOptions = TrainingOptions(),
    *,
    prior: PriorRequest | None = None,
    device: str = "auto",
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    max_voxels: int = MOST_VOXELS,
    on_step: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainingResult:
    """Trains a network on a data set, and writes its checkpoint at every better validation.

    Where the data set names no validation cases, the last tenth of the labelled ones in name order is held
    back to choose the best epoch: frames of one subject, whose names are neighbours, then mostly stay on one
    side. Unlabelled cases are left out where the options leave no epoch or no weight to topology.
    Under torchrun all processes train together, and the first one writes.

    Args:
        dataset: A folder or a CSV that `read_dataset` understands, with at least two labelled cases.
        output: The `.safetensors` file to write; `NAME_training/` beside it holds state and history.
        config: The network to train.
        options: Loss, length, weights, seed.
        prior: The topology of the cases, for Eq. 6 and the choice of the best epoch.
        device: `auto`, `cpu`, `cuda` or `mps`.
        about: Provenance to store in the checkpoint, such as the data's licence.
        overwrite: Replace an existing checkpoint, and the state of an interrupted training.
        resume: Go on where an interrupted training of the same request stopped, if there was one.
        max_voxels: An image or label map of more is refused before memory is taken for it.
        on_step: Called after every labelled batch and every epoch.

    Raises:
        TopofixError: An unreadable data set, an image whose labels or priors don't fit it or the
            configuration, a label that no case to train on holds, a checkpoint or a state that exists, a
            state of another training, a loss that is no longer finite, or too little memory.
    """
    with in_turn():
        state_file, going_on = _check_output(output, overwrite=overwrite, resume=resume)
        training, validation = _files(dataset, options, prior)
        cases = [_case(file, config, prior, max_voxels) for file in (*training, *validation)]
        _refuse_unseen_labels(dataset, cases[: len(training)], config)
        request = {
            **asdict(options),
            **asdict(config),
            "prior": _content(prior),
            "training cases": [file.name for file in training],
            "validation cases": [file.name for file in validation],
        }
        state = load_state(state_file, request) if going_on else None
        chosen = networks.choose_device(device)
    provenance = {
        **(about or {}),
        "data": f"{dataset.resolve().parent.name}/{dataset.name}",
        "training_cases": sum(file.label is not None for file in training),
        "unlabelled_cases": sum(file.label is None for file in training),
        "validation_cases": len(validation),
        "options": asdict(options),
        **({"prior": prior.describe()} if prior else {}),
    }
    with joined(chosen) as (world, place):
        journal = _Journal(state_file.parent, config.labels, state) if world.rank == 0 else None

        def save_best(network: torch.nn.Module, epoch: Epoch) -> None:
            if world.rank == 0:
                scores = {
                    name: round(score, 4) for name, score in zip(config.labels, epoch.dice, strict=True)
                }
                found = {"validation_dice": scores, "validation_right": round(epoch.right, 4)}
                output.parent.mkdir(parents=True, exist_ok=True)
                networks.save(output, network, config, {**provenance, "epoch": epoch.number, **found})

        def save_epoch(state: TrainingState) -> None:
            if journal:
                journal.add(state.history)
                save_state(state_file, state, request)

        result = fit(
            cases[: len(training)],
            cases[len(training) :],
            config,
            options,
            place,
            on_step if world.rank == 0 else lambda epoch: None,
            save_best,
            save_epoch,
            state=state,
            world=world,
        )
        save_best(result.network, result.history[result.best_epoch - 1])  # a resumed one may have lost it
        if journal:
            journal.close(result.history)
    return result


class _Journal:
    """The history of a training as files: a table, a picture, and TensorBoard's events."""

    def __init__(self, folder: Path, labels: tuple[str, ...], state: TrainingState | None) -> None:
        self._folder, self._labels, self._drawn = folder, labels, time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if state is None:
                for earlier in (*folder.glob("events.out.tfevents.*"), folder / "state.safetensors"):
                    earlier.unlink(missing_ok=True)
        except OSError as error:
            raise UnwritableFile(f"{folder}: expected a folder that can be written to ({error})") from error
        self._board = Board.open(folder, state.history[-1].number if state else 0)

    def add(self, history: Sequence[Epoch]) -> None:
        write_text(self._folder / "metrics.csv", metrics_csv(history, self._labels))
        if self._board:
            self._board.add(history[-1], self._labels)
        if time.monotonic() - self._drawn > CURVE_EVERY:
            self._draw(history)

    def close(self, history: Sequence[Epoch]) -> None:
        self._draw(history)
        if self._board:
            self._board.close()

    def _draw(self, history: Sequence[Epoch]) -> None:
        draw_curve(self._folder / "curve.png", history, self._labels)
        self._drawn = time.monotonic()


def _check_output(output: Path, *, overwrite: bool, resume: bool) -> tuple[Path, bool]:
    """Refuses an output that must not be written; returns the file of its state, and whether to read it."""
    if suffix(output) != ".safetensors":
        raise UnwritableFile(f"{output}: expected a checkpoint's name to end in .safetensors")
    folder = output.with_name(f"{output.name.removesuffix('.safetensors')}_training")
    state_file = folder / "state.safetensors"
    going_on = resume and state_file.is_file()
    if state_file.is_file() and not (resume or overwrite):
        raise UnwritableFile(
            f"{state_file}: exists already; --resume goes on from it, --overwrite begins anew"
        )
    check_writable([output], overwrite or going_on)
    return state_file, going_on


def _files(
    dataset: Path, options: TrainingOptions, prior: PriorRequest | None
) -> tuple[list[CaseFile], list[CaseFile]]:
    """Cases to train on and to validate on, unlabelled ones only where they are of use."""
    training, validation = _split(read_dataset(dataset))
    if prior is not None and prior.table is not None:
        _refuse_strangers(prior.table, (*training, *validation))
        _refuse_equal_names(prior.table.path, (*training, *validation))
    if not (options.topology_epochs and options.topology_weight):
        training = [file for file in training if file.label is not None]
    if prior is None:
        _refuse_unlabelled(training)
    return training, validation


def _split(data: Dataset) -> tuple[list[CaseFile], list[CaseFile]]:
    """Training and validation cases; where none are named, a tenth of the labelled ones is held back."""
    if any(file.split is not None for file in data.files):
        return (
            [file for file in data.files if file.split == "train"],
            [file for file in data.files if file.split == "validation"],
        )
    labelled = sorted((file for file in data.files if file.label is not None), key=lambda file: file.name)
    if len(labelled) < 2:
        raise InvalidArray(f"{data.path}: expected at least two labelled cases, found {len(labelled)}")
    held_back = labelled[-max(1, round(len(labelled) / 10)) :]
    return [file for file in data.files if file not in held_back], held_back


def _refuse_unlabelled(training: Sequence[CaseFile]) -> None:
    unlabelled = [file.name for file in training if file.label is None]
    if unlabelled:
        raise InvalidPrior(
            f"expected --betti, --betti-csv or --prior for the cases without labels, found none for "
            f"{len(unlabelled)} of them ({_first_of(unlabelled)})"
        )


def _refuse_strangers(table: PriorTable, files: Sequence[CaseFile]) -> None:
    """Refuses a table that belongs to other cases altogether."""
    if not any(file.name in table.cases for file in files):
        raise InvalidPrior(
            f"{table.path}: expected a row for at least one case of the data set, found rows for "
            f"{_first_of(table.cases)}"
        )


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _refuse_unseen_labels(dataset: Path, training: Sequence[Case], config: networks.NetworkConfig) -> None:
    """Refuses labels that cannot be learned, for no case to train on has a voxel of them."""
    seen = {int(value) for case in training if case.label is not None for value in np.unique(case.label)}
    unseen = [f"{name} ({value})" for name, value in config.label_values.items() if value not in seen]
    if unseen:
        raise InvalidArray(
            f"{dataset}: expected voxels of every label in the cases to train on, found none of "
            f"{', '.join(unseen)}"
        )


def _refuse_equal_names(table: Path, files: Sequence[CaseFile]) -> None:
    """A table of priors knows cases by name alone."""
    seen: dict[str, Path] = {}
    for file in files:
        if seen.setdefault(file.name, file.image) != file.image:
            raise InvalidPrior(
                f"{table}: expected a name of its own for every case, got {seen[file.name]} and {file.image}"
            )


def _case(
    file: CaseFile, config: networks.NetworkConfig, prior: PriorRequest | None, max_voxels: int
) -> Case:
    image, label = read_pair(file, max_voxels=max_voxels)
    return make_case(
        file.image.name,
        image.array,
        None if label is None else label.array,
        image.spacing,
        image.orientation,
        config,
        {} if prior is None else _priors(file, image, config, prior),
    )


def _content(prior: PriorRequest | None) -> str | None:
    """What a prior says, so that a file that was edited is another one."""
    source = (prior.table or prior.file) if prior else None
    if prior is None or source is None:
        return prior.describe() if prior else None
    return hashlib.sha256(source.path.read_bytes()).hexdigest()


def _priors(file: CaseFile, image: Volume, config: networks.NetworkConfig, prior: PriorRequest) -> Priors:
    """The priors of a case; one with labels needs none."""
    if prior.table is not None and file.label is not None and file.name not in prior.table.cases:
        return {}
    shape = image.array.shape
    axis = widest_axis(shape, image.spacing) if len(shape) == 3 else 0
    return prior.for_image(file.name, shape, axis, config.label_values)


@in_turn()
def plan_network(
    dataset: Path,
    dimensions: int,
    labels: tuple[str, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
    patch_size: tuple[int, ...] | None = None,
    *,
    max_voxels: int = MOST_VOXELS,
) -> networks.NetworkConfig:
    """A network's configuration for a data set; what is not given is taken from its label maps.

    Images are left for the training to read, and to compare with their label maps.

    Args:
        dataset: A folder or a CSV that `read_dataset` understands.
        dimensions: 2 for images and slices, 3 for volumes.
        labels: Names of the labels 1, 2, ...; else those of `dataset.json`, else `label 1`, ...
        spacing: mm per axis of the network's grid; else the cases' median.
        patch_size: Voxels of a training patch; else 128 x 128 in 2-D, and in 3-D at most 64 per side.
        max_voxels: An image or label map of more is refused before memory is taken for it.

    Raises:
        TopofixError: The data set cannot be read.
    """
    data = read_dataset(dataset)
    names = labels or data.label_names
    steps, sizes = [], []
    values: set[float] = set()
    for file in data.files:
        volume = _label_map(file, max_voxels)
        if volume is None:
            continue
        axes = list(volume.orientation[0])
        if volume.array.ndim > dimensions:
            axes.remove(widest_axis(volume.array.shape, volume.spacing))
        if len(axes) != dimensions:
            raise InvalidArray(f"{volume.path.name}: expected a volume for a 3-D network, got a 2-D image")
        steps.append([volume.spacing[axis] for axis in axes])
        sizes.append([volume.array.shape[axis] for axis in axes])
        if not names:
            values |= _label_values(volume)
    if spacing is None:
        spacing = tuple(_rounded(float(step)) for step in np.median(steps, axis=0))
    channels = networks.CHANNELS[dimensions]
    divisor = 2 ** (len(channels) - 1)
    if patch_size is None:
        reach = np.median(np.multiply(sizes, steps), axis=0) / spacing
        most = {2: 128, 3: 64}[dimensions]
        patch_size = tuple(min(most, divisor * int(np.ceil(side / divisor))) for side in reach)
    if any(side % divisor for side in patch_size):
        raise InvalidOption(f"--patch-size: expected sides that {divisor} divides, got {patch_size}")
    return networks.NetworkConfig(
        dimensions, names or _numbered_labels(dataset, values), spacing, patch_size, channels
    )


def _rounded(step: float) -> float:
    """A spacing to a micrometre; one of micrometres to three digits."""
    return round(step, 3) if step >= 0.1 else float(f"{step:.3g}")


def _label_map(file: CaseFile, max_voxels: int) -> Volume | None:
    """The label map of a case, if it has one; alone, unless the image may be the one that has a geometry."""
    if file.label is None:
        return None
    if suffix(file.label) != suffix(file.image):
        return read_pair(file, max_voxels=max_voxels)[1]
    alone = CaseFile(file.name, file.label, None, spacing=file.spacing)
    return read_pair(alone, max_voxels=max_voxels)[0]


def _label_values(label: Volume) -> set[float]:
    values = np.unique(label.array)
    wrong = values[(values < 0) | (values != np.floor(values))]
    if len(wrong):
        raise InvalidArray(
            f"{label.path}: expected labels that are whole numbers from 0 on, found {wrong[0]:g}"
        )
    return set(values.tolist())


def _numbered_labels(dataset: Path, values: set[float]) -> tuple[str, ...]:
    labels = sorted(values - {0})
    if not labels:
        raise InvalidArray(f"{dataset}: expected label maps with labels from 1 on, found only background")
    if labels != list(range(1, len(labels) + 1)):
        found = ", ".join(f"{value:g}" for value in labels[:10])
        raise InvalidArray(f"{dataset}: expected the label values 1, 2, ... without a gap, found {found}")
    return tuple(f"label {value:g}" for value in labels)
