"""The way to the network's grid and back: exact where it can be, equivariant, differentiable."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from topofix.errors import InvalidArray
from topofix.imaging.volumes import Volume
from topofix.learning import inference
from topofix.learning.inference import Grid, forward, grid_for, normalise, predict, widest_axis
from topofix.learning.network import NetworkConfig, build

CPU = torch.device("cpu")
FLAT = NetworkConfig(2, ("disc", "ring"), (1.0, 1.0), (32, 32), channels=(4, 8, 8))
SOLID = NetworkConfig(3, ("ball",), (1.0, 1.0, 1.0), (16, 16, 16), channels=(4, 4, 8))
SHAPE = (8, 9, 10)
ORIENTATIONS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in [(), (0,), (2,), (1, 2), (0, 1, 2)]
]


@pytest.fixture(scope="module")
def flat():
    return trained_looking(build(FLAT, seed=1))


@pytest.fixture(scope="module")
def solid():
    return trained_looking(build(SOLID, seed=1))


def trained_looking(network: nn.Module) -> nn.Module:
    """Statistics and biases away from their initial zeros and ones, as training leaves them."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                tensor.add_(0.3 * torch.rand(tensor.shape, generator=generator))
    return network.eval()


def scan(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("slice_axis", [None, 0, 1, 2])
def test_there_and_back_is_the_identity_where_the_spacing_is_the_networks(orientation, slice_axis):
    config = SOLID if slice_axis is None else FLAT
    grid = grid_for(config, SHAPE, (1.0, 1.0, 1.0), orientation, slice_axis)
    image = scan()
    seen = grid.to_network(image)
    assert seen.shape == (1 if slice_axis is None else SHAPE[slice_axis], 1, *grid.size)
    assert torch.equal(grid.to_image(seen), image[None])
    assert torch.equal(grid.to_network(image, "nearest"), seen)
    two = torch.cat([seen, -seen], 1)  # channels stay in front
    assert torch.equal(grid.to_image(two), torch.stack([image, -image]))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
def test_the_network_sees_the_axes_in_canonical_order(orientation):
    permutation, flips = orientation
    image = scan()
    canonical = image.permute(permutation).flip(flips)
    grid = grid_for(SOLID, SHAPE, (1.0, 1.0, 1.0), orientation)
    assert torch.equal(grid.to_network(image)[0, 0], canonical)
    for axis in range(3):
        slices = grid_for(FLAT, SHAPE, (1.0, 1.0, 1.0), orientation, axis).to_network(image)[:, 0]
        assert torch.equal(slices, canonical.movedim(permutation.index(axis), 0))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_the_grid_of_a_slice_does_what_the_volumes_does(orientation, slice_axis):
    """Resampling included: spacing 1.0, 1.7 and 2.3 mm to 1 mm."""
    spacing = (1.0, 1.7, 2.3)
    grid = grid_for(FLAT, SHAPE, spacing, orientation, slice_axis)
    part = grid.of_slice()
    image = scan()
    seen, slices = grid.to_network(image), image.unbind(slice_axis)
    back = grid.to_image(seen)
    backwards = orientation[0].index(slice_axis) in orientation[1]
    for index, one in enumerate(slices):
        of_one = part.to_network(one)
        assert torch.equal(of_one[0], seen[len(slices) - 1 - index if backwards else index])
        assert torch.equal(part.to_image(of_one), back.select(slice_axis + 1, index))


@pytest.mark.parametrize("orientation", ORIENTATIONS, ids=str)
@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_what_belongs_to_slices_follows_them_to_the_network(orientation, slice_axis):
    image = torch.arange(float(SHAPE[slice_axis])).reshape([-1 if a == slice_axis else 1 for a in range(3)])
    grid = grid_for(FLAT, SHAPE, (1.0, 1.0, 1.0), orientation, slice_axis)
    seen = grid.to_network(image.expand(SHAPE))
    order = grid.in_network_order(tuple(range(SHAPE[slice_axis])))
    assert seen[:, 0, 0, 0].tolist() == list(order)


def test_a_whole_keeps_its_one_prior():
    for config, shape in ((SOLID, SHAPE), (FLAT, SHAPE[:2])):
        axes = tuple(range(len(shape)))
        grid = grid_for(config, shape, (1.0,) * len(shape), (axes, axes))
        assert grid.in_network_order(("whole",)) == ("whole",)


def test_resampling_keeps_a_linear_ramp_and_its_borders():
    """2 mm to 1 mm and back: voxel middles move, but a straight line stays straight away from the border."""
    config = NetworkConfig(2, ("disc",), (1.0, 1.0), (32, 32), channels=(4, 8, 8))
    grid = grid_for(config, (12, 10), (2.0, 3.0))
    assert grid.size == (24, 30)
    rows = torch.arange(12.0)[:, None].expand(12, 10)
    seen = grid.to_network(rows)[0, 0]
    millimetres = (torch.arange(24.0) + 0.5) / 2 - 0.5  # of the network's voxels, in the image's
    assert torch.allclose(seen[1:-1], millimetres[1:-1, None].expand(22, 30))
    back = grid.to_image(grid.to_network(rows))[0]
    assert torch.allclose(back[1:-1], rows[1:-1], atol=1e-5)
    labels = (rows > 5).float()
    assert set(grid.to_network(labels, "nearest").unique().tolist()) == {0.0, 1.0}
    assert torch.equal(grid.to_image(grid.to_network(labels, "nearest"))[0] > 0.5, labels > 0.5)


def test_the_size_is_the_extent_in_the_networks_voxels():
    config = NetworkConfig(3, ("a",), (1.0, 2.0, 3.0), (8, 8, 8), channels=(4, 8, 8))
    grid = grid_for(config, (10, 20, 30), (2.0, 1.0, 0.5), ((2, 0, 1), ()))
    assert grid.size == (15, 10, 7)  # 15, 20 and 20 mm, in canonical order
    assert grid_for(config, (2, 2, 2), (0.1, 0.1, 0.1)).size == (1, 1, 1)


def test_a_flat_image_is_refused_by_a_solid_network():
    with pytest.raises(InvalidArray, match=re.escape("expected a volume for a 3-D model, got a 2-D image")):
        grid_for(SOLID, (8, 9), (1.0, 1.0))


@pytest.mark.parametrize(
    ("shape", "spacing", "axis"),
    [
        ((10, 20, 20), (8.0, 1.0, 1.0), 0),
        ((20, 10, 20), (1.0, 1.0, 1.0), 1),
        ((9, 9, 9), (1.0, 1.0, 1.0), 2),
        ((4, 20, 20), (1.0, 1.0, 1.5), 2),
    ],
)
def test_a_stack_lies_along_the_largest_spacing_then_the_fewest_voxels(shape, spacing, axis):
    assert widest_axis(shape, spacing) == axis
    assert grid_for(FLAT, shape, spacing).slice_axis == axis


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_a_volume_slice_by_slice_is_its_slices_alone(flat, slice_axis):
    image = scan((9, 10, 11))
    grid = grid_for(FLAT, image.shape, (1.0, 1.5, 0.8), None, slice_axis)
    whole = predict(flat, FLAT, image, grid, CPU)
    assert whole.shape == (3, 9, 10, 11)
    for index in range(image.shape[slice_axis]):
        alone = predict(flat, FLAT, image.select(slice_axis, index), grid.of_slice(), CPU)
        assert torch.allclose(alone, whole.select(slice_axis + 1, index), atol=1e-5)
    assert not torch.allclose(whole.select(slice_axis + 1, 0), whole.select(slice_axis + 1, 1), atol=1e-2)


@pytest.mark.parametrize("orientation", ORIENTATIONS[::4], ids=str)
@pytest.mark.parametrize("config", [FLAT, SOLID], ids=["2-D network", "3-D network"])
def test_a_scan_stored_another_way_round_is_predicted_alike(orientation, config, flat, solid):
    """Reorder and flip the array, and say so in the affine: the logits must be reordered and flipped."""
    network = flat if config is FLAT else solid
    spacing = (1.0, 1.2, 2.0)
    stored = Volume(scan((12, 11, 6)).numpy(), spacing, np.diag([*spacing, 1.0]), Path("scan.nii"))
    order, flips = orientation
    direction = np.eye(3)[:, list(order)] * np.where(np.isin(range(3), flips), -1, 1)
    affine = np.eye(4)
    affine[:3, :3] = direction * [spacing[axis] for axis in order]
    turned = np.flip(stored.array.transpose(order), flips)
    other = Volume(turned, tuple(spacing[axis] for axis in order), affine, Path("other.nii"))

    def logits(volume: Volume) -> np.ndarray:
        grid = grid_for(config, volume.array.shape, volume.spacing, volume.orientation)
        return predict(network, config, normalise(volume.array), grid, CPU).numpy()

    expected = np.flip(logits(stored).transpose(0, *(axis + 1 for axis in order)), [f + 1 for f in flips])
    np.testing.assert_allclose(logits(other), expected, atol=1e-4)


class Receptive(nn.Module):
    """Three-by-three means, so that only what is near matters; logits (N, 2, *S)."""

    def __init__(self, rank: int) -> None:
        super().__init__()
        self.mean = (nn.Conv2d if rank == 2 else nn.Conv3d)(1, 2, 3, padding=1, padding_mode="replicate")
        self.seen: list[torch.Size] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.shape[2:])
        return self.mean(images)


@pytest.mark.parametrize("size", [(1, 1), (3, 9), (4, 8), (13, 30)])
def test_any_size_is_padded_to_what_can_be_halved_and_cut_back(size):
    network = Receptive(2)
    images = scan((2, 1, *size))
    logits = forward(network, FLAT, images)
    assert logits.shape == (2, 2, *size)
    assert all(side % FLAT.divisor == 0 for side in network.seen[0])
    assert all(0 <= large - small < FLAT.divisor for large, small in zip(network.seen[0], size, strict=True))
    assert torch.allclose(logits, network.mean(images), atol=1e-6)  # replicated, as the mean itself does


def test_padding_does_not_swap_axes(flat):
    images = scan((1, 1, 13, 30))
    by_hand = torch.from_numpy(np.pad(images.numpy(), [(0, 0), (0, 0), (0, 3), (0, 2)], mode="edge"))
    with torch.no_grad():
        assert torch.equal(forward(flat, FLAT, images), flat(by_hand)[..., :13, :30])


@pytest.mark.parametrize("rank", [2, 3])
def test_windows_are_blended_to_what_the_whole_image_gives(rank, monkeypatch):
    """Away from the windows' own borders a local network gives the same; the weights favour those places."""
    config, size = (FLAT, (50, 23)) if rank == 2 else (SOLID, (30, 9, 22))
    network, images = Receptive(rank), scan((1, 1, *size))
    with torch.no_grad():
        whole = forward(network, config, images)
        monkeypatch.setattr(inference, "WINDOW", {2: 16, 3: 16})
        network.seen.clear()
        slid = forward(network, config, images)
    assert len(network.seen) > 1
    assert max(max(seen) for seen in network.seen) == 16
    assert slid.shape == whole.shape
    error = (slid - whole).abs()
    assert error.mean() < 0.05 * whole.std()
    assert (error < 1e-5).float().mean() > 0.5


def test_a_window_that_holds_the_image_changes_nothing(flat, monkeypatch):
    images = scan((1, 1, 32, 28))
    with torch.no_grad():
        whole = forward(flat, FLAT, images)
        monkeypatch.setattr(inference, "WINDOW", {2: 32, 3: 32})
        assert torch.equal(forward(flat, FLAT, images), whole)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_normalised_intensities_have_mean_zero_and_deviation_one(dtype):
    values = normalise(np.random.default_rng(0).integers(0, 200, (30, 31)).astype(dtype))
    assert values.dtype == torch.float32
    assert values.mean().item() == pytest.approx(0, abs=1e-5)
    assert values.std(correction=0).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e-9, 1e-3, 1.0, 1e6, 1e12])
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_scale_and_offset_of_the_scanner_do_not_matter(scale, shift):
    array = np.random.default_rng(0).gamma(2.0, size=(20, 21))
    assert torch.allclose(normalise(scale * (array + shift)), normalise(array), atol=1e-5)


def test_a_few_outliers_do_not_matter():
    array = np.random.default_rng(0).normal(size=(100, 100))
    array[0, :10] = 1e9
    assert normalise(array)[1:].std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e6 + 0.1, 1e-9])
def test_a_constant_image_becomes_zero(value):
    assert normalise(np.full((7, 9), value)).abs().max().item() < 1e-6


def test_gradients_reach_the_weights_through_the_whole_way(flat):
    """Resampled, reordered and flipped: every parameter that has a say gets a finite gradient."""
    network = build(FLAT, seed=1).eval()
    grid = grid_for(FLAT, (6, 14, 15), (5.0, 1.3, 0.8), ((2, 1, 0), (0, 2)))
    logits = grid.to_image(forward(network, FLAT, grid.to_network(scan((6, 14, 15)))))
    assert logits.shape == (3, 6, 14, 15)
    torch.softmax(logits, 0)[1].square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_the_way_back_is_differentiable():
    grid = Grid((4, 3), (1, 0), (0,), None, (5, 6))
    logits = torch.rand(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(grid.to_image, (logits,))
    image = torch.rand(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(grid.to_network, (image,))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_of_a_single_voxel_is_the_slice_axis(axis):
    """A slice that is thinner than its pixels are wide is still one slice."""
    shape, spacing = [144, 140], [1.5, 1.5]
    shape.insert(axis, 1)
    spacing.insert(axis, 1.0)
    assert widest_axis(tuple(shape), tuple(spacing)) == axis
