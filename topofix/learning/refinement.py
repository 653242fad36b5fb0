"""Per-image optimisation: the smallest change of a prediction that gives it the topology asked for.

Both stages minimise Eq. 5 of Clough et al. (TPAMI 2020) over a copy of something, for one image:

    L = (1/V) sum |p - p0|^2  +  lambda L_topo(p)

`weights` moves the network's weights, the paper's post-processing framework: the smoothest way to change an
image, and the slowest. `voxels` moves the logits themselves and needs no network. L_topo has a gradient only
at critical voxels, so bare voxel steps would draw needles; the logits are therefore z = z0 + G_sigma * delta
with a Gaussian that is annealed, so that whole pieces move first and single voxels last:

    sigma = 4            sigma = 2            sigma = 1          sigma = 0 voxels
    .........            .........            .........          .........
    .:+###+:.    ->      ..:+#+:..     ->     ...:#:...    ->    ....#....

Either stage stops as soon as the Betti numbers are right and returns its best state: smallest Betti error
first, then fewest voxels changed. It never returns anything worse than it was given.
"""

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topofix.learning.inference import Grid, forward
from topofix.learning.loss import evaluate
from topofix.learning.network import NetworkConfig
from topofix.records import SMOOTHING, RefinementOptions
from topofix.topology.persistence import Connectivity
from topofix.topology.priors import Prior

NEGLIGIBLE = 0.01
"""Voxels whose foreground probability is below this lie outside the box that barcodes are computed in."""

MARGIN = 8
"""Voxels added around that box on every side, so that pieces have room to grow."""

SURE = 6.0
"""The largest difference of logits that the `voxels` stage starts from: a probability of 0.9975."""

CONTEXT = 24
"""The same where a network sees the box: what it makes of a voxel depends on the image around."""

Box = tuple[slice, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """What a stage made of a prediction.

    Attributes:
        logits: The best state, (C, *S), without gradient.
        error: Its Betti error; 0 when the prior is met.
        steps: Optimiser steps taken.
    """

    logits: Tensor
    error: int
    steps: int


def refine_weights(
    network: nn.Module,
    config: NetworkConfig,
    image: Tensor,
    grid: Grid,
    prior: Prior,
    options: RefinementOptions,
    connectivity: Connectivity = "full",
) -> Refinement:
    """Eq. 5 on a copy of the network, whose normalisation statistics stay frozen.

    Only the box where the foreground is not negligible goes through the network again, with enough image
    around it for the network to see where it is; what changes there is added to the first prediction of the
    whole. So step 0 is exactly what the network said, and a short-axis slice is some four times faster.

    Args:
        network: On its device, in evaluation mode; left as it is.
        config: The network's configuration.
        image: Normalised intensities on the image's grid, (*S), on the CPU.
        grid: From `grid_for`.
        prior: The topology that is asked for, of the image's rank.
        options: Steps, learning rate and weight of the topological term.
        connectivity: Of the foreground.
    """
    adapted = copy.deepcopy(network).eval()  # evaluation mode: batch statistics are neither used nor moved
    images = grid.to_network(image).to(next(adapted.parameters()).device)

    with torch.no_grad():
        whole = forward(adapted, config, images)  # (N, C, *size)
        background = torch.softmax(whole, 1)[:, 0].amin(0, keepdim=True)  # (1, *size)
        box = (slice(None), *_box(background, CONTEXT))
        part, outside = images[box], _padding(box[2:], whole.shape[2:])
        first = forward(adapted, config, part)

    def predict() -> Tensor:
        change = forward(adapted, config, part) - first
        return grid.to_image((whole + F.pad(change, outside)).float().cpu())

    best = _Best(grid.to_image(whole.float().cpu()))
    optimiser = torch.optim.Adam(adapted.parameters(), options.weights_learning_rate)
    steps = _descend(predict, optimiser, best, prior, options.topology_weight, options.steps, connectivity)
    return Refinement(best.logits, int(best.error), steps)


def refine_voxels(
    logits: Tensor,
    prior: Prior,
    options: RefinementOptions,
    connectivity: Connectivity = "full",
    spacing: Sequence[float] | None = None,
) -> Refinement:
    """Eq. 5 on free logits, smoothed by a Gaussian whose width is annealed.

    Args:
        logits: (C, *S), C >= 2, channel 0 the background; left as they are.
        prior: The topology that is asked for, of rank len(S).
        options: Steps, learning rate, widths and weight of the topological term.
        connectivity: Of the foreground.
        spacing: mm per axis; the Gaussian is round in mm, and its width counts in voxels of the finest axis.

    Example:
        >>> p = torch.full((12, 12), 0.1)
        >>> p[2:5, 2:5], p[7:10, 7:10] = 0.9, 0.6         # two pieces where one is asked for
        >>> logits = torch.stack([-p.logit(), p.logit()])
        >>> refine_voxels(logits, Prior.parse("1,0"), RefinementOptions()).error
        0
    """
    box = _box(torch.softmax(logits.detach(), 0))
    part = start = _tempered(logits[box].detach())
    best = _Best(start)
    widths = options.smoothing or SMOOTHING[prior.dimensions]
    steps = 0
    for number, width in enumerate(widths):
        share = options.steps * (number + 1) // len(widths) - options.steps * number // len(widths)
        delta = torch.zeros_like(part, requires_grad=True)
        kernels = _gaussians(width, spacing or [1.0] * (part.ndim - 1))

        def moved(part: Tensor = part, delta: Tensor = delta, kernels: list[Tensor] = kernels) -> Tensor:
            return part + _smooth(delta, kernels)

        optimiser = torch.optim.Adam([delta], options.voxels_learning_rate)
        steps += _descend(moved, optimiser, best, prior, options.topology_weight, share, connectivity)
        if best.error == 0:
            break
        part = moved().detach()
    refined = logits.detach().clone()
    if not torch.equal(best.logits, start):
        # What certain logits lost by tempering comes back, except where it would undo a change of label.
        restored = logits[box] + (best.logits - start)
        undone = torch.ne(restored.argmax(0), best.logits.argmax(0))
        refined[box] = torch.where(undone, best.logits, restored)
    return Refinement(refined, int(best.error), steps)


class _Best:
    """The best state seen: smallest Betti error first, then fewest voxels whose label changed."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        self.start = torch.softmax(logits, 0)
        self.error: float = math.inf
        self._labels = logits.argmax(0)
        self._changed = 0

    def offer(self, logits: Tensor, error: int) -> None:
        changed = int((logits.argmax(0) != self._labels).sum())
        if (error, changed) < (self.error, self._changed):
            self.logits, self.error, self._changed = logits.detach().clone(), error, changed


def _descend(
    predict: Callable[[], Tensor],
    optimiser: torch.optim.Optimizer,
    best: _Best,
    prior: Prior,
    topology_weight: float,
    steps: int,
    connectivity: Connectivity,
) -> int:
    """Minimises Eq. 5 over what `predict` depends on until the prior is met; returns the steps taken."""
    voxels = best.start[_box(best.start)][0].numel()  # V counts the box: lambda means the same in any image
    for step in itertools.count():
        logits = predict()  # (C, *S)
        probabilities = torch.softmax(logits, 0)
        if step and not torch.isfinite(probabilities).all():
            return step  # the last step was too large for what `predict` depends on
        topology = evaluate(probabilities[_box(probabilities.detach())], prior, connectivity)
        best.offer(logits, topology.error)
        if topology.error == 0 or step == steps:
            return step
        change = (probabilities - best.start).square().sum() / voxels
        loss = change + topology_weight * topology.loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    raise AssertionError("unreachable")


def _tempered(logits: Tensor) -> Tensor:
    """Logits (C, *S) with the largest at 0 and none below -SURE: the same label map, and no flat tails.

    Where a probability is 1 - 1e-6, its gradient is as small: a bar that is most wrong would move least.
    """
    return (logits - logits.amax(0)).clamp(min=-SURE)


def _box(probabilities: Tensor, margin: int = MARGIN) -> Box:
    """The part of (C, *S) where the foreground is not negligible, with a margin; else all of it."""
    foreground = 1 - probabilities[0] > NEGLIGIBLE
    if not foreground.any():
        return tuple(slice(0, side) for side in probabilities.shape)
    found = foreground.nonzero()
    return (
        slice(0, len(probabilities)),
        *(
            slice(max(0, int(low) - margin), min(side, int(high) + 1 + margin))
            for low, high, side in zip(found.amin(0), found.amax(0), foreground.shape, strict=True)
        ),
    )


def _padding(box: Box, shape: Sequence[int]) -> list[int]:
    """What `torch.nn.functional.pad` takes to bring a box back to the whole, last axis first."""
    pairs = [(axis.start, side - axis.stop) for axis, side in zip(box, shape, strict=True)]
    return [width for pair in reversed(pairs) for width in pair]


def _gaussians(width: float, spacing: Sequence[float]) -> list[Tensor]:
    """One normalised kernel per axis, of standard deviation `width` in voxels of the finest axis."""
    kernels = []
    for step in spacing:
        sigma = width * min(spacing) / step
        radius = math.ceil(3 * sigma)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (offsets / sigma).square()) if radius else torch.ones(1)
        kernels.append(kernel / kernel.sum())
    return kernels


def _smooth(x: Tensor, kernels: list[Tensor]) -> Tensor:
    """Convolves every channel of (C, *S) with one kernel per axis; beyond the border lies zero."""
    convolve = F.conv2d if x.ndim == 3 else F.conv3d
    x = x[:, None]  # (C, 1, *S)
    for axis, kernel in enumerate(kernels):
        if len(kernel) > 1:
            shape, padding = [1] * x.ndim, [0] * len(kernels)
            shape[axis + 2], padding[axis] = len(kernel), len(kernel) // 2
            x = convolve(x, kernel.to(x.dtype).reshape(shape), padding=padding)
    return x[:, 0]
