"""What pictures of a case are drawn from: its Record, and the arrays that the run had in hand anyway."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.records import Record
from topofix.topology.bars import Bars

Labels = npt.NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One refined image, or one frame of a series.

    Attributes:
        name: The image's file name, and no more of its path.
        record: What was asked, found and changed in this image.
        image: What lies behind the contours, (*S): the scan, or the probability of the foreground.
        before: The label map that the image came with, (*S).
        after: The label map that was verified, (*S).
        labels: Names by label value.
        spacing: mm per axis.
        affine: (4, 4) from voxels to RAS mm.
        slice_axis: The axis that a volume is shown along; 0 for a 2-D image, which has no slices.
        bars_before: A barcode per region and slice that a prior speaks of, before; it may be computed when it
            is first looked at.
        bars_after: The same after, in the same order.
        frame: Index in time; None for an image of its own.
    """

    name: str
    record: Record
    image: npt.NDArray[Any]
    before: Labels
    after: Labels
    labels: Mapping[int, str]
    spacing: tuple[float, ...]
    affine: npt.NDArray[np.float64]
    slice_axis: int
    bars_before: Sequence[Bars]
    bars_after: Sequence[Bars]
    frame: int | None = None
