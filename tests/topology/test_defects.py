"""Features that are too many: each goes by its cheapest way out, and nothing becomes worse."""

import time

import counting
import numpy as np
import phantoms
import pytest
from scipy import ndimage

from topofix.topology.defects import LEVELS, remove_defects
from topofix.topology.partition import Partition
from topofix.topology.priors import Prior

CONNECTIVITIES = ["full", "face"]
FOREVER = float("inf")


def partition_of(field: np.ndarray, text: str, connectivity: str = "full", **options) -> Partition:
    """One region, where a field of logits is above 0."""
    logits = np.stack([0 * field, field]).astype(np.float32)
    return Partition(logits.argmax(0), logits, Prior.parse(text), connectivity, **options)


def removed(partition: Partition) -> list[int]:
    """What the removal of defects changes: flat indices."""
    start = partition.labels()
    remove_defects(partition, FOREVER)
    found = counting.of_regions(partition.labels(), partition.prior, partition.connectivity)
    assert partition.betti == [list(counts) for counts in found]
    return np.flatnonzero(partition.labels() != start).tolist()


def two_blocks(inside: float, between: float, gap: int = 3) -> np.ndarray:
    """A large block and one of 3 x 3, some voxels apart."""
    field = np.full((9, 16 + gap), -50.0)
    field[1:8, 1:9] = 9
    field[3:6, 9 + gap : 12 + gap] = inside
    field[4, 9 : 9 + gap] = between
    return field


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(
    ("inside", "between", "bridged"), [(1.0, -2.9, True), (1.0, -3.1, False), (0.1, -1, False)]
)
def test_a_component_is_removed_or_bridged_whichever_is_cheaper(inside, between, bridged, connectivity):
    field = two_blocks(inside, between)
    partition = partition_of(field, "1,0", connectivity)
    changed = removed(partition)
    assert partition.error == 0
    assert partition.cost == pytest.approx(min(9 * inside, -3 * between), rel=1e-5)
    assert (partition.labels().ravel()[changed] == bridged).all()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(("inside", "wall", "filled"), [(-1.0, 2.3, True), (-1.0, 2.1, False)])
def test_a_hole_is_filled_or_opened_whichever_is_cheaper(inside, wall, filled, connectivity):
    field = np.full((12, 12), -50.0)
    field[1:11, 1:11] = 60
    field[4:7, 4:7] = inside
    field[5, 7:11] = wall
    partition = partition_of(field, "1,0", connectivity)
    changed = removed(partition)
    assert partition.error == 0
    assert partition.cost == pytest.approx(min(9 * -inside, 4 * wall), rel=1e-5)
    assert (partition.labels().ravel()[changed] == filled).all()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(("inside", "wall", "filled"), [(-0.1, 2.0, True), (-1.0, 2.0, False)])
def test_a_cavity_is_filled_or_drilled_whichever_is_cheaper(inside, wall, filled, connectivity):
    field = np.full((11, 11, 11), -50.0)
    field[1:10, 1:10, 1:10] = 60
    field[4:7, 4:7, 4:7] = inside
    field[5, 5, 7:10] = wall
    partition = partition_of(field, "1,0,0", connectivity)
    changed = removed(partition)
    assert partition.error == 0
    assert partition.cost == pytest.approx(min(27 * -inside, 3 * wall), rel=1e-5)
    assert (partition.labels().ravel()[changed] == filled).all()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(("handle", "gap", "cut"), [(0.3, -3.0, True), (3.0, -0.3, False)])
def test_a_tunnel_is_cut_or_closed_whichever_is_cheaper(handle, gap, cut, connectivity):
    torus = phantoms.torus().mask
    distance = ndimage.distance_transform_edt(torus) - ndimage.distance_transform_edt(~torus)
    field = distance * np.where(torus, handle, -gap)
    partition = partition_of(field, "1,0,0", connectivity)
    changed = removed(partition)
    assert partition.betti == [[1, 0, 0]]
    assert (torus.ravel()[changed] == cut).all()
    disc = ndimage.label(~torus[4])[0]
    sheet = -field[4][disc == disc[13, 13]].sum()
    slice_of_handle = field[:, 13, :13][torus[:, 13, :13]].sum()
    assert partition.cost <= 1.5 * min(sheet, slice_of_handle)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_thin_handle_is_cut_in_one_voxel_and_a_narrow_hole_closed_by_one(connectivity):
    ring = np.full((5, 11, 11), -9.0)
    ring[2, 2:9, 2:9] = 9
    ring[2, 3:8, 3:8] = -9
    ring[2, 2, 5] = 1
    partition = partition_of(ring, "1,0,0", connectivity)
    assert removed(partition) == [np.ravel_multi_index((2, 2, 5), ring.shape)]
    plate = np.full((5, 11, 11), -9.0)
    plate[2, 2:9, 2:9] = 9
    plate[2, 5, 5] = -1
    partition = partition_of(plate, "1,0,0", connectivity)
    assert removed(partition) == [np.ravel_multi_index((2, 5, 5), plate.shape)]


def test_the_cheapest_defects_go_first_and_no_more_of_them_than_have_to():
    field = np.full((5, 30), -20.0)
    for k, value in enumerate((0.5, 3.0, 0.2, 4.0, 0.9)):
        field[2, 3 + 5 * k] = value
    costs = [0.2, 0.5, 0.9, 3.0, 4.0]
    for most in range(6):
        partition = partition_of(field, f"0-{most},*")
        removed(partition)
        assert partition.betti[0][0] == most
        assert partition.cost == pytest.approx(sum(costs[: 5 - most]), rel=1e-5)


def test_an_absent_structure_is_emptied_and_a_ring_goes_as_a_whole():
    for phantom in (phantoms.nested_rings(), phantoms.hollow_torus()):
        partition = partition_of(
            phantoms.probabilities(phantom.mask) - 0.5, ",".join("0" * phantom.mask.ndim)
        )
        removed(partition)
        assert not partition.labels().any()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_bridges_over_the_same_gap_and_nested_defects_are_no_trouble(connectivity):
    for phantom in (
        phantoms.nested_rings(),
        phantoms.chessboard(),
        phantoms.figure_eight(),
        phantoms.diamond(),
    ):
        field = phantoms.probabilities(phantom.mask) - 0.5
        for text in ("0-1,0", "0-1,0-1", "*,0", "0-1,*"):
            partition = partition_of(field, text, connectivity)
            removed(partition)
            assert partition.error == 0


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("kind", ["smooth", "noise", "ties", "faint"])
def test_all_that_is_too_many_goes_from_one_region(kind, rank, connectivity):
    shape = {2: (19, 23), 3: (8, 7, 9)}[rank]
    random = np.random.default_rng([rank, len(kind)])
    for _ in range(4):
        field = counting.fields(random, shape, 1, kind)[0]
        limits = [*(int(n) for n in random.integers(1, 3, rank)), 0, 0]
        text = ",".join(f"0-{high}" for high in limits[:rank])
        partition = partition_of(field, text, connectivity)
        removed(partition)
        assert partition.error == 0


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_no_error_grows_in_label_maps_and_frozen_voxels_stay(seed, rank, connectivity):
    shape = {2: (15, 16), 3: (6, 7, 7)}[rank]
    random = np.random.default_rng([seed, rank])
    logits = counting.fields(random, shape, 4, ["smooth", "noise"][seed % 2])
    texts = {2: ["1:1,0", "2:0-2,*", "2+3:1,0"], 3: ["1:1,0,0", "2:0-2,*,0", "2+3:1,0,0"]}[rank]
    frozen = random.random(shape) < 0.1 * seed
    partition = Partition(logits.argmax(0), logits, Prior.parse(texts), connectivity, frozen)
    start, before = partition.labels(), partition.error
    removed(partition)
    assert partition.error < before
    assert (partition.labels()[frozen] == start[frozen]).all()
    assert partition.labels().max() <= 3


def test_a_hole_between_labels_gets_the_label_that_costs_least():
    logits = np.zeros((4, 7, 9), np.float32)
    logits[1:] = -9
    logits[1, 1:6, 1:8] = 5
    logits[:, 3, 4] = [0, -2, -0.5, -1]
    partition = Partition(logits.argmax(0), logits, Prior.parse("1,0"))
    assert removed(partition) == [3 * 9 + 4]
    assert partition.labels()[3, 4] == 2
    partition = Partition(logits.argmax(0), logits, Prior.parse(["1:1,0", "1+2+3:1,0"]))
    removed(partition)
    assert partition.labels()[3, 4] == 1


def test_a_speck_of_one_label_becomes_what_surrounds_it():
    logits = np.zeros((3, 8, 9), np.float32)
    logits[1:] = -9
    logits[1, 1:7, 1:8] = 5
    logits[2, 3, 4] = 6
    logits[2, 0:2, 8] = 5
    partition = Partition(logits.argmax(0), logits, Prior.parse(["1:1,0", "2:1,0"]))
    removed(partition)
    assert partition.error == 0
    assert partition.labels()[3, 4] == 1
    assert partition.cost == pytest.approx(1)


def test_what_is_too_many_stays_if_it_is_frozen_or_if_too_much_would_change():
    field = two_blocks(1.0, -3.5)
    partition = partition_of(field, "1,0", frozen=np.ones(field.shape, bool))
    assert removed(partition) == []
    assert not partition.held_back
    partition = partition_of(field, "1,0", most_changed=2)
    assert removed(partition) == []
    assert partition.held_back
    partition = partition_of(field, "1,0", most_changed=3)
    assert len(removed(partition)) == 3
    assert partition.error == 0


def test_nothing_is_begun_after_the_deadline():
    partition = partition_of(np.random.default_rng(0).standard_normal((300, 300)), "1,0")
    begin = time.perf_counter()
    remove_defects(partition, begin - 1)
    assert partition.changed == 0
    assert time.perf_counter() - begin < 0.5


def test_time_that_runs_out_leaves_fewer_defects_and_no_worse_map():
    partition = partition_of(np.random.default_rng(0).standard_normal((500, 500)), "1,0")
    before, begin = partition.error, time.perf_counter()
    remove_defects(partition, begin + 0.15)
    assert time.perf_counter() - begin < 5
    assert partition.error <= before
    mask = partition.labels() > 0
    assert partition.betti == [list(counting.betti(mask))]


def test_what_is_missing_is_left_as_it_is():
    field = two_blocks(1.0, -3.5)
    for text in ("3,0", "2-,1", "*,*"):
        assert removed(partition_of(field, text)) == []


def test_levels_rise_to_everything_everywhere():
    for levels in LEVELS.values():
        limits = [limit for limit, _ in levels]
        assert limits == sorted(limits)
        assert levels[-1] == (np.inf, -1)


@pytest.mark.parametrize("gap", [2, 7, 20, 45])
def test_a_bridge_is_as_long_as_the_gap(gap):
    field = two_blocks(1e4, -1.0, gap)
    field[field == -50] = -5
    partition = partition_of(field, "1,0")
    assert len(removed(partition)) == gap
    assert partition.cost == pytest.approx(gap)


@pytest.mark.parametrize("seed", range(4))
def test_no_large_part_is_taken_away_whole_where_a_long_thin_way_is_cheaper(seed):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((256, 256)), 8)
    field *= 3 / field.std()
    partition = partition_of(field, "1,0")
    removed(partition)
    assert partition.error == 0
    assert partition.cost < 150
