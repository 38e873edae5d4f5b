"""What training libraries do differently from a plain PyTorch loop, as data with its sources.

``Workload.stack`` names a library; the tracer has LitGPT's modules (``trace.stacks``), for the
others these facts are what is known. ``plain`` and ``hf-trainer`` differ in the loop only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from .workload import Workload


@dataclass(frozen=True, slots=True)
class StackFacts:
    """How a library holds states, makes the loss and shares gradients; defaults are PyTorch's."""

    source: str
    """Where it is read."""
    master_dtype: str | None = None
    """Of parameters that the optimizer steps, where the computation's are another copy."""
    gradient_dtype: str | None = None
    """Of gradients as they are kept; None: the parameters'."""
    state_dtype: str | None = None
    """Of optimizer states; None: the parameters'."""
    gradients_stay: bool = False
    """A buffer of all gradients exists from the start, never dropped."""
    keeps_logits_in_backward: bool = True
    """A name of the loop holds the logits while backward runs."""
    logits_fp32: bool = False
    """The model or the loop makes logits fp32 before the loss."""
    loss_chunk_tokens: int | None = None
    """Tokens of one piece of the loss."""
    holds_last_loss: bool = True
    """The last batch's loss, and what its nodes hold, lives until the next one's is there."""
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
            keeps_logits_in_backward=False,
            holds_last_loss=False,
        ),
        "fsdp-qlora": StackFacts(
            "AnswerDotAI/fsdp_qlora train.py, March 2024: FSDP1 around layers and LoRA's matrices "
            "(get_wrapping_policy), output and loss dropped after the step; transformers 4.38 "
            "models/llama/modeling_llama.py: logits.float(), shifted in a copy",
            logits_fp32=True,
            holds_last_loss=False,
            flat_parameters=True,
            adapters_are_units=True,
        ),
        "litgpt": StackFacts(
            "litgpt 0.3 finetune/lora.py, fit, and utils.py, chunked_cross_entropy; "
            "lightning/fabric/wrappers.py, _FabricModule.forward; no_backward_sync",
            logits_fp32=True,
            loss_chunk_tokens=128,
            whole_gradients_while_accumulating=True,
            flat_parameters=True,
        ),
        "lit-gpt": StackFacts(
            "lit-gpt of 2023, finetune/lora.py, train: the longest sample is the first",
            logits_fp32=True,
            loss_chunk_tokens=128,
            holds_last_loss=False,
            whole_gradients_while_accumulating=True,
            flat_parameters=True,
        ),
        "torchtune": StackFacts(
            "torchtune 0.4 recipes/full_finetune_single_device.py: del logits before backward; "
            "modules/transformer.py: output.float()",
            keeps_logits_in_backward=False,
            logits_fp32=True,
        ),
        "torchtitan": StackFacts(
            "torchtitan 2024-12 parallelisms/parallelize_llama.py, MixedPrecisionPolicy(param "
            "bf16, reduce fp32) over fp32 shards; train.py: loss of pred.float(), del pred",
            master_dtype="fp32",
            gradient_dtype="fp32",
            state_dtype="fp32",
            keeps_logits_in_backward=False,
            logits_fp32=True,
        ),
        "megatron": StackFacts(
            "megatron/core/distributed/param_and_grad_buffer.py (fp32 main_grad buffers, zeroed); "
            "core/optimizer/distrib_optimizer.py (fp32 main parameters and states); "
            "core/tensor_parallel/cross_entropy.py (fp32 logits)",
            master_dtype="fp32",
            gradient_dtype="fp32",
            state_dtype="fp32",
            gradients_stay=True,
            keeps_logits_in_backward=False,
            logits_fp32=True,
        ),
    }
)
"""By ``Workload.stack``; every name of ``workload.STACKS`` is there."""


def mixed_by_gathering(workload: Workload) -> bool:
    """Whether FSDP's own mixed precision takes autocast's place.

    Computed is in the gathered dtype then, hidden states and norms too, and shards, gradients and
    states are fp32.
    """
    fp32 = FACTS[workload.stack].master_dtype == "fp32"
    mixed = workload.training and workload.autocast_dtype is not None
    return fp32 and mixed and workload.parallel.zero >= 2


def traced_as(workload: Workload) -> Workload:
    """What the tracer is asked for: the computation of a rank in the dtype it really has."""
    if not mixed_by_gathering(workload) or workload.autocast_dtype is None:
        return workload
    return replace(workload, precision=workload.autocast_dtype)
