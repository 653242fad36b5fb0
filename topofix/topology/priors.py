"""What is known about the anatomy: how many components, holes and voids each region has.

A `Prior` is a value without arrays: it is typed by people, carried in records and read by everything else.
Its text form is one constraint per region, `REGION:NUMBERS`, separated by spaces or semicolons:

    1,0,0            the foreground, that is every label together: one component, no tunnel, no void
    2:1,1            label 2 is one ring
    2+3:1,0          labels 2 and 3 together are one piece without a hole
    myocardium:1,1   a label by its name, in any case
    1-3  1-  *       in place of a number: from 1 to 3, at least 1, any
    2:absent         label 2 does not occur; the same as 2:0,0

Two numbers are 2-D topology (components, holes), three are 3-D topology (components, tunnels, voids).
Impossible wishes are refused here, with a sentence that says why, before any image is read.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from topofix.errors import InvalidPrior
from topofix.topology.claims import Claim, refuse_contradictions
from topofix.topology.ranges import Range

__all__ = ["FOREGROUND", "Constraint", "Prior", "Range", "check_texts"]

FOREGROUND: tuple[int, ...] = ()
"""The region that holds every label."""

_FEATURES = {2: ("components", "holes"), 3: ("components", "tunnels", "voids")}


@dataclass(frozen=True, slots=True)
class Constraint:
    """The Betti numbers that one region shall have.

    Attributes:
        region: labels whose union is meant, kept sorted and unique; `FOREGROUND` is every label.
        betti: one range per dimension.
        weights: how much an error in each dimension matters to a loss; 1 each unless given. They are no part
            of the text form.
    """

    region: tuple[int, ...]
    betti: tuple[Range, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "region", tuple(sorted(set(self.region))))
        object.__setattr__(self, "weights", tuple(self.weights) or (1.0,) * len(self.betti))
        if self.region and self.region[0] < 1:
            raise InvalidPrior(f"prior {self}: expected labels from 1 on, got {self.region[0]}")
        if len(self.betti) not in _FEATURES:
            raise InvalidPrior(
                f"prior {self}: expected two numbers for 2-D topology or three for 3-D, got {len(self.betti)}"
            )
        if len(self.weights) != len(self.betti):
            raise InvalidPrior(f"prior {self}: expected {len(self.betti)} weights, got {len(self.weights)}")
        for weight in self.weights:
            if not (weight >= 0 and math.isfinite(weight)):
                raise InvalidPrior(
                    f"prior {self}: expected finite weights that are not negative, got {weight}"
                )
        for feature, wish in zip(_FEATURES[len(self.betti)][1:], self.betti[1:], strict=True):
            if self.betti[0].high == 0 and wish.low > 0:
                raise InvalidPrior(f"prior {self}: expected no {feature} in an absent structure, got {wish}")

    def __str__(self) -> str:
        """The form that people type, with labels as numbers.

        >>> str(Constraint((3, 2), (Range(1, 1), Range(0, None))))
        '2+3:1,*'
        """
        numbers = ",".join(map(str, self.betti))
        return f"{self.name()}:{numbers}" if self.region else numbers

    def name(self, names: Mapping[int, str] | None = None) -> str:
        """What to call the region: the names of its labels where they are known.

        >>> ring = (Range(1, 1), Range(1, 1))
        >>> Constraint(FOREGROUND, ring).name(), Constraint((2, 3), ring).name({2: "myocardium"})
        ('foreground', 'myocardium+3')
        """
        return "+".join((names or {}).get(label, str(label)) for label in self.region) or "foreground"

    def error(self, counts: Sequence[int]) -> int:
        """How far Betti numbers are from the wish: the distances to the ranges, added up.

        >>> Constraint((2,), (Range(1, 1), Range(1, 1))).error((3, 0))
        3
        """
        return sum(wish.error(count) for wish, count in zip(self.betti, counts, strict=True))

    def _claim(self) -> Claim:
        return Claim(str(self), self.name(), frozenset(self.region), self.betti, self.weights)


@dataclass(frozen=True, slots=True)
class Prior:
    """Everything that is known about the topology of one segmentation; hashable, and never contradictory.

    Attributes:
        constraints: one per region, in the order in which they were given.
    """

    constraints: tuple[Constraint, ...]

    def __post_init__(self) -> None:
        # The same wish typed twice is harmless; a second, different one for the same region is not.
        object.__setattr__(self, "constraints", tuple(dict.fromkeys(self.constraints)))
        if not self.constraints:
            raise InvalidPrior("prior: expected at least one constraint such as 1,0 or 2:1,1, got none")
        refuse_contradictions([constraint._claim() for constraint in self.constraints])

    @classmethod
    def parse(
        cls,
        texts: str | Sequence[str],
        labels: Mapping[str, int] | None = None,
        dimensions: int | None = None,
        weights: Sequence[Sequence[float]] | None = None,
    ) -> "Prior":
        """Read a prior as people type it.

        Args:
            texts: constraints, several to a text if separated by spaces or semicolons.
            labels: the label of every name; when given, labels that are not in it are refused.
            dimensions: how many numbers `absent` stands for, when no other constraint shows it.
            weights: those of each text, which then holds one constraint: none, one for every dimension, or
                one per dimension.

        Raises:
            InvalidPrior: with one sentence that names the text, what was expected and what came.

        >>> heart = {"left ventricle": 3, "wall": 2, "scar": 4}
        >>> str(Prior.parse("Left Ventricle:1,0 2+3:1-,*; 4:absent", heart))
        '3:1,0 2+3:1-,* 4:0,0'
        >>> Prior.parse(["wall:1,1"], heart, weights=[[2]]).constraints[0].weights
        (2.0, 2.0)
        """
        known = None if labels is None else {name: label for name, label in labels.items() if label != 0}
        pieces = _pieces([texts] if isinstance(texts, str) else texts, whole=weights is not None)
        read = [(piece, *_read_constraint(piece, known)) for piece in pieces]
        rank = next((len(numbers) for _, _, numbers in read if numbers), dimensions)
        constraints = []
        for (piece, region, numbers), given in zip(read, weights or [()] * len(read), strict=True):
            if not numbers:
                if rank is None:
                    raise InvalidPrior(
                        f"prior {piece!r}: expected numbers such as 0,0 or 0,0,0, got 'absent' without them"
                    )
                numbers = (Range(0, 0),) * rank
            each = tuple(map(float, given))
            constraints.append(Constraint(region, numbers, each * len(numbers) if len(each) == 1 else each))
        prior = cls(tuple(constraints))
        if known:
            claims = [constraint._claim() for constraint in prior.constraints]
            refuse_contradictions(claims, frozenset(known.values()))
        return prior

    def __str__(self) -> str:
        """The text form: `Prior.parse(str(prior))` has the same constraints, with weights of 1.

        >>> str(Prior.parse(["2:1,1", "2+3:1-1,0-"]))
        '2:1,1 2+3:1,*'
        """
        return " ".join(map(str, self.constraints))

    @property
    def dimensions(self) -> int:
        """How many numbers each constraint has: 2 for 2-D topology, 3 for 3-D topology.

        >>> Prior.parse("1,0,0").dimensions
        3
        """
        return len(self.constraints[0].betti)

    def check_rank(self, rank: int, name: str) -> None:
        """Refuse an image with fewer dimensions than the prior; two numbers on a volume mean slice by slice.

        Args:
            rank: the image's number of dimensions.
            name: what to call the image in the message.

        Raises:
            InvalidPrior: the prior has more numbers than the image has dimensions.

        >>> Prior.parse("1,0").check_rank(3, "heart.nii.gz")
        """
        if self.dimensions > rank:
            raise InvalidPrior(
                f"{name}: expected a prior of {rank} numbers for an image of rank {rank}, "
                f"got {self.dimensions} in {self}"
            )


def check_texts(texts: Sequence[str], *, whole: bool = False) -> None:
    """Refuse what can be no prior whatever labels there are, before an image or a model is looked at.

    Names count as labels of their own, so that a union of names is held against its parts already here.

    Args:
        texts: constraints as people type them.
        whole: whether each text is one constraint, whose label's name may then hold any sign.

    Raises:
        InvalidPrior: with one sentence that names the text, what was expected and what came.

    >>> check_texts(["any name:1,0", "2:absent"])
    >>> check_texts(["wall:1,1 cavity:1,0 wall+cavity:3,0"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    topofix.errors.InvalidPrior: prior wall+cavity:3,0: expected at most 2 components, which is what ... got 3
    """
    read = [(text, _read_numbers(text, text.rpartition(":")[2])) for text in _pieces(texts, whole=whole)]
    rank = next((len(numbers) for _, numbers in read if numbers), 2)
    claims = []
    for text, numbers in read:
        region, colon, _ = text.rpartition(":")
        betti = Constraint(FOREGROUND, numbers or (Range(0, 0),) * rank).betti
        parts = _spelled(text, region) if colon else frozenset()
        claims.append(Claim(text, region or "foreground", parts, betti))
    refuse_contradictions(claims)


def _spelled(text: str, region: str) -> frozenset[str | int]:
    """The labels of a region as far as they are known without a list of names; none for the foreground."""
    if _folded(region) == "foreground":
        return frozenset()
    parts = [_folded(part) for part in region.split("+")]
    if "" in parts:  # a name that begins or ends with a plus sign, or nothing at all
        parts = [_folded(region)]
    numbers = {part: int(part) for part in parts if re.fullmatch(r"\d{1,9}", part, re.ASCII)}
    if 0 in numbers.values():
        raise InvalidPrior(f"prior {text!r}: expected labels from 1 on, got 0, which is the background")
    return frozenset(numbers.get(part, part) for part in parts)


def _pieces(texts: Sequence[str], *, whole: bool) -> list[str]:
    """One text per constraint."""
    if whole:
        return [re.sub(r"\s*([,:+])\s*", r"\1", text).strip() for text in texts]
    return [piece for text in texts for piece in _split(text)]


def _split(text: str) -> Iterator[str]:
    """The constraints in a text, whose label names may hold spaces of their own."""
    if not text.strip():
        raise InvalidPrior("prior: expected constraints such as 1,0 or 2:1,1, got an empty text")
    for part in re.sub(r"\s*([,:+])\s*", r"\1", text).split(";"):
        words: list[str] = []
        for word in part.split():
            words.append(word)
            bare = len(words) == 1 and (word.lower() == "absent" or re.fullmatch(r"[\d*-]*,[\d*,-]*", word))
            if ":" in word or bare:
                yield " ".join(words)
                words = []
        if words:
            yield " ".join(words)


def _read_constraint(
    text: str, labels: Mapping[str, int] | None
) -> tuple[tuple[int, ...], tuple[Range, ...]]:
    """Region and numbers of one constraint."""
    region, colon, numbers = text.rpartition(":")
    named = _read_region(text, region, labels) if colon else FOREGROUND
    return named, _read_numbers(text, numbers)


def _read_numbers(text: str, numbers: str) -> tuple[Range, ...]:
    """The numbers of a constraint; none when it says `absent`."""
    if numbers.lower() == "absent":
        return ()
    ranges = tuple(_read_range(text, number) for number in numbers.split(","))
    if len(ranges) not in _FEATURES:
        raise InvalidPrior(
            f"prior {text!r}: expected two numbers for 2-D topology or three for 3-D, got {len(ranges)}"
        )
    return ranges


def _read_range(text: str, number: str) -> Range:
    if number == "*":
        return Range(0, None)
    match = re.fullmatch(r"(\d{1,9})(?:(-)(\d{0,9}))?", number, re.ASCII)
    if not match:
        raise InvalidPrior(f"prior {text!r}: expected a count such as 1, 1-3, 1- or *, got {number!r}")
    low, dash, high = match.groups()
    if dash and high and int(high) < int(low):
        raise InvalidPrior(f"prior {text!r}: expected a range from small to large, got {number!r}")
    return Range(int(low), int(high or low) if high or not dash else None)


def _read_region(text: str, region: str, labels: Mapping[str, int] | None) -> tuple[int, ...]:
    by_name: dict[str, int] = {}
    for name, label in (labels or {}).items():
        if by_name.setdefault(_folded(name), label) != label:
            raise InvalidPrior(f"prior {text!r}: expected one label for each name, got two for {name!r}")
    if _folded(region) == "foreground" and "foreground" not in by_name:
        return FOREGROUND
    # A name may hold a plus sign itself, so the whole region is looked up first.
    parts = [region] if _folded(region) in by_name else region.split("+")
    return tuple(_read_label(text, part, by_name, labels) for part in parts)


def _read_label(text: str, part: str, by_name: Mapping[str, int], labels: Mapping[str, int] | None) -> int:
    if re.fullmatch(
        r"\d{1,9}", part, re.ASCII
    ):  # digits are a number even where a label has them for its name
        if int(part) == 0:
            raise InvalidPrior(f"prior {text!r}: expected labels from 1 on, got 0, which is the background")
        if labels is None or int(part) in labels.values():
            return int(part)
    elif _folded(part) in by_name:
        return by_name[_folded(part)]
    if labels is None:
        raise InvalidPrior(
            f"prior {text!r}: expected a label number, as no label names are known, got {part!r}"
        )
    known = ", ".join(f"{name} ({label})" for name, label in labels.items())
    raise InvalidPrior(f"prior {text!r}: expected one of the labels {known}, got {part!r}")


def _folded(name: str) -> str:
    """A name as it is compared: in any case, with any spaces."""
    return " ".join(re.sub(r"\s*([,:+])\s*", r"\1", name).split()).casefold()
