"""What a worker does with one case, and how whatever goes wrong there becomes a Record.

A task can be sent to another process or another machine; a network is loaded once in each, by the first case.
"""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from topofix import measurement, pipeline
from topofix.correction import Progress, unwatched
from topofix.errors import TopofixError
from topofix.jobs import Job
from topofix.records import CaseOptions, Record, RefinementOptions
from topofix.topology.bars import Bars


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What came of one case.

    Attributes:
        record: Its Record.
        bars: Its barcodes, where they were asked for.
    """

    record: Record
    bars: tuple[Bars, ...] = ()


class Task(Protocol):
    """The work that a command does with each case."""

    @property
    def command(self) -> str:
        """The command, for the Record of a case that failed."""

    def __call__(self, job: Job) -> Result:
        """Does it."""


@dataclass(frozen=True, slots=True)
class Refine:
    """`topofix refine`, one case of it; every job has a request."""

    options: CaseOptions
    refinement: RefinementOptions
    on_progress: Callable[[Job, Progress], None] | None = None
    command: str = "refine"

    def __call__(self, job: Job) -> Result:
        assert job.request is not None
        record = pipeline.refine(
            job.input,
            job.output,
            job.request,
            job.options(self.options),
            self.refinement,
            job.drawings,
            unwatched if self.on_progress is None else partial(self.on_progress, job),
        )
        return Result(record)


@dataclass(frozen=True, slots=True)
class Segment:
    """`topofix segment`, one case of it."""

    options: CaseOptions
    command: str = "segment"

    def __call__(self, job: Job) -> Result:
        return Result(pipeline.segment(job.input, job.output, self.options))


@dataclass(frozen=True, slots=True)
class Measure:
    """`topofix barcode`, one case of it; the attributes are those of `measurement.measure`."""

    options: CaseOptions
    label: str | None = None
    threshold: float = 0.5
    min_persistence: float = 0.0
    each_label: bool = False
    command: str = "barcode"

    def __call__(self, job: Job) -> Result:
        record, bars = measurement.measure(
            job.input,
            job.request,
            job.options(self.options),
            label=self.label,
            threshold=self.threshold,
            min_persistence=self.min_persistence,
            each_label=self.each_label,
        )
        return Result(record, tuple(bars))


def attempt(task: Task, job: Job) -> Result:
    """Does the work of one case; what goes wrong becomes its Record, whatever it is."""
    try:
        return task(job)
    except MemoryError:
        return failed(task, job, "the memory was not enough; try fewer --jobs, or a smaller image")
    except (TopofixError, OSError) as error:
        return failed(task, job, str(error) or type(error).__name__)
    except Exception as error:  # among them torch's RuntimeError when a GPU's memory is not enough
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        reason = f"{type(error).__name__} in {place}: {error}".splitlines()[0]
        return failed(task, job, f"expected no error of this kind, got {reason}")


def attempt_each(task: Task, jobs: Sequence[Job]) -> list[Result]:
    """`attempt` for several cases, one after the other."""
    return [attempt(task, job) for job in jobs]


def failed(task: Task, job: Job, message: str) -> Result:
    """The result of a case that ended in an error."""
    return Result(Record.failed(task.command, job.input, message))
