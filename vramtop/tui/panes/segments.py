"""The caching allocator's segments as a map: what is where, and the holes between."""

from __future__ import annotations

from typing import ClassVar, Final

from textual.strip import Strip

from ...core.memory import CATEGORIES, Block, Segment, SegmentMap
from ...core.segments import SegmentGroup, groups, totals, warning
from ...core.units import format_bytes, format_duration
from ...draw.segmap import Spans, cell_bytes_for, segment_rows
from ..frame import Frame
from ..paint import Piece, glyph, line, styled
from ..theme import PENDING
from ..words import why_no_breakdown, why_no_detail
from .base import Pane, sentences
from .devices import legend_lines

_LEGEND_FROM_HEIGHT: Final = 9


class SegmentsPane(Pane):
    """The allocator's view of one torch device."""

    TITLE: ClassVar[str] = "Segments"
    NAME: ClassVar[str] = "segments"

    def content(self, frame: Frame, width: int, height: int) -> list[Strip]:
        """Totals, what the holes cannot serve, then the map by pool and stream, and a legend."""
        process, part = frame.process, frame.part
        if process is None:
            return sentences(["no process selected"], width, frame)
        if part is None:
            return sentences(why_no_breakdown(process), width, frame)
        if part.device == "cpu":
            why = "the CPU has no caching allocator; a segment map needs CUDA"
            return sentences([why], width, frame)
        if part.segments is None or not part.segments.segments:
            said = why_no_detail(process) if part.detail is None else ["no segment map came yet"]
            return sentences(said, width, frame)
        return _map_lines(frame, part.segments, width, height)

    def title_note(self, frame: Frame) -> str:
        """Which device, and how old the map is."""
        shown = frame.part.segments if frame.part else None
        if shown is None:
            return frame.place_text
        age_s = max(frame.fleet.snapshot.taken_at - shown.at, 0.0)
        return f"{frame.torch_device}, {format_duration(age_s)} ago"

    def move(self, to: str) -> None:
        """Left and right change the torch device."""
        if to in {"left", "right"}:
            self.post_message(self.DeviceTurned(1 if to == "right" else -1))
        else:
            super().move(to)


def _map_lines(frame: Frame, shown: SegmentMap, width: int, height: int) -> list[Strip]:
    ink = frame.ink
    grouped = groups(shown)
    mapped = [[_spans(segment) for segment in group.segments] for group in grouped]
    keys = {key for group in mapped for spans in group for key, _ in spans}
    memory = frame.device_memory
    said = [_totals_text(shown)]
    if warned := warning(shown, memory.free_bytes if memory else None):
        said.append(warned)
    lines = [
        strip
        for text, tone in zip(said, ("text", "warn"), strict=False)
        for strip in sentences([text], width, frame, tone)
    ]
    present = [key for key in (*CATEGORIES, PENDING) if key in keys]
    legend = legend_lines(frame, present, width) if height >= _LEGEND_FROM_HEIGHT else []
    room = height - len(lines) - len(grouped) - len(legend)
    cell_bytes = cell_bytes_for(mapped, width - 2, max(room, 1))
    lines[0] = _with_scale(frame, said[0], cell_bytes, width) or lines[0]
    glyphs = {key: glyph(key, ink) for key in keys}
    for group, spans in zip(grouped, mapped, strict=True):
        lines.append(_group_line(frame, group, width))
        lines += [
            line([(" ", ink("text")), *styled(row, ink)], width, ink("text"))
            for row in segment_rows(spans, width - 2, cell_bytes, glyphs)
        ]
    if shown.omitted_segments:
        rest = format_bytes(shown.omitted_bytes)
        text = f"and {shown.omitted_segments} smaller segments of {rest} together"
        lines += sentences([text], width, frame)
    return lines + legend


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


def _totals_text(shown: SegmentMap) -> str:
    sums = totals(shown.segments)
    reserved = sums.total_bytes + shown.omitted_bytes
    said = [
        f"reserved {format_bytes(reserved)}",
        f"allocated {format_bytes(sums.allocated_bytes)}",
        f"free {format_bytes(sums.free_bytes)}",
        f"largest free block {format_bytes(sums.largest_free_bytes)}",
    ]
    if sums.pending_bytes:
        said.insert(2, f"pending {format_bytes(sums.pending_bytes)}")
    return " · ".join(said)


def _with_scale(frame: Frame, text: str, cell_bytes: int, width: int) -> Strip | None:
    """The totals with the map's scale beside them, where both have room."""
    ink = frame.ink
    scale = f"a cell is {format_bytes(cell_bytes)} "
    room = width - 1 - len(text) - len(scale)
    if room < 2:
        return None
    pieces: list[Piece] = [(f" {text}", ink("text")), (" " * room, ink("text"))]
    return line([*pieces, (scale, ink("dim"))], width, ink("text"))


def _group_line(frame: Frame, group: SegmentGroup, width: int) -> Strip:
    ink, sums = frame.ink, group.totals
    count = f"{sums.segments} segment{'s' * (sums.segments != 1)}"
    where = f" {group.pool}, stream {group.stream}"
    told = f"  {count}, {format_bytes(sums.total_bytes)}, free {format_bytes(sums.free_bytes)}"
    return line([(where, ink("accent")), (told, ink("dim"))], width, ink("dim"))
