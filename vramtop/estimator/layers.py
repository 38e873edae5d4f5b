"""The same events for every layer: a trace of a few layers made one of the model's true depth.

The stream of events is cut into visits: a stretch of one phase during which one layer is at work.
The visits of a template in the middle are repeated for the layers that were left out, each free
with the block of its own layer, so that not only the sums but the order of events is that of the
full model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from .pattern import Pattern
from .timeline import BlockInfo, Mark

STACK_STRIDE: Final = 10_000
"""Tag of layer i of the k-th stack of layers (a decoder after an encoder): k · stride + i."""
_HEAD: Final = 2
"""Layers kept as they are before the template; the first is often special."""


class NotRepeating(Exception):
    """The layers are not alike enough to stand for each other; the full model must be traced."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers of one kind: so many were traced of the full depth; they repeat by ``period``."""

    prefix: str
    """Path of the ModuleList, as model.layers."""
    depth: int
    traced: int
    period: int = 1
    number: int = 0

    @property
    def missing(self) -> int:
        """Layers that were not traced."""
        return self.depth - self.traced


def traced_depth(depth: int, period: int = 1, irregular: int = 0, tail: int = 1) -> int:
    """The least depth to trace from which ``depth`` layers can be told.

    ``irregular`` layers at the beginning follow no period, ``tail`` at the end may be special.
    Two periods and an end are traced where one layer is like the next, so that ``repeat`` can see
    that they are; of longer periods one.
    """
    head = _head(irregular)
    least = head + (2 if period == 1 else 1) * period + tail
    if depth <= least:
        return depth
    return least + (depth - least) % period


def repeat(pattern: Pattern, stack: Stack, irregular: int = 0) -> Pattern:
    """The pattern with the layers of a stack that were left out.

    Raises:
        NotRepeating: the template's events do not follow the layers one by one.
    """
    if not stack.missing:
        return pattern
    return _Repetition(pattern, stack, _head(irregular)).build()


def _head(irregular: int) -> int:
    """Layers before the template: its own predecessor must be like it already."""
    return max(_HEAD, irregular + 1) if irregular else _HEAD


@dataclass(frozen=True, slots=True)
class _Visit:
    phase: int
    tag: int | None
    number: int
    """Which of the phase's visits to the layer."""
    start: int
    end: int


_Key = tuple[int, int | None, int, bool, int]


class _Repetition:
    def __init__(self, pattern: Pattern, stack: Stack, first: int) -> None:
        self._pattern, self._stack = pattern, stack
        self._base = stack.number * STACK_STRIDE
        self._first, self._last = first, first + stack.period  # the template: first ≤ i < last
        self._visits = list(_cut(pattern))
        self._keys: dict[int, _Key] = {}
        self._by_key: dict[_Key, int] = {}
        self._number_blocks()
        self._made: dict[tuple[int, int | None], int] = {}
        self._blocks: list[BlockInfo] = []
        self._events: list[int] = []
        self._tags: list[int | None] = []
        self._modules: list[str] = []
        self._positions: dict[int, int] = {}

    def build(self) -> Pattern:
        if self._stack.period == 1:
            self._check()
        visits = self._visits
        index = 0
        while index < len(visits):
            visit = visits[index]
            layer = self._layer(visit.tag)
            if layer is None or not self._first <= layer < self._last:
                shift = self._stack.missing if layer is not None and layer >= self._last else 0
                self._emit(visit, shift)
                index += 1
                continue
            group = visits[index : index + self._stack.period]
            steps = range(0, self._stack.missing + 1, self._stack.period)
            if not self._ascends(index, group):
                steps = steps[::-1]
            for shift in steps:
                for member in group:
                    self._emit(member, shift, copied=True, last=shift == steps[-1])
            index += len(group)
        marks = tuple(
            Mark(self._positions.get(mark.event, len(self._events)), mark.phase, mark.step)
            for mark in self._pattern.marks
        )
        return replace(
            self._pattern,
            blocks=tuple(self._blocks),
            events=tuple(self._events),
            event_tags=tuple(self._tags),
            event_modules=tuple(self._modules),
            marks=marks,
        )

    def _layer(self, tag: int | None) -> int | None:
        """The layer's index in this stack, None outside it."""
        if tag is None or not self._base <= tag < self._base + STACK_STRIDE:
            return None
        return tag - self._base

    def _number_blocks(self) -> None:
        """Name each block by its visit and its number there, alike in layers that are alike."""
        counts: Counter[tuple[int, int | None, int, bool]] = Counter()
        for visit in self._visits:
            for event in self._pattern.events[visit.start : visit.end]:
                if event > 0:
                    own = self._pattern.blocks[event - 1].layer is not None
                    where = (visit.phase, visit.tag, visit.number, own)
                    self._keys[event - 1] = key = (*where, counts[where])
                    self._by_key[key] = event - 1
                    counts[where] += 1

    def _ascends(self, index: int, group: list[_Visit]) -> bool:
        layers = [self._layer(visit.tag) for visit in group]
        up = list(range(self._first, self._last))
        before, after = self._neighbour(index - 1), self._neighbour(index + len(group))
        if layers == up and (before, after) == (self._first - 1, self._last):
            return True
        if layers == up[::-1] and (before, after) == (self._last, self._first - 1):
            return False
        raise NotRepeating(f"layers follow each other as {before}, {layers}, {after}")

    def _neighbour(self, index: int) -> int | None:
        if not 0 <= index < len(self._visits):
            return None
        return self._layer(self._visits[index].tag)

    def _emit(self, visit: _Visit, shift: int, *, copied: bool = False, last: bool = True) -> None:
        pattern = self._pattern
        tag = None if visit.tag is None else visit.tag + shift
        for position in range(visit.start, visit.end):
            self._positions.setdefault(position, len(self._events))
            event = pattern.events[position]
            module = self._renamed(pattern.event_modules[position], shift)
            if event > 0:
                block = pattern.blocks[event - 1]
                if shift:
                    own = block.layer is not None and block.layer == visit.tag
                    block = replace(
                        block,
                        layer=tag if own else block.layer,
                        module=self._renamed(block.module, shift),
                    )
                self._blocks.append(block)
                self._made[(event - 1, tag)] = len(self._blocks)
                freed = [len(self._blocks)]
            else:
                if not last and self._layer(self._keys[-event - 1][1]) is None:
                    continue  # what all layers share goes with the last of them to run
                freed = [-made for made in self._freed(-event - 1, visit.tag, shift, copied)]
            for one in freed:
                self._events.append(one)
                self._tags.append(tag)
                self._modules.append(module)

    def _freed(self, block: int, tag: int | None, shift: int, copied: bool) -> Iterator[int]:
        """Numbers of the new blocks that a free stands for; they are free from then on."""
        made_in = self._keys[block][1]
        layer, home = self._layer(tag), self._layer(made_in)
        missing, period = self._stack.missing, self._stack.period
        if home is None:
            targets = [made_in]
        elif copied:
            assert layer is not None
            target = home + shift
            if abs(home - layer) > period:
                raise NotRepeating(f"layer {layer} frees what layer {home} has made")
            block = self._counterpart(block, target)
            targets = [self._base + target]
        elif not self._first <= home < self._last:
            targets = [self._base + home + (missing if home >= self._last else 0)]
        elif layer is not None and abs(home - layer) <= period:
            targets = [self._base + home + shift]
        else:  # something of every layer's goes at once
            steps = range(0, missing + 1, period)
            targets = [self._base + home + step for step in steps]
        for target_tag in targets:
            try:
                yield self._made.pop((block, target_tag))
            except KeyError:
                raise NotRepeating(f"no counterpart of a block of layer {home}") from None

    def _counterpart(self, block: int, target: int) -> int:
        """The traced block that stands for one of another layer."""
        first, last, missing = self._first, self._last, self._stack.missing
        if target < first:
            traced = target
        elif target >= last + missing:
            traced = target - missing
        else:
            traced = first + (target - first) % self._stack.period
        phase, _, number, own, count = self._keys[block]
        try:
            return self._by_key[(phase, self._base + traced, number, own, count)]
        except KeyError:
            raise NotRepeating(f"layer {traced} lacks a block of its neighbours") from None

    def _renamed(self, path: str, shift: int) -> str:
        """A path as it is ``shift`` layers on; also that of a neighbour (the next parameter's)."""
        start = self._stack.prefix + "."
        if not shift or not path.startswith(start):
            return path
        number, dot, rest = path[len(start) :].partition(".")
        return f"{start}{int(number) + shift}{dot}{rest}" if number.isdigit() else path

    def _check(self) -> None:
        """Whether the template and the layer after it do the same, event by event."""
        a, b = self._base + self._first, self._base + self._last
        told = {tag: [self._told(v) for v in self._visits if v.tag == tag] for tag in (a, b)}
        if told[a] != told[b]:
            raise NotRepeating("a layer's events differ from its neighbour's")

    def _told(self, visit: _Visit) -> tuple[object, ...]:
        """A visit without what differs from layer to layer."""
        pattern = self._pattern
        told: list[object] = [visit.phase, visit.number]
        for event in pattern.events[visit.start : visit.end]:
            if event > 0:
                block = pattern.blocks[event - 1]
                told.append((block.base_bytes, block.slope_bytes, block.category))
            else:
                phase, made_in, number, own, count = self._keys[-event - 1]
                away = made_in
                if self._layer(made_in) is not None and visit.tag is not None:
                    assert made_in is not None
                    away = made_in - visit.tag
                told.append((phase, away, number, own, count))
        return tuple(told)


def _cut(pattern: Pattern) -> Iterator[_Visit]:
    """The visits in order; together they cover every event."""
    borders = {mark.event for mark in pattern.marks}
    phase = 0
    counts: Counter[int | None] = Counter()
    start = 0
    tags = pattern.event_tags
    for position in range(1, len(tags) + 1):
        ends = position == len(tags) or position in borders
        if ends or tags[position] != tags[start]:
            tag = tags[start]
            yield _Visit(phase, tag, counts[tag], start, position)
            counts[tag] += 1
            start = position
        if position in borders:
            phase += 1
            counts.clear()
