"""A map of verdicts: cells with a glyph, a share and a colour each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .blocks import Run

CELL: Final = 7
"""Characters of a cell: a mark, a glyph, four digits, a mark."""
GLYPHS: Final = {"fits": "✓", "tight": "~", "oom": "×"}
ASCII_GLYPHS: Final = {"fits": "+", "tight": "~", "oom": "x"}
_TONES: Final = {"fits": "good", "tight": "warn", "oom": "error"}


def heat_row(
    squares: Sequence[tuple[str, float] | None],
    cursor: int | None = None,
    present: int | None = None,
    ascii: bool = False,  # noqa: A002
) -> list[Run]:
    """One row of cells: (verdict, share of what can be used), None where there is none.

    The cursor's cell stands in brackets, the present one beside a diamond.
    """
    glyphs = ASCII_GLYPHS if ascii else GLYPHS
    row = []
    for column, square in enumerate(squares):
        left, right = ("[", "]") if column == cursor else (" ", " ")
        if column == present:
            left = "*" if ascii else "◆"
            right = "]" if column == cursor else right
        if square is None:
            row.append(Run("dim", f"{left}{'-' if ascii else '–':^5}{right}", None))
            continue
        verdict, share = square
        text = f"{left}{glyphs[verdict]}{_share(share):>4}{right}"
        row.append(Run(_TONES[verdict], text, None))
    return row


def _share(share: float) -> str:
    """At most four characters: 87%, 130%, 12x."""
    percent = round(100 * share)
    if percent < 1000:
        return f"{percent}%"
    times = round(share)
    return f"{times}x" if times < 1000 else ">1kx"
