"""What is possible but deserves a word."""

from __future__ import annotations

from typing import Final

from .config_numbers import is_image_model, kv_heads, number
from .tape import lacks_kernel
from .workload import Workload

_BF16_CAPABILITY: Final = (8, 0)


def notes(workload: Workload) -> tuple[str, ...]:
    """What is possible but deserves a word."""
    said = []
    device, parallel = workload.device, workload.parallel
    uses_bf16 = "bf16" in (workload.activation_dtype, workload.weight_dtype)
    if device is not None and device.compute_capability < _BF16_CAPABILITY and uses_bf16:
        said.append(
            f"{device.name} has no bf16 arithmetic: torch emulates it, slowly; fp16 is fast"
        )
    config = workload.model.config
    if config is not None and not is_image_model(config):
        said += _without_kernel(workload)
    if config is not None and parallel.tensor > 1:
        heads = kv_heads(config)
        if heads is not None and heads < parallel.tensor:
            said.append(
                f"{heads} key-value heads on {parallel.tensor} tensor-parallel GPUs: each head is "
                f"kept {parallel.tensor // heads} times"
            )
    if workload.training and workload.precision == "fp16" and workload.lora is None:
        said.append("pure fp16 training rarely converges: small updates are lost; amp-fp16 does")
    if workload.stack == "megatron":
        said.append(
            "Megatron's fused kernels and its fp32 copies of gradients and weights are not "
            "modelled: Hugging Face's modules stand in"
        )
    if workload.prepared_for_kbit:
        said.append(
            "as PEFT's k-bit preparation makes them, norms, embeddings and hidden states are fp32; "
            "recipes have --checkpointing full with it; --no-kbit-preparation is without it"
        )
    return tuple(said)


def _without_kernel(workload: Workload) -> list[str]:
    config, dtype = workload.model.config or {}, workload.activation_dtype
    if workload.prepared_for_kbit:
        dtype = "fp32"
    heads, shared = number(config, "heads"), kv_heads(config)
    grouped = heads is not None and shared is not None and shared < heads
    if not lacks_kernel(workload, 4 if dtype == "fp32" else 2, grouped=grouped):
        return []
    of_heads = " with grouped key-value heads" if grouped else ""
    place = f" on {workload.device.name}" if dtype != "fp32" and workload.device else ""
    words = f"SDPA has no fused kernel for {dtype}{of_heads}{place}"
    return [f"{words}: it multiplies by itself, and all attention scores are in memory"]
