"""Which cases there are, where each result goes, and what is drawn of it.

Cases come from files, folders, patterns and case lists, in any mixture; an output folder has the tree of what
was found in it. Nothing is read but names, so that a night of work is refused in its first second or not at
all.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from glob import has_magic
from pathlib import Path

from topofix.drawings import ENDINGS, PAGES, Drawings, check_packages
from topofix.errors import InvalidOption, UnreadableFile, UnwritableFile
from topofix.imaging.case_lists import ListedCase
from topofix.imaging.volumes import WRITABLE, find_images, is_image, stem, suffix
from topofix.records import CaseOptions
from topofix.request import PriorRequest

_RESULT = re.compile(r"_(refined|seg)(_changes|_probabilities_.*)?$")
_NAMELESS = ("", "..")
"""The names of folders that are somewhere, but not called anything: `.` and `..`."""


@dataclass(frozen=True, slots=True)
class Job:
    """One case: a file to read and the label map to write.

    Attributes:
        input: The scan, probabilities or label map, or the folder of a DICOM series.
        output: The label map.
        drawings: What is drawn of it.
        request: The topology that is asked for this case.
        image: From a case list: the scan whose probabilities `input` holds; None elsewhere.
        listed: `input` holds probabilities, because it stands so in a case list.
    """

    input: Path
    output: Path
    drawings: Drawings = field(default=Drawings(), compare=False)
    request: PriorRequest | None = field(default=None, compare=False)
    image: Path | None = None
    listed: bool = False

    def options(self, common: CaseOptions) -> CaseOptions:
        """The options of a run, as they hold for this case."""
        if not self.listed:
            return common
        like = common.like if self.image is None else str(self.image)
        return replace(common, input_type="probabilities", like=like)


def plan_jobs(
    inputs: Sequence[Path], output: Path | None, ending: str, listed: Sequence[ListedCase] = ()
) -> list[Job]:
    """Finds the cases and decides where each result goes.

    Args:
        inputs: Image files, folders of them, and patterns such as `scans/**/*.nii.gz` of either; the folder
            of a DICOM series is one image.
        output: The file for a single case, or the folder for several, in which the tree of an input folder,
            or of a pattern from its first star on, is kept. None puts `NAME{ending}` beside each input. What
            comes in a format that holds no label map, such as DICOM, is written as NIfTI.
        ending: `_refined` or `_seg`; files in a folder that topofix names so are results, not cases. Empty
            where nothing is written: then they are cases like any other.
        listed: The cases of a case list.

    Raises:
        UnreadableFile: A folder without images, or a pattern that nothing matches.
        UnwritableFile: Two cases would be written to one file or Record, or a case over an input; or a case
            list names outputs where there is no output folder.

    Example:
        >>> plan_jobs([Path("a/scan.nii.gz")], None, "_seg")[0].output.name
        'scan_seg.nii.gz'
    """
    found = [(path, folder) for item in inputs for path, folder in _find(item, ending)]
    single = not listed and len(inputs) == 1 and [path for path, _ in found] == list(inputs)
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
    jobs += [_listed_job(case, output, ending) for case in listed]
    jobs = list(dict.fromkeys(jobs))  # a file in a folder that was named twice is one case
    if ending:  # else nothing is written
        _refuse_collisions(jobs)
    return jobs


def with_drawings(jobs: Sequence[Job], wishes: "Wishes") -> list[Job]:
    """The cases with what `plan_drawings` plans for each."""
    return [
        replace(job, drawings=drawings)
        for job, drawings in zip(jobs, plan_drawings(jobs, wishes), strict=True)
    ]


def with_requests(jobs: Sequence[Job], request: PriorRequest | None) -> list[Job]:
    """The cases with the topology that is asked for each: its own from a case list, or what holds for all.

    Of a table, a case is given its own rows only, so that no worker is sent thousands.
    """
    if request is None:
        return list(jobs)
    return [job if job.request else replace(job, request=request.for_case(job.input.name)) for job in jobs]


def part_of(jobs: Sequence[Job], part: str | None) -> list[Job]:
    """Every n-th case, for a job array: the k-th of n parts; all parts together are all cases.

    Args:
        jobs: All cases.
        part: `k/n`, k from 1 to n; None for all.

    Raises:
        InvalidOption: Anything else.

    Example:
        >>> jobs = [Job(Path(f"{name}.png"), Path(f"{name}_seg.png")) for name in "abcde"]
        >>> [job.input.name for job in part_of(jobs, "2/3")]
        ['b.png', 'e.png']
    """
    if part is None:
        return list(jobs)
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", part)
    number, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= parts:
        raise InvalidOption(f"--part: expected k/n with k from 1 to n, such as 3/20, got '{part}'")
    return list(jobs[number - 1 :: parts])


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

    Pages have made-up names, since those of files can hold anything; a case has the same in every run.

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
            kinds = " or ".join(ENDINGS[name])
            found = f"'{wish.name}' for {len(jobs)} case{'' if len(jobs) == 1 else 's'}"
            raise UnwritableFile(f"--{name}: expected a folder, or for one case a {kinds} file, got {found}")
        return wish / f"{stem(job.output)}{kind}"

    wanted = {"report": wishes.report, "surface": wishes.surface}
    check_packages([name for name, wish in wanted.items() if wish is not None])
    planned = []
    taken: dict[Path, Path] = {}
    for job in jobs:
        report = place("report", wishes.report, ".html", job)
        thumbnail = None
        if wishes.report is not None and wishes.is_cohort:
            name = hashlib.sha256(str(job.output).encode("utf-8", "surrogateescape")).hexdigest()[:12]
            report = wishes.report / "cases" / f"{name}.html"
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


def _find(item: Path, ending: str) -> list[tuple[Path, Path]]:
    """Image files under an input, each with the folder that its place is relative to."""
    if not item.is_dir():
        if item.exists() or not has_magic(str(item)):
            return [(item, item.parent)]
        return _match(item, ending)
    found = [
        (path, path.parent if path == item else item)  # a folder can be a case itself
        for path in find_images(item)
        if not ending or path.is_dir() or not _RESULT.search(stem(path))
    ]
    if not found:
        raise UnreadableFile(f"{item}: expected a folder with images, found none")
    return found


def _match(pattern: Path, ending: str) -> list[tuple[Path, Path]]:
    """The same for a pattern that no shell has expanded; places are relative to its part without stars."""
    first = next(number for number, part in enumerate(pattern.parts) if has_magic(part))
    root = Path(*pattern.parts[:first])
    found = []
    for path in sorted(root.glob(str(Path(*pattern.parts[first:])))):
        if path.is_dir():
            found += [(image, root) for image in find_images(path)]
        elif is_image(path):
            found.append((path, root))
    found = [pair for pair in found if not ending or not _RESULT.search(stem(pair[0]))]
    if not found:
        raise UnreadableFile(f"{pattern}: expected images that the pattern matches, found none")
    return found


def _listed_job(case: ListedCase, output: Path | None, ending: str) -> Job:
    """A row of a case list; its image says where the result goes, unless the row does."""
    if output is None and case.output is not None:
        raise UnwritableFile(f"--cases: expected --output for the outputs that it names, got '{case.output}'")
    main = case.input if case.image is None else case.image
    name = _output_name(main, ending)
    place = case.place.with_name(name) if case.output is None else case.output
    target = main.with_name(name) if output is None else output / place
    listed = case.probabilities is not None
    image = case.image if listed else None
    request = None if case.table is None else PriorRequest(table=case.table)
    return Job(case.input, target, request=request, image=image, listed=listed)


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
