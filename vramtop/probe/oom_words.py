"""What an exception says of memory that could not be had: whether, how much, on which device."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Optional

_CPU_MARKS = ("DefaultCPUAllocator", "can't allocate memory", "std::bad_alloc")
_CUDA_MARKS = ("CUDA out of memory", "CUDA error: out of memory", "HIP out of memory")
_MAX_CAUSES = 8
_MAX_CHARS = 1000
_UNITS = {"bytes": 0, "byte": 0, "b": 0, "kib": 10, "mib": 20, "gib": 30, "tib": 40}
_SIZE = r"([\d.]+)\s*(bytes?|[KMGT]iB)"
_REQUESTED = re.compile(rf"(?:ried|nable) to allocate {_SIZE}", re.IGNORECASE)
"""Of torch's allocators (c10/core/impl/alloc_cpu.cpp, CUDACachingAllocator.cpp) and numpy's."""
_FREE = re.compile(rf"(?:of which |; ){_SIZE} (?:is )?free")
_TOTAL = re.compile(rf"total capacity of {_SIZE}|; {_SIZE} total capacity")
"""As torch has it today, and had it before 2.1."""
_GPU = re.compile(r"\bGPU (\d+)\b")


class Words(NamedTuple):
    """What was read of the message; bytes, unknown is None."""

    message: str
    device: Optional[str]  # noqa: UP045  evaluated on Python 3.9
    """cpu, or cuda:0; None for a device that is not named."""
    requested_bytes: Optional[int]  # noqa: UP045  evaluated on Python 3.9
    free_bytes: Optional[int]  # noqa: UP045
    total_bytes: Optional[int]  # noqa: UP045


def oom_in(torch: Any, error: Any) -> Any:
    """The failed allocation: the exception itself, or what it was raised from; else None."""
    for _ in range(_MAX_CAUSES):
        if error is None or is_oom(torch, error):
            return error
        error = error.__cause__ or error.__context__
    return None


def is_oom(torch: Any, error: BaseException) -> bool:
    """Whether an exception tells of memory that could not be had."""
    if issubclass(type(error), (MemoryError, *_types(torch))):
        return True
    if not issubclass(type(error), RuntimeError):
        return False
    text = _text(error)
    return any(mark in text for mark in (*_CPU_MARKS, *_CUDA_MARKS))


def read(torch: Any, error: BaseException) -> Words:
    """What an exception of which ``is_oom`` says."""
    text = _text(error)
    is_cuda = issubclass(type(error), _types(torch)) or any(mark in text for mark in _CUDA_MARKS)
    number = _GPU.search(text)
    device = "cpu" if not is_cuda else f"cuda:{number.group(1)}" if number else None
    sizes = [_bytes(pattern.search(text)) for pattern in (_REQUESTED, _FREE, _TOTAL)]
    return Words(f"{type(error).__name__}: {text}"[:_MAX_CHARS], device, *sizes)


def _types(torch: Any) -> tuple[type, ...]:
    # torch.OutOfMemoryError since 2.5, torch.cuda's before; CUDA builds and others have it.
    places = (torch, getattr(torch, "cuda", None))
    found = [getattr(place, "OutOfMemoryError", None) for place in places]
    return tuple(kind for kind in found if isinstance(kind, type) and kind is not RuntimeError)


def _text(error: BaseException) -> str:
    # The words as they were given: a stranger's __str__ is not run where it need not be.
    first = error.args[0] if error.args else ""
    if type(first) is not str:
        first = str(error)
    return first.replace("\n", " ")[: 4 * _MAX_CHARS]


def _bytes(found: Any) -> int | None:
    if found is None:
        return None
    try:
        number, unit = [group for group in found.groups() if group is not None]
        return int(float(number) * (1 << _UNITS[unit.lower()]))
    except ValueError:  # two points in a number
        return None
