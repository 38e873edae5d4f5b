"""Which storages came and went during a sampled step, in order, each with its kind and module.

A storage is followed by a weak reference to its Python object, which torch keeps for as long as
the storage lives: its memory is gone at the moment when the reference dies. Nothing is held.
"""

from __future__ import annotations

import weakref
from typing import Any

(
    PARAMETER,
    GRADIENT,
    STATE,
    ACTIVATION,
    INPUT,
    TEMPORARY,
    DETAIL,
    UNKNOWN,
    BUFFER,
    CACHE,
    KV,
    RECOMPUTED,
) = range(12)
"""Kinds of storage: the eight of ``messages.TENSOR_FIELDS``, then parts of one of them in the
order of ``messages.PART_FIELDS``."""
CONSTANT = 12
"""Made in forward from inputs or nothing: an input, unless activations are written into it."""
LOOSE = 13
"""Made between the phases: an input if a forward reads it, else it shows by how long it lives."""

WHOLE = {BUFFER: PARAMETER, CACHE: ACTIVATION, KV: ACTIVATION, RECOMPUTED: DETAIL}
"""The category that a part belongs to."""

CUDA_BLOCK_BYTES = 512
"""What the caching allocator rounds up to (kMinBlockSize in CUDACachingAllocator.cpp)."""


class _Ref(weakref.ref):  # type: ignore[type-arg]  # of anything, storages have no type
    __slots__ = ("index", "key")
    index: int
    key: int


class Ledger:
    """Grows only; the numbers of a record index ``sizes``, ``devices``, ``kinds``, ``modules``.

    ``events`` has a record's number when it came to live, its complement when it died (and was
    drained); what was there before the first event is in ``before``.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        """Bytes, on CUDA rounded up as the caching allocator counts them."""
        self.devices: list[Any] = []
        self.kinds: list[int] = []
        self.modules: list[Any] = []
        """The id of the module whose forward or backward made it, or None."""
        self.events: list[int] = []
        self.before: list[int] = []
        self.live: dict[int, int] = {}
        """Record by the address of the storage object."""
        self.may_resize: set[int] = set()
        """Records whose storages are emptied in place."""
        self._refs: dict[int, _Ref] = {}
        self._dead: list[_Ref] = []

    def add(self, storage: Any, key: int, kind: int, module: Any) -> int | None:
        """A storage that was made just now; None if it has no memory."""
        index = self._record(storage, key, kind, module)
        if index is not None:
            self.events.append(index)
        return index

    def add_before(self, storage: Any, key: int, kind: int, module: Any) -> int | None:
        """A storage that is older than the ledger."""
        index = self._record(storage, key, kind, module)
        if index is not None:
            self.before.append(index)
        return index

    def drain(self) -> None:
        """Write down what has died; before anything that is made after it."""
        dead = self._dead
        if dead:
            count = len(dead)
            for ref in dead[:count]:
                self._end(ref)
            del dead[:count]

    def outlived_backward(self) -> None:
        """A backward has ended: what it made and is still there is a gradient, as it seems."""
        for index in self.live.values():
            if self.kinds[index] == DETAIL:
                self.kinds[index] = GRADIENT

    def confirm_gradients(self, records: set[int]) -> None:
        """No others are: what else has outlived a backward is the gradient of no parameter."""
        for index in self.live.values():
            if self.kinds[index] == GRADIENT and index not in records:
                self.kinds[index] = DETAIL

    def resized(self) -> None:
        """Notice which of ``may_resize`` have been emptied, or are full again."""
        self.drain()
        for index in list(self.may_resize):
            ref = self._refs.get(index)
            storage = None if ref is None else ref()
            if ref is None or storage is None:
                self.may_resize.discard(index)
            elif memory_bytes(storage) != self.sizes[index]:
                self.may_resize.discard(index)
                self._end(ref)
                again = self.add(storage, ref.key, self.kinds[index], self.modules[index])
                if again is not None:
                    self.may_resize.add(again)

    def addresses(self, device: Any) -> dict[int, int]:
        """Records by the address of their memory, of all that lives on a device now."""
        self.drain()
        found = {}
        for index, ref in list(self._refs.items()):
            storage = ref() if self.devices[index] == device else None
            if storage is not None:
                found[storage.data_ptr()] = index
        return found

    def close(self) -> None:
        """Follow nothing any more; no cycle is left for the garbage collector."""
        self.drain()
        self._refs.clear()
        self._dead.clear()
        self.live.clear()

    def _record(self, storage: Any, key: int, kind: int, module: Any) -> int | None:
        size = memory_bytes(storage)
        if not size:
            return None
        index = len(self.sizes)
        # The callback is no Python code: a Ctrl-C that arrived in such would be lost.
        ref = _Ref(storage, self._dead.append)
        ref.index, ref.key = index, key
        self._refs[index] = ref
        self.live[key] = index
        self.sizes.append(size)
        self.devices.append(storage.device)
        self.kinds.append(kind)
        self.modules.append(module)
        return index

    def _end(self, ref: _Ref) -> None:
        index = ref.index
        if self._refs.pop(index, None) is not None:
            self.events.append(~index)
            if self.live.get(ref.key) == index:
                del self.live[ref.key]


def memory_bytes(storage: Any) -> int:
    """What a storage takes of its device's memory: on CUDA a block of the allocator."""
    size: int = storage.nbytes()
    kind = storage.device.type
    if kind == "cuda":
        size = -(-size // CUDA_BLOCK_BYTES) * CUDA_BLOCK_BYTES
    return 0 if kind == "meta" else size
