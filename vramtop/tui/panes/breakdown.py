"""What the selected process's memory is for: bars and a table by category, now and at the peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from rich.cells import cell_len
from textual.strip import Strip

from ...core.breakdowns import BreakdownRow, breakdown_rows
from ...core.history import total_bytes
from ...core.memory import Breakdown
from ...core.model import Process
from ...core.phases import peak_sentence
from ...core.units import format_bytes, format_delta
from ..frame import Frame
from ..paint import Piece, bar, fit, line, swatch
from ..words import training_facts, why_no_breakdown, why_no_detail
from .base import Pane, sentences

_LABEL: Final = (16, 24)
"""Least and most; a label further from its number is hard to follow."""
_COLUMNS: Final = (("NOW", 9), ("AT PEAK", 9), ("SHARE", 7), ("CHANGE", 11))
"""In the order in which narrow panes keep them."""
_MARK: Final = 3
_BAR_LABEL: Final = 6
_TWO_COLUMNS_FROM: Final = 58
_LINES_BESIDE: Final = 3
"""A bar, the heads and the process's sum."""

# What low screens leave out, from the last to the first.
_ALWAYS, _HEADS, _PEAK_BAR, _PEAK_WORDS, _PARTS, _ZERO, _NOTES, _ABSENT = range(8)


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """Lines that are left out together."""

    rank: int
    strips: list[Strip]


class BreakdownPane(Pane):
    """Training's view of one process on one torch device."""

    TITLE: ClassVar[str] = "Breakdown"
    SHORT: ClassVar[str] = "Break"
    NAME: ClassVar[str] = "breakdown"

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """The bars, the categories, their sum, the peak, and what the training is."""
        process, part = frame.process, frame.part
        if process is None:
            return sentences(["no process selected"], width, frame)
        if part is None or part.breakdown is None:
            return sentences(why_no_breakdown(process, frame.view), width, frame)
        rows = breakdown_rows(frame.fleet, process, part.device)
        above, below = _bars(frame, rows, width), _below(frame, part.breakdown, process, width)
        table = _Table(frame, width, rows)
        held = sum(bool(row.size_bytes or row.peak_bytes) for row in rows)
        if held + _LINES_BESIDE > height and width >= _TWO_COLUMNS_FROM:
            categories = _two_columns(frame, rows, width)
        else:
            categories = _one_column(table, rows)
        sums = _sums(table, part.breakdown, frame, rows)
        lines = _kept([*above, *categories, *sums, *below], height)
        facts = training_facts(process)
        if len(lines) + 1 < height and facts:
            lines.append(line([], width, frame.ink("text")))
            lines += sentences(facts, width, frame)[: height - len(lines)]
        return lines

    def title_note(self, frame: Frame) -> str:
        """Which process and device."""
        return frame.place_text

    def move(self, to: str) -> None:
        """Left and right change the torch device."""
        if to in {"left", "right"}:
            self.post_message(self.DeviceTurned(1 if to == "right" else -1))
        else:
            super().move(to)


class _Table:
    """A label, then the columns that fit, aligned for every kind of line."""

    def __init__(self, frame: Frame, width: int, rows: Sequence[BreakdownRow]) -> None:
        self.width = width
        self._ink = frame.ink
        has_peak = any(row.peak_bytes is not None for row in rows)
        room = width - _MARK - 1
        self._columns: list[int] = []
        for position, (_, size) in enumerate(_COLUMNS):
            if position == 1 and not has_peak:
                continue
            if room - _LABEL[0] < size:
                break
            room -= size
            self._columns.append(position)
        self._label = min(max(room, _LABEL[0]), _LABEL[1])

    def heads(self) -> list[Piece]:
        """Names of the columns."""
        return self.cells(("", *(title for title, _ in _COLUMNS)), ("dim",) * 5)

    def category(self, row: BreakdownRow, indent: str = "") -> list[Piece]:
        """One category, or indented a part of one, which has no mark of its own."""
        ink = self._ink
        label, size, share, change = row.texts
        mark: list[Piece] | None = None
        if not indent:
            mark = [(" ", ink("text")), swatch(row.category, ink), (" ", ink("text"))]
        known = [
            row.size_bytes is not None,
            row.size_bytes,
            row.peak_bytes,
            row.size_bytes,
            row.change_bytes,
        ]
        tones = ["text" if value and not indent else "dim" for value in known]
        texts = (indent + label, size, row.peak_text, share, change)
        return self.cells(texts, tones, mark)

    def cells(
        self, texts: Sequence[str], tones: Sequence[str], mark: list[Piece] | None = None
    ) -> list[Piece]:
        """A label and a text for each of all columns, with their tones."""
        ink = self._ink
        pieces = mark or [(" " * _MARK, ink("text"))]
        pieces.append((fit(texts[0], self._label), ink(tones[0])))
        for position in self._columns:
            text, tone = texts[1 + position], tones[1 + position]
            pieces.append((fit(text, _COLUMNS[position][1], right=True), ink(tone)))
        return pieces

    def item(self, rank: int, pieces: list[Piece]) -> _Item:
        """These pieces as a line."""
        return _Item(rank, [line(pieces, self.width, self._ink("text"))])


def _kept(items: list[_Item], height: int) -> list[Strip]:
    """As many lines as there is room for; those that must not go scroll."""
    for item in sorted(items, key=lambda item: item.rank)[::-1]:
        if item.rank == _ALWAYS or sum(len(kept.strips) for kept in items) <= height:
            break
        items = [kept for kept in items if kept is not item]
    return [strip for item in items for strip in item.strips]


def _bars(frame: Frame, rows: Sequence[BreakdownRow], width: int) -> list[_Item]:
    """What is held now and what was at the peak, on one scale."""
    ink = frame.ink
    now = [(row.category, float(row.size_bytes or 0)) for row in rows]
    peak = [(row.category, float(row.peak_bytes or 0)) for row in rows]
    totals = [sum(size for _, size in parts) for parts in (now, peak)]
    top = max(totals) or 1.0
    items = []
    for rank, label, parts, total in (
        (_ALWAYS, "now", now, totals[0]),
        (_PEAK_BAR, "peak", peak, totals[1]),
    ):
        if total or rank == _ALWAYS:
            pieces: list[Piece] = [(fit(f" {label}", _BAR_LABEL), ink("dim"))]
            pieces += bar(parts, round(total / top * (width - _BAR_LABEL - 1)), ink)
            items.append(_Item(rank, [line(pieces, width, ink("text"))]))
    return items


def _one_column(table: _Table, rows: Sequence[BreakdownRow]) -> list[_Item]:
    items = [table.item(_HEADS, table.heads())]
    for row in rows:
        rank = _ABSENT if row.size_bytes is None else _ZERO
        if row.size_bytes or row.peak_bytes:
            rank = _ALWAYS
        items.append(table.item(rank, table.category(row)))
        items += [table.item(_PARTS, table.category(part, "  ")) for part in row.parts]
    return items


def _two_columns(frame: Frame, rows: Sequence[BreakdownRow], width: int) -> list[_Item]:
    """The second half of the categories beside the first, without their parts."""
    half = width // 2
    table, both = _Table(frame, half, rows), _Table(frame, width, rows)

    def side(pieces: list[Piece]) -> list[Piece]:
        space = half - sum(cell_len(text) for text, _ in pieces)
        return [*pieces, (" " * space, frame.ink("text"))]

    items = [both.item(_HEADS, [*side(table.heads()), *table.heads()])]
    count = (len(rows) + 1) // 2
    for i in range(count):
        right = table.category(rows[i + count]) if i + count < len(rows) else []
        items.append(both.item(_ALWAYS, [*side(table.category(rows[i])), *right]))
    return items


def _sums(
    table: _Table, breakdown: Breakdown, frame: Frame, rows: Sequence[BreakdownRow]
) -> list[_Item]:
    """What the tensors hold, and the whole process."""
    peak = frame.detail.peak if frame.detail else None
    tensors = (
        "tensors" if frame.torch_device == "cpu" else "allocated",
        format_bytes(breakdown.tensor_bytes),
        format_bytes(peak.total_bytes) if peak else "",
        "",
        "",
    )
    whole = breakdown.process_bytes
    changes = [row.change_bytes for row in rows if row.change_bytes is not None]
    process = (
        "reserved" if whole is None else "process",
        format_bytes(total_bytes(breakdown) if whole is None else whole),
        "",
        "",
        format_delta(sum(changes)) if changes else "",
    )
    return [
        table.item(_PARTS, table.cells(tensors, ("dim",) * 5)),
        table.item(_ALWAYS, table.cells(process, ("dim", "accent", "dim", "dim", "dim"))),
    ]


def _below(frame: Frame, breakdown: Breakdown, process: Process, width: int) -> list[_Item]:
    """Where the peak was, and what is not known."""
    detail = frame.detail
    items = []
    if detail and detail.peak:
        items.append(_Item(_PEAK_WORDS, sentences([peak_sentence(detail.peak)], width, frame)))
    if breakdown.activation_bytes is None and detail is None:
        items.append(_Item(_HEADS, sentences(why_no_detail(process), width, frame, "warn")))
    notes = detail.notes if detail else ()
    return items + [_Item(_NOTES, sentences([note], width, frame, "warn")) for note in notes]
