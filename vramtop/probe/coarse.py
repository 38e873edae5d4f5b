"""A step seen from its boundaries only, where operations cannot be looked at (compiled code).

What the models and optimizers hold is counted; activations are what the autograd graph of the
root's output has saved, read without unpacking it, and the output itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from ..protocol.messages import PART_FIELDS, TENSOR_FIELDS
from . import accounting
from .boundaries import Boundary
from .calls import Call
from .ledger import ACTIVATION, BUFFER, GRADIENT, INPUT, PARAMETER, STATE, memory_bytes
from .replay import (
    BACKWARD,
    FORWARD,
    OTHER,
    STEP,
    ZERO_GRAD,
    DeviceDetail,
    DeviceReplay,
    PhaseRun,
    Sizes,
    category_name,
    folded,
)
from .segments import read_or_say

_MAX_AGE_S = 300.0
_MAX_NODES = 20_000
_MAX_DEPTH = 3
_LENGTH = len(TENSOR_FIELDS) + len(PART_FIELDS)

_KINDS_OF_PLACE = {
    accounting.PARAMETER: (PARAMETER,),
    accounting.BUFFER: (PARAMETER, BUFFER),
    accounting.GRADIENT: (GRADIENT,),
    accounting.STATE: (STATE,),
}

Moment = dict[str, Sizes]
"""Sizes by torch device."""


class CoarseRecording:
    """Stands in for a ``Recording``: the same round, no operations, no modules, no peak."""

    def __init__(self, torch: Any, count: Callable[[accounting.Visit], Any], reason: str) -> None:
        self.notes = [f"seen from its boundaries only: {reason}"]
        self.round: Boundary | None = None
        self.call: Call | None = None
        self.cost_s = 0.0
        self._torch = torch
        self._count = count
        self._opened_at = time.perf_counter()
        self._name = OTHER
        self._last: Moment = {}
        self._replays: dict[str, DeviceReplay] = {}
        self._boundaries: dict[str, dict[Boundary, Sizes]] = {}
        self._ended: dict[Boundary, str] = {}
        """The phase that had ended last, by boundary."""
        self._maps: dict[str, tuple[list[dict[str, Any]], dict[int, str]]] | None = None
        """By CUDA device: the allocator's segments at the end of the first forward, and the
        categories by address."""

    @property
    def exhausted(self) -> bool:
        """Whether it has waited too long for the round to end."""
        return time.perf_counter() - self._opened_at > _MAX_AGE_S

    is_elsewhere = False

    def stop(self) -> bool:
        """Nothing to take out."""
        return True

    def give_up(self) -> bool:
        """The same from any thread."""
        return True

    def sleep(self) -> None:
        """Nothing to see."""

    def start(self) -> None:
        """Nothing to put in."""

    def forward_begins(self, boundary: Boundary, phase: str) -> None:
        """A root's forward begins."""
        self._reached(boundary, phase, {})

    def forward_ends(self, boundary: Boundary, inputs: Any, output: Any) -> None:
        """A root's forward has ended."""
        follows = BACKWARD if self._name == FORWARD else OTHER
        with self._torch._C.DisableTorchFunction():  # the user's, who is not to hear of us
            made = list(_tensors(self._torch, output, 0))
            kept = [*made, *saved_tensors(self._torch, made)]
            given = list(_tensors(self._torch, inputs, 0))
            held = self._reached(boundary, follows, {INPUT: given, ACTIVATION: kept})
            if self.round is not None and self._maps is None:
                began = time.thread_time()
                self._maps = self._read_maps(held)
                self.cost_s += time.thread_time() - began

    def step_begins(self, boundary: Boundary) -> None:
        """An optimizer's step begins."""
        self._reached(boundary, STEP, {})

    def step_ends(self, boundary: Boundary) -> None:
        """An optimizer's step has ended."""
        self._reached(boundary, OTHER, {})

    def _reached(
        self, boundary: Boundary, phase: str, extra: dict[int, Iterable[Any]]
    ) -> list[tuple[Any, int]]:
        """One phase ends, another begins; gives the storages there are, with their kinds."""
        began = time.thread_time()
        moment, held = self._moment(extra)
        self._end_phase(moment)
        for device, sizes in moment.items():
            self._boundaries.setdefault(device, {})[boundary] = sizes
            phases = self._replays[device].phases if device in self._replays else []
            ended = [run.name for run in phases if run.name != OTHER]
            if ended:
                self._ended[boundary] = ended[-1]
        self._last, self._name = moment, phase
        self.cost_s += time.thread_time() - began
        return held

    def begin_round(self, boundary: Boundary) -> None:
        """What is measured begins here."""
        self.round = boundary
        self._replays = {}

    def details(self) -> dict[str, DeviceDetail]:
        """By torch device."""
        found = {}
        for device, replay in self._replays.items():
            replay.phases = folded(replay.phases)
            replay.sizes_at = dict(self._boundaries.get(device, {}))
            replay.ended_at = self._ended
            found[device] = detail = DeviceDetail(replay, None, [])
            detail.segments, detail.category_at = (self._maps or {}).get(device, (None, {}))
        return found

    def _read_maps(
        self, held: list[tuple[Any, int]]
    ) -> dict[str, tuple[list[dict[str, Any]], dict[int, str]]]:
        maps = {}
        for device in {storage.device for storage, _ in held if storage.device.type == "cuda"}:
            segments = read_or_say(self._torch, device.index, self.notes)
            if segments is not None:
                categories = {
                    storage.data_ptr(): category_name(kind)
                    for storage, kind in held
                    if storage.device == device
                }
                maps[str(device)] = (segments, categories)
        return maps

    def _moment(self, extra: dict[int, Iterable[Any]]) -> tuple[Moment, list[tuple[Any, int]]]:
        moment: Moment = {}
        held: list[tuple[Any, int]] = []
        seen: set[int] = set()

        def add(storage: Any, key: int, *kinds: int) -> None:
            size = memory_bytes(storage)
            if size and key not in seen:
                seen.add(key)
                sizes = moment.setdefault(str(storage.device), [0] * _LENGTH)
                for kind in kinds:
                    sizes[kind] += size
                held.append((storage, kinds[0]))

        def visit(storage: Any, key: int, place: int, _module: Any) -> None:
            add(storage, key, *_KINDS_OF_PLACE[place])

        self._count(visit)
        for kind, tensors in extra.items():
            for tensor in tensors:
                try:
                    storage = tensor.untyped_storage()
                except (NotImplementedError, RuntimeError):  # sparse, or without memory
                    continue
                add(storage, storage._cdata, kind)
        return moment, held

    def _end_phase(self, now: Moment) -> None:
        name = self._name
        for device, sizes in now.items():
            before = self._last.get(device)
            if before is None:
                continue
            if name == OTHER and sizes[GRADIENT] < before[GRADIENT]:
                name = ZERO_GRAD
            replay = self._replays.setdefault(device, DeviceReplay())
            run = PhaseRun(name, sum(before[: len(TENSOR_FIELDS)]))
            run.after_bytes, run.after, run.peak_bytes = (
                sum(sizes[: len(TENSOR_FIELDS)]),
                sizes,
                None,
            )
            if name != OTHER or run.after_bytes != run.before_bytes:
                replay.phases.append(run)


def saved_tensors(torch: Any, outputs: list[Any]) -> Iterator[Any]:
    """What the autograd graph behind some tensors keeps for backward, as it was saved.

    What a hook of the user's has packed away (offloaded, to be computed again) is not unpacked
    and not counted.
    """
    names: dict[type, list[str]] = {}
    stack = [output.grad_fn for output in outputs if output.grad_fn is not None]
    seen = set(stack)
    while stack and len(seen) < _MAX_NODES:
        node = stack.pop()
        kind = type(node)
        if kind not in names:
            names[kind] = [name for name in dir(kind) if name.startswith("_raw_saved_")]
        for name in names[kind]:
            try:
                saved = getattr(node, name)
            except RuntimeError:  # has been gone backward through already
                continue
            for item in saved if isinstance(saved, (tuple, list)) else (saved,):
                data = getattr(item, "data", None)
                if issubclass(type(data), torch.Tensor):
                    yield data
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                stack.append(following)


def _tensors(torch: Any, value: Any, depth: int) -> Iterator[Any]:
    kind = type(value)
    if issubclass(kind, torch.Tensor):
        yield value
    elif depth < _MAX_DEPTH and issubclass(kind, (tuple, list, dict)):
        for item in value.values() if issubclass(kind, dict) else value:
            yield from _tensors(torch, item, depth + 1)
