"""What was predicted beside what is: hatched and solid bars on a scale that several pairs share."""

from __future__ import annotations

from typing import Final

from .blocks import Run

PREDICTED: Final = "predicted"
ACTUAL: Final = "actual"
MARK: Final = "mark"
"""Key of the mark inside a solid bar where the predicted ends."""

_HATCHED: Final = "░"
_SOLID: Final = "█"
_EDGE: Final = "┃"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉"
_SEEN: Final = 0.5
"""Cells that two values must lie apart for one line to tell them apart."""


def two_bars(
    predicted: float | None, actual: float | None, width: int, top: float
) -> tuple[list[Run], list[Run]]:
    """The two bars of a pair, each exactly ``width`` cells, of which ``top`` would fill all.

    What is unknown is an empty bar; what is not 0 is seen, however small.
    """
    hatched = _HATCHED * _cells(predicted, width, top)
    return [_filled(PREDICTED, hatched, width)], [
        _filled(ACTUAL, _solid(actual, width, top), width)
    ]


def one_bar(predicted: float | None, actual: float | None, width: int, top: float) -> list[Run]:
    """Both in one line of exactly ``width`` cells, where there is no room for two.

    Solid as far as the actual; hatched from there on to the predicted, or a mark in the solid
    where the predicted ends.
    """
    solid = _solid(actual, width, top)
    apart = ((actual or 0) - (predicted or 0)) / top * width if top > 0 else 0.0
    until = _cells(predicted, width, top)
    if predicted is None or apart < _SEEN or until >= len(solid):
        hatched = _HATCHED * (until - len(solid)) if apart < -_SEEN else ""
        return [Run(ACTUAL, solid, None), _filled(PREDICTED, hatched, width - len(solid))]
    return [
        Run(ACTUAL, solid[:until], None),
        Run(MARK, _EDGE, ACTUAL),
        _filled(ACTUAL, solid[until + 1 :], width - until - 1),
    ]


def _filled(key: str, text: str, width: int) -> Run:
    return Run(key, text.ljust(max(width, 0)), None)


def _cells(value: float | None, width: int, top: float) -> int:
    if not value or top <= 0 or width <= 0:
        return 0
    return min(max(round(value / top * width), 1), width)


def _solid(value: float | None, width: int, top: float) -> str:
    if not value or top <= 0 or width <= 0:
        return ""
    whole, rest = divmod(min(max(round(8 * value / top * width), 1), 8 * width), 8)
    return _SOLID * whole + (_EIGHTHS[rest] if rest else "")
