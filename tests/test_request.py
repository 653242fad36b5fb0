"""Priors as typed or from a table, turned into one for the image or one per slice."""

import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from topofix.errors import InvalidOption, InvalidPrior
from topofix.imaging.constraints import PriorFile, StatedConstraint
from topofix.imaging.tables import PriorTable, read_priors
from topofix.request import PriorRequest, check_case_names, mismatches, missing_slices, one_slice
from topofix.topology.priors import Prior

HEART = {"left ventricle": 1, "myocardium": 2}
FLAT, STACK = (64, 60), (64, 60, 5)


@pytest.fixture
def table(tmp_path):
    def write(*rows: str, columns: str = "case,slice,label,b0,b1") -> PriorTable:
        path = tmp_path / "priors.csv"
        path.write_text("\n".join([columns, *rows]) + "\n")
        return read_priors(path)

    return write


def test_two_numbers_on_an_image_speak_of_the_image():
    assert PriorRequest(("1,1",)).for_image("a.png", FLAT, 0, None) == {None: Prior.parse("1,1")}


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_two_numbers_on_a_volume_speak_of_every_slice(axis):
    priors = PriorRequest(("1,1",)).for_image("a.nii.gz", STACK, axis, None)
    assert priors == dict.fromkeys(range(STACK[axis]), Prior.parse("1,1"))


def test_three_numbers_on_a_volume_speak_of_the_volume():
    assert PriorRequest(("1,0,0",)).for_image("a.nii", STACK, 2, None) == {None: Prior.parse("1,0,0")}


def test_several_texts_are_one_prior_with_the_networks_names():
    request = PriorRequest(("Myocardium:1,1", "left ventricle+myocardium:1,0"))
    assert request.for_image("a.png", FLAT, 0, HEART) == {None: Prior.parse("2:1,1 1+2:1,0")}
    assert request.describe() == "Myocardium:1,1; left ventricle+myocardium:1,0"


@pytest.mark.parametrize(
    ("texts", "shape", "labels", "message"),
    [
        (("1,0,0",), FLAT, None, "a.png: expected a prior of 2 numbers for an image of rank 2, got 3"),
        (("3:1,0",), FLAT, HEART, "expected one of the labels left ventricle (1), myocardium (2), got '3'"),
        (("aorta:1,0",), FLAT, HEART, "expected one of the labels left ventricle (1), myocardium (2)"),
        (("2:1,0", "2:1,1"), FLAT, HEART, "expected one constraint for 2, got other numbers in 2:1,0"),
    ],
)
def test_what_does_not_fit_the_image_is_refused(texts, shape, labels, message):
    with pytest.raises(InvalidPrior, match=re.escape(message)):
        PriorRequest(texts).for_image("a.png", shape, 0, labels)


@pytest.mark.parametrize("text", ["1", "1,0,0,0", "1,x", "0,1", "3-1,0", ""])
def test_what_can_be_no_prior_is_refused_before_there_is_an_image(text):
    with pytest.raises(InvalidPrior, match=r"^prior"):
        PriorRequest((text,))


def test_a_text_or_a_table_and_not_both(table):
    with pytest.raises(
        InvalidPrior, match="expected a prior as text, as a table or as a file, got text and table"
    ):
        PriorRequest(("1,0",), table("a,*,,1,0"))
    with pytest.raises(InvalidPrior, match="as text, as a table or as a file, got text and file"):
        PriorRequest(("1,0",), file=PriorFile(Path("a.toml"), (StatedConstraint(1, "1,0"),)))
    with pytest.raises(InvalidPrior, match="expected a prior as text, as a table or as a file, got none"):
        PriorRequest()


def test_the_table_speaks_slice_by_slice_where_it_names_slices(table):
    rows = ["a,*,myocardium,1,1", "a,0,myocardium,0,0", "a,3-4,myocardium,1,0", "b,1,,1,0", "c,*,,1,0"]
    request = PriorRequest(table=table(*rows))
    ring, gone, piece = (Prior.parse(f"2:{numbers}") for numbers in ("1,1", "0,0", "1,0"))
    assert request.for_image("a.nii.gz", STACK, 2, HEART) == {0: gone, 1: ring, 2: ring, 3: piece, 4: piece}
    foreground = Prior.parse("1,0")
    assert request.for_image("b.nii.gz", STACK, 2, HEART) == {1: foreground}  # of the others nothing is known
    assert request.for_image("c.nii.gz", STACK, 2, HEART) == dict.fromkeys(range(5), foreground)
    assert request.for_image("c.png", FLAT, 0, HEART) == {None: foreground}
    assert request.describe().endswith("priors.csv")


def test_several_labels_of_one_slice_are_one_prior(table):
    request = PriorRequest(table=table("a,2,1,1,0", "a,2,2,1,1", "a,2,1+2,1,0"))
    assert request.for_image("a.nii", STACK, 2, HEART) == {2: Prior.parse("1:1,0 2:1,1 1+2:1,0")}


def test_a_table_of_three_numbers_speaks_of_volumes(table):
    three = PriorRequest(table=table("a,1,0,0", columns="case,b0,b1,b2"))
    assert three.for_image("a.nii", STACK, 2, None) == {None: Prior.parse("1,0,0")}


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (["b,*,,1,0"], "case,slice,label,b0,b1", "priors.csv: expected a row for a.nii, found none"),
        (
            ["a,9,,1,0"],
            "case,slice,label,b0,b1",
            "priors.csv: expected a row for a slice of a.nii, found none",
        ),
        (
            ["a,1,1,0,0"],
            "case,slice,b0,b1,b2",
            "priors.csv: expected two numbers for slice 1 of a.nii, got 1,0,0",
        ),
        (["a,1,aorta,1,0"], "case,slice,label,b0,b1", "expected one of the labels"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table, rows, columns, message):
    request = PriorRequest(table=table(*rows, columns=columns))
    with pytest.raises(InvalidPrior, match=re.escape(message)):
        request.for_image("a.nii", STACK, 2, HEART)


def test_requests_are_values(table):
    assert PriorRequest(("1,0",)) == PriorRequest(("1,0",))
    assert hash(PriorRequest(("1,0",))) == hash(PriorRequest(("1,0",)))
    assert PriorRequest(table=PriorTable(Path("a.csv"), ())).describe() == "a.csv"


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["NumPy", "torch"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_is_a_view_and_everything_is_itself(make, axis):
    array = make(np.arange(60).reshape(3, 4, 5))
    part = one_slice(array, 1, axis)
    np.testing.assert_array_equal(np.asarray(part), np.take(np.asarray(array), 1, axis))
    part[...] = -1
    assert (np.take(np.asarray(array), 1, axis) == -1).all()
    assert one_slice(array, None, axis) is array


def stated(*constraints: StatedConstraint | str) -> PriorRequest:
    """A request for the constraints of a TOML file."""
    items = [
        constraint if isinstance(constraint, StatedConstraint) else StatedConstraint(number, constraint)
        for number, constraint in enumerate(constraints, start=1)
    ]
    return PriorRequest(file=PriorFile(Path("heart.toml"), tuple(items)))


def test_a_file_speaks_for_every_case_and_slice_with_its_weights():
    request = stated(
        StatedConstraint(1, "Myocardium:1,1", (2.0, 0.5)), StatedConstraint(2, "1:1,0", (3.0,)), "1,*"
    )
    priors = request.for_image("any.nii.gz", STACK, 2, HEART)
    assert priors == dict.fromkeys(range(5), priors[0])
    assert str(priors[0]) == "2:1,1 1:1,0 1,*"
    assert [constraint.weights for constraint in priors[0].constraints] == [
        (2.0, 0.5),
        (3.0, 3.0),
        (1.0, 1.0),
    ]
    assert request.for_image("any.png", FLAT, 0, HEART) == {None: priors[0]}
    assert request.describe() == "heart.toml"


def test_absent_alone_means_the_image_as_it_is():
    assert PriorRequest(("2:absent",)).for_image("a.nii", STACK, 2, None) == {None: Prior.parse("2:0,0,0")}
    assert stated("2:absent").for_image("a.png", FLAT, 0, None) == {None: Prior.parse("2:0,0")}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (
            ["1,0", "2:1,x"],
            "heart.toml, constraint 2: prior '2:1,x': expected a count such as 1, 1-3, 1- or *, got 'x'",
        ),
        (
            ["2:3-1,0"],
            "heart.toml, constraint 1: prior '2:3-1,0': expected a range from small to large, got '3-1'",
        ),
        (["0,1"], "heart.toml, constraint 1: prior 0,1: expected no holes in an absent structure, got 1"),
        (["1:1,0", "2:1,0,0"], "heart.toml: prior 2:1,0,0: expected 2 numbers as in 1:1,0, got 3"),
        (
            ["a:1,0", "A:1,1"],
            "heart.toml: prior A:1,1: expected one constraint for A, got other numbers in a:1,0",
        ),
        (
            ["wall:1,1", "cavity:1,0", "cavity + wall:3,0"],
            "heart.toml: prior cavity+wall:3,0: expected at most 2 components, which is what its parts have "
            "together, got 3",
        ),
    ],
)
def test_a_file_that_contradicts_itself_is_refused_before_there_is_an_image(texts, message):
    with pytest.raises(InvalidPrior, match=f"^{re.escape(message)}$"):
        stated(*texts)


def test_labels_that_a_model_lacks_are_refused_with_the_file():
    with pytest.raises(
        InvalidPrior, match=r"^heart\.toml: prior 'aorta:1,0': expected one of the labels .* 'aorta'$"
    ):
        stated("aorta:1,0").for_image("a.png", FLAT, 0, HEART)
    message = "a.png: expected a prior of 2 numbers for an image of rank 2, got 3 in 1:1,0,0"
    with pytest.raises(InvalidPrior, match=f"^{message}$"):
        stated("1:1,0,0").for_image("a.png", FLAT, 0, HEART)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["a,*,1,1,x"],
            "priors.csv, row 2: prior '1:1,x': expected a count such as 1, 1-3, 1- or *, got 'x'",
        ),
        (
            ["a,*,1,1,0", "a,2,1,0,1"],
            "priors.csv, row 3: prior 0,1: expected no holes in an absent structure, got 1",
        ),
        (
            ["a,*,wall,1,1", "a,*,cavity,1,0", "a,*,wall+cavity,1,0", "a,4,wall+cavity,3,0"],
            "priors.csv, case 'a': prior wall+cavity:3,0: expected at most 2 components, "
            "which is what its parts have together, got 3",
        ),
        (
            ["a,*,wall,1,1", "a,3-5,,0,0"],
            "priors.csv, case 'a': prior 0,0: expected room for its part wall:1,1, got an absent union",
        ),
    ],
)
def test_rows_that_contradict_each_other_are_refused_before_there_is_an_image(table, rows, message):
    with pytest.raises(InvalidPrior, match=f"{re.escape(message)}$"):
        PriorRequest(table=table(*rows))


def test_rows_that_other_rows_replace_are_no_contradiction(table):
    rows = ["a,*,2+3,3,0", "a,0-4,2+3,1,0", "a,0-4,2,1,1", "a,0-4,3,1,0"]
    request = PriorRequest(table=table(*rows))
    heart = Prior.parse("2+3:1,0 2:1,1 3:1,0")
    assert request.for_image("a.nii", STACK, 2, None) == dict.fromkeys(range(5), heart)


def test_the_table_speaks_frame_by_frame(table):
    rows = ["a,*,*,2,1,1", "a,*,9,2,1,0", "a,4,*,2,0,0"]
    request = PriorRequest(table=table(*rows, columns="case,slice,frame,label,b0,b1"))
    ring, piece, gone = (Prior.parse(f"2:{numbers}") for numbers in ("1,1", "1,0", "0,0"))
    assert request.for_image("a.nii", STACK, 2, None) == {**dict.fromkeys(range(4), ring), 4: gone}
    assert request.for_image("a.nii", STACK, 2, None, frame=9) == {**dict.fromkeys(range(4), piece), 4: gone}
    whole = PriorRequest(table=table("a,3,2,1,1", columns="case,frame,label,b0,b1"))
    assert whole.for_image("a.png", FLAT, 0, None, frame=3) == {None: ring}
    with pytest.raises(InvalidPrior, match=r"expected a row for a\.png, found none"):
        whole.for_image("a.png", FLAT, 0, None)


def test_a_thousand_rows_are_checked_in_a_moment(table):
    rows = [
        f"a,{index},{frame},{label},1,0"
        for index in range(20)
        for frame in range(10)
        for label in ("1", "1+2")
    ]
    start = time.perf_counter()
    PriorRequest(table=table(*rows, columns="case,slice,frame,label,b0,b1"))
    assert time.perf_counter() - start < 5


def test_what_a_table_and_the_files_do_not_share_is_named(table):
    priors = table("a,*,,1,0", "b.nii.gz,*,,1,0", "c,*,,1,0")
    assert mismatches(priors, ["a.png", "b.nii.gz", "c.nrrd"]) == []
    cases, files = mismatches(priors, ["b.png", "d.png", "e.nii.gz"])
    assert cases == f"{priors.path}: expected a file for every case, found none for a, c"
    assert files == f"{priors.path}: expected a row for every file, found none for d.png, e.nii.gz"


def test_slices_that_an_image_lacks_are_named(table):
    priors = table("a,0-4,,1,0", "a,5,,1,1", "a,6-9,,1,1", "a,*,,*,*", "b,7,,1,0")
    assert missing_slices(priors, "a.nii", 10) == []
    (sentence,) = missing_slices(priors, "a.nii", 6)
    assert sentence == f"{priors.path}: expected slices from 0 to 5 for a.nii, found slice 9 in row 4"
    (sentence,) = missing_slices(priors, "b.png", 0)
    assert sentence == f"{priors.path}: expected no slices for b.png, which is 2-D, found slice 7 in row 6"
    assert missing_slices(priors, "c.nii", 1) == []


def test_cases_that_a_table_cannot_tell_apart_are_refused():
    check_case_names([Path("in/a.nii.gz"), Path("in/b.nii.gz")])
    sentence = "--write-csv: expected a name of its own for every case, got 1/a.png and 2/a.nii.gz"
    with pytest.raises(InvalidOption, match=f"^{sentence}$"):
        check_case_names([Path("1/a.png"), Path("2/a.nii.gz")])
