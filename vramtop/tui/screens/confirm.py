"""The question before something is done to a process: what, to whom. Cancel is the default."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from ...core.model import Process
from ...core.units import NOT_AVAILABLE
from ..paint import printable


class ConfirmScreen(ModalScreen[bool]):
    """Gives True when it shall be done."""

    DEFAULT_CSS = """
    ConfirmScreen { align: center middle; background: $background 60%; }
    #confirm {
        width: 90%; max-width: 70; height: auto; border: round $error;
        background: $background; padding: 0 2;
    }
    #confirm Static { height: auto; max-height: 6; }
    #confirm #more { max-height: 9; }
    #confirm Horizontal { height: auto; align-horizontal: right; margin-top: 1; }
    #confirm Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n,q", "answer(False)", show=False),
        Binding("y", "answer(True)", show=False),
        Binding("left,right,h,l", "app.focus_next", show=False),
    ]
    AUTO_FOCUS = "#cancel"

    def __init__(self, process: Process, question: str, answer: str, more: str = "") -> None:
        """``answer`` is what the button says; ``more`` follows the question's who."""
        super().__init__()
        self._process = process
        self._question = question
        self._answer = answer
        self._more = more

    def compose(self) -> ComposeResult:
        """Who it is, and the two answers (called by textual)."""
        process = self._process
        with Vertical(id="confirm"):
            said = (
                f"{self._question}\n\n"
                f"pid      {process.pid}\n"
                f"user     {process.user or NOT_AVAILABLE}\n"
                f"command  {printable(process.command or NOT_AVAILABLE)}"
            )
            yield Static(said, markup=False)
            if self._more:
                yield Static(f"\n{self._more}", markup=False, id="more")
            with Horizontal():
                yield Button("Cancel", id="cancel", compact=True)
                yield Button(self._answer, id="send", variant="error", compact=True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """An answer by mouse, or by enter on the button in focus."""
        self.dismiss(event.button.id == "send")

    def action_answer(self, is_yes: bool) -> None:
        """An answer by key."""
        self.dismiss(is_yes)
