"""All that is known of one process, kept up to date while it is open."""

from __future__ import annotations

from textwrap import wrap

from textual.strip import Strip

from ...core.breakdowns import category_label
from ...core.devices import device_places
from ...core.fleet import ProcessKey
from ...core.forecast import CAUSES
from ...core.memory import CATEGORIES
from ...core.model import ModelInfo, OptimizerInfo, ProbeDevice, Process
from ...core.outlook import forecast_of
from ...core.phases import peak_sentence, phase_rows
from ...core.postmortem import verdict
from ...core.postmortem_story import caught_text
from ...core.units import NOT_AVAILABLE, format_bytes, format_duration, format_percent
from ..frame import Frame, View
from ..paint import Piece, fit, line, printable, swatch
from ..words import how_to_get_a_probe, step_text
from .overlay import OverlayScreen

_LABEL = 20


class DetailsScreen(OverlayScreen):
    """One process."""

    TITLE_TEXT = "Process"

    def __init__(self, frame: Frame, key: ProcessKey) -> None:
        super().__init__(frame)
        self._key = key

    def lines(self, frame: Frame, width: int) -> list[Strip]:
        """Groups of facts."""
        process = frame.fleet.process(self._key)
        if process is None:
            said: list[tuple[str, str]] = [("process", "has ended and is forgotten")]
        else:
            said = [*_process_facts(frame, process), *_probe_facts(process, frame.view)]
            if process.probe.failure is not None and not process.probe.failure.caught:
                said.append(("failed", f"{verdict(frame.fleet, process)} (w: all of it)"))
        lines = [text for label, value in said for text in _fact(frame, label, value, width)]
        for part in process.probe.devices if process else ():
            lines.append(line([], width, frame.ink("text")))
            lines += _device_lines(frame, part, width)
        return lines


def _fact(frame: Frame, label: str, value: str, width: int) -> list[Strip]:
    ink = frame.ink
    parts = wrap(printable(value), max(width - _LABEL, 10)) or [""]
    return [
        line(
            [(fit(label if i == 0 else "", _LABEL), ink("dim")), (part, ink("text"))],
            width,
            ink("text"),
        )
        for i, part in enumerate(parts)
    ]


def _process_facts(frame: Frame, process: Process) -> list[tuple[str, str]]:
    now = frame.fleet.snapshot.taken_at
    places = device_places(frame.fleet.snapshot.devices)
    facts = [
        ("pid", f"{process.pid} ({process.state})"),
        ("user", process.user or NOT_AVAILABLE),
        ("command", process.command or NOT_AVAILABLE),
    ]
    if process.started_at is not None:
        gone = frame.fleet.gone.get(process.key)
        ran_s = (gone.last_seen_at if gone else now) - process.started_at
        label = "ran for" if process.state == "gone" else "running for"
        facts.append((label, format_duration(max(ran_s, 0.0))))
    if process.container:
        facts.append(("container", process.container))
    forecast = forecast_of(frame.fleet, process)
    if forecast is not None:
        facts += [("forecast", forecast.text), ("", CAUSES[forecast.kind])]
    facts.append(("host memory", f"{format_bytes(process.host_rss_bytes)} resident"))
    facts.append(("CPU", format_percent(process.cpu_percent)))
    for use in process.devices:
        name = places.get(use.uuid, ("?", ""))[0]
        label = name if name == "host" else f"GPU {name}"
        facts.append((label, f"{format_bytes(use.used_bytes)}  {use.kind}  {use.uuid}"))
    return facts


def _probe_facts(process: Process, view: View) -> list[tuple[str, str]]:
    probe = process.probe
    if probe.state == "none":
        return [("probe", f"none: {how_to_get_a_probe(view)}")]
    facts: list[tuple[str, str]] = [("probe", probe.state)]
    versions = [("Python", probe.python), ("torch", probe.torch), ("CUDA", probe.cuda)]
    facts += [(label, value) for label, value in versions if value]
    if probe.rank is not None:
        local = "" if probe.local_rank is None else f", local {probe.local_rank}"
        job = "" if probe.group is None else f", of the job at {probe.group}"
        facts.append(("rank", f"{probe.rank} of {probe.world_size or '?'}{local}{job}"))
    if probe.step is not None:
        facts.append(("step", step_text(probe.step, probe.steps_per_s)))
    if probe.overhead_percent is not None:
        facts.append(
            ("cost of the probe", f"{format_percent(probe.overhead_percent, 2)} of a step")
        )
    if probe.dropped_samples:
        facts.append(("samples dropped", str(probe.dropped_samples)))
    if probe.problem:
        facts.append(("problem", probe.problem))
    if probe.caught_ooms:
        facts.append(("out of memory", caught_text(probe.caught_ooms)))
    for model in probe.models:
        facts += _model_facts(model)
    for optimizer in probe.optimizers:
        facts += _optimizer_facts(optimizer)
    return facts


def _model_facts(model: ModelInfo) -> list[tuple[str, str]]:
    types = _elements(model.parameters_by_dtype)
    facts = [
        ("model", f"{model.class_name}, {model.trainable_parameters:,} parameters trained"),
        ("", types or f"{model.parameters:,} parameters"),
    ]
    traits = [f"in {name}" for name in model.wrappers]
    if model.lora is not None:
        targets = ", ".join(model.lora["targets"])
        traits.append(f"LoRA of rank {model.lora['rank']} on {targets or 'no module'}")
    if model.quantized is not None:
        traits.append(f"quantised ({model.quantized})")
    if model.attention is not None:
        traits.append(f"{model.attention} attention")
    if model.checkpointing:
        traits.append("gradient checkpointing")
    if model.autocast is not None:
        traits.append(f"autocast to {model.autocast}")
    if traits:
        facts.append(("", "; ".join(traits)))
    if model.batch_shapes:
        shapes = ["×".join(map(str, shape)) for shape in model.batch_shapes]
        named = [f"{name} " if not name.isdigit() else "" for name in model.arguments]
        names = named or [""] * len(shapes)
        batch = ", ".join(name + shape for name, shape in zip(names, shapes, strict=False))
        facts.append(("last batch", batch))
    return facts


def _optimizer_facts(optimizer: OptimizerInfo) -> list[tuple[str, str]]:
    facts = [("optimizer", optimizer.class_name)]
    chosen = ", ".join(f"{name}={value}" for name, value in optimizer.defaults.items())
    if chosen:
        facts.append(("", chosen))
    if optimizer.state_by_dtype:
        facts.append(("", f"state of {_elements(optimizer.state_by_dtype)}"))
    return facts


def _elements(by_dtype: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in by_dtype.items())


def _device_lines(frame: Frame, part: ProbeDevice, width: int) -> list[Strip]:
    ink = frame.ink
    lines = [line([(part.device, ink("accent", bold=True))], width, ink("text"))]
    allocator = part.allocator
    if allocator is not None:
        figures = (
            ("allocated", allocator.allocated_bytes),
            ("reserved", allocator.reserved_bytes),
            ("active", allocator.active_bytes),
            ("requested", allocator.requested_bytes),
            ("inactive split", allocator.inactive_split_bytes),
            ("peak allocated", allocator.peak_allocated_bytes),
            ("peak reserved", allocator.peak_reserved_bytes),
        )
        for label, size in figures:
            lines += _fact(frame, label, format_bytes(size, 10), width)
        counts = (
            f"{allocator.segments} segments, {allocator.alloc_retries} retries, "
            f"{allocator.ooms} out of memory"
        )
        lines += _fact(frame, "allocator", counts, width)
    lines += _category_lines(frame, part, width)
    lines += _step_lines(frame, part, width)
    return lines


def _category_lines(frame: Frame, part: ProbeDevice, width: int) -> list[Strip]:
    """What is held now, and what was at the peak."""
    ink = frame.ink
    if part.breakdown is None:
        return []
    peak = part.detail.peak if part.detail else None
    lines = []
    if peak is not None:
        heads = fit("", _LABEL) + fit("now", 10, right=True) + fit("at peak", 12, right=True)
        lines.append(line([(heads, ink("dim"))], width, ink("dim")))
    for category in CATEGORIES:
        size = part.breakdown.bytes_of(category)
        before = peak.breakdown.bytes_of(category) if peak else None
        if size is None and before is None:
            continue
        pieces: list[Piece] = [swatch(category, ink), (" ", ink("text"))]
        pieces.append((fit(category_label(category, part.device), _LABEL - 2), ink("dim")))
        pieces.append((format_bytes(size, 10), ink("text")))
        if before is not None:
            pieces.append((format_bytes(before, 12), ink("text")))
        lines.append(line(pieces, width, ink("text")))
    return lines


def _step_lines(frame: Frame, part: ProbeDevice, width: int) -> list[Strip]:
    """The last step sampled in detail: its peak, its phases, what could not be told apart."""
    detail = part.detail
    if detail is None:
        return []
    age_s = max(frame.fleet.snapshot.taken_at - detail.at, 0.0)
    step = "a step" if detail.step is None else f"step {detail.step}"
    lines = _fact(frame, "sampled", f"{step}, {format_duration(age_s)} ago", width)
    if detail.peak is not None:
        lines += _fact(frame, "", peak_sentence(detail.peak), width)
    for row in phase_rows(detail):
        label, before, change, after, peak = row.texts
        value = f"{before} → {after}, {change}, peak {peak}" if row.phase else after
        lines += _fact(frame, label, value, width)
    for note in detail.notes:
        lines += _fact(frame, "note", note, width)
    return lines
