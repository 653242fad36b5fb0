"""Boxes around what may change: all else of an image need not be computed again at every step."""

from collections.abc import Sequence

from torch import Tensor

Box = tuple[slice, ...]
"""A part of an image: one slice per axis, with start and stop."""


def box_around(mask: Tensor, margin: int) -> Box:
    """The smallest box that holds a mask, with a margin inside the image; all of it for an empty mask.

    Args:
        mask: (*S), boolean.
        margin: Voxels added on every side.

    Example:
        >>> import torch
        >>> mask = torch.zeros(10, 10, dtype=torch.bool)
        >>> mask[4, 5:7] = True
        >>> box_around(mask, 2)
        (slice(2, 7, None), slice(3, 9, None))
    """
    box = []
    for axis, side in enumerate(mask.shape):
        found = mask.movedim(axis, 0).reshape(side, -1).any(1).nonzero()
        if len(found) == 0:
            return tuple(slice(0, side) for side in mask.shape)
        box.append(slice(max(0, int(found[0]) - margin), min(side, int(found[-1]) + 1 + margin)))
    return tuple(box)


def inner_edges(box: Box, shape: Sequence[int]) -> list[tuple[int, int]]:
    """The edges of a box that are no edges of the image, each as an axis and 0 or -1: its begin or its end.

    Example:
        >>> inner_edges((slice(0, 5), slice(3, 5)), (9, 9))
        [(0, -1), (1, 0), (1, -1)]
    """
    edges = []
    for axis, (part, side) in enumerate(zip(box, shape, strict=True)):
        edges += [(axis, 0)] * (part.start > 0) + [(axis, -1)] * (part.stop < side)
    return edges


def padding(box: Box, shape: Sequence[int]) -> list[int]:
    """What `torch.nn.functional.pad` takes to bring a box back to the whole, last axis first.

    Example:
        >>> padding((slice(1, 3), slice(0, 5)), (4, 9))
        [0, 4, 1, 1]
    """
    pairs = [(part.start, side - part.stop) for part, side in zip(box, shape, strict=True)]
    return [width for pair in reversed(pairs) for width in pair]
