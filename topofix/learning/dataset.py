"""Labelled cases in memory, and the augmented patches that a network is trained on.

A case is brought onto the network's grid once, when it is added; each epoch then draws one random patch from
every slice (2-D) or volume (3-D), centred on a voxel of a random class, and augments it with MONAI's
transforms. All randomness comes from one seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from topofix.errors import InvalidArray
from topofix.learning.inference import Grid, grid_for, normalise
from topofix.learning.network import NetworkConfig


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A labelled image, as stored and as the network sees it.

    Attributes:
        name: For messages.
        image: Normalised intensities on the image's own grid, (*S).
        label: Label values on the same grid, uint8, (*S).
        grid: The way to the network's grid and back.
        seen_image: What the network sees: (N, 1, *size).
        seen_label: The labels on that grid, (N, 1, *size).
    """

    name: str
    image: Tensor
    label: npt.NDArray[np.uint8]
    grid: Grid
    seen_image: Tensor
    seen_label: Tensor


def make_case(
    name: str,
    image: npt.NDArray[np.generic],
    label: npt.NDArray[np.generic],
    spacing: tuple[float, ...],
    orientation: tuple[tuple[int, ...], tuple[int, ...]],
    config: NetworkConfig,
) -> Case:
    """Checks an image and its labels against each other and brings both onto the network's grid.

    Raises:
        InvalidArray: Shapes differ, or a label value is not among the configuration's.
    """
    if image.shape != label.shape:
        raise InvalidArray(f"{name}: expected labels of the image's shape {image.shape}, got {label.shape}")
    values = np.unique(label)
    if not np.isin(values, np.arange(len(config.labels) + 1)).all():
        raise InvalidArray(
            f"{name}: expected label values 0 to {len(config.labels)} ({', '.join(config.labels)}), "
            f"got {', '.join(f'{value:g}' for value in values[:10])}"
        )
    grid = grid_for(config, image.shape, spacing, orientation)
    pixels = normalise(image)
    labels = label.astype(np.uint8)
    return Case(
        name,
        pixels,
        labels,
        grid,
        grid.to_network(pixels).contiguous(),
        grid.to_network(torch.from_numpy(labels).float(), "nearest").contiguous(),
    )


class Patches(torch.utils.data.Dataset[dict[str, Tensor]]):
    """One random patch of every slice or volume: `image` (1, *patch) and `label` (1, *patch).

    Args:
        cases: Labelled cases.
        config: Gives the patch size.
        augment: Draw flips, rotations, scalings, elastic and intensity changes besides the position.
        seed: Of positions and augmentation.
    """

    def __init__(self, cases: Sequence[Case], config: NetworkConfig, *, augment: bool, seed: int) -> None:
        self._items = [
            {"image": image, "label": label}
            for case in cases
            for image, label in zip(case.seen_image, case.seen_label, strict=True)
        ]
        self._transform = _transforms(config, augment)
        self._transform.set_random_state(seed)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        from monai.data.meta_obj import get_track_meta, set_track_meta

        tracked = get_track_meta()
        set_track_meta(False)  # patches never go back to a file, and tracking costs a third of the time
        try:
            (patch,) = self._transform(self._items[index])
        finally:
            set_track_meta(tracked)  # a setting of the whole process, and not ours
        return {key: torch.as_tensor(np.asarray(patch[key])) for key in ("image", "label")}


def _transforms(config: NetworkConfig, augment: bool) -> Any:
    from monai import transforms as t

    both, size, rank = ["image", "label"], config.patch_size, config.dimensions
    classes = len(config.labels) + 1
    crop = [
        t.SpatialPadd(both, size),
        t.RandCropByLabelClassesd(both, "label", size, [1] * classes, num_classes=classes, warn=False),
    ]
    if not augment:
        return t.Compose(crop)
    turn = (0.5,) if rank == 2 else (0.25, 0.25, 0.25)
    moves: list[Any] = [
        t.RandFlipd(both, prob=0.5, spatial_axis=0),  # left and right: organs come in mirrored pairs
        t.RandAffined(
            both,
            prob=0.7,
            rotate_range=turn,
            scale_range=(0.2,) * rank,
            mode=("bilinear", "nearest"),
            padding_mode="border",
        ),
    ]
    if rank == 2:  # a slice has no fixed way up between scanners; a volume has been brought to one
        square = size[0] == size[1]  # a quarter turn would change the shape of any other patch
        turned = (
            t.RandRotate90d(both, prob=0.5, max_k=3) if square else t.RandFlipd(both, 0.5, spatial_axis=1)
        )
        moves.insert(0, turned)
        moves.append(
            t.Rand2DElasticd(
                both,
                prob=0.2,
                spacing=(24, 24),
                magnitude_range=(1, 3),
                mode=("bilinear", "nearest"),
                padding_mode="border",
            )
        )
    shades = [
        t.RandGaussianSmoothd("image", prob=0.15),
        t.RandGaussianNoised("image", prob=0.3, std=0.1),
        t.RandScaleIntensityd("image", factors=0.25, prob=0.5),
        t.RandShiftIntensityd("image", offsets=0.25, prob=0.5),
        t.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
    ]
    return t.Compose([*crop, *moves, *shades])
