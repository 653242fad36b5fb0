"""What became of the hostile inputs, as a table: `benchmarks/hostile.json` and `benchmarks/hostile.md`."""

import json
import os
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from faults.hostile_commands import Ended
from faults.hostile_runner import MOST_CHARACTERS, MOST_MEMORY, MOST_SECONDS, Result

FOUND = (
    "Pipes, links to devices, sparse files of terabytes and bombs in gzip, zip, PNG, TIFF, NRRD, "
    "MetaImage and checkpoints kept the program for ever or took all memory.",
    "Writing a `.mhd` where a folder or the file has a `%` in its name: MetaIO takes the path for a "
    "format, which ended the process (`%s%n`) or damaged the voxels (`50%`). Names such as `~x` and "
    "`a:b` put the voxels of a detached header into the current folder; others made headers that could "
    "not be read again.",
    "A TIFF that was cut between two pages was read as a shorter stack, and a PNG whose rows end early "
    "with empty rows in their place.",
    "A detached header could name any file of the machine as its voxels.",
    "A DICOM slice with one damaged byte in its first group took 1.2 GiB.",
    "A file whose name is not UTF-8 ended in a traceback after the label map was written.",
    "A damaged Record beside a result ended in a traceback, and a pipe in its place was waited for.",
    "Warnings of Pillow and nibabel and lines of MetaIO and libtiff appeared on stderr.",
    "A prior table with thousands of rows for one case took minutes to check.",
    "A spacing so small that a voxel has 0 mm³ ended in a division by zero.",
    "Refusals of up to 200,000 characters.",
)
"""What was found with them, and mended."""


_HEADS = ("what it pretends to be", "inputs", "refused", "read", "faults", "slowest, s", "most memory, MiB")


def write(folder: Path, results: Sequence[Result], ended: Sequence[Ended], seed: int) -> None:
    """Writes both files."""
    kinds = sorted({(result.family, result.kind) for result in results})
    stored = {
        "seed": seed,
        "inputs": len(results),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, one in use",
        "kinds": [
            _summary([r for r in results if (r.family, r.kind) == kind], family=kind[0], kind=kind[1])
            for kind in kinds
        ],
        "slowest": [_short(r) for r in sorted(results, key=lambda r: -r.seconds)[:10]],
        "largest": [_short(r) for r in sorted(results, key=lambda r: -r.memory)[:10]],
        "faults": [asdict(result) for result in results if result.faults],
        "commands": [{"number": e.result.number, "code": e.code, "fault": e.fault} for e in ended],
    }
    (folder / "hostile.json").write_text(json.dumps(stored, indent=1) + "\n")
    (folder / "hostile.md").write_text(_text(results, ended, seed))


def _summary(results: Sequence[Result], **names: str) -> dict[str, object]:
    outcomes = Counter(result.outcome for result in results if not result.faults)
    return {
        **names,
        "inputs": len(results),
        "refused": outcomes["refused"],
        "read": outcomes["read"],
        "faults": sum(bool(result.faults) for result in results),
        "slowest_seconds": max(result.seconds for result in results),
        "most_mib": round(max(result.memory for result in results) / 2**20),
    }


def _short(result: Result) -> dict[str, object]:
    return {key: value for key, value in asdict(result).items() if key not in ("message", "faults")}


def _text(results: Sequence[Result], ended: Sequence[Ended], seed: int) -> str:
    seconds = sum(result.seconds for result in results)
    rows = [
        _summary([r for r in results if r.family == family], family=family) for family in _families(results)
    ]
    rows.append(_summary(results, family="all"))
    wrong = [one for one in ended if one.fault]
    lines = [
        "# Hostile inputs",
        "",
        f"`make test-faults` makes {len(results):,} damaged and hostile inputs from seed {seed} and has "
        "topofix read each as what it pretends to be: a scan, a label map, a mask, a model, a prior, a data "
        f"set. Each may be read or be refused with one sentence, within {MOST_SECONDS:g} s and "
        f"{MOST_MEMORY // 2**20} MiB, and may leave nothing behind. A crash, a hang, a traceback, a warning, "
        "a file that appears elsewhere or a truncated file that is read is a fault. The kinds are listed in "
        f"`tests/faults/hostile.py`. On one core, topofix took {seconds / 60:.0f} minutes for all.",
        "",
        f"| {' | '.join(_HEADS)} |",
        f"|{' --- |' * len(_HEADS)}",
        *(f"| {' | '.join(map(_cell, row.values()))} |" for row in rows),
        "",
        f"{len(ended)} of those that were refused, of every use and family the slowest, went through the "
        f"real command as well: {len(ended) - len(wrong)} ended with exit code 1 or 2 and one line on "
        f"stderr. In {sum(bool(r.remarks) for r in results)} cases there is a remark without a fault: a line "
        "that a library wrote to stderr past Python, or a sentence with control characters or of more than "
        f"{MOST_CHARACTERS:,} characters.",
        "",
    ]
    if FOUND:
        lines += [
            "## What was found",
            "",
            "With these inputs, and mended since:",
            "",
            *(f"- {f}" for f in FOUND),
        ]
    return "\n".join(lines).rstrip() + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _families(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.family for result in results))
