"""Barcodes as text: a table with a drawn bar per feature, and the same as CSV.

    dim  birth  death  length  1                0.5                 0
      0   0.98   0.00    0.98  ███████████████████████████████████████
      1   0.91   0.32    0.59     ████████████████████████

The filtration value runs from 1 on the left to 0 on the right, as in Figure 1 of Clough et al. (TPAMI 2020).
"""

from collections.abc import Iterable

import numpy as np
from rich.table import Table
from rich.text import Text

from topofix.imaging.spreadsheets import csv_text, safe_cell
from topofix.records import Topology
from topofix.reporting.lines import betti_text
from topofix.topology.bars import Bars

WIDTH = 40
STYLES = ("red", "green", "blue")
COLUMNS = (
    "case",
    "region",
    "slice",
    "dimension",
    "birth",
    "death",
    "length",
    "birth_voxel",
    "death_voxel",
)


def bars_table(bars: Bars, most: int, threshold: float) -> Table:
    """The longest bars of each dimension as a table for the terminal, 80 columns wide at most.

    Args:
        bars: What to draw.
        most: At most so many rows per dimension; a last row says how many shorter ones there are.
        threshold: Marked by a `|` where a bar passes over it.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("dim", "birth", "death", "length"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(Text("1" + "0.5".center(WIDTH - 2) + "0"), no_wrap=True)
    for dimension in range(len(bars.shape)):
        chosen = np.flatnonzero(bars.barcode.dimension == dimension)
        style = STYLES[dimension]
        for index in chosen[:most]:
            birth, death = float(bars.births[index]), float(bars.deaths[index])
            drawn = Text(_drawn(birth, death, threshold), style=style)
            table.add_row(str(dimension), f"{birth:.3f}", f"{death:.3f}", f"{birth - death:.3f}", drawn)
        if len(chosen) > most:
            table.add_row(str(dimension), "", "", "", f"and {len(chosen) - most:,} shorter")
    return table


def headline(case: str, part: Topology, threshold: float) -> str:
    """What stands above a table of bars.

    Example:
        >>> headline("map.nii.gz", Topology("foreground", None, "1,0", (2, 0), (2, 0), False, False), 0.5)
        'map.nii.gz, foreground: Betti numbers 2,0 above 0.5; asked for 1,0: not met'
    """
    place = "" if part.frame is None else f", frame {part.frame}"
    place += "" if part.slice is None else f", slice {part.slice}"
    text = f"{case}{place}, {part.region}: Betti numbers {betti_text(part.after)} above {threshold:g}"
    if part.requested is None:
        return text
    return f"{text}; asked for {part.requested}: {'met' if part.met else 'not met'}"


def bars_csv(case: str, every: Iterable[Bars]) -> str:
    """All bars of a case as CSV rows of `COLUMNS`, without a header; voxels as indices with spaces.

    A frame of a series in time stands behind the case's name: it is a case of its own there.
    """
    rows: list[tuple[object, ...]] = []
    for bars in every:
        for k, dimension in enumerate(bars.barcode.dimension):
            birth, death = bars.births[k], bars.deaths[k]
            place = "" if bars.slice is None else bars.slice
            voxels = [
                _voxel(int(index), bars.shape) for index in (bars.barcode.birth[k], bars.barcode.death[k])
            ]
            # as many digits as it takes to read the same value back
            ends = (np.format_float_positional(value, trim="-") for value in (birth, death))
            values = (*ends, f"{birth - death:.9g}")
            name = case if bars.frame is None else f"{case}, frame {bars.frame}"
            rows.append((safe_cell(name), safe_cell(bars.region), place, int(dimension), *values, *voxels))
    return csv_text(rows)


def _drawn(birth: float, death: float, threshold: float) -> str:
    """The stretch from birth to death on an axis from 1 to 0; at least one character."""
    first, last, mark = (round((1 - value) * (WIDTH - 1)) for value in (birth, death, threshold))
    cells = ["█" if first <= k <= last else " " for k in range(WIDTH)]
    if first < mark < last:
        cells[mark] = "|"
    return "".join(cells).rstrip()


def _voxel(index: int, shape: tuple[int, ...]) -> str:
    return "" if index < 0 else " ".join(str(k) for k in np.unravel_index(index, shape))
