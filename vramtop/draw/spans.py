"""One phase as a bar on a scale that several share: what is held after it, and its peak beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .blocks import Run, stacked_bar

REACH: Final = "reach"
"""Key of the line from what was held up to the peak, and of the peak's mark."""
HELD: Final = "held"
"""Key of the thin bar."""
CEILING: Final = "ceiling"
"""Key of the mark at the most of all bars."""


def span_bar(
    parts: Sequence[tuple[str, float]] | float,
    width: int,
    top: float,
    peak: float | None = None,
    ceiling: float | None = None,
    ascii: bool = False,  # noqa: A002
    mono: bool = False,
) -> list[Run]:
    """Exactly ``width`` cells, of which ``top`` would fill all; all values in one unit.

    The parts as in ``stacked_bar``, or a thin bar where only their sum is known; then a line to
    the peak with a mark at its end, then a mark at ``ceiling``, where the peak has not reached
    it. What exceeds ``top`` is cut.
    """
    if width <= 0 or top <= 0:
        return []
    thin, line, mark, edge = ("~", "-", "|", ":") if ascii else ("▬", "╌", "┤", "┊")
    if isinstance(parts, (int, float)):
        filled = _cells(parts, top, width)
        runs = [Run(HELD, thin * filled, None)] if filled else []
    else:
        filled = _cells(sum(max(size, 0.0) for _, size in parts), top, width)
        runs = stacked_bar(parts, filled, ascii, mono)
    used = filled
    if peak is not None and (column := _column(peak, top, width)) >= filled:
        runs.append(Run(REACH, line * (column - filled) + mark, None))
        used = column + 1
    if ceiling is not None and (column := _column(ceiling, top, width)) >= used:
        runs += [Run(CEILING, " " * (column - used) + edge, None)]
        used = column + 1
    return [*runs, Run(CEILING, " " * (width - used), None)] if used < width else runs


def _cells(value: float, top: float, width: int) -> int:
    return min(round(value / top * width), width)


def _column(value: float, top: float, width: int) -> int:
    """The cell at whose left edge a mark stands for a value."""
    return min(_cells(value, top, width), width - 1)
