"""What a file may ask for: told from its kind, its size and its header, before memory is taken.

Files come from anywhere. One that promises more voxels than are allowed, or more than its bytes can be
unpacked to, is refused with one sentence. So is what is no file, such as a pipe: whoever opens it would wait.
"""

import stat
from pathlib import Path

from topofix.errors import TopofixError, UnreadableFile

MOST_BYTES = 2**25
"""Of a table or another file of text."""

DEFLATED = 1032
"""Bytes at most that deflate, and so gzip and zip, packs into one."""

_LONGEST_TEXT = 100  # characters

_LARGEST_VOXEL = 16  # bytes
LARGEST_HEADER = 2**26
"""Bytes of what a file holds beside its voxels."""

_NO_FILE = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_kind(path: Path, expected: str) -> None:
    """Refuses a pipe, a socket or a device without opening it: it may block, or never end.

    Where there is nothing, or a folder, the one who opens it says so.

    Args:
        path: what is to be opened.
        expected: what it should be, such as `an image file`.

    Raises:
        UnreadableFile: it is no file.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # a name with a zero byte is the latter
        return
    if found := _NO_FILE.get(stat.S_IFMT(mode)):
        raise UnreadableFile(f"{path}: expected {expected}, found {found}")


def check_name(path: Path, error: type[TopofixError] = UnreadableFile) -> None:
    """Refuses a path that is no text in UTF-8: ITK ends the process that asks for it.

    Raises:
        TopofixError: it is none; of the type that is given.
    """
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise error(f"{shown(path.name)}: expected a path in UTF-8, found other bytes in it") from None


def check_count(path: Path, voxels: int, most: int) -> None:
    """Refuses a header that promises too many voxels.

    Raises:
        UnreadableFile: there are more than `most`.

    Example:
        >>> check_count(Path("scan.nii"), 2**29, 2**28)
        Traceback (most recent call last):
        topofix.errors.UnreadableFile: scan.nii: expected at most 268435456 voxels, found 536870912 in its \
header; --max-voxels allows more
    """
    if voxels > most:
        raise UnreadableFile(
            f"{path}: expected at most {most} voxels, found {voxels} in its header; --max-voxels allows more"
        )


def largest_size(most: int) -> int:
    """Bytes beyond which a file is none of an image of so many voxels."""
    return LARGEST_HEADER + _LARGEST_VOXEL * most


def check_size(path: Path, most: int) -> None:
    """Refuses a file that is larger than so many voxels can be, before it is read whole.

    Raises:
        UnreadableFile: it is.
    """
    largest = largest_size(most)
    if (size := path.stat().st_size) > largest:
        raise UnreadableFile(
            f"{path}: expected at most {largest} B for {most} voxels, found {size}; --max-voxels allows more"
        )


def check_room(path: Path, promised: int, room: int) -> None:
    """Refuses a header that promises more than the file can hold.

    Args:
        path: the file.
        promised: bytes of voxels, by the header.
        room: bytes that the file can be unpacked to, at most.

    Raises:
        UnreadableFile: it does not fit in.
    """
    if promised > room:
        raise UnreadableFile(
            f"{path}: expected room for the {promised} B of voxels that its header promises, found {room} B: "
            "it is truncated or damaged"
        )


def shown(value: object) -> str:
    """What somebody wrote, on one line and not longer than a sentence bears.

    Example:
        >>> shown("one"), shown("x" * 1000)[-6:]
        ("'one'", 'xxx...')
    """
    text = repr(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}..."


def read_text(path: Path, kind: str, most: int = MOST_BYTES) -> str:
    """Reads a file of text: UTF-8, with or without the byte order mark that editors and spreadsheets write.

    Args:
        path: the file.
        kind: what it should be, such as `prior CSV`.
        most: bytes that it may have.

    Raises:
        UnreadableFile: it is missing, no file, too large, or no UTF-8.
    """
    check_kind(path, f"a {kind}")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise UnreadableFile(f"{path}: expected a {kind} of at most {most} B, found more")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UnreadableFile(f"{path}: expected a {kind}, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{path}: expected UTF-8, found byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
