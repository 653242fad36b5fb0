"""Only what is wrong is touched, stage after stage, and nothing comes out worse than it went in."""

import re
import time
from dataclasses import replace

import numpy as np
import phantoms
import pytest
import torch
from scipy import ndimage

from topofix import correction
from topofix.correction import correct
from topofix.errors import InvalidOption
from topofix.learning.inference import grid_for, predict
from topofix.learning.network import Checkpoint, NetworkConfig, build
from topofix.learning.refinement import Refinement
from topofix.limits import MaxChange
from topofix.outcomes import Outcome
from topofix.prediction import Prediction, label_map
from topofix.records import RefinementOptions
from topofix.request import one_slice
from topofix.topology.persistence import betti
from topofix.topology.priors import Prior
from topofix.topology.regions import betti_of_regions
from topofix.topology.repair import Repair

CONFIG = NetworkConfig(2, ("disc",), (1.0, 1.0), (16, 16), channels=(4, 8, 8))
SOLID = NetworkConfig(3, ("ball",), (1.0, 1.0, 1.0), (8, 8, 8), channels=(4, 4, 8))
RING = Prior.parse("1,1")
VOXELS = RefinementOptions(method="voxels")
NO_GUARANTEE = RefinementOptions(guarantee=False, min_evidence=0.0)


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
    result = correct(prediction, {None: Prior.parse("1,0")}, (1.0, 1.0), "face", VOXELS)
    assert result.steps > 0
    assert betti(label_map(result.logits), "face") == (1, 0)


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
    auto = correct(prediction, {0: RING}, (1.0, 1.0, 1.0), "full", replace(NO_GUARANTEE, steps=4))
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
    options = replace(NO_GUARANTEE, steps=4)
    result = correct(prediction, {index: wanted}, (1.0,) * len(shape), "full", options)
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
    options = replace(NO_GUARANTEE, method=method, steps=3)
    result = correct(prediction, {None: Prior.parse("9,9")}, (1.0, 1.0), "full", options)
    assert result.stages == (method,)
    assert result.steps == 3
    assert {shortfall.outcome for shortfall in result.shortfalls} <= {Outcome.NOT_REACHED}


@pytest.mark.parametrize("method", ["weights", "voxels", "auto"])
def test_the_exact_stage_repairs_what_the_others_leave(method):
    options = RefinementOptions(method=method, steps=1, min_evidence=0.0)
    prediction, prior = network_prediction((20, 21)), Prior.parse("2,1")
    assert betti(label_map(prediction.logits)) != (2, 1)
    result = correct(prediction, {None: prior}, (1.0, 1.0), "full", options)
    assert result.stages == ("voxels" if method == "auto" else method, "exact")
    assert betti(label_map(result.logits)) == (2, 1)
    assert result.shortfalls == ()


def test_what_cannot_be_repaired_after_other_stages_is_repaired_from_the_start(monkeypatch):
    def strays(logits, *args, **kwargs):
        moved = logits.clone()
        moved[1, 0, 0] = -9  # one of the specks is gone
        return Refinement(moved, error=1, steps=3)

    starts: list[np.ndarray] = []

    def repairs(logits, prior, connectivity, *, labels, **kwargs):
        starts.append(labels)
        return Repair(*((labels, 9, True) if len(starts) == 1 else (whole, 0, True)))

    whole = phantoms.ring().mask.astype(np.uint8)
    field = broken_ring()
    field[0, 0] = 0.9
    field[0, 5] = 0.9
    monkeypatch.setattr(correction, "refine_voxels", strays)
    monkeypatch.setattr(correction, "repair", repairs)
    result = correct(map_prediction(field), {None: RING}, (1.0, 1.0), "full", VOXELS)
    assert result.stages == ("voxels", "exact")
    np.testing.assert_array_equal(starts[1], field > 0.5)
    np.testing.assert_array_equal(label_map(result.logits), whole)
    assert {stage for _, stage, _ in result.changes} == {"exact"}  # nothing else led there


def test_a_repair_that_is_no_better_leaves_what_there_was(monkeypatch):
    def partly(logits, *args, **kwargs):
        moved = logits.clone()
        moved[1, 0, 0] = -9  # one of the specks is gone
        return Refinement(moved, error=2, steps=3)

    def fails(logits, prior, connectivity, *, labels, **kwargs):
        specks = np.zeros_like(labels)
        specks[::2, ::2] = 1
        return Repair(labels if labels[0, 0] else specks, 9, False)

    field = broken_ring()
    field[0, 0], field[0, 5] = 0.9, 0.9
    monkeypatch.setattr(correction, "refine_voxels", partly)
    monkeypatch.setattr(correction, "repair", fails)
    prediction = map_prediction(field)
    result = correct(prediction, {None: RING}, (1.0, 1.0), "full", VOXELS)
    assert [shortfall.outcome for shortfall in result.shortfalls] == [Outcome.NOT_REACHED]
    changed = label_map(result.logits) != label_map(prediction.logits)
    assert np.argwhere(changed).tolist() == [[0, 0]]
    assert {stage for _, stage, _ in result.changes} == {"voxels"}


def test_the_exact_method_takes_no_step():
    prediction = map_prediction(stack(0))
    options = RefinementOptions(method="exact")
    result = correct(prediction, dict.fromkeys(range(4), RING), (1.0, 1.0, 1.0), "full", options)
    assert (result.stages, result.steps) == (("exact",), 0)
    assert [betti(part) for part in label_map(result.logits)] == [(1, 1)] * 4
    assert torch.equal(result.logits[:, [0, 2]], prediction.logits[:, [0, 2]])
    same = label_map(result.logits) == label_map(prediction.logits)
    assert torch.equal(result.logits[:, same], prediction.logits[:, same])


def test_the_exact_method_is_the_guarantee():
    options = RefinementOptions(method="exact", guarantee=False)
    with pytest.raises(InvalidOption, match="--method exact: expected the guarantee with it"):
        correct(map_prediction(stack(0)), {0: RING}, (1.0, 1.0, 1.0), "full", options)


@pytest.mark.parametrize("guarantee", [True, False])
def test_what_is_not_to_be_seen_is_not_made_up(guarantee):
    """A ring is asked for where there is a disc without a dent; a second piece goes all the same."""
    field = np.where(phantoms.disc().mask, 0.9, 0.0)
    field[1, 1] = 0.8
    options = RefinementOptions(guarantee=guarantee)
    result = correct(map_prediction(field), {None: RING}, (1.0, 1.0), "full", options)
    (shortfall,) = result.shortfalls
    assert shortfall.outcome is Outcome.NO_EVIDENCE
    ((lack,), error) = (shortfall.lacks, shortfall.error)
    assert (lack.region, lack.dimension, lack.wanted, lack.longest) == ((), 1, 1, 0)
    assert result.stages == (("exact",) if guarantee else ())
    assert betti(label_map(result.logits)) == ((1, 0) if guarantee else (2, 0))
    assert error == (1 if guarantee else 2)


@pytest.mark.parametrize("method", ["voxels", "exact"])
@pytest.mark.parametrize("whole", [True, False])
def test_frozen_voxels_keep_their_label(method, whole):
    """The gap of the ring is frozen, so that another way has to be found, or there is none."""
    field = broken_ring()
    frozen = np.ones(field.shape, bool)
    if not whole:
        frozen[:] = (field > 0.35) & (field < 0.45)  # the gap
    prediction = map_prediction(field)
    options = RefinementOptions(method=method, min_evidence=0.0)
    result = correct(prediction, {None: RING}, (1.0, 1.0), "full", options, frozen=frozen)
    same = label_map(result.logits) == label_map(prediction.logits)
    assert same[frozen].all()
    if whole:
        assert [shortfall.outcome for shortfall in result.shortfalls] == [Outcome.INFEASIBLE]
        assert result.changes == ()


def test_one_part_in_a_stack_does_not_take_what_another_may_change():
    """The limit holds for the whole image: what slice 1 changes, slice 3 has no more."""
    options = RefinementOptions(method="exact")
    priors = dict.fromkeys(range(4), RING)
    free = correct(map_prediction(stack(0)), priors, (1.0, 1.0, 2.0), "full", options)
    needed = int((label_map(free.logits)[1] != label_map(map_prediction(stack(0)).logits)[1]).sum())
    assert needed > 0
    limited = replace(options, max_change=MaxChange(2.0 * needed))
    result = correct(map_prediction(stack(0)), priors, (1.0, 1.0, 2.0), "full", limited)
    assert result.most == needed
    assert [(s.index, s.outcome) for s in result.shortfalls] == [(3, Outcome.STOPPED_BY_MAX_CHANGE)]
    assert (label_map(result.logits) != label_map(map_prediction(stack(0)).logits)).sum() <= result.most
    enough = replace(options, max_change=MaxChange(2.0 * 2 * needed))
    assert correct(map_prediction(stack(0)), priors, (1.0, 1.0, 2.0), "full", enough).shortfalls == ()


def test_a_stage_that_would_change_too_much_is_discarded():
    prediction = map_prediction(broken_ring())
    options = replace(NO_GUARANTEE, method="voxels", max_change=MaxChange(1))
    result = correct(prediction, {None: RING}, (1.0, 1.0), "full", options)
    assert torch.equal(result.logits, prediction.logits)
    assert [shortfall.outcome for shortfall in result.shortfalls] == [Outcome.STOPPED_BY_MAX_CHANGE]
    assert result.stages == ("voxels",)


def test_what_is_not_begun_in_time_is_left_as_it_is():
    prediction = map_prediction(stack(0))
    priors = dict.fromkeys(range(4), RING)
    result = correct(prediction, priors, (1.0, 1.0, 1.0), "full", VOXELS, deadline=time.perf_counter() - 1)
    assert torch.equal(result.logits, prediction.logits)
    assert [(s.index, s.outcome) for s in result.shortfalls] == [
        (1, Outcome.TIME_OVER),
        (3, Outcome.TIME_OVER),
    ]
    late = correct(prediction, priors, (1.0, 1.0, 1.0), "full", VOXELS, deadline=time.perf_counter() + 600)
    assert late.shortfalls == ()


def test_a_stage_that_comes_to_no_number_is_abandoned_and_the_next_one_tried(monkeypatch):
    def fails(logits, *args, **kwargs):
        return Refinement(logits, error=1, steps=3, finite=False)

    monkeypatch.setattr(correction, "refine_voxels", fails)
    result = correct(map_prediction(broken_ring()), {None: RING}, (1.0, 1.0), "full", VOXELS)
    assert result.abandoned == ((None, "voxels"),)
    assert result.stages == ("voxels", "exact")
    assert betti(label_map(result.logits)) == (1, 1)
    assert torch.isfinite(result.logits).all()


def test_small_pieces_and_cavities_are_defects_even_where_their_number_is_free():
    field = np.where(phantoms.ring().mask, 0.9, 0.1)
    field[0, 0], field[3:5, 10] = 0.8, 0.2  # a piece of one voxel and a hole of two
    prediction, prior = map_prediction(field), {None: Prior.parse("*,*")}
    exact = RefinementOptions(method="exact")
    assert correct(prediction, prior, (1.0, 1.0), "full", exact).stages == ()
    result = correct(prediction, prior, (1.0, 2.0), "full", replace(exact, min_size=4.5))
    assert result.shortfalls == ()
    assert betti(label_map(result.logits)) == (1, 1)


@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_no_piece_of_a_correction_without_a_network_could_be_left_out(connectivity):
    field = phantoms.probabilities(phantoms.figure_eight().mask, seed=3) * 0.7
    prior = Prior.parse("1,2")
    prediction = map_prediction(field)
    result = correct(prediction, {None: prior}, (1.0, 1.0), connectivity, VOXELS)
    before, after = label_map(prediction.logits), label_map(result.logits)
    assert betti(after, connectivity) == (1, 2)
    pieces, count = ndimage.label(before != after, np.ones((3, 3)))
    assert count > 1
    for piece in range(1, count + 1):
        assert betti(np.where(pieces == piece, before, after), connectivity) != (1, 2)


def test_the_changes_lead_from_the_first_label_map_to_the_last():
    field = np.stack([np.where(phantoms.two_discs().mask, 0.9, 0.1), np.full((16, 30), 0.1)])
    result = correct(
        map_prediction(field), {0: Prior.parse("1,0")}, (1.0, 1.0, 1.0), "full", RefinementOptions("exact")
    )
    ((index, stage, change),) = result.changes
    assert (index, stage, change.dimension, change.kind) == (0, "exact", 0, "removed")
    assert change.voxels == (label_map(result.logits) != (field > 0.5)).sum()
