"""Every storage that fake tensors allocate and release, with what it is for and where it was made.

A dispatch mode sees each new storage, a weak reference its end, so the order of releases is
Python's own, as on a GPU.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..estimator.recording import Recording

_BY_PHASE = {
    "load": "parameter",
    "forward": "activation",
    "generate": "activation",
    "backward": "autograd_detail",
}
_aten = torch.ops.aten
_MATMULS = frozenset(
    {
        _aten.mm.default,
        _aten.addmm.default,
        _aten.bmm.default,
        _aten.baddbmm.default,
        _aten.addmv.default,
        _aten._grouped_mm.default,
    }
)
"""Operations that run on cuBLAS: the first on a thread takes its handle's workspace."""
_ADD = _aten.add.Tensor
_DEVICE = torch.ops.prim.device.default
"""Two thirds of all calls: C++ asks each fake tensor for its device before it does anything."""
_IN_PLACE = frozenset(
    getattr(getattr(_aten, f"_foreach_{name}_"), overload)
    for name, overload in (
        ("add", "List"),
        ("mul", "Scalar"),
        ("mul", "Tensor"),
        ("div", "List"),
        ("lerp", "Scalar"),
        ("addcmul", "Scalar"),
        ("addcdiv", "ScalarList"),
    )
)
"""Steps of optimizers on all tensors at once: nothing is made, and fake tensors hold nothing to
change, but their shapes take a tenth of a trace to look at. Not what counts steps (add.Scalar,
add.Tensor): those have values that are asked for."""
_FROM_PYTHON = _aten.lift_fresh.default
"""``torch.tensor(0.0)``: its scalars stay on the host, as an optimizer's step counts."""
_UNNUMBERED = 2**63
"""Sequence numbers from here on are those of AccumulateGrad, which no forward has made."""


class Recorder(TorchDispatchMode):  # type: ignore[misc]  # torch is not typed here
    """Records while it is entered; ``watch`` a model first, ``mark`` each phase as it begins.

    ``on_cpu``: what lies on the host is what is asked for, and nothing runs on cuBLAS.
    ``one_by_one``: the optimizer steps one parameter after the other.
    """

    def __init__(self, *, on_cpu: bool = False, one_by_one: bool = False) -> None:
        super().__init__()
        self.recording = Recording()
        self._on_cpu = on_cpu
        self._one_by_one = one_by_one
        self._constants: set[int] = set()
        """Inputs, buffers, and what is made of such alone."""
        self._phase = "load"
        self._live: dict[int, int] = {}
        self._references: dict[int, Any] = {}
        self._on_host: dict[int, Any] = {}
        self._paths: dict[int, int] = {}
        self._layer_of_path: list[int | None] = [None]
        self._running: list[int] = []
        self._starts: list[int] = [-1]
        self._start_paths: list[int] = [0]
        self._path = 0
        self._in_layer = False
        self._between_layers = False
        self._tag: int | None = None
        self._workspaces: set[bool] = set()
        self._ended = False
        self._node = torch._C._current_autograd_node
        self._sequence = torch._C._autograd._get_sequence_nr
        self._in_backward = torch._C._current_graph_task_id

    def watch(self, model: Any, layers: dict[str, int]) -> None:
        """Learn the modules' paths; ``layers`` gives each repeated layer's tag by its path."""
        recording = self.recording
        for path, module in model.named_modules():
            self._paths[id(module)] = len(recording.paths)
            recording.paths.append(path)
            self._layer_of_path.append(_tag_of(path, layers))

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Hear of every module's forward while entered."""
        registry = torch.nn.modules.module
        handles = [
            registry.register_module_forward_pre_hook(self._enter),
            # Also after an exception: a checkpoint ends its second forward with one.
            registry.register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def unordered(self) -> Iterator[None]:
        """What is released here goes in an order that means nothing (a hash table's): sort it."""
        start, tag = len(self.recording.events), self._tag
        try:
            yield
        finally:
            self.recording.sort_releases(start)
            self._tag = tag

    def mark(self, phase: str, step: int) -> None:
        """A phase begins."""
        self._phase = phase
        self._tag = None
        self._path, self._in_layer = 0, False
        self.recording.marks.append((len(self.recording.events), phase, step))

    def end(self, step: int) -> None:
        """The run is over: what is released from here on is only the tracer's tidying up."""
        self.mark("end", step)
        self._ended = True

    def label(self, tensors: Iterable[tuple[str, Any]], category: str) -> None:
        """Say what live tensors are for; each comes with the name shown as its module."""
        recording = self.recording
        names = {path: i for i, path in enumerate(recording.paths)}
        for name, tensor in tensors:
            index = self._live.get(tensor.untyped_storage()._cdata)
            if index is None or recording.settled[index]:
                continue
            if name not in names:
                names[name] = len(recording.paths)
                recording.paths.append(name)
                self._layer_of_path.append(None)
            recording.categories[index] = category
            recording.block_paths[index] = names[name]
            recording.settled[index] = True
            if category == "input":
                self._constants.add(index)

    def place(self, path: str, layers: dict[str, int]) -> None:
        """While loading: the storages made from here on belong to the module at a path."""
        self._tag = _tag_of(path, layers)

    def name_parameters(self, model: Any) -> None:
        """After loading: say which storage is which parameter or buffer."""
        self.label([*model.named_parameters(), *model.named_buffers()], "parameter")
        for buffer in model.buffers():
            index = self._live.get(buffer.untyped_storage()._cdata)
            if index is not None:
                self._constants.add(index)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DEVICE:
            return args[0].device
        if func in _IN_PLACE:
            return None
        if func in _MATMULS and not self._ended and not self._on_cpu:
            self._workspace()
        out = func(*args, **(kwargs or {}))
        if self._ended:
            return out
        if func is _ADD and self._is_accumulation(args):
            self._take_over(args[0], out)
            return out
        if isinstance(out, torch.Tensor):
            self._note(out, func, args, kwargs, None)
        elif isinstance(out, (list, tuple)):
            for position, part in enumerate(out):
                if isinstance(part, torch.Tensor):
                    self._note(part, func, args, kwargs, position)
        return out

    def _note(self, tensor: Any, func: Any, args: Any, kwargs: Any, position: int | None) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._live:
            self._write(self._live[key], args, kwargs)
            return
        if key in self._on_host:
            return
        if func is _FROM_PYTHON and not tensor.dim() and not self._on_cpu:
            self._on_host[key] = weakref.ref(storage, lambda _: self._on_host.pop(key))
            return
        layer = self._tag if self._phase == "load" else self._locate()
        if layer is None and self._phase not in _BY_PHASE:
            layer = self._locate_argument(args, position)
        index = self._book(storage.nbytes(), str(func.name()), layer)
        if self._phase == "forward" and not self._flows(args, kwargs):
            self.recording.categories[index] = "input"
            self._constants.add(index)
        self._follow(storage, index)

    def _write(self, index: int, args: Any, kwargs: Any) -> None:
        """Something is written into what is there; a constant no more where activations are."""
        if self._phase == "forward" and index in self._constants and self._flows(args, kwargs):
            self._constants.discard(index)
            if not self.recording.settled[index]:
                self.recording.categories[index] = "activation"

    def _flows(self, args: Any, kwargs: Any) -> bool:
        """Whether parameters or activations are among what an operation reads.

        What is made of inputs, buffers or nothing is called an input (masks, positions), as the
        probe calls it.
        """
        for value in (*args, *(kwargs or {}).values()):
            for part in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(part, torch.Tensor):
                    index = self._live.get(part.untyped_storage()._cdata)
                    if index is not None and index not in self._constants:
                        return True
        return False

    def _book(self, size: int, operation: str, layer: int | None) -> int:
        recording = self.recording
        index = len(recording.sizes)
        category = _BY_PHASE.get(self._phase, "temporary")
        recording.add_block(size, category, self._path, layer, operation)
        recording.add_event(index + 1, self._tag, self._path)
        return index

    def _is_accumulation(self, args: Any) -> bool:
        """Whether the engine sums up two gradients, which it does in place but for fake tensors.

        InputBuffer::accumulate (torch/csrc/autograd/input_buffer.cpp) adds into the older one where
        nobody else holds it; a tensor subclass it never changes.
        """
        if self._phase != "backward" or self._running or self._in_backward() == -1:
            return False
        old, new = args[0], args[1]
        if not isinstance(new, torch.Tensor) or old.shape != new.shape or old.dtype != new.dtype:
            return False
        storage = old.untyped_storage()
        # One reference is the tensor's, one that of the storage which we have just asked for.
        return torch._C._storage_Use_Count(storage._cdata) == 2 and storage._cdata in self._live

    def _take_over(self, old: Any, new: Any) -> None:
        index = self._live.pop(old.untyped_storage()._cdata)
        self._follow(new.untyped_storage(), index)

    def _follow(self, storage: Any, index: int) -> None:
        """Book the block's release when this storage goes."""
        key = storage._cdata
        self._live[key] = index

        def gone(_reference: Any) -> None:
            if self._live.get(key) == index:
                self._release(key, index)

        self._references[index] = weakref.ref(storage, gone)

    def _release(self, key: int, index: int) -> None:
        del self._live[key], self._references[index]
        if self._ended:
            return
        layer = self.recording.tags[index]
        if self._is_replaced(layer):
            self.recording.add_event(-(index + 1), self._tag, self._path)
            return
        if self._phase not in _BY_PHASE:
            self._path = self.recording.block_paths[index]
        if layer is not None and layer != self._tag:
            if self._phase not in _BY_PHASE:
                self._tag = layer
            elif (
                self._phase != "backward"
                and not self._in_layer
                and not (self._between_layers and layer + 1 == self._tag)
            ):
                # Something of each layer's that went at once, after the last of them. But what a
                # layer's successor has just replaced (its output) belongs to the successor.
                self._tag = layer
        self.recording.add_event(-(index + 1), self._tag, self._path)

    def _is_replaced(self, layer: int | None) -> bool:
        """Whether a name in an optimizer's loop, last used for one layer, is used for the next."""
        if not self._one_by_one or self._phase in _BY_PHASE or layer is None:
            return False
        return self._tag == layer + 1

    def _workspace(self) -> None:
        # The engine runs a backward on a thread of its own, with a cuBLAS handle of its own.
        backward = self._in_backward() != -1
        if backward in self._workspaces:
            return
        self._workspaces.add(backward)
        tag, path = self._tag, self._path
        self._tag = None
        self._book(0, "cublas", None)
        self.recording.categories[-1] = "workspace"
        self.recording.settled[-1] = True
        self._tag, self._path = tag, path

    def _locate(self) -> int | None:
        """Find out which module is at work; returns its layer and makes it the current one."""
        layer: int | None
        if self._running:
            path = self._running[-1]
        else:
            node = self._node()
            if node is None:
                self._path, self._in_layer = 0, False
                return None
            number = node._sequence_nr()
            if number >= _UNNUMBERED:
                return self._locate_parameter(node)
            path = self._start_paths[bisect_right(self._starts, number) - 1]
        self._path = path
        layer = self._layer_of_path[path]
        self._in_layer = layer is not None
        if layer is not None:
            self._tag = layer
        return layer

    def _locate_parameter(self, node: Any) -> int | None:
        index = self._live.get(node.variable.untyped_storage()._cdata)
        layer = None if index is None else self.recording.tags[index]
        if layer is not None:
            self._tag = layer
        return layer

    def _locate_argument(self, args: Any, position: int | None) -> int | None:
        """Place an output of the optimizer's with the tensor that it is made from."""
        for arg in args:
            if isinstance(arg, (list, tuple)) and position is not None and position < len(arg):
                arg = arg[position]  # noqa: PLW2901
            if isinstance(arg, torch.Tensor):
                index = self._live.get(arg.untyped_storage()._cdata)
                if index is not None:
                    self._path = self.recording.block_paths[index]
                    layer = self.recording.tags[index]
                    if layer is not None:
                        self._tag = layer
                    return layer
        return None

    def _enter(self, module: Any, _args: Any) -> None:
        path = self._paths.get(id(module))
        if path is None:
            path = self._running[-1] if self._running else 0
        self._running.append(path)
        self._begin(path)

    def _leave(self, _module: Any, _args: Any, _output: Any) -> None:
        if self._running:
            self._running.pop()
        self._begin(self._running[-1] if self._running else 0)

    def _begin(self, path: int) -> None:
        self._starts.append(self._sequence())
        self._start_paths.append(path)
        self._path = path
        layer = self._layer_of_path[path]
        self._between_layers = layer is None and self._in_layer
        self._in_layer = layer is not None
        if layer is not None:
            self._tag = layer


def _tag_of(path: str, layers: dict[str, int]) -> int | None:
    """The tag of the layer in which a module or parameter lies, the outermost where they nest."""
    for prefix, tag in layers.items():
        if path == prefix or path.startswith(prefix + "."):
            return tag
    return None
