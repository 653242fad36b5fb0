"""From a refined image to the scene that its pictures are drawn from, with its barcodes before and after."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topofix.imaging.volumes import Volume
from topofix.learning.loss import region_field
from topofix.prediction import Prediction
from topofix.records import InputType, Record
from topofix.reporting.scene import Labels, Scene
from topofix.request import Priors, one_slice
from topofix.topology.bars import Bars, gather
from topofix.topology.persistence import Connectivity, barcode


def scene_of(
    volume: Volume,
    prediction: Prediction,
    priors: Priors,
    before: Labels,
    after: Labels,
    logits: torch.Tensor,
    record: Record,
    input_type: InputType = "image",
    connectivity: Connectivity = "full",
) -> Scene:
    """What one refined image is drawn from.

    Behind the contours stands the scan, where there is one, and else the probability of the foreground.

    Args:
        volume: The image's grid; with a scan also what was seen.
        prediction: What the image was predicted to be.
        priors: What was asked for, by slice or for the whole.
        before: The label map of the prediction, (*S).
        after: That of the result, (*S).
        logits: Of the result, (K + 1, *S).
        record: The image's own.
        input_type: What the file held.
        connectivity: Of the foreground.
    """

    def bars(of: torch.Tensor) -> Iterator[Bars]:
        shares = torch.softmax(of, 0)
        for index, prior in priors.items():
            for constraint in prior.constraints:
                whole = region_field(shares, constraint.region).numpy()
                field = one_slice(whole, index, prediction.slice_axis)
                code = barcode(field, connectivity)
                name = constraint.name(prediction.names)
                yield gather(name, index, code, field, frame=volume.frame)

    seen: npt.NDArray[Any] = volume.array
    if input_type != "image":
        seen = 1 - torch.softmax(prediction.logits, 0)[0].numpy()
    return Scene(
        name=volume.path.name,
        record=record,
        image=np.asarray(seen),
        before=before,
        after=after,
        labels=prediction.names,
        spacing=volume.spacing,
        affine=np.asarray(volume.affine, np.float64),
        slice_axis=prediction.slice_axis if volume.array.ndim == 3 else 0,
        bars_before=tuple(bars(prediction.logits)),
        bars_after=tuple(bars(logits)),
        frame=volume.frame,
    )
