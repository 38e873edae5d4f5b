"""Help of the batch explorer: its keys and its marks."""

from __future__ import annotations

from typing import Final

from textual.strip import Strip

from ...core.fleet import Fleet
from ..frame import Frame, View
from ..paint import fit, line
from ..theme import Ink
from .overlay import OverlayScreen

_TEXTS: Final = (
    ("← → h l", "a batch less or more; in the map a square"),
    ("⇧← ⇧→ pgdn pgup", "a tenth of the axis; home and end: the first, the last"),
    ("↑ ↓ k j", "a longer or a shorter sequence, by formula"),
    ("m", "to the largest batch that runs"),
    ("space", "climb to the cliff and over it; pause, go on"),
    ("v tab", "the map of batch and sequence, or the curve"),
    ("x", "swap the axes of the map"),
    ("enter", "the waterfall of the point: its phases, its totals, what the peak is made of"),
    ("e", "what-if with the batch and the tokens of this point; u there undoes it"),
    ("esc b", "back"),
    ("q", "leave vramtop"),
    ("", ""),
    ("▲", "the cursor; a click moves it"),
    ("◆", "the batch that was asked for, or that the process has now"),
    ("● ○", "peaks seen live, at this and at another sequence length"),
    ("━", "the ceiling: what the process can use, other processes' share taken off"),
    ("┃ ╱ ▒", "the cliff, and beyond it what does not run"),
    ("✓ ~ ×", "fits, tight (within the uncertainty), out of memory"),
)


class ExplorerHelp(OverlayScreen):
    """Keys and marks."""

    TITLE_TEXT = "Keys of the batch explorer"

    def __init__(self, ink: Ink) -> None:
        super().__init__(Frame(Fleet(), View(), ink))

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """A line each."""
        ink = frame.ink
        return [
            line([(fit(keys, 18), ink("warn")), (text, ink("text"))], width, ink("text"))
            for keys, text in _TEXTS
        ]
