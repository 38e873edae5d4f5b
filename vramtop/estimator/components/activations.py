"""What forward keeps for backward, and the working set of the operations themselves."""

from __future__ import annotations

from ..sizes import GROUP_WIDTH, Affine, Part, Sizes
from ..tape import BYTES, lacks_kernel

_DEQUANTIZED = ("nf4", "int4")


def activation_bytes(sizes: Sizes) -> Affine:
    """At the end of forward, all micro-batches that the pipeline holds, without the logits.

    Each operation's share is in ``tape``. Full checkpointing keeps each layer's input (Chen et al.
    2016, arXiv 1604.06174); selective what products and attention made, which is about half of a
    layer's input and output sizes (torch.utils.checkpoint, create_selective_checkpoint_contexts).
    Copies of weights that autocast makes are kept by the layers that multiplied with them, or by
    its cache, which takes trained weights only (ATen/autocast_mode.cpp, cached_cast).
    """
    if not sizes.workload.training:
        return Affine()
    layers = sum(part.count * kept_bytes(sizes, part) for part in sizes.layers)
    ends = sizes.embedding.count * sizes.embedding.saved + sizes.head.count * sizes.head.saved
    slope = sizes.tokens * (layers * sizes.in_flight() + ends)
    if sizes.workload.checkpointing != "none":
        slope += on_nodes_bytes(sizes).slope
    base = sizes.cast_bytes() + position_bias_bytes(sizes)
    if _frozen_casts_go(sizes):
        base -= sum(part.count * _cast_bytes(sizes, part) for part in sizes.layers)
    return Affine(base, slope)


def on_nodes_bytes(sizes: Sizes) -> Affine:
    """What the layers' graph holds until it goes itself, in all of them."""
    layers = sum(part.count * part.on_nodes for part in sizes.layers)
    return Affine(0.0, sizes.tokens * layers * sizes.in_flight())


def _frozen_casts_go(sizes: Sizes) -> bool:
    """Whether nobody keeps the layers' casts: neither a checkpointed layer nor autocast's cache."""
    return sizes.workload.checkpointing != "none" and sizes.workload.lora is not None


def _cast_bytes(sizes: Sizes, part: Part) -> float:
    """Of one layer's weights."""
    dtype = sizes.workload.autocast_dtype
    return BYTES[dtype] * part.cast_elements if dtype and not sizes.sharded else 0.0


def position_bias_bytes(sizes: Sizes) -> float:
    """T5's bias of each pair of positions, the same for all samples: a copy a self-attention.

    One table a stack, permuted, of which SDPA's kernels take a contiguous copy and save it; cross
    attention shares a tensor of zeros (transformers, modeling_t5.py, compute_bias).
    """
    shape, w = sizes.shape, sizes.workload
    if not shape.position_buckets or w.attention == "eager" or w.checkpointing != "none":
        return 0.0
    pairs = shape.heads / w.parallel.tensor * sizes.tokens**2
    layers = (shape.encoder_layers + shape.layers) / w.parallel.pipeline
    return (layers + 1) * pairs * sizes.activation_width


def kept_bytes(sizes: Sizes, part: Part) -> float:
    """Bytes a token that a layer keeps, of those that its operations save."""
    w, shape = sizes.workload, sizes.shape
    if w.checkpointing == "none":
        return part.saved
    parallel = w.parallel
    outer = 1 / parallel.tensor if parallel.sequence else 1.0
    boundary = shape.hidden * sizes.width * outer
    if w.checkpointing == "full":
        return boundary
    width = sizes.activation_width
    # bitsandbytes' MatMul4Bit multiplies in the compute dtype, what goes on is a cast of it.
    product_width = BYTES[w.activation_dtype] if w.precision in _DEQUANTIZED else width
    ffn = shape.ffn if shape.experts is None else shape.experts.ffn * shape.experts.per_token
    attended = shape.heads * shape.head_dim / parallel.tensor
    inner = 2 * shape.kv_heads * shape.head_dim + (1 + shape.gated) * ffn
    products = attended + inner / parallel.tensor + 2 * shape.hidden * outer
    if w.precision == "int8":
        products = 0.0  # an operation of bitsandbytes' own, which the policy does not know
    kept = boundary + product_width * products + width * attended + _scores_bytes(sizes)
    return kept + _adapter_products_bytes(sizes, part)


def _adapter_products_bytes(sizes: Sizes, part: Part) -> float:
    """Bytes a token of the two products of each adapter, in the adapters' dtype."""
    w = sizes.workload
    if w.lora is None:
        return 0.0
    width = BYTES[w.autocast_dtype] if w.autocast_dtype else sizes.trained_width
    return width * sum(
        w.lora.rank + weight.undivided_rows / w.parallel.tensor
        for weight in part.weights
        if weight.lora
    )


def _scores_bytes(sizes: Sizes) -> float:
    """Bytes a token that attention's own products keep, beside its output's in the common width.

    Without a fused kernel the scores are a product that selective checkpointing keeps; where SDPA
    multiplies by itself, they and the output are in fp32, of which a copy goes on.
    """
    shape, w = sizes.shape, sizes.workload
    width = sizes.activation_width
    capped = bool(shape.attention_softcap) and w.attention == "sdpa"
    eager = w.attention == "eager" or capped or shape.eager_only
    by_itself = not eager and (
        shape.broadcast_heads or lacks_kernel(w, width, grouped=shape.kv_heads < shape.heads)
    )
    if not eager and not by_itself:
        return 0.0
    scores = shape.heads * w.sequence / w.parallel.tensor
    if eager:
        return scores * (4 if shape.products_fp32 and not w.autocast_dtype else width)
    return scores * 4 + shape.heads * shape.head_dim / w.parallel.tensor * (4 - width)


def _product_bytes(sizes: Sizes) -> float:
    """Bytes a token of what the feed-forward part's last linear layer gets."""
    w = sizes.workload
    width = sizes.width if w.precision in GROUP_WIDTH else sizes.activation_width
    return sizes.shape.ffn / w.parallel.tensor * width


def _keeps_product(sizes: Sizes) -> bool:
    """Whether that is saved, and let go once its layer's own gradients are there."""
    w, down = sizes.workload, sizes.shape.names.down
    if w.lora is None:
        return True
    adapted = any(one.lora for part in sizes.layers for one in part.weights if one.name == down)
    return adapted and w.precision != "int8"


def recomputed_bytes(sizes: Sizes) -> Affine:
    """One layer's activations, while checkpointing has them again."""
    if sizes.workload.checkpointing == "none" or not sizes.workload.training:
        return Affine()
    again = max(part.saved - kept_bytes(sizes, part) for part in sizes.layers)
    if sizes.workload.precision == "int8":
        # Only a node holds it, so the second forward ends before (set_checkpoint_early_stop).
        again -= _product_bytes(sizes)
    return Affine(
        max(_cast_bytes(sizes, part) for part in sizes.layers) if _frozen_casts_go(sizes) else 0.0,
        sizes.tokens * again,
    )


def working_bytes(sizes: Sizes) -> Affine:
    """Inputs, outputs and (in backward) their gradients of the largest operation in a layer.

    With quantised linears the dequantised weight, too; LLM.int8's products are in int32, then in
    fp16, then in the model's dtype (bitsandbytes, autograd/_functions.py, MatMul8bitLt).
    """
    w, shape = sizes.workload, sizes.shape
    width = sizes.activation_width
    hidden = 2 * shape.hidden * sizes.width
    slope = hidden + max(part.widest for part in sizes.layers)
    if shape.gated and not w.training:
        inner = width + 4 + 2 + width if w.precision == "int8" else 3 * width
        # Names hold four hidden states: the embeddings, the layer's input, the sum after
        # attention and the norm's output (transformers, modeling_llama.py).
        slope = max(slope, 2 * hidden + inner * shape.ffn / w.parallel.tensor)
    base = 0.0
    if w.precision in GROUP_WIDTH and (w.lora is not None or not w.training):
        largest = max(
            weight.elements / max(weight.rows, 1)
            for part in sizes.layers
            for weight in part.weights
        )
        base = largest * BYTES[w.activation_dtype]
    return Affine(base, sizes.tokens * slope)


def backward_working_bytes(sizes: Sizes) -> Affine:
    """The same in backward, where a feed-forward part that ends in a product has more.

    The gradients of product and factors are there at once; the product itself is not, where what
    comes after it was the last to need it.
    """
    working, shape = working_bytes(sizes), sizes.shape
    if shape.experts is not None or not (shape.gated or shape.activation == "gelu_new"):
        return working
    gradients = (2 if _keeps_product(sizes) else 3) * _product_bytes(sizes)
    slope = sizes.tokens * (shape.hidden * sizes.width + gradients)
    return Affine(working.base, max(working.slope, slope))
