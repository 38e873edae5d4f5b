"""Numbers in big digits, three or five lines high."""

from __future__ import annotations

from typing import Final

_PIXELS: Final = {
    "0": "### #.# #.# #.# ###",
    "1": ".#. ##. .#. .#. ###",
    "2": "### ..# ### #.. ###",
    "3": "### ..# ### ..# ###",
    "4": "#.# #.# ### ..# ..#",
    "5": "### #.. ### ..# ###",
    "6": "### #.. ### #.# ###",
    "7": "### ..# ..# .#. .#.",
    "8": "### #.# ### #.# ###",
    "9": "### #.# ### ..# ###",
    "+": "... .#. ### .#. ...",
    "–": "... ... ### ... ...",
}
"""Three by five."""
_HALVES: Final = {"..": " ", "#.": "▀", ".#": "▄", "##": "█"}
"""By the upper and the lower pixel of a cell."""


def big_digits(
    text: str,
    large: bool = False,
    ascii: bool = False,  # noqa: A002
) -> list[str]:
    """Lines of equal length that draw a number: 3 of half-blocks, 5 of whole ones if ``large``.

    A digit is 3 cells wide, 6 if ``large``. Characters that have no picture are left out. With
    ``ascii`` there are always five lines.
    """
    glyphs = [_PIXELS[char].split() for char in text if char in _PIXELS]
    rows = [".".join(glyph[y] for glyph in glyphs) for y in range(5)]
    if large or ascii:
        ink = ("#" if ascii else "█") * (2 if large else 1)
        blank = " " * len(ink)
        return ["".join(ink if pixel == "#" else blank for pixel in row) for row in rows]
    rows.append("." * len(rows[0]))
    return [
        "".join(_HALVES[upper + lower] for upper, lower in zip(rows[y], rows[y + 1], strict=True))
        for y in (0, 2, 4)
    ]
