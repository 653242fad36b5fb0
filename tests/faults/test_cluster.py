"""A Dask cluster that loses workers, its scheduler or its patience; one of two local processes, in full."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from faults.cohorts import (
    FULL,
    REFINE,
    SLOW,
    contents,
    hidden,
    make_cohort,
    results,
    start,
    undisturbed,
    until,
)

from topofix import batch
from topofix.errors import InvalidOption
from topofix.jobs import Job
from topofix.records import Outcome, Record
from topofix.tasks import Result
from topofix.workers import Elsewhere, Team

CASES = 24
LOCAL = (*REFINE, "--scheduler", "local", "--jobs", "2")
full = pytest.mark.skipif(not FULL, reason="in `make test-faults`")


class FakeClient:
    """Of a scheduler that can be lost; a task is done when the client is told so."""

    def __init__(self):
        self.status, self.pending, self.keys = "running", [], 0

    def submit(self, fn, /, *arguments, pure):
        if self.status != "running":
            raise RuntimeError("Client is closed")
        self.keys += not pure
        return SimpleNamespace(
            add_done_callback=lambda call: self.pending.append((call, lambda: fn(*arguments)))
        )

    def finish(self):
        for call, result in self.pending:
            call(SimpleNamespace(result=result))
        self.pending.clear()

    def lose(self):
        def cancelled():
            raise CancelledError

        self.status = "closed"
        for call, _ in self.pending:
            call(SimpleNamespace(result=cancelled))
        self.pending.clear()


JOBS = [Job(Path(f"{name}.png"), Path(f"{name}_seg.png")) for name in "abcdef"]


def work(job: Job) -> Result:
    return Result(Record("segment", str(job.input), Outcome.WRITTEN, ""))


def test_what_was_handed_out_is_finished():
    client, stops = FakeClient(), []

    def stopped() -> bool:
        if client.pending and not stops:
            stops.append(True)
        elif stops:
            client.finish()
        return bool(stops)

    done = list(batch.run(JOBS, work, Team(lambda: Elsewhere(client), 2), stopped))
    assert len(done) == client.keys == batch.AHEAD * 2
    assert all(result.record.outcome is Outcome.WRITTEN for _, result in done)


@pytest.mark.parametrize("when", ["while work is in hand", "before"])
def test_without_its_scheduler_a_run_ends_with_a_sentence(when):
    client = FakeClient()
    if when == "before":
        client.lose()
    with pytest.raises(InvalidOption, match="--scheduler: expected it to stay within reach, lost it"):
        for _ in batch.run(JOBS, work, Team(lambda: Elsewhere(client), 2), lambda: bool(client.lose())):
            pass


def check_complete(folder: Path) -> None:
    whole = json.loads((folder / "out" / "summary.json").read_text())
    assert len({row["input"] for row in whole["rows"]}) == whole["finished"] == CASES
    assert contents(folder / "out") == undisturbed(CASES)
    assert hidden(folder) == []


@full
@pytest.mark.parametrize("everything", [True, False])
def test_a_local_cluster_is_stopped(tmp_path, everything):
    folder = make_cohort(tmp_path, CASES)
    command = start(folder, *LOCAL)
    until(lambda: results(folder / "out"))
    command.signal(signal.SIGINT, everything)
    assert command.end() == 130
    done = len(results(folder / "out"))
    assert command.said.splitlines() == [
        "topofix: stopping when the cases in hand are done; once more stops at once",
        f"topofix: stopped; {done} cases are done, {CASES - done} are left",
    ]
    assert (hidden(folder), command.orphans()) == ([], [])
    assert start(folder, *REFINE, "--jobs", "1").end() == 0
    check_complete(folder)


@full
def test_a_local_cluster_is_stopped_at_once(tmp_path):
    folder = make_cohort(tmp_path, 2, side=SLOW)
    command = start(folder, *LOCAL)
    until(lambda: len(hidden(folder)) == 2)
    command.signal(signal.SIGTERM)
    until(lambda: "once more" in command.said)
    command.signal(signal.SIGTERM)
    until(lambda: "topofix: stopped; 0 cases are done, 2 are left" in command.said, 5)
    assert command.end() == 130
    assert len(command.said.splitlines()) == 2
    assert command.orphans() == []


@full
def test_a_local_cluster_is_killed(tmp_path):
    folder = make_cohort(tmp_path, CASES)
    command = start(folder, *LOCAL)
    until(lambda: results(folder / "out"))
    command.kill(everything=False)
    assert command.orphans() == []
    assert start(folder, *LOCAL).end() == 0
    check_complete(folder)


@full
def test_a_worker_of_a_local_cluster_is_killed(tmp_path):
    folder = make_cohort(tmp_path, CASES)
    command = start(folder, *LOCAL)
    until(lambda: results(folder / "out"))
    next(process for process in command.others() if "spawn_main" in " ".join(process.cmdline())).kill()
    assert command.end() == 0, command.said
    assert command.said == ""
    check_complete(folder)


@contextmanager
def cluster(folder: Path, place: Path) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """The address of a scheduler, and its process and those of two workers in a folder."""
    file = place / "scheduler.json"

    def run(name: str, *arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", f"distributed.cli.{name}", "--no-dashboard", *arguments]
        return subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)

    here = ("--host", "127.0.0.1")
    processes = [run("dask_scheduler", *here, "--port", "0", "--scheduler-file", str(file))]
    try:
        until(lambda: file.exists() and file.read_text())
        address = json.loads(file.read_text())["address"]
        one = ("--no-nanny", "--nthreads", "1", "--local-directory", str(place))
        processes += [run("dask_worker", address, *here, *one) for _ in range(2)]
        yield address, processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


@full
@pytest.mark.parametrize("which", ["a worker", "the scheduler"])
def test_a_cluster_of_somebody_else_s(tmp_path, which):
    from distributed import Client

    folder = make_cohort(tmp_path / "cohort", CASES)
    (tmp_path / "cluster").mkdir()
    with cluster(folder, tmp_path / "cluster") as (address, (scheduler, worker, _)):
        with Client(address) as client:
            client.wait_for_workers(2)
        command = start(folder, *REFINE, "--scheduler", address)
        until(lambda: results(folder / "out"))
        (worker if which == "a worker" else scheduler).kill()
        code, said = command.end(), command.said
    if which == "a worker":
        assert (code, said) == (0, "")
    else:
        assert code == 1
        sentence = "topofix: --scheduler: expected it to stay within reach, lost it; the same command does"
        assert [line[: len(sentence)] for line in said.splitlines()] == [sentence]
        assert start(folder, *REFINE, "--jobs", "1").end() == 0
    check_complete(folder)
