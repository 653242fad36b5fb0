"""The page of a case as text: what a person reads stands in it, and nothing that is nobody's business."""

import base64
import hashlib
import html
import json
import re
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix.errors import InvalidOption
from topofix.outcomes import Outcome
from topofix.records import ChangeRow
from topofix.reporting import page as pages
from topofix.reporting.changes import happened
from topofix.reporting.inline import plotly_script, policy
from topofix.reporting.page import case_page

HOSTILE = "<b>\"'&</script>\u202e\n\u00a0\udcff"
SPELLED = "<b>\"'&</script>\\u202e\\n\\xa0\\udcff"


@pytest.fixture
def page_of(monkeypatch):
    """Makes pages without Plotly, which is 5 MB in each."""
    monkeypatch.setattr(pages, "_plotly", lambda: "plotly()")
    return lambda *scenes, command="topofix refine scan.nii.gz", **how: case_page(scenes, command, **how)


def plain(markup: str) -> str:
    """What a reader sees of markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", markup)).split())


def rows(text: str, table: str) -> list[list[str]]:
    """The cells of a table's body, row by row."""
    body = re.search(rf'<table id="{table}".*?<tbody>(.*?)</tbody>', text, re.DOTALL)[1]
    cells = (
        re.findall(r"<td.*?>(.*?)</td>", row, re.DOTALL)
        for row in re.findall(r"<tr>.*?</tr>", body, re.DOTALL)
    )
    return [[plain(cell) for cell in row] for row in cells]


def facts(text: str) -> dict[str, str]:
    return {plain(name): plain(value) for name, value in re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)}


def inside(text: str, place: str) -> str:
    """The text of the element that begins so."""
    return html.unescape(re.search(rf"<{place}[^>]*>(?:<code>)?([^<]*)<", text)[1])


def data(text: str):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text)[1])


def test_a_picture_is_summed_up(page_of):
    scene = ring_scene()
    text, record = page_of(scene), scene.record
    assert "<title>ring.png: topofix</title>" in text
    assert rows(text, "parts") == [["foreground", "1,1", "2,0", "1,1", "yes"]]
    found = facts(text)
    assert found["Dice to the input"] == f"{record.dice_to_input:.4f}"
    assert found["Changed"] == f"{record.voxels_changed} pixels, {1.5 * record.voxels_changed:.4g} mm²"
    assert found["Added"] == f"{record.voxels_added} pixels, {1.5 * record.voxels_added:.4g} mm²"
    assert found["Removed"] == f"{record.voxels_removed} pixels, {1.5 * record.voxels_removed:.4g} mm²"
    assert found["Image"] == "64 x 48 pixels"
    assert found["One pixel"] == "1.5 x 1 mm"
    assert "Given another label" not in found
    assert "Frames" not in found
    assert 'id="surfaces"' not in text
    assert 'data-change="relabelled"' not in text


def test_a_stack_is_summed_up_slice_by_slice(page_of):
    scene = stack_scene()
    text = page_of(scene)
    found = rows(text, "parts")
    assert len(found) == len(scene.record.topology) == 12
    for row, part in zip(found, scene.record.topology, strict=True):
        before, after = (",".join(map(str, counts)) for counts in (part.before, part.after))
        assert row == [
            part.region,
            str(part.slice),
            part.requested,
            before,
            after,
            "yes" if part.met else "no",
        ]
    assert {row[-1] for row in found} == {"yes", "no"}
    assert "mm³" in facts(text)["Changed"]
    assert 'id="surfaces"' in text
    assert 'data-change="relabelled"' in text
    assert re.findall(r'data-label="(\d)"', text) == ["1", "2"]


def test_corrected_features_are_listed_with_their_places(page_of):
    scene = solid_scene()
    found = rows(page_of(scene), "changes")
    assert len(found) == len(scene.record.changes) >= 3
    for row, change in zip(found, scene.record.changes, strict=True):
        assert row[0].endswith(f" {happened(change)}")
        assert row[1:3] == ["foreground", str(change.voxel[2])]
        assert row[5] == " ".join(map(str, change.voxel))
        assert row[6] == " ".join(f"{mm:.1f}" for mm in change.mm)
        assert row[7] == str(change.voxels)
        assert row[9] == change.stage
    assert {"component joined", "tunnel filled", "void opened"} <= {row[0] for row in found}


def test_a_feature_without_a_bar_has_neither_birth_nor_death(page_of):
    change = ChangeRow(
        "foreground", None, None, "changed", None, None, (3, 4), (1.0, 2.0, 0.0), 1234, 1851.0, "exact"
    )
    scene = replace(ring_scene(), record=replace(ring_scene().record, changes=(change,)))
    (row,) = rows(page_of(scene), "changes")
    assert row == ["shape changed", "foreground", "", "", "3 4", "1.0 2.0 0.0", "1,234", "1,851", "exact"]


def test_a_case_leads_back_to_all_cases_where_there_are_any(page_of):
    assert 'id="index"' not in page_of(ring_scene())
    text = page_of(ring_scene(), index="../index.html")
    assert '<a id="index" href="../index.html">All cases</a>' in text


def test_one_pixel_is_one(page_of):
    scene = ring_scene()
    record = replace(scene.record, voxels_changed=1, voxels_added=1, voxels_removed=0, steps=1)
    found = facts(page_of(replace(scene, record=record)))
    assert (found["Changed"], found["Removed"]) == ("1 pixel, 1.5 mm²", "0 pixels, 0 mm²")
    assert found["Stages"].endswith("; 1 step")
    assert "One pixel" in found


def test_only_what_lies_in_a_patient_has_ras_coordinates(page_of):
    scene = ring_scene()
    assert ">Place (mm, RAS)<" in page_of(scene)
    assert ">Place (mm)<" in page_of(replace(scene, affine=np.eye(4)))


def test_where_nothing_was_changed_it_is_said(page_of):
    scene = ring_scene()
    record = replace(scene.record, changes=(), stages=(), voxels_changed=0, voxels_added=0, voxels_removed=0)
    text = page_of(replace(scene, record=record, after=scene.before))
    assert "Nothing was changed." in text
    assert facts(text)["Changed"] == "0 pixels, 0 mm²"
    assert facts(text)["Stages"] == "none"
    assert facts(text)["Dice to the input"] == "1.0000"


def test_an_empty_segmentation_has_a_page(page_of):
    scene = solid_scene()
    nothing = np.zeros_like(scene.before)
    text = page_of(replace(scene, before=nothing, after=nothing))
    assert facts(text)["Dice to the input"] == "1.0000"
    assert data(text)["labels"] == []


def test_frames_are_summed_up_together(page_of):
    scene = stack_scene()
    kept = replace(scene, after=scene.before, record=replace(scene.record, voxels_changed=0, seconds=2.0))
    scenes = [replace(scene, frame=0, record=replace(scene.record, seconds=1.0)), replace(kept, frame=1)]
    text = page_of(*scenes)
    found = facts(text)
    assert found["Frames"] == "2"
    assert found["Time"] == "3.0 s"
    assert found["Changed"].startswith(f"{scene.record.voxels_changed:,} voxels, ")
    both = 2 * np.count_nonzero(scene.before * scene.after) + 2 * np.count_nonzero(scene.before)
    size = 3 * np.count_nonzero(scene.before) + np.count_nonzero(scene.after)
    assert found["Dice to the input"] == f"{both / size:.4f}"
    assert len(rows(text, "parts")) == 24
    assert len(json.loads(inside(text, 'pre tabindex="0" role="region"'))) == 2


def test_the_worst_frame_gives_the_outcome(page_of):
    ends = (Outcome.SATISFIED, Outcome.NOT_REACHED, Outcome.ALREADY_SATISFIED)
    scene = ring_scene()
    scenes = [
        replace(scene, frame=k, record=replace(scene.record, outcome=end, message=end.value))
        for k, end in enumerate(ends)
    ]
    text = page_of(*scenes)
    assert '<strong class="bad">Not reached.</strong>' in text
    assert Outcome.NOT_REACHED.value.split(":")[0] in text
    assert '<strong class="good">Satisfied.</strong>' in page_of(scenes[0], scenes[2])


def test_the_record_is_whole_but_for_folders(page_of):
    scene = ring_scene()
    record = replace(
        scene.record,
        input="patients/Jane Doe/ring.png",
        model="/models/Jane Doe/own.safetensors",
        message="patients/Jane Doe/ring.png is fine",
        request={**scene.record.request, "freeze": "Jane Doe/frozen.png", "like": None, "steps": 7},
        outputs={"segmentation": "out/Jane Doe/ring_refined.png"},
    )
    text = page_of(replace(scene, record=record))
    assert "Jane" not in text
    found = json.loads(inside(text, 'pre tabindex="0" role="region"'))
    assert found == json.loads(
        replace(
            record,
            input="ring.png",
            model="own.safetensors",
            message="ring.png is fine",
            request={**record.request, "freeze": "frozen.png"},
            outputs={"segmentation": "ring_refined.png"},
        ).to_json()
    )


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        ("1,1", "1,1"),
        ("LV/RV:1,0; 2+3:1-3,*", "LV/RV:1,0; 2+3:1-3,*"),
        ("patients/Jane Doe/priors.csv", "priors.csv"),
        ("/patients/Jane Doe/heart.toml", "heart.toml"),
        ("/patients/Jane Doe/11", "11"),
    ],
)
def test_what_was_asked_is_a_prior_or_the_name_of_a_file(page_of, asked, shown):
    scene = ring_scene()
    record = replace(scene.record, request={"betti": asked})
    text = page_of(replace(scene, record=record))
    assert json.loads(inside(text, 'pre tabindex="0" role="region"'))["request"] == {"betti": shown}


def hostile_scene():
    """A scene in which every text comes from a stranger."""
    scene = stack_scene()
    record = replace(
        scene.record,
        model=HOSTILE.replace("/", ""),
        message=HOSTILE,
        topology=tuple(replace(part, region=HOSTILE) for part in scene.record.topology),
        changes=tuple(replace(row, region=HOSTILE) for row in scene.record.changes),
    )
    sides = {
        side: tuple(replace(bars, region=HOSTILE) for bars in getattr(scene, side))
        for side in ("bars_before", "bars_after")
    }
    return replace(scene, name=HOSTILE, record=record, labels={1: HOSTILE, 2: HOSTILE}, **sides)


def test_hostile_text_is_spelled_out_wherever_it_stands(page_of):
    text = page_of(hostile_scene(), command=HOSTILE)
    text.encode("utf-8")
    assert "\u202e" not in text
    assert "\u00a0" not in text
    assert "<b>" not in text
    assert inside(text, 'bdi id="name"') == SPELLED
    assert inside(text, "title") == f"{SPELLED}: topofix"
    assert inside(text, 'pre id="command"') == SPELLED
    assert {row[0] for row in rows(text, "parts")} == {" ".join(SPELLED.split())}
    assert {row[1] for row in rows(text, "changes")} == {" ".join(SPELLED.split())}
    assert facts(text)["Network"] == SPELLED.replace("/", "")
    assert text.count("</script>") == text.count("<script") == 3
    found = data(text)
    assert found["command"] == HOSTILE
    assert {label["name"] for label in found["labels"]} == {SPELLED}
    assert {part["region"] for part in found["parts"] + found["changes"]} == {SPELLED}
    assert {code["region"] for code in found["frames"][0]["barcodes"]} == {SPELLED}
    record = json.loads(inside(text, 'pre tabindex="0" role="region"'))
    assert record["topology"][0]["region"] == HOSTILE  # escaped, as JSON has it


def test_nothing_is_loaded_from_anywhere(page_of):
    text = page_of(hostile_scene())
    addresses = re.findall(r'(?:src|href|action|data)="([^"]*)"', text)
    assert addresses == ["data:,"]
    assert not re.search(r"@import|url\(", text)
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 1
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in ("plotly()", *scripts)]
    rules = html.unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1])
    assert rules == policy("plotly()", *scripts)
    assert all(f"'sha256-{digest}'" in rules for digest in digests)


def test_with_plotly_it_is_one_file_of_some_megabytes():
    pytest.importorskip("plotly")
    start = time.perf_counter()
    text = case_page([solid_scene()], "topofix refine solid.nii.gz")
    assert time.perf_counter() - start < 3
    assert f'<script type="text/plain" id="plotly">{plotly_script()}</script>' in text
    assert len(text.encode("utf-8")) < 7_000_000


def test_the_page_is_the_same_for_the_same_case(page_of):
    assert page_of(solid_scene()) == page_of(solid_scene())


@pytest.mark.parametrize("make", [ring_scene, stack_scene, solid_scene])
def test_everything_has_a_name_for_those_who_do_not_see_it(page_of, make):
    text = page_of(make())
    for tag in re.findall(r'<[^>]*role="(?:img|slider|region|group)"[^>]*>', text):
        assert "aria-label" in tag or 'class="plot"' in tag  # the script names plots after what they show
    for identifier in re.findall(r'aria-(?:labelledby|describedby)="([^"]*)"', text):
        assert f'id="{identifier}"' in text
    assert len(re.findall(r' id="([^"]*)"', text)) == len(set(re.findall(r' id="([^"]*)"', text)))


def test_without_plotly_it_is_said_what_installs_it(monkeypatch):
    pages._plotly.cache_clear()
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InvalidOption, match=r"pip install 'topofix\[report\]' installs it"):
        case_page([ring_scene()], "topofix refine ring.png")
