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
from typing import Any

import numpy as np

from topofix.errors import InvalidArray
from topofix.records import Topology
from topofix.reporting.barcode_axes import Chosen, Side, Style, draw_bars, draw_diagram, draw_legend
from topofix.reporting.canvas import FileType, drawing, saved, shown
from topofix.reporting.distances import distances
from topofix.reporting.lines import betti_text
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

_SLOT = 0.13  # inches from one bar to the next
_ROOM = 2  # bars that a dimension takes at least
_ROW = {1: 0.7, 2: 1.05}  # inches of a row beside its bars, by the number of its columns
_DIAGRAM = (4.8, 3.6)  # inches of a row that stands alone, and of one among several
_WIDTH = {"bars": {1: 6.4, 2: 10.0}, "diagram": {1: 6.4, 2: 8.8}}  # inches of a figure


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """One region in one image or slice: what was asked, and its barcodes, before and maybe after."""

    part: Topology
    bars: Sequence[Bars]


def draw_barcodes(
    before: Sequence[Bars],
    after: Sequence[Bars] | None,
    topology: Sequence[Topology],
    kind: FileType = "png",
    *,
    name: str = "",
    style: Style = "bars",
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
    rows = _most_changed([_Row(part, bars) for part, *bars in zip(topology, *sides, strict=True)], most)
    with drawing():
        figure = _drawn(rows, len(topology), shown(name), style, threshold)
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


def _drawn(rows: Sequence[_Row], total: int, name: str, style: Style, threshold: float) -> Any:
    """The whole figure."""
    from matplotlib.figure import Figure

    longest = LONGEST_ALONE if len(rows) == 1 else LONGEST
    sides = [[_side(bars, row.part, longest, threshold) for bars in row.bars] for row in rows]
    slots = [_slots(row) for row in sides]
    columns = len(rows[0].bars)
    heights = [_DIAGRAM[len(rows) > 1]] * len(rows)
    if style == "bars":
        heights = [_ROW[columns] + _SLOT * sum(row) for row in slots]
    title = [name] if name else []
    if total > len(rows):
        title.append(_left_out(rows, total))
    size = _WIDTH[style][columns], sum(heights) + 0.6 + 0.2 * len(title)
    figure = Figure(figsize=size, layout="constrained")
    if title:
        figure.suptitle("\n".join(title), fontsize=10)
    bands: Any = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False).ravel()
    for band, row, both, room in zip(bands, rows, sides, slots, strict=True):
        band.suptitle(_heading(row), x=0.01, ha="left", fontsize=9, linespacing=1.4)
        every = band.subplots(1, columns, sharex=True, sharey=True, squeeze=False)[0]
        for k, (axes, side) in enumerate(zip(every, both, strict=True)):
            if style == "bars":
                draw_bars(axes, side, room, _names(row), threshold)
            else:
                draw_diagram(axes, side, threshold)
            axes.set_title(_verdict(row, k), loc="left")
    draw_legend(figure, style, _names(rows[0]), _emphasis(rows, threshold), threshold)
    return figure


def _names(row: _Row) -> tuple[str, ...]:
    """What is counted in each dimension."""
    return FEATURES[len(row.part.before)]


def _emphasis(rows: Sequence[_Row], threshold: float) -> tuple[str, str]:
    """What thick and thin bars are."""
    if any(row.part.requested for row in rows):
        return "asked for", "not asked for"
    return f"counts at {threshold:g}", "does not count"


def _heading(row: _Row) -> str:
    """What a row is about, and how far apart its barcodes are."""
    text = place(row.part) + (f": asked for {row.part.requested}" if row.part.requested else "")
    if len(row.bars) == 1:
        return text
    names = _names(row)
    moved = distances(*row.bars)
    bottleneck = ", ".join(f"{what} {d.bottleneck:.2f}" for d, what in zip(moved, names, strict=True))
    wasserstein = ", ".join(f"{what} {d.wasserstein:.2f}" for d, what in zip(moved, names, strict=True))
    return f"{text}\nbottleneck distance: {bottleneck}; Wasserstein distance: {wasserstein}"


def _left_out(rows: Sequence[_Row], total: int) -> str:
    """Which of all barcodes are drawn."""
    telling, alone = _telling(rows[0].part), len(rows[0].bars) == 1
    if alone:
        which = "not as asked" if telling else "the first"
    else:
        which = ("wrong before or different after, " if telling else "") + "most changed first"
    return f"{len(rows)} of {total} barcodes ({which}); {total - len(rows)} are left out"


def _verdict(row: _Row, side: int) -> str:
    """Betti numbers of one side, and whether they are those that were asked for."""
    part = row.part
    when = "" if len(row.bars) == 1 else ("before: ", "after: ")[side]
    counts, met = ((part.before, part.met_before), (part.after, part.met))[side]
    verdict = "" if met is None else ", as asked" if met else ", not as asked"
    return f"{when}Betti numbers {betti_text(counts)}{verdict}"


def _side(bars: Bars, part: Topology, longest: int, threshold: float) -> Side:
    """A barcode with what is asked for, and the longest bars of each dimension."""
    asked = asked_for(bars, part.requested, threshold)
    drawn = []
    for dimension in range(len(bars.shape)):
        own = np.flatnonzero(bars.barcode.dimension == dimension)
        drawn.append(own[: max(longest, min(int(asked[own].sum()), MOST_ASKED))])
    return Side(bars, asked, tuple(drawn))


def _slots(sides: Sequence[Side]) -> list[int]:
    """How many lines each dimension takes up: its bars, one for the count of the others, and a gap."""
    every = zip(*(side.drawn for side in sides), strict=True)
    return [max(*map(len, drawn), _ROOM) + 2 for drawn in every]
