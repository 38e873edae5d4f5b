"""``vramtop explore``: the what-if screen and the batch explorer on their own."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App
from textual.binding import BindingType

from .. import settings
from ..errors import EXIT_OK
from ..estimator.workload import Workload
from .exploring import Exploring
from .leaving import leave_on_signals
from .screens.whatif import WhatIfScreen
from .theme import DARK, LIGHT, THEMES


class ExploreApp(App[None]):
    """Shows one workload; no GPU, no training and no probe are asked."""

    TITLE = "vramtop explore"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = []

    def __init__(
        self, workload: Workload, *, method: str = "auto", theme: str | None = None
    ) -> None:
        super().__init__()
        for known in THEMES:
            self.register_theme(known)
        self.theme = theme if theme in self.available_themes else DARK
        self._bindings.key_to_bindings.pop("ctrl+c")  # textual only explains how to quit
        self.exploring = Exploring(self, workload, method=method)

    def on_mount(self) -> None:
        """Show the screen."""
        leave_on_signals(self)
        self.push_screen(WhatIfScreen(self.exploring, is_first=True))
        self.exploring.start()

    def on_unmount(self) -> None:
        """End the tracer."""
        self.exploring.close()


def run_explore(workload: Workload, *, method: str = "auto", theme: str | None = None) -> int:
    """Show the screen until the user leaves it; returns the exit code.

    Both ends must be a terminal. The theme is that of the last time unless ``theme`` ("dark" or
    "light") names one.
    """
    remembered = str(settings.load_state().get("theme"))
    chosen = {"dark": DARK, "light": LIGHT}.get(theme or "", remembered)
    app = ExploreApp(workload, method=method, theme=chosen)
    app.run()
    return app.return_code or EXIT_OK
