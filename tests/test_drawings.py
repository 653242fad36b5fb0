"""Which drawings there are, where they go, and what the bytes of each are."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix.cohort import check_index, typed, write_index
from topofix.drawings import Drawings, draw
from topofix.errors import InvalidArray, UnwritableFile
from topofix.imaging.volume import Volume
from topofix.jobs import Job, Wishes, plan_drawings

JOBS = [
    Job(Path("in/a.nii.gz"), Path("out/a_refined.nii.gz")),
    Job(Path("in/b.nii.gz"), Path("out/b_refined.nii.gz")),
]


def volume(*shape: int) -> Volume:
    return Volume(np.zeros(shape), (1.0,) * len(shape), np.eye(4), Path("scan.nii.gz"))


@pytest.mark.parametrize(
    ("name", "file"), [("figure", "a.jpg"), ("overlay", "a"), ("report", "a.htm"), ("surface", "a.obj")]
)
def test_other_kinds_of_files_are_refused(name, file):
    with pytest.raises(UnwritableFile, match=f"--{name}: expected a file ending in"):
        Drawings(**{name: Path(file)})


def test_files_go_where_they_are_wished():
    wishes = Wishes(figure=Path("f.svg"), overlay=Path("o"), surface=Path("s.ply"), report=Path("r.html"))
    (one,) = plan_drawings(JOBS[:1], wishes)
    assert one.paths == {
        "figure": Path("f.svg"),
        "overlay": Path("o/a_refined.png"),
        "report": Path("r.html"),
        "surface": Path("s.ply"),
    }


def test_a_cohort_gets_folders_and_pages_whose_names_say_nothing():
    wishes = Wishes(figure=Path("f"), report=Path("pages"), command="topofix refine in")
    first, second = plan_drawings(JOBS, wishes)
    assert first.figure == Path("f/a_refined.png")
    assert first.report.parent == Path("pages/cases")
    assert re.fullmatch("[0-9a-f]{12}.html", first.report.name)
    assert first.thumbnail == first.report.with_suffix(".png")
    assert second.report != first.report
    assert second.command == "topofix refine in"


def test_a_case_has_the_same_page_when_others_come_before_it():
    wishes = Wishes(report=Path("pages"))
    assert plan_drawings(JOBS[::-1], wishes) == plan_drawings(JOBS, wishes)[::-1]


def test_a_report_folder_for_a_single_case_is_a_cohort_of_one():
    (one,) = plan_drawings(JOBS[:1], Wishes(report=Path("pages")))
    assert one.report.parent == Path("pages/cases")


def test_two_cases_never_share_a_file():
    same = [JOBS[0], Job(Path("other/a.nii.gz"), Path("out/other/a_refined.nii.gz"))]
    with pytest.raises(UnwritableFile, match="--figure: expected one case per file"):
        plan_drawings(same, Wishes(figure=Path("f")))
    with pytest.raises(UnwritableFile, match=r"--figure: expected a folder, .* got 'f.png' for 2 cases"):
        plan_drawings(JOBS, Wishes(figure=Path("f.png")))


def test_a_surface_needs_a_single_volume():
    drawings = Drawings(surface=Path("a.stl"))
    drawings.check([volume(4, 4, 4)])
    with pytest.raises(
        InvalidArray, match=r"scan.nii.gz: expected a volume for --surface, found a 2-D image"
    ):
        drawings.check([volume(4, 4)])
    with pytest.raises(InvalidArray, match="found a series in time"):
        drawings.check([volume(4, 4, 4)] * 2)
    Drawings(figure=Path("a.png")).check([volume(4, 4)])


@pytest.mark.parametrize("make", [ring_scene, stack_scene, solid_scene])
def test_bytes_are_of_their_kind(make):
    scene = make()
    drawings = Drawings(
        figure=Path("a.png"), overlay=Path("a.svg"), report=Path("a.html"), thumbnail=Path("t.png")
    )
    content, said = draw(drawings, [scene], "full")
    assert list(content) == ["figure", "overlay", "report", "thumbnail"]
    assert content["figure"].startswith(b"\x89PNG")
    assert b"<svg" in content["overlay"][:1000]
    assert content["report"].startswith(b"<!doctype html>")
    assert content["thumbnail"].startswith(b"\x89PNG")
    assert said == ""


def test_surfaces_of_a_volume():
    scene = solid_scene()
    for name, magic in (("a.stl", None), ("a.ply", b"ply")):
        content, said = draw(Drawings(surface=Path(name)), [scene], "full")
        assert said == "", "its Euler characteristic is that of 1,0,0"
        assert magic is None or content["surface"].startswith(magic)
    nothing = replace(scene, after=np.zeros_like(scene.after))
    with pytest.raises(InvalidArray):
        draw(Drawings(surface=Path("a.stl")), [nothing], "full")


def test_an_index_links_what_was_drawn(tmp_path):
    scene = ring_scene()
    planned = plan_drawings(JOBS, Wishes(report=tmp_path / "pages"))
    page, thumbnail = planned[0].report, planned[0].thumbnail
    content, _ = draw(planned[0], [scene], "full")
    page.parent.mkdir(parents=True)
    page.write_bytes(content["report"])
    thumbnail.write_bytes(content["thumbnail"])
    drawn = replace(scene.record, outputs={"report": str(page), "thumbnail": str(thumbnail)})
    failed = type(scene.record).failed("refine", Path("in/b.nii.gz"), "b.nii.gz: no image")
    write_index(tmp_path / "pages" / "index.html", [(drawn, planned[0]), (failed, planned[1])])
    text = (tmp_path / "pages" / "index.html").read_text("utf-8")
    assert f'href="cases/{page.name}"' in text
    assert planned[1].report.name not in text


def test_only_the_page_of_a_cohort_is_replaced(tmp_path):
    index = tmp_path / "index.html"
    check_index(index, overwrite=False)
    write_index(index, [])
    check_index(index, overwrite=False)
    index.write_text("<title>somebody's</title>")
    with pytest.raises(UnwritableFile, match=r"index\.html: exists already"):
        check_index(index, overwrite=False)
    check_index(index, overwrite=True)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["topofix", "refine", "a.nii.gz"], "topofix refine a.nii.gz"),
        (["x", "refine", r"C:\Jane\a.nii"], "topofix refine a.nii"),
        (["x", "refine", "--freeze=/home/jane/m.nii"], "topofix refine --freeze=m.nii"),
        (["x", "refine", "/home/jane/", "--max-change", "5%"], "topofix refine jane --max-change 5%"),
    ],
)
def test_a_command_keeps_no_folder(arguments, text):
    assert typed(arguments) == text
