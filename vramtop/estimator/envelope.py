"""The peak of a timeline over the batch size: the upper envelope of a line for every event.

What is live after an event is a sum of sizes affine in the batch, so itself a line; the peak at a
batch size is the highest of them. Most lines are nowhere the highest and are dropped once.
"""

from __future__ import annotations

from bisect import bisect_right

from .timeline import Timeline


class Envelope:
    """Requested bytes at the fullest moment, for any batch size, in microseconds."""

    def __init__(self, timeline: Timeline, workspace_bytes: int = 0) -> None:
        highest: dict[int, int] = {}
        base = slope = 0
        for event in timeline.events:
            block = timeline.blocks[abs(event) - 1]
            sign = 1 if event > 0 else -1
            extra = workspace_bytes if block.category == "workspace" else 0
            base += sign * (block.base_bytes + extra)
            slope += sign * block.slope_bytes
            if event > 0 and base > highest.get(slope, base - 1):
                highest[slope] = base
        self._lines: list[tuple[int, int]] = []
        self._starts: list[float] = []
        for slope, base in sorted(highest.items()):
            self._add(slope, base)

    def _add(self, slope: int, base: int) -> None:
        start = float("-inf")
        while self._lines:
            last_slope, last_base = self._lines[-1]
            start = (last_base - base) / (slope - last_slope)
            if start > self._starts[-1]:
                break
            self._lines.pop()
            self._starts.pop()
            start = float("-inf")
        self._lines.append((slope, base))
        self._starts.append(start)

    def peak_bytes(self, batch: int) -> int:
        """The most that is requested at once at a batch size."""
        # The neighbours too: where lines cross, floats decide between equals only.
        at = bisect_right(self._starts, batch) - 1
        near = self._lines[max(at - 1, 0) : at + 2]
        return max(base + slope * batch for slope, base in near)
