"""One step recorded in detail: recorder and module hooks put in and taken out, and what came of it.

What is measured is one round: from a boundary until the same one comes again. Recording begins
up to a round earlier, so that what is left over from that one (outputs still referenced, the last
batch) is known when the round begins.
"""

from __future__ import annotations

import time
from typing import Any, Callable

from . import accounting
from .accounting import modules_of
from .boundaries import Boundary
from .calls import Call
from .counters import AllocatorReader
from .inference import EVALUATION, GENERATION, kept_keys_and_values
from .ledger import ACTIVATION, BUFFER, GRADIENT, INPUT, KV, PARAMETER, STATE, UNKNOWN
from .module_stack import ModuleStack
from .recorder import BETWEEN, IN_FORWARD, IN_STEP, Recorder
from .replay import (
    OTHER,
    STEP,
    DeviceDetail,
    DeviceReplay,
    ModuleBytes,
    Replay,
    activations_by_module,
    category_name,
    settle,
    undo_detours,
)
from .segments import read_or_say
from .wrapping import unwrapped

MAX_OPERATIONS = 120_000
"""Of one recording (a step of a 32-layer LLaMA with AdamW has 25,000): bounds time and memory."""
_MAX_AGE_S = 300.0
_COST_FACTOR = 4.0
"""Time added to a step, by the time counted in the recorder (tests/bench/detail_cost.py)."""

_KIND_OF_PLACE = {
    accounting.PARAMETER: PARAMETER,
    accounting.BUFFER: BUFFER,
    accounting.GRADIENT: GRADIENT,
    accounting.STATE: STATE,
}


class Recording:
    """From ``start`` to ``stop``, on one training thread; ``details`` afterwards."""

    def __init__(
        self,
        torch: Any,
        count: Callable[[accounting.Visit], Any],
        roots: list[Any],
        add_root: Callable[[Any], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.recorder = Recorder(torch, on_error)
        self.round: Boundary | None = None
        """The boundary that began the round; None while none has begun."""
        self.call: Call | None = None
        """The root's forward that is running."""
        self.notes: list[str] = []
        """What the result lacks, in words for the user."""
        self._on_error = on_error
        self._torch = torch
        self._count = count
        self._first_event = 0
        self._boundaries: list[tuple[int, Boundary]] = []
        self._allocator = AllocatorReader(torch)
        self._allocated: dict[Boundary, dict[str, int]] = {}
        """Bytes by torch device that the allocator gave out as of each boundary."""
        self._parameters: dict[int, Any] = {}
        self._gradients: set[int] = set()
        """Records of the parameters' gradients, as of the last walk before a step."""
        self._modules = ModuleStack(self._runs, self._outermost)
        self._add_root = add_root
        self._paths = module_paths(roots)
        self._opened_at = time.perf_counter()
        self._running = self._given_up = False
        self._walk_s = 0.0
        self._maps: dict[Any, tuple[list[dict[str, Any]], dict[int, int]]] | None = None
        """By CUDA device: the allocator's segments at the end of the first forward, and the
        records by address."""

    def start(self) -> None:
        """Look what is there, and begin to see operations."""
        self._walk()
        self._running = True
        self._modules.install()
        self.recorder.push()

    def stop(self) -> bool:
        """See no more; may be repeated, and from a forked child.

        False while something of it has to stay in torch: to be repeated at a later boundary.
        """
        if self._running:
            self._modules.remove()
            self._running = not self.recorder.pop()
            if not self._running:
                self.recorder.ledger.close()
        return not self._running

    def give_up(self) -> bool:
        """From any thread: it is to stop where it can; whether it has."""
        self._given_up = True
        return not self._running

    def sleep(self) -> None:
        """From any thread: it costs little from now on, and stays where it is."""
        self._modules.remove()
        self.recorder.sleep()

    @property
    def is_elsewhere(self) -> bool:
        """Whether inference mode was entered or left since it began."""
        return self.recorder.is_elsewhere

    @property
    def exhausted(self) -> bool:
        """Whether it has taken too much to go on."""
        age_s = time.perf_counter() - self._opened_at
        has_enough = self.recorder.operations > MAX_OPERATIONS or age_s > _MAX_AGE_S
        return not self._running or self._given_up or has_enough

    @property
    def cost_s(self) -> float:
        """Time that it has added to the training so far."""
        return _COST_FACTOR * self.recorder.cost_s + self._walk_s

    def forward_begins(self, boundary: Boundary, phase: str) -> None:
        """A root's forward begins."""
        self._reached(boundary)
        self.recorder.enter(phase, IN_FORWARD)

    def forward_ends(self, boundary: Boundary, _inputs: Any, output: Any) -> None:
        """A root's forward has ended; what follows until the next hook is its loss."""
        self.call = None
        ledger = self.recorder.ledger
        if self.recorder.phase in (EVALUATION, GENERATION):
            for storage in kept_keys_and_values(self._torch, output):
                record = ledger.live.get(storage._cdata)
                if record is not None and ledger.kinds[record] in (ACTIVATION, INPUT):
                    ledger.kinds[record] = KV
        self._reached(boundary)
        if self.round is not None and self._maps is None:
            self._maps = self._read_maps()

    def step_begins(self, boundary: Boundary) -> None:
        """An optimizer's step begins, outside backward: what is a gradient can be seen now."""
        self._gradients = set()
        self._walk()
        if self._gradients:  # where several threads train one model, none is looked at
            self.recorder.ledger.confirm_gradients(self._gradients)
        self._reached(boundary)
        self.recorder.enter(STEP, IN_STEP)

    def step_ends(self, boundary: Boundary) -> None:
        """An optimizer's step has ended, outside backward."""
        self._walk()  # a first step makes the state
        self._reached(boundary)
        self.recorder.enter(OTHER, BETWEEN)

    def _walk(self) -> None:
        began = time.thread_time()
        self.recorder.ledger.drain()
        self._count(self._visit)
        self._walk_s += time.thread_time() - began

    def _reached(self, boundary: Boundary) -> None:
        self.recorder.ledger.resized()
        self._boundaries.append((len(self.recorder.ledger.events), boundary))
        found = self._allocator.read()
        self._allocated[boundary] = {d: c["allocated_bytes"] for d, (_, c) in found.items()}

    def begin_round(self, boundary: Boundary) -> None:
        """The round begins with this boundary, which has just been reached."""
        self.round = boundary
        self._first_event = len(self.recorder.ledger.events)

    def details(self) -> dict[str, DeviceDetail]:
        """By torch device; once, after ``stop``."""
        began = time.thread_time()
        ledger = self.recorder.ledger
        if self.recorder.operations > MAX_OPERATIONS:
            self.notes.append(f"cut short after {MAX_OPERATIONS:,} operations")
        undo_detours(ledger, self.recorder.sums)
        settle(ledger, self.recorder.marks)
        replay = Replay(ledger, self.recorder.marks, self._boundaries, self._first_event)
        found = {}
        for device, part in replay.devices.items():
            for boundary, sizes in part.sizes_at.items():
                # What no operation has shown (libraries' workspaces, tensors that nothing reads)
                # stays when the rest goes.
                unseen = self._allocated[boundary].get(str(device), 0) - sum(sizes[:BUFFER])
                sizes[UNKNOWN] += max(0, unseen)
            record = part.peak_record
            peak_module = None if record is None else ledger.modules[record]
            path = None if peak_module is None else self._name(peak_module)[0]
            detail = DeviceDetail(part, path, self._module_bytes(device, part))
            detail.segments, records = (self._maps or {}).get(device, (None, {}))
            detail.category_at = {
                address: category_name(ledger.kinds[record]) for address, record in records.items()
            }
            found[str(device)] = detail
        self._walk_s += time.thread_time() - began
        return found

    def _visit(self, storage: Any, key: int, place: int, module: Any) -> None:
        ledger = self.recorder.ledger
        kind = _KIND_OF_PLACE[place]
        holder = None if module is None else id(module)
        record = ledger.live.get(key)
        if record is None:
            record = ledger.add_before(storage, key, kind, holder)
        else:
            ledger.kinds[record] = kind
        if kind == GRADIENT and record is not None:
            self._gradients.add(record)
        if kind == PARAMETER and record is not None and holder is not None:
            self._parameters[record] = holder

    def _read_maps(self) -> dict[Any, tuple[list[dict[str, Any]], dict[int, int]]]:
        ledger = self.recorder.ledger
        maps = {}
        for device in {device for device in ledger.devices if device.type == "cuda"}:
            segments = read_or_say(self._torch, device.index, self.notes)
            if segments is not None:
                maps[device] = (segments, ledger.addresses(device))
        return maps

    def _module_bytes(self, device: Any, part: DeviceReplay) -> list[ModuleBytes]:
        ledger = self.recorder.ledger
        held: dict[Any, ModuleBytes] = {}

        def of(module: Any) -> ModuleBytes:
            if module not in held:
                held[module] = ModuleBytes(*self._name(module))
            return held[module]

        active = activations_by_module(ledger, device, part.most_activations_at)
        for module, size in active.items():
            of(module).activation_bytes += size
        for record, module in self._parameters.items():
            if ledger.devices[record] == device:
                of(module).parameter_bytes += ledger.sizes[record]
        return sorted(held.values(), key=lambda m: -(m.activation_bytes + m.parameter_bytes))

    def _name(self, module: Any) -> tuple[str, str]:
        if module is None:
            return "(outside modules)", ""
        known = self._paths.get(module)
        if known is None:  # of no root: a loss, say
            name = self._modules.names.get(module, "?")
            known = (f"({name})", name)
        return known

    def _runs(self, module: Any) -> None:
        try:
            self.recorder.module = module
            if self.recorder.ledger.may_resize:
                self.recorder.ledger.resized()
            if module is not None:
                self.recorder.forward_runs()
                if self.call is not None:
                    self.call.runs_module()
            # The training has gone on to something that no boundary tells of. In a backward, the
            # engine would put back what was taken off.
            if self.exhausted and self._torch._C._current_graph_task_id() == -1:
                self.stop()
        except Exception as error:  # never into the user's forward
            self._on_error(error)

    def _outermost(self, module: Any) -> None:
        """A forward that is in no other: perhaps of a model that no optimizer leads to."""
        try:
            if id(module) not in self._paths and next(module.parameters(), None) is not None:
                self._add_root(module)
                self._paths.update(module_paths([module], type(module).__name__))
                self._walk()
        except Exception as error:  # never into the user's forward
            self._on_error(error)


def module_paths(roots: list[Any], start_of_one: str = "") -> dict[int, tuple[str, str]]:
    """Dotted path and class name of every module, by id; of several roots with their class."""
    found: dict[int, tuple[str, str]] = {}
    starts: list[str] = []
    for root in roots:
        inner = unwrapped(root)
        start = start_of_one if len(roots) == 1 else type(inner).__name__
        starts.append(start)
        if starts.count(start) > 1:
            start = f"{start}#{starts.count(start)}"
        for module in modules_of([root]):  # torch's wrappers stand for what they wrap
            found.setdefault(id(module), (start, type(module).__name__))
        own: set[int] = set()
        stack = [(start, inner)]
        while stack:
            path, module = stack.pop()
            if id(module) in own:
                continue
            own.add(id(module))
            found[id(module)] = (path, type(module).__name__)
            for name, child in module._modules.items():
                if child is not None:
                    stack.append((f"{path}.{name}" if path else name, child))
    return found
