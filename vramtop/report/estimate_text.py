"""An estimate as text: where the bytes go, when, whether they fit, and what to change."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from ..core.units import NONE_SHOWN, format_bytes, format_duration, format_percent
from ..draw.blocks import part_glyph, stacked_bar
from ..draw.tones import COMPONENT_TONES
from ..estimator.config_numbers import is_image_model
from ..estimator.judge import MOST_BATCH, then_fits, usable_bytes
from ..estimator.labels import COMPONENT_LABELS, PHASE_WORDS
from ..estimator.result import COMPONENTS, Estimate, Footprint
from ..estimator.workload import Workload
from .ansi import Line, Look, Span, paint
from .estimate_curve import curve_lines

_LABELS: Final = {**COMPONENT_LABELS, "free": "free", "reserve": "driver reserve"}
_EFFECTIVE_BATCH: Final = 64
"""For which accumulation is offered."""
_VERDICTS: Final = {
    "fits": ("FITS", "good"),
    "tight": ("TIGHT", "warn"),
    "oom": ("OUT OF MEMORY", "error"),
}
_METHODS: Final = {
    "trace": "traced: the real modules on fake tensors, replayed by the allocator's rules",
    "closed-form": "closed form: formulas, no module was run",
    "seed": "seed: rules of thumb, for comparison only",
    "fitted": "fitted: the process's own figures, and a line through the peaks that were seen",
}
_PLAN: Final = "vramtop plan searches what to combine"
_ASK_AGAIN: Final = (
    "there are no formulas for code: to see what a change saves, ask again with it, as a smaller "
    "--batch, --checkpointing full, --chunked-loss or --lora 16"
)
_UNKNOWN: Final = COMPONENTS.index("kv_cache")
"""The position that unknown memory has in the live breakdown."""
_MOST_BAR: Final = 120
_WIDE_TOTALS: Final = 78
_TWO_COLUMNS: Final = 96
"""Columns from which components stand side by side."""


def render(
    estimate: Estimate, look: Look, took_s: float | None = None, true: Footprint | None = None
) -> str:
    """The estimate in lines of at most ``look.width`` characters.

    ``took_s`` is how long it took; ``true`` a better method's footprint to show beside.
    """
    return paint(_lines(estimate, look, took_s, true), look)


def _lines(
    estimate: Estimate, look: Look, took_s: float | None, true: Footprint | None
) -> Iterator[Line]:
    yield from title_lines(estimate.workload, look)
    yield ()
    yield from _bar(estimate, look)
    yield from _components(estimate, look, true)
    yield ()
    yield from total_lines(estimate, look)
    yield ()
    yield from _phases(estimate, look)
    if len(estimate.curve) > 2:
        yield ()
        yield from curve_lines(estimate, look)
    if estimate.advice:
        yield ()
        yield from _advice(estimate, look)
    if estimate.verdict in ("tight", "oom") and estimate.workload.training:
        is_code = estimate.workload.model.entry is not None
        yield from _wrapped(_ASK_AGAIN if is_code else _PLAN, look, "dim")
    yield ()
    for note in estimate.footprint.notes:
        yield from _wrapped(f"note: {note}", look, "dim", "      ")
    took = "" if took_s is None else f", in {format_duration(took_s)}"
    yield from _wrapped(_METHODS[estimate.footprint.method] + took, look, "dim")


def title_lines(workload: Workload, look: Look) -> Iterator[Line]:
    """The model, and what is done with it."""
    yield (Span(workload.model.name[: look.width], "strong"),)
    each = f"{workload.sequence:,} tokens"
    if is_image_model(workload.model.config or {}):
        each = "1 image"
    words = [workload.mode, f"batch {workload.batch} × {each}"]
    if workload.new_tokens:
        words.append(f"{workload.new_tokens:,} new tokens")
    as_made = workload.model.entry is not None and workload.precision == "fp32"
    words.append("weights as made" if as_made else workload.precision)
    if workload.training:
        words.append(f"{workload.optimizer} ({workload.implementation})")
        if workload.checkpointing != "none":
            words.append(f"{workload.checkpointing} checkpointing")
        if workload.lora is not None:
            words.append(f"LoRA {workload.lora.rank}")
        if workload.grad_accumulation > 1:
            words.append(f"{workload.grad_accumulation} accumulated")
    words.append(f"{workload.attention} attention")
    if workload.stack != "plain":
        words.append(workload.stack)
    if workload.parallel.gpus > 1:
        words.append(f"{workload.parallel.gpus} GPUs: {_spread(workload)}")
    yield from _wrapped(" · ".join(words), look, "dim")


def _bar(estimate: Estimate, look: Look) -> Iterator[Line]:
    runs = stacked_bar(_parts(estimate), min(look.width, _MOST_BAR), look.ascii, look.mono)
    yield tuple(Span(run.text, _tone(run.key), _tone(run.under or "")) for run in runs)


def _parts(estimate: Estimate) -> list[tuple[str, int]]:
    """Parts of the bar: of the device where the process is less than it, else of the process."""
    footprint, device = estimate.footprint, estimate.device
    parts = [(name, footprint.components[name]) for name in COMPONENTS]
    parts.insert(_UNKNOWN, ("", 0))  # whose glyph says unknown: nothing predicted is
    if device is not None and footprint.process_bytes < device.total_bytes:
        free = max(usable_bytes(device) - footprint.process_bytes, 0)
        rest = device.total_bytes - footprint.process_bytes - free
        # Free is the fifteenth part: its glyph is the blank.
        parts += [("reserve", rest), ("", 0), ("free", free)]
    return parts


def _tone(component: str) -> str:
    return COMPONENT_TONES.get(component, component)


def _components(estimate: Estimate, look: Look, true: Footprint | None) -> Iterator[Line]:
    total = estimate.footprint.process_bytes
    cells = []
    for position, (name, size) in enumerate(_parts(estimate)):
        glyph = part_glyph(position, look.ascii) if look.mono or look.ascii else "█"
        cell: tuple[Span, ...] = (
            Span(f"{glyph} ", _tone(name)),
            Span(f"{_LABELS.get(name, ''):<24}"),
            Span(format_bytes(size, 11), "strong"),
        )
        if name not in COMPONENTS:
            if size and true is None:
                cells.append(cell)
            continue
        share = format_percent(100 * size / total, 0) if total else NONE_SHOWN
        cell = (*cell, Span(f"{share:>7}", "dim"))
        if true is not None:
            cell = (*cell, Span(format_bytes(true.components[name], 11)))
        if size or (true is not None and true.components[name]):
            cells.append(cell)
    if true is not None:
        yield (Span(f"{'':28}{'SEED':>9}{'':8}{'TRUE':>10}", "dim"),)
    if look.width < _TWO_COLUMNS or true is not None:
        yield from cells
        return
    half = -(-len(cells) // 2)
    for left, right in zip(cells[:half], [*cells[half:], ()], strict=False):
        length = sum(len(span.text) for span in left)
        yield (*left, Span(" " * (50 - length)), *right)


def total_lines(estimate: Estimate, look: Look) -> Iterator[Line]:
    """The three totals, the verdict and the largest micro-batch."""
    footprint, device = estimate.footprint, estimate.device
    sure = estimate.uncertainty
    spans = f"{format_bytes(sure.low_bytes)} to {format_bytes(sure.high_bytes)}"
    is_wide = look.width >= _WIDE_TOTALS
    shown = f"what nvidia-smi shows; {spans} is likely" if is_wide else f"likely {spans}"
    for label, size, about in (
        ("allocated", footprint.peak_allocated_bytes, "torch.cuda.max_memory_allocated"),
        ("reserved", footprint.peak_reserved_bytes, "torch.cuda.max_memory_reserved"),
        ("process", footprint.process_bytes, shown),
    ):
        yield (
            Span(f"{label:<11}"),
            Span(format_bytes(size, 9), "strong"),
            Span(f"   {about}", "dim"),
        )
    if device is None or estimate.verdict is None:
        return
    word, tone = _VERDICTS[estimate.verdict]
    usable = usable_bytes(device)
    left = usable - footprint.process_bytes
    room = f"{format_bytes(left)} left" if left >= 0 else f"{format_bytes(-left)} too much"
    if estimate.verdict == "tight":
        room += ", which is within the uncertainty"
    yield ()
    yield from _worded(
        f"{word}: ",
        tone,
        f"{device.name} has {format_bytes(device.total_bytes)}, a process can use "
        f"{format_bytes(usable)}; {room}",
        look,
    )
    yield from _wrapped(_largest(estimate), look)


def _largest(estimate: Estimate) -> str:
    largest, safe, workload = estimate.max_micro_batch, estimate.safe_micro_batch, estimate.workload
    if not largest:
        return "no batch fits, not even 1"
    if largest >= MOST_BATCH:
        return f"any micro-batch fits, to {MOST_BATCH:,} at least"
    words = f"largest micro-batch {largest}"
    if safe is not None and safe < largest:
        words += f" (surely {safe})" if safe else " (none for sure)"
    if workload.training and workload.parallel.pipeline == 1:
        words += _accumulated(safe or largest, workload)
    return words


def _accumulated(most: int, workload: Workload) -> str:
    """A round effective batch from a power of two that fits."""
    data = workload.parallel.data
    batch = min(1 << (most.bit_length() - 1), max(_EFFECTIVE_BATCH // data, 1))
    passes = _EFFECTIVE_BATCH // (batch * data)
    if passes < 2:
        return ""
    over = f" × {data} GPUs" if data > 1 else ""
    return (
        f"; effective batch {batch * passes * data} = {batch} × {passes}{over} "
        f"(--batch {batch} --grad-accumulation {passes})"
    )


def _phases(estimate: Estimate, look: Look) -> Iterator[Line]:
    footprint, workload = estimate.footprint, estimate.workload
    most = max((phase.peak_bytes for phase in footprint.phases), default=0)
    room = min(look.width, _MOST_BAR) - 34
    yield (Span(f"{'phase':<11}{'peak':>9}  {'left after':>10}", "dim"),)
    for phase in footprint.phases:
        cells = round(room * phase.peak_bytes / most) if most else 0
        after = min(round(room * phase.after_bytes / most), cells) if most else 0
        is_peak = phase.name == footprint.peak_phase
        yield (
            Span(f"{phase.name:<11}", "strong" if is_peak else ""),
            Span(format_bytes(phase.peak_bytes, 9), "strong" if is_peak else ""),
            Span(f"  {format_bytes(phase.after_bytes, 10)}  "),
            Span(("#" if look.ascii else "█") * after, "accent"),
            Span(("." if look.ascii else "░") * (cells - after), "accent"),
        )
    yield from _wrapped(f"peak: {_peak(footprint, workload)}", look, "", "      ")


def _peak(footprint: Footprint, workload: Workload) -> str:
    phase = footprint.peak_phase
    where = PHASE_WORDS.get(phase, phase)
    words = f"{format_bytes(footprint.peak_allocated_bytes)} allocated, {where}"
    if footprint.peak_module:
        words += f", at {footprint.peak_module}"
    if workload.training and footprint.peak_step and phase != "load":
        # Of steps that are equally full the first is named.
        words += (
            ", already in the first training step"
            if footprint.peak_step == 1
            else ", in every training step but the first"
        )
    return words


def _advice(estimate: Estimate, look: Look) -> Iterator[Line]:
    yield (Span("to need less of what is allocated: each alone, by formulas", "dim"),)
    for one in estimate.advice:
        options = " ".join(f"{option} {value}".rstrip() for option, value in one.options.items())
        text = f"{one.change} ({options}): {one.cost}"
        lead = f"{'-' + format_bytes(one.saves_bytes):>10}  "
        if then_fits(one, estimate):
            text += "; then it fits"
        first, *rest = textwrap.wrap(text, look.width - len(lead), break_on_hyphens=False)
        yield (Span(lead, "good"), Span(first))
        for line in rest:
            yield (Span(" " * len(lead) + line),)


def _worded(head: str, tone: str, text: str, look: Look) -> Iterator[Line]:
    """A coloured head and wrapped text behind it."""
    first, *rest = textwrap.wrap(head + text, look.width)
    yield (Span(first[: len(head)], tone), Span(first[len(head) :]))
    for line in rest:
        yield (Span(line),)


def _wrapped(text: str, look: Look, tone: str = "", indent: str = "") -> Iterator[Line]:
    for line in textwrap.wrap(text, look.width, subsequent_indent=indent, break_on_hyphens=False):
        yield (Span(line, tone),)


def _spread(workload: Workload) -> str:
    parallel = workload.parallel
    words = [
        f"{name} {degree}"
        for name, degree in (
            ("TP", parallel.tensor),
            ("PP", parallel.pipeline),
            ("CP", parallel.context),
            ("EP", parallel.expert),
        )
        if degree > 1
    ]
    if parallel.sequence:
        words.insert(1, "SP")
    if parallel.data > 1:
        words.append(f"{f'ZeRO-{parallel.zero}' if parallel.zero else 'DDP'} {parallel.data}")
    return " ".join(words)
