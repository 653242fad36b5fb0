"""Processes that train one network together, with torch.distributed and nothing else.

`torchrun --nproc-per-node N -m topofix train ...` starts N processes that differ only in their rank. Each
takes its share of every batch, gradients are averaged, and so the weights stay the same everywhere; rank 0
writes.
"""

import gc
import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from topofix.errors import InvalidOption
from topofix.learning.network import tensors_of

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """One process among those that train together.

    Attributes:
        rank: Its number, from 0.
        size: How many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of a list; the parts of all make up the whole.

        Example:
            >>> World(1, 2).share("abcde")
            'bd'
        """
        return items[self.rank :: self.size]

    def share_of_batch(self, batch: Sequence[T]) -> Sequence[T]:
        """The same, but never nothing: a batch smaller than the world begins again from its start.

        Example:
            >>> World(2, 3).share_of_batch("ab")
            'a'
        """
        return self.share(batch) or batch[self.rank % len(batch) :][:1]

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, on the CPU."""
        if self.size > 1:
            values = values.cuda() if dist.get_backend() == "nccl" else values.clone()
            dist.all_reduce(values)
        return values.cpu()

    def align(self, network: nn.Module) -> None:
        """Gives every process the first one's weights and statistics; the latter drift apart on CPUs."""
        if self.size > 1:
            for value in tensors_of(network).values():
                dist.broadcast(value, 0)

    def join(self, network: nn.Module) -> nn.Module:
        """The network with its gradients averaged over all processes; itself where there is only one."""
        if self.size == 1:
            return network
        if (
            next(network.parameters()).device.type == "cuda"
        ):  # on CPUs each batch share has its own statistics
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return DistributedDataParallel(network)

    def adding(self, network: nn.Module) -> AbstractContextManager[object]:
        """Within it a network that has joined only adds to its gradients; the next step outside averages."""
        return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()


ALONE = World()


def is_first() -> bool:
    """Whether this process is the one that writes and speaks; asked without starting anything."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[World, torch.device]]:
    """The world that torchrun has set up for this process, and its device in it; else this process alone.

    Args:
        device: Where to train; `cuda` becomes the GPU of this process's local rank.

    Raises:
        InvalidOption: The device is neither a CPU nor CUDA, or there are fewer GPUs than processes.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE, device
        return
    if device.type not in ("cpu", "cuda"):
        raise InvalidOption(f"--device: expected cpu or cuda for several processes, got {device}")
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise InvalidOption(
                f"--nproc-per-node: expected at most one process per GPU, found {torch.cuda.device_count()} "
                f"GPUs for process {local}"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    # Whoever imports it later, as DistributedDataParallel does, lets it keep the group alive.
    importlib.import_module("torch._dynamo")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size()), device
    finally:
        gc.collect()  # so does a network that has joined; gloo's threads could then outlive Python and abort
        dist.destroy_process_group()
