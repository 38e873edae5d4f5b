"""What is read of the messages of torch, numpy and Python, word for word as they give them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from vramtop.probe import oom_words

GIB, MIB = 1 << 30, 1 << 20
# CUDACachingAllocator.cpp of torch 2.13 and of 1.13.
NEW = (
    "CUDA out of memory. Tried to allocate 1.90 GiB. GPU 3 has a total capacity of 79.15 GiB of "
    "which 1.20 GiB is free. Process 71 has 77.94 GiB memory in use. Of the allocated memory "
    "73.21 GiB is allocated by PyTorch, and 3.10 GiB is reserved by PyTorch but unallocated. If "
    "reserved but unallocated memory is large try setting "
    "PYTORCH_ALLOC_CONF=expandable_segments:True to avoid fragmentation."
)
OLD = (
    "CUDA out of memory. Tried to allocate 20.00 MiB (GPU 0; 15.78 GiB total capacity; 14.20 GiB "
    "already allocated; 5.69 MiB free; 14.41 GiB reserved in total by PyTorch) If reserved memory "
    "is >> allocated memory try setting max_split_size_mb to avoid fragmentation. See "
    "documentation for Memory Management and PYTORCH_CUDA_ALLOC_CONF"
)
CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 1073741824 bytes. Error code 12 (Cannot allocate memory)"
)


class OutOfMemoryError(RuntimeError):
    """As torch's, which a build for the CPU has as well."""


TORCH = SimpleNamespace(OutOfMemoryError=OutOfMemoryError, cuda=SimpleNamespace())


@pytest.mark.parametrize(
    ("error", "device", "sizes"),
    [
        (OutOfMemoryError(NEW), "cuda:3", (1.9 * GIB, 1.2 * GIB, 79.15 * GIB)),
        (RuntimeError(OLD), "cuda:0", (20 * MIB, 5.69 * MIB, 15.78 * GIB)),
        (RuntimeError(CPU), "cpu", (GIB, None, None)),
        (MemoryError(), "cpu", (None, None, None)),
        (MemoryError("std::bad_alloc"), "cpu", (None, None, None)),
        (
            MemoryError("Unable to allocate 1.50 GiB for an array with shape (1,) and data type x"),
            "cpu",
            (1.5 * GIB, None, None),
        ),
        (RuntimeError("CUDA error: out of memory"), None, (None, None, None)),
        (OutOfMemoryError("of the user's own"), None, (None, None, None)),
    ],
)
def test_what_is_said(error, device, sizes):
    words = oom_words.read(TORCH, error)
    assert words.device == device
    assert words.message.startswith(type(error).__name__)
    told = (words.requested_bytes, words.free_bytes, words.total_bytes)
    assert told == tuple(None if size is None else int(size) for size in sizes)
    assert oom_words.oom_in(TORCH, error) is error


def test_what_it_was_raised_from_counts():
    inner = RuntimeError(CPU)
    outer = ValueError("the trainer gives up")
    outer.__cause__ = inner
    assert oom_words.oom_in(TORCH, outer) is inner
    chain = ValueError()
    chain.__cause__ = chain  # by hand; not for ever
    assert oom_words.oom_in(TORCH, chain) is None


@pytest.mark.parametrize("error", [ValueError(CPU), RuntimeError("memory"), KeyboardInterrupt()])
def test_others_are_none(error):
    assert oom_words.oom_in(TORCH, error) is None
