"""The batches of a training: patches with labels, and whole images whose topology is known.

They come in an order that depends on seed and epoch alone, and of each every process takes its share: a
resumed or a distributed training sees the same.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from topofix.learning.dataset import Case, Draw, Patches, Wholes
from topofix.learning.distributed import ALONE, World
from topofix.learning.network import NetworkConfig
from topofix.records import TrainingOptions
from topofix.topology.priors import Prior

LOADERS = 4
"""Processes that draw patches for a GPU."""


class Batches:
    """What a training sees, epoch by epoch; its length is the number of labelled batches in an epoch.

    Args:
        training: Cases to learn from; at least one has labels.
        config: The network's configuration.
        options: Batch size, unlabelled batches, augmentation, seed.
        device: Where the training is.
        world: Processes that train together.
    """

    def __init__(
        self,
        training: Sequence[Case],
        config: NetworkConfig,
        options: TrainingOptions,
        device: torch.device,
        world: World = ALONE,
    ) -> None:
        self._patches = Patches(training, config, augment=options.augment, seed=options.seed)
        self._wholes = Wholes(training, config, augment=options.augment, seed=options.seed)
        self._options, self._world = options, world
        self._loaders = LOADERS if device.type == "cuda" else 0  # a CPU has better to do

    def __len__(self) -> int:
        return -(-len(self._patches) // self._options.batch_size)

    @property
    def with_topology(self) -> bool:
        """Whether there is an image whose topology is known."""
        return len(self._wholes) > 0

    def labelled(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Every patch once: images and labels, (B, 1, *patch) each."""
        order = shuffled(len(self._patches), self._options.seed, epoch)
        draws = self._shares([(epoch, index) for index in order])
        generator = torch.Generator()  # of nothing that matters, but the global one must not be touched
        yield from torch.utils.data.DataLoader(
            self._patches, batch_sampler=draws, num_workers=self._loaders, generator=generator
        )

    def unlabelled(self, epoch: int) -> Iterator[tuple[list[Tensor], list[Prior]]]:
        """As many batches as follow the labelled ones: images (1, *size) of any size, and their priors."""
        order = shuffled(len(self._wholes), self._options.seed, epoch)
        needed = len(self) * self._options.unlabelled_batches * self._options.batch_size
        draws = [(epoch, order[place % len(order)]) for place in range(needed)]
        for share in self._shares(draws):
            images, priors = zip(*(self._wholes[draw] for draw in share), strict=True)
            yield list(images), list(priors)

    def _shares(self, draws: list[Draw]) -> list[list[Draw]]:
        """Batches of draws, and of each this process's share."""
        size = self._options.batch_size
        batches = [draws[first : first + size] for first in range(0, len(draws), size)]
        return [list(self._world.share_of_batch(batch)) for batch in batches]


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """The numbers below `count` in a random order that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)
    return torch.randperm(count, generator=generator).tolist()


def pieces(sizes: Sequence[int], most: int) -> list[slice]:
    """Neighbours that together have `most` voxels or fewer; what has more is alone.

    Example:
        >>> pieces([3, 3, 3, 12], 9)
        [slice(0, 3, None), slice(3, 4, None)]
    """
    found, first = [], 0
    for last in range(1, len(sizes) + 1):
        if last == len(sizes) or sum(sizes[first : last + 1]) > most:
            found.append(slice(first, last))
            first = last
    return found


def padded(images: Sequence[Tensor], divisor: int) -> Tensor:
    """Images (1, *size) of different sizes as one batch (B, 1, *padded), their last voxels repeated.

    Args:
        images: At least one.
        divisor: What divides each padded side.

    Example:
        >>> padded([torch.zeros(1, 5, 9), torch.zeros(1, 8, 3)], 4).shape
        torch.Size([2, 1, 8, 12])
    """
    sizes = [image.shape[1:] for image in images]
    size = [-(-max(sides) // divisor) * divisor for sides in zip(*sizes, strict=True)]
    batch = []
    for image in images:
        padding = [
            p for side, full in zip(image.shape[:0:-1], size[::-1], strict=True) for p in (0, full - side)
        ]
        batch.append(F.pad(image[None], padding, mode="replicate"))
    return torch.cat(batch)
