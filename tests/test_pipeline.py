"""One case from file to files: what is written is what was verified, and all of it or nothing."""

import json
from pathlib import Path

import numpy as np
import phantoms
import pytest
from files import save

from topofix import pipeline
from topofix.errors import (
    InvalidOption,
    InvalidPrior,
    UnwritableFile,
)
from topofix.imaging.volumes import read
from topofix.learning import network as networks
from topofix.records import CaseOptions, Outcome, RefinementOptions
from topofix.request import PriorRequest
from topofix.topology.persistence import betti

MAP = CaseOptions("probabilities")
ONE_PIECE = PriorRequest(("1,0",))


@pytest.fixture
def two_discs(tmp_path) -> Path:
    return save(tmp_path / "map.nii.gz", phantoms.probabilities(phantoms.two_discs().mask).astype(np.float32))


def test_the_record_on_disk_is_the_one_returned(two_discs, tmp_path):
    record = pipeline.refine(two_discs, tmp_path / "out" / "mask.nii.gz", ONE_PIECE, MAP)
    stored = json.loads((tmp_path / "out" / "mask.json").read_text("utf-8"))
    assert stored == json.loads(record.to_json())
    assert record.outcome is Outcome.SATISFIED
    assert record.seconds > 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mask.nii.gz", "mask.json"}


@pytest.mark.parametrize("method", ["voxels", "exact"])
def test_the_cost_is_the_sum_of_the_logits_of_flipped_voxels(two_discs, tmp_path, method):
    output = tmp_path / "mask.nii.gz"
    record = pipeline.refine(two_discs, output, ONE_PIECE, MAP, RefinementOptions(method=method))
    probability = read(two_discs).array.astype(np.float64)
    flipped = (probability > 0.5) != (read(output).array > 0)
    logits = np.log(probability[flipped] / (1 - probability[flipped]))
    assert record.cost == pytest.approx(np.abs(logits).sum(), rel=1e-4)
    assert record.cost > 0


@pytest.mark.parametrize("steps", [0, 1, 3, 200])
def test_the_record_tells_the_topology_of_the_file(two_discs, tmp_path, steps):
    output = tmp_path / "mask.nii.gz"
    options = RefinementOptions(steps=steps, guarantee=False)
    record = pipeline.refine(two_discs, output, PriorRequest(("1,1",)), MAP, options)
    written = read(output).array
    assert record.topology[0].after == betti(written > 0)
    reached = record.topology[0].after == (1, 1)
    assert reached == record.topology[0].met == (record.outcome is Outcome.SATISFIED)
    assert reached == (steps == 200)


def test_the_best_state_is_never_worse_than_the_start(two_discs, tmp_path):
    for steps in (1, 4):
        options = RefinementOptions(steps=steps, guarantee=False)
        record = pipeline.refine(
            two_discs, tmp_path / f"{steps}.nii.gz", PriorRequest(("1,2",)), MAP, options
        )
        before, after = record.topology[0].before, record.topology[0].after
        assert abs(after[0] - 1) + abs(after[1] - 2) <= abs(before[0] - 1) + abs(before[1] - 2)


def test_only_wrong_slices_are_touched(tmp_path):
    field = np.stack(
        [phantoms.probabilities(phantoms.two_discs().mask, seed) for seed in range(2)]
        + [phantoms.probabilities(np.pad(phantoms.disc().mask, ((0, 0), (0, 8)))[2:18])]
    ).astype(np.float32)
    path = save(tmp_path / "stack.nii.gz", field, (7.0, 1.0, 1.0))
    pipeline.refine(path, tmp_path / "out.nii.gz", ONE_PIECE, MAP)
    written = read(tmp_path / "out.nii.gz").array
    assert [betti(part > 0) for part in written] == [(1, 0)] * 3
    np.testing.assert_array_equal(written[2], field[2] > 0.5)


def test_stages_that_a_map_cannot_have_are_refused(two_discs, tmp_path):
    with pytest.raises(InvalidOption, match="--method weights"):
        pipeline.refine(two_discs, tmp_path / "o.nii", ONE_PIECE, MAP, RefinementOptions("weights"))
    assert not (tmp_path / "o.nii").exists()


def test_a_network_for_volumes_sees_no_single_slice(tmp_path):
    config = networks.NetworkConfig(3, ("blob",), (1.0,) * 3, (8,) * 3, (4, 4, 4))
    networks.save(tmp_path / "net.safetensors", networks.build(config), config, {})
    path = save(tmp_path / "scan.nii.gz", np.random.default_rng(0).random((8, 9, 10)))
    options = CaseOptions(model=str(tmp_path / "net.safetensors"), device="cpu")
    with pytest.raises(InvalidOption, match="3-D network sees no single slices"):
        pipeline.refine(
            path, tmp_path / "o.nii", PriorRequest(("7,7",)), options, RefinementOptions("weights")
        )
    assert not (tmp_path / "o.nii").exists()


@pytest.mark.parametrize("taken", ["out.nii.gz", "out.json"])
def test_nothing_is_replaced_unasked(two_discs, tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(UnwritableFile, match=f"{taken}: exists already; --overwrite"):
        pipeline.refine(two_discs, tmp_path / "out.nii.gz", ONE_PIECE, MAP)
    assert (tmp_path / taken).read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_an_impossible_prior_leaves_no_file(two_discs, tmp_path):
    with pytest.raises(InvalidPrior, match=r"map\.nii\.gz.*1,0,0"):
        pipeline.refine(two_discs, tmp_path / "new" / "out.nii.gz", PriorRequest(("1,0,0",)), MAP)
    assert not (tmp_path / "new").exists()
