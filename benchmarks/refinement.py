"""The whole refinement against other ways: real predictions, random fields, the optimum, a large volume.

    python benchmarks/refinement.py --data ../shared/data
    python benchmarks/refinement.py --part optimum ellipsoid

* acdc: short-axis slices of the `test` patients, the prior being the Betti numbers of the true myocardium.
* hippocampus: the `test` volumes, 1,0,0. Both on predictions of the bundled models, wrong ones only, and only
  where the image shows what is asked for: as many bars of length 0.05 as the prior wants, in each dimension.
* fields: random smooth fields with random priors that their barcodes hold; the exact stage alone.
* optimum: the exact stage's cost, the sum of |logit| over flipped pixels, against the least of all masks with
  the same Betti numbers, on grids so small that all of them can be looked at.
* ellipsoid: the exact stage on 96 x 240 x 256 voxels with hundreds of defects: time, memory, cost.

All methods get the same predictions in the same run, one after the other for each slice or volume, with one
thread of PyTorch. Betti numbers are counted here, by labelling and the Euler number, not by topofix. Every
part of the result is kept in `refinement.json` until it is measured again, and `refinement.md` shows all.
"""

import argparse
import copy
import csv
import heapq
import itertools
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.stats import wilcoxon

from topofix.correction import correct
from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import read
from topofix.learning.inference import forward
from topofix.learning.loss import TopologicalLoss, region_field
from topofix.prediction import Prediction, label_map, predict_volume
from topofix.records import CaseOptions, RefinementOptions
from topofix.request import PriorRequest, one_slice
from topofix.topology.persistence import barcode, simple_points
from topofix.topology.priors import FOREGROUND, Constraint, Prior
from topofix.topology.regions import dice, region_mask
from topofix.topology.repair import repair

HERE = Path(__file__).resolve().parent
EVIDENCE = 0.05
"""The length of a bar that counts as seen."""
TOLERATED = 0.01
"""A Dice that falls by more is a loss."""
STEPS, RATE, WEIGHT = 100, 1e-5, 0.01
"""Of the published method: Adam's steps and learning rate, and lambda."""
EACH = 3
"""It is run on every third wrong slice or volume."""
RAW, LARGEST, PAPER, AUTO = "prediction", "largest components", "weights as published", "topofix auto"
ELLIPSOID = (96, 240, 256)
STATUS = Path("/proc/self/status")
PEAK_RESET = Path("/proc/self/clear_refs")

Mask = np.ndarray
Numbers = tuple[int, ...]


# --- Counting -----------------------------------------------------------------------------------------------


def counted(mask: Mask) -> Numbers:
    """Betti numbers of a mask whose voxels touch at corners, without topofix."""
    mask = np.pad(np.asarray(mask, bool), 1)
    components = ndimage.label(mask, np.ones((3,) * mask.ndim))[1]
    enclosed = ndimage.label(~mask)[1] - 1
    if mask.ndim == 2:
        return components, enclosed
    return components, components + enclosed - euler(mask), enclosed


def euler(mask: Mask) -> int:
    """Euler number of closed cubes within a margin: cells of even dimension less those of odd dimension."""
    total = 0
    for flat_axes in itertools.product((False, True), repeat=mask.ndim):
        cells = mask
        for axis in np.flatnonzero(flat_axes):  # a face is there if either of its two cubes is
            first = cells.take(range(cells.shape[axis] - 1), axis)
            cells = first | cells.take(range(1, cells.shape[axis]), axis)
        total += (-1) ** (mask.ndim - sum(flat_axes)) * int(cells.sum())
    return total


def bars_seen(field: np.ndarray) -> Numbers:
    """How many bars of a probability field are long enough, by dimension."""
    bars = barcode(field, min_persistence=EVIDENCE)
    return tuple(len(bars.of(dimension)) for dimension in range(field.ndim))


# --- Real predictions ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A slice or a volume with a prior of one region.

    Attributes:
        name: Its case, and slice.
        prediction: Of this slice as a stack of one, or of the volume.
        index: 0 for a slice, None for a volume.
        prior: What is asked for.
        truth: The true mask of the region, (*S).
        spacing: mm per axis of the prediction.
    """

    name: str
    prediction: Prediction
    index: int | None
    prior: Prior
    truth: Mask
    spacing: tuple[float, ...]

    @property
    def constraint(self) -> Constraint:
        return self.prior.constraints[0]

    @property
    def wanted(self) -> Numbers:
        return tuple(wish.low for wish in self.constraint.betti)

    @property
    def logits(self) -> torch.Tensor:
        return self.of_slice(self.prediction.logits)

    @property
    def labels(self) -> np.ndarray:
        return label_map(self.logits)

    @property
    def mask(self) -> Mask:
        return region_mask(self.labels, self.constraint.region)

    @property
    def field(self) -> np.ndarray:
        """The region's probability, (*S)."""
        return region_field(torch.softmax(self.logits, 0), self.constraint.region).numpy()

    def of_slice(self, logits: torch.Tensor) -> torch.Tensor:
        return one_slice(logits, self.index, self.prediction.slice_axis + 1)

    def with_mask(self, mask: Mask) -> np.ndarray:
        """The label map with another mask of the region: flipped voxels get the likeliest label there is."""
        logits, labels = self.logits.numpy(), self.labels
        ours = [
            label in self.constraint.region or (label > 0 and self.constraint.region == FOREGROUND)
            for label in range(len(logits))
        ]
        for inside, where in ((True, mask & ~self.mask), (False, self.mask & ~mask)):
            allowed = np.flatnonzero(np.equal(ours, inside))
            labels[where] = allowed[logits[allowed][:, where].argmax(0)]
        return labels


def acdc(data: Path) -> Iterator[Part]:
    """Slices with a true myocardium."""
    with (data / "acdc/topology_slices.csv").open() as file:
        rows = [
            f"{row['subject']}_frame{int(row['frame']):02d},{row['slice']},myocardium,"
            f"{row['myo_b0']},{row['myo_b1']}"
            for row in csv.DictReader(file)
            if row["split"] == "test" and int(row["myo_px"])
        ]
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "priors.csv"
        table.write_text("\n".join(["case,slice,label,b0,b1", *rows]) + "\n")
        request = PriorRequest(table=read_priors(table))
    for truth in sorted((data / "acdc/test").glob("*_gt.nii.gz")):
        image = truth.with_name(truth.name.replace("_gt", ""))
        yield from parts_of(image, truth, "cardiac-sax-2d", request)


def hippocampus(data: Path) -> Iterator[Part]:
    """Whole volumes."""
    for image in sorted((data / "hippocampus/test/images").glob("*.nii.gz")):
        truth = data / "hippocampus/test/labels" / image.name
        yield from parts_of(image, truth, "hippocampus-3d", PriorRequest(("1,0,0",)))


def parts_of(image: Path, truth: Path, model: str, request: PriorRequest) -> Iterator[Part]:
    volume, labels = read(image), read(truth).array
    prediction, priors = predict_volume(volume, CaseOptions(model=model), request)
    assert prediction.image is not None
    axis = prediction.slice_axis
    for index, prior in priors.items():
        here, name = prediction, image.name.removesuffix(".nii.gz")
        if index is not None:
            here = replace(
                prediction,
                logits=prediction.logits.narrow(axis + 1, index, 1).clone(),
                image=prediction.image.narrow(axis, index, 1).clone(),
            )
            name = f"{name} slice {index}"
        mask = region_mask(one_slice(labels, index, axis), prior.constraints[0].region)
        yield Part(name, here, None if index is None else 0, prior, mask, volume.spacing)


def with_topofix(options: RefinementOptions) -> Callable[[Part], np.ndarray]:
    def method(part: Part) -> np.ndarray:
        done = correct(part.prediction, {part.index: part.prior}, part.spacing, "full", options)
        return label_map(part.of_slice(done.logits))

    return method


def published(part: Part) -> np.ndarray:
    """Eq. 5 on all weights of a copy of the network, over the whole image, for a fixed number of steps."""
    prediction = part.prediction
    assert prediction.checkpoint is not None
    assert prediction.image is not None
    assert prediction.grid is not None
    grid = prediction.grid if part.index is None else prediction.grid.of_slice()
    images = grid.to_network(one_slice(prediction.image, part.index, prediction.slice_axis))
    network, config = copy.deepcopy(prediction.checkpoint.network).eval(), prediction.checkpoint.config
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    topology, first = TopologicalLoss(part.prior), None
    for _ in range(STEPS):
        probabilities = torch.softmax(grid.to_image(forward(network, config, images)), 0)
        first = probabilities.detach() if first is None else first
        loss = (probabilities - first).square().sum(0).mean() + WEIGHT * topology(probabilities[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        return label_map(grid.to_image(forward(network, config, images)))


def largest(part: Part) -> np.ndarray:
    """As many components as are wanted, the largest; and of what they enclose as much as is wanted."""
    mask = largest_pieces(part.mask, part.wanted[0], np.ones((3,) * part.mask.ndim))
    around = np.pad(~mask, 1, constant_values=True)
    pieces = ndimage.label(around)[0]
    outside = pieces == pieces.flat[0]
    enclosed = largest_pieces(around & ~outside, part.wanted[-1], None)
    return part.with_mask(~(outside | enclosed)[(slice(1, -1),) * mask.ndim])


def largest_pieces(mask: Mask, count: int, neighbours: np.ndarray | None) -> Mask:
    pieces, _ = ndimage.label(mask, neighbours)
    sizes = np.bincount(pieces.ravel())[1:]
    return np.isin(pieces, 1 + np.argsort(-sizes, kind="stable")[:count])


def morphology(operation: Callable[..., Mask], radius: int) -> Callable[[Part], np.ndarray]:
    """Opening or closing by a disc or ball; beyond the border lies background."""

    def method(part: Part) -> np.ndarray:
        mask = np.pad(part.mask, radius)
        offsets = np.indices((2 * radius + 1,) * mask.ndim) - radius
        changed = operation(mask, np.square(offsets).sum(0) <= radius**2)
        return part.with_mask(changed[(slice(radius, -radius),) * mask.ndim])

    return method


def grown(part: Part) -> np.ndarray:
    return part.with_mask(homotopic(part.field))


def homotopic(field: np.ndarray) -> Mask:
    """A set without holes, grown voxel by voxel from where the largest component is most probable.

    Always the most probable simple point of those that touch the set, down to 1/2. One that is not simple
    waits until a neighbour has been added.
    """
    rank, padded = field.ndim, np.pad(field, 1)
    component = largest_pieces(padded > 0.5, 1, np.ones((3,) * rank))
    grown = np.zeros(padded.shape, np.uint8)
    if not component.any():
        return grown[(slice(1, -1),) * rank] > 0
    cube = np.indices((3,) * rank).reshape(rank, -1) - 1
    strides = np.array(padded.strides) // padded.itemsize
    around = strides @ cube
    values, inside, waiting = padded.ravel(), grown.ravel(), padded.ravel() > 0.5
    known: dict[bytes, bool] = {}

    def simple(voxel: int) -> bool:
        neighbourhood = inside[voxel + around]
        key = neighbourhood.tobytes()
        if key not in known:
            known[key] = bool(simple_points(neighbourhood.reshape((3,) * rank))[(1,) * rank])
        return known[key]

    first = int(np.where(component, padded, -np.inf).argmax())
    heap = [(-float(values[first]), first)]
    while heap:
        _, voxel = heapq.heappop(heap)
        waiting[voxel] = True
        if voxel != first and not simple(voxel):
            continue
        inside[voxel], waiting[voxel] = 1, False
        near = voxel + around
        near = near[waiting[near]]
        waiting[near] = False  # in the heap now, and once
        for neighbour, value in zip(near.tolist(), values[near].tolist(), strict=True):
            heapq.heappush(heap, (-value, neighbour))
    return grown[(slice(1, -1),) * rank] > 0


METHODS: dict[str, Callable[[Part], np.ndarray]] = {
    RAW: lambda part: part.labels,
    LARGEST: largest,
    "closing, radius 1": morphology(ndimage.binary_closing, 1),
    "closing, radius 2": morphology(ndimage.binary_closing, 2),
    "opening, radius 1": morphology(ndimage.binary_opening, 1),
    "opening, radius 2": morphology(ndimage.binary_opening, 2),
    "homotopic growing": grown,
    PAPER: published,
    "topofix exact": with_topofix(RefinementOptions(method="exact")),
    "topofix voxels, no guarantee": with_topofix(RefinementOptions(method="voxels", guarantee=False)),
    "topofix weights, 30 steps": with_topofix(RefinementOptions(method="weights", steps=30)),
    AUTO: with_topofix(RefinementOptions(method="auto")),
}


def suits(method: str, part: Part, number: int) -> bool:
    """Growing knows but one prior, and the published method takes too long for all parts."""
    if method == PAPER:
        return number % EACH == 0
    return method != "homotopic growing" or part.wanted == (1,) + (0,) * (len(part.wanted) - 1)


def compare(parts: Iterator[Part], most: int | None, kept: list[dict[str, Any]]) -> dict[str, Any]:
    """All methods on the wrong parts, but for those of which there are rows already."""
    torch.set_num_threads(1)
    total, unseen, wrong = 0, [], 0
    rows, done = list(kept), {row["method"] for row in kept}
    for part in parts:
        total += 1
        if any(seen < asked for seen, asked in zip(bars_seen(part.field), part.wanted, strict=True)):
            unseen.append(part.name)
            continue
        before = counted(part.mask)
        if before == part.wanted:
            continue
        for name, method in METHODS.items():
            if name in done or not suits(name, part, wrong):
                continue
            started = time.perf_counter()
            labels = method(part)
            seconds = time.perf_counter() - started
            mask = region_mask(labels, part.constraint.region)
            betti = counted(mask)
            rows.append(
                {
                    "part": part.name,
                    "method": name,
                    "wanted": part.wanted,
                    "betti": betti,
                    "error": part.constraint.error(betti),
                    "error_before": part.constraint.error(before),
                    "dice": round(dice(mask, part.truth), 6),
                    "dice_before": round(dice(part.mask, part.truth), 6),
                    "seconds": round(seconds, 5),
                }
            )
        print(
            part.name,
            part.wanted,
            before,
            "->",
            rows[-1]["betti"],
            f"Dice {rows[-1]['dice']:.3f}",
            flush=True,
        )
        wrong += 1
        if wrong == most:
            break
    return {
        "parts": total,
        "unseen": unseen,
        "wrong": wrong,
        "methods": [summary(name, [row for row in rows if row["method"] == name]) for name in METHODS],
        "p_values": {other: p_value(rows, other) for other in (RAW, LARGEST, PAPER)},
        "rows": rows,
    }


def summary(method: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    if not rows:
        return {"method": method, "parts": 0}
    lost = [row["dice_before"] - row["dice"] > TOLERATED for row in rows]
    return {
        "method": method,
        "parts": len(rows),
        "right": float(np.mean([row["error"] == 0 for row in rows])),
        "dice": float(np.mean([row["dice"] for row in rows])),
        "lost": float(np.mean(lost)),
        "error_grew": sum(row["error"] > row["error_before"] for row in rows),
        "median_seconds": float(np.median([row["seconds"] for row in rows])),
    }


def p_value(rows: list[dict[str, Any]], other: str) -> float | None:
    """Of the hypothesis that `auto` has no better Dice than another method, in pairs; None without any."""
    by_method = [
        {row["part"]: row["dice"] for row in rows if row["method"] == name} for name in (AUTO, other)
    ]
    ours, theirs = (np.array([found[part] for part in by_method[1]]) for found in by_method)
    if not len(ours) or (ours == theirs).all():
        return None
    return float(wilcoxon(ours, theirs, alternative="greater").pvalue)


# --- Random fields ------------------------------------------------------------------------------------------


def smooth_logits(shape: tuple[int, ...], sigma: float, seed: int) -> np.ndarray:
    """Twice a smooth Gaussian noise of standard deviation 1, (*S)."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return (2 * noise / noise.std()).astype(np.float32)


def probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def random_wish(field: np.ndarray, most: Numbers, seed: int) -> Numbers:
    """Random Betti numbers, at least one component, no more of anything than the barcode holds."""
    rng = np.random.default_rng((seed, 1))
    highest = [min(seen, limit) for seen, limit in zip(bars_seen(field), most, strict=True)]
    return tuple(int(rng.integers(dimension == 0, high + 1)) for dimension, high in enumerate(highest))


def repaired(logits: np.ndarray, wanted: Numbers) -> Mask:
    """The exact stage on the foreground of a field."""
    prior = Prior.parse(",".join(map(str, wanted)))
    return repair(np.stack([np.zeros_like(logits), logits]), prior).labels > 0


def fields(count: int) -> list[dict[str, Any]]:
    """The exact stage on large random fields."""
    results = []
    for shape, most in (((128, 128), (5, 5)), ((64, 64, 64), (5, 5, 3))):
        misses, seconds = [], []
        for seed in range(count):
            logits = smooth_logits(shape, 3, seed)
            wanted = random_wish(probabilities(logits), most, seed)
            started = time.perf_counter()
            mask = repaired(logits, wanted)
            seconds.append(time.perf_counter() - started)
            found = counted(mask)
            if found != wanted:
                misses.append({"seed": seed, "wanted": wanted, "found": found})
            if (seed + 1) % max(1, count // 10) == 0:
                print(f"{shape}: {seed + 1 - len(misses)} of {seed + 1} exact", flush=True)
        results.append(
            {
                "shape": shape,
                "fields": count,
                "exact": 1 - len(misses) / count,
                "median_seconds": float(np.median(seconds)),
                "most_seconds": max(seconds),
                "misses": misses,
            }
        )
    return results


# --- The optimum --------------------------------------------------------------------------------------------


def all_masks(rows: int, columns: int) -> np.ndarray:
    """Betti numbers of every mask of a small grid, (2 ** (rows * columns), 2); bit k is pixel k.

    Row by row. Of the rows seen, only this counts for those to come: the last one, and which of its runs
    are connected by earlier rows. There are few such states, so that the next state and the number of
    components that ended are read off a table; the Euler number adds up over pairs of rows.
    """
    patterns = [tuple(bool(number >> bit & 1) for bit in range(columns)) for number in range(2**columns)]
    states: dict[tuple[int, ...], int] = {(0,) * columns: 0}  # the component of each pixel, 0 for none
    steps: list[list[tuple[int, int]]] = []
    for state in iter_growing(states):
        steps.append([])
        for pattern in patterns:
            following, ended = next_state(state, pattern)
            steps[-1].append((states.setdefault(following, len(states)), ended))
    table = np.array(steps)  # (state, pattern, 2)
    pairs = np.array([[euler_between(upper, lower) for lower in patterns] for upper in patterns])
    state, ended, chi, last = (np.zeros(1, np.int32) for _ in range(4))
    everything = np.arange(len(patterns), dtype=np.int32)
    for _ in range(rows):
        # the rows so far vary fastest, as their bits are the lower ones
        ended = (ended[None] + table[state, :, 1].T).astype(np.int8).ravel()
        chi = (chi[None] + pairs[last].T).astype(np.int8).ravel()
        following = table[state, :, 0].T.ravel().astype(np.int16)
        last = np.repeat(everything, len(state))
        state = following
    components = ended + table[state, 0, 1]
    return np.stack([components, components - (chi + pairs[last, 0])], axis=1).astype(np.int8)


def iter_growing(states: dict[tuple[int, ...], int]) -> Iterator[tuple[int, ...]]:
    """The keys of a dictionary, those included that are added meanwhile."""
    number = 0
    while number < len(states):
        yield list(states)[number]
        number += 1


def next_state(state: tuple[int, ...], pattern: tuple[bool, ...]) -> tuple[tuple[int, ...], int]:
    """Components along a row, given those of the row above, and how many ended there."""
    columns = len(state)
    group = list(range(2 * columns))  # a pixel of the row above, then one of this row

    def root(pixel: int) -> int:
        while group[pixel] != pixel:
            pixel = group[pixel]
        return pixel

    def join(a: int, b: int) -> None:
        group[root(a)] = root(b)

    for a, b in itertools.combinations(range(columns), 2):
        if state[a] and state[a] == state[b]:
            join(a, b)
    for a in range(columns):
        if not pattern[a]:
            continue
        for b in range(max(0, a - 1), min(columns, a + 2)):
            if state[b]:
                join(columns + a, b)
            if pattern[b]:
                join(columns + a, columns + b)
    above = {root(b) for b in range(columns) if state[b]}
    names: dict[int, int] = {}
    following = tuple(
        names.setdefault(root(columns + a), len(names) + 1) if pattern[a] else 0 for a in range(columns)
    )
    return following, len(above - set(names))


def euler_between(upper: tuple[bool, ...], lower: tuple[bool, ...]) -> int:
    """What the lower of two rows and the line between them add to the Euler number of closed pixels."""
    either = [a or b for a, b in zip(upper, lower, strict=True)]

    def points(row: list[bool] | tuple[bool, ...]) -> int:
        return sum(a or b for a, b in itertools.pairwise((False, *row, False)))

    return sum(lower) - points(lower) - sum(either) + points(either)


def all_costs(logits: np.ndarray) -> np.ndarray:
    """The cost of every mask: the sum of |logit| over pixels that differ from logit > 0."""
    costs = np.zeros(1, np.float32)
    for value in logits.ravel():
        costs = np.concatenate([costs + max(value, 0), costs + max(-value, 0)])
    return costs


def optimum(counts: dict[int, int]) -> list[dict[str, Any]]:
    """The exact stage's cost on grids of 4 x 4 and 5 x 5 pixels, against the best of all masks.

    Apart where something is missing at 1/2: then the exact stage keeps to the longest bars, and the best of
    all masks may be one that shows the feature where the field has none.
    """
    results = []
    for side, count in counts.items():
        numbers = all_masks(side, side)
        check_table(numbers, side)
        ratios: dict[bool, list[float]] = {False: [], True: []}
        missed = {False: 0, True: 0}
        for seed in itertools.count(1):
            logits = smooth_logits((side, side), 0.7, seed)
            wanted = random_wish(probabilities(logits), (5, 5), seed)
            possible = (numbers == wanted).all(1)
            there = counted(logits > 0)
            if there == wanted or not possible.any():
                continue
            missing = any(count < wish for count, wish in zip(there, wanted, strict=True))
            mask = repaired(logits, wanted)
            best = all_costs(logits)[possible].min()
            if counted(mask) == wanted:
                ratios[missing].append(float(np.abs(logits)[mask != (logits > 0)].sum() / best))
            else:
                missed[missing] += 1
            if sum(map(len, ratios.values())) + sum(missed.values()) == count:
                break
        for missing, found in ratios.items():
            results.append(
                {
                    "shape": (side, side),
                    "missing": missing,
                    "fields": len(found) + missed[missing],
                    "missed": missed[missing],
                    "mean": float(np.mean(found)),
                    "percentile_95": float(np.percentile(found, 95)),
                    "most": max(found),
                    "optimal": float(np.mean(np.array(found) < 1.0001)),
                    "within_1.5": float(np.mean(np.array(found) <= 1.5)),
                }
            )
            print(results[-1], flush=True)
    return results


def check_table(numbers: np.ndarray, side: int) -> None:
    """Random masks of the table against counting them one by one."""
    for mask in np.random.default_rng(0).integers(0, len(numbers), 500).tolist():
        pixels = np.array([mask >> bit & 1 for bit in range(side * side)]).reshape(side, side)
        assert counted(pixels) == tuple(numbers[mask].tolist())


# --- The ellipsoid ------------------------------------------------------------------------------------------


def noisy_ellipsoid(shape: tuple[int, ...]) -> np.ndarray:
    """Logits of a blurred ellipsoid under smooth noise; (393, 440, 117) features where one is."""
    axes = np.ogrid[tuple(slice(0, side) for side in shape)]
    scaled = [
        (axis - side / 2) / (side * half)
        for axis, side, half in zip(axes, shape, (0.3, 0.3, 0.35), strict=True)
    ]
    noise = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    noise = ndimage.gaussian_filter(noise, 2.0)
    distance = np.sqrt(sum(axis**2 for axis in scaled))
    return (12 * (1 - distance) + 2 * noise / noise.std()).astype(np.float32)


def ellipsoid(shape: tuple[int, ...]) -> dict[str, Any]:
    """The exact stage in a process of its own, and keeping and growing one component beside it."""
    logits = noisy_ellipsoid(shape)
    start = logits > 0
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "logits.npy", Path(folder) / "mask.npy"
        np.save(given, logits)
        command = [sys.executable, __file__, "--repair", str(given), str(made)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        measured = json.loads(done.stdout)
        masks = {"topofix exact": np.load(made)}
    print("repaired in", measured["seconds"], "s", flush=True)
    started = time.perf_counter()
    kept = largest_pieces(start, 1, np.ones((3,) * start.ndim))
    masks["largest component, then homotopic growing"] = homotopic(probabilities(logits))
    growing = time.perf_counter() - started
    masks["largest component"] = kept
    return {
        "shape": shape,
        "before": counted(start),
        **measured,
        "seconds_growing": round(growing, 2),
        "methods": [
            {
                "method": name,
                "betti": counted(mask),
                "cost": float(np.abs(logits)[mask != start].sum(dtype=np.float64)),
                "voxels": int((mask != start).sum()),
            }
            for name, mask in masks.items()
        ],
    }


def repair_here(given: Path, made: Path) -> dict[str, Any]:
    """Time and memory of this process, which does nothing else."""
    logits = np.load(given)
    both = np.stack([np.zeros_like(logits), logits])
    prior = Prior.parse("1,0,0")
    repair(both[:, :8, :8, :8], prior)  # what is loaded at first use is not to be timed
    if PEAK_RESET.exists():
        PEAK_RESET.write_text("5")
    held = peak_megabytes()
    started = time.perf_counter()
    done = repair(both, prior)
    seconds = time.perf_counter() - started
    peak = peak_megabytes()
    np.save(made, done.labels > 0)
    return {"seconds": round(seconds, 2), "peak_megabytes": round(peak), "beyond_input": round(peak - held)}


def peak_megabytes() -> float:
    """The highest resident size since the last reset, of this process without those that started it."""
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # macOS counts bytes


# --- Report -------------------------------------------------------------------------------------------------

TITLES = {
    "acdc": "Myocardium slices of the ACDC test patients, prior of the true mask",
    "hippocampus": "Hippocampus test volumes, prior 1,0,0",
    "fields": "Random smooth fields, random priors, the exact stage alone",
    "optimum": "Cost against the optimum",
    "ellipsoid": "Noisy ellipsoid, prior 1,0,0, the exact stage alone",
}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Markdown; the first column is words, the others numbers."""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def comparison_text(found: dict[str, Any]) -> str:
    seen = found["parts"] - len(found["unseen"])
    p_values = ", ".join(
        f"{other}: {'none' if p is None else f'{p:.2g}'}" for other, p in found["p_values"].items()
    )
    rows = [
        [
            row["method"],
            str(row["parts"]),
            percent(row["right"]),
            f"{row['dice']:.3f}",
            percent(row["lost"]),
            str(row["error_grew"]),
            f"{row['median_seconds']:.4f}",
        ]
        for row in found["methods"]
        if row["parts"]
    ]
    head = [
        "method",
        "n",
        "exactly right",
        "Dice",
        f"Dice falls > {TOLERATED}",
        "Betti error grew",
        "median s",
    ]
    return "\n\n".join(
        [
            f"{found['parts']} with a prior; {seen} of them show what it asks for; of these {found['wrong']} "
            "are wrong, and reported.",
            table(head, rows),
            f"One-sided paired Wilcoxon tests of the Dice, {AUTO} against {p_values}.",
        ]
    )


def fields_text(found: list[dict[str, Any]]) -> str:
    rows = [
        [
            " x ".join(map(str, row["shape"])),
            str(row["fields"]),
            percent(row["exact"]),
            f"{row['median_seconds']:.4f}",
            f"{row['most_seconds']:.3f}",
        ]
        for row in found
    ]
    return table(["field", "n", "exactly right", "median s", "longest s"], rows)


def optimum_text(found: list[dict[str, Any]]) -> str:
    rows = [
        [
            " x ".join(map(str, row["shape"])),
            "missing and too many" if row["missing"] else "too many",
            str(row["fields"]),
            str(row["missed"]),
            percent(row["optimal"]),
            f"{row['mean']:.3f}",
            f"{row['percentile_95']:.3f}",
            f"{row['most']:.3f}",
            percent(row["within_1.5"]),
        ]
        for row in found
    ]
    head = ["grid", "features", "n", "missed", "optimal", "mean ratio", "95 %", "largest", "ratio <= 1.5"]
    return table(head, rows)


def ellipsoid_text(found: dict[str, Any]) -> str:
    rows = [
        [row["method"], str(tuple(row["betti"])), f"{row['cost']:.0f}", str(row["voxels"])]
        for row in found["methods"]
    ]
    size = " x ".join(map(str, found["shape"]))
    return "\n\n".join(
        [
            f"{size} voxels, Betti numbers {tuple(found['before'])} at 1/2. Exact stage: "
            f"{found['seconds']:.2f} s; peak {found['peak_megabytes']} MB, {found['beyond_input']} MB more "
            "than the process held with its input.",
            table(["method", "Betti numbers", "cost, sum of abs(logit)", "voxels flipped"], rows),
        ]
    )


TEXTS: dict[str, Callable[[Any], str]] = {
    "acdc": comparison_text,
    "hippocampus": comparison_text,
    "fields": fields_text,
    "optimum": optimum_text,
    "ellipsoid": ellipsoid_text,
}


def report(results: dict[str, Any]) -> str:
    """All parts that have been measured, as Markdown."""
    pieces = ["# The whole refinement", str(__doc__).split("\n\n", 1)[0]]
    for name, title in TITLES.items():
        if name in results:
            run = results[name]
            pieces.append(f"## {title}")
            cores = f"{run['cores']} core" + "s" * (run["cores"] > 1)
            pieces.append(f"`{run['command']}`, {cores}, {run['seconds']:.0f} s in all.")
            pieces.append(TEXTS[name](run["found"]))
    pieces.append(str(__doc__).split("\n\n", 2)[2].strip())
    return "\n\n".join(pieces) + "\n"


def arguments_given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TOPOFIX_DATA", "../shared/data")))
    parser.add_argument("--part", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument(
        "--keep-published", action="store_true", help="keep its rows, which take an hour, as they are stored"
    )
    parser.add_argument("--most", type=int, help="so many wrong slices or volumes of each data set")
    parser.add_argument("--fields", type=int, default=1000, help="random fields of each rank")
    parser.add_argument("--grids", type=int, nargs=2, default=(1000, 200), help="of 4 x 4 and of 5 x 5")
    parser.add_argument("--size", type=int, nargs=3, default=ELLIPSOID, help="of the ellipsoid")
    parser.add_argument("--out", type=Path, default=HERE / "refinement")
    parser.add_argument("--repair", type=Path, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = arguments_given()
    if arguments.repair:
        print(json.dumps(repair_here(*arguments.repair)))
        return
    file = arguments.out.with_suffix(".json")

    def kept(part: str) -> list[dict[str, Any]]:
        if not arguments.keep_published:
            return []
        return [row for row in json.loads(file.read_text())[part]["found"]["rows"] if row["method"] == PAPER]

    measures: dict[str, Callable[[], Any]] = {
        "acdc": lambda: compare(acdc(arguments.data), arguments.most, kept("acdc")),
        "hippocampus": lambda: compare(hippocampus(arguments.data), arguments.most, kept("hippocampus")),
        "fields": lambda: fields(arguments.fields),
        "optimum": lambda: optimum(dict(zip((4, 5), arguments.grids, strict=True))),
        "ellipsoid": lambda: ellipsoid(tuple(arguments.size)),
    }
    for name in arguments.part:
        started = time.perf_counter()
        found = measures[name]()
        results = json.loads(file.read_text()) if file.exists() else {}  # others may have measured meanwhile
        results[name] = {
            "command": shlex.join(["python", "benchmarks/refinement.py", *sys.argv[1:]]),
            "cores": len(os.sched_getaffinity(0)),
            "seconds": round(time.perf_counter() - started, 1),
            "found": found,
        }
        file.write_text(json.dumps(results, indent=1) + "\n")
        # Read back, so that the page shows what the file holds.
        arguments.out.with_suffix(".md").write_text(report(json.loads(file.read_text())))
    print(report(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
