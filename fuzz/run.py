"""Runs every fuzz target for a while and writes `benchmarks/fuzz.json` and `benchmarks/fuzz.md`: `make fuzz`.

What a target found lies in `build/fuzz`, with the input that did it; then this ends with exit code 1.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
BUILD = ROOT / "build" / "fuzz"
KERNEL = ROOT / "build" / "fuzz_kernel"
PARSERS = ("prior texts", "limits", "prior CSVs", "prior TOMLs", "descriptions", "case tables")
READERS = (
    *("NIfTI", "NRRD", "MetaImage", "PNG", "TIFF", "npy", "npz", "checkpoint", "training state"),
    *("prior CSV", "case CSV", "foreign TOML"),
)


@dataclass(frozen=True)
class Target:
    """A target and how it is run.

    Attributes:
        name: For the table.
        engine: What makes up its inputs.
        command: What runs it for so many seconds.
    """

    name: str
    engine: str
    command: list[str]


@dataclass(frozen=True)
class Result:
    """What came of a target.

    Attributes:
        name: The target's.
        engine: What made up its inputs.
        inputs: How many it tried.
        seconds: How long, without start and imports.
        passed: Whether it found nothing.
    """

    name: str
    engine: str
    inputs: int
    seconds: int
    passed: bool


def targets(seconds: int, seed: int) -> Iterator[Target]:
    """Every target that can run here."""
    time_and_seed = [f"-max_total_time={seconds}", f"-seed={seed}"]
    if KERNEL.is_file():
        libfuzzer = b"LLVMFuzzerRunDriver" in KERNEL.read_bytes()
        engine = "libFuzzer" if libfuzzer else "its own driver"
        more = ["-max_len=1500", "-len_control=0", f"-artifact_prefix={BUILD}/kernel-"] if libfuzzer else []
        yield Target("kernel", engine, [str(KERNEL), *time_and_seed, *more])
    for name in PARSERS:
        script = [sys.executable, "fuzz/parsers.py", name, str(seconds), "--seed", str(seed)]
        yield Target(name, "hypothesis", script)
    if find_spec("atheris") is None:
        print("atheris is not installed: the readers of bytes are left out", file=sys.stderr)
        return
    for name in READERS:
        limits = ["-max_len=20000", "-timeout=20", "-rss_limit_mb=4096"]
        place = BUILD / name.replace(" ", "-")
        options = [str(place), *time_and_seed, *limits, f"-artifact_prefix={place}-"]
        yield Target(name, "atheris", [sys.executable, "fuzz/readers.py", name, *options])


def run(target: Target) -> Result:
    """Runs one target; its log lies in `build/fuzz`."""
    log = BUILD / f"{target.engine.replace(' ', '-')}-{target.name.replace(' ', '-')}.log"
    environment = {**os.environ, "PYTHONPATH": "tests", "OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    with log.open("wb") as file:
        ended = subprocess.run(
            target.command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    text = log.read_text(errors="replace")
    done = re.search(r"Done (\d+) runs in (\d+) second", text)
    passed = ended.returncode == 0 and done is not None
    if not passed:
        print(f"{target.name}: see {log}\n{text[-3000:]}", file=sys.stderr)
    inputs, seconds = (int(done[1]), int(done[2])) if done else (0, round(time.monotonic() - begun))
    print(f"{target.name}: {inputs} inputs in {seconds} s, {'nothing' if passed else 'something'} found")
    return Result(target.name, target.engine, inputs, seconds, passed)


def table(results: list[Result], cores: int, seconds: int) -> str:
    """The results for people."""
    lines = [
        "# Fuzzing",
        "",
        f"`make fuzz SECONDS={seconds}`, on {cores} {'core' if cores == 1 else 'cores'}: random inputs for "
        "the kernel under the address and undefined-behaviour sanitizers (`tests/native/fuzz_kernel.cpp`: "
        "Betti numbers against the Euler characteristic and flooding), for the parsers of what people write "
        "(`fuzz/parsers.py`) and for the readers of bytes (`fuzz/readers.py`).",
        "",
        "| target | inputs by | inputs | seconds | result |",
        "| --- | --- | --- | --- | --- |",
    ]
    for result in results:
        found = "nothing found" if result.passed else "a fault"
        cells = (result.name, result.engine, f"{result.inputs:,}", str(result.seconds), found)
        lines.append(f"| {' | '.join(cells)} |")
    total = sum(result.inputs for result in results)
    lines += ["", f"{total:,} inputs in all.", "", *FOUND]
    return "\n".join(lines) + "\n"


FOUND = [
    "## What was found",
    "",
    "By these targets since they are there, and mended:",
    "",
    "- limits: a `--max-change` of 1e308 mm³ in voxels of less than 1 mm³, and one of 1.797e308, ended in an "
    "OverflowError.",
    "- prior CSVs: a carriage return in the name of a case was written without quotes, so that the table "
    "could not be read again.",
]


def main() -> None:
    """Runs them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="per target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="part of a target's name; what was found of others stays in the table")
    arguments = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    chosen = [t for t in targets(arguments.seconds, arguments.seed) if (arguments.only or "") in t.name]
    results = [run(target) for target in chosen]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    stored = BENCHMARKS / "fuzz.json"
    earlier = json.loads(stored.read_text())["targets"] if arguments.only and stored.is_file() else []
    known = {(row["name"], row["engine"]): Result(**row) for row in earlier}
    every = list((known | {(result.name, result.engine): result for result in results}).values())
    rows = {"seconds": arguments.seconds, "cores": cores, "targets": [asdict(result) for result in every]}
    stored.write_text(json.dumps(rows, indent=1) + "\n")
    (BENCHMARKS / "fuzz.md").write_text(table(every, cores, arguments.seconds))
    sys.exit(0 if all(result.passed for result in results) else 1)


if __name__ == "__main__":
    main()
