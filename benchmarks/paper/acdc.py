"""Experiment 3: the myocardium of ACDC with a prior for each slice, as post-processing.

    python benchmarks/paper/acdc.py [--quick] [--data ../shared/data]

Each short-axis slice of the `test` patients is asked for the Betti numbers of the myocardium as it was drawn
there: a ring (1,1), a disc (1,0) or nothing (0,0). The paper read them off the images; it could count neither
the topology that was reached nor test the Dice, because the labels of its test patients are secret. Here both
are measured, at end-diastole and end-systole, for the method as published and for topofix.

The network is the bundled `cardiac-sax-2d`, which has seen none of these patients. How this deviates from the
paper stands in the caption of the table. Betti numbers are counted by labelling, not by topofix.
"""

import copy
import csv
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from significance import arguments, betti, mcnemar, p_text, percent, table, wilcoxon, write

from topofix.correction import correct
from topofix.imaging.volumes import read
from topofix.learning.inference import forward
from topofix.learning.loss import TopologicalLoss
from topofix.prediction import Prediction, label_map, predict_volume
from topofix.records import CaseOptions, RefinementOptions
from topofix.request import one_slice
from topofix.topology.priors import Prior
from topofix.topology.regions import dice

MODEL, LABEL = "cardiac-sax-2d", "myocardium"
STEPS, RATE, WEIGHT = 100, 1e-5, 0.01
"""Of the published method: Adam's steps and learning rate (the authors' code), and lambda (the paper)."""
QUICK_PATIENTS, QUICK_EACH = 3, 3
"""A quick run takes so many patients, and the published method every third of their wrong slices."""
PHASES = ("ED", "ES")

NETWORK, PUBLISHED = "network alone", "weights, as published"
TOPOFIX = {
    "topofix weights, lambda 0.01, then exact": RefinementOptions(
        method="weights", steps=STEPS, weights_learning_rate=RATE, topology_weight=WEIGHT
    ),
    "topofix weights, then exact": RefinementOptions(method="weights"),
    "topofix auto": RefinementOptions(),
}

Betti = tuple[int, ...]
Labels = np.ndarray


@dataclass(frozen=True)
class Stack:
    """One patient in one phase.

    Attributes:
        patient: Its name.
        phase: `ED` or `ES`.
        prediction: Of the network, for the whole stack.
        spacing: mm per axis.
        truth: The true myocardium, (*S).
        wanted: Betti numbers of the true myocardium by slice.
    """

    patient: str
    phase: str
    prediction: Prediction
    spacing: tuple[float, ...]
    truth: np.ndarray
    wanted: Mapping[int, Betti]

    @property
    def label(self) -> int:
        return self.prediction.labels[LABEL]

    def prior(self, index: int) -> Prior:
        return Prior.parse(f"{self.label}:{','.join(map(str, self.wanted[index]))}")

    def found(self, labels: Labels) -> dict[int, Betti]:
        """Betti numbers of each slice of a label map."""
        mask, axis = labels == self.label, self.prediction.slice_axis
        return {index: betti(one_slice(mask, index, axis)) for index in self.wanted}


@dataclass(frozen=True)
class Result:
    """What a method made of a stack.

    Attributes:
        patient: Whose.
        phase: `ED` or `ES`.
        method: Which.
        dice: Of the myocardium in 3-D.
        right: Whether each slice has its topology.
        wanted: Betti numbers asked for, slice by slice.
        betti: Betti numbers reached.
        refined: How many slices the method worked on.
        seconds: For all of them together.
    """

    patient: str
    phase: str
    method: str
    dice: float
    right: list[bool]
    wanted: list[Betti]
    betti: list[Betti]
    refined: int
    seconds: float


def stacks(data: Path, most: int | None) -> Iterator[Stack]:
    """Both phases of each test patient, of the first `most` patients if that is not None."""
    wanted: dict[tuple[str, int, str], dict[int, Betti]] = {}
    with (data / "acdc/topology_slices.csv").open() as file:
        for row in csv.DictReader(file):
            if row["split"] == "test":
                slices = wanted.setdefault((row["subject"], int(row["frame"]), row["phase"]), {})
                slices[int(row["slice"])] = (int(row["myo_b0"]), int(row["myo_b1"]))
    patients = sorted({patient for patient, _, _ in wanted})[:most]
    for (patient, frame, phase), slices in sorted(wanted.items()):
        if patient in patients:
            path = data / f"acdc/test/{patient}_frame{frame:02d}.nii.gz"
            volume = read(path)
            prediction, _ = predict_volume(volume, CaseOptions(model=MODEL, device="cpu"))
            truth = read(path.with_name(path.name.replace(".nii.gz", "_gt.nii.gz"))).array
            label = prediction.labels[LABEL]
            yield Stack(patient, phase, prediction, volume.spacing, truth == label, slices)


def published(stack: Stack, index: int) -> Labels:
    """Eq. 5 on all weights of a copy of the network, over the whole slice, for a fixed number of steps."""
    prediction = stack.prediction
    assert prediction.checkpoint is not None
    assert prediction.image is not None
    assert prediction.grid is not None
    grid, config = prediction.grid.of_slice(), prediction.checkpoint.config
    network = copy.deepcopy(prediction.checkpoint.network).eval()
    image = grid.to_network(one_slice(prediction.image, index, prediction.slice_axis))
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    topology, first = TopologicalLoss(stack.prior(index)), None
    for _ in range(STEPS):
        probabilities = torch.softmax(grid.to_image(forward(network, config, image)), 0)
        first = probabilities.detach() if first is None else first
        change = (probabilities - first).square().sum(0).mean()
        optimiser.zero_grad()
        (change + WEIGHT * topology(probabilities[None])).backward()
        optimiser.step()
    with torch.no_grad():
        return label_map(grid.to_image(forward(network, config, image)))


def with_published(stack: Stack, before: Labels, wrong: list[int]) -> Labels:
    """The label map of a stack with some of its slices post-processed as published."""
    labels = before.copy()
    for index in wrong:
        one_slice(labels, index, stack.prediction.slice_axis)[...] = published(stack, index)
    return labels


def with_topofix(options: RefinementOptions) -> Callable[[Stack, Labels, list[int]], Labels]:
    def method(stack: Stack, _: Labels, wrong: list[int]) -> Labels:
        priors: dict[int | None, Prior] = {index: stack.prior(index) for index in wrong}
        return label_map(correct(stack.prediction, priors, stack.spacing, "full", options).logits)

    return method


METHODS: dict[str, Callable[[Stack, Labels, list[int]], Labels]] = {
    NETWORK: lambda _, before, __: before,
    PUBLISHED: with_published,
    **{name: with_topofix(options) for name, options in TOPOFIX.items()},
}


def measure(data: Path, quick: bool) -> list[Result]:
    """All methods on the wrong slices of all stacks."""
    results: list[Result] = []
    seen = 0  # wrong slices so far
    for stack in stacks(data, QUICK_PATIENTS if quick else None):
        before = label_map(stack.prediction.logits)
        found = stack.found(before)
        wrong = [index for index, wish in stack.wanted.items() if found[index] != wish]
        some = [index for number, index in enumerate(wrong, seen) if number % QUICK_EACH == 0]
        seen += len(wrong)
        for name, method in METHODS.items():
            chosen = some if quick and name == PUBLISHED else wrong
            started = time.perf_counter()
            labels = method(stack, before, chosen)
            seconds = time.perf_counter() - started
            after = stack.found(labels)
            results.append(
                Result(
                    patient=stack.patient,
                    phase=stack.phase,
                    method=name,
                    dice=dice(labels == stack.label, stack.truth),
                    right=[after[index] == wish for index, wish in stack.wanted.items()],
                    wanted=list(stack.wanted.values()),
                    betti=list(after.values()),
                    refined=len(chosen),
                    seconds=round(seconds, 3),
                )
            )
            last = results[-1]
            print(
                f"{last.patient} {last.phase} {name}: {sum(last.right)} of {len(last.right)} right, "
                f"Dice {last.dice:.3f}, {last.refined} slices in {last.seconds:.1f} s",
                flush=True,
            )
    return results


def summary(results: list[Result], method: str) -> dict[str, Any]:
    """One method against the network alone."""
    ours = [result for result in results if result.method == method]
    theirs = [result for result in results if result.method == NETWORK]
    right, right_before = (np.concatenate([r.right for r in some]) for some in (ours, theirs))
    kinds = np.array([str(wish) for result in ours for wish in result.wanted])
    refined = sum(result.refined for result in ours)
    return {
        "method": method,
        "dice": {phase: float(np.mean(dices(ours, phase))) for phase in PHASES},
        "dice_p": {phase: wilcoxon(dices(theirs, phase), dices(ours, phase)) for phase in PHASES},
        "right": float(right.mean()),
        "right_p": mcnemar(right_before, right).p,
        "lost": int((right_before & ~right).sum()),
        "right_by_prior": {
            kind: [int(right[kinds == kind].sum()), int((kinds == kind).sum())] for kind in np.unique(kinds)
        },
        "refined": refined,
        "seconds_per_slice": sum(result.seconds for result in ours) / max(1, refined),
    }


def dices(results: list[Result], phase: str) -> list[float]:
    """By patient, in the patients' order."""
    return [result.dice for result in results if result.phase == phase]


def page(results: list[Result], summaries: list[dict[str, Any]], quick: bool) -> str:
    """Caption and tables."""
    first = summaries[0]
    patients = len({result.patient for result in results})
    kinds = first["right_by_prior"]
    head = ["", "Dice ED", "p", "Dice ES", "p", "slices right", "p", *kinds, "s per slice"]
    rows = []
    for found in summaries:
        same = found["method"] == NETWORK
        cells = [found["method"]]
        for phase in PHASES:
            cells += [f"{found['dice'][phase]:.4f}", "" if same else p_text(found["dice_p"][phase])]
        cells += [percent(found["right"]), "" if same else p_text(found["right_p"])]
        cells += [f"{right} of {count}" for right, count in found["right_by_prior"].values()]
        rows.append([*cells, "" if same else f"{found['seconds_per_slice']:.2f}"])
    slices = sum(count for _, count in kinds.values())
    every = (
        f"The published method ran on every third of them ({found_of(summaries, PUBLISHED)['refined']} "
        "slices), and the others count as the network left them. "
        if quick
        else ""
    )
    caption = (
        f"{patients} patients, {slices} slices, each with the Betti numbers of the true myocardium as its "
        f"prior; {found_of(summaries, 'topofix auto')['refined']} slices are wrong before and were "
        f"post-processed. {every}Dice is that of the myocardium in 3-D, mean over patients, with the p of a "
        "two-sided Wilcoxon signed-rank test against the network alone; topology is counted slice by slice "
        "on the label map, with the p of McNemar's test. * is significant at 95 %. Seconds are those per "
        "slice that was worked on, with one thread of PyTorch."
    )
    deviations = (
        "Deviations from the paper. The network is the bundled one, trained for three labels on 60 of the "
        "public patients, as its card says, not for one label with cross-entropy on 100; the patients are 15 "
        "others of the public ones, not the 50 whose labels are secret. The myocardium's probability is set "
        "against that of the likeliest other label, and the distance of Eq. 5 is that of all four channels. "
        f"As published: Eq. 5 with lambda {WEIGHT}, Adam {RATE:g}, {STEPS} steps on all weights, the last "
        "state; the paper states no optimiser, so these are the settings of the authors' code. It ran only "
        "on slices whose topology was wrong, the paper's on all. topofix shortens only bars that the label "
        "map shows, stops as soon as the topology is right, scales its learning rate to the network, "
        "computes in a box around the heart, whose size is the V of Eq. 5, and leaves alone what shows no "
        "evidence, a bar of 0.02, of what is asked for. Rows without a lambda have topofix's defaults, "
        "lambda 1 and at most 200 steps."
    )
    paper = "The paper reports Dice 0.8994 at end-diastole and 0.9068 at end-systole, and no topology."
    return "\n\n".join([caption, table(head, rows), paper, deviations])


def found_of(summaries: list[dict[str, Any]], method: str) -> dict[str, Any]:
    return next(found for found in summaries if found["method"] == method)


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    results = measure(options.data, options.quick)
    summaries = [summary(results, method) for method in METHODS]
    found = {"model": MODEL, "methods": summaries, "rows": [asdict(result) for result in results]}
    written = write(
        __file__,
        "Experiment 3: the myocardium of ACDC, a prior for each slice",
        found,
        page(results, summaries, options.quick),
        quick=options.quick,
        started=started,
    )
    print(written.read_text("utf-8"))


if __name__ == "__main__":
    main()
