"""Weights: elements x bytes of their dtype; quantised linears with their scales."""

from __future__ import annotations

from ..sizes import Affine, Sizes


def parameter_bytes(sizes: Sizes) -> Affine:
    """Weights and adapters that one GPU keeps; ZeRO-2 and 3 (FSDP) divide them.

    What FSDP gathers for forward and backward is in ``communication``.

    Embeddings, norms and the head stay unquantised (transformers,
    quantizers/base.py, get_keys_to_not_convert).
    """
    total = sum(part.count * part.stored_bytes(sizes) for part in sizes.parts)
    return Affine(total / (sizes.workload.parallel.shards if sizes.sharded else 1))
