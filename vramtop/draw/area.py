"""Stacked area charts of eighth-blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from .blocks import part_glyph

_LOWER_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"


class Cell(NamedTuple):
    """One character cell; layers are positions in a column, None the screen's own colours."""

    glyph: str
    fg: int | None
    bg: int | None


_EMPTY: Final = Cell(" ", None, None)


def stacked_area(
    columns: Sequence[Sequence[float] | None],
    height: int,
    top: float,
    mono: bool = False,
    ascii: bool = False,  # noqa: A002
    ceiling: float | None = None,
) -> list[list[Cell]]:
    """``height`` rows, highest first, of one cell for each column.

    A column gives its layers from the bottom up, in the unit of ``top``, the value at the upper
    edge; None is a blank column, what exceeds ``top`` is cut. ``ceiling`` draws a line at its
    value where nothing else is. With ``mono`` or ``ascii`` each layer has a glyph of its own.
    """
    if height <= 0:
        return []
    plain = mono or ascii
    drawn = [
        _whole_column(layers, height, top, ascii) if plain else _column(layers, height, top)
        for layers in columns
    ]
    rows = [list(row) for row in zip(*drawn, strict=True)] or [[] for _ in range(height)]
    rows.reverse()
    if ceiling is not None and 0 < ceiling <= top:
        line = Cell("-" if ascii else "─", None, None)
        row = rows[min(int((top - ceiling) / top * height), height - 1)]
        row[:] = [line if cell is _EMPTY else cell for cell in row]
    return rows


def _column(layers: Sequence[float] | None, height: int, top: float) -> list[Cell]:
    """Cells from the bottom up; a cell that holds more than two layers shows the two largest."""
    if layers is None or top <= 0:
        return [_EMPTY] * height
    limit = height * 8
    cells: list[Cell] = []
    inside: list[tuple[int, int]] = []  # (eighths, layer) in the cell that is not full yet
    filled = 0
    reached = 0.0
    for layer, size in enumerate(layers):
        reached += size
        end = min(round(reached / top * limit), limit)
        if end <= filled:
            continue
        if inside:
            part = min(end, (len(cells) + 1) * 8) - filled
            inside.append((part, layer))
            filled += part
            if filled % 8:
                continue
            cells.append(_mixed(inside))
            inside = []
        whole, rest = divmod(end - filled, 8)
        if whole:
            cells += [Cell("█", layer, None)] * whole
        if rest:
            inside = [(rest, layer)]
        filled = end
    if inside:
        cells.append(_topmost(inside))
    return cells + [_EMPTY] * (height - len(cells))


def _mixed(inside: list[tuple[int, int]]) -> Cell:
    """A full cell of several layers, lowest first."""
    if len(inside) > 2:
        kept = sorted(sorted(inside, reverse=True)[:2], key=lambda pair: pair[1])
        lower = round(8 * kept[0][0] / (kept[0][0] + kept[1][0]))
        return Cell(_LOWER_EIGHTHS[lower], kept[0][1], kept[1][1])
    return Cell(_LOWER_EIGHTHS[inside[0][0]], inside[0][1], inside[1][1])


def _topmost(inside: list[tuple[int, int]]) -> Cell:
    """The cell at the surface: its background is empty, so it has room for one layer only."""
    eighths = sum(part for part, _ in inside)
    return Cell(_LOWER_EIGHTHS[eighths], max(inside)[1], None)


def _whole_column(
    layers: Sequence[float] | None,
    height: int,
    top: float,
    ascii: bool,  # noqa: A002
) -> list[Cell]:
    """Cells from the bottom up, each wholly the layer at its middle."""
    if layers is None or top <= 0:
        return [_EMPTY] * height
    cells: list[Cell] = []
    reached = 0.0
    for layer, size in enumerate(layers):
        reached += size
        end = min(int(reached / top * height + 0.5), height)
        cells += [Cell(part_glyph(layer, ascii), layer, None)] * (end - len(cells))
    return cells + [_EMPTY] * (height - len(cells))
