"""Headers that lie: about sizes, types, places, lengths and other files."""

import io
import json
import re
import struct
import zipfile
import zlib
from random import Random

from faults.hostile_damage import REAL, number
from faults.hostile_originals import Files, checkpoint_header

ELSEWHERE = ("/etc/passwd", "../secret.raw", "../../../../../../etc/passwd", "/dev/zero", "/dev/stdin", ".")
"""Files that no header may make topofix read; `../secret.raw` is there."""

Fields = list[tuple[int, str]]


def _fields(*places: tuple[int, str, int]) -> Fields:
    """Offset and form of each number of some arrays: where it begins, as `struct` says, and how many."""
    return [(start + k * struct.calcsize(form), form) for start, form, count in places for k in range(count)]


_FIRST = _fields(
    *((0, "i", 1), (39, "b", 1), (40, "h", 8), (56, "f", 3), (68, "h", 1), (70, "h", 2), (76, "f", 8)),
    *((108, "f", 3), (123, "b", 1), (252, "h", 2), (256, "f", 6), (280, "f", 12), (344, "i", 3)),
)
_SECOND = _fields(
    *((0, "i", 1), (4, "q", 1), (12, "h", 2), (16, "q", 8), (80, "d", 3), (104, "d", 8), (168, "q", 1)),
    *((176, "d", 2), (344, "i", 2), (352, "d", 6), (400, "d", 12), (500, "i", 2), (540, "i", 3)),
)
_TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, -1, 99)


def nifti(random: Random, content: bytes) -> bytes:
    """NIfTI-1 or -2 with one to three numbers of the header replaced; the type by another one there is."""
    second = content[:4] == struct.pack("<i", 540)
    damaged = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 3))):
        offset, form = random.choice(_SECOND if second else _FIRST)
        value = number(random, f"<{form}")
        if offset == (12 if second else 70):
            value = struct.pack("<h", random.choice(_TYPES))
        damaged[offset : offset + len(value)] = value
    return bytes(damaged)


_NRRD = (
    "sizes: 99999999 99999999 4",
    "sizes: 9 -8 4",
    "sizes: 0 8 4",
    "sizes: 9 8",
    "sizes: 18446744073709551616 8 4",
    "dimension: 0",
    "dimension: 17",
    "dimension: -1",
    "dimension: 2",
    "type: block",
    "type: double",
    "type: lies",
    "encoding: bzip2",
    "encoding: hex",
    "encoding: ascii",
    "encoding: lies",
    "endian: lies",
    "spacings: 0 nan inf",
    "spacings: 1e-320 1e308 1",
    "space dimension: 9",
    "space directions: (nan,0,0) (0,inf,0) (0,0,0)",
    "space directions: none none none",
    "space directions: (0,0,0) (0,0,0) (0,0,0)",
    "space origin: (nan,inf,-inf)",
    "line skip: -1",
    "line skip: 999999999",
    "byte skip: -99999999999",
    "byte skip: 99999999999",
    "kinds: lies lies lies",
    "data file: scan%03d.raw 1 999999999 1",
    "data file: LIST",
    "content: " + "x" * 100_000,
    "lies:=" + "\\n" * 1000,
    *(f"data file: {path}" for path in ELSEWHERE),
)
_META = (
    "DimSize = 99999999 99999999 4",
    "DimSize = 9 -8 4",
    "DimSize = 0 8 4",
    "DimSize = 9 8",
    "DimSize = 18446744073709551616 8 4",
    "NDims = 0",
    "NDims = 17",
    "NDims = -1",
    "NDims = 999999999",
    "ElementType = MET_LIES",
    "ElementType = MET_DOUBLE",
    "ElementType = MET_STRING",
    "ElementNumberOfChannels = 0",
    "ElementNumberOfChannels = 999999999",
    "ElementNumberOfChannels = -1",
    "ElementSpacing = 0 nan inf",
    "ElementSpacing = -1 1e308 1e-320",
    "TransformMatrix = nan 0 0 0 inf 0 0 0 0",
    "TransformMatrix = 0 0 0 0 0 0 0 0 0",
    "Offset = nan inf -inf",
    "HeaderSize = -1",
    "HeaderSize = 99999999",
    "HeaderSize = -99999999",
    "BinaryData = False",
    "BinaryDataByteOrderMSB = True",
    "CompressedData = True",
    "CompressedData = False",
    "CompressedDataSize = 0",
    "CompressedDataSize = 99999999999",
    "CompressedDataSize = -1",
    "ElementDataFile = LOCAL",
    "ElementDataFile = LIST",
    "ElementDataFile = scan%03d.raw 1 999999999 1",
    "Comment = " + "x" * 100_000,
    *(f"ElementDataFile = {path}" for path in ELSEWHERE),
)


def _with_lines(random: Random, content: bytes, lies: tuple[str, ...], end: bytes) -> bytes:
    """A header of text lines with a few of them replaced, or put before the last line if they are new."""
    for lie in random.sample(lies, random.choice((1, 1, 2))):
        key = re.split(r":|=| =", lie)[0].encode()
        line = re.compile(rb"^" + re.escape(key) + rb"\s*[:=][^\n]*", re.MULTILINE)
        text = lie.encode()
        if line.search(content):
            content = line.sub(lambda match, text=text: text, content, count=1)
        else:
            before, mark, after = content.partition(end)
            content = before + text + b"\n" + mark + after
    return content


def nrrd(random: Random, content: bytes) -> bytes:
    """NRRD with one or two lines of the header replaced."""
    head, gap, voxels = content.partition(b"\n\n")
    return _with_lines(random, head + b"\n", _NRRD, b"\x00") + gap[1:] + voxels


def meta(random: Random, content: bytes) -> bytes:
    """MetaImage with one or two lines of the header replaced."""
    return _with_lines(random, content, _META, b"ElementDataFile")


def elsewhere(random: Random, files: Files) -> Files:
    """A detached header whose data file is none of its business."""
    (name, header), *others = files.items()
    where = random.choice(ELSEWHERE).encode()
    line = rb"(data file: )[^\n]*" if name.endswith(".nhdr") else rb"(ElementDataFile = )[^\n]*"
    return {name: re.sub(line, lambda match: match[1] + where, header), **dict(others)}


def png(random: Random, content: bytes) -> bytes:
    """PNG with numbers of a chunk replaced, under the right checksum."""
    chunks = chunks_of(content)
    place = random.randrange(len(chunks)) if random.random() < 0.5 else 0
    name, data = chunks[place]
    if data:
        damaged = bytearray(data)
        at = random.randrange(len(data))
        value = number(random, random.choice((">b", ">i")))[: len(data) - at]
        damaged[at : at + len(value)] = value
        chunks[place] = name, bytes(damaged)
    if random.random() < 0.3:
        chunks.insert(random.randrange(len(chunks)), random.choice(chunks))
    return from_chunks(chunks)


def chunks_of(content: bytes) -> list[tuple[bytes, bytes]]:
    """Name and data of every chunk of a PNG."""
    chunks, at = [], 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += size + 12
    return chunks


def from_chunks(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks."""
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(random: Random, content: bytes) -> bytes:
    """TIFF with one to three entries of its first directory replaced, or the way to the next directory."""
    large = content[2] == 43
    damaged = bytearray(content)
    start = int.from_bytes(content[8:16] if large else content[4:8], "little")
    count = int.from_bytes(content[start : start + (8 if large else 2)], "little")
    first, width = start + (8 if large else 2), 20 if large else 12
    for _ in range(random.choice((1, 1, 2, 3))):
        entry = first + random.randrange(count + 1) * width  # behind the last one: the next directory
        offset, form = random.choice(((0, "<h"), (2, "<h"), (4, "<i"), (width - 4, "<i"), (width - 4, "<i")))
        if entry == first + count * width:
            offset = 0
        value = number(random, form)
        if random.random() < 0.2:
            value = start.to_bytes(len(value), "little")
        damaged[entry + offset : entry + offset + len(value)] = value
    return bytes(damaged)


def jpeg(random: Random, content: bytes) -> bytes:
    """JPEG with a number of its frame or of a table replaced."""
    at = content.index(random.choice((b"\xff\xc0", b"\xff\xc4", b"\xff\xda", b"\xff\xdb")))
    offset = at + 2 + random.randrange(10)
    value = number(random, random.choice((">b", ">h")))
    return content[:offset] + value + content[offset + len(value) :]


_NPY = (
    "{'descr': '|u1', 'fortran_order': False, 'shape': (99999999999, 99999999999), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-9, 8, 4), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 8, 4), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1e308, 8), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': ('9', 8), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': 9, }",
    "{'descr': '|u1', 'fortran_order': 'lies', 'shape': (9, 8, 4), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (True, 288), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (1,) * 99, }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (" + "1, " * 65 + "288), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (9, 8, 4), }",
    "{'descr': '<U99999999', 'fortran_order': False, 'shape': (9, 8, 4), }",
    "{'descr': '<V0', 'fortran_order': False, 'shape': (9, 8, 4), }",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (9, 8, 4), }",
    "{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (9, 4), }",
    "{'descr': '<f16', 'fortran_order': False, 'shape': (9, 2), }",
    "{'descr': '<lies', 'fortran_order': False, 'shape': (9, 8, 4), }",
    "{'descr': [('a', '<f4'), ('a', '<f4')], 'fortran_order': False, 'shape': (9, 4), }",
    "{'descr': [('a', '<f4', (99999999, 99999999))], 'fortran_order': False, 'shape': (9, 4), }",
    "{'descr': __import__('os').system('touch evil'), 'fortran_order': False, 'shape': (9, 8, 4), }",
    "{'descr': '|u1', 'shape': (9, 8, 4), }",
    "[" * 9000,
    "9" * 9000,
    "-" * 9000 + "1",
    "\x00" * 60,
    "{}",
    "",
)


def npy(random: Random, content: bytes) -> bytes:
    """An `.npy` whose header says something else, in any version, and may lie about its own length."""
    version = random.choice((1, 1, 2, 3, 9))
    text = (random.choice(_NPY) + "\n").encode()
    voxels = content[10 + int.from_bytes(content[8:10], "little") :]
    width = 2 if version == 1 else 4
    size = len(text) if random.random() < 0.8 else random.choice((0, 1, 65535, len(content)))
    return b"\x93NUMPY" + bytes((version, 0)) + size.to_bytes(width, "little") + text + voxels


def npz(random: Random, content: bytes) -> bytes:
    """An `.npz` with strange entries: elsewhere, many, doubled, empty; or one that lies about its sizes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    _, array = entries[0]
    choice = random.randrange(7)
    if choice == 0:
        entries = [
            (random.choice(("../evil.npy", "/tmp/evil.npy", "a/../../evil.npy", "\u202eevil.npy")), array)
        ]
    elif choice == 1:
        entries = [(f"{index}.npy", b"") for index in range(2000)]
    elif choice == 2:
        entries = [entries[0], ("evil.txt", b"x"), ("evil.npy.npy", array)]
    elif choice == 3:
        entries = [(entries[0][0], random.choice((b"", array[:20], npy(random, array), array + array)))]
    elif choice == 4:
        entries = [("x" * 60000 + ".npy", array)]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    packed = bytearray(stream.getvalue())
    if choice >= 5:  # both headers of an entry: the central one and the local one
        for header, fields in (
            (b"PK\x01\x02", (8, 10, 16, 20, 24, 28, 42)),
            (b"PK\x03\x04", (6, 8, 14, 18, 22, 26)),
        ):
            at = packed.index(header) + random.choice(fields)
            value = number(random, random.choice(("<h", "<i")))
            packed[at : at + len(value)] = value
    return bytes(packed)


def dicom(random: Random, content: bytes) -> bytes:
    """A DICOM file with the value of one element replaced, or its length."""
    tags = [
        b"\x28\x00\x10\x00",
        b"\x28\x00\x11\x00",
        b"\x28\x00\x00\x01",
        b"\x28\x00\x30\x00",
        b"\x20\x00\x32\x00",
    ]
    tags += [
        b"\x20\x00\x37\x00",
        b"\x28\x00\x02\x00",
        b"\x28\x00\x03\x01",
        b"\xe0\x7f\x10\x00",
        b"\x02\x00\x10\x00",
    ]
    at = content.find(random.choice(tags))
    if at < 0:
        return number(random, "<q") + content
    offset = at + random.choice((4, 6, 8, 8))
    value = number(random, random.choice(("<h", "<i")))
    return content[:offset] + value + content[offset + len(value) :]


def checkpoint(random: Random, content: bytes) -> bytes:
    """A `.safetensors` whose header lies: of its length, of places, shapes and types, or of the network."""
    header = checkpoint_header(content)
    tensors = content[8 + int.from_bytes(content[:8], "little") :]
    name = random.choice([name for name in header if name != "__metadata__"])
    choice = random.randrange(8)
    if choice == 0:
        size = random.choice((0, 1, 2**31, 2**62, 2**64 - 1, len(content), len(content) - 7, 100_000_001))
        return size.to_bytes(8, "little") + content[8:]
    if choice == 1:
        header[name][random.choice(("dtype", "shape", "data_offsets"))] = random.choice(_LIES)
    elif choice == 2:
        header[name]["shape"] = random.choice(
            ([2**62, 2**62], [0], [-1], [2**32, 2**32, 2], [1] * 10_000, [1.5])
        )
    elif choice == 3:
        header[name]["data_offsets"] = random.choice(
            ([0, 2**62], [5, 1], [-1, 4], [0, 0], [0], [2**64, 2**65])
        )
    elif choice == 4:
        header = random.choice(
            ({}, [], "lies", 1, None, {"__metadata__": {}}, {name: {}}, {name: header[name]})
        )
    elif choice == 5:
        text = random.choice(
            ("[" * 100_000, "{" * 100_000, '{"a":' * 100_000, "\x00" * 50, "{}" * 50, '{"a":1,' * 9, "")
        )
        return len(text).to_bytes(8, "little") + text.encode() + tensors
    elif choice == 6:
        header["__metadata__"] = {"topofix": random.choice(_CONFIGS)}
    else:
        key = next(iter(header.get("__metadata__", {"topofix": "{}"})))
        stored = json.loads(header.get("__metadata__", {key: "{}"})[key])
        _lie_within(random, stored)
        header["__metadata__"] = {key: json.dumps(stored)}
    text = json.dumps(header)
    return len(text.encode()).to_bytes(8, "little") + text.encode() + tensors


def record(random: Random, content: bytes) -> bytes:
    """A Record that lies about what there is, and where; or JSON without end."""
    stored = json.loads(content)
    choice = random.randrange(6)
    if choice == 0:
        return random.choice(
            (b"[" * 100_000, b"{}", b"[]", b"null", b'"lies"', b"9" * 10_000, b'{"a":' * 100_000)
        )
    if choice == 1:
        stored["outputs"][random.choice(list(stored["outputs"]))] = random.choice(
            ("", ".", "..", "/", "a\0b", *ELSEWHERE)
        )
    elif choice == 2:
        names = random.choice(("outputs", "digests", "identity"))
        stored[names] = {name: text for name, text in stored[names].items() if random.random() < 0.5}
    elif choice == 3:
        del stored[random.choice(list(stored))]
    else:
        _lie_within(random, stored)
    return json.dumps(stored).encode()


_LIES = (
    None,
    True,
    0,
    -1,
    2**63,
    1e308,
    "lies",
    "",
    [],
    {},
    [[]],
    "F64",
    "F8_E4M3",
    "I4",
    "BOOL",
    "\ud800",
    ["x"] * 99,
)
_CONFIGS = (
    "",
    "lies",
    "{}",
    "[" * 100_000,
    "[]",
    "null",
    '{"config": {}, "about": {}}',
    '{"config": [], "about": []}',
    '{"config": {"dimensions": 1e999}, "about": {}}',
    '{"config": ' + "9" * 10_000 + "}",
)


def _lie_within(random: Random, stored: object) -> None:
    """Replaces one value, somewhere inside what JSON holds."""
    while isinstance(stored, dict | list) and stored:
        key = random.choice(list(stored) if isinstance(stored, dict) else range(len(stored)))
        inner = stored[key]
        if not isinstance(inner, dict | list) or not inner or random.random() < 0.3:
            stored[key] = random.choice(
                (*_LIES, *REAL, 10**9, [10**9, 10**9], [-1, 2], [2.5, 2.5], ["a"] * 9999)
            )
            return
        stored = inner
