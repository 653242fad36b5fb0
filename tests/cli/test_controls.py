"""What may be changed, for how long and by which stage; what is refused; what is written and what is told."""

import json
import re

import numpy as np
import phantoms
import pytest

from topofix.imaging.volumes import Volume, read, write

MAP = ("--input-type", "probabilities")


@pytest.fixture
def refine(run):
    """Runs `topofix refine ARGUMENTS... --input-type probabilities`."""
    return lambda *arguments: run("refine", *arguments, *MAP)


@pytest.fixture
def spotted(tmp_path, save):
    """A disc of 69 pixels and a spot of 21 that is less certain; a pixel has 2 mm²."""
    return save(tmp_path / "map.nii.gz", disc_and_spot(), spacing=(1.0, 2.0))


def disc_and_spot() -> np.ndarray:
    rows, columns = np.indices((16, 30))
    field = np.where((rows - 8) ** 2 + (columns - 7) ** 2 < 25, 0.9, 0.01)
    return np.where((rows - 8) ** 2 + (columns - 24) ** 2 < 6, 0.6, field).astype(np.float32)


def record_of(output) -> dict:
    name = output.name.removesuffix(".gz").rpartition(".")[0]
    return json.loads(output.with_name(f"{name}.json").read_text("utf-8"))


# --- which stages ---


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ((), ["voxels"]),
        (("--method", "voxels"), ["voxels"]),
        (("--method", "exact"), ["exact"]),
        (("--steps", 0), ["voxels", "exact"]),
        (("--steps", 1, "--method", "voxels"), ["voxels", "exact"]),
    ],
)
def test_the_method_chooses_the_stages_and_the_exact_one_is_last(refine, spotted, count, options, stages):
    assert refine(spotted, "--betti", "1,0", *options).exit_code == 0
    output = spotted.with_name("map_refined.nii.gz")
    assert count(read(output).array) == (1, 0)
    assert record_of(output)["stages"] == stages


def test_without_the_guarantee_what_is_left_is_left(refine, spotted):
    result = refine(spotted, "--betti", "1,0", "--steps", 0, "--no-guarantee")
    record = record_of(spotted.with_name("map_refined.nii.gz"))
    assert result.exit_code == 3
    assert (record["outcome"], record["stages"]) == ("not_reached", ["voxels"])
    assert record["request"]["guarantee"] is False
    np.testing.assert_array_equal(
        read(spotted.with_name("map_refined.nii.gz")).array, read(spotted).array > 0.5
    )


def test_a_volume_is_repaired_exactly(refine, save, count, tmp_path):
    path = save(tmp_path / "map.nii.gz", phantoms.probabilities(phantoms.shell().mask).astype(np.float32))
    assert refine(path, "--betti", "1,0,0", "--method", "exact").exit_code == 0
    assert count(read(tmp_path / "map_refined.nii.gz").array) == (1, 0, 0)


@pytest.mark.parametrize("adapt", ["decoder", "head"])
def test_a_part_of_the_network_may_move(run, model, save, heart, tmp_path, adapt):
    image, _ = heart(seed=77)
    image[2:5, 2:5] = 220
    path = save(tmp_path / "scan.png", image)
    result = run(
        *("refine", path, "--model", model, "--betti", "wall:1,1", "--betti", "cavity:1,0"),
        *("--method", "weights", "--adapt", adapt, "--device", "cpu"),
    )
    record = record_of(tmp_path / "scan_refined.png")
    assert result.exit_code == 0, result.stdout
    assert record["request"]["adapt"] == adapt
    assert record["stages"][0] == "weights"


@pytest.mark.parametrize("method", ["auto", "voxels", "exact"])
def test_saved_probabilities_agree_with_the_label_map(refine, spotted, method):
    refine(spotted, "--betti", "1,0", "--method", method, "--steps", 2, "--save-probabilities")
    written = read(spotted.with_name("map_refined.nii.gz")).array
    saved = read(spotted.with_name("map_refined_probabilities_foreground.nii.gz")).array
    np.testing.assert_array_equal(saved > 0.5, written)


# --- fields in which there is nothing to see ---


@pytest.mark.parametrize("shape", [(6, 7), (5, 6, 7)], ids=str)
@pytest.mark.parametrize(
    ("value", "met"), [(0.0, "absent"), (0.5, "absent"), (0.2, "absent"), (0.51, "whole"), (1.0, "whole")]
)
def test_what_is_met_already_is_the_input_above_one_half(refine, save, tmp_path, shape, value, met):
    path = save(tmp_path / "map.nii.gz", np.full(shape, value, np.float32))
    prior = ",".join(["0" if met == "absent" else "1", *["0"] * (len(shape) - 1)])
    result = refine(path, "--betti", prior)
    assert result.exit_code == 0, result.stdout
    assert "already satisfied" in result.stdout
    np.testing.assert_array_equal(
        read(tmp_path / "map_refined.nii.gz").array, np.full(shape, met == "whole", np.uint8)
    )


@pytest.mark.parametrize(
    ("shape", "prior"), [((6, 7), "1,0"), ((5, 6, 7), "1,0,0"), ((5, 6, 7), "2,1,1")], ids=str
)
def test_nothing_is_made_out_of_nothing(refine, save, tmp_path, shape, prior):
    path = save(tmp_path / "map.nii.gz", np.zeros(shape, np.float32))
    result = refine(path, "--betti", prior)
    record = record_of(tmp_path / "map_refined.nii.gz")
    assert (result.exit_code, record["outcome"]) == (3, "no_evidence")
    assert "no evidence" in result.stdout
    assert f"foreground: {prior[0]} component" in record["message"]
    assert "there is no bar for" in record["message"]
    assert record["stages"] in ([], ["exact"])
    assert not read(tmp_path / "map_refined.nii.gz").array.any()


def test_a_full_map_has_no_hole_to_be_found(refine, save, tmp_path):
    path = save(tmp_path / "map.nii.gz", np.ones((6, 7), np.float32))
    result = refine(path, "--betti", "1,1")
    assert result.exit_code == 3
    assert "foreground: 1 hole wanted" in record_of(tmp_path / "map_refined.nii.gz")["message"]
    assert read(tmp_path / "map_refined.nii.gz").array.all()


def test_the_evidence_that_is_needed_can_be_lowered(refine, save, count, tmp_path):
    field = np.full((9, 9), 0.005, np.float32)
    field[3:6, 3:6] = 0.015
    path = save(tmp_path / "map.nii.gz", field)
    strict = refine(path, "--betti", "1,0")
    message = record_of(tmp_path / "map_refined.nii.gz")["message"]
    assert strict.exit_code == 3
    assert "1 component wanted, and the bar that it takes is 0.01 long, below 0.02" in message
    result = refine(path, "--betti", "1,0", "--min-evidence", 0.005, "--overwrite")
    assert result.exit_code == 0, result.stdout
    assert count(read(tmp_path / "map_refined.nii.gz").array) == (1, 0)


# --- limits ---


@pytest.mark.parametrize(("limit", "most"), [("10mm3", 5), ("10", 5), ("6%", 5), ("0", 0)])
@pytest.mark.parametrize("method", ["auto", "exact"])
def test_no_more_changes_than_may(refine, spotted, method, limit, most):
    before = read(spotted).array > 0.5
    result = refine(spotted, "--betti", "1,0", "--max-change", limit, "--method", method)
    record = record_of(spotted.with_name("map_refined.nii.gz"))
    written = read(spotted.with_name("map_refined.nii.gz")).array
    assert (result.exit_code, record["outcome"]) == (3, "stopped_by_max_change")
    assert f"{most} voxels" in record["message"]
    assert record["request"]["max_change"] == (limit if limit.endswith(("%", "3")) else f"{limit}mm3")
    assert (written != before).sum() <= most
    assert record["voxels_changed"] == (written != before).sum()


@pytest.mark.parametrize("limit", ["24%", "42 mm3", "1e3mm³"])
def test_what_may_change_is_enough(refine, spotted, limit):
    result = refine(spotted, "--betti", "1,0", "--max-change", limit, "--method", "exact")
    assert result.exit_code == 0, result.stdout


@pytest.mark.parametrize("method", ["auto", "voxels", "exact"])
def test_when_the_time_is_over_the_best_so_far_is_written(refine, spotted, method):
    result = refine(spotted, "--betti", "1,0", "--time-limit", 1e-9, "--method", method)
    output = spotted.with_name("map_refined.nii.gz")
    record = record_of(output)
    assert (result.exit_code, record["outcome"]) == (3, "time_over")
    assert "Betti error 1 left after 1e-09 s" in record["message"]
    np.testing.assert_array_equal(read(output).array, read(spotted).array > 0.5)


def test_time_that_is_enough_changes_nothing(refine, spotted, tmp_path):
    for name, options in (("a", ()), ("b", ("--time-limit", 600))):
        refine(spotted, "--betti", "1,0", "--output", tmp_path / f"{name}.nii.gz", *options)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_frozen_voxel_keeps_its_label(refine, spotted, save, count, tmp_path):
    """The spot cannot go, so the two are joined, and not across the frozen columns between them."""
    field = read(spotted)
    frozen = field.array > 0.5
    frozen[:10, 13:17] = True
    mask = save(tmp_path / "frozen.nii.gz", frozen.astype(np.uint8), spacing=(1.0, 2.0))
    result = refine(spotted, "--betti", "1,0", "--freeze", mask)
    output = spotted.with_name("map_refined.nii.gz")
    written = read(output).array
    assert result.exit_code == 0, result.stdout
    assert count(written) == (1, 0)
    np.testing.assert_array_equal(written[frozen], field.array[frozen] > 0.5)
    assert record_of(output)["request"]["freeze"] == str(mask)


@pytest.mark.parametrize("method", ["auto", "exact"])
def test_a_frozen_mask_can_make_the_prior_impossible(refine, spotted, save, tmp_path, method):
    mask = save(tmp_path / "frozen.nii.gz", np.full((16, 30), 2.5, np.float32), spacing=(1.0, 2.0))
    result = refine(spotted, "--betti", "1,0", "--freeze", mask, "--method", method)
    output = spotted.with_name("map_refined.nii.gz")
    record = record_of(output)
    assert (result.exit_code, record["outcome"]) == (3, "infeasible")
    assert "Betti error 1 left with 480 voxels frozen" in record["message"]
    np.testing.assert_array_equal(read(output).array, read(spotted).array > 0.5)
    assert record["changes"] == []


def test_pieces_and_cavities_that_are_too_small_are_defects(refine, save, count, tmp_path):
    field = np.where(phantoms.ball().mask, 0.9, 0.1).astype(np.float32)
    field[7, 7, 7], field[1, 1, 1:3] = 0.3, 0.8
    path = save(tmp_path / "map.nii.gz", field, spacing=(1.0, 1.0, 2.0))
    result = refine(path, "--betti", "1-,*,*", "--min-size", 4, "--output", tmp_path / "kept.nii.gz")
    assert result.exit_code == 0
    assert count(read(tmp_path / "kept.nii.gz").array) == (2, 0, 0)  # 4 mm³ are enough for the piece
    result = refine(path, "--betti", "1-,*,*", "--min-size", 5)
    assert result.exit_code == 0, result.stdout
    assert count(read(tmp_path / "map_refined.nii.gz").array) == (1, 0, 0)
    assert "already satisfied" in refine(path, "--betti", "1-,*,*", "--output", tmp_path / "as_is").stdout


# --- what is told and what is written ---


def test_every_change_is_a_row_of_the_record(refine, spotted):
    refine(spotted, "--betti", "1,0", "--method", "exact")
    record = record_of(spotted.with_name("map_refined.nii.gz"))
    (row,) = record["changes"]
    voxel = row.pop("voxel")
    assert read(spotted).array[tuple(voxel)] == pytest.approx(0.6)
    assert row.pop("mm") == [voxel[0], 2 * voxel[1], 0]
    assert row == {
        "region": "foreground",
        "slice": None,
        "frame": None,
        "dimension": 0,
        "kind": "removed",
        "birth": pytest.approx(0.6, abs=1e-5),
        "death": pytest.approx(0.01, abs=1e-5),
        "voxels": record["voxels_changed"],
        "mm3": 2.0 * record["voxels_changed"],
        "stage": "exact",
        "gained": False,
    }


@pytest.mark.parametrize("axis", [0, 2])
def test_a_place_in_a_slice_is_a_place_in_the_volume(refine, save, tmp_path, axis):
    good, bad = (np.where(p.mask, 0.9, 0.1)[:16, :22] for p in (phantoms.disc(), phantoms.two_discs()))
    bad = np.where(phantoms.two_discs().mask, 0.9, 0.1)[:, :22]
    bad[3:5, 1] = 0.9
    field = np.stack([good, good, bad], axis).astype(np.float32)
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = 5.0
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = 10, 20, 30
    path = tmp_path / "stack.nii.gz"
    write(path, field, Volume(field, tuple(spacing), affine, path))
    refine(path, "--betti", "1,0", "--method", "exact")
    rows = record_of(tmp_path / "stack_refined.nii.gz")["changes"]
    assert rows
    for row in rows:
        assert (row["slice"], row["voxel"][axis]) == (2, 2)
        assert row["mm"] == [10.0 * (k + 1) + spacing[k] * row["voxel"][k] for k in range(3)]


def test_nothing_is_left_unexplained_and_nothing_is_explained_where_nothing_changed(refine, spotted):
    refine(spotted, "--betti", "2,0")
    assert record_of(spotted.with_name("map_refined.nii.gz"))["changes"] == []
    refine(spotted, "--betti", "1,0", "--overwrite", "--method", "voxels", "--steps", 3)
    record = record_of(spotted.with_name("map_refined.nii.gz"))
    assert {row["stage"] for row in record["changes"]} <= set(record["stages"])
    assert sum(row["voxels"] for row in record["changes"]) >= record["voxels_changed"]


@pytest.mark.parametrize("suffix", [".nii.gz", ".tif", ".nrrd"])
def test_the_changes_are_a_label_map(refine, save, files_in, tmp_path, suffix):
    field = disc_and_spot()
    field[8, 7] = 0.2  # a hole
    path = save(tmp_path / f"map{suffix}", field)
    result = refine(path, "--betti", "1,0", "--save-changes", "--method", "exact")
    written = read(tmp_path / f"map_refined{suffix}").array
    edits = read(tmp_path / f"map_refined_changes{suffix}")
    before = read(path).array > 0.5
    assert result.exit_code == 0, result.stdout
    assert edits.array.dtype == np.uint8
    np.testing.assert_array_equal(edits.array == 1, before & (written == 0))
    np.testing.assert_array_equal(edits.array == 2, ~before & (written > 0))
    assert (edits.array == 1).any()
    assert (edits.array == 2).any()
    outputs = record_of(tmp_path / f"map_refined{suffix}")["outputs"]
    assert outputs["changes"] == str(tmp_path / f"map_refined_changes{suffix}")
    before = files_in()
    assert refine(tmp_path, "--betti", "1,0", "--overwrite").exit_code == 0  # which is no case of its own
    assert files_in() == before


def test_another_label_is_a_change_of_its_own(run, save, tmp_path):
    labels = np.zeros((16, 16), np.uint8)
    labels[2:14, 2:14] = 1
    labels[5:11, 5:11] = 2
    labels[7:9, 7:9] = 1  # a hole in label 2, of label 1, which is in two pieces
    path = save(tmp_path / "labels.nii.gz", labels)
    options = ("--input-type", "labels", "--betti", "1:1,1", "--betti", "2:1,0", "--save-changes")
    result = run("refine", path, *options)
    assert result.exit_code == 0, result.stdout
    written = read(tmp_path / "labels_refined.nii.gz").array
    edits = read(tmp_path / "labels_refined_changes.nii.gz").array
    np.testing.assert_array_equal(edits == 3, (written != labels) & (written > 0) & (labels > 0))
    assert (edits == 3).any()


def test_changes_are_not_written_over_a_file(refine, spotted, files_in, tmp_path):
    (tmp_path / "map_refined_changes.nii.gz").write_text("mine")
    before = files_in()
    result = refine(spotted, "--betti", "1,0", "--save-changes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "map_refined_changes.nii.gz: exists already" in result.stderr
    assert files_in() == before


def test_a_dry_run_prints_the_rows_and_writes_nothing(refine, spotted, files_in, tmp_path):
    (tmp_path / "map_refined.nii.gz").write_text("mine")
    before = files_in()
    result = refine(spotted, "--betti", "1,0", "--method", "exact", "--dry-run", "--save-changes")
    assert result.exit_code == 0, result.stderr
    head, columns, row = result.stdout.splitlines()
    assert head.startswith("map.nii.gz: satisfied; foreground 2,0 -> 1,0; ")
    assert head.endswith("; dry run, nothing written")
    assert columns.split() == [
        "region",
        "dim",
        "change",
        "birth",
        "death",
        "voxel",
        "mm",
        "voxels",
        "mm2",
        "stage",
    ]
    assert re.match(r"  foreground +0  removed  0\.600  0\.010 .* exact$", row)
    assert files_in() == before
    assert (tmp_path / "map_refined.nii.gz").read_text() == "mine"


def test_a_dry_run_as_json_is_a_record_without_outputs(refine, spotted, files_in):
    before = files_in()
    result = refine(spotted, "--betti", "1,0", "--method", "exact", "--dry-run", "--json")
    (line,) = result.stdout.splitlines()
    record = json.loads(line)
    assert record["outputs"] == {}
    assert record["changes"]
    assert record["message"].endswith("Nothing was written (--dry-run).")
    assert files_in() == before


@pytest.mark.parametrize(
    ("options", "exit_code"),
    [("--betti 2,0", 0), ("--betti 1,0 --steps 0 --no-guarantee", 3), ("--betti 7,0", 3)],
)
def test_a_dry_run_exits_as_the_run_would(refine, spotted, files_in, options, exit_code):
    before = files_in()
    dry = refine(spotted, *options.split(), "--dry-run")
    assert dry.exit_code == exit_code
    assert files_in() == before
    assert refine(spotted, *options.split()).exit_code == exit_code


def test_a_dry_run_does_not_ask_for_a_format_that_can_be_written(refine, spotted, files_in, tmp_path):
    before = files_in()
    result = refine(spotted, "--betti", "1,0", "--dry-run", "--quiet", "--output", tmp_path / "o.txt")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert files_in() == before


def test_only_what_is_verified_is_written(refine, spotted, files_in):
    before = files_in()
    options = ("--betti", "1,0", "--steps", 0, "--only-verified", "--save-probabilities", "--save-changes")
    result = refine(spotted, *options, "--no-guarantee")
    assert result.exit_code == 3
    assert result.stdout.rstrip().endswith("nothing written")
    assert files_in() == before
    result = refine(spotted, *options, "--no-guarantee", "--json")
    assert json.loads(result.stdout)["message"].endswith("Nothing was written (--only-verified).")
    assert refine(spotted, *options).exit_code == 0
    names = ("map_refined", "map_refined_changes", "map_refined_probabilities_foreground")
    assert files_in() - before == {f"{name}.nii.gz" for name in names} | {"map_refined.json"}


def test_one_case_that_falls_short_keeps_no_other_from_being_written(refine, save, files_in, tmp_path):
    field = np.where(phantoms.disc().mask, 0.9, 0.1).astype(np.float32)
    paths = [save(tmp_path / "empty.tif", np.zeros((9, 9), np.float32)), save(tmp_path / "disc.tif", field)]
    result = refine(*paths, "--betti", "1,0", "--only-verified")
    assert result.exit_code == 3
    assert files_in() == {"empty.tif", "disc.tif", "disc_refined.tif", "disc_refined.json"}
    assert len(result.stdout.splitlines()) == 2


def test_a_series_says_what_happened_in_each_frame(refine, run, tmp_path):
    labels = np.stack([phantoms.ball().mask, phantoms.ball().mask], -1).astype(np.uint8)
    labels[1, 1, 1:4, 1] = 1
    path, frozen = tmp_path / "cine.nii.gz", tmp_path / "frozen.nii.gz"
    import nibabel

    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), path)
    nibabel.save(nibabel.Nifti1Image((labels[..., 1] > 2).astype(np.uint8), np.eye(4)), frozen)
    options = ("--input-type", "labels", "--betti", "1,0,0", "--freeze", frozen, "--save-changes")
    result = run("refine", path, *options, "--method", "exact")
    assert result.exit_code == 0, result.stderr + result.stdout
    assert {row["frame"] for row in record_of(tmp_path / "cine_refined.nii.gz")["changes"]} == {1}
    edits = np.asarray(nibabel.load(tmp_path / "cine_refined_changes.nii.gz").dataobj)
    assert edits.shape == labels.shape
    assert not edits[..., 0].any()
    assert edits[..., 1].any()


# --- what is refused ---


BAD_USAGE = {
    "limit in words": (["--max-change", "some"], "--max-change: expected an amount.*'some'"),
    "negative limit": (["--max-change", "-5%"], "--max-change: expected an amount.*'-5%'"),
    "unknown unit": (["--max-change", "5cm3"], "--max-change: expected an amount.*'5cm3'"),
    "two points": (["--max-change", "1.2.3"], "--max-change: expected an amount.*'1.2.3'"),
    "empty limit": (["--max-change", ""], "--max-change: expected an amount.*''"),
    "endless limit": (["--max-change", "1e999"], "--max-change: expected an amount.*'1e999'"),
    "no time": (["--time-limit", "0"], "--time-limit: expected a positive number, got 0"),
    "time that is no number": (["--time-limit", "nan"], "--time-limit: expected a positive number"),
    "negative size": (["--min-size", "-1"], "--min-size: expected mm³ from 0 on, got -1"),
    "endless size": (["--min-size", "inf"], "--min-size: expected mm³ from 0 on, got inf"),
    "negative evidence": (["--min-evidence", "-0.1"], "--min-evidence: expected a length from 0 to 1"),
    "evidence above 1": (["--min-evidence", "2"], "--min-evidence: expected a length from 0 to 1, got 2"),
    "exact without itself": (["--method", "exact", "--no-guarantee"], "--no-guarantee: .* exact"),
    "a rate for exact": (["--method", "exact", "--learning-rate", "1"], "--learning-rate: .* got exact"),
    "adapting no network": (["--method", "voxels", "--adapt", "head"], "--adapt: .* got voxels"),
}
BAD_MASKS = {
    "no file": (None, None, "frozen.nii.gz.*nothing there"),
    "another shape": (np.ones((16, 29)), (1.0, 2.0), r"expected the shape of .*\(16, 30\), got \(16, 29\)"),
    "another rank": (np.ones((16, 30, 2)), (1.0, 2.0, 1.0), r"got \(16, 30, 2\)"),
    "another spacing": (np.ones((16, 30)), (1.0, 1.0), "expected the grid of .*map.nii.gz.* apart"),
}


@pytest.mark.parametrize(("options", "says"), [pytest.param(*case, id=k) for k, case in BAD_USAGE.items()])
def test_bad_values_are_a_usage_error(refine, spotted, files_in, options, says):
    before = files_in()
    result = refine(spotted, "--betti", "1,0", *options)
    (line,) = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.search(says, line), line
    assert files_in() == before


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["", "dry run"])
@pytest.mark.parametrize(("array", "spacing", "says"), [pytest.param(*c, id=k) for k, c in BAD_MASKS.items()])
def test_a_mask_that_does_not_fit_is_one_sentence(
    refine, spotted, save, files_in, tmp_path, array, spacing, says, dry
):
    mask = tmp_path / "frozen.nii.gz"
    if array is not None:
        save(mask, array.astype(np.uint8), spacing=spacing)
    before = files_in()
    result = refine(spotted, "--betti", "1,0", "--freeze", mask, *dry)
    (line,) = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(says, line), line
    assert files_in() == before
