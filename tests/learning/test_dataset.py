"""Cases on the network's grid, and the patches that training draws from them."""

import re

import numpy as np
import pytest
import torch

from topofix.errors import InvalidArray
from topofix.learning.dataset import Case, Patches, make_case
from topofix.learning.inference import normalise
from topofix.learning.network import NetworkConfig

FLAT = NetworkConfig(2, ("disc", "core"), (1.0, 1.0), (16, 20), channels=(4, 8, 8))
SOLID = NetworkConfig(3, ("ball",), (1.0, 1.0, 1.0), (8, 10, 12), channels=(4, 4, 8))
AS_STORED = {2: ((0, 1), ()), 3: ((0, 1, 2), ())}


def discs(shape: tuple[int, ...], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image whose every value is unique, and a label map of a disc with a core."""
    random = np.random.default_rng(seed)
    distance = np.sqrt(((np.indices(shape).T - np.array(shape) / 2) ** 2).sum(-1)).T
    label = (distance < min(shape) / 3).astype(np.uint8) + (distance < min(shape) / 6)
    return (label + random.random(shape)).astype(np.float32), label


def flat_case(shape=(24, 30), **change) -> Case:
    image, label = discs(shape)
    given = {"image": image, "label": label, "spacing": (1.0,) * len(shape)}
    return make_case("one", orientation=AS_STORED[len(shape)], config=FLAT, **{**given, **change})


def solid_case(shape=(12, 14, 16)) -> Case:
    image, label = discs(shape)
    return make_case("one", image, label > 0, (1.0, 1.0, 1.0), AS_STORED[3], SOLID)


def windows(image: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Every window of an image (*S), (n, *size)."""
    for axis, side in enumerate(size):
        image = image.unfold(axis, side, 1)
    return image.reshape(-1, *size)


def test_a_case_holds_the_image_normalised_and_the_labels_as_they_are():
    image, label = discs((24, 30))
    case = flat_case()
    assert torch.equal(case.image, normalise(image))
    assert case.label.dtype == np.uint8
    np.testing.assert_array_equal(case.label, label)
    assert torch.equal(case.seen_image[0, 0], case.image)
    np.testing.assert_array_equal(case.seen_label[0, 0].numpy(), label)


def test_labels_are_resampled_without_inventing_classes():
    _, label = discs((24, 30))
    case = flat_case(label=2 * (label > 0), spacing=(1.7, 0.6))
    assert case.seen_label.shape == case.seen_image.shape == (1, 1, 41, 18)
    assert set(case.seen_label.unique().tolist()) == {0.0, 2.0}


def test_a_stack_becomes_its_slices_in_canonical_order():
    image, label = discs((10, 24, 30))
    case = make_case("stack", image, label, (8.0, 1.0, 1.0), ((1, 2, 0), (2,)), FLAT)
    assert case.seen_image.shape == (10, 1, 24, 30)
    np.testing.assert_array_equal(case.seen_label[:, 0].numpy(), label[::-1])


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.zeros((24, 29)), "one: expected labels of the image's shape (24, 30), got (24, 29)"),
        (np.full((24, 30), 3), "one: expected label values 0 to 2 (disc, core), got 3"),
        (np.full((24, 30), -1), "one: expected label values 0 to 2 (disc, core), got -1"),
        (np.full((24, 30), 0.5), "one: expected label values 0 to 2 (disc, core), got 0.5"),
        (np.full((24, 30), 257), "one: expected label values 0 to 2 (disc, core), got 257"),
        (np.full((24, 30), np.nan), "one: expected label values 0 to 2 (disc, core), got nan"),
    ],
)
def test_labels_that_do_not_fit_are_refused(label, message):
    with pytest.raises(InvalidArray, match=f"^{re.escape(message)}$"):
        flat_case(label=label)


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("make", [flat_case, lambda: flat_case((9, 11)), solid_case])
def test_patches_have_the_networks_patch_size(make, augment):
    case = make()
    config = SOLID if case.image.ndim == 3 else FLAT
    patches = Patches([case, case], config, augment=augment, seed=0)
    assert len(patches) == 2
    for patch in (patches[index % 2] for index in range(8)):
        assert patch["image"].shape == patch["label"].shape == (1, *config.patch_size)
        assert type(patch["image"]) is torch.Tensor
        assert set(patch["label"].unique().tolist()) <= {0.0, 1.0, 2.0}
        assert torch.isfinite(patch["image"]).all()


def test_there_is_one_patch_per_slice():
    image, label = discs((10, 24, 30))
    stack = make_case("stack", image, label, (8.0, 1.0, 1.0), AS_STORED[3], FLAT)
    assert len(Patches([stack, flat_case()], FLAT, augment=False, seed=0)) == 11


@pytest.mark.parametrize("make", [flat_case, solid_case])
def test_without_augmentation_patches_are_crops(make):
    case = make()
    config = SOLID if case.image.ndim == 3 else FLAT
    patches = Patches([case], config, augment=False, seed=0)
    images = windows(case.seen_image[0, 0], config.patch_size)
    labels = windows(case.seen_label[0, 0], config.patch_size)
    places = set()
    for _ in range(12):
        patch = patches[0]
        same = (images == patch["image"]).flatten(1).all(1).nonzero()
        assert len(same) == 1, "values are unique, so a crop is found once"
        assert torch.equal(labels[same.item()], patch["label"][0])
        places.add(same.item())
    assert len(places) > 3, "always the same place"


def test_augmentation_moves_image_and_label_together():
    """An image that is its own label map still is after any motion; only brightness differs."""
    _, label = discs((40, 40))
    case = make_case("one", label.astype(np.float32), label, (1.0, 1.0), AS_STORED[2], FLAT)
    patches = Patches([case], FLAT, augment=True, seed=0)
    plain = Patches([case], FLAT, augment=False, seed=0)
    changed = False
    for _ in range(30):
        patch = patches[0]
        image, truth = patch["image"].flatten(), patch["label"].flatten()
        if len(truth.unique()) > 1:
            assert torch.corrcoef(torch.stack([image, truth]))[0, 1] > 0.7
        changed |= not any(torch.equal(image, plain[0]["image"].flatten()) for _ in range(2))
    assert changed


def test_the_small_class_is_drawn_as_often_as_the_large_ones():
    """A core of four pixels in an image of 3600: centred on it in about one patch of three."""
    label = np.zeros((60, 60), np.uint8)
    label[10:30, 10:30], label[45:47, 45:47] = 1, 2
    image = np.random.default_rng(0).random((60, 60))
    case = make_case("one", image, label, (1.0, 1.0), AS_STORED[2], FLAT)
    patches = Patches([case], FLAT, augment=False, seed=0)
    held = np.mean([bool((patches[0]["label"] == 2).any()) for _ in range(60)])
    assert 0.2 < held < 0.7  # by area it would be one of ten


def test_the_seed_and_nothing_else_decides():
    def drawn(seed: int) -> torch.Tensor:
        patches = Patches([flat_case()], FLAT, augment=True, seed=seed)
        return torch.stack([patches[0]["image"] for _ in range(6)])

    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator, which must not matter
    first = drawn(3)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert torch.equal(first, drawn(3))
    assert not torch.equal(first, drawn(4))


def test_monai_keeps_its_setting_about_metadata():
    from monai.data.meta_obj import get_track_meta

    Patches([flat_case()], FLAT, augment=True, seed=0)[0]
    assert get_track_meta()
