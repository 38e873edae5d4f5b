"""A box of lines over the main screen; help, details and problems are made of it."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.strip import Strip

from ..frame import Frame
from ..panes.base import Pane


class OverlayPane(Pane):
    """The lines themselves; the screen fills them."""

    NAME = "overlay"
    FITS_ITS_LINES = True
    number = 0

    def __init__(self, screen: OverlayScreen) -> None:
        super().__init__()
        self._owner = screen
        self.TITLE = screen.TITLE_TEXT  # type: ignore[misc]

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:  # noqa: ARG002
        """The screen's lines."""
        return self._owner.lines(frame, width)


class OverlayScreen(ModalScreen[None]):
    """Scrolls; any of the usual keys closes it."""

    TITLE_TEXT: ClassVar[str]
    DEFAULT_CSS = """
    OverlayScreen { align: center middle; background: $background 60%; }
    #overlay {
        width: 90%; max-width: 104; max-height: 92%;
        border: round $accent; padding: 0 1; background: $background;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(key, "dismiss", show=False)
            for key in ("escape", "q", "enter", "question_mark", "f1", "p")
        ),
        *(
            Binding(key, f"scroll('{to}')", show=False)
            for to, keys in {
                "up": ("up", "k"),
                "down": ("down", "j"),
                "page_up": ("pageup",),
                "page_down": ("pagedown",),
                "first": ("home", "g"),
                "last": ("end", "G"),
            }.items()
            for key in keys
        ),
    ]

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self._frame = frame

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """What the box shows."""
        raise NotImplementedError

    def compose(self) -> ComposeResult:
        """One pane (called by textual)."""
        yield OverlayPane(self)

    def on_mount(self) -> None:
        """Show what was given."""
        self.show(self._frame)

    def show(self, frame: Frame) -> None:
        """Show this frame."""
        self.query_one(OverlayPane).show(frame)

    def action_scroll(self, to: str) -> None:
        """Scroll."""
        self.query_one(OverlayPane).move(to)
