"""Hands hostile inputs to topofix, one after the other, and watches what becomes of each.

    OMP_NUM_THREADS=1 PYTHONPATH=tests python -m faults.hostile_runner --count 10000 --json results.json

A process imports everything once and forks; the child works off inputs until one of them kills it or takes
too long, and then another child goes on with the next. An input may be read or refused. It is a fault if

- the child dies, or takes longer or more memory than it may;
- anything is raised but a TopofixError or an OSError, or without a text;
- something is printed, a warning for example;
- a file appears, changes or vanishes outside the folder for results;
- there is anything in that folder after a refusal, or but what the Record names after a success;
- it was read although nobody can have meant that, such as a truncated file.
"""

import argparse
import io
import json
import os
import pickle
import resource
import select
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random

import torch
from faults.hostile import KINDS, make, put
from faults.hostile_originals import EXACT, REQUEST, RING, Originals, make_originals, options

from topofix import measurement, pipeline, training_run
from topofix.errors import TopofixError
from topofix.imaging.case_lists import read_cases
from topofix.imaging.constraints import read_constraints
from topofix.imaging.datasets import read_dataset, read_pair
from topofix.imaging.tables import priors_csv, read_priors
from topofix.imaging.volumes import stem
from topofix.jobs import Job, plan_jobs
from topofix.learning.training_state import load_state
from topofix.records import Record
from topofix.reporting.bars import bars_csv
from topofix.request import PriorRequest

MOST_SECONDS = 10.0
MOST_MEMORY = 2**30
MOST_CHARACTERS = 1000
"""Of what is said about an input that is refused."""

ENDINGS = (".nii.gz", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".tif")
"""In what topofix writes its results here."""


@dataclass(frozen=True)
class Result:
    """What became of an input.

    Attributes:
        number: Which one it was, for the same seed.
        family: What it pretended to be.
        kind: What was wrong with it.
        use: What topofix was asked to do with it.
        outcome: `read` or `refused`; without faults one of the two is as it should be.
        message: What was said, or the traceback.
        seconds: How long it took.
        memory: Bytes that were needed beyond what there was before; 0 where the system does not tell.
        faults: What is wrong with that.
        remarks: What is not nice about it: lines that a library wrote to stderr past Python, and refusals
            that are long or hold control characters.
    """

    number: int
    family: str
    kind: str
    use: str = ""
    outcome: str = "refused"
    message: str = ""
    seconds: float = 0.0
    memory: int = 0
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.number} {self.family}, {self.kind} ({self.use}): {', '.join(self.faults)}"


@dataclass(frozen=True)
class Bench:
    """What every use needs beside its input: whole files, out of the input's reach."""

    labels: Path
    model: Path

    @classmethod
    def set_up(cls, folder: Path, originals: Originals) -> "Bench":
        bench = cls(folder / "labels.nii.gz", folder / "model.safetensors")
        bench.labels.write_bytes(originals.labels)
        bench.model.write_bytes(originals.model)
        return bench


Use = Callable[[Path, Path, Bench], list[Record]]
"""Takes the input, where the result goes, and the bench; returns the Records of what was written."""


def _refine(input_type: str) -> Use:
    asked = options(input_type, save_changes=True, logits=input_type == "probabilities")
    return lambda path, output, bench: [pipeline.refine(path, output, RING, asked, EXACT)]


def _segment(path: Path, output: Path, bench: Bench) -> list[Record]:
    asked = options(model=str(bench.model), save_probabilities=True)
    return [pipeline.segment(path, output, asked)]


def _with_model(trusted: bool) -> Use:
    def segment(path: Path, output: Path, bench: Bench) -> list[Record]:
        return [pipeline.segment(bench.labels, output, options(model=str(path), trust_model=trusted))]

    return segment


def _measure(path: Path, output: Path, bench: Bench) -> list[Record]:
    record, bars = measurement.measure(path, None, options("labels"), each_label=True)
    bars_csv(path.name, bars)
    priors_csv(measurement.drawn_priors([record]))
    return []


def _frozen(path: Path, output: Path, bench: Bench) -> list[Record]:
    asked = options("labels", freeze=str(path))
    return [pipeline.refine(bench.labels, output, RING, asked, EXACT)]


def _like(path: Path, output: Path, bench: Bench) -> list[Record]:
    asked = options("probabilities", like=str(path), logits=True)
    return [pipeline.refine(bench.labels, output, RING, asked, EXACT)]


def _asked(ask: Callable[[Path], PriorRequest]) -> Use:
    return lambda path, output, bench: [
        pipeline.refine(bench.labels, output, ask(path), options("labels"), EXACT)
    ]


def _plan(path: Path, output: Path, bench: Bench) -> list[Record]:
    training_run.plan_network(path, 2)
    for file in read_dataset(path).files:
        read_pair(file)
    return []


def _resume(path: Path, output: Path, bench: Bench) -> list[Record]:
    load_state(path, REQUEST)
    return []


def _folder(path: Path, output: Path, bench: Bench) -> list[Record]:
    return _every(plan_jobs([path], output.parent / "results", "_refined"))


def _list(path: Path, output: Path, bench: Bench) -> list[Record]:
    return _every(plan_jobs([], output.parent, "_refined", read_cases(path)))


def _every(jobs: Sequence[Job]) -> list[Record]:
    """Refines case after case; those that fail are refused one by one."""
    records = []
    for job in jobs:
        with suppress(TopofixError, OSError):
            records.append(pipeline.refine(job.input, job.output, RING, options("labels"), EXACT))
    return records


USES: dict[str, Use] = {
    "labels": _refine("labels"),
    "probabilities": _refine("probabilities"),
    "segment": _segment,
    "measure": _measure,
    "frozen": _frozen,
    "like": _like,
    "model": _with_model(False),
    "trusted model": _with_model(True),
    "table": _asked(lambda path: PriorRequest(table=read_priors(path))),
    "constraints": _asked(lambda path: PriorRequest(file=read_constraints(path))),
    "data set": _plan,
    "state": _resume,
    "folder": _folder,
    "list": _list,
}
"""What topofix is asked to do with an input, by name."""


def run(numbers: range, seed: int, root: Path, originals: Originals) -> Iterator[Result]:
    """Works off inputs of a seed.

    Args:
        numbers: Which ones.
        seed: Of all of them.
        root: An empty folder for everything.
        originals: What they are made of.
    """
    shelf, sandbox = root / "shelf", root / "sandbox"
    shelf.mkdir()
    bench = Bench.set_up(shelf, originals)
    _warm_up(shelf / "warm", bench, originals)
    following, end = numbers.start, numbers.stop
    while following < end:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reader)
            _work(range(following, end), seed, sandbox, originals, bench, writer)
        os.close(writer)
        with os.fdopen(reader, "rb", buffering=0) as lines:  # `select` sees no buffer
            while following < end:
                ready, _, _ = select.select([lines], [], [], MOST_SECONDS)
                line = lines.readline() if ready else b""
                if not line:
                    os.kill(child, signal.SIGKILL)
                    _, status = os.waitpid(child, 0)
                    yield _lost(following, seed, not ready, status)
                    following += 1
                    break
                yield Result(**json.loads(line))
                following += 1
            else:
                os.waitpid(child, 0)
        shutil.rmtree(sandbox, ignore_errors=True)


def _lost(number: int, seed: int, hanging: bool, status: int) -> Result:
    kind = KINDS[number % len(KINDS)]
    fault = f"took more than {MOST_SECONDS:g} s" if hanging else f"died of signal {os.WTERMSIG(status)}"
    seconds = MOST_SECONDS if hanging else 0.0
    return Result(number, kind.family, kind.name, seconds=seconds, faults=[fault])


def _warm_up(folder: Path, bench: Bench, originals: Originals) -> None:
    """Has every reader and every use import what it needs, so that what an input takes is its own."""
    folder.mkdir()
    for kind in originals.images.values():
        for number, files in enumerate(kind):
            place = folder / f"{next(iter(files))}{number}"
            place.mkdir()
            with suppress(TopofixError):  # several channels are no label map
                USES["measure"](put(place, files), folder / "none", bench)
    for name in ("labels", "probabilities", "segment", "frozen", "like"):
        USES[name](bench.labels, folder / f"{name}.nii.gz", bench)
    USES["model"](bench.model, folder / "model.nii.gz", bench)


def _work(numbers: range, seed: int, sandbox: Path, originals: Originals, bench: Bench, pipe: int) -> None:
    """The child: a line of JSON per input; never returns."""
    status = 1
    try:
        chatter = _Chatter()
        warnings.simplefilter("always")
        for silent in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", silent)  # as Python has it for everybody
        if taken := _status("VmSize"):
            resource.setrlimit(resource.RLIMIT_AS, (taken + 4 * MOST_MEMORY,) * 2)
        for number in numbers:
            result = _try(number, seed, sandbox, originals, bench, chatter)
            os.write(pipe, json.dumps(asdict(result)).encode() + b"\n")
        status = 0
    finally:
        os._exit(status)


class _Chatter:
    """What libraries write past Python, to the process's own stdout and stderr."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        for stream in (1, 2):
            os.dup2(self._file.fileno(), stream)

    def begin(self) -> None:
        os.ftruncate(self._file.fileno(), 0)
        os.lseek(self._file.fileno(), 0, os.SEEK_SET)

    def heard(self) -> str:
        return os.pread(self._file.fileno(), 500, 0).decode(errors="replace")


def output_name(path: Path, number: int) -> str:
    """What the result of an input is called."""
    return f"{stem(path)}_refined{Random(number).choice(ENDINGS)}"


def _try(
    number: int, seed: int, sandbox: Path, originals: Originals, bench: Bench, chatter: _Chatter
) -> Result:
    """Makes one input, uses it, and looks around."""
    shutil.rmtree(sandbox, ignore_errors=True)
    for name in ("in", "out", "here", "temporary"):
        (sandbox / name).mkdir(parents=True)
    os.chdir(sandbox / "here")
    tempfile.tempdir = str(sandbox / "temporary")
    kind, use, path = make(seed, number, sandbox / "in", originals)
    output = sandbox / "out" / output_name(path, number)
    result = Result(number, kind.family, kind.name, use)
    before, records = _listing(sandbox), list[Record]()
    chatter.begin()
    taken, started = _forget_peak(), time.perf_counter()
    with redirect_stdout(io.StringIO()) as printed, redirect_stderr(printed):
        try:
            records = USES[use](path, output, bench)
            result = replace(result, outcome="read")
        except (TopofixError, OSError) as error:
            result = replace(result, message=str(error))
        except BaseException as error:
            result = replace(result, message="".join(traceback.format_exception(error))[-3000:])
            result.faults.append(f"raised {type(error).__name__}")
    seconds = round(time.perf_counter() - started, 3)
    result = replace(result, seconds=seconds, memory=max(0, _status("VmHWM") - taken))
    if said := printed.getvalue():
        result.faults.append(f"printed {said[:200]!r}")
    if result.outcome == "read" and kind.refused:
        result.faults.append("read")
    result.faults.extend([*_excesses(result), *_traces(sandbox, before, records)])
    result.remarks.extend(_oddities(result))
    if heard := chatter.heard():
        result.remarks.append(f"a library said {heard!r}")
    return result


def _excesses(result: Result) -> Iterator[str]:
    if result.seconds > MOST_SECONDS:
        yield f"took more than {MOST_SECONDS:g} s"
    if result.memory > MOST_MEMORY:
        yield f"took {result.memory / 2**20:.0f} MiB"
    if result.outcome == "refused" and not result.message.strip():
        yield "said nothing"


def _oddities(result: Result) -> Iterator[str]:
    """What is wrong with the form of what was said."""
    if result.outcome == "refused" and not result.faults:
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in result.message):
            yield "said control characters"
        if len(result.message) > MOST_CHARACTERS:
            yield f"said {len(result.message)} characters"


def _traces(sandbox: Path, before: "_Listing", records: Sequence[Record]) -> Iterator[str]:
    """What was left where, and should not be: outside of `out` anything, inside what no Record names."""
    after = _listing(sandbox)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    if strange := [name for name in changed if not name.startswith(b"out/")]:
        yield f"touched {min(strange)!r}"
    written = {name for name in changed if name.startswith(b"out/") and not stat.S_ISDIR(after[name][0])}
    made = [record for record in records if not record.skipped]
    files = [Path(file) for record in made for file in record.outputs.values()]
    promised = {os.path.relpath(os.fsencode(file), os.fsencode(sandbox)) for file in files}
    if left := written - promised:
        yield f"left {min(left)!r}"
    if lacking := promised - written:
        yield f"lacks {min(lacking)!r}"


_Listing = dict[bytes, tuple[int, int, int]]


def _listing(folder: Path) -> _Listing:
    """Mode, size and time of everything below a folder, by path as bytes; links are not followed."""
    found: _Listing = {}
    todo = [os.fsencode(folder)]
    while todo:
        for entry in os.scandir(todo.pop()):
            about = entry.stat(follow_symlinks=False)
            directory = stat.S_ISDIR(about.st_mode)
            found[os.path.relpath(entry.path, os.fsencode(folder))] = (
                about.st_mode,
                0 if directory else about.st_size,
                0 if directory else about.st_mtime_ns,
            )
            if directory:
                todo.append(entry.path)
    return found


def _forget_peak() -> int:
    """Has Linux count the peak of memory anew; returns what is in use now, 0 elsewhere."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return _status("VmRSS")


def _status(key: str) -> int:
    """Bytes that Linux reports of this process; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    """Runs them, and says on the way which ones are faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--json", type=Path, help="where the results go")
    parser.add_argument("--originals", type=Path, help="where what they were made of goes, pickled")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "drafts").mkdir()
        originals = make_originals(root / "drafts")
        numbers = range(arguments.first, arguments.first + arguments.count)
        for result in run(numbers, arguments.seed, root, originals):
            results.append(result)
            if result.faults:
                print(f"{result}\n{result.message}", file=sys.stderr)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(result) for result in results], indent=1))
    if arguments.originals:
        arguments.originals.write_bytes(pickle.dumps(originals))


if __name__ == "__main__":
    main()
