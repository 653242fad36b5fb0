"""Features that are missing: the bars they can be made from, against the textbook, and what they become."""

import time

import counting
import numpy as np
import oracle
import phantoms
import pytest
from scipy import ndimage

from topofix.topology.features import Source, add_features, sources
from topofix.topology.partition import Partition
from topofix.topology.priors import Prior

CONNECTIVITIES = ["full", "face"]
FOREVER = float("inf")


def partition_of(field: np.ndarray, text: str, connectivity: str = "full", **options) -> Partition:
    """One region, where a field of logits is above 0."""
    logits = np.stack([0 * field, field]).astype(np.float32)
    return Partition(logits.argmax(0), logits, Prior.parse(text), connectivity, **options)


def made(partition: Partition, evidence: float = 0.02, **options) -> list[int]:
    """What adding features changes: flat indices."""
    start = partition.labels()
    add_features(partition, evidence, FOREVER, **options)
    found = counting.of_regions(partition.labels(), partition.prior, partition.connectivity)
    assert partition.betti == [list(counts) for counts in found]
    return np.flatnonzero(partition.labels() != start).tolist()


def picture(text: str) -> np.ndarray:
    """Logits: a hash is 3, a dot -3; digits are tenths above 0, letters from a on tenths below."""
    rows = [line.strip() for line in text.strip().splitlines()]
    value = {"#": 3.0, ".": -3.0, "0": 0.05}
    value |= {str(k): k / 10 for k in range(1, 10)} | {"abcdefghi"[k - 1]: -k / 10 for k in range(1, 10)}
    return np.array([[value[sign] for sign in row] for row in rows])


def probability(logit: float) -> float:
    return 1 / (1 + np.exp(-logit))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(1, 6), (6, 5), (3, 4, 4)], ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_sources_are_the_bars_of_the_textbook_that_are_not_there_at_one_half(seed, shape, connectivity):
    field = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    text = ",".join("*" * len(shape))
    partition = partition_of(field, text, connectivity)
    flat = field.ravel()
    bars = oracle.bars(field, connectivity)
    for dimension in range(len(shape)):
        expected = set()
        for d, birth, death in bars:
            there = flat[birth] > 0 and (death < 0 or flat[death] <= 0)
            if d == dimension and not there:
                expected.add((birth, death, bool(flat[birth] <= 0)))
        found = sources(partition, partition.prior.constraints[0], dimension)
        assert {(s.birth, s.death, s.below) for s in found} == expected
        lengths = [s.length for s in found]
        assert lengths == sorted(lengths, reverse=True)
        for source in found:
            end = 0.0 if source.death < 0 else probability(flat[source.death])
            assert source.length == pytest.approx(probability(flat[source.birth]) - end, abs=1e-6)


def test_of_bars_of_one_length_the_first_voxel_comes_first():
    field = np.array([[3.0, -1, -2, -1, -2, -1]])
    partition = partition_of(field, "2,0")
    # The bar at voxel 1 has no length: it is joined to voxel 0 at once.
    assert [s.birth for s in sources(partition, partition.prior.constraints[0], 0)] == [3, 5]


def test_the_sources_of_a_union_are_those_of_its_largest_logit():
    logits = np.zeros((3, 1, 5), np.float32)
    logits[1, 0] = [3, -3, -4, -4, -1]
    logits[2, 0] = [2, -3, -1, -4, -2]
    partition = Partition(logits.argmax(0), logits, Prior.parse("1+2:3,0"))
    (union,) = partition.prior.constraints
    assert [(s.birth, s.below) for s in sources(partition, union, 0)] == [(4, True), (2, True)]


COMPONENT_BELOW = """
    ..........
    .##....d..
    .##...dad.
    .##....d..
    ..........
"""
COMPONENT_ABOVE = """
    ..........
    .##....##.
    .##9119##.
    .##....##.
    ..........
"""
HOLE_BELOW = """
    .........
    .#######.
    .##...##.
    .##...bb.
    .##...##.
    .#######.
    .........
"""
HOLE_ABOVE = """
    .........
    .#######.
    .##777##.
    .##737##.
    .##777##.
    .#######.
    .........
"""


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(
    ("text", "prior", "expected"),
    [
        (COMPONENT_BELOW, "2,0", [27]),
        (COMPONENT_ABOVE, "2,0", [24]),
        (HOLE_BELOW, "1,1", [33, 34]),
        (HOLE_ABOVE, "1,1", [31]),
    ],
)
def test_a_feature_in_2d_is_made_where_its_bar_says(text, prior, expected, connectivity):
    partition = partition_of(picture(text), prior, connectivity)
    assert partition.error == 1
    changed = made(partition)
    assert partition.error == 0
    if text == COMPONENT_ABOVE:
        assert changed in ([24], [25])
        assert partition.cost == pytest.approx(0.1)
    elif text == HOLE_BELOW:
        assert set(changed) < {33, 34}
        assert len(changed) == 1
    else:
        assert changed == expected


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_hole_is_made_with_a_wall_all_around_if_there_is_none(connectivity):
    field = np.full((9, 9), -3.0)
    ring = ndimage.binary_dilation(np.pad(np.ones((1, 1), bool), 4), iterations=3)
    ring &= ~ndimage.binary_dilation(np.pad(np.ones((1, 1), bool), 4), iterations=2)
    field[ring] = -0.5
    if connectivity == "face":
        field[ndimage.binary_dilation(ring, np.ones((3, 3))) & ~ring] = -0.6
    partition = partition_of(field, "1,1", connectivity)
    made(partition)
    assert partition.betti[0][1] == 1
    assert partition.cost <= 0.5 * ring.sum() + (0.6 * ring.sum() if connectivity == "face" else 0)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_tunnel_below_one_half_is_made_by_closing_the_ring(connectivity):
    torus = phantoms.torus().mask
    field = np.where(torus, 3.0, -3.0)
    middle = field.shape[1] // 2
    gap = np.zeros_like(torus)
    gap[:, middle - 1 : middle + 1, : field.shape[2] // 2] = True
    field[gap & torus] = -0.5
    partition = partition_of(field, "1,1,0", connectivity)
    assert partition.betti == [[1, 0, 0]]
    changed = made(partition)
    assert partition.betti == [[1, 1, 0]]
    assert len(changed) <= 3
    assert (gap & torus).ravel()[changed].all()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_tunnel_above_one_half_is_made_by_drilling_where_it_is_thinnest(connectivity):
    plate = np.full((7, 13, 13), -3.0)
    plate[1:6, 1:12, 1:12] = 3
    plate[1:6, 5:8, 5:8] = 0.6
    plate[1:6, 6, 6] = 0.2
    partition = partition_of(plate, "1,1,0", connectivity)
    changed = made(partition)
    assert partition.betti == [[1, 1, 0]]
    assert sorted(changed) == sorted(np.flatnonzero(plate == 0.2))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_cavity_below_one_half_is_made_by_closing_its_pinhole(connectivity):
    shell = phantoms.shell().mask
    field = np.where(shell, 3.0, -3.0)
    middle = tuple(side // 2 for side in shell.shape)
    pinhole = np.zeros_like(shell)
    pinhole[middle[0], middle[1], : middle[2]] = shell[middle[0], middle[1], : middle[2]]
    field[pinhole] = -0.4
    partition = partition_of(field, "1,0,1", connectivity)
    assert partition.betti == [[1, 0, 0]]
    changed = made(partition)
    assert partition.betti == [[1, 0, 1]]
    assert len(changed) == 1, "one voxel closes a pinhole that is one voxel wide"
    assert pinhole.ravel()[changed].all()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_cavity_above_one_half_is_made_at_its_pit(connectivity):
    ball = phantoms.ball().mask
    field = np.where(ball, 3.0, -3.0)
    middle = tuple(side // 2 for side in ball.shape)
    field[middle] = 0.4
    partition = partition_of(field, "1,0,1", connectivity)
    assert made(partition) == [np.ravel_multi_index(middle, ball.shape)]
    assert partition.betti == [[1, 0, 1]]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_component_above_one_half_is_cut_off_in_3d(connectivity):
    field = np.full((7, 7, 15), -3.0)
    field[1:6, 1:6, 1:6] = field[1:6, 1:6, 9:14] = 3
    field[2:5, 2:5, 6:9] = 0.8
    field[2:5, 2:5, 7] = 0.2
    partition = partition_of(field, "2,0,0", connectivity)
    changed = made(partition)
    assert partition.betti == [[2, 0, 0]]
    assert sorted(changed) == sorted(np.flatnonzero(np.isclose(field, 0.2)))


def test_the_longest_bar_is_taken():
    field = np.full((5, 14), -6.0)
    field[1:4, 1:4] = 3
    field[2, 7], field[2, 11] = -2.0, -0.5
    assert made(partition_of(field, "2,0")) == [2 * 14 + 11]
    assert made(partition_of(field, "3,0")) == [2 * 14 + 7, 2 * 14 + 11]


def test_of_bars_that_are_almost_as_long_the_cheapest_feature_is_made():
    """A gap of five voxels at -0.5 makes a longer bar than one voxel at -0.7, and a dearer hole."""
    field = np.full((9, 26), -6.0)
    for left in (1, 14):
        field[1:8, left : left + 11] = 6
        field[2:7, left + 1 : left + 10] = -6
    field[1, 4:9] = -0.5
    field[1, 19] = -0.7
    partition = partition_of(field, "2,1")
    assert [round(s.length, 2) for s in sources(partition, partition.prior.constraints[0], 1)] == [0.38, 0.33]
    assert made(partition) == [26 + 19]
    assert made(partition_of(field, "2,2")) == [26 + column for column in (4, 5, 6, 7, 8, 19)]


@pytest.mark.parametrize("evidence", [0.0, 0.1, 0.26, 0.28, 0.9])
def test_nothing_is_made_from_a_bar_that_is_shorter_than_the_evidence_that_is_asked_for(evidence):
    field = np.full((3, 9), -20.0)
    field[1, 1] = 3
    field[1, 6] = -1.0  # a probability of 0.269
    partition = partition_of(field, "2,0")
    assert made(partition, evidence) == ([15] if evidence < probability(-1.0) else [])


def test_nothing_is_made_of_a_field_without_bars():
    for value in (-1.0, 1.0):
        partition = partition_of(np.full((6, 7), value), "2,1")
        made(partition)
        assert partition.betti[0][1] == 0


def test_no_more_is_made_than_is_asked_for_at_least():
    field = np.full((5, 30), -6.0)
    field[2, ::3] = -1.0
    for text, count in (("1,0", 1), ("3,0", 3), ("2-5,0", 2), ("4-,0", 4), ("*,0", 0)):
        partition = partition_of(field, text)
        assert len(made(partition)) == count
        assert partition.error == 0


def test_there_is_a_way_where_the_first_bar_is_frozen():
    field = np.full((3, 12), -6.0)
    field[1, 1], field[1, 5], field[1, 9] = 3, -0.5, -0.9
    frozen = np.zeros(field.shape, bool)
    frozen[1, 5] = True
    assert made(partition_of(field, "2,0", frozen=frozen)) == [12 + 9]
    frozen[:] = True
    assert made(partition_of(field, "2,0", frozen=frozen)) == []


def test_a_feature_that_would_change_too_much_is_not_made():
    field = np.full((9, 12), -6.0)
    field[1:8, 1:11] = 6
    field[2:7, 2:10] = -6
    field[1, 4:7] = -0.5
    for most, changed in ((2, 0), (3, 3)):
        partition = partition_of(field, "1,1", most_changed=most)
        assert len(made(partition)) == changed
        assert partition.held_back == (changed == 0)


def test_nothing_is_begun_after_the_deadline():
    partition = partition_of(np.where(phantoms.ring().mask, -1.0, -3.0), "1,1")
    add_features(partition, 0.02, time.perf_counter() - 1)
    assert partition.changed == 0


@pytest.mark.parametrize("least", [2, 4, 7])
def test_features_that_are_made_have_the_least_size(least):
    field = np.full((16, 16), 3.0)
    field[8, 8] = 0.5
    partition = partition_of(field, "1,1")
    assert len(made(partition, min_voxels=least)) == least
    assert partition.betti == [[1, 1]]
    field = np.full((9, 9), -3.0)
    field[4, 4] = -0.5
    partition = partition_of(field, "1,0")
    assert len(made(partition, min_voxels=least)) == least
    assert partition.betti == [[1, 0]]


def test_a_new_component_has_the_likeliest_label_of_its_region():
    logits = np.zeros((4, 3, 7), np.float32)
    logits[1:] = -6
    logits[1, 1, 1] = 2
    logits[2, 1, 5], logits[3, 1, 5] = -1, -0.5
    partition = Partition(logits.argmax(0), logits, Prior.parse(["1:1,0", "2+3:1,0"]))
    add_features(partition, 0.02, FOREVER)
    assert partition.labels()[1].tolist() == [0, 1, 0, 0, 0, 3, 0]
    assert partition.error == 0


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
def test_what_is_missing_in_smooth_fields_is_made_where_there_is_evidence(rank, connectivity):
    shape = {2: (22, 21), 3: (10, 11, 10)}[rank]
    complete = 0
    for seed in range(6):
        field = counting.fields(np.random.default_rng(seed), shape, 1, "smooth")[0]
        for dimension in range(rank):
            here = partition_of(field, ",".join("*" * rank), connectivity).betti[0][dimension]
            text = ["*"] * rank
            text[dimension] = f"{here + 1}-"
            partition = partition_of(field, ",".join(text), connectivity)
            signs = [
                s for s in sources(partition, partition.prior.constraints[0], dimension) if s.length > 0.02
            ]
            changed = made(partition)
            assert partition.betti[0][dimension] >= here
            assert signs or not changed
            complete += partition.error == 0 and bool(signs)
            assert bool(changed) == (partition.error == 0)
    assert complete >= 5 * rank


def test_a_source_is_a_value():
    assert Source(1, -1, 0.5, True) == Source(1, -1, 0.5, True)
    with pytest.raises(AttributeError):
        Source(1, -1, 0.5, True).length = 1.0
