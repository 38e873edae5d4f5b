"""What a step of the optimizer allocates and lets go again."""

from __future__ import annotations

from typing import Final

from ..sizes import Affine, Sizes

FOREACH_COPIES: Final = {
    # Of the trained parameters, counted with torch 2.13: the denominator of Adam.
    "adamw": 1.0,
    "adam": 1.0,
    # torch/optim/rmsprop.py: the square root; adagrad.py: that and the scaled gradients.
    "rmsprop": 1.0,
    "adagrad": 2.0,
    "sgd": 0.0,
    "sgd-momentum": 0.0,
}


def optimizer_transient_bytes(sizes: Sizes) -> Affine:
    """At the fullest moment of a step.

    ``foreach`` works on all parameters at once; ``forloop`` and the optimizers that have no
    foreach on the largest alone (twice); ``fused`` and the 8-bit kernels take nothing.
    """
    w = sizes.workload
    if not w.training:
        return Affine()
    by = w.parallel.shards if w.parallel.zero >= 1 else 1
    copies = FOREACH_COPIES.get(w.optimizer)
    if w.implementation == "fused" or "8bit" in w.optimizer:
        return Affine()
    if copies is not None and w.implementation == "foreach":
        return Affine(copies * sizes.trained_total() * sizes.trained_width / by)
    if copies == 0.0:
        return Affine()
    largest = max(
        (sizes.trained_elements(weight) for part in sizes.parts for weight in part.weights),
        default=0.0,
    )
    return Affine(2 * largest * sizes.trained_width / by)
