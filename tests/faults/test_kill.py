"""Killed, stopped or robbed of workers at any moment, a run leaves whole files; the next does the rest."""

import json
import os
import shutil
import signal
from pathlib import Path
from random import Random

import pytest
from faults.cohorts import (
    FULL,
    REFINE,
    SLOW,
    check_visible,
    contents,
    hidden,
    make_cohort,
    results,
    start,
    undisturbed,
    until,
)

CASES = 24 if FULL else 12
KILLS = 100 if FULL else 4
STOPS_AT_ONCE = 2.0
"""Seconds until the work is over; until Python has tidied up it takes another one."""


def summary(folder: Path) -> dict:
    return json.loads((folder / "out" / "summary.json").read_text())


def check_complete(folder: Path, cases: int = CASES) -> None:
    """Everything is there as if nothing had happened, and nothing else."""
    assert contents(folder / "out") == undisturbed(cases)
    assert hidden(folder) == []


def check_once_each(folder: Path, cases: int = CASES) -> None:
    """The table tells of every case."""
    whole = summary(folder)
    assert len({row["input"] for row in whole["rows"]}) == whole["finished"] == cases
    assert "failed" not in whole["outcomes"]


def test_killed_at_random_moments(tmp_path):
    """All of its processes or the main one only, while it works or, in full, while it starts."""
    random = Random(1)
    folder = make_cohort(tmp_path, CASES)
    kills = runs = 0
    while kills < KILLS:
        runs += 1
        jobs = 2 if runs % 5 == 2 else 1
        afresh = FULL and runs % 10 == 0
        everything = random.random() < 0.5
        before = len(results(folder / "out"))
        command = start(folder, *REFINE, "--jobs", str(jobs), afresh=afresh)
        while not afresh and command.ended(0.02) is None and len(results(folder / "out")) == before:
            pass  # it has not begun
        code = command.ended(random.uniform(0, 8 if afresh else 0.5))
        if code is None:
            command.kill(everything)
            kills += 1
            assert command.orphans() == []
            check_visible(folder / "out")
        else:
            assert code == 0, command.said
            check_complete(folder)
            shutil.rmtree(folder / "out")
    assert start(folder, *REFINE, "--jobs", "1").end() == 0
    check_complete(folder)


@pytest.mark.parametrize(
    ("ending", "steps"),
    [(".nii.gz", range(1000) if FULL else (3, 11, 12, 24)), (".mhd", range(1000) if FULL else (13,))],
    ids=["one file", "header and data"],
)
def test_killed_before_each_change_to_the_disk(tmp_path, ending, steps):
    """Of two cases and their table; in small, after a Record, an image, a table, or the data of a header."""
    make_cohort(tmp_path / "whole", 2, ending=ending)
    assert start(tmp_path / "whole", *REFINE, "--jobs", "1").end() == 0
    expected = contents(tmp_path / "whole" / "out")
    for step in steps:
        folder = make_cohort(tmp_path / str(step), 2, ending=ending)
        code = start(folder, *REFINE, "--jobs", "1", faults=[("killed_at", step)]).end()
        if code == 0:
            break
        assert code == -signal.SIGKILL
        check_visible(folder / "out")
        again = start(folder, *REFINE, "--jobs", "1")
        assert again.end() == 0, again.said
        assert contents(folder / "out") == expected
        assert hidden(folder) == []


STOPS = [
    (signal.SIGTERM, 2, True),  # a batch system sends it to all processes
    (signal.SIGINT, 1, False),
    (signal.SIGINT, 2, True),  # and so does a terminal with Ctrl-C
    (signal.SIGTERM, 1, False),
    (signal.SIGTERM, 2, False),
]


@pytest.mark.parametrize(("number", "jobs", "everything"), STOPS if FULL else STOPS[:2])
def test_stopped_once(tmp_path, number, jobs, everything):
    folder = make_cohort(tmp_path, CASES)
    command = start(folder, *REFINE, "--jobs", str(jobs))
    until(lambda: results(folder / "out"))
    command.signal(number, everything)
    assert command.end() == 130
    done = len(results(folder / "out"))
    assert 0 < done < CASES
    assert command.said.splitlines() == [
        "topofix: stopping when the cases in hand are done; once more stops at once",
        f"topofix: stopped; {done} cases are done, {CASES - done} are left",
    ]
    whole = summary(folder)
    assert (whole["finished"], whole["not_begun"]) == (done, CASES - done)
    assert hidden(folder) == []
    assert start(folder, *REFINE, "--jobs", "1").end() == 0
    assert summary(folder)["skipped"] == done
    check_complete(folder)


@pytest.mark.parametrize(
    ("jobs", "number"), [(2, signal.SIGINT), (1, signal.SIGTERM)] if FULL else [(2, signal.SIGINT)]
)
def test_stopped_twice(tmp_path, jobs, number):
    folder = make_cohort(tmp_path, 2, side=SLOW)
    command = start(folder, *REFINE, "--jobs", str(jobs))
    until(lambda: len(hidden(folder)) == jobs)
    command.signal(number, everything=True)
    until(lambda: "once more stops at once" in command.said)
    assert command.ended(0.5) is None
    command.signal(number, everything=True)
    until(lambda: "stopped" in command.said, STOPS_AT_ONCE)
    until(lambda: not command.workers(), STOPS_AT_ONCE)
    assert command.end() == 130
    assert command.orphans() == []
    assert command.said.splitlines()[1:] == ["topofix: stopped; 0 cases are done, 2 are left"]
    assert (summary(folder)["finished"], summary(folder)["not_begun"]) == (0, 2)
    if FULL:
        assert start(folder, *REFINE, "--jobs", "1").end() == 0
        check_once_each(folder, 2)
        assert hidden(folder) == []


@pytest.mark.parametrize("which", ["a worker", "the server of workers"] if FULL else ["a worker"])
def test_a_process_is_killed(tmp_path, which):
    folder = make_cohort(tmp_path, CASES)
    command = start(folder, *REFINE, "--jobs", "2")
    until(lambda: results(folder / "out"))
    worker = command.workers()[0]
    os.kill(worker.pid if which == "a worker" else worker.ppid(), signal.SIGKILL)
    assert command.end() == 0, command.said
    assert command.said == ""
    check_once_each(folder)
    check_complete(folder)


@pytest.mark.skipif(not FULL, reason="in `make test-faults`")
@pytest.mark.parametrize("number", range(2))
def test_an_idle_worker_is_killed(tmp_path, number):
    """Whether it is the one that waits for work or the one that works, nobody waits for it forever."""
    folder = make_cohort(tmp_path, 2)
    make_cohort(tmp_path / "big", 1, side=400)
    shutil.move(tmp_path / "big" / "in" / "case00.nii.gz", folder / "in" / "case99.nii.gz")
    command = start(folder, *REFINE, "--jobs", "2")
    until(lambda: len(results(folder / "out")) == 2)
    command.workers()[number].kill()
    assert command.end() == 0, command.said
    check_once_each(folder, 3)
    assert hidden(folder) == []
