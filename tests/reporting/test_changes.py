"""The table of changes: a column for everything there is, and none for what there is not."""

from dataclasses import replace

from topofix.records import ChangeRow, Outcome, Record
from topofix.reporting.changes import change_lines

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
