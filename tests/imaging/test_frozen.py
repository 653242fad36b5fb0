"""A mask of frozen voxels lies on the image's grid, or it is refused."""

import nibabel
import numpy as np
import pytest

from topofix.errors import InvalidArray, UnreadableFile
from topofix.imaging.frames import read_frames
from topofix.imaging.frozen import read_frozen

MASK = np.arange(24).reshape(2, 3, 4) % 3


def save(path, array, affine=None):
    nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), np.eye(4) if affine is None else affine), path)
    return path


def shifted(mm, spacing=2.0):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[0, 3] = mm
    return affine


def test_what_is_not_zero_is_frozen(tmp_path):
    image = read_frames(save(tmp_path / "image.nii.gz", np.zeros(MASK.shape)))
    for name, array in (("whole", MASK), ("negative", -MASK), ("fractions", MASK / 100)):
        (mask,) = read_frozen(save(tmp_path / f"{name}.nii.gz", array), image)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, MASK > 0)


@pytest.mark.parametrize("shape", [(2, 3, 5), (3, 2, 4), (2, 3), (24, 1, 1)])
def test_another_shape_is_refused(tmp_path, shape):
    image = read_frames(save(tmp_path / "image.nii.gz", np.zeros(MASK.shape)))
    with pytest.raises(InvalidArray, match=r"mask\.nii: expected the shape of .*image\.nii\.gz, \(2, 3, 4\)"):
        read_frozen(save(tmp_path / "mask.nii", np.ones(shape)), image)


@pytest.mark.parametrize(
    ("mm", "fits"), [(0.0, True), (0.1, True), (-0.19, True), (0.3, False), (50.0, False)]
)
def test_a_tenth_of_a_voxel_is_rounding_and_more_is_another_place(tmp_path, mm, fits):
    image = read_frames(save(tmp_path / "image.nii.gz", np.zeros(MASK.shape), shifted(0.0)))
    mask = save(tmp_path / "mask.nii.gz", MASK, shifted(mm))
    if fits:
        assert read_frozen(mask, image)[0].any()
    else:
        with pytest.raises(InvalidArray, match=r"mask\.nii\.gz: expected the grid of .* apart"):
            read_frozen(mask, image)


def test_a_flipped_axis_is_another_place(tmp_path):
    image = read_frames(save(tmp_path / "image.nii.gz", np.zeros(MASK.shape), shifted(0.0)))
    with pytest.raises(InvalidArray, match="that lies up to 12 mm apart"):
        read_frozen(save(tmp_path / "mask.nii.gz", MASK, np.diag([2.0, 2.0, -2.0, 1.0])), image)


def test_a_format_without_a_place_needs_the_shape_alone(tmp_path):
    image = read_frames(save(tmp_path / "image.nii.gz", np.zeros(MASK.shape), shifted(70.0)))
    np.save(tmp_path / "mask.npy", MASK)
    assert read_frozen(tmp_path / "mask.npy", image)[0].sum() == (MASK > 0).sum()


def test_a_series_takes_one_mask_or_one_per_frame(tmp_path):
    frames = read_frames(save(tmp_path / "cine.nii.gz", np.zeros((*MASK.shape, 3))))
    masks = read_frozen(save(tmp_path / "one.nii.gz", MASK), frames)
    assert [int(mask.sum()) for mask in masks] == [(MASK > 0).sum()] * 3
    each = np.stack([MASK, MASK * 0, MASK], -1)
    masks = read_frozen(save(tmp_path / "each.nii.gz", each), frames)
    assert [bool(mask.any()) for mask in masks] == [True, False, True]
    with pytest.raises(InvalidArray, match=r"expected 3 frames as in .* got 2"):
        read_frozen(save(tmp_path / "two.nii.gz", each[..., :2]), frames)


def test_a_mask_that_is_not_there_is_refused(tmp_path):
    image = read_frames(save(tmp_path / "image.nii.gz", np.zeros(MASK.shape)))
    with pytest.raises(UnreadableFile, match=r"nowhere\.nii\.gz"):
        read_frozen(tmp_path / "nowhere.nii.gz", image)
