"""Text 2's formulas as tables: one GPU, several, and its eight categories."""

from __future__ import annotations

from typing import Final

from ..workload import Parallel, Workload
from . import activations, optimizer, strategies, weights
from .truths import added, training
from .values import GB, GIB, SEVEN_B, Figure, Table, Truth, component_bytes, process_bytes, seven_b

CATEGORIES: Final = (
    ("parameter", "parameter"),
    ("optimizer_state", "optimizer_state"),
    ("activation", "activation"),
    ("gradient", "gradient"),
    ("input", "input"),
    ("temporary", "temporary"),
    ("autograd_detail", "autograd_detail"),
    ("unknown", "workspace"),
)
"""Text 2's eight categories, which are those of PyTorch's memory profiler, and ours. In an
estimate nothing is unknown; what the profiler cannot name is cuBLAS's workspaces."""
_TENSOR, _PIPELINE = 2, 2


def formula_table(truth: Truth) -> Table:
    """Text 2's formulas on the 7B model."""
    n = SEVEN_B.parameters
    half = training()
    model = weights.weight_bytes(n, "fp16")
    states = optimizer.text2_gigabytes(n) * GIB
    gradients = weights.gradient_bytes(n, "fp16")
    saved = activations.text2_gigabytes(SEVEN_B, half.sequence) * GIB
    footprint = truth(half)
    spread = Workload(
        seven_b(),
        batch=half.batch,
        sequence=half.sequence,
        precision="fp16",
        parallel=Parallel(gpus=_TENSOR * _PIPELINE, tensor=_TENSOR, pipeline=_PIPELINE),
    )
    forward = Workload(
        seven_b(), mode="inference", batch=half.batch, sequence=half.sequence, precision="fp16"
    )
    return Table(
        name="formulas",
        title="Text 2's formulas on a 7B model: fp16, Adam, batch 4, 512 tokens",
        text=2,
        figures=(
            Figure(
                "a model of 10⁹ parameters in fp32",
                4 * GB,
                weights.weight_bytes(1e9, "fp32"),
                4 * GB,
            ),
            Figure(
                "optimizer: (4+4+4) · parameters",
                None,
                states,
                component_bytes(truth, half, "optimizer_state"),
            ),
            Figure("gradients: as the weights", None, gradients, added(footprint, "backward")),
            Figure("activations: 2·L·h·s·a·λ/t", None, saved, added(footprint, "forward")),
            Figure(
                f"(M+O+G+A)/(TP·PP) + overhead, {_TENSOR} × {_PIPELINE}",
                None,
                strategies.text2_per_gpu_bytes(
                    model, states, gradients, saved, tensor=_TENSOR, pipeline=_PIPELINE
                ),
                process_bytes(truth, spread),
            ),
            Figure(
                "inference: weights + activations",
                None,
                model + saved,
                process_bytes(truth, forward),
            ),
        ),
        wrong=(
            "(4+4+4) counts a copy of the model among the states, 4 B though it is called fp16",
            (
                "2·L·h·s·a·λ/t leaves out the micro-batch that it explains, multiplies heads with "
                "the hidden size that they make up, and is in no source; with full checkpointing "
                "it is 2·s·b·h·L"
            ),
            (
                "the overhead of ZeRO is left open, and a pipeline's first stage keeps every "
                "micro-batch in flight: its activations are not divided"
            ),
            "inference keeps no activations beyond one layer's, but a KV cache",
        ),
        about="Llama-7B, weights in fp16, AdamW, SDPA",
    )


def category_table(truth: Truth) -> Table:
    """Text 2's eight categories, which it gives no figures, at the peak of the same training."""
    workload = training()
    return Table(
        name="categories",
        title="Text 2's eight categories at the peak of that training",
        text=2,
        figures=tuple(
            Figure(theirs, true=component_bytes(truth, workload, ours))
            for theirs, ours in CATEGORIES
        ),
        wrong=("cached blocks and the CUDA context are outside its eight categories",),
        about="Llama-7B, weights in fp16, AdamW, batch 4 × 512",
    )
