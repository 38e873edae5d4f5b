"""Decides when a step is recorded in detail, tells the recording what happens, keeps the result.

A round runs from the first forward after an optimizer's step to the first one after the next step
of the same optimizer, and so holds every forward, backward and zero_grad wherever they stand.
Where no forward is heard it runs from step to step, where nothing steps (or all optimizers step
inside backward) from forward to forward.
"""

from __future__ import annotations

import sys
from _thread import get_native_id
from typing import Any, Callable

from . import boundaries
from .accounting import Visit
from .boundaries import Boundary
from .calls import Call
from .coarse import CoarseRecording
from .faults import Faults
from .pace import DetailPace
from .recording import Recording
from .replay import FORWARD, DeviceDetail, Sizes

PART = "detail of single steps"
_FIRST = 2
"""Forwards or steps that are left alone: they compile, load and make the optimizer's state."""
_ROOM = 0.05
"""Part of a GPU's memory that must be free above the peak so far."""
_MANY = 4
"""So many forwards without gradients are a round each: they are more than part of a step."""
_LONG = 64
"""After so many forwards no step is expected any more."""


class Detail:
    """The detailed samples of one training thread.

    ``count`` walks over what the thread trains and calls the visitor it is given, ``roots`` are
    the thread's modules, ``add_root`` takes one that was not known; ``on_result`` gets a round's
    details, what could not be told apart, and the shapes of what its last forward was given.
    """

    def __init__(
        self,
        torch: Any,
        faults: Faults,
        pace: DetailPace,
        count: Callable[[Visit], Any],
        roots: Callable[[], list[Any]],
        add_root: Callable[[Any], None],
        on_result: Callable[[dict[str, DeviceDetail], list[str], list[list[int]]], None],
    ) -> None:
        self.sizes_at: dict[Boundary, dict[str, Sizes]] = {}
        """By boundary and torch device, as of the last recorded round."""
        self.ended_at: dict[Boundary, str] = {}
        """The phase that had ended last at each boundary, in that round."""
        self.thread = get_native_id()
        """The training thread, by the kernel's number."""
        self._torch = torch
        self._faults = faults
        self._pace = pace
        self._count = count
        self._roots = roots
        self._add_root = add_root
        self._on_result = on_result
        self._recording: Recording | CoarseRecording | None = None
        self._shapes: list[list[int]] = []
        """Of the round's last forward with gradients; without such, of its first."""
        self._forwards = self._steps = 0
        self._inferences = 0
        """Forwards without gradients, one after the other, since the recording began."""
        self._since_step = 0
        """Forwards since the last step, or since the recording began."""
        self._root: Callable[[], Any] = lambda: None
        """Whose forward began the round, where no step is heard."""
        self._left_over: Recording | CoarseRecording | None = None
        """Over, but still to be taken out."""
        self._stepper: Boundary | None = None
        """The step whose repetition makes a round, once the recording has heard of one."""
        self._optimizer: Callable[[], Any] = lambda: None
        self._has_stepped = False
        """Whether that step has ended since the round began."""
        self._forward_in_round = False
        """Whether a forward has begun since then."""
        self._heard_forward = False
        """Whether one has begun since any step."""

    @property
    def is_recording(self) -> bool:
        """Whether it has to hear of every boundary."""
        return self._recording is not None or self._left_over is not None

    def forward_begins(self, boundary: Boundary, phase: str, root: Callable[[], Any]) -> None:
        """A root's forward begins; a weak reference to it."""
        self._forwards += 1
        self._since_step += 1
        self._root = self._root if self._is_waiting_for_root() else root
        self._inferences = 0 if phase == FORWARD else self._inferences + 1
        self._heard_forward = self._forward_in_round = True
        self._open_if_due()
        self._hear(boundary, lambda recording: recording.forward_begins(boundary, phase))

    def called(self, call: Call | None, phase: str) -> None:
        """What the forward that has just begun was given."""
        if self._recording is not None and call is not None:
            self._recording.call = call
            if phase == FORWARD or not self._shapes:
                self._shapes = call.shapes

    def forward_ends(self, boundary: Boundary, inputs: Any, output: Any) -> None:
        """A root's forward has ended."""
        self._hear(boundary, lambda recording: recording.forward_ends(boundary, inputs, output))

    def step_begins(self, boundary: Boundary) -> None:
        """An optimizer's step begins, outside backward."""
        if not self._heard_forward:
            self._open_if_due()
        self._hear(boundary, lambda recording: recording.step_begins(boundary))

    def step_ends(self, boundary: Boundary, optimizer: Callable[[], Any]) -> None:
        """An optimizer's step has ended, outside backward; a weak reference to it."""
        if self._recording is not None and self._stepper is None:
            self._stepper, self._optimizer = boundary, optimizer
        self._steps += 1
        self._inferences = self._since_step = 0
        self._heard_forward = False
        self._hear(boundary, lambda recording: recording.step_ends(boundary))

    def stop(self) -> None:
        """Give up what is being recorded; also in a forked child, where it is the parent's."""
        recording, self._recording = self._recording, None
        if recording is not None and not recording.stop():
            self._left_over = recording

    def give_up(self) -> None:
        """The same from any thread: the recording ends at its thread's next module or boundary."""
        recording = self._recording
        if recording is not None and recording.give_up():
            self._recording = None

    def sleep(self) -> None:
        """From any thread: what cannot be stopped sees no more, and stays where it is."""
        for recording in (self._recording, self._left_over):
            if recording is not None:
                recording.sleep()

    def _hear(
        self, boundary: Boundary, tell: Callable[[Recording | CoarseRecording], None]
    ) -> None:
        if self._left_over is not None and self._left_over.stop():
            self._left_over = None
        recording = self._recording
        if recording is None or is_transformed(self._torch):
            return
        if self._is_in_vain(recording):
            self.stop()
        elif recording.is_elsewhere:
            pass  # boundaries inside inference mode are not of this round
        elif recording.exhausted:
            self._close(recording)
        else:
            tell(recording)
            if not self._is_turn(recording, boundary):
                return
            if recording.round is None:
                recording.begin_round(boundary)
                self._shapes = []
            else:
                self._close(recording)

    def _is_in_vain(self, recording: Recording | CoarseRecording) -> bool:
        """Whether the round will never end, or something has come that must not be disturbed."""
        if self._stepper is not None and self._optimizer() is None:
            return True  # that training is over, this is another one
        if self._is_waiting_for_root() and (self._root() is None or self._since_step > _LONG):
            return True
        if recording.is_elsewhere and self._torch.is_inference_mode_enabled() is False:
            return True  # it began inside inference mode, and sees nothing outside
        return self._faults.off(PART) or bool(self._torch.autograd._profiler_enabled())

    def _is_waiting_for_root(self) -> bool:
        recording = self._recording
        return recording is not None and recording.round is not None and self._stepper is None

    def _is_turn(self, recording: Recording | CoarseRecording, boundary: Boundary) -> bool:
        """Whether one round ends and another begins here."""
        what = boundary[0]
        if what == boundaries.STEP_ENDS:
            if boundary != self._stepper:
                return False
            self._has_stepped = True
            is_turn, self._forward_in_round = not self._forward_in_round, False
        elif what == boundaries.FORWARD_BEGINS:
            is_turn = self._has_stepped or self._is_inference(recording, boundary)
        else:
            return False
        if is_turn:
            self._has_stepped = False
        return is_turn

    def _is_inference(self, recording: Recording | CoarseRecording, boundary: Boundary) -> bool:
        if recording.round not in (None, boundary) or self._stepper is not None:
            return False
        return not self._steps or self._inferences >= _MANY or self._since_step > _LONG

    def _open_if_due(self) -> None:
        is_settled = max(self._forwards, self._steps) > _FIRST
        if self.is_recording or not is_settled or self._faults.off(PART):
            return
        if not self._pace.due() or is_no_moment(self._torch):
            return
        reason = why_not(self._torch)
        if reason is None:
            self._recording = Recording(
                self._torch, self._count, self._roots(), self._add_root, self._failed
            )
        else:
            self._recording = CoarseRecording(self._torch, self._count, reason)
        self._stepper, self._has_stepped = None, False
        # While nothing is recorded most boundaries are not heard, and these would say nothing.
        self._inferences = self._since_step = 0
        self._pace.begin()
        self._recording.start()

    def _close(self, recording: Recording | CoarseRecording) -> None:
        self.stop()
        if recording.round is not None and not self._faults.off(PART):
            details = recording.details()
            self.sizes_at, self.ended_at = {}, {}
            for device, detail in details.items():
                self.ended_at.update(detail.replay.ended_at)
                for boundary, sizes in detail.replay.sizes_at.items():
                    self.sizes_at.setdefault(boundary, {})[device] = sizes
            self._on_result(details, recording.notes, self._shapes)
        self._pace.end(recording.cost_s)

    def _failed(self, error: Exception) -> None:
        self._faults.report(PART, error)


def is_no_moment(torch: Any) -> bool:
    """Whether to wait for a better moment to begin.

    While a CUDA graph is captured the driver is asked for nothing.
    """
    if is_transformed(torch):
        return True
    return bool(torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())


def is_transformed(torch: Any) -> bool:
    """Whether this is inside a torch.func transformation, where tensors are not what they seem."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def why_not(torch: Any) -> str | None:
    """Why no step can be recorded on this thread now, None if one can."""
    core = torch._C
    if compiled():
        return "compiled code runs: what happens inside compiled regions cannot be seen"
    if core._len_torch_dispatch_stack():
        return "the program has a TorchDispatchMode of its own on"
    if torch.autograd._profiler_enabled():
        return "torch.profiler is running"
    try:
        if any(_is_nearly_full(torch, index) for index in _devices_in_use(torch)):
            return "the GPU is nearly full, and looking at operations needs some room"
    except Exception:  # a pluggable allocator counts nothing
        return "how full the GPU is cannot be told, and looking at operations needs some room"
    modes = sys.modules.get("torch.utils._python_dispatch")
    knows = hasattr(getattr(modes, "TorchDispatchMode", None), "ignore_compile_internals")
    if not knows and "torch._dynamo" in sys.modules:
        return "this torch cannot compile while operations are looked at"
    return None


def compiled() -> bool:
    """Whether torch.compile was called in this process, or has compiled anything.

    Recording must not be on while something is compiled for the first time: the hooks on all
    modules would be warned of.
    """
    frame = sys.modules.get("torch._dynamo.eval_frame")
    utils = sys.modules.get("torch._dynamo.utils")
    backends = getattr(frame, "cached_backends", {})
    # torch itself registers None, for what is never compiled.
    asked = any(backend is not None for backend in list(backends.values()))
    return asked or bool(getattr(utils, "counters", {}).get("frames"))


def _devices_in_use(torch: Any) -> list[int]:
    if not torch.cuda.is_initialized():
        return []
    return [i for i in range(torch.cuda.device_count()) if torch.cuda.memory_reserved(i)]


def _is_nearly_full(torch: Any, index: int) -> bool:
    """Whether the room above the highest peak so far is less than a part of the device.

    A gradient that is summed up while operations are looked at is for a moment there twice
    (``replay.undo_detours``).
    """
    free, total = torch.cuda.mem_get_info(index)
    above_peak = torch.cuda.memory_reserved(index) - torch.cuda.max_memory_allocated(index)
    return bool(free + above_peak < total * _ROOM)
