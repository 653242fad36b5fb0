"""Paths that are not what they look like: links, pipes, folders, and names that were chosen to hurt."""

import os
import socket
from pathlib import Path
from random import Random

from faults.hostile_originals import Originals


def pipe(random: Random, folder: Path, originals: Originals) -> Path:
    """A FIFO: whoever opens it waits for ever."""
    path = folder / random.choice(
        ("scan.nii.gz", "scan.nii", "scan.nrrd", "scan.mha", "scan.png", "scan.npz")
    )
    os.mkfifo(path)
    return path


def link_to_device(random: Random, folder: Path, originals: Originals) -> Path:
    """A link to a file without an end, or one that is none."""
    path = folder / random.choice(
        ("scan.nii.gz", "scan.nii", "scan.nrrd", "scan.mha", "scan.tif", "scan.npy")
    )
    path.symlink_to(random.choice(("/dev/zero", "/dev/full", "/dev/tty", "/proc/self/mem")))
    return path


def endless_link(random: Random, folder: Path, originals: Originals) -> Path:
    """A link to itself, to its twin, or to its own folder."""
    path = folder / "scan.nii.gz"
    target = random.choice(("scan.nii.gz", "other.nii.gz", "."))
    path.symlink_to(target)
    if target == "other.nii.gz":
        (folder / target).symlink_to(path.name)
    return path


def dangling_link(random: Random, folder: Path, originals: Originals) -> Path:
    """A link to nothing."""
    path = folder / random.choice(("scan.nii.gz", "scan.png", "scan.mhd"))
    path.symlink_to("nowhere")
    return path


def socket_file(random: Random, folder: Path, originals: Originals) -> Path:
    """A socket that nobody listens to."""
    path = folder / "s.nii"
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(path.name)
    finally:
        os.chdir(here)
    return path


def sparse(random: Random, folder: Path, originals: Originals) -> Path:
    """A file of terabytes that takes no room, which begins like a scan."""
    name, content = random.choice(
        [next(iter(files.items())) for kind in originals.images.values() for files in kind]
    )
    path = folder / name
    path.write_bytes(content)
    os.truncate(path, 2**40)
    return path


def empty(random: Random, folder: Path, originals: Originals) -> Path:
    """A file without content, or of one byte."""
    path = folder / random.choice(
        ("s.nii.gz", "s.nii", "s.nrrd", "s.mhd", "s.png", "s.tif", "s.jpg", "s.npy", "s.npz")
    )
    path.write_bytes(random.choice((b"", b"\0", b"\x1f\x8b", b"\n")))
    return path


def another_kind(random: Random, folder: Path, originals: Originals) -> Path:
    """A file under the suffix of another format."""
    names = [name for kind in originals.images.values() for files in kind for name in list(files)[:1]]
    contents = [content for kind in originals.images.values() for files in kind for content in files.values()]
    path = folder / random.choice(names)
    path.write_bytes(random.choice(contents))
    return path


def folder_as_file(random: Random, folder: Path, originals: Originals) -> Path:
    """A folder called like a scan: empty, with a scan, or with itself."""
    path = folder / "scan.nii.gz"
    path.mkdir()
    inside = random.randrange(3)
    if inside == 1:
        (path / "scan.nii.gz").write_bytes(originals.labels)
    elif inside == 2:
        (path / "scan.nii.gz").symlink_to(path)
    return path


def hostile_folder(random: Random, folder: Path, originals: Originals) -> Path:
    """A folder of several things: scans, links in circles, pipes, hidden files, and worse."""
    makers = (pipe, link_to_device, endless_link, dangling_link, socket_file, empty, folder_as_file, named)
    for index, make in enumerate(random.sample(makers, 4)):
        place = folder / f"part{index}"
        place.mkdir()
        make(random, place, originals)
    (folder / "round").symlink_to(folder)
    (folder / ".hidden.nii.gz").write_bytes(b"x")
    (folder / "good.nii.gz").write_bytes(originals.labels)
    return folder


NAMES = (
    b"<script>alert(1)",
    b"<img src=x onerror=alert(1)>",
    b"a\nb",
    b"a\r\nb",
    b"a\tb",
    b"\x1b[31mred\x1b[0m",
    b"\x1b]0;title\x07",
    b"a\x08\x08\x08",
    b"\"; rm -rf ~; '",
    b"$(touch evil)",
    b"`touch evil`",
    b"=cmd()",
    b"=HYPERLINK(1)",
    b"+1",
    b"-rf",
    b"--help",
    b"@SUM(1)",
    b"'=1",
    b"a,b",
    b'a"b',
    b" leading",
    b"trailing ",
    b".",
    b"..nii",
    b"...",
    b"%s%n%d",
    b"{0.__class__}",
    b"{{7*7}}",
    b"[bold]red[/bold]",
    b"[/]",
    b"\\server\\share",
    b"C:\\evil",
    b"NUL",
    b"con",
    b"*",
    b"?",
    b"~",
    b"#",
    b"&amp;",
    b"\xe2\x80\xaegnp.exe",
    b"\xe2\x80\x8b",
    b"\xef\xbb\xbfbom",
    b"\xcc\x81\xcc\x81\xcc\x81",
    b"\xf0\x9f\xa7\xa0",
    b"\xc3\xa9 e\xcc\x81",
    b"\xff\xfe",
    b"a\x80b",
    b"\xed\xa0\x80",
    b"a" * 200,
    b"a" * 240,
    b"a" * 247,
    b"\xe2\x82\xac" * 80,
    b"_refined",
    b"_seg",
    b"scan_refined_changes",
)
"""Names of files as bytes, without a suffix."""


def named(random: Random, folder: Path, originals: Originals) -> Path:
    """A whole scan of a hostile name, perhaps in a folder of another one."""
    if random.random() < 0.3:
        folder = folder / os.fsdecode(random.choice(NAMES))
    scans = (("a.nii.gz", originals.labels), ("a.png", originals.images["PNG"][2]["palette.png"]))
    name, content = random.choice(scans)
    path = folder / os.fsdecode(random.choice(NAMES) + name[name.index(".") :].encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
