"""Libraries that write to standard error by themselves are silent, and nobody else for longer than that."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import tifffile

from topofix.errors import UnreadableFile
from topofix.imaging.silence import silence
from topofix.imaging.volumes import read


def test_what_is_written_past_python_goes_nowhere_and_only_then(capfd):
    os.write(2, b"before ")
    with silence():
        os.write(2, b"during ")
        os.write(1, b"output")
    os.write(2, b"after")
    assert capfd.readouterr() == ("output", "before after")


def test_an_error_ends_the_silence(capfd):
    def fail():
        raise KeyError

    with pytest.raises(KeyError):
        silence()(fail)()
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


def test_silence_ends_when_the_last_thread_leaves_it(capfd):
    inside, leave = threading.Event(), threading.Event()

    def stay():
        with silence():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(10)
    with silence():
        os.write(2, b"both ")
    os.write(2, b"one ")
    leave.set()
    thread.join()
    os.write(2, b"none")
    assert capfd.readouterr().err == "none"


def test_a_process_without_standard_error_can_be_silent():
    code = "import os; os.close(2)\nfrom topofix.imaging.silence import silence\n"
    code += "with silence(): print('silent')\ntry: os.write(2, b'x')\nexcept OSError: print('none')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("silent\nnone\n", "")


def test_damaged_files_are_refused_in_silence(tmp_path, capfd, recwarn):
    header = (
        "ObjectType = Image\nNDims = 3\nDimSize = 4 5 6\nElementType = MET_LIES\nElementDataFile = LOCAL\n"
    )
    (tmp_path / "x.mha").write_bytes(header.encode() + bytes(480))
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "x.tif", noise, compression="zlib")
    content = bytearray((tmp_path / "x.tif").read_bytes())
    content[content.index(b"\x78\x9c") + 9] ^= 255
    (tmp_path / "x.tif").write_bytes(content)
    for name in ("x.mha", "x.tif"):
        with pytest.raises(UnreadableFile):
            read(tmp_path / name)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
