"""Text 1's tables of one GPU's memory: the budget, inference, the KV cache, the waterfall."""

from __future__ import annotations

from typing import Final

from ..workload import PRECISIONS
from . import activations, kv_cache, optimizer, weights
from .truths import added, after, inference, peak, training, without_states
from .values import GB, SEVEN_B, Figure, Table, Truth, component_bytes
from .will_it_fit import will_it_fit

_N: Final = SEVEN_B.parameters
_MODEL: Final = "Llama-7B, 6.74 · 10⁹ parameters"
_INFERENCE: Final = {
    # precision: model, peak at batch 1 and 512 tokens, peak at batch 8 and 2048 tokens (GB)
    "fp32": (28.0, 29.1, 44.5),
    "fp16": (14.0, 14.5, 22.2),
    "bf16": (14.0, 14.5, 22.2),
    "int8": (7.0, 7.5, 15.2),
    "int4": (3.5, 4.0, 11.7),
}


def budget(truth: Truth) -> Table:
    """What a 7B training is said to need."""
    half = training()

    def true(name: str, precision: str = "fp16") -> int | None:
        return component_bytes(truth, training(precision=precision), name)

    return Table(
        name="budget",
        title="The memory budget of a 7B training",
        text=1,
        figures=(
            Figure(
                "weights, fp32",
                28 * GB,
                weights.weight_bytes(_N, "fp32"),
                true("parameter", "fp32"),
            ),
            Figure("weights, fp16", 14 * GB, weights.weight_bytes(_N, "fp16"), true("parameter")),
            Figure(
                "gradients, fp16",
                14 * GB,
                weights.gradient_bytes(_N, "fp16"),
                added(truth(half), "backward"),
            ),
            Figure(
                "Adam states", 56 * GB, optimizer.adam_moment_bytes(_N), true("optimizer_state")
            ),
            Figure("fp32 master weights", 28 * GB, _N * 4, 0),
            Figure(
                "states with master weights",
                84 * GB,
                optimizer.adam_with_master_bytes(_N),
                true("optimizer_state"),
            ),
            Figure(
                "activations, batch 4 × 512",
                8.4 * GB,
                activations.sample_bytes(SEVEN_B, half.sequence, 2) * half.batch,
                added(truth(half), "forward"),
            ),
        ),
        wrong=(
            (
                "PyTorch's AdamW keeps both states in the parameters' dtype and no master weights: "
                "the fp32 states and copy are Megatron's and Apex's mixed precision"
            ),
            (
                "the text's sum leaves out the logits, the optimizer's transient, workspaces and "
                "the CUDA context"
            ),
        ),
        about=f"{_MODEL}, weights in fp16, torch.optim.AdamW, SDPA",
    )


def inference_table(truth: Truth) -> Table:
    """Precision × batch: model, peak at 1 × 512, peak at 8 × 2048."""
    figures = []
    for precision, printed in _INFERENCE.items():
        assert precision in PRECISIONS
        width = weights.bytes_per_parameter(precision)
        small = truth(inference(precision, 1, 512))
        figures.append(
            Figure(
                f"{precision}: model",
                printed[0] * GB,
                weights.weight_bytes(_N, precision),
                after(small, "load"),
            )
        )
        for batch, sequence, size in ((1, 512, printed[1]), (8, 2048, printed[2])):
            footprint = truth(inference(precision, batch, sequence))
            figures.append(
                Figure(
                    f"{precision}: peak, batch {batch}, {sequence} tokens",
                    size * GB,
                    _N * width + kv_cache.cache_bytes(SEVEN_B, batch, sequence, width),
                    footprint.peak_allocated_bytes if footprint else None,
                )
            )
    return Table(
        name="inference",
        title="Inference of a 7B model by precision",
        text=1,
        figures=tuple(figures),
        wrong=(
            (
                "the KV column mixes precisions: printed, int8 and int4 have an fp16 cache (+8.2 "
                "GB) and fp32 an fp32 one (+16.5 GB); the function gives int8 and int4 a cache of "
                "1 and ½ byte"
            ),
            (
                "quantised models keep embeddings, norms and head in 2 bytes: int4 is more than "
                "½ byte a parameter"
            ),
            "the forward's own activations and logits are left out",
        ),
        about=f"{_MODEL}; allocated after loading, and at the peak of generate() with one token",
    )


def kv_table(truth: Truth) -> Table:
    """The KV cache of a token, and of 8 × 2048 of them."""
    token = kv_cache.token_bytes(32, 32, 128, 2)
    full = inference("fp16", 8, 2048)
    true = component_bytes(truth, full, "kv_cache")
    tokens = full.batch * (full.sequence + full.new_tokens)
    return Table(
        name="kv-cache",
        title="KV cache of a 7B model in fp16",
        text=1,
        figures=(
            Figure("one token", 0.5e6, token, None if true is None else true / tokens),
            Figure(
                "batch 8, 2048 tokens",
                8.2 * GB,
                kv_cache.cache_bytes(SEVEN_B, 8, 2048, 2),
                true,
            ),
        ),
        wrong=(
            "524,288 B are rounded down to 0.5 MB before they are multiplied: 8.6 GB, not 8.2",
            (
                "the formula counts query heads; with grouped queries only the KV heads are kept "
                "(Llama-3-8B: a quarter)"
            ),
        ),
        about=f"{_MODEL}, at the peak of generate() with one token",
    )


def waterfall(truth: Truth) -> Table:
    """Allocated bytes through the first training step, stage by stage."""
    workload = training()
    footprint = truth(workload)
    shape, n = SEVEN_B, _N
    held = weights.weight_bytes(n, "fp16")
    saved = activations.sample_bytes(shape, workload.sequence, 2) * workload.batch
    gradients = weights.gradient_bytes(n, "fp16")
    states = optimizer.adam_moment_bytes(n)
    return Table(
        name="waterfall",
        title="A 7B training step: fp16, Adam, batch 4, 512 tokens",
        text=1,
        figures=(
            Figure("model loaded", 14.0 * GB, held, after(footprint, "load")),
            Figure("after forward", 22.4 * GB, held + saved, without_states(footprint, "forward")),
            Figure(
                "after backward", 28.0 * GB, held + gradients, without_states(footprint, "backward")
            ),
            Figure(
                "after optimizer step",
                84.0 * GB,
                held + gradients + states,
                after(footprint, "step"),
            ),
            Figure("after zero_grad", 70.0 * GB, held + states, after(footprint, "zero_grad")),
            Figure("peak of backward", true=peak(footprint, "backward")),
            Figure("peak of the optimizer step", true=peak(footprint, "step")),
        ),
        wrong=(
            (
                "activations are 12·h·s·L·b·2 B in the functions (6.4 GB) and 8.4 GB in the table; "
                "Hugging Face's Llama with SDPA keeps nearly twice as much, eager attention three "
                "times"
            ),
            (
                "it stops at the stages' ends: logits at the start of backward and the transient "
                "of the foreach optimizer (as large as the weights) are missing"
            ),
            "Adam's states of fp16 parameters are fp16 in PyTorch: 4 B a parameter, not 8",
        ),
        about=f"{_MODEL}; the two peaks are of a later step, which has its states from the start",
    )


def fit_table(truth: Truth) -> Table:
    """``will_it_fit`` on the calls that its defaults suggest."""
    figures = []
    for precision in ("fp32", "fp16", "bf16"):
        fit = will_it_fit(SEVEN_B, precision=precision)
        footprint = truth(training(batch=1, sequence=2048, precision=precision))
        figures.append(
            Figure(
                f"training, {precision}, Adam",
                seed=fit.total_bytes,
                true=footprint.process_bytes if footprint else None,
            )
        )
    for precision in _INFERENCE:
        fit = will_it_fit(SEVEN_B, precision=precision, training=False)
        footprint = truth(inference(precision, 1, 2048))
        figures.append(
            Figure(
                f"inference, {precision}",
                seed=fit.total_bytes,
                true=footprint.process_bytes if footprint else None,
            )
        )
    return Table(
        name="will-it-fit",
        title="will_it_fit, 7B, batch 1, 2048 tokens",
        text=1,
        figures=tuple(figures),
        wrong=(
            (
                "weights, gradients, states and activations are added up, though activations are "
                "gone when the gradients are whole"
            ),
            (
                "hidden size and depth stay those of a 7B model unless they are given too: a 13B "
                "call with its defaults has a 7B's activations"
            ),
            "the whole card counts as free: no context, no driver's reserve",
        ),
        about=f"{_MODEL}, the process's total",
    )
