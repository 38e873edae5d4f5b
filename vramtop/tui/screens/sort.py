"""Choosing the column to sort by: a letter, or the same one again to turn the order round."""

from __future__ import annotations

from typing import Final

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen

from ...core.rows import PROCESS_COLUMNS
from ..frame import Frame
from ..paint import Piece, fit, line
from ..widgets.canvas import Canvas

LETTERS: Final = {
    "m": "memory",
    "a": "allocated",
    "r": "reserved",
    "k": "peak",
    "l": "largest",
    "s": "rate",
    "p": "pid",
    "u": "user",
    "x": "command",
    "d": "device",
    "t": "kind",
    "b": "probe",
    "n": "rank",
    "c": "cpu",
    "h": "rss",
}
_TITLES: Final = {column.key: column.title.lower() for column in PROCESS_COLUMNS}


class SortScreen(ModalScreen[str | None]):
    """Gives the column's key, None when the user left it as it was."""

    DEFAULT_CSS = """
    SortScreen { align: center middle; background: $background 60%; }
    #sort { width: 26; height: 17; border: round $accent; background: $background; }
    """

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self._frame = frame

    def compose(self) -> ComposeResult:
        """The list of letters (called by textual)."""
        yield Canvas(id="sort")

    def on_mount(self) -> None:
        """Paint the list."""
        ink, view = self._frame.ink, self._frame.view
        canvas = self.query_one(Canvas)
        canvas.border_title = "Sort by"
        strips = []
        for letter, key in LETTERS.items():
            mark = ("▼" if view.descending else "▲") if key == view.sort_key else " "
            pieces: list[Piece] = [
                (f"  {letter}  ", ink("warn", bold=True)),
                (fit(_TITLES[key], 14), ink("accent" if mark != " " else "text")),
                (mark, ink("accent")),
            ]
            strips.append(line(pieces, 24, ink("text")))
        canvas.paint(strips)

    def on_key(self, event: events.Key) -> None:
        """A letter chooses; any other key leaves things as they are."""
        event.stop()
        event.prevent_default()
        self.dismiss(LETTERS.get(event.character or ""))

    def on_click(self, event: events.Click) -> None:
        """Choose the line that was clicked; beside the box nothing."""
        canvas = self.query_one(Canvas)
        y = event.screen_y - canvas.content_region.y
        inside = canvas.content_region.contains(event.screen_x, event.screen_y)
        self.dismiss(list(LETTERS.values())[y] if inside else None)
