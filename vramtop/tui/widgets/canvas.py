"""A widget that paints lines it is given, and repaints only those that changed."""

from __future__ import annotations

from collections.abc import Sequence

from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget


class Canvas(Widget):
    """Shows strips from the top; what is below them stays empty."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._strips: list[Strip] = []
        self._wanted_height = 1

    def paint(self, strips: Sequence[Strip], wanted_height: int | None = None) -> None:
        """Show these lines; ``wanted_height`` is how many there would be with room for all."""
        wanted = len(strips) if wanted_height is None else wanted_height
        before, self._strips = self._strips, list(strips)
        if wanted != self._wanted_height and self.styles.is_auto_height:
            self._wanted_height = wanted
            self.refresh(layout=True)
            return
        if len(before) != len(self._strips):
            self.refresh()
            return
        width = self.size.width
        changed = [
            Region(0, y, width, 1)
            for y, (old, new) in enumerate(zip(before, self._strips, strict=True))
            if old != new
        ]
        if changed:
            self.refresh(*changed)

    def render_line(self, y: int) -> Strip:
        """The line at ``y`` (called by textual)."""
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width, self.rich_style)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002
        """As high as is wanted (called by textual for heights that are auto)."""
        return self._wanted_height
