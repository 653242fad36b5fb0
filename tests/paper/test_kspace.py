"""The corruption of images in their Fourier transform, against what the transform's theory says."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SCRIPT = Path(__file__).parents[2] / "benchmarks/paper/kspace.py"
SPEC = importlib.util.spec_from_file_location("paper_kspace", SCRIPT)
kspace = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(kspace)

corrupt = kspace.corrupt


class Chosen:
    """In place of a random generator: what it is to choose, one set of lines for each direction."""

    def __init__(self, *choices: list[int]) -> None:
        self.choices = list(choices)
        self.offered: list[list[int]] = []

    def choice(self, lines: np.ndarray, count: int, replace: bool) -> np.ndarray:
        assert not replace
        self.offered.append(lines.tolist())
        chosen = np.array(self.choices.pop(0), int)
        assert len(chosen) == count
        return chosen


def some_image(height: int = 28, width: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((height, width))


def wave(height: int, width: int, down: int, across: int) -> np.ndarray:
    """A cosine of so many periods along each axis, (H, W)."""
    i, j = np.mgrid[:height, :width]
    return np.cos(2 * np.pi * (down * i / height + across * j / width))


def test_without_removed_lines_the_image_is_only_divided_by_its_maximum():
    image = 3 * some_image()
    assert np.allclose(corrupt(image, 0, np.random.default_rng(0)), image / image.max(), atol=1e-6)


def test_the_result_is_in_the_unit_interval_and_reaches_one():
    made = corrupt(some_image(), 12, np.random.default_rng(0))
    assert made.dtype == np.float32
    assert made.min() >= 0
    assert made.max() == 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), lines=st.integers(0, 14), columns=st.booleans(), odd=st.booleans())
def test_the_scale_of_the_image_does_not_matter(seed, lines, columns, odd):
    image = some_image(17 if odd else 20, 24, seed)
    once, scaled = (
        corrupt(factor * image, lines, np.random.default_rng(seed), columns=columns) for factor in (1, 1000)
    )
    assert np.allclose(once, scaled, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), lines=st.integers(0, 20), columns=st.booleans())
def test_a_sum_over_conjugate_frequencies_says_the_same_as_the_definition(seed, lines, columns):
    # The inverse transform written out as a product of matrices instead of a fast transform and its shifts.
    image = some_image(20, 20, seed)
    kept = []
    rng = np.random.default_rng(seed)
    for _ in range(2 if columns else 1):
        removed = rng.choice(np.arange(20), lines, replace=False)
        kept.append(np.setdiff1d(np.arange(20), removed) - 10)  # frequencies from -10 to 9
    if not columns:
        kept.append(np.arange(-10, 10))
    positions = np.arange(20)
    down, across = (
        np.exp(2j * np.pi * np.outer(positions, frequencies) / 20) / np.sqrt(20) for frequencies in kept
    )
    magnitude = np.abs(down @ (down.conj().T @ image @ across.conj()) @ across.T)
    expected = magnitude / magnitude.max() if magnitude.max() > 1e-9 else 0 * magnitude
    assert np.allclose(
        corrupt(image, lines, np.random.default_rng(seed), columns=columns), expected, atol=1e-5
    )


def test_removing_the_middle_row_takes_away_the_mean_of_every_column():
    image = some_image()
    made = corrupt(image, 1, Chosen([14]), columns=False)
    expected = np.abs(image - image.mean(0))
    assert np.allclose(made, expected / expected.max(), atol=1e-6)


def test_removing_the_middle_row_and_column_takes_away_both_means():
    image = some_image()
    made = corrupt(image, 1, Chosen([14], [14]))
    expected = np.abs(image - image.mean(0) - image.mean(1, keepdims=True) + image.mean())
    assert np.allclose(made, expected / expected.max(), atol=1e-6)


def test_one_of_two_conjugate_lines_leaves_a_complex_wave_of_constant_magnitude():
    # cos = (e^i + e^-i) / 2: without one half the rest has the same magnitude everywhere.
    made = corrupt(wave(80, 80, 5, 0), 1, Chosen([40 + 5]), columns=False)
    assert np.allclose(made, 1, atol=1e-6)


def test_both_conjugate_lines_take_the_whole_wave_and_nothing_else():
    waves = wave(80, 80, 5, 0) + wave(80, 80, 0, 7)
    made = corrupt(waves, 2, Chosen([40 - 5, 40 + 5]), columns=False)
    assert np.allclose(made, np.abs(wave(80, 80, 0, 7)), atol=1e-6)


def test_rows_are_the_first_axis():
    waves = wave(80, 60, 0, 7)
    assert np.allclose(corrupt(waves, 2, Chosen([33, 47]), columns=False), np.abs(waves), atol=1e-6)
    assert np.allclose(corrupt(waves, 2, Chosen([33, 47], [23, 37])), 0)


def test_an_image_of_which_nothing_is_left_is_black_not_noise():
    assert (corrupt(wave(80, 80, 5, 0), 2, Chosen([35, 45]), columns=False) == 0).all()
    assert (corrupt(some_image(), 28, np.random.default_rng(0)) == 0).all()
    assert (corrupt(np.zeros((8, 8)), 3, np.random.default_rng(0)) == 0).all()


@pytest.mark.parametrize(
    ("size", "reserved", "middle"),
    [(80, 8, range(36, 44)), (9, 3, range(3, 6)), (9, 1, [4]), (8, 1, [4]), (8, 8, range(8)), (8, 0, [])],
)
def test_the_reserved_lines_lie_around_the_lowest_frequency(size, reserved, middle):
    lines = kspace.removable(size, 0, reserved)
    assert sorted({*range(size)} - {*lines.tolist()}) == list(middle)
    frequencies = np.fft.fftshift(np.fft.fftfreq(size))
    assert not reserved or 0.0 in frequencies[list(middle)]


def test_waves_in_the_reserved_middle_survive_every_draw():
    low = 1 + wave(80, 80, 3, 0) / 2
    for seed in range(20):
        made = corrupt(low, 60, np.random.default_rng(seed), columns=False, reserved=8)
        assert np.allclose(made, low / low.max(), atol=1e-6)


def test_every_line_outside_the_middle_is_offered_in_both_directions():
    rng = Chosen([0], [0])
    corrupt(some_image(80, 60), 1, rng, reserved=8)
    assert rng.offered == [[*range(36), *range(44, 80)], [*range(26), *range(34, 60)]]


def test_the_energy_of_a_line_is_what_is_lost():
    # Parseval: of white noise each of 80 rows holds a share, so 60 removed ones leave about 20 / 80 of it.
    noise = np.random.default_rng(1).standard_normal((80, 80))
    frequencies = np.fft.fftshift(np.fft.fft2(noise))
    removed = np.random.default_rng(2).choice(80, 60, replace=False)
    left = np.delete(np.square(np.abs(frequencies)).sum(1), removed).sum() / 80**2
    made = corrupt(noise, 60, np.random.default_rng(2), columns=False).astype(float)
    largest = np.sqrt(left / np.square(made).sum())  # what the magnitude was divided by
    assert left / np.square(noise).sum() == pytest.approx(0.25, abs=0.05)
    frequencies[removed] = 0
    assert largest == pytest.approx(np.abs(np.fft.ifft2(frequencies)).max(), rel=1e-5)


def test_the_same_seed_makes_the_same_image_and_another_seed_another():
    image = some_image()
    first, again, other = (corrupt(image, 6, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert (first == again).all()
    assert not np.allclose(first, other)


def test_the_image_that_was_given_stays_as_it_is():
    image = some_image()
    before = image.copy()
    corrupt(image, 6, np.random.default_rng(0))
    assert (image == before).all()


@pytest.mark.parametrize(("lines", "reserved"), [(29, 0), (21, 8), (-1, 0), (1, 28), (0, -2)])
def test_lines_that_may_not_be_removed_are_refused(lines, reserved):
    with pytest.raises(ValueError, match="lines to remove"):
        corrupt(some_image(), lines, np.random.default_rng(0), reserved=reserved)


def test_a_volume_is_refused():
    with pytest.raises(ValueError, match="rank 2"):
        corrupt(np.zeros((4, 8, 8)), 1, np.random.default_rng(0))
