"""The case list: a CSV that says which files a study is made of, and what each is known to show.

    image,probabilities,output,label,b0,b1
    site1/scan01.nii.gz,maps/scan01.nii.gz,site1/scan01.nii.gz,myocardium,1,1
    site2/scan01.nii.gz,,,myocardium,1,1

Paths are those of files below the list's own folder: a list from elsewhere reads and writes nowhere else.
Several rows for one image are one case with several priors, and follow the rules of the prior CSV.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from topofix.errors import UnreadableFile
from topofix.imaging.rows import PriorTable, case_name
from topofix.imaging.spreadsheets import Row, read_rows
from topofix.imaging.tables import table_of

_PRIOR = ("slice", "frame", "label", "b0", "b1", "b2")
_COLUMNS = ("image", "probabilities", "output", *_PRIOR)


@dataclass(frozen=True, slots=True)
class ListedCase:
    """One case of a list.

    Attributes:
        place: The image, or the probabilities where there is none, as a path from the list's folder on.
        image: The scan; None where only its probabilities are listed.
        probabilities: Somebody's probabilities for it; None for none.
        output: Where the result goes, as a path from the output folder on; None where the list does not say.
        table: Its priors; None where the list has none.
    """

    place: Path
    image: Path | None
    probabilities: Path | None = None
    output: Path | None = None
    table: PriorTable | None = None

    @property
    def input(self) -> Path:
        """What is read first: the probabilities, or else the image."""
        found = self.probabilities or self.image
        assert found is not None  # `read_cases` refuses a row without either
        return found


def read_cases(path: Path) -> list[ListedCase]:
    """Reads a case list: UTF-8, comma-separated, one row of column names.

    Columns, in any order: `image` or `probabilities` or both; optionally `output`; optionally `b0`, `b1` and
    for 3-D topology `b2`, with `slice`, `frame` and `label` as in a prior CSV. If one row has a prior, all
    must.

    Raises:
        UnreadableFile: A missing or malformed file, an absolute path or one with `..`, a row without a file,
            or rows of one case that disagree; named with row and column.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "cases.csv"
        ...     _ = file.write_text("image,b0,b1\\na/scan.png,1,1\\nb/scan.png,1,0\\n")
        ...     [case.table.texts("scan.png") for case in read_cases(file)]
        [('1,1',), ('1,0',)]
    """
    rows = read_rows(path, "case list", _COLUMNS, ())
    if not rows:
        raise UnreadableFile(f"{path}: expected at least one case, found only column names")
    with_priors = any(row.cells[name] for row in rows for name in _PRIOR)
    groups: dict[tuple[Path | None, Path | None], list[Row]] = {}
    for row in rows:
        image, probabilities = _inside(row, "image"), _inside(row, "probabilities")
        if image is None and probabilities is None:
            raise row.refusal("image", "an image or, in its column, probabilities")
        groups.setdefault((image, probabilities), []).append(row)
    return [_case(path, *files, group, with_priors) for files, group in groups.items()]


def _case(
    path: Path, image: Path | None, probabilities: Path | None, rows: Sequence[Row], with_priors: bool
) -> ListedCase:
    outputs = {output: row for row in rows if (output := _inside(row, "output")) is not None}
    if len(outputs) > 1:
        raise list(outputs.values())[1].refusal("output", f"one output for a case, {next(iter(outputs))}")
    place = image or probabilities
    assert place is not None
    name = case_name((probabilities or place).name)
    return ListedCase(
        place,
        image and path.parent / image,
        probabilities and path.parent / probabilities,
        next(iter(outputs), None),
        table_of(path, name, rows) if with_priors else None,
    )


def _inside(row: Row, column: str) -> Path | None:
    """The path in a cell, if it stays where it begins; None for an empty cell."""
    cell = row.cells[column]
    if not cell:
        return None
    windows = PureWindowsPath(cell)
    if PurePosixPath(cell).is_absolute() or windows.anchor or ".." in windows.parts or "\0" in cell:
        raise row.refusal(column, "a path below the list's folder, neither absolute nor with ..")
    return Path(cell)
