"""Text 1's decision tree and text 2's roadmap, each step with what it saves on a 7B model."""

from __future__ import annotations

from dataclasses import replace

from ..workload import AllocatorConfig, Lora, Parallel, Workload
from .truths import inference
from .values import Recipe, Step, Truth, process_bytes, seven_b

_BATCH, _SEQUENCE = 4, 512


def decision_tree(truth: Truth) -> Recipe:
    """Text 1's four questions."""
    full = _training()
    return Recipe(
        name="decision-tree",
        title="Text 1's decision tree",
        text=1,
        steps=(
            _step(
                truth,
                "the model fits one GPU: use one, quantised to int8 or int4",
                "a model that fits need not be quantised; quantise what does not "
                "(--precision nf4). Shown: inference, fp16 and int4",
                inference("fp16", 1, 2048),
                inference("int4", 1, 2048),
            ),
            _step(
                truth,
                "training fits with LoRA: use one GPU with LoRA",
                "LoRA changes what is trained; try checkpointing and 8-bit states first, which "
                "keep all weights trained (--checkpointing full, --optimizer adamw-8bit)",
                full,
                replace(full, lora=Lora(rank=8)),
            ),
            _step(
                truth,
                "more throughput: data parallelism",
                "saves nothing, adds gradient buckets; ZeRO-1 moves as many bytes and divides "
                "the states (--gpus 4 --zero 1)",
                full,
                replace(full, parallel=Parallel(gpus=4)),
            ),
            _step(
                truth,
                "the model does not fit at all: FSDP or ZeRO-3",
                "divides weights, gradients and states for half as much communication again; "
                "activations stay (--gpus 4 --fsdp)",
                full,
                replace(full, parallel=Parallel(gpus=4, zero=3)),
            ),
        ),
        about="Llama-7B, weights in bf16, fused AdamW, batch 4 × 512, whole process; "
        "`vramtop plan MODEL --gpu NAME` answers all four at once",
    )


def roadmap(truth: Truth) -> Recipe:
    """Text 2's five steps from the top down."""
    full = _training()
    eager = replace(full, attention="eager")
    amp = replace(full, precision="amp-bf16")
    return Recipe(
        name="roadmap",
        title="Text 2's roadmap",
        text=2,
        steps=(
            _step(
                truth,
                "several GPUs: TP, SP, PP, ZeRO",
                "--gpus --tp --sp --pp --zero. Shown: ZeRO-3 over 4",
                full,
                replace(full, parallel=Parallel(gpus=4, zero=3)),
            ),
            _step(
                truth,
                "operators of lower precision",
                "--precision. Shown: fp32 and bf16 weights; bf16 changes the arithmetic",
                replace(full, precision="fp32"),
                full,
            ),
            _step(
                truth,
                "no needless copies by the framework",
                "autocast keeps fp32 weights and a cache of their casts. Shown: amp-bf16 and bf16",
                amp,
                full,
            ),
            _step(
                truth,
                "tricks of memory management: empty_cache, own allocators",
                "empty_cache gives back what no tensor uses and makes no peak smaller; "
                "expandable segments do, where blocks are fragmented (--alloc-conf "
                "expandable_segments:True)",
                full,
                replace(full, allocator=AllocatorConfig(expandable_segments=True)),
            ),
            _step(
                truth,
                "kernels that need less, as FlashAttention",
                "--attention. Shown: eager and SDPA",
                eager,
                full,
            ),
        ),
        about="Llama-7B, fused AdamW, batch 4 × 512, whole process",
    )


def _training() -> Workload:
    """With the fused optimizer, whose step has no transient that would hide the activations."""
    return Workload(seven_b(), batch=_BATCH, sequence=_SEQUENCE, optimizer_implementation="fused")


def _step(truth: Truth, advice: str, verdict: str, before: Workload, after: Workload) -> Step:
    return Step(advice, verdict, process_bytes(truth, before), process_bytes(truth, after))
