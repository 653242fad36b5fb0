"""How an image lies on a screen: which of its axes run down and across, and where the patient's sides are.

Scans are shown as radiographers are used to them: the patient's right on the left of the screen, the front
above, and in upright planes the head above and the front on the left. Every world axis is then largest above
or on the left. Pictures and bare arrays know no patient (their affine is the identity);
they are shown as they are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

_SIDES = ("RL", "AP", "SI")  # where each world axis of RAS is largest, and where smallest


@dataclass(frozen=True, slots=True)
class View:
    """Which axes of an array run where.

    Attributes:
        slices: The axis that slices are counted along; None for a 2-D image.
        rows: The axis that runs down the screen.
        columns: The axis that runs across.
        flipped: Whether the first row is drawn at the bottom, and the first column on the right.
        sides: Letters of the patient's sides above, on the right, below and on the left; empty if unknown.
    """

    slices: int | None
    rows: int
    columns: int
    flipped: tuple[bool, bool] = (False, False)
    sides: str = ""

    def stack(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """An array (*S) as it is shown: slices, rows, columns; a view, with one slice in 2-D.

        Example:
            >>> View(None, 1, 0, (True, False)).stack(np.array([[1, 2, 3], [4, 5, 6]])).tolist()
            [[[3, 6], [2, 5], [1, 4]]]
        """
        planes = array[None] if self.slices is None else np.moveaxis(array, self.slices, 0)
        if self.rows > self.columns:
            planes = planes.swapaxes(1, 2)
        down, across = (slice(None, None, -1) if flip else slice(None) for flip in self.flipped)
        return planes[:, down, across]


def view_of(affine: npt.NDArray[np.float64], rank: int, slice_axis: int) -> View:
    """The view of an image along one of its axes.

    Args:
        affine: (4, 4), from voxels to RAS mm.
        rank: 2 or 3.
        slice_axis: The axis that a volume is shown along; of no meaning in 2-D.

    Example:
        >>> axial = view_of(np.diag([1.0, 1.0, 2.0, 1.0]), 3, 2)
        >>> axial.rows, axial.columns, axial.flipped, axial.sides
        (1, 0, (True, True), 'ALPR')
    """
    slices = slice_axis if rank == 3 else None
    first, second = (axis for axis in range(rank) if axis != slices)
    steps = np.asarray(affine)[:3, :3]
    world = {axis: int(np.abs(steps[:, axis]).argmax()) for axis in (first, second)}
    if np.array_equal(affine, np.eye(4)) or world[first] == world[second]:
        return View(slices, first, second)
    columns, rows = sorted((first, second), key=lambda axis: world[axis])
    flipped = tuple(bool(steps[world[axis], axis] > 0) for axis in (rows, columns))
    upright, level = _SIDES[world[rows]], _SIDES[world[columns]]
    sides = upright[0] + level[1] + upright[1] + level[0]
    return View(slices, rows, columns, (flipped[0], flipped[1]), sides)
