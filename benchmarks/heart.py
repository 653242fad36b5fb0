"""The short-axis heart under seven constraints at once: each label, each pair, and all three together.

    python benchmarks/heart.py --data ../shared/data

Every short-axis stack of the ACDC `test` patients goes through `refine` with the bundled model, twice: with
`sample_data/heart.toml`, on those slices whose true labels have the topology that it states; and with a prior
CSV that states the true Betti numbers of all seven regions, slice by slice. A slice is right when the Betti
error of all seven is 0, a stack when all its slices are. Writes `heart.json` and `.md` beside this script.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from topofix.imaging.constraints import read_constraints
from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import Volume, read, stem, write
from topofix.pipeline import refine
from topofix.records import CaseOptions, Record, RefinementOptions
from topofix.request import PriorRequest
from topofix.topology.regions import betti_of_regions, dice

HERE = Path(__file__).resolve().parent
HEART = HERE.parent / "sample_data" / "heart.toml"
LABELS = ("right ventricle", "myocardium", "left ventricle")
REGIONS = ("1", "2", "3", "1+2", "1+3", "2+3", "1+2+3")


@dataclass(frozen=True)
class Stack:
    """What became of one stack."""

    case: str
    slices: int
    right_before: int
    right_after: int
    dice_before: tuple[float, ...]
    dice_after: tuple[float, ...]
    seconds: float


def stacks(data: Path) -> list[tuple[Path, Path]]:
    """Scans and true labels of the test patients."""
    truths = sorted((data / "acdc/test").glob("*_gt.nii.gz"))
    return [(truth.with_name(truth.name.replace("_gt", "")), truth) for truth in truths]


def part(volume: Volume, slices: list[int]) -> Volume:
    """Some slices of a stack, on a grid of their own."""
    return replace(volume, array=volume.array[..., slices], header=None)


def run(scan: Volume, truth: np.ndarray, request: PriorRequest, folder: Path) -> Stack:
    """Refines one stack and compares it with the truth, before and after."""
    image = folder / scan.path.name
    write(image, scan.array, like=scan)
    options = CaseOptions(model="cardiac-sax-2d", overwrite=True)
    nothing = RefinementOptions(method="voxels", steps=0, guarantee=False)
    started = time.perf_counter()
    record = refine(image, folder / "after.nii.gz", request, options)
    seconds = time.perf_counter() - started
    refine(image, folder / "before.nii.gz", request, options, nothing)
    before, after = (read(folder / f"{name}.nii.gz").array for name in ("before", "after"))
    met_before, met_after = by_slice(record)
    return Stack(
        stem(scan.path),
        len(met_after),
        sum(met_before.values()),
        sum(met_after.values()),
        *(tuple(dice(found == k, truth == k) for k in (1, 2, 3)) for found in (before, after)),
        round(seconds, 2),
    )


def by_slice(record: Record) -> tuple[dict[int | None, bool], dict[int | None, bool]]:
    """Whether every constraint of a slice was met, before and after."""
    before: dict[int | None, bool] = defaultdict(lambda: True)
    after: dict[int | None, bool] = defaultdict(lambda: True)
    for row in record.topology:
        before[row.slice] &= bool(row.met_before)
        after[row.slice] &= bool(row.met)
    return before, after


def with_heart(scan: Volume, truth: Volume, folder: Path) -> Stack | None:
    """The slices that are as heart.toml says, under heart.toml."""
    request = PriorRequest(file=read_constraints(HEART))
    count = scan.array.shape[-1]
    (prior,) = set(
        request.for_image("x", (1, 1, 1), 2, {name: k for k, name in enumerate(LABELS, 1)}).values()
    )
    natural = [
        index
        for index in range(count)
        if all(
            constraint.error(numbers) == 0
            for constraint, numbers in zip(
                prior.constraints, betti_of_regions(truth.array[..., index], prior), strict=True
            )
        )
    ]
    return run(part(scan, natural), truth.array[..., natural], request, folder) if natural else None


def with_table(scan: Volume, truth: Volume, folder: Path) -> Stack:
    """All slices, under the Betti numbers of their true labels."""
    request = PriorRequest(tuple(f"{region}:*,*" for region in REGIONS))
    (prior,) = set(request.for_image("x", (1, 1, 1), 2, None).values())
    rows = ["case,slice,label,b0,b1"]
    for index in range(truth.array.shape[-1]):
        for region, numbers in zip(REGIONS, betti_of_regions(truth.array[..., index], prior), strict=True):
            rows.append(f"{stem(scan.path)},{index},{region},{numbers[0]},{numbers[1]}")
    table = folder / "priors.csv"
    table.write_text("\n".join(rows) + "\n")
    return run(scan, truth.array, PriorRequest(table=read_priors(table)), folder)


def summary(title: str, found: list[Stack]) -> dict[str, object]:
    slices = sum(stack.slices for stack in found)
    return {
        "title": title,
        "stacks": len(found),
        "slices": slices,
        "slices_right_before": sum(stack.right_before for stack in found) / slices,
        "slices_right_after": sum(stack.right_after for stack in found) / slices,
        "stacks_right_before": float(np.mean([stack.right_before == stack.slices for stack in found])),
        "stacks_right_after": float(np.mean([stack.right_after == stack.slices for stack in found])),
        "dice_before": np.mean([stack.dice_before for stack in found], 0).round(4).tolist(),
        "dice_after": np.mean([stack.dice_after for stack in found], 0).round(4).tolist(),
        "median_seconds": float(np.median([stack.seconds for stack in found])),
        "rows": [asdict(stack) for stack in found],
    }


def table(results: list[dict[str, object]]) -> str:
    head = "| prior | stacks | slices | | slices right | stacks right | " + " | ".join(
        f"Dice {name}" for name in LABELS
    )
    lines = [head + " | s a stack |", "| --- | ---: | ---: | --- |" + " ---: |" * 6]
    for result in results:
        for when in ("before", "after"):
            scores = " | ".join(f"{score:.3f}" for score in result[f"dice_{when}"])
            seconds = f"{result['median_seconds']:.1f}" if when == "after" else ""
            lines.append(
                f"| {result['title']} | {result['stacks']} | {result['slices']} | {when} "
                f"| {100 * result[f'slices_right_{when}']:.1f} % "
                f"| {100 * result[f'stacks_right_{when}']:.1f} % | {scores} | {seconds} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TOPOFIX_DATA", "../shared/data")))
    parser.add_argument("--first", type=int, default=None, help="only so many stacks")
    arguments = parser.parse_args()
    found: dict[str, list[Stack]] = {"`heart.toml`": [], "true numbers, slice by slice": []}
    with tempfile.TemporaryDirectory() as folder:
        for image, labels in stacks(arguments.data)[: arguments.first]:
            scan, truth = read(image), read(labels)
            natural = with_heart(scan, truth, Path(folder))
            ours = [*([natural] if natural else []), with_table(scan, truth, Path(folder))]
            for title, stack in zip([*found][-len(ours) :], ours, strict=True):
                found[title].append(stack)
                print(f"{stack.case}, {title}: {stack.right_before} -> {stack.right_after} of {stack.slices}")
    results = [summary(title, some) for title, some in found.items()]
    cores = len(os.sched_getaffinity(0))
    command = "python benchmarks/heart.py"
    (HERE / "heart.json").write_text(
        json.dumps({"command": command, "cores": cores, "results": results}, indent=1) + "\n"
    )
    text = (
        "# Seven constraints on the short-axis heart\n\n"
        f"`{command}`, cores: {cores}. ACDC `test` patients, model `cardiac-sax-2d`; Dice in 3-D, mean over "
        f"the stacks, of the slices under the prior.\n\n{table(results)}\n"
    )
    (HERE / "heart.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
