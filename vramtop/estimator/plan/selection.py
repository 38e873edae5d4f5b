"""Of a front, the few configurations worth reading: the best in each respect."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Final

from .pareto import Costs
from .values import Configuration

_WORTH: Final = 0.95
"""Changed arithmetic has to make some cost a twentieth smaller than each quickest before it."""


def _slowdown(one: Configuration) -> float:
    return (1 + one.recomputation) * (1 + one.bubble)


def _zero(one: Configuration) -> int:
    """Of two that cost the same the plainer layout is better."""
    return one.workload.parallel.zero


def _by_time(one: Configuration) -> Costs:
    return (_slowdown(one), one.sent_bytes, one.passes, _zero(one), one.process_bytes)


def _by_memory(one: Configuration) -> Costs:
    return (one.process_bytes, _slowdown(one), one.sent_bytes)


def _by_traffic(one: Configuration) -> Costs:
    return (one.sent_bytes, _slowdown(one), one.passes, _zero(one), one.process_bytes)


def _by_passes(one: Configuration) -> Costs:
    return (one.passes, _slowdown(one), one.sent_bytes, _zero(one), one.process_bytes)


RESPECTS: Final[tuple[tuple[str, Callable[[Configuration], Costs]], ...]] = (
    ("least made again", _by_time),
    ("least sent", _by_traffic),
    ("fewest passes", _by_passes),
    ("least memory", _by_memory),
)
"""In what a configuration can be the best of its group, with what decides among equals."""


def few(front: Iterable[Configuration]) -> list[Configuration]:
    """The best of the least changed arithmetic in each respect, then the quickest of each other.

    An arithmetic that departs further is left out where it buys nothing over one before.
    """
    chosen: list[Configuration] = []
    quickest: list[Configuration] = []
    ordered = sorted(front, key=lambda one: one.arithmetic.severity)
    for _, group in groupby(ordered, key=lambda one: one.arithmetic.severity):
        members = list(group)
        best = min(members, key=_by_time)
        if not chosen:
            respects = [min(members, key=key) for _, key in RESPECTS]
            chosen = sorted({id(one): one for one in respects}.values(), key=_by_time)
        elif all(_buys(best, before) for before in quickest):
            chosen.append(best)
        else:
            continue
        quickest.append(best)
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


def _buys(one: Configuration, other: Configuration) -> bool:
    return any(key(one)[0] <= _WORTH * key(other)[0] and key(other)[0] > 0 for _, key in RESPECTS)
