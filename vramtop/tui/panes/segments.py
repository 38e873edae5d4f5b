"""The caching allocator's segments as a map: what is where, and the holes between."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.strip import Strip

from ...core.memory import CATEGORIES, Block, Segment, SegmentMap
from ...core.segments import SegmentGroup, groups, totals, warning
from ...core.units import format_bytes, format_duration
from ...draw.segmap import Spans, cell_bytes_for, segment_rows
from ...draw.tones import PENDING
from ..frame import Frame
from ..paint import fit, glyph, line, printable, styled
from ..words import why_no_breakdown, why_no_detail
from .base import Pane, sentences
from .devices import legend_lines

_LEGEND_FROM_HEIGHT: Final = 9
_HEADS_FROM_LINES: Final = 5
"""Lines a group, from which on each has one of its own for its totals."""


class SegmentsPane(Pane):
    """The allocator's view of one torch device."""

    TITLE: ClassVar[str] = "Segments"
    SHORT: ClassVar[str] = "Segs"
    NAME: ClassVar[str] = "segments"

    def __init__(self) -> None:
        super().__init__()
        self._cell_bytes = 0
        self._drawn: tuple[tuple[object, ...], list[Strip]] = ((), [])
        """What the last picture was drawn from, and its lines: a map is drawn once."""

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """Totals, what the holes cannot serve, then the map by pool and stream, and a legend."""
        process, part = frame.process, frame.part
        if process is None:
            return sentences(["no process selected"], width, frame)
        if part is None:
            return sentences(why_no_breakdown(process, frame.view), width, frame)
        if part.device == "cpu":
            why = "the CPU has no caching allocator; a segment map needs CUDA"
            return sentences([why], width, frame)
        if part.segments is None or not part.segments.segments:
            said = why_no_detail(process) if part.detail is None else ["no segment map came yet"]
            return sentences(said, width, frame)
        free_bytes = frame.device_memory.free_bytes if frame.device_memory else None
        drawn_from = (part.segments, free_bytes, width, height, frame.ink)
        if self._drawn[0] != drawn_from:
            lines, self._cell_bytes = _map_lines(frame, part.segments, width, height)
            self._drawn = (drawn_from, lines)
        return self._drawn[1]

    def title_note(self, frame: Frame) -> str:
        """What a cell stands for, and how old the map is."""
        shown = frame.part.segments if frame.part else None
        if shown is None:
            return frame.place_text
        age_s = max(frame.fleet.snapshot.taken_at - shown.at, 0.0)
        return f"cell {format_bytes(self._cell_bytes)}, {format_duration(age_s)} ago"

    def move(self, to: str) -> None:
        """Left and right change the torch device."""
        if to in {"left", "right"}:
            self.post_message(self.DeviceTurned(1 if to == "right" else -1))
        else:
            super().move(to)


def _map_lines(frame: Frame, shown: SegmentMap, width: int, height: int) -> tuple[list[Strip], int]:
    """All lines, and what a cell stands for."""
    ink = frame.ink
    grouped = groups(shown)
    mapped = [[_spans(segment) for segment in group.segments] for group in grouped]
    keys = {key for group in mapped for spans in group for key, _ in spans}
    lines = _said(frame, shown, width)
    present = [key for key in (*CATEGORIES, PENDING) if key in keys]
    legend = legend_lines(frame, present, width) if height >= _LEGEND_FROM_HEIGHT else []
    room = height - len(lines) - len(legend) - bool(shown.omitted_segments)
    has_heads = room >= _HEADS_FROM_LINES * len(grouped)
    room -= has_heads * len(grouped)
    labels = [_label(group, grouped) for group in grouped]
    left = 1 if has_heads else max(map(len, labels)) + 2
    map_width = max(width - left - 1, 2)
    cell_bytes = cell_bytes_for(mapped, map_width, max(room, 1))
    glyphs = {key: glyph(key, ink) for key in keys}
    for group, label, spans in zip(grouped, labels, mapped, strict=True):
        if has_heads:
            lines.append(_head(frame, group, label, width))
        for i, row in enumerate(segment_rows(spans, map_width, cell_bytes, glyphs)):
            beside = fit("" if has_heads or i else f" {label}", left)
            pieces = [(beside, ink("accent")), *styled(row, ink)]
            lines.append(line(pieces, width, ink("text")))
    if shown.omitted_segments:
        rest = format_bytes(shown.omitted_bytes)
        text = f"and {shown.omitted_segments} smaller segments, {rest} together"
        lines += sentences([text], width, frame)
    return lines + legend, cell_bytes


def _spans(segment: Segment) -> Spans:
    """What the cells of a segment show; free pieces of one in use are fragmentation."""
    in_use = any(block.state != "free" for block in segment.blocks)
    spans = [(_key(block, in_use=in_use), block.size_bytes) for block in segment.blocks]
    rest = segment.total_bytes - sum(size for _, size in spans)
    return [*spans, ("unknown", rest)] if rest > 0 else spans


def _key(block: Block, *, in_use: bool) -> str:
    if block.state == "pending":
        return PENDING
    if block.state == "free":
        return "fragmentation" if in_use else "cached"
    return block.category or "unknown"


def _said(frame: Frame, shown: SegmentMap, width: int) -> list[Strip]:
    """The totals, and what the holes cannot serve."""
    sums = totals(shown.segments)
    reserved = f"reserved {format_bytes(sums.total_bytes + shown.omitted_bytes)}"
    allocated = f"allocated {format_bytes(sums.allocated_bytes)}"
    pending = f"pending {format_bytes(sums.pending_bytes)}"
    free = f"free {format_bytes(sums.free_bytes)}"
    largest = f"largest free {format_bytes(sums.largest_free_bytes)}"
    told = [reserved, allocated, free, largest]
    if sums.pending_bytes and len(" · ".join([*told, pending])) < width - 1:
        told.insert(2, pending)
    lines = sentences([" · ".join(told)], width, frame, "text")
    memory = frame.device_memory
    if warned := warning(shown, memory.free_bytes if memory else None):
        lines += sentences([warned], width, frame, "warn")
    return lines


def _label(group: SegmentGroup, grouped: list[SegmentGroup]) -> str:
    """The pool, and the stream where there is more than one."""
    if len({other.stream for other in grouped}) == 1:
        return printable(group.pool)
    return printable(f"{group.pool} s{group.stream}")


def _head(frame: Frame, group: SegmentGroup, label: str, width: int) -> Strip:
    ink, sums = frame.ink, group.totals
    count = f"{sums.segments} segment{'s' * (sums.segments != 1)}"
    told = f"  {count}, {format_bytes(sums.total_bytes)}, free {format_bytes(sums.free_bytes)}"
    told += f", largest free {format_bytes(sums.largest_free_bytes)}"
    return line([(f" {label}", ink("accent")), (told, ink("dim"))], width, ink("dim"))
