"""A scene holds what the run had in hand: barcodes before and after, by region and slice, in order."""

from pathlib import Path

import numpy as np
import pytest

from topofix import scenes
from topofix.imaging.maps import Maps
from topofix.imaging.volume import Volume
from topofix.pipeline import refine_prediction
from topofix.prediction import predict_maps
from topofix.records import CaseOptions
from topofix.request import PriorRequest
from topofix.scenes import scene_of


def refined(field: np.ndarray, *asked: str, input_type: str = "probabilities"):
    spacing = (1.0, 2.0, 8.0)[: field.ndim]
    grid = Volume(field, spacing, np.diag([1.0, 2.0, 8.0, 1.0]), Path("folder/map.nii.gz"))
    request, options = PriorRequest(asked), CaseOptions(input_type="probabilities")
    prediction, _ = predict_maps(Maps(field[None], grid, "made by a test"), "map.nii.gz", options)
    priors = request.for_image("map.nii.gz", field.shape, prediction.slice_axis, prediction.labels)
    result = refine_prediction(grid, prediction, priors, request, options)
    done = (result.before, result.labels, result.logits, result.record)
    return scene_of(grid, prediction, priors, *done, input_type), result


def two_pieces(*shape: int) -> np.ndarray:
    field = np.full(shape, 0.1, np.float32)
    field[2:6, 2:6], field[9:11, 9:11] = 0.9, 0.7
    return field


def test_bars_are_those_of_the_map_and_of_the_result():
    field = two_pieces(14, 14)
    scene, result = refined(field, "1,0")
    (before,), (after,) = scene.bars_before, scene.bars_after
    assert (before.region, before.slice, before.shape) == ("foreground", None, (14, 14))
    lengths = sorted(before.births - before.deaths, reverse=True)
    assert lengths[:2] == pytest.approx([0.9, 0.6], abs=1e-3)  # 0.7 meets the first piece at 0.1
    assert int(((after.births > 0.5) & (after.deaths < 0.5)).sum()) == 1
    assert np.array_equal(scene.after, result.labels)
    assert (scene.name, scene.slice_axis, scene.frame) == ("map.nii.gz", 0, None)


def test_slices_have_a_barcode_each():
    scene, _ = refined(two_pieces(14, 14, 3), "1,0")
    assert [bars.slice for bars in scene.bars_before] == [0, 1, 2]
    assert [bars.slice for bars in scene.bars_after] == [0, 1, 2]
    assert scene.slice_axis == 2
    assert all(bars.shape == (14, 14) for bars in scene.bars_before)


def test_behind_the_contours_stands_the_scan_or_the_probability():
    field = two_pieces(14, 14)
    scene, _ = refined(field, "1,0")
    np.testing.assert_allclose(scene.image, field, atol=1e-5)
    scan, _ = refined(field, "1,0", input_type="image")
    assert scan.image is field


def test_nothing_is_computed_before_it_is_looked_at(monkeypatch):
    computed = []
    original = scenes.barcode
    monkeypatch.setattr(scenes, "barcode", lambda *how: computed.append(how) or original(*how))
    scene, _ = refined(two_pieces(14, 14, 3), "1,0")
    assert computed == []
    assert len(scene.bars_before) == 3
    assert scene.bars_before[0] is next(iter(scene.bars_before))
    assert [bars.slice for bars in scene.bars_before[1:]] == [1, 2]
    assert len(computed) == 3
