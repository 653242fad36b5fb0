"""The synthetic ultrasound: topology by an independent count, and what makes it look like ultrasound."""

import sys
from pathlib import Path

import counting
import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks/paper"))

import phantom as ultrasound

SMALL = (24, 60, 64)


@pytest.fixture(scope="module")
def made() -> ultrasound.Phantom:
    return ultrasound.phantom(0, SMALL)


@pytest.mark.parametrize("shape", [SMALL, (32, 80, 72), (40, 72, 96)])
@pytest.mark.parametrize("seed", range(3))
def test_placenta_is_one_piece_without_tunnels_and_cavities(seed: int, shape: tuple[int, int, int]) -> None:
    made = ultrasound.phantom(seed, shape)
    assert made.image.shape == made.mask.shape == shape
    assert set(np.unique(made.mask)) == {0, 1}
    assert counting.betti(made.mask) == (1, 0, 0)


def test_types_and_range(made: ultrasound.Phantom) -> None:
    assert made.image.dtype == np.float32
    assert made.mask.dtype == np.uint8
    assert made.image.min() == 0
    assert 0.9 < made.image.max() <= 1


def test_a_seed_gives_one_phantom_and_another_seed_another(made: ultrasound.Phantom) -> None:
    again, other = ultrasound.phantom(0, SMALL), ultrasound.phantom(1, SMALL)
    np.testing.assert_array_equal(again.image, made.image)
    np.testing.assert_array_equal(again.mask, made.mask)
    assert (other.mask != made.mask).any()


def test_draws_that_will_not_do_are_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([(2, 0, 0), (1, 1, 0), (1, 0, 0)])
    monkeypatch.setattr(ultrasound, "betti", lambda mask: next(counts))
    monkeypatch.setattr(ultrasound, "LEAST", 0.0)
    ultrasound.phantom(0, SMALL)
    assert next(counts, None) is None
    monkeypatch.setattr(ultrasound, "betti", lambda mask: (1, 0, 1))
    monkeypatch.setattr(ultrasound, "DRAWS", 3)
    with pytest.raises(RuntimeError, match="within 3 draws of seed 0"):
        ultrasound.phantom(0, SMALL)


def test_the_field_of_view_is_a_sector(made: ultrasound.Phantom) -> None:
    plane = made.image[SMALL[0] // 2]
    assert not made.image[:, [0, 0, -1, -1], [0, -1, 0, -1]].any()  # its corners
    widths = [(row > 0).sum() for row in plane]
    assert widths[5] < widths[25] < widths[45]
    assert (made.image[made.mask > 0] > 0).mean() > 0.95  # shadows may be black


def test_placenta_is_brighter_than_fluid(made: ultrasound.Phantom) -> None:
    seen = made.image[made.image > 0]
    assert np.median(made.image[made.mask > 0]) > np.quantile(seen, 0.3) + 0.15


def test_bone_and_calcium_throw_shadows(monkeypatch: pytest.MonkeyPatch) -> None:
    shaded = ultrasound.phantom(0, SMALL).image
    clear = ultrasound.LOSS.copy()
    clear[[ultrasound.BONE, ultrasound.CALCIUM]] = clear[ultrasound.FLESH]
    monkeypatch.setattr(ultrasound, "LOSS", clear)
    difference = ultrasound.phantom(0, SMALL).image - shaded
    assert difference.min() > -1e-5
    assert (difference > 0.05).mean() > 0.02
    depth = difference.max((0, 2))
    assert depth[:8].max() < depth[-20:].max()  # nothing casts a shadow towards the transducer


def test_deep_tissue_is_weaker() -> None:
    """The receiver's gain makes up for most of the loss, not for all of it."""
    sector = ultrasound._Sector(SMALL)
    flesh = np.full(sector.beams, ultrasound.FLESH, np.uint8)
    profile = sector._decibels(flesh, np.random.default_rng(0)).mean((0, 2))
    assert profile[10:20].mean() > profile[-10:].mean() + 0.02


def test_speckle_is_rayleigh_and_correlated() -> None:
    sector = ultrasound._Sector((40, 100, 110))
    speckle = sector._speckle(np.random.default_rng(0))
    assert np.square(speckle).mean() == pytest.approx(1, abs=1e-3)
    assert speckle.mean() / speckle.std() == pytest.approx((np.pi / (4 - np.pi)) ** 0.5, rel=0.05)
    near = np.corrcoef(speckle[..., 1:].ravel(), speckle[..., :-1].ravel())[0, 1]
    far = np.corrcoef(speckle[..., 8:].ravel(), speckle[..., :-8].ravel())[0, 1]
    assert near > 0.4
    assert abs(far) < 0.05


def test_too_small_a_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 voxels"):
        ultrasound.phantom(0, (8, 60, 64))


def test_picture_shows_two_planes_twice(made: ultrasound.Phantom) -> None:
    shown = ultrasound.picture(made)
    assert shown.shape == (SMALL[1], 2 * (SMALL[2] + SMALL[0]), 3)
    assert (shown[:, SMALL[2] : 2 * SMALL[2]] == (255, 60, 60)).all(-1).any()  # the outline
