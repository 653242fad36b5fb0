"""The worst inputs once more, through the real command."""

import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from faults.hostile import make
from faults.hostile_originals import MOST_VOXELS, Originals
from faults.hostile_runner import Result, output_name

COMMAND = Path(sys.executable).with_name("topofix")
MOST_SECONDS = 60
"""Of a command, imports included, on a busy machine."""

_LIMIT = ("--max-voxels", str(MOST_VOXELS))
_RING = ("--betti", "1,1", "--method", "exact")

Arguments = Callable[[str, str, str, str], Sequence[str]]
"""Takes the input, the result, a whole label map and a whole model."""

ARGUMENTS: dict[str, Arguments] = {
    "labels": lambda path, out, labels, model: (
        *("refine", "--input-type", "labels", *_RING, *_LIMIT, "--output", out, "--", path),
    ),
    "probabilities": lambda path, out, labels, model: (
        *(
            "refine",
            "--input-type",
            "probabilities",
            "--logits",
            *_RING,
            *_LIMIT,
            "--output",
            out,
            "--",
            path,
        ),
    ),
    "segment": lambda path, out, labels, model: (
        *("segment", "--model", model, *_LIMIT, "--output", out, "--", path),
    ),
    "measure": lambda path, out, labels, model: (
        *("barcode", "--input-type", "labels", "--csv", f"{out}.csv", *_LIMIT, "--", path),
    ),
    "frozen": lambda path, out, labels, model: (
        *("refine", labels, "--input-type", "labels", *_RING, "--freeze", path, "--output", out),
    ),
    "like": lambda path, out, labels, model: (
        *(
            "refine",
            labels,
            "--input-type",
            "probabilities",
            "--logits",
            *_RING,
            "--like",
            path,
            "--output",
            out,
        ),
    ),
    "model": lambda path, out, labels, model: ("segment", labels, "--model", path, "--output", out),
    "table": lambda path, out, labels, model: (
        *("refine", labels, "--input-type", "labels", "--betti-csv", path, "--output", out),
    ),
    "constraints": lambda path, out, labels, model: (
        *("refine", labels, "--input-type", "labels", "--prior", path, "--output", out),
    ),
    "data set": lambda path, out, labels, model: (
        "train",
        path,
        "--epochs",
        "1",
        "--output",
        f"{out}.safetensors",
    ),
}
"""How each use is typed."""


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        result: What had become of the same input without the command line.
        code: Its exit code.
        errors: What it wrote on stderr.
    """

    result: Result
    code: int
    errors: str

    @property
    def fault(self) -> str:
        """What is wrong with that; empty if nothing is."""
        if self.code not in (1, 2):
            return f"exit code {self.code}"
        lines = [line for line in self.errors.splitlines() if not line.startswith("topofix: warning: ")]
        if "Traceback" in self.errors or len(lines) != 1:
            return f"{len(lines)} lines on stderr"
        return ""


def worst(results: Iterable[Result], count: int) -> list[Result]:
    """Inputs that were refused: of each use and family in turn the one that took longest."""
    refused = [r for r in results if r.outcome == "refused" and not r.faults and r.use in ARGUMENTS]
    turns: dict[tuple[str, str], int] = {}
    ranked = []
    for result in sorted(refused, key=lambda result: -result.seconds):
        turn = turns[result.use, result.family] = turns.get((result.use, result.family), -1) + 1
        ranked.append((turn, len(ranked), result))
    return [result for _, _, result in sorted(ranked)[:count]]


def run(result: Result, seed: int, folder: Path, originals: Originals) -> Ended:
    """Makes an input again and types what it is for."""
    for name in ("in", "out"):
        (folder / name).mkdir(parents=True)
    (folder / "labels.nii.gz").write_bytes(originals.labels)
    (folder / "model.safetensors").write_bytes(originals.model)
    _, use, path = make(seed, result.number, folder / "in", originals)
    output = folder / "out" / output_name(path, result.number)
    words = ARGUMENTS[use](*map(str, (path, output, folder / "labels.nii.gz", folder / "model.safetensors")))
    ended = subprocess.run(
        [COMMAND, *words], cwd=folder / "out", capture_output=True, timeout=MOST_SECONDS, check=False
    )
    return Ended(result, ended.returncode, ended.stderr.decode(errors="replace"))
