"""What topology a user asked for, before it is known which labels there are and how many slices.

Priors come as texts or a file that hold for every case, or as a table with a row per case and slice;
`for_image` turns each into one prior for the whole image or one per slice. What can be no prior of any image
is refused as soon as it is asked for.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from topofix.errors import InvalidOption, InvalidPrior
from topofix.imaging.constraints import PriorFile
from topofix.imaging.rows import PriorTable, case_name
from topofix.topology.priors import Prior, check_texts

Array = TypeVar("Array", bound=Any)  # of NumPy or torch

MOST_NAMED = 5
"""Rows, cases or files in one sentence."""

Priors = dict[int | None, Prior]
"""Prior by slice index; the key None stands for the whole image."""


@dataclass(frozen=True, slots=True)
class PriorRequest:
    """Priors as typed: texts or a file for every case, or a table by case and slice.

    Attributes:
        texts: Constraints such as `1,0,0` or `myocardium:1,1`; empty where a table or a file is given.
        table: A prior CSV; None where there is none.
        file: A prior TOML; None where there is none.

    Raises:
        InvalidPrior: None or several of them, or what can be no prior whatever labels an image has.
    """

    texts: tuple[str, ...] = ()
    table: PriorTable | None = None
    file: PriorFile | None = None

    def __post_init__(self) -> None:
        sources = {"text": self.texts or None, "table": self.table, "file": self.file}
        given = [name for name, source in sources.items() if source is not None]
        if len(given) != 1:
            raise InvalidPrior(
                f"expected a prior as text, as a table or as a file, got {' and '.join(given) or 'none'}"
            )
        check_texts(self.texts)
        if self.file is not None:
            _check_file(self.file)
        if self.table is not None:
            _check_table(self.table)

    def for_image(
        self,
        case: str,
        shape: tuple[int, ...],
        slice_axis: int,
        labels: Mapping[str, int] | None,
        frame: int | None = None,
    ) -> Priors:
        """The priors of one image: under None for the whole of it, or by slice.

        Args:
            case: The image's file name, looked up in the table.
            shape: The image's.
            slice_axis: Axis whose slices two numbers on a volume speak of.
            labels: Label value by name, as far as they are known.
            frame: Index in time, from 0, looked up in the table; None for an image without frames, to which
                only rows for every frame apply. A frame that no row covers is left alone: no priors.

        Raises:
            InvalidPrior: A prior cannot be read or doesn't fit the image or the labels, or no row covers
                the case.

        Example:
            >>> PriorRequest(("1,1",)).for_image("scan.nii.gz", (64, 64, 2), 2, None).keys()
            dict_keys([0, 1])
        """
        if self.table is not None and len(shape) == 3 and self.table.has_slices(case):
            return self._by_slice(case, shape[slice_axis], labels, frame)
        if self.file is not None:
            with _naming(f"{self.file.path}: "):
                prior = Prior.parse(self.file.texts, labels, len(shape), self.file.weights)
        else:
            texts = self.texts if self.table is None else self.table.texts(case, frame=frame)
            if not texts and self.table is not None:
                if frame is not None:
                    return {}
                raise InvalidPrior(f"{self.table.path}: expected a row for {case}, found none")
            prior = Prior.parse(texts, labels, len(shape))
        prior.check_rank(len(shape), case)
        if prior.dimensions == len(shape):
            return {None: prior}
        return dict.fromkeys(range(shape[slice_axis]), prior)

    def for_case(self, case: str) -> "PriorRequest":
        """The same for one case alone: of a table, only its rows."""
        return self if self.table is None else replace(self, table=self.table.only(case))

    def content(self) -> str:
        """What is asked, wherever it stands: equal for equal priors."""
        if self.table is not None:
            return "; ".join(f"{row.slices} {row.frames} {row.text}" for row in self.table.rows)
        if self.file is not None:
            return f"{self.file.texts} {self.file.weights}"
        return "; ".join(self.texts)

    def describe(self) -> str:
        """What was asked, as typed; for the Record."""
        source = self.table or self.file
        return str(source.path) if source is not None else "; ".join(self.texts)

    def _by_slice(
        self, case: str, slices: int, labels: Mapping[str, int] | None, frame: int | None
    ) -> Priors:
        assert self.table is not None
        priors: Priors = {}
        for index in range(slices):
            if texts := self.table.texts(case, index, frame):
                prior = Prior.parse(texts, labels, 2)
                if prior.dimensions != 2:
                    raise InvalidPrior(
                        f"{self.table.path}: expected two numbers for slice {index} of {case}, got {prior}"
                    )
                priors[index] = prior
        if not priors and frame is None:
            raise InvalidPrior(f"{self.table.path}: expected a row for a slice of {case}, found none")
        return priors


def one_slice(array: Array, index: int | None, axis: int) -> Array:
    """One slice of an array or tensor along an axis, as a view; all of it for the index None."""
    return array if index is None else cast(Array, array[(slice(None),) * axis + (index,)])


def mismatches(table: PriorTable, names: Sequence[str]) -> list[str]:
    """How a table and a batch of files differ, as far as names tell: a sentence each.

    Args:
        table: A prior CSV.
        names: The files' names.

    Example:
        >>> from pathlib import Path
        >>> from topofix.imaging.tables import PriorRow
        >>> table = PriorTable(Path("priors.csv"), (PriorRow(2, "a", None, "", "1,0"),))
        >>> mismatches(table, ["a.nii.gz", "b.nii.gz"])
        ['priors.csv: expected a row for every file, found none for b.nii.gz']
    """
    cases, files = table.unmatched(names)
    sentences = []
    if cases:
        sentences.append(f"{table.path}: expected a file for every case, found none for {_few(cases)}")
    if files:
        sentences.append(f"{table.path}: expected a row for every file, found none for {_few(files)}")
    return sentences


def missing_slices(table: PriorTable, name: str, slices: int) -> list[str]:
    """What a table says about slices that an image of so many slices lacks: a sentence, or none.

    Args:
        table: A prior CSV.
        name: The file's name.
        slices: How many slices it has; 0 for a 2-D image.

    Example:
        >>> from pathlib import Path
        >>> from topofix.imaging.tables import PriorRow
        >>> table = PriorTable(Path("priors.csv"), (PriorRow(2, "a", (7, 9), "", "1,0"),))
        >>> missing_slices(table, "a.nii.gz", 8)
        ['priors.csv: expected slices from 0 to 7 for a.nii.gz, found slice 9 in row 2']
    """
    rows = table.rows_beyond(name, slices)
    if not rows:
        return []
    expected = (
        f"slices from 0 to {slices - 1} for {name}" if slices else f"no slices for {name}, which is 2-D"
    )
    found = _few([f"slice {row.slices[1]} in row {row.number}" for row in rows if row.slices])
    return [f"{table.path}: expected {expected}, found {found}"]


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def check_case_names(paths: Sequence[Path]) -> None:
    """Refuse files that a table by case could not tell apart.

    Raises:
        InvalidOption: Two files of one name, as far as a prior CSV tells.
    """
    seen: dict[str, Path] = {}
    for path in paths:
        other = seen.setdefault(case_name(path.name), path)
        if other != path:
            raise InvalidOption(
                f"--write-csv: expected a name of its own for every case, got {other} and {path}"
            )


def _check_file(file: PriorFile) -> None:
    for constraint in file.constraints:
        with _naming(f"{file.path}, constraint {constraint.number}: "):
            check_texts([constraint.text], whole=True)
    with _naming(f"{file.path}: "):
        check_texts(file.texts, whole=True)


def _check_table(table: PriorTable) -> None:
    """Refuse a row that is no prior, and rows for one slice that cannot all hold; thousands are quick."""
    checked: set[str | Sequence[str]] = set()
    for row in table.rows:
        if row.text not in checked:
            with _naming(f"{table.path}, row {row.number}: "):
                check_texts([row.text], whole=True)
            checked.add(row.text)
    for case in table.cases:
        for texts in table.stated_together(case):
            if texts not in checked:
                with _naming(f"{table.path}, case '{case}': "):
                    check_texts(texts, whole=True)
                checked.add(texts)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Says in which file a prior stands that cannot be."""
    try:
        yield
    except InvalidPrior as error:
        raise InvalidPrior(f"{source}{error}") from error
