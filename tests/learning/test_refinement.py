"""Refinement reaches what can be reached, never makes anything worse, and leaves what it was given alone."""

import copy
import itertools
import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import phantoms
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from topofix.errors import InvalidOption
from topofix.learning import descent, refinement
from topofix.learning.adaptation import adapted_weights
from topofix.learning.boxes import box_around
from topofix.learning.descent import MARGIN, Best, labels_of
from topofix.learning.inference import forward, grid_for, predict
from topofix.learning.network import NetworkConfig, build
from topofix.learning.refinement import refine_voxels, refine_weights
from topofix.records import RefinementOptions
from topofix.topology.persistence import barcode, betti
from topofix.topology.priors import Prior
from topofix.topology.regions import betti_of_regions, dice

CPU = torch.device("cpu")
CONFIG = NetworkConfig(2, ("disc",), (1.0, 1.0), (32, 32), channels=(4, 8, 8))


def logits_of(field: np.ndarray) -> torch.Tensor:
    """Logits (2, *S) of a probability of the foreground."""
    logit = torch.from_numpy(field.astype(np.float32)).logit(eps=1e-6)
    return torch.stack([torch.zeros_like(logit), logit])


def smooth_logits(shape: tuple[int, ...], seed: int) -> torch.Tensor:
    """Random logits (C, *S) with features of several voxels."""
    field = np.random.default_rng(seed).normal(size=shape)
    for axis in range(1, len(shape)):
        field = field + np.roll(field, 1, axis) + np.roll(field, -1, axis)
    return torch.from_numpy(field.astype(np.float32))


def error_of(logits: torch.Tensor, prior: Prior, connectivity="full") -> int:
    """The Betti error of the label map, counted without any barcode."""
    counts = betti_of_regions(logits.argmax(0).numpy(), prior, connectivity)
    return sum(c.error(n) for c, n in zip(prior.constraints, counts, strict=True))


def ring_with_gap_and_speck() -> np.ndarray:
    field = np.where(phantoms.ring().mask, 0.9, 0.1)
    field[10:12, 12:20] = np.where(field[10:12, 12:20] > 0.5, 0.35, 0.1)
    field[1:3, 1:3] = 0.65
    assert betti(field > 0.5) == (2, 0)
    return field


def two_blobs() -> np.ndarray:
    field = np.where(phantoms.two_discs().mask, 0.9, 0.1)
    field[:, 15:] = np.where(field[:, 15:] > 0.5, 0.7, 0.1)
    return field


def ball_with_void_and_speck() -> np.ndarray:
    field = np.where(phantoms.ball().mask, 0.9, 0.1)
    field[7, 7, 7], field[1:3, 1:3, 1:3] = 0.3, 0.7
    assert betti(field > 0.5) == (2, 0, 1)
    return field


REACHABLE = {
    "a ring is closed and its speck removed": (ring_with_gap_and_speck, "1,1"),
    "of two pieces one is left": (two_blobs, "1,0"),
    "what is absent goes": (lambda: np.where(phantoms.disc().mask, 0.8, 0.1), "0,0"),
    "what is there may stay within a range": (two_blobs, "1,*"),
    "a ball is filled and its speck removed": (ball_with_void_and_speck, "1,0,0"),
    "what is absent goes in 3-D": (lambda: np.where(phantoms.ball().mask, 0.7, 0.2), "0,0,0"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["single", "double"])
@pytest.mark.parametrize("wish", REACHABLE)
def test_free_voxels_reach_what_is_asked_for(wish, dtype):
    make, text = REACHABLE[wish]
    prior, logits = Prior.parse(text), logits_of(make()).to(dtype)
    before = logits.clone()
    assert error_of(logits, prior) > 0
    options = RefinementOptions()
    result = refine_voxels(logits, prior, options)
    assert result.error == error_of(result.logits, prior) == 0
    assert 0 < result.steps <= options.steps
    assert result.logits.dtype == dtype
    assert not result.logits.requires_grad
    assert torch.equal(logits, before), "the input was changed"


def test_what_is_kept_stays_where_it_was():
    logits = logits_of(ring_with_gap_and_speck())
    result = refine_voxels(logits, Prior.parse("1,1"), RefinementOptions())
    assert dice(result.logits.argmax(0).numpy() > 0, phantoms.ring().mask) > 0.9


@pytest.mark.parametrize("spacing", [(1.0, 3.0), (3.0, 1.0), (0.7, 0.7)])
def test_anisotropic_voxels_are_no_obstacle(spacing):
    prior = Prior.parse("1,1")
    options = RefinementOptions()
    result = refine_voxels(logits_of(ring_with_gap_and_speck()), prior, options, spacing=spacing)
    assert error_of(result.logits, prior) == 0


def test_the_gaussian_is_round_in_mm():
    """Of two axes the one with voxels twice as long gets a Gaussian half as wide; each sums to one."""
    widths = []
    for gaussian in refinement._gaussians(4.0, (2.0, 1.0), (41, 61)):
        middle = len(gaussian) // 2
        row = gaussian[middle]
        widths.append((row * (torch.arange(len(row)) - middle) ** 2).sum().sqrt().item())
        assert row.sum().item() == pytest.approx(1)
        assert torch.equal(gaussian, gaussian.T), "smoothing is its own adjoint"
    assert widths == pytest.approx([2.0, 4.0], rel=0.03)  # cut off at three standard deviations
    for gaussian, side in zip(refinement._gaussians(0.0, (2.0, 1.0), (3, 5)), (3, 5), strict=True):
        assert torch.equal(gaussian, torch.eye(side))


@pytest.mark.parametrize("shape", [(9, 30), (7, 11, 20)])
def test_smoothing_is_a_convolution(shape):
    from scipy import ndimage

    field = np.random.default_rng(0).normal(size=(2, *shape))
    spacing = (2.0, 1.0, 1.0)[: len(shape)]
    gaussians = refinement._gaussians(2.0, spacing, shape, torch.float64)
    smooth = refinement._smooth(torch.from_numpy(field), gaussians)
    sigmas = [2.0 / step for step in spacing]
    expected = [ndimage.gaussian_filter(part, sigmas, mode="constant", truncate=3.0) for part in field]
    assert np.allclose(smooth, expected)


def test_smoothing_spreads_a_unit_of_change_and_loses_none():
    spike = torch.zeros(2, 21, 25)
    spike[1, 10, 12] = 1.0
    smooth = refinement._smooth(spike, refinement._gaussians(2.0, (1.0, 1.0), (21, 25)))
    assert smooth.shape == spike.shape
    assert smooth[0].abs().max() == 0, "channels mixed"
    assert smooth.sum().item() == pytest.approx(1, abs=1e-5)
    assert smooth[1, 10, 15].item() == pytest.approx(smooth[1, 13, 12].item())
    assert smooth.argmax() == spike.argmax()


@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_both_connectivities(connectivity):
    """A closed curve of corner-touching pixels is a ring already, or twelve pieces."""
    logits = logits_of(np.where(phantoms.diamond().mask, 0.8, 0.2))
    prior = Prior.parse("1,1")
    result = refine_voxels(logits, prior, RefinementOptions(), connectivity)
    assert result.error == error_of(result.logits, prior, connectivity) == 0
    assert (result.steps == 0) == (connectivity == "full")


@pytest.mark.parametrize(
    ("make", "text"), [(phantoms.ring, "1,1"), (phantoms.two_discs, "2,0"), (phantoms.torus, "1,1,0")]
)
def test_what_is_right_already_comes_back_bit_for_bit(make, text):
    logits = logits_of(phantoms.probabilities(make().mask))
    result = refine_voxels(logits, Prior.parse(text), RefinementOptions())
    assert torch.equal(result.logits, logits)
    assert (result.error, result.steps) == (0, 0)


def test_without_steps_nothing_changes():
    logits = logits_of(two_blobs())
    result = refine_voxels(logits, Prior.parse("1,0"), RefinementOptions(steps=0))
    assert torch.equal(result.logits, logits)
    assert (result.error, result.steps) == (1, 0)


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 9])
def test_no_more_steps_than_allowed(steps):
    logits = logits_of(two_blobs())
    assert refine_voxels(logits, Prior.parse("5,5"), RefinementOptions(steps=steps)).steps == steps


@pytest.mark.parametrize("text", ["9,9", "1,7", "30,0", "0,0"])
@pytest.mark.parametrize("steps", [1, 4, 12])
def test_never_worse_than_the_input_under_a_hopeless_prior(text, steps):
    prior = Prior.parse(text)
    for seed in range(3):
        logits = 3 * smooth_logits((2, 24, 26), seed)
        result = refine_voxels(logits, prior, RefinementOptions(steps=steps))
        before, after = error_of(logits, prior), error_of(result.logits, prior)
        assert result.error == after <= before
        if after == before:
            assert torch.equal(result.logits, logits), "changed for nothing"


def test_the_best_state_is_the_one_with_fewest_changes():
    """Of states with equal Betti error the first is kept unless a later one changes fewer voxels."""
    start = logits_of(two_blobs())
    best = Best(start)
    far, near = start.clone(), start.clone()
    far[1, :2], near[1, 0] = 5.0, 5.0
    for state, error in ((start, 3), (far, 1), (near, 1), (far, 1), (start, 2)):
        best.offer(state, error)
    assert best.error == 1
    assert torch.equal(best.logits, near)


@pytest.mark.parametrize(("smoothing", "most"), [(None, 2), ((1.0, 0.0), 30)])
def test_an_unsure_prediction_is_not_washed_away(smoothing, most):
    """Around it are many bars that the label map does not show; a single voxel is what is wrong."""
    distance = np.sqrt(sum((axis - 15.5) ** 2 for axis in np.indices((32, 32, 32))))
    noise = gaussian_filter(np.random.default_rng(0).normal(size=distance.shape), 0.7)
    z = 0.2 * (9 - distance) + 0.1 * noise / noise.std()
    z[3, 3, 3] = 0.3
    logits = torch.tensor(np.stack([-z / 2, z / 2]), dtype=torch.float32)
    assert len(barcode(torch.softmax(logits, 0)[1].numpy())) > 150
    refined = refine_voxels(logits, Prior.parse("1,0,0"), RefinementOptions(smoothing=smoothing))
    assert refined.error == 0
    assert (labels_of(refined.logits) != labels_of(logits)).sum() <= most


def test_what_lies_outside_the_box_is_not_touched():
    field = np.full((60, 64), 1e-4)
    field[5:17, 6:18] = 0.9
    field[10:12, 9:11] = 0.2
    logits = logits_of(field)
    result = refine_voxels(logits, Prior.parse("1,0"), RefinementOptions())
    assert result.error == error_of(result.logits, Prior.parse("1,0")) == 0
    changed = (result.logits != logits).any(0).nonzero()
    margin = MARGIN
    assert changed.amin(0).tolist() >= [0, 0]
    assert (changed.amax(0) <= torch.tensor([16 + margin, 17 + margin])).all()


def test_two_runs_are_equal_and_threads_matter_only_by_rounding():
    logits = logits_of(phantoms.probabilities(ring_with_gap_and_speck() > 0.5))
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 1, 2):
            torch.set_num_threads(number)
            results.append(refine_voxels(logits, Prior.parse("1,1"), RefinementOptions(steps=24)))
    finally:
        torch.set_num_threads(threads)
    first, again, threaded = results
    assert first.steps > 0
    assert torch.equal(first.logits, again.logits)
    assert first.steps == again.steps == threaded.steps
    assert torch.equal(first.logits.argmax(0), threaded.logits.argmax(0))
    assert torch.allclose(first.logits, threaded.logits, atol=1e-3)  # torch's softmax differs in the last bit


def three_labels() -> torch.Tensor:
    """Label 1 is a ring with a gap, label 2 the disc inside it."""
    inside = phantoms.ring().mask.copy()
    rows, columns = np.indices(inside.shape) - 10
    disc = (np.hypot(rows, columns) < 4) & ~inside
    gap = inside & (columns > 3) & (np.abs(rows) < 1)
    label = np.where(inside & ~gap, 1, np.where(disc, 2, 0))
    logits = torch.from_numpy(4.0 * np.eye(3, dtype=np.float32)[label]).movedim(-1, 0).clone()
    logits[1, gap] = 3.0  # background 4, label 1 close behind
    return logits


def test_a_prior_on_one_of_several_labels():
    logits = three_labels()
    prior = Prior.parse("1:1,1 2:1,0")
    assert error_of(logits, prior) > 0
    result = refine_voxels(logits, prior, RefinementOptions())
    assert result.error == error_of(result.logits, prior) == 0
    unmoved = (result.logits.argmax(0) == logits.argmax(0)).float().mean()
    assert unmoved > 0.95


def test_a_prior_on_a_union_is_met_by_the_label_map():
    """Two touching labels with a crack between them, of which the union shall be whole."""
    logits = torch.zeros(3, 20, 22)
    logits[0] = 3.0
    logits[1, 5:15, 4:10] = 5.0
    logits[2, 5:15, 11:17] = 5.0
    logits[1:, 5:15, 10] = 2.5
    prior = Prior.parse("1+2:1,0 1:1,0 2:1,0")
    assert error_of(logits, prior) == 1
    result = refine_voxels(logits, prior, RefinementOptions())
    assert result.error == error_of(result.logits, prior) == 0


class Overfitted:
    """A tiny network that has seen discs, and an image in which it finds one too many."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.network = build(CONFIG, seed=0)
        optimiser = torch.optim.Adam(self.network.parameters(), 2e-2)
        rows, columns = np.indices((32, 32))
        self.network.train()
        for _ in range(40):
            centres = random.integers(8, 24, (4, 2))
            masks = np.stack([np.hypot(rows - y, columns - x) < 6 for y, x in centres])
            images = torch.from_numpy((masks + 0.2 * random.normal(size=masks.shape)).astype(np.float32))
            logits = self.network(images[:, None])
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(masks).long())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        self.network.eval()
        image = (np.hypot(rows - 14, columns - 13) < 7) + 0.8 * (np.hypot(rows - 25, columns - 27) < 3)
        self.image = torch.from_numpy((image + 0.1 * random.normal(size=image.shape)).astype(np.float32))
        self.grid = grid_for(CONFIG, (32, 32), (1.0, 1.0))

    def logits(self) -> torch.Tensor:
        return predict(self.network, CONFIG, self.image, self.grid, CPU)

    def refine(self, prior: str, **options) -> refinement.Refinement:
        return refine_weights(
            self.network, CONFIG, self.image, self.grid, Prior.parse(prior), RefinementOptions(**options)
        )


@pytest.fixture(scope="module")
def overfitted():
    return Overfitted()


@pytest.fixture
def recorded(monkeypatch):
    """What every evaluation of the topological loss was given, in order."""
    seen = []

    def evaluate(probabilities, prior, connectivity="full", **options):
        found = true_evaluate(probabilities, prior, connectivity, **options)
        seen.append((probabilities.detach().clone(), found))
        return found

    true_evaluate = descent.evaluate
    monkeypatch.setattr(descent, "evaluate", evaluate)
    return seen


def test_a_copy_of_the_network_removes_the_second_piece(overfitted):
    before = overfitted.logits()
    assert betti(before.argmax(0).numpy()) == (2, 0)
    result = overfitted.refine("1,0")
    assert result.error == 0
    assert betti(result.logits.argmax(0).numpy()) == (1, 0)
    assert result.steps > 0
    assert not result.logits.requires_grad
    assert dice(result.logits.argmax(0).numpy() > 0, before.argmax(0).numpy() > 0) > 0.75


def test_the_network_that_was_passed_in_stays_as_it_is(overfitted):
    state = copy.deepcopy(overfitted.network.state_dict())
    overfitted.refine("1,0", steps=5, weights_learning_rate=1e-2)
    for name, value in overfitted.network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert not overfitted.network.training


def test_refinement_starts_from_the_plain_prediction(overfitted, recorded):
    """Batch statistics in place of the frozen ones would already change the prediction of step 0."""
    result = overfitted.refine("4,4", steps=0)
    assert torch.equal(result.logits, overfitted.logits())
    assert result.steps == 0
    ((probabilities, _),) = recorded
    assert torch.equal(probabilities, torch.softmax(overfitted.logits(), 0))


def test_normalisation_statistics_of_the_copy_are_frozen(overfitted, monkeypatch):
    copies = []

    def remember(network, config, images):
        copies.append(network)
        return forward(network, config, images)

    monkeypatch.setattr(refinement, "forward", remember)
    overfitted.refine("4,4", steps=3, weights_learning_rate=1e-3)
    statistics = dict(copies[-1].named_buffers())
    assert statistics
    for name, value in overfitted.network.named_buffers():
        assert torch.equal(value, statistics[name]), name
    moved = zip(overfitted.network.parameters(), copies[-1].parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in moved)


def test_the_objective_falls_along_the_first_steps(overfitted, recorded):
    weight = 0.5
    overfitted.refine("1,0", steps=6, topology_weight=weight, weights_learning_rate=1e-5)
    start = recorded[0][0]
    likely = (start[1] > descent.NEGLIGIBLE).nonzero()
    volume = (2 * (likely.amax(0) - likely.amin(0) + 1)).prod()
    objective = [
        ((probabilities - start).square().sum() / volume + weight * found.loss).item()
        for probabilities, found in recorded
    ]
    assert len(objective) >= 4
    assert objective[0] == pytest.approx(weight * recorded[0][1].loss.item())  # nothing has changed yet
    assert all(later < earlier for earlier, later in itertools.pairwise(objective))


@pytest.mark.parametrize("prior", ["9,9", "1,5", "0,0"])
@pytest.mark.parametrize("rate", [1e-3, 0.5])
def test_weights_are_never_worse_than_the_input(overfitted, prior, rate):
    before = overfitted.logits()
    wanted = Prior.parse(prior)
    result = overfitted.refine(prior, steps=6, weights_learning_rate=rate)
    assert result.error == error_of(result.logits, wanted) <= error_of(before, wanted)
    if result.error == error_of(before, wanted):
        assert torch.equal(result.logits, before)


def test_steps_that_diverge_leave_the_best_state(overfitted):
    before = overfitted.logits()
    result = overfitted.refine("9,9", steps=5, weights_learning_rate=1e30)
    assert result.error == error_of(result.logits, Prior.parse("9,9")) <= error_of(before, Prior.parse("9,9"))
    assert torch.isfinite(result.logits).all()


@pytest.mark.parametrize("text", ["1,1", "1,0", "0,0"])
def test_a_saturated_map_is_corrected_too(text):
    """Probabilities of 0 and 1, where a sigmoid is all but flat: a ring with a gap, and a speck of 0.99."""
    rows, columns = np.mgrid[:64, :64]
    radius = np.hypot(rows - 32, columns - 30)
    mask = (radius > 10) & (radius < 15)
    field = mask.astype(np.float32)
    field[30:34, 38:50], field[5:8, 5:8] = 0.0, 0.99
    logits = logits_of(field)
    result = refine_voxels(logits, Prior.parse(text), RefinementOptions())
    assert result.error == error_of(result.logits, Prior.parse(text)) == 0


def test_what_is_certain_stays_certain():
    """A map of 0 and 1 with a speck too many: far from it the probabilities come back as they were."""
    field = np.zeros((64, 64), np.float32)
    field[20:50, 20:50], field[20:24, 58:62] = 1.0, 0.7
    logits = logits_of(field)
    options = RefinementOptions(smoothing=(1.0, 0.0))
    result = refine_voxels(logits, Prior.parse("1,0"), options)
    assert result.error == 0
    probability = torch.softmax(result.logits, 0)[1].numpy()
    assert np.abs(probability - field)[:, :54].max() < 1e-3


class Brightness(nn.Module):
    """A network with one weight: it adds it to the logit that it is given as an image."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros_like(images), images + self.more], dim=1)


@pytest.mark.parametrize(("row", "error"), [(24, 1), (52, 0)])
def test_only_what_is_near_the_first_prediction_changes(row, error):
    """A step strong enough to show a faint wanted piece shows two others: near they count, far they stay."""
    logit = torch.full((80, 80), -30.0)
    logit[4:12, 4:12] = 4.0
    logit[4:8, 16:20] = -3.9  # wanted, and near
    logit[row : row + 4, 4:8] = logit[row : row + 4, 30:34] = -4.7  # below 1 %
    grid = grid_for(CONFIG, (80, 80), (1.0, 1.0))
    prior = Prior.parse("2,0")
    # Two channels move against each other by what one weight moves: their reach is a half.
    options = RefinementOptions(steps=3, weights_learning_rate=3.0 / refinement.REACH, topology_weight=10.0)
    result = refine_weights(Brightness(), CONFIG, logit, grid, prior, options)
    assert result.error == error_of(result.logits, prior) == error
    assert (result.logits[1, 44:] == logit[44:]).all()


def test_weights_are_adapted_in_slices_and_windows(overfitted, monkeypatch):
    """Stacked slices, or an image larger than a window, take part in the gradient like any other."""
    monkeypatch.setattr("topofix.learning.inference.WINDOW", {2: 16, 3: 16})
    images = overfitted.image.expand(2, 32, 32)
    grid = grid_for(CONFIG, (2, 32, 32), (5.0, 1.0, 1.0))
    adapted = copy.deepcopy(overfitted.network)
    logits = grid.to_image(forward(adapted, CONFIG, grid.to_network(images)))
    logits[1].sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapted.output_block.parameters())
    prior = Prior.parse("0,0,0")
    options = RefinementOptions(steps=2)
    result = refine_weights(overfitted.network, CONFIG, images, grid, prior, options)
    assert result.logits.shape == (2, 2, 32, 32)
    assert result.steps == 2


# Voxels that are not to change, time that is up, numbers that are not finite.


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize(("make", "text"), [(two_blobs, "1,0"), (ball_with_void_and_speck, "1,0,0")])
def test_frozen_voxels_keep_their_logits(make, text, connectivity):
    """What is left of an image is enough to reach the prior; what is frozen comes back bit for bit."""
    logits, prior = logits_of(make()), Prior.parse(text)
    frozen = torch.zeros(logits.shape[1:], dtype=torch.bool)
    frozen[-2:] = True
    free = refine_voxels(logits, prior, RefinementOptions(), connectivity)
    held = refine_voxels(logits, prior, RefinementOptions(), connectivity, frozen=frozen)
    assert free.error == held.error == error_of(held.logits, prior, connectivity) == 0
    assert torch.equal(held.logits[:, frozen], logits[:, frozen])


def test_what_only_a_frozen_voxel_could_make_right_stays_wrong():
    """Two pieces, both frozen, and so is all between them: the error is that of the result."""
    logits, prior = logits_of(two_blobs()), Prior.parse("1,0")
    frozen = torch.ones(logits.shape[1:], dtype=torch.bool)
    frozen[0] = False
    result = refine_voxels(logits, prior, RefinementOptions(steps=12), frozen=frozen)
    assert result.error == error_of(result.logits, prior) == 1
    assert torch.equal(result.logits, logits)


def test_frozen_voxels_keep_their_logits_in_the_networks_stage(overfitted):
    before = overfitted.logits()
    frozen = torch.zeros(32, 32, dtype=torch.bool)
    frozen[20:] = True  # where the second piece lies
    arguments = (overfitted.network, CONFIG, overfitted.image, overfitted.grid, Prior.parse("1,0"))
    result = refine_weights(*arguments, RefinementOptions(steps=8), frozen=frozen)
    assert torch.equal(result.logits[:, frozen], before[:, frozen])
    assert result.error == error_of(result.logits, Prior.parse("1,0"))


def test_no_step_begins_after_the_deadline(overfitted):
    logits, prior, options = logits_of(two_blobs()), Prior.parse("1,0"), RefinementOptions()
    late = refine_voxels(logits, prior, options, deadline=time.perf_counter())
    assert torch.equal(late.logits, logits)
    assert (late.error, late.steps, late.finite) == (1, 0, True)
    arguments = (overfitted.network, CONFIG, overfitted.image, overfitted.grid, prior, options)
    late = refine_weights(*arguments, deadline=time.perf_counter())
    assert torch.equal(late.logits, overfitted.logits())
    assert (late.error, late.steps, late.finite) == (1, 0, True)


def test_time_is_looked_at_in_every_step(monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(descent, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    result = refine_voxels(logits_of(two_blobs()), Prior.parse("7,7"), RefinementOptions(), deadline=5)
    assert result.steps == 5


@pytest.mark.parametrize("after", [0, 2])
def test_a_stage_is_abandoned_where_numbers_are_not_finite(overfitted, monkeypatch, after):
    """A gradient that is NaN spoils the next state; what comes back is the best one before."""
    calls = itertools.count()

    def spoilt(probabilities, prior, connectivity, **options):
        found = true_evaluate(probabilities, prior, connectivity, **options)
        factor = math.nan if next(calls) >= after else 1.0
        return replace(found, loss=found.loss * factor)

    true_evaluate = descent.evaluate
    monkeypatch.setattr(descent, "evaluate", spoilt)
    logits, prior = logits_of(two_blobs()), Prior.parse("7,7")
    stage = refine_voxels(logits, prior, RefinementOptions())
    assert (stage.finite, stage.steps) == (False, after + 1)
    assert torch.isfinite(stage.logits).all()
    assert stage.error == error_of(stage.logits, prior) <= error_of(logits, prior)
    calls = itertools.count()
    stage = overfitted.refine("7,7")
    assert (stage.finite, stage.steps) == (False, after + 1)
    assert torch.isfinite(stage.logits).all()


def test_a_stage_that_stays_finite_says_so(overfitted):
    assert overfitted.refine("7,7", steps=2).finite
    assert refine_voxels(logits_of(two_blobs()), Prior.parse("1,0"), RefinementOptions()).finite


# The box that follows what grows in it.


def faint_ring() -> torch.Tensor:
    """A logit: a short bright arc of a large ring whose other voxels are far below 1 %."""
    rows, columns = np.indices((160, 160)) - 80
    ring = np.abs(np.hypot(rows, columns) - 60) < 2.5
    bright = ring & (columns > 45)
    return torch.from_numpy(np.where(bright, 4.0, np.where(ring, -6.0, -30.0)).astype(np.float32))


def test_a_ring_grows_out_of_its_first_box():
    """Brightness alone closes this ring, once the box has followed it around."""
    logit, prior = faint_ring(), Prior.parse("1,1")
    grid = grid_for(CONFIG, (160, 160), (1.0, 1.0))
    near = torch.softmax(torch.stack([torch.zeros_like(logit), logit]), 0)[1] > descent.NEGLIGIBLE
    box = box_around(near, refinement.CONTEXT)
    assert box[1].start > 60, "the first box holds no more than the right of the ring"
    # The arc itself is all that the loss sees at first, and it wants a ring: brighter means a larger one.
    options = RefinementOptions(steps=20, weights_learning_rate=0.5 / refinement.REACH, topology_weight=100.0)
    result = refine_weights(Brightness(), CONFIG, logit, grid, prior, options)
    assert result.error == error_of(result.logits, prior) == 0
    assert (result.logits[1] > 0)[:, :40].any(), "nothing grew on the far side"


@pytest.mark.parametrize("side", [60, 200])
def test_a_box_grows_until_the_region_does_not_touch_it(side, monkeypatch):
    """A piece that a wide Gaussian raises, for a prior out of reach, grows on and on."""
    monkeypatch.setattr(refinement, "MARGIN", 1)
    boxes = []
    monkeypatch.setattr(
        refinement, "box_around", lambda mask, margin: boxes.append(box_around(mask, margin)) or boxes[-1]
    )
    field = np.full((side, 60), 0.009)
    field[20:26, 1:7] = 0.6
    options = RefinementOptions(steps=60, smoothing=(4.0,), voxels_learning_rate=0.3, topology_weight=100.0)
    result = refine_voxels(logits_of(field), Prior.parse("5,0"), options)
    assert result.error == error_of(result.logits, Prior.parse("5,0")) == 4
    assert result.steps == 60
    assert len(boxes) > 1
    for first, second in itertools.pairwise(boxes):
        assert first != second
        assert all(b.start <= a.start and a.stop <= b.stop for a, b in zip(first, second, strict=True))


# What of a network is adapted.


@pytest.mark.parametrize("adapt", ["all", "decoder", "head"])
def test_weights_outside_of_what_is_adapted_stay_as_they_are(overfitted, monkeypatch, adapt):
    copies = []

    def remember(network, config, images):
        copies.append(network)
        return forward(network, config, images)

    monkeypatch.setattr(refinement, "forward", remember)
    given = copy.deepcopy(overfitted.network.state_dict())
    overfitted.refine("4,4", steps=3, adapt=adapt)
    for name, value in overfitted.network.state_dict().items():
        assert torch.equal(value, given[name]), f"{name} of the network itself"
    adapted = dict(copies[-1].named_parameters())
    moved = {name.split(".")[0] for name, value in adapted.items() if not torch.equal(value, given[name])}
    expected = {"head": {"output_block"}, "decoder": {"output_block", "upsamples"}}
    assert moved == expected.get(
        adapt, {"input_block", "downsamples", "bottleneck", "upsamples", "output_block"}
    )


@pytest.mark.parametrize("adapt", ["all", "decoder", "head"])
def test_whatever_is_adapted_moves_critical_voxels_as_far(overfitted, recorded, adapt):
    """The head has a thousandth of the network's weights; the rate is rescaled for it."""
    rate = 0.2 / refinement.REACH
    overfitted.refine("1,0", steps=1, adapt=adapt, weights_learning_rate=rate)
    (before, _), (after, _) = recorded
    before, after = before.log(), after.log()  # logits, as far as they matter
    pull = torch.autograd.grad(
        descent.evaluate(torch.softmax(before.requires_grad_(), 0), Prior.parse("1,0")).loss, before
    )[0]
    moved = -(pull * (after - before)).sum() / pull.abs().sum()
    assert 0.1 < moved.item() < 0.3  # 0.2 if the network were linear in its weights


def some_networks() -> dict[str, nn.Module]:
    from monai.networks import nets

    plan = {"spatial_dims": 2, "in_channels": 1, "out_channels": 3}
    unet = nets.UNet(**plan, channels=(4, 8, 16), strides=(2, 2), num_res_units=1).eval()
    image = torch.zeros(1, 1, 32, 32)
    return {
        "UNet": unet,
        "BasicUNet": nets.BasicUNet(**plan, features=(4, 4, 8, 16, 32, 4)),
        "SegResNet": nets.SegResNet(**plan, init_filters=8),
        "TorchScript": torch.jit.trace(unet, image),
        "exported": torch.export.export(unet, (image,)).module(),
    }


@pytest.mark.filterwarnings("ignore")  # tracing has advice for authors
def test_head_and_decoder_are_found_in_all_kinds_of_networks():
    for kind, network in some_networks().items():
        every = [id(weight) for weight in adapted_weights(network, "all", 3)]
        decoder = [id(weight) for weight in adapted_weights(network, "decoder", 3)]
        head = adapted_weights(network, "head", 3)
        assert every[-len(decoder) :] == decoder, kind
        assert [id(weight) for weight in head] == decoder[-len(head) :], kind
        assert 3 in head[0].shape[:2], kind
        assert 0.1 < len(decoder) / len(every) < 0.7, kind
        widest = max(network.parameters(), key=lambda weight: min((*weight.shape, 0, 0)[:2]))
        assert id(widest) not in decoder, kind


@pytest.mark.parametrize(
    "network",
    [
        nn.Conv2d(1, 2, 3),
        nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 2, 3)),
    ],
    ids=["one layer", "no bottleneck"],
)
def test_a_network_without_a_decoder_is_refused(network):
    with pytest.raises(InvalidOption, match="--adapt decoder: expected a network whose feature maps grow"):
        adapted_weights(network, "decoder", 2)


def test_a_network_without_a_head_is_refused():
    with pytest.raises(InvalidOption, match="--adapt head: expected a last convolution"):
        adapted_weights(nn.Sequential(nn.Conv2d(1, 7, 3), nn.PixelShuffle(1)), "head", 3)


# Networks of other origin: the same function by other numbers.


def test_a_network_whose_logits_are_far_larger_is_refined_alike(overfitted):
    """Its probabilities are 0 and 1, where a sigmoid is flat; its label map becomes the plain network's."""
    plain = overfitted.refine("1,0")
    loud = copy.deepcopy(overfitted.network)
    with torch.no_grad():
        for weight in loud.output_block.parameters():
            weight *= 100
    result = refine_weights(
        loud, CONFIG, overfitted.image, overfitted.grid, Prior.parse("1,0"), RefinementOptions()
    )
    assert result.error == error_of(result.logits, Prior.parse("1,0")) == 0
    assert dice(result.logits.argmax(0).numpy() > 0, plain.logits.argmax(0).numpy() > 0) > 0.9


@pytest.mark.parametrize("rank", [2, 3])
def test_lambda_means_the_same_however_large_the_image(rank):
    """V counts what is likely, so empty voxels around it change nothing."""
    small = logits_of(np.pad(two_blobs() if rank == 2 else ball_with_void_and_speck(), 9, mode="edge"))
    large = nn.functional.pad(small, (8, 8) * rank, value=0)
    large[1] = nn.functional.pad(small[1], (8, 8) * rank, value=-12.0)
    small[1][small[1] < -2] = -12.0
    large[1][large[1] < -2] = -12.0
    prior = Prior.parse("1,0,0"[: 2 * rank - 1])
    results = [refine_voxels(x, prior, RefinementOptions(topology_weight=0.01)) for x in (small, large)]
    inner = (..., *(slice(8, -8),) * rank)
    assert results[0].steps == results[1].steps > 0
    assert torch.allclose(results[0].logits, results[1].logits[inner], atol=1e-4)
