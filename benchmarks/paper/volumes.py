"""Experiment 4: the prior (1, 0, 0) on volumes, as post-processing with lambda = 0.005.

    python benchmarks/paper/volumes.py --data ../shared/data
    python benchmarks/paper/volumes.py --quick --part phantom

* hippocampus: five folds over the 162 volumes of `train/`, by subject (column `pair`), the whole
  hippocampus as one label; the folder `test/` is not touched. For each fold a network is trained on the
  other four, less a few volumes that choose its best epoch. Gains in Dice by fold are the paper's Figure
  11.
* phantom: ultrasound volumes of a placenta by `phantom.py`. A network is trained on some of them and
  corrected on others: Dice, Betti numbers, barcodes before and after (the paper's Figure 12), and how the
  time of an optimisation step is shared between network and barcode.

How this differs from the paper:

* Data: its 67 placentas of 17 patients are private, so two other organs stand in for them, one of them made
  up. There are five folds, not 13, and correctness is counted as well, and tested.
* Network: a U-net with batch normalisation and few channels, trained by AdamW for minutes, on patches. That
  of the phantoms sees voxels of 1.6 mm; its logits are interpolated to the image's, where the topology
  counts.
* Refinement: Adam, as in the authors' code, for at most 200 steps; of `weights` 30 in the quick run.
  topofix shortens only bars that the label map shows, scales the learning rate to how far a step moves the
  logits, stops at the first step at which the Betti numbers are right, and returns its best state instead of
  its last. V of Eq. 5 is that of a box twice as long along every axis as the prediction, not the image's.
  `weights` is the method as published but for these differences, without a guarantee. `voxels` and `auto` (in
  volumes the exact stage alone) are topofix's own, with its default weight of the topological term.

Betti numbers are counted by labelling and by the Euler number, not by topofix.
"""

import copy
import csv
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from phantom import SHAPE, SPACING, phantom
from significance import arguments, betti, mcnemar, p_text, percent, table, wilcoxon, write

from topofix.correction import Correction, correct
from topofix.imaging.volumes import read
from topofix.learning import loss, refinement
from topofix.learning.dataset import Case, make_case
from topofix.learning.inference import forward, predict
from topofix.learning.loss import constraint_loss
from topofix.learning.network import Checkpoint, NetworkConfig
from topofix.learning.training import train
from topofix.prediction import Prediction, label_map
from topofix.records import RefinementOptions, TrainingOptions
from topofix.topology.persistence import barcode
from topofix.topology.priors import Prior
from topofix.topology.regions import dice

HERE = Path(__file__).resolve().parent
PARTS = ("hippocampus", "phantom")
WANTED = (1, 0, 0)
PRIOR = Prior.parse("1,0,0")
LAMBDA = 0.005
NETWORK = "network"
METHODS = {
    "weights": RefinementOptions(
        method="weights", guarantee=False, topology_weight=LAMBDA
    ),  # steps by Counts
    "voxels": RefinementOptions(method="voxels", guarantee=False),
    "auto": RefinementOptions(method="auto"),
}
SHORTEST = 0.01
"""Bars that are not longer are left out of figures and counts."""
LONGEST = 4
"""So many bars of each dimension are written down."""
CPU = torch.device("cpu")
COLOURS = ("red", "green", "blue")
"""Of the dimensions 0, 1 and 2, as in the paper's figures."""

Field = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

CAPTION = __doc__[__doc__.index("How this differs") :].strip()
"""Stands above all tables."""


@dataclass(frozen=True, slots=True)
class Counts:
    """In what a quick and a full run differ.

    Attributes:
        folds: Of the five, how many are done.
        training: At most so many hippocampi are trained on in each.
        validation: And so many choose the best epoch.
        epochs: Of the network for hippocampi.
        corrected: At most so many of those held back are corrected in each fold.
        phantoms: So many are trained on, choose, and are corrected.
        shape: Of a phantom that is corrected.
        phantom_epochs: Of their network.
        steps: Of `weights`, at most.
    """

    folds: int
    training: int
    validation: int
    epochs: int
    corrected: int
    phantoms: tuple[int, int, int]
    shape: tuple[int, int, int]
    phantom_epochs: int
    steps: int


FULL = Counts(5, 200, 12, 16, 200, (24, 4, 12), SHAPE, 60, 200)
QUICK = Counts(2, 20, 6, 8, 6, (10, 2, 2), (48, 120, 128), 30, 30)
FOLDS = 5


# --- Before and after ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A volume to be corrected, with what the network makes of it.

    Attributes:
        name: For tables.
        prediction: By a network that has not seen it.
        truth: The true mask, (*S).
        spacing: mm per axis.
    """

    name: str
    prediction: Prediction
    truth: Mask
    spacing: tuple[float, ...]


def subject(case: Case, checkpoint: Checkpoint, spacing: tuple[float, ...]) -> Subject:
    """Has a network look at a labelled case."""
    assert case.label is not None
    config = checkpoint.config
    logits = predict(checkpoint.network, config, case.image, case.grid, CPU)
    seen = Prediction(logits, config.label_values, 0, checkpoint, CPU, case.image, case.grid)
    return Subject(case.name, seen, case.label > 0, spacing)


def compare(one: Subject, steps: int) -> tuple[list[dict[str, Any]], dict[str, Correction]]:
    """All methods on one prediction, `weights` with so many steps: a row each, and what they came to."""
    rows = [row(one, NETWORK, label_map(one.prediction.logits) > 0)]
    corrections = {}
    for name, options in METHODS.items():
        if name == "weights":
            options = replace(options, steps=steps)
        started = time.perf_counter()
        with clocks() as spent:
            done = correct(one.prediction, {None: PRIOR}, one.spacing, "full", options)
        seconds = time.perf_counter() - started
        rows.append(row(one, name, label_map(done.logits) > 0))
        rows[-1] |= {"seconds": round(seconds, 3), "steps": done.steps}
        if name == "weights" and done.steps:
            rows[-1] |= {key: round(float(np.median(times)), 4) for key, times in spent.items()}
        corrections[name] = done
    print(one.name, *(f"{r['method']} {r['betti']} {r['dice']:.4f}" for r in rows), sep=", ", flush=True)
    return rows, corrections


@contextmanager
def clocks() -> Iterator[dict[str, list[float]]]:
    """Takes the seconds of every call of the network, of its gradients and of the barcodes, meanwhile."""
    places = {
        "forward": (refinement, "forward"),
        "backward": (torch.Tensor, "backward"),
        "barcode": (loss, "barcodes"),
    }
    spent: dict[str, list[float]] = {name: [] for name in places}
    with ExitStack() as stack:
        for name, (owner, attribute) in places.items():
            timed = timing(getattr(owner, attribute), spent[name])
            stack.enter_context(mock.patch.object(owner, attribute, timed))
        yield spent


def timing(call: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def timed(*values: Any, **named: Any) -> Any:
        started = time.perf_counter()
        result = call(*values, **named)
        seconds.append(time.perf_counter() - started)
        return result

    return timed


def row(one: Subject, method: str, mask: Mask) -> dict[str, Any]:
    found = betti(mask)
    return {"volume": one.name, "method": method, "betti": found, "dice": round(dice(mask, one.truth), 6)}


def of_method(rows: Sequence[dict[str, Any]], method: str, key: str) -> npt.NDArray[Any]:
    return np.array([found[key] for found in rows if found["method"] == method])


def right(rows: Sequence[dict[str, Any]], method: str) -> Mask:
    """Which volumes have the prior's Betti numbers."""
    return (of_method(rows, method, "betti") == np.array(WANTED)).all(1)


def summary_table(rows: Sequence[dict[str, Any]]) -> str:
    """All methods over all volumes."""
    before, wrong = of_method(rows, NETWORK, "dice"), ~right(rows, NETWORK)
    lines = []
    for method in (NETWORK, *METHODS):
        after = of_method(rows, method, "dice")
        gain = after - before
        cells = [method, str(len(after)), percent(right(rows, method).mean()), f"{after.mean():.4f}"]
        if method == NETWORK:
            cells += ["", "", "", "", "", ""]
        else:
            seconds = of_method(rows, method, "seconds")[wrong]
            cells += [
                f"{gain.mean():+.4f}",
                f"{gain[wrong].mean():+.4f}" if wrong.any() else "",
                f"{(gain > 0).sum()} / {(gain < 0).sum()}",
                p_text(wilcoxon(before, after)),
                p_text(mcnemar(right(rows, NETWORK), right(rows, method)).p),
                f"{np.median(seconds):.2f}" if wrong.any() else "",
            ]
        lines.append(cells)
    head = ["method", "volumes", "right", "Dice", "gain", "gain of wrong ones", "better / worse"]
    head += ["p of Dice (Wilcoxon)", "p of correctness (McNemar)", "median s of wrong ones"]
    return table(head, lines)


# --- Hippocampus --------------------------------------------------------------------------------------------

HIPPOCAMPUS = NetworkConfig(3, ("hippocampus",), (1.0, 1.0, 1.0), (40, 56, 40), channels=(8, 16, 32, 48))


def hippocampus(data: Path, counts: Counts) -> dict[str, Any]:
    """Every fold: a network, its predictions, and their corrections."""
    folder = data / "hippocampus"
    with (folder / "volumes.csv").open() as file:
        volumes = {line["volume"]: line["pair"] for line in csv.DictReader(file) if line["split"] == "train"}
    pairs = sorted(set(volumes.values()), key=int)
    np.random.default_rng(0).shuffle(pairs)
    cases = {name: read_hippocampus(folder / "train", name) for name in volumes}
    rows, folds = list[dict[str, Any]](), list[dict[str, Any]]()
    for fold in range(counts.folds):
        held_back = set(pairs[fold::FOLDS])
        rest = [pair for pair in pairs if pair not in held_back]
        learning = [cases[name] for pair in rest for name, owner in volumes.items() if owner == pair]
        choosing, training = learning[: counts.validation], learning[counts.validation :][: counts.training]
        options = TrainingOptions(
            loss="dice",
            epochs=counts.epochs,
            batch_size=2,
            patience=counts.epochs,
            topology_epochs=0,
            seed=fold,
        )
        result = train(training, choosing, HIPPOCAMPUS, options, CPU)
        folds.append(
            {"training": len(training), "best_epoch": result.best_epoch, "seconds": round(result.seconds, 1)}
        )
        print(f"fold {fold + 1}: {folds[-1]}", flush=True)
        checkpoint = Checkpoint(f"fold {fold + 1}", HIPPOCAMPUS, result.network)
        tested = [name for name, pair in volumes.items() if pair in held_back]
        for name in tested[: counts.corrected]:
            found, _ = compare(subject(cases[name], checkpoint, HIPPOCAMPUS.spacing), counts.steps)
            rows += [{"fold": fold + 1, **line} for line in found]
    return {"training": folds, "rows": rows}


def read_hippocampus(folder: Path, name: str) -> Case:
    volume = read(folder / "images" / f"{name}.nii.gz")
    whole = read(folder / "labels" / f"{name}.nii.gz").array > 0
    spacing, orientation = volume.spacing, volume.orientation
    return make_case(name, volume.array, whole.astype(np.uint8), spacing, orientation, HIPPOCAMPUS)


def hippocampus_text(found: dict[str, Any], figure: str) -> str:
    counts, rows = found["counts"], found["rows"]
    folds = sorted({line["fold"] for line in rows})
    lines = []
    for fold in folds:
        here = [line for line in rows if line["fold"] == fold]
        before = of_method(here, NETWORK, "dice")
        cells = [
            str(fold),
            str(found["training"][fold - 1]["training"]),
            str(len(before)),
            f"{before.mean():.4f}",
        ]
        cells += [f"{(of_method(here, method, 'dice') - before).mean():+.4f}" for method in METHODS]
        cells += [percent(right(here, method).mean()) for method in (NETWORK, *METHODS)]
        lines.append(cells)
    head = ["fold", "trained on", "volumes", "Dice", *(f"gain {method}" for method in METHODS)]
    head += ["right", *(f"right {method}" for method in METHODS)]
    return f"""## Hippocampus, {len(folds)} of {FOLDS} folds by subject over the 162 volumes of `train/`

A U-net with channels {HIPPOCAMPUS.channels} at 1 mm, Dice loss, AdamW, {counts["epochs"]} epochs of a patch
per volume, {counts["validation"]} other volumes to choose the epoch. The true mask itself is (1, 0, 0) in
85 % of the volumes only.

{table(head, lines)}

![Gain in Dice by fold]({figure})

All volumes; `wrong ones` are those whose prediction is not (1, 0, 0). Tests are two-sided, over volumes.

{summary_table(rows)}"""


# --- Phantom ------------------------------------------------------------------------------------------------

COARSE = 1.6
"""mm of a voxel that the network sees: a whole volume then goes through it in one piece."""
PLACENTA = NetworkConfig(3, ("placenta",), (COARSE,) * 3, (32, 64, 64), channels=(8, 16, 32, 48))


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """A phantom, what the network made of it, and what the methods came to."""

    image: Field
    one: Subject
    corrections: dict[str, Correction]

    @property
    def logits(self) -> dict[str, torch.Tensor]:
        """(2, *S) of the network and of each method, by name."""
        after = {name: done.logits for name, done in self.corrections.items()}
        return {NETWORK: self.one.prediction.logits, **after}


def placenta(counts: Counts, figure: Path) -> dict[str, Any]:
    """A network for phantoms, and its corrections; draws the first of those that are most wrong."""
    spacing = (SPACING * SHAPE[1] / counts.shape[1],) * 3
    started = time.perf_counter()
    made = [phantom(seed, counts.shape) for seed in range(sum(counts.phantoms))]
    making = time.perf_counter() - started
    cases = [
        make_case(f"phantom {seed}", one.image, one.mask, spacing, ((0, 1, 2), ()), PLACENTA)
        for seed, one in enumerate(made)
    ]
    first, last = counts.phantoms[0], sum(counts.phantoms[:2])
    options = TrainingOptions(
        loss="dice",
        epochs=counts.phantom_epochs,
        batch_size=2,
        patience=counts.phantom_epochs,
        validate_every=5,
        topology_epochs=0,
    )
    result = train(cases[:first], cases[first:last], PLACENTA, options, CPU)
    print(f"{len(made)} phantoms in {making:.0f} s; training in {result.seconds:.0f} s", flush=True)
    checkpoint = Checkpoint("placenta", PLACENTA, result.network)
    rows, example, most = list[dict[str, Any]](), None, -1
    for case, one in zip(cases[last:], made[last:], strict=True):
        seen = subject(case, checkpoint, spacing)
        found, corrections = compare(seen, counts.steps)
        rows += found
        error = PRIOR.constraints[0].error(found[0]["betti"])
        if error > most:
            most, example = error, Example(one.image, seen, corrections)
    assert example is not None
    draw_example(example, figure)
    fields = {name: field_of(logits) for name, logits in example.logits.items()}
    return {
        "making_seconds": round(making / len(made), 2),
        "training": {"best_epoch": result.best_epoch, "seconds": round(result.seconds, 1)},
        "rows": rows,
        "example": example.one.name,
        "bars": {name: bars_of(field) for name, field in fields.items()},
        "whole_step": whole_step(checkpoint, example.one, spacing),
    }


def field_of(logits: torch.Tensor) -> Field:
    """The placenta's probability, (*S)."""
    return torch.softmax(logits, 0)[1].numpy()


def bars_of(field: Field) -> dict[str, Any]:
    """How many bars are longer than `SHORTEST`, by dimension, and how long the longest are."""
    bars = barcode(field, min_persistence=SHORTEST)
    lengths = []
    for dimension in range(field.ndim):
        births, deaths = bars.of(dimension).values(field)
        lengths.append(births - deaths)
    longest = [[round(float(length), 4) for length in found[:LONGEST]] for found in lengths]
    return {"counts": [len(found) for found in lengths], "longest": longest}


def whole_step(checkpoint: Checkpoint, one: Subject, spacing: tuple[float, ...]) -> dict[str, float]:
    """Seconds of one step of Eq. 5 where the network sees every voxel of the image and nothing is cropped."""
    assert one.prediction.image is not None
    network, config = copy.deepcopy(checkpoint.network), replace(checkpoint.config, spacing=spacing)
    images = one.prediction.image[None, None]
    started = time.perf_counter()
    probabilities = torch.softmax(forward(network, config, images)[0], 0)
    forwards = time.perf_counter()
    field = probabilities[1].detach().numpy()
    bars = barcode(field, threads=1)
    barcodes = time.perf_counter()
    change = (probabilities - torch.softmax(one.prediction.logits, 0)).square().sum() / field.size
    (change + LAMBDA * constraint_loss(probabilities[1], bars, PRIOR.constraints[0])).backward()
    end = time.perf_counter()
    return {
        "forward": round(forwards - started, 3),
        "barcode": round(barcodes - forwards, 3),
        "backward": round(end - barcodes, 3),
        "bars": len(bars),
    }


def placenta_text(found: dict[str, Any], figure: str) -> str:
    counts, rows, bars = found["counts"], found["rows"], found["bars"]
    size = " x ".join(map(str, counts["shape"]))
    names = sorted({line["volume"] for line in rows}, key=lambda name: int(name.split()[1]))
    each = []
    for name in names:
        here = [line for line in rows if line["volume"] == name]
        each.append([name, *(f"{tuple(line['betti'])}, {line['dice']:.4f}" for line in here)])
    drawn = [
        [
            name,
            *map(str, code["counts"]),
            *(" ".join(f"{length:.2f}" for length in some) for some in code["longest"]),
        ]
        for name, code in bars.items()
    ]
    return f"""## Ultrasound phantoms of {size} voxels

Every true mask is (1, 0, 0). A U-net with channels {PLACENTA.channels} at {COARSE} mm, Dice loss, AdamW,
{counts["phantom_epochs"]} epochs of a patch per phantom on {counts["phantoms"][0]} phantoms;
{counts["phantoms"][1]} others choose the epoch, {counts["phantoms"][2]} are corrected.

{summary_table(rows)}

Betti numbers and Dice of each:

{table(["phantom", NETWORK, *METHODS], each)}

### Barcodes of {found["example"]}

Bars longer than {SHORTEST}, and the lengths of the {LONGEST} longest, by dimension (the paper's Figure 12).

{table(["", "b0", "b1", "b2", "longest of 0", "of 1", "of 2"], drawn)}

![{found["example"]}, before and after, with barcodes]({figure})

### Seconds of an optimisation step

{steps_text(found)}"""


def steps_text(found: dict[str, Any]) -> str:
    """How a step is shared out; of real steps the medians over phantoms."""
    keys = ("forward", "backward", "barcode")
    timed, whole, lines = [line for line in found["rows"] if "barcode" in line], found["whole_step"], []
    if timed:
        parts = [float(np.median([line[key] for line in timed])) for key in keys]
        step = float(np.median([line["seconds"] / line["steps"] for line in timed]))
        lines.append(["as `weights` does it", *(f"{part:.2f}" for part in parts), f"{step:.2f}"])
    parts = [whole[key] for key in keys]
    lines.append(["network on every voxel", *(f"{part:.2f}" for part in parts), f"{sum(parts):.2f}"])
    shares = table(["", "network, forward", "backward", "barcode", "whole step"], lines)
    return f"""`weights` lets network and barcode see only the box where the placenta may be. Backward is
through loss, resampling and network; the whole step has resampling, Adam and bookkeeping besides. For
comparison a step in which the network sees each voxel of the image, in overlapping windows of 96, and the
barcode is that of the whole volume, in one thread. The paper gives about 6 s for 96 x 240 x 256 voxels.

{shares}"""


# --- Figures ------------------------------------------------------------------------------------------------


def draw_gains(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """The gain in Dice of each fold, a colour a method, as in the paper's Figure 11."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    folds = sorted({line["fold"] for line in rows})
    for place, method in enumerate(METHODS):
        gains = []
        for fold in folds:
            here = [line for line in rows if line["fold"] == fold]
            gains.append((of_method(here, method, "dice") - of_method(here, NETWORK, "dice")).mean())
        axes.scatter(np.array(folds) + 0.12 * (place - 1), gains, color=f"C{place}", label=method)
        axes.axhline(np.mean(gains), color=f"C{place}", linewidth=0.8, linestyle="--")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set(xlabel="fold", ylabel="gain in mean Dice", xticks=folds)
    figure.legend(loc="outside upper center", ncols=len(METHODS))
    figure.savefig(path, dpi=120)


def draw_example(example: Example, path: Path) -> None:
    """Above, the plane that changed most with the true outline and that of each state; below, barcodes."""
    from matplotlib.figure import Figure

    masks = {name: label_map(logits) > 0 for name, logits in example.logits.items()}
    truth = example.one.truth
    changed = sum((mask != masks[NETWORK]).sum((1, 2)) for mask in masks.values())
    wrong = (masks[NETWORK] != truth).sum((1, 2))
    plane = int((changed if changed.any() else wrong).argmax())
    figure = Figure(figsize=(3.6 * len(masks), 7), layout="constrained")
    above, below = figure.subplots(2, len(masks), squeeze=False)
    for (name, logits), outline, code in zip(example.logits.items(), above, below, strict=True):
        outline.imshow(example.image[plane], cmap="gray", vmin=0, vmax=1)
        outline.contour(truth[plane], [0.5], colors="red", linewidths=0.8)
        if masks[name][plane].any():
            colour = "yellow" if name == NETWORK else "deepskyblue"
            outline.contour(masks[name][plane], [0.5], colors=colour, linewidths=0.8)
        outline.set_title(f"{name}: Betti numbers {betti(masks[name])}")
        outline.set_axis_off()
        draw_barcode(code, field_of(logits))
    figure.suptitle(f"{example.one.name}, plane {plane}; the true outline is red")
    figure.savefig(path, dpi=110)


def draw_barcode(axes: Any, field: Field) -> None:
    """Bars from dimension 0 at the bottom to 2 at the top, the filtration running from 1 to 0."""
    bars = barcode(field, min_persistence=SHORTEST)
    births, deaths = bars.values(field)
    colours = [COLOURS[dimension] for dimension in bars.dimension]
    axes.hlines(
        np.arange(len(bars)), deaths, births, colors=colours, linewidth=max(0.4, min(3, 120 / len(bars)))
    )
    axes.set(xlim=(1, 0), ylim=(-1, len(bars)), yticks=[], xlabel="filtration value")


# --- Run ----------------------------------------------------------------------------------------------------


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument(
        "--part", nargs="+", choices=PARTS, default=PARTS, help="the others are kept as they are"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    started = time.perf_counter()
    counts, name = (QUICK, "volumes_quick") if options.quick else (FULL, "volumes")
    earlier = HERE / f"{name}.json"
    found = json.loads(earlier.read_text("utf-8"))["found"] if earlier.is_file() else {}
    for part in options.part:
        begun, figure = time.perf_counter(), HERE / f"{name}_{part}.png"
        if part == "hippocampus":
            results = hippocampus(options.data, counts)
            draw_gains(results["rows"], figure)
        else:
            results = placenta(counts, figure)
        found[part] = {"counts": asdict(counts), "seconds": round(time.perf_counter() - begun, 1), **results}
    texts = {"hippocampus": hippocampus_text, "phantom": placenta_text}
    pages = [text(found[part], f"{name}_{part}.png") for part, text in texts.items() if part in found]
    page = write(
        __file__,
        "Experiment 4: one piece without tunnels or cavities in 3-D",
        found,
        "\n\n".join([CAPTION, *pages]),
        quick=options.quick,
        started=started,
    )
    print(page.read_text("utf-8"))


if __name__ == "__main__":
    main()
