"""The line to type a filter into; hidden while there is none."""

from __future__ import annotations

from textual.widgets import Input


class FilterField(Input):
    """Tells what is typed with textual's ``Input.Changed`` and ``Input.Submitted``."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(
            placeholder="filter: pid, user, command, device, probe state",
            select_on_focus=False,  # coming back is to add another word
            id=id,
        )
        self.display = False
        self.cursor_blink = False  # a blinking cursor repaints twice a second

    def open(self) -> None:
        """Show it and type into it."""
        self.display = True
        self.focus()

    def clear_and_close(self) -> None:
        """Hide it; everything matches again."""
        self.value = ""
        self.display = False
