"""Hears of forwards and optimizer steps, finds models and optimizers, has them counted.

Everything here runs in hooks on training threads; the server only reads what was published.
"""

from __future__ import annotations

import time
from _thread import get_ident
from typing import Any, Callable

from . import boundaries
from .accounting import Counts, Visit, count, is_disturbed
from .detail import PART as DETAIL
from .detail import Detail
from .discovery import RootFinder, is_searchable, search
from .ears import Ears
from .failures import Failures
from .faults import Faults
from .frames import is_running
from .inference import phase_of_forward
from .job import Descriptions
from .pace import DetailPace, Pace
from .published import Published, living
from .records import OptimizerRecord, Record, RootRecord
from .replay import DeviceDetail
from .sampling import Sampler
from .steps import StepClock

_PATIENCE_S = 20.0
"""How long a recording is waited for when the probe leaves."""


class Observer(Published):
    """The training side of the probe.

    ``on_activity`` is called at the first hook of a process (again after a fork) and says whether
    this process is a training at all; ``on_count`` is called at each counted boundary,
    ``on_sampled`` when a sampled step has ended; ``on_detail`` gets what a recorded one has told.
    """

    def __init__(
        self,
        torch: Any,
        faults: Faults,
        pace: Pace,
        on_activity: Callable[[], bool],
        on_count: Callable[[], None],
        on_sampled: Callable[[], None],
        on_detail: Callable[[dict[str, DeviceDetail], list[str], list[list[int]]], None],
    ) -> None:
        super().__init__()
        self._torch = torch
        self._faults = faults
        self._pace = pace
        self._on_activity = on_activity
        self._on_count = on_count
        self._on_sampled = on_sampled
        self._on_detail = on_detail
        self.detail_pace = DetailPace()
        self._active: bool | None = None
        self._candidates: dict[int, RootRecord] = {}
        """Roots from their first forward on: found by a search, not by what trains."""
        self._uncounted: set[boundaries.Boundary] = set()
        self._ears = Ears(self.gate)
        self._leave_by: float | None = None
        self._finder = RootFinder(torch, pace)
        self._descriptions = Descriptions(torch, faults)
        self.failures = Failures(faults, self._descriptions)

    # Set-up.

    def install_hooks(self) -> None:
        """Put the global hooks in, once a process."""
        self._hear_steps()
        self._ears.hear_first_forward(self._guarded(self._first_forward_begins))

    def adopt(self) -> bool:
        """The same where something may train already; False: not now, to be repeated soon.

        On no training thread, so nothing is counted or described: that is for hooks to do.
        """
        if not self._ears.may_hear_steps():
            return False
        self._hear_steps()
        if not is_searchable():
            self._faults.say("the search for models", "too many objects; what steps is found then")
        found = search(self._torch)
        for optimizer in found.optimizers:
            self.add_optimizer(optimizer, describe=False).rooted = True
        for module in found.roots:
            self.add_root(module, describe=False)
        for module in found.others:
            self._candidates[id(module)] = self._root_record(module)
        if not (found.roots or found.others):
            # Else one may be in the middle of its forward, and a part of it would come next.
            self._ears.hear_first_forward(self._guarded(self._first_forward_begins))
        return True

    def leave(self) -> bool:
        """Take everything out of torch; False: not yet, to be repeated soon.

        A recording can only be stopped by the thread that it is on, which does so at its next
        module or boundary. Of a thread that comes to none it stays, asleep.
        """
        now = time.monotonic()
        self._leave_by = self._leave_by or now + _PATIENCE_S
        self.gate.busy = True  # every hook is to hear that we leave
        details = list(self._details.values())
        for detail in details:
            detail.give_up()
        self.reap()
        if is_running("hear", Observer._guarded.__code__.co_filename):
            return False
        if any(detail.is_recording for detail in details):
            if now < self._leave_by:
                return False
            for detail in details:
                detail.sleep()
        if not self._ears.remove([*self._roots.values(), *self._candidates.values()]):
            return False
        for table in (self._roots, self._candidates, self._optimizers, self._samplers):
            table.clear()
        self._details = {}
        return True

    def _hear_steps(self) -> None:
        self._ears.hear_steps(self._guarded(self._step_begins), self._guarded(self._step_ends))

    def forked(self) -> None:
        """In the child: it has not trained; what it will train shows at the first step."""
        self._active = None
        for detail in self._details.values():
            detail.stop()
        self._samplers, self._details = {}, {}
        self.gate.thread, self.gate.busy = None, True
        self.gate.steps.clear()
        self._clock = StepClock()
        for record in [*self._roots.values(), *self._candidates.values()]:
            for handle in record.handles:
                handle.remove()
        self._roots, self._candidates = {}, {}
        self._optimizers = {}

    def add_root(self, module: Any, describe: bool = True) -> None:
        """Count a module and hear of its forwards; roots inside it are listed no more.

        Without ``describe`` that is done when it has been counted.
        """
        if id(module) in self._roots:
            return
        self._ears.forget_first_forward()
        record = self._candidates.pop(id(module), None) or self._root_record(module)
        if describe:
            self._descriptions.root(record)
        for inner in module.modules():
            if id(inner) in self._roots:
                self._roots[id(inner)].inner = True
        self._roots[id(module)] = record

    def _root_record(self, module: Any) -> RootRecord:
        record = RootRecord(module, self._roots, self._forget)
        try:
            before, after = self._guarded(self._forward_begins), self._guarded(self._forward_ends)
            self._ears.hear_root(record, before, after, self.failures.of(record))
        except Exception as error:  # it is counted at optimizer steps all the same
            self._faults.report("hearing of forwards", error)
        return record

    def add_optimizer(self, optimizer: Any, describe: bool = True) -> OptimizerRecord:
        """Count an optimizer's parameters, gradients and state."""
        record = self._optimizers.get(id(optimizer))
        if record is None:
            record = OptimizerRecord(optimizer, self._optimizers, self._forget, self.gate.steps)
            if describe:
                self._descriptions.optimizer(record)
            self._optimizers[id(optimizer)] = record
        return record

    def _guarded(self, listener: Callable[..., None]) -> Callable[..., None]:
        def hear(*arguments: Any) -> None:
            # Exception only: a KeyboardInterrupt or SystemExit in here is from the user's signal
            # handler and his to see.
            try:
                if self._leave_by is not None:
                    self._stop_recording()
                    return
                if self.failures.on_boundary is not None:
                    self.failures.on_boundary()
                if not self._faults.off("counting") and self._is_training():
                    listener(*arguments)
                self._set_gate()
            except Exception as error:
                self._faults.report("counting", error)

        return hear

    def _stop_recording(self) -> None:
        detail = self._details.get(get_ident())
        if detail is not None:
            detail.stop()

    def _set_gate(self) -> None:
        if self._faults.off("counting"):
            self.gate.busy, self.gate.wanted_at = False, float("inf")
            return
        samplers, details = list(self._samplers.values()), list(self._details.values())
        self.gate.busy = (
            len(samplers) != 1
            or any(sampler.sampling or sampler.outer is not None for sampler in samplers)
            or any(detail.is_recording for detail in details)
        )
        self.gate.known = (
            (samplers[0].known | self._uncounted) if len(samplers) == 1 else frozenset()
        )
        self.gate.wanted_at = min(self._pace.due_at(), self.detail_pace.due_at())

    def _never_counted(self, target: Any) -> None:
        # A root inside a root, an optimizer inside backward: to be let through from now on.
        self._uncounted |= {(what, id(target)) for what in boundaries.ALL}

    def _forget(self, target: int) -> None:
        self._candidates.pop(target, None)
        self._uncounted = {b for b in self._uncounted if b[1] != target}
        for sampler in list(self._samplers.values()):
            sampler.forget(target)
        self.gate.known = frozenset(b for b in self.gate.known if b[1] != target)
        self.gate.steps.pop(target, None)

    def _is_training(self) -> bool:
        if self._active is None:
            self._active = self._on_activity()
        return self._active

    # What is heard.

    def _first_forward_begins(self, module: Any, args: Any) -> None:
        if next(iter(module.parameters()), None) is not None:
            self.add_root(module)
            # The hooks just put in hear of this forward's end but not of its beginning.
            self._forward_begins(module, args, {})

    def _forward_begins(self, module: Any, args: Any, kwargs: Any) -> None:
        record = self._roots.get(id(module)) or self._candidates.get(id(module))
        if record is None or self._in_backward():  # a copy; a recomputed checkpoint
            return
        sampler = self._sampler()
        outer = sampler.outer
        if outer is not None and outer is not record and outer.target() is not None:
            self._never_counted(module)
            return
        self.add_root(module)
        sampler.outer = record
        boundary = (boundaries.FORWARD_BEGINS, id(module))
        self._boundary(sampler, boundary, record, module)
        phase = phase_of_forward(self._torch, kwargs)
        self._tell_detail(lambda detail: detail.forward_begins(boundary, phase, record.target))
        detail = self._details[get_ident()]
        if sampler.sampling or detail.is_recording:
            self._descriptions.called(record, args, kwargs, detail.is_recording)
            detail.called(record.call, phase)

    def _forward_ends(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
        record = self._roots.get(id(module))
        if record is None or self._in_backward():
            return
        sampler = self._sampler()
        if sampler.outer is record:
            sampler.outer = None
            boundary = (boundaries.FORWARD_ENDS, id(module))
            self._tell_detail(lambda detail: detail.forward_ends(boundary, (args, kwargs), output))
            self._boundary(sampler, boundary, record, module)

    def _step_begins(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        record = self._optimizers.get(id(optimizer)) or self.add_optimizer(optimizer)
        if not record.rooted:
            known = living(list(self._roots.values()))
            for root in self._finder.find(optimizer, record, known):
                self.add_root(root)
        if self._in_backward():
            self._never_counted(optimizer)
        else:
            sampler = self._sampler()
            sampler.outer = None
            boundary = (boundaries.STEP_BEGINS, id(optimizer))
            self._boundary(sampler, boundary, record, optimizer)
            self._tell_detail(lambda detail: detail.step_begins(boundary))

    def _step_ends(self, optimizer: Any, _args: Any, _kwargs: Any) -> None:
        record = self._optimizers.get(id(optimizer))
        if record is None:
            return
        self._clock.tick(time.perf_counter(), record.steps)
        self._descriptions.stepped(record, optimizer)
        if not self._in_backward():
            boundary = (boundaries.STEP_ENDS, id(optimizer))
            sampler = self._sampler()
            self._tell_detail(lambda detail: detail.step_ends(boundary, record.target))
            self._boundary(sampler, boundary, record, optimizer)

    # What is done about it.

    def _in_backward(self) -> bool:
        # Inside backward another thread may be writing gradients.
        return bool(self._torch._C._current_graph_task_id() != -1)

    def _sampler(self) -> Sampler:
        thread = get_ident()
        sampler = self._samplers.get(thread)
        if sampler is None:
            self._details[thread] = Detail(
                self._torch,
                self._faults,
                self.detail_pace,
                lambda visit: self._count(thread, visit),
                lambda: self._roots_of(thread),
                self.add_root,
                self._detailed,
            )
            self.gate.thread = None if self._samplers else thread
            sampler = self._samplers[thread] = Sampler(self._pace, self._sampled)
        return sampler

    def _of(self, thread: int, table: dict[int, Any]) -> list[Any]:
        # What nobody has used yet is the one thread's, where there is only one.
        owners = (thread, None) if len(self._samplers) == 1 else (thread,)
        return [record for record in list(table.values()) if record.owner in owners]

    def _roots_of(self, thread: int) -> list[Any]:
        return living(r for r in self._of(thread, self._roots) if not r.inner)

    # A step's recording begins after the count at its beginning and ends before the one at its
    # end, so that neither sees the other.

    def _boundary(
        self, sampler: Sampler, boundary: boundaries.Boundary, record: Record, target: Any
    ) -> None:
        thread = get_ident()
        record.claim(thread)
        began = time.perf_counter()
        if sampler.wants(boundary, target, began):
            self._take_count(sampler, thread, boundary, target)

    def _tell_detail(self, tell: Callable[[Detail], None]) -> None:
        detail = self._details[get_ident()]
        try:
            tell(detail)
        except Exception as error:
            detail.stop()
            if not is_disturbed(error):
                self._faults.report(DETAIL, error)

    def _take_count(
        self,
        sampler: Sampler,
        thread: int,
        boundary: boundaries.Boundary,
        target: Any,
    ) -> None:
        began = time.thread_time()  # not what other processes take meanwhile
        try:
            counts = self._count(thread)
        except RuntimeError as error:
            if is_disturbed(error):
                return
            raise
        sampler.current = counts
        self._on_count()
        now, cost_s = time.perf_counter(), time.thread_time() - began
        self._pace.spend(now, cost_s)
        sampler.counted(boundary, target, counts, now, cost_s)

    def _count(self, thread: int, visit: Visit | None = None) -> Counts:
        # Only what this thread trains: the gradients of another thread's model may be in the
        # hands of its backward right now.
        roots, optimizers = self._of(thread, self._roots), self._of(thread, self._optimizers)
        shared = any(record.shared for record in [*roots, *optimizers])
        if shared:
            self._faults.say("the gradients' count", "several threads train the same model")
        return count(
            self._torch,
            living(roots),
            living(optimizers),
            self._faults,
            gradients=not shared,
            visit=visit,
        )

    def _detailed(
        self, details: dict[str, DeviceDetail], notes: list[str], shapes: list[list[int]]
    ) -> None:
        threads = {r.owner for r in list(self._optimizers.values())} - {None}
        if len(threads) > 1:
            notes = [*notes, f"one of {len(threads)} training threads"]
        self._on_detail(details, notes, shapes)

    def _sampled(self) -> None:
        self._on_sampled()
        self._descriptions.refresh(list(self._roots.values()), list(self._optimizers.values()))
