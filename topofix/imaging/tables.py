"""The prior CSV: what topology each case, slice and label is known to have.

    case,slice,label,b0,b1
    scan01,*,myocardium,1,1
    scan01,0-2,myocardium,1,0
    scan01,7,myocardium,0,0

A row for one slice is more specific than one for a range of slices, which is more specific than one for every
slice; the most specific row wins. The Betti numbers stay text here: `topofix.topology.priors` reads them.
"""

import csv
import io
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from topofix.errors import UnreadableFile
from topofix.imaging.volumes import is_image, suffix

_REQUIRED = ("case", "b0", "b1")
_COLUMNS = ("case", "slice", "label", "b0", "b1", "b2")
_SLICES = re.compile(r"([0-9]+)(?:\s*-\s*([0-9]+))?")


@dataclass(frozen=True, slots=True)
class PriorRow:
    """One row of a prior CSV.

    Attributes:
        number: the row in the file, as a spreadsheet counts: the row of column names is 1.
        case: the case without the suffix of an image file.
        slices: first and last slice, 0-based and both included; None for every slice.
        label: number or name of the label, or labels joined by `+`; empty for the foreground.
        betti: the Betti numbers as text, such as `1,1-3,*`.
    """

    number: int
    case: str
    slices: tuple[int, int] | None
    label: str
    betti: str

    @property
    def _breadth(self) -> float:
        """0 for one slice, 1 for a range of slices, infinite for every slice: the lowest wins."""
        if self.slices is None:
            return math.inf
        return float(self.slices[0] < self.slices[1])

    def _covers(self, index: int | None) -> bool:
        return self.slices is None or (index is not None and self.slices[0] <= index <= self.slices[1])

    def _meets(self, other: "PriorRow") -> bool:
        """Whether there is a slice that both rows cover."""
        if self.slices is None or other.slices is None:
            return True
        return max(self.slices[0], other.slices[0]) <= min(self.slices[1], other.slices[1])


@dataclass(frozen=True)
class PriorTable:
    """The rows of a prior CSV, asked by case and slice.

    Attributes:
        path: the file they came from.
        rows: in the file's order.
    """

    path: Path
    rows: tuple[PriorRow, ...]

    @cached_property
    def _rows_of(self) -> dict[str, list[PriorRow]]:
        rows_of: dict[str, list[PriorRow]] = {}
        for row in self.rows:
            rows_of.setdefault(row.case, []).append(row)
        return rows_of

    @property
    def cases(self) -> tuple[str, ...]:
        """The cases in order of first appearance, without the suffix of an image file."""
        return tuple(self._rows_of)

    def has_slices(self, case: str) -> bool:
        """Whether any row of the case names a slice or a range of slices."""
        return any(row.slices is not None for row in self._rows_of.get(_case_name(case), ()))

    def texts(self, case: str, slice: int | None = None) -> tuple[str, ...]:  # noqa: A002
        """The priors of a case, as text, one per label.

        Args:
            case: the file's name, with or without its suffix.
            slice: 0-based index along the slice axis; None for the whole image, to which only rows for
                every slice apply.

        Returns:
            Texts like `myocardium:1,1`, or `1,0` for the foreground; empty if no row covers the slice.

        Example:
            >>> rows = (PriorRow(2, "scan01", None, "2", "1,1"), PriorRow(3, "scan01", (7, 7), "2", "0,0"))
            >>> table = PriorTable(Path("priors.csv"), rows)
            >>> table.texts("scan01.nii.gz", 3), table.texts("scan01", 7), table.texts("scan02", 7)
            (('2:1,1',), ('2:0,0',), ())
        """
        best: dict[str, PriorRow] = {}
        for row in self._rows_of.get(_case_name(case), ()):
            if row._covers(slice) and (row.label not in best or row._breadth < best[row.label]._breadth):
                best[row.label] = row
        return tuple(f"{label}:{row.betti}" if label else row.betti for label, row in best.items())


def read_priors(path: Path | str) -> PriorTable:
    """Reads a prior CSV: UTF-8, comma-separated, one row of column names.

    Columns, in any order: `case`; optionally `slice` (a 0-based number, a range such as `3-8`, both ends
    included, `*` or nothing for every slice); optionally `label` (nothing for the foreground); `b0` and
    `b1`, and for 3-D topology `b2`, each a number, a range or `*`.

    Raises:
        UnreadableFile: a missing or malformed file, named with row and column; or two rows of the same
            specificity that cover the same slice and disagree.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "priors.csv"
        ...     _ = file.write_text("case,slice,b0,b1\\nscan01,*,1,1\\nscan01,0-2,1,0\\n")
        ...     read_priors(file).texts("scan01", slice=1)
        ('1,0',)
    """
    path = Path(path)
    records = [(number, cells) for number, cells in enumerate(_records(path), start=1) if any(cells)]
    if not records:
        raise UnreadableFile(f"{path}: expected a row of column names, found an empty table")
    (number, names), *body = records
    columns = _columns(path, number, names)
    rows = tuple(_row(path, number, columns, cells) for number, cells in body)
    if not rows:
        raise UnreadableFile(f"{path}: expected at least one row of priors, found only column names")
    _refuse_disagreement(path, rows)
    return PriorTable(path, rows)


def _records(path: Path) -> Iterable[list[str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
        return [[cell.strip() for cell in cells] for cells in csv.reader(io.StringIO(text, newline=""))]
    except OSError as error:
        raise UnreadableFile(f"{path}: expected a prior CSV, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{path}: expected UTF-8, found byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    except csv.Error as error:
        raise UnreadableFile(f"{path}: expected comma-separated values, found: {error}") from error


def _columns(path: Path, number: int, names: list[str]) -> list[str]:
    columns = [name.lower() for name in names]
    while columns[-1] == "":  # a spreadsheet's empty columns at the right
        columns.pop()
    for column in columns:
        if column not in _COLUMNS:
            raise UnreadableFile(
                f"{path}, row {number}: expected the columns {', '.join(_COLUMNS)}, found '{column}'"
            )
        if columns.count(column) > 1:
            raise UnreadableFile(f"{path}, row {number}: expected column '{column}' once, found it repeated")
    for column in _REQUIRED:
        if column not in columns:
            raise UnreadableFile(
                f"{path}, row {number}: expected a column '{column}', found only {', '.join(columns)}"
            )
    return columns


def _row(path: Path, number: int, columns: list[str], cells: list[str]) -> PriorRow:
    if len(cells) < len(columns) or any(cells[len(columns) :]):
        raise UnreadableFile(f"{path}, row {number}: expected {len(columns)} cells, found {len(cells)}")
    cell = dict(zip(columns, cells, strict=False))
    if not cell["case"]:
        raise UnreadableFile(f"{path}, row {number}, column 'case': expected a case, found nothing")
    if ":" in (label := cell.get("label", "")) or "," in label:
        raise UnreadableFile(f"{path}, row {number}, column 'label': expected one label, found '{label}'")
    betti = [cell["b0"], cell["b1"]] + ([cell["b2"]] if cell.get("b2") else [])
    for column, count in zip(("b0", "b1", "b2"), betti, strict=False):
        if not count or "," in count or ":" in count:
            raise UnreadableFile(
                f"{path}, row {number}, column '{column}': expected a number, a range such as 1-3 or *, "
                f"found {repr(count) if count else 'nothing'}"
            )
    slices = _slices(path, number, cell.get("slice", ""))
    return PriorRow(number, _case_name(cell["case"]), slices, label, ",".join(betti))


def _slices(path: Path, number: int, text: str) -> tuple[int, int] | None:
    if text in ("", "*"):
        return None
    if match := _SLICES.fullmatch(text):
        first = int(match[1])
        last = int(match[2] or first)
        if first <= last:
            return first, last
    raise UnreadableFile(
        f"{path}, row {number}, column 'slice': expected a number, a range such as 3-8 or *, found '{text}'"
    )


def _refuse_disagreement(path: Path, rows: tuple[PriorRow, ...]) -> None:
    rivals: dict[tuple[str, str, float], list[PriorRow]] = {}
    for row in rows:
        rivals.setdefault((row.case, row.label, row._breadth), []).append(row)
    for group in rivals.values():
        group.sort(key=lambda row: row.slices or (0, 0))
        for place, first in enumerate(group, start=1):
            for second in takewhile(first._meets, group[place:]):
                if first.betti != second.betti:
                    earlier, later = sorted((first, second), key=lambda row: row.number)
                    raise UnreadableFile(
                        f"{path}: expected rows {earlier.number} and {later.number} to agree on "
                        f"'{first.case}', found {earlier.betti} and {later.betti} for the same slice"
                    )


def _case_name(case: str) -> str:
    """The case without the suffix of an image file; other dots belong to the name."""
    return case[: -len(suffix(case))] if is_image(case) else case
