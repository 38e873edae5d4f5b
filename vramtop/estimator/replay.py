"""A timeline through the caching allocator: peaks, phases, what they consist of, where it dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ..core.memory import Block, Segment, SegmentMap
from .allocator import CachingAllocator, OutOfMemory
from .timeline import WORKSPACE, Timeline
from .workload import AllocatorConfig

_LIVE_CATEGORY: Final = {"kv_cache": "activation", WORKSPACE: "unknown"}
"""Components that the live breakdown counts elsewhere: a KV cache among the activations, a cuBLAS
workspace, which no tensor owns, among what is unknown."""


AWAITED: Final = 2
"""Awaited blocks: before it allocates one more the program waits until there are fewer
(_max_num_inflight_all_gathers, torch/distributed/fsdp/_limiter_utils.py)."""


@dataclass(frozen=True, slots=True)
class PhaseReplay:
    """One run of a phase."""

    name: str
    step: int
    after_bytes: int
    """Allocated at its end."""
    peak_bytes: int
    """The most allocated in it, its beginning included."""


@dataclass(frozen=True, slots=True)
class Death:
    """The request that found no memory."""

    event: int
    phase: str
    step: int
    module: str
    requested_bytes: int
    free_bytes: int
    """Left of the capacity once all was given back that could be."""
    cached_bytes: int
    """Reserved, free, and still of no use: fragmentation."""


@dataclass(frozen=True, slots=True)
class Replay:
    """What the allocator does with a timeline; up to its death where the capacity is not enough."""

    batch: int
    peak_allocated_bytes: int
    peak_reserved_bytes: int
    end_reserved_bytes: int
    phases: tuple[PhaseReplay, ...]
    """In order of time, every run of every step."""
    components: Mapping[str, int]
    """Bytes of blocks by category at the allocated peak; they sum to it."""
    peak_event: int
    """First event at which the allocated peak was reached; -1 where nothing was allocated."""
    peak_phase: str
    peak_step: int
    peak_module: str
    reserved_peak_event: int
    """First event at which the reserved peak was reached; -1 where nothing was allocated."""
    allocated_at_reserved_peak_bytes: int
    alloc_retries: int
    """How often cached memory had to be given back for a request."""
    death: Death | None = None

    @property
    def fragmentation_bytes(self) -> int:
        """Reserved and not allocated at the reserved peak."""
        return self.peak_reserved_bytes - self.allocated_at_reserved_peak_bytes


def replay(
    timeline: Timeline,
    batch: int,
    *,
    config: AllocatorConfig,
    workspace_bytes: int,
    capacity_bytes: int | None = None,
) -> Replay:
    """Replay all steps of a timeline at a batch size.

    ``capacity_bytes`` is what the allocator may reserve, None without limit. Blocks of category
    ``workspace`` are ``workspace_bytes`` more than the timeline says.
    """
    allocator = CachingAllocator(config, capacity_bytes)
    program = _Program(timeline, _sizes(timeline, batch, workspace_bytes), allocator)
    allocate, release = program.allocate, program.release
    held = [0] * len(timeline.blocks)
    phases: list[PhaseReplay] = []
    death: Death | None = None
    peak = reserved_peak = at_reserved_peak = 0
    peak_event = reserved_peak_event = -1
    peak_phase, peak_step = "", 0
    for name, step, start, end in _phases(timeline):
        allocator.peak_allocated_bytes = allocated = allocator.allocated_bytes
        if name == "forward":
            allocator.wait()  # loops read the loss before they go on
        position = start
        try:
            for position, event in enumerate(timeline.events[start:end], start):
                if event < 0:
                    release(-event - 1)
                    continue
                before = allocator.allocated_bytes
                allocate(event - 1)
                allocated = allocator.allocated_bytes
                held[event - 1] = allocated - before
                if allocated > peak:
                    peak, peak_event, peak_phase, peak_step = allocated, position, name, step
                if allocator.reserved_bytes > reserved_peak:
                    reserved_peak, reserved_peak_event = allocator.reserved_bytes, position
                    at_reserved_peak = allocated
        except OutOfMemory as error:
            death = Death(
                event=position,
                phase=name,
                step=step,
                module=_module(timeline, position),
                requested_bytes=error.requested_bytes,
                free_bytes=error.free_bytes,
                cached_bytes=error.cached_bytes,
            )
        phases.append(
            PhaseReplay(name, step, allocator.allocated_bytes, allocator.peak_allocated_bytes)
        )
        if death is not None:
            break
    return Replay(
        batch=batch,
        peak_allocated_bytes=peak,
        peak_reserved_bytes=allocator.peak_reserved_bytes,
        end_reserved_bytes=allocator.reserved_bytes,
        phases=tuple(phases),
        components=_components(timeline, held, peak_event),
        peak_event=peak_event,
        peak_phase=peak_phase,
        peak_step=peak_step,
        peak_module=_module(timeline, peak_event),
        reserved_peak_event=reserved_peak_event,
        allocated_at_reserved_peak_bytes=at_reserved_peak,
        alloc_retries=allocator.alloc_retries,
        death=death,
    )


def segment_map(
    timeline: Timeline,
    batch: int,
    event: int,
    *,
    config: AllocatorConfig,
    workspace_bytes: int,
    capacity_bytes: int | None = None,
) -> SegmentMap:
    """The allocator's map right after an event, as the live map is; time is 0.

    ``Replay.reserved_peak_event`` and ``peak_event`` are the events worth a look. OutOfMemory
    where the capacity does not reach that far.
    """
    allocator = CachingAllocator(config, capacity_bytes)
    program = _Program(timeline, _sizes(timeline, batch, workspace_bytes), allocator)
    owners: dict[int, str] = {}
    forwards = {mark.event for mark in timeline.marks if mark.phase == "forward"}
    for position, number in enumerate(timeline.events[: event + 1]):
        if position in forwards:
            allocator.wait()  # loops read the loss before they go on
        if number < 0:
            program.release(-number - 1)
        else:
            category = timeline.blocks[number - 1].category
            owners[program.allocate(number - 1)] = _LIVE_CATEGORY.get(category, category)
    segments = tuple(
        Segment(
            total_bytes=segment.total_bytes,
            pool=segment.pool,
            stream=segment.stream,
            expandable=segment.expandable,
            blocks=tuple(
                Block(block.size_bytes, "allocated", owners[block.address])
                if block.allocated
                else Block(block.size_bytes, "free")
                for block in segment.blocks
            ),
        )
        for segment in allocator.segments()
    )
    return SegmentMap(at=0.0, segments=segments)


class _Program:
    """Hands a timeline's blocks to the allocator, each to its stream's pool."""

    def __init__(self, timeline: Timeline, sizes: list[int], allocator: CachingAllocator) -> None:
        self._blocks, self._sizes, self._allocator = timeline.blocks, sizes, allocator
        self._addresses = [0] * len(sizes)

    def allocate(self, number: int) -> int:
        """The new block's address."""
        block = self._blocks[number]
        if block.awaited:
            self._allocator.wait(fewer_than=AWAITED)
        address = self._allocator.malloc(self._sizes[number], block.stream)
        self._addresses[number] = address
        return address

    def release(self, number: int) -> None:
        """What is awaited stays out of use for now."""
        if self._blocks[number].awaited:
            self._allocator.retire(self._addresses[number])
        else:
            self._allocator.free(self._addresses[number])


def _sizes(timeline: Timeline, batch: int, workspace_bytes: int) -> list[int]:
    return [
        block.base_bytes
        + block.slope_bytes * batch
        + (workspace_bytes if block.category == WORKSPACE else 0)
        for block in timeline.blocks
    ]


def _phases(timeline: Timeline) -> Iterator[tuple[str, int, int, int]]:
    """(name, step, first event, event after the last) of each run of a phase."""
    marks = timeline.marks
    first = marks[0].event if marks else len(timeline.events)
    if first > 0:
        yield "other", 0, 0, first
    for number, mark in enumerate(marks):
        last = number + 1 == len(marks)
        end = len(timeline.events) if last else marks[number + 1].event
        yield mark.phase, mark.step, mark.event, end


def _components(timeline: Timeline, held: list[int], peak_event: int) -> dict[str, int]:
    components: Counter[str] = Counter()
    for event in timeline.events[: peak_event + 1]:
        index = abs(event) - 1
        components[timeline.blocks[index].category] += held[index] if event > 0 else -held[index]
    return {category: size for category, size in components.items() if size}


def _module(timeline: Timeline, event: int) -> str:
    if event < 0 or not timeline.event_modules:
        return ""
    return timeline.event_modules[event]
