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

from topofix.correction import Progress, unwatched
from topofix.drawings import Drawings, draw
from topofix.imaging.frames import check_format
from topofix.imaging.frozen import Mask, read_frozen
from topofix.imaging.volumes import Volume
from topofix.outcomes import UNMET, Outcome
from topofix.outputs import (
    Drafts,
    Images,
    changes_path,
    check_writable,
    probability_paths,
    record_path,
    write_text,
)
from topofix.prediction import Prediction, label_map, predict_file
from topofix.records import CaseOptions, Record, RefinementOptions, Topology
from topofix.refined import Refined, refine_prediction, together
from topofix.request import PriorRequest, Priors
from topofix.resume import Earlier, Source, held, identity_of, look_back
from topofix.topology.persistence import betti
from topofix.topology.regions import region_mask

Labels = npt.NDArray[np.unsignedinteger[Any]]


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
    if options.dry_run:
        return _refine(path, request, options, refinement, on_progress)
    with held(output):
        source = Source.of(path, options.max_voxels)
        identity = identity_of(source, options, request, refinement, drawings)
        earlier = Earlier() if options.overwrite else look_back(output, identity, drawings)
        if earlier.record is not None:
            return earlier.record
        case = _Case(output, source, identity, options.overwrite or earlier.unfinished, drawings)
        return _refine(path, request, options, refinement, on_progress, case)


@dataclass(frozen=True, slots=True)
class _Case:
    """Where the results of a case go, and what they come from."""

    output: Path
    source: Source
    identity: Mapping[str, str]
    overwrite: bool
    drawings: Drawings = Drawings()

    def check(self, frames: Sequence[Volume]) -> None:
        """Refuses what cannot be written or drawn of these frames."""
        check_format(self.output, frames)
        self.drawings.check(frames)


def _refine(
    path: Path,
    request: PriorRequest,
    options: CaseOptions,
    refinement: RefinementOptions,
    on_progress: Callable[[Progress], None],
    case: _Case | None = None,
) -> Record:
    started = time.perf_counter()
    deadline = None if refinement.time_limit is None else started + refinement.time_limit
    if case is not None:
        paths = [case.output, record_path(case.output), *case.drawings.paths.values()]
        if options.save_changes:
            paths.append(changes_path(case.output))
        check_writable(paths, case.overwrite)
    masks: list[Mask | None] = []

    def check(frames: Sequence[Volume]) -> None:
        if case is not None:
            case.check(frames)
        if options.freeze:
            masks.extend(read_frozen(options.freeze, frames, max_voxels=options.max_voxels))
        else:
            masks.extend([None] * len(frames))

    predicted = predict_file(path, options, request, check)
    refined = [
        refine_prediction(
            *one, request, options, refinement, frozen=frozen, deadline=deadline, on_progress=on_progress
        )
        for one, frozen in zip(predicted, masks, strict=True)
    ]
    record = replace(together(refined), input=str(path), seconds=round(time.perf_counter() - started, 3))
    if case is None or (options.only_verified and record.outcome in UNMET):
        why = "--dry-run" if case is None else "--only-verified"
        return replace(record, message=f"{record.message} Nothing was written ({why}).")
    drawn: dict[str, bytes] = {}
    if case.drawings.paths:
        drawn, said = _draw(case.drawings, predicted, refined, options)
        record = replace(record, message=" ".join(filter(None, (record.message, said))))
    images = Images(
        [volume for volume, _, _ in predicted],
        [image.labels for image in refined],
        [image.before for image in refined] if options.save_changes else [],
        [image.logits for image in refined] if options.save_probabilities else [],
        predicted[0][1].labels,
    )
    return _write_case(case, images, record, started, drawn)


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
    with held(output):
        source = Source.of(path, options.max_voxels)
        identity = identity_of(source, options)
        earlier = Earlier() if options.overwrite else look_back(output, identity)
        if earlier.record is not None:
            return earlier.record
        return _segment(
            path, options, _Case(output, source, identity, options.overwrite or earlier.unfinished)
        )


def _segment(path: Path, options: CaseOptions, case: _Case) -> Record:
    started = time.perf_counter()
    check_writable([case.output, record_path(case.output)], case.overwrite)
    cases = predict_file(path, options, None, case.check)
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
    return _write_case(case, images, record, started)


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
    case: _Case, images: Images, record: Record, started: float, drawn: Mapping[str, bytes] = {}
) -> Record:
    """Writes the images, what was drawn, and the Record that names them all.

    The Record appears first: should this be the last that happens, it tells the next run whose the files are.
    """
    if images.logits:
        check_writable(probability_paths(case.output, images.names).values(), case.overwrite)
    with Drafts(case.output) as drafts:
        drafts.add_images(images)
        for name, content in drawn.items():
            drafts.add(name, case.drawings.paths[name], content)
        case.source.check()
        outputs = {**drafts.outputs, "record": record_path(case.output)}
        record = replace(
            record,
            seconds=round(time.perf_counter() - started, 3),
            outputs={kind: str(path) for kind, path in outputs.items()},
            digests=drafts.digests(),
            identity=case.identity,
        )
        write_text(outputs["record"], record.to_json())
        drafts.publish()
    return record
