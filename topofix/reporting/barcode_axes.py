"""One barcode in one pair of axes, as bars or as a persistence diagram, and what colours and widths mean."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from topofix.reporting.palette import DIMENSIONS, THRESHOLD
from topofix.topology.bars import Bars

Style = Literal["bars", "diagram"]
Chosen = npt.NDArray[np.bool_]
"""A truth value for each bar of a barcode, (n,)."""

MOST_POINTS = 500
"""Points per dimension of a persistence diagram; shorter ones lie on its diagonal, as far as one can see."""

_WIDTHS = 5.0, 2.5  # points; of thick and thin bars
_SIZES = 7.7, 3.7  # points across; of large and small dots
_PALE = 0.5

_LIMITS = (1.01, -0.01)  # from 1 on the left, and at the bottom, to 0


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One barcode as it is drawn, before or after.

    Attributes:
        bars: All of it.
        strong: The bars that are emphasised.
        drawn: Indices of the bars that are drawn as bars, longest first, for each dimension.
    """

    bars: Bars
    strong: Chosen
    drawn: tuple[npt.NDArray[np.intp], ...]


def draw_bars(axes: Any, side: Side, slots: Sequence[int], names: Sequence[str], threshold: float) -> None:
    """Draws bars from 1 on the left to 0, dimension below dimension, and counts those that are left out.

    Args:
        axes: Matplotlib's.
        side: A barcode.
        slots: Lines that each dimension takes up: its bars, one for the count of the others, and a gap.
        names: Of the features of each dimension.
        threshold: Where Betti numbers are read off.
    """
    from matplotlib.collections import LineCollection

    bars = side.bars
    ends = np.cumsum([0, *slots])
    axes.axvline(threshold, color=THRESHOLD, linewidth=1, linestyle="--", zorder=0)
    for dimension, (index, top) in enumerate(zip(side.drawn, ends[:-1], strict=True)):
        colour, total = DIMENSIONS[dimension], np.count_nonzero(bars.barcode.dimension == dimension)
        heights = top + np.arange(len(index))
        corners = np.stack([bars.births[index], heights, bars.deaths[index], heights], axis=1)
        lines, strong = corners.reshape(-1, 2, 2), side.strong[index]
        for some, width, alpha in zip((strong, ~strong), _WIDTHS, (1, _PALE), strict=True):
            axes.add_collection(
                LineCollection(
                    list(lines[some]), colors=colour, linewidths=width, alpha=alpha, capstyle="butt"
                )
            )
        if total > len(index) or not total:
            text = f"and {total - len(index):,} shorter" if total else "none"
            axes.text(1, top + len(index), text, color=colour, fontsize=8, va="center")
        if dimension:
            axes.axhline(top - 1, color=THRESHOLD, linewidth=0.5, alpha=0.5)
    axes.set_xlim(_LIMITS)
    axes.set_ylim(ends[-1] - 1, -1)
    axes.set_yticks(ends[:-1] + np.array(slots) / 2 - 1, names)
    for tick, colour in zip(axes.get_yticklabels(), DIMENSIONS, strict=False):
        tick.set_color(colour)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("filtration value (probability)")


def draw_diagram(axes: Any, side: Side, threshold: float) -> None:
    """Draws births against deaths; features that count at the threshold lie in the upper left.

    Args:
        axes: Matplotlib's.
        side: A barcode; of each dimension the `MOST_POINTS` longest bars are drawn.
        threshold: Where Betti numbers are read off.
    """
    axes.plot([1, 0], [1, 0], color=THRESHOLD, linewidth=1)
    for line in (axes.axvline, axes.axhline):
        line(threshold, color=THRESHOLD, linewidth=1, linestyle="--", zorder=0)
    bars = side.bars
    big, small = (size**2 for size in _SIZES)
    for dimension, colour in enumerate(DIMENSIONS[: len(bars.shape)]):
        index = np.flatnonzero(bars.barcode.dimension == dimension)[:MOST_POINTS]
        strong = side.strong[index]
        births, deaths = bars.births[index], bars.deaths[index]
        axes.scatter(births[~strong], deaths[~strong], s=small, color=colour, alpha=_PALE, linewidths=0)
        rim: dict[str, Any] = {"edgecolors": "black", "linewidths": 0.8, "zorder": 3, "clip_on": False}
        axes.scatter(births[strong], deaths[strong], s=big, color=colour, **rim)
    axes.set_xlim(_LIMITS)
    axes.set_ylim(_LIMITS)
    axes.set_aspect("equal")
    axes.set_xlabel("birth (probability)")
    axes.set_ylabel("death (probability)")


def draw_legend(
    figure: Any, style: Style, names: Sequence[str], emphasis: tuple[str, str], threshold: float
) -> None:
    """Says below a figure what colours, widths and the dashed line mean.

    Args:
        figure: Matplotlib's.
        style: Of its axes.
        names: Of the features of each dimension.
        emphasis: What is emphasised, and what is not.
        threshold: Where Betti numbers are read off.
    """
    from matplotlib.lines import Line2D

    as_dots: dict[str, Any] = {"linestyle": "", "marker": "o"}
    marks: tuple[dict[str, Any], ...] = tuple({"linewidth": width} for width in _WIDTHS)
    if style == "diagram":
        marks = tuple({"markersize": size, **as_dots} for size in _SIZES)
    handles = [
        Line2D([], [], color=colour, label=name, **marks[0])
        for name, colour in zip(names, DIMENSIONS, strict=False)
    ]
    handles += [
        Line2D([], [], color="black", label=text, alpha=alpha, **mark)
        for text, alpha, mark in zip(emphasis, (1, _PALE), marks, strict=True)
    ]
    line: dict[str, Any] = {"color": THRESHOLD, "linewidth": 1, "linestyle": "--"}
    handles.append(Line2D([], [], label=f"threshold {threshold:g}", **line))
    narrow = figure.get_figwidth() < 8
    across = {2: 3, 3: 2}[len(names)] if narrow else len(handles)  # so that the dimensions stand together
    figure.legend(handles=handles, loc="outside lower center", ncols=across, frameon=False)
