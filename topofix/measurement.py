"""The barcodes and Betti numbers of one case, against what was asked of it; nothing is written.

A scan is measured through a network, a probability map as it is, and a label map as the mask of each label.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topofix.errors import InvalidArray, InvalidOption
from topofix.imaging.volumes import Volume, read
from topofix.learning.loss import region_field
from topofix.prediction import choose_slice_axis, predict_volume, provenance
from topofix.records import CaseOptions, Outcome, Record, Topology
from topofix.request import PriorRequest, one_slice
from topofix.topology.bars import Bars, gather
from topofix.topology.persistence import barcode, betti_at
from topofix.topology.regions import region_mask

Field = npt.NDArray[np.floating[Any]]


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

    Returns:
        The Record and one `Bars` per region and slice.

    Raises:
        TopofixError: Bad input or an impossible prior.
    """
    started = time.perf_counter()
    if request is not None and label is not None:
        if request.table is not None:
            raise InvalidOption("--label: expected it without a table, whose rows name their labels")
        request = PriorRequest(tuple(t if ":" in t else f"{label}:{t}" for t in request.texts))
    volume = read(path)
    slicewise = volume.array.ndim == 2 or options.slice_axis is not None
    anything = "*,*" if slicewise else "*,*,*"  # asks for nothing
    wish = request or (PriorRequest((f"{label}:{anything}",)) if label else None)
    subject = _subject(volume, options, wish)
    wish = wish or PriorRequest(tuple(_each_label(subject, anything)))
    # A label map may lack a label that a prior asks for, or asks to be absent.
    known = None if request and options.input_type == "labels" else subject.labels
    priors = wish.for_image(path.name, volume.array.shape, subject.slice_axis, known)
    names = {value: name for name, value in subject.labels.items()}
    topology, bars = [], []
    for index, prior in priors.items():
        for constraint in prior.constraints:
            field = one_slice(subject.field(constraint.region), index, subject.slice_axis)
            code = barcode(field, options.connectivity)
            counts = betti_at(code, field, threshold)
            name = constraint.name(names)
            asked = ",".join(map(str, constraint.betti)) if request else None
            met = constraint.error(counts) == 0 if request else None
            topology.append(Topology(name, index, asked, counts, counts, met, met))
            bars.append(gather(name, index, code, field, min_persistence))
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
        slice_axis=None if None in priors else subject.slice_axis,
        topology=tuple(topology),
        seconds=round(time.perf_counter() - started, 3),
        voxel_volume=volume.voxel_volume,
    )
    return record, bars


def _subject(volume: Volume, options: CaseOptions, request: PriorRequest | None) -> _Subject:
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
    prediction, _ = predict_volume(volume, options, request)
    if options.input_type == "probabilities":
        field = volume.array if volume.array.dtype.kind == "f" else volume.array.astype(np.float32)
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


def _each_label(subject: _Subject, anything: str) -> list[str]:
    """The same for each of several labels; for the foreground where there is but one."""
    if len(subject.labels) < 2:
        return [anything]
    return [f"{value}:{anything}" for value in subject.labels.values()]
