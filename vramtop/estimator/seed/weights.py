"""Seed formulas of weights and gradients: parameters × bytes of the type. Right as they stand."""

from __future__ import annotations

from typing import Final

BYTES_PER_PARAMETER: Final = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0, "int8": 1.0, "int4": 0.5}
"""Text 1's table; text 2 names fp8 too, at 1 byte."""
STANDS_FOR: Final = {"amp-bf16": "bf16", "amp-fp16": "fp16", "fp8": "int8", "nf4": "int4"}
"""Precisions that the texts do not know, and theirs that comes nearest. Autocast is nearest to
"mixed precision": weights of 2 bytes and fp32 master weights among the optimizer states."""


def bytes_per_parameter(precision: str) -> float:
    """Bytes a parameter in one of ``workload.PRECISIONS``, by text 1."""
    return BYTES_PER_PARAMETER[STANDS_FOR.get(precision, precision)]


def weight_bytes(parameters: float, precision: str) -> float:
    """Weights, bytes: parameters × bytes of the precision (texts 1 and 2)."""
    return parameters * bytes_per_parameter(precision)


def gradient_bytes(parameters: float, precision: str) -> float:
    """Gradients, bytes: as large as the weights (texts 1 and 2)."""
    return weight_bytes(parameters, precision)
