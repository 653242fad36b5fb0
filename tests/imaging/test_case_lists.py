"""The case list: which files a study is made of, where they may lie, and what is known of each."""

from pathlib import Path

import pytest

from topofix.errors import UnreadableFile
from topofix.imaging.case_lists import read_cases


@pytest.fixture
def listed(tmp_path):
    """Reads a list of these lines, in a folder of its own."""

    def read(*lines: str):
        file = tmp_path / "study" / "cases.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return read_cases(file)

    return read


def test_images_lie_below_the_list(listed, tmp_path):
    (one, other) = listed("image", "a/scan.png", "b/scan.png")
    assert (one.input, other.input) == (tmp_path / "study/a/scan.png", tmp_path / "study/b/scan.png")
    assert (one.place, other.place) == (Path("a/scan.png"), Path("b/scan.png"))
    assert one.table is None
    assert one.output is None


def test_probabilities_come_before_the_image_that_they_are_of(listed, tmp_path):
    (both,) = listed("image,probabilities", "scan.nii.gz,maps/scan.npz")
    assert both.input == tmp_path / "study/maps/scan.npz"
    assert both.image == tmp_path / "study/scan.nii.gz"
    assert both.place == Path("scan.nii.gz")
    (alone,) = listed("probabilities", "maps/scan.nii")
    assert (alone.input, alone.image) == (tmp_path / "study/maps/scan.nii", None)


def test_priors_of_equal_names_in_two_folders_keep_apart(listed):
    one, other = listed("image,b0,b1", "a/scan.png,1,1", "b/scan.png,1,0")
    assert one.table.texts("scan.png") == ("1,1",)
    assert other.table.texts("scan.png") == ("1,0",)


def test_rows_of_one_image_are_one_case(listed):
    (case,) = listed("image,slice,label,b0,b1", "a.nii,*,wall,1,1", "a.nii,0-2,wall,1,0", "a.nii,*,pool,1,0")
    assert set(case.table.texts("a.nii", 1)) == {"wall:1,0", "pool:1,0"}
    assert set(case.table.texts("a.nii", 5)) == {"wall:1,1", "pool:1,0"}
    assert [row.number for row in case.table.rows] == [2, 3, 4]


def test_a_prior_is_looked_up_by_what_is_read(listed):
    (case,) = listed("image,probabilities,b0,b1", "scan.nii.gz,scan_softmax.nii.gz,1,1")
    assert case.table.texts(case.input.name) == ("1,1",)


def test_an_output_of_its_own(listed):
    (case,) = listed("image,output", "a.nii,group1/a_fixed.nii")
    assert case.output == Path("group1/a_fixed.nii")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image"], "expected at least one case, found only column names"),
        (["image,probabilities", ","], "expected at least one case"),
        (
            ["image,probabilities,output", ",,a.nii"],
            "row 2, column 'image': expected an image or, in its column, probabilities",
        ),
        (["image", "/etc/passwd"], "row 2, column 'image': expected a path below the list's folder"),
        (["image", "../a.nii"], "row 2, column 'image': expected a path below"),
        (["image", "a/../../b.nii"], "row 2, column 'image': expected a path below"),
        (["image", r"C:\\a.nii"], "row 2, column 'image': expected a path below"),
        (["image", r"..\\a.nii"], "row 2, column 'image': expected a path below"),
        (["image,output", "a.nii,/tmp/a.nii"], "row 2, column 'output': expected a path below"),
        (["probabilities", "../a.nii"], "row 2, column 'probabilities': expected a path below"),
        (["image,output", "a.nii,x.nii", "a.nii,y.nii"], "row 3, column 'output': expected one output"),
        (["picture", "a.nii"], "expected the columns image, probabilities, output"),
        (["image,b0,b1", "a.nii,1,1", "b.nii,,"], "row 3, column 'b0': expected a number"),
        (["image,b0,b1", "a.nii,1,1", "a.nii,1,0"], "expected rows 2 and 3 to agree on 'a'"),
        (["image,b0,b1", "a.nii,one,1"], ""),
    ],
)
def test_a_list_that_cannot_be_is_refused_with_its_row(listed, lines, message):
    if not message:  # what is no number is found out with the prior, which knows ranges and stars
        from topofix.errors import InvalidPrior
        from topofix.request import PriorRequest

        (case,) = listed(*lines)
        with pytest.raises(InvalidPrior, match=r"cases\.csv, row 2: .*one"):
            PriorRequest(table=case.table)
        return
    with pytest.raises(UnreadableFile, match=r"cases\.csv") as caught:
        listed(*lines)
    assert message in str(caught.value)


def test_no_list(tmp_path):
    with pytest.raises(UnreadableFile, match=r"nowhere\.csv: expected a case list"):
        read_cases(tmp_path / "nowhere.csv")
