"""The persistence kernel against GUDHI and CubicalRipser: time, memory, growth, and scale.

    pip install ".[bench]"
    python benchmarks/persistence.py --data ../shared/data

Every engine gets the same arrays in the same process, in the type and order it likes best, converted before
the clock starts. The engines take turns, run by run, so that a machine that drifts slows all of them alike; a
median is reported. Bars are compared too, without any tolerance: each peer must find those of topofix.

* Fields: noisy rings, white noise and a noisy ellipsoid, made here from fixed seeds, and the probabilities of
  the bundled models on test patients (`--data` or TOPOFIX_DATA), left out where the data is not.
* Memory: each engine in a process of its own, its highest resident size less what it held with its input.
* Growth: time against size, topofix alone.
* Scale: Betti numbers and bars of 512^3 voxels, and of a volume of more than 2^31 cells.

Writes `persistence.json` and `.md` beside this script, or into `--output`. `--quick` takes every path with
small arrays in less than two minutes; with `--large` the volumes of the last group keep their size.
"""

import argparse
import inspect
import json
import math
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cripser
import gudhi
import numpy as np
from gudhi._pers_cub_low_dim_ext import _persistence_on_rectangle_from_top_cells
from scipy.ndimage import gaussian_filter

from topofix import __version__
from topofix.topology.persistence import barcode, barcodes, betti

HERE = Path(__file__).resolve().parent
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
THREADS = sorted({1, CORES})
SLOW = 5.0
"""Seconds; an engine whose first run takes longer gets at most SLOW_RUNS."""
SLOW_RUNS = 2
PEAK_RESET = Path("/proc/self/clear_refs")
"""Linux: writing 5 makes the present resident size the highest so far."""
CRIPSER_THREADS = "n_threads" in inspect.signature(cripser.compute_ph).parameters

Array = np.ndarray
Call = Callable[[], Any]


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    rings: tuple[int, int] = (100, 80)  # images, side
    squares: tuple[int, ...] = (512, 2048)
    ellipsoid: tuple[int, int, int] = (96, 240, 256)
    cube: int = 96
    stacks: int = 3
    volumes: int = 5
    growth: tuple[int, ...] = (32, 48, 64, 96, 128, 192, 256, 384)
    white_growth: tuple[int, ...] = (32, 48, 64, 96, 128, 192)
    square_growth: tuple[int, ...] = (256, 512, 1024, 2048, 4096)
    scale: int = 512
    cells: int = 648  # (2 * 648 + 1)^3 cells are more than 2^31


QUICK = Sizes(
    rings=(20, 40),
    squares=(96, 256),
    ellipsoid=(24, 60, 64),
    cube=24,
    stacks=1,
    volumes=1,
    growth=(16, 32, 64),
    white_growth=(16, 24, 32),
    square_growth=(64, 128, 256),
    scale=64,
    cells=80,
)


# --- Fields -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Input:
    """Fields of one kind, float32, that are measured together: an image, a stack, a list of volumes."""

    key: str
    title: str
    about: str
    fields: tuple[Array, ...]

    @property
    def rank(self) -> int:
        return self.fields[0].ndim

    @property
    def voxels(self) -> int:
        return sum(field.size for field in self.fields)


def sigmoid(logits: Array) -> Array:
    """Probabilities in place, since the largest fields leave no room for copies."""
    np.negative(logits, out=logits)
    with np.errstate(over="ignore"):  # 1 / infinity is the 0 that is meant
        np.exp(logits, out=logits)
    logits += 1
    return np.reciprocal(logits, out=logits)


def smooth_noise(shape: tuple[int, ...], sigma: float, seed: int) -> Array:
    """Gaussian noise of standard deviation 1 after smoothing, float32."""
    noise = np.random.default_rng(seed).standard_normal(shape, np.float32)
    noise = gaussian_filter(noise, sigma)
    noise /= noise.std(dtype=np.float64)
    return noise


def white_noise(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).random(shape, np.float32)


def ring(side: int, seed: int) -> Array:
    """A blurred circle whose probability wavers along its course."""
    rows, columns = np.ogrid[:side, :side]
    centre, radius = (side - 1) / 2, 0.3 * side
    distance = np.abs(np.hypot(rows - centre, columns - centre) - radius)
    return sigmoid((6 - distance + 1.5 * smooth_noise((side, side), 1.5, seed)).astype(np.float32))


def ellipsoid(shape: tuple[int, int, int], certainty: float = 1) -> Array:
    """A blurred ellipsoid with half axes of 0.3, 0.3 and 0.35 of the volume, under smooth noise.

    Logits are multiplied by `certainty`; in float32, very certain ones become exactly 0 and 1.
    """
    scaled = [
        (np.arange(length) / length - 0.5) / half
        for length, half in zip(shape, (0.3, 0.3, 0.35), strict=True)
    ]
    distance = np.sqrt(sum(axis**2 for axis in np.ix_(*scaled)))
    logits = 12 * (1 - distance) + 2 * smooth_noise(shape, 2, seed=0)
    return sigmoid(np.clip(certainty * logits, -110, 110).astype(np.float32))


def in_8_bits(field: Array) -> Array:
    """The field as a file of 8 bits holds it: multiples of 1/255."""
    return np.rint(field * np.float32(255)) / np.float32(255)


def extremes(field: Array) -> str:
    zeros, ones = (100 * np.mean(field == value) for value in (0, 1))
    return f"{zeros:.0f} % exactly 0, {ones:.0f} % exactly 1"


def made_inputs(sizes: Sizes) -> Iterator[Input]:
    """What needs no data."""
    count, side = sizes.rings
    yield Input(
        "rings",
        f"{count} rings, {side} x {side}",
        f"logit 6 - |r - {0.3 * side:g}| + 1.5 x noise smoothed with sigma 1.5; one call for the stack",
        tuple(ring(side, seed) for seed in range(count)),
    )
    for side in sizes.squares:
        yield Input(f"white_{side}", f"white noise, {side} x {side}", "uniform", (white_noise((side, side)),))
    field = ellipsoid(sizes.ellipsoid)
    size = " x ".join(map(str, sizes.ellipsoid))
    about = "logit 12 (1 - d) + 2 x noise smoothed with sigma 2"
    yield Input("ellipsoid", f"ellipsoid, {size}", about, (field,))
    certain, coarse = ellipsoid(sizes.ellipsoid, certainty=8), in_8_bits(field)
    about = f"the same with logits times 8: {extremes(certain)}"
    yield Input("saturated", f"saturated ellipsoid, {size}", about, (certain,))
    about = f"the same in multiples of 1/255: {extremes(coarse)}"
    yield Input("coarse", f"8-bit ellipsoid, {size}", about, (coarse,))
    title = f"white noise, {sizes.cube} x {sizes.cube} x {sizes.cube}"
    yield Input("white_3d", title, "uniform, the worst case", (white_noise((sizes.cube,) * 3),))


@dataclass(frozen=True)
class Source:
    """Test patients, and the bundled model that is for them."""

    key: str
    model: str
    folder: str
    pattern: str
    region: tuple[int, ...]
    what: str


SOURCES = (
    Source("slices", "cardiac-sax-2d", "acdc/test", "*_frame??.nii.gz", (2,), "slices of myocardium"),
    Source("volumes", "hippocampus-3d", "hippocampus/test/images", "*.nii.gz", (), "volumes of hippocampus"),
)


def real_inputs(data: Path, sizes: Sizes) -> Iterator[Input]:
    """Probabilities of the bundled models; says what is missing and goes on without."""
    for source, count in zip(SOURCES, (sizes.stacks, sizes.volumes), strict=True):
        scans = sorted((data / source.folder).glob(source.pattern))[:count]
        if not scans:
            print(
                f"left out: {source.what}, because there are no scans in {data / source.folder}", flush=True
            )
            continue
        fields = tuple(part for scan in scans for part in predicted(scan, source.model, source.region))
        largest = " x ".join(map(str, max(field.shape for field in fields)))
        about = (
            f"probabilities of `{source.model}` on {', '.join(scan.name for scan in scans)}, up to {largest}"
        )
        yield Input(source.key, f"{len(fields)} {source.what}", f"{about}; one call for all", fields)


def predicted(scan: Path, model: str, region: tuple[int, ...]) -> list[Array]:
    """The probability of a region, (*S) float32, or that of each slice from a 2-D network."""
    from topofix.imaging.volumes import read  # here, since the processes of `memory` need none of it
    from topofix.learning.loss import region_field
    from topofix.prediction import predict_volume
    from topofix.records import CaseOptions

    weights = HERE.parent / "models" / f"{model}.safetensors"
    prediction, _ = predict_volume(read(scan), CaseOptions(model=str(weights), device="cpu"))
    field = region_field(prediction.logits.softmax(0), region).numpy().astype(np.float32)
    flat = prediction.checkpoint is not None and prediction.checkpoint.config.dimensions == 2
    parts = np.moveaxis(field, prediction.slice_axis, 0) if flat else [field]
    return [np.ascontiguousarray(part) for part in parts]


# --- Engines ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Engine:
    """One way to compute the bars of fields.

    Attributes:
        name: in tables, and on the command line of the processes of `memory`.
        prepare: turns a float32 field into the input that the engine likes best.
        run: what is timed, from prepared inputs to the engine's own result.
        bars: dimension, birth and death, (n, 3) for each image, from the result and the inputs; None where
            short ones are missing.
        like: the engine of topofix that must find the same bars.
        rank: of the fields it is for; None for all.
    """

    name: str
    prepare: Callable[[Array], Array]
    run: Callable[[list[Array]], Any]
    bars: Callable[[Any, list[Array]], Iterable[Array]] | None
    like: str
    rank: int | None = None

    def takes(self, rank: int) -> bool:
        return self.rank in (None, rank)


def named(name: str, threads: int) -> str:
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def negated(field: Array, order: str = "F") -> Array:
    """float64 for peers, who filter from small to large values. Fortran order suits most of them."""
    return np.array(-field, np.float64, order=order)


def topofix_bars(result: list[Any], fields: list[Array]) -> Iterator[Array]:
    for bars, field in zip(result, fields, strict=True):
        yield np.column_stack([bars.dimension, *bars.values(field)]).astype(np.float64)


def cubical_ripser(fields: list[Array], filtration: str, threads: int) -> list[Array]:
    """Several images are spread over threads, as its documentation has it, and one is left to its own."""
    several = len(fields) > 1 and threads > 1
    inner = {"n_threads": threads} if CRIPSER_THREADS and not several else {}
    compute = partial(cripser.compute_ph, filtration=filtration, maxdim=fields[0].ndim - 1, **inner)
    if not several:
        return [compute(field) for field in fields]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(compute, fields))


def cubical_ripser_bars(result: list[Array], _: list[Array]) -> Iterator[Array]:
    for bars in result:
        yield np.column_stack([bars[:, 0], -bars[:, 1], np.where(np.isinf(bars[:, 2]), 0, -bars[:, 2])])


def gudhi_complex(fields: list[Array]) -> list[Any]:
    """With the voxels of every pair, since that is what a loss needs."""
    pairs = []
    for field in fields:
        cells = gudhi.CubicalComplex(top_dimensional_cells=field)
        cells.compute_persistence(homology_coeff_field=2)
        pairs.append(cells.cofaces_of_persistence_pairs())
    return pairs


def gudhi_complex_bars(result: list[Any], fields: list[Array]) -> Iterator[Array]:
    for (finite, essential), field in zip(result, fields, strict=True):
        values = -field.ravel(order="F")
        bars = [np.empty((0, 3))]
        for dimension, pairs in enumerate(finite):
            bars.append(np.insert(values[pairs], 0, dimension, axis=1))
        for dimension, voxels in enumerate(essential):
            births = values[voxels]
            bars.append(np.column_stack([np.full_like(births, dimension), births, np.zeros_like(births)]))
        yield np.concatenate(bars)


def gudhi_rectangle(fields: list[Array]) -> list[Any]:
    return [_persistence_on_rectangle_from_top_cells(field, 0.0) for field in fields]


def gudhi_rectangle_bars(result: list[Any], _: list[Array]) -> Iterator[Array]:
    for diagrams in result:
        bars = [np.insert(diagram, 0, dimension, axis=1) for dimension, diagram in enumerate(diagrams)]
        dimension, births, deaths = np.concatenate(bars).T
        yield np.column_stack([dimension, -births, np.where(np.isinf(deaths), 0, -deaths)])


OURS = named("topofix", 1)
OURS_PARALLEL = named("topofix", CORES)
LONG_ONLY = f"{OURS}, bars >= 0.01"
FACE = f"{OURS}, face"
RIPSER_T = named("CubicalRipser T", 1)
GUDHI = "GUDHI `CubicalComplex`"
RECTANGLE = "GUDHI rectangle (values only)"


def engines() -> dict[str, Engine]:
    """By name, ours first. V construction is `face` connectivity, and is compared with that."""
    found = []
    for least in (0.0, 0.01):
        for threads in THREADS:
            name = named("topofix", threads) + (f", bars >= {least}" if least else "")
            run = partial(barcodes, min_persistence=least, threads=threads)
            found.append(Engine(name, np.asarray, run, None if least else topofix_bars, OURS))
    face = partial(barcodes, connectivity="face", threads=1)
    found.append(Engine(FACE, np.asarray, face, topofix_bars, FACE))
    for filtration, like in (("T", OURS), ("V", FACE)):
        for threads in THREADS if CRIPSER_THREADS else [1]:
            name = named(f"CubicalRipser {filtration}", threads)
            run = partial(cubical_ripser, filtration=filtration, threads=threads)
            found.append(Engine(name, negated, run, cubical_ripser_bars, like))
    found.append(Engine(GUDHI, negated, gudhi_complex, gudhi_complex_bars, OURS))
    rows = partial(negated, order="C")
    found.append(Engine(RECTANGLE, rows, gudhi_rectangle, gudhi_rectangle_bars, OURS, rank=2))
    return {engine.name: engine for engine in found}


def multiset(bars: Iterable[Array]) -> Array:
    """All bars of all images in one order, (n, 4): image, dimension, birth, death."""
    rows = np.concatenate([np.insert(part, 0, image, axis=1) for image, part in enumerate(bars)])
    return rows[np.lexsort(rows.T[::-1])]


# --- Measurements -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """The runs of one call.

    Attributes:
        seconds: of each run.
        megabytes: that the first run needed beyond what the process held.
    """

    seconds: tuple[float, ...]
    megabytes: float

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    def as_dict(self, runs: int) -> dict[str, Any]:
        """With a remark where runs were left out, because the first was slow."""
        taken = len(self.seconds)
        remark = {"limited": f"first run over {SLOW:g} s: {taken} of {runs} runs"} if taken < runs else {}
        return {"median_seconds": self.median, "seconds": list(self.seconds), **remark}


def peak() -> float:
    """The highest resident size so far, in MB."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def once(call: Call) -> tuple[float, float, Any]:
    """Seconds, megabytes beyond those held before, and what came out.

    Where the peak cannot be reset, megabytes are too few if anything before needed more than is held now.
    """
    if PEAK_RESET.exists():
        PEAK_RESET.write_text("5")
    before, started = peak(), time.perf_counter()
    result = call()
    seconds = time.perf_counter() - started
    return seconds, peak() - before, result


def interleaved(calls: Mapping[str, Call], runs: int) -> tuple[dict[str, Timing], dict[str, Any]]:
    """Times calls in turns; with them the result of each first run."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    megabytes, results = {}, {}
    for run in range(runs):
        for name, call in calls.items():
            if run >= SLOW_RUNS and seconds[name][0] > SLOW:
                continue
            taken, needed, result = once(call)
            seconds[name].append(taken)
            if run == 0:
                megabytes[name], results[name] = needed, result
            del result  # or it would lie in memory while the next engine runs
    return {name: Timing(tuple(seconds[name]), megabytes[name]) for name in calls}, results


def compare(given: Input, runs: int) -> dict[str, Any]:
    """Every engine on one input: times, ratios to topofix on one thread, and whether bars agree."""
    taking = {name: engine for name, engine in engines().items() if engine.takes(given.rank)}
    ways = {engine.prepare for engine in taking.values()}
    inputs = {way: [way(field) for field in given.fields] for way in ways}
    if len({field.shape for field in given.fields}) == 1:
        inputs[np.asarray] = np.stack(given.fields)
    calls = {name: partial(engine.run, inputs[engine.prepare]) for name, engine in taking.items()}
    timings, results = interleaved(calls, runs)
    counts = agreed(
        given.title, [(engine, results[name], inputs[engine.prepare]) for name, engine in taking.items()]
    )
    ours = timings[OURS].median
    row = {
        "key": given.key,
        "input": given.title,
        "about": given.about,
        "rank": given.rank,
        "voxels": given.voxels,
        "bars": counts[OURS],
        "agree": [name for name in counts if not name.startswith("topofix")],
        "speed_up": ours / timings[OURS_PARALLEL].median,
        "engines": {
            name: {**timing.as_dict(runs), "ratio_to_topofix": timing.median / ours}
            for name, timing in timings.items()
        },
    }
    print(f"{given.title}: agree on {counts[OURS]} bars, topofix {duration(ours)}", flush=True)
    for name, timing in timings.items():
        print(f"    {name:36} {duration(timing.median):>10}  {timing.median / ours:7.2f} x", flush=True)
    return row


def agreed(title: str, found: list[tuple[Engine, Any, list[Array]]]) -> dict[str, int]:
    """The number of bars by engine, once every engine is known to have those that it must have."""
    bars = {
        engine.name: multiset(engine.bars(result, fields)) for engine, result, fields in found if engine.bars
    }
    for engine, _, _ in found:
        if engine.bars and not np.array_equal(bars[engine.name], bars[engine.like]):
            sizes = f"{len(bars[engine.name])} and {len(bars[engine.like])}"
            raise AssertionError(f"{title}: {engine.name} and {engine.like} differ; they find {sizes} bars")
    return {name: len(rows) for name, rows in bars.items()}


def memory(field: Array) -> dict[str, Any]:
    """Megabytes that each engine needs beyond its input, in a process that has done nothing else."""
    needed = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in engines().items():
            if not engine.takes(field.ndim):
                continue
            path = Path(folder) / "input.npy"
            np.save(path, engine.prepare(field))  # here, so that the process never holds two types of it
            command = [sys.executable, __file__, "--memory-of", name, str(path)]
            answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            needed[name] = json.loads(answer.stdout)
            print(f"memory: {name:36} {needed[name]['megabytes']:8.0f} MB", flush=True)
    return {"input": f"ellipsoid, {' x '.join(map(str, field.shape))}", "engines": needed}


def memory_here(name: str, path: Path) -> dict[str, float]:
    """What the process that `memory` starts answers."""
    engine, field = engines()[name], np.load(path)
    small = white_noise((8,) * field.ndim)
    engine.run([engine.prepare(small)])  # what is loaded at first use is not what the field needs
    _, megabytes, _ = once(partial(engine.run, [field]))
    return {"megabytes": megabytes, "input_megabytes": field.nbytes / 1e6}


def growth(sizes: Sizes, runs: int) -> list[dict[str, Any]]:
    """Time against size on one thread, and the exponent between one size and the next."""
    kinds: list[tuple[str, int, tuple[int, ...], Callable[[tuple[int, ...]], Array]]] = [
        ("smooth noise, sigma 2", 3, sizes.growth, probabilities),
        ("white noise", 3, sizes.white_growth, white_noise),
        ("white noise", 2, sizes.square_growth, white_noise),
    ]
    rows: list[dict[str, Any]] = []
    for kind, rank, sides, make in kinds:
        last = None
        for side in sides:
            field = make((side,) * rank)
            timings, _ = interleaved({OURS: partial(barcode, field, threads=1)}, runs)
            seconds = timings[OURS].median
            last = {
                "field": kind,
                "rank": rank,
                "side": side,
                "voxels": field.size,
                **timings[OURS].as_dict(runs),
                "nanoseconds_per_voxel": 1e9 * seconds / field.size,
                "exponent": last
                and math.log(seconds / last["median_seconds"]) / math.log(field.size / last["voxels"]),
            }
            rows.append(last)
            print(f"growth: {kind}, {side}^{rank}: {duration(seconds)}", flush=True)
    return rows


def probabilities(shape: tuple[int, ...]) -> Array:
    return sigmoid(smooth_noise(shape, 2, seed=0))


def ball(side: int) -> Array:
    """A ball with one tunnel through its middle and one void beside it: Betti numbers (1, 1, 1)."""
    mask = np.empty((side,) * 3, np.bool_)
    axis = np.arange(side) - (side - 1) / 2
    across = axis[:, None] ** 2 + axis**2
    beside = axis[:, None] ** 2 + (axis - 0.25 * side) ** 2
    for plane, height in zip(mask, axis, strict=True):
        solid = across + height**2 <= (0.45 * side) ** 2
        plane[:] = solid & (across > (0.08 * side) ** 2) & (beside + height**2 > (0.1 * side) ** 2)
    return mask


BOX_BARS = [(0, 0.9, 0), (0, 0.8, 0), (0, 0.7, 0), (1, 0.7, 0), (2, 0.8, 0)]


def boxes(side: int) -> Array:
    """A cube, a hollow cube and a ring, in far corners of nothing; their bars are BOX_BARS."""
    field = np.zeros((side,) * 3, np.float32)
    near, far, thick = slice(0, side // 4), slice(side - side // 4, side), side // 16
    inner_far = slice(far.start + thick, far.stop - thick)
    field[near, near, near] = 0.9
    field[near, far, far] = 0.8
    field[thick : near.stop - thick, inner_far, inner_far] = 0
    field[far, far, far] = 0.7
    field[far, inner_far, inner_far] = 0
    return field


def scale(sizes: Sizes, runs: int) -> list[dict[str, Any]]:
    """Whole scans and more, whose answers are known or must not depend on threads."""
    return [
        *scale_of_mask("ball with tunnel and void", ball(sizes.scale), runs, (1, 1, 1)),
        *scale_of_mask("smooth noise > 0", smooth_noise((sizes.scale,) * 3, 2, seed=0) > 0, runs),
        *scale_of_field("smooth noise", probabilities((sizes.scale,) * 3), runs),
        *scale_of_cells(boxes(sizes.cells)),
    ]


def scale_of_mask(
    title: str, mask: Array, runs: int, expected: tuple[int, ...] | None = None
) -> list[dict[str, Any]]:
    calls = {named("betti", threads): partial(betti, mask, threads=threads) for threads in THREADS}
    timings, results = interleaved(calls, runs)
    found = results[named("betti", 1)]
    if set(results.values()) != {expected or found}:
        raise AssertionError(f"{title}: expected {expected or 'the same on all threads'}, got {results}")
    answer = ", ".join(map(str, found))
    return [scale_row(title, mask, name, timing, runs, answer) for name, timing in timings.items()]


def scale_of_field(title: str, field: Array, runs: int) -> list[dict[str, Any]]:
    calls = {named("barcode", threads): partial(barcode, field, threads=threads) for threads in THREADS}
    timings, results = interleaved(calls, runs)
    first, *others = (multiset(topofix_bars([found], [field])) for found in results.values())
    if not all(np.array_equal(first, other) for other in others):
        raise AssertionError(f"{title}: the number of threads changes the bars")
    answer = f"{len(first)} bars"
    return [scale_row(title, field, name, timing, runs, answer) for name, timing in timings.items()]


def scale_of_cells(field: Array) -> list[dict[str, Any]]:
    """Once only: what matters is that no index overflows."""
    name = named("barcode", CORES)
    timings, results = interleaved({name: partial(barcode, field, threads=CORES)}, 1)
    found = multiset(topofix_bars([results[name]], [field]))
    expected = multiset([np.array(BOX_BARS, np.float32).astype(np.float64)])
    if not np.array_equal(found, expected):
        raise AssertionError(f"boxes: expected the bars {expected.tolist()}, got {found.tolist()}")
    cells = math.prod(2 * length + 1 for length in field.shape)
    answer = f"{len(found)} bars, {cells / 2**31:.3g} x 2^31 cells"
    return [scale_row("cube, hollow cube and ring", field, name, timings[name], 1, answer)]


def scale_row(title: str, field: Array, call: str, timing: Timing, runs: int, answer: str) -> dict[str, Any]:
    side = len(field)
    megabytes = timing.megabytes if PEAK_RESET.exists() else None
    print(f"scale: {title}, {side}^3, {call}: {duration(timing.median)}", flush=True)
    row = {"field": title, "side": side, "call": call, **timing.as_dict(runs)}
    return {**row, "megabytes": megabytes, "answer": answer}


# --- Goals --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Goal:
    """What was asked for, with its bound; `least` says which side of the bound is good."""

    what: str
    bound: float
    unit: str
    reached: float
    least: bool = True

    @property
    def met(self) -> bool:
        return self.reached >= self.bound if self.least else self.reached < self.bound

    def as_dict(self) -> dict[str, Any]:
        asked = f"{'>=' if self.least else '<'} {self.bound:g} {self.unit}"
        digits = ".3g" if self.reached < 100 else ".0f"
        reached = f"{self.reached:{digits}} {self.unit}"
        return {"goal": self.what, "asked": asked, "reached": reached, "value": self.reached, "met": self.met}


def goals(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The kernel's goals beside what was reached."""
    rows = {row["key"]: row for row in result["inputs"]}

    def ratio(key: str, peer: str) -> float:
        return rows[key]["engines"][peer]["ratio_to_topofix"]

    def median(key: str) -> float:
        return rows[key]["engines"][OURS]["median_seconds"]

    needed = result["memory"]["engines"]
    megabytes = max(needed[name]["megabytes"] for name in {OURS, OURS_PARALLEL})
    counting = max(row["median_seconds"] for row in result["scale"] if row["call"] == named("betti", 1))
    side, scaled = result["scale"][0]["side"], rows["ellipsoid"]["speed_up"]
    titles = {key: row["input"] for key, row in rows.items()}
    return [
        goal.as_dict()
        for goal in (
            Goal(f"{titles['ellipsoid']}: {RIPSER_T} / {OURS}", 15, "x", ratio("ellipsoid", RIPSER_T)),
            Goal(f"{titles['ellipsoid']}: {GUDHI} / {OURS}", 50, "x", ratio("ellipsoid", GUDHI)),
            Goal(f"{titles['ellipsoid']}: {OURS} / {OURS_PARALLEL}", 1.5, "x", scaled),
            Goal(f"{titles['ellipsoid']}: peak memory beyond the input", 200, "MB", megabytes, False),
            Goal(
                f"{titles['ellipsoid']}: all bars / those >= 0.01", 1, "x", 1 / ratio("ellipsoid", LONG_ONLY)
            ),
            Goal(f"ellipsoid / {titles['saturated']}", 1, "x", median("ellipsoid") / median("saturated")),
            Goal(f"{titles['rings']}: {RIPSER_T} / {OURS}", 15, "x", ratio("rings", RIPSER_T)),
            Goal(f"{titles['rings']}: {RECTANGLE} / {OURS}", 1, "x", ratio("rings", RECTANGLE)),
            Goal(f"{titles['white_3d']}: {RIPSER_T} / {OURS}", 3, "x", ratio("white_3d", RIPSER_T)),
            Goal(f"`betti` of {side}^3 voxels, 1 thread, the slower mask", 2, "s", counting, False),
        )
    ]


# --- Report -------------------------------------------------------------------------------------------------


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    if seconds >= 100:
        return f"{seconds:.0f} s"
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def table(head: list[str], rows: Iterable[list[str]], texts: int = 1) -> str:
    """Markdown; the first `texts` columns are words, the others numbers."""
    rule = ["---"] * texts + ["---:"] * (len(head) - texts)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def inputs_table(rows: list[dict[str, Any]]) -> str:
    """Engines down, inputs across."""
    names = [name for name in engines() if any(name in row["engines"] for row in rows)]
    lines = []
    for name in names:
        cells = [name]
        for row in rows:
            measured = row["engines"][name]
            times = "" if name.startswith("topofix") else f" ({measured['ratio_to_topofix']:.3g} x)"
            mark = " *" if "limited" in measured else ""
            cells.append(duration(measured["median_seconds"]) + times + mark)
        lines.append(cells)
    lines.append([f"{OURS} / {CORES} threads", *(f"{row['speed_up']:.2f} x" for row in rows)])
    lines.append(["bars", *(str(row["bars"]) for row in rows)])
    lines.append(["bars agree", *("yes" for _ in rows)])
    about = "\n".join(f"- {row['input']}: {row['about']}." for row in rows)
    return table(["", *(row["input"] for row in rows)], lines) + "\n\n" + about


def growth_table(rows: list[dict[str, Any]]) -> str:
    return table(
        ["field", "size", "time", "per voxel", "exponent"],
        (
            [
                row["field"],
                f"{row['side']}^{row['rank']}",
                duration(row["median_seconds"]),
                f"{row['nanoseconds_per_voxel']:.1f} ns",
                "" if row["exponent"] is None else f"{row['exponent']:.2f}",
            ]
            for row in rows
        ),
    )


def scale_table(rows: list[dict[str, Any]]) -> str:
    return table(
        ["field", "call", "size", "time", "memory beyond the input", "answer"],
        (
            [
                row["field"],
                row["call"],
                f"{row['side']}^3",
                duration(row["median_seconds"]),
                "unknown" if row["megabytes"] is None else f"{row['megabytes']:.0f} MB",
                row["answer"],
            ]
            for row in rows
        ),
        texts=2,
    )


def memory_table(result: dict[str, Any]) -> str:
    return table(
        ["", "beyond the input", "input"],
        (
            [name, f"{needed['megabytes']:.0f} MB", f"{needed['input_megabytes']:.0f} MB"]
            for name, needed in result["engines"].items()
        ),
    )


def goals_table(rows: list[dict[str, Any]]) -> str:
    lines = ([row["goal"], row["asked"], row["reached"], "yes" if row["met"] else "no"] for row in rows)
    return table(["", "goal", "reached", "met"], lines)


def report(result: dict[str, Any]) -> str:
    """All tables as Markdown."""
    inputs, machine = result["inputs"], result["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    small = "\n\n**Quick mode: small arrays, whose numbers say nothing about the goals.**"
    threads = (
        "It spreads several images over a pool of threads and gives its own threads (`n_threads`) to one."
        if CRIPSER_THREADS
        else "This version takes no number of threads, so it is measured with one."
    )
    real = [row for row in inputs if row["key"] in {source.key for source in SOURCES}]
    groups = {
        "Goals": goals_table(result["goals"]),
        "Two dimensions": inputs_table([row for row in inputs if row["rank"] == 2 and row not in real]),
        "Three dimensions": inputs_table([row for row in inputs if row["rank"] == 3 and row not in real]),
        "Probabilities of the bundled models": real_tables(real),
        f"Peak memory: {result['memory']['input']}": memory_table(result["memory"]),
        f"Growth: {OURS}": growth_table(result["growth"]),
        "Scale": scale_table(result["scale"]),
    }
    parts = [
        "# Persistence: topofix, GUDHI and CubicalRipser",
        f"`{result['command']}`, {machine['cores']} cores, {machine['cpu']}; {versions}."
        f"{small if result['quick'] else ''}",
        f"Medians of {result['runs']} runs in one process, the engines taking turns; * marks at most "
        f"{SLOW_RUNS} runs, where the first took more than {SLOW:g} s. In brackets: how many times the time "
        f"of {OURS}. Input is float32 for topofix and negated float64 for the others, converted "
        "before the clock starts. `CubicalComplex` includes building the complex and "
        "`cofaces_of_persistence_pairs`; GUDHI's rectangle code yields no voxels. CubicalRipser T is `full` "
        f"connectivity, V is `face`, and has to agree with {FACE}. {threads}",
        *(f"## {title}\n\n{text}" for title, text in groups.items()),
    ]
    return "\n\n".join(parts) + "\n"


def real_tables(rows: list[dict[str, Any]]) -> str:
    """A table for each source, since not every engine is for both ranks."""
    missing = {source.key: source.what for source in SOURCES}
    for row in rows:
        del missing[row["key"]]
    left_out = [f"Left out, because `--data` holds no such scans: {what}." for what in missing.values()]
    return "\n\n".join([*(inputs_table([row]) for row in rows), *left_out])


def processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def measure(data: Path, sizes: Sizes, runs: int) -> dict[str, Any]:
    """Everything that is reported."""
    for engine in engines().values():  # what is loaded at first use is not to be timed
        for rank in filter(engine.takes, (2, 3)):
            engine.run([engine.prepare(white_noise((8,) * rank))])
    inputs = [
        compare(given, runs) for group in (made_inputs(sizes), real_inputs(data, sizes)) for given in group
    ]
    return {
        "inputs": inputs,
        "memory": memory(ellipsoid(sizes.ellipsoid)),
        "growth": growth(sizes, runs),
        "scale": scale(sizes, runs),
    }


def arguments_given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TOPOFIX_DATA", "../shared/data")))
    parser.add_argument("--output", type=Path, default=HERE, help="folder for persistence.json and .md")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="small arrays, at most 2 runs")
    parser.add_argument("--large", action="store_true", help="with --quick: `scale` at its full size")
    parser.add_argument("--memory-of", nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    arguments = arguments_given()
    if arguments.memory_of:
        name, path = arguments.memory_of
        print(json.dumps(memory_here(name, Path(path))))
        return
    sizes, runs = Sizes(), arguments.runs
    if arguments.quick:
        full, runs = sizes, min(runs, 2)
        sizes = QUICK if not arguments.large else replace(QUICK, scale=full.scale, cells=full.cells)
    result = {
        "command": shlex.join(["python", "benchmarks/persistence.py", *sys.argv[1:]]),
        "quick": arguments.quick,
        "runs": runs,
        "machine": {"cores": CORES, "cpu": processor(), "platform": platform.platform()},
        "versions": {
            "topofix": __version__,
            **{name: version(name) for name in ("gudhi", "cripser", "numpy")},
            "Python": platform.python_version(),
        },
        **measure(arguments.data, sizes, runs),
    }
    result["goals"] = goals(result)
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "persistence.json").write_text(json.dumps(result, indent=1) + "\n")
    text = report(result)
    (arguments.output / "persistence.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
