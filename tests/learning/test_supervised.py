"""The supervised losses: their values by hand, and that the truth has the smallest."""

import math

import pytest
import torch
import torch.nn.functional as F

from topofix.learning.supervised import make_loss


def hand_example() -> tuple[torch.Tensor, torch.Tensor]:
    """Two pixels in each of two images; probabilities of label 1 are 0.8, 0.4 and 0.5, 0.1."""
    p = torch.tensor([[0.8, 0.4], [0.5, 0.1]]).reshape(2, 1, 1, 2)
    labels = torch.tensor([[1.0, 0.0], [1.0, 1.0]]).reshape(2, 1, 1, 2)
    return torch.log(torch.cat([1 - p, p], 1)), labels


DICE = 1 - 2 * (0.8 + 0.5 + 0.1) / (0.8 + 0.4 + 0.5 + 0.1 + 3)  # over the batch as a whole
BCE = -(math.log(0.8) + math.log(0.6) + math.log(0.5) + math.log(0.1)) / 4
MSE = (0.2**2 + 0.4**2 + 0.5**2 + 0.9**2) / 4  # the same in either channel


@pytest.mark.parametrize(
    ("name", "by_hand"), [("dice", DICE), ("bce", BCE), ("dice_bce", DICE + BCE), ("mse", MSE)]
)
def test_losses_by_hand(name, by_hand):
    logits, labels = hand_example()
    loss = make_loss(name)(logits.requires_grad_(), labels)
    assert loss.item() == pytest.approx(by_hand, abs=1e-4)
    loss.backward()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["dice", "bce", "dice_bce", "mse"])
def test_every_loss_falls_towards_the_truth_with_several_labels(name):
    labels = torch.randint(0, 4, (2, 1, 6, 7), generator=torch.Generator().manual_seed(0))
    truth = F.one_hot(labels[:, 0], 4).movedim(-1, 1).float()
    criterion = make_loss(name)
    values = [criterion(scale * truth, labels.float()).item() for scale in (-2, 0, 1, 4, 20)]
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(0, abs=1e-3)
