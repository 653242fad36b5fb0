"""A scan in grey with its labels before and after, what was removed and added, and a number at each feature.

The slices where most changed are drawn, in the order in which they lie, all cut to the same window around
the labels. Axes are those of the array, in mm from the middle of its first voxel: its rows run down and its
columns to the right, whichever way the patient lay.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.records import ChangeRow
from topofix.reporting.canvas import FileType, drawing, saved, shown
from topofix.reporting.figures import FEATURES
from topofix.reporting.lines import betti_text
from topofix.reporting.palette import ADDED, RELABELLED, REMOVED, label_colour
from topofix.reporting.scene import Labels, Scene

MOST_SLICES = 6
"""In one figure."""

MOST_FEATURES = 20
"""Rows of the table; as many are numbered in the image."""

MARGIN = 10.0
"""mm around the labels, or a quarter of their extent if that is more."""

WINDOW = (1.0, 99.0)
"""Percentiles of the scan that are drawn black and white."""

_FINE = 8
"""Points per voxel side along a contour, so that it follows the voxels' sides and not their middles."""

_COLUMNS = {1: 1, 2: 2, 3: 3, 4: 2}  # of panels, by their number; three for more


@dataclass(frozen=True, slots=True, eq=False)
class _Panel:
    """One slice, or the whole 2-D image, cut to the window.

    Attributes:
        index: The slice; None for a 2-D image.
        image: (rows, columns).
        before: Its labels before, (rows, columns).
        after: The same after.
        corner: Indices of its first voxel.
        spacing: mm per axis.
        features: Those that lie here, with their numbers and places in the image's two axes.
    """

    index: int | None
    image: npt.NDArray[Any]
    before: Labels
    after: Labels
    corner: tuple[int, int]
    spacing: tuple[float, float]
    features: tuple[tuple[int, tuple[int, int]], ...]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top in mm."""
        (top, left), (height, width) = self.corner, self.image.shape
        rows, columns = self.spacing
        return (
            (left - 0.5) * columns,
            (left + width - 0.5) * columns,
            (top + height - 0.5) * rows,
            (top - 0.5) * rows,
        )


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
    here, features = set(indices), []
    for row in scene.record.changes:
        if scene.image.ndim == 2 or row.voxel[scene.slice_axis] in here:
            features.append(row)
    elsewhere = len(scene.record.changes) - len(features)
    planes: list[int | None] = [*indices] or [None]
    panels = [_panel(scene, index, features[:MOST_FEATURES]) for index in planes]
    with drawing():
        return saved(_drawn(scene, panels, features, elsewhere), kind)


def chosen_slices(scene: Scene, most: int = MOST_SLICES) -> list[int]:
    """The slices of a volume where most voxels changed, in order; none of a 2-D image.

    Where nothing changed at all, the one with most labelled voxels.
    """
    if scene.image.ndim == 2:
        return []
    others = tuple(axis for axis in range(3) if axis != scene.slice_axis)
    changed = (scene.before != scene.after).sum(others)
    if not changed.any():
        return [int((scene.after > 0).sum(others).argmax())]
    order = np.argsort(-changed, kind="stable")[:most]
    return sorted(int(index) for index in order if changed[index])


def _panel(scene: Scene, index: int | None, features: Sequence[ChangeRow]) -> _Panel:
    """One slice with its features."""
    axes = _axes(scene)
    window = _window(scene, axes)
    arrays: tuple[npt.NDArray[Any], ...] = (scene.image, scene.before, scene.after)
    image, before, after = (
        (array if index is None else np.take(array, index, scene.slice_axis))[window] for array in arrays
    )
    places = tuple(
        (number, (row.voxel[axes[0]], row.voxel[axes[1]]))
        for number, row in enumerate(features, 1)
        if index is None or row.voxel[scene.slice_axis] == index
    )
    corner = (window[0].start, window[1].start)
    spacing = (scene.spacing[axes[0]], scene.spacing[axes[1]])
    return _Panel(index, image, before, after, corner, spacing, places)


def _axes(scene: Scene) -> tuple[int, int]:
    """The two axes of an image or a slice: down and to the right."""
    rank = scene.image.ndim
    down, right = (axis for axis in range(rank) if rank == 2 or axis != scene.slice_axis)
    return down, right


def _window(scene: Scene, axes: tuple[int, int]) -> tuple[slice, slice]:
    """The labels before and after with a margin, the same in every slice; everything without labels."""
    labelled = (scene.before > 0) | (scene.after > 0)
    ranges = []
    for axis in axes:
        size, step = labelled.shape[axis], scene.spacing[axis]
        others = tuple(other for other in range(labelled.ndim) if other != axis)
        found = np.flatnonzero(labelled.any(others))
        first, last = (int(found[0]), int(found[-1])) if len(found) else (0, size - 1)
        margin = int(np.ceil(max(MARGIN / step, (last - first) / 4)))
        ranges.append(slice(max(first - margin, 0), min(last + 1 + margin, size)))
    return ranges[0], ranges[1]


def _drawn(scene: Scene, panels: Sequence[_Panel], features: Sequence[ChangeRow], elsewhere: int) -> Any:
    """The whole figure: panels, what their colours mean, and the table of features."""
    from matplotlib.figure import Figure

    columns = _COLUMNS.get(len(panels), 3)
    rows = -(-len(panels) // columns)
    left, right, bottom, top = panels[0].extent
    shape = (bottom - top) / (right - left)
    width = max(6.4, 3.3 * columns)
    panel = float(np.clip(shape * width / columns, 1.5, 6.0)) + 0.75
    listed = min(len(features), MOST_FEATURES)
    table = 0.2 * (listed + 2) + 0.3 if listed else 0.0
    title = _title(scene)
    above = 0.2 * len(title) + 0.1
    figure = Figure(figsize=(width, rows * panel + table + above + 0.7), layout="constrained")
    figure.suptitle("\n".join(title), fontsize=10)
    bands: Any = [figure]
    if listed:
        bands = figure.subfigures(2, 1, height_ratios=[rows * panel + 0.3, table])
    every = bands[0].subplots(rows, columns, squeeze=False).ravel()
    limits = _limits(scene.image)
    for axes, one in zip(every, panels, strict=False):
        _draw_panel(axes, one, scene, limits)
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    _legend(bands[0], scene, panels)
    if listed:
        _table(bands[1], scene, features[:MOST_FEATURES], len(features) - listed, elsewhere)
    return figure


def _title(scene: Scene) -> list[str]:
    """Name, outcome, and Betti numbers of the whole image if it is not slices that count."""
    record, planar = scene.record, scene.image.ndim == 2
    name = shown(scene.name) + ("" if scene.frame is None else f", frame {scene.frame}")
    outcome = record.outcome.name.lower().replace("_", " ")
    size = f"{record.voxels_changed * record.voxel_volume:.5g} {'mm²' if planar else 'mm³'}"
    lines = [f"{name}: {outcome}; {record.voxels_changed:,} {_unit(scene)} ({size}) changed"]
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


def _limits(image: npt.NDArray[Any]) -> tuple[float, float]:
    """The values that are drawn black and white."""
    low, high = np.nanpercentile(image, WINDOW)
    return float(low), float(high if high > low else low + 1)


def _draw_panel(axes: Any, panel: _Panel, scene: Scene, limits: tuple[float, float]) -> None:
    """One slice: the scan, the changed voxels, the contours, the features' numbers."""
    from matplotlib import colors

    low, high = limits
    axes.imshow(panel.image, cmap="gray", vmin=low, vmax=high, extent=panel.extent, interpolation="nearest")
    kinds = _kinds(panel)
    if kinds.any():
        shades = colors.ListedColormap([REMOVED, ADDED, RELABELLED])
        seen = np.ma.masked_equal(kinds, 0)
        axes.imshow(seen, shades, vmin=1, vmax=3, extent=panel.extent, interpolation="nearest", alpha=0.75)
    for value in sorted(scene.labels):
        for labels, style in ((panel.after, "solid"), (panel.before, "dashed")):
            _contour(axes, labels == value, panel, label_colour(value), style)
    _mark(axes, panel)
    left, right, bottom, top = panel.extent
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    down, across = _axes(scene)
    axes.set_xlabel(f"axis {across} (mm)")
    axes.set_ylabel(f"axis {down} (mm)")
    if panel.index is not None:
        axes.set_title("\n".join(_panel_title(scene, panel)), loc="left")


def _kinds(panel: _Panel) -> npt.NDArray[np.uint8]:
    """Where a label went (1), came (2) or gave way to another (3); 0 elsewhere."""
    before, after = panel.before, panel.after
    kinds = np.select([before == after, after == 0, before == 0], [0, 1, 2], 3)
    return kinds.astype(np.uint8)


def _contour(axes: Any, mask: npt.NDArray[np.bool_], panel: _Panel, colour: str, style: str) -> None:
    """The outline of a mask along the sides of its voxels, closed where it meets the border."""
    if not mask.any():
        return
    fine = np.pad(np.kron(mask, np.ones((_FINE, _FINE))), 1)
    left, right, bottom, top = panel.extent
    y, x = (
        first + (np.arange(count) - 0.5) / (count - 2) * (last - first)
        for first, last, count in ((top, bottom, fine.shape[0]), (left, right, fine.shape[1]))
    )
    axes.contour(x, y, fine, [0.5], colors=["black"], linewidths=2.2, alpha=0.4)
    axes.contour(x, y, fine, [0.5], colors=[colour], linewidths=1.3, linestyles=style)


def _mark(axes: Any, panel: _Panel) -> None:
    """A ring at each feature and its number beside it, where it is farthest from the others."""
    left, right, bottom, top = panel.extent
    away = 0.08 * max(right - left, bottom - top)
    turns = np.arange(12) * np.pi / 6 + np.pi / 4
    steps = away * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    spots = [np.array([x * panel.spacing[1], y * panel.spacing[0]]) for _, (y, x) in panel.features]
    taken = list(spots)
    for (number, _), spot in zip(panel.features, spots, strict=True):
        choices = spot + steps
        inside = (choices > (left + away / 2, top + away / 2)) & (
            choices < (right - away / 2, bottom - away / 2)
        )
        room = np.min([np.hypot(*(choices - other).T) for other in taken], axis=0)
        best = choices[np.argmax(np.where(inside.all(1), room, -1.0))]
        taken.append(best)
        axes.plot(*spot, marker="o", markersize=5, markerfacecolor="none", color="white", zorder=5)
        axes.annotate(
            str(number),
            spot,
            best,
            color="black",
            fontsize=8,
            ha="center",
            va="center",
            zorder=6,
            bbox={"boxstyle": "circle,pad=0.2", "facecolor": "white", "edgecolor": "black"},
            arrowprops={"arrowstyle": "-", "color": "white", "shrinkB": 3},
        )


def _panel_title(scene: Scene, panel: _Panel) -> list[str]:
    """Which slice, how much changed in it, and its Betti numbers where it has a prior."""
    changed = np.count_nonzero(np.moveaxis(scene.before != scene.after, scene.slice_axis, 0)[panel.index])
    lines = [f"slice {panel.index} of axis {scene.slice_axis}: {changed:,} voxels changed"]
    parts = [part for part in scene.record.topology if part.slice == panel.index]
    return lines + [f"{shown(part.region)} {_counts(part.before, part.after)}" for part in parts]


def _legend(figure: Any, scene: Scene, panels: Sequence[_Panel]) -> None:
    """What the colours and line styles mean, below the panels."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    present = {int(kind) for panel in panels for kind in np.unique(_kinds(panel))}
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
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 4), frameon=False)


def _table(figure: Any, scene: Scene, features: Sequence[ChangeRow], more: int, elsewhere: int) -> None:
    """The numbered features in words."""
    names = FEATURES[2 if scene.record.slice_axis is not None else scene.image.ndim]
    heads = ["", "change", "dimension", "region", "slice", _unit(scene), "stage"]
    cells = [
        [
            str(number),
            row.kind,
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
