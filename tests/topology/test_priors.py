"""Priors: what people type is read, printed, judged and, where it cannot be, refused in one sentence."""

import re
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topofix.errors import InvalidPrior
from topofix.topology.priors import FOREGROUND, Constraint, Prior, Range, check_texts

HEART = {"background": 0, "right ventricle": 1, "Myocardium": 2, "left-ventricle": 3}
ONE, NONE, ANY = Range(1, 1), Range(0, 0), Range(0, None)


def only(prior: Prior) -> Constraint:
    (constraint,) = prior.constraints
    return constraint


@pytest.mark.parametrize(
    ("text", "region", "betti"),
    [
        ("1,0,0", FOREGROUND, (ONE, NONE, NONE)),
        ("0,0", FOREGROUND, (NONE, NONE)),
        ("2:1,1", (2,), (ONE, ONE)),
        ("2+3:1,0", (2, 3), (ONE, NONE)),
        ("3+2+3:1,0", (2, 3), (ONE, NONE)),
        ("1:1-3,0-2", (1,), (Range(1, 3), Range(0, 2))),
        ("1:1-,*", (1,), (Range(1, None), ANY)),
        ("1:0-,2-2", (1,), (ANY, Range(2, 2))),
        (" 2 : 1, 1 ", (2,), (ONE, ONE)),
        ("007:10,12", (7,), (Range(10, 10), Range(12, 12))),
    ],
)
def test_numbers_are_read(text, region, betti):
    assert only(Prior.parse(text)) == Constraint(region, betti)


@pytest.mark.parametrize(
    ("text", "region"),
    [
        ("myocardium:1,1", (2,)),
        ("MYOCARDIUM:1,1", (2,)),
        ("left-ventricle:1,1", (3,)),
        ("Right  Ventricle :1,1", (1,)),
        ("left-ventricle + myocardium:1,1", (2, 3)),
        ("2+right ventricle:1,1", (1, 2)),
        ("3:1,1", (3,)),
    ],
)
def test_labels_are_found_by_name_or_number(text, region):
    assert only(Prior.parse(text, HEART)).region == region


def test_a_name_may_contain_the_grammar_s_own_signs():
    labels = {"GM + WM": 1, "lobe 1": 2, "4th ventricle": 3, "5": 6, "6": 5, "upper lobe, left": 7}
    text = "gm+wm:1,0 lobe 1:1,1 4th ventricle:2,0 5:1-,* upper lobe, left:1,0"
    assert str(Prior.parse(text, labels)) == "1:1,0 2:1,1 3:2,0 5:1-,* 7:1,0"


@pytest.mark.parametrize("separator", [" ", ";", " ; ", "\n", "; "])
def test_one_text_may_hold_several_constraints(separator):
    text = separator.join(["1,0", "right ventricle:1,0", "2:1,1"])
    expected = Prior.parse(["1,0", "right ventricle:1,0", "2:1,1"], HEART)
    assert Prior.parse(text, HEART) == expected
    assert [constraint.region for constraint in expected.constraints] == [FOREGROUND, (1,), (2,)]


def test_absent_takes_its_length_from_the_others_or_from_the_caller():
    assert str(Prior.parse("2:absent 1:1,0,0")) == "2:0,0,0 1:1,0,0"
    assert str(Prior.parse("2:Absent", dimensions=2)) == "2:0,0"
    assert str(Prior.parse("absent", dimensions=3)) == "0,0,0"
    assert str(Prior.parse("2:absent 1:1,0", dimensions=3)) == "2:0,0 1:1,0"


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ("1,,0", "prior '1,,0': expected a count such as 1, 1-3, 1- or *, got ''"),
        ("-1", "prior '-1': expected a count such as 1, 1-3, 1- or *, got '-1'"),
        ("-1,0", "prior '-1,0': expected a count such as 1, 1-3, 1- or *, got '-1'"),
        ("a", "prior 'a': expected a count such as 1, 1-3, 1- or *, got 'a'"),
        ("1,b", "prior '1,b': expected a count such as 1, 1-3, 1- or *, got 'b'"),
        ("1.0,0", "prior '1.0,0': expected a count such as 1, 1-3, 1- or *, got '1.0'"),
        ("²,0", "prior '²,0': expected a count such as 1, 1-3, 1- or *, got '²'"),
        ("2:", "prior '2:': expected a count such as 1, 1-3, 1- or *, got ''"),
        ("1", "prior '1': expected two numbers for 2-D topology or three for 3-D, got 1"),
        ("1,0,0,0", "prior '1,0,0,0': expected two numbers for 2-D topology or three for 3-D, got 4"),
        ("2-1,0", "prior '2-1,0': expected a range from small to large, got '2-1'"),
        ("", "prior: expected constraints such as 1,0 or 2:1,1, got an empty text"),
        (["1,0", "  "], "prior: expected constraints such as 1,0 or 2:1,1, got an empty text"),
        ([], "prior: expected at least one constraint such as 1,0 or 2:1,1, got none"),
        (";", "prior: expected at least one constraint such as 1,0 or 2:1,1, got none"),
        ("0:1,0", "prior '0:1,0': expected labels from 1 on, got 0, which is the background"),
        ("1+0:1,0", "prior '1+0:1,0': expected labels from 1 on, got 0, which is the background"),
        (":1,0", "prior ':1,0': expected a label number, as no label names are known, got ''"),
        ("wall:1,1", "prior 'wall:1,1': expected a label number, as no label names are known, got 'wall'"),
        ("2:1,1 2:1,0", "prior 2:1,0: expected one constraint for 2, got other numbers in 2:1,1"),
        ("1,1 1,0", "prior 1,0: expected one constraint for foreground, got other numbers in 1,1"),
        ("3+2:1,1 2+3:1,0", "prior 2+3:1,0: expected one constraint for 2+3, got other numbers in 2+3:1,1"),
        ("2:1,1 1:1,0,0", "prior 1:1,0,0: expected 2 numbers as in 2:1,1, got 3"),
        ("0,1", "prior 0,1: expected no holes in an absent structure, got 1"),
        ("2:0,1-3,0", "prior 2:0,1-3,0: expected no tunnels in an absent structure, got 1-3"),
        ("2:0,0,1-", "prior 2:0,0,1-: expected no voids in an absent structure, got 1-"),
        ("absent", "prior 'absent': expected numbers such as 0,0 or 0,0,0, got 'absent' without them"),
        ("2:absent", "prior '2:absent': expected numbers such as 0,0 or 0,0,0, got 'absent' without them"),
        (
            "2:1,0 3:1,1 2+3:3,0",
            "prior 2+3:3,0: expected at most 2 components, which is what its parts have together, got 3",
        ),
        (
            "1:0-1,0 2+3:1-2,0 4:1,0 1+2+3+4:5-,0",
            "prior 1+2+3+4:5-,0: expected at most 4 components, "
            "which is what its parts have together, got 5-",
        ),
        (  # of several ways to put the union together, the tightest counts
            "2:1,0 3:5,0 4:1,0 2+3:1-2,0 2+3+4:4,0",
            "prior 2+3+4:4,0: expected at most 3 components, which is what its parts have together, got 4",
        ),
        (
            "2:0,0 3:0,0 2+3:1,0",
            "prior 2+3:1,0: expected at most 0 components, which is what its parts have together, got 1",
        ),
        ("2:1,0 2+3:0,0", "prior 2+3:0,0: expected room for its part 2:1,0, got an absent union"),
        ("0,0 2+3:1-,0", "prior 0,0: expected room for its part 2+3:1-,0, got an absent union"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(texts, sentence):
    with pytest.raises(InvalidPrior, match=f"^{re.escape(sentence)}$"):
        Prior.parse(texts)


KNOWN = "right ventricle (1), Myocardium (2), left-ventricle (3)"


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ("aorta:1,0", f"prior 'aorta:1,0': expected one of the labels {KNOWN}, got 'aorta'"),
        ("4:1,0", f"prior '4:1,0': expected one of the labels {KNOWN}, got '4'"),
        ("2+4:1,0", f"prior '2+4:1,0': expected one of the labels {KNOWN}, got '4'"),
        ("1 2:1,0", f"prior '1 2:1,0': expected one of the labels {KNOWN}, got '1 2'"),
        ("background:1,0", f"prior 'background:1,0': expected one of the labels {KNOWN}, got 'background'"),
        (
            "1:1,0 2:1,1 3:1,0 4-,0",
            "prior 4-,0: expected at most 3 components, which is what its parts have together, got 4-",
        ),
    ],
)
def test_labels_that_the_image_does_not_have_are_refused(texts, sentence):
    with pytest.raises(InvalidPrior, match=f"^{re.escape(sentence)}$"):
        Prior.parse(texts, HEART)


def test_two_labels_of_one_name_are_refused():
    sentence = r"^prior 'wall:1,1': expected one label for each name, got two for 'wall'$"
    with pytest.raises(InvalidPrior, match=sentence):
        Prior.parse("wall:1,1", {"Wall": 1, "wall": 2})


@pytest.mark.parametrize(
    "texts",
    [
        "2:1,0 3:1,1 2+3:2,0",  # as many as the parts
        "2:1,0 2+3:5,0",  # label 3 may be anything
        "2:*,0 3:1,1 2+3:9,0",  # so may label 2
        "1:1,0 2:1,1 9,0",  # there may be more labels than these
        "2+3:0-1,0 2:1,0",  # a union that may be absent, but need not be
        "2+3:1,0 3+4:1,0 2+3+4:3,0",  # overlapping parts are not added up
        "2:0,* 2+3:0,0-",  # an absent structure without a wish for holes
    ],
)
def test_what_could_be_is_accepted(texts):
    assert Prior.parse(texts).constraints


def test_the_same_constraint_twice_is_one():
    assert Prior.parse("2:1,1 2:1-1,1") == Prior.parse("2:1,1")


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Range(-1, 2), "range: expected 0 <= low <= high, got -1 and 2"),
        (lambda: Range(2, 1), "range: expected 0 <= low <= high, got 2 and 1"),
        (lambda: Constraint((0, 1), (ONE, ONE)), "prior 0+1:1,1: expected labels from 1 on, got 0"),
        (
            lambda: Constraint((1,), (ONE,)),
            "prior 1:1: expected two numbers for 2-D topology or three for 3-D, got 1",
        ),
        (lambda: Constraint((1,), (ONE, ONE), (1.0,)), "prior 1:1,1: expected 2 weights, got 1"),
        (
            lambda: Constraint((1,), (ONE, ONE), (1.0, -2.0)),
            "prior 1:1,1: expected finite weights that are not negative, got -2.0",
        ),
        (
            lambda: Constraint((1,), (ONE, ONE), (float("nan"), 1.0)),
            "prior 1:1,1: expected finite weights that are not negative, got nan",
        ),
        (
            lambda: Prior((Constraint((1,), (ONE, ONE)), Constraint((1,), (ONE, ONE), (2.0, 1.0)))),
            "prior 1:1,1: expected one constraint for 1, got other weights in 1:1,1",
        ),
    ],
)
def test_values_built_in_code_are_checked_too(build, sentence):
    with pytest.raises(InvalidPrior, match=f"^{re.escape(sentence)}$"):
        build()


def test_a_prior_is_a_value():
    prior = Prior.parse("2:1,1 3:1,0")
    assert prior == Prior.parse("2:1,1;3:1,0")
    assert len({prior, Prior.parse("2:1,1 3:1,0"), Prior.parse("2:1,1")}) == 2
    assert prior.constraints[0].weights == (1.0, 1.0)
    with pytest.raises(AttributeError):
        prior.constraints = ()


def test_regions_are_named_as_people_know_them():
    names = {2: "myocardium", 3: "left ventricle"}
    regions = [only(Prior.parse(text)) for text in ("1,0", "2:1,1", "3+2:1,0", "2+4:1,0")]
    assert [constraint.name(names) for constraint in regions] == [
        "foreground",
        "myocardium",
        "myocardium+left ventricle",
        "myocardium+4",
    ]
    assert [constraint.name() for constraint in regions] == ["foreground", "2", "2+3", "2+4"]


def test_the_error_is_the_distance_to_the_ranges():
    constraint = only(Prior.parse("1-3,0,2-"))
    assert [constraint.error(counts) for counts in ((2, 0, 2), (0, 0, 0), (5, 4, 9))] == [0, 3, 6]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        constraint.error((1, 0))


@given(st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(0, 30))
def test_a_range_is_the_set_of_its_counts(low, extra, count):
    wish = Range(low, None if extra is None else low + extra)
    allowed = range(low, 1000 if extra is None else low + extra + 1)
    assert (count in wish) == (count in allowed)
    assert wish.error(count) == min(abs(count - other) for other in allowed)


def test_a_prior_must_fit_the_image():
    solid, flat = Prior.parse("1,0,0"), Prior.parse("2:1,1")
    assert (solid.dimensions, flat.dimensions) == (3, 2)
    solid.check_rank(3, "heart.nii.gz")
    flat.check_rank(2, "slice.png")
    flat.check_rank(3, "heart.nii.gz")  # slice by slice
    sentence = "slice.png: expected a prior of 2 numbers for an image of rank 2, got 3 in 1,0,0"
    with pytest.raises(InvalidPrior, match=f"^{re.escape(sentence)}$"):
        solid.check_rank(2, "slice.png")


ranges = st.builds(
    lambda low, extra: Range(low, None if extra is None else low + extra),
    st.integers(0, 20),
    st.none() | st.integers(0, 20),
)


@st.composite
def priors(draw: st.DrawFn) -> Prior:
    """Priors of disjoint regions that are not absent, at times with a foreground: nothing contradicts."""
    rank = draw(st.integers(2, 3))
    wishes = st.tuples(*[ranges] * rank).filter(lambda wish: wish[0].high != 0)
    labels = draw(st.lists(st.integers(1, 300), unique=True, min_size=1, max_size=6))
    cuts = sorted(draw(st.sets(st.integers(1, len(labels)))) | {len(labels)})
    regions = [tuple(labels[start:stop]) for start, stop in zip([0, *cuts], cuts, strict=False)]
    if draw(st.booleans()):
        regions.insert(draw(st.integers(0, len(regions))), FOREGROUND)
    return Prior(tuple(Constraint(region, draw(wishes)) for region in regions))


@given(priors())
def test_what_is_printed_is_read_back(prior):
    assert Prior.parse(str(prior)) == prior
    assert Prior.parse(str(prior).split(" ")) == prior
    assert Prior.parse([f" {part} ;" for part in str(prior).split(" ")]) == prior


@given(st.text(alphabet=string.digits + "abt ,+-*:;absent", max_size=12))
def test_any_text_is_read_or_refused_in_one_sentence(text):
    try:
        prior = Prior.parse(text, {"a": 1, "b b": 2}, dimensions=2)
    except InvalidPrior as error:
        sentence = str(error)
    else:
        sentence = "" if Prior.parse(str(prior)) == prior else f"{prior} was not read back"
    assert re.fullmatch(r"(prior.*: expected .*, got .*)?", sentence)


def test_the_foreground_goes_by_its_name():
    assert Prior.parse("Foreground:1,0") == Prior.parse("1,0")
    assert Prior.parse("foreground:1,0", {"wall": 1}).constraints[0].region == ()
    assert Prior.parse("foreground:1,0", {"foreground": 1}).constraints[0].region == (1,)


def test_weights_go_with_their_texts():
    prior = Prior.parse(["2:1,1", "left-ventricle:1,0", "1:1-,*"], HEART, weights=[(), (2,), (0.5, 3)])
    assert [constraint.weights for constraint in prior.constraints] == [(1.0, 1.0), (2.0, 2.0), (0.5, 3.0)]
    assert Prior.parse(["2:absent", "1:1,0,0"], weights=[[4], []]).constraints[0].weights == (4.0, 4.0, 4.0)
    with pytest.raises(InvalidPrior, match=r"^prior 2:1,1: expected 2 weights, got 3$"):
        Prior.parse(["2:1,1"], weights=[(1, 2, 3)])
    with pytest.raises(
        InvalidPrior, match=r"^prior 2:1,1: expected one constraint for 2, got other weights in 2:1,1$"
    ):
        Prior.parse(["2:1,1", "Myocardium:1,1"], HEART, weights=[(), (2,)])


def test_with_weights_a_text_is_one_constraint_whatever_its_name_holds():
    labels = {"1,0 of; a: name": 4}
    assert only(Prior.parse(["1 , 0 of; a : name : 1 , 1"], labels, weights=[()])).region == (4,)


@given(priors(), st.data())
def test_what_is_printed_is_read_back_with_its_weights(prior, data):
    weights = st.tuples(*[st.floats(0, 1e6)] * prior.dimensions)
    heavy = Prior(tuple(Constraint(c.region, c.betti, data.draw(weights)) for c in prior.constraints))
    texts, given_weights = [str(c) for c in heavy.constraints], [c.weights for c in heavy.constraints]
    assert Prior.parse(texts, weights=given_weights) == heavy


@given(priors())
def test_what_can_be_is_not_refused_early(prior):
    check_texts([str(prior)])
    check_texts(str(prior).split(" "), whole=True)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["1,,0"], "prior '1,,0': expected a count such as 1, 1-3, 1- or *, got ''"),
        (["wall:0,1"], "prior 0,1: expected no holes in an absent structure, got 1"),
        (["0+wall:1,0"], "prior '0+wall:1,0': expected labels from 1 on, got 0, which is the background"),
        (
            ["wall:1,1 Wall:1,0"],
            "prior Wall:1,0: expected one constraint for Wall, got other numbers in wall:1,1",
        ),
        (["2:1,1; 02:1,0"], "prior 02:1,0: expected one constraint for 02, got other numbers in 2:1,1"),
        (
            ["a+b:1,1", "b+a:1,0"],
            "prior b+a:1,0: expected one constraint for b+a, got other numbers in a+b:1,1",
        ),
        (["wall:1,1", "1,0,0"], "prior 1,0,0: expected 2 numbers as in wall:1,1, got 3"),
        (
            ["wall:1,1", "2:1-2,0", "wall+2:4-,*"],
            "prior wall+2:4-,*: expected at most 3 components, which is what its parts have together, got 4-",
        ),
        (
            ["wall:1-,1", "Foreground:absent"],
            "prior Foreground:absent: expected room for its part wall:1-,1, got an absent union",
        ),
        (
            ["wall:1,1", "wall+2:0,0"],
            "prior wall+2:0,0: expected room for its part wall:1,1, got an absent union",
        ),
        ([""], "prior: expected constraints such as 1,0 or 2:1,1, got an empty text"),
    ],
)
def test_contradictions_are_found_before_labels_are_known(texts, sentence):
    with pytest.raises(InvalidPrior, match=f"^{re.escape(sentence)}$"):
        check_texts(texts)


@pytest.mark.parametrize(
    "texts",
    [
        ["2:1-,*"],
        ["wall:1,1", "cavity:1,0", "wall+cavity:2,0"],
        ["wall:1,1", "wall+cavity:9,0"],  # of the cavity nothing is known
        ["CD4+:1,0", "CD4:0,0"],  # a name that ends with a plus sign is no union
        ["wall:1,1", "wall:1-1,1", "absent-one:0,0", "2:absent"],
        ["wall:1,1", "7,0"],  # there may be more labels than these
    ],
)
def test_what_labels_may_still_allow_is_not_refused_early(texts):
    check_texts(texts)


def test_many_labels_and_all_their_pairs_are_checked_at_once():
    started = time.perf_counter()
    for count in (8, 14, 30):
        singles = [f"{label}:1,0" for label in range(1, count + 1)]
        pairs = [f"{a}+{b}:1,*" for a in range(1, count + 1) for b in range(a + 1, count + 1)]
        assert len(Prior.parse([*singles, *pairs, "1-,*"]).constraints) == len(singles) + len(pairs) + 1
    assert time.perf_counter() - started < 60  # an hour, where every way to split them is tried
    with pytest.raises(InvalidPrior, match="at most 4 components"):
        Prior.parse(
            [
                *(f"{label}:1,0" for label in range(1, 9)),
                *(f"{a}+{a + 1}:1,*" for a in (1, 3, 5, 7)),
                "1+2+3+4+5+6+7+8:5,*",
            ]
        )
