"""Places in a recording from which reading can go on: few of all of it, many of what was last."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from ...core.fleet import Fleet
from .reader import Reader

_SPREAD: Final = 48
_RECENT: Final = 24


@dataclass(frozen=True, slots=True)
class Place:
    """After so many snapshots: the fleet then, and a reader of what follows."""

    count: int
    fleet: Fleet
    reader: Reader


class Checkpoints:
    """At most some dozens, whatever the length: as it grows, every other one is given up."""

    def __init__(self, start: Place) -> None:
        self._start = start
        self._spread: dict[int, Place] = {}
        self._every = 1
        self._recent: OrderedDict[int, Place] = OrderedDict()

    def wants(self, count: int, last: int) -> bool:
        """Whether a place is worth its copy of the reader on the way to the ``last`` one."""
        return count % self._every == 0 or last - count < _RECENT

    def keep(self, place: Place) -> None:
        """Remember a place; its reader must not be read any more."""
        self._recent[place.count] = place
        self._recent.move_to_end(place.count)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        if place.count % self._every == 0:
            self._spread[place.count] = place
        while len(self._spread) > _SPREAD:
            self._every *= 2
            self._spread = {n: p for n, p in self._spread.items() if n % self._every == 0}

    def before(self, count: int) -> Place:
        """The nearest place from which to read on to that many snapshots."""
        known = (
            place
            for places in (self._spread, self._recent)
            for place in places.values()
            if place.count <= count
        )
        return max(known, key=lambda place: place.count, default=self._start)
