"""The verdict of a post-mortem: where it failed, what was asked and there, what would have fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from .breakdowns import outside_bytes, probe_device_of, torch_devices
from .devices import device_memory, uuid_of
from .failure import Failure
from .fleet import Fleet
from .memory import SegmentMap
from .model import ProbeDevice, Process
from .oom_message import Said, read
from .phases import phase_label
from .segments import fits, free_pages_bytes, new_memory_bytes, totals
from .units import format_bytes

RemedyKind = Literal["expandable", "batch", "others", "allowed", "limit", "host", "category"]
BatchSource = Literal["trace", "closed-form", "fitted"]

_SAME_MOMENT_S: Final = 0.5
"""A map of the allocator that is not older than this shows what the failed request met."""
_LEAST_OTHERS_BYTES: Final = 64 << 20
"""Less of other processes on a device is not worth a word."""
_WAIT_S: Final = 5.0
"""A program that goes on after a failed allocation has done so by then."""
_HOW: Final = {
    "trace": "traced",
    "closed-form": "by formula",
    "fitted": "by a straight line through the peaks seen",
}


@dataclass(frozen=True, slots=True)
class FittingBatch:
    """The largest batch that should have fitted where a larger one has failed."""

    batch: int
    failed_batch: int
    source: BatchSource


@dataclass(frozen=True, slots=True)
class Remedy:
    """One change after which the request would have been served."""

    kind: RemedyKind
    short: str
    """For the sentence: "expandable_segments", "batch 7"; "" where it only may have helped."""
    text: str
    """What to do, as a sentence."""
    is_sure: bool = True
    """The figures say that it would; else that it may."""


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
    """The process's limit of address space, on the CPU."""
    map_at_failure: SegmentMap | None = None

    @property
    def on_cpu(self) -> bool:
        """Whether it was the host's memory that was asked for."""
        return self.torch_device == "cpu"

    @property
    def capacity_bytes(self) -> int | None:
        """What the process could have had there."""
        if self.allowed_bytes is not None:
            return self.allowed_bytes
        if self.in_use_bytes is None or self.free_bytes is None:
            return None
        return self.in_use_bytes + self.free_bytes

    @property
    def missing_bytes(self) -> int | None:
        """By how much more there would have had to be free, were nothing cached of use."""
        if self.requested_bytes is None or self.free_bytes is None:
            return None
        asked = self.requested_bytes if self.on_cpu else new_memory_bytes(self.requested_bytes)
        return asked - self.free_bytes


def is_settled(process: Process, now: float) -> bool:
    """Whether a failure stands: nobody has caught it, or may still do so.

    Args:
        process: as last seen.
        now: seconds since the epoch.
    """
    failure = process.probe.failure
    if failure is None or failure.caught:
        return False
    return failure.caught is False or process.probe.state == "gone" or now - failure.at > _WAIT_S


def verdict(fleet: Fleet, process: Process) -> str:
    """A failure in one sentence, with what needs no prediction; "" where there was none."""
    failure = process.probe.failure
    if failure is None:
        return ""
    at = figures(fleet, process, failure)
    return sentence(failure, at, remedies(failure, at))


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
            failure.free_bytes,
            said.idle_bytes,
            None,
            said.in_use_bytes if resident is None else resident,
            limit_bytes=failure.total_bytes if device == "cpu" else None,
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


def sentence(failure: Failure, at: Figures, remedies: tuple[Remedy, ...]) -> str:
    """The whole of it in one sentence."""
    said = f"{where(failure)}: {_what(failure, at)}"
    sure = [remedy.short for remedy in remedies if remedy.short and remedy.is_sure]
    maybe = [remedy.short for remedy in remedies if remedy.short and not remedy.is_sure]
    if sure:
        return f"{said}; would have fit {_joined(sure)}"
    return f"{said}; may have fit {_joined(maybe)}" if maybe else said


def where(failure: Failure) -> str:
    """Step, phase and module: "step 812, backward of layers.17.mlp"."""
    step = "before the first step" if failure.step is None else f"step {failure.step}"
    if failure.phase is None:
        place = "" if failure.module is None else f", in {_module(failure.module)}"
        return step + place
    phase = phase_label(failure.phase)
    if failure.kind == "lost":
        return f"{step}, last seen after {phase}"
    if failure.module is None:
        return f"{step}, {phase}"
    module = _module(failure.module)
    if failure.module_source == "last_peak":
        return f"{step}, {phase} (the last sampled step was fullest in {module})"
    word = "near" if failure.module_source == "nearest" else "of"
    return f"{step}, {phase} {word} {module}"


def remedies(
    failure: Failure,
    at: Figures,
    batch: FittingBatch | None = None,
    names: dict[int, str] | None = None,
) -> tuple[Remedy, ...]:
    """What would have made the request fit, the least change first.

    Args:
        failure: an ``oom``; nothing is known of what a lost process asked for.
        at: the figures of that moment.
        batch: the largest batch that should fit, where one is predicted.
        names: commands by pid.
    """
    if failure.kind == "lost":
        return ()
    return tuple(_remedies(at, batch, names or {}))


def _remedies(at: Figures, batch: FittingBatch | None, names: dict[int, str]) -> Iterator[Remedy]:
    if at.allowed_bytes is not None:
        yield Remedy(
            "allowed",
            "",
            f"this process may have {format_bytes(at.allowed_bytes)} of the GPU by its own "
            "torch.cuda.set_per_process_memory_fraction: raise that",
        )
    yield from _expandable(at)
    if batch is not None and batch.batch > 0:
        yield Remedy(
            "batch",
            f"batch {batch.batch}",
            f"batch {batch.batch} in place of {batch.failed_batch} ({_HOW[batch.source]}); "
            "accumulate gradients over more of them for the same effective batch",
        )
    yield from _without_others(at, names)
    if at.on_cpu and at.limit_bytes is not None:
        yield Remedy(
            "limit",
            "",
            f"raise the limit of its address space, {format_bytes(at.limit_bytes)} "
            "(ulimit -v; RLIMIT_AS)",
        )


def _expandable(at: Figures) -> Iterator[Remedy]:
    asked, free, idle = at.requested_bytes, at.free_bytes, at.idle_bytes
    if at.on_cpu or asked is None or free is None or not idle or at.allowed_bytes is not None:
        return
    needed = new_memory_bytes(asked, expandable=True)
    present = at.map_at_failure
    if present is None:
        serves, is_sure = needed <= free + idle, False
    elif any(segment.expandable for segment in present.segments):
        return
    else:
        serves, is_sure = needed <= free + free_pages_bytes(present), True
    if serves and free < needed:
        yield Remedy(
            "expandable",
            "expandable_segments",
            f"PYTORCH_ALLOC_CONF=expandable_segments:True (before torch 2.9 "
            f"PYTORCH_CUDA_ALLOC_CONF): {format_bytes(idle)} were cached, but in pieces",
            is_sure,
        )


def _without_others(at: Figures, names: dict[int, str]) -> Iterator[Remedy]:
    missing = at.missing_bytes
    if at.on_cpu or missing is None or missing <= 0:
        return
    # The one that suffices and is smallest asks the least of others.
    enough = [(size, pid) for pid, size in at.others if size >= missing]
    if enough:
        size, pid = min(enough, key=lambda one: one[0])
        who = "the others on the GPU" if pid is None else f"pid {pid}"
        named = f" ({names[pid]})" if pid is not None and pid in names else ""
        held = format_bytes(size)
        yield Remedy("others", f"without {who}", f"{who}{named} held {held} of the same GPU")
    elif sum(size for _, size in at.others) >= missing:
        held = format_bytes(sum(size for _, size in at.others))
        yield Remedy(
            "others",
            "without the others on the GPU",
            f"{len(at.others)} other processes held {held} of the same GPU",
        )


def _what(failure: Failure, at: Figures) -> str:
    if failure.kind == "lost":
        return f"it ended without a word{f'; {failure.message}' if failure.message else ''}"
    if failure.requested_bytes is None:
        said = ["memory ran out"]
    else:
        said = [f"asked {format_bytes(failure.requested_bytes)}"]
    if failure.free_bytes is not None and at.on_cpu:
        limit = "" if at.limit_bytes is None else f" of {format_bytes(at.limit_bytes)}"
        said.append(f"{format_bytes(failure.free_bytes)} left below its limit{limit}")
    elif failure.free_bytes is not None:
        said.append(f"{format_bytes(failure.free_bytes)} free")
    if at.idle_bytes and not at.on_cpu:
        pieces = at.largest_piece_bytes
        most = "" if pieces is None else f" in pieces ≤ {format_bytes(pieces)}"
        said.append(f"{format_bytes(at.idle_bytes)} cached{most}")
    if at.allowed_bytes is not None:
        said.append(f"{format_bytes(at.allowed_bytes)} allowed to this process")
    caught = "; caught, the program went on" if failure.caught else ""
    return ", ".join(said) + caught


def _joined(shorts: list[str]) -> str:
    """As in "with expandable_segments or batch 7, or without pid 9"."""
    found = [short for short in shorts if not short.startswith("without ")]
    without = [short for short in shorts if short.startswith("without ")]
    said = [f"with {' or '.join(found)}"] if found else []
    return ", or ".join([*said, *without])


def _module(path: str) -> str:
    return path or "the model itself"


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
