"""What the tracer writes down of one run: blocks, events and their layers, as plain lists.

It travels as JSON from the tracer's process and into the cache; ``layers`` makes timelines of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Recording:
    """One traced run at one batch size. Block i is described by item i of the first six lists."""

    sizes: list[int] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    block_paths: list[int] = field(default_factory=list)
    """Index into ``paths``."""
    tags: list[int | None] = field(default_factory=list)
    """The repeated layer in which a block was made, or whose parameter it goes with."""
    operations: list[str] = field(default_factory=list)
    settled: list[bool] = field(default_factory=list)
    """Whether the category is known, not only guessed from the phase."""
    events: list[int] = field(default_factory=list)
    """``i + 1`` where block i is allocated, ``-(i + 1)`` where it is released."""
    event_tags: list[int | None] = field(default_factory=list)
    """The layer with whose work an event is repeated."""
    event_paths: list[int] = field(default_factory=list)
    marks: list[tuple[int, str, int]] = field(default_factory=list)
    """(index of the first event, phase, step)."""
    paths: list[str] = field(default_factory=lambda: [""])

    def add_block(
        self, size_bytes: int, category: str, path: int, tag: int | None, operation: str
    ) -> None:
        """Append a block; its event is added apart."""
        self.sizes.append(size_bytes)
        self.categories.append(category)
        self.block_paths.append(path)
        self.tags.append(tag)
        self.operations.append(operation)
        self.settled.append(False)

    def add_event(self, event: int, tag: int | None, path: int) -> None:
        """Append an event."""
        self.events.append(event)
        self.event_tags.append(tag)
        self.event_paths.append(path)

    def sort_releases(self, start: int) -> None:
        """Put the events from an index on, releases all of them, in the order of the blocks."""
        rest = sorted(zip(self.events[start:], self.event_paths[start:], strict=True), reverse=True)
        self.events[start:] = [event for event, _ in rest]
        self.event_paths[start:] = [path for _, path in rest]
        self.event_tags[start:] = [self.tags[-event - 1] for event, _ in rest]

    def put_in_order(self) -> None:
        """Sort what is released at once by one layer, between two allocations, by its age.

        Caches (autocast's, inside a checkpoint's second forward) let go in the order of a hash
        table; for the allocator it makes no difference.
        """
        borders = {event for event, _, _ in self.marks}
        start = 0
        for position in range(1, len(self.events) + 1):
            if (
                position < len(self.events)
                and position not in borders
                and self.events[position] < 0
                and self.events[start] < 0
                and self.event_tags[position] == self.event_tags[start]
            ):
                continue
            if position - start > 1:
                rest = sorted(
                    zip(self.events[start:position], self.event_paths[start:position], strict=True),
                    reverse=True,
                )
                self.events[start:position] = [event for event, _ in rest]
                self.event_paths[start:position] = [path for _, path in rest]
            start = position

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Recording:
        """The recording of which ``to_json`` made the value."""
        return cls(**{**value, "marks": [tuple(mark) for mark in value["marks"]]})
