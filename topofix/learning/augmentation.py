"""Random crops, motions and grey values for training, all of them MONAI's.

A labelled case gives patches, moved and bent at will, for image and labels move together. An unlabelled case
gives topology, which holds for all of an image and for no piece of it: so it stays whole and is only flipped.
"""

from typing import Any

from topofix.learning.network import NetworkConfig

BOTH = ("image", "label")


def patch_transforms(config: NetworkConfig, augment: bool) -> Any:
    """A random patch around a voxel of a random class; with `augment` moved and shaded as well.

    Args:
        config: Gives rank, patch size and number of classes.
        augment: Flip, rotate, scale, bend, and change the grey values.

    Returns:
        A MONAI `Compose` from `image` and `label`, (1, *S) each, to a list of one such pair, (1, *patch).
    """
    from monai import transforms as t

    size, classes = config.patch_size, len(config.labels) + 1
    crop = [
        t.SpatialPadd(BOTH, size),
        t.RandCropByLabelClassesd(BOTH, "label", size, [1] * classes, num_classes=classes, warn=False),
    ]
    return t.Compose([*crop, *_motions(config), *_shades()] if augment else crop)


def whole_transforms(config: NetworkConfig, augment: bool) -> Any:
    """What may be done to a whole unlabelled image without changing its topology.

    Args:
        config: Gives the rank.
        augment: Flip and change the grey values; else nothing at all.

    Returns:
        A MONAI `Compose` from `image`, (1, *S), to the same.
    """
    from monai import transforms as t

    if not augment:
        return t.Compose([])
    axes = range(
        config.dimensions if config.dimensions == 2 else 1
    )  # a volume has been brought to one way up
    return t.Compose([*(t.RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in axes), *_shades()])


def _motions(config: NetworkConfig) -> list[Any]:
    from monai import transforms as t

    rank, size = config.dimensions, config.patch_size
    interpolation: dict[str, Any] = {"mode": ("bilinear", "nearest"), "padding_mode": "border"}
    turn = (0.5,) if rank == 2 else (0.25, 0.25, 0.25)
    moves: list[Any] = [
        t.RandFlipd(BOTH, prob=0.5, spatial_axis=0),  # left and right: organs come in mirrored pairs
        t.RandAffined(BOTH, prob=0.7, rotate_range=turn, scale_range=(0.2,) * rank, **interpolation),
    ]
    if rank == 3:
        return moves
    square = size[0] == size[1]  # a quarter turn would change the shape of any other patch
    turned = t.RandRotate90d(BOTH, prob=0.5, max_k=3) if square else t.RandFlipd(BOTH, 0.5, spatial_axis=1)
    bend = t.Rand2DElasticd(BOTH, prob=0.2, spacing=(24, 24), magnitude_range=(1, 3), **interpolation)
    return [turned, *moves, bend]  # a slice has no fixed way up between scanners


def _shades() -> list[Any]:
    """Changes of grey values, MR's damaged k-space among them: ringing, and the stripes of a spike."""
    from monai import transforms as t

    return [
        t.RandGaussianSmoothd("image", prob=0.15),
        t.RandGaussianNoised("image", prob=0.3, std=0.1),
        t.RandScaleIntensityd("image", factors=0.25, prob=0.5),
        t.RandShiftIntensityd("image", offsets=0.25, prob=0.5),
        t.RandAdjustContrastd("image", prob=0.3, gamma=(0.7, 1.5)),
        t.RandGibbsNoised("image", prob=0.1, alpha=(0.0, 0.5)),
        t.RandKSpaceSpikeNoised("image", prob=0.05),
    ]
