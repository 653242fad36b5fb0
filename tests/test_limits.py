"""A limit of change means what people write."""

import re

import pytest

from topofix.errors import InvalidOption
from topofix.limits import MaxChange


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("500", MaxChange(500.0)),
        ("500mm3", MaxChange(500.0)),
        (" 500 MM³ ", MaxChange(500.0)),
        ("2.5mm2", MaxChange(2.5)),
        ("2.5 mm²", MaxChange(2.5)),
        ("1e3", MaxChange(1000.0)),
        ("0", MaxChange(0.0)),
        ("5%", MaxChange(5.0, "%")),
        ("0.5 %", MaxChange(0.5, "%")),
        ("150%", MaxChange(150.0, "%")),
    ],
)
def test_a_limit_is_read(text, limit):
    assert MaxChange.parse(text) == limit
    assert MaxChange.parse(str(limit)) == limit


@pytest.mark.parametrize(
    "text", ["", "%", "mm3", "-1", "5cm3", "1.2.3", "1e", "nan", "inf", "1e999", "5%%", "5 5"]
)
def test_what_is_no_limit_is_refused(text):
    message = f"--max-change: expected an amount such as 500mm3 or 5%, got '{text}'"
    with pytest.raises(InvalidOption, match=f"^{re.escape(message)}$"):
        MaxChange.parse(text)


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_an_amount_that_cannot_be_is_refused(amount):
    with pytest.raises(InvalidOption, match="--max-change: expected a finite amount from 0 on"):
        MaxChange(amount)


@pytest.mark.parametrize(
    ("limit", "foreground", "volume", "voxels"),
    [
        (MaxChange(10.0), 7, 2.0, 5),
        (MaxChange(0.3), 7, 0.1, 3),
        (MaxChange(1.9), 7, 2.0, 0),
        (MaxChange(5, "%"), 100, 2.0, 5),
        (MaxChange(5, "%"), 39, 2.0, 1),
        (MaxChange(50, "%"), 0, 2.0, 0),
    ],
)
def test_a_limit_in_voxels(limit, foreground, volume, voxels):
    assert limit.voxels(foreground, volume) == voxels


@pytest.mark.parametrize("volume", [1.0, 1e-3])
def test_the_largest_limit_there_is_limits_nothing(volume):
    assert MaxChange.parse("1.7976931348623157e308").voxels(10, volume) > 10**300
