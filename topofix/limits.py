"""How large an image may be, and how much of it a correction may change: `500`, `500mm3` or `5%`."""

import math
import re
import sys
from dataclasses import dataclass
from typing import Literal

from topofix.errors import InvalidOption

MOST_VOXELS = 2**28
"""Of an image, all channels and frames together, unless more are allowed: 512 x 512 x 1,024."""

_FORM = re.compile(r"([0-9.]+(?:e[+-]?[0-9]+)?)\s*(%|mm3|mm³|mm2|mm²)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class MaxChange:
    """A limit to the voxels whose label may change.

    Attributes:
        amount: How much.
        unit: `mm3` (in a 2-D image mm²), or `%` of the foreground that the image comes with.
    """

    amount: float
    unit: Literal["mm3", "%"] = "mm3"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.amount) and self.amount >= 0):
            raise InvalidOption(f"--max-change: expected a finite amount from 0 on, got {self.amount:g}")

    @classmethod
    def parse(cls, text: str) -> "MaxChange":
        """Reads what people write.

        Raises:
            InvalidOption: With one sentence that says what was expected and what came.

        Example:
            >>> MaxChange.parse("500"), MaxChange.parse("5 %")
            (MaxChange(amount=500.0, unit='mm3'), MaxChange(amount=5.0, unit='%'))
        """
        match = _FORM.fullmatch(text.strip())
        try:
            amount = float(match[1]) if match else math.nan
        except ValueError:  # 1.2.3
            amount = math.nan
        if match is None or not math.isfinite(amount):
            raise InvalidOption(f"--max-change: expected an amount such as 500mm3 or 5%, got '{text}'")
        return cls(amount, "%" if match[2] == "%" else "mm3")

    def voxels(self, foreground: int, voxel_volume: float) -> int:
        """The most voxels that may change.

        Args:
            foreground: Voxels of the foreground that the image comes with.
            voxel_volume: mm³ per voxel.

        Example:
            >>> MaxChange(5, "%").voxels(210, 0.5), MaxChange(5).voxels(210, 0.5)
            (10, 10)
        """
        most = self.amount * foreground / 100 if self.unit == "%" else self.amount / voxel_volume
        most = min(most, sys.float_info.max / 2)
        return math.floor(most * (1 + 1e-9))  # 0.3 mm³ are three voxels of 0.1 mm³

    def __str__(self) -> str:
        """The form that people type.

        Example:
            >>> str(MaxChange(5, "%")), str(MaxChange(500))
            ('5%', '500mm3')
        """
        return f"{self.amount:g}{self.unit}"
