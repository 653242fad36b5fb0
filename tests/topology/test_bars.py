"""The values that tables and figures show are those at the critical voxels."""

import numpy as np
import phantoms
import pytest

from topofix.topology.bars import gather
from topofix.topology.persistence import NEVER, barcode


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize("phantom", [phantoms.ring(), phantoms.two_discs(), phantoms.shell()], ids=str)
def test_births_and_deaths_are_the_fields_values(phantom, connectivity):
    field = phantoms.probabilities(phantom.mask)
    bars = gather("2+3", 4, barcode(field, connectivity), field)
    assert (bars.region, bars.slice, bars.shape) == ("2+3", 4, field.shape)
    assert len(bars.barcode) == len(bars.births) == len(bars.deaths) > 3
    for birth, death, born, dies in zip(
        bars.barcode.birth, bars.barcode.death, bars.births, bars.deaths, strict=True
    ):
        assert born == field[np.unravel_index(birth, field.shape)]
        assert dies == (0 if death == NEVER else field[np.unravel_index(death, field.shape)])
    for dimension in range(field.ndim):
        lengths = (bars.births - bars.deaths)[bars.barcode.dimension == dimension]
        assert (np.diff(lengths) <= 0).all(), "longest first"


@pytest.mark.parametrize("shortest", [0.0, 0.1, 0.5, 1.1])
def test_short_bars_are_left_out_and_no_other(shortest):
    field = phantoms.probabilities(phantoms.figure_eight().mask)
    whole = gather("foreground", None, barcode(field), field)
    some = gather("foreground", None, barcode(field), field, min_persistence=shortest)
    kept = whole.births - whole.deaths >= shortest
    for name in ("births", "deaths"):
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[kept])
    for name in ("dimension", "birth", "death"):
        np.testing.assert_array_equal(getattr(some.barcode, name), getattr(whole.barcode, name)[kept])
    assert (shortest == 0) == bool(kept.all())
    assert (shortest == 1.1) == (not kept.any())


def test_a_bar_of_exactly_the_least_length_is_kept():
    field = np.array([[0.875, 0.125, 0.625]])
    bars = gather("foreground", None, barcode(field), field, min_persistence=0.5)
    assert bars.births.tolist() == [0.875, 0.625]
    assert bars.deaths.tolist() == [0, 0.125]


def test_an_empty_image_has_no_bars():
    field = np.zeros((4, 5))
    assert len(gather("foreground", None, barcode(field), field).births) == 0
