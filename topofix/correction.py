"""Which stages run on which slices: from a prediction and its priors to logits that meet them.

Only what is wrong is touched, slice by slice or as a volume. A stage hands on its best state, which is never
worse than what it was given, and the next runs only while the topology is still wrong.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from topofix.errors import InvalidOption
from topofix.learning.foreign import adaptable
from topofix.learning.refinement import Refinement, refine_voxels, refine_weights
from topofix.prediction import Prediction, label_map
from topofix.records import RefinementOptions
from topofix.request import Priors, one_slice
from topofix.topology.persistence import Connectivity
from topofix.topology.priors import Prior
from topofix.topology.regions import betti_of_regions

FEW_STEPS = 10
"""Of the network's stage where the voxels' stage follows: what it does well it does early, and it is slow."""


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """What became of a prediction.

    Attributes:
        logits: (K + 1, *S), equal to the prediction's wherever the topology was right.
        stages: Those that ran, in order; empty if everything was right.
        steps: Optimiser steps over all stages and slices.
    """

    logits: torch.Tensor
    stages: tuple[str, ...]
    steps: int


def correct(
    prediction: Prediction,
    priors: Priors,
    spacing: tuple[float, ...],
    connectivity: Connectivity,
    options: RefinementOptions,
) -> Correction:
    """Runs the chosen stages on every slice, or on the volume, whose topology is wrong.

    Args:
        prediction: Logits, and the network where there is one; left as it is.
        priors: What is asked for, by slice or for the whole.
        spacing: mm per axis of the image.
        connectivity: Of the foreground.
        options: Method, steps, learning rates.

    Raises:
        InvalidOption: The method needs a network that sees what the prior is for, and there is none.
    """
    for index, prior in priors.items():  # a method that cannot work is refused before any work is done
        _stages(prediction, index, prior, options)
    logits = prediction.logits.clone()
    labels = label_map(logits)
    axis = prediction.slice_axis
    stages: dict[str, None] = {}
    steps = 0
    for index, prior in priors.items():
        if _is_right(one_slice(labels, index, axis), prior, connectivity):
            continue
        part = one_slice(logits, index, axis + 1)  # a view, (K + 1, *S) of the slice
        for stage in _stages(prediction, index, prior, options):
            if stage == "weights":
                limit = FEW_STEPS if options.method == "auto" else options.steps
                limited = replace(options, steps=min(options.steps, limit))
                result = _adapt_network(prediction, index, prior, connectivity, limited)
            else:
                mm = [step for k, step in enumerate(spacing) if index is None or k != axis]
                result = refine_voxels(part, prior, options, connectivity, mm)
            part.copy_(result.logits)
            stages[stage] = None
            steps += result.steps
            if result.error == 0:
                break
    return Correction(logits, tuple(stages), steps)


def spare(
    correction: Correction, prediction: Prediction, priors: Priors, connectivity: Connectivity
) -> Correction:
    """Takes back every piece of a correction without which the topology is right all the same.

    A hole may have been filled and opened to the outside at once; one of the two will do. The largest pieces
    are tried first. Where a slice, or the volume, is not right, nothing is taken back.

    Args:
        correction: From `correct`.
        prediction: What it was made from.
        priors: What is asked for, by slice or for the whole.
        connectivity: Of the foreground.
    """
    from scipy import ndimage

    logits = correction.logits.clone()
    before, labels = label_map(prediction.logits), label_map(logits)
    axis = prediction.slice_axis
    for index, prior in priors.items():
        old, new = one_slice(before, index, axis), one_slice(labels, index, axis)  # views
        if not _is_right(new, prior, connectivity):
            continue
        pieces, count = ndimage.label(old != new, np.ones((3,) * old.ndim))
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        for piece in sorted(range(1, count + 1), key=lambda piece: -sizes[piece]):
            where = pieces == piece
            changed = new[where]
            new[where] = old[where]
            if _is_right(new, prior, connectivity):
                inside = torch.from_numpy(where)
                one_slice(logits, index, axis + 1)[:, inside] = one_slice(prediction.logits, index, axis + 1)[
                    :, inside
                ]
            else:
                new[where] = changed
    return replace(correction, logits=logits)


def _is_right(labels: npt.NDArray[np.uint8], prior: Prior, connectivity: Connectivity) -> bool:
    found = betti_of_regions(labels, prior, connectivity)
    return all(c.error(counts) == 0 for c, counts in zip(prior.constraints, found, strict=True))


def _stages(
    prediction: Prediction, index: int | None, prior: Prior, options: RefinementOptions
) -> tuple[str, ...]:
    sees = prediction.grid is not None and (index is None or prediction.grid.slice_axis is not None)
    if options.method == "weights" and not sees:
        reason = "a 3-D network sees no single slices" if prediction.grid else "a probability map has none"
        raise InvalidOption(
            f"--method weights: expected a network to adapt, but {reason}; try --method voxels"
        )
    if options.method == "weights" and not _adaptable(prediction):
        raise InvalidOption(
            "--method weights: expected a network to adapt, but the weights in this model's file receive no "
            "gradients; try --method voxels"
        )
    if options.method == "auto":
        suits = sees and prior.dimensions == 2 and _adaptable(prediction)
        return ("weights", "voxels") if suits else ("voxels",)
    return (options.method,)


def _adaptable(prediction: Prediction) -> bool:
    return prediction.checkpoint is not None and adaptable(prediction.checkpoint.network)


def _adapt_network(
    prediction: Prediction,
    index: int | None,
    prior: Prior,
    connectivity: Connectivity,
    options: RefinementOptions,
) -> Refinement:
    assert prediction.checkpoint is not None
    assert prediction.image is not None
    assert prediction.grid is not None
    grid = prediction.grid if index is None else prediction.grid.of_slice()
    image = one_slice(prediction.image, index, prediction.slice_axis)
    network, config = prediction.checkpoint.network, prediction.checkpoint.config
    return refine_weights(network, config, image, grid, prior, options, connectivity)
