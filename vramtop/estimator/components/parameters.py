"""Weights: elements x bytes of their dtype; quantised linears with their scales."""

from __future__ import annotations

from ..sizes import Affine, Sizes


def parameter_bytes(sizes: Sizes) -> Affine:
    """Weights and adapters of one GPU; ZeRO-3 divides them.

    Embeddings, norms and the head stay unquantised (transformers,
    quantizers/base.py, get_keys_to_not_convert).
    """
    parallel = sizes.workload.parallel
    total = sum(part.count * part.stored_bytes(sizes) for part in sizes.parts)
    return Affine(total / (parallel.shards if parallel.zero >= 3 else 1))
