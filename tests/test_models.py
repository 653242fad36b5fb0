"""The bundled models on the sample scans and, where the development data are at hand, on real ones."""

import csv
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from topofix.imaging.tables import read_priors
from topofix.learning.network import bundled, load, read_config
from topofix.pipeline import refine, segment
from topofix.records import CaseOptions, Outcome
from topofix.request import PriorRequest
from topofix.topology.persistence import betti
from topofix.topology.regions import dice

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ROOT / "sample_data"
DATA = Path(os.environ.get("TOPOFIX_DATA", ROOT.parent / "shared/data"))
NAMES = ("cardiac-sax-2d", "hippocampus-3d")


def array(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def is_ring(mask: np.ndarray) -> bool:
    """One component and one hole, counted by SciPy alone."""
    padded = np.pad(mask, 1)
    return ndimage.label(padded, np.ones((3, 3)))[1] == 1 and ndimage.label(~padded)[1] == 2


@pytest.mark.parametrize("name", NAMES)
def test_model_and_card(name: str) -> None:
    path = bundled()[name]
    assert path.stat().st_size < 8e6
    config, about = read_config(path)
    card = (path.parent / f"{name}.md").read_text(encoding="utf-8")
    assert about["licence"] in card
    assert "topofix train" in card
    assert all(label in card for label in config.labels)
    assert load(name).config == config


def test_short_axis_sample_is_segmented_with_an_error_that_refine_corrects(tmp_path: Path) -> None:
    scan, truth = SAMPLES / "short_axis.nii.gz", array(SAMPLES / "truth/short_axis.nii.gz")
    record = segment(scan, tmp_path / "seg.nii.gz")
    assert record.model == "cardiac-sax-2d"
    before = array(tmp_path / "seg.nii.gz")
    assert all(dice(before == label, truth == label) > 0.7 for label in (1, 2, 3))
    request = PriorRequest(table=read_priors(SAMPLES / "short_axis_priors.csv"))
    record = refine(scan, tmp_path / "ref.nii.gz", request)
    assert record.outcome is Outcome.SATISFIED
    wrong = [part.slice for part in record.topology if not part.met_before]
    assert wrong
    after = array(tmp_path / "ref.nii.gz")
    for part in record.topology:
        wall = after[..., part.slice] == 2
        assert is_ring(wall) if part.requested == "1,1" else not wall.any()
        if part.slice not in wrong:
            assert (before[..., part.slice] == after[..., part.slice]).all()
    assert dice(after == 2, truth == 2) > dice(before == 2, truth == 2) - 0.01


def test_hippocampus_sample_is_segmented_with_an_error_that_refine_corrects(tmp_path: Path) -> None:
    scan, truth = SAMPLES / "hippocampus.nii.gz", array(SAMPLES / "truth/hippocampus.nii.gz")
    segment(scan, tmp_path / "seg.nii.gz")
    before = array(tmp_path / "seg.nii.gz") > 0
    assert dice(before, truth > 0) > 0.7
    assert betti(before) != (1, 0, 0)
    record = refine(scan, tmp_path / "ref.nii.gz", PriorRequest(("1,0,0",)))
    assert record.outcome is Outcome.SATISFIED
    assert record.model == "hippocampus-3d"
    after = array(tmp_path / "ref.nii.gz") > 0
    assert betti(after) == (1, 0, 0)
    assert dice(after, truth > 0) > dice(before, truth > 0) - 0.01


def test_benchmark_table_is_in_the_cards() -> None:
    results = json.loads((ROOT / "benchmarks/bundled_models.json").read_text())["results"]
    for result in results:
        card = (ROOT / f"models/{result['model']}.md").read_text(encoding="utf-8")
        assert result["right_after"] > result["right_before"]
        for key in ("dice_before", "dice_after"):
            for value in result[key]:
                assert f"{value:.3f}" in card


needs_data = pytest.mark.skipif(
    not (DATA / "acdc/test").is_dir(), reason="development data not found; TOPOFIX_DATA names their folder"
)


@needs_data
def test_real_hippocampus(tmp_path: Path) -> None:
    scan = sorted((DATA / "hippocampus/test/images").glob("*.nii.gz"))[3]
    record = refine(scan, tmp_path / "out.nii.gz", PriorRequest(("1,0,0",)))
    assert record.outcome in (Outcome.SATISFIED, Outcome.ALREADY_SATISFIED)
    after = nib.load(tmp_path / "out.nii.gz")
    assert (after.affine == nib.load(scan).affine).all()
    assert betti(np.asarray(after.dataobj) > 0) == (1, 0, 0)
    truth = array(DATA / "hippocampus/test/labels" / scan.name)
    assert dice(np.asarray(after.dataobj) > 0, truth > 0) > 0.8


@needs_data
def test_real_short_axis_stack(tmp_path: Path) -> None:
    truth_file = sorted((DATA / "acdc/test").glob("*_gt.nii.gz"))[0]
    truth = array(truth_file)
    name = truth_file.name.replace("_gt", "")
    rings = [k for k in range(truth.shape[2]) if is_ring(truth[..., k] == 2)]
    with (tmp_path / "rings.csv").open("w", newline="") as file:
        rows = [["case", "slice", "label", "b0", "b1"], *([name, k, "myocardium", 1, 1] for k in rings)]
        csv.writer(file).writerows(rows)
    request = PriorRequest(table=read_priors(tmp_path / "rings.csv"))
    scan = truth_file.with_name(name)
    record = refine(scan, tmp_path / "out.nii.gz", request, CaseOptions(model="cardiac-sax-2d"))
    after = array(tmp_path / "out.nii.gz")
    assert [k for k in rings if is_ring(after[..., k] == 2)] == [p.slice for p in record.topology if p.met]
    assert dice(after == 3, truth == 3) > 0.8
