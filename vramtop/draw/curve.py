"""A stacked area over the batch with its ceiling, and the region beyond the cliff."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final, NamedTuple

from .area import stacked_area
from .blocks import Run
from .scale import nice_top

BEYOND: Final = "beyond"
"""Key of the hatching where nothing runs."""
OVER: Final = "over"
"""Key of what would be held there."""
LIMIT: Final = "limit"
"""Key of the ceiling."""
EDGE: Final = "edge"
"""Key of the cliff."""
CURSOR: Final = "cursor"
AHEAD: Final = "ahead"
"""Key of the surface where the area is not drawn yet."""
OOM: Final = " OOM "


_MOST_OVER: Final = 1.6
"""Of the ceiling: how far up a picture goes at most."""
_LEAST_OVER: Final = 1.15
_LOW: Final = 0.25
"""Curves that stay below this share of the ceiling get a scale of their own."""
_TONES: Final = {
    "": "text",
    BEYOND: "error",
    OVER: "error",
    LIMIT: "warn",
    EDGE: "error",
    CURSOR: "accent",
    AHEAD: "dim",
}
"""What is no layer, whose keys are tones themselves."""


class Dot(NamedTuple):
    """One cell: a glyph in the colour of a key, on that of another one, "" the screen's."""

    glyph: str
    key: str
    on: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """What is drawn; bytes or any other unit."""

    columns: Sequence[Sequence[float]]
    """Layers of each column, from the bottom up."""
    keys: Sequence[str]
    """Tones of the layers."""
    top: float
    """Value at the upper edge."""
    ceiling: float | None = None
    beyond_from: int | None = None
    """First column of what does not run."""
    glyphs: Sequence[str] = ()
    """Of the layers where there is no colour; empty with colours."""
    cursor: int | None = None
    drawn_to: int | None = None
    """First column of which only the surface is shown; None: all is drawn."""


def curve(
    what: Curve,
    height: int,
    ascii: bool = False,  # noqa: A002
) -> list[list[Dot]]:
    """``height`` rows of a cell for each column, highest first."""
    if height <= 0 or not what.columns:
        return [[] for _ in range(height)]
    plain = bool(what.glyphs)
    area = stacked_area(what.columns, height, what.top, mono=plain, ascii=False)
    beyond = len(what.columns) if what.beyond_from is None else what.beyond_from
    drawn_to = len(what.columns) if what.drawn_to is None else what.drawn_to
    limit = None if what.ceiling is None else row_of(what.ceiling, height, what.top)
    rows: list[list[Dot]] = []
    for y, cells in enumerate(area):
        row = []
        for x, cell in enumerate(cells):
            is_held = cell.fg is not None
            above_is_held = y > 0 and area[y - 1][x].fg is not None
            if y == limit:  # what runs does not reach above it
                dot = Dot("=" if ascii else "━", LIMIT)
            elif x >= beyond:
                dot = _beyond(is_held and x < drawn_to, ascii)
            elif is_held and x >= drawn_to:
                dot = Dot(" " if above_is_held else "." if ascii else "·", AHEAD)
            elif is_held:
                dot = _layer(what, cell.glyph, cell.fg, cell.bg)
                if x == what.cursor and dot.glyph == "█" and not plain:
                    dot = Dot("│", "text", dot.key)
            elif x == what.cursor:
                dot = Dot(":" if ascii else "┊", CURSOR)
            else:
                dot = Dot(" ", "")
            row.append(dot)
        rows.append(row)
    _edge_and_word(what, rows, beyond, limit, ascii)
    return rows


def scale(largest: float, ceiling: float | None, has_cliff: bool) -> tuple[float, float | None]:
    """The upper edge for bytes up to ``largest``, and the ceiling where it is in the picture."""
    if ceiling is None or (not has_cliff and largest < _LOW * ceiling):
        return float(nice_top(largest * 1.05)), None
    return min(max(largest * 1.02, ceiling * _LEAST_OVER), ceiling * _MOST_OVER), ceiling


def row_of(value: float, height: int, top: float) -> int:
    """The row, from the top, in which a value lies."""
    if top <= 0:
        return height - 1
    return min(max(int((top - value) / top * height), 0), height - 1)


def put(rows: list[list[Dot]], y: int, x: int, text: str, key: str, on: str = "") -> None:
    """Write over a picture; what lies outside is cut."""
    if 0 <= y < len(rows):
        row = rows[y]
        for place, glyph in enumerate(text, x):
            if 0 <= place < len(row):
                row[place] = Dot(glyph, key, on)


def runs(row: Sequence[Dot]) -> list[Run]:
    """A row as runs of one tone."""
    return [
        Run(tone, "".join(dot.glyph for dot in dots), on or None)
        for (tone, on), dots in groupby(row, key=_tones)
    ]


def _tones(dot: Dot) -> tuple[str, str]:
    return _TONES.get(dot.key, dot.key), dot.on


def _beyond(is_held: bool, ascii: bool) -> Dot:  # noqa: A002
    if is_held:
        return Dot("X" if ascii else "╳", OVER)
    return Dot("/" if ascii else "╱", BEYOND)


def _layer(what: Curve, glyph: str, fg: int | None, bg: int | None) -> Dot:
    key = "" if fg is None else what.keys[fg]
    if what.glyphs and fg is not None:
        glyph = what.glyphs[fg]
    return Dot(glyph, key, "" if bg is None else what.keys[bg])


def _edge_and_word(
    what: Curve,
    rows: list[list[Dot]],
    beyond: int,
    limit: int | None,
    ascii: bool,  # noqa: A002
) -> None:
    width = len(what.columns) - beyond
    if width <= 0:
        return
    for y in range(len(rows)):
        put(rows, y, beyond, "|" if ascii else "┃", EDGE)
    word = OOM if width - 1 >= len(OOM) else OOM.strip()
    if width - 1 >= len(word):
        y = (len(rows) if limit is None else limit) // 2
        if y == limit:
            y = min(y + 1, len(rows) - 1)
        put(rows, y, beyond + 1 + (width - 1 - len(word)) // 2, word, EDGE)
