"""What a function allocates and releases on fake tensors, as signed sizes in order."""

from collections.abc import Callable
from typing import Any

from torch._subclasses.fake_tensor import FakeTensorMode

from vramtop.trace.recorder import Recorder


def happenings(prepare: Callable[[], Any], act: Callable[[Any], Any]) -> tuple[list[int], int]:
    """(sizes of what ``act(prepare())`` allocates, negative where released; bytes that stay).

    What ``act`` returns lives until the counting is over; cuBLAS workspaces have no size here.
    """
    recorder = Recorder()
    recording = recorder.recording
    with FakeTensorMode(), recorder:
        given = prepare()
        first = len(recording.events)
        kept = act(given)
        events = recording.events[first:]
        del kept
    sizes = [recording.sizes[e - 1] if e > 0 else -recording.sizes[-e - 1] for e in events]
    return [size for size in sizes if size], sum(sizes)


def materialised(module: Any) -> Any:
    """A meta module with fake storages, under the fake mode that is entered."""
    import torch

    for part in module.modules():
        for name, parameter in list(part._parameters.items()):
            if parameter is not None:
                part._parameters[name] = torch.nn.Parameter(
                    torch.empty(parameter.shape, dtype=parameter.dtype),
                    requires_grad=parameter.requires_grad,
                )
        for name, buffer in list(part._buffers.items()):
            part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
    return module
