"""A conditional random field in which every pixel is tied to every other: the baseline of experiment 2.

Labels x have the energy

    E(x) = sum_i psi(x_i) + sum_{i < j} [x_i != x_j] (w_s k_s(i, j) + w_a k_a(i, j))

    k_s = exp(-|p_i - p_j|^2 / 2 s^2)                                 smoothness: near pixels agree
    k_a = exp(-|p_i - p_j|^2 / 2 a^2 - (I_i - I_j)^2 / 2 g^2)         appearance: of like grey value even more

where psi is the network's negative log-probability, p a position and I a grey value in [0, 1]. Mean field
approximates the marginals; of two labels only the probability q of the foreground is left, and each step is

    q_i = sigmoid(logit_i + sum_j (w_s k_s(i, j) + w_a k_a(i, j)) (2 q_j - 1))

Each kernel is divided by the roots of its row's and its column's sum, so that a weight means the same for
every width. No matrix of all pairs is needed: in space the kernels are products of one for rows and one for
columns, and for 256 grey values the Gaussian is a short sum of products, found from its eigenvectors.

Source: Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials",
NeurIPS 2011, whose filtering on a lattice this replaces.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Array = npt.NDArray[np.float32]

LEVELS = 256
"""Grey values are rounded to so many."""
NEGLIGIBLE = 1e-4
"""Eigenvalues below this share of the largest are left out."""
STEPS = 5
"""Of the mean field."""


@dataclass(frozen=True, slots=True)
class RandomField:
    """Weights and widths.

    Attributes:
        smoothness: w_s.
        near: s, in pixels.
        appearance: w_a.
        far: a, in pixels.
        grey: g, for grey values in [0, 1].
    """

    smoothness: float
    near: float
    appearance: float
    far: float
    grey: float


GRID = tuple(
    RandomField(smoothness, 1.0, appearance, far, grey)
    for smoothness, appearance, far, grey in itertools.product(
        (0.5, 2.0), (0.5, 2.0, 5.0), (5.0, 15.0), (0.05, 0.15)
    )
)
"""What `tune` chooses from."""


def mean_field(logits: Array, image: Array, field: RandomField) -> Array:
    """The probability of the foreground.

    Args:
        logits: Of the foreground, (H, W).
        image: Grey values in [0, 1], (H, W).
        field: Weights and widths.

    Returns:
        (H, W), in [0, 1].
    """
    smooth = _normalised(_filter(np.ones((1, *image.shape), np.float32), field.near), image.shape)
    alike = _normalised(_filter(_factors(image, field.grey), field.far), image.shape)
    probability = expit(logits)
    for _ in range(STEPS):
        sign = 2 * probability - 1
        probability = expit(logits + field.smoothness * smooth(sign) + field.appearance * alike(sign))
    return probability


def tune(
    logits: Sequence[Array],
    images: Sequence[Array],
    score: Callable[[list[npt.NDArray[np.bool_]]], float],
    grid: Sequence[RandomField] = GRID,
) -> RandomField:
    """The best of a grid on images to choose by.

    Args:
        logits: Of the foreground, (H, W) each.
        images: Grey values in [0, 1], (H, W) each.
        score: Judges the masks of all images; more is better, and of equals the first is taken.
        grid: What to choose from.
    """

    def result(field: RandomField) -> float:
        return score([mean_field(one, image, field) > 0.5 for one, image in zip(logits, images, strict=True)])

    return max(grid, key=result)


def _gaussian(points: npt.ArrayLike, width: float) -> Array:
    """Of all pairs of points (n,): (n, n)."""
    values = np.asarray(points, np.float64)
    return np.exp(-np.square(values[:, None] - values) / (2 * width**2)).astype(np.float32)


def _factors(image: Array, width: float) -> Array:
    """Maps (R, H, W) whose products, summed over R, are the Gaussian of the difference of two pixels."""
    levels = np.rint(np.clip(image, 0, 1) * (LEVELS - 1)).astype(np.int64)
    return np.ascontiguousarray(_factors_of_levels(width)[levels].transpose(2, 0, 1))


@lru_cache
def _factors_of_levels(width: float) -> Array:
    """The same for every grey value: (LEVELS, R)."""
    values, vectors = np.linalg.eigh(_gaussian(np.arange(LEVELS) / (LEVELS - 1), width).astype(np.float64))
    kept = values > NEGLIGIBLE * values[-1]
    return (vectors[:, kept] * np.sqrt(values[kept])).astype(np.float32)


def _filter(factors: Array, width: float) -> Callable[[Array], Array]:
    """Multiplies a map (H, W) by the matrix of all pairs of pixels."""
    rows, columns = (_gaussian(np.arange(size), width) for size in factors.shape[1:])
    return lambda values: np.einsum("rhw,rhw->hw", factors, rows @ (factors * values) @ columns)


def _normalised(kernel: Callable[[Array], Array], shape: tuple[int, ...]) -> Callable[[Array], Array]:
    # A pixel is alike to itself, so no sum is below 1 but by what the short sum leaves out.
    root = np.sqrt(np.maximum(kernel(np.ones(shape, np.float32)), 0.5))
    return lambda values: kernel(values / root) / root
