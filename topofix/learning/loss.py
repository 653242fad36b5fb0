"""The topological loss: how far the barcode of a predicted probability is from the one that is asked for.

For each region that a prior constrains and each dimension k, with bars sorted from longest to shortest,

    L_k = sum_{l <= low_k} (1 - len_l^2)  +  sum_{l > high_k} len_l^2        L_topo = sum_k w_k L_k

    wanted: 2 components               ============================== len 0.9   pays 1 - 0.81, pushed to 1
                                       ===================            len 0.6   pays 1 - 0.36, pushed to 1
    not wanted                         =====                          len 0.2   pays 0.04,     pushed to 0

    (low = high = beta_k for an exact number; between the two bounds of a range a bar pays nothing).
The bar that never dies is cut off at 0, so that beta_0 = 1 rewards existing and beta_0 = 0 its absence.
Only the critical voxels, where bars are born and die, receive a gradient.

What corrects a label map may leave alone what the label map does not show: with `shown_only` the bars that
are not wanted pay only while they cross 1/2. There are thousands of others in a poor prediction, and together
they move it further than its defects do.

Source: Clough, Byrne, Oksuz, Zimmer, Schnabel, King, "A Topological Loss Function for Deep-Learning based
Image Segmentation using Persistent Homology", TPAMI 2020, Eqs. 3 and 4 and footnote 1.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from topofix.errors import InvalidArray
from topofix.topology.persistence import Barcode, Connectivity, barcodes, betti_at
from topofix.topology.priors import FOREGROUND, Constraint, Prior, Range


class TopologicalLoss(nn.Module):
    """Eqs. 3 and 4 as a torch module.

    Args:
        prior: The topology that is asked for.
        connectivity: Of the foreground: `full` (8 or 26 neighbours) or `face` (4 or 6).

    Example:
        >>> field = torch.zeros(1, 1, 8, 8)
        >>> field[0, 0, 2:4, 2:4] = 0.8          # one square of probability 0.8
        >>> loss = TopologicalLoss(Prior.parse("1,0"))
        >>> round(loss(field).item(), 4)          # 1 - 0.8^2
        0.36
    """

    def __init__(self, prior: Prior, connectivity: Connectivity = "full") -> None:
        super().__init__()
        self.prior = prior
        self.connectivity = connectivity

    def forward(self, probabilities: Tensor) -> Tensor:
        """Mean loss of a batch.

        Args:
            probabilities: (N, C, *S) in [0, 1], with as many axes in S as the prior has numbers. C = 1: the
                probability of the foreground; C > 1: a softmax whose channel 0 is the background.

        Returns:
            A scalar, differentiable almost everywhere.

        Raises:
            InvalidArray: The rank doesn't fit the prior, or a label of the prior has no channel.
        """
        if probabilities.ndim != self.prior.dimensions + 2:
            raise InvalidArray(
                f"expected (N, C, *S) with {self.prior.dimensions} axes in S, "
                f"got {tuple(probabilities.shape)}"
            )
        evaluations = evaluate_batch(
            list(probabilities), [self.prior] * len(probabilities), self.connectivity
        )
        return torch.stack([evaluation.loss for evaluation in evaluations]).mean()


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """The topology of one prediction against a prior.

    Attributes:
        loss: L_topo, a scalar tensor.
        betti: Betti numbers at probability 1/2, one tuple per constraint of the prior.
        error: Sum of the distances between Betti numbers and what the prior allows; 0 when it is met.
    """

    loss: Tensor
    betti: tuple[tuple[int, ...], ...]
    error: int


def evaluate(
    probabilities: Tensor, prior: Prior, connectivity: Connectivity = "full", *, shown_only: bool = False
) -> Evaluation:
    """Loss and Betti numbers of one image from the same barcodes.

    Args:
        probabilities: (C, *S), as in `TopologicalLoss`.
        prior: The topology that is asked for.
        connectivity: Of the foreground.
        shown_only: Bars that are not wanted pay only where they cross 1/2.
    """
    return evaluate_batch([probabilities], [prior], connectivity, shown_only=shown_only)[0]


def evaluate_batch(
    images: Sequence[Tensor],
    priors: Sequence[Prior],
    connectivity: Connectivity = "full",
    *,
    shown_only: bool = False,
) -> tuple[Evaluation, ...]:
    """The same for each image of a batch; all barcodes are computed at once, on all cores.

    Args:
        images: Probabilities, each (C, *S) as in `TopologicalLoss`, of any sizes.
        priors: The topology that is asked for, one for each image.
        connectivity: Of the foreground.
        shown_only: As in `evaluate`.
    """
    fields = [
        [region_field(image, constraint.region) for constraint in prior.constraints]  # (*S) each
        for image, prior in zip(images, priors, strict=True)
    ]
    values = [[field.detach().cpu().numpy() for field in image] for image in fields]
    bars = iter(barcodes(itertools.chain.from_iterable(values), connectivity))
    evaluations = []
    for prior, image, arrays in zip(priors, fields, values, strict=True):
        loss, betti = image[0].new_zeros(()), []
        for constraint, field, array in zip(prior.constraints, image, arrays, strict=True):
            code = next(bars)
            loss = loss + constraint_loss(field, code, constraint, shown_only=shown_only)
            betti.append(betti_at(code, array))
        error = sum(c.error(b) for c, b in zip(prior.constraints, betti, strict=True))
        evaluations.append(Evaluation(loss, tuple(betti), error))
    return tuple(evaluations)


def constraint_loss(
    field: Tensor, bars: Barcode, constraint: Constraint, *, shown_only: bool = False
) -> Tensor:
    """One constraint's share of Eq. 4, gathered at the critical voxels of `bars`.

    Args:
        field: Probability of the constraint's region, (*S).
        bars: Barcode of the same values, longest bars first in each dimension.
        constraint: Ranges and weights, one per dimension.
        shown_only: As in `evaluate`.
    """
    values = field.flatten()
    total = values.new_zeros(())
    for dimension, (wanted, weight) in enumerate(zip(constraint.betti, constraint.weights, strict=True)):
        if weight == 0 or wanted == Range(0, None):
            continue
        bar = bars.of(dimension)
        births = torch.as_tensor(bar.birth, device=values.device)
        deaths = torch.as_tensor(bar.death, device=values.device)
        # index_select, because the gradient of values[births] adds up in an order that depends on threads
        ends = values.index_select(0, deaths.clamp(min=0)).where(deaths >= 0, 0.0)  # the essential bar's is 0
        starts = values.index_select(0, births)  # (n,)
        squares = (starts - ends).square()
        low = wanted.low
        missing = max(0, low - len(squares))  # no bar, no gradient; but the wish still costs 1
        too_many = squares[wanted.high :] if wanted.high is not None else squares[:0]
        if shown_only and len(too_many):
            shown = (starts > 0.5) & (ends <= 0.5)
            too_many = too_many[shown[wanted.high :]]
        total = total + weight * ((1 - squares[:low]).sum() + missing + too_many.sum())
    return total


def region_field(probabilities: Tensor, region: tuple[int, ...]) -> Tensor:
    """The probability of a region against all else, above 1/2 exactly where the label map shows the region,
    as far as no two labels tie.

    With several labels this is a / (a + b), where a is the largest probability among the region's labels and
    b the largest among all others. A sum can pass 1/2 where no single label wins (0.4, 0.3, 0.3), so that a
    loss on sums could be content with a label map that is wrong. With one label the two are the same.

    Args:
        probabilities: (C, *S); C = 1 a probability of the foreground, C > 1 a softmax.
        region: Label values; empty for every label.

    Returns:
        (*S), in [0, 1].

    Raises:
        InvalidArray: The region names a label that has no channel.

    Example:
        >>> round(region_field(torch.tensor([[0.4], [0.3], [0.3]]), (1, 2)).item(), 4)
        0.4286
    """
    channels = probabilities.shape[0]
    if channels == 1:
        probabilities = torch.cat([1 - probabilities, probabilities])
        channels = 2
    inside = list(range(1, channels)) if region == FOREGROUND else list(region)
    if max(inside) >= channels:
        raise InvalidArray(f"expected labels 1 to {channels - 1}, got a prior for label {max(inside)}")
    outside = np.setdiff1d(np.arange(channels), inside).tolist()
    a = probabilities[inside].amax(0)
    b = probabilities[outside].amax(0)
    return a / (a + b)
