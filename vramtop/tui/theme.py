"""Colours: two themes, and the inks in which every pane paints the same category the same way."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from rich.style import Style
from textual.app import App
from textual.theme import Theme

from ..core.devices import SEGMENT_LABELS
from ..draw.segmap import GAP
from ..draw.spans import CEILING, HELD, REACH
from ..draw.tones import (
    DARK_TONES,
    LIGHT_TONES,
    PENDING,
    SIXTEEN_LIGHT_TONES,
    SIXTEEN_TONES,
)

SEGMENT_POSITIONS: Final = {key: position for position, key in enumerate(SEGMENT_LABELS)}
"""Where a segment stands in every bar; without colours its glyph goes by this."""

DARK: Final = "vramtop-dark"
LIGHT: Final = "vramtop-light"

TEXTURES: Final = {
    "fragmentation": "▚",
    "outside_allocator": "▒",
    "other_processes": "▓",
    "driver_reserved": "░",
    "unattributed": "×",
    PENDING: "▞",
}
"""What is no tensor is grey, and there are not enough greys: these are hatched as well."""
RASTER_TONES: Final = {
    REACH: "dim",
    CEILING: "warn",
    HELD: "dim",
    GAP: "background",
    PENDING: "text",
}
"""What rasters draw that is no segment of a bar."""


class Ink:
    """Styles by tone: a segment's key, or a role such as text, dim, warn."""

    def __init__(self, tones: Mapping[str, str], *, mono: bool) -> None:
        self.mono = mono
        """Hue is gone (NO_COLOR): glyphs must tell the segments apart."""
        self._tones = tones
        self._styles: dict[tuple[str, str, bool], Style] = {}

    def __call__(self, tone: str, on: str = "background", bold: bool = False) -> Style:
        """The style of a tone on another one; KeyError where there is no such tone."""
        key = (tone, on, bold)
        style = self._styles.get(key)
        if style is None:
            tones = self._tones
            if self.mono and on == "selected":  # greys alone hardly show a selection
                tone, on = "background", "text"
            style = Style(color=tones[tone], bgcolor=tones[on], bold=bold)
            self._styles[key] = style
        return style


@cache  # one ink for one look, so that painted lines can be kept
def make_ink(*, is_dark: bool, color_system: str | None, no_color: bool) -> Ink:
    """The ink for a theme and what the terminal can show (rich's name of its colour system)."""
    mono = no_color or color_system is None
    if color_system == "standard" and not mono:
        return Ink(SIXTEEN_TONES if is_dark else SIXTEEN_LIGHT_TONES, mono=False)
    return Ink(DARK_TONES if is_dark else LIGHT_TONES, mono=mono)


def ink_of(app: App[Any]) -> Ink:
    """The ink for an app's present theme and terminal."""
    return make_ink(
        is_dark=app.current_theme.dark,
        color_system=app.console.color_system,
        no_color=app.no_color,
    )


def _theme(name: str, tones: Mapping[str, str], *, is_dark: bool) -> Theme:
    return Theme(
        name=name,
        dark=is_dark,
        primary=tones["accent"],
        secondary=tones["other_processes"],
        accent=tones["accent"],
        warning=tones["warn"],
        error=tones["error"],
        success=tones["good"],
        foreground=tones["text"],
        background=tones["background"],
        surface=tones["background"],
        panel=tones["chip"],
    )


THEMES: Final = (
    _theme(DARK, DARK_TONES, is_dark=True),
    _theme(LIGHT, LIGHT_TONES, is_dark=False),
)
