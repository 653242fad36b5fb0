"""One prediction corrected and verified, in memory: what `topofix refine` does to a case, less the files.

What is verified is the label map itself, counted anew, and not what a stage says it has reached.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topofix.account import change_rows, verdict
from topofix.correction import STAGES, Progress, correct, unwatched
from topofix.imaging.frozen import Mask
from topofix.imaging.volumes import Volume
from topofix.outcomes import UNMET, Outcome
from topofix.prediction import Prediction, label_map
from topofix.records import CaseOptions, Record, RefinementOptions, Topology
from topofix.request import PriorRequest, Priors, one_slice
from topofix.topology.persistence import Connectivity
from topofix.topology.regions import betti_of_regions, dice

Labels = npt.NDArray[np.unsignedinteger[Any]]

DRAWN_SMOOTHING = (1.0, 0.0)
"""Widths of the Gaussian for labels that somebody drew: what is drawn is meant, but for the defect."""


@dataclass(frozen=True, slots=True, eq=False)
class Refined:
    """What became of one image, before anything is written.

    Attributes:
        before: The label map that the image came with, (*S).
        labels: The label map, (*S).
        logits: Its logits, (K + 1, *S), channel 0 the background.
        record: What was asked, found and changed.
    """

    before: Labels
    labels: Labels
    logits: torch.Tensor
    record: Record


def refine_prediction(
    volume: Volume,
    prediction: Prediction,
    priors: Priors,
    request: PriorRequest,
    options: CaseOptions = CaseOptions(),
    refinement: RefinementOptions = RefinementOptions(),
    *,
    frozen: Mask | None = None,
    deadline: float | None = None,
    on_progress: Callable[[Progress], None] = unwatched,
) -> Refined:
    """Corrects the logits of one image and verifies the label map that they show; touches no file.

    Args:
        volume: The image's grid.
        prediction: From `topofix.prediction`.
        priors: What is asked for, by slice or for the whole.
        request: The same as typed, for the Record.
        options: Connectivity, and what else the Record keeps.
        refinement: Stages, steps, learning rates.
        frozen: (*S), the voxels whose label stays; None for none.
        deadline: When the time is over, by `time.perf_counter`; None counts `refinement.time_limit` from now.
        on_progress: Told what is under way.
    """
    started = time.perf_counter()
    if deadline is None and refinement.time_limit is not None:
        deadline = started + refinement.time_limit
    drawn = options.input_type == "labels"
    if drawn and refinement.smoothing is None:
        refinement = replace(refinement, smoothing=DRAWN_SMOOTHING)
    correction = correct(
        prediction,
        priors,
        volume.spacing,
        options.connectivity,
        refinement,
        frozen=frozen,
        deadline=deadline,
        on_progress=on_progress,
    )
    before, after = label_map(prediction.logits), label_map(correction.logits)
    topology = _compare(before, after, priors, prediction, options.connectivity, volume.frame)
    held = 0 if frozen is None else int(frozen.sum())
    met = all(part.met for part in topology)
    outcome, message = verdict(correction, met, prediction.names, refinement, held)
    record = Record(
        command="refine",
        input=str(volume.path),
        outcome=outcome,
        message=message,
        request=_as_typed(request, options, refinement),
        **prediction.provenance(),
        seed=options.seed,
        slice_axis=None if None in priors else prediction.slice_axis,
        topology=topology,
        stages=correction.stages,
        steps=correction.steps,
        voxels_added=int(((before == 0) & (after > 0)).sum()),
        voxels_removed=int(((before > 0) & (after == 0)).sum()),
        voxels_changed=int((before != after).sum()),
        cost=round(_cost(prediction.logits, before, after), 4),
        voxel_volume=volume.voxel_volume,
        dice_to_input=round(dice(before > 0, after > 0), 6),
        changes=change_rows(correction, prediction, priors, volume),
        seconds=round(time.perf_counter() - started, 3),
    )
    return Refined(before, after, correction.logits, record)


def _cost(logits: torch.Tensor, before: Labels, after: Labels) -> float:
    """What a label map (*S) loses in log-probability against another one, under logits (K + 1, *S)."""
    changed = torch.from_numpy(before != after)
    old, new = (torch.from_numpy(labels.astype(np.int64))[changed][None] for labels in (before, after))
    there = logits[:, changed].double()  # (K + 1, changed)
    return float((there.gather(0, old) - there.gather(0, new)).sum())


def together(frames: Sequence[Refined]) -> Record:
    """One Record of all frames of a series."""
    records = [frame.record for frame in frames]
    outcomes = {record.outcome for record in records}
    worst_first = (*UNMET, Outcome.SATISFIED, Outcome.ALREADY_SATISFIED)
    outcome = next(outcome for outcome in worst_first if outcome in outcomes)
    reasons = (r.message.removeprefix(r.outcome.value) for r in records if r.outcome in UNMET)
    before, after = (np.stack([getattr(f, name) for f in frames]) > 0 for name in ("before", "labels"))
    return replace(
        records[0],
        outcome=outcome,
        message=outcome.value + "".join(dict.fromkeys(reasons)),
        slice_axis=next((r.slice_axis for r in records if r.slice_axis is not None), None),
        topology=tuple(row for record in records for row in record.topology),
        changes=tuple(row for record in records for row in record.changes),
        stages=tuple(stage for stage in STAGES if any(stage in record.stages for record in records)),
        **{
            name: sum(getattr(record, name) for record in records)
            for name in ("steps", "voxels_added", "voxels_removed", "voxels_changed", "cost")
        },
        dice_to_input=round(dice(before, after), 6),
    )


def _compare(
    before: Labels,
    after: Labels,
    priors: Priors,
    prediction: Prediction,
    connectivity: Connectivity,
    frame: int | None,
) -> tuple[Topology, ...]:
    """Betti numbers before and after, counted on the label maps, region by region and slice by slice."""
    rows = []
    for index, prior in priors.items():
        old, new = (
            betti_of_regions(one_slice(labels, index, prediction.slice_axis), prior, connectivity)
            for labels in (before, after)
        )
        for constraint, was, became in zip(prior.constraints, old, new, strict=True):
            name = constraint.name(prediction.names)
            asked = ",".join(map(str, constraint.betti))
            was_met, is_met = (constraint.error(counts) == 0 for counts in (was, became))
            rows.append(Topology(name, index, asked, was, became, was_met, is_met, frame))
    return tuple(rows)


def _as_typed(request: PriorRequest, options: CaseOptions, refinement: RefinementOptions) -> dict[str, Any]:
    """The options for the Record, as a person would write them."""
    limit = refinement.max_change
    typed = {"betti": request.describe(), **asdict(options), **asdict(refinement)}
    return typed | {"max_change": None if limit is None else str(limit)}
