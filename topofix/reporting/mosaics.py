"""Slices of a volume as a few grey pictures that a page carries along, each many slices side by side.

A browser decodes one large PNG sooner than hundreds of small ones, and draws any rectangle of it. No side is
longer than any browser draws. What is too much for a page is thinned out in its planes, and says so.
"""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

SIDE = 2048
"""Pixels of a mosaic at most, down and across; more only for a slice that is larger by itself."""

LARGEST_SLICE = 4096
"""Pixels of a slice at most, down and across."""

MOST_VOXELS = 17_000_000
"""Of all images in one page."""

MOST_LABELS = 255
"""That can be told apart; all beyond look like the last."""

_SAMPLE = 1_000_000  # voxels are enough for a percentile

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Slices in reading order, on as many pictures as they take.

    Attributes:
        rows: Pixels of a slice down.
        columns: Pixels of a slice across.
        across: Slices side by side.
        each: Slices on one picture.
        pictures: Data URIs of PNGs.
    """

    rows: int
    columns: int
    across: int
    each: int
    pictures: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def mosaic(stack: Grey) -> Mosaic:
    """Pictures of a stack of slices (slices, rows, columns) of at least one voxel.

    Example:
        >>> found = mosaic(np.zeros((5, 600, 900), np.uint8))
        >>> found.across, found.each, len(found.pictures)
        (2, 6, 1)
    """
    from PIL import Image

    slices, rows, columns = stack.shape
    across = max(min(SIDE // columns, slices), 1)
    down = max(min(SIDE // rows, math.ceil(slices / across)), 1)
    each = across * down
    pictures = []
    for start in range(0, slices, each):
        some = stack[start : start + each]
        cells = np.zeros((math.ceil(len(some) / across) * across, rows, columns), np.uint8)
        cells[: len(some)] = some
        page = cells.reshape(-1, across, rows, columns).swapaxes(1, 2).reshape(-1, across * columns)
        file = io.BytesIO()
        Image.fromarray(page).save(file, "PNG")
        pictures.append("data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii"))
    return Mosaic(rows, columns, across, each, tuple(pictures))


def thinning(stacks: Sequence[tuple[int, int, int]]) -> int:
    """Every how many-th row and column of stacks of these shapes a page can carry: 1 unless they are huge.

    Example:
        >>> thinning([(10, 256, 216)] * 30), thinning([(500, 512, 512)])
        (1, 3)
    """
    longest = max(max(rows, columns) for _, rows, columns in stacks)
    step = max(1, math.ceil(longest / LARGEST_SLICE))
    while sum(n * math.ceil(r / step) * math.ceil(c / step) for n, r, c in stacks) > MOST_VOXELS:
        step += 1
    return step


def window(images: Sequence[npt.NDArray[Any]]) -> tuple[float, float]:
    """What is drawn black and what white: all but the darkest and the brightest 0.5 % of finite values.

    Example:
        >>> window([np.array([0.0, 1.0, np.nan, 2.0])])
        (0.01, 1.99)
    """
    some = [image.reshape(-1)[:: max(1, image.size * len(images) // _SAMPLE)] for image in images]
    values = np.concatenate(some).astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 0.0
    low, high = np.percentile(values, (0.5, 99.5))
    return round(float(low), 6), round(float(high), 6)


def greys(image: npt.NDArray[Any], low: float, high: float) -> Grey:
    """An image in 256 shades; what is not finite is black, like all of an image without contrast.

    Example:
        >>> greys(np.array([-1.0, 0.5, 2.0]), 0, 1).tolist()
        [0, 128, 255]
    """
    if high <= low:
        return np.zeros(image.shape, np.uint8)
    shades = (np.asarray(image, np.float32) - low) * (255 / (high - low))
    whole: Grey = np.rint(np.nan_to_num(shades, nan=0.0).clip(0, 255)).astype(np.uint8)
    return whole


def label_levels(labels: npt.NDArray[Any], values: Sequence[int]) -> Grey:
    """A label map as grey levels: the k-th of the values, from 1 on, is k times `level_step`; background 0.

    Levels lie as far apart as there is room, for some browsers blur what a script reads back.

    Args:
        labels: None of them larger than the last value.
        values: In ascending order, without 0.

    Example:
        >>> label_levels(np.array([0, 4, 7]), [4, 7]).tolist()
        [0, 127, 254]
    """
    levels = np.zeros(max(values, default=0) + 1, np.uint8)
    ranks = np.arange(1, len(values) + 1).clip(max=MOST_LABELS)
    levels[np.array(values, np.intp)] = ranks * level_step(len(values))
    found: npt.NDArray[np.uint8] = levels[labels]
    return found


def level_step(count: int) -> int:
    """How far the grey levels of so many labels lie apart."""
    return 255 // min(max(count, 1), MOST_LABELS)
