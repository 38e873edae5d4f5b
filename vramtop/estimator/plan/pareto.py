"""The Pareto front: what nothing else beats in every respect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Costs = tuple[float, ...]
"""Smaller is better in every place."""


def dominates(one: Costs, other: Costs) -> bool:
    """Whether ``one`` is nowhere worse than ``other`` and somewhere better."""
    pairs = tuple(zip(one, other, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def front(items: Iterable[Item], costs: Callable[[Item], Costs]) -> list[Item]:
    """The items that no other dominates, by their costs ascending; of equals the first.

    In O(n · front): what comes later in the order of costs cannot dominate what came before.
    """
    kept: list[tuple[Costs, Item]] = []
    priced = sorted(((costs(item), item) for item in items), key=lambda pair: pair[0])
    for cost, item in priced:
        if not any(dominates(other, cost) or other == cost for other, _ in kept):
            kept.append((cost, item))
    return [item for _, item in kept]
