"""Refinement reaches what can be reached, never makes anything worse, and leaves what it was given alone."""

import copy
import itertools

import numpy as np
import phantoms
import pytest
import torch
from torch import nn

from topofix.learning import refinement
from topofix.learning.inference import forward, grid_for, predict
from topofix.learning.network import NetworkConfig, build
from topofix.learning.refinement import refine_voxels, refine_weights
from topofix.records import RefinementOptions
from topofix.topology.persistence import betti
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
    # Removing all there is changes more than lambda = 0.1 pays for: Eq. 5 itself would rather keep it.
    options = RefinementOptions(topology_weight=1.0) if "absent" in wish else RefinementOptions()
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
    """Of two axes the one with voxels twice as long gets a kernel half as wide; each sums to one."""
    kernels = refinement._gaussians(4.0, (2.0, 1.0))
    widths = []
    for kernel in kernels:
        offsets = torch.arange(len(kernel)) - len(kernel) // 2
        widths.append((kernel * offsets**2).sum().sqrt().item())
        assert kernel.sum().item() == pytest.approx(1)
        assert torch.equal(kernel, kernel.flip(0))
    assert widths == pytest.approx([2.0, 4.0], rel=0.03)  # cut off at three standard deviations
    assert [kernel.tolist() for kernel in refinement._gaussians(0.0, (2.0, 1.0))] == [[1.0], [1.0]]


def test_smoothing_spreads_a_unit_of_change_and_loses_none():
    spike = torch.zeros(2, 21, 25)
    spike[1, 10, 12] = 1.0
    smooth = refinement._smooth(spike, refinement._gaussians(2.0, (1.0, 1.0)))
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
    best = refinement._Best(start)
    far, near = start.clone(), start.clone()
    far[1, :2], near[1, 0] = 5.0, 5.0
    for state, error in ((start, 3), (far, 1), (near, 1), (far, 1), (start, 2)):
        best.offer(state, error)
    assert best.error == 1
    assert torch.equal(best.logits, near)


def test_what_lies_outside_the_box_is_not_touched():
    field = np.full((60, 64), 1e-4)
    field[5:17, 6:18] = 0.9
    field[10:12, 9:11] = 0.2
    logits = logits_of(field)
    result = refine_voxels(logits, Prior.parse("1,0"), RefinementOptions())
    assert result.error == error_of(result.logits, Prior.parse("1,0")) == 0
    changed = (result.logits != logits).any(0).nonzero()
    margin = refinement.MARGIN
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

    def evaluate(probabilities, prior, connectivity):
        found = true_evaluate(probabilities, prior, connectivity)
        seen.append((probabilities.detach().clone(), found))
        return found

    true_evaluate = refinement.evaluate
    monkeypatch.setattr(refinement, "evaluate", evaluate)
    return seen


def test_a_copy_of_the_network_removes_the_second_piece(overfitted):
    before = overfitted.logits()
    assert betti(before.argmax(0).numpy()) == (2, 0)
    result = overfitted.refine("1,0", weights_learning_rate=3e-3)
    assert result.error == 0
    assert betti(result.logits.argmax(0).numpy()) == (1, 0)
    assert result.steps > 0
    assert not result.logits.requires_grad
    assert dice(result.logits.argmax(0).numpy() > 0, before.argmax(0).numpy() > 0) > 0.8


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
    statistics = dict(copies[0].named_buffers())
    assert statistics
    for name, value in overfitted.network.named_buffers():
        assert torch.equal(value, statistics[name]), name
    moved = zip(overfitted.network.parameters(), copies[0].parameters(), strict=True)
    assert any(not torch.equal(before, after) for before, after in moved)


def test_the_objective_falls_along_the_first_steps(overfitted, recorded):
    weight = 0.5
    overfitted.refine("1,0", steps=6, topology_weight=weight, weights_learning_rate=2e-4)
    start = recorded[0][0]
    objective = [
        ((probabilities - start).square().sum() / start[0].numel() + weight * found.loss).item()
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
    options = RefinementOptions(steps=3, weights_learning_rate=6.0, topology_weight=10.0)
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
