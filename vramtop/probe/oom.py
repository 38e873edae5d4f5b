"""Notices allocations that fail, says where, and writes the post-mortem at once.

On CUDA the allocator itself tells (an observer that torch offers). On the CPU nothing does: a
forward that fails is heard of as the root's hook is unwound, a thread by ``threading.excepthook``,
and all else when the process ends, by the exception that ended it. ``sys.excepthook`` is not
touched: it is the user's, and the interpreter keeps what it was given.

Nothing here keeps an exception, a frame or a tensor: what a program means to free after a failure
has to be free.
"""

from __future__ import annotations

import _thread
import json
import mmap
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Optional

from ..protocol.postmortem import encode, write
from . import host_limits, oom_place, oom_words, postmortem
from .accounting import modules_of
from .faults import Faults
from .observer import Observer
from .recording import module_paths
from .replay import BACKWARD
from .updates import Updates

PART = "post-mortems"
_OF_ALLOCATOR = "what the allocator says of failures"
_RESERVE_BYTES = 4 << 20
"""Address space that is given back before anything is done: a file takes some hundred kilobytes."""
_SPACING_S = 0.1
"""A program that fails and tries again all the time is not slowed by a file each time."""
_MAIN_MODULES = frozenset({"__main__", "runpy"})

Messages = Callable[[Optional[int]], list[dict[str, Any]]]
"""What a viewer would have been sent; with the segments of that CUDA device as they are now."""

_heard_by: OomWatch | None = None
"""Whom the allocator's observer tells: it cannot be taken out, so there is only one."""
_is_queued = _is_attached = False


class _Pending:
    """A failure of which is not known yet whether the program goes on."""

    def __init__(self, message: dict[str, Any], thread: int | None, error: int | None) -> None:
        self.message = message
        self.thread = thread
        """Whose next boundary says so; None for any, of a thread of the engine's."""
        self.error = error
        """The exception's id, None while only the allocator has told."""


class OomWatch:
    """From ``install`` to ``close``; may be installed again."""

    def __init__(
        self,
        torch: Any,
        faults: Faults,
        observer: Observer,
        updates: Updates,
        messages: Messages,
        directory: Callable[[], Path | None],
    ) -> None:
        self._torch = torch
        self._faults = faults
        self._observer = observer
        self._updates = updates
        self._messages = messages
        self._directory = directory
        self._lock = threading.Lock()
        self._is_on = False
        self._reserve: mmap.mmap | None = None
        self._pending: _Pending | None = None
        self._caught = 0
        self._goes_on = False
        """It has trained on after a failure."""
        self._final = 0
        """Files that stay: of threads that have ended by a failure."""
        self._written_at = 0.0
        self._thread_hook: Any = None
        self._hook_before: Any = None

    def install(self) -> None:
        """Begin to notice."""
        global _heard_by, _is_queued
        self._is_on, _heard_by = True, self
        self._observer.failures.on_forward = self._forward_failed
        self._keep_reserve()
        if self._thread_hook is None:
            self._hook_before = threading.excepthook
            self._thread_hook = threading.excepthook = self._thread_ends
        if not _is_queued:
            _is_queued = True
            _queue(self._torch.cuda)

    def close(self) -> None:
        """Notice no more; the allocator's observer cannot be taken out and does nothing."""
        global _heard_by
        self._is_on, _heard_by = False, None
        self._observer.failures.on_forward = self._observer.failures.on_boundary = None
        self._pending = None
        self._free_reserve()
        if threading.excepthook is self._thread_hook:
            threading.excepthook = self._hook_before
            self._thread_hook = None  # else another's hook goes on calling ours

    def forked(self) -> None:
        """In the child nothing has failed yet."""
        self._lock = threading.Lock()
        self._pending, self._observer.failures.on_boundary = None, None
        self._caught, self._final, self._goes_on = 0, 0, False

    def ends(self) -> None:
        """The process ends in order: by an exception that nobody caught, perhaps."""
        if not self._is_on:
            return
        try:
            failed = oom_words.oom_in(self._torch, _last_error())
            if failed is not None:
                self._final_error(failed, None)
            elif self._goes_on:  # and this one it has caught as well
                self._went_on()
        except Exception as error:
            self._report(error)

    # Heard of.

    def allocator_failed(self, device: int, asked: int, total: int, free: int) -> None:
        """As torch calls it: without the allocator's lock, before it raises; on any thread."""
        try:
            in_backward = self._torch._C._current_graph_task_id() != -1
            self._noticed(
                None if in_backward else _thread.get_ident(),
                None,
                lambda: self._from_allocator(device, asked, total, free),
            )
        except KeyboardInterrupt:  # the user's; out of here it would be the allocation's
            _thread.interrupt_main()
        except BaseException as error:  # anything else would take the place of the OOM
            self._report(error)

    def _forward_failed(self, error: BaseException) -> None:
        """A root's forward is left by an exception."""
        failed = oom_words.oom_in(self._torch, error)
        if failed is None:
            return
        pending, thread = self._pending, _thread.get_ident()
        if pending is not None and pending.thread in (None, thread):
            if pending.error in (None, id(failed)):  # on its way out; the allocator has told of it
                pending.error = id(failed)
                return
            self._went_on()
        self._noticed(thread, id(failed), lambda: self._from_error(failed))

    def _thread_ends(self, args: Any) -> None:
        """As ``threading`` calls its hook; whose exceptions are what they were without us."""
        try:
            failed = oom_words.oom_in(self._torch, args.exc_value) if self._is_on else None
            if failed is not None:
                self._final_error(failed, _thread.get_ident())
        except Exception as error:
            self._report(error)
        self._hook_before(args)

    def _heard(self) -> None:
        """A boundary of a training: whoever has reached it went on."""
        pending = self._pending
        if pending is not None and pending.thread in (None, _thread.get_ident()):
            self._goes_on = True
            self._went_on()

    # What is done about it.

    def _noticed(
        self, thread: int | None, error: int | None, tell: Callable[[], dict[str, Any]]
    ) -> None:
        if self._faults.off(PART) or not self._lock.acquire(blocking=False):
            return
        try:
            self._free_reserve()
            earlier = self._pending
            self._caught += earlier is not None  # a library has asked for less since
            pending = _Pending(tell(), thread, error)
            if time.monotonic() - self._written_at >= _SPACING_S:
                self._write(pending.message, None)
            elif earlier is not None:
                pending.message["file"] = earlier.message["file"]
            self._updates.put("oom", pending.message)
            self._pending = pending
            self._observer.failures.on_boundary = self._heard
            self._observer.gate.busy = True  # so that the next boundary is heard
        finally:
            self._lock.release()

    def _went_on(self) -> None:
        pending, self._pending = self._pending, None
        self._observer.failures.on_boundary = None
        if pending is not None:
            self._caught += 1
            path = pending.message["file"]
            if path is not None:
                Path(path).unlink(missing_ok=True)
            news = {"caught": True, "caught_ooms": self._caught, "file": None}
            self._updates.put("oom", {**pending.message, **news})
            self._keep_reserve()

    def _final_error(self, failed: BaseException, thread: int | None) -> None:
        """An exception that ends the process, or a thread."""
        if self._faults.off(PART):
            return
        self._free_reserve()
        pending, self._pending = self._pending, None
        if pending is not None and pending.error in (None, id(failed)):
            message = pending.message
        else:
            message = self._from_error(failed)
        message = {**message, "caught": False, "message": self._words(failed).message}
        if message["file"] is None:
            self._write(message, postmortem.traceback_of(failed))
        else:  # what the file says of the moment is gone by now
            self._complete(message, postmortem.traceback_of(failed))
        self._updates.put("oom", message)
        if thread is not None:
            self._final += 1
            self._keep_reserve()

    def _write(self, message: dict[str, Any], text: str | None) -> None:
        """Into the file, whose name goes into the message; without memory or disk there is none."""
        directory = self._directory()
        if directory is None:
            return
        device = message["device"] or ""
        index = int(device[5:]) if device.startswith("cuda:") and device[5:].isdigit() else None
        try:
            path = postmortem.path_in(directory, self._final)
            message["file"] = str(path)
            contents = postmortem.document(self._messages(index), message, text)
            write(path, encode(contents), overwrite=True)
        except (OSError, MemoryError):
            message["file"] = None
        self._written_at = time.monotonic()

    def _complete(self, message: dict[str, Any], text: str) -> None:
        path = Path(message["file"])
        try:
            contents = json.loads(path.read_bytes())
            contents = postmortem.completed(contents, message, text, self._messages(None))
            write(path, encode(contents), overwrite=True)
        except (OSError, MemoryError, ValueError):
            pass  # it stays as it is

    def _report(self, error: BaseException) -> None:
        if not isinstance(error, MemoryError):  # of course
            self._faults.report(PART, error)

    # What is told.

    def _from_allocator(self, device: int, asked: int, total: int, free: int) -> dict[str, Any]:
        place = oom_place.of_this_thread(self._torch)
        is_backward = place == (BACKWARD, None)
        nearest = oom_place.nearest_parameter(self._torch) if is_backward else None
        told = self._message(f"cuda:{device}", place, nearest)
        return {**told, "requested_bytes": asked, "free_bytes": free, "total_bytes": total}

    def _from_error(self, failed: BaseException) -> dict[str, Any]:
        words = self._words(failed)
        place, nearest = oom_place.of_error(failed), None
        if place == (BACKWARD, None) and not self._torch.cuda.is_initialized():
            nearest = oom_place.nearest_to_failure(self._torch, failed)
        told = self._message(words.device, place, nearest)
        sizes = {
            "requested_bytes": words.requested_bytes,
            "free_bytes": words.free_bytes,
            "total_bytes": words.total_bytes,
        }
        room = host_limits.room() if words.device == "cpu" else None
        if room is not None:
            sizes.update(free_bytes=room.free_bytes, total_bytes=room.total_bytes)
            told["limited_by"] = room.limited_by
        return {**told, **sizes, "message": words.message}

    def _message(self, device: str | None, place: oom_place.Place, nearest: Any) -> dict[str, Any]:
        phase = place.phase or oom_place.PHASE_AFTER.get(self._observer.gate.last[0])
        module, source = self._path_of(place.module), "exact"
        if module is None:
            module, source = self._path_of_parameter(nearest), "nearest"
        if module is None:
            module, source = self._module_of_last_peak(device, phase), "last_peak"
        return {
            "type": "oom",
            "device": device,
            "at": time.time(),
            "step": self._observer.step(),
            "phase": phase,
            "module": module,
            "module_source": None if module is None else source,
            "requested_bytes": None,
            "free_bytes": None,
            "total_bytes": None,
            "limited_by": None,
            "message": None,
            "caught": None,
            "caught_ooms": self._caught,
            "file": None,
        }

    def _words(self, failed: BaseException) -> oom_words.Words:
        words, cuda = oom_words.read(self._torch, failed), self._torch.cuda
        if words.device is None and cuda.is_initialized():
            # Of what cudaMalloc itself refuses no number is said: it is the current device's.
            return words._replace(device=f"cuda:{cuda.current_device()}")
        return words

    def _path_of(self, module: Any) -> str | None:
        if module is None:
            return None
        known = module_paths(self._observer.root_modules()).get(id(module))
        return f"({type(module).__name__})" if known is None else known[0]

    def _path_of_parameter(self, parameter: Any) -> str | None:
        if parameter is None:
            return None
        roots = self._observer.root_modules()
        paths = module_paths(roots)
        for module in modules_of(roots):
            if any(held is parameter for held in module._parameters.values()):
                return paths[id(module)][0]
        return None

    def _module_of_last_peak(self, device: str | None, phase: str | None) -> str | None:
        peak = (self._updates.last(f"detail {device}") or {}).get("peak")
        return peak["module"] if peak is not None and peak["phase"] == phase else None

    # Memory to do it with.

    def _keep_reserve(self) -> None:
        if self._reserve is None:
            try:
                self._reserve = mmap.mmap(-1, _RESERVE_BYTES)  # never touched: addresses only
            except (OSError, ValueError, MemoryError):
                pass  # there is none left to set aside

    def _free_reserve(self) -> None:
        reserve, self._reserve = self._reserve, None
        if reserve is not None:
            reserve.close()


def _queue(cuda: Any) -> None:
    """Have the observer attached when CUDA is first used: to attach it before would start CUDA.

    As ``torch.cuda._lazy_call`` does it, but without its lock. After an attach this is no training
    thread; a worker forked while it held the lock would wait for it for ever.
    """
    cuda._queued_calls.append((_attach, []))
    if cuda.is_initialized():  # it may have been through with what is queued
        _attach()


def _attach() -> None:
    # Run by torch when CUDA has started: an exception would be the user's.
    global _is_attached
    if _is_attached:
        return
    _is_attached = True
    try:
        core = sys.modules["torch"]._C
        attach = getattr(core, "_cuda_attach_out_of_memory_observer", None)
        if attach is not None:  # a CPU build has none
            attach(_allocator_failed)
    except Exception as error:  # cudaMallocAsync has none; exceptions tell all the same
        if _heard_by is not None:
            _heard_by._faults.report(_OF_ALLOCATOR, error)


def _allocator_failed(device: int, asked: int, total: int, free: int, *_newer: Any) -> None:
    watch = _heard_by
    if watch is not None:
        watch.allocator_failed(device, asked, total, free)


def _last_error() -> BaseException | None:
    """The exception that ends this process, None in one that ends well or is used by hand."""
    error: Any = sys.exc_info()[1]  # a child of multiprocessing, which is just handling it
    if error is None and not hasattr(sys, "ps1"):
        error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        trace = None if error is None else error.__traceback__
        # A shell like IPython's has them too, of commands that the user has gone on from.
        if trace is None or trace.tb_frame.f_globals.get("__name__") not in _MAIN_MODULES:
            return None
    return error  # type: ignore[no-any-return]  # sys.last_value is Any
