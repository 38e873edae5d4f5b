"""A slider's track: how far it is pushed, and where memory ends on it."""

from __future__ import annotations

import math
from itertools import groupby
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


def slider(
    share: float,
    width: int,
    limit: float | None = None,
    ascii: bool = False,  # noqa: A002
) -> list[Run]:
    """Exactly ``width`` cells with the knob at ``share`` of the track, 0 to 1.

    Behind ``limit``, the share of the last value that is possible, the track is crossed; where
    that is below 0, all of it.
    """
    if width <= 0:
        return []
    glyphs = _ASCII if ascii else _GLYPHS
    knob = _column(share, width)
    end = width - 1
    if limit is not None:
        end = _column(limit, width) if limit >= 0 else -1

    def key_of(column: int) -> str:
        if column == knob:
            return KNOB
        if column > end:
            return BEYOND
        return DONE if column < knob else REST

    runs = ((key, len(list(cells))) for key, cells in groupby(range(width), key_of))
    return [Run(key, glyphs[key] * length, None) for key, length in runs]


def share_at(column: int, width: int) -> float:
    """The place on the track that a cell stands for; cells beside it are its ends."""
    return min(max(column / max(width - 1, 1), 0.0), 1.0)


def log_share(value: float, low: float, high: float) -> float:
    """Where a value is between two others, 0 to 1, each doubling equally long; ``low`` above 0."""
    if high <= low:
        return 0.0
    return min(max(math.log(max(value, low) / low) / math.log(high / low), 0.0), 1.0)


def _column(share: float, width: int) -> int:
    return round(min(max(share, 0.0), 1.0) * (width - 1))
