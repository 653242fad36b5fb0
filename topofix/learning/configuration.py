"""What a network is, in numbers and names: the configuration that stands in a checkpoint's header.

It may come from anywhere, so it is held against bounds that no sensible network reaches, before one is built.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shown  # a stranger's names and numbers can be of any length
from typing import Any

from topofix.errors import InvalidCheckpoint

MOST_LABELS = 1024
MOST_LEVELS = 10
"""Of a U-net."""
MOST_FEATURES = 4096
"""Feature maps on a level."""
MOST_PATCH = 2**24
"""Voxels."""

_LONGEST_LABEL = 128  # characters
_SPACINGS = (1e-6, 1e6)  # mm
_KINDS: dict[str, tuple[type, ...]] = {
    "dimensions": (int,),
    "labels": (str,),
    "spacing": (int, float),
    "patch_size": (int,),
    "channels": (int,),
}


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Everything needed to rebuild a network and to bring an image onto its grid.

    Attributes:
        dimensions: 2 or 3, the rank of what the network sees.
        labels: Names of the label values 1, 2, ... in order; value 0 is the background.
        spacing: Voxel size in mm that images are resampled to, one per dimension; empty only for a network of
            somebody else's, where it is the image's own.
        patch_size: Voxels of a training patch, one per dimension.
        channels: Feature maps on each level of the U-net; every further level halves the resolution. Empty
            for a network of somebody else's.
    """

    dimensions: int
    labels: tuple[str, ...]
    spacing: tuple[float, ...]
    patch_size: tuple[int, ...]
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.dimensions not in (2, 3):
            raise InvalidCheckpoint(f"expected a network of 2 or 3 dimensions, got {self.dimensions}")
        ranks = {
            len(self.patch_size),
            len(self.spacing) if self.spacing or self.channels else self.dimensions,
        }
        if ranks != {self.dimensions}:
            raise InvalidCheckpoint(
                f"expected {self.dimensions} numbers for spacing and patch size, "
                f"got {shown(self.spacing)} and {shown(self.patch_size)}"
            )
        if not self.labels or len(self.channels) in (1, 2):
            raise InvalidCheckpoint("expected at least one label name and three levels of channels")
        folded = {label.strip().casefold() for label in self.labels}
        if len(folded) < len(self.labels) or "" in folded:
            raise InvalidCheckpoint(f"expected a name of its own for every label, got {shown(self.labels)}")
        if min(self.spacing, default=1) <= 0 or min(*self.patch_size, *self.channels) < 1:
            sizes = ", ".join(map(shown, (self.spacing, self.patch_size, self.channels)))
            raise InvalidCheckpoint(f"expected positive sizes in a network's configuration, got {sizes}")
        if not all(label.isprintable() and len(label) <= _LONGEST_LABEL for label in self.labels):
            raise InvalidCheckpoint(
                f"expected labels of up to {_LONGEST_LABEL} printable characters, got {shown(self.labels)}"
            )
        self._check_bounds()

    def _check_bounds(self) -> None:
        """Refuses a network that no machine could hold, or no image would fit."""
        for found, most, what in (
            (len(self.labels), MOST_LABELS, "labels"),
            (len(self.channels), MOST_LEVELS, "levels of channels"),
            (max(self.channels, default=0), MOST_FEATURES, "channels on a level"),
            (math.prod(self.patch_size), MOST_PATCH, "voxels in a patch"),
        ):
            if found > most:
                raise InvalidCheckpoint(f"expected at most {most} {what}, got {found}")
        if not all(_SPACINGS[0] <= step <= _SPACINGS[1] for step in self.spacing):
            raise InvalidCheckpoint(f"expected a spacing from 1e-6 to 1e6 mm, got {self.spacing}")

    @property
    def divisor(self) -> int:
        """Every side of what the network sees is a multiple of this."""
        return int(2 ** max(0, len(self.channels) - 1))

    @property
    def label_values(self) -> dict[str, int]:
        """Label value by name, as `Prior.parse` takes it."""
        return {name: value for value, name in enumerate(self.labels, start=1)}


def parse_config(stored: Mapping[str, Any]) -> NetworkConfig:
    """The configuration that JSON holds.

    Raises:
        InvalidCheckpoint: It asks for a network that there cannot be.
        ValueError: A value is of another type than it should be.
        KeyError, TypeError, AttributeError: A name is missing or unknown, or there are none.

    Example:
        >>> sizes = {"spacing": [1, 1], "patch_size": [8, 8], "channels": [4, 4, 4]}
        >>> parse_config({"dimensions": 2, "labels": ["disc"], **sizes}).labels
        ('disc',)
    """
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in stored.items()
    }
    for key, kinds in _KINDS.items():
        value = values[key]
        items = (value,) if key == "dimensions" else value
        if not isinstance(items, tuple) or any(type(item) not in kinds for item in items):
            raise ValueError(f"{key} of {shown(stored[key])}")
    return NetworkConfig(**values)
