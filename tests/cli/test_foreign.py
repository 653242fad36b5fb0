"""`--model their.toml --trust-model`: somebody else's network in every command, and none without trust."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from topofix.imaging.volumes import read

SIDE = 32


def bright(dimensions: int = 2) -> nn.Module:
    """One logit: how bright the surroundings of a voxel are; made of two layers, so that weights matter."""
    convolution = nn.Conv2d if dimensions == 2 else nn.Conv3d
    network = nn.Sequential(convolution(1, 2, 3, padding=1), nn.ReLU(), convolution(2, 1, 1))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network[0].weight[0], network[0].weight[1] = 3.0**-dimensions, -(3.0**-dimensions)
        network[2].weight[0, 0], network[2].weight[0, 1] = 4.0, -4.0
        network[2].bias.fill_(-3.0)
    return network.eval()


def program(folder: Path, kind: str = "script", dimensions: int = 2, **changes) -> Path:
    """A program and its TOML, which is returned."""
    folder.mkdir(exist_ok=True, parents=True)
    network, patch = bright(dimensions), [16] * dimensions
    if kind == "export":
        file = folder / "model.pt2"
        torch.export.save(torch.export.export(network, (torch.zeros(1, 1, *patch),)), file)
    else:
        file = folder / "model.ts"
        scripted = torch.jit.script(network)
        (torch.jit.freeze(scripted) if kind == "frozen" else scripted).save(file)
    values = {"weights": file.name, "dimensions": dimensions, "labels": ["ring"], "patch_size": patch}
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**values, **changes}.items()]
    path = folder / "their.toml"
    path.write_text("\n".join(lines), "utf-8")
    return path


def open_ring(seed: int = 0) -> np.ndarray:
    """A bright ring with a gap that is merely less bright, on noise; uint8."""
    rows, columns = np.indices((SIDE, SIDE)) - SIDE / 2
    distance = np.hypot(rows, columns)
    image = np.where((distance > 6) & (distance < 11), 200.0, 40.0)
    gap = (np.abs(rows) < 2.5) & (columns > 0) & (image > 100)
    image[gap] = 110
    return (image + np.random.default_rng(seed).normal(0, 3, image.shape)).astype(np.uint8)


@pytest.fixture
def scan(save, tmp_path) -> Path:
    return save(tmp_path / "scan.png", open_ring())


@pytest.mark.parametrize("kind", ["script", "export"])
@pytest.mark.parametrize(
    ("method", "stages"), [("voxels", ["voxels"]), ("weights", ["weights"]), ("auto", ["voxels"])]
)
def test_refine_closes_what_their_network_leaves_open(run, scan, count, tmp_path, kind, method, stages):
    model = program(tmp_path / "model", kind)
    rate = ("--learning-rate", 0.02) if method == "weights" else ()
    arguments = ("--betti", "ring:1,1", "--method", method, "--device", "cpu", *rate)
    result = run("refine", scan, "--model", model, "--trust-model", *arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    record = json.loads((tmp_path / "scan_refined.json").read_text("utf-8"))
    (topology,) = record["topology"]
    assert (topology["region"], topology["before"], topology["after"]) == ("ring", [1, 0], [1, 1])
    assert count(read(tmp_path / "scan_refined.png").array) == (1, 1)
    assert (record["outcome"], record["model"]) == ("satisfied", "their")
    assert record["request"]["trust_model"] is True
    assert record["stages"] == stages


@pytest.mark.parametrize("command", ["refine", "segment", "barcode"])
@pytest.mark.parametrize("kind", ["script", "export"])
def test_nothing_runs_and_nothing_is_written_without_trust(run, scan, files_in, tmp_path, command, kind):
    model = program(tmp_path / "model", kind)
    before = files_in()
    prior = ("--betti", "1,1") if command == "refine" else ()
    for trusted in (False, True):  # what was trusted once is not trusted for good
        result = run(command, scan, "--model", model, *prior, *(("--trust-model",) if trusted else ()))
        assert (result.exit_code == 1) == (not trusted)
        if not trusted:
            assert files_in() == before
    for path in tmp_path.glob("scan_*"):
        path.unlink()
    result = run(command, scan, "--model", model, *prior)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "their.toml: loading 'model." in line
    assert "--trust-model" in line
    assert files_in() == before


def test_segment_and_barcode_see_what_their_network_says(run, scan, tmp_path):
    model = program(tmp_path / "model")
    result = run("segment", scan, "--model", model, "--trust-model", "--device", "cpu")
    assert (result.exit_code, result.stderr) == (0, "")
    written = read(tmp_path / "scan_seg.png").array
    array = open_ring().astype(np.float64)
    array = array.clip(*np.percentile(array, [0.5, 99.5]))
    image = torch.from_numpy(((array - array.mean()) / array.std()).astype(np.float32))
    with torch.no_grad():  # their patches of 16 are joined again, so that only their borders may differ
        expected = bright()(image[None, None])[0, 0].numpy() > 0
    assert (written == expected).mean() > 0.97
    result = run("barcode", scan, "--model", model, "--trust-model", "--betti", "1,1", "--device", "cpu")
    assert result.exit_code == 3
    assert "1,0" in result.stdout


@pytest.mark.parametrize("spacing", [None, [1.0, 1.0]])
def test_slices_of_a_stack_keep_their_voxels_or_are_resampled(run, save, count, tmp_path, spacing):
    stack = np.stack([open_ring(seed) for seed in range(3)])
    path = save(tmp_path / "stack.nii.gz", stack.astype(np.float32), spacing=(8.0, 2.0, 2.0))
    model = program(tmp_path / "model", **({"spacing": spacing} if spacing else {}))
    prior = ("--betti", "1,1", "--method", "voxels", "--device", "cpu")
    result = run("refine", path, "--model", model, "--trust-model", *prior)
    assert (result.exit_code, result.stderr) == (0, "")
    written = read(tmp_path / "stack_refined.nii.gz").array
    assert written.shape == stack.shape
    assert [count(labels) for labels in written] == [(1, 1)] * 3
    assert (written == (stack > 70)).mean() > 0.9  # and each slice is where it was


def test_a_volume_through_a_network_of_three_dimensions(run, save, count, tmp_path):
    ring = np.repeat(open_ring()[:, :, None], 12, axis=2).astype(np.float32)
    path = save(tmp_path / "scan.nii.gz", ring)
    model = program(tmp_path / "model", dimensions=3)
    prior = ("--betti", "1,1,0", "--device", "cpu")
    result = run("refine", path, "--model", model, "--trust-model", *prior)
    assert (result.exit_code, result.stderr) == (0, "")
    assert count(read(tmp_path / "scan_refined.nii.gz").array) == (1, 1, 0)


def test_a_flat_image_is_refused_for_a_network_of_three_dimensions(run, scan, tmp_path):
    model = program(tmp_path / "model", dimensions=3)
    result = run("segment", scan, "--model", model, "--trust-model")
    assert result.exit_code == 1
    assert "expected a volume for a 3-D model, got a 2-D image" in result.stderr


def test_fixed_weights_leave_the_voxels(run, scan, count, files_in, tmp_path):
    model = program(tmp_path / "model", "frozen")
    before = files_in()
    arguments = ("refine", scan, "--model", model, "--trust-model", "--betti", "1,1", "--device", "cpu")
    result = run(*arguments, "--method", "weights")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "--method weights: expected a network to adapt" in line
    assert "try --method voxels" in line
    assert files_in() == before
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "scan_refined.json").read_text("utf-8"))
    assert record["stages"] == ["voxels"]
    assert count(read(tmp_path / "scan_refined.png").array) == (1, 1)


def test_another_file_under_the_same_name_is_noticed(run, scan, tmp_path):
    model = program(tmp_path / "model")
    arguments = ("segment", scan, "--model", model, "--trust-model", "--overwrite", "--device", "cpu")
    assert run(*arguments).exit_code == 0
    first = read(tmp_path / "scan_seg.png").array
    network = bright()
    with torch.no_grad():
        network[2].bias.fill_(99.0)
    torch.jit.script(network).save(model.with_name("model.ts"))
    assert run(*arguments).exit_code == 0
    assert read(tmp_path / "scan_seg.png").array.min() == 1 > first.min()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": ["a", "b"]}, "expected logits of shape (1, 3, 16, 16), found (1, 1, 16, 16)"),
        ({"weights": "gone.ts"}, "expected the file 'gone.ts' beside it, found none"),
        ({"dimensions": 5}, "expected dimensions to be 2 or 3, found 5"),
    ],
)
def test_what_is_wrong_is_one_sentence_and_no_file(run, scan, files_in, tmp_path, changes, says):
    model = program(tmp_path / "model", **changes)
    before = files_in()
    result = run("segment", scan, "--model", model, "--trust-model")
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert says in line
    assert files_in() == before


def test_our_own_models_need_no_trust_and_do_not_mind_it(run, model, save, heart, tmp_path):
    path = save(tmp_path / "scan.png", heart()[0])
    for flag in ((), ("--trust-model", "--overwrite")):
        assert run("segment", path, "--model", model, *flag).exit_code == 0
