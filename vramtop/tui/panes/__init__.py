"""The panes of the main screen, in the order of the keys that reach them."""

from __future__ import annotations

from typing import Final

from .base import Pane
from .breakdown import BreakdownPane
from .devices import DevicesPane
from .processes import ProcessesPane
from .timeline import TimelinePane

__all__ = ["PANES", "BreakdownPane", "DevicesPane", "Pane", "ProcessesPane", "TimelinePane"]

PANES: Final[tuple[type[Pane], ...]] = (DevicesPane, ProcessesPane, BreakdownPane, TimelinePane)
"""To add a pane: one module, and one line here."""
