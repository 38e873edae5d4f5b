"""The verdict of a post-mortem: where it failed, what was asked and there, what would have fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from .failure import Failure, Limit
from .fleet import Fleet
from .model import Process
from .oom_figures import Figures, figures
from .phases import phase_label
from .segments import free_pages_bytes, new_memory_bytes
from .units import format_bytes

RemedyKind = Literal["expandable", "batch", "others", "allowed", "limit", "host", "category"]
BatchSource = Literal["trace", "closed-form", "fitted", "seen"]

_WAIT_S: Final = 5.0
"""A program that goes on after a failed allocation has done so by then."""
_HOW: Final = {
    "trace": "traced",
    "closed-form": "by formula",
    "fitted": "by a straight line through the peaks seen",
    "seen": "it was seen to run",
}


_LIMITS: Final[Mapping[Limit, str]] = {
    "address_space": "an address space",
    "cgroup": "its container's memory",
    "ram": "the host's RAM",
}
_RAISE: Final[Mapping[Limit, str]] = {
    "address_space": "raise the limit of its address space, {} (ulimit -v; RLIMIT_AS)",
    "cgroup": "give its container or job more than {} (docker --memory, Slurm --mem, memory.max)",
    "ram": "the host's RAM of {} had less than that left: end what else runs there, add swap, or "
    "ask for less at once",
}


@dataclass(frozen=True, slots=True)
class FittingBatch:
    """The largest batch that should have fitted where a larger one has failed."""

    batch: int
    failed_batch: int
    source: BatchSource
    is_sure: bool = True
    """Not on the host: how much malloc needs beside the tensors no prediction says."""
    is_sampled: bool = False
    """``failed_batch`` is that of the last sampled forward: the one that failed is not known."""


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


def sentence(failure: Failure, at: Figures, remedies: tuple[Remedy, ...]) -> str:
    """The whole of it in one sentence."""
    said = f"{where(failure)}: {_what(failure, at)}"
    if failure.kind == "lost" and failure.step is None and failure.phase is None:
        known = f"; {failure.message}" if failure.message else ""
        said = f"gone before the first step{known}"
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
        failed = f"{batch.failed_batch}{', which was sampled last' if batch.is_sampled else ''}"
        yield Remedy(
            "batch",
            f"batch {batch.batch}",
            f"batch {batch.batch} in place of {failed} ({_HOW[batch.source]}); "
            "accumulate gradients over more of them for the same effective batch",
            batch.is_sure,
        )
    yield from _without_others(at, names)
    if at.on_cpu and at.limit_bytes is not None and at.limited_by is not None:
        yield Remedy("limit", "", _RAISE[at.limited_by].format(format_bytes(at.limit_bytes)))


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
        held = f"{format_bytes(size)} of the same GPU"
        if pid is None:  # who is not seen may be the driver
            said = f"{held} were held by what is not seen from here: in other containers, perhaps"
            yield Remedy("others", "without the others on the GPU", said, is_sure=False)
            return
        named = f" ({names[pid]})" if pid in names else ""
        yield Remedy("others", f"without pid {pid}", f"pid {pid}{named} held {held}")
    elif sum(size for _, size in at.others) >= missing:
        held = format_bytes(sum(size for _, size in at.others))
        yield Remedy(
            "others",
            "without the others on the GPU",
            f"{len(at.others)} other processes held {held} of the same GPU",
        )


def _what(failure: Failure, at: Figures) -> str:
    if failure.kind == "lost":
        return f"gone; {failure.message}" if failure.message else "gone without a word"
    if failure.requested_bytes is None:
        said = ["memory ran out"]
    else:
        said = [f"asked {format_bytes(failure.requested_bytes)}"]
    if at.on_cpu:
        said = [*said, *_left(at)]
    elif at.free_bytes is not None:
        said.append(f"{format_bytes(at.free_bytes)} free")
    if at.idle_bytes and not at.on_cpu:
        pieces = at.largest_piece_bytes
        most = "" if pieces is None else f" in pieces ≤ {format_bytes(pieces)}"
        said.append(f"{format_bytes(at.idle_bytes)} cached{most}")
    if at.allowed_bytes is not None:
        said.append(f"{format_bytes(at.allowed_bytes)} allowed to this process")
    caught = "; caught, the program went on" if failure.caught else ""
    return ", ".join(said) + caught


def _left(at: Figures) -> Iterator[str]:
    """What was left on the host, and of what."""
    if at.limited_by is None:
        if at.free_bytes is not None:
            yield f"{format_bytes(at.free_bytes)} left"
        return
    limit = f"{_LIMITS[at.limited_by]} of {format_bytes(at.limit_bytes)}"
    yield (
        f"within {limit}"
        if at.free_bytes is None
        else f"{format_bytes(at.free_bytes)} left of {limit}"
    )


def _joined(shorts: list[str]) -> str:
    """As in "with expandable_segments or batch 7, or without pid 9"."""
    found = [short for short in shorts if not short.startswith("without ")]
    without = [short for short in shorts if short.startswith("without ")]
    said = [f"with {' or '.join(found)}"] if found else []
    return ", or ".join([*said, *without])


def _module(path: str) -> str:
    return path or "the model itself"
