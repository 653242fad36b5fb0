"""CSV files as spreadsheets write them, row by row, with errors that name the row and the column."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from topofix.errors import UnreadableFile


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
        found = found or (repr(cell) if cell else "nothing")
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
            row with more or fewer cells than columns.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "data.csv"
        ...     _ = file.write_text("image,label\\na.png,b.png\\n")
        ...     [dict(row.cells) for row in read_rows(file, "table", ("image", "label", "split"), ("image",))]
        [{'image': 'a.png', 'label': 'b.png', 'split': ''}]
    """
    records = [(number, cells) for number, cells in enumerate(_records(path, kind), start=1) if any(cells)]
    if not records:
        raise UnreadableFile(f"{path}: expected a row of column names, found an empty table")
    (number, names), *body = records
    present = _columns(path, number, names, columns, required)
    for number, cells in body:
        if len(cells) < len(present) or any(cells[len(present) :]):
            raise UnreadableFile(f"{path}, row {number}: expected {len(present)} cells, found {len(cells)}")
    empty = dict.fromkeys(columns, "")
    return [Row(path, number, empty | dict(zip(present, cells, strict=False))) for number, cells in body]


def _records(path: Path, kind: str) -> list[list[str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
        return [[cell.strip() for cell in cells] for cells in csv.reader(io.StringIO(text, newline=""))]
    except OSError as error:
        raise UnreadableFile(f"{path}: expected a {kind}, found: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(
            f"{path}: expected UTF-8, found byte 0x{error.object[error.start]:02x} at offset {error.start}"
        ) from error
    except csv.Error as error:
        raise UnreadableFile(f"{path}: expected comma-separated values, found: {error}") from error


def _columns(
    path: Path, number: int, names: list[str], known: Sequence[str], required: Sequence[str]
) -> list[str]:
    columns = [name.lower() for name in names]
    while columns[-1] == "":  # a spreadsheet's empty columns at the right
        columns.pop()
    for column in columns:
        if column not in known:
            raise UnreadableFile(
                f"{path}, row {number}: expected the columns {', '.join(known)}, found '{column}'"
            )
        if columns.count(column) > 1:
            raise UnreadableFile(f"{path}, row {number}: expected column '{column}' once, found it repeated")
    for column in required:
        if column not in columns:
            raise UnreadableFile(
                f"{path}, row {number}: expected a column '{column}', found only {', '.join(columns)}"
            )
    return columns
