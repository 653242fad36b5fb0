"""The page of a case in Chromium: what moves does what it says, and nothing is asked of anybody."""

import base64
import io
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from reporting.browser import chromium, opened
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix.reporting import page as pages
from topofix.reporting import page_data, palette
from topofix.topology.bars import gather
from topofix.topology.persistence import NEVER, barcode

pytest.importorskip("plotly")

HOSTILE = "<img src=x onerror=\"document.title='caught'\">'\n\u202egnp.</script><script>alert(1)</script>"
SCENES = {"ring": ring_scene, "stack": stack_scene, "solid": solid_scene}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser, tmp_path, monkeypatch):
    """Opens the page of scenes and waits for its slice, and for its barcodes unless it is to have none."""
    with ExitStack() as stack:

        def show(*scenes, command="topofix refine scan.nii.gz --betti 1,1", plots=True, **settings):
            if not plots:  # it takes longer to start than all else, and slices do without
                monkeypatch.setattr(pages, "_plotly", lambda: "")
            path = tmp_path / "page.html"
            path.write_text(pages.case_page(scenes, command), "utf-8")
            page = stack.enter_context(opened(browser, path, **settings))
            wait_for(page, "Image" if scenes[0].image.ndim == 2 else "Slice")
            if plots:
                page.wait_for_selector("#after .plot .main-svg")
            return page

        yield show


def shown(page) -> str:
    """The slice on the screen, in words."""
    return page.locator("#canvas").get_attribute("aria-label")


def wait_for(page, text: str) -> None:
    """Until the slice on the screen is described so."""
    page.wait_for_selector(f'#canvas[aria-label^="{text}"]', state="attached")


def colours(page) -> np.ndarray:
    """The pixels of the slice, (height, width, 3)."""
    address = page.evaluate("document.querySelector('#canvas').toDataURL()")
    picture = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
    return np.asarray(picture.convert("RGB"))


def near(pixels: np.ndarray, colour: str) -> np.ndarray:
    """Where pixels are about of a colour, whatever shines through."""
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return (np.abs(pixels.astype(int) - wanted) < 60).all(-1)


def alike(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two pictures are the same but for the smoothing of lines."""
    return bool((np.abs(one.astype(int) - other) < 10).all())


def bar_place(page, side: str, index: int) -> tuple[float, float]:
    """Where on the screen the middle of a bar is."""
    box = page.evaluate(
        """([side, index]) => {
            const plot = document.querySelector(`#${side} .plot`);
            plot.scrollIntoView({ block: "center" });
            const box = plot.getBoundingClientRect();
            const { xaxis, yaxis } = plot._fullLayout;
            for (const { base, x, y, customdata } of plot._fullData) {
                const k = customdata.indexOf(index);
                if (k >= 0) {
                    return [
                        box.left + xaxis._offset + xaxis.d2p(base[k] + x[k] / 2),
                        box.top + yaxis._offset + yaxis.d2p(y[k]),
                    ];
                }
            }
        }""",
        [side, index],
    )
    return box[0], box[1]


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("ring", 1280, "light"),
        ("ring", 400, "dark"),
        ("stack", 1280, "dark"),
        ("stack", 400, "light"),
        ("solid", 1280, "light"),
        ("solid", 400, "dark"),
    ],
)
def test_a_page_opens_quickly_and_fits(visit, name, width, scheme):
    page = visit(SCENES[name](), viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.locator("h1").inner_text() == SCENES[name]().name
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for plot in ("#before", "#after"):
        assert page.locator(f"{plot} .trace.bars .point").count() > 3
    assert colours(page).std() > 20
    loaded = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < loaded < 2000
    paper, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour))) for colour in (paper, text)]
    assert abs(brightness[0] - brightness[1]) > 500
    assert (brightness[0] < brightness[1]) == (scheme == "dark")
    assert page.locator("#after .xtick text").first.evaluate("tick => getComputedStyle(tick).fill") == text


def test_slider_and_keys_go_from_slice_to_slice(visit):
    page = visit(stack_scene(), plots=False)
    page.locator("#slice").focus()
    for key, index in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("End", 5)):
        page.keyboard.press(key)
        wait_for(page, f"Slice {index},")
        assert page.locator("#slice").input_value() == str(index)
    page.locator("#viewer").focus()
    for key, index in (("Home", 0), ("ArrowUp", 1), ("ArrowUp", 2), ("ArrowDown", 1), ("End", 5)):
        page.keyboard.press(key)
        wait_for(page, f"Slice {index},")
    page.keyboard.press("ArrowUp")  # there is no more
    wait_for(page, "Slice 5,")
    assert page.locator("#position").inner_text().startswith("Slice 5 of 0 to 5; its middle at ")


def test_the_position_is_that_of_the_affine(visit):
    scene = stack_scene()
    page = visit(scene, plots=False)
    numbers = re.findall(r"-?\d+\.\d", page.locator("#position").inner_text())
    index = int(page.locator("#slice").input_value())
    # rows and columns are flipped, so the middle of an even number is the voxel below it
    voxel = [scene.image.shape[0] // 2 - 1, scene.image.shape[1] // 2 - 1, index, 1]
    assert [float(number) for number in numbers] == pytest.approx((scene.affine @ voxel)[:3], abs=0.06)


def test_before_and_after_show_different_labels(visit):
    page = visit(ring_scene(), plots=False)
    for box in ("added", "removed"):
        page.locator(f'[data-change="{box}"]').uncheck()
    pictures = {}
    for mode in ("before", "after"):
        page.locator(f'[data-mode="{mode}"]').click()
        wait_for(page, f"Image, labels {mode}")
        assert page.locator('[aria-pressed="true"]').inner_text().lower() == mode
        pictures[mode] = colours(page)
    differ = (pictures["before"] != pictures["after"]).any(-1)
    scene = ring_scene()
    changed = (scene.before != scene.after).mean()
    assert differ.mean() == pytest.approx(changed, rel=0.3)
    page.locator("#viewer").focus()
    page.keyboard.press("Space")
    wait_for(page, "Image, labels before")
    assert (colours(page) == pictures["before"]).all()


def test_the_wipe_shows_before_on_the_left_and_after_on_the_right(visit):
    page = visit(ring_scene(), plots=False)
    pictures = {}
    for mode in ("before", "after", "wipe"):
        page.locator(f'[data-mode="{mode}"]').click()
        wait_for(page, f"Image, labels {mode}" if mode != "wipe" else "Image, labels before on the left")
        pictures[mode] = colours(page)
    middle = pictures["wipe"].shape[1] // 2
    assert alike(pictures["wipe"][:, : middle - 5], pictures["before"][:, : middle - 5])
    assert alike(pictures["wipe"][:, middle + 5 :], pictures["after"][:, middle + 5 :])
    assert not alike(pictures["wipe"], pictures["before"])
    divider = page.get_by_role("slider", name="Divider")
    divider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert divider.get_attribute("aria-valuenow") == "40"
    page.keyboard.press("Home")
    assert alike(colours(page), pictures["after"])
    page.keyboard.press("End")
    assert alike(colours(page), pictures["before"])
    box = page.locator("#viewer").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 50, steps=4)
    page.mouse.up()
    assert int(divider.get_attribute("aria-valuenow")) == pytest.approx(25, abs=1)


@pytest.mark.parametrize(("box", "colour"), [("added", palette.ADDED), ("removed", palette.REMOVED)])
def test_boxes_show_and_hide_changed_voxels(visit, box, colour):
    scene = ring_scene()
    page = visit(scene, plots=False)
    old, new = (scene.before, scene.after) if box == "added" else (scene.after, scene.before)
    share = ((old == 0) & (new > 0)).mean()
    assert near(colours(page), colour).mean() == pytest.approx(share, rel=0.25)
    page.locator(f'[data-change="{box}"]').uncheck()
    assert near(colours(page), colour).mean() < share / 10


def test_boxes_show_and_hide_labels(visit):
    page = visit(stack_scene(), plots=False)
    both = colours(page)
    page.get_by_role("checkbox", name="wall").uncheck()
    without = colours(page)
    page.get_by_role("checkbox", name="pool").uncheck()
    assert 0 < (without != both).any(-1).mean() < 0.7
    assert (colours(page) != without).any()
    page.get_by_role("checkbox", name="wall").check()
    page.get_by_role("checkbox", name="pool").check()
    assert (colours(page) == both).all()


def test_a_voxel_is_read_where_one_points(visit):
    scene = ring_scene()
    page = visit(scene, plots=False)
    added = np.argwhere((scene.before == 0) & (scene.after > 0))[0]
    box = page.locator("#canvas").bounding_box()
    page.locator("#canvas").scroll_into_view_if_needed()
    box = page.locator("#canvas").bounding_box()
    rows, columns = scene.image.shape[1], scene.image.shape[0]  # along the screen: A-P down, R-L across
    scale = min(box["width"] / (columns * 1.5), box["height"] / (rows * 1.0))
    x = box["x"] + box["width"] / 2 + ((columns - 0.5 - added[0]) - columns / 2) * 1.5 * scale
    y = box["y"] + box["height"] / 2 + ((rows - 0.5 - added[1]) - rows / 2) * scale
    page.mouse.move(x, y)
    text = page.locator("#pointer").inner_text()
    assert text.startswith(f"Pixel {added[0]} {added[1]} at ")
    assert text.endswith(": background before, foreground after")


def test_zoom_keeps_the_shape_of_voxels(visit):
    page = visit(ring_scene(), plots=False)
    for _ in range(3):
        page.locator("#zoom-in").click()
    assert page.locator("#zoom").inner_text() == "338 %"
    page.locator("#viewer").focus()
    before = colours(page)
    page.keyboard.press("Shift+ArrowLeft")
    moved = colours(page)
    assert (moved != before).any()
    page.keyboard.press("0")
    assert page.locator("#zoom").inner_text() == "100 %"
    page.get_by_role("checkbox", name="foreground").uncheck()
    page.locator('[data-change="removed"]').uncheck()
    rows, columns = np.nonzero(near(colours(page), palette.ADDED))
    scene = ring_scene()
    added = np.argwhere((scene.before == 0) & (scene.after > 0))
    extent = (np.ptp(added, axis=0) + 1) * scene.spacing  # mm along R-L and A-P
    ratio = (np.ptp(columns) + 1) / (np.ptp(rows) + 1)
    assert ratio == pytest.approx(extent[0] / extent[1], rel=0.1)


@pytest.mark.parametrize("side", ["before", "after"])
def test_pointing_at_a_bar_marks_where_it_is_born_and_dies(visit, side):
    scene = solid_scene()
    page = visit(scene)
    bars = {"before": scene.bars_before, "after": scene.bars_after}[side][0]
    longest = int(np.flatnonzero((bars.barcode.dimension == 0) & (bars.barcode.death != NEVER))[0])
    page.mouse.move(*bar_place(page, side, longest))
    born, dies = (
        np.unravel_index(voxel, bars.shape)
        for voxel in (bars.barcode.birth[longest], bars.barcode.death[longest])
    )
    wait_for(page, f"Slice {born[scene.slice_axis]},")
    text = page.locator("#marks-text").inner_text()
    assert f"Born at voxel {' '.join(map(str, born))}, slice {born[2]} (circle)" in text
    assert f"dies at voxel {' '.join(map(str, dies))}, slice {dies[2]} (cross)" in text
    assert shown(page).endswith("2 marks" if born[2] == dies[2] else "1 mark")
    for name, voxel in (("death", dies), ("birth", born)):
        page.get_by_role("button", name=f"See its {name}").click()
        wait_for(page, f"Slice {voxel[2]},")
    page.keyboard.press("Escape")
    assert page.locator("#marks-text").inner_text().startswith("Point at a bar")


def test_the_mark_is_drawn_on_the_voxel(visit):
    scene = ring_scene()
    page = visit(scene)
    clean = colours(page)
    page.locator("#before").focus()
    page.keyboard.press("Home")
    bars = scene.bars_before[0]
    born = np.unravel_index(bars.barcode.birth[0], bars.shape)
    wait_for(page, "Image, labels after, 1 mark")  # the essential bar never dies
    rows, columns = np.nonzero((colours(page) != clean).any(-1))
    middle = np.array([rows.min() + rows.max(), columns.min() + columns.max()]) / 2
    height, width = clean.shape[:2]
    scale = min(width / (scene.image.shape[0] * 1.5), height / scene.image.shape[1])
    expected = [
        height / 2 + (scene.image.shape[1] / 2 - 0.5 - born[1]) * scale,
        width / 2 + (scene.image.shape[0] / 2 - 0.5 - born[0]) * 1.5 * scale,
    ]
    assert middle == pytest.approx(expected, abs=3)


def test_bars_are_reached_by_keys(visit):
    page = visit(ring_scene())
    page.locator("#before").focus()
    texts = []
    for key in ("Home", "ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
        texts.append(page.locator("#marks-text").inner_text())
    assert len(set(texts)) == 3
    assert texts[1] == texts[3]
    assert all(text.startswith("component: born at") for text in texts)


def test_a_click_holds_a_bar(visit):
    page = visit(ring_scene())
    page.mouse.click(*bar_place(page, "after", 0))
    held = page.locator("#marks-text").inner_text()
    assert held.endswith("Held.")
    page.mouse.move(*bar_place(page, "after", 1))
    assert page.locator("#marks-text").inner_text() == held


def test_the_barcode_follows_the_slice(visit):
    page = visit(stack_scene())
    page.locator("#region").select_option("wall")
    page.locator("#slice").focus()
    for key, index in (("Home", 0), ("ArrowRight", 1)):
        page.keyboard.press(key)
        part = next(p for p in stack_scene().record.topology if (p.region, p.slice) == ("wall", index))
        counts = ",".join(map(str, part.before))
        page.wait_for_function(
            "text => document.querySelector('#before-title').textContent.startsWith(text)",
            arg=f"Before, slice {index}: Betti numbers {counts}",
        )


def test_a_bar_is_marked_in_the_barcode_of_its_own_slice_only(visit):
    page = visit(stack_scene())
    page.locator("#region").select_option("wall")
    page.locator("#slice").focus()
    page.keyboard.press("Home")
    page.wait_for_selector("#before-title:has-text('slice 0')")
    page.locator("#before").focus()
    page.keyboard.press("End")
    frames = """() => ["before", "after"].map((side) => {
        const { shapes } = document.querySelector(`#${side} .plot`).layout;
        return shapes.filter(({ type }) => type === "rect").length;
    })"""
    assert page.evaluate(frames) == [1, 0]
    text = page.locator("#marks-text").inner_text()
    assert ", slice 0 (circle)" in text
    page.locator("#slice").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#before-title:has-text('slice 1')")
    assert page.evaluate(frames) == [0, 0]
    assert shown(page).endswith("labels after")  # and no mark
    assert page.locator("#marks-text").inner_text() == text
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#before-title:has-text('slice 0')")
    assert page.evaluate(frames) == [1, 0]


@pytest.mark.parametrize("height", [700, 900])
def test_a_row_that_is_chosen_shows_the_whole_viewer(visit, height):
    """At first, too, when the barcodes of another region change the height of the page."""
    page = visit(stack_scene(), viewport={"width": 1000, "height": height})
    page.locator("#changes [data-row]").last.click()
    page.wait_for_timeout(300)
    box = page.locator("#viewer").bounding_box()
    assert box["y"] >= -1
    assert box["y"] + box["height"] <= height + 1


def test_where_there_is_nothing_to_draw_it_is_said(visit):
    scene = solid_scene()
    empty = np.zeros_like(scene.after)
    faint = np.full(empty.shape, 1e-4)
    page = visit(replace(scene, after=empty, bars_after=(gather("foreground", None, barcode(faint), faint),)))
    assert page.locator("#after .left-out").inner_text().startswith("There is no bar to draw. Not drawn, as ")
    assert "1 component, 0 tunnels" in page.locator("#after .left-out").inner_text()
    label = page.locator("#after .plot").get_attribute("aria-label")
    assert label.endswith(": no components; no tunnels; no voids")
    page.locator("#surfaces").scroll_into_view_if_needed()
    page.wait_for_selector("#surface-before .plot canvas")
    assert not page.locator("#surface-after").is_visible()
    said = page.get_by_text("There is no foreground, so there is no surface.")
    assert [place.is_visible() for place in said.all()] == [False, True]
    page.locator("#surface-before").press("ArrowLeft")


def test_a_slice_without_a_prior_has_no_barcode(visit):
    scene = stack_scene()
    sides = {
        side: tuple(bars for bars in getattr(scene, side) if bars.slice != 0)
        for side in ("bars_before", "bars_after")
    }
    page = visit(replace(scene, **sides))
    page.locator("#region").select_option("pool")
    page.locator("#slice").focus()
    page.keyboard.press("Home")
    page.wait_for_selector("#no-barcode:has-text('There is no barcode of pool in slice 0')")
    assert not page.locator("#barcodes").is_visible()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#before-title:has-text('slice 1')")
    assert page.locator("#barcodes").is_visible()


def test_a_feature_leads_to_its_slice(visit):
    scene = stack_scene()
    page = visit(scene)
    rows = page.locator("#changes tbody tr")
    assert rows.count() == len(scene.record.changes)
    for index, change in enumerate(scene.record.changes):
        rows.nth(index).get_by_role("button").click()
        wait_for(page, f"Slice {change.voxel[2]}, labels after, 1 mark")
        assert page.locator("#region").input_value() == change.region
        assert " ".join(map(str, change.voxel)) in page.locator("#marks-text").inner_text()
        assert page.locator("tr.chosen").count() == 1


def test_a_slice_of_the_summary_leads_there(visit):
    page = visit(stack_scene())
    page.get_by_role("button", name="Go to slice 2, wall").click()
    wait_for(page, "Slice 2,")
    assert page.locator("#region").input_value() == "wall"


EYES = """() => ["before", "after"].map((side) => {
    const plot = document.querySelector(`#surface-${side} .plot`);
    const { x, y, z } = plot._fullLayout.scene._scene.getCamera().eye;
    return [x, y, z];
})"""
"""Where both surfaces are looked at from."""


def test_surfaces_are_built_when_they_come_into_sight_and_turn_together(visit):
    page = visit(solid_scene())
    assert page.locator("#surface-after canvas").count() == 0
    page.locator("#surfaces").scroll_into_view_if_needed()
    page.wait_for_selector("#surface-after canvas")
    assert not page.locator("#coarse").is_visible()
    start = page.evaluate(EYES)
    page.locator("#surface-before").focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    page.wait_for_function(
        f"([x, y, z]) => ({EYES})().every((eye) => eye[0] !== x && eye[2] > z)", arg=start[0]
    )
    by_keys = page.evaluate(EYES)
    assert by_keys[0] == by_keys[1]
    page.locator("#surface-after").scroll_into_view_if_needed()
    box = page.locator("#surface-after canvas").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 + 20, steps=4)
    page.mouse.up()
    alike = f"""(old) => {{
        const [one, other] = ({EYES})();
        return one.every((value, k) => Math.abs(value - other[k]) < 1e-6) && one[0] !== old[0];
    }}"""
    page.wait_for_function(alike, arg=by_keys[0])
    by_mouse = page.evaluate(EYES)
    page.locator("#see-through").uncheck()
    page.wait_for_timeout(300)
    assert page.evaluate(EYES)[1] == pytest.approx(by_mouse[1])
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, 100)
    page.wait_for_function(alike, arg=by_mouse[1])


def test_coarse_surfaces_are_called_so(visit, monkeypatch):
    monkeypatch.setattr(page_data, "TRIANGLES", 3000)
    page = visit(solid_scene())
    page.locator("#surfaces").scroll_into_view_if_needed()
    page.wait_for_selector("#surface-after canvas")
    assert "their topology may differ" in page.locator("#coarse").inner_text()


def test_the_record_is_whole(visit):
    scene = ring_scene()
    page = visit(scene, plots=False)
    page.get_by_role("heading", name="The whole Record").click()
    found = json.loads(page.locator("#record pre").inner_text())
    assert found == json.loads(scene.record.to_json())


def test_the_command_is_copied(visit):
    command = "topofix refine 'a \"b\"\u202e.nii.gz' --betti 1,1 && echo <done>"
    page = visit(
        ring_scene(), command=command, permissions=["clipboard-read", "clipboard-write"], plots=False
    )
    page.get_by_role("button", name="Copy the command").click()
    page.wait_for_function("() => document.querySelector('#copied').textContent === 'Copied.'")
    assert page.evaluate("navigator.clipboard.readText()") == command
    assert page.locator("#command").inner_text() == command.replace("\u202e", "\\u202e")


def test_where_nothing_can_be_copied_the_command_is_selected(visit):
    page = visit(ring_scene(), plots=False)
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy the command").click()
    page.wait_for_function("() => document.querySelector('#copied').textContent.startsWith('Selected')")
    assert page.evaluate("getSelection().toString()") == page.locator("#command").inner_text()


def test_frames_are_chosen_from_a_list(visit):
    scene = stack_scene()
    frames = [replace(scene, frame=k, before=scene.after if k else scene.before) for k in range(3)]
    page = visit(*frames, plots=False)
    assert page.locator("#frame option").all_inner_texts() == ["0", "1", "2"]
    first = colours(page)
    page.locator("#frame").select_option(label="1")
    wait_for(page, "Slice")
    page.wait_for_timeout(200)
    assert near(colours(page), palette.ADDED).sum() < near(first, palette.ADDED).sum() / 10
    page.locator("#frame").select_option(label="0")
    page.wait_for_timeout(200)
    assert (colours(page) == first).all()


def test_a_hostile_name_is_text(visit):
    scene = ring_scene()
    labels = {1: HOSTILE}
    record = replace(
        scene.record,
        input=f"patients/Jane Doe/{HOSTILE.replace('/', '')}",
        message=HOSTILE,
        topology=tuple(replace(part, region=HOSTILE) for part in scene.record.topology),
        changes=tuple(replace(row, region=HOSTILE) for row in scene.record.changes),
    )
    sides = {
        side: tuple(replace(bars, region=HOSTILE) for bars in getattr(scene, side))
        for side in ("bars_before", "bars_after")
    }
    page = visit(replace(scene, name=HOSTILE, record=record, labels=labels, **sides), command=HOSTILE)
    spelled = HOSTILE.replace("\n", "\\n").replace("\u202e", "\\u202e")
    assert page.locator("#name").inner_text() == spelled
    assert page.title() == f"{spelled}: topofix"
    assert page.locator("#command").text_content() == spelled
    assert page.locator("#region").evaluate("list => list.value") == spelled
    assert page.locator("#layers bdi").first.text_content() == spelled
    assert page.locator("#parts bdi").first.text_content() == spelled
    page.locator("#changes button").first.click()
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 4  # data, Plotly as text, the page's own, Plotly
    assert page.title() == f"{spelled}: topofix"  # nobody has set another
    assert "Jane" not in page.content()
    assert "\u202e" not in page.content()
