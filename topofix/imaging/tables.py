"""The prior CSV: what topology each case, slice and label is known to have.

    case,slice,label,b0,b1
    scan01,*,myocardium,1,1
    scan01,0-2,myocardium,1,0
    scan01,7,myocardium,0,0

The most specific row wins, as `topofix.imaging.rows` says in detail. The Betti numbers stay text here:
`topofix.topology.priors` reads them.
"""

import math
import re
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from topofix.errors import UnreadableFile
from topofix.imaging.rows import PriorRow, PriorTable, Span, case_name
from topofix.imaging.spreadsheets import Row, csv_text, plain_cell, read_rows, safe_cell
from topofix.imaging.volumes import is_image

__all__ = ["PriorRow", "PriorTable", "priors_csv", "read_priors", "table_of"]

_REQUIRED = ("case", "b0", "b1")
_COLUMNS = ("case", "slice", "frame", "label", "b0", "b1", "b2")
_SPAN = re.compile(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?")


def read_priors(path: Path | str) -> PriorTable:
    """Reads a prior CSV: UTF-8, comma-separated, one row of column names.

    Columns, in any order: `case`; optionally `slice` and `frame` (a 0-based number, a range such as `3-8`,
    both ends included, `*` or nothing for all); optionally `label` (nothing for the foreground); `b0` and
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
    found = read_rows(path, "prior CSV", _COLUMNS, _REQUIRED)
    if not found:
        raise UnreadableFile(f"{path}: expected at least one row of priors, found only column names")
    return _table(path, [_prior_row(row, _case_of(row)) for row in found])


def table_of(path: Path, case: str, rows: Sequence[Row]) -> PriorTable:
    """The priors of one case, from rows of another kind of table that have the same columns but `case`.

    Raises:
        UnreadableFile: as `read_priors`.
    """
    return _table(path, [_prior_row(row, case) for row in rows])


def priors_csv(rows: Sequence[PriorRow]) -> str:
    """The text of a prior CSV that `read_priors` reads back as the same rows, numbered from 2.

    Columns that no row needs are left out. A case that a spreadsheet would take for a formula gets an
    apostrophe in front.

    Example:
        >>> print(priors_csv([PriorRow(2, "=scan", (3, 3), "2", "1,1")]), end="")
        case,slice,label,b0,b1
        '=scan,3,2,1,1
    """
    flat = any(row.betti.count(",") == 1 or row.slices for row in rows)
    columns = {
        "case": True,
        "slice": flat,
        "frame": any(row.frames for row in rows),
        "label": True,
        "b0": True,
        "b1": True,
        "b2": any(row.betti.count(",") == 2 for row in rows),
    }
    names = [name for name, used in columns.items() if used]
    lines: list[list[str]] = [names]
    for row in rows:
        case = f"{row.case}.nii" if is_image(row.case) else row.case  # reading takes one suffix off
        cells = {
            "case": safe_cell(case),
            "slice": _span_text(row.slices),
            "frame": _span_text(row.frames),
            "label": row.label,
            **dict(zip(("b0", "b1", "b2"), row.betti.split(","), strict=False)),
        }
        lines.append([cells.get(name, "") for name in names])
    return csv_text(lines)


def _span_text(span: Span) -> str:
    if span is None:
        return "*"
    return f"{span[0]}-{span[1]}" if span[0] < span[1] else str(span[0])


def _table(path: Path, rows: Sequence[PriorRow]) -> PriorTable:
    _refuse_disagreement(path, rows)
    return PriorTable(path, tuple(rows))


def _case_of(row: Row) -> str:
    case = row.cells["case"]
    if not case:
        raise row.refusal("case", "a case")
    return case_name(plain_cell(case))


def _prior_row(row: Row, case: str) -> PriorRow:
    label = row.cells["label"]
    if ":" in label or "," in label:
        raise row.refusal("label", "one label")
    counts = {column: row.cells[column] for column in ("b0", "b1", "b2")}
    if not counts["b2"]:
        del counts["b2"]
    for column, count in counts.items():
        if not count or "," in count or ":" in count:
            raise row.refusal(column, "a number, a range such as 1-3 or *")
    slices, frames = _span(row, "slice"), _span(row, "frame")
    return PriorRow(row.number, case, slices, label, ",".join(counts.values()), frames)


def _span(row: Row, column: str) -> Span:
    text = row.cells[column]
    if text in ("", "*"):
        return None
    if match := _SPAN.fullmatch(text):
        first = int(match[1])
        last = int(match[2] or first)
        if first <= last:
            return first, last
    raise row.refusal(column, "a number, a range such as 3-8 or *")


def _refuse_disagreement(path: Path, rows: Sequence[PriorRow]) -> None:
    rivals: dict[tuple[Any, ...], list[PriorRow]] = {}
    for row in rows:
        is_range = any(span and span[0] < span[1] for span in (row.slices, row.frames))
        same = () if is_range else (row.slices, row.frames)  # of rows without a range only equal ones meet
        rivals.setdefault((row.case, row.region, row.breadth, same), []).append(row)
    for group in rivals.values():
        if len({row.betti for row in group}) == 1:
            continue
        group.sort(key=lambda row: row.slices or (0, 0))
        for place, first in enumerate(group, start=1):
            last = math.inf if first.slices is None else first.slices[1]
            for second in takewhile(_begins_by(last), group[place:]):
                if first.betti != second.betti and first.meets(second):
                    earlier, later = sorted((first, second), key=lambda row: row.number)
                    raise UnreadableFile(
                        f"{path}: expected rows {earlier.number} and {later.number} to agree on "
                        f"'{first.case}', found {earlier.betti} and {later.betti} for the same slice"
                        + (" and frame" if first.frames else "")
                    )


def _begins_by(last: float) -> Callable[[PriorRow], bool]:
    return lambda row: row.slices is None or row.slices[0] <= last
