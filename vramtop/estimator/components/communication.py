"""What FSDP holds beside the shards: whole weights, whole gradients, and the buffers of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ..sizes import ZERO, Affine, Sizes
from ..tape import BYTES

At = Literal[
    "gathering",
    "layer",
    "head",
    "forward",
    "loss",
    "last layer",
    "reducing",
    "reduced",
    "first layer",
    "embedding",
    "root",
]


def sharded(sizes: Sizes) -> Mapping[At, Mapping[str, Affine]]:
    """Bytes by component at each moment of a forward and backward; empty where ZeRO is below 2.

    torch/distributed/fsdp/_fully_shard of torch 2.13, ``fully_shard`` on every layer and on the
    root, which has embedding and head, stays gathered from forward's begin to backward's end, and
    whose gradients are reduced last. Without resharding after forward (ZeRO-2) so do layers until
    their backward is done. A forward keeps the buffer of an all-gather until the next layer's; a
    backward fetches one layer ahead (ZeRO-3), and keeps the buffer in which a layer's gradients
    were reduced until the next layer's. Under autocast weights are gathered in its dtype and
    gradients made in it, but reduced in the parameters'.
    """
    if not sizes.sharded:
        return {}
    w = sizes.workload
    computed = BYTES[w.activation_dtype] / sizes.width if w.casts_weights else 1.0
    ends = (sizes.embedding, sizes.head)
    root = Affine(sum(part.count * part.stored_bytes(sizes) for part in ends) * computed)
    layer = Affine(max(part.stored_bytes(sizes) for part in sizes.layers) * computed)
    layers = Affine(sum(part.count * part.stored_bytes(sizes) for part in sizes.layers) * computed)
    stays = w.parallel.zero == 2
    whole, at_work = (root + layers, ZERO) if stays else (root, layer)
    found: dict[At, Mapping[str, Affine]] = {
        "gathering": {"parameter": whole + at_work, "temporary": layer * 2},
        "layer": {"parameter": whole + at_work, "temporary": layer},
        "head": {"parameter": whole, "temporary": layer},
        "forward": {"parameter": whole},
    }
    if w.training:
        width = sizes.trained_width
        made = max(part.trained_elements(sizes) for part in sizes.layers) * width
        head, both = sizes.head_trained() * width, sizes.ends_trained() * width
        ahead = ZERO if stays else layer
        left = root + layer
        found |= {
            "loss": {"parameter": whole, "temporary": ahead},
            "last layer": {
                "parameter": whole + at_work,
                "gradient": Affine(head * computed),
                "temporary": ahead,
            },
            "reducing": {
                "parameter": whole + at_work + (layer * -1 if stays else ZERO),
                "gradient": Affine(head * computed + made / w.parallel.shards),
                "temporary": ahead + Affine(made),
            },
            "reduced": {
                "parameter": whole + at_work + (layer * -1 if stays else ZERO),
                "gradient": Affine((head + made) * computed + made / w.parallel.shards),
                "temporary": ahead + Affine(made),
            },
            "first layer": {
                "parameter": left,
                "gradient": Affine((head + made) * computed),
                "temporary": Affine(made),
            },
            "embedding": {
                "parameter": root,
                "gradient": Affine(both * computed),
                "temporary": Affine(made),
            },
            "root": {"gradient": Affine(both * computed), "temporary": Affine(both)},
        }
    return found
