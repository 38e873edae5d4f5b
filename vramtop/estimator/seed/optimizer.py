"""Seed formulas of optimizer states.

Text 1 has two: two fp32 moments (its waterfall, "Adam"), and those with fp32 master weights
(its functions). Text 2 has (4 + 4 + 4) × parameters. All are mixed precision as Megatron and Apex
do it; PyTorch's own AdamW keeps its two states in the parameter's dtype and no master copy.
"""

from __future__ import annotations

from .values import GIB

ADAM = frozenset({"adam", "adamw"})


def adam_moment_bytes(parameters: float) -> float:
    """Adam's two moments in fp32 whatever the weights are, bytes (text 1, the waterfall)."""
    return parameters * 2 * 4


def adam_with_master_bytes(parameters: float) -> float:
    """fp32 master weights and two fp32 moments, bytes (text 1, its functions)."""
    return parameters * 4 * 3


def sgd_bytes(parameters: float) -> float:
    """fp32 master weights alone, bytes (text 1, ``will_it_fit``)."""
    return parameters * 4


def state_bytes(parameters: float, optimizer: str) -> float:
    """Optimizer states by text 1's ``will_it_fit``, bytes; 0 for what it does not know."""
    if optimizer in ADAM:
        return adam_with_master_bytes(parameters)
    if optimizer == "sgd":
        return sgd_bytes(parameters)
    return 0.0


def text2_gigabytes(parameters: float) -> float:
    """Text 2: (4 + 4 + 4) × parameters / 1024³: copy of the model, momentum, variance.

    The copy is called fp16 in its sentence and has 4 bytes in its formula.
    """
    return (4 + 4 + 4) * parameters / GIB
