"""The MONAI transform in a Compose, on arrays and tensors with geometry."""

import numpy as np
import phantoms
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Activationsd, Compose

from topofix.topology.persistence import betti
from topofix.transforms import TopologyRefined


def logits() -> torch.Tensor:
    """Two channels (2, *S): a ring with a gap that the network half sees."""
    field = np.where(phantoms.ring().mask, 2.0, -2.0)
    field[10:12, 12:20] = np.where(field[10:12, 12:20] > 0, -0.6, -2.0)
    assert betti(field > 0) == (1, 0)
    return torch.from_numpy(np.stack([np.zeros_like(field), field]))


def test_it_drops_into_a_compose():
    post = Compose([Activationsd("pred", softmax=True), TopologyRefined("pred", "1:1,1")])
    data = {"pred": MetaTensor(logits(), affine=torch.diag(torch.tensor([0.5, 0.5, 1.0]))), "other": 7}
    done = post(data)
    assert isinstance(done["pred"], MetaTensor)
    assert done["pred"].shape == (1, *logits().shape[1:])
    assert done["pred"].dtype == torch.uint8
    torch.testing.assert_close(done["pred"].affine, data["pred"].affine)
    assert betti(done["pred"][0].numpy()) == (1, 1)
    assert done["other"] == 7


def test_an_array_stays_an_array_and_the_data_is_left_alone():
    probabilities = torch.softmax(logits(), 0).numpy()
    data = {"pred": probabilities.copy()}
    done = TopologyRefined("pred", "1:1,1")(data)
    assert isinstance(done["pred"], np.ndarray)
    np.testing.assert_array_equal(data["pred"], probabilities)
    assert betti(done["pred"][0]) == (1, 1)


def test_a_missing_key_is_an_error_unless_it_may_be_missing():
    with pytest.raises(KeyError):
        TopologyRefined("pred", "1,1")({})
    assert TopologyRefined("pred", "1,1", allow_missing_keys=True)({}) == {}


def test_voxels_under_a_mask_keep_their_label():
    probabilities = torch.softmax(logits(), 0)
    frozen = (probabilities[1:] < 0.5) & (probabilities[1:] > 0.3)  # the gap
    transform = TopologyRefined("pred", "1:1,1", frozen_key="frozen")
    done = transform({"pred": probabilities, "frozen": frozen})
    assert not done["pred"][frozen].any()
    assert torch.equal(done["frozen"], frozen)
