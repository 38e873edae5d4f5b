"""Lines of coloured spans, and their escape codes for what a terminal can show."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TextIO

from ..draw.tones import DARK_TONES, LIGHT_TONES, SIXTEEN_LIGHT_TONES, SIXTEEN_TONES

Colours = Literal["none", "sixteen", "cube", "true"]

_RESET: Final = "\x1b[0m"
_BOLD: Final = "\x1b[1m"
_SIXTEEN: Final = (
    "#000000", "#AA0000", "#00AA00", "#AA5500", "#0000AA", "#AA00AA", "#00AAAA", "#AAAAAA",
    "#555555", "#FF5555", "#55FF55", "#FFFF55", "#5555FF", "#FF55FF", "#55FFFF", "#FFFFFF",
)  # fmt: skip
"""VGA's palette, in whose values the tones of sixteen colours are written."""
_CUBE_LEVELS: Final = (0, 95, 135, 175, 215, 255)
"""xterm's 6 × 6 × 6 colours, 16 to 231."""
_BOLD_TONES: Final = frozenset({"strong", "good", "warn", "error"})


class Span(NamedTuple):
    """Text of one style."""

    text: str
    tone: str = ""
    """"" is the terminal's own colour; "strong" that in bold."""
    on: str = ""
    """Tone of the background."""


Line = Sequence[Span]


@dataclass(frozen=True, slots=True)
class Look:
    """How a report is drawn."""

    width: int
    colours: Colours = "none"
    dark: bool = True
    ascii: bool = False

    @property
    def mono(self) -> bool:
        """Without colour parts are told apart by their glyphs."""
        return self.colours == "none"


def look_of(stream: TextIO, width: int, environment: Mapping[str, str] = os.environ) -> Look:
    """What the terminal behind a stream can show; no colour in files and pipes."""
    return Look(
        width,
        _colours(environment) if stream.isatty() else "none",
        _is_dark(environment),
        not (stream.encoding or "").lower().startswith("utf"),
    )


def _colours(environment: Mapping[str, str]) -> Colours:
    term = environment.get("TERM", "")
    if environment.get("NO_COLOR") or term in ("", "dumb"):
        return "none"
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "true"
    return "cube" if "256color" in term else "sixteen"


def _is_dark(environment: Mapping[str, str]) -> bool:
    """COLORFGBG ("15;0") is the one way in which terminals tell; without it most are dark."""
    background = environment.get("COLORFGBG", "").rpartition(";")[2]
    return background not in ("7", "15")


def paint(lines: Iterable[Line], look: Look) -> str:
    """The lines with escape codes; plain text where there is no colour."""
    return "\n".join("".join(_span(span, look) for span in line).rstrip() for line in lines)


def _span(span: Span, look: Look) -> str:
    text, tone, on = span
    if look.mono or not (tone or on):
        return text
    code = _BOLD if tone in _BOLD_TONES else ""
    if tone and tone != "strong":
        code += _colour(tone, look, 30)
    if on:
        code += _colour(on, look, 40)
    return f"{code}{text}{_RESET}"


def _colour(tone: str, look: Look, base: int) -> str:
    """The code of a foreground (base 30) or a background (base 40)."""
    if look.colours == "sixteen":
        number = _SIXTEEN.index((SIXTEEN_TONES if look.dark else SIXTEEN_LIGHT_TONES)[tone])
        return f"\x1b[{base + number if number < 8 else base + 52 + number}m"
    colour = (DARK_TONES if look.dark else LIGHT_TONES)[tone]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    if look.colours == "true":
        return f"\x1b[{base + 8};2;{red};{green};{blue}m"
    return f"\x1b[{base + 8};5;{16 + 36 * _level(red) + 6 * _level(green) + _level(blue)}m"


def _level(value: int) -> int:
    return min(range(6), key=lambda level: abs(_CUBE_LEVELS[level] - value))
