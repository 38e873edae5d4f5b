"""The curve of the process's bytes over the micro-batch, as a small plot."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from ..core.units import format_bytes
from ..draw.area import stacked_area
from ..draw.scale import byte_ticks, nice_top
from ..estimator.judge import usable_bytes
from ..estimator.result import Estimate
from .ansi import Line, Look, Span

_HEIGHT: Final = 6
_MOST_WIDTH: Final = 72
_LABEL: Final = 10
_TONES: Final = ("accent", "error")


def curve_lines(estimate: Estimate, look: Look) -> Iterator[Line]:
    """Bars from 1 to the last batch; what exceeds the device is in another colour."""
    width = min(look.width - _LABEL - 1, _MOST_WIDTH)
    points = estimate.curve
    limit = None if estimate.device is None else usable_bytes(estimate.device)
    top = nice_top(max(size for _, size in points))
    values = _columns(points, width)
    columns = [_layers(value, limit) for value in values]
    rows = stacked_area(columns, _HEIGHT, top, look.mono, look.ascii, limit)
    yield (Span("process over the micro-batch", "dim"),)
    ticks = dict.fromkeys(range(_HEIGHT), "")
    for size, label in byte_ticks(top, 3):
        ticks[min(_HEIGHT - round(size / top * _HEIGHT), _HEIGHT - 1)] = label
    for number, row in enumerate(rows):
        spans = [Span(f"{ticks[number]:>{_LABEL}} ", "dim")]
        for cell in row:
            tone = "" if cell.fg is None else _TONES[cell.fg]
            on = "" if cell.bg is None else _TONES[cell.bg]
            if spans[-1].tone == tone and spans[-1].on == on and len(spans) > 1:
                spans[-1] = Span(spans[-1].text + cell.glyph, tone, on)
            else:
                spans.append(Span(cell.glyph, tone, on))
        yield spans
    yield (Span(" " * (_LABEL + 1) + _axis(estimate, width), "dim"),)
    if limit is not None:
        line = "-" if look.ascii else "─"
        yield (Span(f"{line * 2:>{_LABEL}} {format_bytes(limit)} that a process can use", "dim"),)


def _columns(points: tuple[tuple[int, int], ...], width: int) -> list[float]:
    """Bytes at each column, between the points on straight lines."""
    first, last = points[0][0], points[-1][0]
    values = []
    for column in range(width):
        batch = first + column * (last - first) / max(width - 1, 1)
        for (a, at_a), (b, at_b) in pairwise(points):
            if batch <= b or b == last:
                values.append(at_a + (at_b - at_a) * (batch - a) / (b - a))
                break
    return values


def _layers(value: float, limit: int | None) -> list[float]:
    if limit is None or value <= limit:
        return [value, 0.0]
    return [limit, value - limit]


def _axis(estimate: Estimate, width: int) -> str:
    """Labels of the first, the asked, the largest that fits, and the last batch."""
    first, last = estimate.curve[0][0], estimate.curve[-1][0]
    line = [" "] * width
    asked, most = estimate.workload.batch, estimate.max_micro_batch
    marks = [(asked, f"{asked}, asked and most" if asked == most else f"{asked}, asked")]
    if most and most != asked:
        marks.append((most, f"{most}, most"))
    for batch, label in (*marks, (first, str(first)), (last, str(last))):
        column = round((batch - first) / max(last - first, 1) * (width - 1))
        start = min(max(column - len(label) // 2, 0), width - len(label))
        room = line[max(start - 1, 0) : start + len(label) + 1]
        if all(cell == " " for cell in room):
            line[start : start + len(label)] = label
    return "".join(line)
