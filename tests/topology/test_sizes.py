"""Components and holes that are too small: found, removed or filled, and made larger."""

import counting
import numpy as np
import phantoms
import pytest

from topofix.topology.partition import Partition
from topofix.topology.priors import FOREGROUND, Prior
from topofix.topology.regions import region_mask
from topofix.topology.repair import error_of, repair
from topofix.topology.sizes import drop_small, enlarge, parts, small_parts

CONNECTIVITIES = ["full", "face"]
NOTHING_ASKED = {2: "*,*", 3: "*,*,*"}


def partition_of(field: np.ndarray, text: str, connectivity: str = "full", **options) -> Partition:
    """One region, where a field of logits is above 0."""
    logits = np.stack([0 * field, field]).astype(np.float32)
    return Partition(logits.argmax(0), logits, Prior.parse(text), connectivity, **options)


def picture(text: str) -> np.ndarray:
    """A field of logits: 2 where there is a hash, the number where there is one, else -2."""
    rows = [line.strip() for line in text.strip().splitlines()]
    value = {"#": 2.0, ".": -2.0}
    return np.array([[value[sign] if sign in value else int(sign) / 10 for sign in row] for row in rows])


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_phantoms_have_as_many_components_and_holes_as_one_sees(phantom, connectivity):
    expected = phantom.betti(connectivity)
    components = list(parts(phantom.mask, True, connectivity))
    holes = list(parts(phantom.mask, False, connectivity))
    assert (len(components), len(holes)) == (expected[0], expected[-1])
    assert sum(map(len, components)) == phantom.mask.sum()
    for part in components + holes:
        assert (np.diff(part) > 0).all()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 8), (1, 3, 5), (5, 4, 6)], ids=str)
def test_parts_have_the_sizes_of_an_independent_labelling(shape, connectivity):
    random = np.random.default_rng(0)
    for share in (0.1, 0.4, 0.6, 0.9):
        mask = random.random(shape) < share
        for inside in (True, False):
            found = list(parts(mask, inside, connectivity))
            assert sorted(map(len, found)) == counting.part_sizes(mask, inside, connectivity)
            voxels = np.concatenate([*found, np.empty(0, int)])
            assert len(np.unique(voxels)) == len(voxels)
            assert (mask.ravel()[voxels] == inside).all()


def test_what_touches_the_border_is_no_hole():
    mask = phantoms.ring_cut_by_border().mask
    assert list(parts(mask, False)) == []
    assert [len(part) for part in parts(phantoms.ring_touching_border().mask, False)] == [25]


def test_a_gap_at_a_corner_opens_a_hole_in_one_connectivity_alone():
    mask = phantoms.diamond().mask
    for connectivity in CONNECTIVITIES:
        holes = len(list(parts(mask, False, connectivity)))
        assert holes == phantoms.diamond().betti(connectivity)[1]
    assert phantoms.diamond().full[1] != phantoms.diamond().face[1]


def test_parts_are_small_if_they_have_fewer_voxels_and_only_in_regions_that_are_constrained():
    labels = np.zeros((5, 12), np.uint8)
    labels[1, 1:4] = 1
    labels[1, 6] = 2
    labels[1:4, 8:11] = 2
    labels[2, 9] = 0
    prior = Prior.parse("1:*,*")
    assert [len(part) for *_, part in small_parts(labels, prior, "full", 4)] == [3]
    assert not list(small_parts(labels, prior, "full", 3))
    both = Prior.parse(["1:*,*", "2:*,*"])
    found = [(c.region, inside, len(part)) for c, inside, part in small_parts(labels, both, "full", 4)]
    assert found == [((1,), True, 3), ((2,), True, 1), ((2,), False, 1)]
    found = [(c.region, inside, len(part)) for c, inside, part in small_parts(labels, both, "full", 9)]
    assert ((2,), True, 8) in found


@pytest.mark.parametrize("least", [0, 0.5, 1])
def test_no_part_is_smaller_than_one_voxel(least):
    labels = np.eye(3, dtype=np.uint8)[:, [1, 0, 2]]
    assert not list(small_parts(labels, Prior.parse("*,*"), "face", least))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(14, 15), (7, 6, 8)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_nothing_small_is_left_after_small_parts_are_dropped(seed, shape, connectivity):
    random = np.random.default_rng(seed)
    for kind in ("smooth", "noise"):
        field = counting.fields(random, shape, 1, kind)[0]
        partition = partition_of(field, NOTHING_ASKED[len(shape)], connectivity)
        drop_small(partition, 6)
        mask = partition.labels() > 0
        for inside in (True, False):
            assert all(size >= 6 for size in counting.part_sizes(mask, inside, connectivity))
        assert partition.betti == [list(counting.betti(mask, connectivity))]


def test_a_small_ring_goes_together_with_its_hole():
    field = picture("""
        ...........
        .####..###.
        .####..#.#.
        .####..###.
        .####......
        ...........
    """)
    partition = partition_of(field, "*,*")
    drop_small(partition, 9)
    assert partition.betti == [[1, 0]]
    assert (partition.labels()[:, 6:] == 0).all()


def test_a_small_hole_goes_together_with_the_speck_in_it():
    field = np.full((9, 9), -2.0)
    field[1:8, 1:8] = 2
    field[3:6, 3:6] = -2
    field[4, 4] = 2
    partition = partition_of(field, "*,*")
    drop_small(partition, 10)
    assert partition.betti == [[1, 0]]
    assert partition.labels()[1:8, 1:8].all()


def test_what_was_dropped_stays_away():
    field = picture("####...9")
    partition = partition_of(field, "2,0")
    drop_small(partition, 2)
    assert partition.labels().tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]]
    partition.change(np.array([7, 6]), np.array([1, 1], np.uint8))
    assert partition.labels().tolist() == [[1, 1, 1, 1, 0, 0, 1, 0]]


def test_frozen_specks_stay():
    field = picture("####...9")
    frozen = np.zeros(field.shape, bool)
    frozen[0, 7] = True
    partition = partition_of(field, "*,*", frozen=frozen)
    drop_small(partition, 2)
    assert partition.labels()[0, 7] == 1


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("least", [2, 5, 9.5])
def test_a_speck_grows_to_the_least_size_and_no_betti_number_changes(least, rank, connectivity):
    field = np.random.default_rng(7).random((9,) * rank) - 2
    field[(4,) * rank] = 1
    prior = Prior.parse(",".join("1" + "0" * (rank - 1)))
    partition = partition_of(field, str(prior), connectivity)
    enlarge(partition, prior.constraints[0], least)
    mask = partition.labels() > 0
    assert mask.sum() == np.ceil(least)
    assert counting.betti(mask, connectivity) == (1, *(0,) * (rank - 1)) == tuple(partition.betti[0])
    assert mask[(4,) * rank]


def test_a_hole_grows_by_its_cheapest_voxels():
    field = picture("""
        #########
        #########
        ##.123###
        #########
        #########
    """)
    partition = partition_of(field, "1,1")
    enlarge(partition, partition.prior.constraints[0], 3)
    assert np.flatnonzero(partition.labels() == 0).tolist() == [20, 21, 22]


def test_a_speck_does_not_grow_into_its_neighbour_or_a_frozen_voxel():
    field = picture("""
        ####.....
        ####.9...
        ####.....
    """)
    frozen = np.zeros(field.shape, bool)
    frozen[:, 6] = True
    partition = partition_of(field, "2,0", frozen=frozen)
    enlarge(partition, partition.prior.constraints[0], 4)
    assert partition.betti == [[2, 0]]
    assert (partition.labels()[:, 4] == 0).all()
    assert (partition.labels()[:, 6] == 0).all()


def test_only_the_region_that_is_named_grows():
    logits = np.zeros((3, 5, 9), np.float32)
    logits[1:] = -1
    logits[1, 2, 2] = logits[2, 2, 6] = 1
    prior = Prior.parse(["1:1,0", "2:1,0"])
    partition = Partition(logits.argmax(0), logits, prior)
    enlarge(partition, prior.constraints[1], 3)
    assert [int((partition.labels() == k).sum()) for k in (1, 2)] == [1, 3]
    assert partition.betti == [[1, 0], [1, 0]]


def test_small_parts_count_as_errors_and_are_repaired_whatever_their_probability():
    field = np.full((12, 26), -0.5, np.float32)
    field[2:10, 2:10] = 1
    field[5, 5] = -9
    field[5, 20] = 9
    logits = np.stack([0 * field, field])
    prior = Prior.parse("*,*")
    assert error_of(logits.argmax(0), prior, min_voxels=4) == 2
    assert repair(logits, prior).error == 0
    assert (repair(logits, prior).labels == logits.argmax(0)).all()
    found = repair(logits, prior, min_voxels=4)
    assert found.error == 0
    assert (found.labels[2:10, 2:10] == 1).all()
    assert found.labels.sum() == 64


@pytest.mark.parametrize("text", ["2,0", "2,1", "1,1", "1-2,0"])
def test_what_is_made_is_no_smaller_than_what_is_dropped(text):
    field = np.full((16, 30), -3.0, np.float32)
    field[3:13, 2:13] = 2
    field[7, 7] = 0.2
    field[8, 22] = -0.3
    prior = Prior.parse(text)
    found = repair(np.stack([0 * field, field]), prior, min_voxels=6)
    assert found.error == 0
    assert counting.error(found.labels, prior) == 0
    for inside in (True, False):
        assert all(size >= 6 for size in counting.part_sizes(region_mask(found.labels, FOREGROUND), inside))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_called_met_has_nothing_small(seed, rank, connectivity):
    random = np.random.default_rng([seed, rank])
    shape = {2: (16, 17), 3: (8, 7, 9)}[rank]
    for text in {2: ["1,0", "2,0-1", "1-,1"], 3: ["1,0,0", "2,*,0", "1-,0-1,*"]}[rank]:
        logits = counting.fields(random, shape, 2, "smooth")
        prior = Prior.parse(text)
        found = repair(logits, prior, connectivity, min_voxels=5)
        sizes = [
            size
            for side in (True, False)
            for size in counting.part_sizes(found.labels > 0, side, connectivity)
        ]
        small = sum(size < 5 for size in sizes)
        assert found.error == counting.error(found.labels, prior, connectivity) + small
        assert found.error <= error_of(logits.argmax(0), prior, connectivity, 5)
