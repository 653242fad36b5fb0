"""What the experiments share: tests of significance, Betti numbers counted independently, tables, results.

The tests are the paper's, all two-sided and at 95 %: McNemar's for how often something is right, Wilcoxon's
signed-rank test for paired measures; what stands behind a plus-minus sign is the standard error of the mean.
Betti numbers are counted by labelling and by the Euler number, not by topofix, because they judge it.
"""

import argparse
import itertools
import json
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.stats import binom, chi2
from scipy.stats import wilcoxon as signed_rank

EXACT_BELOW = 25
"""Where fewer pairs differ McNemar's test is exact, else it is the continuity-corrected chi-square."""

SIGNIFICANT = 0.05

Mask = npt.NDArray[np.bool_]


# --- Tests --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class McNemar:
    """How two ways of deciding the same cases differ.

    Attributes:
        lost: Cases that the first way got right and the second wrong.
        gained: Cases that the first way got wrong and the second right.
        p: Of the hypothesis that both are equally likely, two-sided.
    """

    lost: int
    gained: int
    p: float


def mcnemar(first: npt.ArrayLike, second: npt.ArrayLike) -> McNemar:
    """McNemar's test of two boolean arrays (n,), paired by position.

    Exact, from the binomial distribution, where fewer than `EXACT_BELOW` pairs differ; else Edwards'
    (|lost - gained| - 1)^2 / (lost + gained) against chi-square with one degree of freedom.

    Example:
        >>> mcnemar([True, False, False, True], [True, True, True, True])
        McNemar(lost=0, gained=2, p=0.5)
    """
    one, other = _paired(first, second, bool)
    lost, gained = int((one & ~other).sum()), int((~one & other).sum())
    different = lost + gained
    if different < EXACT_BELOW:
        return McNemar(lost, gained, min(1.0, 2 * float(binom.cdf(min(lost, gained), different, 0.5))))
    statistic = max(0, abs(lost - gained) - 1) ** 2 / different
    return McNemar(lost, gained, float(chi2.sf(statistic, 1)))


def wilcoxon(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """The two-sided p of Wilcoxon's signed-rank test of paired measures (n,); 1 where no pair differs.

    Example:
        >>> wilcoxon([1, 2, 3, 4, 5, 6], [2, 4, 6, 8, 10, 12])
        0.03125
    """
    one, other = _paired(first, second, float)
    if (one == other).all():
        return 1.0
    return float(signed_rank(one, other).pvalue)


def standard_error(values: npt.ArrayLike) -> float:
    """Of the mean of values (n,): their sample standard deviation over the root of n; NaN for fewer than two.

    Example:
        >>> standard_error([1, 2, 3, 4, 5]) == 0.5**0.5
        True
    """
    found = np.asarray(values, float)
    return float(found.std(ddof=1) / np.sqrt(len(found))) if len(found) > 1 else float("nan")


def _paired(
    first: npt.ArrayLike, second: npt.ArrayLike, kind: type
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    one, other = np.asarray(first, kind), np.asarray(second, kind)
    if one.ndim != 1 or one.shape != other.shape:
        raise ValueError(f"expected two lists of equal length, got shapes {one.shape} and {other.shape}")
    return one, other


# --- Betti numbers ------------------------------------------------------------------------------------------


def betti(mask: npt.ArrayLike) -> tuple[int, ...]:
    """Betti numbers of a mask (*S) of rank 2 or 3 whose voxels touch at corners and that lies in background.

    Components and cavities (in 2-D: holes) are labelled, tunnels follow from the Euler number.

    Example:
        >>> betti([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]])
        (1, 1)
    """
    inside = np.pad(np.asarray(mask, bool), 1)
    components = ndimage.label(inside, np.ones((3,) * inside.ndim))[1]
    enclosed = ndimage.label(~inside)[1] - 1
    if inside.ndim == 2:
        return components, enclosed
    return components, components + enclosed - euler(inside), enclosed


def euler(mask: npt.ArrayLike) -> int:
    """The Euler number of a mask (*S) as a union of closed cubes: cells of even dimension less odd ones.

    Example:
        >>> euler(np.ones((1, 1, 1))), euler([[1, 1, 1], [1, 0, 1], [1, 1, 1]])
        (1, 0)
    """
    inside = np.pad(np.asarray(mask, bool), 1)
    total = 0
    for across in itertools.product((False, True), repeat=inside.ndim):
        cells = inside
        for axis in np.flatnonzero(across):  # a face is there if either of its two cubes is
            end = cells.shape[axis]
            cells = cells.take(range(end - 1), axis) | cells.take(range(1, end), axis)
        total += (-1) ** (inside.ndim - sum(across)) * int(cells.sum())
    return total


# --- Tables and results -------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]], words: int = 1) -> str:
    """Markdown; the first column, or so many of them, holds words, the others numbers.

    Example:
        >>> print(table(["method", "Dice"], [["network", "0.85"]]))
        | method | Dice |
        | --- | ---: |
        | network | 0.85 |
    """
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def percent(share: float) -> str:
    """A share as a table shows it.

    Example:
        >>> percent(0.9375)
        '93.8 %'
    """
    return f"{100 * share:.1f} %"


def p_text(p: float) -> str:
    """A p-value as a table shows it, with a star where it is significant.

    Example:
        >>> p_text(0.0312), p_text(0.4), p_text(1e-9)
        ('0.031*', '0.400', '< 0.001*')
    """
    text = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return text + "*" * (p < SIGNIFICANT)


def plus_minus(values: npt.ArrayLike, scale: float = 1.0, digits: int = 1) -> str:
    """Mean and standard error of values (n,) as a table shows them.

    Example:
        >>> plus_minus([0.5, 0.6, 0.7], scale=100)
        '60.0 ± 5.8'
    """
    found = scale * np.asarray(values, float)
    error = f" ± {standard_error(found):.{digits}f}" if len(found) > 1 else ""
    return f"{found.mean():.{digits}f}{error}"


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that every experiment has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TOPOFIX_DATA", "../shared/data")))
    parser.add_argument("--quick", action="store_true", help="a small run whose tables are kept apart")
    return parser


def write(
    script: str | Path,
    title: str,
    found: Mapping[str, Any],
    text: str,
    *,
    quick: bool,
    started: float,
    folder: Path | None = None,
) -> Path:
    """Writes NAME.json and NAME.md, or NAME_quick.json and .md, of an experiment.

    Args:
        script: The experiment's own file, whose name it is.
        title: Heading of the page.
        found: All numbers, as JSON takes them.
        text: Captions and tables, Markdown.
        quick: Whether it was the quick run.
        started: By `time.perf_counter`, when it began.
        folder: Where to; beside the script if None.

    Returns:
        The Markdown file.
    """
    path = Path(script).resolve()
    run = {
        "command": shlex.join(["python", f"benchmarks/paper/{path.name}", *sys.argv[1:]]),
        "cores": usable_cores(),
        "quick": quick,
        "seconds": round(time.perf_counter() - started, 1),
    }
    stem = (folder or path.parent) / (path.stem + "_quick" * quick)
    stem.with_suffix(".json").write_text(json.dumps({**run, "found": found}, indent=1) + "\n", "utf-8")
    cores = f"{run['cores']} core" + "s" * (run["cores"] != 1)
    line = f"`{run['command']}`, {cores}, {run['seconds']:.0f} s in all."
    page = stem.with_suffix(".md")
    page.write_text("\n\n".join([f"# {title}", line, text.strip()]) + "\n", "utf-8")
    return page


def usable_cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
