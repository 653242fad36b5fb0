"""Many cases: which files there are, where each result goes, and none that stops the others."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from topofix.errors import TopofixError, UnreadableFile, UnwritableFile
from topofix.imaging.volumes import find_images, is_image, stem, suffix
from topofix.records import Record

_RESULT = re.compile(r"_(refined|seg)(_probabilities_.*)?$")


@dataclass(frozen=True, slots=True)
class Job:
    """One case: a file to read and the label map to write."""

    input: Path
    output: Path


def plan_jobs(inputs: Sequence[Path], output: Path | None, ending: str) -> list[Job]:
    """Finds the cases and decides where each result goes.

    Args:
        inputs: Image files and folders of them.
        output: The file for a single case, or the folder for several, in which an input folder's tree is
            kept. None puts `NAME{ending}` beside each input.
        ending: `_refined` or `_seg`; files in a folder that topofix names so are results, not cases. Empty
            where nothing is written: then they are cases like any other.

    Raises:
        UnreadableFile: A folder without images.
        UnwritableFile: Two cases would be written to one file or Record, or a case over an input.

    Example:
        >>> plan_jobs([Path("a/scan.nii.gz")], None, "_seg")[0].output.name
        'scan_seg.nii.gz'
    """
    found = [(path, folder) for item in inputs for path, folder in _find(item, ending)]
    single = len(inputs) == 1 and not inputs[0].is_dir()
    jobs = []
    for path, folder in found:
        kind = ".png" if suffix(path) in (".jpg", ".jpeg") else suffix(path)
        name = f"{stem(path)}{ending}{kind}"
        if output is None:  # beside the input
            target = path.with_name(name)
        elif single and is_image(output) and not output.is_dir():
            target = output
        else:
            target = output / path.parent.relative_to(folder) / name
        jobs.append(Job(path, target))
    jobs = list(dict.fromkeys(jobs))  # a file in a folder that was named twice is one case
    if ending:  # else nothing is written
        _refuse_collisions(jobs)
    return jobs


def run(jobs: Sequence[Job], work: Callable[[Job], Record], command: str) -> Iterator[Record]:
    """Does the work of every case in turn; a case that fails becomes a Record and the others go on.

    Args:
        jobs: The cases.
        work: Makes a Record of one.
        command: For the Record of a failed case.
    """
    for job in jobs:
        try:
            yield work(job)
        except (
            TopofixError,
            OSError,
            MemoryError,
            RuntimeError,
        ) as error:  # torch's out of memory is the last
            yield Record.failed(command, job.input, str(error) or type(error).__name__)


def _find(item: Path, ending: str) -> list[tuple[Path, Path]]:
    """Image files under an input, each with the folder that its place is relative to."""
    if not item.is_dir():
        return [(item, item.parent)]
    found = [(path, item) for path in find_images(item) if not ending or not _RESULT.search(stem(path))]
    if not found:
        raise UnreadableFile(f"{item}: expected a folder with images, found none")
    return found


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    inputs = {job.input.resolve() for job in jobs}
    taken: dict[Path, Path] = {}
    for job in jobs:
        if job.output.resolve() in inputs:
            raise UnwritableFile(f"{job.output}: expected another file than an input for the output")
        name = job.output.with_name(stem(job.output)).absolute()  # that of the Record, too
        other = taken.setdefault(name, job.input)
        if other != job.input:
            raise UnwritableFile(f"{job.output}: expected one case per output, got {other} and {job.input}")
