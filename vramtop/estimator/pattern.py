"""From recordings to a pattern: block sizes affine in the batch, events with their layers.

Two recordings at different batch sizes make one pattern; ``layers`` repeats its middle layer to
the model's true depth; ``to_timeline`` is what is replayed.
"""

from __future__ import annotations

from dataclasses import dataclass

from .recording import Recording
from .timeline import BlockInfo, Mark, Timeline


class NotAffine(Exception):
    """Two recordings differ in more than sizes, so there is no line between them."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A timeline whose events know the layer with whose work they would be repeated."""

    blocks: tuple[BlockInfo, ...]
    events: tuple[int, ...]
    event_tags: tuple[int | None, ...]
    event_modules: tuple[str, ...]
    marks: tuple[Mark, ...]
    least_batch: int

    def to_timeline(self, notes: tuple[str, ...] = ()) -> Timeline:
        """The same without the layers."""
        return Timeline(
            self.blocks, self.events, self.marks, self.event_modules, self.least_batch, notes
        )


def single(recording: Recording, batch: int) -> Pattern:
    """The pattern of one recording; it holds for its own batch size only."""
    return _pattern(recording, recording.sizes, [0] * len(recording.sizes), batch)


def affine(first: Recording, batch_a: int, second: Recording, batch_b: int) -> Pattern:
    """The pattern through two recordings, exact at both and on the line between and beyond.

    Raises:
        NotAffine: their events differ, or a size does not grow by whole bytes a sample.
    """
    if (
        first.events != second.events
        or first.operations != second.operations
        or first.event_tags != second.event_tags
    ):
        raise NotAffine("the operations depend on the batch size")
    bases, slopes = [], []
    for size_a, size_b in zip(first.sizes, second.sizes, strict=True):
        slope, rest = divmod(size_b - size_a, batch_b - batch_a)
        if rest:
            raise NotAffine("a tensor's size does not grow evenly with the batch")
        slopes.append(slope)
        bases.append(size_a - slope * batch_a)
    return _pattern(first, bases, slopes, min(batch_a, batch_b))


def _pattern(recording: Recording, bases: list[int], slopes: list[int], least: int) -> Pattern:
    paths = recording.paths
    blocks = tuple(
        BlockInfo(base, slope, category, paths[path], tag, operation)
        for base, slope, category, path, tag, operation in zip(
            bases,
            slopes,
            recording.categories,
            recording.block_paths,
            recording.tags,
            recording.operations,
            strict=True,
        )
    )
    return Pattern(
        blocks,
        tuple(recording.events),
        tuple(recording.event_tags),
        tuple(paths[path] for path in recording.event_paths),
        tuple(Mark(event, phase, step) for event, phase, step in recording.marks),
        least,
    )
