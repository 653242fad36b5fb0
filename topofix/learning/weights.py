"""The weights of a network as tensors: copied, put back, and averaged along a training.

With them go the statistics of normalisation, and all that `topofix.learning.network.tensors_of` lists.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from topofix.learning.network import tensors_of

MEMORY = 0.998
"""Of the running average of weights, per step; shorter at the start."""


def copies(network: nn.Module) -> dict[str, Tensor]:
    """The network's tensors by name, which it goes on without changing."""
    return {name: value.detach().clone() for name, value in tensors_of(network).items()}


@torch.no_grad()
def put_back(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Gives a network the tensors that `copies` took of it, wherever they are now."""
    for name, value in tensors_of(network).items():
        value.copy_(tensors[name])


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, updates: int) -> None:
    """Moves the running average one step after the network; it forgets faster at the start.

    Args:
        average: A copy of the network.
        network: What has moved.
        updates: Steps that the average takes, this one included.
    """
    memory = min(MEMORY, (1 + updates) / (10 + updates))
    for slow, fast in zip(tensors_of(average).values(), tensors_of(network).values(), strict=True):
        if slow.is_floating_point():
            slow.lerp_(fast, 1 - memory)
        else:
            slow.copy_(fast)


def are_finite(network: nn.Module) -> bool:
    """Whether all weights are finite in the half precision of a checkpoint."""
    weights = [value for value in tensors_of(network).values() if value.is_floating_point()]
    return all(value.half().isfinite().all() for value in weights)
