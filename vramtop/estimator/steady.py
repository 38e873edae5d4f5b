"""One more training step after those that were traced: a copy of the last.

What is allocated is the same in every step from the second on, but not what is reserved: the
allocator's free blocks come to lie differently, and segments are added for a step or two more.
"""

from __future__ import annotations

from dataclasses import replace

from .timeline import BlockInfo, Mark, Timeline


def with_another_step(timeline: Timeline) -> Timeline:
    """The timeline with its last step once more; unchanged where that has no counterpart.

    A release in the copy is that of the copied block; of a block from before the last step (the
    outputs that a loop keeps until the next forward) it is that of its counterpart from the last.
    """
    last = max((mark.step for mark in timeline.marks), default=0)
    own = [mark for mark in timeline.marks if mark.step == last and mark.phase != "end"]
    if last < 2 or not own:
        return timeline
    start = own[0].event
    end = next((m.event for m in timeline.marks if m.phase == "end"), len(timeline.events))
    step = timeline.events[start:end]
    made = {event - 1 for event in step if event > 0}
    gone = [-event - 1 for event in step if event < 0]
    kept = sorted(made.difference(gone))
    old = sorted(index for index in gone if index not in made)
    if [_told(timeline.blocks[i]) for i in kept] != [_told(timeline.blocks[i]) for i in old]:
        return timeline
    heirs = dict(zip(old, kept, strict=True))
    blocks, events = list(timeline.blocks), []
    copies: dict[int, int] = {}
    for event in step:
        if event > 0:
            blocks.append(timeline.blocks[event - 1])
            copies[event - 1] = len(blocks) - 1
            events.append(len(blocks))
        else:
            index = -event - 1
            events.append(-(copies[index] if index in made else heirs[index]) - 1)
    again = [Mark(mark.event - start + end, mark.phase, last + 1) for mark in own]
    before = [mark for mark in timeline.marks if mark.phase != "end"]
    return replace(
        timeline,
        blocks=tuple(blocks),
        events=(*timeline.events[:end], *events),
        event_modules=(*timeline.event_modules[:end], *timeline.event_modules[start:end]),
        marks=(*before, *again, Mark(end + len(events), "end", last + 1)),
    )


def _told(block: BlockInfo) -> tuple[int, int, str]:
    return block.base_bytes, block.slope_bytes, block.category
