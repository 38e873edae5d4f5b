"""Seed formulas of activations, neither of which any current stack follows.

Counted by saved tensors on Llama-7B, batch 4, sequence 512, bf16: 11.4 GiB with SDPA, 17.4 with
eager attention; text 1's formula says 6.0, its table 7.8 (8.4 GB).
"""

from __future__ import annotations

from typing import Final

from .values import GIB, Shape

FACTOR: Final = 12
"""Text 1's "matrices, norms, feed-forward, inputs saved"; counted: 24 + 8·ffn/hidden = 45.5 bytes
of bf16, a factor of 22.8 (memory-model of the project)."""
CHECKPOINTING_SAVES: Final = (5, 10)
"""Text 1: checkpointing makes activations this many times smaller."""


def sample_bytes(shape: Shape, sequence: int, bytes_per_parameter: float) -> float:
    """Activations of one sample, bytes: 12 · hidden · sequence · layers · bytes (text 1)."""
    return FACTOR * shape.hidden * sequence * shape.layers * bytes_per_parameter


def checkpointed_bytes(activation_bytes: float) -> tuple[float, float]:
    """Least and most that text 1 leaves of the activations with checkpointing, bytes."""
    low, high = CHECKPOINTING_SAVES
    return activation_bytes / high, activation_bytes / low


def text2_gigabytes(shape: Shape, sequence: int, tensor_parallel: int = 1) -> float:
    """Text 2: 2 · L · h · s · a · λ / t with λ = 1/1024³, "GB".

    It explains a micro-batch b that it then does not use, and has the heads a as a factor beside
    the hidden size that is already made of them; no source has it. The form with checkpointing is
    2 · s · b · h · L (Korthikanti et al. 2022).
    """
    size = 2 * shape.layers * shape.hidden * sequence * shape.heads
    return size / GIB / tensor_parallel
