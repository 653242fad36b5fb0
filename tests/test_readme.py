"""Every command and every line of Python in the README runs as it stands."""

import re
import shlex
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from topofix.cli import app

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


CODE = [block for block in blocks("python") if "dask_jobqueue" not in block]
CLUSTERS = [block for block in blocks("python") if "dask_jobqueue" in block]
COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has: the sample data, and a few files of the names that the README uses."""
    folder = tmp_path_factory.mktemp("clone")
    shutil.copytree(ROOT / "sample_data", folder / "sample_data")
    (folder / "scans").mkdir()
    shutil.copy(ROOT / "sample_data/hippocampus.nii.gz", folder / "scans/first.nii.gz")
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48]
    for kind in ("images", "labels"):
        (folder / "my_data" / kind).mkdir(parents=True)
    for case in range(6):
        disc = np.hypot(rows - 24 - case, columns - 22) < 10
        image = disc * 2.0 + generator.normal(0, 0.3, disc.shape)
        for kind, array in (("images", image.astype(np.float32)), ("labels", disc.astype(np.uint8))):
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / "my_data" / kind / f"{case}.nii.gz")
    rows_of = [f"my_data/images/{n}.nii.gz,{f'my_data/labels/{n}.nii.gz' if n > 1 else ''}" for n in range(6)]
    (folder / "cases.csv").write_text("\n".join(["image,label", *rows_of]) + "\n")
    shutil.copy(folder / "my_data/images/0.nii.gz", folder / "scan.nii.gz")
    (folder / "maps").mkdir()
    for case in range(8):
        noise = gaussian_filter(np.random.default_rng(case).normal(size=(32, 32)), 2)
        field = (noise - noise.min()) / np.ptp(noise)
        nib.save(nib.Nifti1Image(field.astype(np.float32), np.eye(4)), folder / f"maps/{case}.nii.gz")
    study = [f"maps/{case}.nii.gz,1,{case % 2}" for case in range(8)]
    (folder / "study.csv").write_text("\n".join(["probabilities,b0,b1", *study]) + "\n")
    return folder


def test_there_are_commands_and_code_to_run() -> None:
    assert (len(CODE), len(CLUSTERS), len(blocks("yaml"))) == (2, 1, 1)
    assert len(COMMANDS) >= 9
    used = {shlex.split(line)[1] for line in COMMANDS if line.startswith("topofix")}
    assert used == {"refine", "segment", "barcode", "train"}


@pytest.mark.parametrize("line", COMMANDS)
def test_command(line: str, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(clone)
    program, *arguments = shlex.split(line, comments=True)
    if program == "torchrun":  # as one process here; tests/learning/test_distributed.py starts two
        arguments = [*arguments[arguments.index("topofix") + 1 :], "--overwrite"]
    else:
        assert program == "topofix"
    if "train" in arguments:
        arguments += ["--epochs", "1", "--topology-epochs", "1", "--overwrite"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == (3 if "# exit code 3" in line else 0), result.output
    if "--output" in arguments:
        assert Path(arguments[arguments.index("--output") + 1]).exists()


def test_a_cluster_is_told_options_that_there_are() -> None:
    for block in (*blocks("yaml"), *CLUSTERS):
        (words,) = re.findall(r"topofix\W+refine.*", block, re.DOTALL)
        for option in re.findall(r"--[a-z-]+", words):
            assert option in CliRunner().invoke(app, ["refine", "--help"]).output, option


@pytest.mark.parametrize("code", CODE)
def test_python(
    code: str, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(clone)
    exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_quick_start_is_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
