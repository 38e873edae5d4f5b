"""Axes: round byte values to draw ticks at, and time marks that end in now."""

from __future__ import annotations

from typing import Final

from ..core.units import format_bytes

_TIME_STEPS_S: Final = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)
_NOW: Final = "now"
_MARK_ROOM: Final = 8
"""Characters from one time mark to the next, so that they can be told apart."""


def byte_ticks(top_bytes: float, most: int) -> list[tuple[int, str]]:
    """(bytes, label) from 0 up to ``top_bytes``, at most ``most`` steps, each a power of two."""
    if top_bytes <= 0 or most <= 0:
        return [(0, format_bytes(0))]
    step = 1
    while top_bytes / step > most:
        step *= 2
    return [(tick, _short(tick)) for tick in range(0, int(top_bytes) + 1, step)]


def nice_top(largest_bytes: float, most: int = 4) -> int:
    """An axis's upper end for values up to ``largest_bytes``: the next tick above them."""
    if largest_bytes <= 0:
        return 1
    step = 1
    while largest_bytes / step > most:
        step *= 2
    return -(-int(largest_bytes) // step) * step


def time_ticks(span_s: float, width: int) -> list[tuple[int, str]]:
    """(column, label) of the marks on an axis of ``width`` columns, left to right, ending in now.

    The column is the one of the moment; only marks whose labels have room are there.
    """
    if width <= 0 or span_s <= 0:
        return []
    step_s = next(
        (step for step in _TIME_STEPS_S if step * width >= _MARK_ROOM * span_s), _TIME_STEPS_S[-1]
    )
    ticks = []
    for count in range(int(span_s // step_s), 0, -1):
        column = width - 1 - round(count * step_s / span_s * (width - 1))
        ticks.append((column, f"-{_age(count * step_s)}"))
    return [*ticks, (width - 1, _NOW)]


def time_axis(span_s: float, width: int) -> str:
    """The marks as one line of exactly ``width`` characters."""
    line = [" "] * width
    end = width
    for column, label in reversed(time_ticks(span_s, width)):
        start = min(max(column - len(label) // 2, 0), width - len(label))
        if start >= 0 and start + len(label) < end + (label == _NOW):
            line[start : start + len(label)] = label
            end = start
    return "".join(line)


def _short(size_bytes: int) -> str:
    """Ticks are round: 2 GiB, not 2.00 GiB."""
    number, unit = format_bytes(size_bytes).split(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"


def _age(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        minutes, rest = divmod(seconds, 60)
        return f"{minutes}m" + (f"{rest:02d}s" if rest else "")
    hours, rest = divmod(seconds // 60, 60)
    return f"{hours}h" + (f"{rest:02d}m" if rest else "")
