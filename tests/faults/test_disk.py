"""Disks that are full or may not be written to, folders and files that vanish, clocks that run backwards."""

import errno
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from faults.cohorts import (
    FULL,
    REFINE,
    check_visible,
    contents,
    hidden,
    make_cohort,
    results,
    start,
    undisturbed,
    until,
)
from filelock import FileLock

from topofix.resume import held

CASES = 6 if FULL else 3
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def run(folder: Path, *more: str, faults=(), code: int | None = None):
    """Runs to the end, which must be one that people understand."""
    command = start(folder, *REFINE, "--jobs", "1", *more, faults=faults)
    found = command.end()
    assert "Traceback" not in command.said
    if (folder / "out").is_dir():
        check_visible(folder / "out")
    if code is not None:
        assert found == code, command.said
    return command


def check_complete(folder: Path, cases: int = CASES) -> None:
    """Everything is there as if nothing had happened, and nothing else."""
    assert contents(folder / "out") == undisturbed(cases)
    assert hidden(folder) == []


@contextmanager
def small_disk(folder: Path, size: str):
    """A file system of its own, in memory, where the system allows that."""
    folder.mkdir()
    if not ROOT or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mhd", ".tif"] if FULL else [".nii.gz"])
def test_a_disk_that_fills_up(tmp_path, ending):
    folder = make_cohort(tmp_path, CASES, ending=ending)
    make_cohort(tmp_path / "whole", CASES, ending=ending)
    run(tmp_path / "whole", code=0)
    with small_disk(folder / "out", "48k" if FULL else "28k"):
        before = run(folder, code=1)
        assert 0 < len(list((folder / "out").glob("case*_refined.json"))) < CASES
        assert "No space left on device" in before.said or "cannot be written" in before.said
        earlier = {path: path.read_bytes() for path in results(folder / "out")}
        run(folder, code=1)
        assert {path: path.read_bytes() for path in results(folder / "out")} == earlier
        shutil.copytree(folder / "out", folder / "larger")
    shutil.rmtree(folder / "out")
    shutil.move(folder / "larger", folder / "out")
    run(folder, code=0)
    assert contents(folder / "out") == contents(tmp_path / "whole" / "out")
    assert hidden(folder) == []


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"] if FULL else ["ENOSPC"])
@pytest.mark.parametrize("lasting", [True, False])
def test_a_disk_that_refuses_from_some_moment_on(tmp_path, error, lasting):
    """At each change to the disk in turn, for once or for ever; the next run does what is left."""
    for step in range(1000) if FULL else (5, 11):
        folder = make_cohort(tmp_path / str(step), 2)
        command = run(folder, faults=[("refused_from", step, error, 1000000 if lasting else step + 1)])
        assert command.said.count("\n") <= 3
        again = run(folder, code=0)
        check_complete(folder, 2)
        if "2 of 2 cases had been done before" in again.printed and not command.said:
            break


def test_files_that_may_not_grow(tmp_path):
    folder = make_cohort(tmp_path, CASES)
    command = run(folder, faults=[("short_files", 1000)], code=1)
    assert "File too large" in command.said
    assert results(folder / "out") == []
    run(folder, code=0)
    check_complete(folder)


@pytest.mark.skipif(not ROOT, reason="only root can become somebody else")
@pytest.mark.parametrize("made", [True, False])
def test_a_folder_that_may_not_be_written_to(made):
    """Whether the output folder is there already or would have to be made."""
    with tempfile.TemporaryDirectory() as place:
        folder = make_cohort(Path(place), CASES)
        folder.chmod(0o755)
        if made:
            run(folder, code=0)
            (folder / "out" / "case00_refined.nii.gz").unlink()
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        command = run(folder, faults=[("as_nobody",)], code=1)
        assert "expected a folder that can be written to" in command.said
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
        assert hidden(folder) == []


@pytest.mark.parametrize(("what", "whole"), [("removed", False), ("moved", True), ("replaced", False)])
def test_the_output_folder_vanishes(tmp_path, what, whole):
    """While the first case is at work: what comes after it goes where it was asked for, or is said not to."""
    folder = make_cohort(tmp_path, CASES)
    command = run(folder, faults=[("meanwhile", f"folder {what}", "out")])
    if what == "replaced":
        assert "expected a folder that can be written to" in command.said
        assert (folder / "out").read_text() == "a file"
        (folder / "out").unlink()
    else:
        assert "Traceback" not in command.said
        assert len(results(folder / "out")) >= CASES - 1
    shutil.rmtree(folder / "elsewhere", ignore_errors=True)
    run(folder, code=0)
    check_complete(folder)


@pytest.mark.parametrize("what", ["changed", "removed"])
def test_an_input_changes_while_it_is_worked_on(tmp_path, what):
    folder = make_cohort(tmp_path, CASES)
    command = run(folder, faults=[("meanwhile", what, "in/case00.nii.gz")], code=1)
    assert "in/case00.nii.gz: expected it to stay as it was while it was worked on" in command.said
    assert len(results(folder / "out")) == CASES - 1
    make_cohort(tmp_path, 1)
    run(folder, code=0)
    check_complete(folder)


def test_a_case_list_vanishes(tmp_path):
    folder = make_cohort(tmp_path, CASES)
    names = [f"in/case{number:02}.nii.gz" for number in range(CASES)]
    for name, rows in {"cases.csv": names, "priors.csv": [Path(name).name for name in names]}.items():
        column = "probabilities" if name == "cases.csv" else "case"
        lines = [f"{column},b0,b1", *(f"{row},1,0" for row in rows)]
        (folder / name).write_text("\n".join(lines) + "\n")
    method = ("--method", "exact", "--jobs", "1")
    listed = ("refine", "--cases", "cases.csv", "--output", "out", *method)
    command = start(folder, *listed, faults=[("meanwhile", "removed", "cases.csv")])
    assert command.end() == 0, command.said
    assert len(list((folder / "out").rglob("case*.nii.gz"))) == CASES
    command = start(folder, *listed)
    assert (command.end(), command.said.count("\n"), "cases.csv" in command.said) == (2, 1, True)
    shutil.rmtree(folder / "out")
    table = (*REFINE[:4], "--betti-csv", "priors.csv", "--output", "out", *method)
    command = start(folder, *table, faults=[("meanwhile", "removed", "priors.csv")])
    assert command.end() == 0, command.said
    assert len(results(folder / "out")) == CASES
    command = start(folder, *table)
    assert (command.end(), command.said.count("\n"), "priors.csv" in command.said) == (2, 1, True)


def test_clocks_that_run_backwards(tmp_path):
    folder = make_cohort(tmp_path, CASES)
    run(folder, faults=[("clock_runs_backwards",)], code=0)
    check_complete(folder)
    for moment in (4_000_000_000, 1):  # nothing depends on when a file was written
        for path in folder.rglob("*"):
            os.utime(path, (moment, moment))
        command = run(folder, faults=[("clock_runs_backwards",)], code=0)
        assert f"{CASES} of {CASES} cases had been done before" in command.printed
    (folder / "out" / "case01_refined.nii.gz").unlink()
    run(folder, faults=[("clock_runs_backwards",)], code=0)
    check_complete(folder)


def test_two_runs_at_once(tmp_path):
    """Of one request, each case is done once, whoever comes first."""
    folder = make_cohort(tmp_path, 12)
    both = [start(folder, *REFINE, "--jobs", "1") for _ in range(2)]
    assert [command.end() for command in both] == [0, 0], [command.said for command in both]
    check_complete(folder, 12)
    skipped = [command.printed.splitlines()[-1].split()[0] for command in both]
    assert sum(int(number) for number in skipped if number.isdigit()) == 12


def test_two_requests_at_once(tmp_path):
    """For one folder: whoever comes second to a case is refused, and what is there is of one of them."""
    folder = make_cohort(tmp_path, 12)
    other = [part if part != "1,0" else "2,0" for part in REFINE]
    both = [start(folder, *which, "--jobs", "1") for which in (REFINE, other)]
    assert 1 in [command.end() for command in both]
    check_visible(folder / "out")
    assert len(results(folder / "out")) == 12
    refused = [line for command in both for line in command.said.splitlines()]
    assert len(refused) == 12
    assert all("made by another request (prior was" in line for line in refused)
    assert hidden(folder) == []


def test_a_run_waits_for_another_one_that_is_killed(tmp_path):
    folder = make_cohort(tmp_path, 2, side=300)
    first = start(folder, *REFINE, "--jobs", "1")
    until(lambda: hidden(folder))
    second = start(folder, *REFINE, "--jobs", "1")
    assert second.ended(0.2) is None
    first.kill()
    assert second.end() == 0, second.said
    assert len(results(folder / "out")) == 2
    assert hidden(folder) == []


def test_a_case_without_a_result_takes_its_folder_away(tmp_path, monkeypatch):
    """Which another one, of the same folder, has just found there."""
    folder, acquire = tmp_path / "out" / "site", FileLock.acquire

    def late(lock, *arguments, **options):
        monkeypatch.setattr(FileLock, "acquire", acquire)
        folder.rmdir()
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(FileLock, "acquire", late)
    with held(folder / "scan.nii.gz"):
        assert hidden(tmp_path) == ["out/site/.scan.json.lock"]
    assert not (tmp_path / "out").exists()
