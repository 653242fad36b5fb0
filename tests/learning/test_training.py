"""Training learns what there is to learn, twice the same, and gives back its best state."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from topofix.learning import training
from topofix.learning.dataset import Case, make_case
from topofix.learning.inference import predict
from topofix.learning.network import NetworkConfig
from topofix.learning.training import make_loss, train, validate
from topofix.records import TrainingOptions

CPU = torch.device("cpu")
FLAT = NetworkConfig(2, ("disc",), (1.0, 1.0), (32, 32), channels=(4, 8, 8))
SOLID = NetworkConfig(3, ("ball",), (1.0, 1.0, 1.0), (16, 16, 16), channels=(4, 8, 8))
QUICK = TrainingOptions(epochs=10, batch_size=4, learning_rate=2e-2, validate_every=5, augment=False)


def ball_case(config: NetworkConfig, side: int, seed: int) -> Case:
    """A bright ball, or disc, at a random place in noise."""
    random = np.random.default_rng(seed)
    shape = (side,) * config.dimensions
    centre = random.uniform(0.3 * side, 0.7 * side, config.dimensions)
    label = (((np.indices(shape).T - centre) ** 2).sum(-1) < (0.25 * side) ** 2).T
    image = 100 * (label + 0.4 * random.normal(size=shape))
    axes = (tuple(range(config.dimensions)), ())
    return make_case(f"case {seed}", image, label, (1.0,) * config.dimensions, axes, config)


@pytest.fixture(scope="module")
def discs():
    return [ball_case(FLAT, 48, seed) for seed in range(12)]


@pytest.fixture(scope="module")
def result(discs):
    return train(discs[:9], discs[9:], FLAT, QUICK, CPU)


def test_discs_are_learned_in_seconds(result, discs):
    assert result.history[-1].dice[0] > 0.8
    assert result.history[-1].loss < 0.6 * result.history[0].loss
    assert validate(result.network, FLAT, discs[9:], CPU)[0] > 0.8


def test_balls_are_learned_in_seconds():
    cases = [ball_case(SOLID, 20, seed) for seed in range(10)]
    options = TrainingOptions(epochs=20, batch_size=2, learning_rate=1e-2, validate_every=5, augment=False)
    result = train(cases[:8], cases[8:], SOLID, options, CPU)
    assert max(epoch.best for epoch in result.history) > 0.8


def test_the_same_seed_gives_the_same_bits(discs):
    options = TrainingOptions(epochs=2, batch_size=4, validate_every=2, augment=True, seed=3)
    first = train(discs[:4], discs[9:10], FLAT, options, CPU).network.state_dict()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - the global generator, which must not matter
    again = train(discs[:4], discs[9:10], FLAT, options, CPU).network.state_dict()
    for name, value in first.items():
        assert torch.equal(value, again[name]), name
    other = TrainingOptions(epochs=2, batch_size=4, validate_every=2, augment=True, seed=4)
    changed = train(discs[:4], discs[9:10], FLAT, other, CPU).network.state_dict()
    assert any(not torch.equal(value, changed[name]) for name, value in first.items())


def test_the_network_comes_back_ready_to_predict(result, discs):
    assert not any(module.training for module in result.network.modules())
    case = discs[10]
    logits = predict(result.network, FLAT, case.image, case.grid, CPU)
    assert logits.shape == (2, 48, 48)


def test_the_state_of_the_best_validation_is_returned(discs, monkeypatch):
    scores = iter([(0.3,), (0.9,), (0.5,), (0.9,)])
    states, announced = [], []

    def scripted(network, config, cases, device):
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(scores)

    monkeypatch.setattr(training, "validate", scripted)
    options = TrainingOptions(epochs=4, batch_size=4, learning_rate=1e-2, validate_every=1, augment=False)
    on_best = lambda network, epoch: announced.append((epoch.number, epoch.dice, epoch.best))  # noqa: E731
    result = train(discs[:4], discs[9:10], FLAT, options, CPU, on_best=on_best)
    assert result.best_epoch == 2
    assert announced == [(1, (0.3,), 0.3), (2, (0.9,), 0.9)]
    assert [epoch.best for epoch in result.history] == [0.3, 0.9, 0.9, 0.9]
    returned = result.network.state_dict()
    assert all(torch.equal(returned[name], value) for name, value in states[1].items())
    assert any(not torch.equal(returned[name], value) for name, value in states[3].items())


@pytest.mark.parametrize(
    ("patience", "validate_every", "scores", "epochs"),
    [
        (3, 1, [0.5, 0.6, 0.6, 0.5, 0.4, 0.9], 5),  # three epochs after the best, the second
        (2, 1, [0.5, 0.4, 0.3, 0.9], 3),
        (2, 3, [0.5, 0.6, 0.5, 0.9], 9),  # no sooner than there is a validation to judge by
        (20, 2, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 12),
    ],
)
def test_training_stops_when_patience_is_over(patience, validate_every, scores, epochs, discs, monkeypatch):
    answers = iter(scores)
    monkeypatch.setattr(training, "validate", lambda *args: (next(answers),))
    options = TrainingOptions(
        epochs=12, batch_size=4, patience=patience, validate_every=validate_every, augment=False
    )
    result = train(discs[:1], discs[9:10], FLAT, options, CPU)
    assert len(result.history) == epochs
    assert result.history[-1].finished


def test_progress_is_reported_after_every_batch_and_epoch(discs):
    seen = []
    options = TrainingOptions(epochs=2, batch_size=4, validate_every=2, augment=False)
    result = train(discs[:6], discs[9:10], FLAT, options, CPU, on_step=seen.append)
    assert [(e.number, e.step, e.steps, e.finished) for e in seen] == [
        (1, 1, 2, False),
        (1, 2, 2, False),
        (1, 2, 2, True),
        (2, 1, 2, False),
        (2, 2, 2, False),
        (2, 2, 2, True),
    ]
    assert [len(e.dice) for e in seen] == [0, 0, 0, 0, 0, 1]
    assert all(math.isfinite(e.loss) and e.seconds > 0 and e.remaining >= 0 for e in seen)
    assert result.history == tuple(e for e in seen if e.finished)


class Constant(nn.Module):
    """The same logits everywhere, whatever it sees."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits.reshape(1, -1, 1, 1).expand(len(images), -1, *images.shape[2:])


def test_validation_dice_by_hand():
    """Everything is called label 1; a quarter of the first image is, and nothing of the second."""
    config = NetworkConfig(2, ("one", "two"), (1.0, 1.0), (8, 8), channels=(4, 8, 8))
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[0, :4, :4] = 1
    cases = [make_case("a", label, label, (1.0, 1.0), ((0, 1), ()), config) for label in labels]
    scores = validate(Constant(0.0, 1.0, 0.0), config, cases, CPU)
    assert scores == pytest.approx(((2 * 16 / (16 + 64) + 0) / 2, 1.0))  # label 2 is rightly not found


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
