"""Barcodes and Betti numbers of maps, label maps and slices, against what was asked of them."""

from pathlib import Path

import numpy as np
import phantoms
import pytest

from topofix.errors import InvalidArray, InvalidOption, InvalidPrior, UnreadableFile
from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import Volume, write
from topofix.measurement import measure
from topofix.records import CaseOptions, Outcome
from topofix.request import PriorRequest
from topofix.topology.persistence import barcode

MAP, LABELS = CaseOptions("probabilities"), CaseOptions("labels")


@pytest.fixture
def saved(tmp_path):
    def save(array, name="map.nii.gz", spacing=None) -> Path:
        array = np.asarray(array)
        steps = spacing or (1.0,) * array.ndim
        write(tmp_path / name, array, Volume(array, steps, np.diag([*steps, 1.0, 1.0][:4]), tmp_path))
        return tmp_path / name

    return save


@pytest.mark.parametrize("connectivity", ["full", "face"])
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_a_map_and_its_mask_have_the_betti_numbers_of_the_shape(saved, phantom, connectivity):
    for array, kind in ((phantoms.probabilities(phantom.mask), "probabilities"), (phantom.mask, "labels")):
        record, _ = measure(saved(array), options=CaseOptions(kind, connectivity=connectivity))
        found = [part.after for part in record.topology]
        absent = kind == "labels" and not phantom.mask.any()
        assert found == [phantom.betti(connectivity)] or (absent and sum(found[0]) == 0)
        assert (record.outcome, record.topology[0].requested) == (Outcome.MEASURED, None)


def test_bars_are_those_of_the_field_as_stored(saved):
    field = np.random.default_rng(0).random((7, 8, 9))
    _, (bars,) = measure(saved(field), options=MAP)
    code = barcode(field)
    np.testing.assert_array_equal(bars.births, code.values(field)[0])
    np.testing.assert_array_equal(bars.deaths, code.values(field)[1])
    np.testing.assert_array_equal(bars.barcode.birth, code.birth)
    assert (bars.region, bars.slice, bars.shape) == ("foreground", None, (7, 8, 9))


@pytest.mark.parametrize("shortest", [0.0, 0.1, 0.5])
def test_short_bars_are_left_out_but_still_counted(saved, shortest):
    path = saved(np.random.default_rng(0).random((12, 13)))
    record, (bars,) = measure(path, options=MAP, min_persistence=shortest)
    everything, (every,) = measure(path, options=MAP)
    assert record.topology == everything.topology
    assert (bars.births - bars.deaths >= shortest).all()
    assert len(bars.births) == (every.births - every.deaths >= shortest).sum()


def test_a_voxel_at_the_threshold_lies_outside(saved):
    path = saved(np.array([[0.5, 0.0, 0.75]], np.float32))
    for threshold, count in ((0.25, 2), (0.5, 1), (0.75, 0)):
        record, _ = measure(path, options=MAP, threshold=threshold)
        assert record.topology[0].after == (count, 0)


@pytest.mark.parametrize(
    ("texts", "met"),
    [(("1,1",), [True]), (("2,0",), [False]), (("1-,*",), [True]), (("1:0,*",), [False])],
)
def test_what_is_asked_is_answered(saved, texts, met):
    record, _ = measure(saved(phantoms.ring().mask), PriorRequest(texts), LABELS)
    assert [part.met for part in record.topology] == [part.met_before for part in record.topology] == met
    assert record.outcome is (Outcome.MET if all(met) else Outcome.NOT_MET)
    assert record.request["betti"] == texts[0]


def test_the_regions_of_a_prior_are_measured_and_no_others(saved):
    labels = np.zeros((9, 12), np.uint8)
    labels[1:6, 1:6], labels[2:5, 2:5], labels[7, 8] = 1, 2, 3
    record, bars = measure(saved(labels), PriorRequest(("1:1,1 1+2:1,0", "2+3:1,0")), LABELS)
    assert [(part.region, part.after, part.met) for part in record.topology] == [
        ("1", (1, 1), True),
        ("1+2", (1, 0), True),
        ("2+3", (2, 0), False),
    ]
    assert [part.region for part in bars] == ["1", "1+2", "2+3"]
    record, _ = measure(saved(labels), options=LABELS)
    assert [part.region for part in record.topology] == ["1", "2", "3"]
    for label, counts in (("3", (1, 0)), ("1+3", (2, 1))):
        record, _ = measure(saved(labels), options=LABELS, label=label)
        assert [(part.region, part.after) for part in record.topology] == [(label, counts)]


def test_slices_run_along_the_widest_spacing_or_the_named_axis(saved):
    stack = np.stack([phantoms.ring().mask, phantoms.disc().mask], axis=1)
    path = saved(stack, spacing=(1.0, 6.0, 1.0))
    record, bars = measure(path, PriorRequest(("1,1",)), LABELS)
    assert [(part.slice, part.after, part.met) for part in record.topology] == [
        (0, (1, 1), True),
        (1, (1, 0), False),
    ]
    assert [(part.slice, part.shape) for part in bars] == [(0, (20, 22)), (1, (20, 22))]
    record, _ = measure(path, PriorRequest(("1-,*",)), CaseOptions("labels", slice_axis=0))
    assert len(record.topology) == 20
    record, _ = measure(path, options=LABELS)
    assert [len(part.after) for part in record.topology] == [3]


def test_a_table_covers_slices_of_its_own_choice(saved, tmp_path):
    stack = np.stack([phantoms.ring().mask, phantoms.disc().mask, phantoms.disc().mask])
    (tmp_path / "priors.csv").write_text("case,slice,b0,b1\nmap,0,1,1\nmap,2,1,1\n")
    request = PriorRequest(table=read_priors(tmp_path / "priors.csv"))
    record, _ = measure(saved(stack, spacing=(9.0, 1.0, 1.0)), request, LABELS)
    assert [(part.slice, part.met) for part in record.topology] == [(0, True), (2, False)]
    assert record.request["betti"] == str(tmp_path / "priors.csv")


@pytest.mark.parametrize(
    ("array", "arguments", "error", "says"),
    [
        ([[0.5, 1.0]], {"options": LABELS}, InvalidArray, "map.nii.gz: expected a label map"),
        ([[-1, 1]], {"options": LABELS}, InvalidArray, "from -1 to 1"),
        ([[0, 2]], {"options": MAP}, InvalidArray, "expected probabilities from 0 to 1"),
        ([[0, 1]], {"options": LABELS, "label": "2"}, InvalidPrior, "'2'"),
        ([[0, 1]], {"options": CaseOptions("labels", slice_axis=2)}, InvalidOption, "--slice-axis.*got 2"),
        ([[0, 1]], {"options": LABELS, "request": PriorRequest(("1,0,0",))}, InvalidPrior, "1,0,0"),
    ],
)
def test_what_cannot_be_measured_is_refused(saved, array, arguments, error, says):
    dtype = np.float32 if np.asarray(array).dtype.kind == "f" else np.int16
    with pytest.raises(error, match=says):
        measure(saved(np.asarray(array, dtype)), **arguments)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="nothing there"):
        measure(tmp_path / "map.nii.gz", options=MAP)


def test_a_label_is_what_bare_numbers_are_for(saved):
    labels = np.zeros((12, 12), np.uint8)
    labels[2:9, 2:9] = 2
    labels[4:6, 4:6] = 3  # a hole in label 2, none in the foreground
    record, _ = measure(saved(labels), PriorRequest(("1,1", "3:1,0")), LABELS, label="2")
    assert [(part.region, part.requested, part.met) for part in record.topology] == [
        ("2", "1,1", True),
        ("3", "1,0", True),
    ]
    record, _ = measure(saved(labels), PriorRequest(("1,1",)), LABELS)
    assert record.outcome is Outcome.NOT_MET


def test_a_label_may_be_absent_from_a_map(saved):
    labels = np.zeros((9, 9), np.uint8)
    labels[2:5, 2:5] = 1
    record, _ = measure(saved(labels), PriorRequest(("1:1,0", "2:absent")), LABELS)
    assert [(part.after, part.met) for part in record.topology] == [((1, 0), True), ((0, 0), True)]
    assert measure(saved(labels), PriorRequest(("2:1,0",)), LABELS)[0].outcome is Outcome.NOT_MET


def test_a_label_beside_a_table_is_refused(saved, tmp_path):
    (tmp_path / "priors.csv").write_text("case,b0,b1\nmap,1,0\n")
    request = PriorRequest(table=read_priors(tmp_path / "priors.csv"))
    with pytest.raises(InvalidOption, match="--label: expected it without a table"):
        measure(saved(np.eye(5, dtype=np.uint8)), request, LABELS, label="1")
