"""Whether the elements of a DICOM file fit into it, and how deep its sequences lie in one another.

GDCM takes memory for whatever length an element states. And it calls itself for every level, so that some ten
thousand of them, a few hundred kilobytes of a file, exhaust the stack of a process and end it. Here they are
counted without recursion:

    element of type SQ             a sequence: level 1
      item                         level 2
        element of type SQ         level 3
          item ... end of item     level 4
          end of sequence
      end of item                  ends are only written where a sequence or an item has no length
    end of sequence
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from topofix.errors import UnreadableFile

Order = Literal["little", "big"]

MOST_LEVELS = 128
"""Of a file with many items; those of scanners have about ten."""

_FEW_ITEMS = 4096  # that cannot lie deep enough in one another to do harm
_NO_LENGTH = 2**32 - 1
_ITEM, _END_OF_ITEM, _END_OF_SEQUENCE, _PIXELS = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD, 0x7FE00010  # tags
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""The types whose elements have a length of four bytes, where types are written at all."""

_SHORT = "AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US"
TYPES = _LONG | frozenset(_SHORT.encode().split())
"""Every type there is."""

_UNKNOWN = (b"", b"UN")  # what may be a sequence: if it begins with an item


class _Level(NamedTuple):
    """A sequence, an item, or packed pixels, whose items hold no elements."""

    tag: int
    end: float
    typed: bool


def check_elements(path: Path, content: bytes, start: int, typed: bool, order: Order) -> None:
    """Refuses a file whose elements are longer than it, or whose sequences lie too deep in one another.

    Args:
        path: the file.
        content: all of it.
        start: where its elements begin, behind the group that says how they are written.
        typed: whether they say their types.
        order: of their bytes.

    Raises:
        UnreadableFile: they are or do, or so that nobody can tell how deep.
    """
    items = left = content.count(_bytes(_ITEM, order))
    for level, tag, end in _walk(content, start, typed, order):
        left -= tag == _ITEM
        if end > len(content):
            raise no_slice(path)
        if level > MOST_LEVELS and items > _FEW_ITEMS:
            raise UnreadableFile(f"{path}: expected at most {MOST_LEVELS} levels of sequences, found more")
    if left > _FEW_ITEMS:
        raise UnreadableFile(f"{path}: expected every item in a sequence, found {left} anywhere else")


def _walk(content: bytes, start: int, typed: bool, order: Order) -> Iterator[tuple[int, int, int]]:
    """Level, tag and end of every element, up to the first that is odd or where it should not be."""
    item = _bytes(_ITEM, order)
    levels = [_Level(0, math.inf, typed)]
    at = start
    while at + 8 <= len(content):
        while at >= levels[-1].end:
            levels.pop()
        top, begin = levels[-1], at
        tag, kind, size, at = element(content, begin, top.typed, order)
        if kind and not is_typed(content, begin):
            return
        is_sequence = kind in _UNKNOWN and content[at : at + 4] == item
        yield len(levels), tag, at if size == _NO_LENGTH else at + size
        if tag in (_END_OF_ITEM, _END_OF_SEQUENCE):
            if (tag == _END_OF_ITEM) != (top.tag == _ITEM) or top.end < math.inf or not top.tag:
                return
            levels.pop()
        elif size == _NO_LENGTH or tag == _ITEM or kind == b"SQ" or is_sequence:
            if top.tag == _PIXELS:
                at += size
            else:
                end = math.inf if size == _NO_LENGTH else at + size
                levels.append(_Level(tag, end, top.typed and kind != b"UN"))
        else:
            at += size


def is_typed(content: bytes, at: int) -> bool:
    """Whether the element that begins there says its type, whatever the file says of all."""
    kind = content[at + 4 : at + 6]
    return kind.isalpha() and kind.isupper()


def no_slice(path: Path) -> UnreadableFile:
    """The error that says so."""
    return UnreadableFile(
        f"{path}: expected a slice of a DICOM series, found a file that is damaged or holds no image"
    )


def element(content: bytes, at: int, typed: bool, order: Order) -> tuple[int, bytes, int, int]:
    """Tag, type (empty where there is none), length of the value and its first byte, of an element."""
    group, number = (int.from_bytes(content[at + k : at + k + 2], order) for k in (0, 2))
    tag, kind = group << 16 | number, content[at + 4 : at + 6]
    if not typed or group == _ITEM >> 16:
        return tag, b"", int.from_bytes(content[at + 4 : at + 8], order), at + 8
    if kind in _LONG:
        return tag, kind, int.from_bytes(content[at + 8 : at + 12], order), at + 12
    return tag, kind, int.from_bytes(content[at + 6 : at + 8], order), at + 8


def _bytes(tag: int, order: Order) -> bytes:
    """A tag as it is stored: two numbers of two bytes."""
    return (tag >> 16).to_bytes(2, order) + (tag & 0xFFFF).to_bytes(2, order)
