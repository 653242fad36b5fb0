"""The figures of a cohort: every case in one bar, round bins, axes with names and units."""

import numpy as np
import pytest

from topofix.reporting.distributions import BETTI_ERRORS, BINS, error_bars, histogram, outcome_bars

pytest.importorskip("plotly")


def axis_title(distribution, axis: str) -> str:
    return distribution.figure["layout"][axis]["title"]["text"]


@pytest.mark.parametrize(
    ("values", "highest"),
    [
        ([0.9, 0.97, 0.985, 1.0, 1.0], 1.0),
        ([1.0] * 7, 1.0),
        ([0.0], 1.0),
        ([0.999999, 1.0], 1.0),
        ([0.0, 0.0], None),
        ([12.5], None),
        ([0.0, 3.7, 1234.5], None),
        ([1e-7, 2e-7], None),
        ([0.1, 0.2, 0.3, 0.7], None),
        (np.random.default_rng(0).random(500).tolist(), 1.0),
        (np.random.default_rng(1).lognormal(5, 3, 500).tolist(), None),
    ],
)
def test_every_case_is_in_one_bar_and_bars_touch(values, highest):
    (bars,) = histogram("Changed", "mm³", values, highest).figure["data"]
    centres, width = np.array(bars["x"]), bars["width"]
    assert sum(bars["y"]) == len(values)
    assert len(centres) <= BINS + 2
    assert np.allclose(np.diff(centres), width)
    assert centres[0] - width / 2 <= min(values) * (1 + 1e-9) + 1e-12
    assert centres[-1] + width / 2 >= max(values) * (1 - 1e-9)
    for centre, count in zip(centres, bars["y"], strict=True):
        inside = np.abs(np.array(values) - centre) < width / 2 * (1 - 1e-6)
        assert inside.sum() <= count
    mantissa = width / 10 ** np.floor(np.log10(width) + 1e-9)
    assert round(mantissa, 6) in (1, 2, 5)


def test_a_dice_of_one_ends_the_scale():
    figure = histogram("Dice to the input", "", [1.0] * 7, 1.0).figure
    assert figure["layout"]["xaxis"]["range"] == [0.95, 1.0]
    assert figure["data"][0]["y"][-1] == 7


def test_axes_have_names_and_units():
    changed = histogram("Changed", "mm³", [1.0, 2.0])
    assert axis_title(changed, "xaxis") == "Changed (mm³)"
    assert axis_title(changed, "yaxis") == "cases"
    assert axis_title(histogram("Dice", "", [1.0]), "xaxis") == "Dice"
    assert axis_title(outcome_bars([("failed", 1)]), "xaxis") == "cases"
    assert axis_title(error_bars([1], [0]), "xaxis") == "Betti error of a case"


def test_what_is_drawn_is_told_as_well():
    told = histogram("Changed", "mm³", [1.0, 2.0, 9.0]).text
    assert told == "Changed (mm³) of 3 cases: from 1 to 9, median 2."
    assert histogram("Dice", "", [1.0]).text == "Dice of 1 case: from 1 to 1, median 1."
    assert outcome_bars([("satisfied", 3), ("failed", 1)]).text == "satisfied: 3, failed: 1"
    assert error_bars([3, 1], [0, 1]).text == "Betti errors of all cases together: 4 before, 1 after."


@pytest.mark.parametrize("figure", [outcome_bars([]), histogram("Dice", "", []), error_bars([], [])])
def test_no_case_is_no_bar(figure):
    assert not any(sum(map(float, trace["y"])) for trace in figure.figure["data"])
    assert "no case" in figure.text.lower()


def test_outcomes_are_bars_from_the_top():
    figure = outcome_bars([("satisfied", 3), ("failed", 1)]).figure
    (bars,) = figure["data"]
    assert (bars["y"], bars["x"], bars["orientation"]) == (["satisfied", "failed"], [3, 1], "h")
    assert figure["layout"]["yaxis"]["autorange"] == "reversed"


@pytest.mark.parametrize(
    ("error", "name"),
    [
        *((0, "0"), (1, "1"), (2, "2"), (3, "3-4"), (4, "3-4"), (5, "5-8"), (8, "5-8"), (9, "9-16")),
        *((64, "33-64"), (65, "65+"), (10**6, "65+")),
    ],
)
def test_betti_errors_fall_into_classes(error, name):
    before, after = error_bars([error], [0]).figure["data"]
    assert dict(zip(before["x"], before["y"], strict=True))[name] == 1
    assert (before["name"], after["name"]) == ("before", "after")
    assert before["x"] == after["x"] == list(BETTI_ERRORS[: BETTI_ERRORS.index(name) + 1])
    assert before["marker"]["color"] != after["marker"]["color"]


def test_figures_leave_colours_to_the_page():
    layout = histogram("Dice", "", [1.0]).figure["layout"]
    assert not {"paper_bgcolor", "plot_bgcolor", "font"} & layout.keys()
    assert "layout" not in layout["template"]  # Plotly's own look
