"""Files keep their geometry to the bit, appear whole or not at all, and are refused with a reason."""

import contextlib
import dataclasses
import gzip
import itertools
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from topofix.errors import InvalidArray, UnreadableFile, UnwritableFile
from topofix.imaging.volumes import Volume, find_images, is_image, read, stem, suffix, write

SHAPE = (4, 5, 6)
SCAN = np.arange(120, dtype=np.int16).reshape(SHAPE)
LABELS = (SCAN % 4).astype(np.uint8)
WRITABLE = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".png", ".tif", ".tiff")


def rotation(angle: float) -> np.ndarray:
    """About all three axes, so that no entry of the matrix is zero."""
    cos, sin = np.cos(angle), np.sin(angle)
    about_z = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return about_z @ about_x


def affine_of(direction: np.ndarray, spacing=(0.7, 0.8, 2.5), origin=(-11.0, 22.5, 33.1)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = direction * spacing
    affine[:3, 3] = origin
    return affine


def axis_aligned() -> list[np.ndarray]:
    """All 48 ways to lay array axes along the axes of the world."""
    return [
        np.eye(3)[list(order)] * signs
        for order in itertools.permutations(range(3))
        for signs in itertools.product((1, -1), repeat=3)
    ]


OBLIQUE = affine_of(rotation(0.3))
SHEARED = affine_of(rotation(0.3) @ [[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])


def nifti(path: Path, *, qform=None, sform=None, edit=None, array=SCAN, kind=nibabel.Nifti1Image) -> Path:
    """A NIfTI file made by nibabel: `qform` and `sform` are (affine, code), `edit` changes the header."""
    image = kind(array, None)
    header = image.header
    header.set_zooms((0.7, 0.8, 2.5, 1.0)[: array.ndim])
    header.set_xyzt_units("mm", "sec")
    if qform:
        header.set_qform(*qform)
    if sform:
        header.set_sform(*sform)
    header["descrip"] = b"a scan of nobody"
    header["cal_max"] = 100
    header.set_intent("label", name="tissue")
    if edit:
        edit(header)
    path.write_bytes(image.to_bytes())
    return path


def raw_header(path: Path) -> np.void:
    """The header as it lies in the file, mended by nobody."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    large = nibabel.Nifti2Header.may_contain_header(content)
    kind = nibabel.Nifti2Header if large else nibabel.Nifti1Header
    return kind(content[: kind.sizeof_hdr], check=False)


HEADERS = {
    "oblique": {"qform": (OBLIQUE, 1), "sform": (OBLIQUE, 1)},
    "qform only": {"qform": (OBLIQUE, 1)},
    "sform only": {"sform": (OBLIQUE, 2)},
    "disagreeing": {"qform": (OBLIQUE, 1), "sform": (affine_of(rotation(-1.0)), 4)},
    "sheared sform": {"qform": (SHEARED, 1), "sform": (SHEARED, 3)},
    "neither": {},
    "codes 0, matrices set": {"qform": (OBLIQUE, 0), "sform": (SHEARED, 0)},
    "left-handed": {"qform": (affine_of(rotation(0.3) * [1, 1, -1]), 1)},
    "qfac 0": {"edit": lambda header: header["pixdim"].__setitem__(0, 0)},
    "negative pixdim": {"sform": (OBLIQUE, 1), "edit": lambda header: header["pixdim"].__setitem__(1, -0.7)},
    "microns": {"sform": (OBLIQUE, 1), "edit": lambda header: header.set_xyzt_units("micron", "msec")},
    "no units": {"edit": lambda header: header.__setitem__("xyzt_units", 0)},
    "NIfTI-2": {"qform": (OBLIQUE, 1), "sform": (SHEARED, 2), "kind": nibabel.Nifti2Image},
    "one axis of size 1": {"sform": (OBLIQUE, 1), "array": SCAN[:, :, :1]},
    "4-D singleton": {"sform": (OBLIQUE, 1), "array": SCAN[..., None]},
    "2-D": {"sform": (OBLIQUE, 1), "array": SCAN[:, :, 0]},
}


@pytest.mark.parametrize("name", [".nii", ".nii.gz"])
@pytest.mark.parametrize("options", HEADERS.values(), ids=HEADERS.keys())
def test_a_nifti_like_a_nifti_keeps_its_header_bit_for_bit(tmp_path, options, name):
    source = nifti(tmp_path / "scan.nii", **options)
    scan = read(source)
    labels = (scan.array % 4).astype(np.uint8)
    write(tmp_path / f"labels{name}", labels, like=scan)

    before, after = raw_header(source), raw_header(tmp_path / f"labels{name}")
    changed = {key for key in before.keys() if before[key].tobytes() != after[key].tobytes()}  # noqa: SIM118
    expected = {"datatype", "bitpix", "scl_slope", "scl_inter", "cal_max"}
    assert changed <= expected | ({"dim"} if "array" in options and options["array"].ndim == 4 else set())
    assert type(before) is type(after)

    again = read(tmp_path / f"labels{name}")
    assert again.array.dtype == np.uint8
    np.testing.assert_array_equal(again.array, labels)
    np.testing.assert_array_equal(again.affine, scan.affine)
    assert again.spacing == scan.spacing
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(tmp_path / f"labels{name}").dataobj), labels)


@pytest.mark.parametrize(
    "direction",
    axis_aligned(),
    ids=lambda matrix: "".join(
        nibabel.aff2axcodes(np.block([[matrix, np.zeros((3, 1))], [np.zeros((1, 3)), 1]]))
    ),
)
def test_orientation_leads_to_the_canonical_order(tmp_path, direction):
    scan = read(nifti(tmp_path / "scan.nii", sform=(affine_of(direction), 1)))
    permutation, flips = scan.orientation
    canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(SCAN, scan.affine))
    np.testing.assert_array_equal(
        np.flip(scan.array.transpose(permutation), flips), np.asanyarray(canonical.dataobj)
    )


def test_orientation_is_the_identity_where_there_is_none():
    flat = Volume(np.zeros((4, 5)), (1.0, 1.0), np.diag([-1.0, -1, 1, 1]), Path("flat.png"))
    collapsed = Volume(np.zeros(SHAPE), (1.0, 1.0, 1.0), np.diag([0.0, -1, 1, 1]), Path("scan.nii"))
    assert flat.orientation == ((0, 1), ())
    assert collapsed.orientation == ((0, 1, 2), ())


def test_geometry_is_nibabels_own(tmp_path):
    path = nifti(tmp_path / "scan.nii", qform=(OBLIQUE, 1), sform=(SHEARED, 2))
    scan = read(path)
    np.testing.assert_array_equal(scan.affine, nibabel.load(path).affine)
    assert scan.spacing == pytest.approx((0.7, 0.8, 2.5))
    assert scan.voxel_volume == pytest.approx(0.7 * 0.8 * 2.5)
    assert scan.path == path
    assert "header" not in repr(scan)


def test_other_units_become_millimetres(tmp_path):
    scan = read(nifti(tmp_path / "scan.nii", sform=(OBLIQUE, 1), edit=HEADERS["microns"]["edit"]))
    assert scan.spacing == pytest.approx((0.0007, 0.0008, 0.0025))
    np.testing.assert_allclose(scan.affine[:3], OBLIQUE[:3] / 1000, rtol=1e-6)


def test_extensions_of_a_nifti_are_kept(tmp_path):
    image = nibabel.Nifti1Image(SCAN, OBLIQUE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"drawn by hand"))
    nibabel.save(image, tmp_path / "scan.nii.gz")
    scan = read(tmp_path / "scan.nii.gz")
    write(tmp_path / "labels.nii", LABELS, like=scan)
    labels = nibabel.load(tmp_path / "labels.nii")
    assert labels.header.extensions == image.header.extensions
    np.testing.assert_array_equal(np.asanyarray(labels.dataobj), LABELS)


def test_a_big_endian_file_is_read_in_native_order_and_written_as_it_was(tmp_path):
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(np.int16)
    header.set_sform(OBLIQUE, 1)
    (tmp_path / "scan.nii").write_bytes(nibabel.Nifti1Image(SCAN, None, header).to_bytes())
    scan = read(tmp_path / "scan.nii")
    assert scan.array.dtype.isnative
    np.testing.assert_array_equal(scan.array, SCAN)
    write(tmp_path / "copy.nii", scan.array, like=scan)
    assert raw_header(tmp_path / "copy.nii").endianness == ">"
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(tmp_path / "copy.nii").dataobj), SCAN)


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "expected"),
    [
        (np.int16, 1, 0, np.int16),
        (np.int16, 0, 7, np.int16),
        (np.int16, np.nan, 0, np.int16),
        (np.int16, 0.5, 0, np.float32),
        (np.uint8, 1, -1024, np.float32),
        (np.int32, 0.5, 3, np.float64),
        (np.float32, 2, 1, np.float32),
        (np.float32, 1, 0, np.float32),
        (np.float64, 1, 0, np.float64),
    ],
)
def test_nifti_scaling_is_applied_and_cleared(tmp_path, stored, slope, intercept, expected):
    def scale(path: Path) -> Path:
        content = bytearray(path.read_bytes())
        content[112:120] = struct.pack("<ff", slope, intercept)
        path.write_bytes(content)
        return path

    scan = read(scale(nifti(tmp_path / "scan.nii", array=SCAN.astype(stored))))
    scaled = SCAN if slope == 0 or np.isnan(slope) else SCAN * slope + intercept
    assert scan.array.dtype == expected
    np.testing.assert_array_equal(scan.array, scaled)
    assert scan.array.flags.writeable
    write(tmp_path / "labels.nii", LABELS, like=scan)
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(tmp_path / "labels.nii").dataobj), LABELS)


@pytest.mark.parametrize("name", [".nrrd", ".nhdr", ".mha", ".mhd"])
def test_an_itk_file_like_an_itk_file_keeps_geometry_and_metadata(tmp_path, name):
    image = SimpleITK.GetImageFromArray(SCAN.T)
    image.SetOrigin((-11.0, 22.5, 33.1))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetDirection(rotation(0.3).ravel())
    image.SetMetaData("protocol", "a scan of nobody")
    SimpleITK.WriteImage(image, tmp_path / f"scan{name}")

    scan = read(tmp_path / f"scan{name}")
    np.testing.assert_array_equal(scan.array, SCAN)
    write(tmp_path / "out" / f"labels{name}", LABELS, like=scan)
    labels = SimpleITK.ReadImage(tmp_path / "out" / f"labels{name}")
    assert labels.GetPixelID() == SimpleITK.sitkUInt8
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(labels).T, LABELS)
    assert labels.GetOrigin() == image.GetOrigin()
    np.testing.assert_allclose(labels.GetSpacing(), image.GetSpacing(), rtol=1e-14)
    np.testing.assert_allclose(labels.GetDirection(), image.GetDirection(), rtol=1e-14)
    assert labels.GetMetaData("protocol") == "a scan of nobody"
    assert b"ITK_" not in (tmp_path / "out" / f"labels{name}").read_bytes()


def test_an_nrrd_that_counts_in_ras_is_understood_and_stays_in_place(tmp_path):
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\nsizes: 4 5 6\nencoding: raw\n"
        "space directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (7,8,9)\n\n"
    )
    (tmp_path / "scan.nrrd").write_bytes(header.encode() + LABELS.tobytes(order="F"))
    scan = read(tmp_path / "scan.nrrd")
    expected = affine_of(np.eye(3), (2, 3, 4), (7, 8, 9))
    np.testing.assert_allclose(scan.affine, expected)
    np.testing.assert_array_equal(scan.array, LABELS)
    write(tmp_path / "labels.nrrd", scan.array, like=scan)
    np.testing.assert_allclose(read(tmp_path / "labels.nrrd").affine, expected)


@pytest.mark.parametrize("source", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("target", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
def test_nibabel_and_simpleitk_agree_where_a_voxel_is_after_any_conversion(tmp_path, source, target):
    nifti(tmp_path / "first.nii", qform=(OBLIQUE, 1), sform=(OBLIQUE, 1))
    write(tmp_path / f"scan{source}", SCAN, like=read(tmp_path / "first.nii"))
    scan = read(tmp_path / f"scan{source}")
    write(tmp_path / f"labels{target}", LABELS, like=scan)

    index = (3, 1, 4)
    world = OBLIQUE @ [*index, 1]
    labels = SimpleITK.ReadImage(tmp_path / f"labels{target}")
    x, y, z = labels.TransformIndexToPhysicalPoint(index)
    np.testing.assert_allclose((-x, -y, z), world[:3], atol=1e-4)
    assert labels[index] == LABELS[index]
    if target.startswith(".nii"):
        np.testing.assert_allclose(
            nibabel.load(tmp_path / f"labels{target}").affine @ [*index, 1], world, atol=1e-4
        )
    again = read(tmp_path / f"labels{target}")
    np.testing.assert_allclose(again.affine, OBLIQUE, atol=1e-5)
    np.testing.assert_allclose(again.spacing, (0.7, 0.8, 2.5), atol=1e-6)
    np.testing.assert_array_equal(again.array, LABELS)


def test_metadata_of_nrrd_stays_out_of_other_formats(tmp_path):
    write(tmp_path / "scan.nrrd", SCAN, like=Volume(SCAN, (1.0,) * 3, np.eye(4), Path()))
    write(tmp_path / "labels.mha", LABELS, like=read(tmp_path / "scan.nrrd"))
    assert b"NRRD" not in (tmp_path / "labels.mha").read_bytes()


@pytest.mark.parametrize("target", [".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
def test_two_dimensions_stay_two(tmp_path, target):
    Image.fromarray(LABELS[..., 0]).save(tmp_path / "slice.png")
    scan = read(tmp_path / "slice.png")
    assert scan.spacing == (1.0, 1.0)
    np.testing.assert_array_equal(scan.affine, np.eye(4))
    write(tmp_path / f"labels{target}", scan.array, like=scan)
    again = read(tmp_path / f"labels{target}")
    np.testing.assert_array_equal(again.array, scan.array)
    assert again.spacing == (1.0, 1.0)
    np.testing.assert_array_equal(again.affine, np.eye(4))


def test_a_flat_itk_image_has_its_place_in_the_world(tmp_path):
    image = SimpleITK.GetImageFromArray(SCAN[..., 0].T)
    image.SetOrigin((3.0, 4.0))
    image.SetSpacing((0.5, 2.0))
    image.SetDirection((0, -1, 1, 0))
    SimpleITK.WriteImage(image, tmp_path / "slice.mha")
    scan = read(tmp_path / "slice.mha")
    x, y = image.TransformIndexToPhysicalPoint((2, 3))
    np.testing.assert_allclose(scan.affine @ [2, 3, 0, 1], [-x, -y, 0, 1])
    assert scan.voxel_volume == 1.0


def test_a_header_that_fits_another_array_is_not_used(tmp_path):
    scan = read(nifti(tmp_path / "scan.nii", sform=(OBLIQUE, 1)))
    cropped = dataclasses.replace(scan, array=scan.array[:2])
    write(tmp_path / "cropped.nii", cropped.array, like=cropped)
    np.testing.assert_array_equal(np.asanyarray(nibabel.load(tmp_path / "cropped.nii").dataobj), SCAN[:2])


def test_a_very_long_picture_becomes_a_nifti_2(tmp_path):
    strip = np.zeros((2**15, 1), np.uint8)
    write(tmp_path / "strip.nii", strip, like=Volume(strip, (1.0, 1.0), np.eye(4), Path("strip.png")))
    assert isinstance(nibabel.load(tmp_path / "strip.nii"), nibabel.Nifti2Image)


PIXELS = np.arange(20, dtype=np.uint8).reshape(4, 5)


@pytest.mark.parametrize(
    ("name", "image", "expected"),
    [
        ("gray.png", Image.fromarray(PIXELS), PIXELS),
        ("deep.png", Image.fromarray(PIXELS.astype(np.uint16) * 3000), PIXELS.astype(np.uint16) * 3000),
        ("bits.png", Image.fromarray(PIXELS > 7), (PIXELS > 7).astype(np.uint8)),
        ("gray.tif", Image.fromarray(PIXELS), PIXELS),
        ("deep.tiff", Image.fromarray(PIXELS.astype(np.uint16) * 3000), PIXELS.astype(np.uint16) * 3000),
        ("float.tif", Image.fromarray(PIXELS.astype(np.float32) / 20), PIXELS.astype(np.float32) / 20),
    ],
)
def test_pictures_keep_their_type(tmp_path, name, image, expected):
    image.save(tmp_path / name)
    scan = read(tmp_path / name)
    assert scan.array.dtype == expected.dtype
    np.testing.assert_array_equal(scan.array, expected)
    write(tmp_path / f"copy-{name}", scan.array, like=scan)
    again = read(tmp_path / f"copy-{name}")
    assert again.array.dtype == expected.dtype
    np.testing.assert_array_equal(again.array, expected)


def test_a_big_endian_tiff_is_read_in_native_order(tmp_path):
    Image.frombytes("I;16B", (5, 4), PIXELS.astype(">u2").tobytes()).save(tmp_path / "deep.tif")
    array = read(tmp_path / "deep.tif").array
    assert array.dtype.isnative
    np.testing.assert_array_equal(array, PIXELS)


def test_a_palette_keeps_its_indices(tmp_path):
    image = Image.fromarray(PIXELS % 3).convert("P")
    image.putdata((PIXELS % 3).ravel().tolist())
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    image.save(tmp_path / "labels.png")
    np.testing.assert_array_equal(read(tmp_path / "labels.png").array, PIXELS % 3)


@pytest.mark.parametrize("name", ["colour.png", "colour.tif", "colour.jpg"])
def test_colour_becomes_luminance(tmp_path, name):
    Image.new("RGB", (5, 4), (200, 100, 50)).save(tmp_path / name)
    array = read(tmp_path / name).array
    assert array.shape == (4, 5)
    np.testing.assert_allclose(array, 0.299 * 200 + 0.587 * 100 + 0.114 * 50, atol=1)


@pytest.mark.parametrize(
    ("values", "stored"),
    [([0, 255], np.uint8), ([0, 256], np.uint16), ([0, 65535], np.uint16), ([False, True], np.uint8)],
)
def test_whole_numbers_are_stored_in_the_smallest_type_of_a_picture(tmp_path, values, stored):
    labels = np.array([values])
    write(tmp_path / "labels.png", labels, like=Volume(labels, (1.0, 1.0), np.eye(4), Path()))
    array = read(tmp_path / "labels.png").array
    assert array.dtype == stored
    np.testing.assert_array_equal(array, labels)


@pytest.mark.parametrize("target", [".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize(
    ("given", "stored"),
    [(bool, np.uint8), (np.float16, np.float32), (">i4", np.int32), (np.float64, np.float64)],
)
def test_types_survive_or_widen(tmp_path, target, given, stored):
    array = (LABELS % 2).astype(given)
    write(tmp_path / f"x{target}", array, like=Volume(array, (1.0,) * 3, np.eye(4), Path()))
    again = read(tmp_path / f"x{target}").array
    assert again.dtype == stored
    np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("name", WRITABLE)
def test_equal_arrays_give_equal_bytes_and_nothing_else_is_left(tmp_path, name, monkeypatch):
    array = LABELS[..., 0]
    like = Volume(array, (1.0, 1.0), np.eye(4), Path())
    contents = []
    for moment in (1e9, 2e9):
        monkeypatch.setattr("time.time", lambda moment=moment: moment)
        write(tmp_path / "new" / "folder" / f"x{name}", array, like=like)
        contents.append({file.name: file.read_bytes() for file in (tmp_path / "new" / "folder").iterdir()})
    assert contents[0] == contents[1]
    data = {".nhdr": {"x.raw.gz"}, ".mhd": {"x.zraw"}}.get(name, set())
    assert set(contents[0]) == {f"x{name}"} | data


@pytest.mark.parametrize("name", WRITABLE)
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, name, monkeypatch):
    array = LABELS[..., 0]
    like = Volume(array, (1.0, 1.0), np.eye(4), Path())
    write(tmp_path / f"x{name}", array, like=like)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UnwritableFile, match=rf"x\{name}: cannot be written \(No space left on device\)"):
        write(tmp_path / f"x{name}", 1 - array.astype(np.uint16) % 2, like=like)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_failing_itk_writer_gives_one_sentence(tmp_path, monkeypatch):
    def failing(writer, image):
        raise RuntimeError("Exception thrown in SimpleITK\nand pages of text")

    monkeypatch.setattr(SimpleITK.ImageFileWriter, "Execute", failing)
    with pytest.raises(UnwritableFile, match=r"x\.mha: cannot be written \(writing \.mha failed\)$"):
        write(tmp_path / "x.mha", LABELS, like=Volume(LABELS, (1.0,) * 3, np.eye(4), Path()))
    assert list(tmp_path.iterdir()) == []


def test_a_failing_writer_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path, array, like):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("topofix.imaging.nifti.write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "x.nii", LABELS, like=Volume(LABELS, (1.0,) * 3, np.eye(4), Path()))
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_cannot_be_written_are_refused(tmp_path):
    like = Volume(LABELS, (1.0,) * 3, np.eye(4), Path())
    (tmp_path / "file").touch()
    (tmp_path / "folder.nii").mkdir()
    with pytest.raises(
        UnwritableFile, match=r"file/x\.nii: cannot be written \((File exists|Not a directory)\)"
    ):
        write(tmp_path / "file" / "x.nii", LABELS, like)
    with pytest.raises(UnwritableFile, match=r"deep/x\.nii: cannot be written \(Not a directory\)"):
        write(tmp_path / "file" / "deep" / "x.nii", LABELS, like)
    with pytest.raises(UnwritableFile, match=r"folder\.nii: cannot be written \(Is a directory\)"):
        write(tmp_path / "folder.nii", LABELS, like)
    for name in ("x.xyz", "x.jpg", "x"):
        with pytest.raises(
            UnwritableFile, match=rf"{name}: expected a file ending in \.nii\.gz, .*\.tiff, found"
        ):
            write(tmp_path / name, LABELS, like)
    assert {file.name for file in tmp_path.iterdir()} == {"file", "folder.nii"}


def test_a_geometry_that_itk_cannot_hold_is_refused(tmp_path):
    coronal = affine_of(np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]]))
    like = Volume(LABELS[..., 0], (0.7, 0.8), coronal, Path())
    with pytest.raises(
        UnwritableFile, match=r"^x\.mha: cannot be written with spacing \(\d[^a-z]*\) and direction \("
    ):
        write(tmp_path / "x.mha", LABELS[..., 0], like)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("x.png", LABELS, r"expected an array of 2 dimensions, found shape \(4, 5, 6\)"),
        ("x.png", np.zeros((2, 2)), r"expected whole numbers, found float64; use \.tif"),
        ("x.png", np.array([[-1, 3]]), r"expected values in 0 \.\.\. 65535, found -1 \.\.\. 3"),
        ("x.tif", np.array([[0, 65536]]), r"expected values in 0 \.\.\. 65535, found 0 \.\.\. 65536"),
        ("x.nii", np.zeros((2, 2), complex), "expected whole or real numbers, found complex128"),
        ("x.nii", np.zeros((2, 2), "S2"), r"expected whole or real numbers, found \|S2"),
    ],
)
def test_arrays_that_a_format_cannot_hold_are_refused(tmp_path, name, array, message):
    with pytest.raises(InvalidArray, match=rf"{re.escape(name)}: {message}"):
        write(tmp_path / name, array, like=Volume(array, (1.0, 1.0), np.eye(4), Path()))
    assert list(tmp_path.iterdir()) == []


def test_an_array_of_another_shape_is_refused(tmp_path):
    like = Volume(LABELS, (1.0,) * 3, np.eye(4), Path())
    with pytest.raises(
        InvalidArray, match=r"x\.nii: expected an array of shape \(4, 5, 6\), found \(6, 5, 4\)"
    ):
        write(tmp_path / "x.nii", LABELS.T, like)


def test_paths_that_are_no_image_are_refused(tmp_path):
    with pytest.raises(UnreadableFile, match=r"none\.nii: expected an image file, found nothing there"):
        read(tmp_path / "none.nii")
    with pytest.raises(UnreadableFile, match="expected an image file, found a folder"):
        read(tmp_path)
    (tmp_path / "x.xyz").touch()
    with pytest.raises(
        UnreadableFile, match=r"x\.xyz: expected a file ending in \.nii\.gz, .*, found '\.xyz'"
    ):
        read(tmp_path / "x.xyz")


@pytest.mark.parametrize("name", [*WRITABLE, ".jpg"])
@pytest.mark.parametrize(
    "content", [b"", b"short", b"no image at all " * 64, gzip.compress(b"no image" * 99)]
)
def test_files_of_something_else_are_refused(tmp_path, name, content):
    (tmp_path / f"x{name}").write_bytes(content)
    with pytest.raises(
        UnreadableFile, match=rf"x\{name}: expected a complete \.\S+ file, found: one that is damaged"
    ):
        read(tmp_path / f"x{name}")


@pytest.mark.parametrize("name", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, -5])
def test_truncated_files_are_refused(tmp_path, name, kept):
    array = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    write(tmp_path / f"x{name}", array, like=Volume(array, (1.0, 1.0), np.eye(4), Path()))
    content = (tmp_path / f"x{name}").read_bytes()
    (tmp_path / f"x{name}").write_bytes(content[: int(kept * len(content)) if kept > 0 else kept])
    with pytest.raises(UnreadableFile, match=rf"x\{name}: expected .*(truncated|damaged)"):
        read(tmp_path / f"x{name}")


@pytest.mark.parametrize("name", [".nii.gz", ".png"])
def test_a_flipped_bit_is_found_by_the_checksum(tmp_path, name):
    array = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    write(tmp_path / f"x{name}", array, like=Volume(array, (1.0, 1.0), np.eye(4), Path()))
    content = bytearray((tmp_path / f"x{name}").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / f"x{name}").write_bytes(content)
    with pytest.raises(UnreadableFile, match="damaged"):
        read(tmp_path / f"x{name}")


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize(
    "name", ["%s%n%d", "50%", "~x", "a:b", "=x", "C:\\x", " x", "x\ny", "LIST", "é (2), *"]
)
def test_itk_takes_no_name_for_a_format_or_another_place(tmp_path, monkeypatch, name, suffix):
    """MetaIO puts names with % through printf, which ends the process; others go to the current folder."""
    scan = Volume(SCAN, (1.0, 1.0, 2.0), np.eye(4), Path())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in (tmp_path / name / f"scan{suffix}", Path(f"{name}/scan{suffix}")):
        write(path, SCAN, like=scan)
        np.testing.assert_array_equal(read(path).array, SCAN)
    path = tmp_path / "out" / f"{name}{suffix}"
    if suffix in (".nrrd", ".mha") or name == "é (2), *":
        write(path, SCAN, like=scan)
        np.testing.assert_array_equal(read(path).array, SCAN)
    else:  # the header would have to say where the voxels are
        with pytest.raises(UnwritableFile, match="expected a name that a header can give to a data file"):
            write(path, SCAN, like=scan)
        assert not list(path.parent.iterdir())
    assert [found.name for found in Path.cwd().iterdir()] == [name]


@pytest.mark.parametrize(("name", "data"), [(".mha", "x.mha"), (".mhd", "x.zraw")])
@pytest.mark.parametrize("cut", [False, True])
def test_damaged_voxels_of_a_compressed_metaimage_are_refused(tmp_path, name, data, cut):
    array = np.random.default_rng(0).integers(0, 255, (40, 50), np.uint8)
    write(tmp_path / f"x{name}", array, like=Volume(array, (1.0, 1.0), np.eye(4), Path()))
    content = bytearray((tmp_path / data).read_bytes())
    content[-900] ^= 255
    (tmp_path / data).write_bytes(content[:-500] if cut else content)
    with pytest.raises(UnreadableFile, match="damaged"):
        read(tmp_path / f"x{name}")


@pytest.mark.parametrize(("name", "data"), [(".nhdr", "x.raw.gz"), (".mhd", "x.zraw")])
def test_a_header_without_its_data_file_is_refused(tmp_path, name, data):
    write(tmp_path / f"x{name}", LABELS, like=Volume(LABELS, (1.0,) * 3, np.eye(4), Path()))
    (tmp_path / data).unlink()
    with pytest.raises(
        UnreadableFile, match=rf"x\{name}: expected its data file '{data}' beside it, found none$"
    ):
        read(tmp_path / f"x{name}")


def test_a_gzipped_nifti_under_a_plain_name_and_the_reverse_are_read(tmp_path):
    source = nifti(tmp_path / "plain.nii.gz")
    np.testing.assert_array_equal(read(source).array, SCAN)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(source.read_bytes()))
    np.testing.assert_array_equal(read(tmp_path / "packed.nii").array, SCAN)


@given(place=st.integers(0, 351), value=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_damaged_nifti_header_is_read_or_refused_but_never_crashes(tmp_path_factory, place, value):
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(nifti(folder / "sound.nii", qform=(OBLIQUE, 1), sform=(OBLIQUE, 1)).read_bytes())
    content[place] = value
    (folder / "damaged.nii").write_bytes(content)
    with contextlib.suppress(UnreadableFile):
        volume = read(folder / "damaged.nii")
        write(folder / "copy.nii", volume.array, like=volume)


def edit(**fields):
    def change(header):
        for key, value in fields.items():
            header[key] = value

    return change


def of_type(dtype) -> np.ndarray:
    return np.zeros(SHAPE, dtype)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"array": np.zeros((3, 3, 3, 2))}, r"2 or 3 dimensions, found shape \(3, 3, 3, 2\)"),
        ({"array": np.zeros(9)}, r"2 or 3 dimensions, found shape \(9,\)"),
        ({"array": np.zeros((3, 0, 3))}, r"expected voxels along every axis, found shape \(3, 0, 3\)"),
        ({"array": of_type(np.complex64)}, r"expected one real number per voxel, found type complex64"),
        (
            {"array": of_type([("R", "u1"), ("G", "u1"), ("B", "u1")])},
            r"one real number per voxel, found type",
        ),
        (
            {"edit": edit(pixdim=[1, 0.7, 0, 2.5, 1, 1, 1, 1])},
            r"expected a spacing from 1e-12 to 1e\+12 mm, found \(0\.\d+, 0",
        ),
        (
            {"edit": edit(pixdim=[1, np.nan, 1, 2.5, 1, 1, 1, 1])},
            r"expected a finite affine|a spacing from 1e-12",
        ),
        ({"sform": (OBLIQUE, 1), "edit": edit(srow_y=np.nan)}, r"expected a finite affine, found \[\[0\.\d+"),
    ],
)
def test_niftis_that_hold_no_image_of_ours_are_refused(tmp_path, options, message):
    with pytest.raises(UnreadableFile, match=rf"scan\.nii: .*{message}"):
        read(nifti(tmp_path / "scan.nii", **options))


def test_half_a_nifti_pair_is_refused(tmp_path):
    content = nifti(tmp_path / "scan.nii").read_bytes()
    (tmp_path / "scan.nii").write_bytes(content.replace(b"n+1", b"ni1", 1))
    with pytest.raises(UnreadableFile, match="expected header and voxels in one file, found only a header"):
        read(tmp_path / "scan.nii")


@pytest.mark.parametrize("name", [".nii.gz", ".nrrd", ".tif"])
def test_voxels_that_are_not_finite_are_counted_and_located(tmp_path, name):
    array = np.zeros((4, 5), np.float32)
    array[2, 3], array[3, 0] = np.nan, np.inf
    write(tmp_path / f"x{name}", array, like=Volume(array, (1.0, 1.0), np.eye(4), Path()))
    message = r"expected finite voxels, found 2 that are NaN or infinite, first at \(2, 3\)"
    with pytest.raises(UnreadableFile, match=rf"x\{name}: {message}"):
        read(tmp_path / f"x{name}")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (SimpleITK.Image(4, 4, 4, SimpleITK.sitkVectorUInt8), "found .* numbers per voxel"),
        (SimpleITK.Image(4, 4, SimpleITK.sitkComplexFloat32), "found complex of 32-bit float"),
        (
            SimpleITK.Image([4, 4, 4, 1], SimpleITK.sitkUInt8),
            r"2 or 3 dimensions, found shape \(4, 4, 4, 1\)",
        ),
    ],
)
def test_itk_images_of_several_channels_are_refused(tmp_path, image, message):
    SimpleITK.WriteImage(image, tmp_path / "x.nrrd")
    with pytest.raises(UnreadableFile, match=rf"x\.nrrd: expected .*{message}"):
        read(tmp_path / "x.nrrd")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("scan.nii.gz", ("scan", ".nii.gz")),
        ("a/b.c/Scan.NII.GZ", ("Scan", ".nii.gz")),
        ("p.1.nrrd", ("p.1", ".nrrd")),
        ("labels.seg.nrrd", ("labels.seg", ".nrrd")),
        ("archive.tar.gz", ("archive.tar", ".gz")),
        ("nothing", ("nothing", "")),
    ],
)
def test_suffix_and_stem(name, expected):
    assert (stem(name), suffix(name)) == (stem(Path(name)), suffix(Path(name))) == expected


def test_capital_suffixes_are_understood(tmp_path):
    for name in WRITABLE:
        path = tmp_path / f"X{name.upper()}"
        write(path, PIXELS, like=Volume(PIXELS, (1.0, 1.0), np.eye(4), Path()))
        np.testing.assert_array_equal(read(path).array, PIXELS)


def test_find_images(tmp_path):
    for name in ("b.nii.gz", "a/c.png", "a/notes.txt", "a/._c.png", ".hidden/d.nii", "x.mhd", "x.raw"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "series.nii").mkdir()
    assert find_images(tmp_path) == [tmp_path / name for name in ("a/c.png", "b.nii.gz", "x.mhd")]
    assert find_images(tmp_path / "a" / "notes.txt") == [tmp_path / "a" / "notes.txt"]
    assert is_image("x.MHD")
    assert not is_image("x.raw")
    with pytest.raises(UnreadableFile, match="none: expected a file or a folder, found nothing there"):
        find_images(tmp_path / "none")


def test_importing_loads_no_image_library():
    code = "import sys, topofix.imaging.volumes, topofix.imaging.tables; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    assert not {"nibabel", "SimpleITK", "PIL", "torch", "scipy"} & set(loaded.split())


def test_reading_a_blemished_header_prints_nothing(tmp_path, capfd):
    read(nifti(tmp_path / "scan.nii", **HEADERS["qfac 0"]))
    assert capfd.readouterr() == ("", "")
