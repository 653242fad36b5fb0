"""Augmentation moves patches freely, and keeps of a whole image what a prior speaks of."""

import numpy as np
import pytest
import torch
from monai.transforms import Compose
from phantoms import figure_eight, shell

from topofix.learning.augmentation import patch_transforms, whole_transforms
from topofix.learning.network import NetworkConfig
from topofix.topology.persistence import betti

FLAT = NetworkConfig(2, ("a", "b"), (1.0, 1.0), (16, 16), channels=(4, 4, 4))
OBLONG = NetworkConfig(2, ("a",), (1.0, 1.0), (16, 8), channels=(4, 4, 4))
SOLID = NetworkConfig(3, ("a",), (1.0, 1.0, 1.0), (8, 8, 16), channels=(4, 4, 4))


def names(transforms: Compose) -> list[str]:
    return [type(one).__name__ for one in transforms.transforms]


def motions(transforms: Compose) -> Compose:
    """What of it moves voxels."""
    return Compose([one for one in transforms.transforms if "Flip" in type(one).__name__])


def drawn(transforms: Compose, image: torch.Tensor, count: int = 40) -> list[torch.Tensor]:
    found = []
    for seed in range(count):
        transforms.set_random_state(seed=seed)
        found.append(torch.as_tensor(np.asarray(transforms({"image": image})["image"])))
    return found


def test_without_augmentation_a_patch_is_cut_out_and_a_whole_left_alone():
    assert names(patch_transforms(FLAT, augment=False)) == ["SpatialPadd", "RandCropByLabelClassesd"]
    assert names(whole_transforms(FLAT, augment=False)) == []
    image = torch.rand(1, 9, 11)
    assert torch.equal(drawn(whole_transforms(FLAT, augment=False), image, 1)[0], image)


def test_nothing_but_flips_moves_a_whole():
    """Rotating, scaling or bending resamples, and resampling can open a thin wall."""
    for config in (FLAT, SOLID):
        moving = [name for name in names(whole_transforms(config, augment=True)) if "Intensity" not in name]
        shading = {"RandGaussianSmoothd", "RandGaussianNoised", "RandAdjustContrastd"}
        shading |= {"RandGibbsNoised", "RandKSpaceSpikeNoised"}
        assert set(moving) - shading == {"RandFlipd"}


@pytest.mark.parametrize(
    ("config", "phantom", "turns"), [(FLAT, figure_eight(), 4), (SOLID, shell(), 2)], ids=["2-D", "3-D"]
)
def test_a_moved_whole_is_the_same_image_seen_from_another_side(config, phantom, turns):
    """A slice is flipped along both axes, a volume left and right only; its topology is the same."""
    random = np.random.default_rng(0)
    image = torch.from_numpy(np.where(phantom.mask, 0.6, 0.0) + 0.3 * random.random(phantom.mask.shape))[None]
    axes = [(), (1,), (2,), (1, 2)][:turns] if config.dimensions == 2 else [(), (1,)]
    sides = [image.flip(one) for one in axes]
    seen = set()
    for moved in drawn(motions(whole_transforms(config, augment=True)), image):
        (side,) = [number for number, one in enumerate(sides) if torch.equal(one, moved)]
        seen.add(side)
        assert betti(moved[0].numpy() > 0.5) == phantom.full
    assert seen == set(range(turns))


@pytest.mark.parametrize("config", [FLAT, SOLID], ids=["2-D", "3-D"])
def test_shading_keeps_the_size_and_finite_numbers(config):
    image = torch.rand(1, *(20, 22, 18)[: config.dimensions])
    found = drawn(whole_transforms(config, augment=True), image, 60)
    assert all(one.shape == image.shape and torch.isfinite(one).all() for one in found)
    assert len({float(one.sum()) for one in found}) > 30


def test_a_quarter_turn_is_for_square_patches():
    """Any other patch would come back with its sides exchanged; it is flipped instead."""
    assert "RandRotate90d" in names(patch_transforms(FLAT, augment=True))
    assert "RandRotate90d" not in names(patch_transforms(OBLONG, augment=True))
    transforms = patch_transforms(OBLONG, augment=True)
    label = torch.zeros(1, 30, 30)
    label[:, 10:20, 10:20] = 1
    for seed in range(12):
        transforms.set_random_state(seed=seed)
        (patch,) = transforms({"image": torch.rand(1, 30, 30), "label": label})
        assert patch["image"].shape == patch["label"].shape == (1, 16, 8)


def test_a_volume_is_never_turned_upside_down():
    """It has been brought to one way up; left and right are a mirror's work."""
    label = torch.zeros(1, 24, 24, 24)
    label[..., 12:] = 1
    transforms = patch_transforms(SOLID, augment=True)
    for seed in range(12):
        transforms.set_random_state(seed=seed)
        (patch,) = transforms({"image": label.clone(), "label": label})
        below, above = patch["label"][..., :8].mean(), patch["label"][..., 8:].mean()
        assert below <= above
