"""What a person at a terminal sees while a command is at work, and how the command ends."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from json import dumps
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NoReturn

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from topofix.errors import TopofixError, UnwritableFile
from topofix.outcomes import Outcome
from topofix.records import CaseOptions, Record

if TYPE_CHECKING:
    from topofix.correction import Progress as CaseProgress
    from topofix.jobs import Job
    from topofix.learning.training_state import Epoch
    from topofix.request import PriorRequest
    from topofix.tasks import Result, Task

MOST_EPOCHS = 12
"""Finished epochs shown while a training runs."""


class Display:
    """What a terminal shows while cases run: a bar if there are several, and the case under way."""

    def __init__(self, count: int, quiet: bool, *, steps: bool = False) -> None:
        console = Console(stderr=True)
        shown = console.is_terminal and not quiet and (count > 1 or steps)
        bar = (BarColumn(), MofNCompleteColumn()) if count > 1 else ()
        self.progress = Progress(
            *bar,
            TextColumn("{task.description}", markup=False),
            console=console,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),  # else results would end in the console, that is stderr
            disable=not shown,
        )
        self._task = self.progress.add_task("", total=count)
        self._job: Job | None = None
        self._begun = 0.0

    def tell(self, job: "Job", progress: "CaseProgress") -> None:
        """A stage begins, or has taken a step."""
        from topofix.reporting.lines import progress_line

        if job is not self._job:
            self._job, self._begun = job, monotonic()
        betti = zip(progress.betti, (c.betti for c in progress.prior.constraints), strict=True)
        numbers = [(now, ",".join(map(str, wanted))) for now, wanted in betti]
        seconds = monotonic() - self._begun
        name = job.input.name
        line = progress_line(name, progress.index, progress.stage, progress.steps, numbers, seconds)
        self.progress.update(self._task, description=line)

    def end(self) -> None:
        """A case is over."""
        self.progress.advance(self._task)


def compare_with_table(
    request: "PriorRequest | None",
    every: "list[Job]",
    own: "list[Job]",
    options: CaseOptions,
    *,
    strict: bool,
    quiet: bool,
) -> None:
    """Says where a table of priors and the cases differ; with --strict that is the end, before any work.

    Args:
        request: What is asked for, maybe by such a table.
        every: All cases, by whose names it is told.
        own: Those of this part of a job array, by whose slices it is told.
        options: Where slices lie.
        strict: It is the end.
        quiet: Else it is not even said.
    """
    if request is None or request.table is None:
        return
    from topofix.measurement import count_slices
    from topofix.request import mismatches, missing_slices

    names = [job.input.name for job in every]
    _tell(mismatches(request.table, names), strict=strict, quiet=quiet, exit_code=2)
    beyond: list[str] = []
    for file in (job.input for job in own):
        if request.table.has_slices(file.name):
            with suppress(Exception):  # what cannot be read fails as a case of its own
                beyond += missing_slices(request.table, file.name, count_slices(file, options))
    _tell(beyond, strict=strict, quiet=quiet, exit_code=1)


def _tell(sentences: list[str], *, strict: bool, quiet: bool, exit_code: int) -> None:
    for sentence in sentences:
        if strict or not quiet:
            print(f"topofix: {'' if strict else 'warning: '}{sentence}", file=sys.stderr)
    if strict and sentences:
        raise typer.Exit(exit_code)


class Run:
    """A command at work on its cases: a line for each as it is done, and an end that says how it went."""

    def __init__(
        self,
        planned: "list[Job]",
        output: Path | None,
        jobs: int | None,
        scheduler: str | None,
        part: str | None,
        device: str,
        *,
        json: bool,
        quiet: bool,
        rows: bool = False,
    ) -> None:
        from topofix.workers import Workers, choose_count

        self.planned, self.json, self.quiet, self.rows, self.part = planned, json, quiet, rows, part
        with usage():
            self.workers = Workers(choose_count(jobs, len(planned), device), scheduler)
        self.display = Display(len(planned), quiet or json, steps=self.workers.here)
        # An output folder has a table of what is in it; a dry run writes nothing.
        cohort = output is not None and not rows and (len(planned) > 1 or part is not None)
        self.folder = output if cohort else None

    def finish(
        self,
        task: "Task",
        keep: "Callable[[Job, Result], None]" = lambda job, result: None,
        write: Callable[[], None] = lambda: None,
    ) -> NoReturn:
        """Does the work, hands each result on, and exits with what the worst case says.

        Args:
            task: The work.
            keep: Told of each case as it is done.
            write: Writes what all cases make together, if any did not fail.
        """
        from topofix import batch
        from topofix.interruption import Interruption
        from topofix.summary import Summary
        from topofix.workers import stop_now

        with errors():
            summary = self.folder and Summary(self.folder, task.command, len(self.planned), self.part)
        interruption = Interruption()
        codes: list[int] = []
        skipped = 0
        try:
            with (
                errors(),
                interruption.watched(self._say_that_it_stops),
                self.display.progress,
                self.workers.open() as team,
            ):
                for job, result in batch.run(self.planned, task, team, lambda: interruption.requested):
                    codes.append(result.record.outcome.exit_code)
                    skipped += result.record.skipped
                    if summary:
                        with suppress(UnwritableFile):  # it is written again, and in the end for good
                            summary.add(result.record)
                    keep(job, result)
                    self._print(result.record)
                    self.display.end()
        except KeyboardInterrupt:
            stop_now()
            interruption.requested = True
        with errors():
            if summary:
                summary.write()
            if set(codes) != {Outcome.FAILED.exit_code} and not interruption.requested:
                write()
        if interruption.requested:
            left = len(self.planned) - len(codes)
            print(f"topofix: stopped; {len(codes)} cases are done, {left} are left", file=sys.stderr)
            raise typer.Exit(130)
        if skipped and not (self.json or self.quiet):
            print(f"{skipped} of {len(codes)} cases had been done before; --overwrite does them again")
        raise typer.Exit(1 if 1 in codes else max(codes, default=0))

    def _print(self, record: Record) -> None:
        from topofix.reporting.changes import change_lines
        from topofix.reporting.lines import one_line

        failed = record.outcome is Outcome.FAILED
        if self.json:
            print(dumps(record.to_dict(), ensure_ascii=False), flush=True)
        if failed or not (self.json or self.quiet):
            lines = [one_line(record), *(change_lines(record) if self.rows else [])]
            print("\n".join(lines), file=sys.stderr if failed else sys.stdout, flush=True)

    def _say_that_it_stops(self) -> None:
        print(
            "topofix: stopping when the cases in hand are done; once more stops at once",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def training_progress(quiet: bool) -> Iterator[Callable[["Epoch"], None]]:
    """Shows the latest epochs as a live table in a terminal, and a line per epoch elsewhere, on stderr."""
    from topofix.reporting.epochs import epoch_line, epoch_table

    console = Console(stderr=True)
    if quiet or not console.is_terminal:

        def write(epoch: "Epoch") -> None:
            if epoch.finished and not quiet:
                print(epoch_line(epoch), file=sys.stderr, flush=True)

        yield write
        return
    finished: list[Epoch] = []
    with Live(console=console, refresh_per_second=4) as live:

        def show(epoch: "Epoch") -> None:
            if epoch.finished:
                finished.append(epoch)
            live.update(epoch_table([*finished[-MOST_EPOCHS:], *([] if epoch.finished else [epoch])]))

        yield show


@contextmanager
def usage() -> Iterator[None]:
    """Turns what is wrong with the options into one sentence and exit code 2."""
    try:
        yield
    except TopofixError as error:
        print(f"topofix: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


@contextmanager
def errors() -> Iterator[None]:
    """Turns what cannot be done into one sentence and exit code 1."""
    try:
        yield
    except (TopofixError, OSError) as error:
        print(f"topofix: {error}", file=sys.stderr)
        raise typer.Exit(1) from error
