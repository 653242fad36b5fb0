"""What other networks and people bring: probability files of any layout, logits, label maps."""

import json

import nibabel as nib
import numpy as np
import phantoms
import pytest

from topofix.api import refine
from topofix.topology.persistence import betti

AFFINE = np.diag([-1.3, -1.3, 8.0, 1.0])
SHAPE = (20, 22, 3)


def rings() -> np.ndarray:
    """Probability of a ring in each of three slices (x, y, z); a gap in all, a speck in the last."""
    field = np.where(phantoms.ring().mask, 0.9, 0.1).astype(np.float32)
    field[10:12, 12:20] = np.where(field[10:12, 12:20] > 0.5, 0.35, 0.1)
    stack = np.repeat(field[..., None], 3, axis=2)
    stack[1:3, 1:3, 2] = 0.65
    return stack


def drawn(defect: str) -> np.ndarray:
    """A label map of two discs, (2, 0), with a defect made by hand."""
    mask = phantoms.two_discs().mask.astype(np.uint8)
    if defect == "bridge":
        mask[7:9, 5:24] = 1
    if defect == "hole":
        mask[8, 7] = 0
    if defect == "speck":
        mask[0:2, 14:16] = 1
    return mask


def counts(path) -> list[tuple[int, ...]]:
    """Betti numbers of every slice of a label map, read independently."""
    labels = np.asarray(nib.load(path).dataobj)
    return [betti(labels[..., k] > 0) for k in range(labels.shape[-1])]


@pytest.fixture
def folder(tmp_path):
    """One prediction as a map, as a softmax along either end, as logits and as nnU-Net writes it."""
    field = rings()
    softmax = np.stack([1 - field, field])
    logits = np.log(softmax[1] / softmax[0])
    made = {
        "map": field,
        "last": np.moveaxis(softmax, 0, -1),
        "first": softmax,
        "logits": logits,
    }
    for name, array in made.items():
        nib.save(nib.Nifti1Image(array.astype(np.float32), AFFINE), tmp_path / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), AFFINE), tmp_path / "like.nii.gz")
    np.savez_compressed(tmp_path / "nnunet.npz", probabilities=softmax.transpose(0, 3, 2, 1))
    return tmp_path


def refined(run, folder, file, *options, prior="1:1,1"):
    """The label map that `refine` makes of a file of probabilities, and its Record."""
    output = folder / f"{file.split('.')[0]}_out.nii.gz"
    result = run(
        "refine", folder / file, "--input-type", "probabilities", "--betti", prior, *options,
        "--output", output, "--slice-axis", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return nib.load(output), json.loads(output.with_name(output.name.replace(".nii.gz", ".json")).read_text())


def test_one_prediction_ends_alike_whatever_file_it_came_in(run, folder):
    like = ("--like", folder / "like.nii.gz")
    npz, record = refined(run, folder, "nnunet.npz", *like)
    assert "nnU-Net" in record["layout"]
    for file in ("first.nii.gz", "last.nii.gz"):
        image, record = refined(run, folder, file)
        assert file.split(".")[0] in record["layout"]
        np.testing.assert_array_equal(image.dataobj, npz.dataobj)
    for labels in (npz, image):
        assert labels.shape == SHAPE
        np.testing.assert_allclose(labels.affine, AFFINE, atol=1e-6)  # a header holds float32
    assert counts(folder / "nnunet_out.nii.gz") == [(1, 1)] * 3
    field = rings()
    in_memory = refine(np.stack([1 - field, field]), "1:1,1", spacing=(1.3, 1.3, 8.0), channel_axis=0)
    np.testing.assert_array_equal(in_memory.labels, npz.dataobj)


def test_a_single_map_and_its_logits_end_alike(run, folder):
    single, record = refined(run, folder, "map.nii.gz", prior="1,1")
    assert record["layout"] == "single map"
    logits, _ = refined(run, folder, "logits.nii.gz", "--logits", prior="1,1")
    np.testing.assert_array_equal(single.dataobj, logits.dataobj)
    assert counts(folder / "map_out.nii.gz") == [(1, 1)] * 3


def test_logits_that_are_not_said_to_be_some_are_refused(run, folder):
    output = folder / "out.nii.gz"
    result = run(
        "refine", folder / "logits.nii.gz", "--input-type", "probabilities", "--betti", "1,1", "-o", output
    )
    assert result.exit_code == 1
    assert "logits.nii.gz: expected probabilities from 0 to 1" in result.stderr
    assert not output.exists()


def test_barcode_reads_the_same_files(run, folder):
    options = ("--input-type", "probabilities", "--label", "1", "--slice-axis", 2, "--json")
    files = [(folder / "first.nii.gz",), (folder / "nnunet.npz", "--like", folder / "like.nii.gz")]
    found = [json.loads(run("barcode", *file, *options).stdout)["topology"] for file in files]
    assert found[0] == found[1]
    assert [row["after"] for row in found[0]] == [[1, 0], [1, 0], [2, 0]]


@pytest.mark.parametrize(("defect", "least", "most"), [("bridge", 4, 30), ("hole", 1, 8), ("speck", 4, 8)])
def test_a_drawn_mask_is_corrected_and_left_alone_elsewhere(run, save, tmp_path, defect, least, most):
    mask = drawn(defect)
    assert betti(mask) != (2, 0)
    path = save(tmp_path / "mask.nii.gz", mask)
    output = tmp_path / "out.nii.gz"
    result = run("refine", path, "--input-type", "labels", "--betti", "2,0", "--output", output)
    assert result.exit_code == 0, result.stderr
    labels = np.asarray(nib.load(output).dataobj).reshape(mask.shape)
    assert betti(labels) == (2, 0)
    assert least <= np.count_nonzero(labels != mask) <= most
    # what changed lies where the hand had been
    hand = np.argwhere(mask != phantoms.two_discs().mask)
    changed = np.argwhere(labels != mask)
    assert np.linalg.norm(changed[:, None] - hand, axis=2).min(1).max() <= 5


def test_other_labels_of_a_drawn_mask_stay(run, save, tmp_path):
    mask = drawn("hole") * np.uint8(2)
    mask[14:16, 12:16] = 1
    output = tmp_path / "out.nii.gz"
    path = save(tmp_path / "mask.nii.gz", mask)
    run("refine", path, "--input-type", "labels", "--betti", "2:2,0", "--output", output)
    labels = np.asarray(nib.load(output).dataobj).reshape(mask.shape)
    assert betti(labels == 2) == (2, 0)
    np.testing.assert_array_equal(labels == 1, mask == 1)


def test_a_mask_that_is_right_is_written_as_it_was(run, save, tmp_path):
    mask = phantoms.two_discs().mask.astype(np.uint8)
    path, output = save(tmp_path / "mask.nii.gz", mask), tmp_path / "out.nii.gz"
    assert run("refine", path, "--input-type", "labels", "--betti", "2,0", "-o", output).exit_code == 0
    np.testing.assert_array_equal(np.asarray(nib.load(output).dataobj).reshape(mask.shape), mask)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--softness", 0), "--softness: expected a positive number"),
        (("--betti", "3:1,0"), "expected one of the labels 1 (1), got '3'"),
        (("--betti", "1,0,0"), "expected a prior of 2 numbers"),
    ],
)
def test_what_a_label_map_cannot_give_is_refused(run, save, tmp_path, options, sentence):
    path, output = save(tmp_path / "mask.nii.gz", drawn("hole")), tmp_path / "out.nii.gz"
    prior = () if "--betti" in options else ("--betti", "2,0")
    result = run("refine", path, "--input-type", "labels", *prior, *options, "--output", output)
    assert result.exit_code in (1, 2)
    assert sentence in " ".join(result.stderr.split())
    assert not output.exists()


@pytest.fixture
def cine(tmp_path):
    """A label map (x, y, z, t) of rings: whole in frame 0, with a gap in frames 1 and 2."""
    ring = np.repeat(phantoms.ring().mask.astype(np.uint8)[..., None], 2, axis=2)
    gap = ring.copy()
    gap[10, 12:20] = 0
    path = tmp_path / "cine.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([ring, gap, gap], -1), AFFINE), path)
    return path


def test_a_series_is_refined_frame_by_frame(run, cine):
    result = run("refine", cine, "--input-type", "labels", "--betti", "1,1")
    assert result.exit_code == 0, result.stderr
    output = nib.load(cine.with_name("cine_refined.nii.gz"))
    before, after = np.asarray(nib.load(cine).dataobj), np.asarray(output.dataobj)
    assert after.shape == before.shape
    np.testing.assert_allclose(output.affine, AFFINE, atol=1e-6)
    np.testing.assert_array_equal(after[..., 0], before[..., 0])
    assert all(betti(after[:, :, k, t]) == (1, 1) for k in range(2) for t in range(3))
    record = json.loads(cine.with_name("cine_refined.json").read_text())
    assert [(row["frame"], row["slice"]) for row in record["topology"]] == [
        (t, k) for t in range(3) for k in range(2)
    ]
    assert record["voxels_changed"] == np.count_nonzero(before != after)


def test_a_table_may_speak_of_some_frames(run, cine, tmp_path):
    table = tmp_path / "priors.csv"
    table.write_text("case,frame,b0,b1\ncine,1,1,1\n")
    result = run("refine", cine, "--input-type", "labels", "--betti-csv", table)
    assert result.exit_code == 0, result.stderr
    after = np.asarray(nib.load(cine.with_name("cine_refined.nii.gz")).dataobj)
    assert [betti(after[:, :, 0, t]) for t in range(3)] == [(1, 1), (1, 1), (1, 0)]


def test_barcode_measures_a_series_and_writes_the_priors_that_it_has(run, cine, tmp_path):
    table, bars = tmp_path / "drawn.csv", tmp_path / "bars.csv"
    options = ("--input-type", "labels", "--slice-axis", 2)
    result = run("barcode", cine, *options, "--write-csv", table, "--csv", bars)
    assert result.exit_code == 0, result.stderr
    assert "cine.nii.gz, frame 1, slice 0" in result.stdout
    assert "frame" in table.read_text().splitlines()[0]
    assert '"cine.nii.gz, frame 2"' in bars.read_text()
    checked = run("barcode", cine, *options, "--betti-csv", table, "--json")
    assert checked.exit_code == 0, checked.stderr
    rows = json.loads(checked.stdout)["topology"]
    assert [(row["frame"], row["slice"], row["after"], row["met"]) for row in rows] == [
        (t, k, [1, 1] if t == 0 else [1, 0], True) for t in range(3) for k in range(2)
    ]
    assert run("barcode", cine, *options, "--betti", "1,1").exit_code == 3


def test_a_table_that_speaks_of_no_frame_is_refused(run, cine, tmp_path):
    table = tmp_path / "priors.csv"
    table.write_text("case,frame,b0,b1\ncine,7,1,1\n")
    result = run("refine", cine, "--input-type", "labels", "--betti-csv", table)
    assert result.exit_code == 1
    assert "expected a row for cine.nii.gz, found none" in " ".join(result.stderr.split())
    assert not cine.with_name("cine_refined.nii.gz").exists()


@pytest.mark.parametrize("name", ["out.png", "out.npy", "out.jpg"])
def test_an_output_that_cannot_hold_the_result_is_refused_before_anything_is_done(run, folder, name):
    before = sorted(folder.iterdir())
    result = run(
        "refine", folder / "map.nii.gz", "--input-type", "probabilities", "--betti", "1,1",
        "--save-probabilities", "--output", folder / name,
    )  # fmt: skip
    assert result.exit_code in (1, 2)
    assert "expected a" in result.stderr
    assert sorted(folder.iterdir()) == before


def test_a_table_cell_or_prior_of_many_digits_is_refused_in_a_sentence(run, folder, tmp_path):
    table = tmp_path / "priors.csv"
    table.write_text(f"case,slice,b0,b1\nmap,{'9' * 5000},1,1\n")
    for prior in (("--betti", "9" * 5000 + ",0"), ("--betti", "9" * 5000 + ":1,0"), ("--betti-csv", table)):
        result = run("refine", folder / "map.nii.gz", "--input-type", "probabilities", *prior)
        assert result.exit_code in (1, 2)
        assert not (folder / "map_refined.nii.gz").exists()
        assert "expected" in result.stderr
