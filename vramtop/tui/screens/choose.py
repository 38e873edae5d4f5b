"""A list to choose one value from, shorter with every word that is typed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from ..paint import Piece, fit, line
from ..theme import ink_of
from ..widgets.canvas import Canvas

_MOST_LINES: Final = 16
_PAGE: Final = 8


class ChooseScreen(ModalScreen[int | None]):
    """Gives the position of the chosen text, None where the user left it as it was."""

    DEFAULT_CSS = """
    ChooseScreen { align: center middle; background: $background 60%; }
    #choose {
        width: auto; min-width: 30; max-width: 90%; height: auto; max-height: 90%;
        border: round $accent; background: $background;
    }
    #choose-filter { height: 1; border: none; padding: 0 1; background: $panel; }
    #choose-filter:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,ctrl+c", "leave", show=False),
        Binding("up", "move(-1)", show=False),
        Binding("down", "move(1)", show=False),
        Binding("pageup", f"move(-{_PAGE})", show=False),
        Binding("pagedown", f"move({_PAGE})", show=False),
    ]

    def __init__(
        self, title: str, texts: Sequence[str], position: int, words: Sequence[str] | None = None
    ) -> None:
        """``words`` are what the filter looks through, where that is more than the texts."""
        super().__init__()
        self._title = title
        self._texts = texts
        self._words = [word.lower() for word in words or texts]
        self._position = max(position, 0)
        """Of the text under the cursor."""
        self._matches = list(range(len(texts)))
        self._top = self._position - _MOST_LINES // 2

    def compose(self) -> ComposeResult:
        """The filter over the list (called by textual)."""
        with Vertical(id="choose"):
            field = Input(placeholder="type to filter", id="choose-filter", select_on_focus=False)
            field.cursor_blink = False  # a blinking cursor repaints twice a second
            yield field
            yield Canvas(id="choose-list")

    def on_mount(self) -> None:
        """Paint the list."""
        self.query_one("#choose").border_title = self._title
        canvas = self.query_one("#choose-list", Canvas)
        canvas.styles.width = min(max(map(cell_len, self._texts)) + 5, 90)
        self._paint()

    def on_resize(self) -> None:
        """As many lines as there is room for."""
        self._paint()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Keep what has every word; the cursor stays on its text while that matches."""
        wanted = event.value.lower().split()
        self._matches = [
            index
            for index, words in enumerate(self._words)
            if all(word in words for word in wanted)
        ]
        if self._matches and self._position not in self._matches:
            self._position = self._matches[0]
        self._paint()

    def on_input_submitted(self) -> None:
        """Take what is under the cursor."""
        self.dismiss(self._position if self._matches else None)

    def action_leave(self) -> None:
        """Leave it as it was."""
        self.dismiss(None)

    def action_move(self, by: int) -> None:
        """Move the cursor over what matches."""
        if self._matches:
            at = self._matches.index(self._position) + by
            self._position = self._matches[min(max(at, 0), len(self._matches) - 1)]
            self._paint()

    def on_mouse_scroll_down(self) -> None:
        """Move on."""
        self.action_move(1)

    def on_mouse_scroll_up(self) -> None:
        """Move back."""
        self.action_move(-1)

    def on_click(self, event: events.Click) -> None:
        """Take the line that was clicked; beside the box nothing."""
        region = self.query_one("#choose-list").content_region
        if region.contains(event.screen_x, event.screen_y):
            at = self._top + event.screen_y - region.y
            if at < len(self._matches):
                self.dismiss(self._matches[at])
        elif not self.query_one("#choose").region.contains(event.screen_x, event.screen_y):
            self.dismiss(None)

    def _paint(self) -> None:
        ink, canvas = ink_of(self.app), self.query_one("#choose-list", Canvas)
        room = max(min(_MOST_LINES, self.app.size.height - 6), 1)
        height = min(len(self._texts), room)
        canvas.styles.height = height
        at = self._matches.index(self._position) if self._matches else 0
        self._top = min(max(self._top, at - height + 1), at)
        self._top = max(min(self._top, len(self._matches) - height), 0)
        width = min(max(map(cell_len, self._texts)) + 5, 90)
        strips = []
        for index in self._matches[self._top : self._top + height]:
            on = "selected" if index == self._position else "background"
            pieces: list[Piece] = [
                ("▌ " if index == self._position else "  ", ink("accent", on)),
                (fit(self._texts[index], width - 3), ink("text", on)),
            ]
            strips.append(line(pieces, width, ink("text", on)))
        if not self._matches:
            strips.append(line([("  nothing matches", ink("dim"))], width, ink("dim")))
        canvas.paint(strips)
