"""Stacked horizontal bars of block glyphs, with a glyph per part where there is no colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

_MONO_GLYPHS: Final = "█▓▒░ita?·▚o▪≡× "
_ASCII_GLYPHS: Final = "#=+:ita?.%op_x "
_LEFT_EIGHTHS: Final = " ▏▎▍▌▋▊▉"


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
    sizes = [max(size, 0.0) for _, size in parts]
    if width <= 0 or sum(sizes) <= 0:
        return []
    if mono or ascii:
        cells = _apportion(sizes, width, least=1)
        return [
            Run(key, part_glyph(position, ascii) * count, None)
            for position, ((key, _), count) in enumerate(zip(parts, cells, strict=True))
            if count
        ]
    runs: list[Run] = []
    begun, key_before = 0, ""  # eighths of a cell that the part before has begun
    for (key, _), eighths in zip(parts, _apportion(sizes, 8 * width, least=8), strict=True):
        if not eighths:
            continue
        if begun:
            # A part is a whole cell at least, so it fills up what was begun.
            runs.append(Run(key_before, _LEFT_EIGHTHS[begun], key))
        whole, begun = divmod(begun + eighths - 8 * bool(begun), 8)
        if whole:
            runs.append(Run(key, "█" * whole, None))
        key_before = key
    return runs


def _apportion(sizes: Sequence[float], room: int, least: int) -> list[int]:
    """Share ``room`` units by largest remainder; ``least`` units are a cell.

    What is worth an eighth of a cell gets a whole one, at the expense of the largest. Where there
    are more such parts than cells, the smallest go without.
    """
    scale = room / sum(sizes)
    shares = [size * scale for size in sizes]
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    # The largest is always worth showing, whatever the number of the others.
    seen = [i for i in order if shares[i] >= least / 8 or i == order[0]][: room // least]
    units = [0] * len(sizes)
    for i in seen:
        units[i] = max(int(shares[i]), least)
    missing = room - sum(units)
    for i in sorted(seen, key=lambda i: units[i] - shares[i])[: max(missing, 0)]:
        units[i] += 1
        missing -= 1
    units[order[0]] += max(missing, 0)
    for _ in range(-missing):
        units[max(seen, key=units.__getitem__)] -= 1
    return units
