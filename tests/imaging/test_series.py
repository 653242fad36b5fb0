"""A DICOM series in a folder is one image, in its place, or refused with a reason."""

import locale
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from topofix.errors import UnreadableFile, UnwritableFile
from topofix.imaging.maps import read_maps
from topofix.imaging.volumes import find_images, read, write
from topofix.jobs import plan_jobs

SHAPE = (6, 5, 4)
SCAN = np.random.default_rng(0).integers(-100, 1000, SHAPE).astype(np.int16)
SPACING = (0.7, 0.8, 2.5)
ORIGIN = (11.0, -22.5, 33.1)
LPS = np.diag([-1.0, -1, 1, 1])


def rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]


AXIAL = np.eye(3)
CORONAL = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
OBLIQUE = rotation(0.3)


def text(numbers) -> str:
    return "\\".join(repr(float(number)) for number in numbers)


def series(folder: Path, direction=AXIAL, *, step=None, uid="1.2.3.4", scan=SCAN, suffix=".dcm", tags=None):
    """Writes a slice per file, under names in no order; `step` is the way from slice to slice."""
    folder.mkdir(parents=True, exist_ok=True)
    step = direction[:, 2] * SPACING[2] if step is None else np.asarray(step)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetImageIO("GDCMImageIO")
    for index in range(scan.shape[2]):
        image = SimpleITK.GetImageFromArray(np.ascontiguousarray(scan[:, :, index].T))
        image.SetSpacing(SPACING[:2])
        stored = {
            "0008|0060": "MR",
            "0008|0018": f"{uid}.{index}",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0020|0013": str(index + 1),
            "0020|0032": text(ORIGIN + step * index),
            "0020|0037": text((*direction[:, 0], *direction[:, 1])),
        }
        for key, value in {**stored, **(tags(index) if tags else {})}.items():
            image.SetMetaData(key, value)
        file = folder / f"{index * 7 % scan.shape[2]:03d}.dcm"
        writer.SetFileName(str(file))
        writer.Execute(image)
        file.rename(file.with_suffix(suffix))
    return folder


def by_itk(folder: Path) -> SimpleITK.Image:
    """The image that ITK's own search and reader make of a folder."""
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def itk_affine(image: SimpleITK.Image) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return LPS @ affine


@pytest.mark.parametrize("suffix", [".dcm", "", ".IMA", ".1"])
@pytest.mark.parametrize("direction", [AXIAL, CORONAL, -AXIAL @ CORONAL, OBLIQUE], ids=range(4))
def test_a_series_lies_where_itk_sees_it(tmp_path, direction, suffix, capfd):
    series(tmp_path / "scan", direction, suffix=suffix)
    scan, reference = read(tmp_path / "scan"), by_itk(tmp_path / "scan")
    np.testing.assert_array_equal(scan.array, SimpleITK.GetArrayViewFromImage(reference).T)
    np.testing.assert_allclose(scan.affine, itk_affine(reference), atol=1e-9)
    assert scan.spacing == pytest.approx(reference.GetSpacing())
    assert scan.array.dtype == np.int16
    assert scan.path == tmp_path / "scan"
    if np.linalg.det(direction) > 0:
        np.testing.assert_array_equal(scan.array, SCAN)

    labels = (scan.array > 400).astype(np.uint8)
    write(tmp_path / "labels.nii.gz", labels, like=scan)
    stored = nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(stored.affine, scan.affine, atol=1e-5)
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), labels)
    image = SimpleITK.ReadImage(tmp_path / "labels.nii.gz")
    np.testing.assert_allclose(itk_affine(image), itk_affine(reference), atol=1e-5)
    assert capfd.readouterr() == ("", "")


def test_reading_a_series_leaves_the_locale_alone(tmp_path):
    before = locale.setlocale(locale.LC_ALL)
    series(tmp_path / "scan")
    locale.setlocale(locale.LC_ALL, before)
    read(tmp_path / "scan")
    assert locale.setlocale(locale.LC_ALL) == before


def test_a_tilted_gantry_shears_the_affine(tmp_path, capfd):
    step = np.array([0.0, 0.6, 2.4])
    scan = read(series(tmp_path / "scan", step=step))
    np.testing.assert_allclose(scan.affine @ [0, 0, 3, 1], LPS @ [*(ORIGIN + 3 * step), 1])
    write(tmp_path / "labels.nii", SCAN, like=scan)
    np.testing.assert_allclose(nibabel.load(tmp_path / "labels.nii").affine, scan.affine, atol=1e-5)
    assert capfd.readouterr().err == ""


def test_rescaling_is_applied_slice_by_slice(tmp_path):
    scan = series(
        tmp_path / "scan", tags=lambda index: {"0008|0060": "CT", "0028|1052": "0", "0028|1053": "1"}
    )
    tag = b"\x28\x00\x53\x10\x02\x00\x00\x00"  # the slope, two characters long
    slopes = (b"1 ", b"2 ", b".5", b"3 ")  # the first is whole, so that ITK alone would make all whole
    for index, slope in enumerate(slopes):
        file = scan / f"{index * 7 % 4:03d}.dcm"
        content = file.read_bytes()
        assert tag in content
        file.write_bytes(content.replace(tag + b"1 ", tag + slope))
    volume = read(scan)
    np.testing.assert_array_equal(volume.array, SCAN * [float(slope) for slope in slopes])
    assert volume.array.dtype == np.float64


def test_one_slice_is_a_volume_of_one(tmp_path):
    scan = read(series(tmp_path / "scan", OBLIQUE, scan=SCAN[:, :, :1]))
    np.testing.assert_array_equal(scan.array, SCAN[:, :, :1])
    np.testing.assert_allclose(scan.affine[:3, 3], (LPS[:3, :3] @ ORIGIN))


def test_a_series_is_a_map_and_the_place_of_one(tmp_path):
    series(tmp_path / "scan", OBLIQUE)
    maps = read_maps(tmp_path / "scan")
    assert (maps.layout, maps.array.shape) == ("single map", (1, *SHAPE))
    np.save(tmp_path / "maps.npy", np.zeros((2, *SHAPE)))
    placed = read_maps(tmp_path / "maps.npy", like=tmp_path / "scan")
    np.testing.assert_array_equal(placed.grid.affine, maps.grid.affine)


def test_other_files_beside_the_slices_do_no_harm(tmp_path):
    series(tmp_path / "scan")
    (tmp_path / "scan" / "notes.txt").write_text("nothing")
    (tmp_path / "scan" / "._000.dcm").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "scan" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "scan" / "deeper").mkdir()
    np.testing.assert_array_equal(read(tmp_path / "scan").array, SCAN)


def test_a_folder_of_slices_is_one_case(tmp_path):
    first, second = series(tmp_path / "all" / "a"), series(tmp_path / "all" / "deep" / "b.2024", suffix="")
    (tmp_path / "all" / "c.nii.gz").touch()
    (tmp_path / "all" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    series(tmp_path / "all" / ".hidden")
    assert find_images(tmp_path / "all") == [first, tmp_path / "all" / "c.nii.gz", second]
    assert find_images(first) == [first]


def test_the_result_of_a_series_is_a_nifti_beside_its_folder(tmp_path, monkeypatch):
    first, second = series(tmp_path / "all" / "a_seg"), series(tmp_path / "all" / "deep" / "b.2024")

    def planned(*inputs, output=None):
        return [job.output for job in plan_jobs(inputs, output, "_refined")]

    beside = [first.with_name("a_seg_refined.nii.gz"), second.with_name("b.2024_refined.nii.gz")]
    assert planned(tmp_path / "all") == beside
    assert planned(first) == beside[:1]
    assert planned(first, output=tmp_path / "mask.nrrd") == [tmp_path / "mask.nrrd"]
    assert planned(first, output=tmp_path / "out") == [tmp_path / "out" / "a_seg_refined.nii.gz"]
    assert planned(tmp_path / "all", output=tmp_path / "out") == [
        tmp_path / "out" / "a_seg_refined.nii.gz",
        tmp_path / "out" / "deep" / "b.2024_refined.nii.gz",
    ]
    monkeypatch.chdir(first)
    assert planned(Path()) == beside[:1]
    with pytest.raises(UnwritableFile, match="expected one case per output"):
        planned(first, series(tmp_path / "other" / "a_seg"), output=tmp_path / "out")


def two_series(folder):
    series(folder)
    series(folder / "b", uid="1.2.3.5", suffix=".ima")
    for file in (folder / "b").iterdir():
        file.rename(folder / file.name)
    (folder / "b").rmdir()


def missing(folder):
    series(folder)
    (folder / "003.dcm").unlink()


def doubled(folder):
    series(folder)
    shutil.copy(folder / "001.dcm", folder / "again.dcm")


def in_one_place(folder):
    series(folder, step=(0, 0, 0))


def turned(folder):
    series(
        folder, tags=lambda index: {"0020|0037": text((*OBLIQUE[:, 0], *OBLIQUE[:, 1]))} if index == 2 else {}
    )


def resized(folder):
    series(folder)
    series(folder / "b", scan=SCAN[:4, :, :1])
    shutil.move(folder / "b" / "000.dcm", folder / "b.dcm")


def cut(folder):
    series(folder)
    (folder / "001.dcm").write_bytes((folder / "001.dcm").read_bytes()[:-40])


def only_magic(folder):
    series(folder)
    (folder / "zzz").write_bytes(bytes(128) + b"DICM")


def coloured(folder):
    folder.mkdir()
    SimpleITK.WriteImage(SimpleITK.Image(4, 4, SimpleITK.sitkVectorUInt8), folder / "a.png")
    image = SimpleITK.Image([4, 4, 1], SimpleITK.sitkVectorUInt8, 3)
    (folder / "a.png").unlink()
    SimpleITK.WriteImage(image, folder / "a.dcm")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (two_series, r"scan: expected one DICOM series in a folder, found 2; give each a folder of its own$"),
        (missing, r"scan: expected slices at even distances, found 3 with gaps"),
        (doubled, r"scan: expected slices at even distances, found 5 with gaps .* or several in one place$"),
        (in_one_place, r"scan: expected slices at even distances, found 4 "),
        (
            turned,
            r"scan: expected slices of one size, pixel size and orientation, found \d+\.dcm and \d+\.dcm",
        ),
        (resized, r"scan: expected slices of one size, pixel size and orientation, found"),
        (
            cut,
            r"001\.dcm: expected a slice of a DICOM series, found a file that is damaged or holds no image$",
        ),
        (only_magic, r"zzz: expected a slice of a DICOM series, found a file that is damaged"),
        (coloured, r"a\.dcm: expected one real number per voxel, found 3 numbers per voxel"),
    ],
)
def test_what_is_no_single_scan_is_refused(tmp_path, make, message, capfd):
    make(tmp_path / "scan")
    with pytest.raises(UnreadableFile, match=message):
        read(tmp_path / "scan")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("sound", "damaged"),
    [
        (b"\x02\x00\x13\x00SH", b"\x02\x00\x13\x00CE"),
        (b"\x02\x00\x13\x00SH\x0a\x00", b"\x02\x00\x13\x00SH\xff\xff"),
    ],
    ids=["a strange type", "a length beyond the file"],
)
def test_gdcm_sees_no_file_that_begins_with_a_damaged_group(tmp_path, monkeypatch, sound, damaged):
    """Of one it takes more than a gigabyte of memory."""
    series(tmp_path)
    file = tmp_path / "000.dcm"
    content = file.read_bytes()
    assert sound in content
    file.write_bytes(content.replace(sound, damaged))
    monkeypatch.setattr(SimpleITK.ImageFileReader, "ReadImageInformation", lambda reader: pytest.fail("seen"))
    with pytest.raises(UnreadableFile, match=r"000\.dcm: expected a slice of a DICOM series, found"):
        read(tmp_path)


def test_a_single_slice_by_name_is_told_where_to_go(tmp_path):
    series(tmp_path / "scan")
    with pytest.raises(
        UnreadableFile, match=r"000\.dcm: expected the folder of a DICOM series, found one of its files"
    ):
        read(tmp_path / "scan" / "000.dcm")


@given(
    kept=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_a_damaged_series_is_read_or_refused_with_a_sentence(tmp_path_factory, kept, flips):
    folder = tmp_path_factory.getbasetemp() / "damaged_series"
    if not folder.is_dir():
        series(folder, OBLIQUE)
        shutil.copy(folder / "002.dcm", folder.with_name("sound.dcm"))
    content = bytearray(folder.with_name("sound.dcm").read_bytes())
    for place, change in flips:
        content[int(place * len(content))] ^= change
    (folder / "002.dcm").write_bytes(content if flips else content[: int(kept * len(content))])
    message = ""
    try:
        assert read(folder).array.ndim == 3
    except UnreadableFile as error:
        message = str(error)
    assert message.startswith(str(folder)) or not message
    assert "\n" not in message
