"""Only what is wrong is touched, stage after stage, and nothing comes out worse than it went in."""

import re

import numpy as np
import phantoms
import pytest
import torch

from topofix.correction import correct
from topofix.errors import InvalidOption
from topofix.learning.inference import grid_for, predict
from topofix.learning.network import Checkpoint, NetworkConfig, build
from topofix.prediction import Prediction, label_map
from topofix.records import RefinementOptions
from topofix.request import one_slice
from topofix.topology.persistence import betti
from topofix.topology.priors import Prior
from topofix.topology.regions import betti_of_regions

CONFIG = NetworkConfig(2, ("disc",), (1.0, 1.0), (16, 16), channels=(4, 8, 8))
SOLID = NetworkConfig(3, ("ball",), (1.0, 1.0, 1.0), (8, 8, 8), channels=(4, 4, 8))
RING = Prior.parse("1,1")
VOXELS = RefinementOptions(method="voxels")


def map_prediction(field: np.ndarray, slice_axis: int = 0) -> Prediction:
    """As of a probability map: no network."""
    logit = torch.from_numpy(field.astype(np.float32)).logit(eps=1e-6)
    return Prediction(torch.stack([torch.zeros_like(logit), logit]), {"foreground": 1}, slice_axis)


def network_prediction(shape: tuple[int, ...], config=CONFIG, slice_axis: int = 0) -> Prediction:
    """As of a network with random weights: noise to be put right."""
    image = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    network = build(config, seed=1).eval()
    grid = grid_for(config, shape, (1.0,) * len(shape), None, slice_axis)
    cpu = torch.device("cpu")
    bias = list(network.output_block.parameters())[-1]
    bias.data -= predict(network, config, image, grid, cpu).flatten(1).mean(1)  # about half is foreground
    logits = predict(network, config, image, grid, cpu)
    checkpoint = Checkpoint("random", config, network)
    return Prediction(logits, config.label_values, slice_axis, checkpoint, cpu, image, grid)


def broken_ring() -> np.ndarray:
    field = np.where(phantoms.ring().mask, 0.9, 0.1)
    field[10:12, 12:20] = np.where(field[10:12, 12:20] > 0.5, 0.4, 0.1)
    return field


def stack(axis: int) -> np.ndarray:
    """Slices 0 and 2 have a whole ring, 1 and 3 a broken one."""
    good, bad = np.where(phantoms.ring().mask, 0.9, 0.1), broken_ring()
    return np.stack([good, bad, good, bad], axis)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_only_wrong_slices_are_touched(axis):
    prediction = map_prediction(stack(axis), axis)
    before = prediction.logits.clone()
    result = correct(prediction, dict.fromkeys(range(4), RING), (1.0, 1.0, 1.0), "full", VOXELS)
    assert torch.equal(prediction.logits, before), "the prediction was changed"
    for index in range(4):
        same = torch.equal(one_slice(result.logits, index, axis + 1), one_slice(before, index, axis + 1))
        assert same == (index in (0, 2))
        assert betti(one_slice(label_map(result.logits), index, axis)) == (1, 1)
    assert result.stages == ("voxels",)
    assert result.steps > 0


def test_slices_without_a_prior_are_left_alone():
    prediction = map_prediction(stack(0))
    result = correct(prediction, {1: RING}, (1.0, 1.0, 1.0), "full", VOXELS)
    assert betti(label_map(result.logits)[1]) == (1, 1)
    assert torch.equal(result.logits[:, [0, 2, 3]], prediction.logits[:, [0, 2, 3]])


def test_every_slice_may_have_a_prior_of_its_own():
    prediction = map_prediction(stack(0))
    priors = {0: Prior.parse("1,0"), 1: Prior.parse("1,0"), 3: RING}
    result = correct(prediction, priors, (1.0, 1.0, 1.0), "full", VOXELS)
    labels = label_map(result.logits)
    assert [betti(part) for part in labels] == [(1, 0), (1, 0), (1, 1), (1, 1)]
    assert torch.equal(result.logits[:, 1:3], prediction.logits[:, 1:3])


def test_slices_are_corrected_as_images_of_their_own():
    """A stack gives what its slices alone give, with the slices' own spacing."""
    spacing = (9.0, 1.0, 2.0)
    whole = correct(map_prediction(stack(0)), {1: RING}, spacing, "full", VOXELS)
    alone = correct(map_prediction(broken_ring()), {None: RING}, spacing[1:], "full", VOXELS)
    assert torch.equal(whole.logits[:, 1], alone.logits)
    assert whole.steps == alone.steps


def test_a_volume_is_corrected_as_a_whole():
    field = np.where(phantoms.ball().mask, 0.9, 0.1)
    field[7, 7, 7], field[1, 1, 1] = 0.3, 0.6
    prediction = map_prediction(field)
    result = correct(prediction, {None: Prior.parse("1,0,0")}, (1.0, 1.0, 2.0), "full", VOXELS)
    assert betti(label_map(prediction.logits)) == (2, 0, 1)
    assert betti(label_map(result.logits)) == (1, 0, 0)


def test_what_is_right_already_runs_no_stage():
    prediction = map_prediction(np.where(phantoms.ring().mask, 0.9, 0.1))
    result = correct(prediction, {None: RING}, (1.0, 1.0), "full", RefinementOptions())
    assert torch.equal(result.logits, prediction.logits)
    assert (result.stages, result.steps) == ((), 0)


def test_the_connectivity_decides_what_is_wrong():
    prediction = map_prediction(np.where(phantoms.diamond().mask, 0.8, 0.2))
    assert correct(prediction, {None: RING}, (1.0, 1.0), "full", VOXELS).steps == 0
    result = correct(prediction, {None: RING}, (1.0, 1.0), "face", VOXELS)
    assert result.steps > 0
    assert betti(label_map(result.logits), "face") == (1, 1)


def test_the_weights_method_needs_a_network():
    message = (
        "--method weights: expected a network to adapt, but a probability map has none; try --method voxels"
    )
    weights = RefinementOptions(method="weights")
    for priors in ({None: RING}, {0: RING}, {None: Prior.parse("*,*")}):  # refused even if nothing is wrong
        with pytest.raises(InvalidOption, match=f"^{re.escape(message)}$"):
            correct(map_prediction(stack(0)[0]), priors, (1.0, 1.0), "full", weights)


def test_the_weights_method_needs_a_network_that_sees_what_the_prior_is_for():
    prediction = network_prediction((8, 9, 10), SOLID)
    weights = RefinementOptions(method="weights")
    expected = "but a 3-D network sees no single slices; try --method voxels"
    with pytest.raises(InvalidOption, match=re.escape(expected)):
        correct(prediction, {0: RING}, (1.0, 1.0, 1.0), "full", weights)
    auto = correct(prediction, {0: RING}, (1.0, 1.0, 1.0), "full", RefinementOptions(steps=4))
    assert auto.stages == ("voxels",)


@pytest.mark.parametrize(
    ("shape", "config", "index", "prior"),
    [
        ((20, 21), CONFIG, None, "9,9"),
        ((3, 20, 21), CONFIG, 1, "9,9"),
        ((3, 20, 21), CONFIG, None, "9,9,9"),  # a 2-D network on the whole volume
        ((8, 9, 10), SOLID, None, "9,9,9"),
    ],
)
def test_stages_run_while_the_topology_is_wrong_and_none_makes_it_worse(shape, config, index, prior):
    prediction = network_prediction(shape, config)
    before = {name: value.clone() for name, value in prediction.checkpoint.network.state_dict().items()}
    wanted = Prior.parse(prior)
    options = RefinementOptions(steps=4)
    result = correct(prediction, {index: wanted}, (1.0,) * len(shape), "full", options)
    if wanted.dimensions == 2:
        assert (result.stages, result.steps) == (("weights", "voxels"), 8)
    else:  # in 3-D the network's stage runs only when it is asked for
        assert (result.stages, result.steps) == (("voxels",), 4)

    def error(logits: torch.Tensor) -> int:
        labels = one_slice(label_map(logits), index, 0)
        return wanted.constraints[0].error(betti_of_regions(labels, wanted)[0])

    assert error(result.logits) <= error(prediction.logits)
    for name, value in prediction.checkpoint.network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("method", ["weights", "voxels"])
def test_a_method_runs_alone(method):
    prediction = network_prediction((20, 21))
    result = correct(
        prediction, {None: Prior.parse("9,9")}, (1.0, 1.0), "full", RefinementOptions(method=method, steps=3)
    )
    assert result.stages == (method,)
    assert result.steps == 3
