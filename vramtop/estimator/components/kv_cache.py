"""Keys and values of the tokens so far, in inference."""

from __future__ import annotations

from ..sizes import Affine, Sizes

_CAUSAL = "AutoModelForCausalLM"
KV_WIDTH = {"fp32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1}


def kv_cache_bytes(sizes: Sizes, tokens: float) -> Affine:
    """2 x layers x KV heads x head size x bytes x tokens; sliding layers keep only their window.

    transformers caches DeepSeek's keys and values after the expansion, so per query head.
    """
    w = sizes.workload
    if w.training or not w.new_tokens:
        return Affine()
    return Affine(0.0, sum(_layer_bytes(sizes, seen) * n for seen, n in _layers(sizes, tokens)))


def training_cache_bytes(sizes: Sizes) -> Affine:
    """Keys and values that a training's ``outputs`` hold until the next forward has its own.

    transformers' causal models return them in training too, unless they checkpoint (use_cache).
    """
    w, shape = sizes.workload, sizes.shape
    if w.stack != "plain" or w.checkpointing != "none" or shape.auto_class != _CAUSAL:
        return Affine()
    return Affine(
        0.0, sum(_layer_bytes(sizes, seen) * n for seen, n in _layers(sizes, sizes.tokens))
    )


def growing_bytes(sizes: Sizes, tokens: float) -> Affine:
    """A layer's keys or values while they are copied to make room for one more."""
    w = sizes.workload
    if w.training or not w.new_tokens:
        return Affine()
    return Affine(0.0, _layer_bytes(sizes, tokens) / 2)


def _layers(sizes: Sizes, tokens: float) -> tuple[tuple[float, float], ...]:
    shape, share = sizes.shape, 1 / sizes.workload.parallel.pipeline
    sliding = shape.sliding_layers if shape.window else 0
    return (
        (min(tokens, shape.window), sliding * share),
        (tokens, (shape.layers - sliding) * share),
    )


def _layer_bytes(sizes: Sizes, tokens: float) -> float:
    shape, w = sizes.shape, sizes.workload
    width = KV_WIDTH[w.kv_dtype] if w.kv_dtype else sizes.activation_width
    if shape.latent is not None:
        values = shape.heads * (shape.head_dim + shape.latent.value) / w.parallel.tensor
    else:
        values = 2 * shape.head_dim * max(shape.kv_heads / w.parallel.tensor, 1)
    return values * width * tokens
