"""Batches: in another order in every epoch, the same for all processes, and no larger than they may be."""

import numpy as np
import pytest
import torch

from topofix.learning.batches import Batches, padded, pieces, shuffled
from topofix.learning.dataset import Case, make_case
from topofix.learning.distributed import World
from topofix.learning.network import NetworkConfig
from topofix.records import TrainingOptions
from topofix.topology.priors import Prior

CPU = torch.device("cpu")
CONFIG = NetworkConfig(2, ("box",), (1.0, 1.0), (8, 8), channels=(4, 4, 4))
OPTIONS = TrainingOptions(batch_size=2, unlabelled_batches=2, augment=False)


def case(number: int, *, drawn: bool = True, prior: str | None = None) -> Case:
    """An image whose size along the second axis tells its number."""
    image = np.random.default_rng(number).random((8, 8 + number))
    priors = {} if prior is None else {None: Prior.parse(prior)}
    axes = ((0, 1), ())
    return make_case(str(number), image, (image > 0.5) if drawn else None, (1.0, 1.0), axes, CONFIG, priors)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """Five with labels, three without."""
    return [*map(case, range(5)), *(case(number, drawn=False, prior="1,0") for number in (10, 11, 12))]


def test_an_epoch_has_every_patch_once(cases):
    batches = Batches(cases, CONFIG, OPTIONS, CPU)
    assert len(batches) == 3
    for epoch in (1, 2):
        images, labels = zip(*batches.labelled(epoch), strict=True)
        assert [len(batch) for batch in images] == [2, 2, 1]
        assert all(batch.shape[1:] == (1, 8, 8) for batch in (*images, *labels))


def test_whole_images_go_round_as_often_as_labelled_batches_need_them(cases):
    batches = Batches(cases, CONFIG, OPTIONS, CPU)
    assert batches.with_topology
    images, priors = zip(*batches.unlabelled(1), strict=True)
    sizes = [image.shape[2] - 8 for batch in images for image in batch]
    assert sizes == sizes[:3] * 4
    assert sorted(sizes[:3]) == [10, 11, 12]
    assert [prior for batch in priors for prior in batch] == [Prior.parse("1,0")] * 12


def test_without_priors_there_is_no_topology_to_learn(cases):
    assert not Batches(cases[:5], CONFIG, OPTIONS, CPU).with_topology


def test_processes_share_each_batch(cases):
    """Of a batch of three the first has two; together they see what one alone sees."""
    options = TrainingOptions(batch_size=3, augment=False)
    alone, *two = (
        Batches(cases, CONFIG, options, CPU, world) for world in (World(), World(0, 2), World(1, 2))
    )
    for together, *shares in zip(*(batches.labelled(4) for batches in (alone, *two)), strict=True):
        assert torch.equal(together[0][::2], shares[0][0])
        assert torch.equal(together[0][1::2], shares[1][0])


@pytest.mark.parametrize("seed", [0, 7, 2**62])
def test_the_order_is_another_one_in_every_epoch(seed):
    orders = [shuffled(30, seed, epoch) for epoch in range(1, 6)]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) == 5
    assert orders[2] == shuffled(30, seed, 3)
    assert orders[0] != shuffled(30, seed + 1, 1)


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ([], []),
        ([9], [(0, 1)]),
        ([3, 3, 3, 3, 3], [(0, 3), (3, 5)]),
        ([10, 11, 1, 9, 1], [(0, 1), (1, 2), (2, 4), (4, 5)]),
    ],
    ids=str,
)
def test_pieces_hold_as_many_neighbours_as_fit(sizes, found):
    assert [(piece.start, piece.stop) for piece in pieces(sizes, 10)] == found


def test_images_of_different_sizes_are_padded_with_their_borders():
    first, second = torch.rand(1, 5, 9), torch.rand(1, 8, 3)
    batch = padded([first, second], 4)
    assert batch.shape == (2, 1, 8, 12)
    assert torch.equal(batch[0, :, :5, :9], first)
    assert torch.equal(batch[1, :, :8, :3], second)
    assert torch.equal(batch[0, 0, 5:, :9], first[0, 4:].expand(3, 9))
    assert torch.equal(batch[1, 0, :, 3:], second[0, :, 2:].expand(8, 9))
    volume = torch.rand(1, 4, 5, 6)
    assert torch.equal(padded([volume], 8)[0, :, :4, :5, :6], volume)
