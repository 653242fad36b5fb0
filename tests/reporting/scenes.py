"""Small cases with known defects, refined as any other, for the tests of what is drawn from them.

Each is made once per process; nobody may write into its arrays.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from topofix.imaging.maps import Maps
from topofix.imaging.volume import Volume
from topofix.learning.loss import region_field
from topofix.pipeline import refine_prediction
from topofix.prediction import predict_maps
from topofix.records import CaseOptions, RefinementOptions
from topofix.reporting.scene import Scene
from topofix.request import PriorRequest, one_slice
from topofix.topology.bars import gather
from topofix.topology.persistence import barcode


@cache
def ring_scene() -> Scene:
    """2-D, 64 x 48 pixels of 1.5 x 1.0 mm: a ring with a gap, and a speck beside it; asked for 1,1."""
    y, x = np.indices((64, 48))
    radius = np.hypot((y - 34) / 1.0, (x - 24) / 0.8)
    inside = (radius > 11) & (radius < 20)
    inside &= ~((np.abs(x - 24) < 3) & (y < 34))  # the gap, above
    inside |= np.hypot(y - 7, x - 41) < 3  # the speck
    return scene_of("ring.png", _soft(inside, seed=1)[None], ("1,1",), (1.5, 1.0), {1: "foreground"})


@cache
def stack_scene() -> Scene:
    """Six slices of 40 x 44 pixels, 1.2 x 1.2 x 8 mm, two labels: a pool of blood and the wall around it.

    In slice 1 the wall is open, in slice 3 there is a second pool, in slice 4 the wall is open and has a
    satellite; in the last there is nothing, so that its prior is not met.
    """
    y, x = np.indices((40, 44))
    channels = []
    for index in range(6):
        radius = np.hypot(y - 20, x - 22)
        pool, wall = radius < 6, (radius >= 6) & (radius < 11)
        if index in (1, 4):
            wall &= ~((np.abs(y - 20) < 2) & (x > 22))
        if index == 3:
            pool |= np.hypot(y - 35, x - 8) < 2.5
        if index == 4:
            wall |= np.hypot(y - 5, x - 5) < 2.5
        first, second = (_soft(mask, seed=10 * index + k) for k, mask in enumerate((pool, wall)))
        if index == 5:
            first, second = np.full_like(first, 0.01), np.full_like(second, 0.01)
        channels.append(np.stack([np.maximum(1 - first - second, 0.01), first, second]))
    field = np.stack(channels, -1)
    asked = ("pool:1,0", "wall:1,1")
    return scene_of("stack.nii.gz", field / field.sum(0), asked, (1.2, 1.2, 8.0), {1: "pool", 2: "wall"})


@cache
def solid_scene() -> Scene:
    """3-D, 28 x 24 x 20 voxels of 1 mm: an ellipsoid with a tunnel, a cavity and a piece beside it; asked for
    1,0,0."""
    z, y, x = np.indices((28, 24, 20))
    inside = ((z - 14) / 11.0) ** 2 + ((y - 13) / 8.0) ** 2 + ((x - 10) / 7.0) ** 2 < 1
    inside &= ~((np.abs(z - 9) < 2) & (np.abs(y - 13) < 2))  # the tunnel, along x
    inside &= ~(np.hypot(np.hypot(z - 18, y - 13), x - 10) < 2.5)  # the cavity
    inside |= np.hypot(np.hypot(z - 3, y - 3), x - 4) < 2.5  # the piece
    field = _soft(inside, seed=3)[None]
    return scene_of("solid.nii.gz", field, ("1,0,0",), (1.0, 1.0, 1.0), {1: "foreground"})


def scene_of(
    name: str,
    probabilities: np.ndarray,
    asked: tuple[str, ...],
    spacing: tuple[float, ...],
    labels: Mapping[int, str],
    refinement: RefinementOptions = RefinementOptions(),
) -> Scene:
    """Refines probabilities (K, *S) by the pipeline, and keeps what is drawn.

    The scan is made from them: bright where a label is likely, with noise.
    """
    rank = probabilities.ndim - 1
    affine = np.diag([*spacing, *[1.0] * (3 - rank), 1.0])
    affine[:rank, 3] = -20.0  # the first voxel does not lie at the origin
    grid = Volume(probabilities[0], spacing, affine, Path(name))
    request, options = PriorRequest(asked), CaseOptions(input_type="probabilities")
    prediction, _ = predict_maps(Maps(probabilities, grid, "made by a test"), name, options)
    prediction = replace(prediction, labels={text: value for value, text in labels.items()})
    shape, axis = probabilities.shape[1:], prediction.slice_axis
    priors = request.for_image(name, shape, axis, prediction.labels)
    refined = refine_prediction(grid, prediction, priors, request, options, refinement)

    def bars(logits):
        shares = logits.softmax(0)
        for index, prior in priors.items():
            for constraint in prior.constraints:
                field = one_slice(region_field(shares, constraint.region).numpy(), index, axis)
                yield gather(constraint.name(dict(labels)), index, barcode(field), field)

    foreground = 1 - prediction.logits.softmax(0)[0].numpy()
    noise = np.random.default_rng(0).normal(0, 12, shape)
    return Scene(
        name=name,
        record=refined.record,
        image=(100 + 300 * foreground + noise).astype(np.float32),
        before=refined.before,
        after=refined.labels,
        labels=labels,
        spacing=spacing,
        affine=affine,
        slice_axis=axis if rank == 3 else 0,
        bars_before=tuple(bars(prediction.logits)),
        bars_after=tuple(bars(refined.logits)),
    )


def _soft(mask: np.ndarray, seed: int) -> np.ndarray:
    """A blurred mask with some noise, in (0, 1), on the mask's side of 1/2 nearly everywhere."""
    from scipy import ndimage

    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(0, 1, mask.shape), 1)
    blurred = ndimage.gaussian_filter(mask.astype(float), 0.6)
    return np.clip(0.04 + 0.9 * blurred + 0.08 * noise, 0.01, 0.99).astype(np.float32)
