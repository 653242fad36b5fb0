"""The rows of a prior CSV: which of them speak of a case, a slice and a frame, and which of those wins.

A row for one slice is more specific than one for a range of slices, which is more specific than one for every
slice; the most specific row wins. Of rows equally specific about slices, the one that is more specific about
frames wins, in the same way: slices come first, because where an organ ends it mostly does so in every frame.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from topofix.imaging.volumes import is_image, suffix

Span = tuple[int, int] | None
"""First and last index, both included; None for all."""


@dataclass(frozen=True, slots=True)
class PriorRow:
    """One row of a prior CSV.

    Attributes:
        number: the row in the file, as a spreadsheet counts: the row of column names is 1.
        case: the case without the suffix of an image file.
        slices: first and last slice, 0-based and both included; None for every slice.
        label: number or name of the label, or labels joined by `+`; empty for the foreground.
        betti: the Betti numbers as text, such as `1,1-3,*`.
        frames: first and last frame, 0-based and both included; None for every frame.
    """

    number: int
    case: str
    slices: Span
    label: str
    betti: str
    frames: Span = None

    @property
    def text(self) -> str:
        """The prior as people type it.

        Example:
            >>> PriorRow(2, "scan01", None, "myocardium", "1,1").text
            'myocardium:1,1'
        """
        return f"{self.label}:{self.betti}" if self.label else self.betti

    @property
    def region(self) -> str:
        """The label as rows are compared: in any case, a union in any order; empty for the foreground."""
        parts = sorted(" ".join(part.split()).casefold() for part in self.label.split("+"))
        return "" if parts == ["foreground"] else "+".join(parts)

    @property
    def breadth(self) -> tuple[float, float]:
        """How far the row reaches over slices, then over frames: the lowest wins."""
        return _breadth(self.slices), _breadth(self.frames)

    def covers(self, index: int | None, frame: int | None) -> bool:
        """Whether the row speaks of a slice in a frame; None where there are no slices or frames."""
        return _holds(self.slices, index) and _holds(self.frames, frame)

    def meets(self, other: "PriorRow") -> bool:
        """Whether there is a slice in a frame that both rows speak of."""
        return _meet(self.slices, other.slices) and _meet(self.frames, other.frames)


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

    def only(self, case: str) -> "PriorTable":
        """The table with the rows of one case alone.

        Example:
            >>> rows = (PriorRow(2, "a", None, "", "1,0"), PriorRow(3, "b", None, "", "1,1"))
            >>> PriorTable(Path("priors.csv"), rows).only("b.nii.gz").rows[0].betti
            '1,1'
        """
        return PriorTable(self.path, tuple(self._rows_of.get(case_name(case), ())))

    def has_slices(self, case: str) -> bool:
        """Whether any row of the case names a slice or a range of slices."""
        return any(row.slices is not None for row in self._rows_of.get(case_name(case), ()))

    def texts(
        self,
        case: str,
        slice: int | None = None,  # noqa: A002
        frame: int | None = None,
    ) -> tuple[str, ...]:
        """The priors of a case, as text, one per label.

        Args:
            case: the file's name, with or without its suffix.
            slice: 0-based index along the slice axis; None for the whole image, to which only rows for
                every slice apply.
            frame: 0-based index in time; None for an image without frames, to which only rows for every
                frame apply.

        Returns:
            Texts like `myocardium:1,1`, or `1,0` for the foreground; empty if no row covers the slice.

        Example:
            >>> rows = (PriorRow(2, "scan01", None, "2", "1,1"), PriorRow(3, "scan01", (7, 7), "2", "0,0"))
            >>> table = PriorTable(Path("priors.csv"), rows)
            >>> table.texts("scan01.nii.gz", 3), table.texts("scan01", 7), table.texts("scan02", 7)
            (('2:1,1',), ('2:0,0',), ())
        """
        rows = self._rows_of.get(case_name(case), ())
        return _texts(row for row in rows if row.covers(slice, frame))

    def stated_together(self, case: str) -> tuple[tuple[str, ...], ...]:
        """The priors that hold at once, for every slice and frame that a row names.

        Only where a row speaks of several labels, or of another number of dimensions than the others: else
        rows cannot contradict each other.

        Example:
            >>> rows = (PriorRow(2, "a", None, "2", "1,1"), PriorRow(3, "a", (7, 7), "2+3", "1,0"))
            >>> PriorTable(Path("priors.csv"), rows).stated_together("a")
            (('2:1,1', '2+3:1,0'),)
        """
        rows = self._rows_of.get(case_name(case), [])
        lengths = {row.betti.count(",") for row in rows}
        if len(lengths) < 2 and all(row.label and "+" not in row.label for row in rows):
            return ()
        frames = [first for first, _ in _stretches(rows, [row.frames for row in rows])]
        found: dict[tuple[str, ...], None] = {}
        for _, there in _stretches(rows, [row.slices for row in rows]):
            spans = [row.frames for row in there]
            found |= dict.fromkeys(_texts(here) for _, here in _stretches(there, spans))
            if not _hold_all(spans, frames):  # some frame is named by other rows alone
                found[_texts(row for row in there if row.frames is None)] = None
        return tuple(texts for texts in found if texts)

    def unmatched(self, names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the table and a batch of files do not have in common.

        Args:
            names: the files' names.

        Returns:
            The cases without a file, and the names of files without a row.

        Example:
            >>> table = PriorTable(Path("priors.csv"), (PriorRow(2, "scan01", None, "", "1,0"),))
            >>> table.unmatched(["scan01.nii.gz", "scan02.nii.gz"]), table.unmatched([])
            (((), ('scan02.nii.gz',)), (('scan01',), ()))
        """
        names = list(names)
        known = {case_name(name) for name in names}
        cases = tuple(case for case in self.cases if case not in known)
        return cases, tuple(name for name in names if case_name(name) not in self._rows_of)

    def rows_beyond(self, case: str, slices: int) -> tuple[PriorRow, ...]:
        """The rows of a case that name a slice which a stack of so many slices lacks.

        Example:
            >>> rows = (PriorRow(2, "a", (0, 4), "", "1,0"), PriorRow(3, "a", (5, 5), "", "0,0"))
            >>> [row.number for row in PriorTable(Path("priors.csv"), rows).rows_beyond("a.nii", 5)]
            [3]
        """
        rows = self._rows_of.get(case_name(case), ())
        return tuple(row for row in rows if row.slices is not None and row.slices[1] >= slices)


def _texts(rows: Iterable[PriorRow]) -> tuple[str, ...]:
    """Of rows for one slice in one frame, a text per label: that of the row that wins."""
    best: dict[str, PriorRow] = {}
    for row in rows:
        rival = best.setdefault(row.region, row)
        if row.breadth < rival.breadth:
            best[row.region] = row
    return tuple(row.text for row in best.values())


def _breadth(span: Span) -> float:
    """0 for one index, 1 for a range, infinite for all."""
    return math.inf if span is None else float(span[0] < span[1])


def _holds(span: Span, index: int | None) -> bool:
    return span is None or (index is not None and span[0] <= index <= span[1])


def _meet(one: Span, other: Span) -> bool:
    """Whether there is an index that both hold."""
    return one is None or other is None or max(one[0], other[0]) <= min(one[1], other[1])


def _hold_all(spans: Iterable[Span], indices: Sequence[int | None]) -> bool:
    """Whether each of some ascending indices lies in a span that names it."""
    left = iter(indices)
    index = next(left, None)
    for first, last in sorted(span for span in spans if span is not None):
        while index is not None and first <= index <= last:
            index = next(left, None)
    return index is None


def _stretches(
    rows: Sequence[PriorRow], spans: Sequence[Span]
) -> Iterator[tuple[int | None, list[PriorRow]]]:
    """Every stretch of indices that the same rows name: its first index, and the rows that hold there.

    Args:
        rows: in the file's order.
        spans: of each row.

    Returns:
        Ascending; a single one under None where no row names an index.
    """
    edges: dict[int, list[int]] = {}  # places of rows that begin or end there
    for place, span in enumerate(spans):
        if span is not None:
            edges.setdefault(span[0], []).append(place)
            edges.setdefault(span[1] + 1, []).append(place)
    if not edges:
        yield None, list(rows)
    always = [place for place, span in enumerate(spans) if span is None]
    named: set[int] = set()
    for edge in sorted(edges):
        named.symmetric_difference_update(edges[edge])
        if named:
            yield edge, [rows[place] for place in sorted((*always, *named))]


def case_name(case: str) -> str:
    """The case without the suffix of an image file; other dots belong to the name."""
    return (case[: -len(suffix(case))] if is_image(case) else case).strip()  # as all cells are
