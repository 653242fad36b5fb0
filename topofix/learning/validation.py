"""How good a network is on whole labelled cases: Dice of each label, and how often its topology is right."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from topofix.learning.dataset import Case
from topofix.learning.distributed import ALONE, World
from topofix.learning.inference import predict
from topofix.learning.network import NetworkConfig
from topofix.topology.persistence import betti
from topofix.topology.priors import Prior
from topofix.topology.regions import Labels, betti_of_regions, dice


@dataclass(frozen=True, slots=True)
class Scores:
    """What a validation found.

    Attributes:
        dice: Mean Dice of every label over the cases. A label that neither the truth nor the prediction of a
            case holds counts as 1.
        right: Share of parts, slices or volumes, with the right topology: in a case with priors that of the
            prior of each part that has one, in any other the Betti numbers of every label as drawn.
    """

    dice: tuple[float, ...]
    right: float

    def mean(self, *, with_topology: bool) -> float:
        """What the best state is chosen by: mean Dice, and where topology is known its mean with `right`.

        Example:
            >>> scores = Scores((0.7, 0.9), 0.6)
            >>> scores.mean(with_topology=False), scores.mean(with_topology=True)
            (0.8, 0.7)
        """
        dice = float(np.mean(self.dice))
        return (dice + self.right) / 2 if with_topology else dice


def validate(
    network: nn.Module,
    config: NetworkConfig,
    cases: Sequence[Case],
    device: torch.device,
    world: World = ALONE,
) -> Scores:
    """Segments labelled cases whole, each on its own grid, and compares them with what was drawn.

    Args:
        network: On `device`; it is left in evaluation mode.
        config: Its configuration.
        cases: Labelled ones.
        device: Where the network is.
        world: Processes that share the cases.
    """
    network.eval()
    labels = range(1, len(config.labels) + 1)
    sums = np.zeros(len(config.labels) + 3)  # Dice of each label, cases; parts right, parts
    for case in world.share(cases):
        assert case.label is not None
        predicted = predict(network, config, case.image, case.grid, device).argmax(0).numpy()
        sums[:-2] += [*(dice(predicted == k, case.label == k) for k in labels), 1]
        for seen, drawn, prior in zip(
            _parts(predicted, case), _parts(case.label, case), case.priors, strict=True
        ):
            if prior is not None or not case.has_priors:
                sums[-2:] += [_is_right(seen, drawn, prior, len(config.labels)), 1]
    *dices, count, right, parts = world.total(torch.from_numpy(sums)).tolist()
    return Scores(tuple(value / count for value in dices), right / max(1, parts))


def _parts(labels: Labels, case: Case) -> Sequence[Labels]:
    """The slices that a 2-D network sees of a volume, in the image's order; else the whole."""
    axis = case.grid.slice_axis
    return [labels] if axis is None else list(np.moveaxis(labels, axis, 0))


def _is_right(seen: Labels, drawn: Labels, prior: Prior | None, labels: int) -> bool:
    if prior is None:
        return all(betti(seen == k) == betti(drawn == k) for k in range(1, labels + 1))
    numbers = betti_of_regions(seen, prior)
    return not any(c.error(n) for c, n in zip(prior.constraints, numbers, strict=True))
