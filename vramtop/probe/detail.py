"""Decides when a step is recorded in detail, tells the recording what happens, keeps the result.

A round runs from the end of an optimizer's step to the end of the next one of the same optimizer,
and so holds every forward, backward and zero_grad wherever they stand. Where nothing steps (or all
optimizers step inside backward) it runs from forward to forward.
"""

from __future__ import annotations

import sys
from typing import Any, Callable

from . import boundaries
from .accounting import Visit
from .boundaries import Boundary
from .faults import Faults
from .inference import EVALUATION, GENERATION, kept_keys_and_values
from .ledger import ACTIVATION, INPUT, KV
from .pace import DetailPace
from .recorder import BETWEEN, IN_FORWARD, IN_STEP
from .recording import DeviceDetail, Recording
from .replay import OTHER, STEP, Sizes

PART = "detail of single steps"
_NO_STEPS_S = 2.0
"""So long without an optimizer's step, a forward without gradients is not part of a training."""


class Detail:
    """The detailed samples of one training thread.

    ``count`` walks over what the thread trains and calls the visitor it is given, ``roots`` are
    the thread's modules; ``on_result`` gets a round's details and what could not be told apart.
    """

    def __init__(
        self,
        torch: Any,
        faults: Faults,
        pace: DetailPace,
        count: Callable[[Visit], Any],
        roots: Callable[[], list[Any]],
        on_result: Callable[[dict[str, DeviceDetail], list[str]], None],
    ) -> None:
        self.sizes_at: dict[Boundary, dict[str, Sizes]] = {}
        """By boundary and torch device, as of the last recorded round."""
        self._torch = torch
        self._faults = faults
        self._pace = pace
        self._count = count
        self._roots = roots
        self._on_result = on_result
        self._recording: Recording | None = None
        self._stepped_at: float | None = None
        self._hears_forwards = False

    def forward_begins(self, boundary: Boundary, phase: str, now: float) -> None:
        """A root's forward begins; ``now`` in seconds of ``time.perf_counter``."""
        self._hears_forwards = True
        recording = self._at(boundary, now) if self._recording else self._opened()
        if recording is not None:
            recording.recorder.enter(phase, IN_FORWARD)

    def forward_ends(self, boundary: Boundary, output: Any) -> None:
        """A root's forward has ended with this output."""
        recording = self._recording
        if recording is None:
            return
        if recording.recorder.phase in (EVALUATION, GENERATION):
            ledger = recording.recorder.ledger
            for storage in kept_keys_and_values(self._torch, output):
                record = ledger.live.get(storage._cdata)
                if record is not None and ledger.kinds[record] in (ACTIVATION, INPUT):
                    ledger.kinds[record] = KV
        recording.reached(boundary)

    def step_begins(self, boundary: Boundary, now: float) -> None:
        """An optimizer's step begins, outside backward."""
        if self._recording is None and not self._hears_forwards:
            self._opened()
        recording = self._at(boundary, now)
        if recording is not None:
            recording.walk(self._count)
            recording.recorder.enter(STEP, IN_STEP)

    def step_ends(self, boundary: Boundary, now: float) -> None:
        """An optimizer's step has ended, outside backward."""
        self._stepped_at = now
        if self._recording is not None:
            self._recording.recorder.enter(OTHER, BETWEEN)
        self._at(boundary, now)

    def forked(self) -> None:
        """In the child: the recording is the parent's."""
        if self._recording is not None:
            self._recording.stop()
            self._recording = None

    stop = forked

    def _at(self, boundary: Boundary, now: float) -> Recording | None:
        recording = self._recording
        if recording is None:
            return None
        if recording.exhausted or boundary == recording.round:
            self._close(recording)
            return None
        recording.reached(boundary)
        if recording.round is None and self._begins_round(boundary, now):
            recording.begin_round(boundary)
        return recording

    def _begins_round(self, boundary: Boundary, now: float) -> bool:
        if boundary[0] == boundaries.STEP_ENDS:
            return True
        if boundary[0] != boundaries.FORWARD_BEGINS:
            return False
        if self._stepped_at is None:
            return True
        return now - self._stepped_at > _NO_STEPS_S and not self._torch.is_grad_enabled()

    def _opened(self) -> Recording | None:
        if not self._pace.due() or self._faults.off(PART):
            return None
        self._pace.blocked = why_not(self._torch)
        if self._pace.blocked:
            return None
        self._recording = Recording(self._torch, self._roots(), self._failed)
        self._recording.walk(self._count)
        self._pace.begin()
        self._recording.start()
        return self._recording

    def _close(self, recording: Recording) -> None:
        self._recording = None
        notes = []
        if recording.exhausted:
            notes.append(f"cut short after {recording.recorder.operations:,} operations")
        recording.stop()
        if recording.round is not None and not self._faults.off(PART):
            recording.walk(self._count)
            recording.reached(recording.round)
            details = recording.details()
            self.sizes_at = {}
            for device, detail in details.items():
                for boundary, sizes in detail.replay.sizes_at.items():
                    self.sizes_at.setdefault(boundary, {})[device] = sizes
            self._on_result(details, notes)
        self._pace.end(recording.cost_s)

    def _failed(self, error: Exception) -> None:
        self._faults.report(PART, error)


def why_not(torch: Any) -> str | None:
    """Why no step can be recorded on this thread now, None if one can."""
    core = torch._C
    if compiled():
        return "compiled code runs: what happens inside compiled regions cannot be seen"
    if core._len_torch_dispatch_stack():
        return "the program has a TorchDispatchMode of its own on"
    if core._functorch.peek_interpreter_stack() is not None:
        return "inside a torch.func transformation"
    if torch.autograd._profiler_enabled():
        return "torch.profiler is running"
    modes = sys.modules.get("torch.utils._python_dispatch")
    knows = hasattr(getattr(modes, "TorchDispatchMode", None), "ignore_compile_internals")
    if not knows and "torch._dynamo" in sys.modules:
        return "this torch cannot compile while operations are looked at"
    return None


def compiled() -> bool:
    """Whether torch.compile has compiled anything in this process."""
    utils = sys.modules.get("torch._dynamo.utils")
    return utils is not None and bool(utils.counters.get("frames"))
