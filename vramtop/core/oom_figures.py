"""What was there when an allocation failed: asked, free, cached, others, limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .breakdowns import outside_bytes, probe_device_of, torch_devices
from .devices import device_memory, uuid_of
from .failure import Failure, Limit
from .fleet import Fleet
from .memory import SegmentMap
from .model import ProbeDevice, Process
from .oom_message import Said, read
from .segments import fits, new_memory_bytes, totals

_SAME_MOMENT_S: Final = 0.5
"""A map of the allocator that is not older than this shows what the failed request met."""
_LEAST_OTHERS_BYTES: Final = 64 << 20
"""Less of other processes on a device is not worth a word."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was there when it failed; bytes, unknown is None."""

    torch_device: str | None
    requested_bytes: int | None
    free_bytes: int | None
    idle_bytes: int | None
    """Reserved by the caching allocator, unallocated, not to be released."""
    largest_piece_bytes: int | None
    """Of what is idle; None where no map of that moment is there."""
    in_use_bytes: int | None
    """Of the whole process on that device."""
    others: tuple[tuple[int | None, int], ...] = ()
    """(pid, bytes) of other processes there, largest first; pid None: all together."""
    allowed_bytes: int | None = None
    """The process's own limit on the device."""
    limit_bytes: int | None = None
    """On the CPU: what its memory ends at."""
    limited_by: Limit | None = None
    """On the CPU: what kind of limit that is."""
    map_at_failure: SegmentMap | None = None

    freed_bytes: int | None = None
    """On the CPU: free when ``in_use_bytes`` was read, which may be after much was let go."""

    @property
    def on_cpu(self) -> bool:
        """Whether it was the host's memory that was asked for."""
        return self.torch_device == "cpu"

    @property
    def capacity_bytes(self) -> int | None:
        """What the process could have had there."""
        if self.allowed_bytes is not None:
            return self.allowed_bytes
        free = self.free_bytes if self.freed_bytes is None else self.freed_bytes
        return None if self.in_use_bytes is None or free is None else self.in_use_bytes + free

    @property
    def missing_bytes(self) -> int | None:
        """By how much more there would have had to be free, were nothing cached of use."""
        if self.requested_bytes is None or self.free_bytes is None:
            return None
        asked = self.requested_bytes if self.on_cpu else new_memory_bytes(self.requested_bytes)
        return asked - self.free_bytes


def failed_device(process: Process, failure: Failure) -> str | None:
    """The torch device that it is about; of a lost process the one that it used most."""
    if failure.device is not None:
        return failure.device
    return next(iter(torch_devices(process)), None)


def figures(fleet: Fleet, process: Process, failure: Failure) -> Figures:
    """All that is known of the moment; the exception's own words go before older samples."""
    device = failed_device(process, failure)
    part = probe_device_of(process, device) if device else None
    said = read(failure.message)
    if device == "cpu" or device is None or part is None:
        resident = part.breakdown.process_bytes if part and part.breakdown else None
        return Figures(
            device,
            failure.requested_bytes,
            _free_then(failure),
            said.idle_bytes,
            None,
            said.in_use_bytes if resident is None else resident,
            limit_bytes=failure.total_bytes if device == "cpu" else None,
            limited_by=failure.limited_by,
            freed_bytes=failure.free_bytes,
            allowed_bytes=said.allowed_bytes,
        )
    present = part.segments
    if present is not None and (
        failure.at - present.at > _SAME_MOMENT_S
        or (failure.requested_bytes is not None and fits(present, failure.requested_bytes))
    ):
        present = None  # of another moment: then it would not have failed
    found = totals(present.segments) if present else None
    return Figures(
        torch_device=device,
        requested_bytes=failure.requested_bytes,
        free_bytes=failure.free_bytes,
        idle_bytes=_idle_bytes(part, said, found.free_bytes if found else None),
        largest_piece_bytes=found.largest_free_bytes if found else None,
        in_use_bytes=_in_use_bytes(process, part, said),
        others=_others(fleet, process, part, said),
        allowed_bytes=said.allowed_bytes,
        map_at_failure=present,
    )


def _free_then(failure: Failure) -> int | None:
    """On the CPU it may have been read when much had been let go again."""
    free, asked = failure.free_bytes, failure.requested_bytes
    return None if free is not None and asked is not None and free >= asked else free


def _idle_bytes(part: ProbeDevice, said: Said, in_map: int | None) -> int | None:
    if in_map is not None:
        return in_map
    if said.idle_bytes is not None or part.allocator is None:
        return said.idle_bytes
    return max(part.allocator.reserved_bytes - part.allocator.allocated_bytes, 0)


def _in_use_bytes(process: Process, part: ProbeDevice, said: Said) -> int | None:
    if said.in_use_bytes is not None:
        return said.in_use_bytes
    if part.breakdown is not None and part.breakdown.process_bytes is not None:
        return part.breakdown.process_bytes
    outside = outside_bytes(process, part.device)
    return None if part.allocator is None else part.allocator.reserved_bytes + (outside or 0)


def _others(
    fleet: Fleet, process: Process, part: ProbeDevice, said: Said
) -> tuple[tuple[int | None, int], ...]:
    """From the message, else by the driver's account of the last reading."""
    uuid = uuid_of(part, process)
    found: list[tuple[int | None, int]] = list(said.others) or [
        (other.pid, use.used_bytes)
        for other in fleet.snapshot.processes
        if other.pid != process.pid
        for use in other.devices
        if use.uuid == uuid and use.used_bytes is not None
    ]
    memory = device_memory(fleet.snapshot.devices, part, process)
    own = part.breakdown.process_bytes if part.breakdown else None
    if not found and memory is not None and None not in (memory.used_bytes, own):
        found = [(None, (memory.used_bytes or 0) - (own or 0))]
    kept = [one for one in found if one[1] >= _LEAST_OTHERS_BYTES]
    return tuple(sorted(kept, key=lambda one: -one[1]))
