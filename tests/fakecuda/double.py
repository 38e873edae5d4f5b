"""A double of a CUDA device: real trainings on it, memory as the allocator's replay gives it.

``install()`` in a process with a CPU build of torch; then ``cuda`` is a device there like any
other. Three parts:

- ``device.cpp`` makes torch's dispatcher, autograd and storages know a device ``cuda:0``, whose
  kernels are the CPU's. So the program's tensors, its dispatch modes (none of them ours) and its
  backward, on a thread of the engine's, are what they are beside a card, and what the probe sees
  needs no help from the double.
- The memory is one stretch of the process's own addresses, and the replay of the caching
  allocator (``vramtop.estimator.allocator``) says which piece of it a storage gets: the snapshot's
  addresses are those of the storages themselves, as they are on a card, and nothing is translated
  on the way to the probe. It is also how a replay that gave one piece to two storages would show:
  the training would compute something else.
- ``torch._C`` gets the functions by which ``torch.cuda`` asks the allocator and the driver. All
  of ``torch.cuda`` itself is torch's own.

Left out: a second device, streams, graphs, pinned memory, kernels' own workspaces.
"""

from __future__ import annotations

import atexit
import ctypes
import mmap
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from vramtop.estimator.allocator import CachingAllocator, OutOfMemory
from vramtop.estimator.workload import AllocatorConfig

from .build import compiled

UUID = "00000000-0000-0000-0000-00000d0b1e00"
"""As the runtime writes it; NVML's has ``GPU-`` before it."""
NAME = "NVIDIA Double"
_ARENA_BYTES = 1 << 40
"""Addresses only: the replay never gives those of a segment that is gone to another one."""
_MAP_NORESERVE = 0x4000

Observer = Callable[[int, int, int, int], None]


class Memory:
    """The replay behind a lock, its addresses those of the arena."""

    def __init__(self, library: Any, config: AllocatorConfig, capacity_bytes: int) -> None:
        self._library = library
        self.capacity_bytes = capacity_bytes
        self.observers: list[Observer] = []
        self.asked_after: list[str] = []
        """The names of the questions that were answered, for the tests."""
        self._allocator = CachingAllocator(config, capacity_bytes)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._arena = mmap.mmap(-1, _ARENA_BYTES, flags=flags)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self._arena))
        self._offset = start - CachingAllocator(config, capacity_bytes).malloc(1)
        self.callback: Any = None
        """Lives as long as the device may call it."""
        self._lock = threading.Lock()
        self._dead = (ctypes.c_uint64 * 256)()

    def take(self, size_bytes: int) -> int:
        """The address of a new block.

        Raises:
            OutOfMemory: as the replay says.
        """
        with self._lock:
            self._bury()
            return self._allocator.malloc(size_bytes) + self._offset

    def empty_cache(self) -> None:
        """As torch.cuda.empty_cache."""
        with self._lock:
            self._bury()
            self._allocator.empty_cache()

    def reset_peaks(self) -> None:
        """As torch.cuda.reset_peak_memory_stats."""
        with self._lock:
            self._bury()
            self._allocator.reset_peaks()

    def free_bytes(self) -> int:
        """What the device has left for segments."""
        return self.capacity_bytes - self._allocator.reserved_bytes

    def stats(self) -> dict[str, Any]:
        """As ``torch._C._cuda_memoryStats``, of all pools together."""
        with self._lock:
            self._bury()
            it = self._allocator

            def of_all(current: int, peak: int | None = None) -> dict[str, dict[str, int]]:
                return {"all": {"current": current, **({} if peak is None else {"peak": peak})}}

            return {
                "allocated_bytes": of_all(it.allocated_bytes, it.peak_allocated_bytes),
                "reserved_bytes": of_all(it.reserved_bytes, it.peak_reserved_bytes),
                "active_bytes": of_all(it.active_bytes, it.peak_allocated_bytes),
                "requested_bytes": of_all(it.requested_bytes),
                "inactive_split_bytes": of_all(it.inactive_split_bytes),
                "segment": of_all(it.segment_count),
                "num_alloc_retries": it.alloc_retries,
                "num_ooms": it.ooms,
            }

    def snapshot(self) -> dict[str, Any]:
        """As ``torch._C._cuda_memorySnapshot`` (torch/csrc/cuda/Module.cpp), without traces."""
        with self._lock:
            self._bury()
            segments = self._allocator.segments()
        return {"segments": [self._segment(segment) for segment in segments], "device_traces": [[]]}

    def _segment(self, segment: Any) -> dict[str, Any]:
        allocated = [block for block in segment.blocks if block.allocated]
        size = sum(block.size_bytes for block in allocated)
        return {
            "device": 0,
            "address": segment.address + self._offset,
            "total_size": segment.total_bytes,
            "allocated_size": size,
            "active_size": size,
            "requested_size": sum(block.requested_bytes for block in allocated),
            "stream": segment.stream,
            "segment_type": segment.pool,
            "segment_pool_id": (0, 0),
            "is_expandable": segment.expandable,
            "frames": [],
            "blocks": [
                {
                    "address": block.address + self._offset,
                    "size": block.size_bytes,
                    "requested_size": block.requested_bytes,
                    "state": "active_allocated" if block.allocated else "inactive",
                    "frames": [],
                }
                for block in segment.blocks
            ],
        }

    def _bury(self) -> None:
        """Free what has died since the allocator was last asked for anything."""
        while count := self._library.fakecuda_dead(self._dead, len(self._dead)):
            for address in self._dead[:count]:
                self._allocator.free(address - self._offset)


def install(
    capacity_bytes: int = 8 << 30,
    config: AllocatorConfig = AllocatorConfig(),  # noqa: B008
) -> Memory:
    """Make ``cuda`` a device of this process; once, and before torch is imported."""
    assert "torch" not in sys.modules
    library = ctypes.PyDLL(str(compiled()))
    library.fakecuda_dead.restype = ctypes.c_size_t
    library.fakecuda_dead.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    memory = Memory(library, config, capacity_bytes)

    def take(size_bytes: int) -> int:
        try:
            return memory.take(size_bytes)
        except OutOfMemory as error:
            # GPU 0 and so on, as the message of CUDACachingAllocator.cpp begins.
            text = (
                f"CUDA out of memory. Tried to allocate {error.requested_bytes / (1 << 20):.2f} "
                f"MiB. GPU 0 has a total capacity of {capacity_bytes / (1 << 20):.2f} MiB of "
                f"which {error.free_bytes / (1 << 20):.2f} MiB is free."
            )
            for observer in list(memory.observers):
                observer(0, error.segment_bytes, capacity_bytes, error.free_bytes)
            library.fakecuda_refuse(text.encode())
            return 0

    memory.callback = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_uint64)(take)
    library.fakecuda_install(memory.callback)
    # The engine's thread lets go of the last graph while the interpreter is already ending, and
    # torch aborts if it finds that ended: also beside a card, where nothing is as quick as this.
    atexit.register(time.sleep, 0.1)
    import torch

    _answer(torch, memory)
    return memory


def _answer(torch: Any, memory: Memory) -> None:
    """Put what ``torch.cuda`` asks for into ``torch._C``, where a CUDA build has it."""

    def told(name: str, answer: Callable[..., Any]) -> Callable[..., Any]:
        def asked(*args: Any) -> Any:
            memory.asked_after.append(name)
            return answer(*args)

        return asked

    properties = SimpleNamespace(
        name=NAME,
        uuid=UUID,
        major=9,
        minor=0,
        total_memory=memory.capacity_bytes,
        multi_processor_count=1,
    )

    def start() -> None:
        # The kernels draw from the CPU's: this one may be seeded late without their noticing.
        torch.cuda.default_generators = (torch.Generator(),)
        torch.cuda._get_device_properties = lambda index: properties

    answers: dict[str, Callable[..., Any]] = {
        "init": start,
        "getDeviceCount": lambda: 1,
        "getDevice": lambda: 0,
        "setDevice": lambda index: None,
        "synchronize": lambda: None,
        "getCurrentRawStream": lambda index: 0,
        "getAllocatorBackend": lambda: "native",
        "isHistoryEnabled": lambda: False,
        "memoryStats": lambda index: memory.stats(),
        "memorySnapshot": lambda *_: memory.snapshot(),
        "emptyCache": memory.empty_cache,
        "resetPeakMemoryStats": lambda index: memory.reset_peaks(),
        "resetAccumulatedMemoryStats": lambda index: None,
        "attach_out_of_memory_observer": memory.observers.append,
    }
    for name, answer in answers.items():
        setattr(torch._C, f"_cuda_{name}", told(name, answer))
    # What torch.cuda took from torch._C, or found missing there, when it was imported.
    torch.cuda._exchange_device = torch.cuda._maybe_exchange_device = lambda index: 0
    torch.cuda.graphs._cuda_isCurrentStreamCapturing = told("capturing", lambda: False)
    torch.cuda._cudart = SimpleNamespace(
        cudaMemGetInfo=told(
            "MemGetInfo", lambda index: (memory.free_bytes(), memory.capacity_bytes)
        )
    )
