"""What a training asks of the machine: how numbers lie in memory, how precise they are, and that they fit.

A network learns the same on any machine, but for rounding; how fast, and whether at all, is decided here.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from topofix.errors import InvalidOption


def mixed_precision(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies it natively: about twice as fast on such a CPU."""
    native = device.type == "cuda" or (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=native)


def memory_format(dimensions: int) -> torch.memory_format:
    """Channels last, as convolutions are fastest."""
    return torch.channels_last if dimensions == 2 else torch.channels_last_3d


@contextmanager
def enough_memory(device: torch.device) -> Iterator[None]:
    """Turns what the allocators of NumPy, torch and GPUs say without memory into one sentence.

    Raises:
        InvalidOption: The memory was not enough.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        words = ("out of memory", "can't allocate memory", "not enough memory")
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        raise InvalidOption(
            f"expected memory for a training with these options, found too little of it on {device}; a "
            "smaller --batch-size or --patch-size, or a coarser --spacing, needs less"
        ) from error
