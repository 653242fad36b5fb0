"""The overlay: the right slices, the right colours at the right millimetres, and a number at each feature."""

from dataclasses import replace

import numpy as np
import pytest
from reporting.scenes import ring_scene, solid_scene, stack_scene

from topofix.reporting import overlay
from topofix.reporting.changes import happened
from topofix.reporting.overlay import chosen_slices, draw_overlay
from topofix.reporting.views import view_of


def drawn(monkeypatch, scene, **how):
    seen = []
    monkeypatch.setattr(overlay, "saved", lambda figure, kind: seen.append(figure) or b"")
    draw_overlay(scene, **how)
    return seen[0]


def panels(figure):
    """Axes with an image."""
    return [axes for axes in figure.axes if axes.images]


def test_the_slices_that_changed_most_are_drawn_in_order():
    scene = stack_scene()
    changed = (scene.before != scene.after).sum((0, 1))
    assert chosen_slices(scene) == np.flatnonzero(changed).tolist()
    assert chosen_slices(scene, 1) == [int(changed.argmax())]
    unchanged = replace(scene, before=scene.after)
    assert chosen_slices(unchanged) == [int((scene.after > 0).sum((0, 1)).argmax())]
    assert chosen_slices(ring_scene()) == [None]


@pytest.mark.parametrize("make", [ring_scene, stack_scene, solid_scene])
def test_voxels_lie_at_their_millimetres(make, monkeypatch):
    """Each panel's image covers its voxels' sides, and what changed is coloured voxel for voxel."""
    scene = make()
    figure = drawn(monkeypatch, scene)
    view = view_of(scene.affine, scene.image.ndim, scene.slice_axis)
    down, across = view.rows, view.columns
    indices = chosen_slices(scene) or [None]
    assert len(panels(figure)) == len(indices)
    for axes, index in zip(panels(figure), indices, strict=True):
        scan, kinds = axes.images
        left, right, bottom, top = scan.get_extent()
        rows, columns = scan.get_array().shape
        assert (bottom - top) / rows == pytest.approx(scene.spacing[down])
        assert (right - left) / columns == pytest.approx(scene.spacing[across])
        assert axes.get_aspect() == 1
        first = (round(top / scene.spacing[down] + 0.5), round(left / scene.spacing[across] + 0.5))
        window = tuple(
            slice(start, start + count) for start, count in zip(first, (rows, columns), strict=True)
        )
        planes = (
            array if index is None else np.moveaxis(array, scene.slice_axis, 0)[index]
            for array in (scene.image, scene.before, scene.after)
        )
        image, before, after = ((plane.T if down > across else plane)[window] for plane in planes)
        np.testing.assert_array_equal(scan.get_array(), image)
        coloured = np.ma.filled(kinds.get_array(), 0)
        np.testing.assert_array_equal(coloured == 1, (before > 0) & (after == 0))
        np.testing.assert_array_equal(coloured == 2, (before == 0) & (after > 0))
        np.testing.assert_array_equal(coloured == 3, (before > 0) & (after > 0) & (before != after))


def test_features_are_marked_where_the_record_places_them(monkeypatch):
    scene = ring_scene()
    (axes, *_) = panels(drawn(monkeypatch, scene))
    marks = {tuple(np.round([line.get_xdata()[0], line.get_ydata()[0]], 3)) for line in axes.lines}
    rows = scene.record.changes
    assert marks == {(row.voxel[0] * scene.spacing[0], row.voxel[1] * scene.spacing[1]) for row in rows}
    assert {text.get_text() for text in axes.texts} == {str(n) for n in range(1, len(rows) + 1)}


def test_the_table_names_each_feature(monkeypatch):
    scene = stack_scene()
    figure = drawn(monkeypatch, scene)
    (table,) = (table for axes in figure.axes for table in axes.tables)
    cells = {place: cell.get_text().get_text() for place, cell in table.get_celld().items()}
    for number, row in enumerate(scene.record.changes, 1):
        line = [text for (k, _), text in sorted(cells.items()) if k == number]
        assert line[:2] == [str(number), happened(row)]
        assert {row.region, str(row.slice), f"{row.voxels:,}", row.stage} <= set(line)


def test_titles_say_what_changed(monkeypatch):
    scene = stack_scene()
    figure = drawn(monkeypatch, scene)
    assert figure.get_suptitle().startswith("stack.nii.gz: ")
    assert f"{scene.record.voxels_changed:,} voxels" in figure.get_suptitle()
    for axes, index in zip(panels(figure), chosen_slices(scene), strict=True):
        changed = np.count_nonzero(scene.before[..., index] != scene.after[..., index])
        assert axes.get_title(loc="left").startswith(f"slice {index} of axis 2: {changed:,} voxels changed")


def test_slices_lie_as_in_every_picture(monkeypatch):
    """The patient's right on the left, the front above; bare arrays as they are stored."""
    scene = stack_scene()
    for affine, sides in ((scene.affine, ("R", "L", "P", "A")), (np.eye(4), ("", "", "", ""))):
        for flip in (1, -1):
            turned = replace(scene, affine=affine @ np.diag([flip, flip, 1, 1]) if sides[0] else affine)
            view = view_of(turned.affine, 3, 2)
            axes = panels(drawn(monkeypatch, turned))[0]
            assert (axes.get_xlim()[0] > axes.get_xlim()[1]) == view.flipped[1]
            assert (axes.get_ylim()[0] < axes.get_ylim()[1]) == view.flipped[0]
            words = axes.get_xlabel().split() + axes.get_ylabel().split()
            expected = [sides[0], "axis", str(view.columns), "(mm)", sides[1]]
            expected += [sides[2], "axis", str(view.rows), "(mm)", sides[3]]
            assert words == [word for word in expected if word]


def test_long_names_of_labels_are_not_cut_off(monkeypatch):
    scene = ring_scene()
    named = replace(scene, labels={1: "left ventricular myocardium " * 2})
    figure = drawn(monkeypatch, named)
    figure.draw_without_rendering()
    (legend,) = figure.subfigs[0].legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


def test_one_voxel_is_one(monkeypatch):
    scene = stack_scene()
    after = scene.before.copy()
    after[0, 0, 3] = 1
    single = replace(scene, after=after, record=replace(scene.record, voxels_changed=1))
    figure = drawn(monkeypatch, single)
    assert "; 1 voxel (" in figure.get_suptitle()
    assert panels(figure)[0].get_title(loc="left").startswith("slice 3 of axis 2: 1 voxel changed")


def test_the_largest_features_are_numbered(monkeypatch):
    scene = ring_scene()
    row = replace(scene.record.changes[0], dimension=0)
    sizes = [*range(1, 15), *range(60, 40, -1)]
    rows = [replace(row, voxels=size, birth=0.5 + size / 1000) for size in sizes]
    rows.insert(3, replace(row, voxels=999, dimension=None))
    figure = drawn(monkeypatch, replace(scene, record=replace(scene.record, changes=tuple(rows))))
    (table,) = (table for axes in figure.axes for table in axes.tables)
    texts = [cell.get_text().get_text() for (k, _), cell in sorted(table.get_celld().items()) if k]
    assert [text for text in texts if text in map(str, range(41, 1000))] == list(map(str, range(60, 40, -1)))


def test_nothing_labelled_and_nothing_changed_can_be_drawn():
    scene = ring_scene()
    empty = np.zeros_like(scene.after)
    record = replace(scene.record, changes=(), voxels_changed=0)
    for image in (scene.image, np.zeros_like(scene.image)):
        blank = replace(scene, before=empty, after=empty, image=image, record=record)
        assert draw_overlay(blank).startswith(b"\x89PNG")


# --- views ---


def corner(affine: np.ndarray, rank: int = 3, axis: int = 2) -> np.ndarray:
    """RAS mm of the voxel that a view shows above on the left."""
    shape = (5, 6, 7)[:rank]
    places = np.stack(np.meshgrid(*map(range, shape), indexing="ij"), -1)
    view = view_of(affine, rank, axis)
    shown = [view.stack(places[..., k])[0, 0, 0] for k in range(rank)]
    return affine @ [*shown, *[0] * (3 - rank), 1]


@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
def test_however_it_is_stored_an_axial_slice_shows_right_on_the_left_and_front_above(flips, order):
    affine = np.eye(4)
    affine[:3, :3] = np.diag(flips)[:, list(order)] * 2.0
    through = list(order).index(2)
    here = corner(affine, axis=through)
    middle = affine @ [2, 2.5, 3, 1]
    assert here[0] >= middle[0]  # the patient's right, where x is largest
    assert here[1] >= middle[1]
    assert view_of(affine, 3, through).sides[:1] == "A"


def test_bare_arrays_are_shown_as_they_are():
    view = view_of(np.eye(4), 2, 0)
    array = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(view.stack(array), array[None])
    assert view.sides == ""
