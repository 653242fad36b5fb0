"""Cases on the network's grid, and the patches and whole images that training draws from them."""

import itertools
import re

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from topofix.errors import InvalidArray
from topofix.learning.dataset import Case, Patches, Wholes, make_case
from topofix.learning.inference import normalise
from topofix.learning.network import NetworkConfig
from topofix.topology.priors import Prior

FLAT = NetworkConfig(2, ("disc", "core"), (1.0, 1.0), (16, 20), channels=(4, 8, 8))
SOLID = NetworkConfig(3, ("ball",), (1.0, 1.0, 1.0), (8, 10, 12), channels=(4, 4, 8))
AS_STORED = {2: ((0, 1), ()), 3: ((0, 1, 2), ())}
DISC, RING, NOTHING = (Prior.parse(text) for text in ("1,0", "1,1", "0,0"))


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


def test_a_case_without_labels_holds_none():
    case = flat_case(label=None)
    assert case.label is None
    assert case.seen_label is None
    assert case.priors == (None,)
    assert torch.equal(case.seen_image, flat_case().seen_image)


def test_a_prior_of_the_whole_is_every_parts():
    assert flat_case(priors={None: RING}).priors == (RING,)
    image, label = discs((5, 24, 30))
    stack = make_case("stack", image, label, (8.0, 1.0, 1.0), AS_STORED[3], FLAT, {None: RING, 3: DISC})
    assert stack.priors == (RING, RING, RING, DISC, RING)
    stack = make_case("stack", image, None, (8.0, 1.0, 1.0), AS_STORED[3], FLAT, {0: NOTHING, 4: DISC})
    assert stack.priors == (NOTHING, None, None, None, DISC)


@pytest.mark.parametrize(
    ("config", "prior", "message"),
    [
        (FLAT, "1,0,0", "one: expected a prior of 2 numbers for a 2-D network, got 1,0,0"),
        (SOLID, "1,0", "one: expected a prior of 3 numbers for a 3-D network, got 1,0"),
        (FLAT, "3:1,0", "one: expected a prior for labels 1 to 2 (disc, core), got one for label 3"),
        (FLAT, "1+4:1,0", "one: expected a prior for labels 1 to 2 (disc, core), got one for label 4"),
    ],
)
def test_priors_that_do_not_fit_are_refused(config, prior, message):
    image = np.zeros((12, 14, 16)[: config.dimensions])
    axes = AS_STORED[config.dimensions]
    with pytest.raises(InvalidArray, match=f"^{re.escape(message)}$"):
        make_case("one", image, None, (1.0,) * image.ndim, axes, config, {None: Prior.parse(prior)})


@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("make", [flat_case, lambda: flat_case((9, 11)), solid_case])
def test_patches_have_the_networks_patch_size(make, augment):
    case = make()
    config = SOLID if case.image.ndim == 3 else FLAT
    patches = Patches([case, case], config, augment=augment, seed=0)
    assert len(patches) == 2
    for image, label in (patches[draw] for draw in itertools.product(range(1, 5), range(2))):
        assert image.shape == label.shape == (1, *config.patch_size)
        assert type(image) is type(label) is torch.Tensor
        assert set(label.unique().tolist()) <= {0.0, 1.0, 2.0}
        assert torch.isfinite(image).all()


def test_there_is_one_patch_per_labelled_slice():
    image, label = discs((10, 24, 30))
    stack = make_case("stack", image, label, (8.0, 1.0, 1.0), AS_STORED[3], FLAT)
    unlabelled = make_case("stack", image, None, (8.0, 1.0, 1.0), AS_STORED[3], FLAT, {None: DISC})
    assert len(Patches([stack, unlabelled, flat_case()], FLAT, augment=False, seed=0)) == 11
    assert len(Patches([unlabelled], FLAT, augment=False, seed=0)) == 0


@pytest.mark.parametrize("make", [flat_case, solid_case])
def test_without_augmentation_patches_are_crops(make):
    case = make()
    config = SOLID if case.image.ndim == 3 else FLAT
    patches = Patches([case], config, augment=False, seed=0)
    images = windows(case.seen_image[0, 0], config.patch_size)
    labels = windows(case.seen_label[0, 0], config.patch_size)
    places = set()
    for epoch in range(12):
        image, label = patches[epoch, 0]
        same = (images == image).flatten(1).all(1).nonzero()
        assert len(same) == 1, "values are unique, so a crop is found once"
        assert torch.equal(labels[same.item()], label[0])
        places.add(same.item())
    assert len(places) > 3, "always the same place"


def test_augmentation_moves_image_and_label_together():
    """An image that is its own label map still is after any motion; only brightness differs."""
    _, label = discs((40, 40))
    case = make_case("one", label.astype(np.float32), label, (1.0, 1.0), AS_STORED[2], FLAT)
    patches = Patches([case], FLAT, augment=True, seed=0)
    plain = windows(case.seen_image[0, 0], FLAT.patch_size)
    changed = 0
    for epoch in range(30):
        image, truth = patches[epoch, 0]
        if len(truth.unique()) > 1:
            assert torch.corrcoef(torch.stack([image.flatten(), truth.flatten()]))[0, 1] > 0.7
        changed += not (plain == image).flatten(1).all(1).any()
    assert changed > 20


def test_the_small_class_is_drawn_as_often_as_the_large_ones():
    """A core of four pixels in an image of 3600: centred on it in about one patch of three."""
    label = np.zeros((60, 60), np.uint8)
    label[10:30, 10:30], label[45:47, 45:47] = 1, 2
    image = np.random.default_rng(0).random((60, 60))
    case = make_case("one", image, label, (1.0, 1.0), AS_STORED[2], FLAT)
    patches = Patches([case], FLAT, augment=False, seed=0)
    held = np.mean([bool((patches[epoch, 0][1] == 2).any()) for epoch in range(60)])
    assert 0.2 < held < 0.7  # by area it would be one of ten


DRAWS = list(itertools.product((1, 2, 7), (0, 1)))


def two_discs() -> list[Case]:
    return [flat_case(), flat_case((30, 26))]


def two_unlabelled() -> list[Case]:
    return [flat_case(shape, label=None, priors={None: DISC}) for shape in ((24, 30), (30, 26))]


@pytest.mark.parametrize(
    ("kind", "cases"), [(Patches, two_discs), (Wholes, two_unlabelled)], ids=["patches", "wholes"]
)
def test_seed_epoch_and_place_and_nothing_else_decide(kind, cases):
    def drawn(seed: int, order: list[tuple[int, int]]) -> dict[tuple[int, int], torch.Tensor]:
        items = kind(cases(), FLAT, augment=True, seed=seed)
        return {draw: items[draw][0] for draw in order}

    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 - the global generator, which must not matter
    first = drawn(3, DRAWS)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    again = drawn(3, [*DRAWS[::-1], *DRAWS[::2]])  # in another order, and some of them twice
    assert all(torch.equal(value, again[draw]) for draw, value in first.items())
    alone = drawn(3, DRAWS[3:4])
    assert torch.equal(alone[DRAWS[3]], first[DRAWS[3]])
    assert any(not torch.equal(value, first[draw]) for draw, value in drawn(4, DRAWS).items())
    assert not torch.equal(first[1, 0], first[2, 0]), "another epoch draws the same"


def test_drawing_leaves_the_global_generators_alone():
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Patches(two_discs(), FLAT, augment=True, seed=0)[1, 1]
    Wholes(two_unlabelled(), FLAT, augment=True, seed=0)[1, 1]
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
def test_patches_through_other_processes_are_the_same():
    patches = Patches(two_discs(), FLAT, augment=True, seed=0)
    batches = [[(1, 0), (1, 1)], [(2, 1)], [(2, 0), (3, 1)]]
    here = list(DataLoader(patches, batch_sampler=batches))
    there = list(DataLoader(patches, batch_sampler=batches, num_workers=2))
    assert [len(images) for images, _ in here] == [2, 1, 2]
    for (images, labels), (other_images, other_labels) in zip(here, there, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_wholes_are_the_unlabelled_cases_as_the_network_sees_them():
    labelled, (first, second) = flat_case(priors={None: RING}), two_unlabelled()
    wholes = Wholes([labelled, first, second], FLAT, augment=False, seed=0)
    assert len(wholes) == 2
    for epoch, (index, case) in itertools.product((1, 2), enumerate((first, second))):
        image, prior = wholes[epoch, index]
        assert type(image) is torch.Tensor
        assert torch.equal(image, case.seen_image[0])
        assert prior == DISC


def test_where_all_cases_have_labels_those_with_a_prior_are_the_wholes():
    cases = [flat_case(priors={None: RING}), flat_case((30, 26))]
    wholes = Wholes(cases, FLAT, augment=False, seed=0)
    assert [wholes[1, index][1] for index in range(len(wholes))] == [RING]
    assert len(Wholes(cases[1:], FLAT, augment=False, seed=0)) == 0


@pytest.mark.parametrize("flips", [(), (0,), (2,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("permutation", [(1, 2, 0), (0, 1, 2), (2, 0, 1)], ids=str)
def test_a_slice_keeps_its_prior_whichever_way_the_axes_run(permutation, flips):
    """Slice k has the brightness k, and its prior asks for k components; slice 2 has none."""
    image = np.zeros((5, 24, 30)) + np.arange(5)[:, None, None]
    priors = {k: Prior.parse(f"{k},0") for k in (0, 1, 3, 4)}
    case = make_case("stack", image, None, (8.0, 1.0, 1.0), (permutation, flips), FLAT, priors)
    assert case.grid.slice_axis == 0
    wholes = Wholes([case], FLAT, augment=False, seed=0)
    brightness = {float(value): k for k, value in enumerate(case.image[:, 0, 0])}
    found = []
    for index in range(len(wholes)):
        seen, prior = wholes[1, index]
        (value,) = seen.unique().tolist()
        assert prior == priors[brightness[value]]
        found.append(brightness[value])
    backwards = permutation.index(0) in flips
    assert found == ([4, 3, 1, 0] if backwards else [0, 1, 3, 4])


@pytest.mark.parametrize("wanted", [True, False])
def test_monai_keeps_its_setting_about_metadata(wanted):
    from monai.data.meta_obj import get_track_meta, set_track_meta

    before = get_track_meta()
    set_track_meta(wanted)
    try:
        Patches([flat_case()], FLAT, augment=True, seed=0)[1, 0]
        assert get_track_meta() is wanted
        with pytest.raises(IndexError):
            Patches([flat_case()], FLAT, augment=True, seed=0)[1, 5]
        assert get_track_meta() is wanted
    finally:
        set_track_meta(before)
