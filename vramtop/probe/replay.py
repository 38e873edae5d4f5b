"""From a ledger to what a viewer is shown: phases, the peak, the modules. Runs once a sample.

Categories are those of torch's memory profiler, by what has become of each storage in the end.
"""

from __future__ import annotations

from typing import Any

from ..protocol.messages import PART_FIELDS, TENSOR_FIELDS
from .boundaries import FORWARD_ENDS, STEP_BEGINS, STEP_ENDS, Boundary
from .ledger import (
    ACTIVATION,
    CACHE,
    CONSTANT,
    GRADIENT,
    INPUT,
    KV,
    LOOSE,
    TEMPORARY,
    UNKNOWN,
    WHOLE,
    Ledger,
)

OTHER, FORWARD, BACKWARD, STEP, ZERO_GRAD = "other", "forward", "backward", "step", "zero_grad"

USUALLY_ENDED = {FORWARD_ENDS: FORWARD, STEP_BEGINS: BACKWARD, STEP_ENDS: STEP}
"""The phase that ends at a boundary, where none was recorded; before a forward it may be any."""

Sizes = list[int]
"""Bytes in the order of ``messages.TENSOR_FIELDS``, then of ``messages.PART_FIELDS``."""

_KINDS = LOOSE + 1
_LONGEST_PATTERN = 4
_SMALL = 500
"""A change below one part in this many of all bytes is hardly one."""


def to_sizes(kinds: list[int]) -> Sizes:
    """From bytes by kind to bytes by category, each with its parts, which follow."""
    sizes = kinds[: len(TENSOR_FIELDS) + len(PART_FIELDS)]
    for part, category in WHOLE.items():
        sizes[category] += kinds[part]
    return sizes


def category_name(kind: int) -> str:
    """The tensor category of a settled kind."""
    return TENSOR_FIELDS[WHOLE.get(kind, kind)]


class PhaseRun:
    """One phase as it ran, on one device."""

    def __init__(self, name: str, now_bytes: int) -> None:
        self.name = name
        self.before_bytes = self.after_bytes = now_bytes
        self.peak_bytes: int | None = now_bytes
        """None where only the ends were seen."""
        self.after: Sizes = []
        self.count = 1

    def repeated_by(self, later: PhaseRun) -> None:
        """Take in a repetition."""
        self.after_bytes, self.after = later.after_bytes, later.after
        self.rises_as(later)
        if self.name != ZERO_GRAD:  # which goes tensor by tensor
            self.count += later.count

    def begins_with(self, earlier: PhaseRun) -> None:
        """Take in what ran right before it and is not told of."""
        self.before_bytes = earlier.before_bytes
        self.rises_as(earlier)

    def rises_as(self, other: PhaseRun) -> None:
        """Take in the peak of one that is not told of."""
        if self.peak_bytes is not None and other.peak_bytes is not None:
            self.peak_bytes = max(self.peak_bytes, other.peak_bytes)


class DeviceReplay:
    """One device's way through the sampled step."""

    def __init__(self) -> None:
        self.kinds = [0] * _KINDS
        self.total_bytes = 0
        self.phases: list[PhaseRun] = []
        self.sizes_at: dict[Boundary, Sizes] = {}
        """At the boundaries that were asked for."""
        self.ended_at: dict[Boundary, str] = {}
        """The phase that had ended last at each of them."""
        self.peak_bytes = -1
        self.peak_kinds: list[int] = []
        self.peak_record: int | None = None
        """The record that made the peak; None if it was there at the start."""
        self.most_activation_bytes = -1
        self.most_activations_at = 0
        """The number of the event with which activations were most."""

    def begin(self, phase: str) -> None:
        """A phase begins, the one before it ends."""
        self.end()
        self.phases.append(PhaseRun(phase, self.total_bytes))
        self._look(None)

    def end(self) -> None:
        """The last phase ends."""
        if self.phases:
            phase = self.phases[-1]
            phase.after_bytes, phase.after = self.total_bytes, to_sizes(self.kinds)

    def reach(self, boundary: Boundary) -> None:
        """A boundary that was asked for."""
        self.sizes_at[boundary] = to_sizes(self.kinds)
        running = self.phases[-1].name
        ended = [phase.name for phase in self.phases[:-1] if phase.name != OTHER]
        # What follows the root's forward until the next boundary runs on under its name.
        is_forward = boundary[0] == FORWARD_ENDS or not ended
        self.ended_at[boundary] = running if is_forward else ended[-1]

    def change(self, kind: int, size: int, record: int, event: int) -> None:
        """A storage came (size > 0) or went."""
        self.total_bytes += size
        self.kinds[kind] += size
        if not self.phases:
            return
        phase = self.phases[-1]
        if size > 0:
            if self.total_bytes > (phase.peak_bytes or 0):
                phase.peak_bytes = self.total_bytes
                self._look(record)
            if kind in (ACTIVATION, CACHE, KV):
                held = self.kinds[ACTIVATION] + self.kinds[CACHE] + self.kinds[KV]
                if held > self.most_activation_bytes:
                    self.most_activation_bytes, self.most_activations_at = held, event

    def _look(self, record: int | None) -> None:
        if self.total_bytes > self.peak_bytes:
            self.peak_bytes, self.peak_record = self.total_bytes, record
            self.peak_kinds = list(self.kinds)

    @property
    def peak_phase(self) -> str:
        """The first phase that rose as high, of those that are told of."""
        return next((p.name for p in self.phases if p.peak_bytes == self.peak_bytes), "")


class ModuleBytes:
    """What one module holds itself, on one device."""

    def __init__(self, path: str, class_name: str) -> None:
        self.path = path
        self.class_name = class_name
        self.activation_bytes = 0
        self.parameter_bytes = 0


class DeviceDetail:
    """What a recording has told of one device."""

    def __init__(
        self, replay: DeviceReplay, peak_module: str | None, modules: list[ModuleBytes]
    ) -> None:
        self.replay = replay
        self.peak_module = peak_module
        self.modules = modules
        self.segments: list[dict[str, Any]] | None = None
        """The caching allocator's segments, as torch gives them."""
        self.category_at: dict[int, str] = {}
        """Tensor categories by the address of a block in them."""


class Replay:
    """Runs through a settled ledger once.

    ``marks`` are the changes of phase, ``boundaries`` the moments whose sizes are wanted, both as
    (number of events before it, what). Before ``first_event`` only the way there is taken.
    """

    def __init__(
        self,
        ledger: Ledger,
        marks: list[tuple[int, str]],
        boundaries: list[tuple[int, Any]],
        first_event: int,
    ) -> None:
        self._ledger = ledger
        self._first_event = first_event
        self._phase = OTHER
        self._begun = False
        self._resumed: str | None = None
        self.devices = {device: DeviceReplay() for device in set(ledger.devices)}
        self._stops: dict[int, list[tuple[bool, Any]]] = {}
        for at, what in marks:
            self._stops.setdefault(at, []).append((True, what))
        for at, what in boundaries:
            self._stops.setdefault(at, []).append((False, what))
        self._run()

    def _run(self) -> None:
        ledger = self._ledger
        for record in ledger.before:
            self._change(record, ledger.sizes[record], -1)
        for number, event in enumerate(ledger.events):
            self._stop(number)
            if event >= 0:
                self._change(event, ledger.sizes[event], number)
            else:
                self._change(~event, -ledger.sizes[~event], number)
        self._stop(len(ledger.events))
        for device in self.devices.values():
            device.end()
            device.phases = folded(told(device.phases))

    def _stop(self, number: int) -> None:
        stops = self._stops.get(number, ())
        if number == self._first_event:
            self._begun, self._resumed = True, None
            # A phase that is told of at the same moment has begun already.
            begun = [what for is_phase, what in stops if is_phase and what != ZERO_GRAD]
            self._switch(begun[0] if begun else self._phase)
        for is_phase, what in stops:
            if is_phase:
                self._resumed = None
                if what != self._phase:
                    self._switch(what)
            elif self._begun:
                for device in self.devices.values():
                    device.reach(what)

    def _switch(self, phase: str) -> None:
        self._phase = phase
        if self._begun:
            for device in self.devices.values():
                device.begin(phase)

    def _change(self, record: int, size: int, number: int) -> None:
        kind = self._ledger.kinds[record]
        if kind == GRADIENT and size < 0:
            # No hook tells of zero_grad: it is where gradients go outside backward and step.
            if self._phase not in (BACKWARD, STEP, ZERO_GRAD):
                self._resumed = self._phase
                self._switch(ZERO_GRAD)
        elif self._resumed is not None:
            phase, self._resumed = self._resumed, None
            self._switch(phase)
        self.devices[self._ledger.devices[record]].change(kind, size, record, number)


def undo_detours(ledger: Ledger, sums: list[tuple[int, int]]) -> None:
    """Take out what was made only because operations were looked at.

    Where a tensor has several uses, autograd adds their gradients up in place, but makes a new
    sum as long as any dispatch mode is on (InputBuffer::accumulate in
    torch/csrc/autograd/input_buffer.cpp): the old sum dies right after the new one was made.
    """
    events = ledger.events
    for event, old in sums:
        if events[event + 1 : event + 2] == [~old]:
            events[event], events[event + 1] = events[event + 1], events[event]


def settle(ledger: Ledger, marks: list[tuple[int, str]]) -> None:
    """Give the kinds that depended on what would become of a storage."""
    # What was made since the last phase and is still there waits for the next forward.
    waiting_from = max((at for at, phase in marks if phase == OTHER), default=0)
    waiting = {event for event in ledger.events[waiting_from:] if event >= 0}
    died = {~event for event in ledger.events if event < 0}
    for record, kind in enumerate(ledger.kinds):
        if kind == CONSTANT:
            ledger.kinds[record] = INPUT
        elif kind == LOOSE and record in died:
            ledger.kinds[record] = TEMPORARY
        elif kind == LOOSE:
            ledger.kinds[record] = INPUT if record in waiting else UNKNOWN


def activations_by_module(ledger: Ledger, device: Any, until: int) -> dict[Any, int]:
    """Bytes of activations alive on a device after event number ``until``, by module."""
    alive = set(ledger.before)
    for event in ledger.events[: until + 1]:
        if event >= 0:
            alive.add(event)
        else:
            alive.discard(~event)
    held: dict[Any, int] = {}
    for record in alive:
        if ledger.devices[record] == device and ledger.kinds[record] in (ACTIVATION, CACHE, KV):
            module = ledger.modules[record]
            held[module] = held.get(module, 0) + ledger.sizes[record]
    return held


def folded(runs: list[PhaseRun]) -> list[PhaseRun]:
    """Repetitions joined: forward, backward, forward, backward becomes each once, counted."""
    kept: list[PhaseRun] = []
    for run in runs:
        kept.append(run)
        while _fold_once(kept):
            pass
    return kept


def _fold_once(runs: list[PhaseRun]) -> bool:
    for length in range(1, _LONGEST_PATTERN + 1):
        last, before = runs[-length:], runs[-2 * length : -length]
        if [run.name for run in last] == [run.name for run in before]:
            for place, (first, again) in enumerate(zip(before, last)):
                if place:  # each goes on where the one before it has ended
                    first.before_bytes = again.before_bytes
                first.repeated_by(again)
            del runs[-length:]
            return True
    return False


def told(runs: list[PhaseRun]) -> list[PhaseRun]:
    """Without what would say nothing, each beginning where the one before it ended.

    Left out are what lies between the phases if hardly anything happens there, and the rest of a
    forward in which gradients were zeroed: the next phase begins with them, so that the peak is
    always in one that is told of. Where that would leave nothing, nothing is left out.
    """
    kept: list[PhaseRun] = []
    skipped: list[PhaseRun] = []
    for run in runs:
        names = [earlier.name for earlier in kept]
        while len(names) > 1 and names[-1] == names[-2] == ZERO_GRAD:
            names.pop()
        is_rest = run.name == FORWARD and names[-2:] == [FORWARD, ZERO_GRAD]
        if (run.name == OTHER or is_rest or _is_flat(run)) and _is_small(run):
            skipped.append(run)
            continue
        while skipped:
            run.begins_with(skipped.pop())
        if run.name == FORWARD and [earlier.name for earlier in kept[-2:]] == [BACKWARD, OTHER]:
            run.begins_with(kept.pop())  # the next micro-batch was made
        kept.append(run)
    if kept:
        for run in skipped:
            kept[-1].rises_as(run)
    return kept or runs


def _is_flat(run: PhaseRun) -> bool:
    flat = run.before_bytes == run.after_bytes == run.peak_bytes
    return flat and run.name not in (STEP, ZERO_GRAD)


def _is_small(run: PhaseRun) -> bool:
    highest = max(run.peak_bytes or 0, run.before_bytes, run.after_bytes)
    lowest = min(run.before_bytes, run.after_bytes)
    return (highest - lowest) * _SMALL < highest
