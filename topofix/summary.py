"""The table of a run, `summary.csv` for spreadsheets and `summary.json` for programs, which grows with it.

Both are written anew from time to time and in the end, whole each time, so that a run that is killed leaves
the table of a moment ago.
"""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from filelock import FileLock

from topofix import __version__
from topofix.errors import UnwritableFile
from topofix.imaging.spreadsheets import csv_text, safe_cell
from topofix.outputs import write_text
from topofix.records import Record, Topology
from topofix.reporting.lines import betti_text

COLUMNS = (
    "input",
    "output",
    "outcome",
    "skipped",
    "region",
    "requested",
    "before",
    "after",
    "slices_right_before",
    "slices_right_after",
    "slices",
    "voxels_changed",
    "mm3_changed",
    "dice_to_input",
    "seconds",
    "message",
)
"""Of the table: a row for each region of each case, or for its slices together."""

EVERY = 1.0
"""Seconds between two writings, or twenty times as long as the last one took."""


class Summary:
    """What has become of the cases of a run so far.

    Args:
        folder: Where the table goes.
        command: Whose cases they are.
        total: How many there are.
        part: `k/n` for a part of a job array, which has a table of its own; None for all.

    Raises:
        UnwritableFile: There is somebody's file of that name.
    """

    def __init__(self, folder: Path, command: str, total: int, part: str | None = None) -> None:
        name = "summary" if part is None else f"summary_{part.replace('/', '_of_')}"
        self.csv, self.json = folder / f"{name}.csv", folder / f"{name}.json"
        self._command, self._total = command, total
        for path in (self.csv, self.json):
            if path.exists() and not _is_ours(self.json):
                raise UnwritableFile(f"{path}: expected no file but the table of an earlier run, found one")
        self._rows: list[dict[str, Any]] = []
        self._outcomes: Counter[str] = Counter()
        self._skipped = 0
        self._began = time.monotonic()
        self._next = self._began

    def add(self, record: Record) -> None:
        """Takes up a case, and writes the table if it is time.

        Raises:
            UnwritableFile: It cannot be written.
        """
        self._rows += _rows(record)
        self._outcomes[record.outcome.name.lower()] += 1
        self._skipped += record.skipped
        if (now := time.monotonic()) >= self._next:
            self.write()
            self._next = now + max(EVERY, 20 * (time.monotonic() - now))

    def write(self) -> None:
        """Writes the table as it is.

        Raises:
            UnwritableFile: It cannot be written.
        """
        finished = sum(self._outcomes.values())
        whole = {
            "command": self._command,
            "topofix": __version__,
            "cases": self._total,
            "finished": finished,
            "not_begun": self._total - finished,
            "skipped": self._skipped,
            "outcomes": dict(sorted(self._outcomes.items())),
            "seconds": round(time.monotonic() - self._began, 3),
            "rows": self._rows,
        }
        try:
            self.csv.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self.csv.with_name(f".{self.csv.name}.lock")) as lock:  # two runs, one folder
                try:  # first what says whose the table is, should that be the last that happens
                    write_text(self.json, json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
                    write_text(self.csv, _table(self._rows))
                finally:
                    Path(lock.lock_file).unlink(missing_ok=True)
        except OSError as error:
            raise UnwritableFile(f"{self.csv}: expected a folder that can be written to ({error})") from error


def _is_ours(path: Path) -> bool:
    """Whether a file is the table of a run."""
    try:
        return "not_begun" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _rows(record: Record) -> list[dict[str, Any]]:
    shared = {
        "input": record.input,
        "output": record.outputs.get("segmentation", ""),
        "outcome": record.outcome.name.lower(),
        "skipped": record.skipped,
        "voxels_changed": record.voxels_changed,
        "mm3_changed": round(record.voxels_changed * record.voxel_volume, 3),
        "dice_to_input": record.dice_to_input,
        "seconds": record.seconds,
        "message": record.message,
    }
    regions: dict[str, list[Topology]] = {}
    for part in record.topology:
        regions.setdefault(part.region, []).append(part)
    return [shared | {"region": region} | _topology(parts) for region, parts in regions.items()] or [shared]


def _topology(parts: list[Topology]) -> dict[str, Any]:
    """Betti numbers of a region, or in how many of its slices and frames they are right."""
    if len(parts) == 1:
        (part,) = parts
        numbers = {"before": betti_text(part.before), "after": betti_text(part.after)}
        return {"requested": part.requested or "", **numbers}
    counts: dict[str, Any] = {"slices": len(parts)}
    if parts[0].requested is not None:
        counts["slices_right_before"] = sum(part.met_before is True for part in parts)
        counts["slices_right_after"] = sum(part.met is True for part in parts)
    return counts


def _table(rows: list[dict[str, Any]]) -> str:
    return csv_text([COLUMNS, *([safe_cell(str(row.get(name, ""))) for name in COLUMNS] for row in rows)])
