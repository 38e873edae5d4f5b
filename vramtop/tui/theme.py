"""Colours: two themes, and the inks in which every pane paints the same category the same way."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from rich.style import Style
from textual.theme import Theme

from ..core.devices import SEGMENT_LABELS
from ..draw.segmap import GAP
from ..draw.spans import CEILING, HELD, REACH

SEGMENT_POSITIONS: Final = {key: position for position, key in enumerate(SEGMENT_LABELS)}
"""Where a segment stands in every bar; without colours its glyph goes by this."""

DARK: Final = "vramtop-dark"
LIGHT: Final = "vramtop-light"

PENDING: Final = "pending"
"""Key of memory that the program has freed and a stream still holds back."""
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

# Okabe and Ito's palette, told apart with any kind of colour vision, is for tensors alone; their
# black is the lightest grey on a dark screen.
_DARK_TONES: Final = {
    "parameter": "#56B4E9",
    "gradient": "#E69F00",
    "optimizer_state": "#009E73",
    "activation": "#D55E00",
    "input": "#F0E442",
    "temporary": "#CC79A7",
    "autograd_detail": "#0072B2",
    "unknown": "#E6EDF3",
    "cached": "#57606A",
    "fragmentation": "#9AA4AF",
    "outside_allocator": "#8B949E",
    "other_processes": "#7A88A8",
    "driver_reserved": "#7D8590",
    "unattributed": "#B1BAC4",
    "free": "#21262D",
    PENDING: "#E6EDF3",
    "background": "#0D1117",
    "text": "#E6EDF3",
    "dim": "#8B949E",
    "rule": "#3D444D",
    "accent": "#56B4E9",
    "warn": "#E69F00",
    "error": "#FF7B72",
    "good": "#2EBF8F",
    "selected": "#1F4468",
    "chip": "#21262D",
}
# The same hues, dark enough to be seen on white.
_LIGHT_TONES: Final = {
    "parameter": "#2B7FB8",
    "gradient": "#CC8500",
    "optimizer_state": "#00795A",
    "activation": "#A83E00",
    "input": "#A89B00",
    "temporary": "#A8507F",
    "autograd_detail": "#004A77",
    "unknown": "#1F2328",
    "cached": "#9AA2AB",
    "fragmentation": "#59636E",
    "outside_allocator": "#6E7781",
    "other_processes": "#5A6A8C",
    "driver_reserved": "#6E7781",
    "unattributed": "#8A929B",
    "free": "#E4E8ED",
    PENDING: "#1F2328",
    "background": "#FFFFFF",
    "text": "#1F2328",
    "dim": "#59636E",
    "rule": "#C1C8D0",
    "accent": "#00568F",
    "warn": "#8A5A00",
    "error": "#B3261E",
    "good": "#00694E",
    "selected": "#CBE3F7",
    "chip": "#EAEEF2",
}
# The values are exactly those that rich takes the sixteen colours for, so none falls together.
_SIXTEEN_TONES: Final = {
    "parameter": "#55FFFF",
    "gradient": "#AA5500",
    "optimizer_state": "#00AA00",
    "activation": "#FF5555",
    "input": "#FFFF55",
    "temporary": "#FF55FF",
    "autograd_detail": "#5555FF",
    "unknown": "#FFFFFF",
    "cached": "#AAAAAA",
    "fragmentation": "#AAAAAA",
    "outside_allocator": "#AAAAAA",
    "other_processes": "#00AAAA",
    "driver_reserved": "#AAAAAA",
    "unattributed": "#FFFFFF",
    "free": "#555555",
    PENDING: "#FFFFFF",
    "background": "#000000",
    "text": "#FFFFFF",
    "dim": "#AAAAAA",
    "rule": "#555555",
    "accent": "#55FFFF",
    "warn": "#FFFF55",
    "error": "#FF5555",
    "good": "#55FF55",
    "selected": "#0000AA",
    "chip": "#555555",
}

_SIXTEEN_LIGHT_TONES: Final = {
    "parameter": "#00AAAA",
    "gradient": "#AA5500",
    "optimizer_state": "#00AA00",
    "activation": "#AA0000",
    "input": "#FFFF55",
    "temporary": "#AA00AA",
    "autograd_detail": "#0000AA",
    "unknown": "#000000",
    "cached": "#555555",
    "fragmentation": "#555555",
    "outside_allocator": "#555555",
    "other_processes": "#5555FF",
    "driver_reserved": "#555555",
    "unattributed": "#000000",
    "free": "#AAAAAA",
    PENDING: "#000000",
    "background": "#FFFFFF",
    "text": "#000000",
    "dim": "#555555",
    "rule": "#AAAAAA",
    "accent": "#0000AA",
    "warn": "#AA5500",
    "error": "#AA0000",
    "good": "#00AA00",
    "selected": "#55FFFF",
    "chip": "#AAAAAA",
}


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
        return Ink(_SIXTEEN_TONES if is_dark else _SIXTEEN_LIGHT_TONES, mono=False)
    return Ink(_DARK_TONES if is_dark else _LIGHT_TONES, mono=mono)


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
    _theme(DARK, _DARK_TONES, is_dark=True),
    _theme(LIGHT, _LIGHT_TONES, is_dark=False),
)
