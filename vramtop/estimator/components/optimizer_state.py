"""What the optimizer remembers of each trained element."""

from __future__ import annotations

from typing import Final

from ..sizes import Affine, Sizes
from ..tape import Weight

STATES: Final = {
    # torch.optim: states like the parameter, so in its dtype.
    "adamw": 2,
    "adam": 2,
    "sgd": 0,
    "sgd-momentum": 1,
    "adagrad": 1,
    "rmsprop": 1,
    "lion": 1,
}
STATES_8BIT: Final = {"adamw-8bit": 2, "adam-8bit": 2, "lion-8bit": 1}
BLOCK_8BIT: Final = 256
LEAST_8BIT: Final = 4096
"""bitsandbytes, optim/optimizer.py: an fp32 absmax a block; smaller tensors keep fp32 states."""


def optimizer_state_bytes(sizes: Sizes) -> Affine:
    """States of one GPU once the first step is done; ZeRO-1 to 3 divide them.

    Paged states are in managed memory, which is not the allocator's.
    """
    w = sizes.workload
    if not w.training or w.optimizer.startswith("paged"):
        return Affine()
    total = sum(
        part.count * _of_weight(sizes, weight) for part in sizes.parts for weight in part.weights
    )
    return Affine(total / (w.parallel.shards if w.parallel.zero >= 1 else 1))


def _of_weight(sizes: Sizes, weight: Weight) -> float:
    optimizer = sizes.workload.optimizer
    elements, width = sizes.trained_elements(weight), sizes.trained_width
    matrix = weight.columns > 1 and weight.undivided_rows > 1
    if optimizer in STATES:
        return elements * STATES[optimizer] * width
    if optimizer in STATES_8BIT:
        if elements < LEAST_8BIT:
            return elements * STATES_8BIT[optimizer] * 4
        return elements * STATES_8BIT[optimizer] * (1 + 4 / BLOCK_8BIT)
    if optimizer == "muon":
        # Matrices have one momentum, the rest goes to AdamW (torch.optim.Muon's documentation).
        return elements * width * (1 if matrix or sizes.workload.lora is not None else 2)
    if not matrix:
        # Adafactor keeps whole second moments of vectors; tables of embeddings are factored, too.
        table = weight.kind == "embedding"
        factored = elements / sizes.shape.hidden + sizes.shape.hidden
        return width * (factored if table else elements)
    return width * weight.rows * (weight.undivided_rows + weight.undivided_columns)
