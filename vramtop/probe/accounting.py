"""Counts the storages of parameters, gradients and optimizer state; on the training thread only.

``p.grad`` may not be touched from any other thread: backward writes it without the GIL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Callable

from .faults import Faults
from .ledger import CUDA_BLOCK_BYTES

PARAMETER, GRADIENT, STATE, BUFFER = range(4)
"""Places in a count. ``BUFFER`` is the part of ``PARAMETER`` that module buffers hold."""

_MAX_DEPTH = 6

Counts = dict[str, list[int]]
"""Bytes by torch device ("cuda:0"), each a list of the four above; on CUDA bytes of the
allocator's blocks."""

Visit = Callable[[Any, int, int, Any], None]
"""Called with storage, address of its object, place, module that holds it (or None)."""


def count(
    torch: Any,
    roots: list[Any],
    optimizers: list[Any],
    faults: Faults,
    gradients: bool = True,
    visit: Visit | None = None,
) -> Counts:
    """Bytes by device; each storage once, as parameter before gradient before optimizer state.

    Not inside backward. Nothing is kept, no operation is dispatched, no mode or hook of the user's
    sees it. Kinds of tensors that cannot be counted go to ``faults``.
    """
    walk = _Walk(torch, visit)
    with torch._C.DisableTorchFunction():
        parameters, buffers = _held_tensors(roots, optimizers)
        for tensor, walk.module in parameters:
            walk.add(tensor, PARAMETER)
        for tensor, walk.module in buffers:
            walk.add(tensor, BUFFER)
        if gradients:
            for tensor, walk.module in parameters:
                # .grad of a tensor that is no leaf warns; such ones stand in for parameters
                # inside torch.func.functional_call.
                gradient = tensor.grad if tensor.is_leaf else None
                if gradient is not None:
                    walk.add(gradient, GRADIENT)
        walk.module = None
        for optimizer in optimizers:
            for state in optimizer.state.values():
                walk.add_nested(state, 0)
    for kind, error in walk.unknown.items():
        faults.report(f"the count of {kind} tensors", error)
    totals: Counts = {}
    for device, sizes in walk.sizes.items():
        if device.type != "meta":
            sizes[PARAMETER] += sizes[BUFFER]
            totals[str(device)] = sizes
    return totals


def is_disturbed(error: Exception) -> bool:
    """Whether another thread was adding modules or state during a count: try again next time."""
    return isinstance(error, RuntimeError) and "during iteration" in str(error)


def modules_of(roots: Iterable[Any]) -> Iterator[Any]:
    """Every module under the roots, once, in the order in which they were put together."""
    seen: set[int] = set()
    stack = list(roots)[::-1]
    while stack:
        module = stack.pop()
        if module is None or id(module) in seen:
            continue
        seen.add(id(module))
        stack.extend(reversed(module._modules.values()))
        yield module


def _held_tensors(
    roots: list[Any], optimizers: list[Any]
) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Parameters and buffers, each with the module that holds it."""
    # The module tree is walked anew each time: it costs a fraction of the storages and never
    # misses an adapter that was put in later.
    parameters: dict[int, tuple[Any, Any]] = {}
    buffers: list[tuple[Any, Any]] = []
    for module in modules_of(roots):
        for tensor in module._parameters.values():
            if tensor is not None:
                parameters.setdefault(id(tensor), (tensor, module))
        buffers.extend((t, module) for t in module._buffers.values() if t is not None)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for tensor in group["params"]:
                parameters.setdefault(id(tensor), (tensor, None))
    return list(parameters.values()), buffers


class _Walk:
    def __init__(self, torch: Any, visit: Visit | None) -> None:
        self.module: Any = None
        """The module that holds what is added next."""
        self._visit = visit
        self._tensor = torch.Tensor
        self._plain = (torch.nn.Parameter, torch.Tensor)
        self._functorch = torch._C._functorch
        self._seen: set[int] = set()
        self._block_bytes: dict[Any, int] = {}
        """What sizes are rounded up to, by device: else the rest would be of no category."""
        self.sizes: dict[Any, list[int]] = {}
        self.unknown: dict[str, Exception] = {}

    def add(self, tensor: Any, place: int, depth: int = 0) -> None:
        try:
            if type(tensor) not in self._plain:
                flatten = getattr(tensor, "__tensor_flatten__", None)
                # A DTensor or quantised tensor is a wrapper: its memory is in the tensors it
                # names (for a DTensor the local shard).
                if flatten is not None:
                    self._add_parts([getattr(tensor, n) for n in flatten()[0]], place, depth)
                    return
            storage = tensor.untyped_storage()
        except Exception as error:  # sparse, or of a kind that has no memory to tell of
            self._add_parts(self._parts_of(tensor, error), place, depth)
            return
        # The storage object's address, not its data's: asking a lazily copied storage for its
        # data pointer would make it copy.
        key = storage._cdata
        if key in self._seen:
            return
        self._seen.add(key)
        size = storage.nbytes()
        if size:
            device = storage.device
            sizes = self.sizes.get(device)
            if sizes is None:
                sizes = self.sizes[device] = [0, 0, 0, 0]
                self._block_bytes[device] = CUDA_BLOCK_BYTES if device.type == "cuda" else 1
            block = self._block_bytes[device]
            sizes[place] += -(-size // block) * block
            if self._visit is not None:
                self._visit(storage, key, place, self.module)

    def add_nested(self, value: Any, depth: int) -> None:
        # issubclass of the type, not isinstance: the latter asks foreign objects for __class__.
        kind = type(value)
        if kind is self._tensor or issubclass(kind, self._tensor):
            self.add(value, STATE)
        elif depth < _MAX_DEPTH:
            if issubclass(kind, dict):
                for item in value.values():
                    self.add_nested(item, depth + 1)
            elif issubclass(kind, (list, tuple)):
                for item in value:
                    self.add_nested(item, depth + 1)

    def _add_parts(self, parts: Iterable[Any], place: int, depth: int) -> None:
        if depth < _MAX_DEPTH:
            for part in parts:
                if issubclass(type(part), self._tensor):  # a DTensor names its mesh as well
                    self.add(part, place, depth + 1)

    def _parts_of(self, tensor: Any, error: Exception) -> list[Any]:
        """The plain tensors inside a sparse one; of anything else the kind is noted."""
        if self._functorch.is_functorch_wrapped_tensor(tensor):
            return [self._functorch.get_unwrapped(tensor)]
        layout = str(getattr(tensor, "layout", ""))
        if layout == "torch.sparse_coo":
            return [tensor._indices(), tensor._values()]
        if layout in ("torch.sparse_csr", "torch.sparse_bsr"):
            return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
        if layout in ("torch.sparse_csc", "torch.sparse_bsc"):
            return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
        self.unknown[type(tensor).__name__] = error
        return []
