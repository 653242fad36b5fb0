"""Many cases: every one is finished, or its Record says why not, whatever becomes of the workers.

waiting ---> in hand ---> done
   ^            |
   |            v   a worker died: each case that was in hand is tried alone,
   `------- suspects   so that the one that kills its worker is found out
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait

from topofix.errors import TopofixError
from topofix.jobs import Job
from topofix.tasks import Result, Task, attempt_each, failed
from topofix.workers import Team, stop_now

AHEAD = 2
"""Cases, or handfuls of small ones, that wait at each worker, so that none is idle; more would only fill the
memory."""

TOGETHER, MOST_TOGETHER = 0.25, 8
"""Seconds of work that a distant worker is handed at once, and cases at most: a message takes its time."""

POLL = 0.2
"""Seconds after which it is asked again whether to stop."""


def run(
    jobs: Sequence[Job], task: Task, team: Team, stopped: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Job, Result]]:
    """Does the work of every case and hands on each result as it comes, in no order.

    Args:
        jobs: The cases.
        task: The work.
        team: Who does it.
        stopped: Asked now and then; once it says so, cases in hand are finished and no others begun.

    Raises:
        TopofixError: There is nobody left to do the work.
    """
    waiting, suspects = deque(jobs), deque[Job]()
    in_hand: dict[Future[list[Result]], list[Job]] = {}
    on_trial: Future[list[Result]] | None = None
    recent = deque[float](maxlen=32)  # seconds that cases took
    executor = team.executor()
    try:
        while waiting or suspects or in_hand:
            if stopped():
                waiting.clear()
                suspects.clear()
                in_hand = {future: some for future, some in in_hand.items() if not future.cancel()}
            if suspects and not in_hand:
                alone = [suspects.popleft()]
                on_trial = _hand_out(executor, task, alone)
                in_hand[on_trial] = alone
            while waiting and not suspects and on_trial not in in_hand and _room(in_hand, team):
                some = [waiting.popleft() for _ in range(min(len(waiting), _together(team, recent)))]
                in_hand[_hand_out(executor, task, some)] = some
            done, _ = wait(in_hand, POLL, FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenExecutor) for future in done):
                stop_now()  # the workers that are left, else a case could have two
                done, _ = wait(in_hand)
                time.sleep(0.05)  # a server of workers that was killed takes a moment until it is gone
                executor.shutdown(wait=False)
                executor = team.executor()
            for future in done:
                some = in_hand.pop(future)
                error = future.exception()
                if error is None:
                    recent.extend(result.record.seconds for result in future.result())
                    yield from zip(some, future.result(), strict=True)
                elif isinstance(error, TopofixError):
                    raise error
                elif future is on_trial:
                    (job,) = some
                    yield job, failed(task, job, "its worker died, most likely for want of memory")
                else:
                    suspects.extend(some)
    except BaseException:
        executor.shutdown(wait=False, cancel_futures=True)
        raise
    executor.shutdown()


def _hand_out(executor: Executor, task: Task, jobs: Sequence[Job]) -> Future[list[Result]]:
    """Submits cases, and has them fail where there is no worker and none can be started."""
    try:
        return executor.submit(attempt_each, task, jobs)
    except (BrokenExecutor, EOFError, OSError) as error:
        future: Future[list[Result]] = Future()
        future.set_exception(BrokenExecutor(str(error)))
        return future


def _room(in_hand: dict[Future[list[Result]], list[Job]], team: Team) -> bool:
    """Whether to hand out more; not before what is done has been handed on."""
    return len(in_hand) < AHEAD * team.size and not any(future.done() for future in in_hand)


def _together(team: Team, recent: Sequence[float]) -> int:
    """How many cases to hand out at once."""
    if not (team.distant and recent):
        return 1
    fitting = TOGETHER * len(recent) / max(sum(recent), 1e-3)
    return max(1, min(MOST_TOGETHER, int(fitting)))
