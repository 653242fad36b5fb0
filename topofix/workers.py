"""Who does the work: this process, processes of this machine, or the workers of a Dask cluster.

All three are executors as `concurrent.futures` has them, so that `topofix.batch` knows no other difference.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import wait
from multiprocessing.process import parent_process
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import psutil

from topofix.errors import InvalidOption
from topofix.interruption import SIGNALS

P = ParamSpec("P")
T = TypeVar("T")

MEMORY_EACH = 2 * 2**30
"""Bytes that a process is reckoned to need, where none are named: a network, a scan and its logits."""

CASES_EACH = 4
"""Cases for which a process is worth the second in which it starts, where none are named."""

LOCAL = "local"
"""The scheduler that is started here."""

_LOCAL_SETTINGS = {
    "distributed.scheduler.allowed-failures": 1,  # batch.run tries again itself
    "distributed.worker.profile.enabled": False,  # watching itself took a quarter of the time of small cases
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.tick.interval": "1s",
}
"""Of a scheduler that is started here, and of its workers."""

LOST = "--scheduler: expected it to stay within reach, lost it; the same command does the cases that are left"


@dataclass(frozen=True, slots=True)
class Workers:
    """How many there are, and where.

    Attributes:
        count: Processes; 1 for this one.
        scheduler: Address of a Dask scheduler, whose workers there are as many of as there are; `local` for
            one of our own; None for none.
    """

    count: int = 1
    scheduler: str | None = None

    @property
    def here(self) -> bool:
        """Whether all the work is done in this process."""
        return self.count == 1 and self.scheduler is None

    @contextmanager
    def open(self) -> Iterator["Team"]:
        """Starts them, and in the end lets them finish what they have in hand.

        Raises:
            InvalidOption: Dask is not installed, or no scheduler answers.
        """
        if self.scheduler is not None:
            with _cluster(self.scheduler, self.count) as client:
                size = self.count if self.scheduler == LOCAL else sum(client.nthreads().values())
                yield Team(lambda: Elsewhere(client), max(1, size), distant=True)
        elif self.here:
            yield Team(Here, 1)
        else:
            with _threads(max(1, cores() // self.count)):
                yield Team(lambda: _pool(self.count), self.count)


@dataclass(frozen=True, slots=True)
class Team:
    """Workers that are there.

    Attributes:
        executor: Makes an executor; again after one broke.
        size: How many cases it works on at a time.
        distant: Whether handing out a case takes as long as a small one.
    """

    executor: Callable[[], Executor]
    size: int
    distant: bool = False


def choose_count(jobs: int | None, cases: int, device: str = "auto") -> int:
    """How many processes to start: as many as were asked for, or as cases, cores, memory and GPUs allow.

    Args:
        jobs: As asked for; None for a choice.
        cases: How many there are.
        device: Where networks run; on GPUs there is one process for each.

    Raises:
        InvalidOption: Fewer than one.
    """
    if jobs is not None:
        if jobs < 1:
            raise InvalidOption(f"--jobs: expected 1 or more, got {jobs}")
        return min(jobs, max(1, cases))
    most = (0 if device == "cpu" else _gpus()) or cores()
    fitting = int(psutil.virtual_memory().available) // MEMORY_EACH
    return max(1, min(most, cases // CASES_EACH, fitting))


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _gpus() -> int:
    """GPUs that this process may use, told without the second that it takes to import PyTorch."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return sum(bool(name.strip()) for name in visible.split(","))
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


class Here(Executor):
    """An executor that does the work at once, in this process."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Does the work; the future is done when it is returned."""
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Elsewhere(Executor):
    """A client of Dask as an executor. What was handed out is in hand: it cannot be taken back."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Hands out work; a second try of the same is work anew.

        Raises:
            InvalidOption: The scheduler is gone; the work that it had in hand ends in the same.
        """
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def hand_on(remote: Any) -> None:
            try:
                future.set_result(remote.result())
            except CancelledError:  # by nobody
                future.set_exception(InvalidOption(LOST))
            except Exception as error:
                future.set_exception(error)

        try:
            self._client.submit(fn, *args, pure=False, **kwargs).add_done_callback(hand_on)
        except Exception as error:
            if self._client.status == "running":
                raise
            raise InvalidOption(LOST) from error
        return future


def stop_now() -> None:
    """Ends all processes that were started here, with what they have in hand."""
    for process in multiprocessing.active_children():
        process.kill()


def _pool(count: int) -> ProcessPoolExecutor:
    """Processes that share what they have imported where the system can do that."""
    ways = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
    if context.get_start_method() == "forkserver":
        from multiprocessing import forkserver

        context.set_forkserver_preload(["topofix.tasks"])
        with ThreadPoolExecutor(1, initializer=_shield) as apart:
            apart.submit(forkserver.ensure_running).result()
    numbers = context.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    return ProcessPoolExecutor(count, context, _begin, (numbers,))


def _shield() -> None:
    """Lets no signal reach this thread, nor the processes that it starts: they are for the main one."""
    if hasattr(signal, "pthread_sigmask"):
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()  # which would undo it
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _begin(numbers: Any) -> None:
    """Prepares a process: signals are for the one that started it, whose end is its own; a GPU of its own."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if torch.cuda.is_available():
        torch.cuda.set_device(numbers.get() % torch.cuda.device_count())


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Processes that are started meanwhile use so many threads each."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    try:
        for name, value in before.items():
            os.environ[name] = value or str(count)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)


@contextmanager
def _cluster(address: str, count: int) -> Iterator[Any]:
    """A client of a Dask scheduler."""
    if find_spec("distributed") is None:
        raise InvalidOption(
            "--scheduler: expected the package distributed, found none; "
            "pip install 'topofix[dask]' installs it"
        )
    import logging

    import dask
    from distributed import Client, LocalCluster

    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # a case that fails has its Record
    if address == LOCAL:
        env = {"OMP_NUM_THREADS": str(max(1, cores() // count))}
        begin = partial(
            LocalCluster, count, threads_per_worker=1, dashboard_address=None, env=env, silence_logs=50
        )
        with (
            dask.config.set(_LOCAL_SETTINGS),
            ThreadPoolExecutor(1, initializer=_shield) as apart,  # so that this one can be interrupted
            apart.submit(begin).result() as cluster,
            Client(cluster) as client,
        ):
            try:
                yield client
            except KeyboardInterrupt:
                stop_now()  # Dask would let them finish
                raise
        return
    try:
        client = Client(address, timeout=10)
    except (OSError, ValueError, TimeoutError) as error:
        raise InvalidOption(f"--scheduler: expected a Dask scheduler at {address}, found none") from error
    with client:
        yield client
