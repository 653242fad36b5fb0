"""Cases in memory, and what of them a network is trained on: labelled patches, and whole unlabelled images.

A case is brought onto the network's grid once, when it is made. Each epoch then draws one random patch from
every labelled slice (2-D) or volume (3-D), and every unlabelled one as a whole. What is drawn depends on the
seed, the epoch and the place in the list, and on nothing else: not on the order in which it is asked for,
nor on the process that asks, so that a resumed or a distributed training sees the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from topofix.errors import InvalidArray
from topofix.learning.augmentation import patch_transforms, whole_transforms
from topofix.learning.inference import Grid, grid_for, normalise
from topofix.learning.network import NetworkConfig
from topofix.topology.priors import Prior

Draw = tuple[int, int]
"""An epoch, and a place in the list."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """An image as stored and as the network sees it, with what is known of it.

    Attributes:
        name: For messages.
        image: Normalised intensities on the image's own grid, (*S).
        label: Label values on the same grid, uint8, (*S); None where nobody drew any.
        grid: The way to the network's grid and back.
        seen_image: What the network sees: (N, 1, *size).
        seen_label: The labels on that grid, (N, 1, *size), or None.
        priors: The topology of each part: of the slices along `grid.slice_axis`, in the image's order, or of
            the whole; None where it is not known.
    """

    name: str
    image: Tensor
    label: npt.NDArray[np.uint8] | None
    grid: Grid
    seen_image: Tensor
    seen_label: Tensor | None
    priors: tuple[Prior | None, ...]

    @property
    def has_priors(self) -> bool:
        """Whether the topology of any part is known."""
        return any(prior is not None for prior in self.priors)


def make_case(
    name: str,
    image: npt.NDArray[np.generic],
    label: npt.NDArray[np.generic] | None,
    spacing: tuple[float, ...],
    orientation: tuple[tuple[int, ...], tuple[int, ...]],
    config: NetworkConfig,
    priors: Mapping[int | None, Prior] = {},
) -> Case:
    """Checks an image, its labels and its priors against each other and brings it onto the network's grid.

    Args:
        name: For messages.
        image: Intensities on any scale, (*S).
        label: Whole numbers from 0 to the number of the configuration's labels, (*S), or None.
        spacing: mm per axis.
        orientation: Permutation and flips to canonical axes, as `Volume.orientation` has it.
        config: The network's configuration.
        priors: Under None for the whole image, or by slice along the axis of the largest spacing.

    Raises:
        InvalidArray: Shapes differ, a label value is not among the configuration's, or a prior speaks of
            another label or of another rank than the network's.
    """
    if label is not None:
        _check_label(name, image, label, config)
    for prior in priors.values():
        _check_prior(name, prior, config)
    grid = grid_for(config, image.shape, spacing, orientation)
    pixels = normalise(image)
    parts = 1 if grid.slice_axis is None else image.shape[grid.slice_axis]
    whole = priors.get(None)
    labels = None if label is None else label.astype(np.uint8)
    return Case(
        name,
        pixels,
        labels,
        grid,
        grid.to_network(pixels).contiguous(),
        None if labels is None else grid.to_network(torch.from_numpy(labels).float(), "nearest").contiguous(),
        tuple(priors.get(index, whole) for index in range(parts)),
    )


def _check_label(
    name: str, image: npt.NDArray[np.generic], label: npt.NDArray[np.generic], config: NetworkConfig
) -> None:
    if image.shape != label.shape:
        raise InvalidArray(f"{name}: expected labels of the image's shape {image.shape}, got {label.shape}")
    values = np.unique(label)
    if not np.isin(values, np.arange(len(config.labels) + 1)).all():
        raise InvalidArray(
            f"{name}: expected label values 0 to {len(config.labels)} ({', '.join(config.labels)}), "
            f"got {', '.join(f'{value:g}' for value in values[:10])}"
        )


def _check_prior(name: str, prior: Prior, config: NetworkConfig) -> None:
    if prior.dimensions != config.dimensions:
        raise InvalidArray(
            f"{name}: expected a prior of {config.dimensions} numbers for a {config.dimensions}-D network, "
            f"got {prior}"
        )
    highest = max((max(constraint.region, default=0) for constraint in prior.constraints), default=0)
    if highest > len(config.labels):
        raise InvalidArray(
            f"{name}: expected a prior for labels 1 to {len(config.labels)} ({', '.join(config.labels)}), "
            f"got one for label {highest}"
        )


class Patches(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """One random patch of every labelled slice or volume: image and label, (1, *patch) each.

    Args:
        cases: Cases; those without labels have no patches.
        config: Gives the patch size.
        augment: Flip, rotate, scale, bend and shade, besides drawing the position.
        seed: Of positions and augmentation.
    """

    def __init__(self, cases: Sequence[Case], config: NetworkConfig, *, augment: bool, seed: int) -> None:
        self._items = [
            {"image": image, "label": label}
            for case in cases
            if case.seen_label is not None
            for image, label in zip(case.seen_image, case.seen_label, strict=True)
        ]
        self._transform = patch_transforms(config, augment)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Tensor]:
        (patch,) = _transformed(self._transform, self._items[draw[1]], (self._seed, 0, *draw))
        return _plain(patch["image"]), _plain(patch["label"])


class Wholes(torch.utils.data.Dataset[tuple[Tensor, Prior]]):
    """Every slice or volume whose topology is known, as the network sees it: image (1, *size) and prior.

    Args:
        cases: Where some have no labels, those are taken, as in Eq. 6; else all.
        config: Gives the rank.
        augment: Flip and shade.
        seed: Of the augmentation.
    """

    def __init__(self, cases: Sequence[Case], config: NetworkConfig, *, augment: bool, seed: int) -> None:
        unlabelled = [case for case in cases if case.label is None]
        self._items = [
            ({"image": image}, prior)
            for case in unlabelled or cases
            for image, prior in zip(case.seen_image, case.grid.in_network_order(case.priors), strict=True)
            if prior is not None
        ]
        self._transform = whole_transforms(config, augment)
        self._seed = seed

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, draw: Draw) -> tuple[Tensor, Prior]:
        item, prior = self._items[draw[1]]
        return _plain(_transformed(self._transform, item, (self._seed, 1, *draw))["image"]), prior


def _transformed(transform: Any, item: dict[str, Tensor], entropy: tuple[int, ...]) -> Any:
    """MONAI's transform of an item, its random numbers begun anew from `entropy`."""
    from monai.data.meta_obj import get_track_meta, set_track_meta

    transform.set_random_state(seed=int(np.random.SeedSequence(entropy).generate_state(1)[0]))
    tracked = get_track_meta()
    set_track_meta(False)  # nothing goes back to a file, and tracking costs a third of the time
    try:
        return transform(item)
    finally:
        set_track_meta(tracked)  # a setting of the whole process, and not ours


def _plain(values: Any) -> Tensor:
    return torch.as_tensor(np.asarray(values))
