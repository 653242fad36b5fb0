"""The prior TOML: constraints that hold for every case, with weights.

    [[constraint]]
    region = "myocardium"    # a label's name or number, "2+3" or [2, 3] for a union; left out: the foreground
    betti = "1,1"            # or [1, 1], whose items may be texts such as "1-3"; or "absent"
    weight = 2.0             # optional: how much the constraint matters to the loss
    weights = [1.0, 0.5]     # optional: per dimension, multiplied with weight

What a region and its Betti numbers mean stays text here: `topofix.topology.priors` reads it.
"""

import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topofix.errors import UnreadableFile
from topofix.imaging.bounds import read_text, shown

MOST_BYTES = 2**18
"""Thousands of constraints; a longer file can take hours to understand."""

_KEYS = ("region", "betti", "weight", "weights")


@dataclass(frozen=True, slots=True)
class StatedConstraint:
    """One constraint of a prior TOML.

    Attributes:
        number: its place in the file, from 1.
        text: as people type it on the command line, such as `myocardium:1,1`.
        weights: none, one for every dimension, or one per dimension.
    """

    number: int
    text: str
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class PriorFile:
    """The constraints of a prior TOML, for every case.

    Attributes:
        path: the file they came from.
        constraints: in the file's order.
    """

    path: Path
    constraints: tuple[StatedConstraint, ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """One text per constraint."""
        return tuple(constraint.text for constraint in self.constraints)

    @property
    def weights(self) -> tuple[tuple[float, ...], ...]:
        """The weights of each text."""
        return tuple(constraint.weights for constraint in self.constraints)


def read_constraints(path: Path | str) -> PriorFile:
    """Reads a prior TOML: tables `[[constraint]]` with `betti` and optionally `region`, `weight`, `weights`.

    Raises:
        UnreadableFile: a missing or malformed file; named with the constraint's number, what was expected and
            what was found.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "heart.toml"
        ...     _ = file.write_text('[[constraint]]\\nregion = [2, 3]\\nbetti = [1, 0]\\nweight = 2\\n')
        ...     read_constraints(file).constraints
        (StatedConstraint(number=1, text='2+3:1,0', weights=(2.0,)),)
    """
    path = Path(path)
    document = _document(path)
    for key in document:
        if key != "constraint":
            raise UnreadableFile(f"{path}: expected only [[constraint]] tables, found {shown(key)}")
    tables = document.get("constraint", [])
    if not isinstance(tables, list):
        found = "one [constraint]" if isinstance(tables, dict) else shown(tables)
        raise UnreadableFile(f"{path}: expected [[constraint]] tables, found {found}")
    if not tables:
        raise UnreadableFile(f"{path}: expected at least one [[constraint]] table, found none")
    return PriorFile(
        path, tuple(_constraint(path, number, table) for number, table in enumerate(tables, start=1))
    )


def _document(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_text(path, "prior TOML", MOST_BYTES))
    except tomllib.TOMLDecodeError as error:
        raise UnreadableFile(f"{path}: expected TOML, found: {error}") from error
    except (RecursionError, ValueError) as error:  # nested without end; a number of thousands of digits
        raise UnreadableFile(f"{path}: expected TOML, found values nested or written too long") from error


def _constraint(path: Path, number: int, table: Any) -> StatedConstraint:
    where = f"{path}, constraint {number}"
    if not isinstance(table, dict):
        raise UnreadableFile(f"{where}: expected a [[constraint]] table, found {shown(table)}")
    for key in table:
        if key not in _KEYS:
            raise UnreadableFile(f"{where}: expected the keys {', '.join(_KEYS)}, found {shown(key)}")
    if "betti" not in table:
        raise UnreadableFile(f"{where}: expected betti, found only {', '.join(table) or 'an empty table'}")
    betti = _betti(where, table["betti"])
    # An explicit "foreground" stays in the text, since a model may have a label of that name.
    text = f"{_region(where, table['region'])}:{betti}" if "region" in table else betti
    return StatedConstraint(number, text, _weights(where, table, betti))


def _region(where: str, value: Any) -> str:
    parts = value if isinstance(value, list) else [value]
    for part in parts:
        if not _is_text(part) and not _is_count(part):
            break
    else:
        if parts:
            return "+".join(str(part).strip() for part in parts)
    raise UnreadableFile(
        f"{where}, region: expected a label's name or number, or a list of them, found {shown(value)}"
    )


def _betti(where: str, value: Any) -> str:
    items = value if isinstance(value, list) else [value] if isinstance(value, str) else []
    if items and all(_is_count(item) or _is_text(item) for item in items):
        text = ",".join(str(item).strip() for item in items)
        if ":" not in text and not (isinstance(value, list) and any("," in str(item) for item in items)):
            return text
    raise UnreadableFile(
        f'{where}, betti: expected a text such as "1,0", a list such as [1, "0-2"] or "absent", '
        f"found {shown(value)}"
    )


def _weights(where: str, table: dict[str, Any], betti: str) -> tuple[float, ...]:
    weight = _weight(where, "weight", table.get("weight", 1.0))
    if "weights" not in table:
        return (weight,) if "weight" in table else ()
    values = table["weights"]
    if not isinstance(values, list) or not values:
        raise UnreadableFile(f"{where}, weights: expected a list of numbers, found {shown(values)}")
    if betti.lower() == "absent":  # how many dimensions it stands for, only the other constraints say
        raise UnreadableFile(
            f"{where}, weights: expected weight beside absent, found weights {shown(values)}"
        )
    weights = [_weight(where, "weights", value) for value in values]
    if len(weights) != (count := betti.count(",") + 1):
        raise UnreadableFile(f"{where}, weights: expected {count} as in betti, found {len(weights)}")
    return tuple(weight * each for each in weights)


def _weight(where: str, key: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            weight = float(value)
        except OverflowError:  # an integer beyond all floating-point numbers
            weight = math.inf
        if weight >= 0 and math.isfinite(weight):
            return weight
    raise UnreadableFile(
        f"{where}, {key}: expected finite numbers that are not negative, found {shown(value)}"
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
