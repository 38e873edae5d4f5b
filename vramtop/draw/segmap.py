"""Memory segments as a map of cells: a cell is so many bytes, a segment a row of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from .blocks import Run

Spans = Sequence[tuple[str, int]]
"""The blocks of one segment in order of address: key and size in bytes."""

_POWERS: Final = tuple(1 << exponent for exponent in range(48))

GAP: Final = "gap"
"""Key of the cells between segments."""


def cell_bytes_for(segments: Sequence[Sequence[Spans]], width: int, lines: int) -> int:
    """The finest scale at which all groups fit into ``lines``: a power of two or up to 7/4 of it.

    Where there are more segments than cells, as many lines more than each segment's one cell
    needs; they scroll.
    """
    sizes = [[_size(spans) for spans in group] for group in segments]

    def lines_at(cell_bytes: int) -> int:
        return sum(len(_rows([_cells(s, cell_bytes) for s in group], width)) for group in sizes)

    largest = max((size for group in sizes for size in group), default=1)
    least = lines_at(largest)
    goal = lines if least <= lines else least + lines
    cell_bytes = 1
    while sum(map(sum, sizes)) > cell_bytes * width * goal:
        cell_bytes *= 2
    steps = (cell_bytes * power * quarters // 4 for power in _POWERS for quarters in (4, 5, 6, 7))
    return next((step for step in steps if step >= largest or lines_at(step) <= goal), largest)


def segment_rows(
    segments: Sequence[Spans], width: int, cell_bytes: int, glyphs: Mapping[str, str]
) -> list[list[Run]]:
    """Rows of at most ``width`` cells.

    Segments stand apart by a blank cell and go on in the next row, one cell further in, where
    one is longer than a row; a segment has a cell at least. A cell shows what it holds most of,
    and what has been passed over is carried on to the next cell of the segment: holes too small
    for a cell are shown as often as they fill one together.
    """
    drawn = [_segment(spans, cell_bytes) for spans in segments]
    rows = []
    for placed in _rows([len(cells) for cells in drawn], width):
        runs: list[Run] = []
        for index, begin, end in placed:
            if runs or begin:
                runs.append(Run(GAP, " ", None))
            for key in drawn[index][begin:end]:
                if runs and runs[-1].key == key:
                    runs[-1] = runs[-1]._replace(text=runs[-1].text + glyphs[key])
                else:
                    runs.append(Run(key, glyphs[key], None))
        rows.append(runs)
    return rows


def _segment(spans: Spans, cell_bytes: int) -> list[str]:
    """The key of every cell."""
    size = _size(spans)
    count = _cells(size, cell_bytes)
    keys: list[str] = []
    owed: dict[str, float] = {}
    left = [(key, float(length)) for key, length in spans]
    left.reverse()
    for _ in range(count):
        room = size / count
        while left and room > 0:
            key, length = left.pop()
            part = min(length, room)
            owed[key] = owed.get(key, 0.0) + part
            room -= part
            if length > part:
                left.append((key, length - part))
        shown = max(owed, key=owed.__getitem__)
        owed[shown] -= size / count
        keys.append(shown)
    return keys


def _rows(counts: Sequence[int], width: int) -> list[list[tuple[int, int, int]]]:
    """Rows of (segment, its first cell there, the one after its last)."""
    rows: list[list[tuple[int, int, int]]] = []
    room = 0
    for index, count in enumerate(counts):
        if rows and room >= count + 1:
            rows[-1].append((index, 0, count))
            room -= count + 1
            continue
        begin, first = 0, min(count, width)
        rows.append([(index, 0, first)])
        room = width - first
        begin = first
        while begin < count:
            end = min(begin + max(width - 1, 1), count)
            rows.append([(index, begin, end)])
            room = width - 1 - (end - begin)
            begin = end
    return rows


def _size(spans: Spans) -> int:
    return sum(length for _, length in spans)


def _cells(size: int, cell_bytes: int) -> int:
    return max(round(size / cell_bytes), 1)
