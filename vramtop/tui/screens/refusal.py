"""Why something asked for was not done, in full: it says what to do instead."""

from __future__ import annotations

from textual.strip import Strip

from ..frame import Frame
from ..panes.base import sentences
from .overlay import OverlayScreen


class RefusalScreen(OverlayScreen):
    """One reason."""

    TITLE_TEXT = "Not attached"

    def __init__(self, frame: Frame, reason: str) -> None:
        super().__init__(frame)
        self._reason = reason

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """The reason, wrapped."""
        return sentences([self._reason], width, frame)
