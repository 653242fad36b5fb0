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
def closed_path(
    allowed: npt.NDArray[np.uint8], costs: npt.NDArray[np.float32], closing: int, corners: bool
) -> npt.NDArray[np.int64]: ...

class Partition2:
    def __init__(
        self,
        labels: npt.NDArray[np.uint8],
        costs: npt.NDArray[np.float32],
        frozen: npt.NDArray[np.uint8] | None,
        wishes: Sequence[Sequence[int]],
        face: bool,
    ) -> None: ...
    def error(self) -> int: ...
    def betti(self) -> list[list[int]]: ...
    def labels(self) -> npt.NDArray[np.uint8]: ...
    def change(self, voxels: npt.NDArray[np.int64], labels: npt.NDArray[np.uint8]) -> None: ...
    def freeze(self, voxels: npt.NDArray[np.int64]) -> None: ...
    def settle_to(self, base: npt.NDArray[np.uint8]) -> None: ...
    def sweep(
        self,
        region: int,
        grow: bool,
        limit: float,
        spreading: bool,
        centres: npt.NDArray[np.int64],
        radius: int,
        seconds: float,
    ) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]]: ...

class Partition3(Partition2): ...
