"""How training libraries share gradients and parameters out, as data with its sources.

``Workload.stack`` names a library. What differs in its loop and its loss is in ``trace.steps`` and
``trace.losses``, its modules are in ``trace.stacks``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from .workload import Workload


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What of a library changes a sharded timeline; defaults are PyTorch's."""

    source: str
    """Where these, its loop and its loss are read."""
    computes_in_gathered: bool = False
    """Under autocast's dtype it computes all in what FSDP gathers, and keeps fp32 shards."""
    whole_gradients_while_accumulating: bool = False
    """Sharded training leaves out the reduction between micro-batches, so whole gradients stay."""
    flat_parameters: bool = False
    """Shards with torch's first FSDP, a layer's parameters in one flat tensor."""
    adapters_are_units: bool = False
    """Every LoRA matrix is gathered and reduced by itself."""


FACTS: Final[Mapping[str, StackFacts]] = MappingProxyType(
    {
        "plain": StackFacts(
            "docs.pytorch.org/tutorials: outputs and loss are names of the loop",
        ),
        "hf-trainer": StackFacts(
            "transformers/trainer.py, training_step: compute_loss returns the loss alone and it is "
            "detached after backward",
        ),
        "fsdp-qlora": StackFacts(
            "AnswerDotAI/fsdp_qlora train.py, March 2024: FSDP1 around layers and LoRA's matrices "
            "(get_wrapping_policy), output and loss dropped after the step; transformers 4.38 "
            "models/llama/modeling_llama.py: logits.float(), shifted in a copy",
            flat_parameters=True,
            adapters_are_units=True,
        ),
        "litgpt": StackFacts(
            "litgpt 0.3 finetune/lora.py, fit, and utils.py, chunked_cross_entropy; "
            "lightning/fabric/wrappers.py, _FabricModule.forward; no_backward_sync",
            whole_gradients_while_accumulating=True,
            flat_parameters=True,
        ),
        "lit-gpt": StackFacts(
            "lit-gpt of 2023, finetune/lora.py, train: the longest sample is the first",
            whole_gradients_while_accumulating=True,
            flat_parameters=True,
        ),
        "torchtune": StackFacts(
            "torchtune 0.4 recipes/full_finetune_single_device.py: del logits before backward; "
            "modules/transformer.py: output.float()",
        ),
        "torchtitan": StackFacts(
            "torchtitan 2024-12 parallelisms/parallelize_llama.py, MixedPrecisionPolicy(param "
            "bf16, reduce fp32) over fp32 shards; train.py: loss of pred.float(), del pred",
            computes_in_gathered=True,
        ),
        "megatron": StackFacts(
            "megatron/core/distributed/param_and_grad_buffer.py (fp32 main_grad buffers, zeroed); "
            "core/optimizer/distrib_optimizer.py (fp32 main parameters and states); "
            "core/tensor_parallel/cross_entropy.py (fp32 logits)",
        ),
    }
)
"""By ``Workload.stack``; every name of ``workload.STACKS`` is there."""


def mixed_by_gathering(workload: Workload) -> bool:
    """Whether FSDP's own mixed precision takes autocast's place.

    Computed is in the gathered dtype then, hidden states and norms too, and shards, gradients and
    states are fp32.
    """
    mixed = workload.training and workload.autocast_dtype is not None
    return FACTS[workload.stack].computes_in_gathered and mixed and workload.parallel.zero >= 2


def traced_as(workload: Workload) -> Workload:
    """What the tracer is asked for: the computation of a rank in the dtype it really has."""
    if not mixed_by_gathering(workload) or workload.autocast_dtype is None:
        return workload
    return replace(workload, precision=workload.autocast_dtype)
