"""The table of a run: whole at any time, for spreadsheets and for programs, and nobody else's file."""

import csv
import json
from pathlib import Path

import pytest

from topofix import summary
from topofix.errors import UnwritableFile
from topofix.records import Outcome, Record, Topology
from topofix.summary import Summary


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refined(name: str = "in/a.nii", **more) -> Record:
    part = Topology("foreground", None, "1,0", (3, 1), (1, 0), False, True)
    values = {"topology": (part,), "voxels_changed": 5, "voxel_volume": 2.0, "outputs": {"segmentation": "o"}}
    return Record("refine", name, Outcome.SATISFIED, "Done.", **{**values, **more})


def test_a_row_for_each_case(tmp_path):
    table = Summary(tmp_path, "refine", 3)
    table.add(refined())
    table.add(Record.failed("refine", Path("in/b.nii"), "b.nii: expected voxels, found none"))
    table.write()
    first, second = read(tmp_path / "summary.csv")
    assert first["input"] == "in/a.nii"
    assert (first["outcome"], first["requested"], first["before"], first["after"]) == (
        *("satisfied", "1,0", "3,1", "1,0"),
    )
    assert (first["voxels_changed"], first["mm3_changed"], first["output"]) == ("5", "10.0", "o")
    assert (second["outcome"], second["message"]) == ("failed", "b.nii: expected voxels, found none")
    whole = json.loads((tmp_path / "summary.json").read_text())
    assert (whole["cases"], whole["finished"], whole["not_begun"]) == (3, 2, 1)
    assert whole["outcomes"] == {"failed": 1, "satisfied": 1}
    assert [row["input"] for row in whole["rows"]] == ["in/a.nii", "in/b.nii"]


def test_slices_are_counted_together(tmp_path):
    parts = [
        Topology("wall", index, "1,1", (2, 0) if index else (1, 1), (1, 1), not index, True)
        for index in range(4)
    ]
    parts += [Topology("pool", index, None, (1, 0), (1, 0)) for index in range(4)]
    table = Summary(tmp_path, "refine", 1)
    table.add(refined(topology=tuple(parts)))
    table.write()
    wall, pool = read(tmp_path / "summary.csv")
    assert (wall["region"], wall["slices"]) == ("wall", "4")
    assert (wall["slices_right_before"], wall["slices_right_after"], wall["before"]) == ("1", "4", "")
    assert (pool["region"], pool["slices"], pool["slices_right_after"]) == ("pool", "4", "")


def test_it_grows_with_the_run_but_is_not_written_for_every_case(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(summary.time, "monotonic", lambda: clock[0])
    table = Summary(tmp_path, "refine", 10)
    for number in range(3):
        table.add(refined(f"in/{number}.nii"))
    assert len(read(tmp_path / "summary.csv")) == 1
    clock[0] += summary.EVERY
    table.add(refined("in/3.nii"))
    assert len(read(tmp_path / "summary.csv")) == 4


def test_cases_that_were_done_before_are_counted(tmp_path):
    table = Summary(tmp_path, "refine", 2)
    table.add(refined(skipped=True))
    table.add(refined("in/b.nii"))
    table.write()
    assert json.loads((tmp_path / "summary.json").read_text())["skipped"] == 1
    assert [row["skipped"] for row in read(tmp_path / "summary.csv")] == ["True", "False"]


def test_no_cell_is_a_formula(tmp_path):
    table = Summary(tmp_path, "refine", 1)
    table.add(refined("=HYPERLINK(1)", outputs={"segmentation": "@x"}))
    table.add(Record.failed("refine", Path("-rm.nii"), "+1: expected, found\n=2"))
    table.write()
    first, second = read(tmp_path / "summary.csv")
    assert (first["input"], first["output"]) == ("'=HYPERLINK(1)", "'@x")
    assert (second["input"], second["message"]) == ("'-rm.nii", "'+1: expected, found\n=2")


def test_a_part_has_a_table_of_its_own(tmp_path):
    Summary(tmp_path, "refine", 1, "3/20").write()
    assert {path.name for path in tmp_path.iterdir()} == {"summary_3_of_20.csv", "summary_3_of_20.json"}


def test_somebody_s_table_is_left_alone(tmp_path):
    (tmp_path / "summary.csv").write_text("mine")
    with pytest.raises(UnwritableFile, match=r"summary\.csv: expected no file but the table of an earlier"):
        Summary(tmp_path, "refine", 1)
    assert (tmp_path / "summary.csv").read_text() == "mine"
    (tmp_path / "summary.csv").unlink()
    Summary(tmp_path, "refine", 1).write()
    Summary(tmp_path, "refine", 1).write()


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableFile, match=r"cannot be written|expected a folder"):
        Summary(tmp_path / "file" / "out", "refine", 1).write()
