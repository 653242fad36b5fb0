"""The bundled models on held-back patients: Dice and topology of `segment` and of `refine`.

    python benchmarks/bundled_models.py --data ../shared/data

ACDC: every short-axis stack of the `test` patients; the prior asks for a ring of myocardium, 1,1, in each
slice where the true myocardium is one (from the data set's own table). Hippocampus: every `test` volume; the
prior asks for 1,0,0 of the whole organ. Writes `bundled_models.json` and `.md` beside this script.
"""

import argparse
import csv
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from topofix.imaging.tables import read_priors
from topofix.imaging.volumes import read
from topofix.pipeline import refine, segment
from topofix.records import CaseOptions, RefinementOptions
from topofix.request import PriorRequest
from topofix.topology.persistence import betti
from topofix.topology.regions import dice

HERE = Path(__file__).resolve().parent
MYOCARDIUM = 2


@dataclass(frozen=True)
class Scan:
    """A test scan, its true labels and what is asked of it."""

    image: Path
    truth: Path
    request: PriorRequest


def acdc(data: Path, folder: Path) -> tuple[str, tuple[str, ...], list[Scan]]:
    """The ACDC test stacks; priors from the table of true Betti numbers, slice by slice."""
    with (data / "acdc/topology_slices.csv").open() as file:
        rings = [
            f"{row['subject']}_frame{int(row['frame']):02d},{row['slice']},myocardium,1,1"
            for row in csv.DictReader(file)
            if row["split"] == "test" and (row["myo_b0"], row["myo_b1"]) == ("1", "1")
        ]
    table = folder / "acdc_rings.csv"
    table.write_text("\n".join(["case,slice,label,b0,b1", *rings]) + "\n")
    request = PriorRequest(table=read_priors(table))
    truths = sorted((data / "acdc/test").glob("*_gt.nii.gz"))
    scans = [Scan(truth.with_name(truth.name.replace("_gt", "")), truth, request) for truth in truths]
    return "cardiac-sax-2d", ("right ventricle", "myocardium", "left ventricle"), scans


def hippocampus(data: Path, _: Path) -> tuple[str, tuple[str, ...], list[Scan]]:
    """The hippocampus test volumes, one solid piece each."""
    request = PriorRequest(("1,0,0",))
    images = sorted((data / "hippocampus/test/images").glob("*.nii.gz"))
    scans = [Scan(image, data / "hippocampus/test/labels" / image.name, request) for image in images]
    return "hippocampus-3d", ("anterior", "posterior"), scans


def scores(labels: np.ndarray, truth: np.ndarray, count: int) -> list[float]:
    """Dice of each label, and of the foreground."""
    each = [dice(labels == k, truth == k) for k in range(1, count + 1)]
    return [*each, dice(labels > 0, truth > 0)]


def evaluate(
    model: str, names: tuple[str, ...], scans: list[Scan], options: RefinementOptions
) -> dict[str, object]:
    """Segments and refines every scan and compares both with the truth."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for scan in scans:
            seg, ref = Path(folder) / "seg.nii.gz", Path(folder) / "ref.nii.gz"
            case = CaseOptions(model=model, overwrite=True)
            started = time.perf_counter()
            segment(scan.image, seg, case)
            segmented = time.perf_counter() - started
            record = refine(scan.image, ref, scan.request, case, options)
            truth = read(scan.truth).array
            before, after = read(seg).array, read(ref).array
            if record.slice_axis is None:
                assert all(part.after == betti(after > 0) for part in record.topology)
            wrong = [part for part in record.topology if not part.met_before]
            rows.append(
                {
                    "case": scan.image.name,
                    "dice_before": scores(before, truth, len(names)),
                    "dice_after": scores(after, truth, len(names)),
                    "parts": len(record.topology),
                    "right_before": len(record.topology) - len(wrong),
                    "right_after": sum(bool(part.met) for part in record.topology),
                    "missed": [part.slice for part in record.topology if not part.met],
                    "touched": [
                        {
                            "slice": part.slice,
                            "before": touched(before, truth, part.slice),
                            "after": touched(after, truth, part.slice),
                        }
                        for part in wrong
                    ],
                    "voxels_changed": record.voxels_changed,
                    "seconds_segment": round(segmented, 2),
                    "seconds_refine": record.seconds,
                }
            )
            print(
                scan.image.name,
                rows[-1]["right_before"],
                "->",
                rows[-1]["right_after"],
                "of",
                rows[-1]["parts"],
            )
    parts = sum(row["parts"] for row in rows)
    return {
        "model": model,
        "labels": [*names, "foreground"],
        "scans": len(rows),
        "dice_before": np.mean([row["dice_before"] for row in rows], 0).round(4).tolist(),
        "dice_after": np.mean([row["dice_after"] for row in rows], 0).round(4).tolist(),
        "parts": parts,
        "right_before": sum(row["right_before"] for row in rows) / parts,
        "right_after": sum(row["right_after"] for row in rows) / parts,
        "scans_right_before": np.mean([row["right_before"] == row["parts"] for row in rows]),
        "scans_right_after": np.mean([row["right_after"] == row["parts"] for row in rows]),
        "touched_dice_before": np.mean([t["before"] for row in rows for t in row["touched"]] or [1.0]),
        "touched_dice_after": np.mean([t["after"] for row in rows for t in row["touched"]] or [1.0]),
        "median_seconds_segment": float(np.median([row["seconds_segment"] for row in rows])),
        "median_seconds_refine": float(np.median([row["seconds_refine"] for row in rows])),
        "rows": rows,
    }


def touched(labels: np.ndarray, truth: np.ndarray, index: int | None) -> float:
    """Dice of what the prior speaks of: the myocardium of a slice, or the whole foreground."""
    if index is None:
        return dice(labels > 0, truth > 0)
    return dice(labels[..., index] == MYOCARDIUM, truth[..., index] == MYOCARDIUM)


def table(result: dict[str, object]) -> str:
    """One data set's result as Markdown."""
    unit = "slices" if result["parts"] != result["scans"] else "volumes"
    head = " | ".join(f"Dice {name}" for name in result["labels"])
    lines = [
        f"### `{result['model']}`: {result['scans']} scans, {result['parts']} {unit} with a prior",
        "",
        f"| | {unit} right | scans right | {head} | Dice of wrong {unit} | s per scan |",
        "| --- | " + " | ".join("---:" for _ in range(len(result["labels"]) + 4)) + " |",
    ]
    for name, key in (("segment", "before"), ("refine", "after")):
        values = " | ".join(f"{value:.3f}" for value in result[f"dice_{key}"])
        seconds = result["median_seconds_segment" if key == "before" else "median_seconds_refine"]
        lines.append(
            f"| `{name}` | {100 * result[f'right_{key}']:.1f} % | {100 * result[f'scans_right_{key}']:.1f} % "
            f"| {values} | {result[f'touched_dice_{key}']:.3f} | {seconds:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TOPOFIX_DATA", "../shared/data")))
    parser.add_argument("--method", default=RefinementOptions.__dataclass_fields__["method"].default)
    parser.add_argument("--out", type=Path, default=HERE / "bundled_models")
    arguments = parser.parse_args()
    options = RefinementOptions(method=arguments.method)
    with tempfile.TemporaryDirectory() as folder:
        results = [
            evaluate(*data_set(arguments.data, Path(folder)), options) for data_set in (acdc, hippocampus)
        ]
    cores = len(os.sched_getaffinity(0))
    command = f"python benchmarks/bundled_models.py --method {arguments.method}"
    summary = {"command": command, "cores": cores, "results": results}
    arguments.out.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    text = "\n\n".join(map(table, results))
    arguments.out.with_suffix(".md").write_text(
        f"# The bundled models on held-back patients\n\n`{command}`, cores: {cores}.\n\n{text}\n"
    )
    print(text)


if __name__ == "__main__":
    main()
