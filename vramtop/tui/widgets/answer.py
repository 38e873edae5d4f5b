"""The right half of the what-if screen: the newest answer, or the last good one, dimmed."""

from __future__ import annotations

from textwrap import wrap

from ...estimator.result import Estimate
from ..answer import answer_lines, dimmed
from ..exploration import Exploration
from ..paint import line
from ..theme import ink_of
from .canvas import Canvas


class Answer(Canvas):
    """Shows an exploration."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._exploration: Exploration | None = None
        self._last: Estimate | None = None
        """The last answer that there was."""

    def show(self, exploration: Exploration) -> None:
        """Show this exploration."""
        self._exploration = exploration
        self._last = exploration.estimate or self._last
        self._paint()

    def on_resize(self) -> None:
        """Paint for the new size."""
        self._paint()

    def _paint(self) -> None:
        exploration, (width, height) = self._exploration, self.size
        if exploration is None or not width or not self.is_attached:
            return
        ink = ink_of(self.app)
        if exploration.estimate is not None:
            self.paint(answer_lines(exploration, exploration.estimate, width, height, ink))
            return
        why = exploration.problem or exploration.progress
        head, tone = ("IMPOSSIBLE", "error") if exploration.problem else ("WAIT", "warn")
        said = [f" {part}" for part in wrap(f"{head}: {why}", max(width - 2, 10))]
        strips = [line([(text, ink(tone, bold=True))], width, ink("text")) for text in said]
        if self._last is not None:
            strips.append(line([(" the last answer:", ink("dim"))], width, ink("text")))
            room = max(height - len(strips), 0)
            strips += dimmed(answer_lines(exploration, self._last, width, room, ink), ink)
        self.paint(strips)
