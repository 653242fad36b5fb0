"""Which cases there are, and where each result goes."""

from dataclasses import replace
from pathlib import Path

import pytest

from topofix.errors import InvalidOption, UnreadableFile, UnwritableFile
from topofix.imaging.case_lists import read_cases
from topofix.imaging.rows import PriorRow, PriorTable
from topofix.jobs import Job, part_of, plan_jobs, with_requests
from topofix.records import CaseOptions
from topofix.request import PriorRequest


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


def test_a_pattern_that_no_shell_expanded(tree):
    expected = {"in/deep/b.nrrd": "out/deep/b_refined.nrrd", "in/deep/er/c.png": "out/deep/er/c_refined.png"}
    found = planned(["in/**/*.nrrd", "in/deep/er/c*"], "out")
    assert found.keys() == expected.keys()
    assert found["in/deep/b.nrrd"] == expected["in/deep/b.nrrd"]
    assert found["in/deep/er/c.png"] == "out/c_refined.png", "its fixed part is the folder itself"


def test_a_pattern_finds_folders_and_no_results(tree):
    (tree / "in" / "deep" / "b_refined.nrrd").touch()
    assert planned(["in/d*"]).keys() == {"in/deep/b.nrrd", "in/deep/er/c.png", "in/deep/er/d.jpg"}


def test_a_pattern_that_nothing_matches_is_refused(tree):
    with pytest.raises(UnreadableFile, match=r"in/\*\.mha: expected images that the pattern matches"):
        planned(["in/*.mha"])


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tree):
    (tree / "in" / "scan[1].png").touch()
    assert planned(["in/scan[1].png"]) == {"in/scan[1].png": "in/scan[1]_refined.png"}


@pytest.fixture
def listed(tree):
    """Plans the cases of a list in the working directory."""

    def plan(*lines: str, output: str | None = "out"):
        (tree / "cases.csv").write_text("\n".join(lines) + "\n")
        cases = read_cases(Path("cases.csv"))
        return plan_jobs([], None if output is None else Path(output), "_refined", cases)

    return plan


def test_a_case_list_keeps_its_tree(listed):
    jobs = listed("image", "in/a.nii.gz", "in/deep/b.nrrd")
    assert [job.output.as_posix() for job in jobs] == [
        "out/in/a_refined.nii.gz",
        "out/in/deep/b_refined.nrrd",
    ]
    beside = listed("image", "in/a.nii.gz", output=None)
    assert [job.output.as_posix() for job in beside] == ["in/a_refined.nii.gz"]


def test_a_case_list_names_outputs(listed):
    (job,) = listed("image,output", "in/a.nii.gz,x/y.nii.gz")
    assert job.output == Path("out/x/y.nii.gz")
    with pytest.raises(UnwritableFile, match="--cases: expected --output"):
        listed("image,output", "in/a.nii.gz,x/y.nii.gz", output=None)
    with pytest.raises(UnwritableFile, match="expected one case per output"):
        listed("image,output", "in/a.nii.gz,y.nii.gz", "in/deep/b.nrrd,y.nii.gz")


def test_listed_probabilities_are_read_as_such_on_the_grid_of_their_image(listed):
    one, other = listed("image,probabilities", "in/a.nii.gz,in/deep/b.nrrd", "in/deep/er/c.png,")
    options = one.options(CaseOptions(model="heart"))
    assert (options.input_type, options.like, options.model) == ("probabilities", "in/a.nii.gz", "heart")
    assert one.output == Path("out/in/a_refined.nii.gz")
    assert other.options(CaseOptions()) == CaseOptions()


def test_a_case_has_its_own_rows_of_a_table():
    rows = [PriorRow(2, "a", None, "", "1,0"), PriorRow(3, "b", None, "", "1,1")]
    jobs = [Job(Path(f"{name}.png"), Path(f"{name}_seg.png")) for name in "abc"]
    table = PriorTable(Path("priors.csv"), tuple(rows))
    first, second, third = with_requests(jobs, PriorRequest(table=table))
    assert [row.case for row in first.request.table.rows] == ["a"]
    assert second.request.content() != first.request.content()
    assert third.request.table.rows == ()
    texts = PriorRequest(("1,0",))
    assert [job.request for job in with_requests(jobs, texts)] == [texts] * 3
    own = with_requests([replace(jobs[0], request=texts)], PriorRequest(table=table))
    assert own[0].request is texts
    assert with_requests(jobs, None) == jobs


def test_parts_make_up_the_whole():
    jobs = [Job(Path(f"{k}.png"), Path(f"{k}_seg.png")) for k in range(10)]
    parts = [part_of(jobs, f"{k}/3") for k in (1, 2, 3)]
    assert [len(part) for part in parts] == [4, 3, 3]
    assert sorted((job for part in parts for job in part), key=jobs.index) == jobs
    assert part_of(jobs, None) == jobs


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "a/b", "-1/3", "1/3/5", ""])
def test_no_part(text):
    with pytest.raises(InvalidOption, match="--part: expected k/n with k from 1 to n"):
        part_of([], text)
