"""The README's section on cohorts, followed word for word in a shell, on a folder of 100 maps."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
from faults.cohorts import FULL
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
CASES = 100

pytestmark = pytest.mark.skipif(not FULL, reason="in `make test-faults`; tests/test_readme.py has 8 maps")


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """What the section supposes: `maps/` and `study.csv`."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "maps").mkdir()
    rows = ["probabilities,b0,b1"]
    for case in range(CASES):
        noise = ndimage.gaussian_filter(np.random.default_rng(case).normal(size=(48, 48)), 2)
        field = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(field, np.eye(4)), folder / f"maps/case{case:03}.nii.gz")
        rows.append(f"maps/case{case:03}.nii.gz,1,{case % 2}")
    (folder / "study.csv").write_text("\n".join(rows) + "\n")
    return folder


def lines() -> list[str]:
    section = (ROOT / "README.md").read_text("utf-8").split("### Cohorts and clusters")[1].split("\n### ")[0]
    return [
        line for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) for line in block.splitlines()
    ]


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def test_followed_word_for_word(study):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    said = {}
    for line in lines():
        ended = subprocess.run(
            ["bash", "-c", line],
            cwd=study,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, (line, ended.stdout, ended.stderr)
        said[line] = ended.stdout
    again = next(line for line in lines() if "done before" in line)
    assert f"{CASES} of {CASES} cases had been done before" in said[again]
    for folder, cases in (("fixed", CASES), ("study", CASES), ("array", CASES // 20), ("dask", CASES)):
        (table,) = (study / folder).glob("summary*.csv")
        rows = rows_of(study / folder, table.name)
        assert {row["outcome"] for row in rows} <= {"satisfied", "unchanged"}
        assert len({row["input"] for row in rows}) == len(rows) == cases
        assert len(list((study / folder).rglob("*_refined.nii.gz"))) == cases
        assert json.loads(table.with_suffix(".json").read_text())["finished"] == cases
    for one in sorted((study / "fixed").rglob("*.nii.gz")):
        other = study / "dask" / one.relative_to(study / "fixed")
        np.testing.assert_array_equal(nibabel.load(one).get_fdata(), nibabel.load(other).get_fdata())
