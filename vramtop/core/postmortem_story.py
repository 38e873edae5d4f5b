"""The whole story of a failure: verdict, remedies, what was held, the moment, the last minute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from .breakdowns import category_label, probe_device_of
from .devices import device_memory
from .failure import Failure
from .fleet import Fleet
from .forecast import CAUSES, forecast
from .history import History
from .memory import CATEGORIES, Breakdown, SegmentMap
from .model import ProbeDevice, Process
from .observed import failed_shape
from .oom_figures import Figures, figures
from .phases import peak_sentence
from .postmortem import FittingBatch, Remedy, remedies, sentence
from .segments import totals, warning
from .units import NONE_SHOWN, format_bytes, format_duration

HISTORY_S: Final = 60.0
"""What the timeline shows of the time before the failure."""
_TRACEBACK_LINES: Final = 12
_OLD_S: Final = 0.5
"""A last sample older than this is worth a word."""
_MUCH: Final = 0.35
"""A category that had so much of the tensors is worth a word."""
_LITTLE: Final = 0.1
_LEAST_MADE_BYTES: Final = 64 << 20
_KILLER: Final = "OOM killer"
"""In the words of a lost process where the kernel has ended some process for want of memory."""
_ENDED: Final = " ended it"
"""In the words of a lost process after the name of the signal that has ended it, where known."""
_CRASHED: Final = (
    "it crashed in compiled code: with PYTHONFAULTHANDLER=1 set, the next time stderr says where"
)
_BY_SIGNAL: Final[Mapping[str, str]] = {
    "SIGKILL": "SIGKILL comes from the kernel where memory is full (`dmesg` says so), from a "
    "scheduler at its limit (its log says so), or from somebody",
    **dict.fromkeys(("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"), _CRASHED),
}
_EXIT_CODES: Final = (
    "exit code 137 is a kill (the kernel's by `dmesg`, or a scheduler's), 139 or 134 a "
    "crash: the shell, `dmesg` and the scheduler's log say which"
)
_FULL_HOST: Final = (
    "if it was this one, the memory of the host or its container was full: fewer DataLoader "
    "workers, less data kept in RAM, or a larger limit"
)
_ADVICE: Final = {
    "activation": "gradient checkpointing, a smaller batch or shorter sequences",
    "optimizer_state": "an optimizer with less state (8-bit AdamW, Adafactor), or sharding it",
    "parameter": "parameters of fewer bits, LoRA, or sharding them",
    "gradient": "zero_grad(set_to_none=True), LoRA, or sharding them",
    "autograd_detail": "a loss in pieces, or a smaller batch",
    "temporary": "an optimizer with foreach=False",
}
"""What lets a category be less."""


@dataclass(frozen=True, slots=True)
class StoryRow:
    """One category: at the last sample, at the peak of the last sampled step, as predicted."""

    category: str
    label: str
    last_bytes: int | None
    peak_bytes: int | None
    predicted_bytes: int | None

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """Label and the three figures as shown."""
        sizes = (self.last_bytes, self.peak_bytes, self.predicted_bytes)
        shown = [NONE_SHOWN if size is None else format_bytes(size) for size in sizes]
        return self.label, shown[0], shown[1], shown[2]


@dataclass(frozen=True, slots=True)
class Story:
    """All that is told of one failure, ready to be drawn."""

    failure: Failure
    sentence: str
    remedies: tuple[Remedy, ...]
    """What to change, the least change first."""
    rows: tuple[StoryRow, ...]
    facts: tuple[tuple[str, str], ...]
    """(label, text) of the moment: peak, segments, others, device …"""
    torch_device: str | None
    history: History
    end_at: float
    """Where the timeline ends, seconds since the epoch."""
    total_bytes: int | None
    """The ceiling of the timeline."""
    segments: SegmentMap | None
    traceback: tuple[str, ...]
    """The last lines of it."""

    @property
    def has_peak(self) -> bool:
        """Whether a step was sampled in detail."""
        return any(row.peak_bytes is not None for row in self.rows)

    @property
    def has_predicted(self) -> bool:
        """Whether the rows have anything predicted."""
        return any(row.predicted_bytes is not None for row in self.rows)


def story(
    fleet: Fleet,
    process: Process,
    *,
    traceback: str | None = None,
    predicted: Mapping[str, int] | None = None,
    predicted_text: str = "",
    batch: FittingBatch | None = None,
) -> Story | None:
    """What is known of a process's failure; None where it had none.

    Args:
        fleet: with the process's history, and the others on its device.
        process: as last seen.
        traceback: of the exception that nobody caught.
        predicted: bytes at the peak of the step that failed: ``total``, and by category what is
            known.
        predicted_text: from what, and how surely; or why nothing is predicted.
        batch: the largest batch that should have fitted.
    """
    failure = process.probe.failure
    if failure is None:
        return None
    at = figures(fleet, process, failure)
    device = at.torch_device
    part = probe_device_of(process, device) if device else None
    names = {p.pid: p.command for p in fleet.processes if p.command}
    history = fleet.histories.get((process.key, device or ""), History())
    found = remedies(failure, at, batch, names)
    made_bytes = _made_in_step(failure, at, history)
    return Story(
        failure=failure,
        sentence=sentence(failure, at, found),
        remedies=(
            *found,
            *_smaller(process, found, made_bytes),
            *_general(failure, part, history, at),
        ),
        rows=tuple(_rows(part, predicted)),
        facts=tuple(_facts(fleet, process, at, part, predicted_text, made_bytes)),
        torch_device=device,
        history=history,
        end_at=max(failure.at, history.last.at if history.last else 0.0),
        total_bytes=_total_bytes(fleet, process, part),
        segments=part.segments if part else None,
        traceback=_last_lines(traceback or ""),
    )


def _last_lines(traceback: str) -> tuple[str, ...]:
    """Without the marks under the lines, which show little once lines are wrapped."""
    lines = [text for text in traceback.rstrip().splitlines() if text.strip(" ^~")]
    return tuple(lines[-_TRACEBACK_LINES:])


def _general(
    failure: Failure, part: ProbeDevice | None, history: History, at: Figures
) -> Iterator[Remedy]:
    """What may help, by what grew and by what there was most of."""
    if failure.kind == "lost":
        if _KILLER in (failure.message or ""):
            yield Remedy("host", "", _FULL_HOST)
        ending = (failure.message or "").partition(_ENDED)[0]
        said = _BY_SIGNAL.get(ending, _EXIT_CODES)
        yield Remedy("host", "", said, is_sure=False)
        return
    grown = forecast(history, at.free_bytes or 0) if part else None
    if grown is not None and grown.confidence != "low":
        yield Remedy("category", "", f"it grew from step to step: {CAUSES[grown.kind]}", False)
    detail = part.detail if part else None
    shown = detail.peak.breakdown if detail and detail.peak else part.breakdown if part else None
    if shown is None or part is None:
        return
    whole = shown.tensor_bytes
    # Less than what was missing, or next to nothing of the process, would not have saved it.
    least = max(_MUCH * whole, at.missing_bytes or 0, _LITTLE * (at.in_use_bytes or 0))
    sizes = sorted(((shown.bytes_of(name) or 0, name) for name in _ADVICE), reverse=True)
    for size, name in sizes:
        if whole and size >= least:
            label = category_label(name, part.device)
            said = f"{_ADVICE[name]}: {label} were {format_bytes(size)} of {format_bytes(whole)}"
            yield Remedy("category", "", said, False)


def _rows(part: ProbeDevice | None, predicted: Mapping[str, int] | None) -> Iterator[StoryRow]:
    last = part.breakdown if part else None
    peak = part.detail.peak.breakdown if part and part.detail and part.detail.peak else None
    if part is None or (last is None and peak is None):
        return
    for category in CATEGORIES:
        sizes = [_of(last, category), _of(peak, category)]
        expected = predicted.get(category) if predicted else None
        if any(sizes) or expected:
            label = category_label(category, part.device)
            yield StoryRow(category, label, sizes[0], sizes[1], expected)
    yield StoryRow(
        "total",
        "tensors in all",
        last.tensor_bytes if last else None,
        peak.tensor_bytes if peak else None,
        predicted.get("total") if predicted else None,
    )


def _of(breakdown: Breakdown | None, category: str) -> int | None:
    return None if breakdown is None else breakdown.bytes_of(category)


def _made_in_step(failure: Failure, at: Figures, history: History) -> int | None:
    """On the CPU: by how much the process had grown in the step that failed, where that was much.

    It was let go or not recorded before any sample could tell what it was.
    """
    if not at.on_cpu or failure.kind == "lost" or failure.step is None or not at.in_use_bytes:
        return None
    earlier = [
        point.breakdown.process_bytes
        for point in history
        if point.step is not None and point.step < failure.step and point.breakdown.process_bytes
    ]
    grown = at.in_use_bytes - earlier[-1] if earlier else 0
    return grown if grown >= max(_LITTLE * at.in_use_bytes, _LEAST_MADE_BYTES) else None


def _smaller(
    process: Process, found: tuple[Remedy, ...], made_bytes: int | None
) -> Iterator[Remedy]:
    """Where the forward of a known batch has made much, less of it, though none is predicted."""
    batch = failed_shape(process)[:1]
    if made_bytes is None or not batch or batch[0] < 2:
        return
    if not any(remedy.kind == "batch" for remedy in found):
        said = f"a smaller batch than {batch[0]}, with gradients accumulated for the same effect"
        yield Remedy("batch", "", said, False)


def _facts(
    fleet: Fleet,
    process: Process,
    at: Figures,
    part: ProbeDevice | None,
    predicted_text: str,
    made_bytes: int | None,
) -> Iterator[tuple[str, str]]:
    failure = process.probe.failure
    if failure is None:
        return
    shape = failed_shape(process)
    if shape:
        yield "batch", f"{' × '.join(map(str, shape))}, of the forward that failed"
    if part is not None and part.detail is not None and part.detail.peak is not None:
        step = part.detail.step
        said = "in the last sampled step" if step is None else f"in step {step}, the last sampled"
        yield "peak", f"{peak_sentence(part.detail.peak).removeprefix('peak ')}, {said}"
    if predicted_text:
        yield "predicted", predicted_text
    if part is not None and part.segments is not None:
        yield from _segment_facts(failure, at, part.segments)
    yield from _device_facts(fleet, process, at, part)
    if made_bytes is not None:
        yield (
            "",
            f"{format_bytes(made_bytes)} of it came in the step that failed: most is rest of RSS",
        )
    if process.probe.caught_ooms:
        yield "before", caught_text(process.probe.caught_ooms)
    if process.probe.at is not None and failure.at - process.probe.at >= _OLD_S:
        yield "last sample", f"{format_duration(failure.at - process.probe.at)} before"


def caught_text(count: int) -> str:
    """How often the program went on after a failed allocation."""
    return "an OOM caught and retried" if count == 1 else f"{count} OOMs caught and retried"


def _segment_facts(failure: Failure, at: Figures, shown: SegmentMap) -> Iterator[tuple[str, str]]:
    found = totals(shown.segments)
    age = failure.at - shown.at
    when = "" if at.map_at_failure is not None else f", {format_duration(max(age, 0.0))} before"
    count = found.segments + shown.omitted_segments
    said = (
        f"{count} of {format_bytes(found.total_bytes + shown.omitted_bytes)}{when}",
        f"largest free piece {format_bytes(found.largest_free_bytes)}",
        f"{format_bytes(found.fragmentation_bytes)} free between blocks in use: not to be released",
    )
    yield "segments", "; ".join(said)
    warned = warning(shown, at.free_bytes)
    if warned is not None:
        yield "", warned


def _device_facts(
    fleet: Fleet, process: Process, at: Figures, part: ProbeDevice | None
) -> Iterator[tuple[str, str]]:
    total = _total_bytes(fleet, process, part)
    if at.in_use_bytes is not None:
        of = "" if total is None else f" of {format_bytes(total)}"
        yield "this process", f"{format_bytes(at.in_use_bytes)}{of}"
    elif part is None and process.host_rss_bytes:
        resident = format_bytes(process.host_rss_bytes)
        yield "this process", f"{resident} of the host's RAM, as last seen"
    names = {p.pid: p.command or "" for p in fleet.processes}
    for pid, size in at.others[:4]:
        who = "all others" if pid is None else f"pid {pid} {names.get(pid, '')}".rstrip()
        yield "others there", f"{format_bytes(size)} {who}"


def _total_bytes(fleet: Fleet, process: Process, part: ProbeDevice | None) -> int | None:
    if part is None:
        return None
    if part.device == "cpu":
        return fleet.snapshot.host.ram_total_bytes
    memory = device_memory(fleet.snapshot.devices, part, process)
    failure = process.probe.failure
    if memory is None or memory.total_bytes is None:
        return failure.total_bytes if failure and failure.device == part.device else None
    return memory.total_bytes
