"""Every case comes back exactly once, whatever becomes of the workers."""

from collections import Counter
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

import pytest

from topofix.batch import AHEAD, run
from topofix.errors import InvalidArray
from topofix.jobs import Job
from topofix.records import Outcome, Record
from topofix.tasks import Result, attempt
from topofix.workers import Here, Team

JOBS = [Job(Path(f"{name}.png"), Path(f"{name}_seg.png")) for name in "abcdefgh"]


@dataclass
class Work:
    """A task that keeps a list of what it has done, and fails where it is told to."""

    error: Exception | None = None
    at: str = "b.png"
    command: str = "segment"
    seconds: float = 0.0

    def __post_init__(self):
        self.done: list[str] = []

    def __call__(self, job: Job) -> Result:
        self.done.append(job.input.name)
        if self.error is not None and job.input.name == self.at:
            raise self.error
        return Result(Record("segment", str(job.input), Outcome.WRITTEN, "", seconds=self.seconds))


class Fragile(Executor):
    """A pool of one process that dies of certain cases, and with it all that wait in its queue."""

    def __init__(self, deadly: str, log: list[str]) -> None:
        self.deadly, self.log, self.open, self.dead = deadly, log, [], False
        self.process = ThreadPoolExecutor(1)

    def submit(self, fn, /, task, jobs):
        if self.dead:
            raise BrokenProcessPool
        self.open.append(Future())
        self.process.submit(self.work, self.open[-1], fn, task, jobs)
        return self.open[-1]

    def work(self, future, fn, task, jobs):
        if self.dead:
            return
        deadly = [job.input.stem for job in jobs if job.input.stem in self.deadly]
        if not deadly:
            future.set_result(fn(task, jobs))
            return
        self.dead = True
        self.log += deadly[:1]
        for broken in self.open:
            if not broken.done():
                broken.set_exception(BrokenProcessPool())

    def shutdown(self, wait=True, *, cancel_futures=False):
        self.process.shutdown(wait)


def names(results) -> list[str]:
    return [job.input.stem for job, _ in results]


def test_here_results_come_one_by_one():
    work = Work()
    first = next(run(JOBS, work, Team(Here, 1)))
    assert (first[0], work.done) == (JOBS[0], ["a.png"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InvalidArray("b.png: expected voxels, found none"), "b.png: expected voxels, found none"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (MemoryError(), "the memory was not enough; try fewer --jobs, or a smaller image"),
        (ZeroDivisionError("no"), r"expected no error of this kind, got ZeroDivisionError in test_batch.py:"),
        (RuntimeError("CUDA out of memory.\nTried"), "got RuntimeError in test_batch.py:"),
    ],
    ids=["ours", "full disc", "memory", "a mistake", "a GPU's memory"],
)
def test_a_failing_case_becomes_a_record_and_the_others_go_on(error, message):
    results = dict(run(JOBS, Work(error), Team(Here, 1)))
    assert [job.input.name for job in results] == [job.input.name for job in JOBS]
    failed = results[JOBS[1]].record
    assert (failed.command, failed.input, failed.outcome) == ("segment", "b.png", Outcome.FAILED)
    assert message in failed.message
    assert "\n" not in failed.message
    assert Counter(result.record.outcome for result in results.values()) == {
        Outcome.WRITTEN: len(JOBS) - 1,
        Outcome.FAILED: 1,
    }


def test_ctrl_c_is_no_failure_of_a_case():
    def interrupted(job):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, JOBS[0])


@pytest.mark.parametrize("deadly", ["", "a", "h", "cd", "abcdefgh"])
def test_only_the_case_that_kills_its_worker_fails(deadly):
    log = []
    results = list(run(JOBS, Work(), Team(lambda: Fragile(deadly, log), 1)))
    assert sorted(names(results)) == list("abcdefgh")
    failed = {job.input.stem for job, result in results if result.record.outcome is Outcome.FAILED}
    assert failed == set(deadly)
    assert all("worker died" in r.record.message for _, r in results if r.record.outcome is Outcome.FAILED)
    assert all(count <= 2 for count in Counter(log).values()), "once in company, once alone"


def test_a_cluster_that_gives_a_case_up_is_asked_once_more():
    """Dask mends itself, but says of an innocent case too that its workers died."""
    tries = Counter()

    class Cluster(Executor):
        def submit(self, fn, /, task, jobs):
            future, (job,) = Future(), jobs
            tries[job.input.stem] += 1
            if job.input.stem == "c" or (job.input.stem == "d" and tries["d"] == 1):
                future.set_exception(LookupError("KilledWorker"))
            else:
                future.set_result(fn(task, jobs))
            return future

    results = dict(run(JOBS, Work(), Team(Cluster, 2)))
    assert len(results) == len(JOBS)
    assert [job.input.stem for job, r in results.items() if r.record.outcome is Outcome.FAILED] == ["c"]
    assert tries == Counter("abccddefgh")


def test_no_more_cases_wait_than_the_workers_need():
    most = 0

    class Slow(Executor):
        def __init__(self):
            self.futures = []

        def submit(self, fn, /, task, jobs):
            nonlocal most
            self.futures.append((Future(), fn, task, jobs))
            open_ = [future for future, *_ in self.futures if not future.done()]
            most = max(most, len(open_))
            if len(open_) == AHEAD * 3 or JOBS[-1] in jobs:
                for future, fn_, task_, jobs_ in self.futures:
                    if not future.done():
                        future.set_result(fn_(task_, jobs_))
            return self.futures[-1][0]

    assert len(list(run(JOBS, Work(), Team(Slow, 3)))) == len(JOBS)
    assert most == AHEAD * 3


def test_once_asked_to_stop_no_case_is_begun():
    work, stop = Work(), []
    results = []
    for job, _ in run(JOBS, work, Team(Here, 1), lambda: bool(stop)):
        results.append(job)
        if len(results) == 3:
            stop.append(True)
    assert [job.input.stem for job in results] == list("abc")
    assert work.done == ["a.png", "b.png", "c.png"]


def test_cases_in_hand_are_handed_on_after_a_stop():
    stop = []

    class Pool(Executor):
        """The first case is running when the stop comes, the second only waits."""

        def __init__(self):
            self.running = None

        def submit(self, fn, /, task, jobs):
            future = Future()
            if self.running is None:
                self.running = future
                future.set_running_or_notify_cancel()
                self.finish = lambda: future.set_result(fn(task, jobs))
            else:
                stop.append(True)
            return future

        def shutdown(self, wait=True, *, cancel_futures=False):
            pass

    pool = Pool()

    def stopped():
        if stop and not pool.running.done():
            pool.finish()
        return bool(stop)

    assert names(run(JOBS[:2], Work(), Team(lambda: pool, 1), stopped)) == ["a"]


def test_no_cases_no_results():
    assert list(run([], Work(), Team(Here, 1))) == []


@pytest.mark.parametrize(
    ("seconds", "distant", "handfuls"),
    [
        (0.0, True, [1, 8, 8, 8, 5]),
        (0.06, True, [1, 4, 4, 4, 4, 4, 4, 4, 1]),
        (0.2, True, [1] * 30),
        (100.0, True, [1] * 30),
        (0.0, False, [1] * 30),
    ],
)
def test_small_cases_go_to_a_distant_worker_by_the_handful(seconds, distant, handfuls):
    jobs = [Job(Path(f"{number}.png"), Path(f"{number}_seg.png")) for number in range(30)]
    found = []

    class Noting(Here):
        def submit(self, fn, /, task, jobs):
            found.append(len(jobs))
            return super().submit(fn, task, jobs)

    results = list(run(jobs, Work(seconds=seconds), Team(Noting, 1, distant=distant)))
    assert [job for job, _ in results] == jobs
    assert found == handfuls


@pytest.mark.parametrize("deadly", ["a", "cd", "h", "abcdefgh"])
def test_of_a_handful_only_the_case_that_kills_its_worker_fails(deadly):
    log = []
    results = list(run(JOBS, Work(), Team(lambda: Fragile(deadly, log), 1, distant=True)))
    assert sorted(names(results)) == list("abcdefgh")
    failed = {job.input.stem for job, result in results if result.record.outcome is Outcome.FAILED}
    assert failed == set(deadly)
