"""`topofix train`: a checkpoint that says where it comes from, the same one for the same seed."""

import json
import re

import numpy as np
import pytest
import torch

from topofix.learning import network as networks

QUICK = ("--epochs", 1, "--patch-size", "16,16", "--device", "cpu", "--no-augment")


@pytest.fixture
def train(run, small_networks):
    """Runs `topofix train ARGUMENTS...` as shortly as can be."""
    return lambda *arguments: run("train", *arguments, *QUICK)


@pytest.fixture
def data(tmp_path, save, heart):
    """Three labelled images, NAME_gt beside NAME."""
    for number in range(3):
        image, labels = heart(seed=number)
        save(tmp_path / "data" / f"case{number}.png", image)
        save(tmp_path / "data" / f"case{number}_gt.png", labels)
    return tmp_path / "data"


def test_the_checkpoint_says_what_it_is_and_where_it_comes_from(model, hearts):
    checkpoint = networks.load(model)
    config, about = checkpoint.config, checkpoint.about
    assert config == networks.NetworkConfig(2, ("wall", "cavity"), (1.0, 1.0), (32, 32), (4, 8, 8))
    assert about["data"] == f"{hearts.parent.name}/{hearts.name}"
    assert (about["training_cases"], about["validation_cases"]) == (9, 1)
    assert about["licence"] == "CC0-1.0"
    assert about["options"]["epochs"] == 16
    assert about["options"]["learning_rate"] == 0.03
    assert 1 <= about["epoch"] <= 16
    assert set(about["validation_dice"]) == {"wall", "cavity"}
    assert min(about["validation_dice"].values()) > 0.8
    assert "topofix" in about
    assert checkpoint.network(torch.zeros(1, 1, 32, 32)).shape == (1, 3, 32, 32)


def test_progress_goes_to_stderr_and_the_result_to_stdout(train, data, tmp_path):
    result = train(data, "--output", tmp_path / "new" / "net.safetensors")
    assert result.exit_code == 0, result.stderr
    (line,) = result.stdout.splitlines()
    assert line.startswith(
        f"{tmp_path / 'new' / 'net.safetensors'}: best epoch 1 of 1; validation Dice label 1"
    )
    (epoch,) = result.stderr.splitlines()
    assert epoch.startswith("epoch 1: loss ")
    assert networks.read_config(tmp_path / "new" / "net.safetensors")[0].labels == ("label 1", "label 2")


def test_json_is_one_line(train, data, tmp_path):
    result = train(data, "-o", tmp_path / "net.safetensors", "--json", "--labels", "wall, cavity")
    summary = json.loads(result.stdout)
    assert result.stderr == ""
    assert (summary["output"], summary["epoch"]) == (str(tmp_path / "net.safetensors"), 1)
    assert set(summary["validation_dice"]) == {"wall", "cavity"}


def test_quiet_prints_nothing(train, data, tmp_path):
    result = train(data, "-o", tmp_path / "net.safetensors", "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_the_same_seed_gives_the_same_weights(run, small_networks, data, tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("other", 6)):
        output = tmp_path / f"{name}.safetensors"
        options = ("--epochs", 2, "--patch-size", "16,16", "--device", "cpu", "--seed", seed, "--quiet")
        assert run("train", data, "--output", output, *options).exit_code == 0
    one, two, other = (
        networks.load(tmp_path / f"{name}.safetensors").network.state_dict()
        for name in ("one", "two", "other")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()


@pytest.mark.parametrize("loss", ["dice", "bce", "mse"])
def test_every_loss_can_be_named(train, data, tmp_path, loss):
    output = tmp_path / "net.safetensors"
    assert train(data, "-o", output, "--loss", loss).exit_code == 0
    assert networks.load(output).about["options"]["loss"] == loss


def test_spacing_and_names_come_from_the_options_or_the_data(train, data, tmp_path):
    (data / "dataset.json").write_text('{"labels": {"background": 0, "muscle": 1, "blood": 2}}')
    for name, options in (("own", ()), ("given", ("--spacing", "2,2", "--labels", "a,b"))):
        assert train(data, "-o", tmp_path / f"{name}.safetensors", *options).exit_code == 0
    own, given = (networks.read_config(tmp_path / f"{name}.safetensors")[0] for name in ("own", "given"))
    assert (own.labels, own.spacing) == (("muscle", "blood"), (1.0, 1.0))
    assert (given.labels, given.spacing) == (("a", "b"), (2.0, 2.0))


def test_overwrite_replaces_a_checkpoint(train, data, tmp_path):
    output = tmp_path / "net.safetensors"
    output.write_text("mine")
    result = train(data, "--output", output)
    assert (result.exit_code, output.read_text()) == (1, "mine")
    assert "net.safetensors" in result.stderr
    assert "--overwrite" in result.stderr
    assert train(data, "--output", output, "--overwrite").exit_code == 0
    networks.load(output)


def other_shape(data, save):
    save(data / "case1_gt.png", np.zeros((9, 9), np.uint8))


def other_label(data, save):
    (data / "dataset.json").write_text('{"labels": {"background": 0, "wall": 1}}')


def fractions(data, save):
    save(data / "case1_gt.tif", np.full((32, 32), 0.5, np.float32))
    save(data / "case1.tif", np.full((32, 32), 0.5, np.float32))


def single_case(data, save):
    for path in data.glob("case[12]*"):
        path.unlink()


def no_image(data, save):
    (data / "case2.png").unlink()


def no_labels(data, save):
    for path in data.glob("*_gt.png"):
        path.unlink()


def damaged(data, save):
    (data / "case2.png").write_bytes((data / "case2.png").read_bytes()[:-30])


def bad_names(data, save):
    (data / "dataset.json").write_text("[1, 2]")


def as_it_is(data, save):
    pass


BAD = {
    "no folder": (as_it_is, ["nowhere", "-o", "net.safetensors"], 1, "nowhere: expected a folder"),
    "a file": (as_it_is, ["data/case0.png", "-o", "net.safetensors"], 1, "case0.png: expected a folder"),
    "no labels": (no_labels, ["data", "-o", "net.safetensors"], 1, "data: expected images/"),
    "no image": (no_image, ["data", "-o", "net.safetensors"], 1, "case2_gt.png.*case2.png"),
    "single case": (
        single_case,
        ["data", "-o", "net.safetensors"],
        1,
        "at least two labelled cases, found 1",
    ),
    "damaged image": (damaged, ["data", "-o", "net.safetensors"], 1, "case2.png"),
    "damaged names": (bad_names, ["data", "-o", "net.safetensors"], 1, "dataset.json"),
    "other shape": (other_shape, ["data", "-o", "net.safetensors"], 1, r"case1.*\(32, 32\).*\(9, 9\)"),
    "label outside": (other_label, ["data", "-o", "net.safetensors"], 1, r"case0.*wall.*got 0, 1, 2"),
    "fraction": (fractions, ["data", "-o", "net.safetensors"], 1, "case1.*whole numbers as labels"),
    "no suffix": (as_it_is, ["data", "-o", "net.pt"], 1, r"net.pt.*\.safetensors"),
    "parent is a file": (as_it_is, ["data", "-o", "data/case0.png/net.safetensors"], 1, "case0.png"),
    "unknown device": (
        as_it_is,
        ["data", "-o", "net.safetensors", "--device", "abacus"],
        1,
        "--device.*'abacus'",
    ),
    "volumes wanted": (
        as_it_is,
        ["data", "-o", "net.safetensors", "--dimensions", "3"],
        2,
        "--patch-size.*3",
    ),
    "bad spacing": (as_it_is, ["data", "-o", "net.safetensors", "--spacing", "1,0"], 2, "--spacing.*'1,0'"),
    "one spacing": (
        as_it_is,
        ["data", "-o", "net.safetensors", "--spacing", "1"],
        2,
        "--spacing.*2 positive",
    ),
    "odd patch": (as_it_is, ["data", "-o", "net.safetensors", "--patch-size", "15,16"], 1, "--patch-size"),
}


@pytest.mark.parametrize(("change", "arguments", "exit_code", "says"), BAD.values(), ids=BAD)
def test_what_cannot_be_done_is_one_sentence_and_no_file(
    run, small_networks, data, save, files_in, tmp_path, monkeypatch, change, arguments, exit_code, says
):
    monkeypatch.chdir(tmp_path)
    change(data, save)
    before = files_in()
    result = run("train", *QUICK, *arguments)
    assert result.exit_code == exit_code, result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert re.search(says, line), line
    assert files_in() == before


def test_images_cannot_train_a_network_for_volumes(run, small_networks, data, files_in, tmp_path):
    before = files_in()
    result = run("train", data, "-o", tmp_path / "net.safetensors", "--dimensions", 3)
    assert (result.exit_code, files_in()) == (1, before)
    (line,) = result.stderr.splitlines()
    assert "3-D network" in line
