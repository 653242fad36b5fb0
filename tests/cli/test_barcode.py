"""`topofix barcode`: Betti numbers and bars on the screen, in a table, and against what was asked."""

import csv
import json
import re

import nibabel
import numpy as np
import phantoms
import pytest

from topofix.imaging.volumes import read
from topofix.topology.persistence import barcode

MAP = ("--input-type", "probabilities")
LABELS = ("--input-type", "labels")


def probability_map(phantom) -> np.ndarray:
    return phantoms.probabilities(phantom.mask).astype(np.float32)


@pytest.fixture
def two_discs(tmp_path, save):
    return save(tmp_path / "map.tif", probability_map(phantoms.two_discs()))


@pytest.fixture
def label_map(tmp_path, save):
    """A wall (1) around a cavity (2), and two further pieces (4)."""
    mask = phantoms.ring().mask
    labels = mask.astype(np.uint8)
    labels[9:12, 9:12] = 2
    labels[1:3, 20:22] = labels[16:18, 20:22] = 4
    return save(tmp_path / "labels.nii.gz", labels)


def table_of(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("phantom", [phantoms.figure_eight(), phantoms.two_balls()], ids=str)
def test_the_screen_is_80_columns_of_plain_text(run, save, count, tmp_path, phantom):
    path = save(tmp_path / "map.nii.gz", probability_map(phantom))
    result = run("barcode", path, *MAP)
    assert result.exit_code == 0
    assert result.stderr == ""
    assert "\x1b" not in result.stdout
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    counts = ",".join(map(str, count(read(path).array > 0.5)))
    assert lines[0] == f"map.nii.gz, foreground: Betti numbers {counts} above 0.5"
    assert lines[1].split() == ["dim", "birth", "death", "length", "1", "0.5", "0"]
    field = read(path).array
    births, _ = barcode(field).values(field)
    assert lines[2].split()[:4] == ["0", f"{births[0]:.3f}", "0.000", f"{births[0]:.3f}"]
    assert lines[-1] == f"map.nii.gz: measured; foreground {counts}"


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.8, 0.95])
def test_betti_numbers_are_those_above_the_threshold(run, save, count, tmp_path, threshold):
    field = np.random.default_rng(3).random((12, 13)).astype(np.float32)
    path = save(tmp_path / "map.tif", field)
    record = json.loads(run("barcode", path, *MAP, "--threshold", threshold, "--json").stdout)
    assert tuple(record["topology"][0]["after"]) == count(field > threshold)
    assert record["request"]["threshold"] == threshold


@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_the_table_holds_every_bar(run, save, tmp_path, connectivity):
    field = np.random.default_rng(4).random((6, 7, 8)).astype(np.float32)
    path, table = save(tmp_path / "map.nii.gz", field), tmp_path / "bars.csv"
    options = ("--csv", table, "--min-persistence", 0, "--connectivity", connectivity)
    assert run("barcode", path, *MAP, *options).exit_code == 0
    rows, code = table_of(table), barcode(field, connectivity)
    births, deaths = code.values(field)
    assert [int(row["dimension"]) for row in rows] == code.dimension.tolist()
    assert [np.float32(row["birth"]) for row in rows] == births.tolist()
    assert [np.float32(row["death"]) for row in rows] == deaths.tolist()
    assert {(row["case"], row["region"], row["slice"]) for row in rows} == {("map.nii.gz", "foreground", "")}
    for row, birth, death in zip(rows, code.birth, code.death, strict=True):
        assert tuple(map(int, row["birth_voxel"].split())) == np.unravel_index(birth, field.shape)
        voxel = tuple(map(int, row["death_voxel"].split()))
        assert voxel == (() if death < 0 else np.unravel_index(death, field.shape))
        assert float(row["length"]) == pytest.approx(float(row["birth"]) - float(row["death"]), abs=1e-6)


def test_short_bars_are_left_out_of_the_table_but_not_of_the_betti_numbers(run, save, count, tmp_path):
    field = np.random.default_rng(4).random((12, 13)).astype(np.float32)
    path, table = save(tmp_path / "map.tif", field), tmp_path / "bars.csv"
    result = run("barcode", path, *MAP, "--csv", table, "--min-persistence", 0.3, "--json")
    births, deaths = barcode(field).values(field)
    assert 0 < len(table_of(table)) == (births - deaths >= 0.3).sum() < len(births)
    assert tuple(json.loads(result.stdout)["topology"][0]["after"]) == count(field > 0.5)


def test_one_table_holds_all_cases_and_slices(run, save, tmp_path):
    stack = np.random.default_rng(5).random((6, 7, 3)).astype(np.float32)
    for name in "ab":
        save(tmp_path / "in" / f"{name}.nii.gz", stack)
    table = tmp_path / "bars.csv"
    options = (*MAP, "--slice-axis", 2, "--csv", table, "--min-persistence", 0)
    result = run("barcode", tmp_path / "in", *options)
    assert result.exit_code == 0
    rows = table_of(table)
    assert {(row["case"], row["slice"]) for row in rows} == {
        (f"{name}.nii.gz", str(index)) for name in "ab" for index in range(3)
    }
    births = [np.float32(row["birth"]) for row in rows if (row["case"], row["slice"]) == ("a.nii.gz", "1")]
    assert births == barcode(stack[..., 1]).values(stack[..., 1])[0].tolist()
    assert "a.nii.gz, slice 1, foreground: Betti numbers" in result.stdout
    assert "b.nii.gz: measured; 3 slices" in result.stdout.splitlines()


def test_json_is_the_record_and_nothing_else(run, two_discs):
    result = run("barcode", two_discs, *MAP, "--json")
    record = json.loads(result.stdout)
    assert (record["command"], record["outcome"], record["outputs"]) == ("barcode", "measured", {})
    assert record["topology"][0]["after"] == [2, 0]


def test_quiet_says_it_with_the_exit_code(run, two_discs):
    result = run("barcode", two_discs, *MAP, "--betti", "1,0", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (3, "", "")


@pytest.mark.parametrize(
    ("prior", "exit_code", "verdict"),
    [("2,0", 0, "met"), ("1-3,*", 0, "met"), ("1,0", 3, "not met"), ("2,1-", 3, "not met")],
)
def test_the_exit_code_says_whether_the_topology_is_met(run, two_discs, prior, exit_code, verdict):
    result = run("barcode", two_discs, *MAP, "--betti", prior)
    assert result.exit_code == exit_code
    assert f"asked for {prior}: {verdict}\n" in result.stdout
    assert result.stdout.splitlines()[-1] == f"map.tif: {verdict}; foreground 2,0"


def test_a_table_of_priors_is_looked_up_slice_by_slice(run, save, tmp_path):
    ring = phantoms.ring().mask
    path = save(tmp_path / "stack.nii.gz", np.stack([ring, ~ring]).astype(np.uint8), spacing=(5.0, 1.0, 1.0))
    table = tmp_path / "priors.csv"
    for second, exit_code in (("2,1", 0), ("2,0", 3)):
        table.write_text(f"case,slice,b0,b1\nstack,0,1,1\nstack,1,{second}\n")
        result = run("barcode", path, *LABELS, "--betti-csv", table)
        assert result.exit_code == exit_code
    assert "slices right 1 of 2" in result.stdout


def test_every_label_of_a_label_map_is_measured(run, label_map, count):
    result = run("barcode", label_map, *LABELS, "--json")
    labels = read(label_map).array
    assert {part["region"]: tuple(part["after"]) for part in json.loads(result.stdout)["topology"]} == {
        str(value): count(labels == value) for value in (1, 2, 4)
    }
    shown = run("barcode", label_map, *LABELS).stdout
    assert [line for line in shown.splitlines() if "Betti" in line] == [
        "labels.nii.gz, 1: Betti numbers 1,1 above 0.5",
        "labels.nii.gz, 2: Betti numbers 1,0 above 0.5",
        "labels.nii.gz, 4: Betti numbers 2,0 above 0.5",
    ]


@pytest.mark.parametrize(("label", "region"), [("4", [4]), ("1+2", [1, 2]), ("1+4", [1, 4])])
def test_one_label_or_a_union_can_be_chosen(run, label_map, count, label, region):
    (part,) = json.loads(run("barcode", label_map, *LABELS, "--label", label, "--json").stdout)["topology"]
    assert part["region"] == label
    assert tuple(part["after"]) == count(np.isin(read(label_map).array, region))


def test_a_label_map_is_checked_label_by_label(run, label_map):
    assert run("barcode", label_map, *LABELS, "--betti", "1:1,1 2:1,0 4:2,0").exit_code == 0
    result = run("barcode", label_map, *LABELS, "--betti", "1:1,1 4:1,0")
    assert result.exit_code == 3
    assert "labels.nii.gz: not met; 1 1,1; 4 2,0" in result.stdout


def test_what_refine_writes_is_what_barcode_measures(run, two_discs, tmp_path):
    run("refine", two_discs, *MAP, "--betti", "1,0", "-o", tmp_path / "out.nii.gz")
    assert run("barcode", tmp_path / "out.nii.gz", *LABELS, "--betti", "1,0").exit_code == 0


def test_a_scan_is_measured_through_its_network(run, model, save, heart, tmp_path):
    path, table = save(tmp_path / "scan.png", heart(seed=77)[0]), tmp_path / "bars.csv"
    result = run("barcode", path, "--model", model, "--json", "--csv", table)
    record = json.loads(result.stdout)
    assert record["model"] == "heart"
    assert [part["region"] for part in record["topology"]] == ["wall", "cavity"]
    assert {row["region"] for row in table_of(table)} == {"wall", "cavity"}
    for label in ("wall", "CAVITY", "2"):
        (part,) = json.loads(run("barcode", path, "--model", model, "--label", label, "--json").stdout)[
            "topology"
        ]
        assert part["region"] == ("wall" if label == "wall" else "cavity")
    assert run("barcode", path, "--model", model, "--betti", "wall:1,1").exit_code in (0, 3)


BAD = {
    "missing file": (["missing.tif", *MAP, "--csv", "bars.csv"], 1, "missing.tif"),
    "NaN": (["nan.nii.gz", *MAP], 1, "nan.nii.gz.*NaN"),
    "above 1": (["scan.png", *MAP], 1, "scan.png: expected probabilities"),
    "fractions": (["map.tif", *LABELS], 1, "map.tif: expected a label map"),
    "unknown label": (["labels.nii.gz", *LABELS, "--label", "9"], 1, "labels.*'9'"),
    "unknown name": (["labels.nii.gz", *LABELS, "--label", "wall"], 1, "'wall'"),
    "too many numbers": (["map.tif", *MAP, "--betti", "1,0,0"], 1, "map.tif.*2 numbers"),
    "malformed prior": (["map.tif", *MAP, "--betti", "1,,0"], 2, "'1,,0'"),
    "two priors": (["map.tif", *MAP, "--betti", "1,0", "--betti-csv", "priors.csv"], 2, "both"),
    "bad slice axis": (["map.tif", *MAP, "--slice-axis", "2"], 1, "--slice-axis"),
    "unknown model": (["scan.png", "--model", "nonsense"], 1, "nonsense"),
    "table exists": (["map.tif", *MAP, "--csv", "priors.csv"], 1, "priors.csv.*--overwrite"),
}


@pytest.mark.parametrize(("arguments", "exit_code", "says"), BAD.values(), ids=BAD)
def test_what_cannot_be_done_is_one_sentence_and_no_file(
    run, save, two_discs, label_map, files_in, tmp_path, monkeypatch, arguments, exit_code, says
):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "scan.png", np.full((8, 8), 200, np.uint8))
    nibabel.save(nibabel.Nifti1Image(np.full((4, 5), np.nan, np.float32), np.eye(4)), tmp_path / "nan.nii.gz")
    (tmp_path / "priors.csv").write_text("case,b0,b1\nmap,1,0\n")
    before = files_in()
    result = run("barcode", *arguments)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    (line,) = result.stderr.splitlines()
    assert re.search(says, line), line
    assert files_in() == before


def test_a_damaged_case_stops_no_other(run, two_discs, tmp_path):
    table = tmp_path / "bars.csv"
    (tmp_path / "bad.tif").write_bytes(two_discs.read_bytes()[:-100])
    result = run("barcode", tmp_path, *MAP, "--csv", table)
    assert result.exit_code == 1
    assert "bad.tif" in result.stderr
    assert {row["case"] for row in table_of(table)} == {"map.tif"}
    assert result.stdout.splitlines()[-1].startswith("map.tif: measured")


def test_files_of_one_name_are_measured_side_by_side(run, save, tmp_path):
    for name in ("map.tif", "map.nii.gz"):
        save(tmp_path / name, probability_map(phantoms.disc()))
    assert run("barcode", tmp_path, *MAP).exit_code == 0
