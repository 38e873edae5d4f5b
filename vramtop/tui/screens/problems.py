"""All alerts, then all problems with their sources, the newest first."""

from __future__ import annotations

from textwrap import wrap

from textual.strip import Strip

from ...core.model import Problem
from ..frame import Frame
from ..paint import line, printable
from ..panes.base import sentences
from .overlay import OverlayScreen


class ProblemsScreen(OverlayScreen):
    """What is warned of, and what could not be read when it was opened."""

    TITLE_TEXT = "Alerts and problems"

    def __init__(self, frame: Frame, problems: tuple[Problem, ...]) -> None:
        super().__init__(frame)
        self._problems = problems

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """Source, then its message."""
        ink = frame.ink
        lines = sentences(
            [f"▲ {alert.more or alert.text}" for alert in frame.alerts], width, frame, "warn"
        )
        if not self._problems:
            return [*lines, *sentences(["everything could be read"], width, frame)]
        for problem in self._problems:
            lines.append(line([(printable(problem.source), ink("warn"))], width, ink("text")))
            parts = wrap(printable(problem.message), max(width - 2, 10))
            lines += [line([(f"  {part}", ink("text"))], width, ink("text")) for part in parts]
        return lines
