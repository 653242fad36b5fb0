"""Slices side by side in pictures: each comes back as it was, and none is larger than a browser draws."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from topofix.reporting import mosaics
from topofix.reporting.mosaics import Mosaic, greys, label_levels, level_step, mosaic, thinning, window


def slice_of(found: Mosaic, index: int) -> np.ndarray:
    """A slice as the page cuts it out."""
    uri = found.pictures[index // found.each]
    assert uri.startswith("data:image/png;base64,")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    down, across = divmod(index % found.each, found.across)
    rows, columns = found.rows, found.columns
    return picture[down * rows : (down + 1) * rows, across * columns : (across + 1) * columns]


@pytest.mark.parametrize("shape", [(1, 3, 5), (7, 4, 6), (50, 9, 11), (33, 12, 5), (8, 1, 1), (2, 80, 3)])
def test_every_slice_comes_back(monkeypatch, shape):
    monkeypatch.setattr(mosaics, "SIDE", 40)
    stack = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    found = mosaic(stack)
    assert len(found.pictures) == -(-shape[0] // found.each)
    assert found.across * found.columns <= max(40, shape[2])
    assert found.each // found.across * found.rows <= max(40, shape[1])
    for index, plane in enumerate(stack):
        assert (slice_of(found, index) == plane).all()


def test_a_mosaic_is_plain_json():
    found = mosaic(np.zeros((2, 3, 4), np.uint8))
    assert found.to_dict() == {
        "rows": 3,
        "columns": 4,
        "across": 2,
        "each": 2,
        "pictures": found.pictures,
    }


@pytest.mark.parametrize(
    ("stacks", "step"),
    [
        ([(1, 1, 1)], 1),
        ([(1, 4096, 4096)], 1),
        ([(1, 4097, 10)], 2),
        ([(1, 10, 20_000)], 5),
        ([(64, 512, 512)], 1),
        ([(65, 512, 512)], 2),
        ([(33, 512, 512), (33, 512, 512)], 2),
    ],
)
def test_only_huge_images_are_thinned(stacks, step):
    assert thinning(stacks) == step


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([np.arange(1001.0)], (5, 995)),
        ([np.full(5, 7)], (7, 7)),
        ([np.array([np.nan, np.inf])], (0, 0)),
        ([np.array([np.nan, -np.inf, 2.0])], (2, 2)),
        ([np.arange(0, 501, dtype=np.uint16), np.arange(501, 1001, dtype=np.int32)], (5, 995)),
    ],
)
def test_the_window_leaves_out_the_darkest_and_the_brightest(images, expected):
    assert window(images) == pytest.approx(expected)


def test_the_window_of_a_large_image_is_that_of_a_sample():
    image = np.random.default_rng(0).normal(0, 1, (40, 300, 300))
    assert window([image] * 2) == pytest.approx(np.percentile(image, (0.5, 99.5)), abs=0.05)


def test_greys_bear_what_is_not_finite():
    image = np.array([-5, 0, 5, 10, 15, np.nan, np.inf, -np.inf])
    assert greys(image, 0, 10).tolist() == [0, 0, 128, 255, 255, 0, 255, 0]
    assert greys(image, 3, 3).tolist() == [0] * 8
    assert greys(np.array([0, 40_000], np.uint16), 0, 40_000).tolist() == [0, 255]


@pytest.mark.parametrize("count", [1, 2, 7, 100, 255])
def test_labels_are_told_apart_by_their_grey(count):
    values = [3 * k + 2 for k in range(count)]
    labels = np.array([0, *values])
    levels = label_levels(labels, values)
    assert (np.rint(levels / level_step(count)) == np.arange(count + 1)).all()


def test_labels_beyond_the_greys_look_like_the_last():
    levels = label_levels(np.array([0, 1, 255, 256, 300]), range(1, 301))
    assert levels.tolist() == [0, 1, 255, 255, 255]


def test_no_label_is_no_trouble():
    assert label_levels(np.zeros((2, 3), np.uint8), []).tolist() == [[0, 0, 0], [0, 0, 0]]
