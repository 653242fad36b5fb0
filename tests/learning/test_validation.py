"""Dice and topology of whole cases, worked out by hand, in one process and shared among several."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from topofix.learning.dataset import Case, make_case
from topofix.learning.distributed import ALONE, World
from topofix.learning.network import NetworkConfig
from topofix.learning.validation import Scores, validate
from topofix.topology.priors import Prior

CPU = torch.device("cpu")
TWO = NetworkConfig(2, ("one", "two"), (1.0, 1.0), (8, 8), channels=(4, 4, 4))
ONE = NetworkConfig(2, ("one",), (1.0, 1.0), (8, 8), channels=(4, 4, 4))
SOLID = NetworkConfig(3, ("one",), (1.0, 1.0, 1.0), (8, 8, 8), channels=(4, 4, 4))


class Constant(nn.Module):
    """The same logits everywhere, whatever it sees."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.reshape(1, -1, 1, 1).expand(len(images), -1, *images.shape[2:])


class Bright(nn.Module):
    """Label 1 where it is brighter than the mean."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([-images, images], 1)


def ring(side: int = 12) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[2:-2, 2:-2] = 1
    mask[5:-5, 5:-5] = 0
    return mask


def block(side: int = 12) -> np.ndarray:
    mask = np.zeros((side, side), np.uint8)
    mask[3:-3, 3:-3] = 1
    return mask


def flat_case(seen: np.ndarray, drawn: np.ndarray, prior: str | None = None, config=ONE) -> Case:
    """What `Bright` segments as `seen`."""
    axes = (tuple(range(seen.ndim)), ())
    priors = {} if prior is None else {None: Prior.parse(prior)}
    return make_case("case", seen, drawn, (1.0,) * seen.ndim, axes, config, priors)


def test_dice_by_hand():
    """Everything is called label 1; a quarter of the first image is, and nothing of the second."""
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[0, :4, :4] = 1
    cases = [make_case("a", label, label, (1.0, 1.0), ((0, 1), ()), TWO) for label in labels]
    scores = validate(Constant(0.0, 1.0, 0.0), TWO, cases, CPU)
    assert scores.dice == pytest.approx(((2 * 16 / (16 + 64) + 0) / 2, 1.0))  # label 2 is rightly not found
    assert scores.right == 0.5  # one piece of label 1 and none of label 2, as in the first image


def test_without_priors_right_is_what_has_the_betti_numbers_of_the_drawing():
    pairs = [(ring(), ring()), (block(), ring()), (ring(), block()), (block(), block())]
    scores = validate(Bright(), ONE, [flat_case(*pair) for pair in pairs], CPU)
    assert scores.right == 0.5
    assert (ring().sum(), block().sum(), (ring() & block()).sum()) == (60, 36, 32)
    assert scores.dice[0] == pytest.approx((1 + 1 + 2 * (2 * 32 / 96)) / 4)


def test_a_prior_is_the_measure_of_a_case_that_has_one():
    """Whose drawing may have another topology; the last two have none and are measured by their drawings."""
    cases = [
        flat_case(ring(), block(), "1,1"),
        flat_case(ring(), ring(), "1,0"),
        flat_case(block(), ring(), "1,0-1"),
        flat_case(block(), ring()),
        flat_case(block(), block()),
    ]
    assert validate(Bright(), ONE, cases, CPU).right == pytest.approx(3 / 5)


def test_every_constraint_of_a_prior_has_to_be_met():
    labels = ring()
    labels[5:-5, 5:-5] = 2
    case = flat_case(labels, labels, config=TWO)
    names = TWO.label_values
    for text, right in ((["one:1,1", "two:1,0"], 1), (["one:1,1", "two:0,0"], 0), (["one+two:1,0"], 1)):
        prior = Prior.parse(text, names)
        asked = Case(*(getattr(case, name) for name in Case.__slots__[:-1]), (prior,))
        assert validate(Painted(labels), TWO, [asked], CPU).right == right


class Painted(nn.Module):
    """One label map, whatever it sees."""

    def __init__(self, labels: np.ndarray) -> None:
        super().__init__()
        logits = np.stack([labels == value for value in range(labels.max() + 1)]).astype(np.float32)
        self.logits = torch.from_numpy(logits)[None]

    def forward(self, images: Tensor) -> Tensor:
        sides = [(0, p - q) for p, q in zip(images.shape[2:], self.logits.shape[2:], strict=True)]
        padding = [number for pair in sides[::-1] for number in pair]
        return nn.functional.pad(self.logits, padding).expand(len(images), -1, *images.shape[2:])


@pytest.mark.parametrize("flips", [(), (2,), (0, 1, 2)], ids=str)
def test_slices_are_judged_one_by_one_each_by_its_own_prior(flips):
    """However the network sees them: rings in slices 0 and 1, blocks in 2 and 3."""
    stack = np.stack([ring(), ring(), block(), block()])
    axes = ((1, 2, 0), flips)

    def right(priors: dict[int | None, Prior]) -> float:
        case = make_case("stack", stack, stack, (9.0, 1.0, 1.0), axes, ONE, priors)
        return validate(Bright(), ONE, [case], CPU).right

    closed, full = Prior.parse("1,1"), Prior.parse("1,0")
    assert right({}) == 1
    assert right({0: closed, 1: closed, 2: full, 3: full}) == 1
    assert right({None: closed}) == 0.5
    assert right({0: full, 1: closed, 3: full}) == pytest.approx(2 / 3)
    assert right({0: full}) == 0


def test_a_volume_is_judged_as_a_whole():
    """Rings in every slice: a tube, with one tunnel; its ends are open."""
    tube = np.stack([ring()] * 6)
    tube[[0, -1]] = 0
    for prior, right in (("1,1,0", 1), ("1,0,0", 0), (None, 1)):
        assert validate(Bright(), SOLID, [flat_case(tube, tube, prior, SOLID)], CPU).right == right


@dataclass(frozen=True)
class Recorded(World):
    """A process that keeps its own sums instead of asking the others for theirs."""

    sums: list[Tensor] = field(default_factory=list)

    def total(self, values: Tensor) -> Tensor:
        self.sums.append(values)
        return values


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_shares_of_all_processes_make_up_the_whole(size):
    """Even where a process has no case at all, or the only prior is in another's share."""
    pairs = [(ring(), ring()), (block(), ring()), (ring(), block()), (block(), block()), (ring(), ring())]
    cases = [flat_case(*pair, prior="1,1" if n == 1 else None) for n, pair in enumerate(pairs)]
    whole = validate(Bright(), ONE, cases, CPU, ALONE)
    worlds = [Recorded(rank, size) for rank in range(size)]
    for world in worlds:
        if world.share(cases):
            validate(Bright(), ONE, cases, CPU, world)
        else:
            with pytest.raises(ZeroDivisionError):  # of nothing but its own sums
                validate(Bright(), ONE, cases, CPU, world)
    *dices, count, right, parts = torch.stack([world.sums[0] for world in worlds]).sum(0).tolist()
    assert (count, parts) == (5, 5)
    assert tuple(value / count for value in dices) == pytest.approx(whole.dice)
    assert right / parts == whole.right == 3 / 5


def test_the_network_is_left_in_evaluation_mode():
    network = Bright().train()
    validate(network, ONE, [flat_case(ring(), ring())], CPU)
    assert not network.training


def test_the_mean_of_scores():
    scores = Scores((0.5, 0.7), 0.1)
    assert scores.mean(with_topology=False) == pytest.approx(0.6)
    assert scores.mean(with_topology=True) == pytest.approx(0.35)
