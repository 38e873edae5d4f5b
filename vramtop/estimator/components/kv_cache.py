"""Keys and values of the tokens so far, in inference."""

from __future__ import annotations

from ..sizes import Affine, Sizes
from ..tape import lacks_kernel

_CACHING = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")
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

    transformers' models return them in training too, unless they checkpoint (use_cache); those
    with an encoder have the keys and values of its tokens as well, and its last hidden states.
    """
    return _made_in_training(sizes) if sizes.workload.stack == "plain" else Affine()


def _made_in_training(sizes: Sizes) -> Affine:
    shape = sizes.shape
    if sizes.workload.checkpointing != "none" or shape.auto_class not in _CACHING:
        return Affine()
    one = sum(_layer_bytes(sizes, seen) * n for seen, n in _layers(sizes, sizes.tokens))
    if not shape.encoder_layers:
        return Affine(0.0, one)
    return Affine(0.0, 2 * one + sizes.tokens * shape.hidden * sizes.width)


def unshared_cache_bytes(sizes: Sizes) -> Affine:
    """Of a training's cache what attention's backward does not need itself: all of it or nothing.

    Attention saves the cache's own keys and values, but under autocast copies of fp32 ones, and
    where no kernel takes them, copies in fp32 for each head of queries.
    """
    return training_cache_bytes(sizes) if _is_unshared(sizes) else Affine()


def passing_cache_bytes(sizes: Sizes) -> Affine:
    """The same where the loop drops the outputs, as the Trainer does: in forward it is there."""
    if sizes.workload.stack != "hf-trainer" or not _is_unshared(sizes):
        return Affine()
    return _made_in_training(sizes)


def _is_unshared(sizes: Sizes) -> bool:
    grouped = sizes.shape.kv_heads < sizes.shape.heads
    copied = lacks_kernel(sizes.workload, sizes.activation_width, grouped=grouped)
    return _promoted(sizes) or copied


def _promoted(sizes: Sizes) -> bool:
    """Whether the cache is wider than autocast's products, of fp32 hidden states.

    Rotated keys are fp32 then, and values are put to a tensor of theirs (transformers,
    cache_utils.py, DynamicLayer: an empty tensor of the keys' dtype, and torch.cat). Without
    rotation the width is the linear layer's, which a quantised one has of its input.
    """
    w = sizes.workload
    if w.autocast_dtype is None or sizes.width == sizes.activation_width:
        return False
    return sizes.shape.rope or w.prepared_for_kbit


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
    width = 4 if _promoted(sizes) else sizes.activation_width
    if w.kv_dtype:
        width = KV_WIDTH[w.kv_dtype]
    if shape.latent is not None:
        values = shape.heads * (shape.head_dim + shape.latent.value) / w.parallel.tensor
    else:
        values = 2 * shape.head_dim * max(shape.kv_heads / w.parallel.tensor, 1)
    return values * width * tokens
