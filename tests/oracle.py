"""Persistent homology as the textbook defines it: write down the boundary matrix over Z/2 and reduce it.

Slow, and independent of everything in topofix: no ranks, no library, only cells and the total order "larger
value first, then smaller C-order index". Edelsbrunner and Harer, "Computational Topology", section VII.1.
"""

import itertools

import numpy as np

Bar = tuple[int, int, int]  # dimension, birth voxel, death voxel (-1: never)


def bars(field: np.ndarray, connectivity: str) -> list[Bar]:
    """All bars of the superlevel filtration whose length in field values is not zero, sorted."""
    values = field.ravel().tolist()
    cells = _cells(field.shape, values, connectivity)
    order = sorted(cells, key=lambda cell: (-values[cells[cell]], cells[cell], _dimension(cell)))
    position = {cell: index for index, cell in enumerate(order)}

    columns: dict[int, set[int]] = {}  # reduced columns by their pivot
    destroyer: dict[int, int] = {}
    for index, cell in enumerate(order):
        column = {position[face] for face in _faces(cell)}
        while column and max(column) in columns:
            column ^= columns[max(column)]
        if column:
            columns[max(column)] = column
            destroyer[max(column)] = index

    found = []
    for index, cell in enumerate(order):
        if index in destroyer.values():
            continue
        birth, death = cells[cell], cells[order[destroyer[index]]] if index in destroyer else -1
        if values[birth] != (values[death] if death >= 0 else 0):  # what never dies is cut off at 0
            found.append((_dimension(cell), birth, death))
    return sorted(found)


def _cells(shape: tuple[int, ...], values: list[float], connectivity: str) -> dict[tuple[int, ...], int]:
    """Cells of the doubled grid, odd coordinates being intervals, with the voxel that brings each in."""
    earliest_first = lambda voxel: (-values[voxel], voxel)  # noqa: E731
    cells = {}
    for cell in itertools.product(
        *(range(2 * n + 1 if connectivity == "full" else 2 * n - 1) for n in shape)
    ):
        if connectivity == "full":  # voxels are cubes: a cell enters with the first cube that contains it
            sides = [{(c - 1) // 2, c // 2} & set(range(n)) for c, n in zip(cell, shape, strict=True)]
            choose = min
        else:  # voxels are vertices: a cell enters with the last of its vertices
            sides = [{c // 2, (c + 1) // 2} for c in cell]
            choose = max
        voxels = (int(np.ravel_multi_index(voxel, shape)) for voxel in itertools.product(*sides))
        cells[cell] = choose(voxels, key=earliest_first)
    return cells


def _dimension(cell: tuple[int, ...]) -> int:
    return sum(coordinate % 2 for coordinate in cell)


def _faces(cell: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [
        (*cell[:axis], coordinate + side, *cell[axis + 1 :])
        for axis, coordinate in enumerate(cell)
        if coordinate % 2
        for side in (-1, 1)
    ]
