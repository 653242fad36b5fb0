"""The states of a part keep to its frozen voxels, and logits show the label map that they are to show."""

import numpy as np
import phantoms
import pytest
import torch

from topofix.part import Part, showing, spare
from topofix.prediction import label_map
from topofix.topology.priors import Prior

ONE_PIECE = Prior.parse("1,0")


def part_of(field: np.ndarray, **values) -> Part:
    logit = torch.from_numpy(field).logit(eps=1e-6)
    logits = torch.stack([torch.zeros_like(logit), logit])
    return Part(None, ONE_PIECE, "full", logits, label_map(logits), **values)


def towards(labels: np.ndarray) -> torch.Tensor:
    return torch.stack([torch.zeros(labels.shape), torch.from_numpy(labels * 2.0 - 1)]).double()


@pytest.mark.parametrize("classes", [2, 3, 5, 300])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4, 1e7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_show_any_label_map(classes, scale, dtype):
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.normal(size=(classes, 8, 9)) * scale).to(dtype)
    labels = random.integers(0, classes, (8, 9)).astype(np.uint16)
    before = logits.clone()
    shown = showing(logits, labels)
    np.testing.assert_array_equal(label_map(shown), labels)
    same = torch.from_numpy(label_map(logits) == labels)
    assert torch.equal(shown[:, same], before[:, same])
    assert torch.equal(logits, before)


def test_a_label_that_was_chosen_lies_just_above_one_half():
    logits = torch.tensor([[0.0, 5.0], [3.0, 0.0]])
    shown = torch.softmax(showing(logits, np.array([0, 1], np.uint8)), 0)
    assert shown[0, 0] == pytest.approx(0.51, abs=1e-3)
    assert shown[1, 1] == pytest.approx(0.51, abs=1e-3)


def test_a_state_counts_and_leaves_frozen_voxels_alone():
    mask = phantoms.two_discs().mask
    frozen = np.zeros(mask.shape, bool)
    frozen[8, 22] = True
    part = part_of(np.where(mask, 0.9, 0.1), frozen=frozen)
    wanted = mask.copy()
    wanted[:, 15:] = False
    state = part.state(towards(wanted))
    assert state.labels[8, 22] == 1
    assert state.error == 1
    assert state.changed == (mask != wanted).sum() - 1
    assert torch.equal(state.logits[:, 8, 22], part.logits[:, 8, 22])


def test_pieces_that_are_not_needed_are_taken_back_in_every_state():
    mask = phantoms.two_discs().mask
    part = part_of(np.where(mask, 0.9, 0.1))
    wanted = mask.copy()
    wanted[:, 15:] = False  # that is needed,
    first = wanted.copy()
    wanted[8, 3] = wanted[0:2, 0:2] = False
    wanted[8, 2] = False  # that is not
    trail = spare(part, [("voxels", part.state(towards(first))), ("exact", part.state(towards(wanted)))])
    assert [stage for stage, _ in trail] == ["voxels", "exact"]
    np.testing.assert_array_equal(trail[-1][1].labels, first)
    assert trail[-1][1].error == 0
    back = torch.from_numpy(wanted != first)
    assert torch.equal(trail[-1][1].logits[:, back], part.logits[:, back])


def test_nothing_is_taken_back_of_what_is_wrong():
    mask = phantoms.two_discs().mask
    part = part_of(np.where(mask, 0.9, 0.1))
    worse = mask.copy()
    worse[8, 7] = False
    trail = [("voxels", part.state(towards(worse)))]
    assert spare(part, trail) == trail
    assert spare(part, []) == []


def test_a_size_below_the_smallest_is_an_error():
    mask = phantoms.disc().mask
    assert part_of(np.where(mask, 0.9, 0.1), min_voxels=mask.sum()).error(mask.astype(np.uint8)) == 0
    assert part_of(np.where(mask, 0.9, 0.1), min_voxels=mask.sum() + 1).error(mask.astype(np.uint8)) == 1
