"""Betti numbers after every change, simple points, sweeps and cheapest closed paths, against fresh counts."""

import heapq
import itertools
import time
from functools import cache

import counting
import numpy as np
import phantoms
import pytest
from scipy import ndimage

from topofix.topology import _kernel
from topofix.topology.partition import Partition
from topofix.topology.persistence import simple_points
from topofix.topology.priors import Prior
from topofix.topology.regions import region_mask

CONNECTIVITIES = ["full", "face"]
SHAPES = [(1, 1), (1, 7), (6, 1), (7, 6), (1, 1, 1), (1, 1, 6), (1, 5, 4), (4, 1, 5), (5, 4, 4)]
UNIONS = {2: ["1:1,0", "2:*,1", "1+3:0-2,*", "2,0-1"], 3: ["1:1,0,0", "2:*,1,*", "1+3:0-2,*,1", "2,0-1,0"]}
FOREVER = 1e9


def random_partition(random, shape, connectivity="full", **options) -> Partition:
    """Four labels, regions that overlap, noise."""
    logits = random.standard_normal((4, *shape)).astype(np.float32)
    return Partition(logits.argmax(0), logits, Prior.parse(UNIONS[len(shape)]), connectivity, **options)


def binary(field: np.ndarray, text: str, connectivity: str = "full", **options) -> Partition:
    logits = np.stack([0 * field, field]).astype(np.float32)
    return Partition(logits.argmax(0), logits, Prior.parse(text), connectivity, **options)


def counted(partition: Partition) -> list[list[int]]:
    """The Betti numbers anew, by other means."""
    found = counting.of_regions(partition.labels(), partition.prior, partition.connectivity)
    return [list(counts) for counts in found]


def one_label_of(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 1.0, -1.0)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_phantoms_begin_with_the_topology_one_sees(phantom, connectivity):
    partition = binary(one_label_of(phantom.mask), ",".join("*" * phantom.mask.ndim), connectivity)
    assert partition.betti == [list(phantom.betti(connectivity))]
    assert partition.error == partition.changed == partition.cost == 0
    np.testing.assert_array_equal(partition.labels(), phantom.mask)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_betti_numbers_are_right_after_every_change(shape, connectivity):
    random = np.random.default_rng(sum(shape))
    partition = random_partition(random, shape, connectivity)
    size = int(np.prod(shape))
    for _ in range(40):
        count = int(random.integers(1, 4))
        voxels, labels = random.integers(0, size, count), random.integers(0, 4, count).astype(np.uint8)
        expected = partition.labels().ravel()
        for voxel, label in zip(voxels, labels, strict=True):
            expected[voxel] = label
        partition.change(voxels, labels)
        np.testing.assert_array_equal(partition.labels().ravel(), expected)
        assert partition.betti == counted(partition)
        assert partition.error == counting.error(partition.labels(), partition.prior, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_a_phantom_can_be_taken_apart_and_put_together_in_any_order(phantom, connectivity):
    text = ",".join("*" * phantom.mask.ndim)
    partition = binary(-np.ones(phantom.mask.shape), text, connectivity)
    order = np.random.default_rng(1).permutation(np.flatnonzero(phantom.mask))
    partition.change(order, np.ones(len(order), np.uint8))
    assert partition.betti == [list(phantom.betti(connectivity))]
    partition.change(order[::2], np.zeros(len(order[::2]), np.uint8))
    assert partition.betti == counted(partition)
    partition.change(order, np.zeros(len(order), np.uint8))
    assert partition.betti == [[0] * phantom.mask.ndim]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("width", [63, 64, 65, 130])
def test_long_structures_one_voxel_thick_are_followed_to_their_end(width, connectivity):
    field = np.full((5, width), -1.0)
    field[[0, 4], :] = field[:, [0, -1]] = 1
    partition = binary(field, "*,*", connectivity)
    assert partition.betti == [[1, 1]]
    partition.change(np.array([width // 2]), np.zeros(1, np.uint8))
    assert partition.betti == [[1, 0]]
    partition.change(np.array([4 * width + width // 3]), np.zeros(1, np.uint8))
    assert partition.betti == [[2, 0]]
    partition.change(np.array([width // 2, 4 * width + width // 3]), np.ones(2, np.uint8))
    assert partition.betti == [[1, 1]]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_sheet_one_voxel_thick_closes_a_box_and_its_pinhole_is_a_way_out(connectivity):
    field = np.ones((6, 7, 5))
    field[1:-1, 1:-1, 1:-1] = -1
    partition = binary(field, "*,*,*", connectivity)
    assert partition.betti == [[1, 0, 1]]
    walls = [np.ravel_multi_index(place, field.shape) for place in ((0, 3, 2), (5, 3, 2), (3, 0, 2))]
    for count, voxel in enumerate(walls):
        partition.change(np.array([voxel]), np.zeros(1, np.uint8))
        assert partition.betti == [[1, count, 0]]


def test_a_change_of_label_within_a_region_is_no_event_for_it():
    random = np.random.default_rng(3)
    labels = random.integers(0, 3, (6, 7))
    logits = random.standard_normal((3, 6, 7)).astype(np.float32)
    partition = Partition(labels, logits, Prior.parse("*,*"))
    before = partition.betti
    inside = np.flatnonzero(labels)
    partition.change(inside, (3 - labels.ravel()[inside]).astype(np.uint8))
    assert partition.betti == before == counted(partition)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(6, 7), (4, 4, 5)], ids=str)
def test_frozen_voxels_keep_their_label_whatever_is_done(shape, connectivity):
    random = np.random.default_rng(4)
    frozen = random.random(shape) < 0.5
    partition = random_partition(random, shape, connectivity, frozen=frozen)
    start = partition.labels()
    voxels = random.permutation(start.size)
    partition.change(voxels, random.integers(0, 4, start.size).astype(np.uint8))
    moved = partition.labels()
    assert (moved[frozen] == start[frozen]).all()
    assert (moved != start).sum() > 5
    partition.freeze(voxels)
    partition.change(voxels, start.ravel()[voxels])
    partition.settle(start)
    partition.restore(start)
    np.testing.assert_array_equal(partition.labels(), moved)
    assert partition.betti == counted(partition)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_what_is_frozen_may_be_said_in_any_type(dtype):
    frozen = np.arange(30).reshape(5, 6) % 3 == 0
    partition = binary(-np.ones((5, 6)), "*,*", frozen=(5 * frozen).astype(dtype))
    partition.change(np.arange(30), np.ones(30, np.uint8))
    np.testing.assert_array_equal(partition.labels() == 0, frozen)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(9, 8), (5, 4, 6)], ids=str)
def test_going_back_gives_the_label_map_and_its_betti_numbers_back(shape, connectivity):
    random = np.random.default_rng(5)
    partition = random_partition(random, shape, connectivity)
    states = []
    for _ in range(6):
        states.append((partition.labels(), partition.betti, partition.cost, partition.changed))
        voxels = random.choice(partition.labels().size, 9, replace=False)
        partition.change(voxels, random.integers(0, 4, 9).astype(np.uint8))
    for k in random.permutation(6):
        labels, numbers, cost, changed = states[k]
        partition.restore(labels)
        np.testing.assert_array_equal(partition.labels(), labels)
        assert (partition.betti, partition.cost, partition.changed) == (numbers, cost, changed)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(10, 9), (1, 12), (5, 6, 5), (1, 8, 7)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_settling_takes_back_all_that_changes_no_betti_number_and_nothing_else(seed, shape, connectivity):
    random = np.random.default_rng(seed)
    partition = random_partition(random, shape, connectivity)
    start = partition.labels()
    voxels = random.choice(start.size, start.size // 3, replace=False)
    partition.change(voxels, random.integers(0, 4, len(voxels)).astype(np.uint8))
    moved, numbers = partition.labels(), partition.betti
    partition.settle(start)
    settled = partition.labels()
    assert partition.betti == numbers == counted(partition)
    assert ((settled == moved) | (settled == start)).all()
    assert (settled[moved == start] == start[moved == start]).all()
    for voxel in np.flatnonzero(settled != start):
        assert not simple_in_all_regions(partition, voxel, start.flat[voxel])
    partition.settle(start)
    np.testing.assert_array_equal(partition.labels(), settled)


def simple_in_all_regions(partition: Partition, voxel: int, label: int) -> bool:
    before = partition.labels()
    after = before.copy()
    after.flat[voxel] = label
    for constraint in partition.prior.constraints:
        one, other = (region_mask(labels, constraint.region) for labels in (before, after))
        if (
            one.flat[voxel] != other.flat[voxel]
            and not simple_points(one, partition.connectivity).flat[voxel]
        ):
            return False
    return True


def test_the_dearest_change_is_taken_back_first():
    field = np.array([[2, -1, -1, -1, 2], [-5, -5, -5, -5, -5], [-9, -9, -9, -9, -9]], np.float32)
    partition = binary(field, "1,0")
    start = partition.labels()
    partition.change(np.arange(15), np.ones(15, np.uint8))
    partition.settle(start)
    assert partition.labels().tolist() == [[1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert (partition.changed, partition.cost, partition.betti) == (3, 3.0, [[1, 0]])


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("spreading", [True, False])
@pytest.mark.parametrize("shape", [(18, 17), (8, 7, 9)], ids=str)
def test_sweeps_bring_their_region_nearer_and_leave_the_partition_as_it_is(shape, spreading, connectivity):
    for seed in range(4):
        random = np.random.default_rng(seed)
        kind = ["smooth", "noise"][seed % 2]
        logits = counting.fields(random, shape, 3, kind)
        prior = Prior.parse({2: ["1:1,0", "1+2:1-2,0"], 3: ["1:1,0,0", "1+2:1-2,0,0"]}[len(shape)])
        partition = Partition(logits.argmax(0), logits, prior, connectivity)
        start, numbers = partition.labels(), partition.betti
        errors = [c.error(n) for c, n in zip(prior.constraints, numbers, strict=True)]
        for index, grow in itertools.product((0, 1), (True, False)):
            moves = list(partition.sweep(index, grow, np.inf, spreading, FOREVER))
            np.testing.assert_array_equal(partition.labels(), start)
            assert partition.betti == numbers
            voxels = np.concatenate([move.voxels for move in moves] or [[]]).astype(int)
            assert len(np.unique(voxels)) == len(voxels)
            for move in moves:
                assert (start.ravel()[move.voxels] != move.labels).all()
                inside = np.isin(move.labels, partition.side(prior.constraints[index], True))
                assert (inside == grow).all()
                price = partition.costs[move.labels, move.voxels].sum(dtype=np.float64)
                assert move.cost == pytest.approx(price)
                partition.change(move.voxels, move.labels)
            now = [c.error(n) for c, n in zip(prior.constraints, partition.betti, strict=True)]
            assert all(new <= old for new, old in zip(now, errors, strict=True))
            assert not moves or now[index] < errors[index] or sum(now) < sum(errors)
            assert partition.betti == counted(partition)
            partition.restore(start)


def test_a_sweep_finds_a_bridge_and_a_plug_of_the_least_thickness():
    field = np.full((9, 15), -3.0)
    field[2:7, 1:6] = field[2:7, 9:14] = 2
    field[4, 6:9] = -1
    (bridge,) = binary(field, "1,0").sweep(0, True, np.inf, True, FOREVER)
    assert sorted(bridge.voxels.tolist()) == [66, 67, 68]
    assert bridge.labels.tolist() == [1, 1, 1]
    assert bridge.cost == 3
    field = np.where(phantoms.ring_touching_border().mask, 2.0, -3.0)
    field[0, 4] = 0.5
    field[1, 4] = 0.25
    (cut,) = binary(field, "1,0").sweep(0, False, np.inf, True, FOREVER)
    assert sorted(cut.voxels.tolist()) == [4, 13]
    assert cut.cost == 0.75


@pytest.mark.parametrize("spreading", [True, False])
def test_a_sweep_in_3d_cuts_a_handle_or_closes_a_tunnel_with_a_sheet_where_that_is_least(spreading):
    torus = phantoms.torus().mask
    field = ndimage.distance_transform_edt(torus) - ndimage.distance_transform_edt(~torus)
    partition = binary(field, "1,0,0")
    start = partition.labels()
    (sheet,) = partition.sweep(0, True, np.inf, spreading, FOREVER)
    (cut,) = partition.sweep(0, False, np.inf, spreading, FOREVER)
    for move in (sheet, cut):
        partition.change(move.voxels, move.labels)
        assert partition.betti == [[1, 0, 0]] == counted(partition)
        partition.restore(start)
    numbers = ndimage.label(~torus[4])[0]
    assert len(sheet.voxels) == (numbers == numbers[13, 13]).sum()
    assert len(cut.voxels) == torus[:, 13, :13].sum()


@pytest.mark.parametrize("limit", [0.0, 0.3, 1.0])
def test_no_voxel_of_a_sweep_costs_more_than_the_limit(limit):
    random = np.random.default_rng(8)
    partition = binary(random.standard_normal((25, 25)), "1,0")
    for grow, spreading in itertools.product((True, False), repeat=2):
        for move in partition.sweep(0, grow, limit, spreading, FOREVER):
            assert (partition.costs[move.labels, move.voxels] <= limit).all()


def test_a_sweep_looks_no_further_than_the_radius_from_its_centres():
    field = np.full((5, 40), -2.0)
    field[2, ::4] = 2
    field[[0, 1, 3, 4]] = -3
    partition = binary(field, "1,0")
    everywhere = np.concatenate([m.voxels for m in partition.sweep(0, True, np.inf, True, FOREVER)])
    assert len(everywhere) == 27
    centres = np.array([2 * 40 + 6, 2 * 40 + 33])
    near = np.concatenate([m.voxels for m in partition.sweep(0, True, np.inf, True, FOREVER, centres, 2)])
    assert sorted((near - 80).tolist()) == [5, 6, 7, 33, 34, 35]
    assert not list(partition.sweep(0, True, np.inf, True, FOREVER, np.array([6]), 0))
    assert not list(partition.sweep(0, True, np.inf, True, FOREVER, np.empty(0, np.int64), 3))
    corners = np.array([0, 199])
    assert list(partition.sweep(0, True, np.inf, True, FOREVER, corners, 50))


def test_a_sweep_does_not_enter_frozen_voxels():
    field = np.full((7, 15), -1.0)
    field[2:5, 1:5] = field[2:5, 10:14] = 2
    frozen = np.zeros(field.shape, bool)
    frozen[1:, 7] = True
    partition = binary(field, "1,0", frozen=frozen)
    (bridge,) = partition.sweep(0, True, np.inf, True, FOREVER)
    assert 7 in bridge.voxels
    assert not frozen.ravel()[bridge.voxels].any()
    frozen[0, 7] = True
    assert not list(binary(field, "1,0", frozen=frozen).sweep(0, True, np.inf, True, FOREVER))


def test_a_sweep_is_over_soon_when_the_time_is():
    partition = binary(np.random.default_rng(0).standard_normal((400, 400)), "1,0")
    begin = time.perf_counter()
    late = list(partition.sweep(0, True, np.inf, True, -1.0))
    assert time.perf_counter() - begin < 2
    full = list(partition.sweep(0, True, np.inf, True, FOREVER))
    assert sum(len(move.voxels) for move in late) < 2000 < sum(len(move.voxels) for move in full)


def test_a_sweep_of_a_region_that_is_right_finds_nothing():
    partition = binary(np.where(phantoms.ring().mask, 2.0, -2.0), "1,1")
    for grow, spreading in itertools.product((True, False), repeat=2):
        assert not list(partition.sweep(0, grow, np.inf, spreading, FOREVER))


def test_a_move_is_made_if_it_brings_the_whole_nearer_and_changes_no_more_than_may_be():
    field = np.array([[3.0, -1, -1, 3, -2, 3]])
    partition = binary(field, "1,0", most_changed=2)
    now = partition.labels().ravel()
    part_way = partition.move(np.array([1]), np.array([1], np.uint8))
    assert not partition.attempt(part_way, now)
    assert not partition.held_back
    bridge = partition.move(np.array([1, 2]), np.array([1, 1], np.uint8))
    assert partition.attempt(bridge, now)
    assert now.tolist() == partition.labels().ravel().tolist() == [1, 1, 1, 1, 0, 1]
    assert not partition.attempt(partition.move(np.array([4]), np.array([1], np.uint8)), now)
    assert partition.held_back
    assert partition.within_limit()
    assert partition.labels().ravel().tolist() == now.tolist() == [1, 1, 1, 1, 0, 1]
    assert (partition.cost, partition.changed, partition.error) == (2.0, 2, 1)


def test_costs_are_what_the_label_map_loses_in_log_probability():
    random = np.random.default_rng(2)
    partition = random_partition(random, (5, 6))
    logits = -partition.costs.astype(np.float64)
    log_probability = logits - np.log(np.exp(logits).sum(0))
    start = partition.labels().ravel()
    voxels = random.permutation(30)[:12]
    partition.change(voxels, random.integers(0, 4, 12).astype(np.uint8))
    now = partition.labels().ravel()
    loss = log_probability[start, np.arange(30)].sum() - log_probability[now, np.arange(30)].sum()
    assert partition.cost == pytest.approx(loss, rel=1e-5)
    assert partition.changed == (now != start).sum()


def test_the_cheapest_label_of_either_side_is_found_among_the_labels_of_that_side():
    random = np.random.default_rng(6)
    partition = random_partition(random, (4, 5))
    for constraint in partition.prior.constraints:
        members = partition.side(constraint, True)
        assert members == partition.members(constraint) == list(constraint.region or (1, 2, 3))
        assert sorted(members + partition.side(constraint, False)) == [0, 1, 2, 3]
        for inside in (True, False):
            labels, costs = partition.cheapest(constraint, inside)
            side = partition.side(constraint, inside)
            assert np.isin(labels, side).all()
            np.testing.assert_array_equal(costs, partition.costs[side].min(0))
            np.testing.assert_array_equal(costs, partition.costs[labels, np.arange(20)])


def test_the_field_of_a_region_is_above_0_exactly_in_the_region():
    random = np.random.default_rng(9)
    partition = random_partition(random, (6, 6))
    partition.change(np.arange(0, 36, 2), random.integers(0, 4, 18).astype(np.uint8))
    likeliest = partition.costs.argmin(0).reshape(6, 6)
    for constraint in partition.prior.constraints:
        field = partition.field(constraint)
        mask = region_mask(partition.labels(), constraint.region)
        np.testing.assert_array_equal(field > 0, mask)
        assert (field != 0).all()
        agrees = mask == region_mask(likeliest, constraint.region)
        assert (np.abs(field[~agrees]) < 1e-5).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64])
def test_labels_may_have_any_type_and_layout(dtype):
    random = np.random.default_rng(1)
    logits = np.asfortranarray(random.standard_normal((2, 6, 5)))
    labels = np.asfortranarray(logits.argmax(0).astype(dtype))
    partition = Partition(labels, logits, Prior.parse("1,0"), frozen=np.asfortranarray(labels == 5))
    np.testing.assert_array_equal(partition.labels(), labels)
    assert partition.labels().dtype == np.uint8
    assert partition.betti == counted(partition)
    partition.settle(np.asfortranarray(1 - labels.astype(np.uint8)))
    assert partition.betti == counted(partition)


def closed_path(allowed, costs, closing, corners) -> list[int]:
    path = _kernel.closed_path(
        np.ascontiguousarray(allowed).view(np.uint8), costs.astype(np.float32), closing, corners
    )
    return path.tolist()


@cache
def neighbours(voxel: int, shape: tuple[int, ...], corners: bool) -> list[int]:
    place = np.unravel_index(voxel, shape)
    found = []
    for step in itertools.product((-1, 0, 1), repeat=len(shape)):
        other = np.add(place, step)
        inside = (other >= 0).all() and (other < shape).all()
        if inside and any(step) and (corners or np.abs(step).sum() == 1):
            found.append(int(np.ravel_multi_index(tuple(other), shape)))
    return found


def cheapest_loop(allowed: np.ndarray, costs: np.ndarray, closing: int, corners: bool) -> float:
    """The price of the cheapest way from one piece of a voxel's surroundings to another."""
    flat, shape = allowed.ravel(), allowed.shape
    place = np.unravel_index(closing, shape)
    surroundings = [  # sides meet at edges, but not at corners
        voxel
        for voxel in neighbours(closing, shape, True)
        if corners or np.abs(np.subtract(np.unravel_index(voxel, shape), place)).sum() <= 2
    ]
    pieces: list[set[int]] = []
    for first in surroundings:
        if not flat[first] or any(first in piece for piece in pieces):
            continue
        piece, todo = {first}, [first]
        while todo:
            near = neighbours(todo.pop(), shape, corners)
            fresh = [v for v in near if v in surroundings and flat[v] and v not in piece]
            piece.update(fresh)
            todo += fresh
        pieces.append(piece)
    touching = set(neighbours(closing, shape, corners))
    pieces = [piece & touching for piece in pieces if piece & touching]
    least = np.inf
    if len(pieces) < 2:
        return least
    for k, piece in enumerate(pieces):
        distance = {voxel: float(costs.flat[voxel]) for voxel in piece}
        queue = [(value, voxel) for voxel, value in distance.items()]
        heapq.heapify(queue)
        goals = set().union(*pieces[:k], *pieces[k + 1 :])
        while queue:
            value, voxel = heapq.heappop(queue)
            if voxel in goals:
                least = min(least, value)
                break
            for other in neighbours(voxel, shape, corners):
                further = value + float(costs.flat[other])
                if flat[other] and other != closing and further < distance.get(other, np.inf):
                    distance[other] = further
                    heapq.heappush(queue, (further, other))
    return least


@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.parametrize("shape", [(6, 7), (9, 5), (5, 5, 5), (2, 6, 5)], ids=str)
def test_no_closed_path_is_cheaper_than_the_one_that_is_found(shape, corners):
    random = np.random.default_rng(len(shape))
    found = tried = 0
    while found < 12:
        tried += 1
        assert tried < 500
        allowed = np.pad(random.random(shape) < random.uniform(0.2, 0.8), 1)
        costs = np.where(random.random(allowed.shape) < 0.3, 0, random.integers(1, 9, allowed.shape))
        inside = np.flatnonzero(np.pad(np.ones(shape, bool), 1))
        closing = int(random.choice(inside))
        path = closed_path(allowed, costs, closing, corners)
        expected = cheapest_loop(allowed, costs, closing, corners)
        assert bool(path) == (expected < np.inf)
        if not path:
            continue
        found += 1
        assert costs.ravel()[path].sum() == expected
        assert allowed.ravel()[path].all()
        assert closing not in path
        assert len(set(path)) == len(path)
        for one, other in itertools.pairwise([closing, *path, closing]):
            assert other in neighbours(one, allowed.shape, corners)


@pytest.mark.parametrize("corners", [True, False])
def test_a_path_goes_around_a_ring(corners):
    ring = np.zeros((7, 8), bool)
    ring[1:6, 1:7] = True
    ring[2:5, 2:6] = False
    closing = 1 * 8 + 3
    around = set(np.flatnonzero(ring).tolist()) - {closing}
    path = closed_path(ring, np.ones(ring.shape), closing, corners)
    assert set(path) <= around
    corner_voxels = {1 * 8 + 1, 1 * 8 + 6, 5 * 8 + 1, 5 * 8 + 6}
    assert around - set(path) == (corner_voxels if corners else set())


def test_a_path_takes_the_cheaper_way_around_and_there_is_none_where_nothing_closes():
    allowed = np.zeros((9, 7), bool)
    allowed[1:8, 1:6] = True
    allowed[2, 2:5] = allowed[6, 2:5] = False
    allowed[3:6, 2] = allowed[3:6, 4] = False
    allowed[4, 1:6] = True
    costs = np.ones(allowed.shape)
    costs[:4] = 5
    closing = 4 * 7 + 2
    allowed.flat[closing] = True
    path = closed_path(allowed, costs, closing, False)
    assert path
    assert all(voxel >= 4 * 7 for voxel in path)
    allowed[:, 4:] = False
    assert not closed_path(allowed, costs, 4 * 7 + 3, False)
    assert not closed_path(np.zeros((5, 5), bool), np.ones((5, 5)), 12, True)
