"""Gradients: one of each trained element, in the parameter's dtype."""

from __future__ import annotations

from ..sizes import Affine, Sizes


def gradient_bytes(sizes: Sizes) -> Affine:
    """Of one GPU at the end of backward; ZeRO-2 and 3 divide them.

    DistributedDataParallel has a second copy in its buckets (gradient_as_bucket_view is False by
    default: torch/nn/parallel/distributed.py).
    """
    parallel = sizes.workload.parallel
    total = sizes.trained_total() * sizes.trained_width
    if parallel.zero >= 2:
        return Affine(total / parallel.shards)
    buckets = 2 if parallel.data > 1 and parallel.zero == 0 else 1
    return Affine(total * buckets)


def embedding_gradient_bytes(sizes: Sizes) -> float:
    """Of the table of token embeddings alone, which backward reaches last."""
    if sizes.workload.lora is not None or sizes.shape.image is not None:
        return 0.0
    tokens = next((w for w in sizes.embedding.weights if w.name == "embed_tokens"), None)
    return 0.0 if tokens is None else tokens.elements * sizes.width
