"""`topofix segment`: a label map on the scan's own grid, and its Betti numbers."""

import json

import nibabel
import numpy as np
import pytest

from topofix.imaging.volumes import read

WALL, CAVITY = 1, 2


@pytest.fixture
def oblique(tmp_path, heart):
    """A stack of three slices whose qform and sform differ, and whose first axis is that of the slices."""
    angle = 0.2
    qform = np.eye(4)
    qform[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    qform[:3, :3] = qform[:3, :3] * (6.0, 1.0, 1.0)
    qform[:3, 3] = (-40, 12, 7)
    image = nibabel.Nifti1Image(np.stack([heart(seed=seed)[0] for seed in range(3)]).astype(np.int16), None)
    image.set_qform(qform, 1)
    image.set_sform(qform @ np.diag([1, 1, -1, 1]), 3)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_an_image_becomes_a_label_map(run, model, save, heart, count, tmp_path):
    image, labels = heart(seed=77)
    path = save(tmp_path / "scan.png", image)
    result = run("segment", path, "--model", model)
    assert result.exit_code == 0, result.stderr
    written = read(tmp_path / "scan_seg.png").array
    assert written.dtype == np.uint8
    for value in (WALL, CAVITY):
        overlap = 2 * ((written == value) & (labels == value)).sum()
        assert overlap > 0.85 * ((written == value).sum() + (labels == value).sum())
    record = json.loads((tmp_path / "scan_seg.json").read_text("utf-8"))
    assert (record["command"], record["outcome"], record["model"]) == ("segment", "written", "heart")
    assert [(part["region"], part["after"], part["requested"]) for part in record["topology"]] == [
        (name, list(count(written == value)), None) for value, name in ((WALL, "wall"), (CAVITY, "cavity"))
    ]
    (line,) = result.stdout.splitlines()
    assert line.startswith("scan.png: written; wall ")
    assert line.endswith(str(tmp_path / "scan_seg.png"))


def test_the_output_lies_on_the_grid_of_an_oblique_scan(run, model, oblique, heart, count, tmp_path):
    assert run("segment", oblique, "--model", model).exit_code == 0
    before, after = nibabel.load(oblique), nibabel.load(tmp_path / "scan_seg.nii.gz")
    assert after.get_data_dtype() == np.uint8
    for form in ("get_qform", "get_sform"):
        (matrix, code), (old_matrix, old_code) = (
            getattr(i.header, form)(coded=True) for i in (after, before)
        )
        assert code == old_code
        np.testing.assert_array_equal(matrix, old_matrix)
    np.testing.assert_array_equal(after.affine, before.affine)
    np.testing.assert_array_equal(after.header["pixdim"], before.header["pixdim"])
    written = np.asarray(after.dataobj)
    for index in range(3):
        labels = heart(seed=index)[1]
        assert (written[index] == labels).mean() > 0.95
    record = json.loads((tmp_path / "scan_seg.json").read_text("utf-8"))
    assert [part["after"] for part in record["topology"]] == [
        list(count(written == value)) for value in (WALL, CAVITY)
    ]


def test_saved_probabilities_are_those_of_the_label_map(run, model, oblique, tmp_path):
    assert run("segment", oblique, "--model", model, "--save-probabilities").exit_code == 0
    maps = [read(tmp_path / f"scan_seg_probabilities_{name}.nii.gz").array for name in ("wall", "cavity")]
    written = read(tmp_path / "scan_seg.nii.gz").array
    assert all(saved.min() >= 0 for saved in maps)
    assert sum(maps).max() <= 1 + 1e-6
    background = 1 - sum(maps)
    np.testing.assert_array_equal(np.argmax([background, *maps], axis=0), written)


def test_probabilities_of_a_picture_are_tiff(run, model, save, heart, files_in, tmp_path):
    path = save(tmp_path / "scan.png", heart()[0])
    assert run("segment", path, "--model", model, "--save-probabilities").exit_code == 0
    maps = {f"scan_seg_probabilities_{name}.tif" for name in ("wall", "cavity")}
    assert files_in() == {"scan.png", "scan_seg.png", "scan_seg.json", *maps}


def test_nothing_is_written_where_one_of_several_outputs_exists(run, model, save, heart, files_in, tmp_path):
    path = save(tmp_path / "scan.png", heart()[0])
    (tmp_path / "scan_seg_probabilities_cavity.tif").write_text("mine")
    result = run("segment", path, "--model", model, "--save-probabilities")
    assert result.exit_code == 1
    assert "scan_seg_probabilities_cavity.tif" in result.stderr
    assert files_in() == {"scan.png", "scan_seg_probabilities_cavity.tif"}


def test_a_folder_keeps_its_tree(run, model, save, heart, files_in, tmp_path):
    for name in ("a.png", "deep/b.png"):
        save(tmp_path / "in" / name, heart()[0])
    result = run("segment", tmp_path / "in", "--model", model, "--output", tmp_path / "out", "--json")
    assert result.exit_code == 0
    assert [json.loads(line)["outcome"] for line in result.stdout.splitlines()] == ["written"] * 2
    assert {name for name in files_in() if name.startswith("out")} == {
        *("out/a_seg.png", "out/a_seg.json", "out/deep/b_seg.png", "out/deep/b_seg.json"),
        *("out/summary.csv", "out/summary.json"),
    }


def test_slices_along_another_axis_give_another_segmentation(run, model, oblique, tmp_path):
    for axis, name in ((0, "right"), (2, "wrong")):
        output = tmp_path / name / "seg.nii.gz"
        assert run("segment", oblique, "--model", model, "--slice-axis", axis, "-o", output).exit_code == 0
    right, wrong = (read(tmp_path / name / "seg.nii.gz").array for name in ("right", "wrong"))
    assert right.shape == wrong.shape
    assert (right != wrong).any()


def test_a_network_for_volumes_segments_a_volume(run, model_3d, save, tmp_path):
    noise = np.random.default_rng(0).normal(size=(9, 10, 11)).astype(np.float32)
    path = save(tmp_path / "scan.nii.gz", noise)
    result = run("segment", path, "--model", model_3d, "--device", "cpu")
    assert result.exit_code == 0, result.stderr
    assert read(tmp_path / "scan_seg.nii.gz").array.shape == (9, 10, 11)
    record = json.loads((tmp_path / "scan_seg.json").read_text("utf-8"))
    assert len(record["topology"][0]["after"]) == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--model", "nonsense"], "nonsense"),
        (["--device", "abacus"], "--device"),
        (["--slice-axis", "2"], "--slice-axis"),
        (["--output", "scan.png/out"], "scan.png"),
        (["--output", "scan.png", "--overwrite"], "scan.png"),
    ],
    ids=["unknown model", "unknown device", "bad slice axis", "parent is a file", "over the input"],
)
def test_what_cannot_be_done_is_one_sentence_and_no_file(
    run, model, save, heart, files_in, tmp_path, monkeypatch, options, says
):
    monkeypatch.chdir(tmp_path)
    image = save(tmp_path / "scan.png", heart()[0]).read_bytes()
    result = run("segment", "scan.png", *(() if "--model" in options else ("--model", model)), *options)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert says in line
    assert files_in() == {"scan.png"}
    assert (tmp_path / "scan.png").read_bytes() == image


def test_a_damaged_model_is_refused(run, model, save, heart, files_in, tmp_path):
    path = save(tmp_path / "scan.png", heart()[0])
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(model.read_bytes()[:-1000])
    result = run("segment", path, "--model", damaged)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "damaged.safetensors" in result.stderr
    assert files_in() == {"scan.png", "damaged.safetensors"}
