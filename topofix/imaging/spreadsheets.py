"""CSV files as spreadsheets write them, row by row, with errors that name the row and the column."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import read_text, shown

MOST_ROWS = 2**20
"""Of a table, as in a spreadsheet."""

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
"""How a cell begins that a spreadsheet takes for a formula, or that an apostrophe keeps from being one."""


def safe_cell(text: str) -> str:
    """A cell's text, with an apostrophe in front where a spreadsheet would take it for a formula.

    Example:
        >>> safe_cell("=scan"), safe_cell("scan"), safe_cell("-1.5")
        ("'=scan", 'scan', '-1.5')
    """
    if not _FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def plain_cell(text: str) -> str:
    """What `safe_cell` was given.

    Example:
        >>> plain_cell("'=scan"), plain_cell("'scan")
        ('=scan', "'scan")
    """
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Rows of cells as the text of a CSV file.

    Cells with a line break of any kind are quoted; Python's own writer before 3.13 leaves out carriage
    returns, unless they are in its line ends.

    Example:
        >>> csv_text([["case", "b0"], ["a\\rb", 1]])
        'case,b0\\n"a\\rb",1\\n'
    """
    lines = []
    for row in rows:
        line = io.StringIO(newline="")
        csv.writer(line, lineterminator="\r\n").writerow(row)
        lines.append(line.getvalue()[:-2])
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a CSV file.

    Attributes:
        path: the file.
        number: as a spreadsheet counts: the row of column names is mostly 1.
        cells: the text of every column that the file may have, without space around it; empty where the file
            lacks the column.
    """

    path: Path
    number: int
    cells: Mapping[str, str]

    def refusal(self, column: str, expected: str, found: str | None = None) -> UnreadableFile:
        """The error that names a cell, what was expected there and what came.

        Example:
            >>> print(Row(Path("priors.csv"), 2, {"b0": "-1"}).refusal("b0", "a number"))
            priors.csv, row 2, column 'b0': expected a number, found '-1'
        """
        cell = self.cells[column]
        found = found or (shown(cell) if cell else "nothing")
        return UnreadableFile(
            f"{self.path}, row {self.number}, column '{column}': expected {expected}, found {found}"
        )


def read_rows(path: Path, kind: str, columns: Sequence[str], required: Sequence[str]) -> list[Row]:
    """Reads a CSV file: UTF-8 with or without a byte order mark, comma-separated, one row of column names.

    Rows without text are left out, and so are nameless columns at the right that hold nothing.

    Args:
        path: the file.
        kind: what it is, such as `prior CSV`.
        columns: all names that a column may have, in lower case; the file may mix cases and has any order.
        required: those that may not be absent.

    Raises:
        UnreadableFile: a missing file, no UTF-8, no column names, an unknown, repeated or absent column, or a
            row with more or fewer cells than columns; more than `MOST_ROWS` rows or `MOST_BYTES` bytes.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "data.csv"
        ...     _ = file.write_text("image,label\\na.png,b.png\\n")
        ...     [dict(row.cells) for row in read_rows(file, "table", ("image", "label", "split"), ("image",))]
        [{'image': 'a.png', 'label': 'b.png', 'split': ''}]
    """
    records = _records(path, read_text(path, kind))
    first = next(records, None)
    if first is None:
        raise UnreadableFile(f"{path}: expected a row of column names, found an empty table")
    number, names = first
    present = _columns(path, number, names, columns, required)
    empty = dict.fromkeys(columns, "")
    rows: list[Row] = []
    for number, cells in records:
        if len(cells) < len(present) or any(cells[len(present) :]):
            raise UnreadableFile(f"{path}, row {number}: expected {len(present)} cells, found {len(cells)}")
        if len(rows) == MOST_ROWS:
            raise UnreadableFile(f"{path}, row {number}: expected at most {MOST_ROWS} rows, found more")
        rows.append(Row(path, number, empty | dict(zip(present, cells, strict=False))))
    return rows


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that hold anything, with their numbers."""
    number = 0
    try:
        for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), start=1):
            if any(cells := [cell.strip() for cell in row]):
                yield number, cells
    except csv.Error as error:  # a cell beyond all measure is one, too
        raise UnreadableFile(
            f"{path}, row {number + 1}: expected comma-separated values, found: {error}"
        ) from error


def _columns(
    path: Path, number: int, names: list[str], known: Sequence[str], required: Sequence[str]
) -> list[str]:
    columns = [name.lower() for name in names]
    while columns[-1] == "":  # a spreadsheet's empty columns at the right
        columns.pop()
    for column in columns:
        if column not in known:
            raise UnreadableFile(
                f"{path}, row {number}: expected the columns {', '.join(known)}, found {shown(column)}"
            )
        if columns.count(column) > 1:
            raise UnreadableFile(f"{path}, row {number}: expected column '{column}' once, found it repeated")
    for column in required:
        if column not in columns:
            raise UnreadableFile(
                f"{path}, row {number}: expected a column '{column}', found only {', '.join(columns)}"
            )
    return columns
