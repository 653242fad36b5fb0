"""Which drawings there are, where they go, and what the bytes of each are."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix import cli
from topofix.cohort import AS_TYPED, check_index, typed, write_index
from topofix.drawings import Drawings, draw
from topofix.errors import InvalidArray, UnwritableFile
from topofix.imaging.volume import Volume
from topofix.jobs import Job, Wishes, plan_drawings
from topofix.reporting import surfaces
from topofix.reporting.surfaces import Agreement
from topofix.topology.persistence import betti

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


def test_an_empty_result_has_no_surface_and_it_is_said():
    scene = solid_scene()
    nothing = replace(scene, after=np.zeros_like(scene.after))
    for name in ("a.stl", "a.ply"):
        drawn = draw(Drawings(overlay=Path("o.png"), surface=Path(name)), [nothing], "full")
        assert list(drawn[0]) == ["overlay"]
        assert drawn[1] == "No surface was written: the result has no foreground."


def test_every_label_of_a_ply_is_checked_by_itself(monkeypatch):
    """The surface of the whole foreground is not in that file: its topology says nothing about the parts."""
    scene, checked = stack_scene(), []

    def agreement(found, numbers):
        checked.append(numbers)
        return Agreement(len(checked) % 2 == 0, "the surface is not closed")

    monkeypatch.setattr(surfaces, "agreement", agreement)
    _, said = draw(Drawings(surface=Path("a.ply")), [scene], "full")
    assert checked == [betti(scene.after == label) for label in (1, 2)]
    assert said == "pool: the surface is not closed."
    _, said = draw(Drawings(surface=Path("a.stl")), [scene], "full")
    assert checked[2:] == [betti(scene.after > 0)]
    assert said == "the surface is not closed."


def test_the_surfaces_of_labels_agree_with_their_betti_numbers():
    _, said = draw(Drawings(surface=Path("a.ply")), [stack_scene()], "full")
    assert said == ""


def test_a_page_of_a_cohort_leads_back_to_it():
    alone = Drawings(report=Path("a.html"))
    of_many = Drawings(report=Path("cases/a.html"), thumbnail=Path("cases/a.png"))
    for drawings, linked in ((alone, False), (of_many, True)):
        content, _ = draw(drawings, [ring_scene()], "full")
        assert (b'href="../index.html"' in content["report"]) == linked


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
        ("a.nii.gz", "a.nii.gz"),
        (r"C:\Jane\a.nii", "a.nii"),
        ("'/data/Jane Doe/scan 1.nii.gz' --strict", "'scan 1.nii.gz' --strict"),
        ("--freeze=/home/jane/m.nii --quiet s/a.nii", "--freeze=m.nii --quiet a.nii"),
        ("/home/jane/ --max-change 5%", "FOLDER/ --max-change 5%"),
        ("scans --max-change 5%", "FOLDER/ --max-change 5%"),
        ("'patients/Jane*' --json", "FOLDER/ --json"),
        ("--json 'patients/Jane*'", "--json FOLDER/"),
        ("'patients/*/scan?.nii.gz'", "'scan?.nii.gz'"),
        ("/ . .. -- b.png", "FOLDER/ FOLDER/ FOLDER/ -- b.png"),
        ("a.nii -o/d/out.nii", "a.nii -oout.nii"),
        ("a.nii -o/d/Jane", "a.nii -oFOLDER/"),
        ("a.nii -qo d/Jane.Doe", "a.nii -qo FOLDER/"),
        ("a.nii --output=/d/Jane.Doe --report=x/y.HTML", "a.nii --output=FOLDER/ --report=y.HTML"),
        ("a.nii --figure d/bars.svg --surface d/s.ply", "a.nii --figure bars.svg --surface s.ply"),
        ("a.nii --betti LV/RV:1,0 --betti=LV/RV:1,0", "a.nii --betti LV/RV:1,0 --betti=LV/RV:1,0"),
        ("a.nii --part 3/20 --scheduler tcp://host:8786", "a.nii --part 3/20 --scheduler tcp://host:8786"),
        ("a.nii --model cardiac-sax-2d", "a.nii --model cardiac-sax-2d"),
        ("a.nii --model d/own.toml --betti-csv d/p.csv", "a.nii --model own.toml --betti-csv p.csv"),
        ("--cases . --like x.d/ --prior /d/p.toml", "--cases FOLDER/ --like FOLDER/ --prior p.toml"),
    ],
)
def test_a_command_keeps_no_folder(arguments, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scans").mkdir()
    (tmp_path / "Jane.Doe").mkdir()
    words = shlex.split(arguments.replace("\\", "\\\\"))
    assert typed(["/usr/bin/topofix", "refine", *words]) == f"topofix refine {text}"


def test_every_option_that_takes_a_path_loses_its_folder():
    options = []
    for hint in get_type_hints(cli.refine, include_extras=True).values():
        kind, option = get_args(hint)[:2] if get_args(hint) else (None, None)
        if {Path, str} & {kind, *get_args(kind)}:
            options.append(option.default)  # where Typer keeps the name that comes first
    assert {"--output", "--cases", "--freeze", "--report", "--part"} <= set(options)
    for name in set(options) - set(AS_TYPED):
        assert typed(["x", "refine", name, "patients/Jane Doe/x.png"]) == f"topofix refine {name} x.png"
