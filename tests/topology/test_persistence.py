"""The barcode against a textbook reduction, GUDHI, CubicalRipser, shapes with known topology and theorems."""

import re
import subprocess
import sys
import threading
import time

import numpy as np
import oracle
import phantoms
import pytest

from topofix.errors import InvalidArray
from topofix.topology.persistence import Barcode, barcode, barcodes, betti, betti_at, simple_points

CONNECTIVITIES = ["full", "face"]
PHANTOMS = phantoms.all_phantoms()
SHAPES = [(1, 1), (1, 5), (5, 1), (2, 2), (2, 5), (4, 2), (5, 6), (6, 4)]
SHAPES += [(1, 1, 1), (1, 1, 4), (1, 4, 3), (3, 1, 4), (4, 3, 1), (2, 2, 2), (2, 3, 4), (4, 2, 3), (4, 4, 4)]
FIELDS = {
    "tie-free": lambda random, shape: random.permutation(np.prod(shape)).reshape(shape) / np.prod(shape),
    "quantised": lambda random, shape: random.integers(0, 4, shape) / 4,
    "binary": lambda random, shape: random.integers(0, 2, shape).astype(np.float32),
    "mostly background": lambda random, shape: random.random(shape) * (random.random(shape) < 0.4),
    "constant": lambda random, shape: np.full(shape, 0.5, np.float32),
    "negative": lambda random, shape: random.standard_normal(shape),
    "signed zeros": lambda random, shape: random.choice([-0.0, 0.0, 1.0, -1.0], shape),
    "denormal": lambda random, shape: random.integers(-3, 4, shape) * np.float32(1e-45),
    "equal in float32": lambda random, shape: 0.5 + random.integers(0, 4, shape) * 2.0**-50,
    "enormous": lambda random, shape: random.choice([-1, -0.5, 0.5, 1], shape) * np.finfo(np.float64).max,
}


def triples(bars: Barcode) -> list[oracle.Bar]:
    """The bars in the oracle's form."""
    return sorted(zip(bars.dimension.tolist(), bars.birth.tolist(), bars.death.tolist(), strict=True))


def diagram(bars: Barcode, field: np.ndarray) -> list[tuple[float, ...]]:
    """The bars by value: what no relabelling of voxels can change."""
    return sorted(zip(bars.dimension.tolist(), *(v.tolist() for v in bars.values(field)), strict=True))


def smooth(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """A tie-free field with features of several voxels."""
    field = np.random.default_rng(seed).random(shape)
    for axis in range(len(shape)):
        field = field + np.roll(field, 1, axis) + np.roll(field, -1, axis)
    return (field - field.min()) / (field.max() - field.min())


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_bar_and_voxel_agrees_with_the_textbook(shape, kind, connectivity):
    random = np.random.default_rng(sum(shape))
    for _ in range(1 if kind == "constant" else 4):
        field = FIELDS[kind](random, shape)
        assert triples(barcode(field, connectivity)) == oracle.bars(field, connectivity), field


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_betti_numbers_at_every_threshold_agree_with_the_barcode(shape, kind, connectivity):
    field = FIELDS[kind](np.random.default_rng(len(kind)), shape)
    bars = barcode(field, connectivity)
    for threshold in [*np.unique(field).tolist(), field.min() - 1, 0.3]:
        assert betti_at(bars, field, threshold) == betti(field > threshold, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(12, 17), (7, 8, 9)], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_voxels_are_those_that_gudhi_finds_where_there_are_no_ties(seed, shape, connectivity):
    gudhi = pytest.importorskip("gudhi")
    field = np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape) + 1.0
    if connectivity == "full":
        complex_ = gudhi.CubicalComplex(top_dimensional_cells=-field)
        complex_.compute_persistence(homology_coeff_field=2)
        finite, essential = complex_.cofaces_of_persistence_pairs()
    else:
        complex_ = gudhi.CubicalComplex(vertices=-field)
        complex_.compute_persistence(homology_coeff_field=2)
        finite, essential = complex_.vertices_of_persistence_pairs()

    def in_c_order(fortran):
        return np.ravel_multi_index(np.unravel_index(fortran, shape, order="F"), shape)

    expected = [(0, int(in_c_order(essential[0][0])), -1)]
    for dimension, pairs in enumerate(finite):
        expected += [(dimension, int(b), int(d)) for b, d in zip(*in_c_order(pairs).T, strict=True)]
    assert triples(barcode(field, connectivity)) == sorted(expected)


def gudhi_diagram(field: np.ndarray, connectivity: str) -> list[tuple[float, ...]]:
    """All bars by value, from GUDHI's cubical complex; an essential bar dies at 0."""
    gudhi = pytest.importorskip("gudhi")
    cells = {"top_dimensional_cells" if connectivity == "full" else "vertices": -field.astype(np.float64)}
    bars = gudhi.CubicalComplex(**cells).persistence(homology_coeff_field=2)  # over Z/11 some pairs differ
    found = [(d, -birth, 0.0 if np.isinf(death) else -death) for d, (birth, death) in bars]
    return sorted(bar for bar in found if bar[1] != bar[2])


def ripser_diagram(field: np.ndarray, connectivity: str) -> list[tuple[float, ...]]:
    """The same from CubicalRipser."""
    cripser = pytest.importorskip("cripser")
    wide = -field.astype(np.float64)
    if connectivity == "face":
        wide = np.pad(wide, 1, constant_values=np.inf)
    bars = cripser.compute_ph(wide, filtration="T" if connectivity == "full" else "V", maxdim=field.ndim - 1)
    found = [
        (int(d), -birth, -death if np.isfinite(death) else 0.0) for d, birth, death in bars[:, :3].tolist()
    ]
    return sorted(bar for bar in found if bar[1] != bar[2])


def many_fields(rank: int, seed: int, count: int) -> list[np.ndarray]:
    """Random fields of all kinds, up to 9 voxels wide in 3-D and 16 in 2-D, some of them 1 or 2."""
    random = np.random.default_rng([rank, seed])
    kinds = [kind for kind in FIELDS if kind not in ("denormal", "equal in float32", "enormous")]
    shapes = [tuple(random.integers(1, {2: 17, 3: 10}[rank], rank)) for _ in range(count)]
    return [FIELDS[kinds[i % len(kinds)]](random, shape) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("reference", [gudhi_diagram, ripser_diagram])
@pytest.mark.parametrize("seed", range(8))
def test_every_bar_of_hundreds_of_fields_agrees_with_other_engines(seed, reference, rank, connectivity):
    for field in many_fields(rank, seed, 175):
        assert diagram(barcode(field, connectivity), field) == reference(field, connectivity), field


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(300, 260), (40, 44, 48)], ids=str)
@pytest.mark.parametrize("kind", ["tie-free", "quantised"])
def test_large_fields_agree_with_gudhi(kind, shape, connectivity):
    field = FIELDS[kind](np.random.default_rng(1), shape)
    assert diagram(barcode(field, connectivity), field) == gudhi_diagram(field, connectivity)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("kind", FIELDS)
@pytest.mark.parametrize("shape", [(310, 290), (44, 45, 46)], ids=str)
def test_the_number_of_threads_changes_nothing(shape, kind, connectivity):
    field = FIELDS[kind](np.random.default_rng(2), shape)
    expected = barcode(field, connectivity, threads=1)
    for threads in (2, 3, 16, None):
        bars = barcode(field, connectivity, threads=threads)
        np.testing.assert_array_equal(bars.birth, expected.birth)
        np.testing.assert_array_equal(bars.death, expected.death)
        np.testing.assert_array_equal(bars.dimension, expected.dimension)
        assert betti(field > 0, connectivity, threads) == betti(field > 0, connectivity, 1)


@pytest.mark.parametrize("threads", [1, 2, 7, None])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_a_batch_has_the_barcodes_of_its_fields(connectivity, threads):
    stack = np.random.default_rng(3).random((9, 20, 21))
    several = [*stack, stack.astype(np.float32), np.eye(3, dtype=int), stack[0][::-2, ::3]]
    for fields in (stack, several, iter(several), []):
        expected = [
            triples(barcode(field, connectivity)) for field in (stack if fields is stack else several)
        ]
        found = [triples(bars) for bars in barcodes(fields, connectivity, threads=threads)]
        assert found == ([] if isinstance(fields, list) and not fields else expected)


def test_a_batch_names_what_is_wrong_with_one_of_its_fields():
    with pytest.raises(
        InvalidArray, match=r"^field: expected finite values, got 2 that are NaN or infinite$"
    ):
        barcodes([np.zeros((3, 3)), np.array([[np.nan, np.inf]])])
    with pytest.raises(InvalidArray, match=r"^field: expected an array of rank 2 or 3, got rank 1$"):
        barcodes(np.zeros((2, 3)))


def test_other_threads_run_while_a_barcode_is_computed():
    field = np.random.default_rng(0).random((90, 90, 90), np.float32)
    started, finished = threading.Event(), threading.Event()

    def compute():
        started.set()
        barcode(field, threads=1)
        finished.set()

    worker = threading.Thread(target=compute)
    worker.start()
    started.wait()
    turns = 0
    while not finished.is_set():
        turns += 1
        time.sleep(0.001)
    worker.join()
    assert turns > 20  # of some hundred; a kernel that kept the interpreter would leave one


def test_float64_values_that_are_equal_in_float32_keep_their_order():
    base = np.random.default_rng(1).permutation(7 * 8 * 9).reshape(7, 8, 9)
    close = 0.5 + base * 2.0**-52
    assert np.unique(close.astype(np.float32)).size == 1
    assert triples(barcode(close)) == triples(barcode(base))
    assert len(barcode(close.astype(np.float32))) == 1


def test_more_voxels_than_27_bits_can_count():
    """513 x 512 x 512 voxels and eight times as many cells: blocks, a tunnel and a void at known voxels."""
    shape = (513, 512, 512)
    field = np.zeros(shape, np.float32)
    field[2:6, 2:6, 2:6] = 0.9
    field[508:513, 500:510, 500:510] = 0.8
    field[510, 504, 504] = 0.1
    field[300:303, 300:309, 300:309] = 0.7
    field[300:303, 304, 304] = 0.2
    births = {
        (0, 0.9): (2, 2, 2),
        (0, 0.8): (508, 500, 500),
        (0, 0.7): (300, 300, 300),
    }
    bars = barcode(field)
    found = {
        (int(d), round(float(field.flat[b]), 2), round(float(field.flat[e]), 2) if e >= 0 else 0.0): (
            int(b),
            int(e),
        )
        for d, b, e in zip(bars.dimension, bars.birth, bars.death, strict=True)
    }
    assert set(found) == {(0, 0.9, 0.0), (0, 0.8, 0.0), (0, 0.7, 0.0), (1, 0.7, 0.2), (2, 0.8, 0.1)}
    for (dimension, value), voxel in births.items():
        assert found[dimension, value, 0.0][0] == np.ravel_multi_index(voxel, shape)
    assert found[2, 0.8, 0.1][1] == np.ravel_multi_index((510, 504, 504), shape) > 2**27 - 2**20
    assert betti(field > 0.5) == (3, 1, 1)
    assert betti(field > 0.5, "face") == (3, 1, 1)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (5, 6), (1, 1, 1), (2, 1, 4), (4, 5, 5)], ids=str)
def test_a_voxel_is_simple_if_and_only_if_flipping_it_is_no_event(shape, connectivity):
    """Adding a voxel last of all makes no bar; or, seen from the other side, removing it."""
    random = np.random.default_rng(5)
    for share in (0.2, 0.5, 0.8):
        mask = random.random(shape) < share
        simple = simple_points(mask, connectivity)
        assert simple.dtype == bool
        for voxel in np.ndindex(shape):
            field = np.where(mask, 3.0, 1.0)
            field[voxel] = 2
            births, deaths = barcode(field, connectivity).values(field)
            assert simple[voxel] == (not (births == 2).any() and not (deaths == 2).any()), (mask, voxel)


def test_simple_points_take_any_type_and_refuse_what_is_no_mask():
    mask = np.zeros((5, 6))
    mask[1:4, 1:5] = -2.5
    expected = simple_points(mask != 0)
    assert expected.any()
    for same in (mask.astype(int), mask.astype(np.float32), (mask != 0).astype(np.uint8) * 7):
        np.testing.assert_array_equal(simple_points(same), expected)
    np.testing.assert_array_equal(simple_points(np.asfortranarray(mask[:, ::-1])), expected[:, ::-1])
    with pytest.raises(InvalidArray, match=r"^mask: expected an array of rank 2 or 3, got rank 1$"):
        simple_points(np.zeros(3))
    with pytest.raises(InvalidArray, match=r"^mask: expected finite values, got 1 that are NaN or infinite$"):
        simple_points(np.array([[0, np.nan]]))


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("phantom", PHANTOMS, ids=str)
def test_phantoms_have_the_topology_one_sees(phantom, connectivity):
    expected = phantom.betti(connectivity)
    assert betti(phantom.mask, connectivity) == expected
    field = phantoms.probabilities(phantom.mask)
    assert betti_at(barcode(field, connectivity), field) == expected
    # Of the mask itself, every bar lives from 1 to 0, and there are as many as features.
    bars = barcode(phantom.mask, connectivity)
    assert tuple(np.bincount(bars.dimension, minlength=phantom.mask.ndim)) == expected


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_long_bars_of_a_noisy_phantom_are_its_features(connectivity):
    ring = phantoms.ring()
    bars = barcode(phantoms.probabilities(ring.mask), connectivity, min_persistence=0.5)
    assert bars.dimension.tolist() == [0, 1]


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(14, 11), (6, 7, 8)], ids=str)
def test_flips_and_transposes_move_the_voxels_and_nothing_else(shape, connectivity):
    field = smooth(3, shape)
    voxels = np.arange(field.size).reshape(shape)
    expected = triples(barcode(field, connectivity))
    moves = [np.flip, np.transpose, np.rot90] + [lambda a, k=k: np.flip(a, k) for k in range(len(shape))]
    for move in moves:
        origin = move(voxels).ravel()
        moved = [
            (dimension, int(origin[birth]), -1 if death == -1 else int(origin[death]))
            for dimension, birth, death in triples(barcode(move(field), connectivity))
        ]
        assert sorted(moved) == expected


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("kind", ["tie-free", "quantised", "mostly background"])
def test_values_of_quantised_fields_survive_flips_although_voxels_do_not(kind, connectivity):
    field = FIELDS[kind](np.random.default_rng(8), (5, 6, 7))
    flipped = field[::-1, :, ::-1]
    assert diagram(barcode(flipped, connectivity), flipped) == diagram(barcode(field, connectivity), field)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("kind", FIELDS)
def test_monotone_remapping_keeps_every_pair(kind, connectivity):
    field = FIELDS[kind](np.random.default_rng(4), (6, 5, 4)).astype(np.float64)
    field /= max(1, np.abs(field).max())  # the exponential of enormous ones has no place in a float
    expected = triples(barcode(field, connectivity))
    steps = np.unique(field, return_inverse=True)[1].reshape(field.shape) + 1
    for remapped in (np.cbrt(field), 3 * field, steps):
        assert triples(barcode(remapped, connectivity)) == expected


@pytest.mark.parametrize(("connectivity", "dual"), [("full", "face"), ("face", "full")])
@pytest.mark.parametrize("shape", [(9, 11), (6, 5, 7)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_alexander_duality(seed, shape, connectivity, dual):
    """A feature of dimension k of the field is one of dimension rank - 1 - k of the background around it."""
    inside = np.random.default_rng(seed).permutation(np.prod(shape)).reshape(shape) + 1.0
    framed = np.pad(inside, 1)
    top = len(shape) - 1
    features = [bar for bar in triples(barcode(framed, connectivity)) if bar[2] != -1]
    background = [bar for bar in triples(barcode(-framed, dual)) if bar[2] != -1]
    mirrored = {(top - dimension, death, birth) for dimension, birth, death in features}
    # The one bar more is the frame, a sphere that the highest voxel fills: the dual of the essential bar.
    ((dimension, birth, death),) = set(background) - mirrored
    assert (dimension, framed.flat[birth], death) == (top, 0, framed.argmax())
    assert mirrored < set(background)
    assert len(background) == len(features) + 1


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
@pytest.mark.parametrize("shape", [(12, 12), (7, 7, 7)], ids=str)
def test_bars_move_no_further_than_the_field(shape, connectivity):
    """Stability, Cohen-Steiner et al. 2007: bottleneck distance <= largest change of a voxel."""
    gudhi = pytest.importorskip("gudhi")
    random = np.random.default_rng(2)
    for size in (0.01, 0.1, 0.3):
        field = smooth(5, shape)
        noisy = np.clip(field + size * random.uniform(-1, 1, shape), 0, 1)
        change = np.abs(noisy - field).max()
        for dimension in range(len(shape)):
            diagrams = [
                np.stack(barcode(image, connectivity).of(dimension).values(image)[::-1], axis=1)
                for image in (field, noisy)
            ]
            assert gudhi.bottleneck_distance(*diagrams) <= change + 1e-12


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_betti_numbers_give_the_euler_number_of_scikit_image(connectivity, rank):
    measure = pytest.importorskip("skimage.measure")
    random = np.random.default_rng(6)
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        mask = random.random((13, 12, 11)[:rank]) < share
        counts = betti(mask, connectivity)
        neighbours = rank if connectivity == "full" else 1
        assert sum((-1) ** k * n for k, n in enumerate(counts)) == measure.euler_number(mask, neighbours)
        assert counts[0] == measure.label(mask, connectivity=neighbours).max()


def test_betti_counts_any_type_of_foreground_anywhere_in_the_image():
    mask = np.zeros((40, 50), np.uint8)
    mask[30:40, 44:50] = 7
    mask[33:36, 46:48] = 0
    assert betti(mask) == (1, 1)
    assert betti(mask * -0.5) == (1, 1)
    assert betti(mask.astype(bool)) == (1, 1)


def test_the_first_of_equal_voxels_creates_and_the_last_destroys():
    field = np.array([[1.0, 0.0, 1.0, 0.0, 1.0]])
    assert triples(barcode(field)) == [(0, 0, -1), (0, 2, 1), (0, 4, 3)]
    hole = np.ones((3, 4))
    hole[1, 1:3] = 0
    assert triples(barcode(hole)) == [(0, 0, -1), (1, 10, 6)]


def test_bars_are_ordered_by_dimension_then_from_long_to_short_then_by_birth():
    for kind, make in FIELDS.items():
        field = make(np.random.default_rng(1), (6, 6, 6))
        bars = barcode(field)
        births, deaths = bars.values(field)
        with np.errstate(over="ignore"):
            keys = list(zip(bars.dimension, deaths - births, bars.birth, strict=True))
        assert keys == sorted(keys), kind


def test_a_barcode_can_be_asked_for_one_dimension():
    field = smooth(1, (9, 9, 9))
    bars = barcode(field)
    parts = [bars.of(dimension) for dimension in range(3)]
    assert [len(part) for part in parts] == np.bincount(bars.dimension, minlength=3).tolist()
    assert [bar for part in parts for bar in triples(part)] == triples(bars)
    assert len(bars.of(3)) == 0


def test_values_are_the_field_s_and_an_essential_bar_dies_at_zero():
    field = np.array([[0.25, 0.125, 0.75]], np.float32)
    births, deaths = barcode(field).values(field)
    assert births.dtype == deaths.dtype == np.float32
    assert (births.tolist(), deaths.tolist()) == ([0.75, 0.25], [0.0, 0.125])


def test_arrays_have_the_promised_types():
    for field in (np.eye(3, dtype=np.float32), np.zeros((2, 2, 2)), np.ones((1, 1), int)):
        bars = barcode(field)
        assert (bars.dimension.dtype, bars.birth.dtype, bars.death.dtype) == (np.int8, np.int64, np.int64)


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_min_persistence_leaves_out_exactly_the_shorter_bars(connectivity):
    field = np.random.default_rng(9).integers(0, 9, (7, 8, 6)) / 8  # eighths subtract exactly
    every = barcode(field, connectivity)
    births, deaths = every.values(field)
    for shortest in (0.0, 0.125, 0.25, 0.5, 1.0):
        long = births - deaths >= shortest
        expected = Barcode(every.dimension[long], every.birth[long], every.death[long])
        assert triples(barcode(field, connectivity, min_persistence=shortest)) == triples(expected)
    assert len(barcode(field, connectivity, min_persistence=1.01)) == 0


def test_min_persistence_measures_an_essential_bar_from_its_birth_to_zero():
    faint = np.array([[0.2, 0.1]])
    assert len(barcode(faint, min_persistence=0.2)) == 1
    assert len(barcode(faint, min_persistence=0.21)) == 0
    assert len(barcode(np.full((3, 3), -2.0))) == 1
    assert len(barcode(np.zeros((3, 3)))) == 0


@pytest.mark.parametrize("connectivity", CONNECTIVITIES)
def test_strides_do_not_matter(connectivity):
    field = smooth(7, (6, 7, 5))
    wide = np.zeros((12, 21, 10))
    wide[::2, ::-3, 1::2] = field
    expected = triples(barcode(field, connectivity))
    for view in (wide[::2, ::-3, 1::2], np.asfortranarray(field), field.astype(">f8")):
        assert triples(barcode(view, connectivity)) == expected
        assert diagram(barcode(view, connectivity), view) == diagram(barcode(field, connectivity), field)
        assert betti(view > 0.5, connectivity) == betti(field > 0.5, connectivity)


def test_a_field_of_records_is_an_array_like_any_other():
    field = smooth(2, (6, 7)).astype(np.float32)
    records = np.zeros(field.shape, [("name", "u1"), ("value", "f4")])
    records["value"] = field
    assert triples(barcode(records["value"])) == triples(barcode(field))


def test_the_array_is_left_as_it_was():
    field = smooth(7, (6, 7))
    before = field.copy()
    field.setflags(write=False)
    barcode(field)
    betti(field)
    np.testing.assert_array_equal(field, before)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.float16, np.float32])
def test_other_numbers_are_read_by_value(dtype):
    field = np.array([[3, 0, 2], [0, 0, 0], [1, 1, 1]]).astype(dtype)
    assert triples(barcode(field)) == oracle.bars(field.astype(float), "full")


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros(4), "expected an array of rank 2 or 3, got rank 1"),
        (np.zeros((2, 2, 2, 2)), "expected an array of rank 2 or 3, got rank 4"),
        (np.float64(0.5), "expected an array of rank 2 or 3, got rank 0"),
        (np.array([[0.1, np.nan]]), "expected finite values, got 1 that are NaN or infinite"),
        (np.array([[np.inf, -np.inf]]), "expected finite values, got 2 that are NaN or infinite"),
        (np.zeros((2, 2), complex), "expected real numbers, got dtype complex128"),
        (np.array([[None, 1]]), "expected real numbers, got dtype object"),
        (np.array([["a", "b"]]), "expected real numbers, got dtype <U1"),
        (np.zeros((3, 0)), r"expected at least one voxel along every axis, got shape (3, 0)"),
    ],
)
def test_what_is_no_image_is_refused(array, sentence):
    with pytest.raises(InvalidArray, match=f"^field: {re.escape(sentence)}$"):
        barcode(array)
    with pytest.raises(InvalidArray, match=f"^mask: {re.escape(sentence)}$"):
        betti(array)


def test_unknown_options_are_refused():
    expected = r"^connectivity: expected 'full' or 'face', got '8'$"
    with pytest.raises(InvalidArray, match=expected):
        barcode(np.zeros((3, 3)), "8")
    with pytest.raises(InvalidArray, match=expected):
        betti(np.zeros((3, 3)), "8")
    for wrong in (-0.1, float("nan"), "a"):
        expected = rf"^min_persistence: expected a number that is not negative, got {wrong!r}$"
        with pytest.raises(InvalidArray, match=expected):
            barcode(np.zeros((3, 3)), min_persistence=wrong)
    for wrong in (0, -1, 1.5, "2"):
        expected = rf"^threads: expected a whole number from 1 on, or None, got {wrong!r}$"
        with pytest.raises(InvalidArray, match=expected):
            barcode(np.zeros((3, 3)), threads=wrong)
        with pytest.raises(InvalidArray, match=expected):
            betti(np.zeros((3, 3)), threads=wrong)


def test_importing_the_module_loads_no_heavy_library():
    code = "import sys, topofix.topology.persistence; print({'gudhi', 'scipy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
