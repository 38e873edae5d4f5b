"""The panes of the main screen, in the order of the keys that reach them."""

from __future__ import annotations

from typing import Final

from .base import Pane
from .breakdown import BreakdownPane
from .devices import DevicesPane
from .modules import ModulesPane
from .predicted import PredictedPane
from .processes import ProcessesPane
from .segments import SegmentsPane
from .timeline import TimelinePane
from .waterfall import WaterfallPane

__all__ = ["PANES", "DevicesPane", "ModulesPane", "Pane", "PredictedPane", "ProcessesPane"]

PANES: Final[tuple[type[Pane], ...]] = (
    DevicesPane,
    ProcessesPane,
    BreakdownPane,
    TimelinePane,
    WaterfallPane,
    ModulesPane,
    SegmentsPane,
    PredictedPane,
)
"""To add a pane: one module, and one line here."""
