"""Of a front, the few configurations worth reading: the best in each respect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Final

from .pareto import Costs
from .values import Configuration

_WORTH: Final = 0.9
"""Changed arithmetic has to make a cost at least a tenth smaller than everything before it."""


def _slowdown(one: Configuration) -> float:
    return (1 + one.recomputation) * (1 + one.bubble)


def _by_time(one: Configuration) -> Costs:
    return (_slowdown(one), one.sent_bytes, one.passes, one.process_bytes)


def _by_memory(one: Configuration) -> Costs:
    return (one.process_bytes, _slowdown(one), one.sent_bytes)


def _by_traffic(one: Configuration) -> Costs:
    return (one.sent_bytes, _slowdown(one), one.passes, one.process_bytes)


def _by_passes(one: Configuration) -> Costs:
    return (one.passes, _slowdown(one), one.sent_bytes, one.process_bytes)


RESPECTS: Final[tuple[tuple[str, Callable[[Configuration], Costs]], ...]] = (
    ("least made again", _by_time),
    ("least sent", _by_traffic),
    ("fewest passes", _by_passes),
    ("least memory", _by_memory),
)
"""In what a configuration can be the best of its group, with what decides among equals."""


def few(front: Iterable[Configuration]) -> list[Configuration]:
    """The best of the least changed arithmetic in each respect, then one of each other.

    An arithmetic that departs further is left out where it buys nothing.
    """
    chosen: list[Configuration] = []
    ordered = sorted(front, key=lambda one: one.arithmetic.severity)
    for _, group in groupby(ordered, key=lambda one: one.arithmetic.severity):
        members = list(group)
        if not chosen:
            best = [min(members, key=key) for _, key in RESPECTS]
            chosen = sorted({id(one): one for one in best}.values(), key=_by_time)
        elif _buys(quickest := min(members, key=_by_time), chosen):
            chosen.append(quickest)
    return chosen


def strengths(one: Configuration, among: Iterable[Configuration]) -> tuple[str, ...]:
    """In what a configuration is the best of those with its arithmetic."""
    group = [other for other in among if other.arithmetic == one.arithmetic]
    if len(group) == 1:
        return ()
    return tuple(
        name
        for name, key in RESPECTS
        if all(key(one)[0] <= key(other)[0] for other in group)
        and any(key(one)[0] < key(other)[0] for other in group)
    )


def _buys(one: Configuration, before: list[Configuration]) -> bool:
    least = (min(key(other)[0] for other in before) for _, key in RESPECTS)
    return any(
        key(one)[0] <= _WORTH * cost and cost > 0
        for (_, key), cost in zip(RESPECTS, least, strict=True)
    )
