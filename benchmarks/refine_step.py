"""What a step of refinement spends its time on, with the native kernel and with GUDHI in its place.

    python benchmarks/refine_step.py

Runs each stage on the sample scans with the bundled models, for a fixed number of steps (the prior asks for
something that none of them reaches), and adds up the time inside barcodes, network, loss and optimiser. Both
engines are measured in turn in one process. Writes `refine_step.json` and `.md` beside this script.
"""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from gudhi import CubicalComplex

from topofix.correction import correct
from topofix.imaging.volumes import read
from topofix.learning import loss, refinement
from topofix.prediction import predict_volume
from topofix.records import CaseOptions, RefinementOptions
from topofix.request import PriorRequest
from topofix.topology.persistence import Barcode, barcodes

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parent / "sample_data"
STEPS, ROUNDS = 20, 3


@dataclass(frozen=True)
class Case:
    """A stage on a sample scan."""

    title: str
    scan: str
    prior: str
    method: str


CASES = (
    Case("2-D, `weights`", "short_axis.nii.gz", "myocardium:7,7", "weights"),
    Case("2-D, `voxels`", "short_axis.nii.gz", "myocardium:7,7", "voxels"),
    Case("3-D, `voxels`", "hippocampus.nii.gz", "9,9,9", "voxels"),
)


@dataclass(frozen=True)
class Share:
    """Milliseconds a step, of one stage with one engine."""

    case: str
    engine: str
    barcodes: float
    network: float
    gradient: float
    loss: float
    optimiser: float
    other: float

    @property
    def total(self) -> float:
        return self.barcodes + self.network + self.gradient + self.loss + self.optimiser + self.other


def gudhi_barcodes(fields: Iterable[np.ndarray], connectivity: str = "full", *_: object) -> Iterator[Barcode]:
    """As it was before there was a kernel: ranks, which make pairs unique, and GUDHI's cubical complex."""
    assert connectivity == "full"
    for field in fields:
        ranks = np.empty(field.size)
        ranks[np.argsort(-field.ravel(), kind="stable")] = np.arange(field.size)
        cells = CubicalComplex(dimensions=field.shape[::-1], top_dimensional_cells=ranks)
        cells.compute_persistence(homology_coeff_field=2)
        finite, essential = cells.cofaces_of_persistence_pairs()
        pairs = [np.column_stack([births, np.full_like(births, -1)]) for births in essential]
        dimensions = [*range(len(finite)), *range(len(essential))]
        sizes = [len(some) for some in (*finite, *essential)]
        birth, death = np.concatenate([*finite, *pairs]).astype(np.int64).T
        dimension = np.repeat(np.array(dimensions, np.int8), sizes)
        length = field.flat[birth] - np.where(death < 0, 0, field.flat[death])
        order = np.lexsort((birth, -length, dimension))
        order = order[length[order] > 0]
        yield Barcode(dimension[order], birth[order], death[order])


class Clock:
    """Adds up the seconds inside functions, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            return result

        return call


@contextmanager
def clock_around(engine: Callable[..., Iterable[Barcode]]) -> Iterator[Clock]:
    """Puts an engine behind the loss, and a clock on every part of a step."""
    clock = Clock()
    parts = {
        (loss, "barcodes"): ("barcodes", lambda fields, *options: list(engine(fields, *options))),
        (refinement, "forward"): ("network", refinement.forward),
        (torch.Tensor, "backward"): ("gradient", torch.Tensor.backward),
        (loss, "constraint_loss"): ("loss", loss.constraint_loss),
        (torch.optim.Adam, "step"): ("optimiser", torch.optim.Adam.step),
    }
    with ExitStack() as stack:
        for (where, attribute), (name, function) in parts.items():
            stack.enter_context(patch.object(where, attribute, clock.timed(name, function)))
        yield clock


def measure(case: Case) -> list[Share]:
    """Both engines on one case, the median of some rounds taken in turn."""
    volume = read(SAMPLES / case.scan)
    prediction, priors = predict_volume(volume, CaseOptions(device="cpu"), PriorRequest((case.prior,)))
    options = RefinementOptions(method=case.method, steps=STEPS)
    found: dict[str, list[dict[str, float]]] = {"GUDHI": [], "native kernel": []}
    for _ in range(ROUNDS):
        for name, engine in (("GUDHI", gudhi_barcodes), ("native kernel", barcodes)):
            with clock_around(engine) as clock:
                start = time.perf_counter()
                steps = correct(prediction, priors, volume.spacing, "full", options).steps
                total = time.perf_counter() - start
            per_step = {part: 1e3 * seconds / steps for part, seconds in clock.seconds.items()}
            found[name].append({**per_step, "other": 1e3 * total / steps - sum(per_step.values())})
    names = ("barcodes", "network", "gradient", "loss", "optimiser", "other")
    return [
        Share(case.title, engine, *(float(np.median([r.get(name, 0) for r in rounds])) for name in names))
        for engine, rounds in found.items()
    ]


def table(shares: list[Share]) -> str:
    """Milliseconds, and the share of barcodes in all."""
    head = "| stage | engine | ms a step | barcodes | share | network | gradient | loss | optimiser | other |"
    lines = [head, "| --- | --- |" + " ---: |" * 8]
    for s in shares:
        parts = (s.network, s.gradient, s.loss, s.optimiser, s.other)
        cells = [s.case, s.engine, f"{s.total:.2f}", f"{s.barcodes:.2f}", f"{s.barcodes / s.total:.0%}"]
        lines.append("| " + " | ".join([*cells, *(f"{part:.2f}" for part in parts)]) + " |")
    return "\n".join(lines)


def main() -> None:
    shares = [share for case in CASES for share in measure(case)]
    result = {"cores": os.cpu_count(), "steps": STEPS, "shares": [asdict(share) for share in shares]}
    (HERE / "refine_step.json").write_text(json.dumps(result, indent=1) + "\n")
    text = (
        "# What a step of refinement spends its time on\n\n"
        f"`python benchmarks/refine_step.py`, {os.cpu_count()} cores; medians of {ROUNDS} rounds of {STEPS} "
        "steps on the sample scans, the engines taking turns. GUDHI is what computed barcodes before topofix "
        f"had a kernel of its own.\n\n{table(shares)}\n"
    )
    (HERE / "refine_step.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
