"""Sees every operation of a sampled step: a dispatch mode that writes what it makes to a ledger.

On the stack of torch's dispatch modes only during sampled steps, since every operation then takes
some 15 microseconds more. Chosen by measurement (tests/bench/detail_cost.py): saved-tensor hooks
cost a tenth of it but miss what is not saved (the peak in backward, optimizer transients,
everything under no_grad) and would switch off a user's own hooks around them.
"""

from __future__ import annotations

import time
from typing import Any, Callable

from .ledger import (
    ACTIVATION,
    BUFFER,
    CACHE,
    CONSTANT,
    DETAIL,
    GRADIENT,
    INPUT,
    LOOSE,
    PARAMETER,
    RECOMPUTED,
    TEMPORARY,
    Ledger,
)
from .replay import BACKWARD, FORWARD, OTHER, ZERO_GRAD

IN_FORWARD, IN_STEP, BETWEEN = range(3)
"""What a new storage is taken for outside backward, whatever the phase is called."""

_VIEW, _MAKES, _CASTS, _ZEROES, _GATHERS = range(5)
_MAX_DEPTH = 3


class Recorder:
    """One sampled step of one thread, from ``push`` to ``pop``.

    Not a ``TorchDispatchMode``: entering that class sets process-wide flags and its definition
    may import the compiler. torch asks an object on the stack for the methods below only.
    """

    def __init__(self, torch: Any, on_error: Callable[[Exception], None]) -> None:
        self.ledger = Ledger()
        self.module: Any = None
        """Id of the innermost module whose forward is running on the recorded thread."""
        self.phase = OTHER
        self.marks: list[tuple[int, str]] = []
        """(number of events before it, phase) at each change of phase."""
        self.sums: list[tuple[int, int]] = []
        """(event, record) of each addition in backward: what was made, and what it was added to."""
        self.operations = 0
        self.cost_s = 0.0
        """CPU time spent in here; torch spends more than as much again on getting here."""
        self._on = True
        self._inference = False
        self._on_error = on_error
        self._core = torch._C
        self._graph_task: Callable[[], int] = torch._C._current_graph_task_id
        self._node: Callable[[], Any] = torch._C._current_autograd_node
        self._next_sequence: Callable[[], int] = torch._C._autograd._get_sequence_nr
        self._grad_enabled: Callable[[], bool] = torch.is_grad_enabled
        self._torch = torch
        self._plain = (torch.Tensor, torch.nn.Parameter)
        self._add = torch.ops.aten.add.Tensor
        self._no_dispatch = torch._C._disabled_torch_dispatch_impl
        keys = torch._C._TorchDispatchModeKey
        self._infra = (keys.FAKE, keys.PROXY, keys.FUNCTIONAL)
        self._does: dict[Any, int] = {}
        self._made_by: dict[int, Any] = {}
        """Modules by the number that autograd gives to the node of an operation in forward."""
        self._made_again: dict[int, Any] = {}
        self._first_task = -1
        self._task = -1
        self._rule = BETWEEN
        self._differentiable = False
        self._phase_around = OTHER

    # What torch asks of a mode.

    supports_higher_order_operators = True

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Off while torch.compile compiles, so that it sees no mode and no graph breaks."""
        return True

    @classmethod
    def is_infra_mode(cls) -> bool:
        """Not one of torch's own."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note what it made."""
        if not self._on:
            return func(*args, **kwargs) if kwargs else func(*args)
        for kind in types:
            if kind not in self._plain and kind.__torch_dispatch__ is not self._no_dispatch:
                # A subclass comes back with the plain tensors inside. A fake one has none, and
                # refuses what its own mode, which is asked after us, is there to take.
                if any(self._core._get_dispatch_mode(key) is not None for key in self._infra):
                    return func(*args, **kwargs) if kwargs else func(*args)
                return NotImplemented
        made = func(*args, **kwargs) if kwargs else func(*args)
        began = time.thread_time()  # not what other processes take meanwhile
        try:
            self._note(func, args, kwargs, made)
        except Exception as error:
            self._on = False
            self._on_error(error)
        self.cost_s += time.thread_time() - began
        return made

    # The stack.

    def push(self) -> None:
        """Begin to see operations of this thread and of the backwards that it starts."""
        self._inference = self._torch.is_inference_mode_enabled()
        self._core._push_on_torch_dispatch_stack(self)

    def sleep(self) -> None:
        """From any thread: let every operation pass; ``pop`` is still to come."""
        self._on = False

    @property
    def is_elsewhere(self) -> bool:
        """Whether inference mode was entered or left since ``push``.

        As it is left it puts back what the thread's dispatch had on when it was entered: a mode
        that was on then must be there again.
        """
        return bool(self._torch.is_inference_mode_enabled() != self._inference)

    def pop(self) -> bool:
        """See no more; modes that the user has put on top of this one stay where they are.

        False while it has to stay on the stack, asleep.
        """
        self._on = False
        if self.is_elsewhere and not self._inference:
            return False
        above = []
        while self._core._len_torch_dispatch_stack():
            mode = self._core._pop_torch_dispatch_stack(None)
            if mode is self:
                break
            above.append(mode)
        for mode in reversed(above):
            self._core._push_on_torch_dispatch_stack(mode)
        return True

    # Phases.

    def enter(self, phase: str, rule: int) -> None:
        """A hook has told that a phase begins; the rule says what new storages are in it."""
        self._rule = rule
        self._task = -1
        self._mark(phase)

    def forward_runs(self) -> None:
        """A module's forward begins: one that is no root, where none has begun a phase."""
        if self._rule == BETWEEN and self._graph_task() == -1:
            self.enter(FORWARD, IN_FORWARD)

    def _mark(self, phase: str) -> None:
        self.ledger.drain()
        if phase != self.phase:
            self.phase = phase
            self.marks.append((len(self.ledger.events), phase))

    def _turn(self, task: int) -> None:
        """Backward was entered or left; nested ones are of the one around them."""
        if self._task == -1:
            self._differentiable, self._phase_around = self._grad_enabled(), self.phase
            self._first_task = task
            self._mark(BACKWARD)
        elif task == -1:
            self.ledger.drain()
            if not self._differentiable:
                self.ledger.outlived_backward()
            if self.module is not None or self._differentiable:
                self._mark(self._phase_around)  # a gradient that the forward itself uses
            else:
                self._rule = BETWEEN  # clipping, say: no hook has told of anything yet
                self._mark(OTHER)
        self._task = task

    # What was made.

    def _note(self, func: Any, args: Any, kwargs: Any, made: Any) -> None:
        self.operations += 1
        self.ledger.drain()
        task = self._graph_task()
        if task != self._task:
            self._turn(task)
        does = self._does.get(func)
        if does is None:
            does = self._does[func] = _what_it_does(self._core, func)
        if does == _VIEW:
            return
        if does == _GATHERS:
            self._note_gathered(args, kwargs, made)
        elif task != -1:
            self._note_backward(func, args, made, task)
        elif does == _ZEROES and self._rule != IN_STEP and self._zeroes_gradients(args):
            return
        elif self._rule == IN_FORWARD:
            given = (args, tuple(kwargs.values())) if kwargs else args
            self._note_forward(does == _CASTS, given, made)
        else:
            kind = TEMPORARY if self._rule == IN_STEP else LOOSE
            for storage in self._storages(made):
                self._new(storage, kind, None)

    def _note_gathered(self, args: Any, kwargs: Any, made: Any) -> None:
        """FSDP gathers a layer's parameters; it empties them in place when the layer is done."""
        given = tuple(kwargs.values()) if kwargs else ()
        for storage in self._storages((args, given, made)):
            index = self._new(storage, PARAMETER, self.module)
            if index is not None:
                if self.ledger.kinds[index] != PARAMETER:
                    self.ledger.kinds[index] = PARAMETER
                self.ledger.may_resize.add(index)

    def _zeroes_gradients(self, args: Any) -> bool:
        """zero_grad(set_to_none=False): no hook tells of it, and no memory comes or goes."""
        kinds = {self._kind_of_live(storage) for storage in self._storages(args)}
        if kinds != {GRADIENT}:
            return False
        phase = self.phase
        self._mark(ZERO_GRAD)
        self._mark(phase)
        return True

    def _note_forward(self, casts: bool, given: Any, made: Any) -> None:
        flows = weighs = False
        for storage in self._storages(given):
            kind = self._kind_of_read(storage)
            if kind == PARAMETER:
                weighs = True
            elif kind not in (INPUT, BUFFER, CONSTANT):
                flows = True
        module = self.module
        self._made_by.setdefault(self._next_sequence() - 1, module)
        kind = ACTIVATION if flows or weighs else CONSTANT
        if casts and weighs and not flows and self._in_autocast():
            kind = CACHE
        for storage in self._storages(made):
            index = self._new(storage, kind, module)
            # Activations have been written into it.
            if index is not None and kind != CONSTANT and self.ledger.kinds[index] == CONSTANT:
                self.ledger.kinds[index] = ACTIVATION

    def _in_autocast(self) -> bool:
        # While autocast casts it is off itself; that a region is around shows in its depth.
        self._torch.autocast_increment_nesting()
        return bool(self._torch.autocast_decrement_nesting() > 0)

    def _note_backward(self, func: Any, args: Any, made: Any, task: int) -> None:
        for storage in self._storages(made):
            key = storage._cdata
            if key in self.ledger.live:
                continue
            # Backward runs with gradients off, unless a checkpoint makes its forward again or
            # it was asked to be differentiable itself.
            again = self._grad_enabled() and not self._differentiable
            module = self.module
            if again:
                self._made_again.setdefault(self._next_sequence() - 1, module)
            elif module is None:
                module = self._module_of_node(task)
            self.ledger.add(storage, key, RECOMPUTED if again else DETAIL, module)
            if func is self._add:
                added_to = self.ledger.live.get(args[0].untyped_storage()._cdata)
                if added_to is not None:
                    self.sums.append((len(self.ledger.events) - 1, added_to))

    def _module_of_node(self, task: int) -> Any:
        node = self._node()
        if node is None:  # in what runs between nodes, as FSDP's callbacks do
            return None
        number = node._sequence_nr()
        # Each thread counts from 0, and on CUDA a checkpoint's second forward runs on another one;
        # it goes backward inside the backward that it is part of.
        again = self._made_again.get(number) if task != self._first_task else None
        return again or self._made_by.get(number)

    def _new(self, storage: Any, kind: int, module: Any) -> int | None:
        key = storage._cdata
        index = self.ledger.live.get(key)
        return self.ledger.add(storage, key, kind, module) if index is None else index

    def _kind_of_live(self, storage: Any) -> int | None:
        index = self.ledger.live.get(storage._cdata)
        return None if index is None else self.ledger.kinds[index]

    def _kind_of_read(self, storage: Any) -> int:
        key = storage._cdata
        index = self.ledger.live.get(key)
        if index is None:
            self.ledger.add_before(storage, key, INPUT, None)
            return INPUT
        kind = self.ledger.kinds[index]
        if kind == LOOSE:
            kind = self.ledger.kinds[index] = INPUT
        return kind

    def _storages(self, values: Any) -> list[Any]:
        """The storages of the plain tensors among an operation's arguments or results."""
        found: list[Any] = []
        self._collect(values, found, 0)
        return found

    def _collect(self, value: Any, found: list[Any], depth: int) -> None:
        kind = type(value)
        if kind in self._plain:
            try:
                found.append(value.untyped_storage())
            except (NotImplementedError, RuntimeError):  # sparse: made of plain ones, seen before
                pass
        elif depth < _MAX_DEPTH and (kind is tuple or kind is list):
            for item in value:
                self._collect(item, found, depth + 1)


def _what_it_does(core: Any, operation: Any) -> int:
    """Whether it can make memory at all, and what has to be known of it."""
    schema = getattr(operation, "_schema", None)
    if schema is None:  # of higher order (flex_attention, cond)
        return _MAKES
    if schema.name == "aten::_to_copy":
        return _CASTS
    if schema.name in ("aten::zero_", "aten::_foreach_zero_"):
        return _ZEROES
    if schema.name in ("fsdp::all_gather_copy_in", "fsdp::split_with_sizes_copy"):
        return _GATHERS
    if schema.is_mutable:
        return _MAKES
    # A result that shares the memory of an argument and writes nothing is a view; of a composite
    # (reshape, contiguous), which shows itself only in inference mode, it may be a copy.
    views = [result.alias_info is not None for result in schema.returns]
    composite = core._dispatch_has_kernel_for_dispatch_key(
        operation.name(), "CompositeImplicitAutograd"
    )
    return _VIEW if views and all(views) and not composite else _MAKES
