"""The past of one process on one torch device: a bounded value that only ever grows at its end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Final

from .memory import CATEGORIES, Breakdown
from .model import HistoryPoint

RESOLUTION_S: Final = 0.25
"""Points closer than this are one point, the largest: 10 Hz probes keep five minutes."""
MAX_POINTS: Final = 1200
_CHUNK: Final = 40
_MAX_CHUNKS: Final = MAX_POINTS // _CHUNK - 1
"""One chunk's worth of room is the tail's."""
_GAP_PERIODS: Final = 3.0
"""Silence of that many neighbouring periods is a gap; shorter silence is the usual jitter."""
_MIN_GAP_S: Final = 3.0


def total_bytes(breakdown: Breakdown) -> int:
    """Sum of the categories that are known."""
    return sum(breakdown.bytes_of(category) or 0 for category in CATEGORIES)


@dataclass(frozen=True, slots=True)
class History:
    """Points in order of time, at most ``MAX_POINTS``, the oldest dropped first.

    Full chunks are shared between a history and the one that follows it, so that an append copies
    a few dozen references instead of all.
    """

    chunks: tuple[tuple[HistoryPoint, ...], ...] = ()
    tail: tuple[HistoryPoint, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.chunks)) + len(self.tail)

    def __iter__(self) -> Iterator[HistoryPoint]:
        return chain(chain.from_iterable(self.chunks), self.tail)

    @property
    def last(self) -> HistoryPoint | None:
        """The newest point."""
        return self.tail[-1] if self.tail else None

    def append(self, point: HistoryPoint) -> History:
        """With a newer point; the same or an older time changes nothing."""
        tail = self.tail
        if tail:
            last = tail[-1]
            if point.at <= last.at:
                return self
            if _slot(point.at) == _slot(last.at):
                return History(self.chunks, (*tail[:-1], _larger(last, point)))
            if len(tail) >= _CHUNK:
                return History((*self.chunks[-(_MAX_CHUNKS - 1) :], tail), (point,))
        return History(self.chunks, (*tail, point))

    def merge(self, points: Iterable[HistoryPoint]) -> History:
        """With points of any time and order, such as what a probe kept before we came."""
        by_slot: dict[int, HistoryPoint] = {}
        for point in chain(self, points):
            slot = _slot(point.at)
            known = by_slot.get(slot)
            by_slot[slot] = point if known is None else _larger(known, point)
        merged = [by_slot[slot] for slot in sorted(by_slot)][-_MAX_CHUNKS * _CHUNK :]
        if not merged:
            return self
        *full, tail = (
            tuple(merged[start : start + _CHUNK]) for start in range(0, len(merged), _CHUNK)
        )
        return History(tuple(full), tail)

    def columns(self, width: int, now: float, span_s: float) -> list[Breakdown | None]:
        """The last ``span_s`` seconds in ``width`` columns, oldest first.

        Each column is the largest point in it, so that no peak is lost. Columns between two points
        repeat the earlier one, unless it was silent for so long that it is a gap: None. Columns
        lie at fixed times, so that a moving ``now`` shifts the picture and does not redraw it.
        """
        columns: list[Breakdown | None] = [None] * max(width, 0)
        points = list(self)
        if not columns or not points or span_s <= 0:
            return columns
        column_s = span_s / width
        leftmost = int(now // column_s) - width + 1
        # The point before the window may reach into it.
        start = bisect_left(points, leftmost * column_s, key=lambda point: point.at)
        points = points[max(start - 1, 0) :]
        following_at = [*(point.at for point in points[1:]), now + column_s]
        for point, next_at, gap_s in zip(
            points, following_at, _gaps_s(points, column_s), strict=True
        ):
            own = int(point.at // column_s) - leftmost
            end = int(next_at // column_s) - leftmost if next_at - point.at <= gap_s else 0
            for column in range(max(own, 0), min(max(end, own + 1), width)):
                known = columns[column]
                if known is None or total_bytes(point.breakdown) > total_bytes(known):
                    columns[column] = point.breakdown
        return columns


def _slot(at: float) -> int:
    return int(at // RESOLUTION_S)


def _larger(one: HistoryPoint, other: HistoryPoint) -> HistoryPoint:
    return other if total_bytes(other.breakdown) > total_bytes(one.breakdown) else one


def _gaps_s(points: list[HistoryPoint], column_s: float) -> list[float]:
    """For each point, the silence after it from which on it is a gap.

    It goes by the periods beside it, since the user may change the pace of reading.
    """
    periods = [later.at - earlier.at for earlier, later in pairwise(points)]
    before = [0.0, *periods]
    after = [*periods[1:], 0.0, 0.0][: len(points)]
    return [
        max(_GAP_PERIODS * max(pair), _MIN_GAP_S, column_s)
        for pair in zip(before, after, strict=True)
    ]
