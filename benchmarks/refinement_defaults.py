"""Which settings of the two refinement stages are best, measured on the training splits.

    python benchmarks/refinement_defaults.py --data ../shared/data

For wrong slices (myocardium 1,1 where the truth is a ring) of the last tenth of the ACDC `train` stacks,
which the network has not learnt from, and wrong hippocampi (1,0,0) of all `train` volumes, most of which it
has, each setting is run alone, from the same logits. Reported: the share that comes out right, mean Dice of
the region before and after, share of cases whose Dice falls by more than 0.01, mean voxels changed, median
seconds. The `test` splits are not touched.
"""

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from topofix.imaging.cases import find_labelled
from topofix.imaging.volumes import read
from topofix.learning.inference import Grid
from topofix.learning.network import Checkpoint
from topofix.learning.refinement import Refinement, refine_voxels, refine_weights
from topofix.prediction import label_map, predict_volume
from topofix.records import CaseOptions, RefinementOptions
from topofix.request import PriorRequest, one_slice
from topofix.topology.priors import Prior
from topofix.topology.regions import betti_of_regions, dice, region_mask

HERE = Path(__file__).resolve().parent
ANNEALED = (4.0, 2.0, 1.0, 0.0)
MOST = 8
"""Wrong slices or volumes taken of each data set, evenly spaced: the network's stage takes its time."""

FINE = (2.0, 1.0, 0.0)


def weights(rate: float, weight: float, steps: int) -> tuple[str, RefinementOptions]:
    """The stage that adapts the network."""
    return "weights", RefinementOptions(weights_learning_rate=rate, topology_weight=weight, steps=steps)


def voxels(rate: float, weight: float, widths: tuple[float, ...]) -> tuple[str, RefinementOptions]:
    """The stage that moves logits, with 200 steps."""
    return "voxels", RefinementOptions(
        voxels_learning_rate=rate, topology_weight=weight, smoothing=widths, steps=200
    )


# Stages run in order, each only while the topology is wrong.
SETTINGS: dict[str, list[tuple[str, RefinementOptions]]] = {
    "weights, Adam 1e-5, lambda 0.01, 100 steps": [weights(1e-5, 0.01, 100)],
    "weights, Adam 1e-4, lambda 0.1, 30 steps": [weights(1e-4, 0.1, 30)],
    "weights, Adam 1e-4, lambda 1, 30 steps": [weights(1e-4, 1.0, 30)],
    "voxels, Adam 0.3, lambda 0.1, width 0": [voxels(0.3, 0.1, (0.0,))],
    "voxels, Adam 0.3, lambda 0.1, widths 4 2 1 0": [voxels(0.3, 0.1, ANNEALED)],
    "voxels, Adam 0.1, lambda 0.1, widths 4 2 1 0": [voxels(0.1, 0.1, ANNEALED)],
    "voxels, Adam 0.1, lambda 1, widths 4 2 1 0": [voxels(0.1, 1.0, ANNEALED)],
    "voxels, Adam 0.1, lambda 1, widths 2 1 0": [voxels(0.1, 1.0, FINE)],
    "voxels, Adam 0.05, lambda 1, widths 4 2 1 0": [voxels(0.05, 1.0, ANNEALED)],
    "voxels, Adam 0.1, lambda 1, widths 1 0": [voxels(0.1, 1.0, (1.0, 0.0))],
    "weights, Adam 1e-4, lambda 0.1, 30 steps, then voxels, Adam 0.1, lambda 0.1": [
        weights(1e-4, 0.1, 30),
        voxels(0.1, 0.1, ANNEALED),
    ],
    "weights, Adam 1e-4, lambda 1, 30 steps, then voxels, Adam 0.1, lambda 1": [
        weights(1e-4, 1.0, 30),
        voxels(0.1, 1.0, ANNEALED),
    ],
    "weights, Adam 1e-4, lambda 1, 10 steps, then voxels, Adam 0.1, lambda 1": [
        weights(1e-4, 1.0, 10),
        voxels(0.1, 1.0, ANNEALED),
    ],
    "weights, Adam 1e-4, lambda 1, 10 steps, then voxels, Adam 0.1, lambda 1, widths 2 1 0": [
        weights(1e-4, 1.0, 10),
        voxels(0.1, 1.0, FINE),
    ],
}


@dataclass(frozen=True)
class Part:
    """A wrong slice or volume, with all that either stage needs."""

    logits: torch.Tensor
    image: torch.Tensor
    grid: Grid
    checkpoint: Checkpoint
    prior: Prior
    truth: np.ndarray
    spacing: tuple[float, ...]

    def score(self, logits: torch.Tensor) -> float:
        region = self.prior.constraints[0].region
        return dice(region_mask(label_map(logits), region), region_mask(self.truth, region))

    def right(self, logits: torch.Tensor) -> bool:
        counts = betti_of_regions(label_map(logits), self.prior)
        return self.prior.constraints[0].error(counts[0]) == 0


def wrong_parts(folder: Path, model: str, prior: str, share: float, truth_decides: bool) -> list[Part]:
    """What `segment` got wrong on the last share of a folder's cases."""
    files = find_labelled(folder)
    parts = []
    for file in files[-max(1, round(len(files) * share)) :]:
        volume, truth = read(file.image), read(file.label).array
        prediction, priors = predict_volume(volume, CaseOptions(model=model), PriorRequest((prior,)))
        assert prediction.checkpoint is not None
        assert prediction.grid is not None
        assert prediction.image is not None
        axis = prediction.slice_axis
        for index, wish in priors.items():
            true_part = one_slice(truth, index, axis)
            if truth_decides and wish.constraints[0].error(betti_of_regions(true_part, wish)[0]):
                continue
            part = Part(
                one_slice(prediction.logits, index, axis + 1).clone(),
                one_slice(prediction.image, index, axis),
                prediction.grid if index is None else prediction.grid.of_slice(),
                prediction.checkpoint,
                wish,
                true_part,
                tuple(s for k, s in enumerate(volume.spacing) if index is None or k != axis),
            )
            if not part.right(part.logits):
                parts.append(part)
    print(f"{model}: {len(parts)} wrong")
    chosen = np.linspace(0, len(parts) - 1, min(MOST, len(parts))).round().astype(int)
    return [parts[k] for k in chosen]


def run(part: Part, stages: list[tuple[str, RefinementOptions]]) -> torch.Tensor:
    """Logits after the stages, each of which runs only while the topology is wrong."""
    logits = part.logits
    for stage, options in stages:
        result: Refinement
        if stage == "weights":
            network, config = part.checkpoint.network, part.checkpoint.config
            result = refine_weights(network, config, part.image, part.grid, part.prior, options)
        else:
            result = refine_voxels(logits, part.prior, options, spacing=part.spacing)
        logits = result.logits
        if result.error == 0:
            break
    return logits


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TOPOFIX_DATA", "../shared/data")))
    parser.add_argument("--only", default="", help="Run only settings whose name holds this.")
    parser.add_argument("--out", type=Path, default=HERE / "refinement_defaults")
    arguments = parser.parse_args()
    sets = {
        "myocardium slices, 1,1": wrong_parts(
            arguments.data / "acdc/train", "cardiac-sax-2d", "myocardium:1,1", 0.1, True
        ),
        "hippocampus volumes, 1,0,0": wrong_parts(
            arguments.data / "hippocampus/train", "hippocampus-3d", "1,0,0", 1.0, False
        ),
    }
    lines = ["# Settings of the refinement stages", ""]
    rows = []
    cores = len(os.sched_getaffinity(0))
    lines.append(
        f"`python benchmarks/refinement_defaults.py`, {cores} cores. {__doc__.split(chr(10) * 2)[2]}"
    )
    for name, parts in sets.items():
        if not parts:
            continue
        before = [part.score(part.logits) for part in parts]
        lines += ["", f"## {len(parts)} wrong {name}", "", f"Mean Dice before: {np.mean(before):.3f}", ""]
        lines.append("| setting | right | Dice | Dice falls > 0.01 | voxels changed | median s |")
        lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
        for setting, stages in SETTINGS.items():
            if arguments.only not in setting:
                continue
            right, after, changed, seconds = [], [], [], []
            for part in parts:
                started = time.perf_counter()
                logits = run(part, stages)
                seconds.append(time.perf_counter() - started)
                right.append(part.right(logits))
                after.append(part.score(logits))
                changed.append(int((label_map(logits) != label_map(part.logits)).sum()))
            worse = np.mean([b - a > 0.01 for b, a in zip(before, after, strict=True)])
            row = {
                "data": name,
                "setting": setting,
                "right": float(np.mean(right)),
                "dice": float(np.mean(after)),
                "worse": float(worse),
                "voxels_changed": float(np.mean(changed)),
                "median_seconds": float(np.median(seconds)),
            }
            rows.append(row)
            lines.append(
                f"| {setting} | {100 * row['right']:.0f} % | {row['dice']:.3f} | {100 * worse:.0f} % "
                f"| {row['voxels_changed']:.0f} | {row['median_seconds']:.2f} |"
            )
            print(lines[-1], flush=True)
    arguments.out.with_suffix(".json").write_text(json.dumps({"cores": cores, "rows": rows}, indent=1) + "\n")
    arguments.out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
