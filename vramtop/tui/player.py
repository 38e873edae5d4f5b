"""Plays the climb: a timer while it moves, none while it does not."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from textual.screen import Screen
from textual.timer import Timer

from .scene import Scene, Script, resting, scene

FRAMES_PER_S: Final = 30


class Player:
    """The clock of one screen's animation; ``shown`` is called for every new scene."""

    def __init__(self, screen: Screen[str], shown: Callable[[], None]) -> None:
        self._screen, self._shown = screen, shown
        self.script: Script | None = None
        self.scene: Scene | None = None
        """What is to be seen; None where there is no animation."""
        self.played_s = 0.0
        self._ticked_at = 0.0
        self._timer: Timer | None = None

    @property
    def is_running(self) -> bool:
        """Whether the clock runs."""
        return self._timer is not None

    @property
    def is_halfway(self) -> bool:
        """Whether there is something to go on with."""
        return self.scene is not None and self.scene.act != "rest"

    def begin(self, script: Script) -> None:
        """Play from the first frame."""
        self.script, self.played_s = script, 0.0
        self.scene = scene(script, 0.0)
        self.run()

    def rest(self, script: Script) -> None:
        """Show the last frame at once, which says the same without motion."""
        self.script, self.scene = script, resting(script)

    def run(self) -> None:
        """Let the clock run on."""
        self._ticked_at = time.monotonic()
        self._timer = self._screen.set_interval(1 / FRAMES_PER_S, self._tick)

    def halt(self) -> None:
        """Stop the clock; the scene stays."""
        if self._timer is not None:
            self._timer.stop()
            self._timer = None

    def clear(self) -> None:
        """No animation."""
        self.halt()
        self.scene = None

    def advance(self, seconds: float) -> None:
        """Play on by so much; at the end the clock stops."""
        if self.script is None:
            return
        self.played_s += seconds
        self.scene = scene(self.script, self.played_s)
        if not self.is_halfway:
            self.halt()
        self._shown()

    def _tick(self) -> None:
        now = time.monotonic()
        self.advance(now - self._ticked_at)
        self._ticked_at = now
