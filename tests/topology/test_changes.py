"""What changed in a region: hand-made corrections, sums against Betti numbers, ranks against the oracle."""

from collections import Counter

import numpy as np
import oracle
import pytest

from topofix.errors import InvalidArray
from topofix.topology.changes import Change, explain
from topofix.topology.persistence import NEVER, barcode, betti
from topofix.topology.priors import FOREGROUND, Prior
from topofix.topology.regions import region_mask

CONNECTIVITIES = ["full", "face"]


def picture(text: str) -> np.ndarray:
    """Probabilities from digits, in tenths; a dot is 0.01."""
    rows = [line.strip() for line in text.strip().splitlines()]
    return np.array([[0.01 if sign == "." else int(sign) / 10 for sign in row] for row in rows])


def logits_of(p: np.ndarray) -> np.ndarray:
    return np.stack([np.log1p(-p), np.log(p)])


def rows_of(p: np.ndarray, after: np.ndarray, connectivity: str = "full") -> tuple[Change, ...]:
    """The changes of the foreground from p > 1/2 to a mask."""
    prior = Prior.parse(",".join("*" * p.ndim))
    return explain((p > 0.5).astype(np.uint8), after.astype(np.uint8), logits_of(p), prior, connectivity)


def row(dimension, kind, birth, death, voxel, voxels=1, gained=True):
    ends = [None if end is None else pytest.approx(end) for end in (birth, death)]
    return Change(FOREGROUND, dimension, kind, *ends, voxel, voxels, gained)


PIECES = """
    99..8
    89128
    .4..7
"""
RING = """
    .....
    .867.
    .9.8.
    .879.
    .....
"""


def test_a_component_is_taken_away():
    p = picture(PIECES)
    after = p > 0.5
    after[:, 4] = False
    assert rows_of(p, after) == (row(0, "removed", 0.8, 0.1, (0, 4), 3, gained=False),)


def test_a_component_is_joined_to_another():
    p = picture(PIECES)
    after = p > 0.5
    after[1, 2:4] = True
    assert rows_of(p, after) == (row(0, "removed", 0.8, 0.1, (1, 2), 2),)


def test_a_hole_is_filled():
    p = picture(RING)
    after = p > 0.5
    after[2, 2] = True
    assert rows_of(p, after) == (row(1, "removed", 0.6, 0.01, (2, 2)),)


def test_a_ring_is_cut_at_its_weakest_voxel():
    p = picture(RING)
    after = p > 0.5
    after[1, 2] = False
    assert rows_of(p, after) == (row(1, "removed", 0.6, 0.01, (1, 2), gained=False),)


def test_a_ring_that_is_cut_elsewhere_is_still_known_by_its_death():
    p = picture(RING)
    after = p > 0.5
    after[3, 2] = False
    assert rows_of(p, after) == (row(1, "removed", 0.6, 0.01, (3, 2), gained=False),)


def test_a_join_elsewhere_is_still_known_by_its_birth():
    """The field would join the upper piece at 0.4; the correction does it at 0.2, beside a lower piece."""
    p = picture("""
        99.4.88
        99...88
        99.2.88
        .......
        99.3.77
    """)
    after = p > 0.5
    after[2, 2:5] = True
    assert rows_of(p, after) == (row(0, "removed", 0.8, 0.01, (2, 4), 3),)


def test_an_open_ring_is_closed():
    p = picture(RING)
    p[1, 2] = 0.4
    after = p > 0.5
    after[1, 2] = True
    assert rows_of(p, after) == (row(1, "added", 0.4, 0.01, (1, 2)),)


def test_a_hole_is_opened_where_the_field_had_filled_it():
    p = picture(RING)
    p[2, 2] = 0.55
    after = p > 0.5
    after[2, 2] = False
    assert rows_of(p, after) == (row(1, "added", 0.6, 0.55, (2, 2), gained=False),)


def test_a_component_is_made():
    p = picture(PIECES)
    after = p > 0.5
    after[2, 1] = True  # touches what is there
    assert rows_of(p, after) == (row(None, "changed", None, None, (2, 1)),)
    p = picture("99...\n.....\n...43")
    after = p > 0.5
    after[2, 3:] = True
    assert rows_of(p, after) == (row(0, "added", 0.4, 0.01, (2, 3), 2),)


def test_a_feature_that_no_bar_foretold_has_no_birth():
    p = picture("9876.\n.....\n.....")
    after = p > 0.5
    after[2, 4] = True  # the slope of the field's only bar
    p[2, 3], p[1, 3], p[2, 4] = 0.3, 0.4, 0.2
    assert rows_of(p, after) == (row(0, "added", None, None, (2, 4)),)


def test_the_essential_bar_dies_at_zero():
    p = picture(RING)
    rows = rows_of(p, np.zeros_like(p, bool))
    assert [(r.dimension, r.kind, r.death) for r in rows] == [
        (0, "removed", 0.0),
        (1, "removed", pytest.approx(0.01)),
    ]


def test_a_thin_wall_that_moves_is_neither_opened_nor_closed():
    p = picture("99999\n9...9\n9...9\n9...9\n99999")
    after = p > 0.5
    after[0], after[1, 1:4] = False, True
    after[1, [0, 4]] = True
    rows = rows_of(p, after)
    assert {r.dimension for r in rows} == {None}
    assert sorted(r.voxels for r in rows) == [3, 5]


def test_two_pieces_close_a_ring_together_and_one_of_them_makes_it():
    p = picture(RING)
    p[1, 2], p[3, 2] = 0.4, 0.3
    after = p > 0.5
    after[[1, 3], 2] = True
    # (1, 2) joins the two sides, (3, 2) closes what is then open
    assert rows_of(p, after) == (
        row(0, "removed", 0.9, 0.4, (1, 2)),
        row(1, "added", 0.3, 0.01, (3, 2)),
    )


def test_features_of_one_piece_share_its_voxels_out():
    p = picture("""
        999999
        944499
        999939
        999999
    """)  # two holes, for the background does not pass through corners, and one piece
    rows = rows_of(p, np.ones_like(p, bool))
    assert rows == (row(1, "removed", 0.9, 0.4, (1, 3), 3), row(1, "removed", 0.9, 0.3, (2, 4), 1))


def test_a_cavity_is_filled_and_a_tunnel_is_cut():
    p = np.full((5, 5, 10), 0.1)
    p[1:4, 1:4, 1:4] = 0.9
    p[2, 2, 2] = 0.3
    p[2, 1:4, 6:9] = 0.8
    p[2, 2, 7] = 0.2
    p[2, 1, 7] = 0.6
    after = p > 0.5
    after[2, 2, 2], after[2, 1, 7] = True, False
    assert rows_of(p, after) == (
        row(1, "removed", 0.6, 0.2, (2, 1, 7), gained=False),
        row(2, "removed", 0.9, 0.3, (2, 2, 2)),
    )


def test_each_region_has_rows_of_its_own_in_the_priors_order():
    """The wall (2) opens into the cavity (3): the wall loses its hole, the union of the two nothing."""
    labels = np.pad(np.full((3, 3), 2), 1)
    labels[2, 2] = 3
    logits = np.where(np.arange(4)[:, None, None] == labels, 2.0, 0.0)
    logits[2, 1, 2] = 1.0  # the weakest place of the wall
    after = labels.copy()
    after[1, 2] = 3
    rows = explain(labels, after, logits, Prior.parse("2+3:1,0 2:1,* 3:1,0"))
    assert [(r.region, r.dimension, r.kind) for r in rows] == [((2,), 1, "removed"), ((3,), None, "changed")]
    assert rows[0].birth == pytest.approx(1 / (1 + np.exp(-1)))


def random_case(seed: int, rank: int):
    """A random field, its label map, one that differs, and a prior that names several regions."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 10 if rank == 2 else 6, rank))
    count = int(rng.integers(1, 4))
    logits = rng.normal(size=(count + 1, *shape)).astype(np.float32)
    if seed % 3 == 0:
        logits = logits.round()  # ties
    before = logits.argmax(0).astype(np.uint8)
    flips = rng.random(shape) < rng.random()
    after = np.where(flips, rng.integers(0, count + 1, shape), before).astype(np.uint8)
    free = ",".join("*" * rank)
    texts = [free, f"1:{free}", *([f"1+2:{free}", f"2:{free}"] if count > 1 else [])]
    return before, after, logits, Prior.parse(texts)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
def test_the_rows_add_up_to_the_change_of_the_betti_numbers_and_to_the_voxels_flipped(rank, connectivity):
    for seed in range(60):
        before, after, logits, prior = random_case(seed, rank)
        rows = explain(before, after, logits, prior, connectivity)
        assert [r.region for r in rows] == sorted(
            (r.region for r in rows), key=[c.region for c in prior.constraints].index
        )
        for constraint in prior.constraints:
            old, new = (region_mask(labels, constraint.region) for labels in (before, after))
            ours = [r for r in rows if r.region == constraint.region]
            sums = Counter()
            for r in ours:
                assert (r.dimension is None) == (r.kind == "changed")
                assert (old != new)[r.voxel]
                sums[r.dimension] += {"added": 1, "removed": -1, "changed": 0}[r.kind]
            change = np.subtract(betti(new, connectivity), betti(old, connectivity))
            assert [sums[k] for k in range(rank)] == change.tolist()
            assert sum(r.voxels for r in ours) == (old != new).sum()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
def test_gains_and_losses_have_the_ranks_of_the_map_between_their_homologies(rank, connectivity):
    """Kernel and cokernel, from the textbook's algorithm on a field of three values."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        p = rng.random((5, 6) if rank == 2 else (3, 4, 3)) * 0.98 + 0.01
        larger = p > 0.5
        smaller = larger & (rng.random(p.shape) < 0.7)
        levels = larger.astype(int) + smaller
        expected = Counter()
        for dimension, birth, death in oracle.bars(levels, connectivity):
            ends = levels.flat[birth], levels.flat[death] if death >= 0 else 0
            if ends in {(2, 1), (1, 0)}:
                expected[dimension, "added" if ends == (2, 1) else "removed"] += 1
        lost = Counter(
            (r.dimension, r.kind) for r in rows_of(p, smaller, connectivity) if r.kind != "changed"
        )
        assert lost == expected
        swapped = {"added": "removed", "removed": "added"}
        before, prior = smaller.astype(np.uint8), Prior.parse(",".join("*" * rank))
        rows = explain(before, larger.astype(np.uint8), logits_of(p), prior, connectivity)
        gained = Counter((r.dimension, swapped[r.kind]) for r in rows if r.kind != "changed")
        assert gained == expected


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(14, 15), (6, 7, 8)])
@pytest.mark.parametrize("ties", [False, True])
def test_when_all_is_lost_or_all_is_gained_each_feature_has_exactly_its_bar(shape, connectivity, ties):
    p = np.random.default_rng(0).random(shape) * 0.98 + 0.01
    p = p.round(1).clip(0.05, 0.95) if ties else p
    logits = logits_of(p)
    bars = barcode(logits[1] - logits[0], connectivity)
    births, deaths = bars.values(p)
    alive = (births > 0.5) & ((deaths <= 0.5) | (bars.death == NEVER))
    expected = sorted(zip(bars.dimension[alive], births[alive], deaths[alive], strict=True))
    emptied = rows_of(p, np.zeros(shape), connectivity)
    assert [r.kind for r in emptied] == ["removed"] * len(expected)
    found = sorted((r.dimension, r.birth, r.death) for r in emptied)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    filled = rows_of(p, np.ones(shape), connectivity)
    found = sorted((r.dimension, r.birth, r.death) for r in filled if r.kind == "removed")
    np.testing.assert_allclose(found, [bar for bar in expected if bar[2] > 0], rtol=1e-9)


def test_no_bar_is_named_twice():
    p = np.random.default_rng(1).random((40, 40)) * 0.98 + 0.01
    after = np.random.default_rng(2).random((40, 40)) < 0.5
    rows = rows_of(p, after)
    named = [(r.dimension, r.birth, r.death) for r in rows if r.birth is not None]
    assert len(named) > 50
    assert len(set(named)) == len(named)
    for r in rows:
        if r.birth is not None:
            assert (r.birth > 0.5 >= r.death) == (r.kind == "removed")


def test_the_precision_and_memory_order_of_the_logits_do_not_matter():
    before, after, logits, prior = random_case(5, 3)
    expected = explain(before, after, logits, prior)
    assert expected
    assert explain(before.astype(np.int64), after, np.asfortranarray(logits), prior) == expected
    assert explain(before, after, logits.astype(np.float64), prior) == expected


def test_nothing_changed_is_no_row():
    before, _, logits, prior = random_case(1, 2)
    assert explain(before, before, logits, prior) == ()


def test_what_does_not_fit_is_refused():
    before, after, logits, prior = random_case(1, 2)
    with pytest.raises(InvalidArray, match="one shape"):
        explain(before, after[:-1], logits, prior)
    changed = np.array([[2, 0], [0, 0]])
    with pytest.raises(InvalidArray, match="expected labels 1 to 1, got a prior for label 2"):
        explain(np.zeros_like(changed), changed, np.zeros((2, 2, 2)), Prior.parse("2:1,0"))
