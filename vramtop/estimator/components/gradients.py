"""Gradients: one of each trained element, in the parameter's dtype."""

from __future__ import annotations

from ..sizes import Affine, Sizes


def gradient_bytes(sizes: Sizes) -> Affine:
    """Of one GPU at the end of backward; ZeRO-2 and 3 divide them."""
    parallel = sizes.workload.parallel
    total = sizes.trained_total() * sizes.trained_width
    return Affine(total / (parallel.shards if parallel.zero >= 2 else 1))


def bucket_bytes(sizes: Sizes) -> Affine:
    """DistributedDataParallel's second copy of all gradients, from the model's wrapping on.

    gradient_as_bucket_view is False by default (torch/nn/parallel/distributed.py). ZeRO-1 has it
    too: torch's ZeroRedundancyOptimizer works over DDP. Context parallel ranks take part.
    """
    parallel = sizes.workload.parallel
    if parallel.zero >= 2 or parallel.data * parallel.context == 1:
        return Affine()
    return Affine(sizes.trained_total() * sizes.trained_width)


def head_gradient_bytes(sizes: Sizes) -> float:
    """Of the head, which backward makes first; a tied one is the table of embeddings."""
    return sizes.head_trained() * sizes.trained_width


def embedding_gradient_bytes(sizes: Sizes) -> float:
    """Of the table of token embeddings alone, which backward reaches last."""
    return sizes.table_trained() * sizes.width
