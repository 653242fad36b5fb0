"""Elements that do not fit into a DICOM file, or lie too deep in one another, are refused; scanners' pass."""

import math
import struct

import numpy as np
import pytest
import SimpleITK

from topofix.errors import UnreadableFile
from topofix.imaging.sequences import MOST_LEVELS, check_elements, element
from topofix.imaging.volumes import read

NO_LENGTH = 2**32 - 1
ORDERS = {"little": "<", "big": ">"}


class Writer:
    """Elements in one of the ways in which DICOM writes them."""

    def __init__(self, typed: bool = True, order: str = "little") -> None:
        self.typed, self.order = typed, order

    def tag(self, group: int, number: int, size: int) -> bytes:
        return struct.pack(f"{ORDERS[self.order]}HHI", group, number, size)

    def element(self, group: int, number: int, kind: bytes, value: bytes, size: int | None = None) -> bytes:
        size = len(value) if size is None else size
        if not self.typed:
            return self.tag(group, number, size) + value
        start = struct.pack(f"{ORDERS[self.order]}HH", group, number) + kind
        if kind in (b"SQ", b"UN", b"OB"):
            return start + b"\0\0" + struct.pack(f"{ORDERS[self.order]}I", size) + value
        return start + struct.pack(f"{ORDERS[self.order]}H", size) + value

    def item(self, content: bytes, open_ended: bool = False) -> bytes:
        if not open_ended:
            return self.tag(0xFFFE, 0xE000, len(content)) + content
        return self.tag(0xFFFE, 0xE000, NO_LENGTH) + content + self.tag(0xFFFE, 0xE00D, 0)

    def sequence(self, items: bytes, open_ended: bool = False, kind: bytes = b"SQ") -> bytes:
        if not open_ended:
            return self.element(0x0008, 0x1140, kind, items)
        return self.element(0x0008, 0x1140, kind, items + self.tag(0xFFFE, 0xE0DD, 0), NO_LENGTH)

    def nested(self, depth: int, open_ended: bool) -> bytes:
        """A sequence in the item of a sequence, and so on; written from the inside."""
        parts = []
        for _ in range(depth) if open_ended else ():
            parts.append(
                self.element(0x0008, 0x1140, b"SQ", b"", NO_LENGTH) + self.tag(0xFFFE, 0xE000, NO_LENGTH)
            )
        if open_ended:
            ends = self.tag(0xFFFE, 0xE00D, 0) + self.tag(0xFFFE, 0xE0DD, 0)
            return b"".join(parts) + ends * depth
        content = b""
        for _ in range(depth):
            content = self.sequence(self.item(content))
        return content


WRITERS = [Writer(True), Writer(False), Writer(True, "big")]
IDS = ["typed", "untyped", "big-endian"]


def check(path, writer: Writer, content: bytes) -> None:
    check_elements(path, b"1234" + content, 4, writer.typed, writer.order)


@pytest.mark.parametrize("writer", WRITERS, ids=IDS)
@pytest.mark.parametrize("open_ended", [False, True])
def test_many_items_side_by_side_pass(tmp_path, writer, open_ended):
    """As a scanner writes them: a few for each of thousands of frames."""
    name = writer.element(0x0010, 0x0010, b"PN", b"nobody")
    inner = writer.sequence(writer.item(name, open_ended) * 2, open_ended)
    frames = writer.sequence(writer.item(name + inner, open_ended) * 3000, open_ended)
    check(tmp_path, writer, name + frames + name)


@pytest.mark.parametrize("writer", WRITERS, ids=IDS)
@pytest.mark.parametrize("open_ended", [False, True])
def test_many_items_in_one_another_are_refused(tmp_path, writer, open_ended):
    content = writer.nested(5000, open_ended)
    with pytest.raises(
        UnreadableFile, match=rf"expected at most {MOST_LEVELS} levels of sequences, found more$"
    ):
        check(tmp_path, writer, content)
    check(tmp_path, writer, writer.nested(1000, open_ended))  # too few to do harm


@pytest.mark.parametrize("writer", WRITERS, ids=IDS)
def test_a_sequence_of_unknown_type_is_one_all_the_same(tmp_path, writer):
    """Its elements say no types, whatever those around it do."""
    untyped = Writer(False, writer.order)
    content = writer.sequence(untyped.item(untyped.nested(5000, True)), open_ended=True, kind=b"UN")
    with pytest.raises(UnreadableFile, match=r"levels of sequences, found more$"):
        check(tmp_path, writer, content)
    few = writer.sequence(untyped.item(untyped.sequence(untyped.item(b"") * 2)) * 2500, kind=b"UN")
    check(tmp_path, writer, few)


@pytest.mark.parametrize("writer", WRITERS, ids=IDS)
def test_items_where_nobody_looks_for_them_are_refused(tmp_path, writer):
    text = writer.element(0x0010, 0x4000, b"UN", b"x" + writer.tag(0xFFFE, 0xE000, 0) * 5000)
    with pytest.raises(UnreadableFile, match=r"expected every item in a sequence, found 5000 anywhere else$"):
        check(tmp_path, writer, text)


@pytest.mark.parametrize("writer", WRITERS, ids=IDS)
@pytest.mark.parametrize("number", [0xE00D, 0xE0DD])
def test_an_end_of_nothing_ends_the_walk(tmp_path, writer, number):
    content = writer.tag(0xFFFE, number, 0) + writer.nested(5000, True)
    with pytest.raises(UnreadableFile, match=r"found 5000 anywhere else$"):
        check(tmp_path, writer, content)


@pytest.mark.parametrize("writer", WRITERS, ids=IDS)
def test_the_fragments_of_packed_pixels_hold_no_elements(tmp_path, writer):
    fragments = writer.item(bytes(range(100, 120))) * 5000 + writer.tag(0xFFFE, 0xE0DD, 0)
    check(tmp_path, writer, writer.element(0x7FE0, 0x0010, b"OB", fragments, NO_LENGTH))


@pytest.mark.parametrize("writer", WRITERS, ids=IDS)
@pytest.mark.parametrize("inside", [False, True])
def test_an_element_longer_than_its_file_is_refused(tmp_path, writer, inside):
    """GDCM would take memory for all of it."""
    name = writer.element(0x0010, 0x0010, b"PN", b"nobody")
    long = writer.element(0x0010, 0x0020, b"LO", b"nobody", 60_000)
    content = writer.sequence(writer.item(name + long, True), True) if inside else name + long
    with pytest.raises(
        UnreadableFile, match="expected a slice of a DICOM series, found a file that is damaged"
    ):
        check(tmp_path, writer, content)


def test_bytes_that_look_like_an_item_are_none(tmp_path):
    """As private elements may hold them."""
    writer = Writer()
    private = writer.element(0x0029, 0x1010, b"OB", writer.tag(0xFFFE, 0xE000, 60_000) + b"AAAA0123" * 9)
    check(tmp_path, writer, private + writer.element(0x0029, 0x1020, b"LO", b"nobody"))


def test_elements_of_a_strange_type_are_left_to_gdcm(tmp_path):
    check(tmp_path, Writer(), Writer().element(0x0010, 0x0010, b"??", b"nobody", 60_000))


def test_an_element_is_read_in_each_way_of_writing():
    for writer in WRITERS:
        for kind, value in ((b"PN", b"nobody"), (b"SQ", b"")):
            content = b"12" + writer.element(0x0010, 0x0020, kind, value) + value
            tag, found, size, at = element(content, 2, writer.typed, writer.order)
            assert (tag, found, size) == (0x00100020, kind if writer.typed else b"", len(value))
            assert content[at : at + size] == value
        assert element(writer.tag(0xFFFE, 0xE000, 9), 0, writer.typed, writer.order) == (
            0xFFFEE000,
            b"",
            9,
            8,
        )


@pytest.fixture
def slice_file(tmp_path):
    """A single slice, 6 x 5, of 16 bits."""
    (tmp_path / "scan").mkdir()
    image = SimpleITK.GetImageFromArray(np.arange(30, dtype=np.int16).reshape(5, 6))
    image.SetMetaData("0008|0060", "MR")
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(tmp_path / "scan" / "a.dcm"))
    writer.Execute(image)
    return tmp_path / "scan" / "a.dcm"


def before_pixels(content: bytes, more: bytes) -> bytes:
    at = content.index(struct.pack("<HH", 0x7FE0, 0x0010), 132)
    return content[:at] + more + content[at:]


@pytest.mark.parametrize("open_ended", [False, True])
def test_a_series_with_deep_sequences_is_refused_and_ends_no_process(slice_file, open_ended):
    whole = slice_file.read_bytes()
    slice_file.write_bytes(before_pixels(whole, Writer(False).nested(20_000, open_ended)))
    with pytest.raises(
        UnreadableFile, match=r"a\.dcm: expected at most 128 levels of sequences, found more$"
    ):
        read(slice_file.parent)
    slice_file.write_bytes(before_pixels(whole, Writer(False).nested(50, open_ended)))
    assert read(slice_file.parent).array.shape == (6, 5, 1)


@pytest.mark.parametrize("sides", [(16_000, 16_000), (6, 6), (65_535, 2000)])
def test_a_slice_larger_than_its_file_is_refused(slice_file, sides):
    """ITK takes memory that nobody wrote to for the voxels that are missing."""
    content = bytearray(slice_file.read_bytes())
    for number, side in zip((0x0010, 0x0011), sides, strict=True):
        at = content.index(struct.pack("<HHI", 0x0028, number, 2), 132) + 8
        content[at : at + 2] = struct.pack("<H", side)
    slice_file.write_bytes(content[: -(len(content) - 600)] if sides == (6, 6) else content)
    with pytest.raises(
        UnreadableFile, match=r"expected room for the \d+ B of voxels|expected a slice of a DICOM"
    ):
        read(slice_file.parent)


def test_a_file_that_is_called_a_slice_and_is_none_is_refused(slice_file):
    """Else a series would come out shorter, where the header of its last slice is damaged."""
    whole = slice_file.read_bytes()
    for content in (b"", whole[:130], b"x" * 500, whole[:128] + b"DICN" + whole[132:]):
        (slice_file.parent / "b.DCM").write_bytes(content)
        with pytest.raises(
            UnreadableFile, match=r"b\.DCM: expected a slice of a DICOM series, found a file that is d"
        ):
            read(slice_file.parent)


def test_frames_beyond_the_limit_are_refused(slice_file):
    more = struct.pack("<HHI", 0x0028, 0x0008, 10) + b"1000000000"
    content = slice_file.read_bytes()
    at = content.index(struct.pack("<HH", 0x0028, 0x0010), 132)
    slice_file.write_bytes(content[:at] + more + content[at:])
    with pytest.raises(UnreadableFile, match=r"a\.dcm: expected room for the 60000000000 B of voxels"):
        read(slice_file.parent)


def test_a_slice_that_is_deflated_is_refused(slice_file):
    content = slice_file.read_bytes()
    before = struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", 18) + b"1.2.840.10008.1.2\0"
    after = struct.pack("<HH2sH", 0x0002, 0x0010, b"UI", 22) + b"1.2.840.10008.1.2.1.99"
    assert before in content
    slice_file.write_bytes(content.replace(before, after))
    with pytest.raises(
        UnreadableFile, match="expected a slice that is stored or packed as a picture, found a defl"
    ):
        read(slice_file.parent)


def test_the_slices_of_a_series_count_together(slice_file):
    (slice_file.parent / "b.dcm").write_bytes(slice_file.read_bytes())
    with pytest.raises(
        UnreadableFile,
        match="scan: expected at most 59 voxels, found 60 in its header; --max-voxels allows more",
    ):
        read(slice_file.parent, max_voxels=59)
    assert math.prod(read_one(slice_file).shape) == 30


def read_one(file) -> np.ndarray:
    (file.parent / "b.dcm").unlink()
    return read(file.parent, max_voxels=30).array
