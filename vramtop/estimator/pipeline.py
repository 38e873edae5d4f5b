"""What one stage of a pipeline holds, composed from the timeline of a stage's layers.

The trace has the embedding, a stage's share of the layers and the head. A first stage lacks the
head, a last stage the embedding; and a stage keeps the activations of as many micro-batches as its
schedule has in flight (Narayanan et al. 2021, arXiv 2104.04473, sections 2.2 and 2.3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal

from .sharding import pipeline_in_flight
from .timeline import BlockInfo, Mark, Timeline
from .workload import Workload

Side = Literal["front", "back"]
STAGES: Final[tuple[Side, Side]] = ("front", "back")
"""The first and the last stage: no other holds more than both of them."""


def stage(timeline: Timeline, workload: Workload, which: Side) -> Timeline:
    """The timeline of the first or the last stage, with what it has in flight."""
    sides = _sides(timeline)
    dropped = {i for i, side in enumerate(sides) if side not in (None, which)}
    held = _with_in_flight(_without(timeline, dropped), workload, which)
    return replace(held, notes=(*held.notes, f"composed for a pipeline's {_NAMES[which]} stage"))


_NAMES: Final = {"front": "first", "back": "last"}


def _sides(timeline: Timeline) -> list[Side | None]:
    """Of each block outside the layers whether the embedding's or the head's end made it."""
    sides: list[Side | None] = []
    by_module: dict[str, Side] = {}
    phase, behind = "load", False
    marks = list(timeline.marks)
    for position, event in enumerate(timeline.events):
        while marks and marks[0].event <= position:
            phase = marks.pop(0).phase
            behind = phase == "backward"
        if event < 0:
            continue
        block = timeline.blocks[event - 1]
        if block.layer is not None:
            behind = phase != "backward"
            sides.append(None)
            continue
        side: Side = "back" if behind else "front"
        if phase in ("load", "step", "zero_grad"):
            # The optimizer goes over all parameters again and again: names tell, not the order.
            side = by_module.setdefault(block.module, side)
        elif block.category == "gradient":
            side = by_module.get(block.module, side)
        shared = block.category in ("workspace", "input")
        sides.append(None if shared else side)
    return sides


def _without(timeline: Timeline, dropped: set[int]) -> Timeline:
    blocks: list[BlockInfo] = []
    numbers: dict[int, int] = {}
    events: list[int] = []
    modules: list[str] = []
    positions: list[int] = []
    for position, event in enumerate(timeline.events):
        positions.append(len(events))
        index = abs(event) - 1
        if index in dropped:
            continue
        if event > 0:
            blocks.append(timeline.blocks[index])
            numbers[index] = len(blocks)
        events.append(numbers[index] if event > 0 else -numbers[index])
        modules.append(timeline.event_modules[position])
    positions.append(len(events))
    marks = tuple(replace(mark, event=positions[mark.event]) for mark in timeline.marks)
    return replace(
        timeline,
        blocks=tuple(blocks),
        events=tuple(events),
        marks=marks,
        event_modules=tuple(modules),
    )


def _with_in_flight(timeline: Timeline, workload: Workload, which: Side) -> Timeline:
    """Hold the activations of the other micro-batches from each forward to its backward's end."""
    others = pipeline_in_flight(workload.parallel)[which == "back"] - 1
    if others <= 0 or not workload.training:
        return timeline
    base, slope = _kept(timeline)
    blocks, events = list(timeline.blocks), list(timeline.events)
    modules, marks = list(timeline.event_modules), list(timeline.marks)
    extra = BlockInfo(int(base * others), int(slope * others), "activation", "", None, "in flight")
    added = 0
    held: int | None = None
    for number, mark in enumerate(marks):
        marks[number] = Mark(mark.event + added, mark.phase, mark.step)
        begins = mark.phase == "forward"
        if not begins and (held is None or mark.phase == "backward"):
            continue
        if begins:
            blocks.append(extra)
            held = len(blocks)
        assert held is not None
        # At the mark and within the phase that begins there.
        events.insert(marks[number].event, held if begins else -held)
        modules.insert(marks[number].event, "")
        added += 1
        if not begins:
            held = None
    return replace(
        timeline,
        blocks=tuple(blocks),
        events=tuple(events),
        marks=tuple(marks),
        event_modules=tuple(modules),
    )


def _kept(timeline: Timeline) -> tuple[int, int]:
    """(base, slope) of the layers' activations that a forward leaves for its backward."""
    first = next(i for i, mark in enumerate(timeline.marks) if mark.phase == "forward")
    start, end = timeline.marks[first].event, timeline.marks[first + 1].event
    live = set()
    for event in timeline.events[start:end]:
        if event > 0 and timeline.blocks[event - 1].layer is not None:
            live.add(event - 1)
        else:
            live.discard(-event - 1)
    kept = [timeline.blocks[index] for index in live]
    return sum(b.base_bytes for b in kept), sum(b.slope_bytes for b in kept)
