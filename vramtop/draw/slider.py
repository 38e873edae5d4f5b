"""A slider's track: how far it is pushed, and where memory ends on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from .blocks import Run

DONE: Final = "done"
"""Key of the track up to the knob."""
KNOB: Final = "knob"
REST: Final = "rest"
"""Key of the track behind the knob."""
BEYOND: Final = "beyond"
"""Key of what is behind the limit, up to the knob or not."""

_GLYPHS: Final = {DONE: "━", KNOB: "●", REST: "─", BEYOND: "╳"}
_ASCII: Final = {DONE: "=", KNOB: "O", REST: "-", BEYOND: "x"}


def column_of(share: float, width: int) -> int:
    """The cell of a place on the track, from 0; ``share`` is 0 at its begin, 1 at its end."""
    return round(min(max(share, 0.0), 1.0) * (width - 1))


def share_of(column: int, width: int) -> float:
    """The place of a cell; the inverse of ``column_of``."""
    return min(max(column / max(width - 1, 1), 0.0), 1.0)


def log_share(value: float, low: float, high: float) -> float:
    """Where a value is between two others, 0 to 1, each doubling equally long; low ≥ 1."""
    if high <= low:
        return 0.0
    return min(max(math.log(max(value, low) / low) / math.log(high / low), 0.0), 1.0)


def nearest(values: Sequence[float], share: float) -> int:
    """Index of the value that is closest to a place on a logarithmic track from first to last."""
    low, high = values[0], values[-1]
    return min(range(len(values)), key=lambda i: abs(log_share(values[i], low, high) - share))


def slider(
    share: float,
    width: int,
    limit: float | None = None,
    ascii: bool = False,  # noqa: A002
) -> list[Run]:
    """Exactly ``width`` cells with the knob at ``share``; behind ``limit`` the track is crossed.

    ``limit`` is the place of the last value that is possible, below 0 where none is.
    """
    if width <= 0:
        return []
    glyphs = _ASCII if ascii else _GLYPHS
    knob = column_of(share, width)
    end = width - 1 if limit is None else (column_of(limit, width) if limit >= 0 else -1)
    keys = []
    for column in range(width):
        if column == knob:
            keys.append(KNOB)
        elif column > end:
            keys.append(BEYOND)
        else:
            keys.append(DONE if column < knob else REST)
    runs: list[Run] = []
    for key in keys:
        if runs and runs[-1].key == key:
            runs[-1] = Run(key, runs[-1].text + glyphs[key], None)
        else:
            runs.append(Run(key, glyphs[key], None))
    return runs
