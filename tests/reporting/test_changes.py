"""The table of changes: a column for everything there is, and none for what there is not."""

from dataclasses import replace

import pytest

from topofix.records import ChangeRow, Outcome, Record
from topofix.reporting.changes import change_lines, happened

ROW = ChangeRow("wall", None, 0, "removed", 0.698, 0.0, (3, 18), (4.5, 27.0, 0.0), 21, 47.25, "voxels")


def lines(*rows: ChangeRow) -> list[str]:
    return change_lines(Record("refine", "scan.nii.gz", Outcome.SATISFIED, "", changes=rows))


def test_no_changes_are_no_table():
    assert lines() == []


def test_columns_are_as_wide_as_what_is_in_them():
    other = replace(
        ROW, region="left atrium", dimension=None, kind="changed", birth=None, death=None, voxels=1234
    )
    assert lines(ROW, other) == [
        "  region       dim  change   birth  death  voxel  mm        voxels    mm2  stage",
        "  wall           0  removed  0.698  0.000  3 18   4.5 27 0      21  47.25  voxels",
        "  left atrium       changed                3 18   4.5 27 0    1234  47.25  voxels",
    ]


def test_slices_and_frames_have_columns_where_there_are_any():
    head, row = lines(replace(ROW, slice=7, frame=12, voxel=(7, 3, 18)))
    assert head.split()[:4] == ["region", "frame", "slice", "dim"]
    assert row.split()[:4] == ["wall", "12", "7", "0"]


@pytest.mark.parametrize(
    ("kind", "gained", "component", "hole"),
    [
        ("removed", True, "joined", "filled"),
        ("removed", False, "removed", "opened"),
        ("added", True, "added", "enclosed"),
        ("added", False, "split off", "made"),
        ("removed", None, "removed", "removed"),  # a Record of an earlier version
    ],
)
def test_a_word_says_what_happened(kind, gained, component, hole):
    told = [replace(ROW, kind=kind, gained=gained, dimension=dimension) for dimension in range(3)]
    assert [happened(row) for row in told] == [component, hole, hole]
    assert f" {component} " in lines(told[0])[1]


def test_a_shape_that_grew_is_a_changed_one():
    assert happened(replace(ROW, kind="changed", dimension=None, gained=True)) == "changed"
