"""A configuration from anywhere is held against bounds before a network is built of it."""

import re
from dataclasses import asdict

import pytest

from topofix.errors import InvalidCheckpoint
from topofix.learning.configuration import NetworkConfig, parse_config

FLAT = NetworkConfig(2, ("disc", "ring"), (1.25, 0.5), (32, 48), channels=(4, 8, 8))


def test_a_configuration_survives_json():
    stored = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(FLAT).items()}
    assert parse_config(stored) == FLAT
    assert hash(parse_config(stored)) == hash(FLAT)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"labels": tuple(map(str, range(1025)))}, "expected at most 1024 labels, got 1025"),
        ({"channels": (4,) * 11}, "expected at most 10 levels of channels, got 11"),
        ({"channels": (4, 4, 4097)}, "expected at most 4096 channels on a level, got 4097"),
        ({"channels": (10**9,) * 3}, "expected at most 4096 channels on a level, got 1000000000"),
        ({"patch_size": (4097, 4096)}, "expected at most 16777216 voxels in a patch, got 16781312"),
        ({"spacing": (1.0, 1e-7)}, "expected a spacing from 1e-6 to 1e6 mm, got (1.0, 1e-07)"),
        ({"spacing": (1e7, 1.0)}, "expected a spacing from 1e-6 to 1e6 mm, got (10000000.0, 1.0)"),
        ({"spacing": (float("nan"), 1.0)}, "expected a spacing from 1e-6 to 1e6 mm, got (nan, 1.0)"),
        ({"spacing": (float("inf"), 1.0)}, "expected a spacing from 1e-6 to 1e6 mm, got (inf, 1.0)"),
        ({"labels": ("a\nb",)}, r"expected labels of up to 128 printable characters, got ('a\nb',)"),
        (
            {"labels": ("\x1b[31mred",)},
            r"expected labels of up to 128 printable characters, got ('\x1b[31mred',)",
        ),
        ({"labels": ("a" * 129,)}, "expected labels of up to 128 printable characters, got ('aaaa"),
    ],
)
def test_what_no_sensible_network_has_is_refused(change, says):
    with pytest.raises(InvalidCheckpoint, match=re.escape(says)) as refused:
        NetworkConfig(**{**asdict(FLAT), **change})
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "change",
    [
        {"labels": tuple(map(str, range(1024)))},
        {"channels": (4096,) * 10},
        {"patch_size": (4096, 4096)},
        {"spacing": (1e-6, 1e6)},
        {"labels": ("Ä" * 128, "left lung")},
    ],
)
def test_the_bounds_themselves_are_allowed(change):
    NetworkConfig(**{**asdict(FLAT), **change})


@pytest.mark.parametrize("name", ["labels", "spacing", "patch_size", "channels"])
def test_a_list_of_a_million_is_shown_in_short(name):
    with pytest.raises(InvalidCheckpoint) as refused:
        NetworkConfig(**{**asdict(FLAT), name: ("a",) * 10**6 if name == "labels" else (0,) * 10**6})
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dimensions", [2]),
        ("dimensions", 2.0),
        ("dimensions", True),
        ("dimensions", "2"),
        ("labels", "disc"),
        ("labels", ["disc", 3]),
        ("labels", {"disc": 1}),
        ("labels", None),
        ("spacing", [1.0, "1"]),
        ("spacing", [True, 1.0]),
        ("spacing", 1.0),
        ("patch_size", [32.0, 48]),
        ("patch_size", [32, [48]]),
        ("channels", [4, 8, "8"]),
        ("channels", 4),
    ],
)
def test_another_type_than_it_should_have_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} of "):
        parse_config({**asdict(FLAT), name: value})


@pytest.mark.parametrize("stored", [{}, {**asdict(FLAT), "depth": 3}, [], None, 3, "text"])
def test_missing_and_unknown_names_are_refused(stored):
    with pytest.raises((KeyError, TypeError, AttributeError)):
        parse_config(stored)
