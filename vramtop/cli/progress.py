"""Progress of a command that takes seconds: one line on a terminal's stderr, nothing elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Final

_WRITE_EVERY_S: Final = 0.1


class ProgressLine:
    """Written over and over, and taken away at the end."""

    def __init__(self) -> None:
        self.shown: Final = sys.stderr.isatty()
        """Whether anybody sees it."""
        self._text = ""
        self._written = float("-inf")
        self._width = 0

    def __call__(self, text: str, done: float | None = None) -> None:
        """Show what is being done, and how much of it (0 to 1) where that is known."""
        now = time.monotonic()
        # A line of its own kind is shown at once: it may stand for long.
        if not self.shown or (text == self._text and now - self._written < _WRITE_EVERY_S):
            return
        self._text, self._written = text, now
        line = text if done is None else f"{100 * done:3.0f} % {text}"
        line = line[: shutil.get_terminal_size().columns - 1]
        before, self._width = self._width, len(line)  # first: Ctrl-C may come while it is drawn
        print(f"\r{line:<{before}}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Leave nothing of it behind."""
        if self._width:
            print(f"\r{' ' * self._width}\r", end="", file=sys.stderr, flush=True)
            self._width = 0
