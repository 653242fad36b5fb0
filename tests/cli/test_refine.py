"""`topofix refine`: the topology that was asked for, on the input's own grid, or one sentence why not."""

import json
import re
from dataclasses import fields

import nibabel
import numpy as np
import phantoms
import pytest
import SimpleITK

from topofix.imaging.volumes import read
from topofix.records import Record

MAP = ("--input-type", "probabilities")


@pytest.fixture
def refine(run):
    """Runs `topofix refine ARGUMENTS... --input-type probabilities`."""
    return lambda *arguments: run("refine", *arguments, *MAP)


@pytest.fixture
def stack(tmp_path, save):
    """Four slices 8 mm apart: a disc, two discs, a ring, two discs."""
    slices = [phantoms.disc(), phantoms.two_discs(), phantoms.ring(), phantoms.two_discs()]
    field = np.full((22, 30, 4), 0.05, np.float32)
    for index, phantom in enumerate(slices):
        rows, columns = phantom.mask.shape
        field[:rows, :columns, index] = phantoms.probabilities(phantom.mask, index)
    return save(tmp_path / "stack.nii.gz", field, spacing=(1.5, 1.5, 8.0))


def probability_map(phantom, seed=0) -> np.ndarray:
    return phantoms.probabilities(phantom.mask, seed).astype(np.float32)


def record_of(output) -> dict:
    name = output.name.removesuffix(".gz").rpartition(".")[0]
    return json.loads(output.with_name(f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("phantom", "prior", "suffix"),
    [
        (phantoms.two_discs(), "1,0", ".nii.gz"),
        (phantoms.ring(), "1,0", ".nrrd"),
        (phantoms.disc(), "1,1", ".tif"),
    ],
    ids=str,
)
def test_an_image_gets_the_betti_numbers_asked_for(refine, save, count, tmp_path, phantom, prior, suffix):
    path = save(tmp_path / f"map{suffix}", probability_map(phantom))
    result = refine(path, "--betti", prior)
    output = tmp_path / f"map_refined{suffix}"
    written = read(output).array
    assert result.exit_code == 0, result.stderr
    assert written.dtype == np.uint8
    assert set(np.unique(written)) <= {0, 1}
    assert ",".join(map(str, count(written))) == prior
    record = record_of(output)
    assert record["outcome"] == "satisfied"
    assert record["topology"] == [
        {
            "region": "foreground",
            "slice": None,
            "requested": prior,
            "before": list(count(phantom.mask)),
            "after": list(count(written)),
            "met_before": False,
            "met": True,
            "frame": None,
        }
    ]


@pytest.mark.parametrize(
    ("phantom", "suffix"),
    [(phantoms.two_balls(), ".nii"), (phantoms.shell(), ".nrrd"), (phantoms.ball_with_tunnel(), ".mha")],
    ids=str,
)
def test_a_volume_gets_the_betti_numbers_asked_for(refine, save, count, tmp_path, phantom, suffix):
    path = save(tmp_path / f"map{suffix}", probability_map(phantom))
    result = refine(path, "--betti", "1,0,0")
    assert result.exit_code == 0, result.stderr
    assert count(read(tmp_path / f"map_refined{suffix}").array) == (1, 0, 0)


def test_the_output_lies_on_the_grid_of_an_oblique_nifti(refine, tmp_path):
    angle = 0.3
    qform, sform = np.eye(4), np.eye(4)
    qform[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    qform[:3, :3] = qform[:3, :3] * (0.7, 0.8, 2.5)
    qform[:3, 3] = (-11, 22, 33)
    sform[:3, :3] = qform[:3, :3] @ np.diag([1, -1, 1])
    image = nibabel.Nifti1Image(probability_map(phantoms.two_balls()), None)
    image.set_qform(qform, 1)
    image.set_sform(sform, 4)
    nibabel.save(image, tmp_path / "oblique.nii.gz")
    assert refine(tmp_path / "oblique.nii.gz", "--betti", "2,0,0").exit_code == 0
    before = nibabel.load(tmp_path / "oblique.nii.gz")
    after = nibabel.load(tmp_path / "oblique_refined.nii.gz")
    assert after.shape == before.shape
    for form in ("get_qform", "get_sform"):
        (matrix, code), (old_matrix, old_code) = (
            getattr(i.header, form)(coded=True) for i in (after, before)
        )
        assert code == old_code
        np.testing.assert_array_equal(matrix, old_matrix)
    np.testing.assert_array_equal(after.header["pixdim"], before.header["pixdim"])


def test_the_output_lies_on_the_grid_of_an_nrrd(refine, tmp_path):
    image = SimpleITK.GetImageFromArray(probability_map(phantoms.two_balls()).T)
    image.SetOrigin((3.0, -4.0, 5.5))
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, tmp_path / "map.nrrd")
    assert refine(tmp_path / "map.nrrd", "--betti", "2,0,0").exit_code == 0
    written = SimpleITK.ReadImage(tmp_path / "map_refined.nrrd")
    for geometry in ("GetSize", "GetOrigin", "GetSpacing", "GetDirection"):
        assert getattr(written, geometry)() == getattr(image, geometry)()


def test_the_record_holds_every_documented_field_and_true_numbers(refine, save, tmp_path):
    field = probability_map(phantoms.two_discs())
    path = save(tmp_path / "map.nii.gz", field, spacing=(0.5, 2.0))
    output = tmp_path / "out.nii.gz"
    refine(path, "--betti", "1,0", "--output", output, "--seed", 7)
    record, before, after = record_of(output), field > 0.5, read(output).array > 0
    assert set(record) == {part.name for part in fields(Record)} | {"mm3_added", "mm3_removed"}
    added, removed = int((after & ~before).sum()), int((before & ~after).sum())
    assert added + removed > 0
    assert (record["voxels_added"], record["voxels_removed"]) == (added, removed)
    assert record["voxels_changed"] == added + removed
    assert record["cost"] > 0
    assert record["voxel_volume"] == 1.0
    assert record["dice_to_input"] == pytest.approx(
        2 * (before & after).sum() / (before.sum() + after.sum()), abs=1e-6
    )
    assert record["outputs"] == {"segmentation": str(output), "record": str(tmp_path / "out.json")}
    assert record["request"]["betti"] == "1,0"
    assert (record["command"], record["input"], record["seed"]) == ("refine", str(path), 7)
    assert record["model"] is None
    assert record["device"] is None
    assert record["stages"] == ["voxels"]
    assert 0 < record["steps"] <= 200
    assert {"topofix", "torch", "gudhi"} <= set(record["versions"])


def test_one_line_says_what_became_of_the_case(refine, save, tmp_path):
    path = save(tmp_path / "map.nii.gz", probability_map(phantoms.two_discs()), spacing=(0.5, 4.0))
    result = refine(path, "--betti", "1,0")
    (line,) = result.stdout.splitlines()
    changed = record_of(tmp_path / "map_refined.nii.gz")["voxels_changed"]
    assert line == (
        f"map.nii.gz: satisfied; foreground 2,0 -> 1,0; {changed} voxels ({2 * changed} mm²) changed; "
        f"{tmp_path / 'map_refined.nii.gz'}"
    )
    assert result.stderr == ""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_map_that_is_right_already_is_what_lies_above_one_half(refine, save, tmp_path, dtype):
    field = phantoms.probabilities(phantoms.disc().mask).astype(dtype)
    half = dtype(0.5)
    field[10, 8:12] = half, np.nextafter(half, dtype(1)), np.nextafter(half, dtype(0)), 1
    field[0] = 0
    path = save(tmp_path / "map.nii.gz", field)
    result = refine(path, "--betti", "1,*")
    assert result.exit_code == 0
    assert "already satisfied" in result.stdout
    np.testing.assert_array_equal(read(tmp_path / "map_refined.nii.gz").array, field > 0.5)
    record = record_of(tmp_path / "map_refined.nii.gz")
    assert (record["outcome"], record["stages"], record["voxels_changed"]) == ("already_satisfied", [], 0)


def test_a_mask_of_whole_numbers_is_a_probability_map_too(refine, save, tmp_path):
    mask = phantoms.ring().mask.astype(np.uint8)
    path = save(tmp_path / "mask.png", mask)
    assert refine(path, "--betti", "1,1").exit_code == 0
    np.testing.assert_array_equal(read(tmp_path / "mask_refined.png").array, mask)


def test_an_empty_map_is_absent(refine, save, tmp_path):
    path = save(tmp_path / "map.nii.gz", np.zeros((6, 7, 8), np.float32))
    assert refine(path, "--betti", "0,0,0").exit_code == 0
    assert not read(tmp_path / "map_refined.nii.gz").array.any()


def test_a_topology_out_of_reach_exits_3_and_the_best_state_is_written(refine, save, tmp_path):
    field = probability_map(phantoms.two_discs())
    path = save(tmp_path / "map.tif", field)
    result = refine(path, "--betti", "1,0", "--steps", 0, "--no-guarantee")
    assert result.exit_code == 3
    assert "not reached" in result.stdout
    np.testing.assert_array_equal(read(tmp_path / "map_refined.tif").array, field > 0.5)
    record = record_of(tmp_path / "map_refined.tif")
    assert (record["outcome"], record["topology"][0]["met"]) == ("not_reached", False)
    assert "--steps" in record["message"]


def test_face_connectivity_counts_otherwise(refine, save, tmp_path):
    path = save(tmp_path / "map.tif", probability_map(phantoms.diamond()))
    assert "already satisfied" in refine(path, "--betti", "1,1", "--output", tmp_path / "full").stdout
    result = refine(path, "--betti", "12,0", "--connectivity", "face", "--output", tmp_path / "face")
    assert "already satisfied" in result.stdout


def test_two_numbers_on_a_stack_hold_for_each_slice(refine, stack, count, tmp_path):
    result = refine(stack, "--betti", "1,0")
    assert result.exit_code == 0, result.stderr
    written, field = read(tmp_path / "stack_refined.nii.gz").array, read(stack).array
    assert [count(written[..., index]) for index in range(4)] == [(1, 0)] * 4
    np.testing.assert_array_equal(written[..., 0], field[..., 0] > 0.5)
    assert "slices right 1 -> 4 of 4" in result.stdout
    record = record_of(tmp_path / "stack_refined.nii.gz")
    assert [part["slice"] for part in record["topology"]] == [0, 1, 2, 3]
    assert [part["met_before"] for part in record["topology"]] == [True, False, False, False]


def test_the_slice_axis_can_be_named(refine, save, count, tmp_path):
    field = np.stack([probability_map(phantoms.ring()), probability_map(phantoms.disc())])
    path = save(tmp_path / "stack.nii.gz", field, spacing=(1.0, 1.0, 8.0))
    result = refine(path, "--betti", "1,0", "--slice-axis", 0)
    assert result.exit_code == 0, result.stderr
    written = read(tmp_path / "stack_refined.nii.gz").array
    assert [count(part) for part in written] == [(1, 0), (1, 0)]
    assert len(record_of(tmp_path / "stack_refined.nii.gz")["topology"]) == 2


def test_a_table_speaks_for_slices_and_leaves_the_others_alone(refine, stack, count, tmp_path):
    table = tmp_path / "priors.csv"
    table.write_text("case,slice,b0,b1\nstack,0,1,0\nstack,1,1,0\nstack,2,1,1\nother,3,1,0\n")
    result = refine(stack, "--betti-csv", table)
    assert result.exit_code == 0, result.stderr
    written, field = read(tmp_path / "stack_refined.nii.gz").array, read(stack).array
    assert [count(written[..., index]) for index in range(4)] == [(1, 0), (1, 0), (1, 1), (2, 0)]
    for index in (0, 2, 3):
        np.testing.assert_array_equal(written[..., index], field[..., index] > 0.5)
    assert "slices right 2 -> 3 of 3" in result.stdout


def test_a_folder_goes_on_after_a_damaged_file(refine, save, count, tmp_path):
    scans = tmp_path / "scans"
    for name in ("a", "c"):
        save(scans / "deep" / f"{name}.nii.gz", probability_map(phantoms.two_discs()))
    (scans / "b.nii.gz").write_bytes((scans / "deep" / "a.nii.gz").read_bytes()[:-40])
    result = refine(scans, "--betti", "1,0", "--output", tmp_path / "out")
    assert result.exit_code == 1
    written = sorted(
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")
    )
    expected = [f"deep/{name}_refined.{kind}" for name in "ac" for kind in ("json", "nii.gz")]
    assert written == [*expected, "summary.csv", "summary.json"]
    assert count(read(tmp_path / "out/deep/c_refined.nii.gz").array) == (1, 0)
    (error,) = result.stderr.splitlines()
    assert "b.nii.gz" in error
    assert "truncated" in error
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == ["a.nii.gz", "c.nii.gz"]


def test_a_failed_case_outweighs_one_that_was_not_reached(refine, save, tmp_path):
    path = save(tmp_path / "map.tif", probability_map(phantoms.two_discs()))
    options = ("--betti", "1,0", "--steps", 0, "--no-guarantee")
    assert refine(path, tmp_path / "missing.tif", *options).exit_code == 1


def test_results_in_a_folder_are_no_cases(refine, save, files_in, tmp_path):
    save(tmp_path / "map.tif", probability_map(phantoms.disc()))
    assert refine(tmp_path, "--betti", "1,0").exit_code == 0
    first = files_in()
    assert refine(tmp_path, "--betti", "1,0", "--overwrite").exit_code == 0
    assert files_in() == first == {"map.tif", "map_refined.tif", "map_refined.json"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (None, "scans/map_refined.tif"),
        ("other.nii.gz", "other.nii.gz"),
        ("new/deep/mask.tif", "new/deep/mask.tif"),
        ("folder", "folder/map_refined.tif"),
    ],
)
def test_the_output_is_a_file_or_a_folder_or_beside_the_input(
    refine, save, files_in, tmp_path, output, expected
):
    path = save(tmp_path / "scans" / "map.tif", probability_map(phantoms.disc()))
    options = ("--output", tmp_path / output) if output else ()
    assert refine(path, "--betti", "1,0", *options).exit_code == 0
    record = expected.removesuffix(".gz").rpartition(".")[0] + ".json"
    assert files_in() == {"scans/map.tif", expected, record}


@pytest.mark.parametrize("names", [("a/map.tif", "b/map.tif"), ("a/map.tif", "a/map.nii.gz")])
def test_two_cases_for_one_output_are_refused(refine, save, files_in, tmp_path, names):
    paths = [save(tmp_path / name, probability_map(phantoms.disc())) for name in names]
    result = refine(*paths, "--betti", "1,0", "--output", tmp_path / "out", "--overwrite")
    assert result.exit_code == 1
    (error,) = result.stderr.splitlines()
    assert all(str(path) in error for path in paths)
    assert files_in() == set(names)


def test_an_input_is_never_its_own_output(refine, save, tmp_path):
    path = save(tmp_path / "map.tif", probability_map(phantoms.two_discs()))
    before = path.read_bytes()
    result = refine(path, "--betti", "1,0", "--output", path, "--overwrite")
    assert result.exit_code == 1
    assert "map.tif" in result.stderr
    assert path.read_bytes() == before


def test_json_is_one_record_per_line(refine, save, tmp_path):
    paths = [save(tmp_path / f"{name}.tif", probability_map(phantoms.disc())) for name in "ab"]
    result = refine(*paths, tmp_path / "missing.tif", "--betti", "1,0", "--json")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    assert [record["outcome"] for record in records] == ["already_satisfied"] * 2 + ["failed"]
    assert [record["input"] for record in records] == [*map(str, paths), str(tmp_path / "missing.tif")]
    assert records[0] == record_of(tmp_path / "a_refined.tif")


def test_results_stay_on_stdout_beside_a_terminal_with_a_progress_bar(refine, save, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what makes stderr pass for a terminal
    paths = [save(tmp_path / f"{name}.tif", probability_map(phantoms.disc())) for name in "ab"]
    result = refine(*paths, "--betti", "1,0", "--json")
    assert [json.loads(line)["input"] for line in result.stdout.splitlines()] == [*map(str, paths)]


def test_a_case_that_is_named_twice_is_done_once(refine, save, tmp_path):
    path = save(tmp_path / "map.tif", probability_map(phantoms.disc()))
    result = refine(tmp_path, path, "--betti", "1,0")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) == 1


def test_quiet_prints_nothing_but_errors(refine, save, tmp_path):
    path = save(tmp_path / "map.tif", probability_map(phantoms.disc()))
    result = refine(path, "--betti", "1,0", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    result = refine(path, "--betti", "1,1", "-q")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--overwrite" in result.stderr


@pytest.mark.parametrize("phantom", [phantoms.disc(), phantoms.two_discs()], ids=str)
def test_saved_probabilities_lie_above_one_half_in_the_segmentation(refine, save, tmp_path, phantom):
    field = probability_map(phantom)
    path = save(tmp_path / "map.nii.gz", field)
    assert refine(path, "--betti", "1,0", "--save-probabilities").exit_code == 0
    saved = read(tmp_path / "map_refined_probabilities_foreground.nii.gz").array
    written = read(tmp_path / "map_refined.nii.gz").array
    assert saved.dtype == np.float32
    np.testing.assert_array_equal(saved > 0.5, written)
    record = record_of(tmp_path / "map_refined.nii.gz")
    assert record["outputs"]["probabilities foreground"].endswith(
        "map_refined_probabilities_foreground.nii.gz"
    )
    if phantom.full == (1, 0):
        np.testing.assert_allclose(saved, field, atol=2e-6)


def test_overwrite_replaces_the_output_and_its_record(refine, save, count, tmp_path):
    path = save(tmp_path / "map.tif", probability_map(phantoms.two_discs()))
    refine(path, "--betti", "2,0")
    assert refine(path, "--betti", "1,0", "--overwrite").exit_code == 0
    assert count(read(tmp_path / "map_refined.tif").array) == (1, 0)
    assert record_of(tmp_path / "map_refined.tif")["request"]["betti"] == "1,0"


def test_every_run_gives_the_same(refine, save, tmp_path):
    path = save(tmp_path / "map.tif", probability_map(phantoms.two_discs()))
    for name in ("one.nii.gz", "two.nii.gz"):
        assert refine(path, "--betti", "1,0", "--output", tmp_path / name).exit_code == 0
    assert (tmp_path / "one.nii.gz").read_bytes() == (tmp_path / "two.nii.gz").read_bytes()


@pytest.mark.parametrize("method", ["weights", "voxels", "auto"])
def test_a_scan_is_corrected_through_its_network(run, model, save, heart, count, tmp_path, method):
    image, _ = heart(seed=77)
    image[2:5, 2:5] = 220  # a second piece of wall
    path = save(tmp_path / "scan.png", image)
    rate = () if method == "auto" else ("--learning-rate", {"weights": 1e-2, "voxels": 0.5}[method])
    result = run(
        *("refine", path, "--model", model, "--betti", "wall:1,1", "--betti", "cavity:1,0"),
        *("--method", method, "--device", "cpu", *rate),
    )
    written, record = read(tmp_path / "scan_refined.png").array, record_of(tmp_path / "scan_refined.png")
    right = count(written == 1) == (1, 1) and count(written == 2) == (1, 0)
    assert record["topology"][0]["before"][0] > 1
    assert right == (record["outcome"] == "satisfied") == (result.exit_code == 0)
    assert right
    assert record["stages"][0] == ("voxels" if method == "auto" else method)
    assert set(record["stages"]) <= {"weights", "voxels", "exact"}
    assert (record["model"], record["device"]) == ("heart", "cpu")
    for part, value in zip(record["topology"], (1, 2), strict=True):
        assert tuple(part["after"]) == count(written == value)


# --- What is refused: one sentence, no file. ---


def truncated(tmp_path, save):
    path = save(tmp_path / "map.nii.gz", probability_map(phantoms.ball()))
    path.write_bytes(path.read_bytes()[:-50])


def with_voxel(value):
    def make(tmp_path, save):
        field = probability_map(phantoms.disc())
        field[3, 4] = value
        nibabel.save(nibabel.Nifti1Image(field, np.eye(4)), tmp_path / "map.nii.gz")

    return make


def without_voxels(tmp_path, save):
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header["dim"][:4] = 3, 0, 5, 6
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    (tmp_path / "map.nii").write_bytes(header.binaryblock + bytes(4))


def flat(tmp_path, save):
    save(tmp_path / "map.tif", probability_map(phantoms.disc()))


def solid(tmp_path, save):
    save(tmp_path / "map.nii.gz", probability_map(phantoms.ball()))


def with_output(tmp_path, save):
    flat(tmp_path, save)
    (tmp_path / "map_refined.tif").write_text("mine")


def with_record(tmp_path, save):
    flat(tmp_path, save)
    (tmp_path / "map_refined.json").write_text("mine")


def with_file_as_folder(tmp_path, save):
    flat(tmp_path, save)
    (tmp_path / "file").write_text("mine")


def with_table(text):
    def make(tmp_path, save):
        solid(tmp_path, save)
        (tmp_path / "priors.csv").write_text(text)

    return make


def text_file(tmp_path, save):
    (tmp_path / "map.txt").write_text("no image")


def nothing(tmp_path, save):
    pass


MINE = ("map_refined.tif", "map_refined.json", "file")
BAD = {
    "missing file": (nothing, "map.tif", ["--betti", "1,0"], "map.tif.*nothing there"),
    "empty folder": (nothing, ".", ["--betti", "1,0"], "found none"),
    "unknown format": (text_file, "map.txt", ["--betti", "1,0"], r"map\.txt.*\.nii\.gz"),
    "truncated file": (truncated, "map.nii.gz", ["--betti", "1,0,0"], "map.nii.gz.*truncated"),
    "NaN": (with_voxel(np.nan), "map.nii.gz", ["--betti", "1,0"], r"map.nii.gz.*NaN.*\(3, 4\)"),
    "infinity": (with_voxel(np.inf), "map.nii.gz", ["--betti", "1,0"], "map.nii.gz.*infinite"),
    "no voxels": (without_voxels, "map.nii", ["--betti", "1,0,0"], r"map.nii.*\(0, 5, 6\)"),
    "below 0": (with_voxel(-0.5), "map.nii.gz", ["--betti", "1,0"], "map.nii.gz.*from -0.5"),
    "above 1": (with_voxel(1.5), "map.nii.gz", ["--betti", "1,0"], "map.nii.gz.*to 1.5"),
    "3 numbers in 2-D": (flat, "map.tif", ["--betti", "1,0,0"], "map.tif.*2 numbers.*1,0,0"),
    "unknown label": (flat, "map.tif", ["--betti", "heart:1,0"], "foreground.*'heart'"),
    "unknown number": (flat, "map.tif", ["--betti", "7:1,0"], "foreground.*'7'"),
    "bad slice axis": (solid, "map.nii.gz", ["--betti", "1,0", "--slice-axis", "3"], "--slice-axis.*got 3"),
    "negative axis": (solid, "map.nii.gz", ["--betti", "1,0", "--slice-axis", "-1"], "--slice-axis.*got -1"),
    "output exists": (with_output, "map.tif", ["--betti", "1,0"], "map_refined.tif.*--overwrite"),
    "record exists": (with_record, "map.tif", ["--betti", "1,0"], "map_refined.json.*--overwrite"),
    "parent is a file": (with_file_as_folder, "map.tif", ["--betti", "1,0", "--output", "file/out"], "file"),
    "no network": (flat, "map.tif", ["--betti", "1,0", "--method", "weights"], "--method weights.*voxels"),
    "no row": (
        with_table("case,b0,b1\nother,1,0\n"),
        "map.nii.gz",
        ["--betti-csv", "priors.csv", "--quiet"],
        "map.nii.gz",
    ),
    "PNG for a volume": (solid, "map.nii.gz", ["--betti", "1,0", "--output", "out.png"], "2 dimensions"),
}
BAD_USAGE = {
    "empty number": (flat, "map.tif", ["--betti", "1,,0"], "'1,,0'"),
    "negative number": (flat, "map.tif", ["--betti", "-1"], "-1"),
    "letter": (flat, "map.tif", ["--betti", "a"], "'a'"),
    "four numbers": (flat, "map.tif", ["--betti", "1,0,0,0"], "'1,0,0,0'.*got 4"),
    "empty prior": (flat, "map.tif", ["--betti", " "], "empty"),
    "hole in nothing": (flat, "map.tif", ["--betti", "0,1"], "absent"),
    "contradiction": (flat, "map.tif", ["--betti", "1,0", "--betti", "1,1"], "expected one constraint"),
    "neither": (flat, "map.tif", [], "either --betti or --betti-csv.*neither"),
    "both": (
        with_table("case,b0,b1\nmap,1,0\n"),
        "map.nii.gz",
        ["--betti", "1,0", "--betti-csv", "priors.csv"],
        "either --betti or --betti-csv.*both",
    ),
    "missing table": (flat, "map.tif", ["--betti-csv", "priors.csv"], "priors.csv"),
    "bad table": (with_table("case,b0\nmap,1\n"), "map.nii.gz", ["--betti-csv", "priors.csv"], "'b1'"),
    "rate with auto": (flat, "map.tif", ["--betti", "1,0", "--learning-rate", "1"], "--learning-rate.*auto"),
}


@pytest.mark.parametrize(
    ("exit_code", "make", "name", "options", "says"),
    [
        pytest.param(code, *case, id=label)
        for code, cases in ((1, BAD), (2, BAD_USAGE))
        for label, case in cases.items()
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_no_file(
    refine, save, files_in, tmp_path, monkeypatch, exit_code, make, name, options, says
):
    monkeypatch.chdir(tmp_path)
    make(tmp_path, save)
    before = files_in()
    result = refine(name, *options)
    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    assert_one_sentence(result.stderr, says)
    assert files_in() == before
    assert all(mine.read_text() == "mine" for mine in tmp_path.iterdir() if mine.name in MINE)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "nonsense"], "nonsense.*bundled model"),
        (["--model", "scan.png"], "scan.png.*safetensors"),
        (["--device", "abacus"], "--device.*'abacus'"),
        (["--betti", "wall:1,1,0"], "scan.png.*2 numbers"),
        (["--betti", "lung:1,1"], "wall.*cavity.*'lung'"),
    ],
    ids=["unknown model", "no model", "unknown device", "3 numbers in 2-D", "unknown label"],
)
def test_a_scan_that_cannot_be_refined_is_one_sentence_and_no_file(
    run, model, save, heart, files_in, tmp_path, monkeypatch, options, says
):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "scan.png", heart()[0])
    usual = {"--model": model, "--betti": "wall:1,1", "--device": "cpu"}
    given = dict(zip(options[::2], options[1::2], strict=True))
    result = run("refine", "scan.png", *(part for pair in (usual | given).items() for part in pair))
    assert (result.exit_code, result.stdout) == (1, "")
    assert_one_sentence(result.stderr, says)
    assert files_in() == {"scan.png"}


def test_a_model_for_volumes_refuses_an_image(run, model_3d, save, heart, files_in, tmp_path):
    path = save(tmp_path / "scan.png", heart()[0])
    result = run("refine", path, "--model", model_3d, "--betti", "1,0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert_one_sentence(result.stderr, "scan.png.*3-D model.*2-D image")
    assert files_in() == {"scan.png"}


def assert_one_sentence(text: str, says: str) -> None:
    (line,) = text.splitlines()
    assert re.search(says, line), line
    assert "Traceback" not in line
