"""The barcodes and Betti numbers of one case, against what was asked of it; nothing is written.

A scan is measured through a network, a probability map as it is, and a label map as the mask of each label.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topofix.errors import InvalidArray, InvalidOption, InvalidPrior
from topofix.imaging.frames import read_frames
from topofix.imaging.maps import Maps, read_maps
from topofix.imaging.rows import PriorRow, case_name
from topofix.imaging.volumes import Volume
from topofix.learning.loss import region_field
from topofix.prediction import choose_slice_axis, predict_maps, predict_volume, provenance
from topofix.records import CaseOptions, Outcome, Record, Topology
from topofix.request import PriorRequest, one_slice
from topofix.topology.bars import Bars, gather
from topofix.topology.persistence import barcode, betti_at
from topofix.topology.regions import region_mask

Field = npt.NDArray[np.floating[Any]]

_FOREGROUND = "foreground"
"""The name of a region that is every label."""


@dataclass(frozen=True, slots=True, eq=False)
class _Subject:
    """What is measured: one field per region, whatever the input was."""

    field: Callable[[tuple[int, ...]], Field]
    labels: dict[str, int]
    slice_axis: int
    provenance: dict[str, Any]


def measure(
    path: Path,
    request: PriorRequest | None = None,
    options: CaseOptions = CaseOptions(),
    *,
    label: str | None = None,
    threshold: float = 0.5,
    min_persistence: float = 0.0,
    each_label: bool = False,
) -> tuple[Record, list[Bars]]:
    """Measures the barcodes and Betti numbers of a map, a label map, or a scan with a model.

    Args:
        path: The image.
        request: The topology it should have; None only measures.
        options: What kind of image it is, model, connectivity, slice axis.
        label: The label, by number or name, or a union such as `2+3`, that numbers without a label of their
            own are for, and without a prior the only one that is measured. None: the foreground, and without
            a prior every label.
        threshold: Where Betti numbers are read off: foreground is what lies above.
        min_persistence: Shorter bars are left out of the list, not out of the Betti numbers.
        each_label: Without a prior, call a single label by its value too, not the foreground.

    Returns:
        The Record and one `Bars` per region and slice.

    Raises:
        TopofixError: Bad input or an impossible prior.
    """
    started = time.perf_counter()
    if request is not None and label is not None:
        if not request.texts:
            kind = "table, whose rows" if request.table is not None else "file, whose constraints"
            raise InvalidOption(f"--label: expected it without a {kind} name their labels")
        request = PriorRequest(tuple(t if ":" in t else f"{label}:{t}" for t in request.texts))
    frames, maps = _open(path, options)
    slicewise = frames[0].array.ndim == 2 or options.slice_axis is not None
    anything = "*,*" if slicewise else "*,*,*"  # asks for nothing
    wish = request or (PriorRequest((f"{label}:{anything}",)) if label else None)
    topology, bars = [], []
    for volume in frames:
        subject = _subject(volume, maps, path.name, options, wish)
        asked_of_it = wish or PriorRequest(tuple(_each_label(subject, anything, 1 if each_label else 2)))
        # A label map may lack a label that a prior asks for, or asks to be absent.
        known = None if request and options.input_type == "labels" else subject.labels
        shape, axis, frame = volume.array.shape, subject.slice_axis, volume.frame
        priors = asked_of_it.for_image(path.name, shape, axis, known, frame)
        names = {value: name for name, value in subject.labels.items()}
        for index, prior in priors.items():
            for constraint in prior.constraints:
                field = one_slice(subject.field(constraint.region), index, axis)
                code = barcode(field, options.connectivity)
                counts = betti_at(code, field, threshold)
                name = constraint.name(names)
                asked = ",".join(map(str, constraint.betti)) if request else None
                met = constraint.error(counts) == 0 if request else None
                topology.append(Topology(name, index, asked, counts, counts, met, met, frame))
                bars.append(gather(name, index, code, field, min_persistence, frame))
    if not topology:
        assert request is not None
        raise InvalidPrior(f"{request.describe()}: expected a row for {path.name}, found none")
    if request is None:
        outcome = Outcome.MEASURED
    else:
        outcome = Outcome.MET if all(part.met for part in topology) else Outcome.NOT_MET
    record = Record(
        command="barcode",
        input=str(path),
        outcome=outcome,
        message=outcome.value,
        request={"betti": request.describe() if request else None, **asdict(options), "threshold": threshold},
        **subject.provenance,
        seed=options.seed,
        slice_axis=None if topology[0].slice is None else subject.slice_axis,
        topology=tuple(topology),
        seconds=round(time.perf_counter() - started, 3),
        voxel_volume=frames[0].voxel_volume,
    )
    return record, bars


def count_slices(path: Path, options: CaseOptions = CaseOptions()) -> int:
    """How many slices a case has along its slice axis; 0 for a 2-D image.

    Raises:
        TopofixError: An unreadable file, or a slice axis that it lacks.
    """
    (volume, *_), _ = _open(path, options)
    axis = choose_slice_axis(volume, options)
    return volume.array.shape[axis] if volume.array.ndim > 2 else 0


def drawn_priors(records: Sequence[Record]) -> tuple[PriorRow, ...]:
    """What label maps were measured to have, as the rows of a prior CSV: one per case, slice and label.

    Args:
        records: Those of `measure` with `each_label`. A label that only other cases or slices have is absent.

    Example:
        >>> parts = [Topology("2", 0, None, (1, 1), (1, 1)), Topology("2", 1, None, (0, 0), (0, 0))]
        >>> record = Record("barcode", "in/a.nii.gz", Outcome.MEASURED, "", topology=tuple(parts))
        >>> [(row.case, row.slices, row.text) for row in drawn_priors([record])]
        [('a', (0, 0), '2:1,1'), ('a', (1, 1), '2:0,0')]
    """
    found = {part.region for record in records for part in record.topology} - {_FOREGROUND}
    rows: list[PriorRow] = []
    for record in records:
        counts = {(part.frame, part.slice, part.region): part.after for part in record.topology}
        for frame, index in dict.fromkeys((part.frame, part.slice) for part in record.topology):
            absent = (0,) * len(record.topology[0].after)
            for region in sorted(found, key=int) or [_FOREGROUND]:
                betti = ",".join(map(str, counts.get((frame, index, region), absent)))
                slices, frames = (None if at is None else (at, at) for at in (index, frame))
                label = "" if region == _FOREGROUND else region
                case = case_name(Path(record.input).name)
                rows.append(PriorRow(len(rows) + 2, case, slices, label, betti, frames))
    return tuple(rows)


def _open(path: Path, options: CaseOptions) -> tuple[tuple[Volume, ...], Maps | None]:
    """A case's frames with their values, or the one grid that probabilities lie on."""
    if options.input_type != "probabilities":
        return read_frames(path, max_voxels=options.max_voxels), None
    like = Path(options.like) if options.like else None
    maps = read_maps(path, like, max_voxels=options.max_voxels)
    return (maps.grid,), maps


def _subject(
    volume: Volume, maps: Maps | None, case: str, options: CaseOptions, request: PriorRequest | None
) -> _Subject:
    if options.input_type == "labels":
        values = np.unique(volume.array)
        if not (values >= 0).all() or not np.array_equal(values, np.floor(values)):
            raise InvalidArray(
                f"{volume.path.name}: expected a label map of whole numbers from 0 on, "
                f"found values from {values[0]:g} to {values[-1]:g}"
            )
        return _Subject(
            lambda region: region_mask(volume.array, region).astype(np.float32),
            {str(int(value)): int(value) for value in values if value > 0},
            choose_slice_axis(volume, options),
            provenance(None, None),
        )
    if maps is not None:
        prediction, _ = predict_maps(maps, case, options, request)
    else:
        prediction, _ = predict_volume(volume, options, request)
    if maps is not None and len(maps.array) == 1 and not options.logits:  # values as they are in the file
        field = maps.array[0] if maps.array.dtype.kind == "f" else maps.array[0].astype(np.float32)
        return _Subject(
            lambda region: field, dict(prediction.labels), prediction.slice_axis, prediction.provenance()
        )
    probabilities = torch.softmax(prediction.logits, 0)
    return _Subject(
        lambda region: region_field(probabilities, region).numpy(),
        dict(prediction.labels),
        prediction.slice_axis,
        prediction.provenance(),
    )


def _each_label(subject: _Subject, anything: str, least: int) -> list[str]:
    """The same for each of at least so many labels; for the foreground where there are fewer."""
    if len(subject.labels) < least:
        return [anything]
    return [f"{value}:{anything}" for value in subject.labels.values()]
