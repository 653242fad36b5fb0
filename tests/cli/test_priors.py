"""Priors on the command line: one source, files of them, tables that fit the images, tables from masks."""

import csv
import json
import re

import numpy as np
import phantoms
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import read
from topofix.measurement import drawn_priors, measure
from topofix.records import CaseOptions, Outcome
from topofix.request import PriorRequest

MAP = ("--input-type", "probabilities")
LABELS = ("--input-type", "labels")


@pytest.fixture
def two_discs(tmp_path, save):
    field = phantoms.probabilities(phantoms.two_discs().mask).astype(np.float32)
    return save(tmp_path / "map.tif", field)


@pytest.fixture
def stack(tmp_path, save):
    """Two slices of a ring (1) around a disc (2), then one with two pieces (1) and one of nothing."""
    ring = phantoms.ring().mask
    labels = ring.astype(np.uint8)
    labels[9:12, 9:12] = 2
    pieces = np.zeros_like(labels)
    pieces[2:4, 2:4] = pieces[10:14, 2:4] = 1
    return save(tmp_path / "stack.nii.gz", np.stack([labels, labels, pieces, 0 * labels], axis=2))


@pytest.fixture
def toml(tmp_path):
    def write(text: str):
        path = tmp_path / "prior.toml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def table(tmp_path):
    def write(*rows: str, columns: str = "case,slice,label,b0,b1"):
        path = tmp_path / "priors.csv"
        path.write_text("\n".join([columns, *rows]) + "\n")
        return path

    return write


def rows_of(path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_refine_and_barcode_take_a_toml(run, two_discs, toml, tmp_path):
    path = toml("[[constraint]]\nbetti = [1, 0]\nweight = 2.0\n")
    result = run("refine", two_discs, *MAP, "--prior", path, "-o", tmp_path / "out.tif", "--json")
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["request"]["betti"] == str(path)
    assert record["topology"][0]["after"] == [1, 0]
    for name, kind, exit_code in (("out.tif", LABELS, 0), ("map.tif", MAP, 3)):
        assert run("barcode", tmp_path / name, *kind, "--prior", path, "-q").exit_code == exit_code


def test_a_toml_may_name_a_model_s_labels(run, model, save, heart, toml, tmp_path):
    path = save(tmp_path / "scan.png", heart(seed=77)[0])
    prior = toml('[[constraint]]\nregion = ["wall", "cavity"]\nbetti = "1,0"\n')
    result = run("barcode", path, "--model", model, "--prior", prior, "--json")
    (part,) = json.loads(result.stdout)["topology"]
    assert (part["region"], part["requested"]) == ("wall+cavity", "1,0")


BAD = {
    "no source": ("refine", MAP, [], "expected either --betti or --betti-csv or --prior, got neither"),
    "two sources": ("refine", MAP, ["--betti", "1,0", "--prior", "p.toml"], "got both --betti and --prior"),
    "two files": (
        "barcode",
        MAP,
        ["--betti-csv", "p.csv", "--prior", "p.toml"],
        "got both --betti-csv and --prior",
    ),
    "three sources": (
        "barcode",
        MAP,
        ["--betti", "1,0", "--betti-csv", "p.csv", "--prior", "p.toml"],
        "got --betti and --betti-csv and --prior",
    ),
    "no file": ("refine", MAP, ["--prior", "none.toml"], "none.toml: expected a prior TOML, found: No such"),
    "bad number": (
        "barcode",
        MAP,
        ["--prior", "p.toml"],
        "p.toml, constraint 1: prior '1,x': expected a count",
    ),
    "contradiction": (
        "refine",
        MAP,
        ["--betti", "1:1,0 2:1,0", "--betti", "1+2:3,0"],
        "prior 1+2:3,0: expected at most 2 components, which is what its parts have together, got 3",
    ),
    "hole in nothing": ("refine", MAP, ["--betti", "2:0,1"], "prior 0,1: expected no holes in an absent"),
    "bad row": (
        "refine",
        MAP,
        ["--betti-csv", "p.csv"],
        "p.csv, row 2: prior '1,x': expected a count such as",
    ),
    "strict texts": (
        "refine",
        MAP,
        ["--betti", "1,0", "--strict"],
        "--strict: expected --betti-csv beside it, got --betti",
    ),
    "strict nothing": ("barcode", MAP, ["--strict"], "--strict: expected --betti-csv beside it, got none"),
    "written maps": (
        "barcode",
        MAP,
        ["--write-csv", "w.csv"],
        "--write-csv: expected --input-type labels beside it, got probabilities",
    ),
    "written wishes": (
        "barcode",
        LABELS,
        ["--write-csv", "w.csv", "--betti", "1,0"],
        "--write-csv: expected neither a prior nor --label beside it",
    ),
    "written label": (
        "barcode",
        LABELS,
        ["--write-csv", "w.csv", "--label", "2"],
        "--write-csv: expected neither a prior nor --label beside it",
    ),
    "written bars": (
        "barcode",
        LABELS,
        ["--write-csv", "w.csv", "--csv", "w.csv"],
        "--write-csv: expected another file than --csv, got w.csv",
    ),
}


@pytest.mark.parametrize(("command", "kind", "arguments", "says"), BAD.values(), ids=BAD)
def test_a_wrong_request_is_a_usage_error_before_any_work(
    run, two_discs, files_in, tmp_path, monkeypatch, command, kind, arguments, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text('[[constraint]]\nbetti = "1,x"\n')
    (tmp_path / "p.csv").write_text("case,b0,b1\nmap,1,x\n")
    before = files_in()
    result = run(command, two_discs, *kind, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert says in line
    assert files_in() == before


def test_more_numbers_than_the_image_has_dimensions_fail_the_case(run, two_discs, toml):
    result = run("barcode", two_discs, *MAP, "--prior", toml("[[constraint]]\nbetti = [1, 0, 0]\n"))
    assert result.exit_code == 1
    assert "map.tif: expected a prior of 2 numbers for an image of rank 2, got 3 in 1,0,0" in result.stderr


def test_a_label_beside_a_toml_is_refused(run, stack, toml):
    prior = toml("[[constraint]]\nbetti = [1, 0]\n")
    result = run("barcode", stack, *LABELS, "--label", "2", "--prior", prior)
    assert result.exit_code == 1
    assert "--label: expected it without a file, whose constraints name their labels" in result.stderr


@pytest.mark.parametrize("command", ["refine", "barcode"])
def test_cases_without_files_and_files_without_rows_are_warned_of(
    run, two_discs, save, table, tmp_path, command
):
    save(tmp_path / "other.tif", read(two_discs).array)
    priors = table("map,1-,*", "left,1,0", "out,1,0", columns="case,b0,b1")
    output = ("-o", tmp_path / "new") if command == "refine" else ()
    arguments = (command, two_discs, tmp_path / "other.tif", *MAP, "--betti-csv", priors, *output)
    result = run(*arguments)
    assert result.exit_code == 1  # the file without a row
    assert result.stderr.splitlines()[:2] == [
        f"topofix: warning: {priors}: expected a file for every case, found none for left, out",
        f"topofix: warning: {priors}: expected a row for every file, found none for other.tif",
    ]
    assert f"{priors}: expected a row for other.tif, found none" in result.stderr
    assert "map.tif: " in result.stdout  # the others go on
    assert "warning" not in run(*arguments, "-q", "--overwrite").stderr


@pytest.mark.parametrize("command", ["refine", "barcode"])
def test_strict_stops_before_any_work(run, two_discs, table, files_in, command):
    priors = table("map,1-,*", "left,1,0", columns="case,b0,b1")
    before = files_in()
    for quiet in ((), ("-q",)):
        result = run(command, two_discs, *MAP, "--betti-csv", priors, "--strict", *quiet)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"topofix: {priors}: expected a file for every case, found none for left\n"
    table("left,1-,*", columns="case,b0,b1")
    result = run(command, two_discs, *MAP, "--betti-csv", priors, "--strict")
    assert result.exit_code == 2
    assert [line.rpartition(" ")[2] for line in result.stderr.splitlines()] == ["left", "map.tif"]
    assert files_in() == before


def test_rows_for_slices_that_a_stack_lacks(run, stack, two_discs, table):
    priors = table("stack,*,1,*,*", "stack,4,1,1,1")
    check = ("barcode", stack, *LABELS, "--slice-axis", 2, "--betti-csv", priors)
    sentence = f"{priors}: expected slices from 0 to 3 for stack.nii.gz, found slice 4 in row 3\n"
    result = run(*check)
    assert (result.exit_code, result.stderr) == (0, f"topofix: warning: {sentence}")
    result = run(*check, "--strict")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"topofix: {sentence}")
    table("map,*,,*,*", "map,0,,1,1")
    result = run("barcode", two_discs, *MAP, "--betti-csv", priors, "--strict")
    assert result.exit_code == 1
    assert result.stderr.endswith("expected no slices for map.tif, which is 2-D, found slice 0 in row 3\n")


def test_a_table_that_fits_is_strictly_fine(run, stack, table):
    priors = table("stack,0-1,1,1,1", "stack,0-1,2,1,0", "stack,2,1,2,0")
    result = run("barcode", stack, *LABELS, "--slice-axis", 2, "--betti-csv", priors, "--strict")
    assert (result.exit_code, result.stderr) == (0, "")


def test_a_file_that_cannot_be_read_fails_as_a_case(run, stack, table):
    stack.write_bytes(b"nothing")
    result = run("barcode", stack, *LABELS, "--betti-csv", table("stack,0,1,1,1"), "--strict")
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("failed: ")


def test_priors_are_written_slice_by_slice(run, stack, tmp_path):
    written = tmp_path / "new" / "priors.csv"
    options = (stack, *LABELS, "--slice-axis", 2)
    assert run("barcode", *options, "--write-csv", written).exit_code == 0
    assert rows_of(written) == [
        ["case", "slice", "label", "b0", "b1"],
        *(["stack", index, *row] for index in "01" for row in (["1", "1", "1"], ["2", "1", "0"])),
        *(["stack", "2", *row] for row in (["1", "2", "0"], ["2", "0", "0"])),
        *(["stack", "3", *row] for row in (["1", "0", "0"], ["2", "0", "0"])),
    ]
    result = run("barcode", *options, "--betti-csv", written, "--strict")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "stack.nii.gz: met; slices right 4 of 4")


def test_priors_of_several_cases_share_their_labels(run, save, tmp_path):
    ring = phantoms.ring().mask.astype(np.uint8)
    for name, mask in (("=a", ring), ("b", 10 * ring), ("c", 0 * ring)):
        save(tmp_path / "in" / f"{name}.tif", mask)
    save(tmp_path / "in" / "d.nii.gz", np.stack([ring] * 3))
    written = tmp_path / "priors.csv"
    assert run("barcode", tmp_path / "in", *LABELS, "--write-csv", written).exit_code == 0
    header, *rows = rows_of(written)
    assert header == ["case", "slice", "label", "b0", "b1", "b2"]
    assert sorted(rows) == [
        *(["'=a", "*", *row] for row in (["1", "1", "1", ""], ["10", "0", "0", ""])),
        *(["b", "*", *row] for row in (["1", "0", "0", ""], ["10", "1", "1", ""])),
        *(["c", "*", *row] for row in (["1", "0", "0", ""], ["10", "0", "0", ""])),
        *(["d", "*", *row] for row in (["1", "1", "1", "0"], ["10", "0", "0", "0"])),
    ]
    result = run("barcode", tmp_path / "in", *LABELS, "--betti-csv", written, "--strict")
    assert (result.exit_code, result.stderr) == (0, "")


def test_masks_without_a_label_are_absent_foreground(run, save, tmp_path):
    path = save(tmp_path / "nothing.nii.gz", np.zeros((4, 5, 6), np.uint8))
    written = tmp_path / "priors.csv"
    assert run("barcode", path, *LABELS, "--write-csv", written).exit_code == 0
    assert rows_of(written) == [["case", "label", "b0", "b1", "b2"], ["nothing", "", "0", "0", "0"]]


def test_a_table_is_replaced_only_if_wanted(run, stack, tmp_path):
    written = tmp_path / "priors.csv"
    written.write_text("mine")
    result = run("barcode", stack, *LABELS, "--write-csv", written)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(r"priors\.csv.*--overwrite", result.stderr)
    assert written.read_text() == "mine"
    assert run("barcode", stack, *LABELS, "--write-csv", written, "--overwrite").exit_code == 0
    assert rows_of(written)[0] == ["case", "label", "b0", "b1", "b2"]


def test_files_of_one_name_are_not_written_as_one_case(run, save, tmp_path, files_in):
    for name in ("a.tif", "a.nii.gz"):
        save(tmp_path / name, phantoms.ring().mask.astype(np.uint8))
    before = files_in()
    result = run("barcode", tmp_path, *LABELS, "--write-csv", tmp_path / "priors.csv")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--write-csv: expected a name of its own for every case" in result.stderr
    assert files_in() == before


def test_a_damaged_mask_leaves_the_others_rows(run, stack, tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"nothing")
    written = tmp_path / "priors.csv"
    assert run("barcode", tmp_path, *LABELS, "--write-csv", written).exit_code == 1
    assert read_priors(written).cases == ("stack",)


@settings(max_examples=25, deadline=None)
@given(
    mask=st.integers(2, 3).flatmap(
        lambda rank: arrays.arrays(np.uint8, (4,) * rank, elements=st.integers(0, 3))
    ),
    slicewise=st.booleans(),
)
def test_what_was_written_of_any_mask_is_met_by_it(tmp_path_factory, save, run, mask, slicewise):
    folder = tmp_path_factory.getbasetemp() / "any_mask"
    path = save(folder / "mask.nii.gz", mask)
    axis = ("--slice-axis", mask.ndim - 1) if slicewise else ()
    written = folder / "priors.csv"
    result = run("barcode", path, *LABELS, *axis, "--write-csv", written, "--overwrite", "-q")
    assert result.exit_code == 0, result.stderr
    options = CaseOptions("labels", slice_axis=mask.ndim - 1 if slicewise else None)
    record, _ = measure(path, PriorRequest(table=read_priors(written)), options)
    assert record.outcome is Outcome.MET
    record, _ = measure(path, None, options, each_label=True)
    assert read_priors(written).rows == drawn_priors([record])
