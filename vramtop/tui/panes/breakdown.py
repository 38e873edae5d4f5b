"""What the selected process's memory is for: bars and a table by category, now and at the peak."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from textual.strip import Strip

from ...core.breakdowns import BreakdownRow, breakdown_of, breakdown_rows
from ...core.history import total_bytes
from ...core.model import Process
from ...core.units import format_bytes, format_delta
from ..frame import Frame
from ..paint import Piece, bar, fit, line, swatch
from ..words import peak_words, training_facts, why_no_breakdown, why_no_detail
from .base import Pane, sentences

_LABEL: Final = (16, 24)
"""Least and most; a label further from its number is hard to follow."""
_COLUMNS: Final = (("NOW", 9), ("AT PEAK", 9), ("SHARE", 7), ("CHANGE", 11))
"""In the order in which narrow panes keep them."""
_MARK: Final = 3
_BAR_LABEL: Final = 6
_TWO_COLUMNS_FROM: Final = 76


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    """A line that is left out on low screens; the highest ``rank`` goes first."""

    rank: int
    strip: Strip


class BreakdownPane(Pane):
    """Training's view of one process on one torch device."""

    TITLE: ClassVar[str] = "Breakdown"
    NAME: ClassVar[str] = "breakdown"

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """The bars, the categories, their sum, the peak, and what the training is."""
        process = frame.process
        if process is None:
            return sentences(["no process selected"], width, frame)
        if frame.torch_device is None:
            return sentences(why_no_breakdown(process), width, frame)
        rows = breakdown_rows(frame.fleet, process, frame.torch_device)
        above, below = _bars(frame, rows, width), _below(frame, process, rows, width)
        is_low = len(rows) + len([i for i in (*above, *below) if i.rank < 2]) > height
        if is_low and width >= _TWO_COLUMNS_FROM:
            table = _two_columns(frame, rows, width)
        else:
            table = _table(frame, rows, width)
        lines = _kept([*above, *table, *below], height)
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


def _kept(items: list[_Item], height: int) -> list[Strip]:
    """As many lines as there is room for; those that must not go scroll."""
    for rank in range(9, 1, -1):
        excess = len(items) - height
        if excess <= 0:
            break
        going = [item for item in items if item.rank == rank][-excess:]
        items = [item for item in items if item not in going]
    return [item.strip for item in items]


def _bars(frame: Frame, rows: list[BreakdownRow], width: int) -> list[_Item]:
    """What is held now and what was at the peak, on one scale."""
    now = [(row.category, float(row.size_bytes or 0)) for row in rows]
    peak = [(row.category, float(row.peak_bytes or 0)) for row in rows]
    top = max(sum(size for _, size in parts) for parts in (now, peak)) or 1.0
    items = []
    for rank, label, parts in ((0, "now", now), (3, "peak", peak)):
        total = sum(size for _, size in parts)
        if label == "peak" and not total:
            continue
        ink = frame.ink
        pieces: list[Piece] = [(fit(f" {label}", _BAR_LABEL), ink("dim"))]
        pieces += bar(parts, round(total / top * (width - _BAR_LABEL - 1)), ink)
        items.append(_Item(rank, line(pieces, width, ink("text"))))
    return items


def _below(frame: Frame, process: Process, rows: list[BreakdownRow], width: int) -> list[_Item]:
    """The sums, where the peak was, and what is not known."""
    ink = frame.ink
    device = frame.torch_device or ""
    breakdown = breakdown_of(process, device)
    detail = frame.detail
    peak = detail.peak if detail else None
    items = []
    if breakdown is not None:
        label = "tensors" if device == "cpu" else "allocated"
        at_peak = format_bytes(peak.total_bytes) if peak else ""
        texts = (label, format_bytes(breakdown.tensor_bytes), at_peak, "", "")
        items.append(_Item(5, _row(frame, [("   ", ink("dim"))], texts, rows, width, ("dim",) * 5)))
        whole = breakdown.process_bytes
        texts = (
            "process" if whole is not None else "reserved",
            format_bytes(total_bytes(breakdown) if whole is None else whole),
            "",
            "",
            _sum_of_changes(rows),
        )
        tones = ("dim", "accent", "dim", "dim", "dim")
        items.append(_Item(1, _row(frame, [("   ", ink("dim"))], texts, rows, width, tones)))
    if peak is not None:
        said = sentences(
            [f"peak {format_bytes(peak.total_bytes)} {peak_words(peak)}"], width, frame
        )
        items += [_Item(4, strip) for strip in said]
    notes = detail.notes if detail else why_no_detail(process)
    items += [_Item(2 if detail is None else 7, s) for s in sentences(notes, width, frame, "warn")]
    return items


def _sum_of_changes(rows: list[BreakdownRow]) -> str:
    changes = [row.change_bytes for row in rows if row.change_bytes is not None]
    return format_delta(sum(changes)) if changes else ""


def _columns(rows: list[BreakdownRow], width: int) -> list[int]:
    """Positions in ``_COLUMNS`` of what is shown."""
    has_peak = any(row.peak_bytes is not None for row in rows)
    room = width - _MARK - _LABEL[0] - 1
    kept = []
    for position, (_, size) in enumerate(_COLUMNS):
        if position == 1 and not has_peak:
            continue
        if room < size:
            break
        room -= size
        kept.append(position)
    return kept


def _row(
    frame: Frame,
    mark: list[Piece],
    texts: tuple[str, ...],
    rows: list[BreakdownRow],
    width: int,
    tones: tuple[str, ...],
) -> Strip:
    return line(_cells(frame, mark, texts, rows, width, tones), width, frame.ink("text"))


def _cells(
    frame: Frame,
    mark: list[Piece],
    texts: tuple[str, ...],
    rows: list[BreakdownRow],
    width: int,
    tones: tuple[str, ...],
) -> list[Piece]:
    """A label, then the columns that fit, aligned for every kind of line."""
    ink = frame.ink
    columns = _columns(rows, width)
    used = sum(_COLUMNS[position][1] for position in columns)
    label = min(max(width - _MARK - 1 - used, _LABEL[0]), _LABEL[1])
    pieces: list[Piece] = [*mark, (fit(texts[0], label), ink(tones[0]))]
    for position in columns:
        text, tone = texts[1 + position], tones[1 + position]
        pieces.append((fit(text, _COLUMNS[position][1], right=True), ink(tone)))
    return pieces


def _heads(frame: Frame, rows: list[BreakdownRow], width: int) -> list[Piece]:
    blank: list[Piece] = [(" " * _MARK, frame.ink("dim"))]
    texts = ("", *(title for title, _ in _COLUMNS))
    return _cells(frame, blank, texts, rows, width, ("dim",) * 5)


def _category(
    frame: Frame, row: BreakdownRow, rows: list[BreakdownRow], width: int, indent: str = ""
) -> list[Piece]:
    """One category, or a part of one without a mark of its own."""
    ink = frame.ink
    label, size, share, change = row.texts
    mark: list[Piece] = [(" " * _MARK, ink("text"))]
    if not indent:
        mark = [(" ", ink("text")), swatch(row.category, ink), (" ", ink("text"))]
    tone = "text" if row.size_bytes and not indent else "dim"
    tones = (
        "dim" if indent else "text",
        tone,
        "text" if row.peak_bytes and not indent else "dim",
        tone,
        "text" if row.change_bytes and not indent else "dim",
    )
    texts = (indent + label, size, row.peak_text, share, change)
    return _cells(frame, mark, texts, rows, width, tones)


def _table(frame: Frame, rows: list[BreakdownRow], width: int) -> list[_Item]:
    text = frame.ink("text")
    items = [_Item(2, line(_heads(frame, rows, width), width, text))]
    for row in rows:
        rank = 0 if row.size_bytes or row.peak_bytes else 6 if row.size_bytes is not None else 8
        items.append(_Item(rank, line(_category(frame, row, rows, width), width, text)))
        items += [
            _Item(5, line(_category(frame, part, rows, width, "  "), width, text))
            for part in row.parts
        ]
    return items


def _two_columns(frame: Frame, rows: list[BreakdownRow], width: int) -> list[_Item]:
    """The second half of the categories beside the first, without their parts."""
    half = width // 2
    text = frame.ink("text")

    def side(pieces: list[Piece]) -> list[Piece]:
        return [*pieces, (" " * (half - sum(len(piece[0]) for piece in pieces)), text)]

    heads = _heads(frame, rows, half)
    items = [_Item(2, line([*side(heads), *heads], width, text))]
    count = (len(rows) + 1) // 2
    for i in range(count):
        pieces = side(_category(frame, rows[i], rows, half))
        if i + count < len(rows):
            pieces += _category(frame, rows[i + count], rows, half)
        items.append(_Item(0, line(pieces, width, text)))
    return items
