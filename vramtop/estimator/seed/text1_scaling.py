"""Text 1's tables over batch and GPUs: largest batch by card, strategies for 13B, its rules."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ..catalog import find_gpu
from ..plan import communication
from ..workload import Lora, Model, Parallel, Workload
from . import activations, max_batch, optimizer, strategies
from .truths import added, after, largest_batch, quotient, training
from .values import (
    GB,
    SEVEN_B,
    THIRTEEN_B,
    Figure,
    Table,
    Truth,
    component_bytes,
    process_bytes,
    seven_b,
    thirteen_b,
)

CARDS: Final = ((24, "rtx 4090"), (40, "a100-40gb"), (48, "l40s"), (80, "h100"))
"""Text 1's sizes (GB), and the card that stands for each."""
_LORA_BATCH: Final = {24: 8, 40: 32, 48: 48, 80: 96}
"""Text 1's column "7B (INT8 + LoRA)"; it prints "96+"."""
_SEQUENCE: Final = 512
"""Text 1 gives its table no sequence length; its benchmarks run 512."""
_RECOMPUTED: Final = 4 / 3
"""A forward more, where a step is a forward and a backward of twice its work (Chen et al. 2016,
Training Deep Nets with Sublinear Memory Cost); the optimizer's part does not grow."""
LORA: Final = Lora(rank=8)


def int8_lora(batch: int = 1) -> Workload:
    """Text 1's INT8 + LoRA: rank 8 on what PEFT takes by itself."""
    return Workload(seven_b(), batch=batch, sequence=_SEQUENCE, precision="int8", lora=LORA)


def batch_table(truth: Truth) -> Table:
    """Largest batch by card, full training and LoRA."""
    figures = []
    for title, model, shape in (
        ("7B fp16 + Adam", seven_b(), SEVEN_B),
        ("13B fp16 + Adam", thirteen_b(), THIRTEEN_B),
    ):
        workload = Workload(model, sequence=_SEQUENCE, precision="fp16")
        figures += [
            Figure(
                f"{title}, {vram} GB",
                0,
                max_batch.max_batch(shape, _SEQUENCE, vram),
                largest_batch(truth, workload, find_gpu(card)),
                unit="count",
            )
            for vram, card in CARDS
        ]
    figures += [
        Figure(
            f"7B int8 + LoRA, {vram} GB",
            _LORA_BATCH[vram],
            max_batch.max_batch(SEVEN_B, _SEQUENCE, vram, "int8", lora=True),
            largest_batch(truth, int8_lora(), find_gpu(card)),
            unit="count",
        )
        for vram, card in CARDS
    ]
    return Table(
        name="max-batch",
        title="Largest batch by card (0: out of memory)",
        text=1,
        figures=tuple(figures),
        wrong=(
            (
                "fp16 weights, gradients and states of a 7B are 54 GB with PyTorch's AdamW, not "
                "112: it trains on an 80 GB card"
            ),
            (
                "the function knows no LoRA (int8 with Adam's 12 B a parameter is 98 GB, out of "
                "memory everywhere); computed here with text 1's sentence, a hundredth of the "
                "parameters trained"
            ),
            "int8 weights do not make activations of one byte: they stay fp16 or bf16",
            "no sequence length is given; both columns are computed at 512",
        ),
        about="Llama-7B and 13B on RTX 4090, A100 40GB, L40S and H100, whole process",
    )


def strategy_table(truth: Truth) -> Table:
    """13B over 2 and 4 GPUs."""
    printed = {
        ("data_parallel", 2): 104,
        ("data_parallel", 4): 104,
        ("pipeline_parallel", 2): 52,
        ("pipeline_parallel", 4): 26,
        ("fsdp_zero3", 2): 52,
        ("fsdp_zero3", 4): 26,
    }
    model = thirteen_b()
    return Table(
        name="strategies",
        title="13B over several GPUs, bytes on each",
        text=1,
        figures=tuple(
            Figure(
                f"{strategy.replace('_', ' ')}, {gpus} GPUs",
                size * GB,
                strategies.per_gpu_bytes(THIRTEEN_B.parameters, gpus, strategy),
                process_bytes(truth, _spread(model, strategy, gpus)),
            )
            for (strategy, gpus), size in printed.items()
        )
        + tuple(
            Figure(
                f"{strategy.replace('_', ' ')}, 4 GPUs: sent a step",
                true=_sent(model, strategy, 4),
            )
            for strategy in strategies.STRATEGIES
        ),
        wrong=(
            (
                "the table has half of what its own function gives: 104 GB is 8 B a parameter (two "
                "fp16 copies, two fp16 states), the function counts 16 B, 208 GB"
            ),
            "activations, logits, gathered layers and buckets of the communication are left out",
            (
                "the communication that the text names in words is by formula here: of one GPU, "
                "for one micro-batch of 512 tokens"
            ),
            (
                "a pipeline's stages are not alike: the first holds the activations of every "
                "micro-batch in flight, the last the logits"
            ),
        ),
        about="Llama-13B, weights in bf16, AdamW, batch 1 × 512 a micro-batch, process on the "
        "fullest GPU",
    )


def _spread(model: Model, strategy: str, gpus: int) -> Workload:
    parallel = {
        "data_parallel": Parallel(gpus=gpus),
        "pipeline_parallel": Parallel(gpus=gpus, pipeline=gpus),
        "fsdp_zero3": Parallel(gpus=gpus, zero=3),
    }[strategy]
    return Workload(model, sequence=_SEQUENCE, precision="bf16", parallel=parallel)


def _sent(model: Model, strategy: str, gpus: int) -> int | None:
    """What one GPU sends for a step of one micro-batch, bytes."""
    if model.parameters is None:
        return None
    weights = 2 * model.parameters
    part = communication.Part(
        weight_bytes=weights,
        trained_weight_bytes=weights,
        gradient_bytes=weights,
        hidden_bytes=2 * THIRTEEN_B.hidden * _SEQUENCE,
        layers=THIRTEEN_B.layers,
    )
    traffic = {
        "data_parallel": communication.data_parallel(part, gpus=gpus, zero=0, passes=1),
        "pipeline_parallel": communication.pipeline_parallel(
            part, stages=gpus, chunks=1, passes=1, divided_by=1
        ),
        "fsdp_zero3": communication.data_parallel(part, gpus=gpus, zero=3, passes=1),
    }[strategy]
    return communication.total_bytes(traffic)


def rules_table(truth: Truth) -> Table:
    """Text 1's claims in figures: overhead, checkpointing, LoRA, accumulation."""
    base = training()
    footprint = truth(base)
    checkpointed = truth(replace(base, checkpointing="full"))
    overhead = None
    if footprint is not None:
        overhead = quotient(footprint.process_bytes, footprint.peak_allocated_bytes)
    lora = replace(base, lora=LORA)
    sample = activations.sample_bytes(SEVEN_B, 2048, 2)
    return Table(
        name="rules",
        title="Rules of thumb",
        text=1,
        figures=(
            Figure("overhead over allocated, least", 1.10, None, overhead, unit="times"),
            Figure("overhead over allocated, most", 1.20, None, overhead, unit="times"),
            Figure(
                "activations without / with checkpointing",
                activations.CHECKPOINTING_SAVES[0],
                None,
                quotient(added(footprint, "forward"), added(checkpointed, "forward")),
                unit="times",
            ),
            Figure("time of a step with checkpointing", 1.30, None, _RECOMPUTED, unit="times"),
            Figure(
                "LoRA: optimizer states",
                1 * GB,
                optimizer.adam_with_master_bytes(SEVEN_B.parameters / max_batch.LORA_REDUCTION[0]),
                component_bytes(truth, lora, "optimizer_state"),
            ),
            Figure("fixed part, 7B", 80 * GB, max_batch.fixed_bytes(SEVEN_B, "fp16"), _kept(truth)),
            Figure("activations of a sample of 2048 tokens", None, sample, _sample(truth)),
            Figure(
                "passes for a batch of 64 with micro-batches of 4",
                16,
                64 / 4,
                16,
                unit="count",
            ),
        ),
        wrong=(
            (
                "the overhead is no constant: context, workspaces, NCCL and fragmentation are "
                "separate, and each can be told"
            ),
            (
                "accumulation does not cost 4 times the compute: the samples are the same, only "
                "the passes are smaller"
            ),
            "the text announces rules that hold within 20 % and then has none",
        ),
        about="Llama-7B, weights in fp16, AdamW, batch 4 × 512",
    )


def _kept(truth: Truth) -> int | None:
    """Weights, gradients and states: what is there when the step is done."""
    return after(truth(training()), "step")


def _sample(truth: Truth) -> int | None:
    """Activations that one sample more adds."""
    one = added(truth(training(batch=3, sequence=2048)), "forward")
    two = added(truth(training(batch=4, sequence=2048)), "forward")
    return None if one is None or two is None else two - one
