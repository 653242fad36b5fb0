"""What was typed, made sense of together: cases, priors, and options that only go with others."""

from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from topofix.errors import InvalidOption, InvalidPrior
from topofix.records import RefinementOptions

if TYPE_CHECKING:
    from topofix.imaging.case_lists import ListedCase
    from topofix.request import PriorRequest


def listed_cases(images: list[Path] | None, cases: Path | None) -> "list[ListedCase]":
    """The cases of a case list; there must be such a list or images."""
    if cases is not None:
        from topofix.imaging.case_lists import read_cases

        return read_cases(cases)
    if not images:
        raise typer.BadParameter("expected images, or --cases with a table of them, got neither")
    return []


def prior_request(
    betti: list[str] | None, betti_csv: Path | None, prior: Path | None = None, strict: bool = False
) -> "PriorRequest":
    """What was asked for on the command line, read but not yet matched to an image."""
    from topofix.imaging.constraints import read_constraints
    from topofix.imaging.tables import read_priors
    from topofix.request import PriorRequest

    sources = {"--betti": betti or None, "--betti-csv": betti_csv, "--prior": prior}
    given = [name for name, source in sources.items() if source is not None]
    if strict and betti_csv is None:
        raise InvalidOption(f"--strict: expected --betti-csv beside it, got {' and '.join(given) or 'none'}")
    if len(given) != 1:
        found = ("both " if len(given) == 2 else "") + (" and ".join(given) or "neither")
        raise InvalidPrior(f"expected either --betti or --betti-csv or --prior, got {found}")
    table = None if betti_csv is None else read_priors(betti_csv)
    return PriorRequest(tuple(betti or ()), table, None if prior is None else read_constraints(prior))


def refinement_options(options: RefinementOptions, learning_rate: float | None) -> RefinementOptions:
    """The options with the learning rate in its place, if they can all be meant together."""
    if options.method == "exact" and not options.guarantee:
        raise InvalidOption("--no-guarantee: expected another method than exact, which is the guarantee")
    if options.adapt != "all" and options.method != "weights":
        raise InvalidOption(f"--adapt: expected --method weights beside it, got {options.method}")
    if learning_rate is None:
        return options
    check_positive("--learning-rate", learning_rate)
    if options.method == "weights":
        return replace(options, weights_learning_rate=learning_rate)
    if options.method == "voxels":
        return replace(options, voxels_learning_rate=learning_rate)
    found = options.method
    raise InvalidOption(f"--learning-rate: expected --method weights or voxels beside it, got {found}")


def check_positive(name: str, number: float) -> None:
    if not (isfinite(number) and number > 0):
        raise InvalidOption(f"{name}: expected a positive number, got {number:g}")


def numbers_of(text: str | None, kind: type, name: str, count: int) -> Any:
    """Comma-separated positive numbers, one per dimension; None where nothing was given."""
    if text is None:
        return None
    try:
        numbers = tuple(kind(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(isfinite(number) and number > 0 for number in numbers):
        raise InvalidOption(f"{name}: expected {count} positive numbers with commas, got '{text}'")
    return numbers
