"""What ZeRO-3 and FSDP hold for the layers at work: gathered weights, gradients before the sum."""

from __future__ import annotations

from ..sizes import Affine, Sizes
from ..tape import BYTES

REDUCE_WIDTH = 4
"""FSDP2 with mixed precision reduces in fp32 unless told (torch MixedPrecisionPolicy)."""


def gathered_bytes(sizes: Sizes) -> Affine:
    """Whole weights of a layer and of the next one, and of embedding and head all the while.

    torch/distributed/fsdp/_fully_shard: one layer is prefetched; the root's own parameters are
    not resharded after forward.
    """
    parallel = sizes.workload.parallel
    if parallel.zero < 3 or parallel.shards < 2:
        return Affine()
    factor = BYTES[sizes.workload.activation_dtype] / sizes.width
    largest = max(part.stored_bytes(sizes) for part in sizes.layers)
    root = sum(p.count * p.stored_bytes(sizes) for p in (sizes.embedding, sizes.head))
    return Affine((2 * largest + root) * factor)


def reduced_bytes(sizes: Sizes) -> Affine:
    """A layer's whole gradient, and its copy in which it is summed."""
    parallel = sizes.workload.parallel
    if parallel.zero < 2 or parallel.shards < 2:
        return Affine()
    largest = max(part.trained_elements(sizes) for part in sizes.layers)
    return Affine(largest * (BYTES[sizes.workload.activation_dtype] + REDUCE_WIDTH))
