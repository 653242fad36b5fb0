"""Wishes that cannot all come true, found without an image and even without knowing which labels there are.

What is compared are claims: a region as a set of labels, whether by number or by name, and its Betti numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from topofix.errors import InvalidPrior
from topofix.topology.ranges import Range

Labels = frozenset[str | int]

MOST_LEFTOVERS = 4096
"""Unions of a dozen labels are proven to contradict their parts; of more, as far as this goes."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The Betti numbers that somebody wants a region to have.

    Attributes:
        text: the claim as messages quote it.
        name: the region as messages quote it.
        region: labels by number or name; empty for the foreground, that is every label.
        betti: one range per dimension.
        weights: one per dimension, or none.
    """

    text: str
    name: str
    region: Labels
    betti: tuple[Range, ...]
    weights: tuple[float, ...] = ()


def refuse_contradictions(claims: Sequence[Claim], every_label: Labels = frozenset()) -> None:
    """Refuse claims of different dimensions, two that disagree, and a union that contradicts its parts.

    Args:
        claims: those of one prior.
        every_label: what the foreground consists of; empty where that is not known.

    Raises:
        InvalidPrior: with one sentence that names the claim, what was expected and what came.

    >>> one, three = (Range(1, 1), Range(0, 0)), (Range(3, 3), Range(0, 0))
    >>> part, union = Claim("a:1,0", "a", frozenset("a"), one), Claim("3,0", "foreground", frozenset(), three)
    >>> refuse_contradictions([part, union])
    """
    seen: dict[Labels, Claim] = {}
    for claim in claims:
        first, other = claims[0], seen.setdefault(claim.region, claim)
        if len(claim.betti) != len(first.betti):
            raise InvalidPrior(
                f"prior {claim.text}: expected {len(first.betti)} numbers as in {first.text}, "
                f"got {len(claim.betti)}"
            )
        if (other.betti, other.weights) != (claim.betti, claim.weights):
            what = "numbers" if other.betti != claim.betti else "weights"
            raise InvalidPrior(
                f"prior {claim.text}: expected one constraint for {claim.name}, "
                f"got other {what} in {other.text}"
            )
    _check_unions(claims, every_label)


def _check_unions(claims: Sequence[Claim], every_label: Labels) -> None:
    """Refuse a union that contradicts its parts, as far as components alone can prove it.

    Every component of a union holds a component of a part, so there are at most as many as the parts have
    together; and where a part is, the union is.
    """
    for union in claims:
        labels = union.region or every_label
        parts = [
            part
            for part in claims
            if part.region and part.region != union.region and (not union.region or part.region < labels)
        ]
        for part in parts:
            if union.betti[0].high == 0 and part.betti[0].low > 0:
                raise InvalidPrior(
                    f"prior {union.text}: expected room for its part {part.text}, got an absent union"
                )
        most = _most_components(labels, parts) if labels else None
        if most is not None and union.betti[0].low > most:
            raise InvalidPrior(
                f"prior {union.text}: expected at most {most} components, "
                f"which is what its parts have together, got {union.betti[0]}"
            )


def _most_components(labels: Labels, parts: Sequence[Claim]) -> int | None:
    """The fewest components that disjoint parts allow the labels to have; None where they do not say.

    Each set of labels that is left over is looked at once. That can still be many, and then nothing is said.
    """
    known: dict[Labels, int | None] = {frozenset(): 0}

    def most(left: Labels) -> int | None:
        if left in known or len(known) > MOST_LEFTOVERS:
            return known.get(left)
        bounds = []
        for part in parts:
            region, high = part.region, part.betti[0].high
            if min(left, key=str) in region and region <= left and high is not None:
                rest = most(left - region)
                if rest is not None:
                    bounds.append(high + rest)
        known[left] = min(bounds, default=None)
        return known[left]

    return most(labels)
