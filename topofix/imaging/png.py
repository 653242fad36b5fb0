"""Whether a PNG holds all that its header promises. Pillow leaves rows empty that are not there.

A PNG is a row of chunks: length, name, data, checksum. `IHDR` comes first and says how large the picture is;
the data of all `IDAT` are one deflated stream: of each row a byte for its filter, then its pixels, packed. An
interlaced picture is seven pictures, one after the other, of fewer pixels each.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from topofix.errors import UnreadableFile

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by type of colour
_WHOLE = ((0, 0, 1, 1),)
_INTERLACED = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
"""First column and row and the steps between them, of each picture in a picture."""

_CHUNK = 2**22


def check_png(path: Path) -> None:
    """Refuses a PNG that holds fewer rows than its header promises, has two headers, or no end.

    The file is one that Pillow has verified: its chunks have the right checksums.

    Raises:
        UnreadableFile: it is one of these.
    """
    stream, promised, found, headers, ended = zlib.decompressobj(), 0, 0, 0, False
    with path.open("rb") as file:
        for name, data in _chunks(file):
            if name == b"IHDR":
                headers += 1
                promised = _size(data)
            elif name == b"IDAT":
                while data and found < promised:
                    found += len(stream.decompress(data, _CHUNK))
                    data = stream.unconsumed_tail
            ended = name == b"IEND"
    if headers != 1 or not ended:
        raise UnreadableFile(f"{path}: expected a whole PNG, found it truncated")
    if found < promised:
        raise UnreadableFile(
            f"{path}: expected {promised} B of pixels, found {found} B: it is damaged or truncated"
        )


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Name and data of every chunk up to the end of the picture or of the file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(len(_SIGNATURE))
    while len(head := file.read(8)) == 8:
        size, name = struct.unpack(">I4s", head)
        if file.tell() + size + 4 > end:
            return
        yield name, file.read(size)
        if name == b"IEND":
            return
        file.seek(4, os.SEEK_CUR)


def _size(header: bytes) -> int:
    """Bytes of all rows."""
    width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS[colour]
    total = 0
    for left, top, right, down in _INTERLACED if interlaced else _WHOLE:
        columns, rows = (width - left + right - 1) // right, (height - top + down - 1) // down
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    return total
