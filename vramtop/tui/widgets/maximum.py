"""The largest micro-batch in big digits, what it is, and the effective batches it makes."""

from __future__ import annotations

from typing import Final

from textual.strip import Strip

from ...draw.digits import big_digits
from ...estimator.explore_words import (
    effective_words,
    maximum_digits,
    maximum_words,
    method_words,
    sure_words,
)
from ..paint import Piece, fit, line
from ..picture import Picture
from .picture_canvas import PictureCanvas

_LARGE: Final = 5
"""Lines that large digits need."""


class Maximum(PictureCanvas):
    """Three lines, or five."""

    def draw(self, picture: Picture) -> None:
        """Paint it."""
        ink, width, sweep = picture.ink, self.size.width, picture.sweep
        digits = big_digits(maximum_digits(sweep), large=self.size.height >= _LARGE)
        tone = "good" if sweep.safe else "warn" if sweep.largest else "error"
        if sweep.largest is None:
            tone = "dim"
        footprint = picture.explored.footprint(picture.place)
        exploration = picture.exploration
        method = method_words(footprint, sweep.workload.parallel.gpus)
        if exploration.progress:
            method += f", {exploration.progress}"
        elif exploration.untraced:
            method += f", {exploration.untraced}"
        sure = sure_words(sweep)
        said: list[tuple[str, str, bool]] = [
            (maximum_words(sweep), "text", True),
            (" · ".join(part for part in (sure, method) if part), "dim", False),
        ]
        ways = picture.explored.accumulations(picture.place)
        room = width - len(digits[0]) - 6
        if text := effective_words(ways, room):
            said.append((text, "accent", False))
        strips: list[Strip] = []
        for y, drawn in enumerate(digits):
            text, its_tone, bold = said[y] if y < len(said) else ("", "dim", False)
            pieces: list[Piece] = [
                (f"  {drawn}   ", ink(tone, bold=True)),
                (fit(text, max(width - len(drawn) - 6, 0)), ink(its_tone, bold=bold)),
            ]
            strips.append(line(pieces, width, ink("text")))
        self.paint(strips)
