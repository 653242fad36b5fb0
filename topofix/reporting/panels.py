"""One slice of a scan in grey: contours before and after, the voxels that changed, and numbered features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from topofix.records import ChangeRow
from topofix.reporting.palette import ADDED, RELABELLED, REMOVED
from topofix.reporting.scene import Labels, Scene
from topofix.reporting.views import View, view_of

MARGIN = 10.0
"""mm around the labels, or a quarter of their extent if that is more."""

WINDOW = (1.0, 99.0)
"""Percentiles of what is seen of the scan that are drawn black and white."""

_INWARD = 0.02
"""How far inside its voxels a contour is traced, in voxel sides."""

Window = tuple[slice, slice]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One slice, or the whole 2-D image, cut to a window.

    Attributes:
        index: The slice; None for a 2-D image.
        view: Which axes of the scan are rows and columns, and from where to where they are drawn.
        image: (rows, columns).
        before: Its labels before, (rows, columns).
        after: The same after.
        corner: Indices of its first voxel.
        spacing: mm down and to the right.
        features: Numbers of those that lie here, and their row and column in the scan.
    """

    index: int | None
    view: View
    image: npt.NDArray[Any]
    before: Labels
    after: Labels
    corner: tuple[int, int]
    spacing: tuple[float, float]
    features: tuple[tuple[int, tuple[int, int]], ...]

    @property
    def extent(self) -> tuple[float, float, float, float]:
        """First and last side of the columns, last and first side of the rows, in mm."""
        rows, columns = (self.sides(axis) for axis in (0, 1))
        return float(columns[0]), float(columns[-1]), float(rows[-1]), float(rows[0])

    @property
    def kinds(self) -> npt.NDArray[np.uint8]:
        """Where a label went (1), came (2) or gave way to another (3); 0 elsewhere."""
        before, after = self.before, self.after
        kinds = np.select([before == after, after == 0, before == 0], [0, 1, 2], 3)
        return kinds.astype(np.uint8)

    def sides(self, axis: int) -> npt.NDArray[np.float64]:
        """Where voxels begin and end along an axis, in mm from the middle of the scan's first voxel."""
        return (np.arange(self.image.shape[axis] + 1) + self.corner[axis] - 0.5) * self.spacing[axis]


def shown_as(scene: Scene) -> View:
    """How an image or its slices lie on a screen."""
    return view_of(scene.affine, scene.image.ndim, scene.slice_axis)


def window_of(scene: Scene, features: Sequence[ChangeRow]) -> Window:
    """The labels before and after and the features, with a margin; everything without any of them."""
    labelled = (scene.before > 0) | (scene.after > 0)
    ranges = []
    view = shown_as(scene)
    for axis in (view.rows, view.columns):
        size, step = labelled.shape[axis], scene.spacing[axis]
        others = tuple(other for other in range(labelled.ndim) if other != axis)
        found = [*np.flatnonzero(labelled.any(others)).tolist(), *(row.voxel[axis] for row in features)]
        first, last = (min(found), max(found)) if found else (0, size - 1)
        margin = int(np.ceil(max(MARGIN / step, (last - first) / 4)))
        ranges.append(slice(max(first - margin, 0), min(last + 1 + margin, size)))
    return ranges[0], ranges[1]


def cut_panel(scene: Scene, index: int | None, window: Window, features: Sequence[ChangeRow]) -> Panel:
    """Cuts one slice out of a scene; None for a 2-D image.

    Args:
        scene: The case.
        index: The slice.
        window: Rows and columns, `window_of` them all.
        features: Those that are numbered from 1 on, on this slice or others.
    """
    view = shown_as(scene)
    arrays: tuple[npt.NDArray[Any], ...] = (scene.image, scene.before, scene.after)
    planes = (array if index is None else np.take(array, index, scene.slice_axis) for array in arrays)
    turned = (plane.T if view.rows > view.columns else plane for plane in planes)
    image, before, after = (plane[window] for plane in turned)
    places = tuple(
        (number, (row.voxel[view.rows], row.voxel[view.columns]))
        for number, row in enumerate(features, 1)
        if index is None or row.voxel[scene.slice_axis] == index
    )
    corner = (window[0].start, window[1].start)
    spacing = (scene.spacing[view.rows], scene.spacing[view.columns])
    return Panel(index, view, image, before, after, corner, spacing, places)


def grey_limits(panels: Sequence[Panel]) -> tuple[float, float]:
    """The values that are drawn black and white, the same in all panels."""
    values = np.concatenate([panel.image.ravel() for panel in panels])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, WINDOW) if len(values) else (0.0, 1.0)
    return float(low), float(high if high > low else low + 1)


def draw_panel(axes: Any, panel: Panel, colours: Mapping[int, str], limits: tuple[float, float]) -> None:
    """Draws one slice: the scan, the changed voxels, the contours, the features' numbers.

    Where contours before and after agree, that after is seen.

    Args:
        axes: Matplotlib's.
        panel: The slice.
        colours: Of labels, by their value.
        limits: The values that are drawn black and white.
    """
    from matplotlib import colors

    low, high = limits
    axes.imshow(panel.image, cmap="gray", vmin=low, vmax=high, extent=panel.extent, interpolation="nearest")
    kinds = panel.kinds
    if kinds.any():
        shades = colors.ListedColormap([REMOVED, ADDED, RELABELLED])
        seen = np.ma.masked_equal(kinds, 0)
        axes.imshow(seen, shades, vmin=1, vmax=3, extent=panel.extent, interpolation="nearest", alpha=0.75)
    for labels, style in ((panel.before, "dashed"), (panel.after, "solid")):
        for value, colour in colours.items():
            _contour(axes, labels == value, panel, colour, style)
    _mark(axes, panel)
    left, right, bottom, top = panel.extent
    view = panel.view
    axes.set_xlim(*((right, left) if view.flipped[1] else (left, right)))
    axes.set_ylim(*((top, bottom) if view.flipped[0] else (bottom, top)))
    above, on_right, below, on_left = tuple(view.sides) or ("",) * 4
    axes.locator_params(nbins=4)  # a number on an axis takes as long to draw as a contour
    axes.set_xlabel(f"{on_left}   axis {view.columns} (mm)   {on_right}".strip())
    axes.set_ylabel(f"{below}   axis {view.rows} (mm)   {above}".strip())


def _contour(axes: Any, mask: npt.NDArray[np.bool_], panel: Panel, colour: str, style: str) -> None:
    """The outline of a mask along the sides of its voxels, closed where it meets the border.

    Only its inner half is drawn, so that the outlines of neighbours lie side by side.
    """
    from matplotlib.patches import PathPatch

    if not mask.any():
        return
    fine = np.pad(mask.repeat(2, 0).repeat(2, 1), 1).astype(np.float32)
    y, x = (
        (panel.sides(axis)[:, None] + np.array([-_INWARD, _INWARD]) * panel.spacing[axis]).ravel()
        for axis in (0, 1)
    )
    shadow = axes.contour(x, y, fine, [0.5], colors=["black"], linewidths=4.4, alpha=0.4, zorder=1.5)
    (outline,) = shadow.get_paths()
    line = PathPatch(outline, fill=False, edgecolor=colour, linewidth=2.8, linestyle=style, zorder=2)
    axes.add_artist(line)
    for artist in (shadow, line):
        artist.set_clip_path(outline, axes.transData)


def _mark(axes: Any, panel: Panel) -> None:
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
