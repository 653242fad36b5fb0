"""A network from a folder of labelled images: planned from the data, trained, and written as a checkpoint."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from topofix.errors import InvalidArray, InvalidOption, UnwritableFile
from topofix.imaging.cases import LabelledFile, find_labelled, label_names
from topofix.imaging.volumes import Volume, read, suffix
from topofix.learning import network as networks
from topofix.learning.dataset import Case, make_case
from topofix.learning.inference import widest_axis
from topofix.learning.training import Epoch, TrainingResult
from topofix.learning.training import train as fit
from topofix.outputs import check_writable
from topofix.records import TrainingOptions


def train(
    dataset: Path,
    output: Path,
    config: networks.NetworkConfig,
    options: TrainingOptions = TrainingOptions(),
    *,
    device: str = "auto",
    about: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_step: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainingResult:
    """Trains a network on a folder of labelled images, and writes its checkpoint at every better validation.

    The last tenth of the cases in name order is held back to choose the best epoch: frames of one subject,
    whose names are neighbours, then mostly stay on one side.

    Args:
        dataset: A folder that `find_labelled` understands, with at least two cases.
        output: The `.safetensors` file to write.
        config: The network to train.
        options: Loss, length, seed.
        device: `auto`, `cpu`, `cuda` or `mps`.
        about: Provenance to store in the checkpoint, such as the data's licence.
        overwrite: Replace an existing checkpoint.
        on_step: Called after every batch and validation.

    Raises:
        TopofixError: An unreadable data set, an image whose labels don't fit it or the configuration, or a
            checkpoint that exists.
    """
    if suffix(output) != ".safetensors":
        raise UnwritableFile(f"{output}: expected a checkpoint's name to end in .safetensors")
    check_writable([output], overwrite)
    files = find_labelled(dataset)
    if len(files) < 2:
        raise InvalidArray(f"{dataset}: expected at least two labelled cases, found {len(files)}")
    held_back = max(1, round(len(files) / 10))
    cases = [_labelled_case(file, config) for file in files]
    provenance = {
        **(about or {}),
        "data": f"{dataset.resolve().parent.name}/{dataset.name}",
        "training_cases": len(cases) - held_back,
        "validation_cases": held_back,
        "options": asdict(options),
    }
    output.parent.mkdir(parents=True, exist_ok=True)

    def save_best(network: torch.nn.Module, epoch: Epoch) -> None:
        scores = {name: round(score, 4) for name, score in zip(config.labels, epoch.dice, strict=True)}
        about_now = {**provenance, "epoch": epoch.number, "validation_dice": scores}
        networks.save(output, network, config, about_now)

    return fit(
        cases[:-held_back],
        cases[-held_back:],
        config,
        options,
        networks.choose_device(device),
        on_step,
        save_best,
    )


def plan_network(
    dataset: Path,
    dimensions: int,
    labels: tuple[str, ...] | None = None,
    spacing: tuple[float, ...] | None = None,
    patch_size: tuple[int, ...] | None = None,
) -> networks.NetworkConfig:
    """A network's configuration for a data set; what is not given is taken from the data.

    Args:
        dataset: A folder that `find_labelled` understands.
        dimensions: 2 for images and slices, 3 for volumes.
        labels: Names of the labels 1, 2, ...; else those of `dataset.json`, else `label 1`, ...
        spacing: mm per axis of the network's grid; else the cases' median.
        patch_size: Voxels of a training patch; else 128 x 128 in 2-D, and in 3-D at most 64 per side.

    Raises:
        TopofixError: The data set cannot be read.
    """
    volumes = [read(file.label) for file in find_labelled(dataset)]
    steps, sizes = [], []
    for volume in volumes:
        axes = list(volume.orientation[0])
        if volume.array.ndim > dimensions:
            axes.remove(widest_axis(volume.array.shape, volume.spacing))
        if len(axes) != dimensions:
            raise InvalidArray(f"{volume.path.name}: expected a volume for a 3-D network, got a 2-D image")
        steps.append([volume.spacing[axis] for axis in axes])
        sizes.append([volume.array.shape[axis] for axis in axes])
    if spacing is None:
        spacing = tuple(round(float(step), 3) for step in np.median(steps, axis=0))
    channels = networks.CHANNELS[dimensions]
    divisor = 2 ** (len(channels) - 1)
    if patch_size is None:
        reach = np.median(np.multiply(sizes, steps), axis=0) / spacing
        most = {2: 128, 3: 64}[dimensions]
        patch_size = tuple(min(most, divisor * int(np.ceil(side / divisor))) for side in reach)
    if any(side % divisor for side in patch_size):
        raise InvalidOption(f"--patch-size: expected sides that {divisor} divides, got {patch_size}")
    if labels is None:
        labels = label_names(dataset) or _numbered_labels(dataset, volumes)
    return networks.NetworkConfig(dimensions, labels, spacing, patch_size, channels)


def _numbered_labels(dataset: Path, volumes: list[Volume]) -> tuple[str, ...]:
    for volume in volumes:
        if not np.array_equal(volume.array, np.floor(volume.array)):
            raise InvalidArray(f"{volume.path.name}: expected whole numbers as labels, found fractions")
    values = np.unique(np.concatenate([np.unique(volume.array) for volume in volumes]))
    values = values[values != 0]
    if not len(values):
        raise InvalidArray(f"{dataset}: expected label maps with labels from 1 on, found only background")
    if not np.array_equal(values, np.arange(1, len(values) + 1)):
        found = ", ".join(f"{value:g}" for value in values[:10])
        raise InvalidArray(f"{dataset}: expected the label values 1, 2, ... without a gap, found {found}")
    return tuple(f"label {value:g}" for value in values)


def _labelled_case(file: LabelledFile, config: networks.NetworkConfig) -> Case:
    image, label = read(file.image), read(file.label)
    return make_case(file.name, image.array, label.array, image.spacing, image.orientation, config)
