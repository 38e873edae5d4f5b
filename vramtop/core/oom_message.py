"""Reads what PyTorch's out-of-memory message says of the moment, whichever version wrote it.

The wordings are those of c10/cuda/CUDACachingAllocator.cpp since 1.8; what is not found is None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_UNITS: Final = {"bytes": 0, "B": 0, "KiB": 10, "MiB": 20, "GiB": 30}
_SIZE: Final = r"(\d+(?:\.\d+)?) (bytes|[KMG]iB)"
_IN_USE: Final = re.compile(rf"this process has {_SIZE} memory in use", re.IGNORECASE)
_OTHER: Final = re.compile(rf"Process (\d+) has {_SIZE} memory in use")
_ALLOCATED: Final = (
    re.compile(rf"{_SIZE} is allocated by PyTorch"),
    re.compile(rf"{_SIZE} already allocated"),
)
_IDLE: Final = re.compile(rf"{_SIZE} is reserved by PyTorch but unallocated")
_RESERVED: Final = re.compile(rf"{_SIZE} reserved in total by PyTorch")
_ALLOWED: Final = re.compile(rf"{_SIZE} allowed")


@dataclass(frozen=True, slots=True)
class Said:
    """Bytes at the moment of the failure, rounded as the message rounds them."""

    in_use_bytes: int | None = None
    """Of the whole process on the device, by the driver."""
    allocated_bytes: int | None = None
    idle_bytes: int | None = None
    """Reserved by PyTorch, unallocated, and not to be released."""
    allowed_bytes: int | None = None
    """The process's own limit (``torch.cuda.set_per_process_memory_fraction``)."""
    others: tuple[tuple[int, int], ...] = ()
    """(pid, bytes) of other processes on the device."""


def read(message: str | None) -> Said:
    """What is in the words of an exception; all None where it is none of PyTorch's."""
    if not message:
        return Said()
    allocated = next((size for p in _ALLOCATED if (size := _find(p, message)) is not None), None)
    idle, reserved = _find(_IDLE, message), _find(_RESERVED, message)
    if idle is None and None not in (reserved, allocated):
        idle = max((reserved or 0) - (allocated or 0), 0)
    return Said(
        in_use_bytes=_find(_IN_USE, message),
        allocated_bytes=allocated,
        idle_bytes=idle,
        allowed_bytes=_find(_ALLOWED, message),
        others=tuple(
            (int(pid), _bytes(number, unit)) for pid, number, unit in _OTHER.findall(message)
        ),
    )


def _find(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    return None if found is None else _bytes(found[1], found[2])


def _bytes(number: str, unit: str) -> int:
    return round(float(number) * (1 << _UNITS[unit]))
