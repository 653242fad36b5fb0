"""The conditional random field against its own definition, written out for all pairs of pixels."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks/paper"))

from random_field import LEVELS, STEPS, RandomField, mean_field, tune

SHAPE = (14, 11)
FIELD = RandomField(smoothness=0.8, near=1.5, appearance=1.7, far=4.0, grey=0.1)


@pytest.fixture
def noise():
    random = np.random.default_rng(0)
    return random.normal(size=SHAPE).astype(np.float32), random.random(SHAPE).astype(np.float32)


def by_all_pairs(logits, image, field):
    """Mean field with matrices of all pairs of pixels, and a probability for each of two labels."""
    places = np.stack(np.meshgrid(*map(np.arange, logits.shape), indexing="ij"), -1).reshape(-1, 2)
    apart = np.square(places[:, None] - places).sum(-1)
    grey = np.rint(image.ravel() * (LEVELS - 1)) / (LEVELS - 1)
    unlike = np.square(grey[:, None] - grey) / (2 * field.grey**2)
    kernels = 0.0
    for weight, kernel in (
        (field.smoothness, np.exp(-apart / (2 * field.near**2))),
        (field.appearance, np.exp(-apart / (2 * field.far**2) - unlike)),
    ):
        root = np.sqrt(kernel.sum(0))
        kernels = kernels + weight * kernel / root / root[:, None]
    unary = np.stack([np.zeros(logits.size), logits.ravel()])  # log-probabilities but for a constant
    marginals = np.exp(unary) / np.exp(unary).sum(0)
    for _ in range(STEPS):
        scores = unary - kernels.dot(marginals[::-1].T).T  # what the other label has around costs
        marginals = np.exp(scores) / np.exp(scores).sum(0)
    return marginals[1].reshape(logits.shape)


def test_equals_the_definition_for_all_pairs(noise):
    logits, image = noise
    assert np.allclose(mean_field(logits, image, FIELD), by_all_pairs(logits, image, FIELD), atol=2e-4)


def test_without_weights_it_is_the_network(noise):
    logits, image = noise
    free = RandomField(smoothness=0, near=1, appearance=0, far=1, grey=0.1)
    assert np.allclose(mean_field(logits, image, free), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_follows_the_edges_of_the_image():
    image = np.zeros((20, 20), np.float32)
    image[:, 10:] = 1
    logits = np.where(image > 0, 1.0, -1.0).astype(np.float32)
    logits[4, 4], logits[15, 15] = 1, -1  # a speck and a hole
    logits[:, 10] = -0.2  # the border, missed by one pixel
    field = RandomField(smoothness=0.5, near=1.0, appearance=3.0, far=8.0, grey=0.1)
    assert np.array_equal(mean_field(logits, image, field) > 0.5, image > 0)


def test_tuning_takes_the_best_and_of_equals_the_first(noise):
    logits, image = noise
    grid = [RandomField(weight, 1.0, weight, 3.0, 0.2) for weight in (0.0, 8.0, 4.0)]
    found = tune([logits], [image], lambda masks: -float(masks[0].sum()), grid)
    areas = [(mean_field(logits, image, field) > 0.5).sum() for field in grid]
    assert found == grid[int(np.argmin(areas))]
    assert tune([logits], [image], lambda masks: 0.0, grid) == grid[0]
