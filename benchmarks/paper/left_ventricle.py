"""Experiment 2: myocardium in corrupted slices, few of them labelled, all known to show a ring (Table 2).

    python benchmarks/paper/left_ventricle.py [--quick] [--data ../shared/data]

    labelled ---> supervised ---> + closing, + random field
                      |
    unlabelled -------+---> bootstrapped: their predicted masks, refined by the random field, are learned from
                      |
                      `---> ours: batches of L_Dice and of lambda L_topo in turn (Eq. 6) ---> + exact stage

Slices, crops, corruption and who is in which set: `ventricle.py`. The random field: `random_field.py`. All
methods of a setting start from the same supervised network. What is finished is kept in `left_ventricle.json`
setting by setting, and the next run goes on with what is missing; delete the file to begin anew. Quick runs
always begin anew. Betti numbers are counted by labelling, not by topofix.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from random_field import GRID, STEPS, RandomField, mean_field, tune
from scipy import ndimage
from significance import SIGNIFICANT, arguments, betti, plus_minus, table, wilcoxon, write
from torch import nn
from ventricle import RESERVED, SIZE, SPACING, Sizes, Slice, Split, mid_slices, split

from topofix.learning.dataset import Case, make_case
from topofix.learning.inference import predict
from topofix.learning.network import NetworkConfig
from topofix.learning.training import train
from topofix.learning.training_state import TrainingState
from topofix.records import TrainingOptions
from topofix.topology.priors import Prior
from topofix.topology.regions import dice
from topofix.topology.repair import repair

SUPERVISED, CLOSING, FIELD = "supervised", "supervised + closing", "supervised + random field"
BOOTSTRAPPED, OURS, EXACT = "bootstrapped", "ours", "ours + exact stage"
METHODS = (SUPERVISED, CLOSING, FIELD, BOOTSTRAPPED, OURS, EXACT)

PRIOR = Prior.parse("1,1")
CONFIG = NetworkConfig(2, ("myocardium",), (SPACING, SPACING), (SIZE, SIZE), channels=(8, 16, 32, 64, 128))
UNLABELLED = 100
RADIUS = 7
"""Of the closing's disc, in pixels."""
BATCH, RATE, UPDATES = 10, 3e-3, 300
"""Of the supervised training: patches in a batch, AdamW's highest learning rate, batches in all."""
LATER_RATE, LATER_UPDATES, WEIGHT, WARM_UP = 5e-4, 320, 0.05, 0.125
"""After it, of ours and of bootstrapping: the learning rate and batches in all. Of ours lambda, and the share
of the time in which it rises from zero."""
ROUNDS = 2
"""Of bootstrapping."""
VALIDATIONS = 10
"""In each training."""

CPU = torch.device("cpu")
Array = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Setting:
    """One training of everything.

    Attributes:
        split: Number, which is the seed of everything that is drawn.
        lines: m, lines of k-space without signal.
        labelled: N, labelled slices.
    """

    split: int
    lines: int
    labelled: int


FULL = tuple(
    Setting(number, lines, labelled) for labelled in (20, 10, 40) for number in range(5) for lines in (20, 60)
)
QUICK = tuple(Setting(number, 60, 20) for number in range(2))


# --- One setting --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """Slices as all methods get them.

    Attributes:
        slices: Crops and what was drawn on them.
        corrupted: Their images without some lines of k-space, in [0, 1], (80, 80) each.
    """

    slices: Sequence[Slice]
    corrupted: Sequence[Array]

    @staticmethod
    def of(slices: Sequence[Slice], lines: int) -> "Images":
        return Images(slices, [one.corrupted(lines) for one in slices])

    def cases(self, masks: Iterable[Mask | None]) -> list[Case]:
        """Cases of topofix, with these masks for labels."""
        return [
            make_case(
                f"{one.patient} slice {one.index}",
                image,
                None if mask is None else mask.astype(np.uint8),
                CONFIG.spacing,
                ((0, 1), ()),
                CONFIG,
                {None: PRIOR},
            )
            for one, image, mask in zip(self.slices, self.corrupted, masks, strict=True)
        ]

    def drawn(self) -> list[Case]:
        return self.cases(one.mask for one in self.slices)

    def blank(self) -> list[Case]:
        return self.cases(None for _ in self.slices)

    def scores(self, masks: Sequence[Mask]) -> dict[str, list[float]]:
        """Dice, and 1 for a ring or 0, of each mask."""
        drawn = [one.mask for one in self.slices]
        return {
            "dice": [round(dice(mask, truth), 4) for mask, truth in zip(masks, drawn, strict=True)],
            "right": [float(betti(mask) == (1, 1)) for mask in masks],
        }

    def score(self, masks: Sequence[Mask]) -> float:
        """What everything is chosen by on validation slices: the mean of Dice and correctness."""
        scores = self.scores(masks)
        return float(np.mean([np.mean(values) for values in scores.values()]))


def measure(setting: Setting, sets: Split) -> dict[str, Any]:
    """Trains and judges every method once."""
    labelled, unlabelled, validation, test = (
        Images.of(slices, setting.lines)
        for slices in (sets.labelled[setting.labelled], sets.unlabelled, sets.validation, sets.test)
    )
    seconds: dict[str, float] = {}
    begun = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal begun
        seconds[name] = round(time.perf_counter() - begun, 1)
        begun = time.perf_counter()

    choosing = validation.drawn()
    network, state = supervised(labelled.drawn(), choosing, setting)
    before = logits_of(network, test)
    masks = {SUPERVISED: [one > 0 for one in before]}
    lap(SUPERVISED)

    masks[CLOSING] = [closed(mask) for mask in masks[SUPERVISED]]
    lap(CLOSING)

    field = tune(logits_of(network, validation), validation.corrupted, validation.score)
    masks[FIELD] = refined(before, test, field)
    lap(FIELD)

    network = bootstrapped(labelled, unlabelled, choosing, network, state, field, setting)
    masks[BOOTSTRAPPED] = [one > 0 for one in logits_of(network, test)]
    lap(BOOTSTRAPPED)

    network = ours([*labelled.drawn(), *unlabelled.blank()], choosing, state, setting)
    after = logits_of(network, test)
    masks[OURS] = [one > 0 for one in after]
    lap(OURS)

    masks[EXACT] = [repaired(one) for one in after]
    lap(EXACT)
    return {
        **asdict(setting),
        "validation": len(sets.validation),
        "test": len(sets.test),
        "patients": [one.patient for one in sets.test],
        "random_field": asdict(field),
        "seconds": seconds,
        "methods": {method: test.scores(masks[method]) for method in METHODS},
    }


def logits_of(network: nn.Module, images: Images) -> list[Array]:
    """Of the myocardium, (80, 80) each."""
    both = [predict(network, CONFIG, case.image, case.grid, CPU).numpy() for case in images.blank()]
    return [one[1] - one[0] for one in both]


def options_for(setting: Setting, slices: int, updates: int, rate: float) -> TrainingOptions:
    """So many updates on so many labelled slices, of which every epoch takes each once."""
    epochs = max(1, round(updates / -(-slices // BATCH)))
    return TrainingOptions(
        loss="dice",
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=rate,
        patience=epochs,
        validate_every=max(1, epochs // VALIDATIONS),
        topology_epochs=0,
        seed=setting.split,
    )


def supervised(
    training: list[Case], choosing: list[Case], setting: Setting
) -> tuple[nn.Module, TrainingState]:
    """The network that all others start from, and where its training got to."""
    states: list[TrainingState] = []

    def keep(state: TrainingState) -> None:
        states[:] = [state]

    options = options_for(setting, len(training), UPDATES, RATE)
    return train(training, choosing, CONFIG, options, CPU, on_epoch=keep).network, states[0]


def ours(training: list[Case], choosing: list[Case], state: TrainingState, setting: Setting) -> nn.Module:
    """The second phase of a training whose first one is over; half of its updates are unlabelled batches."""
    options = options_for(setting, setting.labelled, UPDATES, RATE)
    later = options_for(setting, setting.labelled, LATER_UPDATES // 2, LATER_RATE)
    options = replace(
        options,
        validate_every=later.validate_every,
        topology_weight=WEIGHT,
        topology_epochs=later.epochs,
        topology_learning_rate=LATER_RATE,
        warm_up=max(1, round(WARM_UP * later.epochs)),
    )
    return train(training, choosing, CONFIG, options, CPU, state=state).network


def bootstrapped(
    labelled: Images,
    unlabelled: Images,
    choosing: list[Case],
    network: nn.Module,
    state: TrainingState,
    field: RandomField,
    setting: Setting,
) -> nn.Module:
    """Alternately predicts the unlabelled slices and learns from what it predicted, as Bai et al. 2017."""
    states = [state]

    def keep(reached: TrainingState) -> None:
        states[:] = [reached]

    count = len(labelled.slices) + len(unlabelled.slices)
    options = options_for(setting, count, LATER_UPDATES // ROUNDS, LATER_RATE)
    for _ in range(ROUNDS):
        guessed = unlabelled.cases(refined(logits_of(network, unlabelled), unlabelled, field))
        training = [*labelled.drawn(), *guessed]
        start = from_its_best(states[0])
        network = train(training, choosing, CONFIG, options, CPU, on_epoch=keep, state=start).network
    return network


def from_its_best(state: TrainingState) -> TrainingState:
    """A supervised phase yet to begin, from the best weights so far."""
    best = {
        f"{place}/{name}": value
        for name, value in state.under("best/").items()
        for place in ("network", "average")
    }
    return replace(state, tensors={**state.tensors, **best}, begun=len(state.history), updates=0)


def closed(mask: Mask) -> Mask:
    """Closing by a disc; beyond the border lies background."""
    offsets = np.indices((2 * RADIUS + 1,) * 2) - RADIUS
    disc = np.square(offsets).sum(0) <= RADIUS**2
    inner = (slice(RADIUS, -RADIUS),) * 2
    return ndimage.binary_closing(np.pad(mask, RADIUS), disc)[inner]


def refined(logits: Sequence[Array], images: Images, field: RandomField) -> list[Mask]:
    return [mean_field(one, image, field) > 0.5 for one, image in zip(logits, images.corrupted, strict=True)]


def repaired(logits: Array) -> Mask:
    """The exact stage on its own."""
    return repair(np.stack([np.zeros_like(logits), logits]), PRIOR).labels > 0


# --- All settings -------------------------------------------------------------------------------------------


def about() -> dict[str, Any]:
    """All that the results depend on; results of other settings are not mixed with these."""
    return {
        "network": json.loads(json.dumps(asdict(CONFIG))),
        "unlabelled": UNLABELLED,
        "patients": asdict(Sizes()),
        "supervised": [BATCH, RATE, UPDATES],
        "later": [LATER_RATE, LATER_UPDATES, WEIGHT, WARM_UP, ROUNDS],
        "validations": VALIDATIONS,
        "closing": RADIUS,
        "random_fields": len(GRID),
    }


def earlier(file: Path) -> tuple[list[dict[str, Any]], float]:
    """Results of a run that was cut short or is complete, and the seconds that it took.

    Raises:
        SystemExit: They were made with other settings.
    """
    if not file.is_file():
        return [], 0.0
    stored = json.loads(file.read_text("utf-8"))
    if stored["found"]["about"] != about():
        raise SystemExit(f"{file.name}: expected results of the present settings; delete it to begin anew")
    return stored["found"]["settings"], stored["seconds"]


def key(result: Mapping[str, Any]) -> Setting:
    return Setting(result["split"], result["lines"], result["labelled"])


def main() -> None:
    options = arguments(__doc__).parse_args()
    torch.set_num_threads(1)
    file = Path(__file__).resolve().with_suffix(".json")
    results, spent = ([], 0.0) if options.quick else earlier(file)
    settings = QUICK if options.quick else FULL
    missing = [one for one in settings if one not in {key(result) for result in results}]
    started = time.perf_counter() - spent
    slices = mid_slices(options.data)
    sizes = sorted({one.labelled for one in FULL})
    sets = {one.split: split(slices, sizes, UNLABELLED, one.split) for one in settings}
    for setting in missing:
        results.append(measure(setting, sets[setting.split]))
        print(setting, results[-1]["seconds"], flush=True)
        for method, scores in results[-1]["methods"].items():
            means = ", ".join(f"{name} {np.mean(values):.3f}" for name, values in scores.items())
            print(f"    {method}: {means}", flush=True)
        save(results, len(slices), options.quick, started)
    print(save(results, len(slices), options.quick, started).read_text("utf-8"))


def save(results: list[dict[str, Any]], slices: int, quick: bool, started: float) -> Path:
    """Writes what there is so far."""
    cells = [cell(results, lines, labelled) for lines, labelled in cells_of(results)]
    return write(
        __file__,
        "Experiment 2: the left ventricle's myocardium in corrupted slices",
        {"about": about(), "summary": cells, "settings": results},
        page(results, cells, slices),
        quick=quick,
        started=started,
    )


# --- Tables -------------------------------------------------------------------------------------------------


def cells_of(results: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Every m and N that there are results of."""
    return sorted({(result["lines"], result["labelled"]) for result in results})


def cell(results: Sequence[Mapping[str, Any]], lines: int, labelled: int) -> dict[str, Any]:
    """One m and N: for every method and measure the means by split, and p of ours against it."""
    here = sorted(
        (result for result in results if (result["lines"], result["labelled"]) == (lines, labelled)),
        key=lambda result: result["split"],
    )
    methods = {}
    for method in METHODS:
        found: dict[str, Any] = {}
        for measure_name in ("dice", "right"):
            theirs, own = (
                np.concatenate([by_patient(result, name, measure_name) for result in here])
                for name in (method, OURS)
            )
            means = [float(np.mean(result["methods"][method][measure_name])) for result in here]
            found[measure_name] = {"splits": means, "p": None if method == OURS else wilcoxon(theirs, own)}
        methods[method] = found
    return {"lines": lines, "labelled": labelled, "splits": [r["split"] for r in here], "methods": methods}


def by_patient(result: Mapping[str, Any], method: str, measure_name: str) -> npt.NDArray[np.float64]:
    """The mean over the slices of each test patient, by name."""
    patients, values = np.array(result["patients"]), np.array(result["methods"][method][measure_name])
    return np.array([values[patients == patient].mean() for patient in np.unique(patients)])


PAPER = {
    20: {
        SUPERVISED: ("67.9 / 42.1", "76.3 / 59.8", "82.1 / 74.0"),
        CLOSING: ("68.2 / 53.8", "76.2 / 71.3", "81.7 / 81.4"),
        FIELD: ("67.4 / 38.1", "76.1 / 52.9", "81.9 / 69.7"),
        BOOTSTRAPPED: ("74.7 / 57.4", "78.6 / 68.1", "83.6 / 80.8"),
        OURS: ("74.3 / 67.1", "79.1 / 80.5", "83.5 / 88.1"),
    },
    60: {
        SUPERVISED: ("62.0 / 25.8", "70.8 / 58.3", "76.9 / 67.6"),
        CLOSING: ("62.9 / 44.4", "70.8 / 66.9", "76.9 / 76.9"),
        FIELD: ("61.7 / 22.0", "70.4 / 52.0", "76.4 / 61.3"),
        BOOTSTRAPPED: ("67.3 / 48.4", "73.3 / 60.9", "78.2 / 71.3"),
        OURS: ("68.6 / 62.0", "74.3 / 75.6", "78.6 / 85.7"),
    },
}
"""The paper's Table 2, Dice / topologically correct in per cent, for N = 10, 20, 40, by m."""


def page(results: Sequence[Mapping[str, Any]], cells: Sequence[Mapping[str, Any]], slices: int) -> str:
    """Captions and tables."""
    pieces = [caption(results, slices), gains_text(cells)]
    for lines in sorted({one["lines"] for one in cells}):
        here = [one for one in cells if one["lines"] == lines]
        pieces += [f"## m = {lines} of {SIZE} lines removed", table_of(here)]
        head = ["in the paper, Dice / topologically correct, %", "N = 10", "N = 20", "N = 40"]
        pieces.append(table(head, [[name, *values] for name, values in PAPER[lines].items()]))
    return "\n\n".join([*pieces, deviations()])


def table_of(cells: Sequence[Mapping[str, Any]]) -> str:
    """The rows are methods; of every N Dice and topological correctness."""
    rows = []
    for method in METHODS:
        row = [method]
        for one in cells:
            for found in one["methods"][method].values():
                star = "*" * (found["p"] is not None and found["p"] < SIGNIFICANT)
                row.append(plus_minus(found["splits"], 100) + star)
        rows.append(row)
    sizes = [one["labelled"] for one in cells]
    head = [f"N = {size}, {name}" for size in sizes for name in ("Dice, %", "topologically correct, %")]
    return table(["", *head], rows)


def gains_text(cells: Sequence[Mapping[str, Any]]) -> str:
    """How many points of correctness ours is above the supervised network, split by split."""
    lines = []
    for one in cells:
        ours_right, before = (
            100 * np.array(one["methods"][method]["right"]["splits"]) for method in (OURS, SUPERVISED)
        )
        gains = ours_right - before
        each = ", ".join(f"{gain:+.1f}" for gain in gains)
        lines.append(
            f"* m = {one['lines']}, N = {one['labelled']}: {plus_minus(gains)} points "
            f"(split by split {each})."
        )
    return "\n".join(["Ours above supervised alone in topological correctness:", "", *lines])


def caption(results: Sequence[Mapping[str, Any]], slices: int) -> str:
    sizes = Sizes()
    counts = {name: [result[name] for result in results] for name in ("validation", "test")}
    span = {name: f"{min(some)} to {max(some)}" for name, some in counts.items()}
    splits = len({result["split"] for result in results})
    return (
        f"{slices} mid-ventricular slices at end-diastole of 75 patients of ACDC, crops of {SIZE} x {SIZE} "
        f"pixels of {SPACING} mm; m of {SIZE} lines of k-space removed from each at random, the middle "
        f"{RESERVED} kept. {splits} splits; in each, patients are drawn at random for the four sets, and "
        f"none is in two: {sizes.test} held-back patients to test on ({span['test']} slices), "
        f"{sizes.validation} for validation ({span['validation']} slices), {sizes.labelled} for the N "
        f"labelled slices (of different patients up to N = {sizes.labelled}, two of each for 40), the others "
        f"for {UNLABELLED} unlabelled ones, whose masks nothing has seen. Mean ± standard error over splits "
        "of the mean over test slices. Topologically correct: the mask at 1/2 has the Betti numbers (1, 1). "
        "* is a method from which ours differs significantly at 95 %, by two-sided Wilcoxon signed-rank "
        "tests of the means by test patient and split; a patient can be a test patient of several splits."
    )


def deviations() -> str:
    return f"""## How this differs from the paper

* Data: ACDC, not the UK Biobank; several slices of a patient, not one; {UNLABELLED} unlabelled slices, not
  400. Where the ventricle lies and which slices show a ring is known from the drawn masks, of unlabelled
  slices as well.
* Network: topofix's U-net with {", ".join(map(str, CONFIG.channels))} feature maps and batch normalisation,
  for every method. Images are augmented by topofix's defaults.
* Supervised: Dice loss, AdamW, batches of {BATCH}, {UPDATES} updates, learning rate {RATE:g} falling along a
  cosine, a running average of the weights. Not early stopping after up to 3,000 epochs.
* What is kept, of every training, is the best of about {VALIDATIONS} validations and of what it started
  from, and of the random field the best of {len(GRID)} sets of weights and widths, all by the mean of Dice
  and topological correctness on the validation slices. The paper validates by Dice.
* Random field: {STEPS} steps of mean field, a Gaussian and a bilateral kernel over all pairs of pixels.
* Bootstrapped, after Bai et al. 2017: {ROUNDS} times, the unlabelled slices are predicted, their masks are
  refined by the random field, and the network goes on learning from labelled and predicted masks, all with
  the same weight; {LATER_UPDATES} updates in all, learning rate {LATER_RATE:g}.
* Ours: lambda {WEIGHT:g}, not 0.01, rising over the first {100 * WARM_UP:g} % of the time; it, the learning
  rate and the number of updates were chosen among five settings on two splits that are not in these tables;
  {LATER_UPDATES} updates, half of them on {BATCH} unlabelled slices, learning rate {LATER_RATE:g}. The exact
  stage is topofix's own."""


if __name__ == "__main__":
    main()
