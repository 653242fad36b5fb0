"""From a refined image to the scene that its pictures are drawn from, with its barcodes before and after."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any, overload

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


class Barcodes(Sequence[Bars]):
    """Barcodes that are computed when one of them is looked at first: an overlay and a surface need none."""

    def __init__(self, compute: Callable[[], Iterator[Bars]]) -> None:
        self._compute = compute

    @cached_property
    def _bars(self) -> tuple[Bars, ...]:
        return tuple(self._compute())

    @overload
    def __getitem__(self, index: int) -> Bars: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Bars, ...]: ...

    def __getitem__(self, index: int | slice) -> Bars | tuple[Bars, ...]:
        return self._bars[index]

    def __len__(self) -> int:
        return len(self._bars)


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
        bars_before=Barcodes(partial(bars, prediction.logits)),
        bars_after=Barcodes(partial(bars, logits)),
        frame=volume.frame,
    )
