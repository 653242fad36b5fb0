"""Betti numbers by other means than the kernel's: SciPy's labelling, and the cells of the complex counted."""

import itertools

import numpy as np
from scipy import ndimage

from topofix.topology.priors import FOREGROUND, Prior


def betti(mask: np.ndarray, connectivity: str = "full") -> tuple[int, ...]:
    """Betti numbers of a mask (*S) that lies in background."""
    inside = np.pad(np.asarray(mask, bool), 1)
    corners, sides = np.ones((3,) * mask.ndim), None
    ours, others = (corners, sides) if connectivity == "full" else (sides, corners)
    components = ndimage.label(inside, ours)[1]
    voids = ndimage.label(~inside, others)[1] - 1
    if mask.ndim == 2:
        return components, voids
    return components, components + voids - euler(mask, connectivity), voids


def euler(mask: np.ndarray, connectivity: str = "full") -> int:
    """Vertices less edges plus squares less cubes: of closed voxels, or of the grid of their centres."""
    inside = np.pad(np.asarray(mask, bool), 1)
    total = 0
    for along in itertools.product((0, 1), repeat=mask.ndim):
        cells = inside
        for axis, step in enumerate(along):
            if step:
                first, second = (cells.take(range(k, cells.shape[axis] - 1 + k), axis) for k in (0, 1))
                cells = first | second if connectivity == "full" else first & second
        dimension = mask.ndim - sum(along) if connectivity == "full" else sum(along)
        total += (-1) ** dimension * int(cells.sum())
    return total


def error(labels: np.ndarray, prior: Prior, connectivity: str = "full") -> int:
    """Sum of the distances between Betti numbers and what is asked for."""
    return sum(
        wish.error(count)
        for constraint, counts in zip(prior.constraints, of_regions(labels, prior, connectivity), strict=True)
        for wish, count in zip(constraint.betti, counts, strict=True)
    )


def of_regions(labels: np.ndarray, prior: Prior, connectivity: str = "full") -> list[tuple[int, ...]]:
    """Betti numbers of every region of a prior."""
    return [
        betti(labels > 0 if c.region == FOREGROUND else np.isin(labels, c.region), connectivity)
        for c in prior.constraints
    ]


def part_sizes(mask: np.ndarray, inside: bool, connectivity: str = "full") -> list[int]:
    """How many voxels each component has, or each hole or void."""
    structure = np.ones((3,) * mask.ndim) if (connectivity == "full") == inside else None
    side = np.pad(np.asarray(mask, bool), 1) == inside
    numbers = ndimage.label(side, structure)[0]
    outside = numbers.flat[0]
    sizes = np.bincount(numbers.ravel())
    return sorted(int(size) for k, size in enumerate(sizes) if k > 0 and k != outside)


def fields(random: np.random.Generator, shape: tuple[int, ...], channels: int, kind: str) -> np.ndarray:
    """Logits (channels, *shape): smooth, noise, with many ties, or faint."""
    noise = random.standard_normal((channels, *shape))
    if kind == "smooth":
        noise = ndimage.gaussian_filter(noise, (0, *(1.2,) * len(shape)), mode="nearest")
        noise *= 2 / noise.std()
    elif kind == "ties":
        noise = np.round(noise)
    elif kind == "faint":
        noise[0] += 3
    return noise.astype(np.float32)
