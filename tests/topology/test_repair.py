"""The exact correction against an independent count, an exhaustive search, phantoms and what it promises."""

import itertools
import time
from concurrent.futures import ThreadPoolExecutor

import counting
import numpy as np
import phantoms
import pytest
from scipy import ndimage

from topofix.errors import InvalidArray, InvalidPrior
from topofix.topology import defects, features
from topofix.topology.persistence import barcode, simple_points
from topofix.topology.priors import Constraint, Prior, Range
from topofix.topology.regions import region_mask
from topofix.topology.repair import Lack, error_of, lacking, repair

CONNECTIVITIES = ["full", "face"]
KINDS = ["smooth", "noise", "ties", "faint"]
SHAPES = {2: (14, 13), 3: (6, 7, 6)}


def logits_of(field: np.ndarray) -> np.ndarray:
    """Logits of one label that is where a field is above 0."""
    return np.stack([0 * field, field]).astype(np.float32)


def repaired(field: np.ndarray, text: str, connectivity: str = "full", **options) -> np.ndarray:
    """The mask of one label, which has to have the topology that is asked for."""
    found = repair(logits_of(field), Prior.parse(text), connectivity, **options)
    assert found.error == 0
    assert found.finished
    assert counting.error(found.labels, Prior.parse(text), connectivity) == 0
    return found.labels > 0


def flips(field: np.ndarray, mask: np.ndarray) -> float:
    """What a mask costs."""
    return float(np.abs(field, dtype=np.float64)[(field > 0) != mask].sum())


def random_prior(random: np.random.Generator, rank: int, labels: int) -> Prior:
    """One to three regions, unions among them, with exact numbers, ranges and don't-cares."""
    regions = [r for size in range(labels + 1) for r in itertools.combinations(range(1, labels + 1), size)]
    choices = [
        Range(0, 0),
        Range(1, 1),
        Range(2, 2),
        Range(0, 1),
        Range(1, 3),
        Range(1, None),
        Range(0, None),
    ]
    while True:
        count = min(int(random.integers(1, 4)), len(regions))
        picked = random.choice(len(regions), count, replace=False)
        try:
            return Prior(
                tuple(
                    Constraint(regions[k], tuple(choices[c] for c in random.integers(0, len(choices), rank)))
                    for k in picked
                )
            )
        except InvalidPrior:
            continue


def needed(labels: np.ndarray, voxel: int, label: int, prior: Prior, connectivity: str) -> bool:
    """Whether a Betti number changes when one voxel goes back, or the voxel is at least no simple point."""
    restored = labels.copy()
    restored.flat[voxel] = label
    if counting.of_regions(restored, prior, connectivity) != counting.of_regions(labels, prior, connectivity):
        return True
    masks = [[region_mask(map_, c.region) for map_ in (labels, restored)] for c in prior.constraints]
    return labels.ndim == 3 and any(
        one.flat[voxel] != other.flat[voxel] and not simple_points(one, connectivity).flat[voxel]
        for one, other in masks
    )


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_promised_holds_for_any_field_and_prior(kind, channels, rank, connectivity):
    random = np.random.default_rng([channels, rank, KINDS.index(kind)])
    met = 0
    for case in range(6):
        logits = counting.fields(random, SHAPES[rank], channels, kind)
        prior = random_prior(random, rank, channels - 1)
        frozen = random.random(SHAPES[rank]) < 0.15 if case % 3 == 2 else None
        start = logits.argmax(0)
        given = logits.copy()
        found = repair(logits, prior, connectivity, frozen=frozen)
        np.testing.assert_array_equal(logits, given)
        assert found.labels.shape == start.shape
        assert found.labels.dtype == np.uint8
        assert found.labels.max() < channels
        assert found.finished
        assert found.error == counting.error(found.labels, prior, connectivity)
        assert found.error <= counting.error(start, prior, connectivity)
        if frozen is not None:
            assert (found.labels[frozen] == start[frozen]).all()
        changed = np.flatnonzero(found.labels != start)
        if counting.error(start, prior, connectivity) == 0:
            assert not len(changed)
        for voxel in random.permutation(changed)[:25]:
            assert needed(found.labels, voxel, start.flat[voxel], prior, connectivity)
        met += found.error == 0
    assert met >= 1


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_one_region_is_always_repaired_unless_the_field_shows_no_sign_of_a_feature(kind, rank, connectivity):
    random = np.random.default_rng([rank, KINDS.index(kind)])
    for text in {
        2: ["1,0", "0,0", "2,1", "1-2,*", "*,0", "1,1", "3-,0-1"],
        3: ["1,0,0", "0,0,0", "2,1,0", "1-2,*,0", "1,0,1", "1,1,0", "*,*,0"],
    }[rank]:
        for _ in range(2):
            logits = counting.fields(random, SHAPES[rank], 2, kind)
            prior = Prior.parse(text)
            found = repair(logits, prior, connectivity)
            assert found.error == 0 or lacking(logits, prior, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
def test_the_result_is_the_same_each_time_and_in_any_number_of_threads(rank, connectivity, monkeypatch):
    texts = {2: ["1:1,0", "2:1,0-1", "1+2:1,0"], 3: ["1:1,0,0", "1+2:1,0,0"]}[rank]
    shape = {2: (28, 27), 3: (10, 9, 11)}[rank]
    prior = Prior.parse(texts)
    maps = [
        counting.fields(np.random.default_rng(k), shape, 3, kind) for k, kind in enumerate(["smooth", "ties"])
    ]
    expected = [repair(logits, prior, connectivity) for logits in maps]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda logits: repair(logits, prior, connectivity), maps * 3))
    for threads in (1, 3):
        for module in (defects, features):
            monkeypatch.setattr(module, "barcode", lambda f, c, n=threads: barcode(f, c, threads=n))
        together += [repair(logits, prior, connectivity) for logits in maps]
    for found, again in zip(expected * 5, together, strict=True):
        np.testing.assert_array_equal(found.labels, again.labels)
        assert (found.error, found.finished) == (again.error, again.finished)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
def test_a_field_without_ties_costs_the_same_when_it_is_flipped_or_transposed(rank, connectivity):
    for seed in range(3):
        field = counting.fields(np.random.default_rng(seed), SHAPES[rank], 1, "smooth")[0]
        text = {2: "1,0", 3: "1,0,0"}[rank]
        cost = flips(field, repaired(field, text, connectivity))
        for move in (np.flip, np.transpose, np.rot90):
            moved = move(field)
            assert flips(moved, repaired(moved, text, connectivity)) == pytest.approx(cost, rel=1e-4)


def test_labels_are_only_names_and_logits_only_differences():
    logits = counting.fields(np.random.default_rng(5), (20, 20), 4, "smooth")
    found = repair(logits, Prior.parse(["1:1,0", "2+3:1,0"]))
    shifted = np.round(logits * 256) / 256
    expected = repair(shifted, Prior.parse(["1:1,0", "2+3:1,0"]))
    again = repair(shifted + np.float32(3.5), Prior.parse(["1:1,0", "2+3:1,0"]))
    np.testing.assert_array_equal(expected.labels, again.labels)
    order = [0, 3, 1, 2]  # label 3 is now called 1, 1 is called 2, and 2 is called 3
    renamed = repair(logits[order], Prior.parse(["2:1,0", "1+3:1,0"]))
    np.testing.assert_array_equal(np.array(order)[renamed.labels], found.labels)


def exhaustive(connectivity: str) -> tuple[np.ndarray, np.ndarray]:
    """All masks of 4 x 4 voxels, flattened, and their Betti numbers, counted all at once."""
    masks = (np.arange(1 << 16)[:, None] >> np.arange(16) & 1).astype(bool)
    framed = np.pad(masks.reshape(-1, 4, 4), ((0, 0), (1, 1), (1, 1)))

    def components(side: np.ndarray, corners: bool) -> np.ndarray:
        within = np.zeros((3, 3, 3), bool)
        within[1] = True if corners else ndimage.generate_binary_structure(2, 1)
        numbers, _ = ndimage.label(side, within)
        first = np.unique(numbers, return_index=True)[1][1:]
        return np.bincount(first // 36, minlength=len(masks))

    full = connectivity == "full"
    return masks, np.stack([components(framed, full), components(~framed, not full) - 1], 1)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_almost_always_the_cost_is_that_of_the_best_of_all_masks(connectivity):
    masks, numbers = exhaustive(connectivity)
    for k in np.random.default_rng(0).integers(0, len(masks), 50):
        assert tuple(numbers[k]) == counting.betti(masks[k].reshape(4, 4), connectivity)
    for text in ("1,0", "*,0", "0-1,*"):
        prior = Prior.parse(text)
        allowed = np.array([prior.constraints[0].error(pair) == 0 for pair in numbers.tolist()])
        random = np.random.default_rng(len(text))
        ratios = []
        while len(ratios) < 75:
            field = counting.fields(random, (4, 4), 1, ["smooth", "noise"][len(ratios) % 2])[0]
            start = (field > 0).ravel()
            missing = counting.betti(field > 0, connectivity)[0] < prior.constraints[0].betti[0].low
            if missing:
                continue
            least = ((masks[allowed] != start) @ np.abs(field).ravel()).min()
            cost = flips(field, repaired(field, text, connectivity))
            assert cost >= least - 1e-4
            ratios.append(cost / least if least > 0 else 1.0 + cost)
        assert np.mean(ratios) < 1.1
        assert np.mean(np.array(ratios) < 1.5) >= 0.95
        assert np.mean(np.array(ratios) < 1.0001) >= 0.8


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_what_is_right_already_comes_back_bit_for_bit(phantom, connectivity):
    field = phantoms.probabilities(phantom.mask) - 0.5
    text = ",".join(map(str, phantom.betti(connectivity)))
    np.testing.assert_array_equal(repaired(field, text, connectivity), phantom.mask)
    np.testing.assert_array_equal(repaired(field, text, connectivity, min_voxels=1), phantom.mask)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", phantoms.all_phantoms(), ids=str)
def test_any_phantom_becomes_one_solid_piece_or_nothing(phantom, connectivity):
    field = phantoms.probabilities(phantom.mask) - 0.5
    rank = phantom.mask.ndim
    assert not repaired(field, ",".join("0" * rank), connectivity).any()
    solid = ",".join("1" + "0" * (rank - 1))
    cost = flips(field, repaired(field, solid, connectivity))
    assert cost <= np.abs(field).sum() / 2


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 8), (6, 1), (6, 7), (1, 1, 1), (1, 6, 5), (4, 5, 6)], ids=str)
def test_constant_maps(shape, connectivity):
    rank = len(shape)
    one, none = (Prior.parse(",".join(n + "0" * (rank - 1))) for n in ("1", "0"))
    empty, full = logits_of(np.full(shape, -9.0)), logits_of(np.full(shape, 9.0))
    assert repair(full, one, connectivity).labels.all()
    assert repair(full, one, connectivity).error == 0
    assert not repair(full, none, connectivity).labels.any()
    assert repair(full, none, connectivity).error == 0
    assert not repair(empty, none, connectivity).labels.any()
    found = repair(empty, one, connectivity)
    assert (found.error, found.finished, found.labels.any()) == (1, True, False)
    assert [(lack.region, lack.dimension, lack.wanted) for lack in lacking(empty, one)] == [((), 0, 1)]
    assert repair(empty, one, connectivity, min_evidence=0).labels.sum() == 1


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_where_every_logit_is_0_there_is_background_and_one_voxel_is_as_good_as_another(connectivity):
    zeros = np.zeros((3, 5, 6), np.float32)
    assert repair(zeros, Prior.parse("2:1,0"), connectivity).error == 1, "nothing stands out"
    found = repair(zeros, Prior.parse("2:1,0"), connectivity, min_evidence=0)
    assert found.error == 0
    assert (found.labels == 2).sum() == 1
    again = repair(zeros, Prior.parse("2:1,0"), connectivity, min_evidence=0)
    assert (again.labels == found.labels).all()
    assert not repair(zeros, Prior.parse("0,0"), connectivity).labels.any()
    two = repair(zeros, Prior.parse(["1:1,0", "2:1,0"]), connectivity, min_evidence=0)
    assert two.error == counting.error(two.labels, Prior.parse(["1:1,0", "2:1,0"]), connectivity) < 2


def test_of_two_equal_components_always_the_same_stays():
    field = np.full((7, 15), -9.0)
    field[2:5, 2:5] = field[2:5, 10:13] = 1
    masks = [repaired(field, "1,0") for _ in range(3)]
    for mask in masks:
        np.testing.assert_array_equal(mask, masks[0])
        assert mask.sum() == 9
    upright = repaired(field.T.copy(), "1,0")
    assert upright.sum() == 9


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_ring_at_the_border_is_opened_or_filled_and_the_border_is_no_side_of_it(connectivity):
    ring = phantoms.ring_touching_border().mask
    field = np.where(ring, 5.0, -5.0)
    field[0:2, 4] = [0.5, 0.7]
    expected = ring.copy()
    expected[0:2, 4] = False
    np.testing.assert_array_equal(repaired(field, "1,0", connectivity), expected)
    field = np.where(ring, 5.0, -0.01)
    np.testing.assert_array_equal(repaired(field, "1,0", connectivity), np.ones_like(ring))
    cut = phantoms.ring_cut_by_border().mask
    field = np.where(cut, 5.0, -5.0)
    found = repair(logits_of(field), Prior.parse("1,1"), connectivity)
    assert found.error == 0 or lacking(logits_of(field), Prior.parse("1,1"), connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_structures_one_voxel_thick(connectivity):
    line = np.full((1, 12), -4.0)
    line[0, :4] = line[0, 6:] = 3
    assert repaired(line, "1,0", connectivity).tolist() == [[True] * 12]
    assert repaired(np.where(line > 0, line, -40), "1,0", connectivity).sum() == 6
    square = np.full((9, 9), -4.0)
    square[1:8, 1:8] = 3
    square[2:7, 2:7] = -4
    square[1, 4] = 1
    opened = repaired(square, "1,0", connectivity)
    assert (opened != (square > 0)).sum() == 1
    assert not opened[1, 4]
    square[1, 4] = -1
    closed = repaired(square, "1,1", connectivity)
    assert (closed != (square > 0)).sum() == 1
    assert closed[1, 4]


def test_an_absent_structure_leaves_its_voxels_to_the_next_likeliest_label():
    logits = counting.fields(np.random.default_rng(3), (12, 13), 3, "smooth")
    found = repair(logits, Prior.parse("2:0,0"))
    assert found.error == 0
    start = logits.argmax(0)
    np.testing.assert_array_equal(found.labels, np.where(start == 2, logits[:2].argmax(0), start))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("text", ["3,0", "2,1", "2,2", "1-,1-", "3-5,1"])
def test_what_the_field_shows_no_sign_of_is_not_made_up(text, connectivity):
    field = np.full((12, 14), -12.0)
    field[3:9, 3:9] = 12
    field[6, 12] = 12
    prior = Prior.parse(text)
    found = repair(logits_of(field), prior, connectivity)
    lacks = lacking(logits_of(field), prior, connectivity)
    assert found.finished
    wishes = prior.constraints[0].betti
    assert found.error == sum(
        wish.low - count for wish, count in zip(wishes, (2, 0), strict=True) if wish.low > count
    )
    assert {lack.dimension for lack in lacks} == {
        k for k, (wish, count) in enumerate(zip(wishes, (2, 0), strict=True)) if wish.low > count
    }
    np.testing.assert_array_equal(found.labels > 0, field > 0)


def test_what_is_there_is_repaired_even_where_something_else_lacks():
    field = np.full((12, 20), -12.0)
    field[2:10, 2:10] = 12
    field[4, 4] = -0.5
    field[5, 15] = 0.3
    found = repair(logits_of(field), Prior.parse("1,3"))
    assert found.error == 2
    assert counting.betti(found.labels > 0) == (1, 1)
    assert lacking(logits_of(field), Prior.parse("1,3")) == (Lack((), 1, 3, 0.0),)


@pytest.mark.parametrize("evidence", [0.01, 0.1, 0.2, 0.3])
def test_lacking_and_repair_agree_about_evidence(evidence):
    field = np.full((5, 14), -20.0)
    for column, p in ((1, 0.9), (5, 0.25), (9, 0.15), (13, 0.05)):
        field[2, column] = np.log(p / (1 - p))
    signs = sum(p >= evidence for p in (0.25, 0.15, 0.05))
    for wanted in (1, 2, 3, 4, 5):
        prior = Prior.parse(f"{wanted},0")
        lacks = lacking(logits_of(field), prior, min_evidence=evidence)
        found = repair(logits_of(field), prior, min_evidence=evidence)
        assert bool(lacks) == (wanted > 1 + signs)
        if not lacks:
            assert found.error == 0
            assert found.labels.sum() == wanted
            continue
        assert found.error == wanted - 1
        longest = [0.25, 0.15, 0.05, 0.0][signs]
        assert lacks == (Lack((), 0, wanted, pytest.approx(longest, abs=1e-5)),)


def test_lacking_names_the_regions():
    logits = np.zeros((4, 6, 6), np.float32)
    logits[1:] = -20
    logits[1, 2, 2] = 5
    prior = Prior.parse(["1:1,0", "2:1,0", "2+3:1-,*"])
    assert [(lack.region, lack.dimension, lack.wanted) for lack in lacking(logits, prior)] == [
        ((2,), 0, 1),
        ((2, 3), 0, 1),
    ]
    found = repair(logits, prior)
    assert found.error == 2
    assert found.labels.sum() == 1


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("most", [0, 1, 3, 8, 40])
def test_no_more_voxels_change_than_may(most, connectivity):
    for seed in range(2):
        logits = counting.fields(np.random.default_rng(seed), (13, 14), 3, "noise")
        prior = Prior.parse(["1:1,0", "1+2:1,0"])
        start = logits.argmax(0)
        found = repair(logits, prior, connectivity, most_changed=most)
        assert (found.labels != start).sum() <= most
        assert found.error == counting.error(found.labels, prior, connectivity)
        assert found.error <= counting.error(start, prior, connectivity)
        assert found.finished == (found.error == 0)


def test_a_limit_that_suffices_holds_nothing_back():
    field = np.full((6, 12), -9.0)
    field[1:5, 1:5] = 9
    field[2, 8] = 0.5
    field[3, 3] = -1
    for most, error in ((0, 2), (1, 1), (2, 0), (50, 0)):
        found = repair(logits_of(field), Prior.parse("1,0"), most_changed=most)
        assert (found.error, found.finished) == (error, error == 0)
        assert (found.labels != (field > 0)).sum() == 2 - error


def test_a_deadline_in_the_past_leaves_the_start_and_takes_no_time():
    logits = counting.fields(np.random.default_rng(0), (300, 300), 2, "noise")
    begin = time.perf_counter()
    found = repair(logits, Prior.parse("1,0"), deadline=begin - 1)
    assert time.perf_counter() - begin < 2
    assert not found.finished
    assert found.error == counting.error(found.labels, Prior.parse("1,0")) > 0
    np.testing.assert_array_equal(found.labels, logits.argmax(0))


@pytest.mark.parametrize("seconds", [0.02, 0.1, 0.4])
def test_a_deadline_is_kept_and_nothing_is_worse(seconds):
    logits = counting.fields(np.random.default_rng(1), (24, 40, 40), 3, "noise")
    prior = Prior.parse(["1:1,0,0", "2:1,0,0"])
    begin = time.perf_counter()
    found = repair(logits, prior, deadline=begin + seconds)
    assert time.perf_counter() - begin < seconds + 3
    assert found.error == counting.error(found.labels, prior)
    assert found.error <= counting.error(logits.argmax(0), prior)


def test_the_repair_begins_where_it_is_told_to():
    field = np.full((8, 24), -9.0)
    field[2:6, 2:6] = 9
    field[2:6, 10:14] = 9
    started = field > 0
    started[:, 9:] = False
    found = repair(logits_of(field), Prior.parse("1,0"), labels=started.astype(np.int64))
    np.testing.assert_array_equal(found.labels > 0, started)
    assert found.labels.dtype == np.uint8
    started[4, 20] = True
    found = repair(logits_of(field), Prior.parse("1,0"), labels=started.astype(np.int64))
    assert found.error == 0
    assert not found.labels[4, 20]
    assert not found.labels[:, 9:].any()


def test_frozen_voxels_keep_the_label_of_the_start():
    field = np.full((5, 9), -2.0)
    field[1:4, 1:4] = 2
    started = field > 0
    started[2, 7] = True
    frozen = np.zeros(field.shape, bool)
    frozen[2, 7] = True
    found = repair(logits_of(field), Prior.parse("1,0"), labels=started.astype(np.uint8), frozen=frozen)
    assert found.error == 0
    assert found.labels[2, 7]
    assert found.labels.sum() == 13


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_what_frozen_voxels_make_impossible_is_not_made_worse(connectivity):
    field = np.full((9, 13), -3.0)
    field[2:7, 2:5] = field[2:7, 8:11] = 3
    field[4, 3] = -1
    frozen = np.zeros(field.shape, bool)
    frozen[:, 5:8] = frozen[2:7, 2:5] = frozen[3:5, 9] = True
    frozen[4, 3] = False
    found = repair(logits_of(field), Prior.parse("1,0"), connectivity, frozen=frozen)
    np.testing.assert_array_equal(found.labels[frozen], (field > 0)[frozen])
    assert found.labels[4, 3]
    assert found.error == 1
    assert found.finished
    everything = np.ones(field.shape, bool)
    found = repair(logits_of(field), Prior.parse("1,0"), connectivity, frozen=everything)
    assert found.error == 2
    np.testing.assert_array_equal(found.labels > 0, field > 0)


def test_logits_that_do_not_fit_are_refused():
    field = np.zeros((4, 5))
    with pytest.raises(InvalidArray, match=r"^logits: expected channels and 3 axes, got"):
        repair(logits_of(field), Prior.parse("1,0,0"))
    for bad in (np.nan, np.inf):
        field[1, 1] = bad
        with np.errstate(invalid="ignore"), pytest.raises(InvalidArray, match="finite"):
            repair(logits_of(field), Prior.parse("1,0"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"labels": np.full((5, 6), 2)}, "labels: expected 0 to 1, got 2 to 2"),
        ({"labels": np.eye(5, dtype=int)}, r"labels: expected the shape \(5, 6\), got \(5, 5\)"),
        ({"frozen": np.zeros((6, 5), bool)}, r"frozen: expected the shape \(5, 6\), got \(6, 5\)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InvalidArray, match=f"^{message}$"):
        repair(logits_of(np.ones((5, 6))), Prior.parse("3,0"), **arguments)


def test_a_label_without_a_channel_lacks_everything_and_is_absent_already():
    logits = logits_of(np.ones((5, 6)))
    assert lacking(logits, Prior.parse("5:1,0")) == (Lack((5,), 0, 1, 0.0),)
    assert repair(logits, Prior.parse("5:1,0")).error == 1
    assert repair(logits, Prior.parse("5:0,0")).error == 0


def test_a_mask_of_0_and_255_is_one_label_whatever_the_others_are():
    logits = np.full((256, 6, 9), -9.0, np.float32)
    logits[0] = 0
    logits[255, 1:4, 1:4], logits[255, 2, 2], logits[255, 4, 7] = 3, -1, 1
    for text in ("1,0", "255:1,0"):
        found = repair(logits, Prior.parse(text))
        assert found.error == 0
        assert (found.labels == np.where(logits[255] == 3, 255, 0) + 255 * (logits[255] == -1)).all()
    assert lacking(logits, Prior.parse("255:2,2"))[0].region == (255,)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_hole_in_one_label_is_filled_with_the_other_where_their_union_has_none(connectivity):
    logits = np.full((3, 9, 9), -4.0, np.float32)
    logits[0] = 1
    logits[:2, 2:7, 2:7] = [[[-2]], [[3]]]  # a square of label 1
    logits[:, 4, 4] = 0.5, 1, 0.2  # whose middle may be background rather than label 2
    prior = Prior.parse("1:1,1 1+2:1,0")
    found = repair(logits, prior, connectivity)
    assert counting.error(found.labels, prior, connectivity) == found.error == 0
    assert found.labels[4, 4] == 2


@pytest.mark.parametrize("shape", [(300, 9), (60, 7, 7)])
def test_a_long_gap_is_bridged_where_that_is_cheaper_than_a_large_part(shape):
    field = np.full(shape, -5.0)
    middle = tuple(side // 2 for side in shape[1:])
    field[(slice(None), *middle)] = -1
    field[:5], field[-5:] = 1e3, 1e3
    assert repaired(field, "1,0" if len(shape) == 2 else "1,0,0").sum() == 2 * field[:5].size + shape[0] - 10


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
def test_the_error_of_a_label_map_is_that_of_an_independent_count(rank, connectivity):
    random = np.random.default_rng(rank)
    for _ in range(15):
        labels = random.integers(0, 4, SHAPES[rank])
        prior = random_prior(random, rank, 3)
        assert error_of(labels, prior, connectivity) == counting.error(labels, prior, connectivity)
        small = sum(
            size < 3
            for constraint in prior.constraints
            for side in (True, False)
            for size in counting.part_sizes(region_mask(labels, constraint.region), side, connectivity)
        )
        assert error_of(labels, prior, connectivity, 3) == counting.error(labels, prior, connectivity) + small


def radius_from(shape, *centres) -> np.ndarray:
    """Distance of each voxel to the nearest of some points."""
    distances = [
        np.sqrt(sum((x - m) ** 2 for x, m in zip(np.indices(shape), c, strict=True))) for c in centres
    ]
    return np.min(distances, 0)


def ring_around(shape, centre, large: float, small: float) -> np.ndarray:
    """By how much voxels lie inside of a torus across the first axis."""
    z, y, x = (axis - middle for axis, middle in zip(np.indices(shape), centre, strict=True))
    return small - np.hypot(np.hypot(y, x) - large, z)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_pinhole_of_a_hollow_sphere_is_closed_if_a_cavity_is_asked_for(connectivity):
    r = radius_from((17, 17, 17), (8, 8, 8))
    field = 1.6 - np.abs(r - 5.5)
    pinhole = (r > 3) & (r < 8) & (np.indices(r.shape)[1] == 8) & (np.indices(r.shape)[2] == 8)
    pinhole[9:] = False
    field[pinhole & (field > 0)] = -0.3
    field[2, 8, 8] = -0.2
    start = field > 0
    assert counting.betti(start, connectivity) == (1, 0, 0)
    closed = repaired(field, "1,0,1", connectivity)
    assert np.argwhere(closed != start).tolist() == [[2, 8, 8]]
    np.testing.assert_array_equal(repaired(field, "1,0,0", connectivity), start)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_cavity_is_opened_where_its_wall_is_thin_or_filled_if_it_is_small(connectivity):
    r = radius_from((17, 17, 17), (8, 8, 8))
    field = 1.6 - np.abs(r - 5.5)
    thin = (slice(0, 8), 8, 8)
    field[thin] = np.where(field[thin] > 0, 0.1, field[thin])
    opened = repaired(field, "1,0,0", connectivity)
    assert not (opened & ~(field > 0)).any()
    assert np.flatnonzero((field > 0) & ~opened).size <= 8
    small = 5.5 - r
    small[8, 8, 8] = -0.5
    np.testing.assert_array_equal(repaired(small, "1,0,0", connectivity), r < 5.5)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(("large", "small", "filled"), [(5, 3.7, True), (8, 1.6, False)])
def test_a_torus_is_filled_where_its_hole_is_narrow_and_cut_where_its_handle_is_thin(
    large, small, filled, connectivity
):
    shape = (13, 25, 25)
    field = ring_around(shape, (6, 12, 12), large, small)
    start = field > 0
    assert counting.betti(start, connectivity) == (1, 1, 0)
    solid = repaired(field, "1,0,0", connectivity)
    changed = solid != start
    assert (solid[changed] == filled).all()
    assert changed.sum() < (12 if filled else 0.1 * start.sum())


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_double_torus_loses_one_hole_or_both(connectivity):
    shape = (9, 19, 34)
    field = np.maximum(ring_around(shape, (4, 9, 9), 6, 2.2), ring_around(shape, (4, 9, 9 + 14.5), 6, 2.2))
    field[:, 2:4, 24] *= 0.2  # the right-hand handle is weak at one place
    start = field > 0
    assert counting.betti(start, connectivity) == (1, 2, 0)
    one = repaired(field, "1,1,0", connectivity)
    where = np.argwhere(one != start)
    assert (where[:, 2] > 17).all()
    both = repaired(field, "1,0,0", connectivity)
    assert flips(field, both) > flips(field, one)
    np.testing.assert_array_equal(repaired(field, "1,1-2,0", connectivity), start)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize(("gap", "bridged"), [(-0.25, True), (-80.0, False)])
def test_two_spheres_are_bridged_or_the_smaller_removed_by_price(gap, bridged, connectivity):
    shape = (13, 13, 27)
    field = np.maximum(5.5 - radius_from(shape, (6, 6, 6)), 3.5 - radius_from(shape, (6, 6, 20)))
    outside = field <= 0
    field[outside] = -80
    field[6, 6, 6:20] = np.where(outside[6, 6, 6:20], gap, field[6, 6, 6:20])
    start = field > 0
    assert counting.betti(start, connectivity) == (2, 0, 0)
    mask = repaired(field, "1,0,0", connectivity)
    if bridged:
        np.testing.assert_array_equal(mask, start | (field == np.float64(gap)))
    else:
        np.testing.assert_array_equal(mask, start & (np.indices(shape)[2] < 13))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_two_spheres_with_a_thin_neck_are_cut_in_two(connectivity):
    shape = (13, 13, 29)
    field = 5.5 - radius_from(shape, (6, 6, 6), (6, 6, 22))
    neck = np.zeros(shape, bool)
    neck[5:8, 5:8, 6:23] = True
    neck &= field <= 0
    field[neck] = 1
    field[5:8, 5:8, 14] = 0.125
    start = field > 0
    assert counting.betti(start, connectivity) == (1, 0, 0)
    cut = repaired(field, "2,0,0", connectivity)
    np.testing.assert_array_equal(start & ~cut, (field == 0.125) & neck)
    assert not (cut & ~start).any()


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_wall_around_a_cavity_has_both_their_topologies(connectivity):
    """A heart in one slice: a ring of label 1 around label 2, both with gaps and specks."""
    r = radius_from((32, 32), (15.5, 15.5))
    angle = np.arctan2(*(np.indices((32, 32)) - 15.5))
    logits = np.zeros((3, 32, 32), np.float32)
    logits[1] = 3 - np.abs(r - 10) - 3.5 * (np.abs(angle) < 0.15)
    logits[2] = 6.5 - r
    logits[1, 2, 2] = logits[2, 29, 29] = 1
    logits[0, 15, 15] = 8
    logits += 0.01 * np.random.default_rng(0).standard_normal(logits.shape).astype(np.float32)
    prior = Prior.parse(["1:1,1", "2:1,0", "1+2:1,0"])
    found = repair(logits, prior, connectivity)
    assert found.error == 0
    assert counting.error(found.labels, prior, connectivity) == 0
    assert counting.error(logits.argmax(0), prior, connectivity) >= 4
    assert (found.labels != logits.argmax(0)).sum() < 60
