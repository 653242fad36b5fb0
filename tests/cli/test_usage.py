"""Numbers and names that make no sense end in one sentence and exit code 2, and flat scans in exit code 1."""

import re

import numpy as np
import phantoms
import pytest


@pytest.mark.parametrize("rate", ["-1", "0", "nan", "inf"])
def test_a_learning_rate_is_positive(run, save, tmp_path, rate):
    path = save(tmp_path / "map.tif", phantoms.probabilities(phantoms.disc().mask).astype(np.float32))
    refine = ("refine", path, "--input-type", "probabilities", "--betti", "2,0", "--method", "voxels")
    for command in (refine, ("train", tmp_path, "--output", tmp_path / "net.safetensors")):
        result = run(*command, "--learning-rate", rate)
        assert (result.exit_code, result.stdout) == (2, "")
        assert re.fullmatch(r"topofix: --learning-rate: expected a positive number, got \S+\n", result.stderr)
    assert [file.name for file in tmp_path.iterdir()] == ["map.tif"]


def test_the_weight_of_topology_is_finite(run, save, tmp_path):
    path = save(tmp_path / "map.tif", phantoms.probabilities(phantoms.disc().mask).astype(np.float32))
    arguments = ("--input-type", "probabilities", "--betti", "2,0", "--topology-weight", "inf")
    result = run("refine", path, *arguments)
    assert result.exit_code == 2
    assert "--topology-weight: expected a finite number" in result.stderr


@pytest.mark.parametrize("option", ["--threshold", "--min-persistence"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_threshold_is_finite(run, save, tmp_path, option, value):
    path = save(tmp_path / "map.tif", phantoms.probabilities(phantoms.disc().mask).astype(np.float32))
    result = run("barcode", path, "--input-type", "probabilities", option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert option in result.stderr


@pytest.mark.parametrize("names", ["wall,Wall", "wall,", "wall, ,cavity"])
def test_every_label_has_a_name_of_its_own(run, tmp_path, names):
    result = run("train", tmp_path, "--output", tmp_path / "net.safetensors", "--labels", names)
    assert result.exit_code == 2
    assert "--labels: expected a name of its own for every label" in result.stderr


def test_a_mask_of_255_is_no_label_map_to_train_on(run, save, tmp_path):
    for name in ("a", "b"):
        save(tmp_path / f"data/{name}.png", np.indices(phantoms.disc().mask.shape).sum(0).astype(np.uint8))
        save(tmp_path / f"data/{name}_gt.png", np.uint8(phantoms.disc().mask) * 255)
    result = run("train", tmp_path / "data", "--output", tmp_path / "net.safetensors")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "expected the label values 1, 2, ... without a gap, found 255" in result.stderr
    assert not (tmp_path / "net.safetensors").exists()


@pytest.mark.parametrize("value", [0, 200])
@pytest.mark.parametrize("command", ["refine", "segment", "barcode"])
def test_a_flat_scan_is_refused(run, save, model, tmp_path, command, value):
    path = save(tmp_path / "scan.png", np.full((40, 40), value, np.uint8))
    prior = ("--betti", "wall:1,1") if command == "refine" else ()
    result = run(command, path, "--model", model, *prior)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"scan.png: expected a scan, found every voxel equal to {value}" in result.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["scan.png"]
