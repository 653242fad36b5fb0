"""Which cases there are, and where each result goes."""

from pathlib import Path

import pytest

from topofix.errors import UnreadableFile, UnwritableFile
from topofix.jobs import plan_jobs


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A working directory with images in folders."""
    names = ("a.nii.gz", "deep/b.nrrd", "deep/er/c.png", "deep/er/d.jpg", "deep/notes.txt", ".hidden/e.png")
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(inputs, output=None, ending="_refined") -> dict[str, str]:
    jobs = plan_jobs([Path(item) for item in inputs], None if output is None else Path(output), ending)
    return {job.input.as_posix(): job.output.as_posix() for job in jobs}


def test_results_lie_beside_their_inputs(tree):
    assert planned(["in"]) == {
        "in/a.nii.gz": "in/a_refined.nii.gz",
        "in/deep/b.nrrd": "in/deep/b_refined.nrrd",
        "in/deep/er/c.png": "in/deep/er/c_refined.png",
        "in/deep/er/d.jpg": "in/deep/er/d_refined.png",
    }


def test_an_output_folder_keeps_the_tree(tree):
    assert planned(["in"], "out", "_seg") == {
        "in/a.nii.gz": "out/a_seg.nii.gz",
        "in/deep/b.nrrd": "out/deep/b_seg.nrrd",
        "in/deep/er/c.png": "out/deep/er/c_seg.png",
        "in/deep/er/d.jpg": "out/deep/er/d_seg.png",
    }


def test_files_and_folders_can_be_mixed(tree):
    assert planned(["in/deep/er", "in/a.nii.gz"], "out") == {
        "in/deep/er/c.png": "out/c_refined.png",
        "in/deep/er/d.jpg": "out/d_refined.png",
        "in/a.nii.gz": "out/a_refined.nii.gz",
    }


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("mask.nrrd", "mask.nrrd"),
        ("new/mask.nii.gz", "new/mask.nii.gz"),
        ("new", "new/a_refined.nii.gz"),
        ("empty", "empty/a_refined.nii.gz"),
    ],
)
def test_one_file_goes_to_a_file_or_into_a_folder(tree, output, expected):
    assert planned(["in/a.nii.gz"], output) == {"in/a.nii.gz": expected}


def test_a_folder_may_be_called_like_an_image(tree):
    (tree / "set.png").mkdir()
    assert planned(["in/a.nii.gz"], "set.png") == {"in/a.nii.gz": "set.png/a_refined.nii.gz"}


def test_several_inputs_never_share_a_file(tree):
    assert set(planned(["in/a.nii.gz", "in/deep/b.nrrd"], "one.nii.gz").values()) == {
        *("one.nii.gz/a_refined.nii.gz", "one.nii.gz/b_refined.nrrd")
    }


def test_own_results_in_a_folder_are_no_cases(tree):
    (tree / "in" / "a_refined.nii.gz").touch()
    (tree / "in" / "a_seg.nii.gz").touch()
    (tree / "in" / "a_seg_probabilities_wall.nii.gz").touch()
    (tree / "in" / "a_refined_changes.nii.gz").touch()
    (tree / "in" / "segment.nii.gz").touch()
    results = {"in/a_refined.nii.gz", "in/a_seg.nii.gz", "in/a_seg_probabilities_wall.nii.gz"}
    results.add("in/a_refined_changes.nii.gz")
    for ending in ("_refined", "_seg"):  # segment, then refine, is the natural order
        cases = planned(["in"], ending=ending).keys()
        assert not results & cases
        assert "in/segment.nii.gz" in cases
    assert results <= planned(["in"], ending="").keys()


def test_a_result_that_is_named_is_a_case(tree):
    assert planned(["in/a_refined.nii.gz"]) == {"in/a_refined.nii.gz": "in/a_refined_refined.nii.gz"}


def test_a_file_that_is_missing_fails_only_when_its_turn_comes(tree):
    assert planned(["nowhere.png", "in/a.nii.gz"]).keys() == {"nowhere.png", "in/a.nii.gz"}


def test_a_folder_without_images_is_refused(tree):
    with pytest.raises(UnreadableFile, match=r"empty: expected a folder with images, found none"):
        planned(["in", "empty"])


def test_a_case_that_is_named_twice_is_one_case(tree):
    assert len(plan_jobs([Path("in"), Path("in/a.nii.gz")], None, "_seg")) == 4


@pytest.mark.parametrize("other", ["b/a.nii.gz", "b/a.nrrd"])
def test_two_cases_for_one_output_or_one_record_are_refused(tree, other):
    with pytest.raises(UnwritableFile, match=r"a_seg.*in/a\.nii\.gz.*b/a\.n"):
        planned(["in/a.nii.gz", other], "out", "_seg")


def test_cases_of_one_name_in_different_folders_keep_apart(tree):
    assert len(planned(["in/a.nii.gz", "b/a.nii.gz"])) == 2


def test_an_input_is_no_output(tree):
    with pytest.raises(UnwritableFile, match=r"in/a\.nii\.gz: expected another file"):
        planned(["in/a.nii.gz"], "in/../in/a.nii.gz")


def test_where_nothing_is_written_nothing_collides(tree):
    (tree / "in" / "a.nrrd").touch()
    assert {"in/a.nrrd", "in/a.nii.gz"} <= planned(["in"], ending="").keys()


def test_what_holds_no_label_map_is_answered_in_nifti(tree):
    for name in ("b.npz", "c.npy"):
        (tree / "in" / name).touch()
    assert planned(["in/b.npz", "in/c.npy"]) == {
        "in/b.npz": "in/b_refined.nii.gz",
        "in/c.npy": "in/c_refined.nii.gz",
    }
    assert not {"in/b.npz", "in/c.npy"} & planned(["in"]).keys()  # nnU-Net has one beside every label map


def test_a_folder_of_slices_is_one_case_named_like_the_folder(tree, monkeypatch):
    for name in ("in/deep/series.1/a", "in/deep/series.1/b"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(bytes(128) + b"DICM")
    folder = "in/deep/series.1"
    assert planned([folder]) == {folder: "in/deep/series.1_refined.nii.gz"}
    assert planned([folder], "mask.nrrd") == {folder: "mask.nrrd"}
    assert planned([folder], "out") == {folder: "out/series.1_refined.nii.gz"}
    assert planned(["in"], "out")[folder] == "out/deep/series.1_refined.nii.gz"
    monkeypatch.chdir(tree / folder)
    assert planned(["."]) == {".": (tree / "in/deep/series.1_refined.nii.gz").as_posix()}
    assert planned(["."], "out") == {".": "out/series.1_refined.nii.gz"}
