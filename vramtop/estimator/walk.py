"""A timeline without an allocator: what its storages take, phase by phase, and at the fullest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .timeline import WORKSPACE, BlockInfo, Mark, Timeline

SizeOf = Callable[[BlockInfo], int]
"""Bytes that a block counts."""


@dataclass(frozen=True, slots=True)
class PhaseWalk:
    """One run of a phase."""

    name: str
    step: int
    after: Mapping[str, int]
    """Bytes by the category of the blocks at its end."""
    peak_bytes: int
    """The most in it, its beginning included."""


@dataclass(frozen=True, slots=True)
class Walk:
    """Phases in order of time, and the fullest moment of them all, the first where several are."""

    phases: tuple[PhaseWalk, ...]
    peak: Mapping[str, int]
    peak_bytes: int
    peak_phase: str
    peak_step: int
    peak_module: str


def storage_bytes(batch: int, round_to: int = 1) -> SizeOf:
    """A block's size at a batch size, rounded up; libraries' workspaces are no storages."""

    def size(block: BlockInfo) -> int:
        if block.category == WORKSPACE:
            return 0
        return -(-block.size_bytes(batch) // round_to) * round_to

    return size


def walk(timeline: Timeline, size_of: SizeOf, *, only_last_step: bool = False) -> Walk:
    """Go through a timeline; of what is before the last step only what is left of it counts then.

    What lies between two phases counts to the beginning of the later one.
    """
    sizes = [size_of(block) for block in timeline.blocks]
    last = max((mark.step for mark in timeline.marks if mark.phase != "end"), default=0)
    held: Counter[str] = Counter()
    phases: list[PhaseWalk] = []
    total = 0
    peak_bytes, peak_at, peak_phase, peak_step = 0, -1, "", 0
    for mark, start, end in _spans(timeline):
        most, most_at = total, start - 1
        for at in range(start, end):
            number = abs(timeline.events[at]) - 1
            size = sizes[number] if timeline.events[at] > 0 else -sizes[number]
            held[timeline.blocks[number].category] += size
            total += size
            if total > most:
                most, most_at = total, at
        if only_last_step and mark.step != last:
            continue
        if most > peak_bytes:
            peak_bytes, peak_at, peak_phase, peak_step = most, most_at, mark.phase, mark.step
        if mark.phase != "other":
            phases.append(PhaseWalk(mark.phase, mark.step, dict(held), most))
    module = timeline.event_modules[peak_at] if timeline.event_modules and peak_at >= 0 else ""
    peak = _held_at(timeline, sizes, peak_at)
    return Walk(tuple(phases), peak, peak_bytes, peak_phase, peak_step, module)


def _spans(timeline: Timeline) -> Iterator[tuple[Mark, int, int]]:
    """(mark, first event, event after the last) up to the end of the run."""
    for number, mark in enumerate(timeline.marks):
        if mark.phase == "end":
            return
        is_last = number + 1 == len(timeline.marks)
        end = len(timeline.events) if is_last else timeline.marks[number + 1].event
        yield mark, mark.event, end


def _held_at(timeline: Timeline, sizes: list[int], last_event: int) -> dict[str, int]:
    held: Counter[str] = Counter()
    for event in timeline.events[: last_event + 1]:
        number = abs(event) - 1
        held[timeline.blocks[number].category] += sizes[number] if event > 0 else -sizes[number]
    return dict(held)
