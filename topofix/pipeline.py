"""One case from a path in to files out, and a Record back.

Each function reads like its story: read, predict, correct, verify what is about to be written, write. What is
refused is refused before anything is written, and every file is written whole or not at all.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topofix.account import change_rows, verdict
from topofix.correction import STAGES, Progress, correct, unwatched
from topofix.drawings import Drawings, draw
from topofix.imaging.frames import check_format
from topofix.imaging.frozen import Mask, read_frozen
from topofix.imaging.volumes import Volume
from topofix.outcomes import UNMET, Outcome
from topofix.outputs import (
    Images,
    changes_path,
    check_writable,
    record_path,
    write_bytes,
    write_images,
    write_text,
)
from topofix.prediction import Prediction, label_map, predict_file
from topofix.records import CaseOptions, Record, RefinementOptions, Topology
from topofix.request import PriorRequest, Priors, one_slice
from topofix.topology.persistence import Connectivity, betti
from topofix.topology.regions import betti_of_regions, dice, region_mask

Labels = npt.NDArray[np.unsignedinteger[Any]]

DRAWN_SMOOTHING = (1.0, 0.0)
"""Widths of the Gaussian for labels that somebody drew: what is drawn is meant, but for the defect."""


def refine(
    path: Path,
    output: Path,
    request: PriorRequest,
    options: CaseOptions = CaseOptions(),
    refinement: RefinementOptions = RefinementOptions(),
    drawings: Drawings = Drawings(),
    on_progress: Callable[[Progress], None] = unwatched,
) -> Record:
    """Segments a scan, or takes probabilities or a label map, and gives it the topology that was asked for.

    Only slices (or the volume) that are wrong are touched. What is verified is the label map that is written.

    Args:
        path: A scan, a file of probabilities or a label map, as `options.input_type` says.
        output: The label map to write; its Record goes beside it as `.json`.
        request: The topology that is asked for.
        options: Model, device, connectivity, slice axis.
        refinement: Stages, steps, learning rates.
        drawings: Figures, page and surface to draw as well.
        on_progress: Told what is under way.

    Returns:
        The Record, as written. A topology that was not reached is an outcome, not an error.

    Raises:
        TopofixError: Bad input, an impossible prior, an output that exists; nothing has been written then.
    """
    started = time.perf_counter()
    deadline = None if refinement.time_limit is None else started + refinement.time_limit
    if not options.dry_run:
        paths = [output, record_path(output), *([changes_path(output)] if options.save_changes else [])]
        check_writable([*paths, *drawings.paths.values()], options.overwrite)
    masks: list[Mask | None] = []

    def check(frames: Sequence[Volume]) -> None:
        if not options.dry_run:
            check_format(output, frames)
            drawings.check(frames)
        masks.extend(read_frozen(options.freeze, frames) if options.freeze else [None] * len(frames))

    cases = predict_file(path, options, request, check)
    refined = [
        refine_prediction(
            *case, request, options, refinement, frozen=frozen, deadline=deadline, on_progress=on_progress
        )
        for case, frozen in zip(cases, masks, strict=True)
    ]
    record = replace(_together(refined), input=str(path), seconds=round(time.perf_counter() - started, 3))
    if options.dry_run or (options.only_verified and record.outcome in UNMET):
        why = "--dry-run" if options.dry_run else "--only-verified"
        return replace(record, message=f"{record.message} Nothing was written ({why}).")
    drawn: dict[str, bytes] = {}
    if drawings.paths:
        drawn, said = _draw(drawings, cases, refined, options)
        record = replace(record, message=" ".join(filter(None, (record.message, said))))
    images = Images(
        [volume for volume, _, _ in cases],
        [image.labels for image in refined],
        [image.before for image in refined] if options.save_changes else [],
        [image.logits for image in refined] if options.save_probabilities else [],
        cases[0][1].labels,
    )
    files = {name: (path, drawn[name]) for name, path in drawings.paths.items()}
    return _write_case(output, images, options, record, started, files)


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


def _together(frames: Sequence[Refined]) -> Record:
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


def segment(path: Path, output: Path, options: CaseOptions = CaseOptions()) -> Record:
    """Segments a scan with a network and writes the label map on the scan's own grid.

    Args:
        path: A scan.
        output: The label map to write; its Record goes beside it as `.json`.
        options: Model, device, slice axis.

    Returns:
        The Record, as written, with the Betti numbers of every label.

    Raises:
        TopofixError: Bad input or an output that exists; nothing has been written then.
    """
    started = time.perf_counter()
    check_writable([output, record_path(output)], options.overwrite)
    cases = predict_file(path, options, None, lambda frames: check_format(output, frames))
    frames, predictions = [volume for volume, _, _ in cases], [prediction for _, prediction, _ in cases]
    record = Record(
        command="segment",
        input=str(path),
        outcome=Outcome.WRITTEN,
        message=Outcome.WRITTEN.value,
        request=asdict(options),
        **predictions[0].provenance(),
        seed=options.seed,
        topology=tuple(
            Topology(name, None, None, counts, counts, frame=volume.frame)
            for volume, prediction in zip(frames, predictions, strict=True)
            for labels in [label_map(prediction.logits)]
            for value, name in prediction.names.items()
            for counts in [betti(region_mask(labels, (value,)), options.connectivity)]
        ),
        voxel_volume=frames[0].voxel_volume,
    )
    images = Images(
        frames,
        [label_map(prediction.logits) for prediction in predictions],
        logits=[prediction.logits for prediction in predictions] if options.save_probabilities else [],
        names=predictions[0].labels,
    )
    return _write_case(output, images, options, record, started)


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


def _draw(
    drawings: Drawings,
    cases: Sequence[tuple[Volume, Prediction, Priors]],
    refined: Sequence[Refined],
    options: CaseOptions,
) -> tuple[dict[str, bytes], str]:
    from topofix.scenes import scene_of

    scenes = [
        scene_of(
            *case, one.before, one.labels, one.logits, one.record, options.input_type, options.connectivity
        )
        for case, one in zip(cases, refined, strict=True)
    ]
    return draw(drawings, scenes, options.connectivity)


def _write_case(
    output: Path,
    images: Images,
    options: CaseOptions,
    record: Record,
    started: float,
    drawn: Mapping[str, tuple[Path, bytes]] = {},
) -> Record:
    """Writes the images and what was drawn, and last the Record, which names them all."""
    outputs = write_images(output, images, options.overwrite)
    for name, (path, content) in drawn.items():
        write_bytes(path, content)
        outputs[name] = path
    outputs["record"] = record_path(output)
    record = replace(
        record,
        seconds=round(time.perf_counter() - started, 3),
        outputs={kind: str(path) for kind, path in outputs.items()},
    )
    write_text(outputs["record"], record.to_json())
    return record
