"""The samples in the repository: what the script makes, and with the topology that their README promises."""

import gzip
import runpy
import zlib
from pathlib import Path

import numpy as np
import pytest

from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import read
from topofix.topology.persistence import betti

SAMPLES = Path(__file__).parents[1] / "sample_data"
MADE = sorted(
    path.relative_to(SAMPLES).as_posix()
    for path in SAMPLES.rglob("*")
    if path.is_file() and path.suffix in (".gz", ".tif", ".csv")
)


@pytest.fixture(scope="module")
def remade(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("samples")
    runpy.run_path(str(SAMPLES / "make_samples.py"))["main"](folder)
    return folder


def test_the_script_makes_every_file_and_no_other(remade):
    found = sorted(path.relative_to(remade).as_posix() for path in remade.rglob("*") if path.is_file())
    assert found == MADE


@pytest.mark.parametrize("name", MADE)
def test_the_script_makes_the_file_byte_for_byte(remade, name):
    ours, committed = (remade / name).read_bytes(), (SAMPLES / name).read_bytes()
    if name.endswith(".gz"):
        assert gzip.decompress(ours) == gzip.decompress(committed)
    if not name.endswith(".gz") or "ng" not in zlib.ZLIB_RUNTIME_VERSION:  # zlib-ng packs otherwise
        assert ours == committed


@pytest.mark.parametrize("name", MADE)
def test_no_file_is_large(name):
    assert (SAMPLES / name).stat().st_size < 400_000


@pytest.mark.parametrize(
    ("name", "dtype", "shape", "spacing", "orientation"),
    [
        ("short_axis.nii.gz", "int16", (144, 144, 8), (1.5, 1.5, 10.0), (-1, -1, 1)),
        ("hippocampus.nii.gz", "int16", (36, 52, 38), (1.0, 1.0, 1.0), (1, 1, 1)),
        ("probabilities.nii.gz", "float32", (48, 48, 32), (2.0, 2.0, 3.0), (1, 1, 1)),
        ("ring_probabilities.tif", "float32", (64, 64), (1.0, 1.0), (1, 1, 1)),
    ],
)
def test_every_scan_has_its_geometry(name, dtype, shape, spacing, orientation):
    volume = read(SAMPLES / name)
    assert volume.array.dtype == dtype
    assert volume.array.shape == shape
    assert volume.spacing == spacing
    steps = np.array([*spacing, 1.0])[:3]
    assert np.array_equal(volume.affine, np.diag([*steps * orientation, 1]))


@pytest.mark.parametrize("name", ["short_axis.nii.gz", "hippocampus.nii.gz", "probabilities.nii.gz"])
def test_every_truth_lies_on_the_grid_of_its_scan(name):
    scan, truth = read(SAMPLES / name), read(SAMPLES / "truth" / name)
    assert truth.array.dtype == np.uint8
    assert truth.array.shape == scan.array.shape
    assert np.array_equal(truth.affine, scan.affine)


@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_the_probability_map_has_one_defect_of_each_kind(connectivity):
    probabilities = read(SAMPLES / "probabilities.nii.gz").array
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    for threshold in (0.5, 0.55, 0.6):
        assert betti(probabilities > threshold, connectivity) == (2, 1, 1)
    assert betti(read(SAMPLES / "truth" / "probabilities.nii.gz").array, connectivity) == (1, 0, 0)


@pytest.mark.parametrize("connectivity", ["full", "face"])
def test_the_ring_has_a_gap_and_a_speck(connectivity):
    probabilities = read(SAMPLES / "ring_probabilities.tif").array
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    for threshold in (0.45, 0.5, 0.6):
        assert betti(probabilities > threshold, connectivity) == (2, 0)
    assert betti(probabilities > 0.35, connectivity) == (2, 1)  # the gap is not without evidence


def test_the_true_heart_has_the_topology_of_its_prior():
    truth = read(SAMPLES / "truth" / "short_axis.nii.gz").array
    priors = read_priors(SAMPLES / "short_axis_priors.csv")
    assert priors.cases == ("short_axis",)
    for k in range(truth.shape[-1]):
        (prior,) = priors.texts("short_axis.nii.gz", k)
        assert prior == "2:{},{}".format(*betti(truth[..., k] == 2))
        assert betti(truth[..., k] == 1) in [(1, 0), (0, 0)]
        assert betti(truth[..., k] == 3) in [(1, 0), (0, 0)]


def test_the_true_hippocampus_is_one_solid_piece():
    truth = read(SAMPLES / "truth" / "hippocampus.nii.gz").array
    for part in (truth > 0, truth == 1, truth == 2):
        assert betti(part) == (1, 0, 0)
