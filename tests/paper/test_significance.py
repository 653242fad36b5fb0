"""Tests of significance and counts of the paper's experiments, against hand-computed values and SciPy."""

import importlib.util
import json
import math
import sys
import time
from pathlib import Path

import counting
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

SCRIPT = Path(__file__).parents[2] / "benchmarks/paper/significance.py"
SPEC = importlib.util.spec_from_file_location("paper_significance", SCRIPT)
significance = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = significance  # dataclasses look their module up
SPEC.loader.exec_module(significance)


def pairs(both: int, lost: int, gained: int, neither: int) -> tuple[list[bool], list[bool]]:
    """Two lists of right and wrong with so many pairs of each kind."""
    counts = {(True, True): both, (True, False): lost, (False, True): gained, (False, False): neither}
    every = [pair for pair, count in counts.items() for _ in range(count)]
    return [pair[0] for pair in every], [pair[1] for pair in every]


# --- McNemar ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [
        (0, 1, 1.0),
        (0, 5, 2 / 2**5),
        (1, 5, 2 * (1 + 6) / 2**6),
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (3, 3, 1.0),  # twice the tail passes 1
    ],
)
def test_few_pairs_are_tested_exactly(lost, gained, p):
    found = significance.mcnemar(*pairs(7, lost, gained, 4))
    assert (found.lost, found.gained) == (lost, gained)
    assert found.p == pytest.approx(p)


@settings(max_examples=60, deadline=None)
@given(lost=st.integers(0, 24), gained=st.integers(0, 24))
def test_the_exact_test_is_the_binomial_test(lost, gained):
    if not 0 < lost + gained < significance.EXACT_BELOW:
        return
    expected = stats.binomtest(lost, lost + gained, 0.5).pvalue
    assert significance.mcnemar(*pairs(3, lost, gained, 3)).p == pytest.approx(expected)


def test_many_pairs_are_tested_by_the_corrected_chi_square():
    # (|10 - 30| - 1)^2 / 40 = 9.025; with one degree of freedom p = erfc(sqrt(9.025 / 2)).
    found = significance.mcnemar(*pairs(100, 10, 30, 100))
    assert found.p == pytest.approx(math.erfc(math.sqrt(9.025 / 2)))


def test_the_two_ways_agree_where_one_takes_over_from_the_other():
    for lost in range(13):
        gained = significance.EXACT_BELOW - lost
        found = significance.mcnemar(*pairs(0, lost, gained, 0)).p
        assert found == pytest.approx(stats.binomtest(lost, lost + gained, 0.5).pvalue, abs=0.01)


def test_equal_numbers_of_many_pairs_are_no_difference():
    assert significance.mcnemar(*pairs(0, 20, 20, 0)).p == 1.0


def test_pairs_that_agree_say_nothing():
    assert significance.mcnemar(*pairs(50, 0, 0, 50)).p == 1.0
    few, many = (significance.mcnemar(*pairs(n, 2, 9, n)) for n in (0, 1000))
    assert few == many


@settings(max_examples=60, deadline=None)
@given(lost=st.integers(0, 60), gained=st.integers(0, 60))
def test_mcnemar_is_symmetric(lost, gained):
    one, other = pairs(1, lost, gained, 1)
    forth, back = significance.mcnemar(one, other), significance.mcnemar(other, one)
    assert forth.p == back.p <= 1
    assert (forth.lost, forth.gained) == (back.gained, back.lost)


# --- Wilcoxon and the standard error ------------------------------------------------------------------------


def test_wilcoxon_of_a_few_pairs_by_counting_signs():
    # Differences 1, 2, 3, 4, 5, -6 have ranks 1 to 6. The negative ranks sum to 6, and of the 64 ways to give
    # signs 14 have a sum of at most 6: one each for 0, 1 and 2, two for 3 and for 4, three for 5, four for 6.
    first = [0.0] * 6
    assert significance.wilcoxon(first, [1, 2, 3, 4, 5, -6]) == pytest.approx(2 * 14 / 64)


def test_wilcoxon_where_all_pairs_rise():
    assert significance.wilcoxon(np.zeros(10), np.arange(1, 11)) == pytest.approx(2 / 2**10)


def test_wilcoxon_does_not_depend_on_the_order_of_the_two():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=40), rng.normal(0.3, size=40)
    assert significance.wilcoxon(first, second) == significance.wilcoxon(second, first)


def test_wilcoxon_of_equal_lists_is_one_without_a_warning(recwarn):
    assert significance.wilcoxon([1, 2, 3], [1, 2, 3]) == 1.0
    assert not len(recwarn)


def test_wilcoxon_is_scipys_normal_approximation_for_many_pairs():
    rng = np.random.default_rng(1)
    first = rng.normal(size=400)
    second = first + rng.normal(0.1, size=400)
    ranks = stats.rankdata(np.abs(first - second))
    below = ranks[first > second].sum()
    mean, variance = 400 * 401 / 4, 400 * 401 * 801 / 24
    z = (below - mean) / math.sqrt(variance)
    assert significance.wilcoxon(first, second) == pytest.approx(2 * stats.norm.cdf(-abs(z)), rel=1e-6)


def test_standard_error_by_hand_and_by_scipy():
    # 2, 4, 4, 4, 5, 5, 7, 9: squares about the mean 5 sum to 32, so sqrt(32 / 7 / 8).
    values = [2, 4, 4, 4, 5, 5, 7, 9]
    assert significance.standard_error(values) == pytest.approx(math.sqrt(32 / 56))
    assert significance.standard_error(values) == pytest.approx(stats.sem(values))
    assert math.isnan(significance.standard_error([3.0]))


@pytest.mark.parametrize("test", [significance.mcnemar, significance.wilcoxon])
def test_lists_that_are_no_pairs_are_refused(test):
    with pytest.raises(ValueError, match="equal length"):
        test([1, 0], [1, 0, 1])


# --- Betti numbers ------------------------------------------------------------------------------------------


def torus() -> np.ndarray:
    ring = np.ones((3, 5, 5), bool)
    ring[:, 2, 2] = False
    return ring


def hollow() -> np.ndarray:
    cube = np.ones((5, 5, 5), bool)
    cube[2, 2, 2] = False
    return cube


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.zeros((3, 3)), (0, 0)),
        (np.ones((3, 3)), (1, 0)),
        (np.eye(4), (1, 0)),  # corners touch
        ([[0, 1, 0], [1, 0, 1], [0, 1, 0]], (1, 1)),  # a hole needs no common side around it
        ([[1, 1, 1], [1, 0, 1], [1, 0, 1]], (1, 0)),  # open to the border
        (np.pad([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]], 2), (1, 2)),
        ([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 1]], (1, 2)),  # holes at a corner are two
        (np.zeros((3, 3, 3)), (0, 0, 0)),
        (np.ones((2, 3, 4)), (1, 0, 0)),
        (torus(), (1, 1, 0)),
        (hollow(), (1, 0, 1)),
        (np.pad([[[1, 0], [0, 0]], [[0, 0], [0, 1]]], 1), (1, 0, 0)),
    ],
)
def test_betti_numbers_of_shapes_that_everyone_knows(mask, expected):
    assert significance.betti(mask) == expected


def test_two_shapes_apart_add_up():
    apart = np.pad(torus(), ((0, 2), (1, 1), (1, 1)))
    both = np.concatenate([apart, np.pad(hollow(), 1)])
    assert significance.betti(both) == (2, 1, 1)


@pytest.mark.parametrize("shape", [(9, 11), (5, 6, 7)])
def test_betti_numbers_of_random_masks_against_another_count(shape):
    rng = np.random.default_rng(0)
    for density in (0.2, 0.4, 0.6, 0.8):
        for _ in range(10):
            mask = rng.random(shape) < density
            assert significance.betti(mask) == counting.betti(mask)
            assert significance.euler(mask) == counting.euler(mask)


def test_the_euler_number_is_the_alternating_sum():
    rng = np.random.default_rng(1)
    for density in (0.3, 0.5, 0.7):
        mask = rng.random((20, 20)) < density
        components, holes = significance.betti(mask)
        assert significance.euler(mask) == components - holes


# --- Tables and results -------------------------------------------------------------------------------------


def test_columns_of_words_stand_left_and_numbers_right():
    assert significance.table(["m", "way", "p"], [["2", "none", "1"]], words=2) == (
        "| m | way | p |\n| --- | --- | ---: |\n| 2 | none | 1 |"
    )


def test_numbers_as_tables_show_them():
    assert significance.percent(2 / 3) == "66.7 %"
    assert significance.p_text(0.05) == "0.050"
    assert significance.p_text(0.0499) == "0.050*"
    assert significance.plus_minus([1.0, 3.0], digits=2) == "2.00 ± 1.00"
    assert significance.plus_minus([0.5], scale=100) == "50.0"


@pytest.mark.parametrize(("quick", "stem"), [(True, "mnist_quick"), (False, "mnist")])
def test_quick_and_full_results_lie_beside_each_other(tmp_path, monkeypatch, quick, stem):
    flags = ["--quick"] * quick
    monkeypatch.setattr(sys, "argv", ["benchmarks/paper/mnist.py", *flags])
    script = tmp_path / "mnist.py"
    page = significance.write(
        script, "Digits", {"rows": [1, 2]}, "A table.", quick=quick, started=time.perf_counter() - 2
    )
    assert page == tmp_path / f"{stem}.md"
    command = " ".join(["python benchmarks/paper/mnist.py", *flags])
    stored = json.loads((tmp_path / f"{stem}.json").read_text())
    assert stored["command"] == command
    assert stored["quick"] is quick
    assert stored["cores"] >= 1
    assert 2 <= stored["seconds"] < 60
    assert stored["found"] == {"rows": [1, 2]}
    text = page.read_text()
    assert text.startswith("# Digits\n\n")
    assert command in text
    assert text.endswith("A table.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{stem}.json", f"{stem}.md"]


def test_another_folder_is_left_to_results_alone(tmp_path):
    page = significance.write(
        "mnist.py", "Digits", {}, "None.", quick=False, started=time.perf_counter(), folder=tmp_path
    )
    assert page == tmp_path / "mnist.md"


def test_every_experiment_has_the_same_options(monkeypatch):
    monkeypatch.delenv("TOPOFIX_DATA", raising=False)
    parser = significance.arguments("An experiment.")
    assert vars(parser.parse_args([])) == {"data": Path("../shared/data"), "quick": False}
    assert vars(parser.parse_args(["--quick", "--data", "x"])) == {"data": Path("x"), "quick": True}
