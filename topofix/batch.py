"""Many cases: which files there are, where each result goes, and none that stops the others."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from topofix.drawings import ENDINGS, PAGES, Drawings, check_packages
from topofix.errors import TopofixError, UnreadableFile, UnwritableFile
from topofix.imaging.volumes import WRITABLE, find_images, is_image, stem, suffix
from topofix.records import Record

_RESULT = re.compile(r"_(refined|seg)(_changes|_probabilities_.*)?$")
_NAMELESS = ("", "..")
"""The names of folders that are somewhere, but not called anything: `.` and `..`."""


@dataclass(frozen=True, slots=True)
class Job:
    """One case: a file to read and the label map to write."""

    input: Path
    output: Path


def plan_jobs(inputs: Sequence[Path], output: Path | None, ending: str) -> list[Job]:
    """Finds the cases and decides where each result goes.

    Args:
        inputs: Image files and folders of them; the folder of a DICOM series is one image.
        output: The file for a single case, or the folder for several, in which an input folder's tree is
            kept. None puts `NAME{ending}` beside each input. What comes in a format that holds no label map,
            such as DICOM, is written as NIfTI.
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
    single = len(inputs) == 1 and [path for path, _ in found] == list(inputs)
    jobs = []
    for path, folder in found:
        name = _output_name(path, ending)
        if output is None:  # beside the input
            target = (path.resolve() if path.name in _NAMELESS else path).with_name(name)
        elif single and is_image(output) and not output.is_dir():
            target = output
        else:
            target = output / path.parent.relative_to(folder) / name
        jobs.append(Job(path, target))
    jobs = list(dict.fromkeys(jobs))  # a file in a folder that was named twice is one case
    if ending:  # else nothing is written
        _refuse_collisions(jobs)
    return jobs


@dataclass(frozen=True, slots=True)
class Wishes:
    """What to draw of every case: a file for a single one, a folder for several.

    Attributes:
        figure: Barcodes; in a folder `NAME.png`.
        overlay: The same for overlays.
        surface: The same for surfaces; in a folder `NAME.stl`.
        report: A page for a single case; in a folder an `index.html` and a page per case.
        diagram: Figures are persistence diagrams.
        command: What was typed, for the pages.
    """

    figure: Path | None = None
    overlay: Path | None = None
    surface: Path | None = None
    report: Path | None = None
    diagram: bool = False
    command: str = ""

    @property
    def is_cohort(self) -> bool:
        """Whether the report is a folder with a page for all cases."""
        return self.report is not None and self.report.suffix.lower() not in PAGES


def plan_drawings(jobs: Sequence[Job], wishes: Wishes) -> list[Drawings]:
    """Decides what is drawn into which file.

    Pages have numbers for names, since those of files can hold anything.

    Args:
        jobs: The cases.
        wishes: For all of them.

    Raises:
        InvalidOption: A package is missing.
        UnwritableFile: A file where several cases need a folder, or two cases of one name in one folder.
    """

    def place(name: str, wish: Path | None, kind: str, job: Job) -> Path | None:
        if wish is None or (wish.suffix.lower() in ENDINGS[name] and len(jobs) == 1):
            return wish
        if wish.suffix and not wish.is_dir():
            found = f"'{wish.name}' for {len(jobs)} cases"
            raise UnwritableFile(f"--{name}: expected a folder, or for one case a {kind} file, got {found}")
        return wish / f"{stem(job.output)}{kind}"

    wanted = {"report": wishes.report, "surface": wishes.surface}
    check_packages([name for name, wish in wanted.items() if wish is not None])
    planned = []
    taken: dict[Path, Path] = {}
    for number, job in enumerate(jobs, start=1):
        report = place("report", wishes.report, ".html", job)
        thumbnail = None
        if wishes.report is not None and wishes.is_cohort:
            report = wishes.report / "cases" / f"{number:04}.html"
            thumbnail = report.with_suffix(".png")
        drawings = Drawings(
            place("figure", wishes.figure, ".png", job),
            place("overlay", wishes.overlay, ".png", job),
            report,
            thumbnail,
            place("surface", wishes.surface, ".stl", job),
            wishes.diagram,
            wishes.command,
        )
        for name, path in drawings.paths.items():
            other = taken.setdefault(path.absolute(), job.input)
            if other != job.input:
                raise UnwritableFile(
                    f"--{name}: expected one case per file, got {other} and {job.input} for {path}"
                )
        planned.append(drawings)
    return planned


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
    found = [
        (path, path.parent if path == item else item)  # a folder can be a case itself
        for path in find_images(item)
        if not ending or path.is_dir() or not _RESULT.search(stem(path))
    ]
    if not found:
        raise UnreadableFile(f"{item}: expected a folder with images, found none")
    return found


def _output_name(path: Path, ending: str) -> str:
    """`NAME{ending}` and the suffix of the input, or that of the nearest format that can be written."""
    if path.is_dir():
        return f"{(path.resolve() if path.name in _NAMELESS else path).name}{ending}.nii.gz"
    kind = suffix(path)
    if kind in (".jpg", ".jpeg"):
        kind = ".png"
    elif is_image(path) and kind not in WRITABLE:
        kind = ".nii.gz"
    return f"{stem(path)}{ending}{kind}"


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
