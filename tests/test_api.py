"""Images in memory come back as what they were, with the topology that was asked for."""

import nibabel as nib
import numpy as np
import phantoms
import pytest
import SimpleITK
import torch

from topofix.api import _on_grid, _source, refine
from topofix.errors import InvalidArray, InvalidOption, InvalidPrior
from topofix.imaging.volume import Volume
from topofix.imaging.volumes import read, write
from topofix.pipeline import refine as refine_file
from topofix.records import CaseOptions, MaxChange, Outcome, RefinementOptions
from topofix.request import PriorRequest
from topofix.topology.persistence import betti

LABELS = CaseOptions(input_type="labels")
OBLIQUE = np.array([[1.2, 0.3, 0, -20], [-0.3, 1.2, 0, 14], [0, 0, 2.5, 7], [0, 0, 0, 1]])


def broken() -> np.ndarray:
    """A ball of probability 0.9 with a void, and a smaller one of 0.7 beside it."""
    field = np.where(phantoms.two_balls().mask, 0.9, 0.1).astype(np.float32)
    field[..., 12:] = np.where(field[..., 12:] > 0.5, 0.7, 0.1)
    field[6, 6, 6] = 0.3
    assert betti(field > 0.5) == (2, 0, 1)
    return field


def test_an_array_comes_back_as_an_array():
    result = refine(broken(), "1,0,0")
    assert result.record.outcome is Outcome.SATISFIED
    assert betti(result.labels) == (1, 0, 0)
    assert (result.labels.dtype, result.labels.shape) == (np.uint8, broken().shape)
    np.testing.assert_array_equal(result.probabilities.argmax(0), result.labels)


def test_a_tensor_comes_back_as_a_tensor():
    result = refine(torch.from_numpy(broken()).requires_grad_(), "1,0,0")
    assert isinstance(result.labels, torch.Tensor)
    np.testing.assert_array_equal(result.labels, refine(broken(), "1,0,0").labels)


def test_a_nibabel_image_comes_back_in_its_place():
    image = nib.Nifti1Image(broken(), OBLIQUE)
    result = refine(image, "1,0,0")
    assert isinstance(result.labels, nib.Nifti1Image)
    np.testing.assert_array_equal(result.labels.affine, image.affine)
    assert result.labels.get_data_dtype() == np.uint8
    assert betti(np.asarray(result.labels.dataobj)) == (1, 0, 0)


def test_a_simpleitk_image_comes_back_in_its_place():
    image = SimpleITK.GetImageFromArray(broken())
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((5.0, -6.0, 7.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    result = refine(image, "1,0,0")
    for geometry in ("GetSpacing", "GetOrigin", "GetDirection", "GetSize"):
        assert getattr(result.labels, geometry)() == getattr(image, geometry)()
    assert betti(SimpleITK.GetArrayFromImage(result.labels)) == (1, 0, 0)


def test_a_file_and_the_same_image_in_memory_end_alike(tmp_path):
    field, steps = broken(), (1.0, 1.0, 2.5)
    write(tmp_path / "map.nii.gz", field, like=Volume(field, steps, np.diag([*steps, 1.0]), tmp_path))
    options = CaseOptions(input_type="probabilities")
    refine_file(tmp_path / "map.nii.gz", tmp_path / "out.nii.gz", PriorRequest(("1,0,0",)), options)
    np.testing.assert_array_equal(
        refine(field, "1,0,0", spacing=steps).labels, read(tmp_path / "out.nii.gz").array
    )


@pytest.mark.parametrize("axis", [0, -1])
def test_channels_may_stand_on_any_axis(axis):
    field = broken()
    softmax = np.stack([1 - field, field * 0.9, field * 0.1])
    result = refine(np.moveaxis(softmax, 0, axis), "1:1,0,0", channel_axis=axis)
    assert betti(result.labels == 1) == (1, 0, 0)
    assert len(result.probabilities) == 3


@pytest.mark.parametrize("axis", [0, 3])
def test_channels_of_a_nibabel_image_have_no_spacing(axis):
    field = broken()
    array = np.stack([1 - field, field], axis)
    image = nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.5, 1.0]))
    image.header.set_zooms((9.0, 1.0, 1.0, 2.5) if axis == 0 else (1.0, 1.0, 2.5, 9.0))
    labels = refine(image, "1:1,0,0", channel_axis=axis).labels
    np.testing.assert_array_equal(
        labels.dataobj, refine(array, "1:1,0,0", channel_axis=axis, spacing=(1.0, 1.0, 2.5)).labels
    )
    assert labels.shape == field.shape


@pytest.mark.parametrize("channels_first", [True, False])
def test_a_nibabel_image_lies_where_its_file_does(tmp_path, channels_first):
    field = broken()
    array = np.stack([1 - field, field], 0 if channels_first else 3)
    image = nib.Nifti1Image(array, np.diag([800.0, 800.0, 2500.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "map.nii.gz")
    options = CaseOptions(input_type="probabilities")
    record = refine_file(
        tmp_path / "map.nii.gz", tmp_path / "out.nii.gz", PriorRequest(("1:1,0,0",)), options
    )
    result = refine(image, "1:1,0,0", channel_axis=0 if channels_first else 3)
    assert result.record.voxel_volume == pytest.approx(record.voxel_volume) == pytest.approx(1.6)
    np.testing.assert_array_equal(result.labels.dataobj, read(tmp_path / "out.nii.gz").array)


def test_a_trailing_axis_of_one_is_dropped_as_from_a_file():
    image = nib.Nifti1Image(broken()[..., None], np.eye(4))
    assert refine(image, "1,0,0").labels.shape == broken().shape


def test_a_simpleitk_image_has_the_orientation_of_its_file(tmp_path):
    image = SimpleITK.GetImageFromArray(broken())
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    image.SetSpacing((1.0, 2.0, 3.0))
    SimpleITK.WriteImage(image, tmp_path / "map.mha")
    grid, file = _on_grid(_source(image), None, None).grid, read(tmp_path / "map.mha")
    assert grid.orientation == file.orientation
    assert grid.spacing == file.spacing
    np.testing.assert_allclose(grid.affine, file.affine)


def test_half_precision_tensors_are_taken():
    field = torch.from_numpy(broken()).to(torch.bfloat16)
    assert betti(refine(field, "1,0,0").labels.numpy()) == (1, 0, 0)


def test_components_of_a_simpleitk_image_are_channels():
    field = broken()
    image = SimpleITK.GetImageFromArray(np.stack([1 - field, field], -1), isVector=True)
    assert betti(SimpleITK.GetArrayFromImage(refine(image, "1:1,0,0").labels)) == (1, 0, 0)


def test_a_label_map_can_be_corrected_without_probabilities():
    mask = phantoms.ring().mask.astype(np.uint8)
    mask[10, 12:20] = 0
    result = refine(mask, "1,1", options=LABELS)
    assert betti(result.labels) == (1, 1)
    assert (result.labels != mask).sum() < 20


@pytest.mark.parametrize(
    ("image", "settings", "error", "sentence"),
    [
        (np.zeros(4), {}, InvalidArray, "expected 2 or 3 axes of space"),
        (np.zeros((2, 0)), {}, InvalidArray, "expected 2 or 3 axes of space"),
        (np.full((4, 4), np.nan), {}, InvalidArray, "expected finite real numbers"),
        (np.zeros((4, 4), complex), {}, InvalidArray, "expected finite real numbers, got complex128"),
        (np.full((4, 4), 1.5), {}, InvalidArray, "image: expected probabilities from 0 to 1"),
        (np.zeros((4, 4)), {"spacing": (1.0, 0.0)}, InvalidArray, "spacing: expected 2 lengths above 0 mm"),
        (np.zeros((4, 4)), {"spacing": (1.0,)}, InvalidArray, "spacing: expected 2 lengths"),
        (np.zeros((4, 4)), {"spacing": np.array([np.nan, 1])}, InvalidArray, "spacing: expected 2 lengths"),
        (np.zeros((4, 4)), {"channel_axis": 5}, InvalidArray, "channel_axis: expected an axis of"),
        (np.zeros((3, 4, 4)), {"channel_axis": 0, "options": LABELS}, InvalidArray, "expected no channels"),
        (np.zeros((2, 4, 4)), {"channel_axis": 0}, InvalidPrior, "got 3 in 1,0,0"),
    ],
)
def test_what_cannot_be_is_refused(image, settings, error, sentence):
    with pytest.raises(error, match=sentence):
        refine(image, "1,0,0", **settings)


@pytest.mark.parametrize(
    "kind", [np.asarray, torch.from_numpy, lambda mask: nib.Nifti1Image(mask, np.eye(4))]
)
def test_frozen_voxels_keep_their_label(kind):
    frozen = (broken() > 0.5).astype(np.uint8)
    frozen[6, 6, 6] = 0
    result = refine(broken(), "1,0,0", frozen=kind(frozen))
    assert result.record.outcome is Outcome.SATISFIED
    np.testing.assert_array_equal(result.labels[frozen > 0], 1)


def test_a_frozen_mask_of_another_shape_or_in_a_file_is_refused():
    with pytest.raises(InvalidArray, match=r"frozen: expected the shape of the image, .* got \(3, 4\)"):
        refine(broken(), "1,0,0", frozen=np.ones((3, 4)))
    with pytest.raises(
        InvalidOption, match=r"freeze: expected a mask in memory as 'frozen', got the file a\.nii"
    ):
        refine(broken(), "1,0,0", options=CaseOptions("probabilities", freeze="a.nii"))


def test_what_is_limited_on_the_command_line_is_limited_here():
    limits = RefinementOptions(time_limit=1e-9)
    assert refine(broken(), "1,0,0", refinement=limits).record.outcome is Outcome.TIME_OVER
    limits = RefinementOptions(max_change=MaxChange(0))
    result = refine(broken(), "1,0,0", refinement=limits)
    assert result.record.outcome is Outcome.STOPPED_BY_MAX_CHANGE
    np.testing.assert_array_equal(result.labels, broken() > 0.5)


class OnDisk:
    """Stands for the voxels of a nibabel image that nobody has read yet."""

    def __init__(self, shape):
        self.shape, self.ndim, self.dtype = shape, len(shape), np.dtype(np.float32)

    def __array__(self, dtype=None, copy=None):
        raise AssertionError("voxels were read")


def of_simpleitk(components: int) -> SimpleITK.Image:
    return SimpleITK.Image([4, 5, 6], SimpleITK.sitkVectorFloat32, components)


@pytest.mark.parametrize(
    ("image", "most"),
    [
        (np.full((4, 5, 6), 0.2), 119),
        (torch.full((2, 4, 5, 6), 0.5), 239),
        (nib.Nifti1Image(np.full((4, 5, 6), 0.2), np.eye(4)), 119),
        (SimpleITK.GetImageFromArray(np.full((4, 5, 6), 0.2)), 119),
        (of_simpleitk(3), 359),
    ],
    ids=["array", "tensor", "nibabel", "SimpleITK", "components"],
)
def test_an_image_in_memory_is_limited_too(image, most):
    options = CaseOptions(input_type="probabilities", max_voxels=most)
    sentence = (
        f"image: expected at most {most} voxels, got {most + 1}; max_voxels among the options allows more"
    )
    with pytest.raises(InvalidArray, match=f"^{sentence}$"):
        refine(image, "1,0,0", options=options)


def test_an_image_on_the_disk_is_not_read_to_be_counted():
    large = nib.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4))
    large._dataobj = OnDisk((4000, 4000, 4000))
    with pytest.raises(InvalidArray, match="image: expected at most 268435456 voxels, got 64000000000; "):
        refine(large, "1,0,0")
    with pytest.raises(InvalidArray, match="frozen: expected at most 268435456 voxels, got 64000000000; "):
        refine(broken(), "1,0,0", frozen=large)
