"""torch.profiler's memory timeline of one training step on the CPU, read at its boundaries.

The profiler's own verdicts come first; then ``RULES`` change those that a user would call wrong or
that nobody inside the process could know. Each rule says why, and what it moved is counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.profiler._memory_profiler import (
    _CATEGORY_TO_INDEX,
    Action,
    Category,
    MemoryProfile,
    MemoryProfileTimeline,
    SchemaMatcher,
    TensorKey,
)

NAMES = {
    Category.PARAMETER: "parameter",
    Category.GRADIENT: "gradient",
    Category.OPTIMIZER_STATE: "optimizer_state",
    Category.ACTIVATION: "activation",
    Category.INPUT: "input",
    Category.TEMPORARY: "temporary",
    Category.AUTOGRAD_DETAIL: "autograd_detail",
    None: "unknown",
}
LEFT_OUT = "left out"
_MARK = "oracle:"
_FOREVER = 1 << 62


@dataclass
class Holding:
    """One allocation from its birth to its death, in the profiler's nanoseconds."""

    size_bytes: int
    address: int
    born: int
    """-1 if it was there before the step."""
    verdicts: list[tuple[int, str]]
    """The profiler's categories, each from a moment on."""
    died: int = _FOREVER
    phase: str = "before"
    """The phase of the step in which it was born."""
    inside_operator: bool = False
    copy_of: Holding | None = None
    """What it is a copy of in another precision or layout."""

    def verdict(self, at: int) -> str:
        return [name for since, name in self.verdicts if since <= at][-1]


def _inside_operator(_step: Step, held: Holding, _verdict: str) -> str | None:
    """Allocated and freed within one operator, as by mkldnn's convolutions and LSTMs (8 MiB of the
    lstm's 58): no Python tensor, so nothing inside the process but the profiler sees it. (A GPU's
    peak counters do.)
    """
    return LEFT_OUT if held.inside_operator else None


def _buffer(step: Step, held: Holding, _verdict: str) -> str | None:
    """To the profiler a module's buffer is an input, being read and not trained. A user means his
    batch by that, and calls what belongs to the model the model.
    """
    return "parameter" if held.born < 0 and held.address in step.buffers else None


def _copy_of_input(_step: Step, held: Holding, verdict: str) -> str | None:
    """The batch in another precision or layout is still the batch. The profiler agrees where the
    program makes the copy; where autocast or an LSTM does, it takes copy and computation for one
    operator and sees the weights in that.
    """
    copied = held.copy_of is not None and held.copy_of.verdict(held.born) == "input"
    return "input" if copied and verdict == "activation" else None


def _checkpoints_gradient(step: Step, held: Holding, verdict: str) -> str | None:
    """A reentrant checkpoint detaches its inputs and lets backward fill their ``grad``: the
    profiler takes that for a parameter's gradient, by the AccumulateGrad. No parameter's gradient
    is freed by backward itself.
    """
    passing = verdict == "gradient" and held.died < step.marks["backward"]
    return "autograd_detail" if passing else None


def _made_in_backward(_step: Step, held: Holding, verdict: str) -> str | None:
    """The profiler calls autograd detail only what outlives its backward node and is read by an
    operator: what lives and dies within one node is temporary, what nobody reads is unknown. Of
    reentrant checkpointing's recomputed activations, which one node makes, that is all of it.
    """
    made = held.phase == "backward" and verdict in ("temporary", "unknown")
    return "autograd_detail" if made else None


def _made_in_forward(_step: Step, held: Holding, verdict: str) -> str | None:
    """Likewise in forward: what lives and dies within one operator that is made of others (the
    scores of attention) is temporary to the profiler, what nobody reads is unknown.
    """
    made = held.phase in ("root", "forward") and verdict in ("temporary", "unknown")
    return "activation" if made else None


def _made_in_step(_step: Step, held: Holding, verdict: str) -> str | None:
    """An optimizer that works on all parameters at once has intermediates of their size. The
    profiler calls temporary only what dies within one operator, and these unknown.
    """
    return "temporary" if held.phase == "step" and verdict == "unknown" else None


RULES: tuple[Callable[[Step, Holding, str], str | None], ...] = (
    _inside_operator,
    _buffer,
    _copy_of_input,
    _checkpoints_gradient,
    _made_in_backward,
    _made_in_forward,
    _made_in_step,
)


@dataclass(frozen=True)
class Moment:
    """What memory is for at one moment of the step."""

    phase: str
    sizes: dict[str, int]
    profiler: dict[str, int]
    """The same before the rules."""
    moved: dict[str, int]
    """Bytes that each rule has moved."""

    @property
    def total_bytes(self) -> int:
        return sum(self.sizes.values())


@dataclass
class Step:
    """One profiled step."""

    marks: dict[str, int]
    """When each phase ended; ``begin`` when the first began."""
    buffers: frozenset[int]
    """Addresses of the model's buffers."""
    holdings: list[Holding] = field(default_factory=list)

    def at(self, moment: int) -> Moment:
        sizes, profiler, moved = Counter[str](), Counter[str](), Counter[str]()
        for held in self.holdings:
            if not held.born <= moment < held.died:
                continue
            verdict = held.verdict(moment)
            profiler[verdict] += held.size_bytes
            for rule in RULES:
                changed = rule(self, held, verdict)
                if changed is not None:
                    moved[rule.__name__.strip("_")] += held.size_bytes
                    verdict = changed
                    break
            if verdict != LEFT_OUT:
                sizes[verdict] += held.size_bytes
        return Moment(self.phase(moment), dict(sizes), dict(profiler), dict(moved))

    def phase(self, moment: int) -> str:
        """The phase at a moment, named like the mark at its end."""
        ends = list(self.marks.values())
        return list(self.marks)[min(bisect_right(ends, moment), len(ends) - 1)]

    def end_of(self, phase: str) -> Moment:
        return self.at(self.marks[phase])

    def peak(self) -> Moment:
        """The fullest moment, without what the rules leave out."""
        begin, end = self.marks["begin"], self.marks["zero_grad"]
        changes = Counter[int]()
        for held in self.holdings:
            if not held.inside_operator:
                changes[held.born] += held.size_bytes
                changes[held.died] -= held.size_bytes
        total = best = 0
        when = begin
        for moment in sorted(changes):
            total += changes[moment]
            if begin <= moment <= end and total > best:
                best, when = total, moment
        return self.at(when)


def profiled(training: Any) -> Step:
    """Profile the next step of a ``models.Training``; the one before it, too, if that leaves
    something to it: the profiler does not know what it has not seen being made.
    """

    def mark(name: str) -> None:
        with record_function(_MARK + name):
            pass

    handle = training.model.register_forward_hook(lambda *_: mark("root"))
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True, profile_memory=True, with_stack=True
    ) as profiler:
        training.train(1 if training.kept is None else 2, mark)
    handle.remove()
    memory = profiler._memory_profile()
    marks = {
        event.name.removeprefix(_MARK): event.start_time_ns
        for event in memory._op_tree.sorted_nodes
        if event.name.startswith(_MARK)
    }
    step = Step(marks, frozenset(b.untyped_storage().data_ptr() for b in training.model.buffers()))
    allocations = list(_allocations(memory))
    named = _named(memory)
    step.holdings = [*named.values(), *_nameless(allocations)]
    _place(step, allocations, named)
    _agree(step, memory)
    return step


@dataclass(frozen=True)
class _Allocation:
    event: Any
    operator_end: int = 0
    """When the operator that it is in ended; 0 if it is in none."""
    source: TensorKey | None = None
    """What is copied there."""


def _allocations(memory: MemoryProfile) -> Iterator[_Allocation]:
    """Every allocation and release."""
    stack = [_Allocation(root) for root in memory._op_tree._root_nodes]
    while stack:
        here = stack.pop()
        event, end, source = here.event, here.operator_end, here.source
        if event.tag == _EventType.Allocation:
            yield here
        elif event.tag == _EventType.TorchOp:
            if not end and _dispatched(event):
                end = event.end_time_ns
            if event.name in ("aten::_to_copy", "aten::clone"):
                source = TensorKey.from_tensor(event.typed[1].inputs[0])
        stack += [_Allocation(child, end, source) for child in event.children]


def _dispatched(event: Any) -> bool:
    """Whether a dispatch mode is shown this operator itself, not the ones it is made of."""
    schemas = SchemaMatcher.match_schemas(event.typed[1])
    return bool(schemas) and not any(
        torch._C._dispatch_has_kernel_for_dispatch_key(
            f"{schema.name}.{schema.overload_name}".rstrip("."), "CompositeImplicitAutograd"
        )
        for schema in schemas
    )


def _named(memory: MemoryProfile) -> dict[TensorKey, Holding]:
    """The storages that some operator was given."""
    held: dict[TensorKey, Holding] = {}
    for at, action, (key, version), size in memory.timeline:
        if not isinstance(key, TensorKey):
            continue
        if action in (Action.CREATE, Action.PREEXISTING):
            verdict = NAMES[memory._categories.get(key, version)]
            held[key] = Holding(size, key.storage.ptr, at, [(at, verdict)])
        elif action == Action.INCREMENT_VERSION:
            held[key].verdicts.append((at, NAMES[memory._categories.get(key, version + 1)]))
        else:
            held[key].died = at
    return held


def _nameless(allocations: list[_Allocation]) -> Iterator[Holding]:
    """The memory that no operator was given: nobody's input, or an operator's own."""
    live: dict[int, Holding] = {}
    for event in sorted((a.event for a in allocations), key=lambda event: event.start_time_ns):
        fields, at = event.typed[1], event.start_time_ns
        if TensorKey.from_allocation(fields) is not None:
            continue
        if fields.alloc_size > 0:
            live[fields.ptr] = Holding(fields.alloc_size, fields.ptr, at, [(at, "unknown")])
            yield live[fields.ptr]
        elif fields.ptr in live:
            live.pop(fields.ptr).died = at
        else:
            yield Holding(-fields.alloc_size, fields.ptr, -1, [(-1, "unknown")], died=at)


def _place(step: Step, allocations: list[_Allocation], named: dict[TensorKey, Holding]) -> None:
    made = {a.event.start_time_ns: a for a in allocations if a.event.typed[1].alloc_size > 0}
    for held in step.holdings:
        if held.born in made:
            allocation = made[held.born]
            held.phase = step.phase(held.born)
            held.inside_operator = held.died <= allocation.operator_end
            held.copy_of = named.get(allocation.source)


def _agree(step: Step, memory: MemoryProfile) -> None:
    """Our reading of the timeline is the profiler's own, at every boundary."""
    times, rows = MemoryProfileTimeline(memory)._coalesce_timeline("cpu")
    for name, moment in step.marks.items():
        row = rows[max(bisect_right(times, moment // 1000) - 1, 0)]
        told = {NAMES[c]: row[i + 1] for c, i in _CATEGORY_TO_INDEX.items() if row[i + 1]}
        read = {c: size for c, size in step.at(moment).profiler.items() if size}
        assert read == told, (name, read, told)
