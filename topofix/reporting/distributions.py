"""How a cohort is distributed, as figures that Plotly draws in a page: outcomes, Dice, changes, Betti errors.

A figure is the plain JSON that Plotly takes, without colours of text and background: the page sets these, as
it is light or dark. Cases are counted here rather than in the page: a Dice of 1 belongs to the last bin.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from topofix.reporting import palette

BINS = 20
"""At most so many bars in a histogram."""

BETTI_ERRORS = ("0", "1", "2", "3-4", "5-8", "9-16", "17-32", "33-64", "65+")
"""Classes of a Betti error; a volume can have hundreds of defects, and most cases have one or two."""

BEFORE, AFTER = palette.REMOVED, palette.ADDED
"""Colours of what was found and of what was made of it."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """One figure.

    Attributes:
        title: What is distributed.
        text: The same as a sentence, for those who do not see it.
        figure: Plotly's `data` and `layout`.
    """

    title: str
    text: str
    figure: dict[str, Any]


def outcome_bars(counts: Sequence[tuple[str, int]]) -> Distribution:
    """How many cases ended how, from outcomes by name with their counts."""
    names, numbers = [name for name, _ in counts], [count for _, count in counts]
    bars = {"orientation": "h", "hovertemplate": "%{y}, cases: %{x}<extra></extra>"}
    text = ", ".join(f"{name}: {count}" for name, count in counts)
    layout = {"xaxis": _cases(numbers), "yaxis": {"autorange": "reversed", "automargin": True}}
    trace = _bar(numbers, names, **bars) if names else None
    return Distribution("Outcomes", text or "No case.", _figure([trace], layout))


def histogram(title: str, unit: str, values: Sequence[float], highest: float | None = None) -> Distribution:
    """A histogram with bins of a round width.

    Args:
        title: Of the axis, too.
        unit: Stands on the axis behind the title, in brackets; empty for none.
        values: One per case.
        highest: The end of the scale, where there is one; it belongs to the last bin.
    """
    axis = f"{title} ({unit})" if unit else title
    if not values:
        return Distribution(title, "No case.", _figure([None], {"xaxis": _axis(axis), "yaxis": _cases([])}))
    edges = _edges(values, highest)
    counts, _ = np.histogram(values, edges)
    bins = [f"{low:.6g} to {high:.6g}" for low, high in pairwise(edges)]
    trace = _bar(
        [float(middle) for middle in (edges[1:] + edges[:-1]) / 2],
        counts.tolist(),
        width=float(edges[1] - edges[0]),
        customdata=bins,
        hovertemplate=f"%{{customdata}} {unit}, cases: %{{y}}<extra></extra>",
    )
    ends = f"from {min(values):.4g} to {max(values):.4g}, median {float(np.median(values)):.4g}"
    text = f"{axis} of {len(values)} case{'' if len(values) == 1 else 's'}: {ends}."
    shown = {"range": [float(edges[0]), float(edges[-1])]}
    return Distribution(
        title, text, _figure([trace], {"xaxis": _axis(axis) | shown, "yaxis": _cases(counts.tolist())})
    )


def error_bars(before: Sequence[int], after: Sequence[int]) -> Distribution:
    """How many cases have which Betti error, before and after."""
    last = max((_class(error) for error in (*before, *after)), default=0)
    names = list(BETTI_ERRORS[: last + 1])
    traces, highest = [], [0]
    for name, errors, colour in (("before", before, BEFORE), ("after", after, AFTER)):
        counts = np.bincount([_class(error) for error in errors], minlength=last + 1).tolist()
        highest += counts
        told = f"Betti error %{{x}} {name}, cases: %{{y}}<extra></extra>"
        traces.append(_bar(names, counts, name=name, marker={"color": colour}, hovertemplate=told))
    layout = {
        "xaxis": _axis("Betti error of a case") | {"type": "category"},
        "yaxis": _cases(highest),
        "barmode": "group",
        "showlegend": True,
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"},
    }
    sums = f"{sum(before)} before, {sum(after)} after" if before else "no case"
    text = f"Betti errors of all cases together: {sums}."
    return Distribution("Betti error before and after", text, _figure(traces, layout))


def _bar(x: Sequence[Any], y: Sequence[Any], **settings: Any) -> Any:
    from plotly import graph_objects

    return graph_objects.Bar(x=x, y=y, **{"marker": {"color": AFTER}, **settings})


def _figure(traces: Sequence[Any], layout: dict[str, Any]) -> dict[str, Any]:
    """What Plotly has checked, as plain values."""
    from plotly import graph_objects

    shared = {"margin": {"l": 48, "r": 12, "t": 24, "b": 48}, "height": 260, "bargap": 0.08, "template": {}}
    figure = graph_objects.Figure([trace for trace in traces if trace is not None], shared | layout)
    plain: dict[str, Any] = json.loads(figure.to_json())
    return plain


def _axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title, "standoff": 8}, "automargin": True}


def _cases(counts: Sequence[int]) -> dict[str, Any]:
    """The axis of counts: whole numbers from 0 on, none of them twice."""
    ticks = {"dtick": 1} if max(counts, default=0) <= 5 else {}
    return _axis("cases") | {"rangemode": "tozero", "tickformat": ",d", "minallowed": 0, **ticks}


def _edges(values: Sequence[float], highest: float | None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Edges of bins that hold all values; multiples of 1, 2 or 5 times a power of ten."""
    low, high = min(values), max(values) if highest is None else highest
    if low == high:  # an axis needs some length
        low, high = (0.95 * high, high) if highest is not None else (low, low + (0.05 * abs(low) or 1.0))
    width = (high - low) / BINS
    power = 10.0 ** np.floor(np.log10(width))
    step = next(float(power * factor) for factor in (1, 2, 5, 10) if power * factor >= width * (1 - 1e-9))
    first, last = np.floor(low / step + 1e-6), np.ceil(high / step - 1e-6)
    edges: np.ndarray[Any, np.dtype[np.float64]] = np.arange(first, last + 1) * step
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)  # whatever rounding did
    return edges


def _class(error: int) -> int:
    """Index into `BETTI_ERRORS`."""
    return min(error if error < 3 else int(error - 1).bit_length() + 1, len(BETTI_ERRORS) - 1)
