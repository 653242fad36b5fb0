"""Regions of a label map as sets, and Dice by its definition."""

import numpy as np
import phantoms
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from topofix.topology.priors import FOREGROUND, Prior
from topofix.topology.regions import betti_of_regions, dice, region_mask

MASKS = arrays.arrays(bool, (4, 5))
LABELS = np.random.default_rng(0).integers(0, 5, (9, 10)).astype(np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_a_union_is_the_union_and_the_foreground_is_every_label(dtype):
    labels = LABELS.astype(dtype)
    one, two = region_mask(labels, (1,)), region_mask(labels, (3,))
    np.testing.assert_array_equal(region_mask(labels, (1, 3)), one | two)
    assert not (one & two).any()
    np.testing.assert_array_equal(region_mask(labels, FOREGROUND), region_mask(labels, (1, 2, 3, 4)))
    np.testing.assert_array_equal(region_mask(labels, FOREGROUND), labels != 0)
    assert one.dtype == bool
    assert not region_mask(labels, (9,)).any()


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_each_region_is_counted_in_the_priors_order(phantom, connectivity):
    """A phantom as label 2 in a world of label 5: the two together are one block."""
    labels = np.pad(np.where(phantom.mask, 2, 5), 2, constant_values=5)
    any_number = ",".join("*" * labels.ndim)
    prior = Prior.parse(f"2+5:{any_number} 2:{any_number} 4:{any_number} {any_number}")
    block = (1,) + (0,) * (labels.ndim - 1)
    nothing = (0,) * labels.ndim
    expected = (block, phantom.betti(connectivity), nothing, block)
    assert betti_of_regions(labels, prior, connectivity) == expected


@given(MASKS, MASKS)
def test_dice_is_twice_the_overlap_over_the_sizes(a, b):
    size = int(a.sum()) + int(b.sum())
    assert dice(a, b) == dice(b, a) == (2 * int((a & b).sum()) / size if size else 1.0)
    assert 0 <= dice(a, b) <= 1


@given(MASKS)
def test_dice_is_one_with_itself_and_zero_with_the_rest(mask):
    assert dice(mask, mask) == 1
    assert dice(mask, ~mask) == 0


@given(MASKS, st.integers(0, 19))
def test_dice_falls_when_a_shared_voxel_is_lost(mask, index):
    lost = mask.copy()
    lost.flat[index] = False
    assert dice(mask, lost) <= 1
    assert (dice(mask, lost) == 1) == (not mask.flat[index])


def test_large_masks_do_not_overflow():
    large = np.ones((70_000, 1), bool)
    assert dice(large, large.copy()) == 1
    assert isinstance(dice(large, large), float)
