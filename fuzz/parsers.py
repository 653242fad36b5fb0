"""What must hold of everything that people type or write down, tried on texts that hypothesis makes up.

    python fuzz/parsers.py "prior texts" 60

Whatever comes, the answer is a value or a TopofixError; and a value, written down, is read back as the same
value.
"""

import argparse
import json
import math
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from topofix.errors import TopofixError
from topofix.imaging.constraints import read_constraints
from topofix.imaging.datasets import read_dataset
from topofix.imaging.tables import priors_csv, read_priors
from topofix.learning.description import describe
from topofix.limits import MaxChange
from topofix.request import PriorRequest
from topofix.topology.priors import Prior, check_texts

LABELS = {"wall": 1, "Left Cavity": 2, "a+b": 3, "7": 4}

FOLDER = Path(tempfile.mkdtemp(prefix="topofix-fuzz-"))

signs = st.text(max_size=12)
numbers = st.integers(-2, 12).map(str) | st.integers().map(str) | st.floats().map(str) | st.just("")
counts = (
    st.sampled_from(("0", "1", "2", "1-3", "0-", "2-", "*", "-1", "3-1", "999999999", "")) | numbers | signs
)
regions = (
    st.sampled_from(("wall", "WALL", "left  cavity", "a+b", "1+2", "1 + wall", "foreground", "0", "9"))
    | numbers
)
regions |= signs
constraints = st.builds(
    lambda region, betti, colon, space: space.join(
        ((f"{region}{colon}" if region is not None else "") + betti, "")
    ),
    st.none() | regions,
    st.lists(counts, min_size=1, max_size=4).map(",".join) | st.just("absent"),
    st.sampled_from((":", " : ", "")),
    st.sampled_from(("", " ", "\t")),
)
cells = (
    st.sampled_from(("a", "b.nii.gz", "*", "0-3", "=x", "'=x", "1+2", "wall", '"', "a,b")) | counts | signs
)


def refused(parse: Callable[[], object]) -> object:
    """What a parser makes of something, or None if it says why not."""
    try:
        return parse()
    except TopofixError as error:
        if not str(error).strip():
            raise AssertionError("a refusal says nothing") from error
        return None


def file(name: str, content: str | bytes) -> Path:
    """A file of this content, in place of the last one."""
    path = FOLDER / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def prior_texts(texts: list[str], named: bool, dimensions: int | None) -> None:
    """A prior that is read is the one that its text form says, and is refused by no earlier check."""
    labels = LABELS if named else None
    prior = refused(lambda: Prior.parse(texts, labels, dimensions))
    refused(lambda: check_texts(texts))
    refused(lambda: PriorRequest(tuple(texts)))
    if isinstance(prior, Prior):
        again = Prior.parse(str(prior))
        assert [(c.region, c.betti) for c in again.constraints] == [
            (c.region, c.betti) for c in prior.constraints
        ]
        assert all(constraint.error([0] * prior.dimensions) >= 0 for constraint in prior.constraints)


amounts = st.builds(
    "{}{}{}".format,
    numbers | signs,
    st.sampled_from(("", " ", "\n")),
    st.sampled_from(("", "%", "mm3", "mm³", "MM2", "ml")),
)


def limits(text: str, foreground: int, voxel_volume: float) -> None:
    """A limit that is read is a number of voxels, and its text form says the same but for rounding."""
    limit = refused(lambda: MaxChange.parse(text))
    if isinstance(limit, MaxChange):
        assert limit.voxels(foreground, voxel_volume) >= 0
        again = MaxChange.parse(str(limit))
        assert again.unit == limit.unit
        assert math.isclose(again.amount, limit.amount, rel_tol=1e-5)


def table(columns: tuple[str, ...]) -> st.SearchStrategy[str]:
    """CSV of some of these columns and any cells, mostly as many as there are columns."""
    header = st.lists(st.sampled_from(columns) | signs, min_size=1, max_size=7)
    header |= st.permutations(columns)

    def rows(names: list[str]) -> st.SearchStrategy[str]:
        row = st.lists(cells, min_size=len(names), max_size=len(names)) | st.lists(cells, max_size=9)
        return st.lists(row.map(quoted), max_size=6).map(lambda lines: "\n".join([quoted(names), *lines]))

    return header.flatmap(rows)


def quoted(words: list[str]) -> str:
    """A row of CSV; a cell with a quote or a comma is put into quotes."""
    return ",".join(
        '"' + word.replace('"', '""') + '"' if set(word) & set('",\n\r') else word for word in words
    )


def prior_tables(content: str | bytes) -> None:
    """A prior CSV that is read is the same after it has been written."""
    found = refused(lambda: read_priors(file("priors.csv", content)))
    if found is None:
        return
    rows = found.rows
    again = read_priors(file("again.csv", priors_csv(rows))).rows
    assert [(r.case, r.slices, r.frames, r.label, r.betti) for r in again] == [
        (r.case, r.slices, r.frames, r.label, r.betti) for r in rows
    ]
    request = refused(lambda: PriorRequest(table=found))
    if isinstance(request, PriorRequest):
        refused(lambda: request.for_image(rows[0].case, (9, 8, 4), 2, LABELS))


values = st.recursive(
    st.integers() | st.integers(0, 4) | st.floats() | st.booleans() | signs | constraints,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(signs, inner, max_size=3),
    max_leaves=6,
)


def toml(value: object) -> str:
    """A value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return "nan" if math.isnan(value) else str(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(str(key))} = {toml(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else str(value)


def tables(keys: tuple[str, ...], head: str) -> st.SearchStrategy[str]:
    """TOML tables with some of these keys."""
    line = st.builds("{} = {}".format, st.sampled_from(keys) | signs, values.map(toml))
    return st.lists(st.lists(line, max_size=5).map(lambda lines: "\n".join([head, *lines])), max_size=4).map(
        "\n".join
    )


def prior_files(content: str | bytes) -> None:
    """A prior TOML is read and checked, or refused."""
    found = refused(lambda: read_constraints(file("heart.toml", content)))
    if found is not None:
        request = refused(lambda: PriorRequest(file=found))
        if isinstance(request, PriorRequest):
            refused(lambda: request.for_image("scan.nii.gz", (9, 8, 4), 2, LABELS))


def descriptions(content: str | bytes) -> None:
    """The TOML of a foreign network is understood, or refused."""
    refused(lambda: describe(file("their.toml", content)))


def case_tables(content: str | bytes) -> None:
    """The CSV of a data set is understood, or refused."""
    for name in ("a", "b.nii.gz"):
        file(name, b"")
    refused(lambda: read_dataset(file("cases.csv", content)))


Target = tuple[Callable[..., None], tuple[st.SearchStrategy[Any], ...]]

TARGETS: dict[str, Target] = {
    "prior texts": (
        prior_texts,
        (
            st.lists(constraints, min_size=1, max_size=4),
            st.booleans(),
            st.sampled_from((None, 2, 3)),
        ),
    ),
    "limits": (
        limits,
        (
            amounts | st.text(alphabet="0123456789.e+-%m ", max_size=12),
            st.integers(0, 10**9),
            st.floats(1e-9, 1e9),
        ),
    ),
    "prior CSVs": (
        prior_tables,
        (table(("case", "slice", "frame", "label", "b0", "b1", "b2")) | st.binary(max_size=200),),
    ),
    "prior TOMLs": (
        prior_files,
        (tables(("region", "betti", "weight", "weights"), "[[constraint]]") | st.binary(max_size=200),),
    ),
    "descriptions": (
        descriptions,
        (
            tables(("weights", "dimensions", "labels", "patch_size", "spacing", "network"), "")
            | st.binary(max_size=200),
        ),
    ),
    "case tables": (case_tables, (table(("image", "label", "split", "spacing")) | st.binary(max_size=200),)),
}
"""What is tried by name, and on what."""


def main() -> None:
    """Tries a target on round after round of inputs until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    test, strategies = TARGETS[arguments.target]
    tried, begun, rounds = 0, time.monotonic(), random.Random(arguments.seed)

    def counting(made_up: tuple[Any, ...]) -> None:
        nonlocal tried
        tried += 1
        test(*made_up)

    how = settings(
        max_examples=500,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    try:
        while time.monotonic() - begun < arguments.seconds:
            how(seed(rounds.getrandbits(32))(given(st.tuples(*strategies))(counting)))()
    finally:
        print(f"Done {tried} runs in {time.monotonic() - begun:.0f} second(s)")


if __name__ == "__main__":
    main()
