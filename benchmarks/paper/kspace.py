"""Images as they look when lines of their Fourier transform are missing: the paper's corruption.

    kept rows and columns (MNIST)        kept rows, the middle reserved (magnetic resonance)
         # # . # # # . #                      # # # # # # # #
         . . . . . . . .                      . . . . . . . .
         # # . # # # . #                      # # # # # # # #   <- the lowest frequencies,
         # # . # # # . #                      # # # # # # # #      never removed
         . . . . . . . .                      . . . . . . . .
         # # . # # # . #                      # # # # # # # #

The image is transformed, randomly chosen lines are replaced by zeros, and the magnitude of the inverse
transform is divided by its largest value. In experiment 1 the same number of rows and of columns goes and any
of them may, the mean of the image included; in experiment 2 only rows go, as a scanner acquires them, and the
middle 8 of 80 stay. Dividing by the largest value is how the paper's authors bring images "to the [0, 1]
range" in their published code; the paper doesn't say which way it is done.
"""

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]


def corrupt(
    image: npt.ArrayLike,
    lines: int,
    rng: np.random.Generator,
    *,
    columns: bool = True,
    reserved: int = 0,
) -> Image:
    """An image without some lines of its Fourier transform, as a magnitude in [0, 1].

    Args:
        image: Grey values, (H, W).
        lines: How many rows are removed and, with `columns`, also how many columns.
        rng: Chooses them, without replacement; rows first.
        columns: Whether columns are removed as well as rows.
        reserved: How many lines in the middle of each of these directions always stay.

    Returns:
        (H, W), float32; the largest value is 1 unless nothing at all is left of the image.

    Raises:
        ValueError: There are not so many lines that may be removed, or the image is not of rank 2.

    Example:
        >>> square = np.zeros((8, 8))
        >>> square[2:5, 2:5] = 1
        >>> bool(np.allclose(corrupt(square, 0, np.random.default_rng(0)), square, atol=1e-6))
        True
    """
    values = np.asarray(image, np.float64)
    if values.ndim != 2:
        raise ValueError(f"expected an image of rank 2, got one of rank {values.ndim}")
    frequencies = np.fft.fftshift(np.fft.fft2(values))
    for axis in (0, 1) if columns else (0,):
        choice = rng.choice(removable(values.shape[axis], lines, reserved), lines, replace=False)
        frequencies[(slice(None),) * axis + (choice,)] = 0
    magnitude = np.abs(np.fft.ifft2(np.fft.ifftshift(frequencies)))
    largest = magnitude.max(initial=0.0)
    # Where all the signal was removed only rounding is left, which must not be blown up to an image.
    if largest <= 1e-9 * np.abs(values).max(initial=0.0):
        return np.zeros(values.shape, np.float32)
    return (magnitude / largest).astype(np.float32)


def removable(size: int, lines: int, reserved: int = 0) -> npt.NDArray[np.int64]:
    """The lines that may be removed, counted with the lowest frequency at `size // 2`.

    Args:
        size: All lines along an axis.
        lines: How many are to be removed.
        reserved: How many in the middle always stay.

    Raises:
        ValueError: There are fewer than `lines`.

    Example:
        >>> removable(8, 2, reserved=4).tolist()
        [0, 1, 6, 7]
    """
    first = size // 2 - reserved // 2
    found = np.setdiff1d(np.arange(size), np.arange(first, first + reserved))
    if reserved < 0 or not 0 <= lines <= len(found):
        raise ValueError(f"expected from 0 to {len(found)} of {size} lines to remove, got {lines}")
    return found
