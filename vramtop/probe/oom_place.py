"""Where in the training a thread is, or an exception came from: the phase and the module.

Read from frames. Only those of torch are looked into: to ask a running frame of the user's for
its locals keeps them alive for as long as it runs, on Python 3.12 and before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Optional

from .boundaries import FORWARD_BEGINS, FORWARD_ENDS, STEP_BEGINS, STEP_ENDS
from .replay import BACKWARD, FORWARD, OTHER, STEP

_MAX_FRAMES = 2000
_MAX_NODES = 2000
_MAX_GRAPH = 20_000
_BACKWARD_FILES = ("torch/autograd/graph.py", "torch/autograd/__init__.py")
_ENGINE_NAME = "_engine_run_backward"
_BACKWARD_NAMES = frozenset({_ENGINE_NAME, "backward", "grad"})
_CALL_FILE = "torch/nn/modules/module.py"
_CALL_NAME = "_call_impl"
"""Around every module's forward."""
_STEP_FILE = "torch/optim/optimizer.py"
_STEP_NAME = "wrapper"
"""profile_hook_step.<locals>.wrapper, around every optimizer's step."""
PHASE_AFTER = {FORWARD_BEGINS: FORWARD, FORWARD_ENDS: FORWARD, STEP_BEGINS: STEP, STEP_ENDS: OTHER}
"""What runs after a boundary, where frames say nothing: after the forward comes its loss."""


class Place(NamedTuple):
    """``module`` is the innermost one itself, not to be kept."""

    phase: Optional[str]  # noqa: UP045  evaluated on Python 3.9
    module: Any


def of_error(error: BaseException) -> Place:
    """Where an exception came from."""
    return _place(_frames_of(error), None)


def of_this_thread(torch: Any) -> Place:
    """Where the calling thread is now."""
    frames: list[Any] = []
    frame: Any = sys._getframe(1)
    while frame is not None and len(frames) < _MAX_FRAMES:
        frames.append(frame)
        frame = frame.f_back
    # The engine's own threads have no frame that tells of the backward.
    in_backward = torch._C._current_graph_task_id() != -1
    return _place(reversed(frames), BACKWARD if in_backward else None)


def nearest_parameter(torch: Any) -> Any:
    """The parameter that the running node of a backward is nearest to, None where there is none.

    What the node has saved is not touched: the engine holds its lock.
    """
    current = getattr(torch._C, "_current_autograd_node", None)
    return _parameter_below(None if current is None else current())


def nearest_to_failure(torch: Any, error: BaseException) -> Any:
    """The same of a backward that an exception has ended, on the CPU alone.

    A node that has run has let go of what it had saved, and of those that could run the engine
    takes the one that was made last. Where nodes keep it (retain_graph) nothing is known.
    """
    outputs, is_kept = None, True
    for frame in _frames_of(error):
        code = frame.f_code
        if code.co_filename.endswith(_BACKWARD_FILES):
            if code.co_name == _ENGINE_NAME:
                outputs = frame.f_locals.get("t_outputs")
            else:
                is_kept = bool(frame.f_locals.get("retain_graph", True))
    if is_kept or not outputs:
        return None
    with torch._C.DisableTorchFunction():  # the user's, who is not to hear of us
        stack = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen, failed = set(stack), None
    while stack and len(seen) < _MAX_GRAPH:
        node = stack.pop()
        if _holds_saved(node):
            if failed is None or node._sequence_nr() > failed._sequence_nr():
                failed = node
            continue
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)
    return _parameter_below(failed)


def _holds_saved(node: Any) -> bool:
    for name in dir(type(node)):
        if name.startswith("_raw_saved_"):
            try:
                saved = getattr(node, name)
            except RuntimeError:  # let go of
                continue
            for item in saved if isinstance(saved, (tuple, list)) else (saved,):
                if getattr(item, "data", None) is not None:
                    return True
    return False


def _parameter_below(node: Any) -> Any:
    level, seen = [node] if node is not None else [], set()
    while level:
        below = []
        for node in level:
            variable = getattr(node, "variable", None)
            if variable is not None and type(node).__name__ == "AccumulateGrad":
                return variable
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    below.append(following)
        if len(seen) > _MAX_NODES:
            return None
        level = below
    return None


def _place(frames: Iterable[Any], phase: str | None) -> Place:
    module = None
    for frame in frames:
        code = frame.f_code
        if code.co_name == _CALL_NAME and code.co_filename.endswith(_CALL_FILE):
            module = frame.f_locals.get("self")
            phase = BACKWARD if phase == BACKWARD else FORWARD
        elif code.co_name in _BACKWARD_NAMES and code.co_filename.endswith(_BACKWARD_FILES):
            phase, module = BACKWARD, None
        elif code.co_name == _STEP_NAME and code.co_filename.endswith(_STEP_FILE):
            phase, module = STEP, None
    return Place(phase, module)


def _frames_of(error: BaseException) -> Iterator[Any]:
    traceback = error.__traceback__
    for _ in range(_MAX_FRAMES):
        if traceback is None:
            return
        yield traceback.tb_frame
        traceback = traceback.tb_next
