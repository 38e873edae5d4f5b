"""The lower part of the main screen: panes about the selected process, some sharing a place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from textual.containers import Container

from ..panes.base import Pane

_TWO_FROM_WIDTH: Final = 110
_FOUR_FROM_HEIGHT: Final = 40

_ENDS: Final = {1: (None,), 2: (1, None), 4: (1, 2, 3, None)}
"""By the number of places, where the panes of each end; those of the last take turns in it."""
_IN_FRONT: Final = {4: "predicted"}
"""By the number of places, the pane that is there before another is asked for, where it is not the
first: with breakdown and timeline in sight, whether the memory is what it should be."""


class Lower(Container):
    """Shows in each place the pane that was asked for last; its title leads to the others."""

    def __init__(self, panes: Sequence[Pane], *, first: str, id: str | None = None) -> None:  # noqa: A002
        """``first`` is the name of the pane that was asked for before all others."""
        super().__init__(*panes, id=id)
        self.panes = tuple(panes)
        self._asked = [pane for pane in panes if pane.NAME == first]

    def bring(self, pane: Pane) -> None:
        """Show a pane in its place; nothing to do for one that is elsewhere."""
        if pane in self.panes and pane not in self._asked[:1]:
            self._asked = [pane, *(other for other in self._asked if other is not pane)]
            self.settle()

    def settle(self) -> None:
        """Give every pane its place, or none."""
        size = self.app.size
        count = 1
        if size.width >= _TWO_FROM_WIDTH and not self.screen.has_class("-enlarged"):
            count = 4 if size.height >= _FOUR_FROM_HEIGHT else 2
        self.set_class(count == 2, "-two")
        self.set_class(count == 4, "-four")
        begin: int | None = 0
        for end in _ENDS[count]:
            sharing = self.panes[begin:end]
            begin = end
            first = next((p for p in sharing if p.NAME == _IN_FRONT.get(count)), sharing[0])
            shown = next((pane for pane in self._asked if pane in sharing), first)
            for pane in sharing:
                pane.sharing = sharing if len(sharing) > 1 else ()
                pane.display = pane is shown
            shown.rebuild()

    def on_mount(self) -> None:
        """Before the first picture."""
        self.settle()

    def on_resize(self) -> None:
        """The screen's size decides how many places there are."""
        self.settle()

    def on_pane_asked(self, message: Pane.Asked) -> None:
        """A title was clicked."""
        self.bring(message.pane)
        message.pane.focus()
