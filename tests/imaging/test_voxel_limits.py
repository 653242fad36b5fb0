"""Headers that promise too much are refused in every format, before memory is taken for what they promise."""

import gzip
import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
from files import save
from PIL import Image

from topofix.errors import UnreadableFile, UnwritableFile
from topofix.imaging import pictures
from topofix.imaging.datasets import CaseFile, read_pair
from topofix.imaging.frames import read_frames
from topofix.imaging.frozen import read_frozen
from topofix.imaging.maps import read_maps
from topofix.imaging.volumes import find_images, read

SCAN = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
SOFTMAX = np.full((2, 4, 5, 6), 0.5, np.float32)
HUGE = 40_000
"""Along each axis, of what lies about it."""


def by_itk(path: Path, array: np.ndarray, *, vectors: bool = False, packed: bool = False) -> None:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T), isVector=vectors)
    SimpleITK.WriteImage(image, path, useCompression=packed)


def pages(path: Path) -> None:
    first, *others = (Image.fromarray(page) for page in SCAN)
    first.save(path, save_all=True, append_images=others)


def series(folder: Path) -> None:
    folder.mkdir()
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    for index, page in enumerate(SCAN):
        image = SimpleITK.GetImageFromArray(page)
        for key, value in {
            "0008|0060": "MR",
            "0008|0018": f"1.2.{index}",
            "0020|000e": "1.2.3",
            "0020|0032": f"0\\0\\{index}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
        }.items():
            image.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{index}.dcm"))
        writer.Execute(image)


WHOLE = {
    "x.nii": lambda path: save(path, SCAN),
    "x.nii.gz": lambda path: save(path, SCAN),
    "x.nrrd": lambda path: by_itk(path, SCAN),
    "packed.nrrd": lambda path: by_itk(path, SCAN, packed=True),
    "x.nhdr": lambda path: by_itk(path, SCAN),
    "x.mha": lambda path: by_itk(path, SCAN),
    "packed.mha": lambda path: by_itk(path, SCAN, packed=True),
    "x.mhd": lambda path: by_itk(path, SCAN),
    "x.tif": pages,
    "packed.tif": lambda path: tifffile.imwrite(path, SCAN, photometric="minisblack", compression="zlib"),
    "x.npy": lambda path: np.save(path, SCAN),
    "x.npz": lambda path: np.savez(path, SCAN),
    "packed.npz": lambda path: np.savez_compressed(path, SCAN),
    "series": series,
}


@pytest.mark.parametrize(("name", "make"), WHOLE.items(), ids=WHOLE)
def test_a_file_is_read_up_to_the_limit_and_refused_beyond_it(tmp_path, name, make):
    make(tmp_path / name)
    assert read(tmp_path / name, max_voxels=120).array.size == 120
    sentence = (
        f"{tmp_path / name}: expected at most 119 voxels, found 120 in its header; --max-voxels allows more"
    )
    for reader in (read, read_frames, read_maps):
        with pytest.raises(UnreadableFile) as refused:
            reader(tmp_path / name, max_voxels=119)
        assert str(refused.value) == sentence


@pytest.mark.parametrize("name", ["x.png", "x.jpg", "x.tif"])
@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_the_channels_of_a_picture_count(tmp_path, name, mode, channels):
    Image.new(mode, (5, 4)).save(tmp_path / name)
    assert read(tmp_path / name, max_voxels=20 * channels).array.shape == (4, 5)
    with pytest.raises(UnreadableFile, match=rf"expected at most 19 voxels, found {20 * channels} in"):
        read(tmp_path / name, max_voxels=19)


@pytest.mark.parametrize("name", ["x.nii.gz", "vector.nrrd", "x.mha", "x.npy", "x.npz"])
def test_channels_and_frames_count_together(tmp_path, name):
    path = tmp_path / name
    if name == "x.nii.gz":
        nibabel.save(nibabel.Nifti1Image(np.moveaxis(SOFTMAX, 0, -1), np.eye(4)), path)
        with pytest.raises(UnreadableFile, match="expected at most 239 voxels, found 240 in its header"):
            read_frames(path, max_voxels=239)
        assert len(read_frames(path, max_voxels=240)) == 2
    elif name.endswith(("nrrd", "mha")):
        by_itk(path, SOFTMAX, vectors=name == "vector.nrrd")
    else:
        (np.save if name == "x.npy" else np.savez)(path, SOFTMAX)
    with pytest.raises(UnreadableFile, match="expected at most 239 voxels, found 240 in its header"):
        read_maps(path, max_voxels=239)
    assert read_maps(path, max_voxels=240).array.size == 240


def test_the_image_named_for_its_geometry_is_limited_too(tmp_path):
    np.save(tmp_path / "x.npy", SCAN[0, 0:2, 0:3])
    np.savez(tmp_path / "x.npz", probabilities=SOFTMAX[:, :1, :1])
    save(tmp_path / "scan.nii", SCAN)
    for name, reader in (("x.npy", read), ("x.npy", read_maps), ("x.npz", read_maps)):
        with pytest.raises(UnreadableFile, match=r"scan\.nii: expected at most 119 voxels, found 120"):
            reader(tmp_path / name, tmp_path / "scan.nii", max_voxels=119)


def test_a_mask_may_be_as_large_as_its_image_and_no_larger(tmp_path):
    save(tmp_path / "mask.nii", SCAN)
    (frame,) = read_frames(tmp_path / "mask.nii")
    assert read_frozen(tmp_path / "mask.nii", [frame], max_voxels=1)[0].sum() == 119
    save(tmp_path / "mask.nii", np.stack([SCAN] * 2, axis=-1).reshape(4, 5, 12))
    with pytest.raises(UnreadableFile, match=r"mask\.nii: expected at most 120 voxels, found 240"):
        read_frozen(tmp_path / "mask.nii", [frame], max_voxels=1)


@pytest.mark.parametrize("large", ["image", "label"])
def test_the_files_of_a_case_to_train_on_are_limited(tmp_path, large):
    save(tmp_path / "image.nii", SCAN if large == "image" else SCAN[:2])
    save(tmp_path / "label.nii", SCAN if large == "label" else SCAN[:2])
    file = CaseFile("a", tmp_path / "image.nii", tmp_path / "label.nii")
    with pytest.raises(UnreadableFile, match=rf"{large}\.nii: expected at most 119 voxels, found 120"):
        read_pair(file, max_voxels=119)


def with_sizes(content: bytes, sizes: tuple[int, ...], kind: int = 2) -> bytes:
    """A NIfTI-1 whose header states other sizes, and another type."""
    dim = struct.pack("<8h", len(sizes), *sizes, *[1] * (7 - len(sizes)))
    return content[:40] + dim + content[56:70] + struct.pack("<h", kind) + content[72:]


def nifti() -> bytes:
    return nibabel.Nifti1Image(SCAN, np.eye(4)).to_bytes()


def nrrd(encoding: str, sizes: str = f"{HUGE} {HUGE} {HUGE}", fields: str = "") -> bytes:
    text = f"NRRD0004\ntype: uint8\ndimension: 3\nsizes: {sizes}\nencoding: {encoding}\n{fields}\n"
    return text.encode()


def meta(compressed: bool, sizes: str = f"{HUGE} {HUGE} {HUGE}", kind: str = "MET_UCHAR", fields="") -> bytes:
    text = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = {compressed}\n{fields}"
    if compressed:
        text += "CompressedDataSize = 999999\n"
    return f"{text}DimSize = {sizes}\nElementType = {kind}\nElementDataFile = LOCAL\n".encode()


def npy(shape: str) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def png(width: int, height: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (5, 4)).save(stream, "PNG")
    head = b"IHDR" + struct.pack(">II", width, height) + stream.getvalue()[24:29]
    return stream.getvalue()[:12] + head + struct.pack(">I", zlib.crc32(head)) + stream.getvalue()[33:]


def jpeg() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (5, 4)).save(stream, "JPEG")
    at = stream.getvalue().index(b"\xff\xc0") + 5
    return stream.getvalue()[:at] + struct.pack(">HH", HUGE, HUGE) + stream.getvalue()[at + 4 :]


def tiff(tags: dict[int, int], strip: bytes = b"x" * 64) -> bytes:
    """A page of 8 bits a pixel; tags that are given come instead of, or beside, those of 8 x 8 raw pixels."""
    tags = {256: 8, 257: 8, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 8, 279: len(strip), **tags}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    header = b"II*\0" + struct.pack("<I", 8 + len(strip))
    return header + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


ZEROS = bytes(2**24)
BEYOND = r"expected at most 268435456 voxels, found \d{10,} in its header; --max-voxels allows more"
NO_ROOM = r"expected room for the \d+ B of voxels that its header promises, found \d+ B"

LIES = {
    "NIfTI": ("x.nii", lambda: with_sizes(nifti(), (30_000,) * 3), BEYOND),
    "NIfTI, packed": ("x.nii.gz", lambda: gzip.compress(with_sizes(nifti(), (30_000,) * 3)), BEYOND),
    "NIfTI, all axes": ("x.nii", lambda: with_sizes(nifti(), (30_000,) * 7), "expected an image of 2 or 3"),
    "NIfTI, below the limit": (
        *("x.nii", lambda: with_sizes(nifti(), (600, 600, 600))),
        "expected 216000000 uint8 voxels, found it truncated by 215999880 B",
    ),
    "NIfTI, packed, below the limit": (
        *("x.nii.gz", lambda: gzip.compress(with_sizes(nifti(), (600, 600, 600)))),
        r"expected 216000000 uint8 voxels, found it truncated by \d+ B",
    ),
    "NIfTI, voxels that begin far away": (
        *("x.nii.gz", lambda: gzip.compress(nifti()[:108] + struct.pack("<f", 1e9) + nifti()[112:])),
        r"expected voxels within the first 67108864 B, found them promised at 1000000000",
    ),
    "NIfTI, more behind the voxels": (
        *("x.nii.gz", lambda: gzip.compress(nifti() + ZEROS)),
        "expected the end of the file behind its voxels, found more than 1048576 B",
    ),
    "gzip within gzip": (
        *("x.nii.gz", lambda: gzip.compress(gzip.compress(nifti()))),
        "expected a NIfTI image, found gzip within gzip",
    ),
    "NRRD": ("x.nrrd", lambda: nrrd("raw") + bytes(64), BEYOND),
    "NRRD, packed": ("x.nrrd", lambda: nrrd("gzip") + gzip.compress(ZEROS), BEYOND),
    "NRRD, below the limit": ("x.nrrd", lambda: nrrd("raw", "600 600 600") + bytes(64), NO_ROOM),
    "NRRD, packed, below the limit": (
        *("x.nrrd", lambda: nrrd("gzip", "600 600 600") + gzip.compress(bytes(64))),
        NO_ROOM,
    ),
    "NRRD, as text": ("x.nrrd", lambda: nrrd("ascii", "600 600 600") + b"1 " * 99, NO_ROOM),
    "NRRD, a bomb": (
        *("x.nrrd", lambda: nrrd("gzip", "4 5 6") + gzip.compress(ZEROS)),
        "expected 120 B of voxels, found more: it is damaged or truncated",
    ),
    "MetaImage": ("x.mha", lambda: meta(False) + bytes(64), BEYOND),
    "MetaImage, negative": ("x.mha", lambda: meta(False, "-4 5 6") + bytes(120), BEYOND),
    "MetaImage, packed": ("x.mha", lambda: meta(True) + zlib.compress(ZEROS), BEYOND),
    "MetaImage, below the limit": ("x.mha", lambda: meta(False, "600 600 600") + bytes(64), NO_ROOM),
    "MetaImage, doubles": ("x.mha", lambda: meta(False, "4 5 6", "MET_DOUBLE") + bytes(959), NO_ROOM),
    "MetaImage, skipping": (
        *("x.mha", lambda: meta(False, "4 5 6", fields="HeaderSize = 999999\n") + bytes(120)),
        NO_ROOM,
    ),
    "MetaImage, packed, below the limit": (
        *("x.mha", lambda: meta(True, "600 600 600") + zlib.compress(bytes(64))),
        NO_ROOM,
    ),
    "MetaImage, too little": (
        *("x.mha", lambda: meta(True, "4 5 6") + zlib.compress(bytes(119))),
        "expected 120 B of voxels, found 119 B: it is damaged or truncated",
    ),
    "MetaImage, a bomb": (
        *("x.mha", lambda: meta(True, "4 5 6") + zlib.compress(ZEROS)),
        "expected 120 B of voxels, found more: it is damaged or truncated",
    ),
    "PNG": ("x.png", lambda: png(HUGE, HUGE), BEYOND),
    "PNG, below the limit": ("x.png", lambda: png(16_000, 16_000), NO_ROOM),
    "JPEG": ("x.jpg", jpeg, BEYOND),
    "TIFF": ("x.tif", lambda: tiff({256: HUGE, 257: HUGE, 278: HUGE}), BEYOND),
    "TIFF, below the limit": ("x.tif", lambda: tiff({256: 16_000, 257: 16_000, 278: 16_000}), NO_ROOM),
    "TIFF, packed": ("x.tif", lambda: tiff({256: 16_000, 257: 16_000, 259: 8}), NO_ROOM),
    "TIFF, a strip beyond the file": (
        "x.tif",
        lambda: tiff({259: 5, 279: 2**31}),
        "expected a complete .tif",
    ),
    "TIFF, a tile": (
        *("x.tif", lambda: tiff({259: 5, 322: 32_768, 323: 32_768, 324: 8, 325: 64})),
        "expected tiles of at most 4096 pixels, found 32768",
    ),
    "npy": (
        *("x.npy", lambda: npy(f"({HUGE}, {HUGE})")),
        "expected 1600000000 B of uint8 for shape .*, found 0 B",
    ),
    "npy, a header without end": (
        *("x.npy", lambda: b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + bytes(64)),
        "expected a header of at most 65536 B, found 2147483648 B",
    ),
    "npy, a header nested without end": (
        *("x.npy", lambda: b"\x93NUMPY\x01\x00" + struct.pack("<H", 9000) + b"-" * 9000),
        "expected an array's header, found one nested too deep",
    ),
}


@pytest.fixture
def no_memory():
    """Fails a test in which Python and NumPy took as much as the lies promise."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**26


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize(("name", "make", "message"), LIES.values(), ids=LIES)
def test_a_header_that_lies_is_refused_before_memory_is_taken(tmp_path, name, make, message, monkeypatch):
    def refuse(*args):
        raise AssertionError("voxels were read")

    monkeypatch.setattr(SimpleITK.ImageFileReader, "Execute", refuse)
    if "complete" not in message:
        monkeypatch.setattr(pictures, "_page", refuse)
    (tmp_path / name).write_bytes(make())
    with pytest.raises(UnreadableFile, match=message) as refused:
        read(tmp_path / name)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("no_memory")
@pytest.mark.parametrize("name", ["x.nrrd", "x.nii.gz", "x.mha", "x.png", "x.tif", "x.npz"])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, name, monkeypatch):
    """What fits into its file by the most that packing can do, and is as large as the header says."""
    path, side = tmp_path / name, 4096
    if name == "x.png":
        Image.new("L", (side, side)).save(path)
    elif name == "x.tif":
        Image.new("L", (side, side)).save(path, compression="tiff_adobe_deflate")
    elif name == "x.npz":
        np.savez_compressed(path, np.broadcast_to(np.uint8(0), (side, side)))
    elif name == "x.nii.gz":
        path.write_bytes(gzip.compress(with_sizes(nifti(), (side, side, 1))[:352] + ZEROS))
    elif name == "x.mha":
        path.write_bytes(meta(True, f"{side} {side} 1") + zlib.compress(ZEROS))
    else:
        path.write_bytes(nrrd("gzip", f"{side} {side} 1") + gzip.compress(ZEROS))
    tracemalloc.reset_peak()
    with pytest.raises(
        UnreadableFile, match="expected at most 16777215 voxels, found 16777216 in its header"
    ):
        read(path, max_voxels=side * side - 1)


@pytest.mark.parametrize("size", [0, -1, -32768])
@pytest.mark.parametrize("axis", range(4))
def test_a_nifti_without_frames_or_voxels_is_refused(tmp_path, size, axis):
    sizes = [4, 5, 3, 2]
    sizes[axis] = size
    (tmp_path / "x.nii").write_bytes(with_sizes(nifti(), tuple(sizes)))
    with pytest.raises(UnreadableFile, match=r"x\.nii: expected"):
        read_frames(tmp_path / "x.nii")


def test_packed_members_and_padding_behind_a_scan_are_no_bomb(tmp_path):
    content = nifti()
    (tmp_path / "x.nii.gz").write_bytes(
        gzip.compress(content[:400]) + gzip.compress(content[400:] + bytes(512))
    )
    np.testing.assert_array_equal(read(tmp_path / "x.nii.gz").array, SCAN)


def test_pillows_own_limit_is_lifted_for_one_file_and_comes_back(tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    Image.new("L", (5, 4)).save(tmp_path / "x.png")
    pages(tmp_path / "x.tif")
    assert read(tmp_path / "x.png").array.shape == (4, 5)
    assert read(tmp_path / "x.tif").array.shape == SCAN.shape
    with pytest.raises(UnreadableFile):
        read(tmp_path / "x.png", max_voxels=1)
    assert Image.MAX_IMAGE_PIXELS == 5
    assert not recwarn.list


@pytest.mark.parametrize("kind", ["GIF", "BMP", "PPM", "TGA"])
def test_a_picture_of_another_format_is_refused_whatever_its_suffix(tmp_path, kind):
    Image.new("L", (5, 4)).save(tmp_path / "x.png", kind)
    with pytest.raises(UnreadableFile, match=r"x\.png: expected a complete \.png file"):
        read(tmp_path / "x.png")


def test_a_png_without_its_end_is_refused(tmp_path):
    content = png(5, 4)
    (tmp_path / "x.png").write_bytes(content[:-1])
    with pytest.raises(UnreadableFile, match=r"x\.png: expected a whole PNG, found it truncated$"):
        read(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes(content + b"something behind it")
    assert read(tmp_path / "x.png").array.shape == (4, 5)


@pytest.mark.parametrize(("big", "order"), [(False, "<"), (True, "<"), (False, ">")])
def test_a_stack_that_is_cut_off_between_pages_is_refused(tmp_path, big, order):
    with tifffile.TiffWriter(tmp_path / "x.tif", bigtiff=big, byteorder=order) as file:
        for page in SCAN:
            file.write(page, photometric="minisblack", metadata=None)
    assert read(tmp_path / "x.tif").array.shape == SCAN.shape
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        third = file.pages[2].offset
    os.truncate(tmp_path / "x.tif", third)
    with pytest.raises(UnreadableFile, match=r"x\.tif: expected 3 whole pages or more, found it truncated"):
        read(tmp_path / "x.tif")


def test_pages_in_a_circle_come_to_an_end(tmp_path):
    content = tiff({})
    (tmp_path / "x.tif").write_bytes(content[:-4] + content[4:8])
    assert read(tmp_path / "x.tif").array.shape == (8, 8)


def test_more_pages_than_anybody_has_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "_MOST_PAGES", 3)
    pages(tmp_path / "x.tif")
    with pytest.raises(UnreadableFile, match=r"x\.tif: expected at most 3 pages, found more"):
        read(tmp_path / "x.tif")


def test_names_in_an_archive_are_shown_on_one_line(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("a\nb.npy", b"")
        file.writestr("c" * 9999 + ".npy", b"")
    with pytest.raises(UnreadableFile, match=r"expected one array, .* found 2: a\\nb, c{99}$"):
        read(tmp_path / "x.npz")


def test_a_zip_within_a_zip_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "inner.npz", SCAN)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(tmp_path / "inner.npz", "scan.npy")
    with pytest.raises(UnreadableFile, match=r"x\.npz: expected a complete \.npz file"):
        read(tmp_path / "x.npz")


def test_a_spacing_and_a_place_out_of_this_world_are_refused(tmp_path):
    image = nibabel.Nifti1Image(SCAN, np.eye(4))
    content = bytearray(image.to_bytes())
    content[280:284] = struct.pack("<f", 3e38)  # of the sform
    (tmp_path / "x.nii").write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"x\.nii: expected a finite affine, found"):
        read(tmp_path / "x.nii")
    for step in (1e30, 1e-45):  # the cube of the latter would be 0 mm³
        content = image.to_bytes()[:80] + struct.pack("<f", step) + image.to_bytes()[84:]
        (tmp_path / "y.nii").write_bytes(content)
        with pytest.raises(
            UnreadableFile, match=r"y\.nii: expected a spacing from 1e-12 to 1e\+12 mm, found"
        ):
            read(tmp_path / "y.nii")


def test_a_folder_of_lies_still_has_its_images_found(tmp_path):
    for name, make, _ in LIES.values():
        (tmp_path / name).write_bytes(make())
    assert len(find_images(tmp_path)) == len({name for name, _, _ in LIES.values()} - {"x.npy"})


@pytest.mark.parametrize("name", ["x.nrrd", "x.nhdr", "x.mha", "x.mhd", "series"])
def test_a_path_that_is_no_text_is_refused_where_itk_would_end_the_process(tmp_path, name):
    WHOLE[name](tmp_path / name)
    path = tmp_path / os.fsdecode(b"\xff\xfe" + name.encode())
    (tmp_path / name).rename(path)
    shown = "0.dcm" if name == "series" else rf"\\udcff\\udcfe{name}"
    with pytest.raises(
        UnreadableFile, match=rf"^'{shown}': expected a path in UTF-8, found other bytes in it$"
    ):
        read(path)
    if name != "series":
        with pytest.raises(UnwritableFile, match=r"expected a path in UTF-8, found other bytes in it$"):
            save(path, SCAN)
        assert {file.name for file in tmp_path.iterdir()} <= {path.name, "x.raw"}


def test_such_a_path_is_read_and_written_in_other_formats(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.nii.gz")
    save(path, SCAN)
    np.testing.assert_array_equal(read(path).array, SCAN)
