"""Bars as pictures that can be checked by eye, and as rows of a table."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from topofix.records import Topology
from topofix.reporting.bars import COLUMNS, bars_csv, bars_table, headline
from topofix.topology.bars import gather
from topofix.topology.persistence import barcode

FIELD = np.array(
    [
        [0.9, 0.8, 0.9, 0.0, 0.3],
        [0.7, 0.2, 0.8, 0.0, 0.0],
        [0.9, 0.9, 0.6, 0.0, 1.0],
    ]
)


def bars_of(field, index=None):
    return gather("foreground", index, barcode(field), field)


def picture(field, most, threshold) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(bars_table(bars_of(field), most, threshold))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_all_bars_of_a_small_field():
    assert picture(FIELD, most=9, threshold=0.25) == [
        "dim  birth  death  length  1                 0.5                  0",
        "  0  1.000  0.000   1.000  █████████████████████████████|██████████",
        "  0  0.900  0.000   0.900      █████████████████████████|██████████",
        "  0  0.300  0.000   0.300                             ██|██████████",
        "  0  0.900  0.800   0.100      █████",
        "  0  0.900  0.800   0.100      █████",
        "  1  0.700  0.200   0.500              █████████████████|██",
    ]


def test_the_shorter_bars_are_counted_per_dimension():
    assert picture(FIELD, most=2, threshold=0.5) == [
        "dim  birth  death  length  1                 0.5                  0",
        "  0  1.000  0.000   1.000  ████████████████████|███████████████████",
        "  0  0.900  0.000   0.900      ████████████████|███████████████████",
        "  0                        and 3 shorter",
        "  1  0.700  0.200   0.500              ████████|███████████",
    ]


def test_a_bar_of_hardly_any_length_is_still_seen():
    assert picture(np.full((3, 3), 1e-4), most=3, threshold=0.5)[1:] == [
        "  0  0.000  0.000   0.000                                         █"
    ]


def test_many_bars_have_a_comma():
    field = np.indices((80, 80)).sum(0) % 2 * np.linspace(0.5, 0.9, 6400).reshape(80, 80)
    code = barcode(field, "face")
    console = Console(file=io.StringIO(), width=80)
    console.print(bars_table(gather("foreground", None, code, field), 1, 0.5))
    assert f"and {len(code.of(0)) - 1:,} shorter" in console.file.getvalue()
    assert "," in f"{len(code.of(0)) - 1:,}"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_every_bar_fits_into_80_columns(birth, valley, threshold):
    lines = picture(np.array([[birth, min(birth, valley), birth]]), most=5, threshold=threshold)
    assert max(map(len, lines)) <= 80
    assert all("█" in line for line in lines[1:])


@pytest.mark.parametrize(
    ("part", "text"),
    [
        (
            Topology("wall", None, None, (3, 1), (3, 1)),
            "scan.tif, wall: Betti numbers 3,1 above 0.5",
        ),
        (
            Topology("wall", 4, "1,1", (1, 1), (1, 1), True, True),
            "scan.tif, slice 4, wall: Betti numbers 1,1 above 0.5; asked for 1,1: met",
        ),
        (
            Topology("2+3", None, "1,0,0", (2, 0, 1), (2, 0, 1), False, False),
            "scan.tif, 2+3: Betti numbers 2,0,1 above 0.5; asked for 1,0,0: not met",
        ),
    ],
)
def test_the_headline_says_place_numbers_and_verdict(part, text):
    assert headline("scan.tif", part, 0.5) == text


def test_rows_of_the_table():
    assert bars_csv("scan.tif", [bars_of(FIELD)]).splitlines() == [
        "scan.tif,foreground,,0,1,0,1,2 4,",
        "scan.tif,foreground,,0,0.9,0,0.9,0 0,1 3",
        "scan.tif,foreground,,0,0.3,0,0.3,0 4,0 3",
        "scan.tif,foreground,,0,0.9,0.8,0.1,0 2,0 1",
        "scan.tif,foreground,,0,0.9,0.8,0.1,2 0,1 2",
        "scan.tif,foreground,,1,0.7,0.2,0.5,1 0,1 1",
    ]


def test_names_with_commas_survive_the_table():
    (first, *_) = csv.reader(io.StringIO(bars_csv('a, "b".tif', [bars_of(FIELD, index=7)])))
    row = dict(zip(COLUMNS, first, strict=True))
    assert (row["case"], row["slice"], row["birth_voxel"]) == ('a, "b".tif', "7", "2 4")


def test_three_indices_in_a_volume():
    field = np.zeros((2, 3, 4))
    field[1, 2, 3] = 0.5
    assert bars_csv("scan.nii", [bars_of(field)]) == "scan.nii,foreground,,0,0.5,0,0.5,1 2 3,\n"
