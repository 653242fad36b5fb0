"""The loss against sums done by hand, its gradient against differences, its field against argmax."""

import re

import numpy as np
import phantoms
import pytest
import torch

from topofix.errors import InvalidArray
from topofix.learning.loss import (
    TopologicalLoss,
    constraint_loss,
    evaluate,
    evaluate_batch,
    region_field,
)
from topofix.topology.persistence import Barcode, barcode, betti
from topofix.topology.priors import FOREGROUND, Constraint, Prior, Range
from topofix.topology.regions import betti_of_regions, region_mask

CONNECTIVITIES = ["full", "face"]


def loss_of(field: np.ndarray, prior: str | Prior, connectivity="full") -> float:
    prior = Prior.parse(prior) if isinstance(prior, str) else prior
    return TopologicalLoss(prior, connectivity)(torch.as_tensor(field)[None, None]).item()


def two_squares() -> np.ndarray:
    """Bars of components: 0.9 (essential) and 0.7 - 0.1 = 0.6, where the second meets the first."""
    field = np.full((9, 14), 0.1)
    field[2:5, 2:5], field[4:7, 8:12] = 0.9, 0.7
    return field


def ring() -> np.ndarray:
    """One component, born at 0.8; one hole, closed at 0.8 and filled at 0.3."""
    field = np.full((9, 9), 0.2)
    field[2:7, 2:7] = 0.8
    field[4, 4] = 0.3
    return field


def hollow_box() -> np.ndarray:
    """One component, born at 0.9; one void, closed at 0.9 (its wall) and filled at 0.25."""
    field = np.zeros((7, 8, 9))
    field[1:6, 1:6, 1:6] = 0.9
    field[3, 3, 3] = 0.25
    return field


def distinct(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """A field whose values lie at least 0.9 / size apart, so that small steps do not change their order."""
    order = np.random.default_rng(seed).permutation(np.prod(shape))
    return 0.05 + 0.9 * order.reshape(shape) / np.prod(shape)


def distinct_softmax(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    """A softmax (C, *S) none of whose values, nor of its regions' fields, lie close enough to swap."""
    logits = torch.from_numpy(np.random.default_rng(seed).normal(size=shape))
    return torch.softmax(logits, 0)


@pytest.mark.parametrize(
    ("field", "prior", "by_hand"),
    [
        (two_squares(), "1,0", (1 - 0.81) + 0.36),
        (two_squares(), "2,0", (1 - 0.81) + (1 - 0.36)),
        (two_squares(), "3,0", (1 - 0.81) + (1 - 0.36) + 1),  # a third one nowhere to be seen costs 1
        (two_squares(), "0,0", 0.81 + 0.36),
        (two_squares(), "1,2", (1 - 0.81) + 0.36 + 2),
        (ring(), "1,1", (1 - 0.64) + (1 - 0.25)),
        (ring(), "1,0", (1 - 0.64) + 0.25),
        (ring(), "0,0", 0.64 + 0.25),
        (hollow_box(), "1,0,1", (1 - 0.81) + (1 - 0.65**2)),
        (hollow_box(), "1,0,0", (1 - 0.81) + 0.65**2),
        (hollow_box(), "1,1,1", (1 - 0.81) + 1 + (1 - 0.65**2)),
        (np.zeros((5, 6)), "1,0", 1.0),  # nothing at all, where something should be
        (np.zeros((5, 6)), "0,0", 0.0),
        (np.ones((5, 6)), "1,0", 0.0),
    ],
)
def test_the_loss_is_the_sum_that_equation_3_asks_for(field, prior, by_hand):
    assert loss_of(field, prior) == pytest.approx(by_hand, abs=1e-12)


def test_a_range_pays_nothing_between_its_bounds():
    three = two_squares()
    three[8, 13] = 0.5  # bars 0.9, 0.6, 0.4
    assert loss_of(three, "1-2,0") == pytest.approx((1 - 0.81) + 0.16)
    assert loss_of(three, "1-3,0") == pytest.approx(1 - 0.81)
    assert loss_of(three, "1-,0") == pytest.approx(1 - 0.81)
    assert loss_of(three, "2-,0") == pytest.approx((1 - 0.81) + (1 - 0.36))
    assert loss_of(three, "0-1,0") == pytest.approx(0.36 + 0.16)


def test_a_star_asks_for_nothing():
    assert loss_of(ring(), "*,1") == pytest.approx(1 - 0.25)
    assert loss_of(ring(), "1,*") == pytest.approx(1 - 0.64)
    assert loss_of(ring(), "*,*") == 0


def test_weights_multiply_the_terms_of_their_dimension():
    exactly_one = Range(1, 1)
    for weights in [(2.0, 3.0), (0.0, 1.0), (0.5, 0.0)]:
        prior = Prior((Constraint(FOREGROUND, (exactly_one, exactly_one), weights),))
        by_hand = weights[0] * (1 - 0.64) + weights[1] * (1 - 0.25)
        assert loss_of(ring(), prior) == pytest.approx(by_hand)


def test_bars_that_the_label_map_does_not_show_can_be_left_alone():
    field = torch.full((5, 17), 0.1)
    for column, value in enumerate((0.9, 0.7, 0.5, 0.4)):
        field[1:4, 4 * column + 1 : 4 * column + 4] = value
    bars = barcode(field.numpy())
    (constraint,) = Prior.parse("1,0").constraints
    wanted, shown, hidden = 1 - 0.9**2, 0.6**2, 0.4**2 + 0.3**2
    assert constraint_loss(field, bars, constraint).item() == pytest.approx(wanted + shown + hidden)
    assert constraint_loss(field, bars, constraint, shown_only=True).item() == pytest.approx(wanted + shown)
    (free,) = Prior.parse("4,0").constraints  # what is wanted pays whether it is shown or not
    assert constraint_loss(field, bars, free) == constraint_loss(field, bars, free, shown_only=True) > 0


def test_constraints_add_up():
    probabilities = distinct_softmax((3, 6, 7))
    both = evaluate(probabilities, Prior.parse("1:1,0 2:2,1")).loss
    one, other = (evaluate(probabilities, Prior.parse(text)).loss for text in ("1:1,0", "2:2,1"))
    assert both.item() == pytest.approx((one + other).item())


def test_corners_join_or_not_as_the_connectivity_says():
    field = np.zeros((4, 4))
    field[1, 1], field[2, 2] = 0.9, 0.8
    assert loss_of(field, "1,0", "full") == pytest.approx(1 - 0.81)
    assert loss_of(field, "1,0", "face") == pytest.approx((1 - 0.81) + 0.64)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_a_perfect_map_costs_nothing_under_its_own_prior(phantom, connectivity):
    prior = Prior.parse(",".join(map(str, phantom.betti(connectivity))))
    assert loss_of(phantom.mask.astype(float), prior, connectivity) == 0


def test_a_batch_costs_its_mean():
    loss = TopologicalLoss(Prior.parse("1,0"))
    batch = torch.stack([torch.as_tensor(distinct((6, 7), seed)) for seed in range(3)])[:, None]
    alone = [loss(image[None]).item() for image in batch]
    assert len(set(alone)) == 3
    assert loss(batch).item() == pytest.approx(np.mean(alone))


def test_one_channel_and_its_two_channel_softmax_cost_the_same():
    field = torch.as_tensor(distinct((6, 7)))
    prior = Prior.parse("2,1")
    two = torch.stack([1 - field, field])
    assert evaluate(two, prior).loss.item() == pytest.approx(evaluate(field[None], prior).loss.item())


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(
    ("shape", "prior"), [((5, 6), "1,0"), ((5, 6), "3,2"), ((3, 4, 4), "1,0,0"), ((3, 4, 4), "2,1,1")]
)
def test_the_gradient_is_that_of_finite_differences(shape, prior, connectivity):
    field = torch.as_tensor(distinct(shape))[None, None].requires_grad_()
    assert torch.autograd.gradcheck(TopologicalLoss(Prior.parse(prior), connectivity), (field,), eps=1e-5)


@pytest.mark.parametrize(
    ("shape", "prior"),
    [((3, 4, 5), "1:1,0 2:2,1"), ((4, 4, 4), "1+2:1,1"), ((3, 2, 3, 4), "1:1,0,0 2:0,0,0")],
)
def test_the_gradient_through_a_softmax_is_that_of_finite_differences(shape, prior):
    logits = torch.from_numpy(np.random.default_rng(3).normal(size=shape)).requires_grad_()
    loss = TopologicalLoss(Prior.parse(prior))
    assert torch.autograd.gradcheck(lambda z: loss(torch.softmax(z, 0)[None]), (logits,), eps=1e-7, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 8), (4, 5, 6)])
def test_only_critical_voxels_receive_a_gradient(shape):
    field = torch.as_tensor(distinct(shape)).requires_grad_()
    prior = Prior.parse(",".join("1" * len(shape)))
    evaluate(field[None], prior).loss.backward()
    bars = barcode(field.detach().numpy())
    critical = {*bars.birth.tolist(), *bars.death.tolist()} - {-1}
    pushed = set(field.grad.flatten().nonzero().flatten().tolist())
    assert pushed <= critical
    assert pushed
    assert len(critical) < field.numel()


def test_one_step_down_the_gradient_lengthens_what_is_wanted_and_shortens_the_rest():
    field = torch.as_tensor(two_squares()).requires_grad_()
    evaluate(field[None], Prior.parse("1,0")).loss.backward()
    births = field.grad[2:5, 2:5], field.grad[4:7, 8:12]
    assert births[0].sum().item() == pytest.approx(-2 * 0.9)  # raised, to exist
    assert births[1].sum().item() == pytest.approx(2 * 0.6)  # lowered
    assert field.grad[field == 0.1].sum().item() == pytest.approx(-2 * 0.6)  # raised, to bridge


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_regions_field_is_above_one_half_exactly_where_argmax_shows_it(dtype):
    generator = torch.Generator().manual_seed(0)
    for channels in (2, 3, 5):
        logits = 3 * torch.randn(channels, 40, 50, generator=generator, dtype=torch.float64)
        labels = logits.argmax(0).numpy()
        probabilities = torch.softmax(logits, 0).to(dtype)
        for region in {FOREGROUND, (1,), (channels - 1,), tuple(range(1, channels))[:2]}:
            field = region_field(probabilities, region)
            assert field.min() >= 0
            assert field.max() <= 1
            np.testing.assert_array_equal((field > 0.5).numpy(), region_mask(labels, region))


def test_no_region_wins_by_adding_up_losers():
    probabilities = torch.tensor([0.4, 0.3, 0.3])[:, None, None].expand(3, 2, 2)
    assert (region_field(probabilities, (1, 2)) < 0.5).all()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_the_betti_numbers_are_those_of_the_label_map(connectivity):
    prior = Prior.parse("1:1,0 2:1-2,* 1+3:2,2 1,0")
    for seed in range(5):
        probabilities = distinct_softmax((4, 12, 13), seed)
        found = evaluate(probabilities, prior, connectivity)
        counts = betti_of_regions(probabilities.argmax(0).numpy(), prior, connectivity)
        assert found.betti == counts
        assert found.error == sum(c.error(n) for c, n in zip(prior.constraints, counts, strict=True)) > 0


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_the_betti_numbers_of_a_noisy_phantom_are_its_own(phantom, connectivity):
    field = torch.as_tensor(phantoms.probabilities(phantom.mask))
    numbers = phantom.betti(connectivity)
    found = evaluate(field[None], Prior.parse(",".join(map(str, numbers))), connectivity)
    assert found.betti == (betti(phantom.mask, connectivity),) == (numbers,)
    assert found.error == 0
    assert found.loss > 0  # of the noise


def test_the_gradient_is_the_same_bits_whatever_the_number_of_threads():
    """Very many bars that die at a few voxels: sums in another order would differ in the last bits."""
    random = np.random.default_rng(0)
    field = torch.from_numpy(random.random((300, 400), np.float32))
    number = 100_000
    births, deaths = random.permutation(field.numel())[:number], random.integers(0, 5, number)
    bars = Barcode(np.zeros(number, np.int8), births, deaths)
    nothing = Constraint(FOREGROUND, (Range(0, 0), Range(0, 0)))
    threads = torch.get_num_threads()
    gradients = []
    try:
        for number_of_threads in (1, 2, 2, 2):
            torch.set_num_threads(number_of_threads)
            moving = field.clone().requires_grad_()
            constraint_loss(moving, bars, nothing).backward()
            gradients.append(moving.grad)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradients[0], other) for other in gradients[1:])


@pytest.mark.parametrize(
    ("shape", "prior", "message"),
    [
        ((1, 1, 4, 4), "1,0,0", r"expected (N, C, *S) with 3 axes in S, got (1, 1, 4, 4)"),
        ((1, 1, 4, 4, 4), "1,0", r"expected (N, C, *S) with 2 axes in S, got (1, 1, 4, 4, 4)"),
        ((4, 4), "1,0", r"expected (N, C, *S) with 2 axes in S, got (4, 4)"),
        ((1, 2, 4, 4), "2:1,0", "expected labels 1 to 1, got a prior for label 2"),
        ((1, 3, 4, 4), "1+5:1,0", "expected labels 1 to 2, got a prior for label 5"),
    ],
)
def test_what_does_not_fit_the_prior_is_refused(shape, prior, message):
    with pytest.raises(InvalidArray, match=re.escape(message)):
        TopologicalLoss(Prior.parse(prior))(torch.full(shape, 0.5))


def test_a_batch_is_evaluated_image_by_image_each_against_its_own_prior():
    """Of different sizes, ranks and numbers of labels."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(1, 9, 14), (3, 6, 7), (2, 5, 5, 5), (3, 6, 7)]
    images = [torch.rand(shape, generator=generator).softmax(0) for shape in shapes]
    images[0] = torch.as_tensor(two_squares())[None]
    priors = [Prior.parse(text) for text in ("1,0", "1:1,1 2:0,0", "1,0,0", "1+2:1,0")]
    together = evaluate_batch(images, priors)
    assert len(together) == 4
    for image, prior, found in zip(images, priors, together, strict=True):
        alone = evaluate(image, prior)
        assert found.loss.item() == alone.loss.item()
        assert (found.betti, found.error) == (alone.betti, alone.error)
    assert together[0].loss.item() == pytest.approx(1 - 0.81 + 0.36)
    assert (together[0].betti, together[0].error) == (((2, 0),), 1)


def test_each_image_of_a_batch_receives_the_gradient_of_its_own_loss():
    fields = [torch.as_tensor(field)[None].requires_grad_() for field in (two_squares(), ring())]
    priors = [Prior.parse("1,0"), Prior.parse("1,1")]
    torch.stack([one.loss for one in evaluate_batch(fields, priors)]).sum().backward()
    for field, prior in zip(fields, priors, strict=True):
        alone = field.detach().clone().requires_grad_()
        evaluate(alone, prior).loss.backward()
        assert torch.equal(field.grad, alone.grad)
        assert alone.grad.count_nonzero() > 0


def test_no_image_gives_no_evaluation_and_every_image_needs_a_prior():
    assert evaluate_batch([], []) == ()
    with pytest.raises(ValueError, match="zip"):
        evaluate_batch([torch.rand(1, 5, 5)], [])


def test_the_loss_of_a_batch_is_the_mean():
    batch = torch.stack([torch.as_tensor(field)[None] for field in (ring(), np.full((9, 9), 0.2))])
    prior = Prior.parse("1,1")
    losses = [evaluate(image, prior).loss.item() for image in batch]
    assert TopologicalLoss(prior)(batch).item() == pytest.approx(sum(losses) / 2)
