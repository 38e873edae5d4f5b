"""A slider's track: how far it is pushed, and where memory ends on it."""

from __future__ import annotations

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
    position: int,
    count: int,
    width: int,
    limit: int | None = None,
    ascii: bool = False,  # noqa: A002
) -> list[Run]:
    """Exactly ``width`` cells for ``count`` values, with the knob at the one of that position.

    Behind ``limit``, the position of the last value that is possible, the track is crossed: all of
    it where that is -1.
    """
    if width <= 0:
        return []
    glyphs = _ASCII if ascii else _GLYPHS
    knob = _column(position, count, width)
    end = width - 1
    if limit is not None and limit < count - 1:
        end = _column(limit, count, width) if limit >= 0 else -1

    def key_of(column: int) -> str:
        if column == knob:
            return KNOB
        if column > end:
            return BEYOND
        return DONE if column < knob else REST

    runs = ((key, len(list(cells))) for key, cells in groupby(range(width), key_of))
    return [Run(key, glyphs[key] * length, None) for key, length in runs]


def position_at(column: int, count: int, width: int) -> int:
    """The position whose knob is closest to a cell of the track, also one beside it."""
    share = min(max(column / max(width - 1, 1), 0.0), 1.0)
    return round(share * (count - 1))


def _column(position: int, count: int, width: int) -> int:
    return round(position / max(count - 1, 1) * (width - 1))
