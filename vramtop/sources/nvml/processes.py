"""Process lists: read through whichever version of the call and of its struct the driver has.

The struct behind the ``_v3`` lists changed without a new name: drivers 535.43 to 535.86 append a
field (32 bytes for 24), 535.98 has no ``_v3`` at all, others are back at 24 bytes, and 16 bytes
have been seen behind ``_v3`` too (nvitop issues 75, 88 and 226). Version strings do not tell them
apart reliably, so the size of an entry is measured: the array is filled with a pattern and what
the driver overwrote is looked at.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from ...core.model import DeviceUse
from .calls import FUNCTION_NOT_FOUND, INSUFFICIENT_SIZE, PERMANENT, Asker

LISTS: Final = (
    ("C", "compute processes", "nvmlDeviceGetComputeRunningProcesses"),
    ("G", "graphics processes", "nvmlDeviceGetGraphicsRunningProcesses"),
    ("M", "MPS processes", "nvmlDeviceGetMPSComputeRunningProcesses"),
)
_KIND_ORDER: Final = "MCG"
"""nvidia-smi writes C+G and M+C."""
_ENTRY: Final = {
    16: struct.Struct("=I4xQ"),
    24: struct.Struct("=I4xQII"),
    32: struct.Struct("=I4xQII8x"),
}
"""Entry layouts by size: pid, used bytes, and from 24 bytes GPU and compute instance."""
_LARGEST: Final = 32
_PATTERN: Final = 0xA5
_USUAL: Final = {"_v3": 24, "_v2": 24, "": 16}
_MOST_PROCESSES: Final = 1 << 15
_NOT_AVAILABLE: Final = (1 << 64) - 1
_NO_INSTANCE: Final = (1 << 32) - 1

InstanceIds = tuple[int | None, int | None]
"""GPU instance and compute instance."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list as the driver gave it; the instance ids are None outside MIG."""

    pid: int
    used_bytes: int | None
    gpu_instance_id: int | None = None
    compute_instance_id: int | None = None


class ProcessLists:
    """The list functions of the loaded library and the buffer that they write to."""

    def __init__(self, pynvml: Any) -> None:
        self._pynvml = pynvml
        self._capacity = 128
        self._buffer = ctypes.create_string_buffer(self._capacity * _LARGEST)
        self._versions = {
            base: [
                (suffix, function)
                for suffix in _USUAL
                if (function := _symbol(pynvml, base + suffix)) is not None
            ]
            for _, _, base in LISTS
        }

    def has(self, base: str) -> bool:
        """Whether the library has any version of this list."""
        return bool(self._versions[base])

    def read(self, base: str, handle: Any) -> list[Entry]:
        """The list, through the newest version of the call that works for this device.

        Raises:
            pynvml.NVMLError: as the driver gave it.
        """
        code = FUNCTION_NOT_FOUND
        for suffix, function in self._versions[base]:
            code, count = self._call(function, handle)
            if code == 0:
                return self._parse(count, _USUAL[suffix])
            if code not in PERMANENT:
                break
        raise self._pynvml.NVMLError(code)

    def _call(self, function: Any, handle: Any) -> tuple[int, int]:
        while True:
            ctypes.memset(self._buffer, _PATTERN, len(self._buffer))
            count = ctypes.c_uint(self._capacity)
            code: int = function(handle, ctypes.byref(count), self._buffer)
            is_larger = self._capacity < count.value <= _MOST_PROCESSES
            if code != INSUFFICIENT_SIZE or not is_larger:
                return code, min(count.value, self._capacity)
            self._capacity = count.value * 2  # room for those that start meanwhile
            self._buffer = ctypes.create_string_buffer(self._capacity * _LARGEST)

    def _parse(self, count: int, usual_bytes: int) -> list[Entry]:
        if not count:
            return []
        view = memoryview(self._buffer)
        written = len(view[: count * _LARGEST + 1].tobytes().rstrip(bytes([_PATTERN])))
        entry_bytes = next((size for size in _ENTRY if written <= count * size), usual_bytes)
        layout = _ENTRY[entry_bytes]
        return [_entry(*values) for values in layout.iter_unpack(view[: count * entry_bytes])]


def _symbol(pynvml: Any, name: str) -> Any:
    # pynvml's own wrappers know one struct a version and do not fall back; its loader is used
    # so that its library and ours are the same.
    try:
        return pynvml._nvmlGetFunctionPointer(name)
    except pynvml.NVMLError:
        return None


def _entry(pid: int, used: int, gpu: int = _NO_INSTANCE, compute: int = _NO_INSTANCE) -> Entry:
    return Entry(
        pid,
        None if used == _NOT_AVAILABLE else used,
        None if gpu == _NO_INSTANCE else gpu,
        None if compute == _NO_INSTANCE else compute,
    )


@dataclass(slots=True)
class Holdings:
    """What processes hold on one device: per (pid, uuid) the kinds and the largest figure.

    A pid in two lists is one process whose memory both lists give in full: maximum, not sum.
    """

    _kinds: dict[tuple[int, str], set[str]] = field(default_factory=dict)
    _used: dict[tuple[int, str], int | None] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        entries: Iterable[Entry],
        uuid: str,
        instances: Mapping[InstanceIds, str] = MappingProxyType({}),
    ) -> None:
        """Add one list of the device ``uuid``; ``instances`` are its MIG instances by their ids."""
        for entry in entries:
            ids = (entry.gpu_instance_id, entry.compute_instance_id)
            key = (entry.pid, instances.get(ids, uuid))
            self._kinds.setdefault(key, set()).add(kind)
            known = self._used.get(key)
            if known is None or (entry.used_bytes is not None and entry.used_bytes > known):
                self._used[key] = entry.used_bytes

    def uses(self) -> list[tuple[int, DeviceUse]]:
        """(pid, use) for every process and device."""
        return [
            (pid, DeviceUse(uuid, self._used[pid, uuid], _kind(kinds)))
            for (pid, uuid), kinds in self._kinds.items()
        ]


def _kind(kinds: set[str]) -> str:
    return "+".join(letter for letter in _KIND_ORDER if letter in kinds)


def read_lists(
    asker: Asker, lists: ProcessLists, handle: Any, owner: str = ""
) -> dict[str, list[Entry]]:
    """The lists that this device or instance gives, by letter; the asker has the rest.

    ``owner`` is said after the list's name where it is not the whole GPU.
    """
    given = {}
    for letter, name, base in LISTS:
        # A library from before MPS listing is no news; one without the other lists is.
        expected = letter == "M" and not lists.has(base)
        what = f"{name} {owner}".strip()
        entries = asker.ask(what, lists.read, base, handle, expected=expected)
        if entries is not None:
            given[letter] = entries
    return given
