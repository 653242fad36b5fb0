"""The picture of a case: the right slice, every change in its colour, and small."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix.records import Outcome, Record
from topofix.reporting.palette import ADDED, LABELS, RELABELLED, REMOVED
from topofix.reporting.scene import Scene
from topofix.reporting.thumbnails import SIDE, shown_slice, thumbnail

WHITE = "#ffffff"


def scene(
    before: np.ndarray,
    after: np.ndarray,
    spacing: tuple[float, ...] | None = None,
    image: np.ndarray | None = None,
    axis: int = 0,
    affine: np.ndarray | None = None,
) -> Scene:
    return Scene(
        name="a.nii.gz",
        record=Record("refine", "a.nii.gz", Outcome.SATISFIED, ""),
        image=np.zeros(before.shape) if image is None else image,
        before=before.astype(np.uint8),
        after=after.astype(np.uint8),
        labels={1: "wall"},
        spacing=spacing or (1.0,) * before.ndim,
        affine=np.eye(4) if affine is None else affine,
        slice_axis=axis,
        bars_before=(),
        bars_after=(),
    )


def square(shape: tuple[int, ...] = (64, 64), low: int = 20, high: int = 44) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[..., low:high, low:high] = 1
    return mask


def pixels(picture: bytes) -> np.ndarray:
    """(Y, X, 3)."""
    with Image.open(io.BytesIO(picture)) as opened:
        assert opened.format == "PNG"
        return np.asarray(opened.convert("RGB"))


def of_colour(picture: bytes, colour: str) -> np.ndarray:
    return (pixels(picture) == list(bytes.fromhex(colour[1:]))).all(-1)


@pytest.mark.parametrize("make", [ring_scene, stack_scene, solid_scene])
def test_real_cases_become_small_pictures(make):
    picture = thumbnail(make())
    assert max(pixels(picture).shape) == SIDE
    assert len(picture) < 5000
    assert of_colour(picture, ADDED).any() or of_colour(picture, REMOVED).any()
    assert of_colour(picture, LABELS[0]).any()
    assert picture == thumbnail(make())


def test_both_kinds_of_change_are_where_they_happened():
    before, after = square(), square()
    before[22:26, 22:26] = 0  # the hole is filled
    before[50:56, 50:56] = 1  # the piece is taken away
    picture = thumbnail(scene(before, after))
    for colour, quarter in ((ADDED, np.s_[:48, :48]), (REMOVED, np.s_[48:, 48:])):
        there = of_colour(picture, colour)
        assert there.sum() > 30
        assert there[quarter].sum() == there.sum()


def test_another_label_has_a_colour_of_its_own():
    before, after = square(), square()
    after[30:34, 30:34] = 2
    picture = thumbnail(scene(before, after))
    assert of_colour(picture, RELABELLED).sum() > 20
    assert not of_colour(picture, ADDED).any()
    assert not of_colour(picture, REMOVED).any()


def test_each_label_is_outlined_in_its_colour():
    labels = square()
    labels[28:36, 28:36] = 2
    picture = thumbnail(scene(labels, labels))
    outer, inner = (of_colour(picture, colour) for colour in LABELS[:2])
    assert outer.any()
    assert inner.any()
    rows = np.flatnonzero(inner.any(1))
    assert np.flatnonzero(outer.any(1)).min() < rows.min() <= rows.max() < np.flatnonzero(outer.any(1)).max()


def test_a_single_voxel_of_a_large_image_is_seen_and_framed():
    before = square((512, 512), 20, 490)
    after = before.copy()
    after[250, 130] = 0
    picture = thumbnail(scene(before, after))
    (row,), (column,) = (np.unique(places) for places in np.nonzero(of_colour(picture, REMOVED)))
    around = of_colour(picture, WHITE)
    assert around.sum() >= 12
    rows, columns = np.nonzero(around)
    assert rows.min() < row < rows.max() < row + 8
    assert columns.min() < column < columns.max() < column + 8


def test_at_most_three_changes_are_framed():
    before, after = square((200, 200), 10, 190), square((200, 200), 10, 190)
    for k in range(5):
        after[30 + 30 * k, 30 + 30 * k] = 0
    after[30:33, 30:33] = 0
    picture = thumbnail(scene(before, after))
    framed = of_colour(picture, WHITE)
    assert of_colour(picture, REMOVED).sum() >= 5
    assert 1 <= _pieces(framed) <= 3


def _pieces(mask: np.ndarray) -> int:
    from scipy import ndimage

    return int(ndimage.label(ndimage.binary_closing(np.pad(mask, 9), np.ones((7, 7))), np.ones((3, 3)))[1])


def test_a_case_without_a_change_has_no_frame():
    picture = thumbnail(scene(square(), square()))
    assert not of_colour(picture, WHITE).any()
    assert of_colour(picture, LABELS[0]).any()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_slice_is_the_one_where_most_changed(axis):
    labels = np.zeros((12, 13, 14), np.uint8)
    labels[2:10, 2:10, 2:10] = 1
    after = labels.copy()
    few, many = [slice(4, 6)] * 3, [slice(3, 8)] * 3
    few[axis], many[axis] = slice(4, 5), slice(7, 8)
    after[tuple(few)] = 0
    after[tuple(many)] = 0
    case = scene(labels, after, axis=axis)
    assert shown_slice(case) == 7
    assert of_colour(thumbnail(case), REMOVED).any()


def test_without_a_change_it_is_the_slice_that_holds_most():
    labels = np.zeros((5, 8, 8), np.uint8)
    labels[1, 2, 2] = 1
    labels[3, 2:5, 2:5] = 1
    assert shown_slice(scene(labels, labels)) == 3


def test_without_anything_it_is_the_slice_in_the_middle():
    nothing = np.zeros((5, 8, 8), np.uint8)
    assert shown_slice(scene(nothing, nothing)) == 2
    assert pixels(thumbnail(scene(nothing, nothing))).shape == (SIDE, SIDE, 3)


def test_an_image_has_no_slice():
    assert shown_slice(scene(square(), square())) is None


@pytest.mark.parametrize(("spacing", "shape"), [((2.0, 1.0), (96, 48)), ((1.0, 3.0), (32, 96))])
def test_a_millimetre_is_as_long_across_as_down(spacing, shape):
    nothing = np.zeros((40, 40), np.uint8)
    assert pixels(thumbnail(scene(nothing, nothing, spacing))).shape[:2] == shape


def test_a_sliver_keeps_a_pixel():
    nothing = np.zeros((400, 1), np.uint8)
    assert pixels(thumbnail(scene(nothing, nothing))).shape[:2] == (SIDE, 1)


def test_it_is_cropped_to_the_segmentation():
    image = np.zeros((300, 300))
    image[:100] = 1000  # far from the segmentation
    small = square((300, 300), 180, 220)
    picture = pixels(thumbnail(scene(small, small, image=image)))
    outline = (picture == list(bytes.fromhex(LABELS[0][1:]))).all(-1)
    assert np.ptp(np.flatnonzero(outline.any(0))) > SIDE / 3
    assert picture.max() < 250


def test_it_lies_as_other_pictures_do():
    """In an array of RAS axes, the patient's right is the end of the first axis, and stands on the left."""
    before, after = (np.ones((60, 60, 3), np.uint8) for _ in range(2))
    after[50:58, 4:8, 1] = 0  # at the right of the patient, at the back
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    rows, columns = np.nonzero(of_colour(thumbnail(scene(before, after, axis=2, affine=affine)), REMOVED))
    assert columns.max() < SIDE / 3
    assert rows.min() > 2 * SIDE / 3


@pytest.mark.parametrize(
    "image",
    [
        np.full((64, 64), 7.0),
        np.where(np.indices((64, 64))[0] < 9, np.nan, 1.0),
        np.arange(64 * 64, dtype=np.int16).reshape(64, 64),
        np.arange(64 * 64, dtype=">u2").reshape(64, 64),
        np.indices((64, 64))[0] < 32,
        np.indices((64, 64))[0] * 1e30,
    ],
    ids=["constant", "not a number", "integers", "big-endian", "a mask", "huge"],
)
def test_any_image_will_do(image):
    before, after = square(), square()
    after[30, 30] = 0
    assert of_colour(thumbnail(scene(before, after, image=image)), REMOVED).any()


def test_a_few_bright_voxels_do_not_hide_the_rest():
    image = np.tile(np.linspace(0, 1, 96), (96, 1))
    image[0, 0] = 1e6
    nothing = np.zeros((96, 96), np.uint8)
    greys = pixels(thumbnail(scene(nothing, nothing, image=image)))[50, :, 0]
    assert (np.diff(greys.astype(int)) >= 0).all()
    assert int(greys[48]) == pytest.approx(128, abs=8)


def test_the_worst_image_is_still_small():
    noise = np.random.default_rng(0).random((96, 96))
    nothing = np.zeros((96, 96), np.uint8)
    assert len(thumbnail(scene(nothing, nothing, image=noise))) < 8000


def test_nothing_of_the_scene_is_changed():
    case = stack_scene()
    arrays = (case.image, case.before, case.after)
    copies = [array.copy() for array in arrays]
    thumbnail(replace(case))
    assert all(np.array_equal(*pair) for pair in zip(arrays, copies, strict=True))
