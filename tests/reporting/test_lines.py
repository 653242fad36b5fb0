"""The one line that a person reads of a case."""

from pathlib import Path

import pytest

from topofix.records import Outcome, Record, Topology
from topofix.reporting.lines import betti_text, one_line


def asked(before, after, *, index=None, region="foreground", prior="1,0"):
    met = [",".join(map(str, counts)) == prior for counts in (before, after)]
    return Topology(region, index, prior, before, after, *met)


def record(command, outcome, topology=(), **values) -> Record:
    return Record(command, "in/scan.nii.gz", outcome, "", topology=tuple(topology), **values)


LINES = {
    "corrected": (
        record(
            "refine",
            Outcome.SATISFIED,
            [asked((2, 0, 0), (1, 0, 0), prior="1,0,0")],
            voxels_changed=12,
            voxel_volume=2.5,
            outputs={"segmentation": "out/scan.nii.gz", "record": "out/scan.json"},
        ),
        "scan.nii.gz: satisfied; foreground 2,0,0 -> 1,0,0; 12 voxels (30 mm³) changed; out/scan.nii.gz",
    ),
    "right already, in 2-D": (
        record("refine", Outcome.ALREADY_SATISFIED, [asked((1, 0), (1, 0))], model="heart"),
        "scan.nii.gz: already satisfied; foreground 1,0; 0 voxels (0 mm²) changed; model heart",
    ),
    "a single voxel": (
        record("refine", Outcome.SATISFIED, [asked((2, 0, 0), (1, 0, 0))], voxels_changed=1),
        "scan.nii.gz: satisfied; foreground 2,0,0 -> 1,0,0; 1 voxel (1 mm³) changed",
    ),
    "two regions": (
        record(
            "refine",
            Outcome.NOT_REACHED,
            [
                asked((1, 1), (1, 1), region="wall", prior="1,1"),
                asked((4, 0), (2, 0), region="cavity"),
            ],
            voxels_changed=3,
            voxel_volume=0.5,
        ),
        "scan.nii.gz: not reached; wall 1,1; cavity 4,0 -> 2,0; 3 voxels (1.5 mm²) changed",
    ),
    "slices": (
        record(
            "refine",
            Outcome.NOT_REACHED,
            [
                asked((1, 0), (1, 0), index=0),
                asked((2, 0), (1, 0), index=1),
                asked((3, 0), (2, 0), index=2),
                asked((3, 0), (1, 0), index=3),
                asked((1, 1), (1, 1), index=3, region="wall", prior="1,1"),
            ],
            voxels_changed=4,
            voxel_volume=10.0,
        ),
        "scan.nii.gz: not reached; slices right 1 -> 3 of 4; 4 voxels (40 mm³) changed",
    ),
    "a dry run": (
        record(
            "refine", Outcome.SATISFIED, [asked((2, 0), (1, 0))], voxels_changed=4, request={"dry_run": True}
        ),
        "scan.nii.gz: satisfied; foreground 2,0 -> 1,0; 4 voxels (4 mm²) changed; dry run, nothing written",
    ),
    "not verified": (
        record("refine", Outcome.TIME_OVER, [asked((2, 0), (2, 0))], request={"only_verified": True}),
        "scan.nii.gz: time over; foreground 2,0; 0 voxels (0 mm²) changed; nothing written",
    ),
    "measured slices": (
        record("barcode", Outcome.MEASURED, [Topology("wall", k, None, (1, 0), (1, 0)) for k in range(3)]),
        "scan.nii.gz: measured; 3 slices",
    ),
    "checked slices": (
        record(
            "barcode",
            Outcome.NOT_MET,
            [asked((1, 0), (1, 0), index=0), asked((2, 0), (2, 0), index=1)],
        ),
        "scan.nii.gz: not met; slices right 1 of 2",
    ),
    "checked": (
        record("barcode", Outcome.MET, [asked((1, 0), (1, 0))]),
        "scan.nii.gz: met; foreground 1,0",
    ),
    "segmented": (
        record(
            "segment",
            Outcome.WRITTEN,
            [Topology("wall", None, None, (1, 1), (1, 1))],
            model="heart",
            outputs={"segmentation": "scan_seg.nii.gz"},
        ),
        "scan.nii.gz: written; wall 1,1; model heart; scan_seg.nii.gz",
    ),
}


@pytest.mark.parametrize(("case", "line"), LINES.values(), ids=LINES)
def test_one_line_per_case(case, line):
    assert one_line(case) == line


def test_a_failure_names_its_file_once():
    told = Record.failed("refine", Path("in/scan.nii.gz"), "in/scan.nii.gz: expected voxels, found none")
    assert one_line(told) == "failed: in/scan.nii.gz: expected voxels, found none"
    silent = Record.failed("refine", Path("in/scan.nii.gz"), "--slice-axis: expected an axis, got 7")
    assert one_line(silent) == "failed: scan.nii.gz: --slice-axis: expected an axis, got 7"


@pytest.mark.parametrize(("counts", "text"), [((1, 0), "1,0"), ((12, 3, 45), "12,3,45")])
def test_betti_numbers_are_written_as_they_are_typed(counts, text):
    assert betti_text(counts) == text
