"""A header that accounts for every byte of its file is read, and any other refused before tensors are."""

import json
import os
import re
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from topofix.learning.tensor_file import MOST_AXES, WIDTHS, StoredTensor, read_header, read_tensors

TENSORS = {
    "a.weight": torch.arange(24.0).reshape(2, 3, 4).half(),
    "b.count": torch.tensor(7),
    "c.empty": torch.zeros(0, 5),
    "d.mask": torch.tensor([True, False, True]),
}


@pytest.fixture
def file(tmp_path) -> Path:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"key": "text"})
    return tmp_path / "x.safetensors"


def made(path: Path, header, data: bytes = b"", length: int | None = None) -> Path:
    """A file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def tensor(dtype="F32", shape=(2,), start=0, stop=8, **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop], **more}


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_header(path)
    with pytest.raises(ValueError, match=re.escape(str(caught.value))):
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300
    return str(caught.value)


def test_a_sound_header_says_what_the_file_holds(file):
    header = read_header(file)
    assert header.metadata == {"key": "text"}
    assert header.tensors == {
        "a.weight": StoredTensor("F16", (2, 3, 4)),
        "b.count": StoredTensor("I64", ()),
        "c.empty": StoredTensor("F32", (0, 5)),
        "d.mask": StoredTensor("BOOL", (3,)),
    }
    assert header.numbers == 24 + 1 + 0 + 3
    assert all(t.is_floating_point == (t.dtype[0] == "F") for t in header.tensors.values())
    for name, value in read_tensors(file).items():
        assert torch.equal(value, TENSORS[name])


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float64, torch.int8, torch.uint8, torch.float8_e4m3fn]
)
def test_every_type_has_its_width(tmp_path, dtype):
    save_file({"a": torch.zeros(5, dtype=dtype)}, tmp_path / "x.safetensors")
    stored = read_header(tmp_path / "x.safetensors").tensors["a"]
    assert WIDTHS[stored.dtype] == dtype.itemsize
    assert stored.is_floating_point == dtype.is_floating_point


@pytest.mark.parametrize(
    ("header", "data", "says"),
    [
        ([], b"", "a header that is no object"),
        (b"{", b"", "no JSON in its header: Expecting property name enclosed in double quotes"),
        (b"\xff\xff", b"", "no JSON in its header: 'utf-8' codec can't decode"),
        (b"[" * 100_000, b"", "no JSON in its header: maximum recursion depth exceeded"),
        (b'{"a": 1' + b"0" * 5000 + b"}", b"", "no JSON in its header: Exceeds the limit"),
        (b'{"a": {}, "a": {}}', b"", "no JSON in its header: a name that stands there twice"),
        (
            b'{"__metadata__": {"x": "1", "x": "2"}}',
            b"",
            "no JSON in its header: a name that stands there twice",
        ),
        ({"__metadata__": []}, b"", "metadata other than text by key"),
        ({"__metadata__": {"a": 1}}, b"", "metadata other than text by key"),
        ({"a": 3}, b"", "tensor 'a' without type, shape and extent alone"),
        ({"a": {"dtype": "F32", "shape": [2]}}, bytes(8), "tensor 'a' without type, shape and extent alone"),
        ({"a": tensor(more=1)}, bytes(8), "tensor 'a' without type, shape and extent alone"),
        ({"a": tensor("F13")}, bytes(8), "tensor 'a' of type 'F13'"),
        ({"a": tensor(["F32"])}, bytes(8), "tensor 'a' of type ['F32']"),
        ({"a": tensor(shape=(-2, -1))}, bytes(8), "tensor 'a' of shape [-2, -1] at [0, 8]"),
        ({"a": tensor(shape=(2.0,))}, bytes(8), "tensor 'a' of shape [2.0] at [0, 8]"),
        ({"a": tensor(shape=(True, 2))}, bytes(8), "tensor 'a' of shape [True, 2] at [0, 8]"),
        ({"a": tensor(start=-8, stop=0)}, bytes(8), "tensor 'a' of shape [2] at [-8, 0]"),
        ({"a": {**tensor(), "data_offsets": [0]}}, bytes(8), "tensor 'a' of shape [2] at [0]"),
        ({"a": {**tensor(), "shape": "2"}}, bytes(8), "tensor 'a' of shape '2' at [0, 8]"),
        (
            {"a": tensor(shape=(10**9, 10**9))},
            bytes(8),
            "tensor 'a' of shape [1000000000, 1000000000] and type F32",
        ),
        ({"a": tensor(stop=4)}, bytes(4), "tensor 'a' of shape [2] and type F32 at [0, 4]"),
        ({"a": tensor(start=8, stop=0)}, bytes(8), "tensor 'a' of shape [2] and type F32 at [8, 0]"),
        ({"a": tensor(), "b": tensor()}, bytes(8), "tensor 'b' at 0 B where 8 B are taken"),
        ({"a": tensor(), "b": tensor(start=4, stop=12)}, bytes(12), "tensor 'b' at 4 B where 8 B are taken"),
        ({"a": tensor(start=8, stop=16)}, bytes(16), "tensor 'a' at 8 B where 0 B are taken"),
        ({"a": tensor()}, bytes(7), "7 B of tensors where its header promises 8 B"),
        ({"a": tensor()}, bytes(9), "9 B of tensors where its header promises 8 B"),
        ({}, bytes(1), "1 B of tensors where its header promises 0 B"),
        (
            {"a": tensor(shape=[1] * MOST_AXES + [2])},
            bytes(8),
            "tensor 'a' of shape [1, 1, 1, 1, 1, 1, ...] at",
        ),
        ({"a" * 10_000: 3}, b"", "tensor 'aaaaaaaaaaaa...aaaaaaaaaaaaa' without"),
        ({"a\nb": 3}, b"", r"tensor 'a\nb' without"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header, data, says):
    assert says in refused(made(tmp_path / "x.safetensors", header, data))


@pytest.mark.parametrize("size", range(9))
def test_a_file_without_room_for_a_header_is_refused(tmp_path, size):
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"\1" * size)
    assert re.fullmatch(rf"a header of \d+ B in a file of {size} B", refused(path))


def test_a_header_longer_than_the_file_or_than_any_is_refused_unread(tmp_path):
    path = made(tmp_path / "x.safetensors", {}, length=2**63)
    assert refused(path) == f"a header of {2**63} B in a file of 10 B"
    made(path, {}, length=2**30)
    os.truncate(path, 2**31)
    assert refused(path) == f"a header of {2**30} B in a file of {2**31} B"


def test_a_shape_that_takes_hours_to_multiply_is_refused_at_once(tmp_path):
    header = {"a": tensor(shape=[10**4000] * 3000)}
    assert "tensor 'a' of shape [1000" in refused(made(tmp_path / "x.safetensors", header, bytes(8)))


def test_what_only_the_library_finds_is_told_as_well(file, monkeypatch):
    def fail(path):
        raise SafetensorError("something else")

    monkeypatch.setattr("safetensors.torch.load_file", fail)
    with pytest.raises(ValueError, match=r"^something else$"):
        read_tensors(file)


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        read_header(tmp_path / "none.safetensors")


@given(place=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=200, deadline=None)
def test_what_passes_here_is_read_by_the_library(tmp_path_factory, place, value, cut):
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    save_file(TENSORS, path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] = value
    path.write_bytes(content[: int(place * len(content))] if cut else content)
    try:
        header = read_header(path)
    except ValueError:
        return
    stored = load_file(path)
    assert {name: tuple(value.shape) for name, value in stored.items()} == {
        name: stated.shape for name, stated in header.tensors.items()
    }
