"""Headers of NRRD and MetaImage that ITK should not see are refused; those of sound files pass."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st

from topofix.errors import UnreadableFile
from topofix.imaging.headers import Storage, check_storage, read_storage
from topofix.imaging.volumes import read

SCAN = np.arange(120, dtype=np.uint8).reshape(4, 5, 6)
VOXELS = SCAN.tobytes(order="F")


def nrrd(path: Path, *fields: str, encoding: str = "raw", voxels: bytes = b"", end: str = "\n") -> Path:
    lines = ("NRRD0004", "type: uint8", "dimension: 3", "sizes: 4 5 6", f"encoding: {encoding}", *fields)
    path.write_bytes(end.join((*lines, "", "")).encode() + voxels)
    return path


def meta(path: Path, *fields: str, data: str = "LOCAL", voxels: bytes = b"", end: str = "\n") -> Path:
    lines = ("ObjectType = Image", "NDims = 3", "BinaryData = True", "DimSize = 4 5 6", *fields)
    text = end.join((*lines, "ElementType = MET_UCHAR", f"ElementDataFile = {data}", ""))
    path.write_bytes(text.encode() + voxels)
    return path


def packed_meta(path: Path, voxels: bytes, size: int | str | None = None, end: str = "\n") -> Path:
    """A MetaImage whose voxels are packed, and that says how long they are."""
    fields = ("CompressedData = True", f"CompressedDataSize = {len(voxels) if size is None else size}")
    return meta(path, *fields, voxels=voxels, end=end)


def refused(path: Path) -> str:
    """What is said of a file, by `read` and by the look at its header alike."""
    with pytest.raises(UnreadableFile) as caught:
        read_storage(path)
    with pytest.raises(UnreadableFile) as again:
        read(path)
    assert str(caught.value) == str(again.value)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_sound_headers_pass_and_say_where_the_voxels_are(tmp_path, end):
    attached = nrrd(tmp_path / "a.nrrd", "content: a scan", "key:=value: x", "# data", voxels=VOXELS, end=end)
    start = attached.stat().st_size - 120
    assert read_storage(attached) == Storage((attached,), start, 1, None)
    packed = nrrd(tmp_path / "p.nrrd", encoding="gzip", voxels=gzip.compress(VOXELS), end=end)
    assert read_storage(packed)[1:] == (packed.read_bytes().index(b"\x1f\x8b"), 1032, "gzip", 0)
    whole = meta(tmp_path / "a.mha", "Comment = x: y", voxels=VOXELS, end=end)
    assert read_storage(whole) == Storage((whole,), whole.stat().st_size - 120, 1, None)
    deflated = packed_meta(tmp_path / "p.mha", zlib.compress(VOXELS), end=end)
    assert read_storage(deflated)[2:] == (1032, "zlib", len(zlib.compress(VOXELS)))
    for path in (attached, packed, whole, deflated):
        np.testing.assert_array_equal(read(path).array, SCAN)


def slices(folder: Path) -> list[str]:
    """The scan slice by slice, in files of their own in a folder below."""
    (folder / "parts").mkdir()
    for index in range(6):
        (folder / "parts" / f"s{index + 1:02d}.raw").write_bytes(SCAN[..., index].tobytes(order="F"))
    return [f"parts/s{index + 1:02d}.raw" for index in range(6)]


@pytest.mark.parametrize("kind", ["one", "list", "pattern"])
@pytest.mark.parametrize("make", [nrrd, meta])
def test_data_files_below_the_header_are_read(tmp_path, kind, make):
    names = slices(tmp_path)
    (tmp_path / "parts" / "all.raw").write_bytes(VOXELS)
    value = {
        "one": "parts/all.raw",
        "list": "\n".join(["LIST" if make is meta else "LIST 2", *names]),
        "pattern": "parts/s%02d.raw 1 6 1",
    }[kind]
    path = tmp_path / ("a.nhdr" if make is nrrd else "a.mhd")
    if make is nrrd:
        nrrd(path, f"data file: {value}")
        if kind == "list":  # where an empty line is a name
            path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    else:
        meta(path, data=value)
    files = [tmp_path / name for name in (["parts/all.raw"] if kind == "one" else names)]
    assert read_storage(path) == Storage(tuple(files), 0, 1, None)
    np.testing.assert_array_equal(read(path).array, SCAN)


ELSEWHERE = [
    "/etc/passwd",
    "../secret.raw",
    "parts/../../secret.raw",
    "C:\\secret.raw",
    "..\\secret.raw",
    "~/secret.raw",
]


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("form", ["{}", "LIST\n{}", "{}%02d.raw 1 6 1"])
def test_data_files_elsewhere_are_refused(tmp_path, name, form):
    (tmp_path / "secret.raw").write_bytes(VOXELS)
    (tmp_path / "in").mkdir()
    value = form.format(name)
    paths = [
        nrrd(tmp_path / "in" / "a.nhdr", f"data file: {value}"),
        nrrd(tmp_path / "in" / "a.nrrd", f"DataFile: {value}"),
        meta(tmp_path / "in" / "a.mhd", data=value),
        meta(tmp_path / "in" / "a.mha", data=value),
    ]
    for path in paths:
        assert refused(path).startswith(
            "expected a data file below its own folder, neither absolute nor with .., found '"
        )


@pytest.mark.parametrize("make", [nrrd, meta])
def test_a_data_file_that_is_missing_or_none_is_refused(tmp_path, make):
    os.mkfifo(tmp_path / "pipe.raw")
    for name, says in (
        ("gone.raw", "expected its data file 'gone.raw' beside it, found none"),
        ("y" * 200, "expected its data file 'yyyy"),
        (".", "expected its data file '.' beside it, found none"),
        ("pipe.raw", "expected a data file, found a pipe"),
    ):
        path = tmp_path / ("a.nhdr" if make is nrrd else "a.mhd")
        nrrd(path, f"data file: {name}") if make is nrrd else meta(path, data=name)
        assert says in refused(path)


@pytest.mark.parametrize(
    "value",
    ["x%1000000000d.raw 1 6 1", "x%s.raw", "%n%n 1 6 1", "x%d%d.raw 1 6 1", "x%02d.raw 1", "x%-9d 1 6 1"],
)
@pytest.mark.parametrize("make", [nrrd, meta])
def test_a_strange_pattern_of_names_is_refused(tmp_path, value, make):
    """ITK prints numbers by it into memory of a fixed size."""
    path = tmp_path / ("a.nhdr" if make is nrrd else "a.mhd")
    nrrd(path, f"data file: {value}") if make is nrrd else meta(path, data=value)
    assert refused(path) == f"expected data files such as 'slice%03d.raw 1 20 1', found {value!r}"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("x%d.raw 1 999999999 1", "expected from 1 to 32768 data files, found more"),
        ("x%d.raw 6 1 1", "expected from 1 to 32768 data files, found none"),
        ("LIST", "expected from 1 to 32768 data files, found none"),
        ("LIST\n" + "a\n" * 33_000, "expected from 1 to 32768 data files, found more"),
        ("LISTEN.raw", "expected LIST and a number of axes, found 'LISTEN.raw'"),
    ],
)
@pytest.mark.parametrize("make", [nrrd, meta])
def test_no_files_and_too_many_are_refused(tmp_path, value, says, make):
    path = tmp_path / ("a.nhdr" if make is nrrd else "a.mhd")
    nrrd(path, f"data file: {value}") if make is nrrd else meta(path, data=value)
    assert refused(path) == says


@pytest.mark.parametrize("axes", ["0", "-3", "10", "5000", "999999999", "3.5", "x", ""])
def test_more_axes_than_metaimage_has_room_for_are_refused(tmp_path, axes):
    path = meta(tmp_path / "a.mha", voxels=VOXELS)
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", f"NDims = {axes}".encode()))
    assert refused(path) == f"expected a line NDims with a number from 1 to 9, found {axes!r}"


def test_axes_that_are_stated_twice_or_never_are_refused(tmp_path):
    twice = meta(tmp_path / "a.mha", "NDims = 3", voxels=VOXELS)
    assert refused(twice) == "expected a line NDims with a number from 1 to 9, found '3'"
    twice.write_bytes(twice.read_bytes().replace(b"NDims", b"Ndims"))
    assert refused(twice) == "expected a line NDims with a number from 1 to 9, found ''"


@pytest.mark.parametrize("field", [b"DimSize", b"ElementType"])
def test_a_metaimage_without_sizes_or_type_is_refused(tmp_path, field, capfd):
    path = meta(tmp_path / "a.mha", voxels=VOXELS)
    path.write_bytes(path.read_bytes().replace(field, b"Something"))
    assert refused(path) == "expected the lines DimSize and ElementType, found one missing"
    assert capfd.readouterr() == ("", "")


def test_a_data_file_that_is_named_within_a_line_is_refused(tmp_path):
    path = meta(tmp_path / "a.mha", "Comment = ElementDataFile = /etc/passwd", voxels=VOXELS)
    assert refused(path) == "expected ElementDataFile at the start of a line, found it within one"


@pytest.mark.parametrize("sign", ["=", ":"])
@pytest.mark.parametrize("space", ["", " ", "\t "])
def test_however_a_data_file_is_named_it_is_found(tmp_path, sign, space):
    path = meta(tmp_path / "a.mha")
    line = f"{space}ElementDataFile{space}{sign}{space}/etc/passwd{space}\n".encode()
    path.write_bytes(path.read_bytes().replace(b"ElementDataFile = LOCAL\n", line))
    assert refused(path).endswith("found '/etc/passwd'")


@pytest.mark.parametrize(
    "name", ["data file", "Data File", "datafile", "DATAFILE", "data file ", " data file"]
)
def test_however_a_field_of_nrrd_is_written_it_is_found(tmp_path, name):
    assert refused(nrrd(tmp_path / "a.nrrd", f"{name}: /etc/passwd")).endswith("found '/etc/passwd'")


def test_a_field_that_is_repeated_is_refused(tmp_path):
    path = nrrd(tmp_path / "a.nhdr", "data file: a.raw", "DataFile: /etc/passwd")
    assert refused(path) == "expected the field 'DataFile' once, found it repeated"


@pytest.mark.parametrize("field", ["type", "sizes", "space directions", "kinds", "units", "nonsense"])
def test_a_long_line_is_refused_where_itk_has_little_room(tmp_path, field):
    path = tmp_path / "a.nrrd"
    nrrd(path, f"{field}: {'x' * 9999}", voxels=VOXELS)
    path.write_bytes(path.read_bytes().replace(b"type: uint8\n" if field == "type" else b"\0\0\0", b"", 1))
    if field == "sizes":
        path.write_bytes(path.read_bytes().replace(b"sizes: 4 5 6\n", b""))
    assert refused(path) == f"expected at most 512 B in a line of its header, found {len(field) + 10001}"
    assert refused(nrrd(path, "x" * 9999)) == "expected at most 512 B in a line of its header, found 9999"


@pytest.mark.parametrize(
    "line", ["content: " + "x" * 9999, "# " + "x" * 9999, "key:=" + "x" * 9999, "x" * 9999 + ":=value"]
)
def test_a_long_line_is_read_where_there_is_room(tmp_path, line):
    np.testing.assert_array_equal(read(nrrd(tmp_path / "a.nrrd", line, voxels=VOXELS)).array, SCAN)


@pytest.mark.parametrize("encoding", ["gzip", "bzip2", "hex", "ascii"])
def test_packed_voxels_are_never_searched_from_their_end(tmp_path, encoding):
    path = nrrd(tmp_path / "a.nrrd", "byte skip: -1", encoding=encoding, voxels=gzip.compress(VOXELS))
    assert refused(path) == f"expected a byte skip from 0 on for '{encoding}', found '-1'"
    np.testing.assert_array_equal(read(nrrd(path, "byte skip: -1", voxels=b"abc" + VOXELS)).array, SCAN)


@pytest.mark.parametrize("make", [nrrd, meta])
def test_a_header_without_end_is_refused(tmp_path, make):
    path = tmp_path / ("a.nrrd" if make is nrrd else "a.mhd")
    if make is nrrd:
        nrrd(path, *["# nothing"] * 200_000, voxels=VOXELS)
    else:
        meta(path, data="LIST\n" + "\n" * 2**20)
    assert refused(path) == "expected a header of at most 1048576 B, found more"


@pytest.mark.parametrize("content", [b"", b"\0", b"NRR", b"ElementDataFil = LOCAL", b"\xff" * 2**21])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
def test_what_has_no_header_is_refused(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"no (NRRD|MetaImage)"):
        read_storage(tmp_path / name)
    with pytest.raises(UnreadableFile, match=rf"{name}: expected a complete \.\w+ file, found: one that is"):
        read(tmp_path / name)


@pytest.mark.parametrize("cut", [1, 8, 20])
@pytest.mark.parametrize("form", ["gzip", "zlib"])
def test_packed_voxels_that_end_early_are_refused(tmp_path, cut, form):
    """ITK would do without a checksum, and without the last voxels."""
    noise = np.random.default_rng(0).integers(0, 255, 120, np.uint8).tobytes()
    if form == "gzip":
        path = nrrd(tmp_path / "a.nrrd", encoding="gzip", voxels=gzip.compress(noise)[:-cut])
    else:
        path = packed_meta(tmp_path / "a.mha", zlib.compress(noise)[:-cut])
    with pytest.raises(UnreadableFile, match="expected intact voxels, found damaged ones"):
        read(path)


def test_packed_voxels_with_gigabytes_behind_them_are_refused(tmp_path):
    path = packed_meta(tmp_path / "a.mha", zlib.compress(VOXELS))
    os.truncate(path, 2**33)
    with pytest.raises(UnreadableFile, match=r"expected 120 B of voxels in compressed form, found 85\d+ B"):
        check_storage(path, read_storage(path), 120)


@pytest.mark.parametrize("size", ["0", "", "-1", "x"])
def test_packed_voxels_of_no_size_are_refused_in_the_file_itself_alone(tmp_path, size):
    """ITK hands on memory that it never wrote to, where it does not find their end."""
    path = packed_meta(tmp_path / "a.mha", zlib.compress(VOXELS), size=size)
    assert refused(path) == f"expected CompressedDataSize in its header, found {size!r}"
    (tmp_path / "a.zraw").write_bytes(zlib.compress(VOXELS))
    np.testing.assert_array_equal(
        read(meta(tmp_path / "a.mhd", "CompressedData = True", data="a.zraw")).array, SCAN
    )


@pytest.mark.parametrize("missing", [20, 119])
def test_packed_voxels_of_too_small_a_size_are_refused(tmp_path, missing):
    noise = zlib.compress(np.random.default_rng(0).integers(0, 255, 120, np.uint8).tobytes())
    with pytest.raises(UnreadableFile, match=r"expected intact voxels, found damaged ones \(they end early"):
        read(packed_meta(tmp_path / "a.mha", noise, size=len(noise) - missing))


def test_members_of_gzip_are_one_stream(tmp_path):
    voxels = gzip.compress(VOXELS[:50]) + gzip.compress(VOXELS[50:])
    path = nrrd(tmp_path / "a.nrrd", encoding="gzip", voxels=voxels)
    check_storage(path, read_storage(path), 120)


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), twice=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_damaged_header_is_read_or_refused_with_a_sentence(tmp_path_factory, place, value, twice):
    folder = tmp_path_factory.getbasetemp() / "damaged headers"
    folder.mkdir(exist_ok=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(SCAN), folder / "sound.mha", useCompression=True)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(SCAN), folder / "sound.nrrd", useCompression=True)
    for name in ("sound.mha", "sound.nrrd"):
        content = bytearray((folder / name).read_bytes())
        at = int(place * min(len(content), 400))
        content[at] = value
        if twice:
            content[at:at] = content[at : at + 40]
        path = folder / name.replace("sound", "damaged")
        path.write_bytes(content)
        try:
            assert read(path).array.ndim in (2, 3)
        except UnreadableFile as error:
            assert "\n" not in str(error)  # noqa: PT017 - either is right
