"""The text headers of NRRD and MetaImage files, looked through before ITK reads them.

ITK's parsers trust a header: too many axes, a long line or a strange pattern of names make them write beyond
their memory, and the voxels may be said to lie in any file of the machine. Only headers without such
surprises pass. What they say of the image is ITK's to read; here it counts where its voxels are.
"""

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO, Literal, NamedTuple

from topofix.errors import UnreadableFile, UnwritableFile
from topofix.imaging.bounds import DEFLATED, check_kind, check_room, shown

_MOST_HEADER = 2**20  # bytes
_MOST_LINE = 512  # bytes of a field of NRRD: ITK copies some to where 1,024 are too many
_MOST_FILES = 2**15
_CHUNK = 2**22

_LINE = re.compile(rb"([^\r\n]*)(?:\r\n|\r|\n|\Z)")
_PATTERN = re.compile(
    rb"([^%\s]*%0?[0-9]{0,2}d[^%\s]*)\s+([0-9]{1,9})\s+([0-9]{1,9})\s+([1-9][0-9]{0,8})(\s+[0-9]+)?"
)
_LIST = re.compile(rb"LIST(\s+[0-9]+)?")

_LONG_FIELDS = ("content", "sampleunits")
_NRRD_PACKING = {"raw": 1, "hex": 1, "gz": DEFLATED, "gzip": DEFLATED} | dict.fromkeys(
    ("txt", "text", "ascii"), 4
)
"""Bytes of voxels at most that come of a stored byte; of text, a digit and a space may be 8 bytes."""


_DETACHED = {
    ".nhdr": (b"\n\n", b"\ndata file: ", ".raw.gz"),
    ".mhd": (b"ElementDataFile = LOCAL\n", b"ElementDataFile = ", ".zraw"),
}
"""Where the header ends in a file that holds voxels as well, what names the data file, and its suffix."""


class Storage(NamedTuple):
    """Where the voxels of a file are.

    Attributes:
        files: the files that they lie in; the file itself where they follow its header.
        start: where they begin in the first of them.
        packing: bytes of voxels at most that come of a stored byte; None where nobody knows.
        form: how the one file of them is packed, if deflate is what packs it.
        stated: how many bytes are packed voxels, where the header says so; else 0.
    """

    files: tuple[Path, ...]
    start: int
    packing: int | None
    form: Literal["gzip", "zlib"] | None
    stated: int = 0


def read_storage(path: Path) -> Storage:
    """Reads the header of a `.nrrd`, `.nhdr`, `.mha` or `.mhd`.

    Raises:
        UnreadableFile: a header that ITK should not see, or a data file that is missing, no file, or not
            below the header's folder.
        ValueError: a header of something else.
    """
    with path.open("rb") as file:
        content = file.read(_MOST_HEADER)
    return _of_nrrd(path, content) if path.suffix.lower() in (".nrrd", ".nhdr") else _of_meta(path, content)


def detach(whole: Path, path: Path) -> None:
    """Makes two files of one in which voxels follow their header: the header, and a data file beside it.

    Args:
        whole: a `.nrrd` or `.mha`, as ITK writes it; it is gone in the end.
        path: the `.nhdr` or `.mhd`, whose name the data file has, too.

    Raises:
        UnwritableFile: a name that the header cannot give to the data file, so that it would be found again.
    """
    mark, field, ending = _DETACHED[path.suffix]
    header, _, voxels = whole.read_bytes().partition(mark)
    data = path.with_name(path.stem + ending)
    data.write_bytes(voxels)
    path.write_bytes(header + field + os.fsencode(data.name) + b"\n")
    whole.unlink()
    try:
        found = read_storage(path).files == (data,)
    except (UnreadableFile, ValueError):
        found = False
    if not found:
        raise UnwritableFile(
            f"{path.name}: expected a name that a header can give to a data file, found one that it cannot; "
            "a .nrrd or .mha needs none"
        )


def check_storage(path: Path, storage: Storage, promised: int) -> None:
    """Refuses a header that promises other voxels than there are: ITK reads less of some and keeps quiet.

    What deflate packed is unpacked to its end, piece by piece, so that its checksum is verified.

    Args:
        path: the file.
        storage: where its voxels are.
        promised: their bytes, by the header.

    Raises:
        UnreadableFile: there is too little, or packed voxels are damaged, more or less.
    """
    stored = sum(file.stat().st_size for file in storage.files) - storage.start
    if storage.packing:
        check_room(path, promised, max(0, storage.packing * stored))
    if storage.form is None:
        return
    if stored > 2 * promised + _CHUNK:  # ITK reads all of it at once
        raise UnreadableFile(f"{path}: expected {promised} B of voxels in compressed form, found {stored} B")
    found = 0
    try:
        with storage.files[0].open("rb") as file:
            file.seek(storage.start)
            for size in _unpacked(file, storage.form, storage.stated or stored):
                found += size
                if found > promised:
                    break
    except (zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise UnreadableFile(f"{path}: expected intact voxels, found damaged ones ({error})") from error
    if found != promised:
        amount = "more" if found > promised else f"{found} B"
        raise UnreadableFile(
            f"{path}: expected {promised} B of voxels, found {amount}: it is damaged or truncated"
        )


def _unpacked(file: BinaryIO, form: Literal["gzip", "zlib"], packed: int) -> Iterator[int]:
    """The sizes of the pieces that so many bytes unpack to, from where a file stands."""
    if form == "gzip":
        with gzip.GzipFile(fileobj=file) as unpacked:
            while piece := unpacked.read(_CHUNK):
                yield len(piece)
        return
    stream = zlib.decompressobj()
    while not stream.eof:
        if not (chunk := stream.unconsumed_tail):
            chunk = file.read(min(_CHUNK, packed))
            packed -= len(chunk)
        if not chunk:
            raise EOFError("they end early")
        yield len(stream.decompress(chunk, _CHUNK))


def _of_nrrd(path: Path, content: bytes) -> Storage:
    if not content.startswith(b"NRRD"):
        raise ValueError("no NRRD")
    fields: dict[str, bytes] = {}
    lines, end = _lines(path, content, 0), 0
    next(lines)
    for line, end in lines:  # noqa: B007 - where the last one ends, the voxels begin
        if not line:
            break
        name, colon, value = line.partition(b":")
        if line.startswith(b"#") or value.startswith(b"="):
            continue
        field = name.decode("latin-1").replace(" ", "").lower()
        if field in fields:
            raise UnreadableFile(f"{path}: expected the field {_shown(name)} once, found it repeated")
        if len(line) > _MOST_LINE and (field not in _LONG_FIELDS or not colon):
            raise UnreadableFile(
                f"{path}: expected at most {_MOST_LINE} B in a line of its header, found {len(line)}"
            )
        fields[field] = value.strip()
        if field == "datafile" and value.strip().startswith(b"LIST"):
            break  # names follow to the end
    encoding = fields.get("encoding", b"raw").decode("latin-1").lower()
    skips = [fields.get(name, b"0") for name in ("lineskip", "byteskip")]
    if encoding != "raw" and skips[1].startswith(b"-"):
        raise UnreadableFile(
            f"{path}: expected a byte skip from 0 on for {shown(encoding)}, found {_shown(skips[1])}"
        )
    attached = "datafile" not in fields
    files = (path,) if attached else _files(path, fields["datafile"], lines)
    packed = encoding in ("gz", "gzip") and len(files) == 1 and skips == [b"0", b"0"]
    start = end if attached else 0
    return Storage(files, start, _NRRD_PACKING.get(encoding), "gzip" if packed else None)


def _of_meta(path: Path, content: bytes) -> Storage:
    header, marker, _ = content.partition(b"ElementDataFile")
    if not marker:
        raise ValueError("no MetaImage")
    if header.rstrip(b" \t")[-1:] not in (b"", b"\r", b"\n"):
        raise UnreadableFile(f"{path}: expected ElementDataFile at the start of a line, found it within one")
    fields = dict.fromkeys((b"NDims", b"DimSize", b"ElementType"), b"")
    for text in header.splitlines():
        key, _, value = text.replace(b":", b"=", 1).partition(b"=")
        fields[key.strip()] = value.strip()
    if header.count(b"NDims") != 1 or not re.fullmatch(rb"[1-9]", fields[b"NDims"]):
        raise UnreadableFile(
            f"{path}: expected a line NDims with a number from 1 to 9, found {_shown(fields[b'NDims'])}"
        )
    if not fields[b"DimSize"] or not fields[b"ElementType"]:
        raise UnreadableFile(f"{path}: expected the lines DimSize and ElementType, found one missing")
    line = _LINE.match(content, len(header))
    assert line is not None  # it matches anything
    name = line[1].removeprefix(marker).strip().removeprefix(b"=").removeprefix(b":").strip()
    attached = name.lower() == b"local"
    files = (path,) if attached else _files(path, name, _lines(path, content, line.end()))
    deflated = _is_true(fields.get(b"CompressedData", b""))
    packing = DEFLATED if deflated else 1 if _is_true(fields.get(b"BinaryData", b"")) else 4
    start = line.end() if attached else 0
    if re.fullmatch(rb"[0-9]{1,18}", skip := fields.get(b"HeaderSize", b"")):
        start = int(skip) or start
    if not deflated or len(files) > 1:
        return Storage(files, start, packing, None)
    size = fields.get(b"CompressedDataSize", b"")
    stated = int(size) if re.fullmatch(rb"[0-9]{1,18}", size) else 0
    if attached and not stated:  # ITK would not find the end, and keep quiet
        raise UnreadableFile(f"{path}: expected CompressedDataSize in its header, found {_shown(size)}")
    return Storage(files, start, packing, "zlib", stated)


def _is_true(value: bytes) -> bool:
    """As MetaImage has it."""
    return value[:1] in (b"T", b"t", b"1")


def _lines(path: Path, content: bytes, start: int) -> Iterator[tuple[bytes, int]]:
    """The lines of a header from a place on, without their ends, and where the next ones begin.

    Raises:
        UnreadableFile: one is not over where a header has to be.
    """
    while start < len(content):
        line = _LINE.match(content, start)
        assert line is not None  # it matches anything
        start = line.end()
        if start == _MOST_HEADER:
            raise UnreadableFile(f"{path}: expected a header of at most {_MOST_HEADER} B, found more")
        yield line[1], start


def _files(path: Path, value: bytes, following: Iterator[tuple[bytes, int]]) -> tuple[Path, ...]:
    """The data files that a header names: one, a list in the lines that follow, or a pattern with numbers.

    Raises:
        UnreadableFile: one that is missing, no file or elsewhere; none, or too many.
    """
    if value.startswith(b"LIST"):
        if not _LIST.fullmatch(value):
            raise UnreadableFile(f"{path}: expected LIST and a number of axes, found {_shown(value)}")
        names = [name for line, _ in following if (name := line.strip())]
    elif b"%" in value:
        if not (pattern := _PATTERN.fullmatch(value)):
            raise UnreadableFile(
                f"{path}: expected data files such as 'slice%03d.raw 1 20 1', found {_shown(value)}"
            )
        first, last, step = (int(pattern[group]) for group in (2, 3, 4))
        names = [pattern[1] % number for number in range(first, last + 1, step)[: _MOST_FILES + 1]]
    else:
        names = [value]
    if not 0 < len(names) <= _MOST_FILES:
        found = "more" if names else "none"
        raise UnreadableFile(f"{path}: expected from 1 to {_MOST_FILES} data files, found {found}")
    return tuple(_file(path, os.fsdecode(name)) for name in names)


def _file(path: Path, name: str) -> Path:
    """A data file, in the folder of its header or in a folder there."""
    windows = PureWindowsPath(name)
    elsewhere = PurePosixPath(name).is_absolute() or windows.anchor or ".." in windows.parts or "\0" in name
    if elsewhere or name.startswith(("~", "=", ":")):  # which ITK has for a home, and for a part of the line
        raise UnreadableFile(
            f"{path}: expected a data file below its own folder, neither absolute nor with .., "
            f"found {_shown(os.fsencode(name))}"
        )
    file = path.parent / name
    check_kind(file, "a data file")
    if len(name) > _MOST_LINE or not file.is_file():
        raise UnreadableFile(
            f"{path}: expected its data file {_shown(os.fsencode(name))} beside it, found none"
        )
    return file


def _shown(value: bytes) -> str:
    """A stranger's text, on one short line."""
    return shown(value.decode("utf-8", "backslashreplace"))
