"""From a volume to logits: which network is chosen, how a probability map is read, what is refused."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from files import save
from hypothesis import given
from hypothesis import strategies as st

from topofix import __version__
from topofix.errors import InvalidArray, InvalidCheckpoint, InvalidOption, InvalidPrior, UnreadableFile
from topofix.imaging.volumes import Volume
from topofix.learning import network as networks
from topofix.learning.network import NetworkConfig
from topofix.measurement import measure
from topofix.prediction import choose_model, choose_slice_axis, label_map, predict_file, predict_volume
from topofix.records import CaseOptions
from topofix.request import PriorRequest
from topofix.topology.priors import Prior

CONFIGS = {
    "heart-2d": NetworkConfig(2, ("cavity", "wall"), (1.0, 1.0), (16, 16), channels=(2, 4, 4)),
    "liver-3d": NetworkConfig(3, ("liver",), (1.0, 1.0, 1.0), (8, 8, 8), channels=(2, 4, 4)),
    "organ-2d": NetworkConfig(2, ("liver",), (1.0, 1.0), (16, 16), channels=(2, 4, 4)),
}
MAPS = CaseOptions(input_type="probabilities")


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, config in CONFIGS.items():
        networks.save(folder / f"{name}.safetensors", networks.build(config, seed=2), config, {})
    return {name: folder / f"{name}.safetensors" for name in CONFIGS}


@pytest.fixture
def bundled(monkeypatch, files):
    """Makes the models of these names the bundled ones; all of them to begin with."""

    def only(*names: str) -> None:
        monkeypatch.setattr(networks, "bundled", lambda: {name: files[name] for name in names})

    only(*files)
    return only


def volume_of(array: np.ndarray, spacing=None, name="scan.nii") -> Volume:
    spacing = spacing or (1.0,) * array.ndim
    return Volume(array, spacing, np.diag([*spacing, 1.0, 1.0, 1.0][:4]), Path(name))


def scan(shape: tuple[int, ...], spacing=None) -> Volume:
    return volume_of(np.random.default_rng(0).normal(size=shape), spacing)


@pytest.mark.parametrize(
    ("shape", "spacing", "priors", "name"),
    [
        ((16, 17), None, ("wall:1,1",), "heart-2d"),
        ((16, 17), None, ("2:1,1",), "heart-2d"),
        ((16, 17), None, ("liver:1,0",), "organ-2d"),
        ((16, 17, 4), None, ("liver:1,0,0",), "liver-3d"),  # three numbers: a 3-D network first
        ((16, 17, 4), None, ("liver:1,0",), "organ-2d"),  # two numbers: a 2-D network first
        ((16, 17, 4), None, ("cavity:1,0,0",), "heart-2d"),  # but any whose labels fit
        ((16, 17), None, None, "heart-2d"),
        ((16, 17, 4), None, None, "liver-3d"),
        ((16, 17, 4), (1.0, 1.0, 3.0), None, "heart-2d"),  # a stack of slices
        ((16, 17, 4), (1.0, 1.0, 2.9), None, "liver-3d"),
    ],
)
def test_the_model_that_fits_the_image_and_the_prior_is_chosen(bundled, shape, spacing, priors, name):
    request = PriorRequest(priors) if priors else None
    assert choose_model(scan(shape, spacing), len(shape) - 1, request) == name


def test_labels_that_no_model_has_are_refused_with_those_there_are(bundled):
    bundled("liver-3d", "organ-2d")
    expected = "prior 'wall:1,1': expected one of the labels liver (1), got 'wall'"
    with pytest.raises(InvalidPrior, match=re.escape(expected)):
        choose_model(scan((16, 17)), 0, PriorRequest(("wall:1,1",)))


@pytest.mark.parametrize("names", [(), ("liver-3d",)])
def test_an_image_that_no_model_is_for_is_refused(bundled, names):
    bundled(*names)
    expected = "scan.nii: no bundled model is for a 2-D image; name one with --model"
    for request in (None, PriorRequest(("1,0",))):
        with pytest.raises(InvalidCheckpoint, match=re.escape(expected)):
            choose_model(scan((16, 17)), 0, request)


@pytest.mark.parametrize(
    ("shape", "spacing", "given", "axis"),
    [
        ((16, 17, 4), (1.0, 1.0, 5.0), None, 2),
        ((16, 17, 4), (6.0, 1.0, 5.0), None, 0),
        ((16, 17, 4), (1.0, 1.0, 5.0), 1, 1),
    ],
)
def test_slices_are_counted_along_the_axis_given_or_the_widest(shape, spacing, given, axis):
    assert choose_slice_axis(scan(shape, spacing), CaseOptions(slice_axis=given)) == axis


@pytest.mark.parametrize(("shape", "axis", "last"), [((8, 9, 4), 3, 2), ((8, 9, 4), -1, 2), ((8, 9), 2, 1)])
def test_an_axis_that_is_not_there_is_refused(shape, axis, last):
    message = f"--slice-axis: expected an axis from 0 to {last}, got {axis}"
    with pytest.raises(InvalidOption, match=re.escape(message)):
        choose_slice_axis(scan(shape), CaseOptions(slice_axis=axis))


@given(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), st.sampled_from([np.float32, np.float64]))
def test_a_map_is_foreground_exactly_above_one_half(values, dtype):
    array = np.array([*values, 0.0, 0.5, 1.0], dtype).reshape(3, 3)
    prediction, priors = predict_volume(volume_of(array), MAPS)
    np.testing.assert_array_equal(label_map(prediction.logits), array > 0.5)
    assert torch.isfinite(prediction.logits).all()
    assert priors == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_next_to_one_half_fall_on_their_side(dtype):
    half = dtype(0.5)
    array = np.array([[np.nextafter(half, dtype(0)), half, np.nextafter(half, dtype(1))]])
    assert label_map(predict_volume(volume_of(array), MAPS)[0].logits).tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (np.float32, torch.float32),
        (np.float64, torch.float64),
        (np.float16, torch.float32),
        (np.uint8, torch.float32),
    ],
)
def test_a_map_comes_back_as_the_probability_it_was(dtype, kept):
    array = np.array([[0, 0.25, 1], [0.75, 0.5, 0.125]]).astype(dtype)
    prediction, _ = predict_volume(volume_of(array), MAPS)
    assert prediction.logits.dtype == kept
    probability = torch.softmax(prediction.logits, 0)[1].numpy()
    np.testing.assert_allclose(probability, array.astype(np.float64), atol=2e-6)
    assert prediction.checkpoint is prediction.grid is prediction.image is None
    assert prediction.labels == {"foreground": 1}
    assert prediction.provenance()["model"] is None


@pytest.mark.parametrize(
    ("low", "high", "text"), [(-0.1, 1, "-0.1 to 1"), (0, 1.5, "0 to 1.5"), (0, 255, "0 to 255")]
)
def test_what_is_no_probability_is_refused(low, high, text):
    array = np.array([[low, 0.5], [0.2, high]])
    expected = f"scan.nii: expected probabilities from 0 to 1, found values from {text}"
    with pytest.raises(InvalidArray, match=f"^{re.escape(expected)}$"):
        predict_volume(volume_of(array), MAPS)


def test_a_map_has_one_label_called_foreground():
    volume = volume_of(np.full((4, 5), 0.2))
    _, priors = predict_volume(volume, MAPS, PriorRequest(("foreground:1,0",)))
    assert priors == {None: Prior.parse("1:1,0")}
    with pytest.raises(InvalidPrior, match=r"expected one of the labels foreground \(1\), got '2'"):
        predict_volume(volume, MAPS, PriorRequest(("2:1,0",)))


def test_of_equal_logits_the_background_wins_then_the_smaller_label():
    logits = torch.tensor([[1.0, 0.0, 0.0], [1.0, 2.0, 1.0], [1.0, 2.0, 3.0]])[:, None]
    labels = label_map(logits)
    assert labels.tolist() == [[0, 1, 2]]
    assert labels.dtype == np.uint8


def test_a_scan_goes_through_the_named_network(files):
    volume = scan((20, 22, 3), (1.0, 1.0, 6.0))
    path = str(files["heart-2d"])
    options = CaseOptions(model=path, device="cpu")
    prediction, priors = predict_volume(volume, options, PriorRequest(("wall:1,1",)))
    assert prediction.logits.shape == (3, 20, 22, 3)
    assert prediction.logits.dtype == torch.float32
    assert prediction.slice_axis == prediction.grid.slice_axis == 2
    assert prediction.image.shape == volume.array.shape
    assert prediction.names == {1: "cavity", 2: "wall"}
    assert priors == dict.fromkeys(range(3), Prior.parse("2:1,1"))
    about = prediction.provenance()
    assert (about["model"], about["device"]) == ("heart-2d", "cpu")
    assert about["versions"]["topofix"] == __version__
    assert about["versions"].keys() >= {"torch", "monai", "gudhi", "numpy"}


def test_a_scan_goes_through_the_bundled_network_that_fits(bundled):
    volume = scan((12, 14, 10))
    prediction, _ = predict_volume(volume, CaseOptions(device="cpu"), PriorRequest(("liver:1,0,0",)))
    assert prediction.checkpoint.name == "liver-3d"
    assert prediction.grid.slice_axis is None


def test_everything_is_refused_before_the_network_runs(files, monkeypatch):
    def refuse(*args):
        raise AssertionError("the network ran")

    monkeypatch.setattr("topofix.prediction.predict", refuse)
    options = CaseOptions(model=str(files["heart-2d"]), device="cpu")
    with pytest.raises(InvalidPrior, match=r"expected one of the labels cavity \(1\), wall \(2\)"):
        predict_volume(scan((20, 22)), options, PriorRequest(("aorta:1,0",)))
    with pytest.raises(InvalidPrior, match="expected a prior of 2 numbers for an image of rank 2, got 3"):
        predict_volume(scan((20, 22)), options, PriorRequest(("1,0,0",)))
    solid = CaseOptions(model=str(files["liver-3d"]), device="cpu")
    with pytest.raises(InvalidArray, match="expected a volume for a 3-D model, got a 2-D image"):
        predict_volume(scan((20, 22)), solid)
    with pytest.raises(InvalidOption, match="--device"):
        predict_volume(scan((20, 22)), CaseOptions(model=str(files["heart-2d"]), device="abacus"))


def test_label_maps_hold_as_many_labels_as_there_are():
    logits = torch.zeros(300, 2, 2)
    logits[257, 0, 0] = logits[3, 1, 1] = 1.0
    assert label_map(logits).tolist() == [[257, 0], [0, 3]]
    assert label_map(logits).dtype == np.uint16
    assert label_map(logits[:256]).dtype == np.uint8


def test_an_image_is_limited_whatever_it_holds(tmp_path):
    save(tmp_path / "scan.nii", np.ones((4, 5, 6), np.uint8))
    np.savez(tmp_path / "map.npz", probabilities=np.full((2, 6, 5, 4), 0.5, np.float32))
    save(tmp_path / "place.nii", np.zeros((4, 5, 6)))
    save(tmp_path / "small.nii", np.full((4, 5, 5), 0.5))
    for kind, name, most, found in (
        ("image", "scan.nii", 119, 120),
        ("labels", "scan.nii", 119, 120),
        ("probabilities", "scan.nii", 119, 120),
        ("probabilities", "map.npz", 239, 240),
    ):
        options = CaseOptions(input_type=kind, max_voxels=most)
        sentence = (
            f"{name}: expected at most {most} voxels, found {found} in its header; --max-voxels allows more"
        )
        with pytest.raises(UnreadableFile, match=re.escape(sentence)):
            predict_file(tmp_path / name, replace(options, like=str(tmp_path / "place.nii")))
        with pytest.raises(UnreadableFile, match=re.escape(sentence)):
            measure(tmp_path / name, options=replace(options, like=str(tmp_path / "place.nii")))
    options = CaseOptions(input_type="probabilities", like=str(tmp_path / "scan.nii"), max_voxels=119)
    with pytest.raises(UnreadableFile, match=r"scan\.nii: expected at most 119 voxels"):
        predict_file(tmp_path / "small.nii", options)


@pytest.mark.parametrize(("model", "spacing"), [("heart-2d", (1e6, 1e6, 5.0)), ("liver-3d", (9.0, 9.0, 1e9))])
def test_voxels_so_long_that_a_model_would_need_too_many_are_refused(files, model, spacing):
    volume = scan((16, 17, 4), spacing)
    options = CaseOptions(model=str(files[model]), device="cpu")
    with pytest.raises(
        InvalidArray,
        match=r"^scan\.nii: expected at most 268435456 voxels on the model's grid, found \d+ for a "
        r"spacing of \(.*\) mm; --max-voxels allows more$",
    ):
        predict_volume(volume, options)


def test_the_slices_of_a_stack_count_on_a_models_grid(files):
    options = CaseOptions(model=str(files["heart-2d"]), device="cpu", max_voxels=16 * 16 * 3 - 1)
    with pytest.raises(
        InvalidArray, match=r"on the model's grid, found 768 for a spacing of \(2\.0, 2\.0, 9\.0\)"
    ):
        predict_volume(scan((8, 8, 3), (2.0, 2.0, 9.0)), options)
    predict_volume(scan((8, 8, 3), (2.0, 2.0, 9.0)), replace(options, max_voxels=16 * 16 * 3))
