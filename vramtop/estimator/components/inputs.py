"""The batch itself: token ids and labels as int64, or pixels."""

from __future__ import annotations

from ..sizes import Affine, Sizes


def input_bytes(sizes: Sizes) -> Affine:
    """Of one micro-batch."""
    image = sizes.shape.image
    if image is not None:
        return Affine(0.0, image.size**2 * image.channels * sizes.width)
    labels = 2 if sizes.workload.training or sizes.shape.encoder_layers else 1
    return Affine(0.0, 8 * labels * sizes.tokens)
