"""Stacked horizontal bars of block glyphs, with a glyph per part where there is no colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

_MONO_GLYPHS: Final = "█▓▒░▚·▪×? "
_ASCII_GLYPHS: Final = "#=+:-.ox? "
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"


class Run(NamedTuple):
    """Neighbouring cells of one style."""

    key: str
    """The part in whose colour the glyphs are drawn."""
    text: str
    under: str | None
    """The part whose colour is the background, where two meet in one cell."""


def part_glyph(position: int, ascii: bool = False) -> str:  # noqa: A002
    """The glyph of the part at a position of the bar, without colour; for bars and legends."""
    glyphs = _ASCII_GLYPHS if ascii else _MONO_GLYPHS
    return glyphs[position % len(glyphs)]


def stacked_bar(
    parts: Sequence[tuple[str, float]],
    width: int,
    ascii: bool = False,  # noqa: A002
    mono: bool = False,
) -> list[Run]:
    """A bar of exactly ``width`` cells for parts of any unit; none negative.

    With colour, parts meet at eighths of a cell. With ``mono`` or ``ascii`` each part has the
    glyph of its position, so parts that are 0 must stay in the list. A part worth an eighth of a
    cell or more is visible while there are cells enough. Without any part the bar is empty: [].
    """
    total = sum(size for _, size in parts)
    if width <= 0 or total <= 0:
        return []
    shares = [max(size, 0.0) * width / total for _, size in parts]
    if mono or ascii:
        return [
            Run(key, part_glyph(position, ascii) * cells, None)
            for position, ((key, _), cells) in enumerate(
                zip(parts, _whole_cells(shares, width), strict=True)
            )
            if cells
        ]
    return [
        Run(key, "█" * cells, None)
        for (key, _), cells in zip(parts, _whole_cells(shares, width), strict=True)
        if cells
    ]


def _whole_cells(shares: Sequence[float], width: int) -> list[int]:
    """Round shares that sum to ``width`` to whole cells by largest remainder.

    Shares from an eighth of a cell up get one cell, taken from those rounded up most.
    """
    cells = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: cells[i] - shares[i])
    for i in by_remainder[: width - sum(cells)]:
        cells[i] += 1
    for i in sorted(range(len(shares)), key=lambda i: -shares[i]):
        if cells[i] or shares[i] < 1 / 8:
            continue
        giver = max(range(len(shares)), key=lambda j: (cells[j] > 1, cells[j] - shares[j]))
        if cells[giver] <= 1:
            break
        cells[giver] -= 1
        cells[i] = 1
    return cells
