"""Seed formulas of the batch: text 1's largest batch, its effective batch, its OOM cliff."""

from __future__ import annotations

from .activations import sample_bytes
from .optimizer import adam_with_master_bytes
from .values import GB, Shape
from .weights import bytes_per_parameter, gradient_bytes, weight_bytes

LORA_REDUCTION = (100, 1000)
"""Text 1: LoRA leaves so many times fewer parameters to train. The formulas take the first."""


def fixed_bytes(shape: Shape, precision: str, *, lora: bool = False) -> float:
    """Weights, gradients and Adam's three fp32 copies, bytes, whatever the batch (text 1).

    With ``lora``, by text 1's sentence: gradients and optimizer states of a hundredth.
    """
    trained = shape.parameters / LORA_REDUCTION[0] if lora else shape.parameters
    return (
        weight_bytes(shape.parameters, precision)
        + gradient_bytes(trained, precision)
        + adam_with_master_bytes(trained)
    )


def max_batch(
    shape: Shape, sequence: int, vram_gb: float, precision: str = "fp16", *, lora: bool = False
) -> int:
    """Text 1's ``find_max_batch_size``: what the fixed part leaves, over a sample's activations."""
    left = vram_gb * GB - fixed_bytes(shape, precision, lora=lora)
    batch = int(left / sample_bytes(shape, sequence, bytes_per_parameter(precision)))
    return max(batch, 0)


def effective_batch(micro_batch: int, accumulation: int) -> int:
    """Samples an optimizer step sees: micro-batch × accumulation (text 1). Right."""
    return micro_batch * accumulation
