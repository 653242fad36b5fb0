"""The page of a cohort in Chromium: it sorts and filters as Python does, and asks for no other file."""

import base64
import random
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reporting.browser import chromium, opened
from reporting.scenes import solid_scene, stack_scene

from topofix.records import Outcome, Record
from topofix.reporting.betti_lines import betti_error
from topofix.reporting.cohort import CohortRow, cohort_page
from topofix.reporting.thumbnails import thumbnail

pytest.importorskip("plotly")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

HOSTILE = [
    "<script>document.title='caught'</script>.nii",
    "\"'><img src=x onerror=document.title='caught'>.nii",
    "a\nb\u202egz.iin.nacs",
]
COLUMNS = {
    "File": 1,
    "Betti numbers": 2,
    "Outcome": 3,
    "Message": 4,
    "Dice to the input": 5,
    "Changed (mm³)": 6,
    "Added (mm³)": 7,
    "Removed (mm³)": 8,
    "Time (s)": 9,
}


def cohort(count: int) -> list[CohortRow]:
    """Cases of all kinds, from two real ones; numbers come more than once, and names out of order."""
    chance = random.Random(count)
    scenes = [(scene.record, thumbnail(scene)) for scene in (stack_scene(), solid_scene())]
    rows = []
    for number in chance.sample(range(1000), count):
        name = f"Case {number}.nii" if number % 2 else f"case {number}_ED.nii"
        if number % 11 == 0:
            path = Path("patients/Jane Doe") / name
            rows.append(
                CohortRow(Record.failed("refine", path, f"{path}: expected a volume, found {number}"))
            )
            continue
        record, picture = chance.choice(scenes)
        outcome = chance.choice([record.outcome, Outcome.TIME_OVER, Outcome.INFEASIBLE])
        record = replace(
            record,
            input=f"patients/Jane Doe/{name}",
            outcome=outcome,
            message=f"{outcome.value} (slice {number}: Betti error 1 left)",
            dice_to_input=round(chance.uniform(0.9, 1), 2),
            voxels_changed=chance.randrange(2000, 3000),
            voxels_added=chance.randrange(20),
            voxels_removed=chance.randrange(2000),
            seconds=round(chance.expovariate(1), 1),
        )
        if number % 7 == 0:
            record = replace(record, topology=tuple(replace(p, before=p.after) for p in record.topology))
        rows.append(CohortRow(record, picture, f"cases/{name} #1.html"))
    return rows


def key(row: CohortRow, column: str) -> Any:
    """What a person would sort a column by; None where there is nothing to compare."""
    record = row.record
    if column == "File":
        parts = re.split(r"(\d+)", Path(record.input).name.casefold())
        return [int(part) if part.isdigit() else part for part in parts]
    if column == "Outcome":
        return list(Outcome).index(record.outcome)
    if column == "Message":
        return record.message.replace("patients/Jane Doe/", "").casefold()
    if record.outcome is Outcome.FAILED:
        return None
    return {
        "Betti numbers": (betti_error(record, after=True), betti_error(record, after=False)),
        "Dice to the input": record.dice_to_input,
        "Changed (mm³)": record.voxels_changed * record.voxel_volume,
        "Added (mm³)": record.voxels_added * record.voxel_volume,
        "Removed (mm³)": record.voxels_removed * record.voxel_volume,
        "Time (s)": record.seconds,
    }[column]


def in_order(rows: list[CohortRow], column: str, descending: bool) -> list[str]:
    """Names as Python sorts them: equal ones as they came, cases without a value last."""
    known = [row for row in rows if key(row, column) is not None]
    unknown = [row for row in rows if key(row, column) is None]
    ordered = sorted(known, key=lambda row: key(row, column), reverse=descending)
    return [Path(row.record.input).name for row in (*ordered, *unknown)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser, tmp_path):
    """Opens a page from disk and waits for its plots, if they matter."""
    with ExitStack() as stack:

        def show(rows: list[CohortRow], *, width: int = 1280, plots: bool = True, **settings: Any) -> Any:
            path = tmp_path / "index.html"
            path.write_text(cohort_page(rows), encoding="utf-8")
            viewport = {"width": width, "height": 900}
            page = stack.enter_context(opened(browser, path, viewport=viewport, **settings))
            for plot in page.locator(".plot").all() if plots else []:
                plot.locator(".main-svg").first.wait_for()
            return page

        yield show


def names(page: Any) -> list[str]:
    """Of the rows that are shown, from the top."""
    return page.eval_on_selector_all(
        "#cases tbody tr:not([hidden])", "(rows) => rows.map((row) => row.cells[1].textContent)"
    )


def heading(page: Any, column: str) -> Any:
    return page.locator("#cases thead th", has_text=column)


def status(page: Any) -> str:
    return page.locator("#status").inner_text()


@pytest.fixture(scope="module")
def thirty() -> list[CohortRow]:
    return cohort(30)


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_sort_as_python_does(visit, thirty, column):
    page = visit(thirty, plots=False)
    for descending, direction in ((False, "ascending"), (True, "descending"), (False, "ascending")):
        heading(page, column).get_by_role("button").click()
        assert names(page) == in_order(thirty, column, descending)
        assert heading(page, column).get_attribute("aria-sort") == direction
        assert page.locator("[aria-sort]").count() == 1
        assert status(page) == f"30 of 30 cases shown; sorted by {column}, {direction}."


def test_another_column_starts_ascending_and_all_come_back(visit, thirty):
    page = visit(thirty, plots=False)
    for column in ("File", "File", "Time (s)"):
        heading(page, column).get_by_role("button").click()
    assert names(page) == in_order(thirty, "Time (s)", descending=False)
    assert heading(page, "File").get_attribute("aria-sort") is None
    page.get_by_role("button", name="Show all").click()
    assert names(page) == [Path(row.record.input).name for row in thirty]
    assert page.locator("[aria-sort]").count() == 0


def test_500_cases_sort_and_filter_at_once(visit):
    rows = cohort(500)
    page = visit(rows)
    heading(page, "Removed (mm³)").get_by_role("button").click()
    assert names(page) == in_order(rows, "Removed (mm³)", descending=False)
    page.locator("#contains").fill("ed.NII")
    expected = [
        name for name in in_order(rows, "Removed (mm³)", descending=False) if "ed.nii" in name.lower()
    ]
    assert 0 < len(expected) < 500
    assert names(page) == expected
    took = page.evaluate(
        """() => {
          const start = performance.now();
          document.querySelectorAll("button.sort").forEach((button) => button.click());
          document.body.offsetHeight;
          return performance.now() - start;
        }"""
    )
    assert took < 9 * 1000  # nine sortings; 0.1 s where nothing else runs


def test_outcomes_filter_and_are_counted(visit, thirty):
    page = visit(thirty, plots=False)
    outcomes = {row.record.outcome for row in thirty}
    assert len(outcomes) >= 4
    for outcome in outcomes:
        name = outcome.name.lower().replace("_", " ")
        count = sum(row.record.outcome is outcome for row in thirty)
        box = page.locator("#filters label", has_text=re.compile(rf"^ *{name} {count}$"))
        box.click()
        left = [Path(row.record.input).name for row in thirty if row.record.outcome is not outcome]
        assert names(page) == left
        assert status(page).startswith(f"{len(left)} of 30 cases shown; outcome ")
        assert name not in re.split("[;,.] | or ", status(page).replace("outcome ", ""))
        box.click()
    assert status(page) == "30 of 30 cases shown; as they came."


def test_filters_work_together_and_with_sorting(visit, thirty):
    page = visit(thirty, plots=False)
    page.get_by_role("checkbox", name="failed").uncheck()
    page.get_by_label("File name contains").fill(" CASE 1")
    heading(page, "File").get_by_role("button").click()
    expected = [
        name
        for name in in_order([r for r in thirty if r.record.outcome is not Outcome.FAILED], "File", False)
        if "case 1" in name.lower()
    ]
    assert names(page) == expected
    assert "name contains “CASE 1”; sorted by File, ascending." in status(page)
    page.get_by_label("File name contains").fill("nobody is called this")
    assert names(page) == []
    assert status(page).startswith("0 of 30 cases shown")
    page.get_by_role("button", name="Show all").click()
    playwright.expect(page.locator("#status")).to_have_text("30 of 30 cases shown; as they came.")
    assert len(names(page)) == 30
    assert page.get_by_role("checkbox", name="failed").is_checked()


@pytest.mark.parametrize("sorted_by", ["Time (s)", None])
def test_who_comes_back_from_a_case_finds_the_table_as_it_was(visit, thirty, tmp_path, sorted_by):
    (tmp_path / "case.html").write_text("<title>a case</title>", encoding="utf-8")
    watched = visit(thirty, plots=False)
    page = watched.context.new_page()
    page.goto(watched.url)
    for _ in range(2 if sorted_by else 0):
        heading(page, sorted_by).get_by_role("button").click()
    page.get_by_role("checkbox", name="failed").uncheck()
    page.get_by_label("File name contains").press_sequentially("case 1")
    before = names(page), status(page)
    assert 0 < len(before[0]) < 30
    page.goto((tmp_path / "case.html").as_uri())
    page.go_back()
    assert not page.get_by_role("checkbox", name="failed").is_checked()
    assert page.get_by_label("File name contains").input_value() == "case 1"
    assert (names(page), status(page)) == before
    assert page.locator("[aria-sort]").count() == (1 if sorted_by else 0)


def test_no_outcome_at_all_is_said(visit, thirty):
    page = visit(thirty, plots=False)
    for box in page.locator("[name=outcome]").all():
        box.uncheck()
    assert status(page) == "0 of 30 cases shown; outcome none; as they came."


def test_everything_can_be_done_with_keys(visit, thirty):
    page = visit(thirty, plots=False)
    page.locator("[name=outcome]").first.focus()
    page.keyboard.press("Space")
    assert len(names(page)) < 30
    page.keyboard.press("Space")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
        if page.evaluate("document.activeElement.textContent.trim()") == "Time (s)":
            break
    assert {"contains", "scroll", *COLUMNS} <= reached
    page.keyboard.press("Enter")
    assert names(page) == in_order(thirty, "Time (s)", descending=False)
    page.keyboard.press("Space")
    assert names(page) == in_order(thirty, "Time (s)", descending=True)
    assert page.evaluate("document.activeElement.matches(':focus-visible')")
    page.keyboard.press("Tab")
    assert page.evaluate(
        "document.activeElement.closest('th') !== null"
    )  # the link of a case, not its picture
    page.locator("#contains").focus()
    page.keyboard.type("case 1")
    page.keyboard.press("Enter")  # sends nothing anywhere
    assert all("case 1" in name.lower() for name in names(page))


def test_changes_are_announced(visit, thirty):
    page = visit(thirty, plots=False)
    assert page.locator("#status").get_attribute("aria-live") == "polite"
    assert page.get_by_role("status").count() == 1
    assert page.get_by_role("region", name="Cases").count() >= 1
    assert page.get_by_role("columnheader").count() == 10


def test_pictures_come_when_their_rows_do(visit):
    rows = cohort(120)
    page = visit(rows)
    early = page.locator("#cases img").count()
    assert 2 <= early < 40
    page.locator("#scroll").evaluate("(element) => element.scrollTo(0, element.scrollHeight)")
    last = max(index for index, row in enumerate(rows) if row.thumbnail)
    picture = page.locator("#cases tbody tr").nth(last).locator("img")
    picture.wait_for()
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") <= 96
    name = Path(rows[last].record.input).name
    assert picture.get_attribute("alt").startswith(f"{name}, the slice where most changed; in all ")
    assert page.locator("#cases img").count() < 80
    without = [index for index, row in enumerate(rows) if not row.thumbnail]
    assert page.locator("#cases tbody tr").nth(without[0]).locator("img").count() == 0


def test_a_picture_stays_with_its_case(visit, thirty):
    page = visit(thirty)
    heading(page, "Dice to the input").get_by_role("button").click()
    page.locator("#cases img").nth(3).wait_for()
    pairs = page.eval_on_selector_all(
        "#cases tbody tr",
        """(rows) => rows.filter((row) => row.querySelector("img")).map(
             (row) => [row.cells[1].textContent, row.querySelector("img").src])""",
    )
    pictures = {Path(row.record.input).name: row.thumbnail for row in thirty}
    assert len(pairs) > 3
    for name, source in pairs:
        assert base64.b64decode(source.partition(",")[2]) == pictures[name]


def test_a_name_and_a_picture_lead_to_the_page_of_the_case(visit, tmp_path):
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "ü #1?%20.html").write_text("<title>here</title>", encoding="utf-8")
    row = replace(next(row for row in cohort(10) if row.link), link="cases/ü #1?%20.html")
    page = visit([row], plots=False)
    links = page.locator("#cases tbody a")
    page.locator("#cases img").wait_for()
    targets = links.evaluate_all("(links) => links.map((link) => link.href)")
    assert targets == [(tmp_path / "cases" / "ü #1?%20.html").as_uri()] * 2
    reader = page.context.new_page()
    reader.goto(targets[0])
    assert reader.title() == "here"


def test_hostile_names_show_as_text_and_run_nothing(visit):
    record, picture = solid_scene().record, thumbnail(solid_scene())
    rows = []
    for name in HOSTILE:
        parts = tuple(replace(part, region=name) for part in record.topology)
        hostile = replace(record, input=name, message=name, topology=parts)
        rows.append(CohortRow(hostile, picture, name))
    page = visit(rows)
    page.locator("#cases img").nth(2).wait_for()
    shown = [Path(name).name for name in HOSTILE[:2]]
    assert names(page) == [*shown, "a\\nb\\u202egz.iin.nacs"]
    assert page.title() == "topofix: 3 cases"
    page.get_by_label("File name contains").fill("<img src=x onerror=document.title='caught'>")
    assert "name contains “<img" in status(page)
    assert len(names(page)) == 1
    assert page.evaluate("document.images.length") == 3
    page.wait_for_timeout(100)
    assert page.title() == "topofix: 3 cases"


def test_plots_have_bars_axes_and_words(visit, thirty):
    page = visit(thirty)
    plots = page.locator(".plot")
    assert plots.count() == 4
    for index, axis in enumerate(["cases", "Dice to the input", "Changed (mm³)", "Betti error of a case"]):
        plot = plots.nth(index)
        assert plot.locator(".point path").count() >= 2
        assert plot.locator(".xtitle").text_content() == axis
        assert plot.get_attribute("role") == "img"
        assert len(plot.get_attribute("aria-label")) > 10
        inside, around = plot.locator(".infolayer").bounding_box(), plot.bounding_box()
        assert inside["x"] >= around["x"] - 1  # no label is cut off
        assert inside["x"] + inside["width"] <= around["x"] + around["width"] + 1
    assert plots.nth(3).locator(".legendtext").all_text_contents() == ["before", "after"]


def test_classes_of_betti_errors_do_not_touch_the_name_of_their_axis(visit):
    right = next(row for row in cohort(10) if row.link)
    (part, *_) = right.record.topology
    wrong = replace(part, before=(99, *part.before[1:]))
    page = visit([replace(right, record=replace(right.record, topology=(wrong,)))])
    plot = page.locator(".plot").nth(3)
    title = plot.locator(".xtitle").bounding_box()
    ticks = [tick.bounding_box() for tick in plot.locator(".xtick").all()]
    assert len(ticks) == 9
    assert max(tick["y"] + tick["height"] for tick in ticks) <= title["y"] + 1


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_only_the_table_scrolls_sideways(visit, thirty, width, scheme):
    page = visit(thirty, width=width, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = page.locator("#scroll").evaluate("(element) => element.scrollWidth > element.clientWidth")
    assert wide == (width == 400)
    height = page.evaluate("document.documentElement.scrollHeight")
    assert height < 4000


def test_plots_follow_the_colours_of_the_page(visit, thirty):
    page = visit(thirty, color_scheme="light")
    title = page.locator(".plot .xtitle").first

    def colour() -> str:
        return title.evaluate("(text) => getComputedStyle(text).fill")

    light = colour()
    assert light == page.evaluate("getComputedStyle(document.body).color")
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate("getComputedStyle(document.body).color")
    assert dark != light
    playwright.expect(title).to_have_css("fill", dark)


def test_headings_stay_in_sight(visit, thirty):
    page = visit(thirty, plots=False)
    page.locator("#scroll").evaluate("(element) => element.scrollTo(0, 1500)")
    table, button = (
        page.locator(selector).bounding_box() for selector in ("#scroll", "button.sort >> nth=0")
    )
    assert table["y"] <= button["y"] < table["y"] + 100


def test_a_page_of_30_is_there_within_two_seconds(visit, thirty):
    page = visit(thirty)
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < loaded < 2000  # milliseconds; plots follow when the table can be used already


def test_an_empty_cohort_is_a_page(visit):
    page = visit([])
    assert status(page) == "0 of 0 cases shown; as they came."
