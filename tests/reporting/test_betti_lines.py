"""Betti numbers in a row of a table: whole for an image, counted for slices and frames."""

import pytest

from topofix.records import Outcome, Record, Topology
from topofix.reporting.betti_lines import MOST_LINES, betti_error, betti_lines


def part(before, after, prior="1,1", region="wall", *, index=None, frame=None) -> Topology:
    met = [None if prior is None else ",".join(map(str, counts)) == prior for counts in (before, after)]
    return Topology(region, index, prior, before, after, *met, frame)


def lines(*parts: Topology) -> list[tuple[str, bool | None]]:
    return [(line.text, line.right) for line in betti_lines(parts)]


@pytest.mark.parametrize(
    ("parts", "text", "right"),
    [
        ([part((2, 1), (1, 1))], "wall 2,1 → 1,1, asked 1,1", True),
        ([part((1, 1), (1, 1))], "wall 1,1, asked 1,1", True),
        ([part((0, 0), (0, 0))], "wall 0,0, asked 1,1", False),
        ([part((2, 0, 1), (2, 0, 1), None)], "wall 2,0,1", None),
        ([part((1, 0), (1, 1), index=5)], "wall 1,0 → 1,1, slice 5, asked 1,1", True),
        ([part((1, 0), (1, 1), index=5, frame=2)], "wall 1,0 → 1,1, frame 2, slice 5, asked 1,1", True),
        (
            [part((1, int(k > 0)), (1, 1), index=k) for k in range(10)],
            "wall 1,1 in 9 of 10 slices → 10 of 10",
            True,
        ),
        (
            [part((1, 0), (1, int(k > 0)), index=k) for k in range(3)],
            "wall 1,1 in 0 of 3 slices → 2 of 3",
            False,
        ),
        (
            [part((1, 0), (1, 1), frame=k) for k in range(4)],
            "wall 1,1 in 0 of 4 frames → 4 of 4",
            True,
        ),
        (
            [part((1, 1), (1, 1), index=k, frame=t) for k in range(2) for t in range(3)],
            "wall 1,1 in 6 of 6 slices → 6 of 6",
            True,
        ),
        ([part((1, 1), (1, 1), None, index=k) for k in range(3)], "wall in 3 slices", None),
    ],
)
def test_one_line_a_region(parts, text, right):
    assert lines(*parts) == [(text, right)]


def test_regions_and_wishes_have_lines_of_their_own_in_their_order():
    parts = [
        part((2, 1), (1, 1), index=0),
        part((1, 0), (1, 0), "1,0", region="pool", index=0),
        part((1, 1), (1, 1), index=1),
        part((0, 0), (1, 0), "1,0", index=2),
    ]
    assert lines(*parts) == [
        ("wall 1,1 in 1 of 2 slices → 2 of 2", True),
        ("pool 1,0, slice 0, asked 1,0", True),
        ("wall 0,0 → 1,0, slice 2, asked 1,0", True),
    ]


def test_many_lines_are_cut_short_but_a_wrong_one_is_never_lost():
    parts = [part((1, 1), (1, 1), region=f"label {k}") for k in range(20)]
    assert len(lines(*parts[:MOST_LINES])) == MOST_LINES
    assert lines(*parts)[MOST_LINES - 1 :] == [("and 13 more", True)]
    assert lines(*parts, part((2, 2), (2, 2)))[-1] == ("and 14 more", False)
    measured = [part((1, 1), (1, 1), None, region=f"label {k}") for k in range(20)]
    assert lines(*measured)[-1] == ("and 13 more", None)


def test_nothing_is_no_line():
    assert lines() == []


def test_the_name_of_a_region_shows_as_text():
    assert lines(part((1, 1), (1, 1), region="a\n\u202eb")) == [("a\\n\\u202eb 1,1, asked 1,1", True)]


def test_the_betti_error_is_the_distance_to_what_was_asked():
    parts = (
        part((3, 0), (1, 1)),  # 2 + 1
        part((5, 2), (4, 0), "1-3,*"),  # 2, then 1
        part((0, 7), (0, 7), "2-,0-1"),  # 2 + 6
        part((9, 9), (9, 9), None),
    )
    record = Record("refine", "a.nii", Outcome.INFEASIBLE, "", topology=parts)
    assert betti_error(record, after=False) == 3 + 2 + 8
    assert betti_error(record, after=True) == 0 + 1 + 8
