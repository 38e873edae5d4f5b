"""Turning texts and rasters into strips of exactly the width asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from ..core.texts import printable as printable  # noqa: PLC0414  panes paint with it
from ..draw.area import Cell
from ..draw.blocks import Run, part_glyph, stacked_bar
from .theme import RASTER_TONES, SEGMENT_POSITIONS, TEXTURES, Ink

Piece = tuple[str, Style]


def fit(text: str, width: int, *, right: bool = False) -> str:
    """Exactly ``width`` cells, cut with an ellipsis or filled with spaces."""
    if width <= 0:
        return ""
    text = printable(text)
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, width - 1) + "…"
    space = " " * (width - length)
    return space + text if right else text + space


def line(pieces: Iterable[Piece], width: int, fill: Style) -> Strip:
    """One line of ``width`` cells; what does not fit is cut at the right."""
    width = max(width, 0)
    segments = [Segment(text, style) for text, style in pieces if text]
    room = width - sum(len(segment.text) for segment in segments)
    is_wide = any(not text.isascii() and cell_len(text) != len(text) for text, _, _ in segments)
    if is_wide or room < 0:
        return Strip(segments).adjust_cell_length(width, fill)
    if room:
        segments.append(Segment(" " * room, fill))
    return Strip(segments, width)  # strips are dear to make: one, not one and its extension


def swatch(key: str, ink: Ink, on: str = "background") -> Piece:
    """A mark in a segment's colour, or with its glyph where there are no colours."""
    return (glyph(key, ink) if ink.mono else TEXTURES.get(key, "■"), ink(key, on))


def glyph(key: str, ink: Ink) -> str:
    """What a segment's cells are filled with."""
    if ink.mono and key in SEGMENT_POSITIONS:
        return part_glyph(SEGMENT_POSITIONS[key])
    return TEXTURES.get(key, "█")


def _textured(text: str, key: str | None) -> str:
    """Whole blocks of what is hatched become its hatching."""
    return text.replace("█", TEXTURES[key]) if key in TEXTURES else text


def bar(parts: Sequence[tuple[str, float]], width: int, ink: Ink) -> list[Piece]:
    """A stacked bar over segment keys; empty space where nothing is known."""
    runs = stacked_bar(parts, width, mono=ink.mono)
    if not runs:
        return [("·" * width, ink("rule"))]
    return styled(runs, ink)


def styled(runs: Sequence[Run], ink: Ink) -> list[Piece]:
    """Runs over segment keys and what else rasters draw, in their colours."""
    return [
        (
            run.text if ink.mono else _textured(run.text, run.key),
            ink(RASTER_TONES.get(run.key, run.key), run.under or "background"),
        )
        for run in runs
    ]


def cells(row: Sequence[Cell], keys: Sequence[str], ink: Ink) -> list[Piece]:
    """A row of an area chart whose layers are these segment keys."""
    pieces: list[Piece] = []
    text = ""
    before: tuple[int | None, int | None] = (None, None)
    for char, fg, bg in [*row, Cell("", -1, -1)]:
        if (fg, bg) != before:
            if text:
                key = keys[before[0]] if before[0] is not None and not ink.mono else None
                pieces.append((_textured(text, key), _cell_style(*before, keys, ink)))
            text, before = "", (fg, bg)
        text += char
    return pieces


def _cell_style(fg: int | None, bg: int | None, keys: Sequence[str], ink: Ink) -> Style:
    return ink("dim" if fg is None else keys[fg], "background" if bg is None else keys[bg])
