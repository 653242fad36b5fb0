"""What is written lies where the scan lies, in the eyes of readers that are not ours; damage is refused."""

import contextlib
import itertools
import shutil
import struct
import tracemalloc
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from topofix.errors import InvalidArray, UnreadableFile
from topofix.imaging.volumes import Volume, find_images, is_image, read, write

SHAPE = (4, 5, 6)
SCAN = np.arange(120, dtype=np.int16).reshape(SHAPE)
SPACING = (0.7, 0.8, 2.5)
CORNERS = np.array([(*corner, 1) for corner in itertools.product(*((0, size - 1) for size in SHAPE))]).T
"""Homogeneous indices of the eight corner voxels, a column each."""


def rotation(angle: float) -> np.ndarray:
    """About two axes, so that all three are oblique."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]) @ [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]


def affine_of(direction: np.ndarray) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = direction * SPACING
    affine[:3, 3] = (-11.0, 22.5, 33.1)
    return affine


ROTATION = rotation(0.3)
OBLIQUE = affine_of(ROTATION)
OTHER = affine_of(rotation(-1.0))
SHEARED = affine_of(rotation(0.3) @ [[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])
RIGHT_HANDED = [
    matrix
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
    if np.linalg.det(matrix := np.eye(3)[list(order)] * signs) > 0
]


def by_nibabel(path: Path) -> np.ndarray:
    """The affine that nibabel reports, RAS."""
    return np.asarray(nibabel.load(path).affine)


def by_itk(path: Path) -> np.ndarray:
    """The affine that SimpleITK reports, turned from LPS to RAS."""
    image = SimpleITK.ReadImage(path)
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1, 1, 1]) @ affine


def itk_opens(path: Path) -> bool:
    """Whether ITK does: of NIfTI it knows no version 2, and refuses a file whose only geometry is sheared."""
    with contextlib.suppress(RuntimeError):
        return bool(SimpleITK.ReadImage(path).GetDimension())
    return False


def nifti(path, qform=None, sform=None, kind=nibabel.Nifti1Image, endianness="<", slope=None, array=SCAN):
    header = kind.header_class(endianness=endianness)
    header.set_data_dtype(array.dtype)
    header.set_data_shape(array.shape)
    header.set_zooms(SPACING)
    header.set_xyzt_units("mm")
    header.set_qform(*(qform or (None, 0)))
    header.set_sform(*(sform or (None, 0)))
    if slope:
        header.set_slope_inter(*slope)
    header["vox_offset"] = 0
    with nibabel.openers.Opener(path, "wb") as file:
        header.write_to(file)
        file.write(array.astype(array.dtype.newbyteorder(endianness)).tobytes(order="F"))


def itk(path, direction=ROTATION, **options):
    image = SimpleITK.GetImageFromArray(SCAN.T)
    image.SetSpacing(SPACING)
    image.SetOrigin((11.0, -22.5, 33.1))
    image.SetDirection((np.diag([-1.0, -1, 1]) @ direction).ravel())
    SimpleITK.WriteImage(image, path, **options)


SOURCES = {
    "NIfTI-1": ("scan.nii", nifti, {"qform": (OBLIQUE, 1), "sform": (OBLIQUE, 1)}),
    "gzipped": ("scan.nii.gz", nifti, {"qform": (OBLIQUE, 1), "sform": (OBLIQUE, 1)}),
    "NIfTI-2": ("scan.nii", nifti, {"sform": (OBLIQUE, 2), "kind": nibabel.Nifti2Image}),
    "qform only": ("scan.nii.gz", nifti, {"qform": (OBLIQUE, 1)}),
    "sform only": ("scan.nii.gz", nifti, {"sform": (OBLIQUE, 4)}),
    "neither": ("scan.nii", nifti, {}),
    "scaled": ("scan.nii", nifti, {"sform": (OBLIQUE, 1), "slope": (0.5, -1024)}),
    "big-endian": ("scan.nii", nifti, {"sform": (OBLIQUE, 1), "endianness": ">"}),
    "big-endian, scaled, NIfTI-2": (
        *("scan.nii.gz", nifti),
        {"qform": (OBLIQUE, 1), "endianness": ">", "slope": (2, 1), "kind": nibabel.Nifti2Image},
    ),
    "sform against qform": ("scan.nii", nifti, {"qform": (OBLIQUE, 1), "sform": (OTHER, 1)}),
    "sheared sform, sound qform": ("scan.nii", nifti, {"qform": (OBLIQUE, 1), "sform": (SHEARED, 3)}),
    "sheared": ("scan.nii", nifti, {"sform": (SHEARED, 1)}),
    "left-handed": ("scan.nii", nifti, {"sform": (affine_of(rotation(0.3) * [1, 1, -1]), 1)}),
    "NRRD": ("scan.nrrd", itk, {}),
    "NRRD, gzipped": ("scan.nrrd", itk, {"useCompression": True}),
    "NRRD, left-handed": ("scan.nrrd", itk, {"direction": rotation(0.3) * [1, -1, 1]}),
    "NRRD, detached": ("scan.nhdr", itk, {}),
    "MetaImage": ("scan.mha", itk, {}),
    "MetaImage, deflated": ("scan.mha", itk, {"useCompression": True}),
    "MetaImage, detached": ("scan.mhd", itk, {}),
}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(("name", "make", "options"), SOURCES.values(), ids=SOURCES)
def test_independent_readers_find_an_output_where_its_input_lies(tmp_path, name, make, options, dtype):
    source, output = tmp_path / name, tmp_path / "out" / name
    make(source, **options)
    scan = read(source)
    labels = (SCAN % 7 * 30).astype(dtype)
    write(output, labels, like=scan)
    write(tmp_path / "out.nii.gz", labels, like=scan)

    stored = nibabel.load(tmp_path / "out.nii.gz")
    assert stored.header.get_data_dtype() == np.dtype(dtype).newbyteorder(stored.header.endianness)
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), labels)
    np.testing.assert_allclose(by_nibabel(tmp_path / "out.nii.gz"), scan.affine, atol=1e-5)
    if make is nifti:
        np.testing.assert_array_equal(by_nibabel(output), by_nibabel(source))
        assert nibabel.load(output).header.get_zooms() == nibabel.load(source).header.get_zooms()
        assert type(nibabel.load(output)) is type(nibabel.load(source))
    # what ITK refuses of an input it refuses of the output, and nothing else
    only = options.get("sform") if "qform" not in options else None
    refused = options.get("kind") is nibabel.Nifti2Image or (only is not None and only[0] is SHEARED)
    assert itk_opens(source) == itk_opens(output) == (not refused)
    if itk_opens(source):
        np.testing.assert_allclose(by_itk(output), by_itk(source), atol=1e-12)
        image = SimpleITK.ReadImage(output)
        assert SimpleITK.GetArrayViewFromImage(image).dtype == dtype
        np.testing.assert_array_equal(SimpleITK.GetArrayViewFromImage(image).T, labels)


@pytest.mark.parametrize("direction", [*RIGHT_HANDED, rotation(0.3)])
@pytest.mark.parametrize(
    ("source", "target", "reader"),
    [
        (nifti, ".nrrd", by_itk),
        (nifti, ".mha", by_itk),
        (nifti, ".nii.gz", by_itk),
        (itk, ".nii", by_nibabel),
        (itk, ".nrrd", by_itk),
    ],
    ids=["NIfTI to NRRD", "NIfTI to MetaImage", "NIfTI to NIfTI", "NRRD to NIfTI", "NRRD to NRRD"],
)
def test_every_orientation_keeps_every_voxel_in_its_place(tmp_path, direction, source, target, reader):
    if source is nifti:
        nifti(tmp_path / "scan.nii", sform=(affine_of(direction), 1), qform=(affine_of(direction), 1))
    else:
        itk(tmp_path / "scan.nrrd", direction)
    scan = read(next(tmp_path.glob("scan.*")))
    write(tmp_path / f"labels{target}", scan.array, like=scan)
    np.testing.assert_allclose(
        reader(tmp_path / f"labels{target}") @ CORNERS, affine_of(direction) @ CORNERS, atol=2e-5
    )
    image = SimpleITK.ReadImage(tmp_path / f"labels{target}")
    np.testing.assert_array_equal(SimpleITK.GetArrayViewFromImage(image).T, SCAN)


def test_there_are_24_such_orientations():
    assert len(RIGHT_HANDED) == 24


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_stack_of_pages_keeps_order_and_type(tmp_path, dtype):
    stack = (SCAN * 2).astype(dtype)
    pages = [Image.fromarray(page) for page in stack]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    scan = read(tmp_path / "stack.tif")
    assert scan.array.dtype == dtype
    assert (scan.spacing, scan.affine.tolist()) == ((1.0, 1.0, 1.0), np.eye(4).tolist())
    np.testing.assert_array_equal(scan.array, stack)
    write(tmp_path / "copy.tiff", scan.array, like=scan)
    copy = tifffile.imread(tmp_path / "copy.tiff")
    assert copy.dtype == dtype
    np.testing.assert_array_equal(copy, stack)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "copy.tiff", key=2), stack[2])


def test_a_stack_by_imagej_or_tifffile_is_read(tmp_path):
    stack = SCAN.astype(np.uint16)
    tifffile.imwrite(tmp_path / "imagej.tif", stack, imagej=True)
    tifffile.imwrite(tmp_path / "plain.tif", stack, photometric="minisblack", byteorder=">")
    tifffile.imwrite(tmp_path / "big.tif", stack, photometric="minisblack", bigtiff=True)
    for name in ("imagej.tif", "plain.tif", "big.tif"):
        array = read(tmp_path / name).array
        assert array.dtype == np.uint16
        assert array.dtype.isnative
        np.testing.assert_array_equal(array, stack)


def test_a_stack_of_whole_numbers_becomes_one_type(tmp_path):
    labels = SCAN.astype(np.int64) * 300
    write(tmp_path / "labels.tif", labels, like=Volume(labels, (1.0,) * 3, np.eye(4), Path()))
    assert read(tmp_path / "labels.tif").array.dtype == np.uint16
    np.testing.assert_array_equal(read(tmp_path / "labels.tif").array, labels)


def test_a_png_holds_no_stack(tmp_path):
    labels = SCAN.astype(np.uint8)
    with pytest.raises(
        InvalidArray, match=r"x\.png: expected an array of 2 dimensions, found shape \(4, 5, 6\)"
    ):
        write(tmp_path / "x.png", labels, like=Volume(labels, (1.0,) * 3, np.eye(4), Path()))


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 0, interlaced: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@pytest.mark.parametrize(
    ("depth", "colour", "row"), [(8, 0, 5), (16, 0, 10), (1, 0, 1), (4, 0, 3), (8, 2, 15), (16, 6, 40)]
)
def test_a_png_of_fewer_rows_than_it_promises_is_refused(tmp_path, depth, colour, row):
    rows = bytes(4 * (row + 1))
    (tmp_path / "x.png").write_bytes(png(5, 4, rows, depth, colour))
    assert read(tmp_path / "x.png").array.shape == (4, 5)
    for height, some in ((5, rows), (60_000, rows), (4, rows[:-1]), (4, b"")):
        (tmp_path / "x.png").write_bytes(png(5, height, some, depth, colour))
        message = rf"x\.png: expected {height * (row + 1)} B of pixels, found {len(some)} B"
        with pytest.raises(UnreadableFile, match=message):
            read(tmp_path / "x.png")


@pytest.mark.parametrize(("width", "height"), [(9, 10), (1, 1), (3, 17), (5, 2), (8, 8)])
def test_an_interlaced_png_is_read_if_it_is_whole(tmp_path, width, height):
    array = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(
        b"\0" + line.tobytes()
        for left, top, right, down in steps
        for line in array[top::down, left::right]
        if line.size
    )
    (tmp_path / "x.png").write_bytes(png(width, height, rows, interlaced=1))
    np.testing.assert_array_equal(read(tmp_path / "x.png").array, array)
    (tmp_path / "x.png").write_bytes(png(width, height, rows[:-1], interlaced=1))
    message = rf"x\.png: expected {len(rows)} B of pixels, found {len(rows) - 1} B"
    with pytest.raises(UnreadableFile, match=message):
        read(tmp_path / "x.png")


def test_a_png_with_two_headers_or_a_chunk_beyond_its_end_is_refused(tmp_path):
    content = png(5, 4, bytes(24))
    for damaged in (content[:33] + content[8:], content[:-12] + b"\xff\xff\xff\xf0tEXt" + content[-4:]):
        (tmp_path / "x.png").write_bytes(damaged)
        tracemalloc.start()
        with pytest.raises(UnreadableFile, match=r"x\.png: expected a (whole PNG|complete \.png)"):
            read(tmp_path / "x.png")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**24


def mixed(path):
    pages = [Image.fromarray(np.zeros(shape, np.uint8)) for shape in ((4, 5), (2, 3))]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def types(path):
    pages = [Image.fromarray(np.zeros((4, 5), dtype)) for dtype in (np.uint8, np.float32)]
    pages[0].save(path, save_all=True, append_images=pages[1:])


def hyperstack(path):
    tifffile.imwrite(path, np.zeros((3, 2, 4, 5), np.uint8), imagej=True, metadata={"axes": "ZCYX"})


def hidden(path):
    """What ImageJ does beyond 4 GiB: one page that stands for many."""
    tifffile.imwrite(path, np.zeros((3, 4, 5), np.uint8), imagej=True)
    with tifffile.TiffFile(path) as file:
        description = file.pages[0].description
    tifffile.imwrite(path, np.zeros((4, 5), np.uint8), description=description, metadata=None)


def planes(path):
    tifffile.imwrite(path, np.zeros((3, 4, 5), np.uint8), photometric="rgb", planarconfig="separate")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (mixed, r"pages of one size and type, found \(4, 5\) uint8 and \(2, 3\) uint8"),
        (types, r"pages of one size and type, found \(4, 5\) uint8 and \(4, 5\) float32"),
        (hyperstack, "the slices of one stack, found ImageJ's hyperstack of channels or times"),
        (hidden, "the 3 slices that ImageJ stored, found 1"),
        (planes, "a page per slice, found 3 planes of colour"),
    ],
)
def test_pages_that_are_no_stack_are_refused(tmp_path, make, message):
    make(tmp_path / "x.tif")
    with pytest.raises(UnreadableFile, match=rf"x\.tif: expected {message}"):
        read(tmp_path / "x.tif")


def test_a_moving_picture_is_refused(tmp_path):
    pages = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (0, 9)]
    pages[0].save(tmp_path / "x.png", save_all=True, append_images=pages[1:])
    with pytest.raises(UnreadableFile, match=r"x\.png: expected a single picture, found 2"):
        read(tmp_path / "x.png")


def test_arrays_of_numpy_are_images_without_a_place(tmp_path):
    for array in (
        SCAN,
        SCAN[0] > 7,
        np.asfortranarray(SCAN / 7),
        SCAN.astype(">f4"),
        SCAN.astype(np.float16),
    ):
        np.save(tmp_path / "x.npy", array)
        np.savez(tmp_path / "x.npz", scan=array)
        np.savez_compressed(tmp_path / "packed.npz", array)
        for name in ("x.npy", "x.npz", "packed.npz"):
            scan = read(tmp_path / name)
            np.testing.assert_array_equal(scan.array, array)
            assert scan.array.dtype.isnative
            assert scan.array.dtype.name == {"bool": "uint8", "float16": "float32"}.get(
                array.dtype.name, array.dtype.name
            )
            assert scan.array.flags.writeable
            assert scan.spacing == (1.0,) * array.ndim
            np.testing.assert_array_equal(scan.affine, np.eye(4))


@pytest.mark.skipif(np.finfo(np.longdouble).max <= np.finfo(np.float64).max, reason="there are none so large")
def test_numbers_beyond_double_precision_are_refused_without_a_warning(tmp_path, recwarn):
    largest = np.full((2, 3), np.finfo(np.longdouble).max)
    for array in (
        largest,
        np.frombuffer(bytes(range(96)), np.longdouble).reshape(2, 3),
    ):  # some are no numbers
        np.save(tmp_path / "x.npy", array)
        with pytest.raises(UnreadableFile, match=r"x\.npy: expected finite voxels, found \d that are NaN or"):
            read(tmp_path / "x.npy")
    assert not recwarn.list


def test_arrays_of_numpy_take_the_place_of_another_image(tmp_path):
    nifti(tmp_path / "scan.nii", sform=(OBLIQUE, 1), array=np.zeros(SHAPE, np.int16))
    np.save(tmp_path / "x.npy", SCAN)
    volume = read(tmp_path / "x.npy", like=tmp_path / "scan.nii")
    write(tmp_path / "out.nii.gz", volume.array, like=volume)
    np.testing.assert_array_equal(by_nibabel(tmp_path / "out.nii.gz"), by_nibabel(tmp_path / "scan.nii"))
    np.save(tmp_path / "x.npy", SCAN.T)
    with pytest.raises(
        UnreadableFile, match=r"x\.npy: expected the shape of .*scan\.nii, \(4, 5, 6\), found"
    ):
        read(tmp_path / "x.npy", like=tmp_path / "scan.nii")


def test_numpys_files_are_cases_only_when_they_are_named(tmp_path):
    for name in ("case.nii.gz", "case.npz", "deep/other.npy"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find_images(tmp_path) == [tmp_path / "case.nii.gz"]
    assert find_images(tmp_path / "case.npz") == [tmp_path / "case.npz"]
    assert is_image("case.npz")


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """One sound file per format, of voxels that pack badly, so that a flipped byte hits them."""
    folder = tmp_path_factory.mktemp("sound")
    voxels = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
    like = Volume(voxels, SPACING, OBLIQUE, Path())
    for name in (".nii", ".nii.gz", ".nrrd", ".mha", ".tif"):
        write(folder / f"x{name}", voxels, like)
    write(folder / "x.png", voxels[0], Volume(voxels[0], (1.0, 1.0), np.eye(4), Path()))
    np.save(folder / "x.npy", voxels)
    np.savez(folder / "x.npz", voxels)
    np.savez_compressed(folder / "packed.npz", probabilities=voxels.astype(np.float16))
    return folder


DAMAGE = {
    "name": st.sampled_from(
        ["x.nii", "x.nii.gz", "x.nrrd", "x.mha", "x.tif", "x.png", "x.npy", "x.npz", "packed.npz"]
    ),
    "kept": st.floats(0, 1),
    "flips": st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
}


def damaged(source: Path, folder: Path, kept: float, flips) -> Path:
    """A copy of a file that ends early or has bytes changed."""
    content = bytearray(source.read_bytes())
    for place, change in flips:
        content[int(place * len(content))] ^= change
    target = folder / source.name
    target.write_bytes(content[: int(kept * len(content))] if not flips else content)
    return target


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's
@given(**DAMAGE)
@settings(max_examples=300, deadline=None)
@example(name="x.npy", kept=1, flips=[(0.05, 255)])
def test_a_damaged_file_is_read_or_refused_with_a_sentence(tmp_path_factory, sound, name, kept, flips):
    path = damaged(sound / name, tmp_path_factory.getbasetemp(), kept, flips)
    message = ""
    try:
        assert read(path).array.ndim in (2, 3)
    except UnreadableFile as error:
        message = str(error)
    assert message.startswith(str(path)) or not message
    assert "\n" not in message


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's
@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.tif", "x.nrrd"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.3, 0.6, 0.9])
def test_a_file_that_ends_early_is_refused(tmp_path, sound, name, kept):
    with pytest.raises(UnreadableFile, match=rf"{name}: expected"):
        read(damaged(sound / name, tmp_path, kept, []))


def test_a_folder_without_a_series_is_no_image(tmp_path, sound):
    shutil.copytree(sound, tmp_path / "folder")
    with pytest.raises(
        UnreadableFile, match="folder: expected an image file, found a folder without a DICOM"
    ):
        read(tmp_path / "folder")
