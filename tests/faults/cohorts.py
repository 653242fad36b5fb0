"""A cohort of small maps, topofix at work on it as a process of its own, and what it must leave.

Each command has a session of its own, so that it can be killed with all that it has started. It is forked
from a process that has imported everything, which saves seconds; only where it is to be killed while it
starts is it started as people start it.
"""

import atexit
import csv
import errno
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import chdir, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NoReturn

import numpy as np
import psutil
from scipy.ndimage import gaussian_filter

from topofix.imaging.volumes import Volume, read, write

FULL = os.environ.get("TOPOFIX_FAULTS") == "full"
"""All of it, for `make test-faults`; else a few of each kind."""

_EXACT = ("--betti", "1,0", "--method", "exact")  # the method that imports least
REFINE = ("refine", "in", "--input-type", "probabilities", "--output", "out", *_EXACT)
"""The command, to be given in the folder of a cohort."""

PATIENCE = 300 if FULL else 120
"""Seconds to wait for what must come."""

SLOW = 700
"""The side of a map that keeps a process busy for some ten seconds."""


def make_cohort(folder: Path, cases: int, side: int = 40, ending: str = ".nii.gz") -> Path:
    """Writes maps of probability with a disc in noise, most of them with a wrong topology, to `folder/in`."""
    rows, columns = np.indices((side, side)) - side / 2
    disc = 3 - np.hypot(rows, columns) / (0.1 * side)
    for number in range(cases):
        noise = gaussian_filter(np.random.default_rng(number).normal(size=(side, side)), 3)
        field = 1 / (1 + np.exp(-disc - 1.5 * noise / noise.std()))
        grid = Volume(field, (1.0, 1.0), np.eye(4), Path())
        write(folder / "in" / f"case{number:02}{ending}", field.astype(np.float32), grid)
    return folder


@cache
def undisturbed(cases: int, *more: str) -> dict[str, object]:
    """What a run leaves that nothing happens to."""
    with tempfile.TemporaryDirectory() as place:
        folder = make_cohort(Path(place), cases)
        assert start(folder, *REFINE, *more, "--jobs", "1").end() == 0
        return contents(folder / "out")


@dataclass(frozen=True)
class Command:
    """A command at work.

    Attributes:
        pid: Its process, and the number of its session.
        log: Where what it says goes.
    """

    pid: int
    log: Path

    def ended(self, seconds: float = 0.0) -> int | None:
        """Its exit code, or minus the number of the signal that killed it; None if it is still at work."""
        return _nursery().ask(wait=self.pid, seconds=seconds)

    def end(self) -> int:
        """Its exit code, which must come."""
        code = self.ended(PATIENCE)
        if code is None:
            self.kill()
            raise AssertionError(f"still at work after {PATIENCE} s: {self.said}")
        return code

    def kill(self, everything: bool = True) -> None:
        """Kills it, with or without all that it has started."""
        (os.killpg if everything else os.kill)(self.pid, signal.SIGKILL)
        _nursery().ask(wait=self.pid, seconds=PATIENCE)

    def signal(self, number: int, everything: bool = False) -> None:
        """Sends a signal to it alone or, as a terminal does, to all that it has started as well."""
        (os.killpg if everything else os.kill)(self.pid, number)

    @property
    def said(self) -> str:
        """What it has written to stderr."""
        return self.log.with_suffix(".stderr").read_text()

    @property
    def printed(self) -> str:
        """What it has written to stdout."""
        return self.log.with_suffix(".stdout").read_text()

    def others(self) -> list[psutil.Process]:
        """What it has started and still runs, even if its own end is past."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = os.getsid(process.pid) == self.pid != process.pid
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def orphans(self, seconds: float = 5.0) -> list[psutil.Process]:
        """What of it still runs after a time in which it should have ended."""
        psutil.wait_procs(self.others(), timeout=seconds)
        return self.others()

    def workers(self) -> list[psutil.Process]:
        """Its processes for cases: those that the server of processes, or Dask, has started."""
        main = {process.pid for process in self.others() if "forkserver" in " ".join(process.cmdline())}
        return [p for p in self.others() if p.ppid() in main]


def start(folder: Path, *arguments: str, faults: Sequence[tuple] = (), afresh: bool = False) -> Command:
    """Starts a command in a folder.

    Args:
        folder: Where; its paths are relative, so that Records are the same in every folder.
        arguments: Those of topofix.
        faults: Functions of this module, each with its arguments, to be called in the process first.
        afresh: Start it as people do, which takes seconds until it begins to work.
    """
    log = Path(tempfile.mkdtemp(dir=_logs())) / "log"
    pid = _nursery().ask(
        folder=str(folder), arguments=arguments, faults=[*faults], afresh=afresh, log=str(log)
    )
    return Command(pid, log)


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Waits for something that must come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def results(out: Path) -> list[Path]:
    """The label maps that are there."""
    return [path for path in out.glob("[!.]*_refined.*") if path.suffix != ".json"]


def hidden(folder: Path) -> list[str]:
    """Drafts and locks that lie about."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(".*"))


def check_visible(out: Path) -> None:
    """Every file under a final name is whole, and a table tells of each case at most once."""
    for path in results(out):
        if path.suffix not in (".raw", ".zraw"):
            read(path)
    for path in out.glob("[!.]*.json"):
        json.loads(path.read_text())
    for path in out.glob("[!.]*.csv"):
        with path.open(newline="") as file:
            inputs = [row["input"] for row in csv.DictReader(file)]
        assert len(set(inputs)) == len(inputs)


def contents(out: Path) -> dict[str, object]:
    """All files by name, without how long they took and whether they are from an earlier run."""
    check_visible(out)
    found: dict[str, object] = {}
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        name = str(path.relative_to(out))
        if path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            with path.open(newline="") as file:
                found[name] = _timeless(list(csv.DictReader(file)))
        else:
            found[name] = path.read_bytes()
    return found


def _timeless(value):
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in ("seconds", "skipped")}
    if isinstance(value, list):  # rows of a table, which come as the cases are done
        return sorted((_timeless(item) for item in value), key=str)
    return value


# ---- the process that commands are forked from ----


class _Nursery:
    def __init__(self) -> None:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from faults.cohorts import serve; serve()"],
            env={**os.environ, **threads, "PYTHONPATH": str(Path(__file__).parents[1])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        atexit.register(self._process.kill)

    def ask(self, **order):
        """Has a command started or waited for."""
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


@cache
def _nursery() -> _Nursery:
    return _Nursery()


@cache
def _logs() -> str:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def serve() -> None:
    """Starts commands and waits for them, as the lines of stdin say; the end of stdin is the end."""
    with tempfile.TemporaryDirectory() as place:  # imports what there is
        make_cohort(Path(place), 2)
        with chdir(place), suppress(SystemExit):
            _main(*REFINE, "--jobs", "1", "--quiet")
    gc.freeze()  # so that commands end fast
    while line := sys.stdin.readline():
        order = json.loads(line)
        answer = _reap(order["wait"], order["seconds"]) if "wait" in order else _fork(**order)
        print(json.dumps(answer), flush=True)


def _reap(pid: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while pid not in _CODES:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            _CODES[pid] = os.waitstatus_to_exitcode(status)
        elif time.monotonic() >= end:
            return None
        else:
            time.sleep(0.005)
    return _CODES[pid]


_CODES: dict[int, int] = {}


def _fork(folder: str, arguments: list[str], faults: list[list], afresh: bool, log: str) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(f"{log}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if afresh:
        os.execv(sys.executable, [sys.executable, "-m", "topofix", *arguments])
    for name, *values in faults:
        globals()[name](*values)
    try:
        _main(*arguments)
    except SystemExit as end:
        if threading.active_count() > 1:
            raise
        sys.stdout.flush()
        os._exit(end.code)  # a single thread leaves nothing to tidy up, which would take longer than the work


def _main(*arguments: str) -> NoReturn:
    from topofix.cli import main

    sys.argv = ["topofix", *arguments]
    main()
    raise AssertionError("a command exits")


# ---- faults, each called in the process of a command before it begins ----


def killed_at(number: int) -> None:
    """Killed before it creates, renames or removes the n-th file or folder, counted from 0."""
    counter = iter(range(number))

    def hook(event: str, arguments: tuple) -> None:
        if _changes_disk(event, arguments) and next(counter, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def refused_from(number: int, error: str, until: int = 2**31) -> None:
    """From the n-th file or folder on that it creates, renames or removes, it is refused to."""
    count = -1

    def hook(event: str, arguments: tuple) -> None:
        nonlocal count
        if _changes_disk(event, arguments):
            count += 1
            if number <= count < until:
                code = getattr(errno, error)
                raise OSError(code, os.strerror(code))

    sys.addaudithook(hook)


def _changes_disk(event: str, arguments: tuple) -> bool:
    if event == "open":
        return bool(arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    return event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")


def as_nobody() -> None:
    """Without the rights of root."""
    os.setgid(65534)
    os.setuid(65534)


def short_files(most: int) -> None:
    """Files may not grow beyond so many bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def clock_runs_backwards() -> None:
    """The clock on the wall goes back by a minute every time that somebody looks."""
    now = time.time()
    looks = iter(range(2**31))
    time.time = lambda: now - 60.0 * next(looks)
    time.time_ns = lambda: int(time.time() * 1e9)


def meanwhile(action: str, path: str) -> None:
    """The first case is being corrected when something happens to a file or folder."""
    from topofix import pipeline

    correct = pipeline.refine_prediction

    def late(*arguments, **options):
        _ACTIONS[action](Path(path))
        pipeline.refine_prediction = correct
        return correct(*arguments, **options)

    pipeline.refine_prediction = late


_ACTIONS: dict[str, Callable[[Path], object]] = {
    "changed": lambda path: path.write_bytes(path.read_bytes() + b"\0"),
    "removed": lambda path: path.unlink(),
    "folder removed": lambda path: shutil.rmtree(path),
    "folder moved": lambda path: path.rename(path.with_name("elsewhere")),
    "folder replaced": lambda path: (shutil.rmtree(path), path.write_text("a file")),
}
