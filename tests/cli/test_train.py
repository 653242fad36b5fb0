"""`topofix train`: a checkpoint that says where it comes from, the same whatever happens on the way."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from topofix.imaging import datasets
from topofix.learning import network as networks
from topofix.learning import turns
from topofix.learning.training_state import METADATA_KEY

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
    assert config == networks.NetworkConfig(2, ("wall", "cavity"), (1.0, 1.0), (32, 32), (8, 16, 16))
    assert about["data"] == f"{hearts.parent.name}/{hearts.name}"
    assert (about["training_cases"], about["validation_cases"]) == (9, 1)
    assert about["licence"] == "CC0-1.0"
    assert about["options"]["epochs"] == 24
    assert about["options"]["learning_rate"] == 0.01
    assert 1 <= about["epoch"] <= 24
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


def unlabelled(data, save):
    """images/ and labels/, the last without a label map."""
    for kind, ending in (("images", ".png"), ("labels", "_gt.png")):
        (data / kind).mkdir()
        for number in range(3):
            (data / f"case{number}{ending}").rename(data / kind / f"case{number}.png")
    save(data / "images" / "case9.png", np.full((32, 32), 50, np.uint8))


def same_names(data, save):
    (data / "other").mkdir()
    (data / "other" / "case1.png").write_bytes((data / "case1.png").read_bytes())
    rows = [f"case{number}.png,case{number}_gt.png" for number in range(3)]
    (data / "cases.csv").write_text("\n".join(["image,label", *rows, "other/case1.png,", ""]))
    (data / "priors.csv").write_text("case,b0,b1\ncase1,1,0\n")


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


def negative(data, save):
    for kind in ("", "_gt"):
        save(data / f"case1{kind}.tif", np.full((32, 32), -1, np.float32))


def bad_names(data, save):
    (data / "dataset.json").write_text("[1, 2]")


def as_it_is(data, save):
    pass


BAD = {
    "no folder": (
        as_it_is,
        ["nowhere", "-o", "net.safetensors"],
        1,
        "nowhere: expected a CSV table or a folder",
    ),
    "a file": (
        as_it_is,
        ["data/case0.png", "-o", "net.safetensors"],
        1,
        r"case0.png: expected a CSV table or a folder.*'\.png'",
    ),
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
    "fraction": (
        fractions,
        ["data", "-o", "net.safetensors"],
        1,
        "case1_gt.tif: expected labels that are whole numbers",
    ),
    "negative": (
        negative,
        ["data", "-o", "net.safetensors"],
        1,
        "case1_gt.tif: expected labels that are whole numbers from 0 on, found -1",
    ),
    "no name": (as_it_is, ["data", "-o", "."], 1, r"\.safetensors"),
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
    "no prior": (
        unlabelled,
        ["data", "-o", "net.safetensors"],
        1,
        r"--betti, --betti-csv or --prior for the cases without labels, found none for 1 of them \(case9\)",
    ),
    "prior for no label": (
        unlabelled,
        ["data", "-o", "net.safetensors", "--betti", "wall:1,1"],
        1,
        r"'wall:1,1': expected one of the labels label 1 \(1\), label 2 \(2\), got 'wall'",
    ),
    "prior for no number": (
        unlabelled,
        ["data", "-o", "net.safetensors", "--betti", "3:1,1"],
        1,
        r"'3:1,1': expected one of the labels .* got '3'",
    ),
    "prior of volumes": (
        unlabelled,
        ["data", "-o", "net.safetensors", "--betti", "1,0,0"],
        1,
        "case.*1,0,0",
    ),
    "a name too many": (
        as_it_is,
        ["data", "-o", "net.safetensors", "--labels", "a,b,c"],
        1,
        r"data: expected voxels of every label in the cases to train on, found none of c \(3\)",
    ),
    "two priors": (
        unlabelled,
        ["data", "-o", "net.safetensors", "--betti", "1,0", "--betti-csv", "priors.csv"],
        2,
        "priors.csv|got both --betti and --betti-csv",
    ),
    "same names": (
        same_names,
        ["data/cases.csv", "-o", "net.safetensors", "--betti-csv", "data/priors.csv"],
        1,
        "priors.csv: expected a name of its own for every case, got .*case1.png and .*other/case1.png",
    ),
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


def test_a_learning_rate_that_is_too_high_is_one_sentence_and_no_network(train, data, tmp_path):
    result = train(data, "-o", tmp_path / "net.safetensors", "--learning-rate", 1e37)
    assert (result.exit_code, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    says = r"topofix: --learning-rate: .* in epoch 1 at the rate 1e\+37; there is no good epoch before it"
    assert re.match(says, line), line
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize(("name", "side"), [("case1.png", 32), ("case9.png", 40)])
def test_an_image_of_too_many_voxels_is_refused(
    name, side, run, small_networks, data, save, files_in, tmp_path
):
    """Of all that have labels, and of those without, which only the training itself reads."""
    unlabelled(data, save)
    save(data / "images" / "case9.png", np.full((40, 40), 50, np.uint8))
    arguments = ("train", data, "-o", tmp_path / "net.safetensors", *QUICK, "--betti", "1+2:1,0")
    arguments += ("--topology-epochs", 1, "--quiet", "--max-voxels")
    before = files_in()
    result = run(*arguments, side**2 - 1)
    assert (result.exit_code, result.stdout, files_in()) == (1, "", before)
    folder, first = ("labels", "case0.png") if side == 32 else ("images", name)
    sentence = (
        f"expected at most {side**2 - 1} voxels, found {side**2} in its header; --max-voxels allows more"
    )
    assert result.stderr == f"topofix: {data / folder / first}: {sentence}\n"
    if side == 40:
        assert run(*arguments, side**2).exit_code == 0


@pytest.fixture
def files_read(monkeypatch) -> list[str]:
    """The image files that are read, in order."""
    read = datasets.read

    def record(path, **how):
        names.append("/".join(path.parts[-2:]))
        return read(path, **how)

    names: list[str] = []
    monkeypatch.setattr(datasets, "read", record)
    return names


def test_images_are_read_once(train, data, save, tmp_path, files_read):
    """The network is planned from label maps alone."""
    unlabelled(data, save)
    result = train(data, "-o", tmp_path / "net.safetensors", "--betti", "1+2:1,0", "--topology-epochs", 1)
    assert result.exit_code == 0, result.stderr
    found = Counter(files_read)
    assert {found[f"images/case{number}.png"] for number in (0, 1, 2, 9)} == {1}
    assert {found[f"labels/case{number}.png"] for number in (0, 1, 2)} == {2}


@pytest.mark.parametrize("spacing", ["", "0.5x2"])
def test_the_spacing_is_the_images_where_label_maps_have_none(train, data, save, heart, tmp_path, spacing):
    """A table's goes before both."""
    rows = ["image,label,spacing"]
    for number in range(3):
        image, _ = heart(seed=number)
        save(data / f"scan{number}.nii.gz", image, spacing=(1.5, 3.0))
        rows.append(f"scan{number}.nii.gz,case{number}_gt.png,{spacing}")
    (data / "cases.csv").write_text("\n".join(rows))
    result = train(data / "cases.csv", "-o", tmp_path / "net.safetensors")
    assert result.exit_code == 0, result.stderr
    config, _ = networks.read_config(tmp_path / "net.safetensors")
    assert config.spacing == ((0.5, 2.0) if spacing else (1.5, 3.0))


def test_a_network_can_see_micrometres(train, data, save, heart, tmp_path):
    for number in range(3):
        for kind, array in zip(("images", "labels"), heart(seed=number), strict=True):
            save(data / kind / f"{number}.nii.gz", array, spacing=(3.26e-4, 0.0625))
    assert train(data, "-o", tmp_path / "net.safetensors").exit_code == 0
    assert networks.read_config(tmp_path / "net.safetensors")[0].spacing == (3.26e-4, 0.0625)


@pytest.mark.parametrize("kind", [".nii.gz", ".png"])
def test_the_spacing_of_a_table_is_that_of_the_plan(train, data, save, heart, tmp_path, kind):
    rows = ["image,label,spacing"]
    for number in range(3):
        for name, array in zip(("scan", "mask"), heart(seed=number), strict=True):
            save(data / f"{name}{number}{kind}", array)
        rows.append(f"scan{number}{kind},mask{number}{kind},0.5x2")
    (data / "cases.csv").write_text("\n".join(rows))
    assert train(data / "cases.csv", "-o", tmp_path / "net.safetensors").exit_code == 0
    assert networks.read_config(tmp_path / "net.safetensors")[0].spacing == (0.5, 2.0)


@pytest.mark.parametrize("arguments", [["nowhere"], ["data", "--labels", "a,a"], ["data", "--device", "no"]])
def test_of_several_processes_the_first_one_says_what_is_wrong(
    arguments, run, small_networks, data, tmp_path, monkeypatch
):
    """The others wait for it, and speak if torchrun has not ended them meanwhile."""
    monkeypatch.chdir(tmp_path)
    command = ("train", *arguments, "-o", "net.safetensors", *(QUICK if "no" not in arguments else ()))
    first = run(*command)
    assert len(first.stderr.splitlines()) == 1

    def end(seconds: float) -> None:
        raise SystemExit(-signal.SIGTERM)

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(turns, "sleep", end)
    ended = run(*command)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (-signal.SIGTERM, "", "")
    monkeypatch.setattr(turns, "sleep", lambda seconds: None)
    late = run(*command)
    assert (late.exit_code, late.stdout, late.stderr) == (first.exit_code, "", first.stderr)


def test_images_cannot_train_a_network_for_volumes(run, small_networks, data, files_in, tmp_path):
    before = files_in()
    result = run("train", data, "-o", tmp_path / "net.safetensors", "--dimensions", 3)
    assert (result.exit_code, files_in()) == (1, before)
    (line,) = result.stderr.splitlines()
    assert "3-D network" in line


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((f"--{name}", 0) for name in ("epochs", "batch-size", "patience", "unlabelled-batches")),
        *((f"--{name}", -1) for name in ("topology-weight", "topology-epochs", "warm-up", "seed")),
        *(
            (f"--{name}", number)
            for name in ("learning-rate", "topology-learning-rate")
            for number in (0, "nan")
        ),
        ("--topology-weight", "inf"),
        ("--loss", "hinge"),
        ("--max-voxels", 0),
        ("--epochs", "many"),
        ("--betti", "one"),
        ("--patch-size", "16"),
    ],
)
def test_an_option_out_of_range_is_a_usage_error(run, data, files_in, tmp_path, option, value):
    before = files_in()
    result = run("train", data, "--output", tmp_path / "net.safetensors", option, value)
    assert (result.exit_code, result.stdout) == (2, "")
    assert option in result.stderr or f"'{value}'" in result.stderr
    assert "Traceback" not in result.stderr
    assert files_in() == before


def test_topology_is_learned_from_images_without_labels(run, small_networks, data, save, tmp_path):
    unlabelled(data, save)
    output = tmp_path / "net.safetensors"
    options = ("--betti", "1+2:1,0", "--topology-epochs", 2, "--topology-weight", 0.1, "--warm-up", 0)
    result = run("train", data, "-o", output, *QUICK, *options, "--unlabelled-batches", 2, "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert 0 <= summary["validation_right"] <= 1
    about = networks.load(output).about
    assert (about["training_cases"], about["unlabelled_cases"], about["prior"]) == (2, 1, "1+2:1,0")
    assert about["options"]["topology_epochs"] == 2
    assert [row["phase"] for row in history(output)] == ["labels", "topology", "topology"]


def test_a_full_disk_is_one_sentence(train, data, tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, os.strerror(28))

    output = tmp_path / "net.safetensors"
    output.write_text("mine")
    monkeypatch.setattr(os, "fsync", full)
    result = train(data, "-o", output, "--overwrite", "--quiet")
    assert (result.exit_code, result.stdout) == (1, "")
    table = tmp_path / "net_training" / "metrics.csv"
    assert result.stderr == f"topofix: {table}: cannot be written (No space left on device)\n"
    assert output.read_text() == "mine"
    assert not list(tmp_path.rglob(".*.part"))


LONG = ("--epochs", 6, "--topology-epochs", 3, "--topology-weight", 0.1, "--betti", "1:1,1")
LONG += (
    "--patch-size",
    "32,32",
    "--batch-size",
    2,
    "--no-augment",
    "--learning-rate",
    0.005,
    "--device",
    "cpu",
)
THREADS = {**os.environ, "OMP_NUM_THREADS": "1"}


def history(output: Path) -> list[dict[str, str]]:
    """The training's table without the time it took."""
    with (output.with_name(f"{output.stem}_training") / "metrics.csv").open(newline="") as file:
        return [{key: cell for key, cell in row.items() if key != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def few(tmp_path_factory, save, heart) -> Path:
    """Six images with labels, and two without."""
    folder = tmp_path_factory.mktemp("few")
    for number in range(8):
        image, labels = heart((15 + number % 3, 17 - number % 2), 8 + number % 2, number)
        save(folder / "images" / f"case{number}.png", image)
        if number < 6:
            save(folder / "labels" / f"case{number}.png", labels)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, run, few) -> Path:
    """The checkpoint of a training that nobody interrupts; of one thread, as the processes below."""
    output = tmp_path_factory.mktemp("undisturbed") / "net.safetensors"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = run("train", few, "--output", output, *LONG, "--quiet")
    torch.set_num_threads(threads)
    assert result.exit_code == 0, result.stderr
    return output


def epochs_in(state: Path) -> int:
    from safetensors import safe_open

    with safe_open(state, framework="pt") as file:
        return len(json.loads(file.metadata()[METADATA_KEY])["progress"]["history"])


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows kills in another way")
def test_a_killed_training_goes_on_to_the_same_end(run, few, undisturbed, tmp_path):
    output, state = tmp_path / "net.safetensors", tmp_path / "net_training" / "state.safetensors"
    arguments = [str(one) for one in ("train", few, "--output", output, *LONG, "--quiet")]
    process = subprocess.Popen([sys.executable, "-m", "topofix", *arguments], env=THREADS)
    deadline = time.monotonic() + 120
    while not output.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait(60) == -signal.SIGKILL, "it was over too soon"
    assert 1 <= epochs_in(state) < 9
    networks.load(output)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = run(*arguments, "--resume")
    torch.set_num_threads(threads)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert history(output) == history(undisturbed)
    assert output.read_bytes() == undisturbed.read_bytes()
    again = run(*arguments[:-1], "--resume")
    assert (again.exit_code, again.stderr) == (0, ""), "nothing was left to do"
    assert re.fullmatch(rf"{re.escape(str(output))}: best epoch \d of 9; validation .*\n", again.stdout)
    other = run(*arguments, "--resume", "--seed", 1)
    assert (other.exit_code, other.stdout) == (1, "")
    sentence = "expected a training of the same request to go on with, found seed 0, now 1"
    assert other.stderr == f"topofix: {state}: {sentence}\n"
    assert output.read_bytes() == undisturbed.read_bytes()


def test_two_processes_train_one_network(few, undisturbed, tmp_path):
    """And one of them speaks and writes."""
    output = tmp_path / "net.safetensors"
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2)
    command = [str(one) for one in (*torchrun, "-m", "topofix", "train", few, "-o", output, *LONG)]
    done = subprocess.run(command, env=THREADS, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{output}: best epoch ")
    epochs = [one for one in done.stderr.splitlines() if one.startswith("epoch ")]
    assert [one.partition(":")[0] for one in epochs] == [f"epoch {number}" for number in range(1, 10)]
    assert [path.name for path in tmp_path.rglob("*.safetensors")] == ["net.safetensors", "state.safetensors"]
    together, alone = (networks.load(path).about for path in (output, undisturbed))
    assert together["options"] == alone["options"]
    for name, score in alone["validation_dice"].items():
        assert together["validation_dice"][name] == pytest.approx(score, abs=0.1)
    found, expected = ([float(row["loss"]) for row in history(path)] for path in (output, undisturbed))
    assert found == pytest.approx(expected, rel=0.3)
