"""What `native/binding.cpp` offers; `persistence.py` says what it means."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Bars = tuple[npt.NDArray[np.int8], npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]

def barcodes_of_list(
    fields: Sequence[npt.NDArray[np.floating[Any]]], face: bool, min_persistence: float, threads: int
) -> Bars: ...
def barcodes_of_stack(
    stack: npt.NDArray[np.floating[Any]], face: bool, min_persistence: float, threads: int
) -> Bars: ...
def betti(mask: npt.NDArray[np.uint8], face: bool, threads: int) -> list[int]: ...
def simple_points(mask: npt.NDArray[np.uint8], face: bool) -> npt.NDArray[np.uint8]: ...
