"""Priors as typed or from a table, turned into one for the image or one per slice."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from topofix.errors import InvalidPrior
from topofix.imaging.tables import PriorTable, read_priors
from topofix.request import PriorRequest, one_slice
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
    with pytest.raises(InvalidPrior, match="expected a prior as text or as a table, got both"):
        PriorRequest(("1,0",), table("a,*,,1,0"))
    with pytest.raises(InvalidPrior, match="expected a prior as text or as a table, got none"):
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
