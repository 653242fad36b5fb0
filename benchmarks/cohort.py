"""How fast, and in how much memory, topofix works off a cohort.

    python benchmarks/cohort.py --part processes overhead volume

`processes` has a thousand small maps of probability refined in one process, in two, and by a local Dask
cluster of two, in turn, as the command does it; the main process is watched on the way. `overhead` runs the
same here, with clocks around the correction and around what verifies it and makes a Record of it: the rest
is reading, hashing, locking and writing.
`volume` takes the peak of memory of `segment` and `refine` on a volume of ordinary size with the bundled
network. Every process computes with one thread. Each part of the result is kept in `cohort.json` until it is
measured again, and `cohort.md` shows all.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import psutil
from scipy.ndimage import gaussian_filter

from topofix import batch, pipeline, refined
from topofix.imaging.volumes import Volume, write
from topofix.jobs import plan_jobs, with_requests
from topofix.records import CaseOptions
from topofix.request import PriorRequest
from topofix.summary import Summary
from topofix.tasks import Refine, RefinementOptions
from topofix.workers import Workers

HERE = Path(__file__).resolve().parent
SIDE = 64
SIZE = (96, 240, 256)
PROCESSES = {
    "one process": ("--jobs", "1"),
    "two processes": ("--jobs", "2"),
    "Dask, two processes": ("--scheduler", "local", "--jobs", "2"),
}
GIGA, MEGA = 2**30, 2**20


def make_maps(folder: Path, cases: int) -> None:
    """Discs in noise, nearly all of them with pieces too many, holes, or both."""
    rows, columns = np.indices((SIDE, SIDE)) - SIDE / 2
    disc = 3 - np.hypot(rows, columns) / (0.1 * SIDE)
    for number in range(cases):
        noise = gaussian_filter(np.random.default_rng(number).normal(size=(SIDE, SIDE)), 4)
        field = 1 / (1 + np.exp(-disc - 1.2 * noise / noise.std()))
        grid = Volume(field, (1.0, 1.0), np.eye(4), Path())
        write(folder / f"case{number:04}.nii.gz", field.astype(np.float32), grid)


def make_scan(path: Path) -> None:
    """A bright ellipsoid of tissue with a dark ellipsoid inside, and speckle over everything."""
    random = np.random.default_rng(0)
    places = np.indices(SIZE) - np.array(SIZE).reshape(3, 1, 1, 1) / 2
    radius = np.sqrt(sum((place / (0.4 * side)) ** 2 for place, side in zip(places, SIZE, strict=True)))
    tissue = np.choose((radius < 1).astype(int) + (radius < 0.3), (20.0, 120.0, 60.0))
    scan = gaussian_filter(tissue * random.gamma(4, 0.25, SIZE), 0.7)
    grid = Volume(scan, (1.0, 1.0, 1.0), np.eye(4), Path())
    write(path, scan.astype(np.float32), grid)


def topofix(*arguments: str) -> list[str]:
    """The command line of a run with one thread a process."""
    return [sys.executable, "-m", "topofix", *arguments]


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def watch(command: Sequence[str], cases: int) -> dict[str, Any]:
    """Runs a command that says a line for every case, and looks at its main process on the way."""
    marks = [cases // 10, cases // 2, cases]
    begun = time.perf_counter()
    moments, memory = [], {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ONE_THREAD) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("case"):
                moments.append(time.perf_counter() - begun)
                if len(moments) in marks:
                    memory[len(moments)] = psutil.Process(process.pid).memory_info().rss / MEGA
    seconds = time.perf_counter() - begun
    if process.returncode or len(moments) != cases:
        raise SystemExit(f"{shlex.join(command)}: {len(moments)} cases, exit code {process.returncode}")
    first = marks[0]
    rate = (cases - first) / (moments[-1] - moments[first - 1])
    return {"seconds": seconds, "to the first case": moments[0], "cases per second": rate, "memory": memory}


def processes(cases: int, rounds: int) -> dict[str, Any]:
    """The ways to do the same work, in turn."""
    found: dict[str, Any] = {name: [] for name in PROCESSES}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_maps(folder / "in", cases)
        for number in range(rounds):
            for name, options in PROCESSES.items():
                output = folder / f"{number} {name}"
                command = refine_maps(folder / "in", output, *options)
                found[name].append(watch(command, cases))
                print(name, found[name][-1], file=sys.stderr, flush=True)
    return {"cases": cases, "rounds": rounds, "runs": found}


def refine_maps(inputs: Path, output: Path, *options: str) -> list[str]:
    """The command that refines maps."""
    request = ("--input-type", "probabilities", "--betti", "1,0")
    return topofix("refine", str(inputs), *request, "--output", str(output), *options)


def overhead(cases: int, rounds: int) -> dict[str, Any]:
    """Milliseconds a case in each part of the work, and where an earlier run has done it."""
    found: dict[str, list[float]] = {"correction": [], "account": [], "files": [], "done before": []}
    spent = {"correction": 0.0, "all in memory": 0.0}  # seconds

    def clocked(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            spent[name] += time.perf_counter() - start
            return result

        return call

    def run(output: Path) -> float:
        jobs = with_requests(plan_jobs([inputs], output, "_refined"), PriorRequest(("1,0",)))
        task = Refine(CaseOptions("probabilities"), RefinementOptions())
        start = time.perf_counter()
        summary = Summary(output, "refine", len(jobs))
        with Workers().open() as team:
            for _, result in batch.run(jobs, task, team):
                summary.add(result.record)
        summary.write()
        return time.perf_counter() - start

    with (
        tempfile.TemporaryDirectory() as place,
        patch.object(refined, "correct", clocked("correction", refined.correct)),
        patch.object(pipeline, "refine_prediction", clocked("all in memory", pipeline.refine_prediction)),
    ):
        inputs = Path(place) / "warm"
        make_maps(inputs, 2)
        run(Path(place) / "warmed")
        inputs = Path(place) / "in"
        make_maps(inputs, cases)
        for number in range(rounds):
            output = Path(place) / str(number)
            spent |= dict.fromkeys(spent, 0.0)
            whole = run(output)
            found["correction"].append(1e3 * spent["correction"] / cases)
            found["account"].append(1e3 * (spent["all in memory"] - spent["correction"]) / cases)
            found["files"].append(1e3 * (whole - spent["all in memory"]) / cases)
            found["done before"].append(1e3 * run(output) / cases)
    return {"cases": cases, "rounds": rounds, "milliseconds": found}


def volume(cases: int, rounds: int) -> dict[str, Any]:
    """The most memory that the processes of a command have held together, and how long it took."""
    found = {}
    with tempfile.TemporaryDirectory() as place:
        scan = Path(place) / "scan.nii.gz"
        make_scan(scan)
        model = ("--model", "hippocampus-3d", "--device", "cpu")
        for name, more in {"segment": (), "refine": ("--betti", "1,0,0")}.items():
            output = str(Path(place) / f"{name}.nii.gz")
            command = topofix(name, str(scan), *model, *more, "--output", output)
            begun, peak = time.perf_counter(), 0
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ONE_THREAD) as process:
                while process.poll() is None:
                    peak = max(peak, held(process.pid))
                    time.sleep(0.02)
                assert process.stdout is not None
                said = process.stdout.read().strip().replace(f"{place}/", "")
            found[name] = {"bytes": peak, "seconds": time.perf_counter() - begun, "said": said}
            print(name, found[name], file=sys.stderr, flush=True)
    return {"size": SIZE, "runs": found}


def held(pid: int) -> int:
    """Memory of a process and all that it has started."""
    total = 0
    try:
        main = psutil.Process(pid)
        for process in (main, *main.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def report(results: dict[str, Any]) -> str:
    """The page."""
    parts = ["# A cohort\n"]
    for name, result in results.items():
        lines = TABLES[name](result["found"])
        parts.append(f"`{result['command']}`, {result['cores']} cores\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def processes_table(found: dict[str, Any]) -> list[str]:
    """Speed and memory by way."""

    def mean(name: str, key: str) -> float:
        return float(np.mean([run[key] for run in found["runs"][name]]))

    names = list(found["runs"])
    marks = list(found["runs"][names[0]][0]["memory"])
    head = ["", "s in all", "s to the first case", "cases a second", *(f"MB after {mark}" for mark in marks)]
    lines = [
        f"{found['cases']} maps of probability of {SIDE} x {SIDE}, means of {found['rounds']} rounds in "
        "which the ways take turns; cases a second after the first tenth of them; memory is that of the main "
        "process, the most of all rounds.\n",
        "| " + " | ".join(head) + " |",
        "| --- |" + " ---: |" * (len(head) - 1),
    ]
    for name in names:
        memory = [max(run["memory"][mark] for run in found["runs"][name]) for mark in marks]
        cells = [
            name,
            f"{mean(name, 'seconds'):.1f}",
            f"{mean(name, 'to the first case'):.1f}",
            f"{mean(name, 'cases per second'):.1f}",
            *(f"{value:.0f}" for value in memory),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    one, two, dask = (mean(name, "cases per second") for name in names)
    whole = [mean(name, "seconds") for name in names]
    lines += [
        "",
        f"Two processes are {two / one:.2f} times as fast as one ({whole[0] / whole[1]:.2f} with the start; "
        f"goal: 1.8), Dask {dask / two:.2f} times as fast as two processes (goal: 0.8 or more).",
    ]
    return lines


def overhead_table(found: dict[str, Any]) -> list[str]:
    """Milliseconds a case."""
    means = {name: float(np.mean(values)) for name, values in found["milliseconds"].items()}
    return [
        f"{found['cases']} of these maps in one process, means of {found['rounds']} rounds: "
        f"{means['correction']:.1f} ms a case in the correction, {means['account']:.1f} ms in verifying it "
        f"and giving account of it, {means['files']:.1f} ms in reading, checking and writing files and the "
        "table of the run (goal: less than 30). A case that an earlier run has done takes "
        f"{means['done before']:.1f} ms.",
    ]


def volume_table(found: dict[str, Any]) -> list[str]:
    """The peaks."""
    lines = [
        f"A scan of {' x '.join(map(str, found['size']))} voxels with `hippocampus-3d`, on the CPU; goal: "
        "less than 4 GB.\n",
        "| | GB at the most | s | |",
        "| --- | ---: | ---: | --- |",
    ]
    for name, run in found["runs"].items():
        lines.append(f"| `{name}` | {run['bytes'] / GIGA:.2f} | {run['seconds']:.0f} | {run['said']} |")
    return lines


PARTS: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "processes": processes,
    "overhead": overhead,
    "volume": volume,
}
TABLES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "processes": processes_table,
    "overhead": overhead_table,
    "volume": volume_table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=HERE / "cohort")
    arguments = parser.parse_args()
    file = arguments.out.with_suffix(".json")
    for name in arguments.part:
        found = PARTS[name](arguments.cases, arguments.rounds)
        results = json.loads(file.read_text()) if file.exists() else {}
        results[name] = {
            "command": shlex.join(["python", "benchmarks/cohort.py", *sys.argv[1:]]),
            "cores": len(os.sched_getaffinity(0)),
            "found": found,
        }
        file.write_text(
            json.dumps({part: results[part] for part in PARTS if part in results}, indent=1) + "\n"
        )
        arguments.out.with_suffix(".md").write_text(report(json.loads(file.read_text())))
    print(report(json.loads(file.read_text())))


if __name__ == "__main__":
    main()
