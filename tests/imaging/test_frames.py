"""Series in time: frames out of a 4-D file, and a 4-D file out of frames."""

import nibabel as nib
import numpy as np
import pytest

from topofix.errors import UnreadableFile, UnwritableFile
from topofix.imaging.frames import read_frames, write_frames
from topofix.imaging.volumes import read

AFFINE = np.array([[1.2, 0.3, 0, -20], [-0.3, 1.2, 0, 14], [0, 0, 8, 7], [0, 0, 0, 1]], float)


@pytest.fixture
def cine(tmp_path):
    """A series (x, y, z, t) of 40 ms a frame."""
    array = np.random.default_rng(0).integers(0, 900, (5, 6, 3, 4)).astype(np.int16)
    image = nib.Nifti1Image(array, AFFINE)
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 40
    nib.save(image, tmp_path / "cine.nii.gz")
    return tmp_path / "cine.nii.gz", array


def test_frames_come_in_order_with_the_geometry_of_the_series(cine):
    path, array = cine
    frames = read_frames(path)
    assert [frame.frame for frame in frames] == [0, 1, 2, 3]
    for frame in frames:
        np.testing.assert_array_equal(frame.array, array[..., frame.frame])
        np.testing.assert_allclose(frame.affine, AFFINE, atol=1e-6)
        assert len(frame.spacing) == 3


def test_what_is_written_has_the_frames_and_the_header_of_the_series(cine, tmp_path):
    path, array = cine
    write_frames(
        tmp_path / "out.nii.gz",
        [(a > 400).astype(np.uint8) for a in np.moveaxis(array, -1, 0)],
        read_frames(path),
    )
    before, after = nib.load(path), nib.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(after.dataobj, array > 400)
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.header.get_zooms() == before.header.get_zooms()
    assert after.header.get_xyzt_units() == ("mm", "msec")
    assert after.get_data_dtype() == np.uint8


@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 3), (5, 6, 3, 1)])
def test_any_other_image_is_one_frame(tmp_path, shape):
    path = tmp_path / "image.nii.gz"
    nib.save(nib.Nifti1Image(np.ones(shape, np.uint8), np.eye(4)), path)
    (frame,) = read_frames(path)
    assert frame.frame is None
    assert frame.array.shape == read(path).array.shape
    write_frames(tmp_path / "out.nrrd", [frame.array], [frame])
    np.testing.assert_array_equal(read(tmp_path / "out.nrrd").array, frame.array)


def test_a_series_is_written_as_nifti_only(cine, tmp_path):
    frames = read_frames(cine[0])
    with pytest.raises(UnwritableFile, match=r"expected a NIfTI file for a series in time, found 4 frames"):
        write_frames(tmp_path / "out.nrrd", [frame.array for frame in frames], frames)
    assert not (tmp_path / "out.nrrd").exists()


def test_a_damaged_series_is_refused(cine):
    path, array = cine
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UnreadableFile, match=r"expected a complete .nii.gz file"):
        read_frames(path)
    values = array.astype(np.float32)
    values[0, 0, 0, 3] = np.nan
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    with pytest.raises(UnreadableFile, match=r"expected finite voxels, found 1"):
        read_frames(path)
