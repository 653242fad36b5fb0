"""Per-image optimisation: the smallest change of a prediction that gives it the topology asked for.

Both stages minimise Eq. 5 of Clough et al. (TPAMI 2020) over a copy of something, for one image:

    L = (1/V) sum |p - p0|^2  +  lambda L_topo(p)

`weights` moves the network's weights, the paper's post-processing framework: the smoothest way to change an
image, and the slowest. `voxels` moves the logits themselves and needs no network. Of the bars that are not
wanted L_topo counts those that the label map shows, which cross 1/2. It has a gradient only at critical
voxels, so in a slice bare steps would draw needles; the logits are therefore z = z0 + G_sigma * delta with a
Gaussian that is annealed, so that whole pieces move first and single pixels last; in volumes it comes last:

    sigma = 4            sigma = 2            sigma = 1          sigma = 0 voxels
    .........            .........            .........          .........
    .:+###+:.    ->      ..:+#+:..     ->     ...:#:...    ->    ....#....

Either stage stops as soon as the Betti numbers are right and returns its best state: smallest Betti error
first, then fewest voxels changed. It never returns anything worse than it was given.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from topofix.learning.adaptation import adapted_weights
from topofix.learning.boxes import Box, box_around, inner_edges, padding
from topofix.learning.descent import (
    MARGIN,
    Best,
    Descent,
    End,
    OnStep,
    is_likely,
    labels_of,
    prior_labels,
    unheard,
)
from topofix.learning.inference import Grid, forward
from topofix.learning.network import NetworkConfig
from topofix.records import SMOOTHING, RefinementOptions
from topofix.topology.persistence import Connectivity
from topofix.topology.priors import Prior

CONTEXT = 24
"""Voxels around the box that a network sees: what it makes of a voxel depends on the image around."""

SURE = 6.0
"""A difference of logits beyond which probabilities are too flat for gradients: a probability of 0.9975."""

REACH = 4000.0
"""How far the first step moves the logits of critical voxels, per unit of learning rate on weights: what was
measured for the networks that come along."""


@dataclass(frozen=True, slots=True, eq=False)
class Refinement:
    """What a stage made of a prediction.

    Attributes:
        logits: The best state, (C, *S), without gradient.
        error: Its Betti error; 0 when the prior is met.
        steps: Optimiser steps taken.
        finite: False where a step led to numbers that are not, and the stage was given up.
    """

    logits: Tensor
    error: int
    steps: int
    finite: bool = True


def refine_weights(
    network: nn.Module,
    config: NetworkConfig,
    image: Tensor,
    grid: Grid,
    prior: Prior,
    options: RefinementOptions,
    connectivity: Connectivity = "full",
    *,
    frozen: Tensor | None = None,
    deadline: float | None = None,
    on_step: OnStep = unheard,
) -> Refinement:
    """Eq. 5 on a copy of the network, whose normalisation statistics stay frozen.

    Only the box where the prior's regions are not negligible goes through the network again, with enough
    image around it for the network to see where it is; what changes there is added to the first prediction of
    the whole. So step 0 is exactly what the network said, and a short-axis slice is some four times faster.
    A region that grows to an edge of the box gets a larger one.

    Logits and weights are of any size in networks of different origin. Logits so large that probabilities are
    flat are divided by a temperature, in Eq. 5 alone; and the learning rate is rescaled such that the first
    step moves the logits of critical voxels as far as in the networks that come along.

    Args:
        network: On its device, in evaluation mode; left as it is.
        config: The network's configuration.
        image: Normalised intensities on the image's grid, (*S), on the CPU.
        grid: From `grid_for`.
        prior: The topology that is asked for, of the image's rank.
        options: Steps, learning rate, weight of the topological term, and what of the network is adapted.
        connectivity: Of the foreground.
        frozen: Voxels whose label must not change, boolean (*S).
        deadline: On the clock of `time.perf_counter`; no step begins after it.
        on_step: Told how it goes.

    Raises:
        InvalidOption: The network does not tell what `options.adapt` names.
    """
    adapted = copy.deepcopy(network).eval()  # evaluation mode: batch statistics are neither used nor moved
    images = grid.to_network(image).to(next(adapted.parameters()).device)
    with torch.no_grad():
        whole = forward(network, config, images)  # (N, C, *size)
    weights = adapted_weights(adapted, options.adapt, whole.shape[1])
    adapted.requires_grad_(False)
    for weight in weights:
        weight.requires_grad_(True)

    start = grid.to_image(whole.float().cpu())
    temperature = _temperature(start)
    best = Best(start)
    descent = Descent(prior, connectivity, options.topology_weight, best, temperature, deadline, on_step)
    optimiser = torch.optim.Adam(weights, options.weights_learning_rate)
    seen = plain = whole.float().cpu()  # the whole as the copy has it now
    predicted = start
    likely = torch.zeros(whole.shape[2:], dtype=torch.bool)
    size = likely.shape

    def rescale(*_: Any) -> None:
        hook.remove()  # it is the first step that counts
        gradients = [weight.grad.abs().sum() for weight in weights if weight.grad is not None]
        assert predicted.grad is not None
        reach = float(sum(gradients) / (predicted.grad.abs().sum() * temperature))
        if 0 < reach < math.inf:
            optimiser.param_groups[0]["lr"] *= REACH / reach

    hook = optimiser.register_step_pre_hook(rescale)
    end: End = "outgrown"
    while end == "outgrown":
        with torch.no_grad():
            for one in seen:
                likely |= is_likely(torch.softmax(one / temperature, 0), prior)
            box = box_around(likely, CONTEXT)
            part = images[(slice(None), slice(None), *box)]
            first = forward(network, config, part)
        outside = padding(box, size)

        def predict(part: Tensor = part, first: Tensor = first, outside: list[int] = outside) -> Tensor:
            nonlocal seen, predicted
            change = (forward(adapted, config, part) - first).float().cpu()
            moved = plain + F.pad(change, outside)
            seen, predicted = moved.detach(), grid.to_image(moved)
            if predicted.requires_grad:
                predicted.retain_grad()
            return predicted if frozen is None else torch.where(frozen, start, predicted)

        def outgrown(_: Tensor, box: Box = box) -> bool:
            return any(_touches(one[(slice(None), *box)], prior, box, size) for one in seen)

        end = descent.run(predict, optimiser, options.steps, outgrown)
    return Refinement(best.logits, int(best.error), descent.steps, end != "diverged")


def refine_voxels(
    logits: Tensor,
    prior: Prior,
    options: RefinementOptions,
    connectivity: Connectivity = "full",
    spacing: Sequence[float] | None = None,
    *,
    frozen: Tensor | None = None,
    deadline: float | None = None,
    on_step: OnStep = unheard,
) -> Refinement:
    """Eq. 5 on free logits, smoothed by a Gaussian whose width is annealed.

    Args:
        logits: (C, *S), C >= 2, channel 0 the background; left as they are.
        prior: The topology that is asked for, of rank len(S).
        options: Steps, learning rate, widths and weight of the topological term.
        connectivity: Of the foreground.
        spacing: mm per axis; the Gaussian is round in mm, and its width counts in voxels of the finest axis.
        frozen: Voxels whose label must not change, boolean (*S).
        deadline: On the clock of `time.perf_counter`; no step begins after it.
        on_step: Told how it goes.

    Example:
        >>> p = torch.full((12, 12), 0.1)
        >>> p[2:5, 2:5], p[7:10, 7:10] = 0.9, 0.6         # two pieces where one is asked for
        >>> logits = torch.stack([-p.logit(), p.logit()])
        >>> refine_voxels(logits, Prior.parse("1,0"), RefinementOptions()).error
        0
    """
    temperature = _temperature(logits.detach())
    start = _tempered(logits.detach(), temperature)
    best = Best(start)
    descent = Descent(prior, connectivity, options.topology_weight, best, deadline=deadline, on_step=on_step)
    state = start.clone()
    likely = is_likely(torch.softmax(start, 0), prior)
    size = likely.shape
    box = box_around(likely, MARGIN)
    widths = options.smoothing or SMOOTHING[prior.dimensions]
    end: End = "steps"
    for number, width in enumerate(widths, start=1):
        last_step = options.steps * number // len(widths)
        end = "outgrown"
        while end == "outgrown":
            where = (slice(None), *box)
            part = state[where].clone()
            delta = torch.zeros_like(part, requires_grad=True)
            gaussians = _gaussians(width, spacing or [1.0] * len(box), part.shape[1:], part.dtype)
            free = None if frozen is None else ~frozen[box]

            def predict(
                part: Tensor = part,
                delta: Tensor = delta,
                gaussians: list[Tensor] = gaussians,
                free: Tensor | None = free,
            ) -> Tensor:
                change = _smooth(delta, gaussians)
                return part + (change if free is None else change * free)

            def outgrown(now: Tensor, box: Box = box) -> bool:
                return _touches(now, prior, box, size)

            optimiser = torch.optim.Adam([delta], options.voxels_learning_rate)
            end = descent.run(predict, optimiser, last_step, outgrown, where)
            state[where] = predict().detach()
            if end == "outgrown":
                likely |= is_likely(torch.softmax(state, 0), prior)
                box = box_around(likely, MARGIN)
        if end != "steps":
            break
    refined = logits.detach().clone()
    moved = best.part - start[best.box]
    if moved.any():
        # What certain logits lost by tempering comes back, except where it would undo a change of label.
        restored = refined[best.box] + temperature * moved
        undone = torch.ne(labels_of(restored), labels_of(best.part))
        refined[best.box] = torch.where(undone, best.part, restored)
    return Refinement(refined, int(best.error), descent.steps, end != "diverged")


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    """Logits (C, *S) with the largest at 0 and none below -SURE: the same label map, and no flat tails.

    Where a probability is 1 - 1e-6, its gradient is as small: a bar that is most wrong would move least.
    """
    return ((logits - logits.amax(0)) / temperature).clamp(min=-SURE)


def _temperature(logits: Tensor) -> float:
    """What logits (C, *S) are to be divided by for the typical voxel of a label to be no surer than SURE."""
    largest, second = logits.topk(2, dim=0).values
    labelled = labels_of(logits) > 0
    lead = (largest - second)[labelled if labelled.any() else ...]
    return max(1.0, float(lead.median()) / SURE)


def _touches(logits: Tensor, prior: Prior, box: Box, shape: Sequence[int]) -> bool:
    """Whether a region of the prior, in the logits (C, *S) of a box, has reached an edge inside the image."""
    labels = torch.tensor(prior_labels(prior, len(logits)))
    return any(
        bool(torch.isin(labels_of(logits.select(axis + 1, end)), labels).any())
        for axis, end in inner_edges(box, shape)
    )


def _gaussians(
    width: float, spacing: Sequence[float], shape: Sequence[int], dtype: torch.dtype = torch.float32
) -> list[Tensor]:
    """One matrix per axis of a grid, with a Gaussian in each row, cut off at three standard deviations.

    The deviation is `width` in voxels of the finest axis. A row sums to 1 where the border does not cut it.
    """
    gaussians = []
    for step, side in zip(spacing, shape, strict=True):
        sigma = width * min(spacing) / step
        radius = math.ceil(3 * sigma)
        offsets = torch.arange(-radius, radius + 1, dtype=dtype)
        kernel = torch.exp(-0.5 * (offsets / sigma).square()) if radius else torch.ones_like(offsets)
        kernel /= kernel.sum()
        rows = torch.arange(side)
        distance = rows[:, None] - rows  # (side, side)
        inside = distance.abs() <= radius
        gaussians.append(torch.where(inside, kernel[(distance + radius).clamp(0, 2 * radius)], 0.0))
    return gaussians


def _smooth(x: Tensor, gaussians: list[Tensor]) -> Tensor:
    """Convolves every channel of (C, *S) along each axis; beyond the border lies zero.

    Products with matrices, because the gradient of a convolution is ten times slower on a CPU.
    """
    for axis, gaussian in enumerate(gaussians, start=1):
        if gaussian.count_nonzero() == len(gaussian):
            continue  # no wider than a voxel
        if axis == len(gaussians):
            x = x @ gaussian
        else:
            lines = x.reshape(math.prod(x.shape[:axis]), x.shape[axis], -1)
            x = torch.bmm(gaussian.expand(len(lines), -1, -1), lines).reshape(x.shape)
    return x
