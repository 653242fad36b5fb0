"""A scan in grey with its labels before and after, what was removed and added, and a number at each feature.

The slices where most changed and those that hold a corrected feature are drawn, in the order in which they
lie, all cut to the same window around the labels. They lie as in every picture (`views`), with the letters of
the patient's sides at their axes, which are those of the array, in mm from the middle of its first voxel.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from topofix.records import ChangeRow
from topofix.reporting.canvas import FileType, drawing, saved, shown
from topofix.reporting.changes import happened
from topofix.reporting.figures import FEATURES
from topofix.reporting.lines import betti_text
from topofix.reporting.palette import ADDED, RELABELLED, REMOVED, label_colour
from topofix.reporting.panels import Panel, cut_panel, draw_panel, grey_limits, window_of
from topofix.reporting.scene import Scene

MOST_SLICES = 6
"""In one figure."""

MOST_FEATURES = 20
"""Rows of the table; as many are numbered in the image, features before mere shape, and the largest."""

_MOST_BESIDE = 4
"""Entries of the legend in one line, if their texts are short enough."""

_BESIDE, _BELOW = 0.6, 0.6  # inches that a panel's numbers take up on its left, and below and above
_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2}  # of panels, by their number; three for more


def draw_overlay(scene: Scene, kind: FileType = "png", most: int = MOST_SLICES) -> bytes:
    """Draws what a correction did, on the slices where it did most.

    Args:
        scene: The case.
        kind: The kind of file; `canvas.file_type` takes it from a path.
        most: At most so many slices of a volume.

    Returns:
        The bytes of the file; the same for the same scene.
    """
    indices = chosen_slices(scene, most)
    features = [row for row in scene.record.changes if _slice(scene, row) in indices]
    elsewhere = len(scene.record.changes) - len(features)
    largest = sorted(features, key=lambda row: (row.dimension is None, -row.voxels))[:MOST_FEATURES]
    numbered = [row for row in features if row in largest]
    window = window_of(scene, numbered)
    panels = [cut_panel(scene, index, window, numbered) for index in indices]
    with drawing():
        return saved(_drawn(scene, panels, numbered, len(features) - len(numbered), elsewhere), kind)


def chosen_slices(scene: Scene, most: int = MOST_SLICES) -> Sequence[int | None]:
    """The slices of a volume that are drawn, in order; of a 2-D image None, which stands for all of it.

    The first of them is where most voxels changed. Slices that hold a component, hole, tunnel or void that
    came or went follow, and then the others, each by how much changed. Where nothing changed at all, it is
    the slice with most labelled voxels.
    """
    if scene.image.ndim == 2:
        return [None]
    others = tuple(axis for axis in range(3) if axis != scene.slice_axis)
    changed = (scene.before != scene.after).sum(others)
    if not changed.any():
        return [int((scene.after > 0).sum(others).argmax())]
    telling = {_slice(scene, row) for row in scene.record.changes if row.dimension is not None}
    telling.add(int(changed.argmax()))
    order = sorted(np.flatnonzero(changed).tolist(), key=lambda k: (k in telling, changed[k]), reverse=True)
    return sorted(order[:most])


def _slice(scene: Scene, row: ChangeRow) -> int | None:
    """The slice that a feature is marked on; None in a 2-D image."""
    return None if scene.image.ndim == 2 else row.voxel[scene.slice_axis]


def _drawn(
    scene: Scene, panels: Sequence[Panel], features: Sequence[ChangeRow], more: int, elsewhere: int
) -> Any:
    """The whole figure: panels, what their colours mean, and the table of features."""
    from matplotlib.figure import Figure

    columns = _COLUMNS.get(len(panels), 3)
    rows = -(-len(panels) // columns)
    left, right, bottom, top = panels[0].extent
    width = max(6.4, 3.3 * columns)
    tall = float(np.clip((width / columns - _BESIDE) * (bottom - top) / (right - left), 1.5, 6.0))
    headings = [_heading(scene, panel) for panel in panels]
    tall += _BELOW + 0.17 * max(map(len, headings))
    table = 0.2 * (len(features) + 2) + 0.3 if features else 0.0
    title = _title(scene)
    height = rows * tall + table + 0.2 * len(title) + 0.6
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle("\n".join(title), fontsize=10)
    bands: Any = [figure]
    if features:
        bands = figure.subfigures(2, 1, height_ratios=[rows * tall + 0.3, table])
    every = bands[0].subplots(rows, columns, squeeze=False).ravel()
    colours = {value: label_colour(value) for value in sorted(scene.labels)}
    limits = grey_limits(panels)
    for axes, panel, heading in zip(every, panels, headings, strict=False):
        draw_panel(axes, panel, colours, limits)
        axes.set_title("\n".join(heading), loc="left")
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    _legend(bands[0], scene, panels, width)
    if features:
        _table(bands[1], scene, features, more, elsewhere)
    return figure


def _title(scene: Scene) -> list[str]:
    """Name, outcome, and Betti numbers of the whole image if it is not slices that count."""
    record, planar = scene.record, scene.image.ndim == 2
    name = shown(scene.name) + ("" if scene.frame is None else f", frame {scene.frame}")
    outcome = record.outcome.name.lower().replace("_", " ")
    size = f"{record.voxels_changed * record.voxel_volume:.5g} {'mm²' if planar else 'mm³'}"
    lines = [f"{name}: {outcome}; {_counted(record.voxels_changed, scene)} ({size}) changed"]
    return lines + [
        f"{shown(part.region)}: Betti numbers {_counts(part.before, part.after)}"
        + (f", asked for {part.requested}" if part.requested else "")
        for part in record.topology
        if part.slice is None
    ]


def _counts(before: tuple[int, ...], after: tuple[int, ...]) -> str:
    return betti_text(before) + ("" if before == after else f" → {betti_text(after)}")


def _unit(scene: Scene) -> str:
    return "pixels" if scene.image.ndim == 2 else "voxels"


def _counted(count: int, scene: Scene) -> str:
    """So many of them, in words."""
    return f"{count:,} {_unit(scene).removesuffix('s') if count == 1 else _unit(scene)}"


def _heading(scene: Scene, panel: Panel) -> list[str]:
    """Which slice, how much changed in it, and its Betti numbers where it has a prior; nothing in 2-D."""
    if panel.index is None:
        return []
    changed = int(np.moveaxis(scene.before != scene.after, scene.slice_axis, 0)[panel.index].sum())
    lines = [f"slice {panel.index} of axis {scene.slice_axis}: {_counted(changed, scene)} changed"]
    parts = [part for part in scene.record.topology if part.slice == panel.index]
    return lines + [f"{shown(part.region)} {_counts(part.before, part.after)}" for part in parts]


def _legend(figure: Any, scene: Scene, panels: Sequence[Panel], width: float) -> None:
    """What the colours and line styles mean, below the panels, in as many columns as fit into the inches."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    present = {int(kind) for panel in panels for kind in np.unique(panel.kinds)}
    fills = {1: (REMOVED, "removed"), 2: (ADDED, "added"), 3: (RELABELLED, "another label")}
    handles: list[Any] = [
        Patch(color=c, alpha=0.75, label=text) for k, (c, text) in fills.items() if k in present
    ]
    styles = (("dashed", "outline before"), ("solid", "outline after"))
    handles += [Line2D([], [], color="black", linestyle=style, label=text) for style, text in styles]
    handles += [
        Line2D([], [], color=label_colour(value), linewidth=3, label=shown(name))
        for value, name in sorted(scene.labels.items())
        if (scene.before == value).any() or (scene.after == value).any()
    ]
    longest = max(len(handle.get_label()) for handle in handles)
    columns = max(1, min(len(handles), _MOST_BESIDE, int(width / (0.6 + 0.075 * longest))))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)


def _table(figure: Any, scene: Scene, features: Sequence[ChangeRow], more: int, elsewhere: int) -> None:
    """The numbered features in words."""
    names = FEATURES[2 if scene.record.slice_axis is not None else scene.image.ndim]
    heads = ["", "change", "dimension", "region", "slice", _unit(scene), "stage"]
    cells = [
        [
            str(number),
            happened(row),
            "shape only" if row.dimension is None else f"{row.dimension} ({names[row.dimension]})",
            shown(row.region),
            "" if scene.image.ndim == 2 else str(row.voxel[scene.slice_axis]),
            f"{row.voxels:,}",
            row.stage,
        ]
        for number, row in enumerate(features, 1)
    ]
    kept = [k for k in range(len(heads)) if any(row[k] for row in cells)]
    axes = figure.subplots()
    axes.set_axis_off()
    drawn = axes.table(
        [[row[k] for k in kept] for row in cells],
        colLabels=[heads[k] for k in kept],
        cellLoc="left",
        colLoc="left",
        edges="horizontal",
        bbox=(0, 0, 1, 1),
    )
    drawn.auto_set_font_size(False)
    drawn.set_fontsize(8)
    drawn.auto_set_column_width(list(range(len(kept))))
    left_out = [f"{more} more"] if more else []
    left_out += [f"{elsewhere} on slices that are not shown"] if elsewhere else []
    if left_out:
        axes.set_title(f"Features ({' and '.join(left_out)} are left out)", loc="left", fontsize=8)
