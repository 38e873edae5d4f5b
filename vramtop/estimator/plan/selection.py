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
    """The best of each arithmetic in each respect, ordered by arithmetic, then by time.

    An arithmetic that departs from the wanted one is left out where it buys nothing.
    """
    chosen: list[Configuration] = []
    ordered = sorted(front, key=lambda one: one.arithmetic.severity)
    for severity, group in groupby(ordered, key=lambda one: one.arithmetic.severity):
        members = list(group)
        if severity and not _buys(members, chosen):
            continue
        best = [min(members, key=key) for _, key in RESPECTS]
        unique = {id(one): one for one in best}.values()
        chosen += sorted(unique, key=_by_time)
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


def _buys(members: list[Configuration], before: list[Configuration]) -> bool:
    if not before:
        return True
    for _, key in RESPECTS:
        least = min(key(one)[0] for one in before)
        if min(key(one)[0] for one in members) <= _WORTH * least and least > 0:
            return True
    return False
