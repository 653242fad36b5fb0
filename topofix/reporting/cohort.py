"""The page of a cohort: totals, distributions, and a table of all cases that links to their pages.

It is one file that asks for nothing beyond itself: Plotly, the pictures and the styles lie in it, and its
Content-Security-Policy forbids every request and every program but those it came with. What comes from files,
such as names, regions and messages, is text wherever it stands.
"""

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from topofix import __version__
from topofix.outcomes import UNMET, Outcome
from topofix.records import Record
from topofix.reporting import palette
from topofix.reporting.betti_lines import betti_error, betti_lines
from topofix.reporting.distributions import Distribution, error_bars, histogram, outcome_bars
from topofix.reporting.inline import embedded_json, plotly_script, policy, render, script, styles
from topofix.reporting.names import address, file_name, message


@dataclass(frozen=True, slots=True)
class CohortRow:
    """One case.

    Attributes:
        record: What was asked, found and changed.
        thumbnail: A PNG, from `topofix.reporting.thumbnails`; None without one.
        link: The file of the case's page, relative to the folder of the cohort's, as the system spells it;
            None without one.
    """

    record: Record
    thumbnail: bytes | None = None
    link: str | None = None


def cohort_page(rows: Sequence[CohortRow]) -> str:
    """The page as HTML, to be written as UTF-8 into the folder that the rows' links start from.

    500 cases with thumbnails of 6 kilobytes make a page of 10 megabytes, 5 of which are Plotly.

    Args:
        rows: One per case, in the order in which they are to stand.

    Raises:
        InvalidOption: Plotly is not installed.
    """
    programs = (script("cohort.js"), plotly_script())
    ran = [row.record for row in rows if row.record.outcome is not Outcome.FAILED]
    units = sorted({_unit(record) for record in ran}) or ["mm³"]
    outcomes = Counter(row.record.outcome for row in rows)
    counts = [(_name(outcome), outcomes[outcome]) for outcome in Outcome if outcome in outcomes]
    distributions = _distributions(ran, counts, units)
    thumbnails = [row.thumbnail and base64.b64encode(row.thumbnail).decode() for row in rows]
    figures = [distribution.figure for distribution in distributions]
    return render(
        "cohort.html.j2",
        policy=policy(*programs),
        style=styles("base.css", "cohort.css"),
        program=programs[0],
        plotly=programs[1],
        data=embedded_json({"figures": figures, "thumbnails": thumbnails}),
        totals=_totals(ran, len(rows), units),
        distributions=distributions,
        outcomes=counts,
        rows=_cells(rows),
        count=len(rows),
        units=units,
        colours=[
            (palette.REMOVED, "removed"),
            (palette.ADDED, "added"),
            (palette.RELABELLED, "another label"),
        ],
        version=__version__,
    )


def _distributions(
    ran: Sequence[Record], outcomes: Sequence[tuple[str, int]], units: Sequence[str]
) -> list[Distribution]:
    """The figures of the cases that did not fail; failed ones count among the outcomes."""
    asked = [record for record in ran if _asked(record)]
    return [
        outcome_bars(outcomes),
        histogram("Dice to the input", "", [record.dice_to_input for record in ran], 1.0),
        *(histogram("Changed", unit, _changed(ran, unit)) for unit in units),
        error_bars(*([betti_error(record, after=after) for record in asked] for after in (False, True))),
    ]


def _totals(ran: Sequence[Record], count: int, units: Sequence[str]) -> list[tuple[str, str, str]]:
    """What stands in the boxes above: a name, a number with its unit, and what it refers to."""
    asked = [record for record in ran if _asked(record)]
    of = f"of {len(asked):,} with a prior"
    right = [sum(betti_error(record, after=after) == 0 for record in asked) for after in (False, True)]
    before, after = (f"{n:,} ({100 * n / len(asked):.0f} %)" if asked else "none" for n in right)
    amounts = (f"{sum(_changed(ran, unit)):,.6g} {unit}" for unit in units)
    seconds = [record.seconds for record in ran]
    dice = f"{median(record.dice_to_input for record in ran):.4f}" if ran else "none"
    failed = count - len(ran)
    return [
        ("Cases", f"{count:,}", f"{failed:,} failed" if failed else "none failed"),
        ("Right before", before, of),
        ("Right after", after, of),
        ("Dice to the input", dice, "median"),
        ("Changed", " and ".join(amounts), "all cases together"),
        ("Time", f"{sum(seconds):,.1f} s", f"median {median(seconds):.1f} s a case" if ran else ""),
    ]


def _cells(rows: Sequence[CohortRow]) -> Iterator[dict[str, Any]]:
    """What the template puts into the table's rows, with a number to sort each column by."""
    names = [file_name(row.record) for row in rows]
    messages = [message(row.record) for row in rows]
    errors = [[betti_error(row.record, after=after) for after in (True, False)] for row in rows]
    name_ranks, message_ranks = _ranks(names, _natural), _ranks(messages, str.casefold)
    error_ranks = _ranks(errors, tuple)
    order = list(Outcome)
    for index, row in enumerate(rows):
        record = row.record
        failed, unit = record.outcome is Outcome.FAILED, _unit(record)
        changed, added, removed = (
            getattr(record, f"voxels_{kind}") * record.voxel_volume
            for kind in ("changed", "added", "removed")
        )
        changes = f"{changed:.5g} {unit} changed, {added:.5g} {unit} added, {removed:.5g} {unit} removed"
        yield {
            "name": names[index],
            "name_rank": name_ranks[index],
            "address": None if row.link is None else address(row.link),
            "pictured": row.thumbnail is not None,
            "picture": f"{names[index]}, the slice where most changed; in all {changes}",
            "lines": betti_lines(record.topology),
            "error_rank": error_ranks[index] if _asked(record) else None,
            "outcome": _name(record.outcome),
            "outcome_rank": order.index(record.outcome),
            "mood": "bad" if record.outcome in _BAD else "good",
            "message": messages[index],
            "message_rank": message_ranks[index],
            "dice": None if failed else record.dice_to_input,
            "changed": None if failed else changed,
            "added": None if failed else added,
            "removed": None if failed else removed,
            "unit": unit,
            "seconds": None if failed else record.seconds,
        }


_BAD = (*UNMET, Outcome.NOT_MET, Outcome.FAILED)


def _name(outcome: Outcome) -> str:
    return outcome.name.lower().replace("_", " ")


def _asked(record: Record) -> bool:
    return any(part.requested is not None for part in record.topology)


def _unit(record: Record) -> str:
    planar = record.topology and all(p.slice is None and len(p.after) == 2 for p in record.topology)
    return "mm²" if planar else "mm³"


def _changed(records: Sequence[Record], unit: str) -> list[float]:
    """How much each case changed, of those that are measured in a unit."""
    return [record.voxels_changed * record.voxel_volume for record in records if _unit(record) == unit]


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """As people sort: case 2 before case 10."""
    parts = re.findall(r"\d+|\D+", name.casefold())
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def _ranks(values: Sequence[Any], key: Callable[[Any], Any]) -> list[int]:
    """The place of each among the different ones."""
    keys = [key(value) for value in values]
    places = {value: place for place, value in enumerate(sorted(set(keys)))}
    return [places[value] for value in keys]
