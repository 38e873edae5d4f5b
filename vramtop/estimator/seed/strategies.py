"""Seed formulas of several GPUs.

Text 1 has three strategies, text 2 (model + optimizer + gradient + activation) / (TP · PP).
"""

from __future__ import annotations

from typing import Final

from .optimizer import adam_with_master_bytes
from .weights import gradient_bytes, weight_bytes

STRATEGIES: Final = ("data_parallel", "pipeline_parallel", "fsdp_zero3")


def per_gpu_bytes(parameters: float, gpus: int, strategy: str, precision: str = "fp16") -> float:
    """Weights, gradients and optimizer states on each GPU, bytes (text 1).

    Whole with data parallelism, divided evenly by the others; activations are not in it.
    """
    whole = (
        weight_bytes(parameters, precision)
        + gradient_bytes(parameters, precision)
        + adam_with_master_bytes(parameters)
    )
    return whole if strategy == "data_parallel" else whole / gpus


def text2_per_gpu_bytes(
    model_bytes: float,
    optimizer_bytes: float,
    gradient_bytes: float,
    activation_bytes: float,
    *,
    tensor: int,
    pipeline: int,
    overhead_bytes: float = 0.0,
) -> float:
    """Text 2's tensor and pipeline parallelism with ZeRO-1, bytes: the whole over both degrees.

    Activations of a pipeline's first stage are not divided: it holds those of as many
    micro-batches as there are stages. The overhead of ZeRO is left open by the text.
    """
    whole = model_bytes + optimizer_bytes + gradient_bytes + activation_bytes
    return whole / (tensor * pipeline) + overhead_bytes
