"""Barcodes as figures: bars as in Figure 1 of Clough et al. (TPAMI 2020), or points of a persistence diagram.

The filtration value runs from 1 on the left to 0 on the right. Bars that were asked for, the longest of each
dimension, are thick; all others are thin and pale:

    wall, slice 4: asked for 1,1
    before: Betti numbers 2,0: not met          after: Betti numbers 1,1: met
      components ================|=========       components ================|=========
                 ----------------|--------                         -----------
      holes                          ----         holes             =========|========
                 1              0.5        0                 1              0.5        0

Only the longest bars are drawn, and the others are counted, so that 100,000 bars take no longer than 100.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from topofix.errors import InvalidArray
from topofix.records import Topology
from topofix.reporting.canvas import FileType, drawing, saved, shown
from topofix.reporting.distances import distances
from topofix.reporting.lines import betti_text
from topofix.reporting.palette import DIMENSIONS, THRESHOLD
from topofix.topology.bars import Bars
from topofix.topology.priors import Prior

FEATURES = {2: ("components", "holes"), 3: ("components", "tunnels", "voids")}
"""What is counted in each dimension, by the rank of the image."""

MOST_ROWS = 6
"""Regions and slices in one figure."""

LONGEST_ALONE, LONGEST = 12, 6
"""Bars per dimension of a region that stands alone, and of one among several."""

MOST_ASKED = 40
"""Where more bars are asked for than that, these are shown: at most so many per dimension."""

MOST_POINTS = 500
"""Points per dimension of a persistence diagram; shorter ones lie on its diagonal, as far as one can see."""

_SLOT = 0.13  # inches from one bar to the next
_ROOM = 2  # bars that a dimension takes at least

Chosen = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One region in one image or slice: its barcodes, before and maybe after, and what was asked."""

    part: Topology
    bars: tuple[Bars, ...]
    asked: tuple[Chosen, ...]


def draw_barcodes(
    before: Sequence[Bars],
    after: Sequence[Bars] | None,
    topology: Sequence[Topology],
    kind: FileType = "png",
    *,
    name: str = "",
    style: Literal["bars", "diagram"] = "bars",
    threshold: float = 0.5,
    most: int = MOST_ROWS,
) -> bytes:
    """Draws barcodes, one row per region and slice, with before and after side by side.

    Of more than `most` rows, those that were wrong or whose Betti numbers changed are drawn, and of these the
    ones that changed most; a note says how many were left out.

    Args:
        before: The barcodes before a correction, or the only ones.
        after: Those after it, in the same order; None where nothing was corrected.
        topology: Betti numbers and what was asked, in the same order.
        kind: The kind of file; `canvas.file_type` takes it from a path.
        name: Stands above it all, such as the image's file name.
        style: `bars`, or `diagram` for births against deaths.
        threshold: Where Betti numbers are read off.
        most: At most so many rows.

    Returns:
        The bytes of the file; the same for the same barcodes.

    Raises:
        InvalidArray: No barcode at all, or not as many of one as of the other.

    Example:
        >>> from topofix.topology.bars import gather
        >>> from topofix.topology.persistence import barcode
        >>> field = np.array([[0.9, 0.1, 0.8]])
        >>> bars = gather("foreground", None, barcode(field), field)
        >>> part = Topology("foreground", None, "1,0", (2, 0), (2, 0), False, False)
        >>> draw_barcodes([bars], None, [part])[1:4]
        b'PNG'
    """
    sides = [before] if after is None else [before, after]
    if not topology or any(len(side) != len(topology) for side in sides):
        counts = " and ".join(str(len(side)) for side in sides)
        raise InvalidArray(f"barcodes: expected one for each of {len(topology)} regions, got {counts}")
    every = [
        _Row(part, bars, tuple(asked_for(some, part.requested, threshold) for some in bars))
        for part, *bars_ in zip(topology, *sides, strict=True)
        for bars in [tuple(bars_)]
    ]
    rows = _most_changed(every, most)
    with drawing():
        figure = _drawn(rows, len(every), shown(name), style, threshold)
        return saved(figure, kind)


def asked_for(bars: Bars, requested: str | None, threshold: float = 0.5) -> Chosen:
    """Which bars a prior asks for: the longest of each dimension, as many as it wants; (n,).

    Where it leaves a choice, as `1-3` does, it wants as many as there are above the threshold, or the nearest
    number that it allows. Without a prior, the bars that count at the threshold.

    Args:
        bars: A barcode.
        requested: Betti numbers in their text form, `1,0-2`; None without a prior.
        threshold: Where Betti numbers are read off.

    Example:
        >>> from topofix.topology.bars import gather
        >>> from topofix.topology.persistence import barcode
        >>> field = np.array([[0.9, 0.1, 0.8]])
        >>> asked_for(gather("foreground", None, barcode(field), field), "1,0")
        array([ True, False])
    """
    alive = (bars.births > threshold) & (bars.deaths <= threshold)
    if requested is None:
        return alive
    wanted = np.zeros(len(bars.barcode), bool)
    for dimension, wish in enumerate(Prior.parse(requested).constraints[0].betti):
        own = np.flatnonzero(bars.barcode.dimension == dimension)
        count = max(int(alive[own].sum()), wish.low)
        wanted[own[: count if wish.high is None else min(count, wish.high)]] = True
    return wanted


def place(part: Topology) -> str:
    """A region and where it is.

    Example:
        >>> place(Topology("wall", 4, "1,1", (2, 0), (1, 1), False, True))
        'wall, slice 4'
    """
    text = shown(part.region)
    text += "" if part.frame is None else f", frame {part.frame}"
    return text + ("" if part.slice is None else f", slice {part.slice}")


def _most_changed(rows: Sequence[_Row], most: int) -> list[_Row]:
    """All of a few rows, in their order; of many those that were wrong or differ, most changed first."""
    if len(rows) <= most:
        return list(rows)
    telling = [row for row in rows if _telling(row.part)]
    return sorted(telling or rows, key=_change, reverse=True)[:most]


def _telling(part: Topology) -> bool:
    return part.met_before is False or part.before != part.after


def _change(row: _Row) -> tuple[int, float]:
    """How far the Betti numbers moved, and then the lengths of the longest bars."""
    counts = sum(abs(new - old) for old, new in zip(row.part.before, row.part.after, strict=True))
    if len(row.bars) == 1:
        return counts, 0.0
    moved = 0.0
    for dimension in range(len(row.part.before)):
        lengths = np.zeros((2, LONGEST))
        for some, bars in zip(lengths, row.bars, strict=True):
            longest = np.flatnonzero(bars.barcode.dimension == dimension)[:LONGEST]
            some[: len(longest)] = bars.births[longest] - bars.deaths[longest]
        moved += float(np.abs(lengths[1] - lengths[0]).sum())
    return counts, moved


def _drawn(rows: Sequence[_Row], total: int, name: str, style: str, threshold: float) -> Any:
    """The whole figure."""
    from matplotlib.figure import Figure

    longest = LONGEST_ALONE if len(rows) == 1 else LONGEST
    slots = [_slots(row, longest) for row in rows]
    columns = len(rows[0].bars)
    if style == "bars":
        heights = [(0.7, 1.05)[columns - 1] + _SLOT * sum(row) for row in slots]
    else:
        heights = [4.3] * len(rows)
    title = [name] if name else []
    if total > len(rows):
        title.append(_left_out(rows, total))
    width = {1: 6.4, 2: 10.0}[columns]
    height = sum(heights) + 0.6 + 0.2 * len(title)
    figure = Figure(figsize=(width, height), layout="constrained")
    if title:
        figure.suptitle("\n".join(title), fontsize=10)
    bands: Any = figure.subfigures(len(rows), 1, height_ratios=heights)
    for band, row, room in zip(np.atleast_1d(bands), rows, slots, strict=True):
        band.suptitle(_heading(row), x=0.01, ha="left", fontsize=9, linespacing=1.4)
        axes = band.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]
        for k, (one, bars, asked) in enumerate(zip(axes, row.bars, row.asked, strict=True)):
            if style == "bars":
                _draw_bars(one, bars, asked, room, threshold)
            else:
                _draw_diagram(one, bars, asked, threshold)
            one.set_title(_verdict(row, k), loc="left")
    _legend(figure, rows, style, threshold)
    return figure


def _heading(row: _Row) -> str:
    """What a row is about, and how far apart its barcodes are."""
    text = place(row.part) + (f": asked for {row.part.requested}" if row.part.requested else "")
    if len(row.bars) == 1:
        return text
    names = FEATURES[len(row.part.before)]
    moved = distances(*row.bars)
    bottleneck = ", ".join(f"{what} {d.bottleneck:.2f}" for d, what in zip(moved, names, strict=True))
    wasserstein = ", ".join(f"{what} {d.wasserstein:.2f}" for d, what in zip(moved, names, strict=True))
    return f"{text}\nbottleneck distance: {bottleneck}; Wasserstein distance: {wasserstein}"


def _left_out(rows: Sequence[_Row], total: int) -> str:
    """Which of all barcodes are drawn."""
    part, columns = rows[0].part, len(rows[0].bars)
    if not _telling(part):
        which = "the first"
    else:
        which = "not as asked" if columns == 1 else "wrong before or different after, most changed first"
    return f"{len(rows)} of {total} barcodes ({which}); {total - len(rows)} are left out"


def _verdict(row: _Row, side: int) -> str:
    """Betti numbers of one side, and whether they are those that were asked for."""
    part = row.part
    when = "" if len(row.bars) == 1 else ("before: ", "after: ")[side]
    counts, met = ((part.before, part.met_before), (part.after, part.met))[side]
    verdict = "" if met is None else ", as asked" if met else ", not as asked"
    return f"{when}Betti numbers {betti_text(counts)}{verdict}"


def _shown_bars(bars: Bars, asked: Chosen, dimension: int, longest: int) -> tuple[npt.NDArray[np.intp], int]:
    """Indices of the bars of one dimension that are drawn, and how many there are."""
    own = np.flatnonzero(bars.barcode.dimension == dimension)
    return own[: max(longest, min(int(asked[own].sum()), MOST_ASKED))], len(own)


def _slots(row: _Row, longest: int) -> list[int]:
    """How many lines each dimension takes up: its bars, one for the count of the others, and a gap."""
    sizes = []
    for dimension in range(len(row.part.before)):
        both = zip(row.bars, row.asked, strict=True)
        drawn = [len(_shown_bars(*side, dimension, longest)[0]) for side in both]
        sizes.append(max(*drawn, _ROOM) + 2)
    return sizes


def _draw_bars(axes: Any, bars: Bars, asked: Chosen, slots: Sequence[int], threshold: float) -> None:
    """One barcode; each dimension begins at the same height before and after."""
    from matplotlib.collections import LineCollection

    ends = np.cumsum([0, *slots])
    names = FEATURES[len(bars.shape)]
    axes.axvline(threshold, color=THRESHOLD, linewidth=1, linestyle="--", zorder=0)
    for dimension, (colour, top) in enumerate(zip(DIMENSIONS, ends[:-1], strict=False)):
        index, count = _shown_bars(bars, asked, dimension, slots[dimension] - 2)
        heights = top + np.arange(len(index))
        corners = np.stack([bars.births[index], heights, bars.deaths[index], heights], axis=1)
        lines = corners.reshape(-1, 2, 2)
        thick = asked[index]
        axes.add_collection(LineCollection(list(lines[thick]), colors=colour, linewidths=5, capstyle="butt"))
        axes.add_collection(
            LineCollection(list(lines[~thick]), colors=colour, linewidths=2.5, alpha=0.5, capstyle="butt")
        )
        if count > len(index) or not count:
            text = f"and {count - len(index):,} shorter" if count else "none"
            axes.text(1, top + len(index), text, color=colour, fontsize=8, va="center")
        if dimension:
            axes.axhline(top - 1, color=THRESHOLD, linewidth=0.5, alpha=0.5)
    axes.set_xlim(1.01, -0.01)
    axes.set_ylim(ends[-1] - 1, -1)
    middles = ends[:-1] + np.array(slots) / 2 - 1
    axes.set_yticks(middles, names)
    for tick, colour in zip(axes.get_yticklabels(), DIMENSIONS, strict=False):
        tick.set_color(colour)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("filtration value (probability)")


def _draw_diagram(axes: Any, bars: Bars, asked: Chosen, threshold: float) -> None:
    """One persistence diagram; features that count at the threshold lie in its upper left."""
    axes.plot([1, 0], [1, 0], color=THRESHOLD, linewidth=1)
    for line in (axes.axvline, axes.axhline):
        line(threshold, color=THRESHOLD, linewidth=1, linestyle="--", zorder=0)
    for dimension, colour in enumerate(DIMENSIONS[: len(bars.shape)]):
        index = np.flatnonzero(bars.barcode.dimension == dimension)[:MOST_POINTS]
        thick = asked[index]
        births, deaths = bars.births[index], bars.deaths[index]
        axes.scatter(births[~thick], deaths[~thick], s=14, color=colour, alpha=0.5, linewidths=0)
        style = {"edgecolors": "black", "linewidths": 0.8, "zorder": 3, "clip_on": False}
        axes.scatter(births[thick], deaths[thick], s=60, color=colour, **style)
    axes.set_xlim(1.01, -0.01)
    axes.set_ylim(1.01, -0.01)
    axes.set_aspect("equal")
    axes.set_xlabel("birth (probability)")
    axes.set_ylabel("death (probability)")


def _legend(figure: Any, rows: Sequence[_Row], style: str, threshold: float) -> None:
    """What colours, widths and the line mean, below."""
    from matplotlib.lines import Line2D

    rank, columns = len(rows[0].part.before), len(rows[0].bars)
    asked = any(row.part.requested for row in rows)
    texts = ("asked for", "not asked for") if asked else (f"counts at {threshold:g}", "does not count")
    names = zip(FEATURES[rank], DIMENSIONS, strict=False)
    if style == "bars":
        handles = [Line2D([], [], color=colour, linewidth=5, label=name) for name, colour in names]
        handles += [
            Line2D([], [], color="black", linewidth=5, label=texts[0]),
            Line2D([], [], color="black", linewidth=2.5, alpha=0.5, label=texts[1]),
        ]
    else:
        dots: dict[str, Any] = {"linestyle": "", "marker": "o"}
        handles = [Line2D([], [], color=colour, label=name, **dots) for name, colour in names]
        handles += [
            Line2D([], [], color="black", markersize=8, label=texts[0], **dots),
            Line2D([], [], color="black", markersize=4, alpha=0.5, label=texts[1], **dots),
        ]
    line: dict[str, Any] = {"color": THRESHOLD, "linewidth": 1, "linestyle": "--"}
    handles.append(Line2D([], [], label=f"threshold {threshold:g}", **line))
    across = 6 if columns == 2 else {2: 3, 3: 2}[rank]  # so that the dimensions stand together
    figure.legend(handles=handles, loc="outside lower center", ncols=across, frameon=False)
