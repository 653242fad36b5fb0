"""A training as lines and as a table."""

from dataclasses import replace

import pytest
from rich.console import Console

from topofix.learning.training_state import Epoch
from topofix.reporting.epochs import duration, epoch_line, epoch_table

LABELS = Epoch(3, "labels", 9, 9, 0.51234, 0.0, (), 0.0, -1.0, 61.4, 119.6, finished=True)
TOPOLOGY = Epoch(
    12, "topology", 4, 9, 0.25, 1.5, (0.8, 0.95), 0.125, 0.5, 100.0, 0.4, finished=True, validated=True
)


@pytest.mark.parametrize(
    ("epoch", "line"),
    [
        (LABELS, "epoch 3: loss 0.5123, 61 s, 120 s left"),
        (
            replace(LABELS, dice=(0.7, 0.123456), right=2 / 3, validated=True),
            "epoch 3: loss 0.5123, validation Dice 0.700 0.123, right 67 %, 61 s, 120 s left",
        ),
        (
            TOPOLOGY,
            "epoch 12: loss 0.2500, topological loss 1.5000, validation Dice 0.800 0.950, right 12 %, "
            "100 s, 0 s left",
        ),
        (  # the scores of an earlier epoch are not repeated
            replace(TOPOLOGY, validated=False),
            "epoch 12: loss 0.2500, topological loss 1.5000, 100 s, 0 s left",
        ),
        (
            replace(LABELS, seconds=599.4, remaining=7384.6),
            "epoch 3: loss 0.5123, 599 s, 2:03:05 left",
        ),
    ],
)
def test_an_epoch_is_a_line(epoch, line):
    assert epoch_line(epoch) == line


def test_epochs_are_the_rows_of_a_table_the_one_under_way_stands_out():
    under_way = replace(TOPOLOGY, number=13, step=2, finished=False, validated=False, remaining=3600.0)
    table = epoch_table([LABELS, TOPOLOGY, under_way])
    console = Console(width=100, record=True)
    console.print(table)
    head, *rows = console.export_text().splitlines()
    assert head.split() == [
        "epoch",
        "batches",
        "phase",
        "loss",
        "topological",
        "Dice",
        "per",
        "label",
        "right",
        "left",
    ]
    assert [row.split() for row in rows] == [
        ["3", "9/9", "labels", "0.5123", "120", "s"],
        ["12", "4/9", "topology", "0.2500", "1.5000", "0.800", "0.950", "12", "%", "0", "s"],
        ["13", "2/9", "topology", "0.2500", "1.5000", "1:00:00"],
    ]
    assert [row.style for row in table.rows] == [None, None, "bold"]


def test_the_table_fits_into_80_columns_with_three_labels():
    epoch = replace(TOPOLOGY, number=100, step=100, steps=100, dice=(0.8, 0.9, 0.7), remaining=9999.0)
    console = Console(width=80, record=True)
    console.print(epoch_table([epoch]))
    assert "…" not in console.export_text()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (599.4, "599 s"), (599.6, "0:10:00"), (3661, "1:01:01"), (100 * 3600 + 59, "100:00:59")],
)
def test_long_times_are_in_hours(seconds, text):
    assert duration(seconds) == text


def test_a_training_without_epochs_is_an_empty_table():
    assert epoch_table([]).row_count == 0
