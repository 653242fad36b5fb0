"""One map or many, from any network's file, on the grid it belongs to; what cannot be placed is refused."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from topofix.errors import UnreadableFile
from topofix.imaging.maps import Maps, read_maps
from topofix.imaging.volumes import Volume, write

SHAPE = (4, 5, 6)
SPACING = (0.7, 0.8, 2.5)
COS, SIN = np.cos(0.3), np.sin(0.3)
AFFINE = np.array([[COS, -SIN, 0, -11], [SIN, COS, 0, 22.5], [0, 0, 1, 33.1], [0, 0, 0, 1]])
AFFINE[:3, :3] *= SPACING


def softmax(channels: int = 3, shape=SHAPE, seed: int = 0) -> np.ndarray:
    """Random probabilities, channels first, that sum to 1."""
    scores = np.exp(np.random.default_rng(seed).normal(size=(channels, *shape)))
    return (scores / scores.sum(0)).astype(np.float32)


SOFTMAX = softmax()
SIGMOID = np.random.default_rng(1).random((3, *SHAPE), np.float32)


def nifti(path: Path, array=None, affine=AFFINE) -> Path:
    image = nibabel.Nifti1Image(np.zeros(SHAPE, np.uint8) if array is None else array, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return path


def place(maps: Maps, folder: Path) -> None:
    """What is written onto the grid lies where `AFFINE` says, for nibabel and for SimpleITK."""
    labels = maps.array.argmax(0).astype(np.uint8)
    assert maps.grid.array.shape == labels.shape
    assert maps.grid.spacing == pytest.approx(SPACING)
    np.testing.assert_allclose(maps.grid.affine, AFFINE, atol=1e-5)
    for name in ("labels.nii.gz", "labels.nrrd"):
        write(folder / name, labels, like=maps.grid)
    stored = nibabel.load(folder / "labels.nii.gz")
    assert stored.shape == labels.shape
    np.testing.assert_allclose(stored.affine, AFFINE, atol=1e-5)
    np.testing.assert_allclose(stored.header.get_zooms(), SPACING, rtol=1e-6)
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), labels)
    for name in ("labels.nii.gz", "labels.nrrd"):
        image = SimpleITK.ReadImage(folder / name)
        corner = np.array(image.TransformIndexToPhysicalPoint((3, 4, 5))) * (-1, -1, 1)
        np.testing.assert_allclose(corner, (AFFINE @ (3, 4, 5, 1))[:3], atol=1e-4)
        np.testing.assert_array_equal(SimpleITK.GetArrayViewFromImage(image).T, labels)


@pytest.mark.parametrize("name", ["map.nii", "map.nii.gz", "map.nrrd", "map.mha", "map.mhd"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_an_ordinary_file_is_one_map(tmp_path, name, dtype):
    array = (SOFTMAX[0] * 200).astype(dtype)
    write(tmp_path / name, array, Volume(array, SPACING, AFFINE, Path()))
    maps = read_maps(tmp_path / name)
    assert maps.layout == "single map"
    assert maps.array.dtype == (np.float64 if dtype == np.float64 else np.float32)
    assert maps.array.flags.c_contiguous
    np.testing.assert_array_equal(maps.array, array[None])
    place(maps, tmp_path)


def test_a_picture_and_a_stack_are_one_map(tmp_path):
    Image.fromarray(SOFTMAX[0, 0]).save(tmp_path / "map.tif")
    pages = [Image.fromarray(page) for page in SOFTMAX[0]]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_maps(tmp_path / "map.tif").array, SOFTMAX[:1, 0])
    np.testing.assert_array_equal(read_maps(tmp_path / "stack.tif").array, SOFTMAX[:1])


@pytest.mark.parametrize(
    ("array", "layout", "expected"),
    [
        (np.moveaxis(SOFTMAX, 0, -1), "channels last", SOFTMAX),
        (SOFTMAX, "channels first", SOFTMAX),
        (np.moveaxis(SIGMOID, 0, -1), "channels last, taken for granted since no axis sums to 1", SIGMOID),
        (np.moveaxis(SOFTMAX, 0, -1)[..., None, :], "channels last", SOFTMAX),
        (np.moveaxis(SOFTMAX, 0, -1)[..., None], "channels last", SOFTMAX),
        (np.moveaxis(SOFTMAX, 0, -1).astype(np.float64), "channels last", SOFTMAX),
        (SOFTMAX[0][..., None], "single map", SOFTMAX[:1]),
    ],
    ids=["last", "first", "undecided", "NIfTI's vectors", "trailing axis", "double", "one channel"],
)
def test_channels_of_a_nifti_are_found(tmp_path, array, layout, expected):
    maps = read_maps(nifti(tmp_path / "maps.nii.gz", array))
    assert maps.layout == layout
    np.testing.assert_array_equal(maps.array, expected)
    assert maps.array.dtype == array.dtype
    place(maps, tmp_path)


def test_rounded_probabilities_still_sum_to_one(tmp_path):
    counts = np.round(SOFTMAX * 10000).astype(np.int16)
    image = nibabel.Nifti1Image(counts, AFFINE)
    image.header.set_slope_inter(1e-4, 0)
    (tmp_path / "maps.nii").write_bytes(image.to_bytes())
    content = bytearray((tmp_path / "maps.nii").read_bytes())
    content[112:120] = struct.pack("<ff", 1e-4, 0)
    (tmp_path / "maps.nii").write_bytes(content)
    maps = read_maps(tmp_path / "maps.nii")
    assert maps.layout == "channels first"
    np.testing.assert_allclose(maps.array, SOFTMAX, atol=1e-4)


def test_a_qform_alone_places_the_channels(tmp_path):
    image = nibabel.Nifti1Image(SOFTMAX, None)
    image.header.set_zooms((*SPACING, 1.0))
    image.header.set_qform(AFFINE, 1)
    nibabel.save(image, tmp_path / "maps.nii")
    place(read_maps(tmp_path / "maps.nii"), tmp_path)


def test_a_channel_axis_of_its_own_spacing_does_not_count(tmp_path):
    image = nibabel.Nifti1Image(SOFTMAX, AFFINE)
    image.header.set_zooms((1.0, *SPACING))
    image.header.set_sform(AFFINE, 1)
    image.header.set_qform(None, 0)
    nibabel.save(image, tmp_path / "maps.nii")
    place(read_maps(tmp_path / "maps.nii"), tmp_path)


@pytest.mark.parametrize("name", ["maps.nrrd", "maps.mha", "maps.mhd"])
@pytest.mark.parametrize(
    ("kind", "layout"),
    [
        ("vector", "a vector per voxel"),
        ("last", "channels last"),
        ("first", "channels first"),
    ],
)
def test_channels_of_an_itk_file_are_found(tmp_path, name, kind, layout):
    order = {"vector": (3, 2, 1, 0), "last": (0, 3, 2, 1), "first": (3, 2, 1, 0)}[kind]
    array = np.ascontiguousarray(SOFTMAX.transpose(order))
    image = SimpleITK.GetImageFromArray(array, isVector=kind == "vector")
    direction = np.diag([-1.0, -1, 1]) @ AFFINE[:3, :3] / SPACING
    origin = (np.diag([-1.0, -1, 1]) @ AFFINE[:3, 3]).tolist()
    if kind == "vector":
        image.SetSpacing(SPACING)
        image.SetOrigin(origin)
        image.SetDirection(direction.ravel())
    else:
        space = slice(0, 3) if kind == "last" else slice(1, 4)
        spacing, shifted, turned = np.ones(4), np.zeros(4), np.eye(4)
        spacing[space], shifted[space], turned[space, space] = SPACING, origin, direction
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(shifted.tolist())
        image.SetDirection(turned.ravel().tolist())
    SimpleITK.WriteImage(image, tmp_path / name)
    maps = read_maps(tmp_path / name)
    assert maps.layout == layout
    np.testing.assert_array_equal(maps.array, SOFTMAX)
    place(maps, tmp_path)


def test_vectors_of_a_flat_image(tmp_path):
    flat = softmax(2, (4, 5))
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(np.ascontiguousarray(flat.T), isVector=True), tmp_path / "x.nrrd"
    )
    maps = read_maps(tmp_path / "x.nrrd")
    np.testing.assert_array_equal(maps.array, flat)
    assert maps.grid.array.shape == (4, 5)


@pytest.mark.parametrize("key", ["probabilities", "softmax"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("beside", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_nnunet_lies_where_its_label_map_lies(tmp_path, key, dtype, beside):
    labels = np.zeros(SHAPE, np.uint8)
    write(tmp_path / f"case.1{beside}", labels, Volume(labels, SPACING, AFFINE, Path()))
    np.savez_compressed(tmp_path / "case.1.npz", **{key: SOFTMAX.transpose(0, 3, 2, 1).astype(dtype)})
    maps = read_maps(tmp_path / "case.1.npz")
    assert maps.layout == f"nnU-Net npz '{key}' (C, z, y, x)"
    assert maps.array.dtype == np.float32
    np.testing.assert_array_equal(maps.array, SOFTMAX.astype(dtype))
    assert maps.grid.path == tmp_path / "case.1.npz"
    place(maps, tmp_path)


def test_nnunet_lies_where_it_is_told_to(tmp_path):
    nifti(tmp_path / "case.nii.gz", affine=np.eye(4))
    nifti(tmp_path / "scan.nii.gz", np.arange(120.0).reshape(SHAPE))
    np.savez_compressed(tmp_path / "case.npz", probabilities=SOFTMAX.transpose(0, 3, 2, 1))
    place(read_maps(tmp_path / "case.npz", like=tmp_path / "scan.nii.gz"), tmp_path)


@pytest.mark.parametrize("extra", [True, False])
def test_nnunet_in_two_dimensions(tmp_path, extra):
    flat = softmax(3, (4, 5))  # (C, row, column) of a picture
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "picture.png")
    np.savez(tmp_path / "picture.npz", probabilities=flat[:, None] if extra else flat)
    maps = read_maps(tmp_path / "picture.npz")
    np.testing.assert_array_equal(maps.array, flat)
    assert maps.layout == f"nnU-Net npz 'probabilities' {'(C, z, y, x)' if extra else '(C, y, x)'}"
    # and of a slice whose axes are (x, y)
    nifti(tmp_path / "slice.nii.gz", np.zeros((5, 4, 1) if extra else (5, 4), np.uint8))
    np.savez(tmp_path / "slice.npz", probabilities=flat[:, None] if extra else flat)
    array = read_maps(tmp_path / "slice.npz").array
    np.testing.assert_array_equal(array.reshape(3, 5, 4), flat.transpose(0, 2, 1))


def test_nnunet_of_a_stack_of_pages(tmp_path):
    pages = [Image.fromarray(page) for page in np.zeros(SHAPE, np.uint8)]
    pages[0].save(tmp_path / "case.tif", save_all=True, append_images=pages[1:])
    np.savez(tmp_path / "case.npz", probabilities=SOFTMAX)
    np.testing.assert_array_equal(read_maps(tmp_path / "case.npz").array, SOFTMAX)


def test_nnunet_without_a_place_or_of_another_shape_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "case.npz", softmax=SOFTMAX[:, 1:, :3].transpose(0, 3, 2, 1))
    with pytest.raises(
        UnreadableFile,
        match=r"case\.npz: expected a geometry for nnU-Net's 'softmax', found no label map case\.nii\.gz "
        r"beside it; name an image of that geometry with --like$",
    ):
        read_maps(tmp_path / "case.npz")
    nifti(tmp_path / "case.nii.gz")
    with pytest.raises(
        UnreadableFile,
        match=r"nnU-Net's 'softmax' of the shape of .*case\.nii\.gz, \(C, 6, 5, 4\), found \(3, 6, 3, 3\): "
        r"nnU-Net cropped it, or .*; only probabilities of the whole image can be used$",
    ):
        read_maps(tmp_path / "case.npz")
    np.savez(tmp_path / "case.npz", probabilities=np.zeros(SHAPE[:2]))
    with pytest.raises(UnreadableFile, match=r"as \(C, z, y, x\) or \(C, y, x\), found shape \(4, 5\)"):
        read_maps(tmp_path / "case.npz")


@pytest.mark.parametrize("name", ["maps.npy", "maps.npz"])
@pytest.mark.parametrize(
    ("array", "layout", "expected"),
    [
        (SOFTMAX, "channels first", SOFTMAX),
        (np.asfortranarray(SOFTMAX), "channels first", SOFTMAX),
        (SOFTMAX.astype(">f4"), "channels first", SOFTMAX),
        (SOFTMAX[0].astype(np.float64), "single map", SOFTMAX[:1]),
        (SOFTMAX[0, 0], "single map", SOFTMAX[:1, 0]),
        (SOFTMAX[:1], "channels first", SOFTMAX[:1]),
    ],
)
def test_other_arrays_have_channels_first(tmp_path, name, array, layout, expected):
    (np.save if name == "maps.npy" else np.savez)(tmp_path / name, array)
    maps = read_maps(tmp_path / name)
    assert maps.layout == layout
    np.testing.assert_array_equal(maps.array, expected)
    assert maps.grid.array.shape == expected.shape[1:]
    assert maps.grid.spacing == (1.0,) * (array.ndim - (array.ndim == 4))
    np.testing.assert_array_equal(maps.grid.affine, np.eye(4))
    if expected.shape[1:] == SHAPE:
        place(read_maps(tmp_path / name, like=nifti(tmp_path / "scan.nii")), tmp_path)


@pytest.mark.parametrize("name", ["maps.npy", "maps.npz", "maps.nii.gz", "map.nrrd"])
def test_another_shape_than_the_image_named_is_refused(tmp_path, name):
    nifti(tmp_path / "scan.nii", np.zeros((4, 5, 7), np.uint8))
    if name.endswith(".nii.gz"):
        nifti(tmp_path / name, SOFTMAX)
    elif name.endswith(".nrrd"):
        write(tmp_path / name, SOFTMAX[0], Volume(SOFTMAX[0], SPACING, AFFINE, Path()))
    else:
        (np.save if name == "maps.npy" else np.savez)(tmp_path / name, SOFTMAX)
    with pytest.raises(
        UnreadableFile, match=rf"{name}: expected the shape of .*scan\.nii, \(4, 5, 7\), found \(4, 5, 6\)"
    ):
        read_maps(tmp_path / name, like=tmp_path / "scan.nii")


@pytest.mark.parametrize("name", ["maps.nii.gz", "map.nrrd"])
def test_the_image_named_counts_more_than_the_header(tmp_path, name):
    if name == "maps.nii.gz":
        nifti(tmp_path / name, SOFTMAX, np.eye(4))
    else:
        write(tmp_path / name, SOFTMAX[0], Volume(SOFTMAX[0], (1.0,) * 3, np.eye(4), Path()))
    place(read_maps(tmp_path / name, like=nifti(tmp_path / "scan.nii")), tmp_path)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape: str, descr: str = "'<f4'") -> bytes:
    """The start of a `.npy` that promises what it likes."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def archive(path: Path, **entries: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries.items():
            file.writestr(name.replace("_npy", ".npy"), content)


class Bomb:
    """Makes a file of its own when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def objects(path):
    np.save(path, np.array([Bomb(path.with_name("unpickled"))], object), allow_pickle=True)


def a_pickle(path):
    path.write_bytes(pickle.dumps(Bomb(path.with_name("unpickled"))))


def objects_inside(path):
    np.savez(path, probabilities=np.array([Bomb(path.with_name("unpickled"))], object))


def lying_zip(path):
    """An entry whose directory promises a gigabyte in a few bytes."""
    archive(path, maps_npy=npy(SOFTMAX))
    content = path.read_bytes()
    at = content.rindex(b"PK\x01\x02") + 24
    path.write_bytes(content[:at] + struct.pack("<I", 2**30) + content[at + 4 :])


def lzma(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("maps.npy", npy(SOFTMAX))


def cut(path):
    path.write_bytes(npy(SOFTMAX)[:-7])


def flipped(path):
    archive(path, maps_npy=npy(SOFTMAX))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def nowhere(path):
    nifti(path, SOFTMAX)
    content = path.read_bytes()
    path.write_bytes(content[:280] + struct.pack("<f", np.nan) + content[284:])  # of the sform


BAD = {
    "objects": ("x.npy", objects, "expected real numbers, found Python objects, which are never unpickled"),
    "objects inside": ("x.npz", objects_inside, "expected real numbers, found Python objects|a geometry"),
    "a pickle": ("x.npy", a_pickle, r"expected a complete \.npy file"),
    "a pickle inside": ("x.npz", a_pickle, r"expected a complete \.npz file"),
    "petabytes": (
        *("x.npy", lambda path: path.write_bytes(header("(9, 100000, 100000, 100000)") + b"1234")),
        r"expected 36000000000000000 B of float32 for shape .*, found 4 B: it is truncated or damaged",
    ),
    "petabytes inside": (
        *("x.npz", lambda path: archive(path, maps_npy=header("(9, 100000, 100000, 100000)"))),
        "expected 36000000000000000 B .* found 0 B",
    ),
    "a lying zip": (
        "x.npz",
        lying_zip,
        r"expected an array that \d+ B can hold, found one that promises 10737",
    ),
    "another compression": ("x.npz", lzma, "expected a zip that is stored or deflated"),
    "cut": ("x.npy", cut, "expected 1440 B of float32 for shape .*, found 1433 B"),
    "a flipped bit": ("x.npz", flipped, r"expected a complete \.npz file|truncated or damaged"),
    "text": ("x.npy", lambda path: np.save(path, np.array(["a"])), "expected real numbers, found type <U1"),
    "complex": (
        "x.npy",
        lambda path: np.save(path, SOFTMAX * 1j),
        "expected real numbers, found type complex64",
    ),
    "records": (
        *("x.npy", lambda path: np.save(path, np.zeros(3, [("a", "f4")]))),
        "expected real numbers, found type",
    ),
    "negative": (
        *("x.npy", lambda path: path.write_bytes(header("(-1, 4, 4)"))),
        r"expected voxels along every axis, found shape \(-1, 4, 4\)",
    ),
    "no channels": ("x.npy", lambda path: np.save(path, np.zeros((0, 4, 5, 6))), "at least one channel"),
    "one axis": ("x.npy", lambda path: np.save(path, np.zeros(4)), r"2 or 3 dimensions, found shape \(4,\)"),
    "five axes": ("x.npy", lambda path: np.save(path, np.zeros((1,) * 5)), "2 or 3 dimensions"),
    "version 3": ("x.npy", lambda path: path.write_bytes(b"\x93NUMPY\x03\x00" + bytes(9)), "found 3.0"),
    "nothing": ("x.npz", lambda path: archive(path, readme=b""), "expected one array, .* found none"),
    "several": (
        *("x.npz", lambda path: np.savez(path, a=SOFTMAX, b=SOFTMAX)),
        "expected one array, or one named 'probabilities', found 2: a, b",
    ),
    "NaN": (
        "x.npy",
        lambda path: np.save(path, SOFTMAX * np.nan),
        r"finite voxels, found 360 .* \(0, 0, 0, 0\)",
    ),
    "NaN in a NIfTI": (
        "x.nii",
        lambda path: nifti(path, SOFTMAX * np.inf),
        "expected finite voxels, found 360",
    ),
    "an affine of NaN": (
        "x.nii",
        nowhere,
        "expected a finite affine",
    ),
    "five axes of a NIfTI": (
        *("x.nii", lambda path: nifti(path, np.zeros((2, 2, 2, 2, 2)))),
        r"expected an image of 2 or 3 dimensions, found shape \(2, 2, 2, 2, 2\)",
    ),
    "no voxels": (
        "x.nii",
        lambda path: nifti(path, np.zeros((2, 0, 2, 2))),
        "expected voxels along every axis",
    ),
    "complex vectors": (
        *(
            "x.nrrd",
            lambda path: SimpleITK.WriteImage(SimpleITK.Image(4, 4, SimpleITK.sitkComplexFloat32), path),
        ),
        "found complex",
    ),
    "no file": ("x.npz", lambda path: None, "expected an image file, found nothing there"),
    "another kind": ("x.txt", lambda path: path.touch(), "expected a file ending in .*, found '.txt'"),
}


@pytest.mark.parametrize(("name", "make", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_refused_with_a_sentence(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(UnreadableFile, match=rf"{name}: .*({message})") as caught:
        read_maps(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "unpickled").exists()


def test_objects_of_nnunet_are_never_unpickled(tmp_path):
    objects_inside(tmp_path / "x.npz")
    nifti(tmp_path / "x.nii.gz")
    with pytest.raises(UnreadableFile, match=r"x\.npz: expected real numbers, found Python objects"):
        read_maps(tmp_path / "x.npz")
    assert not (tmp_path / "unpickled").exists()


def test_an_empty_map_that_packs_well_is_no_bomb(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", np.zeros((2, 64, 64, 64), np.float32))
    assert not read_maps(tmp_path / "x.npz").array.any()


@given(
    name=st.sampled_from(["maps.nii.gz", "maps.nii", "maps.nrrd", "maps.npy", "maps.npz", "case.npz"]),
    kept=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_a_damaged_file_is_read_or_refused_with_a_sentence(tmp_path_factory, name, kept, flips):
    folder = tmp_path_factory.getbasetemp() / "maps"
    if not folder.is_dir():
        folder.mkdir()
        nifti(folder / "maps.nii.gz", np.moveaxis(SOFTMAX, 0, -1))
        nifti(folder / "maps.nii", SOFTMAX)
        vectors = np.ascontiguousarray(SOFTMAX.T)
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(vectors, isVector=True), folder / "maps.nrrd")
        np.save(folder / "maps.npy", SOFTMAX)
        np.savez(folder / "maps.npz", SOFTMAX)
        np.savez_compressed(folder / "case.npz", probabilities=SOFTMAX.transpose(0, 3, 2, 1))
        nifti(folder / "case.nii.gz")
    content = bytearray((folder / name).read_bytes())
    for place, change in flips:
        content[int(place * len(content))] ^= change
    (folder / "damaged").mkdir(exist_ok=True)
    path = folder / "damaged" / name
    path.write_bytes(content if flips else content[: int(kept * len(content))])
    message = ""
    try:
        assert read_maps(path, like=folder / "case.nii.gz").array.ndim == 4
    except UnreadableFile as error:
        message = str(error)
    assert message.startswith(str(path)) or not message
    assert "\n" not in message
