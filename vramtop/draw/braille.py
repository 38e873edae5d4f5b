"""Lines of braille dots, two by four to a cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_LEFT_DOTS: Final = (0x40, 0x04, 0x02, 0x01)
_RIGHT_DOTS: Final = (0x80, 0x20, 0x10, 0x08)
"""Bits of the pattern from the lowest dot up (Unicode, U+2800)."""
_ASCII_LEVELS: Final = "_.-^"


def spark(
    values: Sequence[float | None],
    width: int,
    height: int = 1,
    lo: float = 0.0,
    hi: float | None = None,
    ascii: bool = False,  # noqa: A002
) -> list[str]:
    """``height`` lines of ``width`` characters, highest first; the last value is at the right.

    ``lo`` and ``hi`` are the values of the lowest and the highest dot; ``hi`` defaults to the
    largest value. More values than dots: each dot column shows the largest of its share. None
    leaves a hole.
    """
    if width <= 0 or height <= 0:
        return []
    columns = width if ascii else 2 * width
    levels = height * (1 if ascii else 4)
    known = [value for value in values if value is not None]
    high = max(known, default=lo) if hi is None else hi
    fitted = _fit(values, columns)
    heights: list[int | None] = [None] * (columns - len(fitted))
    heights += [_level(value, lo, high, levels, ascii) for value in fitted]
    if ascii:
        return _ascii_lines(heights, height)
    cells = [[0] * width for _ in range(height)]
    before: int | None = None
    for column, level in enumerate(heights):
        if level is not None:
            # The dots between this value's and the last one's join the points to a line.
            joined = range(level, level + 1)
            if before is not None and before != level:
                joined = range(before + 1, level + 1) if before < level else range(level, before)
            dots = _RIGHT_DOTS if column % 2 else _LEFT_DOTS
            for dot in joined:
                cells[height - 1 - dot // 4][column // 2] |= dots[dot % 4]
        before = level
    return ["".join(chr(0x2800 + cell) if cell else " " for cell in row) for row in cells]


def _fit(values: Sequence[float | None], columns: int) -> list[float | None]:
    count = len(values)
    if count <= columns:
        return list(values)
    fitted: list[float | None] = []
    for column in range(columns):
        share = values[column * count // columns : (column + 1) * count // columns]
        fitted.append(max((value for value in share if value is not None), default=None))
    return fitted


def _level(
    value: float | None,
    lo: float,
    hi: float,
    levels: int,
    ascii: bool,  # noqa: A002
) -> int | None:
    if value is None:
        return None
    steps = levels * len(_ASCII_LEVELS) if ascii else levels
    if hi <= lo:
        return 0
    return min(max(round((value - lo) / (hi - lo) * (steps - 1)), 0), steps - 1)


def _ascii_lines(heights: Sequence[int | None], height: int) -> list[str]:
    return [
        "".join(
            _ASCII_LEVELS[level % 4] if level is not None and level // 4 == row else " "
            for level in heights
        )
        for row in range(height - 1, -1, -1)
    ]
