"""What a file asks for is told before it is opened, read or given memory."""

import os
import socket
from pathlib import Path

import pytest

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import (
    MOST_BYTES,
    check_count,
    check_kind,
    check_room,
    check_size,
    read_text,
    shown,
)
from topofix.imaging.case_lists import read_cases
from topofix.imaging.constraints import read_constraints
from topofix.imaging.datasets import read_dataset, read_pair
from topofix.imaging.frames import read_frames
from topofix.imaging.frozen import read_frozen
from topofix.imaging.maps import read_maps
from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import find_images, read


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def bound_socket(path: Path) -> Path:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may have a hundred bytes
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)
    return path


def device(path: Path) -> Path:
    path.symlink_to("/dev/zero")
    return path


KINDS = {"a pipe": pipe, "a socket": bound_socket, "a device": device}


@pytest.mark.parametrize(("found", "make"), KINDS.items(), ids=KINDS)
@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.mha", "x.png", "x.tif", "x.npz", "x"])
def test_what_is_no_file_is_refused_as_an_image_without_waiting(tmp_path, found, make, name):
    path = make(tmp_path / name)
    for reader in (read, read_frames, read_maps, lambda path: read_frozen(path, [])):
        with pytest.raises(UnreadableFile) as refused:
            reader(path)
        assert str(refused.value) == f"{path}: expected an image file, found {found}"


@pytest.mark.parametrize(("found", "make"), KINDS.items(), ids=KINDS)
@pytest.mark.parametrize(
    ("name", "reader", "expected"),
    [
        ("x.csv", read_priors, "a prior CSV"),
        ("x.csv", read_dataset, "a CSV table of cases"),
        ("x.csv", read_cases, "a case list"),
        ("x.toml", read_constraints, "a prior TOML"),
    ],
)
def test_what_is_no_file_is_refused_as_a_table_without_waiting(tmp_path, found, make, name, reader, expected):
    path = make(tmp_path / name)
    with pytest.raises(UnreadableFile) as refused:
        reader(path)
    assert str(refused.value) == f"{path}: expected {expected}, found {found}"


def test_a_table_that_names_a_pipe_is_refused_when_its_case_is_read(tmp_path):
    pipe(tmp_path / "a.png")
    (tmp_path / "data.csv").write_text("image,label\na.png,a.png\n")
    (file,) = read_dataset(tmp_path / "data.csv").files
    with pytest.raises(UnreadableFile, match=r"a\.png: expected an image file, found a pipe$"):
        read_pair(file)


@pytest.mark.parametrize("path", ["nowhere", "zero\0byte", "x" * 300])
def test_what_is_not_there_is_left_to_whoever_opens_it(path, tmp_path):
    check_kind(Path(path), "a file")
    check_kind(tmp_path, "a file")


@pytest.mark.parametrize(
    "target", ["loop.nii", "folder", ".", "nowhere"], ids=["itself", "a folder", "its own folder", "nothing"]
)
def test_links_that_lead_round_end_the_search_of_images(tmp_path, target):
    (tmp_path / "folder").mkdir()
    for place in (tmp_path, tmp_path / "folder"):
        (place / "scan.nii").touch()
    (tmp_path / "loop.nii").symlink_to(tmp_path / target)
    (tmp_path / "folder" / "up").symlink_to(tmp_path)
    assert find_images(tmp_path) == [tmp_path / "folder" / "scan.nii", tmp_path / "scan.nii"]
    if target == "loop.nii":
        with pytest.raises(UnreadableFile, match=r"loop\.nii: expected an image file, found nothing there"):
            read(tmp_path / "loop.nii")


def test_pipes_and_devices_in_a_folder_are_no_images(tmp_path):
    for number, make in enumerate(KINDS.values()):
        make(tmp_path / f"{number}.nii.gz")
        make(tmp_path / f"{number}")
    assert find_images(tmp_path) == []


def test_a_count_is_refused_only_beyond_the_limit():
    check_count(Path("a.nii"), 8, 8)
    with pytest.raises(
        UnreadableFile,
        match=r"^a\.nii: expected at most 8 voxels, found 9 in its header; --max-voxels allows more$",
    ):
        check_count(Path("a.nii"), 9, 8)


def test_room_is_refused_only_where_it_is_too_small():
    check_room(Path("a.nrrd"), 8, 8)
    with pytest.raises(
        UnreadableFile,
        match=r"^a\.nrrd: expected room for the 9 B of voxels that its header promises, found 8 B: it is t",
    ):
        check_room(Path("a.nrrd"), 9, 8)


def test_a_file_larger_than_its_voxels_can_be_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.touch()
    os.truncate(path, 2**26 + 16 * 100)
    check_size(path, 100)
    with pytest.raises(
        UnreadableFile,
        match=r"a\.png: expected at most 67110448 B for 99 voxels, found 67110464; --max-voxels allows more$",
    ):
        check_size(path, 99)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nrrd", "a.mha", "a.png", "a.tif", "a.npy", "a.npz", "a.jpg"])
def test_terabytes_that_take_no_room_are_refused_at_once(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x1f\x8b" if name == "a.nii.gz" else b"")
    os.truncate(path, 2**40)
    with pytest.raises(UnreadableFile, match=rf"{name}: expected "):
        read(path)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_is_read_with_and_without_a_byte_order_mark(tmp_path, mark):
    (tmp_path / "a.csv").write_bytes(mark + "é\r\n".encode())
    assert read_text(tmp_path / "a.csv", "table") == "é\r\n"


def test_text_beyond_the_limit_is_refused_and_not_read_whole(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"12345678")
    assert read_text(path, "table", most=8) == "12345678"
    with pytest.raises(UnreadableFile, match=r"a\.csv: expected a table of at most 7 B, found more$"):
        read_text(path, "table", most=7)
    os.truncate(path, 2**40)
    with pytest.raises(UnreadableFile, match=rf"expected a table of at most {MOST_BYTES} B, found more$"):
        read_text(path, "table")


def test_what_a_stranger_wrote_is_shown_on_one_short_line():
    assert shown("a\nb\x1b[31m") == r"'a\nb\x1b[31m'"
    assert shown(("a", 1)) == "('a', 1)"
    assert len(shown("x" * 10**6)) < 110
