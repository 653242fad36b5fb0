"""Real processes: how many there are, what each may use, and what remains when one is killed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from topofix import batch, workers
from topofix.errors import InvalidOption
from topofix.jobs import Job
from topofix.records import Outcome, Record
from topofix.tasks import Result
from topofix.workers import Here, Workers, choose_count, cores


@pytest.fixture
def machine(monkeypatch):
    """A machine of so many cores and so much free memory."""

    def make(count: int, gigabytes: float):
        monkeypatch.setattr(workers, "cores", lambda: count)
        memory = psutil.virtual_memory()._replace(available=int(gigabytes * 2**30))
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    return make


@pytest.mark.parametrize(
    ("count", "gigabytes", "cases", "expected"),
    [
        (8, 64, 100, 8),
        (8, 7, 100, 3),  # 2 GB each
        (8, 0.5, 100, 1),  # never none
        (8, 64, 9, 2),  # 4 cases each
        (8, 64, 1, 1),
        (1, 64, 100, 1),
    ],
)
def test_as_many_processes_as_cores_memory_and_cases_allow(machine, count, gigabytes, cases, expected):
    machine(count, gigabytes)
    assert choose_count(None, cases, "cpu") == expected


def test_as_many_processes_as_were_asked_for(machine):
    machine(1, 1)
    assert choose_count(6, 100) == 6
    assert choose_count(6, 2) == 2
    with pytest.raises(InvalidOption, match="--jobs: expected 1 or more, got 0"):
        choose_count(0, 5)


def test_one_process_for_each_gpu(machine, monkeypatch):
    machine(16, 100)
    glob = Path.glob
    monkeypatch.setattr(
        Path,
        "glob",
        lambda self, pattern: (
            [Path(f"/dev/nvidia{k}") for k in range(3)] if str(self) == "/dev" else glob(self, pattern)
        ),
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert choose_count(None, 100, "auto") == 3
    assert choose_count(None, 100, "cpu") == 16
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,2")
    assert choose_count(None, 100, "auto") == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert choose_count(None, 100, "auto") == 16


def test_cores_are_those_that_this_process_may_use():
    assert 1 <= cores() <= (os.cpu_count() or 1)


def test_work_here_is_done_at_once():
    future = Here().submit(divmod, 7, 2)
    assert (future.done(), future.result()) == (True, (3, 1))
    assert isinstance(Here().submit(divmod, 7, 0).exception(), ZeroDivisionError)


@dataclass(frozen=True)
class Deadly:
    """A task that kills its process at some cases, and says where it ran."""

    at: tuple[str, ...] = ()
    command: str = "segment"

    def __call__(self, job: Job) -> Result:
        if job.input.stem in self.at:
            os.kill(os.getpid(), signal.SIGKILL)
        import torch

        text = f"{os.getpid()} {torch.get_num_threads()} {os.environ.get('OMP_NUM_THREADS')}"
        return Result(Record("segment", str(job.input), Outcome.WRITTEN, text))


JOBS = [Job(Path(f"{k}.png"), Path(f"{k}_seg.png")) for k in range(8)]


def test_two_processes_share_the_cores_and_survive_a_death(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with Workers(2).open() as team:
        found = {job.input.stem: r.record for job, r in batch.run(JOBS, Deadly(("3",)), team)}
    assert sorted(found) == [str(k) for k in range(8)]
    assert [name for name, record in found.items() if record.outcome is Outcome.FAILED] == ["3"]
    told = [record.message.split() for name, record in found.items() if name != "3"]
    each = str(max(1, cores() // 2))
    assert {(threads, variable) for _, threads, variable in told} == {(each, each)}
    assert str(os.getpid()) not in {process for process, *_ in told}
    assert "OMP_NUM_THREADS" not in os.environ
    assert not multiprocessing.active_children()


def test_stopping_at_once_ends_every_process():
    with Workers(2).open() as team:
        executor = team.executor()
        assert isinstance(executor, ProcessPoolExecutor)
        executor.submit(time.sleep, 0).result()
        futures = [executor.submit(time.sleep, 60) for _ in range(2)]
        began = time.monotonic()
        workers.stop_now()
        for future in futures:
            assert future.exception(timeout=10) is not None
    assert time.monotonic() - began < 10


ORPHAN = """
import sys, time
from topofix.workers import Workers
if __name__ == "__main__":
    with Workers(2).open() as team:
        executor = team.executor()
        print(executor.submit(__import__("os").getpid).result(), flush=True)
        executor.submit(time.sleep, 600)
        time.sleep(600)
"""


def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(ORPHAN)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as main:
        worker = psutil.Process(int(main.stdout.readline()))
        main.kill()
    psutil.wait_procs([worker], timeout=10)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch):
    from distributed import Client

    def refuse(*arguments, **options):
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr("distributed.Client", refuse)
    assert Client is not None
    sentence = "--scheduler: expected a Dask scheduler at tcp://nowhere:1, found none"
    with pytest.raises(InvalidOption, match=sentence), Workers(2, "tcp://nowhere:1").open():
        pass


def test_without_dask_the_line_that_installs_it_is_told(monkeypatch):
    monkeypatch.setattr(workers, "find_spec", lambda name: None)
    with pytest.raises(InvalidOption, match=r"pip install 'topofix\[dask\]'"), Workers(2, "local").open():
        pass


def test_a_cluster_does_the_same_work():
    with Workers(2, "local").open() as team:
        assert team.size == 2
        found = {job.input.stem: r.record.outcome for job, r in batch.run(JOBS, Deadly(), team)}
    assert found == {str(k): Outcome.WRITTEN for k in range(8)}
