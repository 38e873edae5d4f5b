"""A timeline written anew event by event, with blocks put in, changed and released elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .timeline import BlockInfo, Mark, Timeline


class Rewriter:
    """Builds a timeline; numbers are those of its own blocks, from 0."""

    def __init__(self, blocks: Iterable[BlockInfo] = ()) -> None:
        self._blocks = list(blocks)
        self._events: list[int] = []
        self._modules: list[str] = []
        self._marks: list[Mark] = []
        self.module = ""
        """Module under which the next events are written."""

    def mark(self, mark: Mark) -> None:
        """A phase begins with the next event."""
        self._marks.append(replace(mark, event=len(self._events)))

    def allocate(self, number: int) -> None:
        """Allocate a block that is already there."""
        self._events.append(number + 1)
        self._modules.append(self.module)

    def add(self, block: BlockInfo) -> int:
        """Allocate a new block; returns its number."""
        self._blocks.append(block)
        self.allocate(len(self._blocks) - 1)
        return len(self._blocks) - 1

    def release(self, number: int) -> None:
        """Release a block."""
        self._events.append(-number - 1)
        self._modules.append(self.module)

    def block(self, number: int) -> BlockInfo:
        """What a block is."""
        return self._blocks[number]

    def finish(self, timeline: Timeline, note: str) -> Timeline:
        """The new timeline, of what was allocated; ``timeline`` gives what does not change."""
        order = [event - 1 for event in self._events if event > 0]
        places = {old: new for new, old in enumerate(order)}
        return replace(
            timeline,
            blocks=tuple(self._blocks[number] for number in order),
            events=tuple(
                places[event - 1] + 1 if event > 0 else -places[-event - 1] - 1
                for event in self._events
            ),
            marks=tuple(self._marks),
            event_modules=tuple(self._modules) if timeline.event_modules else (),
            notes=(*timeline.notes, note),
        )


def blocks_of_steps(timeline: Timeline) -> set[int]:
    """Numbers of the optimizer's blocks: its states, and all that is allocated in its steps."""
    found = {
        number
        for number, block in enumerate(timeline.blocks)
        if block.category == "optimizer_state"
    }
    ends = [mark.event for mark in timeline.marks[1:]] + [len(timeline.events)]
    for mark, end in zip(timeline.marks, ends, strict=True):
        if mark.phase == "step":
            found.update(event - 1 for event in timeline.events[mark.event : end] if event > 0)
    return {number for number in found if timeline.blocks[number].category != "workspace"}


def divided(block: BlockInfo, parts: int) -> BlockInfo:
    """A rank's part of a block that is spread evenly, rounded up."""
    return replace(
        block,
        base_bytes=-(-block.base_bytes // parts),
        slope_bytes=-(-block.slope_bytes // parts),
    )
