"""Weights: copies are of their own, and the average follows as it should, counts included."""

import pytest
import torch
from torch import nn

from topofix.learning import weights


class Small(nn.Module):
    """A weight, and a count as normalisation has it."""

    def __init__(self, value: float, count: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((2, 2), value))
        self.register_buffer("count", torch.tensor(count))


def test_copies_can_be_put_back():
    network = Small(1.0, 3)
    kept = weights.copies(network)
    with torch.no_grad():
        network.weight.fill_(7.0)
        network.count.fill_(8)
    assert kept["weight"].eq(1).all()
    weights.put_back(network, kept)
    assert network.weight.eq(1).all()
    assert network.count == 3
    assert network.weight.requires_grad


@pytest.mark.parametrize(("updates", "memory"), [(1, 2 / 11), (8, 0.5), (100_000, 0.998)])
def test_the_average_forgets_faster_at_the_start(updates, memory):
    average, network = Small(0.0), Small(1.0, 5)
    weights.follow(average, network, updates)
    torch.testing.assert_close(average.weight.detach(), torch.full((2, 2), 1 - memory))
    assert average.count == 5


@pytest.mark.parametrize(
    ("value", "finite"), [(1.0, True), (6e4, True), (7e4, False), (torch.inf, False), (torch.nan, False)]
)
def test_what_overflows_in_a_checkpoint_is_not_finite(value, finite):
    assert weights.are_finite(Small(value, 10**9)) == finite
