"""What the machine gives a training: too little memory is one sentence, and other errors are left alone."""

import pytest
import torch

from topofix.errors import InvalidOption
from topofix.learning.machine import enough_memory, memory_format, mixed_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_one_sentence(error):
    with pytest.raises(InvalidOption) as caught, enough_memory(CPU):
        raise error
    assert str(caught.value) == (
        "expected memory for a training with these options, found too little of it on cpu; a smaller "
        "--batch-size or --patch-size, or a coarser --spacing, needs less"
    )


def test_other_errors_are_not_mistaken_for_too_little_memory():
    with pytest.raises(RuntimeError, match="size mismatch"), enough_memory(CPU):
        raise RuntimeError("size mismatch")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_channels_lie_last_in_memory(dimensions):
    images = torch.zeros(1, 2, *[4] * dimensions).to(memory_format=memory_format(dimensions))
    assert images.stride(1) == 1


@pytest.mark.parametrize("native", [True, False])
def test_a_cpu_is_as_precise_as_it_can_be_fast(native, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    with mixed_precision(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if native else torch.float32)
