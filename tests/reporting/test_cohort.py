"""The page of a cohort as HTML: totals, rows and links say what the Records say, and names stay text."""

import base64
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix.records import Outcome, Record, Topology
from topofix.reporting.cohort import CohortRow, cohort_page
from topofix.reporting.inline import policy
from topofix.reporting.thumbnails import thumbnail

pytest.importorskip("plotly")

PICTURE = b"\x89PNG\r\n\x1a\n</script>"
VOID = {"meta", "link", "input", "img", "br"}
HOSTILE = {
    "a script": "<script>alert(1)</script>.nii.gz",
    "the end of a script": "</script><img src=x onerror=alert(1)>.nii",
    "quotes": "\"'onmouseover=alert(1) x='.nii",
    "new lines": "a\nb\r\n.nii",
    "right to left": "\u202egz.iin.\u2066nacs",
    "a template": "{{ 7 * 7 }}{% raw %}.nii",
    "an entity": "&lt;b&gt;&amp;.nii",
    "no text": "\udcff\udcfe.nii",
}


class Page(HTMLParser):
    """What a browser makes of a page, as far as it is asked for here: texts by element, links, attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self.values: list[list[str | None]] = []
        self.links: list[str | None] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        assert len(found) == len(attributes)
        self.elements.append((tag, found))
        if tag == "tr":
            self.rows.append([])
            self.values.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.values[-1].append(found.get("data-value"))
        elif tag == "li":
            self.rows[-1][-1] += " "
        elif tag == "a":
            self.links.append(found["href"])
        if tag not in VOID:
            self.open.append((tag, found))
            self.texts.setdefault(self._place(), []).append("")

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, data):
        if not self.open:
            return
        for depth in range(len(self.open)):
            tag, found = self.open[depth]
            self.texts[found.get("id") or tag][-1] += data
            if tag in ("td", "th"):
                self.rows[-1][-1] += data

    def _place(self) -> str:
        tag, found = self.open[-1]
        return found.get("id") or tag

    @property
    def cells(self) -> list[list[str]]:
        """Of every case: picture, file, Betti numbers, outcome, message, Dice, amounts, time."""
        return [[" ".join(cell.split()) for cell in row] for row in self.rows[1:]]

    @property
    def totals(self) -> dict[str, str]:
        names, values = self.texts["dt"], self.texts["dd"]
        return {name: " ".join(value.split()) for name, value in zip(names, values, strict=True)}

    @property
    def data(self) -> dict:
        return json.loads(self.texts["data"][0])


def case(name: str = "scan.nii.gz", outcome: Outcome = Outcome.SATISFIED, **values) -> Record:
    parts = (Topology("wall", None, "1,0,0", (2, 0, 0), (1, 0, 0), False, True),)
    settings = {"topology": parts, "dice_to_input": 0.98, "seconds": 2.0} | values
    return Record("refine", f"patients/Jane Doe/{name}", outcome, outcome.value, **settings)


def failed(name: str = "bad.nii.gz") -> Record:
    path = Path("patients/Jane Doe") / name
    return Record.failed("refine", path, f"{path}: expected a volume, found 12 bytes")


def page(*records: Record, **values) -> Page:
    return Page(cohort_page([CohortRow(record, **values) for record in records]))


def test_a_row_says_what_the_record_says():
    record = case(voxels_added=10, voxels_removed=4, voxels_changed=16, voxel_volume=2.5, seconds=12.34)
    (cells,) = page(record, link="cases/scan.html").cells
    assert cells == [
        "none",
        "scan.nii.gz",
        "wall 2,0,0 → 1,0,0, asked 1,0,0, right",
        "satisfied",
        Outcome.SATISFIED.value,
        "0.9800",
        "40",
        "25",
        "10",
        "12.3",
    ]


def test_columns_are_named_with_units():
    headings = [" ".join(cell.split()) for cell in page(case()).rows[0]]
    assert headings == [
        *("Picture", "File", "Betti numbers", "Outcome", "Message"),
        *("Dice to the input", "Changed (mm³)", "Added (mm³)", "Removed (mm³)", "Time (s)"),
    ]


def test_a_failed_case_has_a_name_and_a_reason_and_no_numbers():
    found = page(failed())
    assert found.cells == [
        [
            *("none", "bad.nii.gz", "none", "failed"),
            "bad.nii.gz: expected a volume, found 12 bytes",
            *("none",) * 5,
        ]
    ]
    assert found.links == []
    assert found.values[1][5:] == [None] * 5
    assert found.totals["Right after"] == "none of 0 with a prior"


def test_what_is_right_is_not_said_in_colour_only():
    wrong = (Topology("wall", None, "1,0,0", (2, 0, 0), (2, 0, 0), False, False),)
    (cells,) = page(case(outcome=Outcome.INFEASIBLE, topology=wrong)).cells
    assert cells[2] == "wall 2,0,0, asked 1,0,0, wrong"


def test_totals_are_those_of_the_records():
    wrong = (Topology("wall", None, "1,0,0", (3, 0, 0), (2, 0, 0), False, False),)
    right = (Topology("wall", None, "1,0,0", (1, 0, 0), (1, 0, 0), True, True),)
    found = page(
        case("a", voxels_changed=1000, voxel_volume=1.5, dice_to_input=0.9, seconds=1.0),
        case("b", Outcome.INFEASIBLE, topology=wrong, voxels_changed=7, dice_to_input=0.95, seconds=30.5),
        case("c", Outcome.ALREADY_SATISFIED, topology=right, dice_to_input=1.0, seconds=0.5),
        case("d", Outcome.WRITTEN, topology=(), dice_to_input=1.0, seconds=0.0),
        failed(),
    )
    assert found.totals == {
        "Cases": "5 1 failed",
        "Right before": "1 (33 %) of 3 with a prior",
        "Right after": "2 (67 %) of 3 with a prior",
        "Dice to the input": "0.9750 median",
        "Changed": "1,507 mm³ all cases together",
        "Time": "32.0 s median 0.8 s a case",
    }
    boxes = [found["value"] for tag, found in found.elements if found.get("name") == "outcome"]
    assert boxes == ["satisfied", "already satisfied", "infeasible", "written", "failed"]
    assert "infeasible: 1" in next(e["aria-label"] for _, e in found.elements if e.get("class") == "plot")


def test_images_and_volumes_are_not_added_up():
    flat = (Topology("wall", None, "1,1", (2, 0), (1, 1), False, True),)
    slices = (Topology("wall", 3, "1,1", (2, 0), (1, 1), False, True),)
    found = page(
        case(topology=flat, voxels_changed=3, voxels_added=3),
        case(topology=slices, voxels_changed=8, voxels_removed=8),
    )
    assert found.totals["Changed"] == "3 mm² and 8 mm³ all cases together"
    assert [cells[7:9] for cells in found.cells] == [["3 mm²", "0 mm²"], ["0 mm³", "8 mm³"]]
    assert len(found.data["figures"]) == 5


def test_pixels_alone_are_squares():
    flat = (Topology("wall", None, "1,1", (2, 0), (1, 1), False, True),)
    found = page(case(topology=flat, voxels_changed=3, voxels_added=3))
    assert found.totals["Changed"] == "3 mm² all cases together"
    assert found.cells[0][6] == "3"
    assert "Added (mm²)" in [" ".join(cell.split()) for cell in found.rows[0]]


def test_pictures_lie_in_the_data_only():
    rows = [CohortRow(case(), PICTURE, "a.html"), CohortRow(failed()), CohortRow(case(), PICTURE)]
    found = Page(cohort_page(rows))
    encoded = base64.b64encode(PICTURE).decode()
    assert found.data["thumbnails"] == [encoded, None, encoded]
    assert not [tag for tag, _ in found.elements if tag == "img"]
    told = [found["data-picture"] for tag, found in found.elements if found.get("class") == "picture"]
    amounts = "in all 0 mm³ changed, 0 mm³ added, 0 mm³ removed"
    assert told[0] == f"scan.nii.gz, the slice where most changed; {amounts}"


def test_a_link_is_encoded():
    found = page(case(), link="cases/Jane #1?<b>.html")
    assert found.links == ["cases/Jane%20%231%3F%3Cb%3E.html"]


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_text(name):
    parts = (Topology(name, None, "1,0,0", (2, 0, 0), (1, 0, 0), False, True),)
    record = replace(case(name, topology=parts), message=f"{name} and more")
    text = cohort_page([CohortRow(record, PICTURE, f"{name}.html"), CohortRow(failed(name))])
    text.encode()  # it can be written
    found = Page(text)
    plain = Page(cohort_page([CohortRow(case(), PICTURE, "a.html"), CohortRow(failed())]))
    spelled = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    shown = " ".join(Path(spelled).name.split()) if "/" in spelled else " ".join(spelled.split())
    assert found.cells[0][1] == found.cells[1][1] == shown
    assert [(tag, list(named)) for tag, named in found.elements] == [
        (tag, list(named)) for tag, named in plain.elements
    ]


def test_no_folder_reaches_the_page():
    record = replace(
        case(),
        message="patients/Jane Doe/scan.nii.gz was frozen by /data/Jane Doe/mask.nii.gz",
        model="/home/jane/model.safetensors",
        request={"freeze": "/data/Jane Doe/mask.nii.gz"},
        outputs={"segmentation": "out/Jane Doe/scan.nii.gz"},
    )
    text = cohort_page([CohortRow(record, link="a.html"), CohortRow(failed(), link=None)])
    assert "Jane" not in text
    assert "patients" not in text


def test_only_the_programs_of_the_page_may_run():
    found = page(case())
    scripts = [(e.get("type"), e.get("id")) for tag, e in found.elements if tag == "script"]
    assert scripts == [("application/json", "data"), ("text/plain", "plotly"), (None, None)]
    asked = next(e["content"] for _, e in found.elements if e.get("http-equiv") == "Content-Security-Policy")
    assert asked == policy(found.texts["script"][0], found.texts["plotly"][0])
    assert not [name for _, e in found.elements for name in e if name.startswith("on")]
    assert not [
        e for tag, e in found.elements if tag != "a" and ("src" in e or e.get("href", "data:,") != "data:,")
    ]


def test_columns_can_be_sorted_by_numbers():
    records = [
        case("case 10.nii", dice_to_input=0.5),
        case("Case 2.nii", dice_to_input=0.75, topology=()),
        case("case 1.nii", Outcome.TIME_OVER, dice_to_input=1.0),
        failed("case 2b.nii"),
    ]
    values = page(*records).values[1:]
    names = [float(value[1]) for value in values]
    assert sorted(range(4), key=names.__getitem__) == [2, 1, 3, 0]
    assert [value[2] is None for value in values] == [False, True, False, True]
    assert int(values[0][3]) < int(values[2][3]) < int(values[3][3])
    assert [value[5] for value in values] == ["0.5", "0.75", "1.0", None]
    assert all(value[0] is None for value in values)


def test_more_wrong_after_sorts_behind_then_more_wrong_before():
    def wrong(before: int, after: int) -> Record:
        parts = (Topology("wall", None, "1,0,0", (before, 0, 0), (after, 0, 0), before == 1, after == 1),)
        return case(topology=parts)

    values = page(wrong(3, 2), wrong(9, 1), wrong(2, 1), wrong(3, 2)).values[1:]
    assert [int(value[2]) for value in values] == [2, 1, 0, 2]


def test_no_case_is_a_page_too():
    found = page()
    assert found.cells == []
    assert found.totals["Cases"] == "0 none failed"
    assert found.totals["Dice to the input"] == "none median"


def test_one_case_is_singular():
    assert page(case()).texts["h1"] == ["1 case"]
    assert page(case(), case()).texts["h1"] == ["2 cases"]


@pytest.mark.parametrize("make", [ring_scene, stack_scene, solid_scene])
def test_refined_cases_have_rows(make):
    scene = make()
    (cells,) = Page(cohort_page([CohortRow(scene.record, thumbnail(scene), "case.html")])).cells
    record = scene.record
    assert cells[1] == scene.name
    assert cells[3] == record.outcome.name.lower().replace("_", " ")
    assert float(cells[5]) == pytest.approx(record.dice_to_input, abs=1e-4)
    assert float(cells[6]) == pytest.approx(record.voxels_changed * record.voxel_volume, rel=1e-4)
    assert float(cells[7]) == pytest.approx(record.voxels_added * record.voxel_volume, rel=1e-4)
    assert float(cells[8]) == pytest.approx(record.voxels_removed * record.voxel_volume, rel=1e-4)


def test_slices_are_counted():
    (cells,) = Page(cohort_page([CohortRow(stack_scene().record)])).cells
    pool, wall = "pool 1,0 in 4 of 6 slices → 5 of 6", "wall 1,1 in 3 of 6 slices → 5 of 6"
    assert cells[2] == f"{pool}, wrong {wall}, wrong"


def test_500_cases_are_less_than_20_megabytes():
    scene = stack_scene()
    large = thumbnail(scene) + bytes(5000)  # more than any real one
    text = cohort_page([CohortRow(scene.record, large, f"cases/{k}.html") for k in range(500)])
    assert len(text.encode()) < 20e6
    assert len(Page(text).cells) == 500
