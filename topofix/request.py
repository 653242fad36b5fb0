"""What topology a user asked for, before it is known which labels there are and how many slices.

Priors come as texts that hold for every case, or as a table with a row per case and slice; `for_image` turns
either into one prior for the whole image or one per slice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from topofix.errors import InvalidPrior
from topofix.imaging.tables import PriorTable
from topofix.topology.priors import Prior, check_numbers

Array = TypeVar("Array", bound=Any)  # of NumPy or torch

Priors = dict[int | None, Prior]
"""Prior by slice index; the key None stands for the whole image."""


@dataclass(frozen=True, slots=True)
class PriorRequest:
    """Priors as typed: texts for every case, or a table by case and slice.

    Attributes:
        texts: Constraints such as `1,0,0` or `myocardium:1,1`; empty where a table is given.
        table: A prior CSV; None where texts are given.
    """

    texts: tuple[str, ...] = ()
    table: PriorTable | None = None

    def __post_init__(self) -> None:
        if bool(self.texts) == (self.table is not None):
            raise InvalidPrior(
                "expected a prior as text or as a table, got " + ("both" if self.texts else "none")
            )
        check_numbers(self.texts)

    def for_image(
        self, case: str, shape: tuple[int, ...], slice_axis: int, labels: Mapping[str, int] | None
    ) -> Priors:
        """The priors of one image: under None for the whole of it, or by slice.

        Args:
            case: The image's file name, looked up in the table.
            shape: The image's.
            slice_axis: Axis whose slices two numbers on a volume speak of.
            labels: Label value by name, as far as they are known.

        Raises:
            InvalidPrior: A prior cannot be read or doesn't fit the image or the labels, or no row covers
                the case.

        Example:
            >>> PriorRequest(("1,1",)).for_image("scan.nii.gz", (64, 64, 2), 2, None).keys()
            dict_keys([0, 1])
        """
        if self.table is not None and len(shape) == 3 and self.table.has_slices(case):
            return self._by_slice(case, shape[slice_axis], labels)
        texts = self.texts if self.table is None else self.table.texts(case)
        if not texts and self.table is not None:
            raise InvalidPrior(f"{self.table.path}: expected a row for {case}, found none")
        prior = Prior.parse(texts, labels)
        prior.check_rank(len(shape), case)
        if prior.dimensions == len(shape):
            return {None: prior}
        return dict.fromkeys(range(shape[slice_axis]), prior)

    def describe(self) -> str:
        """What was asked, as typed; for the Record."""
        return str(self.table.path) if self.table is not None else "; ".join(self.texts)

    def _by_slice(self, case: str, slices: int, labels: Mapping[str, int] | None) -> Priors:
        assert self.table is not None
        priors: Priors = {}
        for index in range(slices):
            if texts := self.table.texts(case, index):
                prior = Prior.parse(texts, labels)
                if prior.dimensions != 2:
                    raise InvalidPrior(
                        f"{self.table.path}: expected two numbers for slice {index} of {case}, got {prior}"
                    )
                priors[index] = prior
        if not priors:
            raise InvalidPrior(f"{self.table.path}: expected a row for a slice of {case}, found none")
        return priors


def one_slice(array: Array, index: int | None, axis: int) -> Array:
    """One slice of an array or tensor along an axis, as a view; all of it for the index None."""
    return array if index is None else cast(Array, array[(slice(None),) * axis + (index,)])
