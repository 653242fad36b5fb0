"""How often a feature may occur: an exact number, from one number to another, or at least so often."""

from dataclasses import dataclass

from topofix.errors import InvalidPrior


@dataclass(frozen=True, slots=True)
class Range:
    """How often a feature may occur.

    Attributes:
        low: the smallest count allowed.
        high: the largest count allowed, or None for no limit.

    >>> 2 in Range(1, 3), 4 in Range(1, 3), 4 in Range(1, None)
    (True, False, True)
    """

    low: int
    high: int | None

    def __post_init__(self) -> None:
        if self.low < 0 or (self.high is not None and self.high < self.low):
            raise InvalidPrior(f"range: expected 0 <= low <= high, got {self.low} and {self.high}")

    def __contains__(self, count: int) -> bool:
        return self.error(count) == 0

    def __str__(self) -> str:
        """The form that people type.

        >>> [str(wish) for wish in (Range(1, 1), Range(1, 3), Range(1, None), Range(0, None))]
        ['1', '1-3', '1-', '*']
        """
        if self.high is None:
            return f"{self.low}-" if self.low else "*"
        return str(self.low) if self.low == self.high else f"{self.low}-{self.high}"

    def error(self, count: int) -> int:
        """How many features there are too many or too few.

        >>> Range(1, 3).error(5), Range(1, 3).error(0), Range(1, None).error(7)
        (2, 1, 0)
        """
        surplus = 0 if self.high is None else count - self.high
        return max(self.low - count, surplus, 0)
