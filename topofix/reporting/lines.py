"""One line per case: what a person reads while a batch runs."""

from collections.abc import Sequence
from pathlib import Path

from topofix.outcomes import UNMET, Outcome
from topofix.records import Record, Topology


def one_line(record: Record) -> str:
    """A Record as one line of text.

    Example:
        >>> corrected = Topology("foreground", None, "1,0,0", (2, 0, 0), (1, 0, 0), False, True)
        >>> one_line(Record("refine", "in/scan.nii.gz", Outcome.SATISFIED, "", topology=(corrected,)))
        'scan.nii.gz: satisfied; foreground 2,0,0 -> 1,0,0; 0 voxels (0 mm³) changed'
    """
    name = Path(record.input).name
    if record.outcome is Outcome.FAILED:
        return "failed: " + (record.message if name in record.message else f"{name}: {record.message}")
    outcome = record.outcome.name.lower().replace("_", " ") + (" before" if record.skipped else "")
    parts = [outcome, *_topology(record)]
    if record.command == "refine":
        voxels = "1 voxel" if record.voxels_changed == 1 else f"{record.voxels_changed} voxels"
        parts.append(f"{voxels} ({_amount(record)}) changed")
    if record.model:
        parts.append(f"model {record.model}")
    if "segmentation" in record.outputs:
        parts.append(record.outputs["segmentation"])
    elif record.request.get("dry_run"):
        parts.append("dry run, nothing written")
    elif record.request.get("only_verified") and record.outcome in UNMET:
        parts.append("nothing written")
    return f"{name}: " + "; ".join(parts)


def betti_text(counts: tuple[int, ...]) -> str:
    """Betti numbers as they are typed.

    Example:
        >>> betti_text((1, 0, 0))
        '1,0,0'
    """
    return ",".join(map(str, counts))


def _topology(record: Record) -> list[str]:
    """Betti numbers region by region or, slice by slice, how many slices were and are right."""
    slices = {part.slice for part in record.topology}
    if None in slices:
        return [_change(part) for part in record.topology]
    before, after = (
        len(slices) - len({part.slice for part in record.topology if getattr(part, met) is False})
        for met in ("met_before", "met")
    )
    if all(part.requested is None for part in record.topology):
        return [f"{len(slices)} slices"]
    counts = f"{after}" if record.command == "barcode" else f"{before} -> {after}"
    return [f"slices right {counts} of {len(slices)}"]


def _change(part: Topology) -> str:
    changed = part.before != part.after
    return f"{part.region} {betti_text(part.before)}" + (f" -> {betti_text(part.after)}" if changed else "")


def _amount(record: Record) -> str:
    planar = all(part.slice is None and len(part.after) == 2 for part in record.topology)
    return f"{record.voxels_changed * record.voxel_volume:.5g} {'mm²' if planar else 'mm³'}"


def progress_line(
    name: str,
    index: int | None,
    stage: str,
    steps: int,
    numbers: Sequence[tuple[tuple[int, ...], str]],
    seconds: float,
) -> str:
    """Where a case is.

    Args:
        name: The case's.
        index: The slice; None for the whole.
        stage: The one under way.
        steps: Taken in it.
        numbers: For each constraint the Betti numbers now, and what they are to become.
        seconds: Since the case began.

    Example:
        >>> progress_line("scan.nii.gz", 3, "voxels", 12, [((2, 0), "1,0")], 3.24)
        'scan.nii.gz, slice 3: voxels, step 12; 2,0 -> 1,0; 3.2 s'
    """
    place = name if index is None else f"{name}, slice {index}"
    where = f"{stage}, step {steps}" if steps else stage
    betti = "  ".join(f"{betti_text(now)} -> {wanted}" for now, wanted in numbers)
    return f"{place}: {where}; {betti}; {seconds:.1f} s"
