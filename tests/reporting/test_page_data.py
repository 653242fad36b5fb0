"""What the script of a case page draws: everything in its place, and no more than a page can carry."""

import base64
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix.reporting import mosaics, page_data
from topofix.reporting.inline import embedded_json
from topofix.reporting.page_data import page_labels
from topofix.reporting.views import view_of
from topofix.topology.bars import Bars
from topofix.topology.persistence import NEVER, Barcode


def data_of(*scenes):
    """The data as the page's script reads them."""
    return json.loads(embedded_json(page_data.page_data(scenes, page_labels(scenes))))


def unpacked(column) -> np.ndarray:
    return np.frombuffer(base64.b64decode(column["bdata"]), f"<{column['dtype']}")


def picture(mosaic) -> np.ndarray:
    """The only picture of a mosaic."""
    (uri,) = mosaic["pictures"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_labels_before_or_after_are_listed():
    scene = stack_scene()
    only_after = replace(scene, before=np.where(scene.before == 2, 0, scene.before))
    strange = replace(only_after, labels={1: "pool"})
    found = page_labels([strange])
    assert [(label["value"], label["name"]) for label in found] == [(1, "pool"), (2, "label 2")]
    assert found[0]["colour"] != found[1]["colour"]
    nothing = replace(scene, before=np.zeros_like(scene.before), after=np.zeros_like(scene.after))
    assert page_labels([nothing]) == []
    assert data_of(nothing)["frames"][0]["surfaces"]["before"] == []


def test_pictures_are_of_the_view():
    scene = ring_scene()
    frame = data_of(scene)["frames"][0]
    view = view_of(scene.affine, 2, 0)
    assert frame["size"] == [1, *view.stack(scene.before)[0].shape]
    assert frame["spacing"] == [scene.spacing[view.rows], scene.spacing[view.columns]]
    for name, labels in (("before", scene.before), ("after", scene.after)):
        assert (picture(frame["pictures"][name]) == 255 * view.stack(labels)[0]).all()
    scan = picture(frame["pictures"]["scan"]).astype(float)
    assert np.corrcoef(scan.ravel(), view.stack(scene.image)[0].ravel())[0, 1] > 0.99


def test_huge_images_are_thinned_but_keep_their_size(monkeypatch):
    monkeypatch.setattr(mosaics, "MOST_VOXELS", stack_scene().image.size // 3)
    data = data_of(stack_scene())
    frame = data["frames"][0]
    assert data["step"] == 2
    assert frame["size"] == [6, 44, 40]
    for mosaic in frame["pictures"].values():
        assert (mosaic["rows"], mosaic["columns"]) == (22, 20)


def test_the_first_slice_is_the_one_where_most_changed():
    scene = stack_scene()
    changed = (scene.before != scene.after).sum((0, 1))
    assert data_of(scene)["frames"][0]["start"] == changed.argmax()
    unchanged = replace(scene, after=scene.before)
    assert data_of(unchanged)["frames"][0]["start"] == (scene.before > 0).sum((0, 1)).argmax()
    empty = replace(scene, before=np.zeros_like(scene.before), after=np.zeros_like(scene.before))
    assert data_of(empty)["frames"][0]["start"] == 3


@pytest.mark.parametrize("make", [ring_scene, stack_scene, solid_scene])
def test_barcodes_stand_with_what_was_asked(make):
    scene = make()
    frame = data_of(scene)["frames"][0]
    assert len(frame["barcodes"]) == len(scene.record.topology)
    for code, part, bars in zip(frame["barcodes"], scene.record.topology, scene.bars_before, strict=True):
        assert (code["region"], code["slice"], code["requested"]) == (part.region, part.slice, part.requested)
        assert code["shape"] == list(bars.shape)
        assert code["before"]["betti"] == ",".join(map(str, part.before))
        assert code["after"]["betti"] == ",".join(map(str, part.after))
        assert (code["before"]["met"], code["after"]["met"]) == (part.met_before, part.met)
        drawn = code["before"]
        total = len(drawn["dimension"]) + sum(drawn["leftOut"])
        assert total == len(bars.barcode)
        assert (
            len({len(drawn[name]) for name in ("dimension", "birth", "death", "bornAt", "diesAt", "asked")})
            == 1
        )


def test_a_bar_knows_its_voxels():
    scene = solid_scene()
    (bars,) = scene.bars_after
    drawn = data_of(scene)["frames"][0]["barcodes"][0]["after"]
    essential = drawn["diesAt"].index(None)
    assert drawn["death"][essential] == 0
    assert drawn["bornAt"][essential] == bars.barcode.birth[bars.barcode.death == NEVER][0]
    for born, dies, birth, death in zip(
        *(drawn[name] for name in ("bornAt", "diesAt", "birth", "death")), strict=True
    ):
        (place,) = np.flatnonzero(
            (bars.barcode.birth == born) & (bars.barcode.death == (NEVER if dies is None else dies))
        )
        assert (bars.births[place], bars.deaths[place]) == pytest.approx((birth, death), abs=1e-4)


def bars_of(births, deaths) -> Bars:
    """Components in an image of as many pixels."""
    count = len(births)
    index = np.arange(count)
    code = Barcode(np.zeros(count, np.int8), index, np.where(index == 0, NEVER, index))
    return Bars("foreground", None, code, np.array(births), np.array(deaths), (1, count))


def test_short_bars_and_those_beyond_the_longest_are_counted():
    births = [0.9] * 50 + [0.105] * 7
    deaths = [0.0] + [0.3] * 49 + [0.1] * 7
    scene = replace(ring_scene(), bars_before=(bars_of(births, deaths),))
    drawn = data_of(scene)["frames"][0]["barcodes"][0]["before"]
    assert len(drawn["birth"]) == page_data.MOST_BARS == 25
    assert drawn["leftOut"] == [32, 0]
    part = replace(scene.record.topology[0], requested="30,0")
    scene = replace(scene, record=replace(scene.record, topology=(part,)))
    drawn = data_of(scene)["frames"][0]["barcodes"][0]["before"]
    assert drawn["asked"] == [True] * 30
    assert drawn["leftOut"] == [27, 0]


def test_a_bar_that_is_asked_for_is_drawn_however_short():
    scene = replace(ring_scene(), bars_before=(bars_of([0.9, 0.105], [0.0, 0.1]),))
    part = replace(scene.record.topology[0], requested="2,0")
    scene = replace(scene, record=replace(scene.record, topology=(part,)))
    drawn = data_of(scene)["frames"][0]["barcodes"][0]["before"]
    assert drawn["asked"] == [True, True]
    assert drawn["leftOut"] == [0, 0]


def test_a_bar_of_no_length_is_not_drawn_even_if_it_is_asked_for():
    scene = replace(ring_scene(), bars_before=(bars_of([1e-9], [0.0]),))
    drawn = data_of(scene)["frames"][0]["barcodes"][0]["before"]
    assert drawn["dimension"] == []
    assert drawn["leftOut"] == [1, 0]


def test_an_image_without_geometry_has_no_place_in_a_patient():
    scene = ring_scene()
    assert data_of(scene)["frames"][0]["world"]
    assert not data_of(replace(scene, affine=np.eye(4)))["frames"][0]["world"]


def test_a_barcode_of_which_nothing_is_recorded_is_drawn_all_the_same():
    scene = ring_scene()
    scene = replace(scene, record=replace(scene.record, topology=()))
    code = data_of(scene)["frames"][0]["barcodes"][0]
    assert (code["requested"], code["before"]["betti"], code["before"]["met"]) == (None, "", None)


def test_parts_and_changes_lead_to_their_frames():
    scenes = [replace(stack_scene(), frame=frame) for frame in (4, 9)]
    data = data_of(*scenes)
    assert [frame["frame"] for frame in data["frames"]] == [4, 9]
    for name, rows in (("parts", scenes[0].record.topology), ("changes", scenes[0].record.changes)):
        assert [row["frame"] for row in data[name]] == [0] * len(rows) + [1] * len(rows)
    assert data["changes"][0]["voxel"] == list(scenes[0].record.changes[0].voxel)
    assert data["changes"][0]["mm"] == pytest.approx(scenes[0].record.changes[0].mm)


def test_surfaces_lie_in_the_place_of_the_scan():
    scene = solid_scene()
    surfaces = data_of(scene)["frames"][0]["surfaces"]
    for side, labels in (("before", scene.before), ("after", scene.after)):
        (part,) = surfaces[side]
        assert part["label"] == 1
        assert not part["coarse"]
        vertices = np.stack([unpacked(part[axis]) for axis in "xyz"], 1)
        faces = np.stack([unpacked(part[corner]) for corner in "ijk"], 1)
        assert (faces.min(), faces.max()) == (0, len(vertices) - 1)
        filled = np.argwhere(labels == 1) @ scene.affine[:3, :3].T + scene.affine[:3, 3]
        assert vertices.min(0) == pytest.approx(filled.min(0) - 0.5)
        assert vertices.max(0) == pytest.approx(filled.max(0) + 0.5)
        low, high = np.array(surfaces["extent"]).T
        assert (low < vertices.min(0)).all()
        assert (high > vertices.max(0)).all()


def test_a_picture_has_no_surface():
    assert data_of(ring_scene())["frames"][0]["surfaces"] is None


def test_triangles_are_shared_out(monkeypatch):
    monkeypatch.setattr(page_data, "TRIANGLES", 8000)
    one, two = data_of(solid_scene()), data_of(solid_scene(), solid_scene())
    counts = [
        [len(unpacked(part["i"])) for frame in data["frames"] for part in frame["surfaces"]["before"]]
        for data in (one, two)
    ]
    assert max(counts[0]) <= 4000
    assert max(counts[1]) <= 2000
    assert two["frames"][0]["surfaces"]["before"][0]["coarse"]
