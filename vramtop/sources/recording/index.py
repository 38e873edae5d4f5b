"""When each snapshot of a recording was taken, found without decoding any."""

from __future__ import annotations

import json
import math
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from .reader import Reader

MAX_SNAPSHOTS: Final = 1_000_000
_LONGEST_GAP_S: Final = 60.0
"""The longest period there is; more was not recorded, and nobody waits for it."""
_TAKEN_AT: Final = re.compile(rb'\{"taken_at":([0-9.e+]{1,40})[,}]')


@dataclass(frozen=True, slots=True)
class Index:
    """Positions of the snapshots in seconds since the first, silence beyond a minute left out."""

    positions_s: array[float]
    ending: str

    def __len__(self) -> int:
        return len(self.positions_s)

    @property
    def length_s(self) -> float:
        """Position of the last snapshot."""
        return self.positions_s[-1] if self.positions_s else 0.0


def scan(reader: Reader, wants_on: Callable[[], bool] = lambda: True) -> Index:
    """Index what a reader has before it, for as long as ``wants_on`` says so."""
    positions_s = array("d")
    before: float | None = None
    position_s = 0.0
    while len(positions_s) < MAX_SNAPSHOTS and wants_on():
        line = reader.next_line()
        if line is None:
            break
        at = _taken_at(line)
        if at is None:
            reader.refuse("a snapshot without a time")
            break
        if before is not None:
            position_s += min(max(at - before, 0.0), _LONGEST_GAP_S)
        before = at
        positions_s.append(position_s)
    else:
        return Index(positions_s, f"only its first {len(positions_s)} snapshots are read")
    return Index(positions_s, reader.ending or "")


def _taken_at(line: bytes) -> float | None:
    found = _TAKEN_AT.match(line)
    try:
        value = float(found[1] if found else json.loads(line)["taken_at"])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return None
    return value if math.isfinite(value) else None
