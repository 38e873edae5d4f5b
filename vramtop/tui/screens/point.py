"""One point of the explorer in full: the waterfall of its step, its totals and its components."""

from __future__ import annotations

from textwrap import wrap
from typing import ClassVar, Final

from textual.binding import Binding, BindingType
from textual.strip import Strip

from ...core.fleet import Fleet
from ...core.units import format_bytes
from ...estimator.labels import PHASE_WORDS
from ..frame import Frame, View
from ..paint import line
from ..picture import Picture
from ..widgets.point import component_lines, head_lines, phase_lines, total_lines
from .overlay import OverlayScreen

_NOTE: Final = "a phase's bar: what is left after it; the line reaches to its peak"


class PointScreen(OverlayScreen):
    """The waterfall of any configuration, whether it runs or not."""

    TITLE_TEXT = "Waterfall"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(key, "help", show=False) for key in ("question_mark", "f1")
    ]

    def __init__(self, picture: Picture) -> None:
        super().__init__(Frame(Fleet(), View(), picture.ink))
        self._picture = picture

    def action_help(self) -> None:
        """The explorer's keys and marks."""
        from .explorer_help import ExplorerHelp

        self.app.push_screen(ExplorerHelp(self._picture.ink))

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """The point, its totals, the phases of a step, what the peak is made of."""
        picture, ink = self._picture, frame.ink
        footprint = picture.footprint
        blank = line([], width, ink("text"))
        peak = f"peak: {format_bytes(footprint.peak_allocated_bytes)} allocated"
        if footprint.peak_phase:
            peak += f", {PHASE_WORDS.get(footprint.peak_phase, footprint.peak_phase)}"
        if footprint.peak_module:
            peak += f", at {footprint.peak_module}"
        return [
            *head_lines(picture, width),
            blank,
            *phase_lines(picture, width),
            *(line([(f" {t}", ink("text"))], width, ink("text")) for t in wrap(peak, width - 2)),
            *([line([(f" {_NOTE}", ink("dim"))], width, ink("dim"))] if footprint.phases else []),
            blank,
            *total_lines(picture, width),
            blank,
            *component_lines(picture, width),
        ]
