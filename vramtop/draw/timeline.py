"""Memory over time: a stacked area with its scale, under the ceiling where that is near."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..core.units import format_bytes
from .area import Cell, stacked_area
from .scale import byte_ticks, nice_top

_MIN_SHARE: Final = 0.25
"""What needs less of its device than this gets a scale of its own, or its layers would be too flat
to be told apart; the ceiling is then above the picture."""


class Row(NamedTuple):
    """One line of the picture, highest first."""

    label: str
    """At the scale's left; "" where there is none."""
    cells: list[Cell]


def timeline(
    columns: Sequence[Sequence[int] | None],
    height: int,
    total_bytes: int | None,
    mono: bool = False,
    ascii: bool = False,  # noqa: A002
) -> list[Row]:
    """``height`` rows for columns of bytes by layer; ``total_bytes`` is the ceiling."""
    largest = max((sum(column) for column in columns if column), default=0)
    top, ceiling = _scale(largest, total_bytes)
    rows = stacked_area(columns, height, top, mono, ascii, ceiling)
    labels = _labels(top, height)
    if ceiling:
        y = min(int((top - ceiling) / top * height), height - 1)
        labels.pop(y + 1, None)  # a tick right below would be read as the ceiling's
        labels[y] = format_bytes(ceiling)
    return [Row(labels.get(y, ""), cells) for y, cells in enumerate(rows)]


def _scale(largest: int, total: int | None) -> tuple[int, int | None]:
    """Upper end of the scale, and the ceiling where it is within it."""
    if total and largest >= _MIN_SHARE * total:
        return max(total, largest), total
    return nice_top(largest * 1.05), None


def _labels(top: int, height: int) -> dict[int, str]:
    """Labels by line; the line is the one whose lower edge is the value."""
    labels: dict[int, str] = {}
    for value, text in byte_ticks(top, min(max(height // 2, 1), 5)):
        y = height - 1 - round(value / top * height)
        labels.setdefault(min(max(y, 0), height - 1), text)
    return labels
