"""Betti numbers of a case against those asked for, as a table of many cases says it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from topofix.records import Record, Topology
from topofix.reporting.lines import betti_text
from topofix.reporting.names import visible
from topofix.topology.priors import Prior

MOST_LINES = 8
"""Betti numbers named in a row; the page of the case has them all."""


@dataclass(frozen=True, slots=True)
class BettiLine:
    """Betti numbers of a region.

    Attributes:
        text: A line for people.
        right: Whether they are, after the correction, what was asked for; None where nothing was.
    """

    text: str
    right: bool | None


def betti_error(record: Record, *, after: bool) -> int:
    """How far the Betti numbers are from those asked for, all regions, slices and frames together.

    Example:
        >>> from topofix.records import Outcome
        >>> part = Topology("wall", 3, "1,1", (3, 0), (1, 1), False, True)
        >>> record = Record("refine", "a.nii", Outcome.SATISFIED, "", topology=(part,))
        >>> betti_error(record, after=False), betti_error(record, after=True)
        (3, 0)
    """
    return sum(
        _prior(part.requested).constraints[0].error(part.after if after else part.before)
        for part in record.topology
        if part.requested is not None
    )


def betti_lines(topology: Sequence[Topology]) -> list[BettiLine]:
    """Betti numbers before and after against those asked for; of many slices, how many are right.

    Example:
        >>> wall = [Topology("wall", k, "1,1", (1, min(k, 1)), (1, 1), k > 0, True) for k in range(10)]
        >>> betti_lines(wall)[0].text
        'wall 1,1 in 9 of 10 slices → 10 of 10'
    """
    groups: dict[tuple[str, str | None], list[Topology]] = {}
    for part in topology:
        groups.setdefault((part.region, part.requested), []).append(part)
    lines = [_line(*key, parts) for key, parts in groups.items()]
    if len(lines) > MOST_LINES:
        rest = lines[MOST_LINES - 1 :]
        rights = [line.right for line in rest if line.right is not None]
        lines[MOST_LINES - 1 :] = [BettiLine(f"and {len(rest)} more", all(rights) if rights else None)]
    return lines


def _line(region: str, requested: str | None, parts: Sequence[Topology]) -> BettiLine:
    right = None if requested is None else all(part.met for part in parts)
    if len(parts) == 1:
        (part,) = parts
        numbers = betti_text(part.before)
        if part.before != part.after:
            numbers += f" → {betti_text(part.after)}"
        places = (("frame", part.frame), ("slice", part.slice))
        place = "".join(f", {name} {index}" for name, index in places if index is not None)
        wish = "" if requested is None else f", asked {requested}"
        return BettiLine(visible(f"{region} {numbers}{place}{wish}"), right)
    kind = "frames" if all(part.slice is None for part in parts) else "slices"
    if requested is None:
        return BettiLine(visible(f"{region} in {len(parts)} {kind}"), None)
    before, after = (sum(bool(getattr(part, met)) for part in parts) for met in ("met_before", "met"))
    counts = f"in {before} of {len(parts)} {kind} → {after} of {len(parts)}"
    return BettiLine(visible(f"{region} {requested} {counts}"), right)


@cache
def _prior(text: str) -> Prior:
    return Prior.parse(text)
