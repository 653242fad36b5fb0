"""Logits from maps, logits and label maps: what they stand for, and how sure they are of it."""

import numpy as np
import phantoms
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from topofix.errors import InvalidArray
from topofix.learning.fields import MOST_LABELS, logits_of_labels, logits_of_maps


def softmax(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return torch.softmax(torch.from_numpy(np.random.default_rng(seed).normal(size=shape)), 0).numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_softmax_keeps_its_probabilities_and_its_type(dtype):
    maps = softmax((4, 5, 6)).astype(dtype)
    logits = logits_of_maps(maps)
    assert logits.numpy().dtype == dtype
    np.testing.assert_allclose(torch.softmax(logits, 0), maps, atol=1e-6)


def test_a_softmax_may_be_rounded_as_files_round_it():
    maps = np.round(softmax((3, 8, 9)), 4)
    assert len(logits_of_maps(maps)) == 3
    np.testing.assert_array_equal(logits_of_maps(maps).argmax(0), maps.argmax(0))


def test_certain_probabilities_have_finite_logits():
    for maps in (np.eye(3)[:, :, None], np.array([[[0.0, 1.0]]])):
        assert torch.isfinite(logits_of_maps(maps)).all()
    assert logits_of_maps(np.array([[[0.0, 0.5, 1.0]]])).argmax(0).tolist() == [[0, 0, 1]]


@given(arrays.arrays(np.float64, (2, 3, 4), elements=st.floats(0, 1)))
def test_maps_that_know_nothing_of_each_other_show_the_largest_above_one_half(maps):
    maps[0, 0, 0] = maps[1, 0, 0] = 0.9  # no softmax
    found = logits_of_maps(maps).argmax(0).numpy()
    highest = maps.max(0)
    assert len(logits_of_maps(maps)) == 3
    np.testing.assert_array_equal(found > 0, highest > 0.5)
    # what rounds to certainty in a logit cannot be told apart
    chosen = np.take_along_axis(maps, np.maximum(found - 1, 0)[None], 0)[0]
    clear = (found > 0) & (highest < 1 - 1e-6)
    np.testing.assert_array_equal(chosen[clear], highest[clear])


def test_logits_are_taken_as_they_are():
    random = np.random.default_rng(1)
    one, three = random.normal(size=(1, 4, 5)), random.normal(size=(3, 4, 5))
    np.testing.assert_array_equal(logits_of_maps(three, are_logits=True), three)
    np.testing.assert_array_equal(logits_of_maps(one, are_logits=True)[1], one[0])
    np.testing.assert_array_equal(logits_of_maps(one, are_logits=True)[0], np.zeros((4, 5)))


def test_probabilities_outside_their_range_are_refused():
    with pytest.raises(InvalidArray, match=r"probabilities from 0 to 1, found values from -0.5 to 2"):
        logits_of_maps(np.array([[[-0.5, 2.0]]]))


@pytest.mark.parametrize("phantom", [p for p in phantoms.all_phantoms() if p.mask.any()], ids=str)
def test_a_label_map_is_its_logits_largest_channel(phantom):
    labels = phantom.mask * 2
    labels.flat[0] = 1
    logits = logits_of_labels(labels, (1.0, 2.0, 0.5)[: labels.ndim])
    assert logits.shape == (3, *labels.shape)
    np.testing.assert_array_equal(logits.argmax(0), labels)


def test_a_probability_is_the_sigmoid_of_the_distance_in_mm():
    labels = np.zeros((5, 9), int)
    labels[:, 3:7] = 1
    for step, softness in ((1.0, 1.0), (0.5, 2.0)):
        logits = logits_of_labels(labels, (3.0, step), softness)
        distance = step * np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 1.5, 0.5, -0.5, -1.5])
        expected = 1 / (1 + np.exp(-distance / softness))
        np.testing.assert_allclose(torch.softmax(logits, 0)[1, 2], expected, rtol=1e-5)


def test_the_border_lies_between_voxels_whatever_their_shape():
    labels = np.zeros((4, 4, 6), int)
    labels[..., 3:] = 1
    logits = logits_of_labels(labels, (0.8, 0.8, 2.5), softness=1.0)
    distance = np.array([-6.25, -3.75, -1.25, 1.25, 3.75, 6.25])
    np.testing.assert_allclose(logits[1, 0, 0] - logits[0, 0, 0], distance, rtol=1e-6)


def test_without_a_softness_it_is_two_voxels_of_the_finest_axis():
    labels = np.eye(6, dtype=int)
    given = logits_of_labels(labels, (0.7, 3.0), 1.4)
    torch.testing.assert_close(logits_of_labels(labels, (0.7, 3.0)), given)


def test_distances_can_stay_within_slices():
    labels = np.zeros((6, 7, 3), np.uint8)
    labels[2:4, 2:5, 1] = 1
    by_slice = logits_of_labels(labels, (1.0, 1.0, 8.0), slice_axis=2)
    alone = logits_of_labels(labels[..., 1], (1.0, 1.0), softness=2.0)
    torch.testing.assert_close(by_slice[..., 1], alone)
    assert (by_slice[1, ..., 0] < by_slice[1, ..., 1].min()).all()  # nothing near in an empty slice
    np.testing.assert_array_equal(by_slice.argmax(0), labels)


def test_an_empty_label_map_is_background_and_a_full_one_foreground():
    for value in (0, 1):
        logits = logits_of_labels(np.full((4, 4), value), (1.0, 1.0))
        assert len(logits) == 2
        assert (logits.argmax(0) == value).all()


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([[0.5, 1]], "expected a label map of whole numbers, found fractions"),
        ([[-1, 1]], f"expected labels from 0 to {MOST_LABELS}, found values from -1 to 1"),
        ([[0, 999]], f"expected labels from 0 to {MOST_LABELS}, found values from 0 to 999"),
    ],
)
def test_what_is_no_label_map_is_refused(labels, sentence):
    with pytest.raises(InvalidArray, match=sentence):
        logits_of_labels(np.array(labels), (1.0, 1.0))
