"""What a `.safetensors` file says it holds, checked before any of it is used.

Such a file is a length in eight bytes, a header in JSON of that length, and the numbers of all tensors
without a gap. A header that does not account for every byte of the file to its end is refused.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from reprlib import repr as shown  # a stranger's names and numbers can be of any length
from typing import Any, NamedTuple

from torch import Tensor

WIDTHS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 2),
    **dict.fromkeys(("I32", "U32", "F32"), 4),
    **dict.fromkeys(("I64", "U64", "F64"), 8),
}
"""Bytes of one number, by the name of its type."""

MOST_HEADER = 2**25
"""Bytes; the history of a long training on many cases takes a hundredth of it."""


MOST_AXES = 64
"""Of a tensor, as PyTorch has it."""


class StoredTensor(NamedTuple):
    """Type, by a name of `WIDTHS`, and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def is_floating_point(self) -> bool:
        """Whether its numbers are no integers."""
        return self.dtype.startswith(("F", "BF"))


class Header(NamedTuple):
    """The tensors of a file by name, and the text that goes with them by key."""

    tensors: Mapping[str, StoredTensor]
    metadata: Mapping[str, str]

    @property
    def numbers(self) -> int:
        """How many numbers the tensors have."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors.values())


def read_header(path: Path) -> Header:
    """Reads the header of a file and holds it against the file's size.

    Raises:
        ValueError: It is no such file, or a damaged one; the text says what is wrong.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, MOST_HEADER):
            raise ValueError(f"a header of {length} B in a file of {size} B")
        text = file.read(length)
    try:
        entries = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON in its header: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError("a header that is no object")
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata other than text by key")
    extents = {name: _extent(name, entry) for name, entry in entries.items()}
    end = 0
    for name, (start, stop) in sorted(extents.items(), key=lambda item: item[1]):
        if start != end:
            raise ValueError(f"tensor {shown(name)} at {start} B where {end} B are taken")
        end = stop
    if end != size - 8 - length:
        raise ValueError(f"{size - 8 - length} B of tensors where its header promises {end} B")
    tensors = {name: StoredTensor(entry["dtype"], tuple(entry["shape"])) for name, entry in entries.items()}
    return Header(tensors, metadata)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads all tensors of a file whose header is sound.

    Raises:
        ValueError: It is not.
        OSError: It cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    read_header(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name that stands there twice")
    return found


def _extent(name: str, entry: Any) -> tuple[int, int]:
    """Where a tensor begins and ends, if type, shape and extent agree."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {shown(name)} without type, shape and extent alone")
    dtype, shape, extent = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in WIDTHS:
        raise ValueError(f"tensor {shown(name)} of type {shown(dtype)}")
    if not _counts(shape) or len(shape) > MOST_AXES or not _counts(extent) or len(extent) != 2:
        raise ValueError(f"tensor {shown(name)} of shape {shown(shape)} at {shown(extent)}")
    start, stop = extent
    if stop - start != math.prod(shape) * WIDTHS[dtype]:
        raise ValueError(f"tensor {shown(name)} of shape {shown(shape)} and type {dtype} at {shown(extent)}")
    return start, stop


def _counts(values: Any) -> bool:
    """Whether they are a list of whole numbers from 0 on."""
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
